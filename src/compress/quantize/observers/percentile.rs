//! The range that holds all but a share of the values, half of the rest on either side.

use super::{Definition, Histogram, Number, Observer, Sample};
use crate::quantize::affine::{Grid, Range};
use std::any::Any;

pub const PERCENTILE: Definition = Definition {
    name: "percentile",
    summary: "The range that holds this percentage of the values; half of the rest is clipped on either side",
    numbers: &[Number { name: "percentile", doc: "Percentage of the values inside.", default: 99.99, bounds: (50.0, 100.0) }],
    make: |numbers| Box::new(Percentile { inside: numbers[0], histogram: Histogram::default() }),
};

#[derive(Debug)]
struct Percentile {
    inside: f64,
    histogram: Histogram,
}

impl Observer for Percentile {
    fn observe(&mut self, sample: Sample<'_>) {
        self.histogram.add(sample.values, sample.range);
    }
    fn merge(&mut self, other: &dyn Observer) {
        if let Some(other) = (other as &dyn Any).downcast_ref::<Self>() {
            self.histogram.merge(&other.histogram);
        }
    }
    fn histogram(&self) -> Option<&Histogram> {
        Some(&self.histogram)
    }
    fn range(&self, _: Grid) -> Range {
        range(&self.histogram, self.inside)
    }
}

/// The range that holds `inside` per cent. Each end lies at most one bin outside of the order statistic that it stands for.
pub(super) fn range(histogram: &Histogram, inside: f64) -> Range {
    if histogram.range().is_empty() {
        return Range::EMPTY;
    }
    let clipped = clipped(histogram.total(), inside);
    Range { min: histogram.ascending(clipped), max: histogram.descending(clipped) }
}

/// How many values lie outside on either side.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a count below 2^53")]
pub(super) fn clipped(total: u64, inside: f64) -> u64 {
    (total as f64 * (100.0 - inside) / 200.0).floor() as u64
}
