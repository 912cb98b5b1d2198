//! Fisher information of a channel's mask: Liu et al., "Group Fisher pruning for practical network compression" (2021). Taking a channel
//! away changes the loss by half of it, to second order at a minimum.

use super::{Criterion, Need, Normalization, Reduction, Result, Score, Slice};

pub const FISHER: Criterion = Criterion::new(
    "fisher",
    "mean square, over images, of by how much the loss changes without the channel (group Fisher)",
    &[Need::Weights, Need::Curvature],
    Score::Slice(score),
)
.reduction(Reduction::Sum)
.normalization(Normalization::None);

fn score(slice: &Slice<'_>) -> Result<Option<Vec<f64>>> {
    Ok(slice.effects().map(<[f64]>::to_vec))
}
