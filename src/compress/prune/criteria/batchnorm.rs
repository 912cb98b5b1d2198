//! Scales of batch norms: Liu et al., "Learning efficient convolutional networks through network slimming" (2017).

use super::l2::L2;
use super::{Criterion, Error, Need, Result, Role, Score, Slice};

pub const BATCHNORM: Criterion = Criterion::new(
    "batchnorm",
    "absolute scale of the batch norm after the layer (network slimming); layers without one by \"l2\"",
    &[Need::Weights],
    Score::Slice(score),
)
.fallback(&L2)
.check(check);

fn score(slice: &Slice<'_>) -> Result<Option<Vec<f64>>> {
    Ok(slice.norm().map(|n| n.scale.clone()))
}

fn check(slices: &[Slice<'_>]) -> Result<()> {
    if slices.iter().any(|s| s.role == Role::Statistic) {
        return Ok(());
    }
    let e = Error::unsupported(
        "importance \"batchnorm\" needs batch norms, and this model has none (they may have been folded into the convolutions)",
    );
    Err(e.hint("use importance: \"l2\""))
}
