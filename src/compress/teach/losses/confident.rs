//! Squared difference, weighted by what the teacher finds at each place: of a detector's feature maps most places are background.

use super::tensors::weighted_mean;
use super::{FeatureLoss, Maps};
use candle_core::Tensor;
use compresso_base::error::Result;

pub const CONFIDENT: FeatureLoss = FeatureLoss::new(
    "confident",
    "squared difference, weighted by the confidence of the teacher's detections at each place; of classifiers as \"mse\"",
    &[],
    loss,
)
.squared()
.with_confidence();

fn loss(m: &Maps<'_>, _: &[f64]) -> Result<Tensor> {
    let squares = (m.student - m.teacher)?.sqr()?;
    match m.confidence {
        Some(confidence) => weighted_mean(&squares.mean_keepdim(1)?, confidence),
        None => Ok(squares.mean_all()?),
    }
}
