//! How a graph runs.

pub mod eager;

pub use eager::{Observer, Outputs, Params, Run, run};
