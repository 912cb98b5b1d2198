//! Some standard deviations around the mean, within what was seen.

use super::{Definition, Number, Observer, Sample};
use crate::quantize::affine::{Grid, Range};
use std::any::Any;

pub const THREE_SIGMA: Definition = Definition {
    name: "three_sigma",
    summary: "Standard deviations around the mean",
    numbers: &[Number { name: "deviations", doc: "Standard deviations on either side.", default: 3.0, bounds: (0.5, 20.0) }],
    make: |numbers| Box::new(ThreeSigma { deviations: numbers[0], count: 0.0, sum: 0.0, squares: 0.0, seen: Range::EMPTY }),
};

#[derive(Debug)]
struct ThreeSigma {
    deviations: f64,
    count: f64,
    sum: f64,
    squares: f64,
    seen: Range,
}

impl Observer for ThreeSigma {
    fn observe(&mut self, sample: Sample<'_>) {
        for v in sample.values.iter().map(|&v| f64::from(v)) {
            (self.count, self.sum, self.squares) = (self.count + 1.0, self.sum + v, self.squares + v * v);
        }
        self.seen = self.seen.join(sample.range);
    }
    fn merge(&mut self, other: &dyn Observer) {
        let Some(other) = (other as &dyn Any).downcast_ref::<Self>() else { return };
        (self.count, self.sum, self.squares) = (self.count + other.count, self.sum + other.sum, self.squares + other.squares);
        self.seen = self.seen.join(other.seen);
    }
    #[expect(clippy::cast_possible_truncation, reason = "within the range of float32 values")]
    fn range(&self, _: Grid) -> Range {
        let mean = self.sum / self.count.max(1.0);
        let reach = self.deviations * (self.squares / self.count.max(1.0) - mean * mean).max(0.0).sqrt();
        Range { min: self.seen.min.max((mean - reach) as f32), max: self.seen.max.min((mean + reach) as f32) }
    }
}

#[test]
fn it_is_three_deviations_around_the_mean() {
    let observe = super::Observe::of(&THREE_SIGMA);
    let mut observer = observe.observer();
    let mut values = [-1.0, 1.0].repeat(5000);
    values.push(100.0);
    observer.observe(Sample { values: &values, range: Range { min: -1.0, max: 100.0 } });
    let range = observer.range(Grid::INT8);
    // The deviation is the root of 1 + 100² / 10 001.
    assert!(range.min == -1.0 && (range.max - 4.25).abs() < 0.01, "{range:?}");
}
