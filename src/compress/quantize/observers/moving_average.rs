//! An exponential average of each batch's extremes, so that one odd image does not decide the scale.
//!
//! Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 3.1.
//! The result depends on the order of the images, which the seed fixes.

use super::{Definition, Number, Observer, Sample};
use crate::quantize::affine::{Grid, Range};
use std::any::Any;

pub const MOVING_AVERAGE: Definition = Definition {
    name: "moving_average",
    summary: "Exponential averages of each batch's smallest and largest value",
    numbers: &[Number { name: "share", doc: "Share of the latest batch in the average.", default: 0.1, bounds: (1e-6, 1.0) }],
    make: |numbers| Box::new(MovingAverage { share: numbers[0], average: None }),
};

#[derive(Debug)]
struct MovingAverage {
    share: f64,
    /// Of the smallest and of the largest values.
    average: Option<(f64, f64)>,
}

impl Observer for MovingAverage {
    fn observe(&mut self, sample: Sample<'_>) {
        let (min, max) = (f64::from(sample.range.min), f64::from(sample.range.max));
        self.average = Some(match self.average {
            Some((low, high)) => (low + self.share * (min - low), high + self.share * (max - high)),
            None => (min, max),
        });
    }
    /// Averages that share a scale are joined.
    fn merge(&mut self, other: &dyn Observer) {
        let Some(other) = (other as &dyn Any).downcast_ref::<Self>() else { return };
        self.average = match (self.average, other.average) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }
    #[expect(clippy::cast_possible_truncation, reason = "an average of float32 values")]
    fn range(&self, _: Grid) -> Range {
        self.average.map_or(Range::EMPTY, |(low, high)| Range { min: low as f32, max: high as f32 })
    }
}
