//! What is done to a model to make a candidate.

use crate::options::Compress;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::operation::Operation;
use compresso_compress::prune::{Budget, Prune};
use compresso_compress::quantize::Quantize;
use compresso_learn::data::Dataset;
use compresso_learn::train::Train;
use compresso_model::Model;
use serde::{Deserialize, Serialize};

/// Steps from the model that a search begins with to a candidate, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// Share of the multiply-accumulates that pruning takes away, in percent.
    pub cut: u8,
    /// Epochs of training behind that.
    pub epochs: usize,
    /// In 8 bits at the end.
    pub int8: bool,
}

impl Plan {
    /// Pruning alone.
    pub fn pruned(cut: u8) -> Self {
        Self { cut, ..Self::default() }
    }
    /// The same, and 8 bits at the end.
    #[must_use]
    pub fn quantized(self) -> Self {
        Self { int8: true, ..self }
    }
    /// The plan without its last step; `None` of the model as it is.
    pub fn before(self) -> Option<Self> {
        match self {
            Self { int8: true, .. } => Some(Self { int8: false, ..self }),
            Self { epochs: 1.., .. } => Some(Self { epochs: 0, ..self }),
            Self { cut: 1.., .. } => Some(Self::default()),
            Self { .. } => None,
        }
    }
    /// The plan with the share that pruning reached in the place of the one asked for: multiply-accumulates before and after it.
    #[must_use]
    pub fn reached(self, given: Option<u64>, made: Option<u64>) -> Self {
        let (Some(given), Some(made), 1..) = (given.filter(|g| *g > 0), made, self.cut) else { return self };
        let gone = 100.0 * (1.0 - made as f64 / given as f64);
        Self { cut: gone.round().clamp(0.0, 100.0) as u8, ..self }
    }
    /// Takes the last step on the model that the plan before it made.
    ///
    /// # Errors
    /// What the step reports; `Cancelled`.
    pub fn step(self, model: &Model, data: &Dataset, options: &Compress, ctx: &Context) -> Result<Model> {
        let images = options.images;
        Ok(match self {
            Self { int8: true, .. } => Quantize { images, score: false, ..Quantize::default() }.run((model, Some(data)), ctx)?.model,
            Self { epochs: epochs @ 1.., .. } => Train { epochs, ..Train::default() }.run((model, data, None), ctx)?.model,
            Self { cut, .. } => {
                let cut = Prune { ratio: f64::from(cut) / 100.0, budget: Budget::Macs, images, score: false, ..Prune::default() };
                cut.run((model, Some(data)), ctx)?.model
            }
        })
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if self.cut > 0 {
            parts.push(format!("-{} % MACs", self.cut));
        }
        if self.epochs > 0 {
            parts.push(format!("{} epochs", self.epochs));
        }
        if self.int8 {
            parts.push("int8".into());
        }
        if parts.is_empty() { write!(f, "as given") } else { write!(f, "{}", parts.join(", ")) }
    }
}
