//! Sum of absolute weights: Li et al., "Pruning filters for efficient convnets" (2017).

use super::l2::times_norm;
use super::{Criterion, Need, Result, Score, Slice};

pub const L1: Criterion =
    Criterion::new("l1", "sum of absolute weights, times the factor of a batch norm that follows", &[Need::Weights], Score::Slice(score));

fn score(slice: &Slice<'_>) -> Result<Option<Vec<f64>>> {
    let Some(weights) = slice.weights().filter(|_| slice.is_weight()) else { return Ok(None) };
    Ok(Some(times_norm(slice, weights.map(|row| row.map(f64::abs).sum()))))
}
