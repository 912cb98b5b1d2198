//! How fast, how heavy: timing, memory, power, other runtimes.

#![warn(missing_docs)]

pub mod benchmark;
pub mod compare;
pub mod environment;
pub mod memory;
pub mod power;
pub mod runtimes;
pub mod statistics;
pub mod stream;
pub mod timing;
pub mod worker;

pub use benchmark::{Benchmark, BenchmarkReport, Scenario, benchmark, sensor};
pub use stream::{PipelineReport, Stages, StreamReport, Throughput};
