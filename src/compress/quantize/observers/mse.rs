//! The range with the least mean squared rounding error on the grid that is used.
//!
//! Nagel et al. 2021, "A White Paper on Neural Network Quantization", 3.1. Both ends are searched, each from the extreme down
//! to a 256th of it in steps of 2^(1/8), and then between the neighbours of the best by golden section; a grid around zero has
//! one end. What a candidate costs, clipping included, is summed over the histogram cell by cell of the grid.

use super::{Definition, Histogram, Moments, Observer, Sample};
use crate::quantize::affine::{Affine, Grid, Range};
use std::any::Any;

pub const MSE: Definition = Definition {
    name: "mse",
    summary: "The range with the least mean squared rounding and clipping error",
    numbers: &[],
    make: |_| Box::new(Mse(Histogram::default())),
};

/// Candidates of one end.
const CANDIDATES: i32 = 64;
/// Octaves between them.
const STEP: f64 = 0.125;

#[derive(Debug)]
struct Mse(Histogram);

impl Observer for Mse {
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

/// The range with the least squared error.
pub(super) fn range(histogram: &Histogram, grid: Grid) -> Range {
    let seen = histogram.range();
    if seen.magnitude() == 0.0 || seen.is_empty() {
        return seen;
    }
    let moments = histogram.moments();
    // Ends are named by how many octaves they lie inside of the extremes.
    let at = |octaves: [f64; 2]| {
        let [low, high] = octaves.map(|k| (-k).exp2());
        let end = |extreme: f32, share: f64| (f64::from(extreme) * share) as f32;
        if grid.symmetric {
            let m = end(seen.magnitude(), high);
            return Range { min: seen.min.clamp(-m, m), max: seen.max.clamp(-m, m) };
        }
        Range { min: end(seen.min.min(0.0), low), max: end(seen.max.max(0.0), high) }
    };
    let cost = |octaves| error(&moments, Affine::fit(at(octaves), grid), grid);
    let places = |free: bool| (0..if free { CANDIDATES } else { 1 }).map(|k| f64::from(k) * STEP);
    let low_free = !grid.symmetric && seen.min < 0.0;
    let high_free = grid.symmetric || seen.max > 0.0;
    let all = places(low_free).flat_map(|low| places(high_free).map(move |high| [low, high]));
    let best = all.map(|octaves| (cost(octaves), octaves)).min_by(|a, b| a.0.total_cmp(&b.0));
    let Some((mut least, mut best)) = best else { return seen };
    // Between the neighbours of the best candidate, one end after the other.
    for end in [1, 0, 1].into_iter().filter(|&end| [low_free, high_free][end]) {
        let moved = |k: f64| if end == 0 { [k, best[1]] } else { [best[0], k] };
        let span = [(best[end] - STEP).max(0.0), best[end] + STEP];
        let (place, found) = golden_section(span, |k| cost(moved(k)));
        if found < least {
            (least, best) = (found, moved(place));
        }
    }
    at(best)
}

/// The place of a least value of `f` between two numbers, and the value (Kiefer 1953), where `f` falls and then rises.
fn golden_section([mut low, mut high]: [f64; 2], f: impl Fn(f64) -> f64) -> (f64, f64) {
    const RATIO: f64 = 0.618_033_988_749_894_8;
    let (mut a, mut b) = (high - RATIO * (high - low), low + RATIO * (high - low));
    let (mut at_a, mut at_b) = (f(a), f(b));
    for _ in 0..12 {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - RATIO * (high - low);
            at_a = f(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + RATIO * (high - low);
            at_b = f(b);
        }
    }
    if at_a <= at_b { (a, at_a) } else { (b, at_b) }
}

/// Sum of the squared errors of all values other than zero.
fn error(moments: &Moments, affine: Affine, grid: Grid) -> f64 {
    let scale = f64::from(affine.scale);
    let mut below = [0.0; 3];
    let mut sum = 0.0;
    for q in grid.low..=grid.high {
        let value = f64::from(q - affine.zero_point) * scale;
        let upto = if q == grid.high { moments.all() } else { moments.below(value + scale / 2.0) };
        let [n, first, second] = std::array::from_fn(|k| upto[k] - below[k]);
        sum += second - 2.0 * value * first + value * value * n;
        below = upto;
    }
    sum
}
