//! The range with the least mean squared rounding error on the grid that is used.
//!
//! Nagel et al. 2021, "A White Paper on Neural Network Quantization", 3.1. Both ends are searched, each from the extreme down
//! to a 256th of it in steps of 2^(1/8); a grid around zero has one end. What a candidate costs, clipping included, is
//! summed over the histogram cell by cell of the grid.

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
    fn range(&self, grid: Grid) -> Range {
        let seen = self.0.range();
        if seen.magnitude() == 0.0 || seen.is_empty() {
            return seen;
        }
        let moments = self.0.moments();
        let ends =
            |extreme: f32| (0..if extreme == 0.0 { 1 } else { CANDIDATES }).map(move |k| extreme * (-f64::from(k) / 8.0).exp2() as f32);
        let candidates: Vec<Range> = if grid.symmetric {
            ends(seen.magnitude()).map(|m| Range { min: seen.min.max(-m), max: seen.max.min(m) }).collect()
        } else {
            ends(seen.min.min(0.0)).flat_map(|min| ends(seen.max.max(0.0)).map(move |max| Range { min, max })).collect()
        };
        let costs = candidates.into_iter().map(|range| (error(&moments, Affine::fit(range, grid), grid), range));
        costs.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(seen, |(_, range)| range)
    }
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
