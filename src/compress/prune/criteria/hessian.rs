//! Optimal brain damage for channels (OBD-C): the diagonal of the Hessian, by the Fisher matrix, with weights taken as independent. LeCun et
//! al., "Optimal brain damage" (1990); Wang et al., "EigenDamage" (2019).

use super::{Criterion, Need, Normalization, Reduction, Result, Score, Slice};

pub const HESSIAN: Criterion = Criterion::new(
    "hessian",
    "sum of squared weights times mean squared gradients (OBD-C, with the diagonal of the Fisher matrix)",
    &[Need::Weights, Need::Curvature],
    Score::Slice(score),
)
.reduction(Reduction::Sum)
.normalization(Normalization::None);

pub(super) fn score(slice: &Slice<'_>) -> Result<Option<Vec<f64>>> {
    let (Some(weights), Some(curvature)) = (slice.weights(), slice.curvature()) else { return Ok(None) };
    Ok(Some(slice.pairs(weights, curvature, |w, h| w * w * h)))
}
