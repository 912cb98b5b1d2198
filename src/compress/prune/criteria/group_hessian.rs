//! [`hessian`](super::hessian) over the whole group of a channel: as in Fang et al., "DepGraph" (2023).

use super::group_l2::mean_over_group;
use super::{Criterion, GroupSlices, Need, Result, Score, hessian};

pub const GROUP_HESSIAN: Criterion = Criterion::new(
    "group_hessian",
    "\"hessian\", mean over all layers and norms that make or read the channel",
    &[Need::Weights, Need::Curvature],
    Score::Group(score),
)
.readers();

fn score(group: &mut GroupSlices<'_>) -> Result<Vec<f64>> {
    mean_over_group(group, hessian::score)
}
