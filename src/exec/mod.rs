//! How a graph runs.

pub mod compiled;
pub mod eager;

pub use compiled::Engine;
pub use eager::{Observer, Outputs, Params, Run, run};
