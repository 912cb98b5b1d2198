//! The two lowest rooms of Compresso, `error` and `kernels`, as a package of their own: kernels are compiled with full
//! optimization even in debug builds, where everything above them is compiled fast.

#[path = "../error.rs"]
pub mod error;
#[path = "mod.rs"]
pub mod kernels;
