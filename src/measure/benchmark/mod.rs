//! `benchmark`: several models, in several runtimes, side by side.

mod inputs;
mod options;
mod report;
mod run;
mod seat;
#[cfg(test)]
mod tests;

pub use options::Benchmark;
pub use report::{BenchmarkReport, Layers, Row};
pub use run::benchmark;
