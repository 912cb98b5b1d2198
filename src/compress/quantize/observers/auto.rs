//! The observer of which several others' ranges can be had, to choose from by measured error.

use super::{Definition, Histogram, Observer, Sample, entropy, mse, percentile};
use crate::quantize::affine::{Grid, Range};
use std::any::Any;

pub const AUTO: Definition = Definition {
    name: "auto",
    summary: "For each activation the range of minmax, percentile, entropy or mse that costs the model's outputs least, as measured",
    numbers: &[],
    make: |_| Box::new(Auto(Histogram::default())),
};

/// Percentages that are tried.
const INSIDE: [f64; 2] = [99.99, 99.9];

#[derive(Debug)]
struct Auto(Histogram);

impl Observer for Auto {
    fn observe(&mut self, sample: Sample<'_>) {
        self.0.add(sample.values, sample.range);
    }
    fn merge(&mut self, other: &dyn Observer) {
        if let Some(Self(histogram)) = (other as &dyn Any).downcast_ref() {
            self.0.merge(histogram);
        }
    }
    /// Where nothing is measured, the one with the least squared error.
    fn range(&self, grid: Grid) -> Range {
        mse::range(&self.0, grid)
    }
    fn candidates(&self, grid: Grid) -> Vec<(&'static str, Range)> {
        let mut found = vec![("minmax", self.0.range()), ("mse", mse::range(&self.0, grid)), ("entropy", entropy::range(&self.0, grid))];
        found.extend(INSIDE.map(|inside| ("percentile", percentile::range(&self.0, inside))));
        found
    }
    fn histogram(&self) -> Option<&Histogram> {
        Some(&self.0)
    }
}
