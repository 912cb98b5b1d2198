//! First-order Taylor expansion over the whole group of a channel, weight by weight: as in Fang et al., "DepGraph" (2023).

use super::group_l2::mean_over_group;
use super::{Criterion, GroupSlices, Need, Result, Score};

pub const GROUP_TAYLOR: Criterion = Criterion::new(
    "group_taylor",
    "sum of absolute weights times gradients, mean over all layers and norms that make or read the channel",
    &[Need::Weights, Need::Gradients],
    Score::Group(score),
)
.readers();

fn score(group: &mut GroupSlices<'_>) -> Result<Vec<f64>> {
    mean_over_group(group, |slice| {
        let (Some(weights), Some(gradients)) = (slice.weights(), slice.gradients()) else { return Ok(None) };
        Ok(Some(slice.pairs(weights, gradients, |w, g| (w * g).abs())))
    })
}
