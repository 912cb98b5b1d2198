//! All that was seen.

use super::{Definition, Observer, Sample};
use crate::quantize::affine::{Grid, Range};
use std::any::Any;

pub const MINMAX: Definition = Definition {
    name: "minmax",
    summary: "From the smallest to the largest value seen; nothing is clipped",
    numbers: &[],
    make: |_| Box::new(MinMax(Range::EMPTY)),
};

#[derive(Debug)]
struct MinMax(Range);

impl Observer for MinMax {
    fn observe(&mut self, sample: Sample<'_>) {
        self.0 = self.0.join(sample.range);
    }
    fn merge(&mut self, other: &dyn Observer) {
        if let Some(Self(range)) = (other as &dyn Any).downcast_ref() {
            self.0 = self.0.join(*range);
        }
    }
    fn range(&self, _: Grid) -> Range {
        self.0
    }
}
