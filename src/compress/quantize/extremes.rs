//! The extremes of an activation, channel by channel, in whatever order its values lie.

use super::affine::Range;
use crate::probe::row_major;
use rayon::prelude::*;
use std::borrow::Cow;

/// Smallest and largest value of one tensor, over all images, per channel (axis 1).
#[derive(Debug, Clone, Default)]
pub struct MinMax {
    channels: Vec<Range>,
    /// True once a value was NaN or infinite.
    broken: bool,
}

/// Channels whose extremes are held in registers together.
const BLOCK: usize = 16;
/// Values of a group of positions, which stay in the first cache while their blocks of channels are gone through.
const GROUP: usize = 4096;
/// Values that one thread looks at.
const SPAN: usize = 1 << 16;

impl MinMax {
    /// Looks at a tensor in row-major order. Tensors of rank 0 and 1 count as one channel.
    pub fn see(&mut self, values: &[f32], dims: &[usize]) -> Range {
        self.see_strided(values, dims, &row_major(dims))
    }

    /// Looks at a tensor whose element `index` is `values[Σ index[i] · strides[i]]`. Tensors of rank 0 and 1 count as one
    /// channel. Gives the range of this tensor, empty where it has no elements.
    pub fn see_strided(&mut self, values: &[f32], dims: &[usize], strides: &[usize]) -> Range {
        let (channels, stride) = if dims.len() >= 2 { (dims[1], strides[1]) } else { (1, 0) };
        if self.channels.len() != channels {
            // Another channel count on a later image: keep one range for all.
            let all = self.range();
            self.channels = vec![Range::EMPTY; if self.channels.is_empty() { channels } else { 1 }];
            if let Some(first) = self.channels.first_mut() {
                *first = first.join(all);
            }
        }
        if dims.contains(&0) {
            return Range::EMPTY;
        }
        let axes = joined(dims, strides);
        let (&(count, step), outer) = axes.split_last().unwrap_or((&(1, 0), &[]));
        let span = (SPAN / channels).max(1);
        let spans: Vec<(usize, usize)> =
            offsets(outer).flat_map(|start| (0..count).step_by(span).map(move |at| (start + at * step, span.min(count - at)))).collect();
        let look = |mut found: Vec<Range>, &(start, count): &(usize, usize)| {
            if stride == 1 && channels > 1 {
                let group = (GROUP / channels).max(1);
                for at in (0..count).step_by(group) {
                    positions(&values[start + at * step..], group.min(count - at), step, &mut found);
                }
            } else {
                for (c, range) in found.iter_mut().enumerate() {
                    let from = &values[start + c * stride..];
                    let seen = if step == 1 { min_max(&from[..count]) } else { min_max_of(from.iter().step_by(step.max(1)).take(count)) };
                    *range = range.join(seen);
                }
            }
            found
        };
        let none = || vec![Range::EMPTY; channels];
        let found = if values.len() < 2 * SPAN {
            spans.iter().fold(none(), look)
        } else {
            let join = |a: Vec<Range>, b: Vec<Range>| a.iter().zip(b).map(|(a, b)| a.join(b)).collect();
            spans.par_iter().fold(none, look).reduce(none, join)
        };
        self.broken |= found.iter().any(|r| !r.min.is_finite() || !r.max.is_finite());
        let all = found.iter().fold(Range::EMPTY, |a, &b| a.join(b));
        let own = self.channels.len();
        for (c, range) in found.into_iter().enumerate() {
            self.channels[c % own] = self.channels[c % own].join(range);
        }
        all
    }
    /// The range over all channels; empty before anything was seen.
    pub fn range(&self) -> Range {
        self.channels.iter().fold(Range::EMPTY, |a, &b| a.join(b))
    }
    /// The range of each channel, along axis 1; a single one of all where their number has changed.
    pub fn channels(&self) -> &[Range] {
        &self.channels
    }
    /// True once a value was NaN or infinite.
    pub fn is_broken(&self) -> bool {
        self.broken
    }
    /// Largest magnitude of a channel over that of the middle one: how badly one scale serves all channels.
    pub fn spread(&self) -> f32 {
        let mut sizes: Vec<f32> = self.channels.iter().map(|r| r.magnitude()).filter(|&m| m > 0.0).collect();
        sizes.sort_by(f32::total_cmp);
        match (sizes.last(), sizes.get(sizes.len() / 2)) {
            (Some(&top), Some(&middle)) => top / middle,
            _ => 1.0,
        }
    }
}

