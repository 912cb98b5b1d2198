//! Norm of a channel over its whole group: Fang et al., "DepGraph: towards any structural pruning" (2023), with exponent 1.

use super::group_l2::mean_over_group;
use super::{Criterion, GroupSlices, Need, Result, Score};

pub const GROUP_L1: Criterion = Criterion::new(
    "group_l1",
    "sum of absolute weights, mean over all layers and norms that make or read the channel (DepGraph)",
    &[Need::Weights],
    Score::Group(score),
)
.readers();

fn score(group: &mut GroupSlices<'_>) -> Result<Vec<f64>> {
    mean_over_group(group, |slice| Ok(slice.weights().map(|rows| rows.map(|row| row.map(f64::abs).sum()))))
}
