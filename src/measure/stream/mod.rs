//! Streams of images: how many a second go through, by one thread, by workers that take turns, and by the stages of a cut model.

mod stages;
mod throughput;

pub use stages::{Arrangement, PipelineReport, Stages};
pub use throughput::{Rate, StreamReport, Throughput};
