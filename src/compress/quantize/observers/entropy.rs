//! The threshold at which the rounded distribution tells most about the true one (least Kullback-Leibler divergence).
//!
//! Migacz 2017, "8-bit Inference with TensorRT". Magnitudes are counted; a candidate threshold `i` bins wide compares
//!
//! - P: the first `i` bins, with all that lies beyond added to the last of them;
//! - Q: the first `i` bins without that, rounded to the grid: the counts of the bins of one step are shared out evenly over
//!   those among them that are not empty.
//!
//! Zeros are left out: every grid holds zero exactly, and after a Relu they would outweigh all else.
//!
//! Thresholds that leave out more than one value in a thousand are no candidates, which the paper does not say. The divergence counts how often values
//! are, not how large: a spike, such as the grey border of letterboxed images makes in the first layers, is spread over the bins of its step at any
//! threshold but one that ends at it. So the first layer of YOLOv8n was cut at a tenth of its range, with 7 % of its values beyond.

use super::{Definition, Histogram, Observer, Sample};
use crate::quantize::affine::{Grid, Range};
use std::any::Any;

pub const ENTROPY: Definition = Definition {
    name: "entropy",
    summary: "The clipping threshold with the least Kullback-Leibler divergence, as TensorRT's calibrator chooses it, among those that leave out no more than one value in a thousand",
    numbers: &[],
    make: |_| Box::new(Entropy(Histogram::default())),
};

#[derive(Debug)]
struct Entropy(Histogram);

impl Observer for Entropy {
    fn observe(&mut self, sample: Sample<'_>) {
        self.0.add(sample.values, sample.range);
    }
    fn merge(&mut self, other: &dyn Observer) {
        if let Some(Self(histogram)) = (other as &dyn Any).downcast_ref() {
            self.0.merge(histogram);
        }
    }
    fn histogram(&self) -> Option<&Histogram> {
        Some(&self.0)
    }
    fn range(&self, grid: Grid) -> Range {
        range(&self.0, grid)
    }
}

/// The values up to the best threshold on either side of zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "steps of an 8-bit grid; a multiple of a bin; counts"
)]
pub(super) fn range(histogram: &Histogram, grid: Grid) -> Range {
    let seen = histogram.range();
    let cut = |bins: usize| {
        let limit = bins as f64 * histogram.width();
        Range { min: seen.min.max(-limit as f32), max: seen.max.min(limit as f32) }
    };
    // Steps of the grid between zero and the threshold.
    let steps = |bins: usize| {
        let range = cut(bins);
        let (low, high) = (f64::from(range.min.min(0.0)), f64::from(range.max.max(0.0)));
        let width = if grid.symmetric { 2.0 * high.max(-low) } else { high - low };
        (f64::from(grid.high - grid.low) * high.max(-low) / width).ceil().max(1.0) as usize
    };
    let counts = histogram.magnitudes();
    // Values up to each threshold.
    let within: Vec<u64> = counts.iter().scan(0, |sum, n| (*sum += n, Some(*sum)).1).collect();
    let least = (1.0 - BEYOND) * within.last().copied().unwrap_or(0) as f64;
    match threshold(&counts, |bins| within[bins - 1] as f64 >= least, steps) {
        Some(bins) => cut(bins),
        None => seen,
    }
}

/// Most values, of those that are not zero, that a threshold may leave out: one in a thousand.
const BEYOND: f64 = 0.001;

/// The number of bins up to the best threshold of those `allowed`; `None` when there are fewer bins than steps. `steps` says how many steps of
/// the grid a threshold of so many bins has.
pub(super) fn threshold(counts: &[u64], allowed: impl Fn(usize) -> bool, steps: impl Fn(usize) -> usize) -> Option<usize> {
    let sums = Sums::new(counts);
    let candidates = (1..=counts.len()).filter(|&i| allowed(i)).map(|i| (i, steps(i))).filter(|&(i, steps)| i >= steps);
    let costs = candidates.map(|(i, steps)| (i, sums.divergence(i, steps)));
    costs.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

/// Sums over the bins before each, so that a candidate costs as much as the grid has steps.
pub(super) struct Sums {
    counts: Vec<f64>,
    /// Of counts, of bins that are not empty, of `n ln n`.
    before: Vec<[f64; 3]>,
}

impl Sums {
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub fn new(counts: &[u64]) -> Self {
        let counts: Vec<f64> = counts.iter().map(|&n| n as f64).collect();
        let mut before = vec![[0.0; 3]];
        let mut at = [0.0; 3];
        for &n in &counts {
            at = [at[0] + n, at[1] + f64::from(u8::from(n > 0.0)), at[2] + entropy(n)];
            before.push(at);
        }
        Self { counts, before }
    }

    /// Σ P ln(P / Q) over the first `bins`; infinite where Q is zero and P is not.
    pub fn divergence(&self, bins: usize, steps: usize) -> f64 {
        let total = self.before[self.counts.len()][0];
        let [inside, _, entropies] = self.before[bins];
        let (beyond, last) = (total - inside, self.counts[bins - 1]);
        if inside == 0.0 || beyond > 0.0 && last == 0.0 {
            return f64::INFINITY;
        }
        let p = (entropies - entropy(last) + entropy(last + beyond)) / total - total.ln();
        let mut q = 0.0;
        for step in 0..steps {
            let (from, to) = ((step * bins).div_ceil(steps), ((step + 1) * bins).div_ceil(steps));
            let n = self.before[to][0] - self.before[from][0];
            if n > 0.0 {
                let share = (n / (self.before[to][1] - self.before[from][1]) / inside).ln();
                q += n * share;
                if to == bins {
                    q += beyond * share;
                }
            }
        }
        p - q / total
    }
}

fn entropy(n: f64) -> f64 {
    if n > 0.0 { n * n.ln() } else { 0.0 }
}
