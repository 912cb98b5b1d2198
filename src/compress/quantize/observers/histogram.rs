//! A histogram that grows with what it sees and never forgets how it was cut.
//!
//! Bins are 2^e wide and start at zero, and e is the smallest exponent at which the largest magnitude so far has a bin. When
//! e rises, bins are joined in pairs, which is exact. So the counts are a function of the set of values alone: the order of
//! values, batches and threads does not matter, and histograms merge without loss.

use crate::quantize::affine::Range;
use rayon::prelude::*;

/// Bins on either side of zero. At least half of them lie within the largest magnitude.
const SIDE: usize = 4096;
/// Values that one thread counts.
const SPAN: usize = 1 << 16;

/// Counts of values. Zeros are counted on their own, as every grid holds zero exactly.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// Bin `i` holds the values from `(i - SIDE) · 2^exponent` on. Empty while only zeros were seen.
    counts: Vec<u64>,
    exponent: i32,
    zeros: u64,
    range: Range,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Vec::new(), exponent: 0, zeros: 0, range: Range::EMPTY }
    }
}

impl Histogram {
    /// Counts finite values that lie in `range`.
    pub fn add(&mut self, values: &[f32], range: Range) {
        self.range = self.range.join(range);
        self.hold(range.magnitude());
        if self.counts.is_empty() {
            self.zeros += values.len() as u64;
            return;
        }
        let inverse = 2f64.powi(-self.exponent);
        let count = |mut found: (Vec<u64>, u64), values: &[f32]| {
            for &v in values {
                if v == 0.0 {
                    found.1 += 1;
                } else {
                    found.0[bin(f64::from(v) * inverse)] += 1;
                }
            }
            found
        };
        let none = || (vec![0; 2 * SIDE], 0);
        let sum = |mut a: (Vec<u64>, u64), b: (Vec<u64>, u64)| {
            a.0.iter_mut().zip(b.0).for_each(|(a, b)| *a += b);
            (a.0, a.1 + b.1)
        };
        if values.len() < 2 * SPAN {
            (self.counts, self.zeros) = count((std::mem::take(&mut self.counts), self.zeros), values);
        } else {
            let found = values.par_chunks(SPAN).fold(none, count).reduce(none, sum);
            (self.counts, self.zeros) = sum((std::mem::take(&mut self.counts), self.zeros), found);
        }
    }

