//! What rewriting needs to know of the options.

use super::{Quantize, QuantizeMode};
use compresso_base::error::{Error, Result};
use compresso_base::operation::in_range;
use compresso_model::Element;
use compresso_model::passes::{self, Pipeline};
use compresso_target::{Grid, Quantization};

/// What the rewriting needs to know of the options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub per_channel: bool,
    /// Products on integers; false: only weights are stored as such (dynamic mode).
    pub integers: bool,
    pub activations: Grid,
    pub weights: Grid,
    pub rules: Quantization,
}

/// For weights that are stored in 4 bits.
pub(super) const FOUR_BITS: Pipeline =
    Pipeline { name: "four_bits", summary: "Operators that know integers of 4 bits", lists: &[&[&passes::RaiseOpset::FOUR_BITS]] };

impl Settings {
    /// The type of weights that stand alone in a file.
    pub fn stored(&self) -> Element {
        if !self.integers && self.weights.high <= 7 { Element::I4 } else { Element::I8 }
    }
}

impl Quantize {
    /// What the rewriting needs to know of the options. `wide`: with int16 activations.
    pub(super) fn settings(&self, wide: bool) -> Result<Settings> {
        in_range("weight_bits", self.weight_bits as f64, 2.0..=8.0)?;
        if let Some(most) = self.max_drop {
            in_range("max_drop", most, 0.0..=1.0)?;
            if !self.is_static() {
                return Err(Error::argument("option 'max_drop' chooses layers of static quantization").hint("use mode: \"static\""));
            }
        }
        let title = self.target.title;
        let rules = self
            .target
            .quantization
            .ok_or_else(|| Error::unsupported(format!("{title} runs no integers, so a model is not quantized for it")))?;
        let activations = match (wide, rules.wide) {
            (true, Some(grid)) => grid,
            (true, None) => {
                let e = Error::unsupported(format!("{title} has no kernels for int16 activations"));
                return Err(e.hint("use precision: \"int8\" or \"fp16\""));
            }
            (false, _) if self.symmetric => Grid::INT8,
            (false, _) => rules.activations,
        };
        if self.mode == QuantizeMode::Dynamic && !rules.dynamic {
            return Err(Error::unsupported(format!("{title} does not run dynamically quantized graphs")).hint("use mode: \"static\""));
        }
        let weights = match self.weight_bits {
            8 if self.is_static() && self.reduce_range && rules.reduced_weights => rules.weights.reduced(),
            8 => rules.weights,
            bits => rules.weights.around_zero(bits),
        };
        Ok(Settings { per_channel: self.per_channel, integers: self.activations, activations, weights, rules })
    }
}