/// Sizes and strides of all axes but the channels', those that follow each other in memory joined into one.
pub(super) fn joined(dims: &[usize], strides: &[usize]) -> Vec<(usize, usize)> {
    let mut axes: Vec<(usize, usize)> = Vec::new();
    for (i, (&n, &stride)) in dims.iter().zip(strides).enumerate() {
        if n == 1 || i == 1 {
            continue;
        }
        match axes.last_mut() {
            Some(last) if last.1 == n * stride => *last = (last.0 * n, stride),
            _ => axes.push((n, stride)),
        }
    }
    axes
}

/// Offsets of all positions along some axes, the last axis running fastest.
pub(super) fn offsets(axes: &[(usize, usize)]) -> impl Iterator<Item = usize> {
    let total: usize = axes.iter().map(|a| a.0).product();
    (0..total).map(move |mut i| {
        axes.iter().rev().fold(0, |at, &(n, stride)| {
            let here = i % n;
            i /= n;
            at + here * stride
        })
    })
}

/// The values of a tensor as [`MinMax::see_strided`] takes it, in no promised order: as they lie where they lie side by side.
pub(super) fn gathered<'a>(values: &'a [f32], dims: &[usize], strides: &[usize]) -> Cow<'a, [f32]> {
    let count: usize = dims.iter().product();
    if count == 0 {
        return Cow::Borrowed(&[]);
    }
    let last: usize = dims.iter().zip(strides).map(|(n, stride)| (n - 1) * stride).sum();
    if last + 1 == count {
        return Cow::Borrowed(&values[..count]);
    }
    Cow::Owned(by_position(values, dims, strides))
}

/// The values, channel by channel of each position in turn, whatever their layout.
pub(super) fn by_position(values: &[f32], dims: &[usize], strides: &[usize]) -> Vec<f32> {
    let (channels, stride) = if dims.len() >= 2 { (dims[1], strides[1]) } else { (1, 1) };
    let mut found = Vec::with_capacity(dims.iter().product());
    if dims.contains(&0) {
        return found;
    }
    for at in offsets(&joined(dims, strides)) {
        if stride == 1 {
            found.extend_from_slice(&values[at..at + channels]);
        } else {
            found.extend(values[at..].iter().step_by(stride).take(channels));
        }
    }
    found
}

/// Widens the ranges of channels that lie side by side, over `count` positions that lie `step` apart. NaN shows as an
/// infinite range.
fn positions(values: &[f32], count: usize, step: usize, ranges: &mut [Range]) {
    for (b, block) in ranges.chunks_mut(BLOCK).enumerate() {
        let values = &values[b * BLOCK..];
        if block.len() < BLOCK {
            for (c, range) in block.iter_mut().enumerate() {
                *range = range.join(min_max_of(values[c..].iter().step_by(step.max(1)).take(count)));
            }
            continue;
        }
        let mut low = [f32::INFINITY; BLOCK];
        let mut high = [f32::NEG_INFINITY; BLOCK];
        let mut sum = [0f32; BLOCK];
        for i in 0..count {
            let Some(here) = values[i * step..].first_chunk::<BLOCK>() else { break };
            widen(&mut low, &mut high, &mut sum, here);
        }
        for (c, range) in block.iter_mut().enumerate() {
            *range = range.join(if sum[c].is_nan() { BROKEN } else { Range { min: low[c], max: high[c] } });
        }
    }
}

const BROKEN: Range = Range { min: f32::NEG_INFINITY, max: f32::INFINITY };

/// Running extremes side by side, which compilers turn into vector instructions. NaN and infinity show as a NaN sum.
fn widen<const N: usize>(low: &mut [f32; N], high: &mut [f32; N], sum: &mut [f32; N], values: &[f32; N]) {
    for i in 0..N {
        low[i] = if values[i] < low[i] { values[i] } else { low[i] };
        high[i] = if values[i] > high[i] { values[i] } else { high[i] };
        sum[i] += values[i] * 0.0;
    }
}

/// The range of values that lie together. NaN shows as an infinite range.
fn min_max(values: &[f32]) -> Range {
    let mut low = [f32::INFINITY; 8];
    let mut high = [f32::NEG_INFINITY; 8];
    let mut sum = [0f32; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        widen(&mut low, &mut high, &mut sum, chunk);
    }
    let found = Range { min: low.into_iter().fold(f32::INFINITY, f32::min), max: high.into_iter().fold(f32::NEG_INFINITY, f32::max) };
    if sum.iter().any(|s| s.is_nan()) { BROKEN } else { found.join(min_max_of(rest.iter())) }
}

