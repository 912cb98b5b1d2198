//! Jupyter kernels: the protocol once, the languages behind it.

mod debug;
mod event;
mod history;
pub mod install;
mod kernel;
mod language;
mod magics;
mod outputs;
mod progress;
mod reads;
pub mod rhai;
#[cfg(feature = "evcxr")]
pub mod rust;
#[cfg(feature = "evcxr")]
mod rust_magic;
mod stale;
mod wire;

pub use self::rhai::{ABOUT as RHAI, RhaiCells};
pub use event::Event;
pub use kernel::serve;
pub use language::{About, Cell, CellError, Completions, IsComplete, Language, Match, Outputs, Variable};
pub use wire::{Request, read};

/// The error of builds without the Rust kernel.
pub fn no_rust() -> crate::Error {
    crate::Error::unavailable("this build of compresso runs no Rust cells").hint("build it with --features evcxr")
}
