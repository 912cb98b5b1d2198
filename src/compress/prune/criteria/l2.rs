//! Root of the sum of squared weights.

use super::{Criterion, Need, Result, Score, Slice};

pub const L2: Criterion = Criterion::new(
    "l2",
    "root of the sum of squared weights, times the factor of a batch norm that follows",
    &[Need::Weights],
    Score::Slice(score),
);

pub(super) fn score(slice: &Slice<'_>) -> Result<Option<Vec<f64>>> {
    let Some(weights) = slice.weights().filter(|_| slice.is_weight()) else { return Ok(None) };
    Ok(Some(times_norm(slice, weights.map(|row| row.map(|w| w * w).sum::<f64>().sqrt()))))
}

/// Norms of weights as they are once a batch norm that follows is folded into them.
pub(super) fn times_norm(slice: &Slice<'_>, mut scores: Vec<f64>) -> Vec<f64> {
    if let Some(norm) = slice.norm() {
        scores.iter_mut().zip(&norm.factor).for_each(|(s, f)| *s *= f);
    }
    scores
}