    /// Adds what another histogram has counted.
    pub fn merge(&mut self, other: &Self) {
        self.range = self.range.join(other.range);
        self.zeros += other.zeros;
        if other.counts.is_empty() {
            return;
        }
        self.hold(other.range.magnitude());
        let shift = self.exponent - other.exponent;
        for (i, n) in other.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            self.counts[joined(i, shift)] += n;
        }
    }

    /// Makes room for a magnitude.
    fn hold(&mut self, magnitude: f32) {
        if magnitude == 0.0 {
            return;
        }
        let log2 = (f64::from(magnitude).to_bits() >> 52) as i32 - 1023;
        let exponent = log2 + 1 - SIDE.ilog2().cast_signed();
        if self.counts.is_empty() {
            self.counts = vec![0; 2 * SIDE];
            self.exponent = exponent;
        } else if exponent > self.exponent {
            let counts = std::mem::replace(&mut self.counts, vec![0; 2 * SIDE]);
            let shift = exponent - self.exponent;
            counts.into_iter().enumerate().filter(|(_, n)| *n > 0).for_each(|(i, n)| self.counts[joined(i, shift)] += n);
            self.exponent = exponent;
        }
    }

    /// The smallest and largest value.
    pub fn range(&self) -> Range {
        self.range
    }
    /// Number of values.
    pub fn total(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }
    /// Number of zeros.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }
    /// Width of a bin.
    pub fn width(&self) -> f64 {
        2f64.powi(self.exponent)
    }
    /// Counts of the values other than zero by their magnitude: bin `i` begins at `i` widths. The last bin is not empty.
    pub fn magnitudes(&self) -> Vec<u64> {
        if self.counts.is_empty() {
            return Vec::new();
        }
        let (below, above) = self.counts.split_at(SIDE);
        let mut sums: Vec<u64> = above.iter().zip(below.iter().rev()).map(|(a, b)| a + b).collect();
        sums.truncate(sums.iter().rposition(|&n| n > 0).map_or(0, |last| last + 1));
        sums
    }
    /// The value that `before` others lie below, or up to a bin less.
    pub(super) fn ascending(&self, before: u64) -> f32 {
        let mut left = before;
        for (edge, n) in self.edges() {
            if left < n {
                return at_least(edge.0, self.range.min);
            }
            left -= n;
        }
        self.range.max
    }
    /// The value that `after` others lie above, or up to a bin more.
    pub(super) fn descending(&self, after: u64) -> f32 {
        let mut left = after;
        for (edge, n) in self.edges().into_iter().rev() {
            if left < n {
                return -at_least(-edge.1, -self.range.max);
            }
            left -= n;
        }
        self.range.min
    }
    /// From where to where each count reaches; zeros from zero to zero.
    fn edges(&self) -> Vec<((f64, f64), u64)> {
        let width = self.width();
        let (below, above) = self.counts.split_at(self.counts.len() / 2);
        let at = |i: usize| (i as f64) * width;
        let below = below.iter().enumerate().map(|(i, &n)| ((at(i) - at(SIDE), at(i + 1) - at(SIDE)), n));
        let above = above.iter().enumerate().map(|(i, &n)| ((at(i), at(i + 1)), n));
        below.chain([((0.0, 0.0), self.zeros)]).chain(above).collect()
    }
    /// Counts, sums and sums of squares up to any place.
    pub fn moments(&self) -> Moments {
        Moments::new(&self.counts, self.width())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an edge is a multiple of a power of two near float32 values")]
fn at_least(edge: f64, bound: f32) -> f32 {
    (edge as f32).max(bound)
}

/// The bin of a value in widths.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than SIDE in magnitude, by the exponent")]
fn bin(t: f64) -> usize {
    let whole = t as i32;
    (whole - i32::from(t < f64::from(whole)) + SIDE as i32) as usize
}

/// Where bin `i` goes when bins are joined in pairs `shift` times.
fn joined(i: usize, shift: i32) -> usize {
    // Halving rounds down, so that zero stays an edge; beyond 31 times, only the sign is left.
    (((i.cast_signed() - SIDE.cast_signed()) >> shift.min(31)) + SIDE.cast_signed()).cast_unsigned()
}

/// Counts, sums and sums of squares of the values below a place, zeros left out, with the values of a bin spread evenly over it.
#[derive(Debug)]
pub struct Moments {
    width: f64,
    /// At the lower edge of each bin, and at the end: values, their sum, the sum of their squares.
    sums: Vec<[f64; 3]>,
    counts: Vec<f64>,
}

impl Moments {
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    fn new(counts: &[u64], width: f64) -> Self {
        let counts: Vec<f64> = counts.iter().map(|&n| n as f64).collect();
        let mut sums = vec![[0.0; 3]];
        let mut at = [0.0; 3];
        for (i, &n) in counts.iter().enumerate() {
            let low = (i as f64 - SIDE as f64) * width;
            let part = inside(n, low, low + width, width);
            at.iter_mut().zip(part).for_each(|(a, p)| *a += p);
            sums.push(at);
        }
        Self { width, sums, counts }
    }
    /// Of all values.
    pub fn all(&self) -> [f64; 3] {
        self.sums.last().copied().unwrap_or_default()
    }
    /// Of the values below `x`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie among the bins")]
    pub fn below(&self, x: f64) -> [f64; 3] {
        let place = x / self.width + SIDE as f64;
        if place <= 0.0 {
            return [0.0; 3];
        }
        let i = place as usize;
        let Some(&n) = self.counts.get(i) else { return self.all() };
        let low = (i as f64 - SIDE as f64) * self.width;
        let part = inside(n, low, x, self.width);
        std::array::from_fn(|k| self.sums[i][k] + part[k])
    }
}

/// The share of `n` values, spread over a width, that lies from `low` to `high`.
fn inside(n: f64, low: f64, high: f64, width: f64) -> [f64; 3] {
    let n = n * (high - low) / width;
    [n, n * (low + high) / 2.0, n * (low * low + low * high + high * high) / 3.0]
}