/// The range of some values. NaN shows as an infinite range.
fn min_max_of<'a>(values: impl Iterator<Item = &'a f32>) -> Range {
    let (mut low, mut high, mut sum) = ([f32::INFINITY], [f32::NEG_INFINITY], [0f32]);
    values.for_each(|&v| widen(&mut low, &mut high, &mut sum, &[v]));
    if sum[0].is_nan() { BROKEN } else { Range { min: low[0], max: high[0] } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_told_apart_and_images_add_up() {
        let mut m = MinMax::default();
        // [1, 2, 3]: channel 0 is 1..3, channel 1 is -9..0.
        m.see(&[1.0, 2.0, 3.0, -9.0, 0.0, -1.0], &[1, 2, 3]);
        m.see(&[0.5, 2.0, 3.0, -1.0, 7.0, -1.0], &[1, 2, 3]);
        assert_eq!(m.channels(), [Range { min: 0.5, max: 3.0 }, Range { min: -9.0, max: 7.0 }]);
        assert_eq!(m.range(), Range { min: -9.0, max: 7.0 });
        assert!(!m.is_broken());
    }

    #[test]
    fn nan_is_noticed_wherever_it_stands() {
        for at in [0, 7, 8, 16] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = vec![1.0; 17];
                values[at] = bad;
                for dims in [&[17][..], &[1, 17], &[17, 1], &[1, 1, 17]] {
                    let mut m = MinMax::default();
                    m.see(&values, dims);
                    assert!(m.is_broken(), "{bad} at position {at} of {dims:?}");
                }
            }
        }
    }

    #[test]
    fn spread_compares_the_largest_channel_with_the_middle_one() {
        let mut m = MinMax::default();
        m.see(&[640.0, 1.0, 0.5, 1.0, 0.0], &[1, 5, 1]);
        assert_eq!(m.spread(), 640.0);
    }

    #[test]
    fn large_tensors_are_shared_out_without_a_gap() {
        let (channels, side) = (24, 100);
        let mut values = vec![0.5f32; channels * side * side];
        let (dims, last) = ([1, channels, side, side], [0, 1, side * channels, channels]);
        for at in [0, 1, SPAN - 1, SPAN, 2 * SPAN + 7, values.len() - 1] {
            values[at] = -(at as f32) - 1.0;
            let mut planes = MinMax::default();
            planes.see(&values, &dims);
            assert_eq!(planes.channels()[at / (side * side)].min, values[at]);
            let mut pixels = MinMax::default();
            pixels.see_strided(&values, &dims, &last);
            assert_eq!(pixels.channels()[at % channels].min, values[at]);
            assert_eq!(pixels.range(), planes.range());
            values[at] = 0.5;
        }
    }

    proptest::proptest! {
        /// Any order of axes, any padding between the positions, any number of channels.
        #[test]
        fn the_layout_does_not_matter(
            dims in proptest::collection::vec(1usize..40, 2..5),
            turn in 0usize..24,
            padding in 0usize..3,
            seed in 0u64..1000,
        ) {
            proptest::prop_assume!(dims.iter().product::<usize>() < 40_000);
            // The axes from the slowest to the fastest; the fastest is followed by padding.
            let mut order: Vec<usize> = (0..dims.len()).collect();
            order.rotate_left(turn % dims.len());
            if turn >= 12 {
                order.swap(0, dims.len() - 1);
            }
            let mut strides = vec![0; dims.len()];
            let mut size = 1;
            for (i, &axis) in order.iter().rev().enumerate() {
                strides[axis] = size;
                size *= dims[axis];
                size += if i == 0 { padding } else { 0 };
            }
            let values: Vec<f32> = (0..size as u64).map(|i| ((i * 2_654_435_761 + seed) % 1009) as f32 - 500.0).collect();
            let mut m = MinMax::default();
            m.see_strided(&values, &dims, &strides);
            let mut expected = vec![Range::EMPTY; dims[1]];
            let all: Vec<(usize, usize)> = dims.iter().copied().zip(row_major(&dims)).collect();
            for i in offsets(&all) {
                let index: Vec<usize> = all.iter().map(|&(n, stride)| i / stride % n).collect();
                let v = values[index.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>()];
                expected[index[1]] = expected[index[1]].join(Range { min: v, max: v });
            }
            proptest::prop_assert_eq!(m.channels(), &expected[..]);
        }
    }
}
