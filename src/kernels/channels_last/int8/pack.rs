//! Weights in the order in which the tiles of [`super::tile`] read them.

use super::spec::Int8Conv;

/// Output channels of a panel.
pub const LANES: usize = 16;

/// The channel of each lane. What packing two vectors of 8 sums to 16 and 8 bits does to their halves puts channels in order.
pub const ORDER: [usize; LANES] = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15];

/// Weights of [`LANES`] output channels for what a step reads of a pixel: the 4 consecutive bytes that a dense tile reads,
/// as `i8 [LANES, 4]`; or for a depthwise tile, which reads a byte of each channel at two taps, `i16 [LANES, 2]`. Lanes are in
/// the [`ORDER`].
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub struct PackedStep(pub [i8; 4 * LANES]);

/// Sizes of the groups of steps whose products are summed in 16 bits before they are widened.
pub const GROUPS: [usize; 4] = [4, 3, 2, 1];

/// What the weights of one sign in a 16-bit lane of one step may add up to: `255 · 128 < 2^15`, where the multiplication
/// saturates.
const ROOM: i16 = 128;

/// What the magnitudes of the weights in a 16-bit lane of a group may add up to. The sum then lies in a range of
/// `255 · 257 = 2^16 − 1`, which a start other than 0 moves to where 16 bits with a sign hold it.
const RANGE: u16 = 257;

/// Groups that a step may still join. More find slightly better groups and cost time at packing.
const OPEN: usize = 48;

/// Up to [`LANES`] output channels and all that they need, in lanes of the [`ORDER`]; those of missing channels have zero
/// weights.
#[derive(Debug, Clone)]
pub struct Panel {
    /// The first output channel, and the one after the last.
    pub first: usize,
    pub end: usize,
    /// Where a step reads, in bytes from the first byte under the window of a pixel. A depthwise step has two.
    pub offsets: Vec<u32>,
    /// In the order of the groups; before those of a group of two or more, what its sums start from as `i16 [2 · LANES]`.
    pub steps: Vec<PackedStep>,
    /// Groups of each size of [`GROUPS`].
    pub counts: [usize; GROUPS.len()],
    pub ends: Ends,
    /// The weights of each lane, added up.
    sums: [i32; LANES],
}

/// What the sums of a panel start from, and what becomes of them.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// What the 32-bit sums start from, so that they end as if the zero point had been subtracted from each input.
    pub start: [i32; LANES],
    pub scales: [f32; LANES],
    pub bias: [f32; LANES],
}

impl Panel {
    /// Output channels `first..end` without steps. `weights: [out, depth]`
    fn new(spec: &Int8Conv, weights: &[i16], first: usize, end: usize) -> Self {
        let depth = weights.len() / spec.scales.len();
        let (mut sums, mut scales, mut bias) = ([0; LANES], [0.0; LANES], [0.0; LANES]);
        for (lane, channel) in ORDER.into_iter().enumerate().filter(|(_, channel)| first + channel < end) {
            let o = first + channel;
            sums[lane] = weights[o * depth..][..depth].iter().map(|&w| i32::from(w)).sum();
            (scales[lane], bias[lane]) = (spec.scales[o], spec.bias[o]);
        }
        let ends = Ends { start: [0; LANES], scales, bias };
        let mut panel = Self { first, end, offsets: Vec::new(), steps: Vec::new(), counts: [0; GROUPS.len()], ends, sums };
        panel.ends = panel.measured(1.0, spec.input_zero.unwrap_or(0));
        panel
    }

    /// The [`Ends`] for an input of another scale, by which those of the weights are multiplied, and with a zero point where
    /// there was none.
    pub fn measured(&self, scale: f32, zero: u8) -> Ends {
        let mut ends = self.ends;
        for (lane, sum) in self.sums.iter().enumerate() {
            ends.start[lane] = ends.start[lane].wrapping_sub(sum.wrapping_mul(i32::from(zero)));
            ends.scales[lane] *= scale;
        }
        ends
    }

