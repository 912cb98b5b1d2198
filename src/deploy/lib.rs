//! Where a model goes: files for other runtimes.
//!
//! A target is one folder or file here. It says what of a model it cannot take ([`Target::lint`]) before it writes anything
//! ([`Target::export`]).

pub mod half;
mod lint;
pub mod onnx;
mod replay;
pub mod tensorrt;

pub use lint::{Lint, lint};
pub use onnx::OnnxExport;
pub use replay::{Remade, Replay};
pub use tensorrt::{TensorrtArtifacts, TensorrtExport};

use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::report::Show;
use compresso_learn::data::Dataset;
use compresso_model::Model;
use serde::Serialize;
use std::path::Path;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works, but not at its best.
    Advice,
    /// The target refuses it.
    Error,
}

/// Something about a model that its target does not like.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// The node or value, as errors name it; empty for the whole model.
    pub place: String,
    pub message: String,
}

/// A kind of file that models are exported to.
pub trait Target {
    /// As scripts call it.
    const NAME: &'static str;
    /// What was written.
    type Artifacts: Show;

    /// What the target would refuse or run badly.
    ///
    /// # Errors
    /// `Unsupported` for operators that the registry does not know.
    fn lint(&self, model: &Model) -> Result<Vec<Finding>>;

    /// Writes the model. `data` gives calibration images where the target needs them.
    ///
    /// # Errors
    /// `Unsupported` for what [`Target::lint`] finds to be an error; `Io`.
    fn export(&self, model: &Model, to: &Path, data: Option<&Dataset>, ctx: &Context) -> Result<Self::Artifacts>;
}
