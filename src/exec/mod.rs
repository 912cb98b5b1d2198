//! How a graph runs.

pub mod compiled;
pub mod eager;
pub mod precision;
mod tape;

pub use compiled::{Engine, StepTime};
pub use eager::{Observer, Outputs, Params, Run, run, run_with_tape};
pub use tape::Tape;
