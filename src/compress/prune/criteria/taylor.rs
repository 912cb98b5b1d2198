//! First-order Taylor expansion of the loss: Molchanov et al., "Importance estimation for neural network pruning" (2019).
//! Setting the numbers of a slice to zero changes the loss by about the sum of weight times gradient.

use super::{Criterion, Need, Normalization, Reduction, Result, Score, Slice};

pub const TAYLOR: Criterion = Criterion::new(
    "taylor",
    "by how much the loss changes without the channel: absolute sum of weights times gradients",
    &[Need::Weights, Need::Gradients],
    Score::Slice(score),
)
.reduction(Reduction::Sum)
.normalization(Normalization::None);

fn score(slice: &Slice<'_>) -> Result<Option<Vec<f64>>> {
    let (Some(weights), Some(gradients)) = (slice.weights(), slice.gradients()) else { return Ok(None) };
    let change = |i: usize| weights.row(i).zip(gradients.row(i)).map(|(w, g)| w * g).sum::<f64>().abs();
    Ok(Some((0..weights.len()).map(change).collect()))
}
