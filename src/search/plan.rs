//! What is done to a model to make a candidate.

use crate::options::Compress;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::operation::Operation;
use compresso_base::report::counted;
use compresso_compress::distill::Distill;
use compresso_compress::prune::{Budget, Prune, PruneSensitivity};
use compresso_compress::quantize::Quantize;
use compresso_compress::recover::Recover;
use compresso_learn::data::Dataset;
use compresso_learn::train::Train;
use compresso_model::{Model, Resize};
use serde::{Deserialize, Serialize};

/// Steps from the model that a search begins with to a candidate, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// Height and width of the images, where they are not the model's own.
    pub size: Option<[usize; 2]>,
    /// Share of the multiply-accumulates that pruning is asked to take away, in percent.
    pub cut: u8,
    /// The cut is shared among the layers by what each bears, not by one ranking of all channels.
    pub by_sensitivity: bool,
    /// Epochs of training behind that.
    pub epochs: usize,
    /// It has the model as given for a teacher.
    pub distilled: bool,
    /// In 8 bits at the end.
    pub int8: bool,
    /// In ten-thousandths, what INT8 may take of the score: layers stay in float until it does not take more. `None`: all layers are INT8.
    pub mixed: Option<u32>,
}

/// What steps need beside the model that the plan before made.
pub struct Means<'a> {
    /// Images to calibrate and to train with.
    pub data: &'a Dataset,
    /// Whether they have labels that the model can learn.
    pub labelled: bool,
    /// Those of the search.
    pub options: &'a Compress,
    /// The model as given, for the same images.
    pub given: &'a Model,
    /// Of that, where a cut goes by it.
    pub sensitivity: Option<&'a PruneSensitivity>,
}

impl Plan {
    /// The same with another cut.
    #[must_use]
    pub fn pruned(self, cut: u8) -> Self {
        Self { cut, ..self }
    }
    /// The same, and 8 bits at the end.
    #[must_use]
    pub fn quantized(self) -> Self {
        Self { int8: true, ..self }
    }
    /// The plan with nothing done but to the size of the images.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { size: self.size, ..Self::default() }
    }
    /// The plan before weights became integers.
    #[must_use]
    pub fn float(self) -> Self {
        Self { int8: false, mixed: None, ..self }
    }
    /// The plan without its last step; `None` of the model as it is.
    pub fn before(self) -> Option<Self> {
        match self {
            Self { int8: true, .. } => Some(self.float()),
            Self { epochs: 1.., .. } => Some(Self { epochs: 0, distilled: false, ..self }),
            Self { cut: 1.., .. } => Some(self.whole()),
            Self { size: Some(_), .. } => Some(Self::default()),
            Self { .. } => None,
        }
    }
    /// What a candidate is called: with the share of multiply-accumulates that pruning reached in the place of the one asked for, from those
    /// before and after it.
    pub fn name(self, whole: Option<u64>, made: Option<u64>) -> String {
        let (Some(whole), Some(made), 1..) = (whole.filter(|g| *g > 0), made, self.cut) else { return self.to_string() };
        let gone = 100.0 * (1.0 - made as f64 / whole as f64);
        Self { cut: gone.round().clamp(0.0, 100.0) as u8, ..self }.to_string()
    }
    /// Takes the last step on the model that the plan before it made.
    ///
    /// # Errors
    /// What the step reports; `Cancelled`.
    pub fn step(self, model: &Model, means: &Means<'_>, ctx: &Context) -> Result<Model> {
        let Means { data, labelled, options, given, sensitivity } = means;
        let images = options.images;
        Ok(match self {
            Self { int8: true, mixed, .. } => {
                let max_drop = mixed.map(|m| f64::from(m) / 1e4);
                Quantize { images, score: false, max_drop, ..Quantize::default() }.run((model, Some(data)), ctx)?.model
            }
            Self { epochs: epochs @ 1.., distilled, .. } => {
                let train = Train { epochs, ..Train::default() };
                match (distilled, labelled) {
                    (true, true) => Distill { train, ..Distill::default() }.run((model, given, data, None), ctx)?.model,
                    (true, false) => Recover { epochs, ..Recover::default() }.run((model, given, data), ctx)?.model,
                    (false, _) => train.run((model, data, None), ctx)?.model,
                }
            }
            Self { cut: cut @ 1.., .. } => {
                let ratio = f64::from(cut) / 100.0;
                let cut = match sensitivity {
                    Some(s) => Prune { ratios: shared(s, ratio, model, ctx)?, images, score: false, ..Prune::default() },
                    None => Prune { ratio, budget: Budget::Macs, images, score: false, ..Prune::default() },
                };
                cut.run((model, Some(data)), ctx)?.model
            }
            Self { size, .. } => Resize { size: size.map(|s| serde_json::json!(s)) }.run(model, ctx)?,
        })
    }
}

/// Halvings in which the tolerance is sought.
const HALVINGS: usize = 12;

/// The shares of groups that all lose the same by themselves, and together take this share of the multiply-accumulates away.
fn shared(s: &PruneSensitivity, wanted: f64, model: &Model, ctx: &Context) -> Result<serde_json::Map<String, serde_json::Value>> {
    let macs = |m: &Model| -> Result<f64> { Ok(m.macs()?.unwrap_or(0) as f64) };
    let before = macs(model)?;
    let gone = |tolerance: f64| -> Result<f64> {
        ctx.check()?;
        let ratios = s.ratios_at(tolerance);
        // Shapes follow from the shares alone, so that nothing is solved here.
        let pruned = Prune { ratios, score: false, ..Prune::default() }.run((model, None), ctx)?.model;
        Ok(1.0 - macs(&pruned)? / before.max(1.0))
    };
    let (mut low, mut high) = (-12.0f64, 3.0f64);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        *(if gone(middle.exp())? < wanted { &mut low } else { &mut high }) = middle;
    }
    Ok(s.ratios_at(high.exp()))
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if let Some([h, w]) = self.size {
            parts.push(format!("{h}×{w} px"));
        }
        if self.cut > 0 {
            parts.push(format!("-{} % MACs{}", self.cut, if self.by_sensitivity { " by sensitivity" } else { "" }));
        }
        if self.epochs > 0 {
            parts.push(format!("{}{}", counted(self.epochs, "epoch"), if self.distilled { " with its teacher" } else { "" }));
        }
        if self.int8 {
            parts.push(if self.mixed.is_some() { "int8 in part" } else { "int8" }.into());
        }
        if parts.is_empty() { write!(f, "as given") } else { write!(f, "{}", parts.join(", ")) }
    }
}