    /// Adds groups of steps that never leave 16 bits.
    fn add_groups(&mut self, steps: impl Iterator<Item = (u32, PackedStep)>) {
        let groups = group(steps);
        for (count, size) in self.counts.iter_mut().zip(GROUPS) {
            for items in groups.iter().filter(|items| items.len() == size) {
                *count += 1;
                if size > 1 {
                    let starts = starts(items);
                    for (lane, &start) in starts.iter().enumerate() {
                        let sum = &mut self.ends.start[lane / 2];
                        *sum = sum.wrapping_sub(i32::from(start));
                    }
                    self.steps.push(shorts(&starts));
                }
                self.steps.extend(items.iter().map(|item| item.step));
                self.offsets.extend(items.iter().map(|item| item.offset));
            }
        }
    }

    /// Adds steps as they are, for tiles that sum in 32 bits.
    fn add_steps(&mut self, steps: impl Iterator<Item = (u32, PackedStep)>) {
        for (offset, step) in steps {
            self.offsets.push(offset);
            self.steps.push(step);
            self.counts[GROUPS.len() - 1] += 1;
        }
    }
}

fn shorts(values: &[i16; 2 * LANES]) -> PackedStep {
    let mut step = PackedStep([0; 4 * LANES]);
    for (to, value) in step.0.chunks_exact_mut(2).zip(values) {
        to.copy_from_slice(&value.to_ne_bytes().map(|b| b as i8));
    }
    step
}

/// A weight of at most 255 either way as the sum of three of 8 bits: of one, and zeros, if it has 8 bits.
fn terms(weight: i16) -> [i8; 3] {
    let mut left = weight;
    [(); 3].map(|()| {
        let term = left.clamp(i16::from(i8::MIN), i16::from(i8::MAX)) as i8;
        left -= i16::from(term);
        term
    })
}

/// Panels of a convolution. Tap `(ky, kx)` of a pixel lies `ky · row + kx · column` bytes after the first, and its input
/// channel `c` of group `g` another `g · span + c`. `grouped`: for tiles that sum in 16 bits.
pub fn dense(spec: &Int8Conv, weights: &[i16], [row, column, span]: [usize; 3], grouped: bool) -> Vec<Panel> {
    let [kh, kw] = spec.window.kernel;
    let (per_in, per_out) = (spec.input.channels / spec.groups, spec.scales.len() / spec.groups);
    let mut panels = Vec::new();
    for g in 0..spec.groups {
        for first in (g * per_out..(g + 1) * per_out).step_by(LANES) {
            let mut panel = Panel::new(spec, weights, first, (first + LANES).min((g + 1) * per_out));
            let taps = (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx)));
            let places = taps.flat_map(|(ky, kx)| (0..per_in).step_by(4).map(move |c| (ky, kx, c)));
            let (first, end) = (panel.first, panel.end);
            let steps = places.flat_map(|(ky, kx, c)| {
                let mut steps = [PackedStep([0; 4 * LANES]); 3];
                for (lane, o) in ORDER.map(|channel| first + channel).into_iter().enumerate().filter(|(_, o)| *o < end) {
                    for i in c..per_in.min(c + 4) {
                        let terms = terms(weights[((o * per_in + i) * kh + ky) * kw + kx]);
                        steps.iter_mut().zip(terms).for_each(|(step, term)| step.0[lane * 4 + i - c] = term);
                    }
                }
                let offset = u32::try_from(ky * row + kx * column + g * span + c).expect("a window within 4 GiB");
                let needed = move |(i, step): (usize, PackedStep)| (i == 0 || step.0 != [0; 4 * LANES]).then_some((offset, step));
                steps.into_iter().enumerate().filter_map(needed)
            });
            if grouped {
                panel.add_groups(steps)
            } else {
                panel.add_steps(steps)
            }
            panels.push(panel);
        }
    }
    panels
}

