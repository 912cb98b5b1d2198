//! Where a model goes: files for other runtimes.
//!
//! [`Deploy`] writes a model for any [target](compresso_target); [`OnnxExport`] and [`TensorrtExport`] are the same for one, with
//! options that only this one has. [`Lint`] says beforehand what a target would not take.

#![warn(missing_docs)]

mod coreml;
mod embed;
mod export;
mod formats;
pub mod half;
mod lint;
pub mod onnx;
mod optimize;
pub mod pitfalls;
mod replay;
pub mod tensorrt;
mod verify;

pub use compresso_target::{ExportPrecision, Finding, Severity};
pub use coreml::CoremlExport;
pub use embed::{EmbedNms, EmbedPreprocessing, ImageLayout};
pub use export::{Deploy, Deployed};
pub use formats::{NcnnExport, OpenvinoExport, TfliteExport};
pub use lint::{Findings, Lint};
pub use onnx::OnnxExport;
pub use optimize::{Optimize, OptimizeReport};
pub use replay::{Remade, Replay};
pub use tensorrt::{TensorrtArtifacts, TensorrtExport};
pub use verify::{Score, Verification};
