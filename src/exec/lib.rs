//! How a graph runs.

#![warn(missing_docs)]

pub mod compiled;
pub mod eager;
mod forward;
pub mod precision;
mod tape;
#[cfg(test)]
mod tape_tests;

pub use compiled::{Engine, StepTime};
pub use eager::{Observer, Outputs, Params, Run, resume, run, run_with_tape};
pub use forward::{Feeds, Forward};
pub use tape::{Tape, through_candle};