/// Panels of a depthwise convolution; places as for [`dense`].
pub fn depthwise(spec: &Int8Conv, weights: &[i16], [row, column]: [usize; 2]) -> Vec<Panel> {
    let ([kh, kw], channels) = (spec.window.kernel, spec.input.channels);
    let taps = kh * kw;
    let panels = (0..channels).step_by(LANES).map(|first| {
        let mut panel = Panel::new(spec, weights, first, (first + LANES).min(channels));
        for tap in (0..taps).step_by(2) {
            let mut values = [0i16; 2 * LANES];
            for k in 0..2 {
                // A missing second tap reads the first again, with zero weights.
                let at = (tap + k).min(taps - 1);
                panel.offsets.push(u32::try_from(at / kw * row + at % kw * column + first).expect("a window within 4 GiB"));
                for (lane, o) in ORDER.map(|channel| first + channel).into_iter().enumerate().filter(|(_, o)| *o < panel.end) {
                    values[lane * 2 + k] = if tap + k < taps { weights[o * taps + at] } else { 0 };
                }
            }
            panel.steps.push(shorts(&values));
        }
        panel
    });
    panels.collect()
}

/// A step that fits 16 bits, with the magnitudes in each lane.
struct Item {
    offset: u32,
    step: PackedStep,
    sizes: [u16; 2 * LANES],
}

impl Item {
    fn new(offset: u32, step: PackedStep) -> Self {
        let mut sizes = [0; 2 * LANES];
        for (size, pair) in sizes.iter_mut().zip(step.0.chunks_exact(2)) {
            *size = u16::from(pair[0].unsigned_abs()) + u16::from(pair[1].unsigned_abs());
        }
        Self { offset, step, sizes }
    }
}

/// Splits a step that could leave 16 bits in two that cannot and add up to it. The second is mostly zero.
fn split(step: &PackedStep) -> (PackedStep, Option<PackedStep>) {
    let (mut kept, mut rest) = (*step, PackedStep([0; 4 * LANES]));
    let mut any = false;
    for (pair, rest) in kept.0.chunks_exact_mut(2).zip(rest.0.chunks_exact_mut(2)) {
        for negative in [false, true] {
            let part = |w: i8| if (w < 0) == negative { i16::from(w) } else { 0 };
            let sum: i16 = pair.iter().map(|&w| part(w)).sum();
            let excess = sum.abs() - ROOM;
            if excess > 0 {
                // Both have the sign, and at least half of the sum is in the larger: more than the excess, at most 128.
                let i = usize::from(part(pair[1]).abs() > part(pair[0]).abs());
                rest[i] = (excess * sum.signum()) as i8;
                pair[i] -= rest[i];
                any = true;
            }
        }
    }
    (kept, any.then_some(rest))
}

/// Steps in groups whose sums fit 16 bits.
fn group(steps: impl Iterator<Item = (u32, PackedStep)>) -> Vec<Vec<Item>> {
    let mut full: Vec<Vec<Item>> = Vec::new();
    let mut open: Vec<(Vec<Item>, [u16; 2 * LANES])> = Vec::new();
    for (offset, step) in steps {
        let (kept, rest) = split(&step);
        for step in std::iter::once(kept).chain(rest) {
            let item = Item::new(offset, step);
            let fits = |sizes: &[u16; 2 * LANES]| sizes.iter().zip(&item.sizes).fold(true, |fits, (a, b)| fits & (a + b <= RANGE));
            if let Some(at) = open.iter().position(|(_, sizes)| fits(sizes)) {
                open[at].1.iter_mut().zip(&item.sizes).for_each(|(a, b)| *a += b);
                open[at].0.push(item);
                if open[at].0.len() == GROUPS[0] {
                    full.push(open.remove(at).0);
                }
            } else {
                if open.len() == OPEN {
                    full.push(open.remove(0).0);
                }
                let sizes = item.sizes;
                open.push((vec![item], sizes));
            }
        }
    }
    full.extend(open.into_iter().map(|(items, _)| items));
    full
}

/// What the 16-bit sums of a group start from: its least sum is then −2^15.
fn starts(items: &[Item]) -> [i16; 2 * LANES] {
    std::array::from_fn(|lane| {
        let weights = items.iter().flat_map(|item| &item.step.0[lane * 2..][..2]);
        let negative: i32 = weights.map(|&w| i32::from(w.min(0))).sum();
        i16::try_from(-255 * negative - (1 << 15)).expect("magnitudes that add up to at most 257")
    })
}
