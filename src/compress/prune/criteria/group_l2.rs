//! Norm of a channel over its whole group: Fang et al., "DepGraph: towards any structural pruning" (2023), with exponent 2.

use super::{Criterion, GroupSlices, Need, Result, Role, Score, Slice};

pub const GROUP_L2: Criterion = Criterion::new(
    "group_l2",
    "sum of squared weights, mean over all layers and norms that make or read the channel (DepGraph)",
    &[Need::Weights],
    Score::Group(score),
)
.readers();

fn score(group: &mut GroupSlices<'_>) -> Result<Vec<f64>> {
    mean_over_group(group, |slice| Ok(slice.weights().map(|rows| rows.map(|row| row.map(|w| w * w).sum()))))
}

/// The mean over the weights and scales of a group of what `score` makes of each slice. Indices of a slice that stand for the same channel
/// are added up.
pub(super) fn mean_over_group(group: &GroupSlices<'_>, score: impl Fn(&Slice<'_>) -> Result<Option<Vec<f64>>>) -> Result<Vec<f64>> {
    let (mut sums, mut count) = (vec![0.0; group.channels()], 0.0);
    for slice in group.slices.iter().filter(|s| s.is_weight() || s.role == Role::Scale) {
        let Some(scores) = score(slice)? else { continue };
        count += 1.0;
        for (channel, score) in group.channels_of(slice).into_iter().zip(scores) {
            if let Some(channel) = channel {
                sums[channel] += score;
            }
        }
    }
    sums.iter_mut().for_each(|s| *s /= f64::max(count, 1.0));
    Ok(sums)
}
