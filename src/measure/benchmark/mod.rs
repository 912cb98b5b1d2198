//! `benchmark`: several models, in several runtimes, side by side.

mod inputs;
mod layers;
mod options;
mod report;
mod run;
mod seat;
mod server;
#[cfg(test)]
mod tests;
mod trade_off;

pub use layers::Layers;
pub use options::{Benchmark, Scenario};
pub use report::{BenchmarkReport, Row};
pub use run::{benchmark, sensor};
pub use server::{Server, Trial};
