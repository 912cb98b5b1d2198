//! Distances of a box's sides from its cell's centre (left, top, right, bottom; in cells), their losses and gradients.
//!
//! A head gives each distance as logits of a distribution over 0 to `bins − 1`, whose mean it is (Li et al. 2020, "Generalized
//! Focal Loss"), or, with one bin, as the plain number (YOLO26).

use super::assign::Level;
use super::geometry::{Dual, Number, complete_iou};
use crate::data::BBox;

/// One image's raw box values of one level.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    /// `[4 · bins, cells]`.
    pub values: &'a [f32],
    pub level: &'a Level,
    pub bins: usize,
}

/// How much the two losses of a box weigh in the gradient.
#[derive(Clone, Copy)]
pub(super) struct BoxGains {
    pub overlap: f64,
    pub distance: f64,
}

/// The losses of one box, undivided and without gains, and the gradient of both with gains.
pub(super) struct BoxLoss {
    /// One less the complete IoU.
    pub overlap: f64,
    /// Mean over the sides of the distribution focal loss or, of plain distances, of the absolute difference.
    pub distance: f64,
    /// With respect to the cell's `4 · bins` values.
    pub gradient: Vec<f32>,
}

impl Sides<'_> {
    fn bins(&self, place: usize, side: usize) -> Vec<f32> {
        let cells = self.level.height * self.level.width;
        (0..self.bins).map(|k| self.values[(side * self.bins + k) * cells + place]).collect()
    }

    /// Left, top, right, bottom of the box of a cell, in pixels.
    pub fn corners(&self, place: usize) -> [f32; 4] {
        let (x, y) = self.level.centre(place);
        let d: [f32; 4] = std::array::from_fn(|side| {
            let values = self.bins(place, side);
            if self.bins == 1 { values[0] } else { mean(&softmax(&values).0) }
        });
        [x - d[0], y - d[1], x + d[2], y + d[3]].map(|v| v * self.level.stride)
    }

    /// The losses of the box of a cell that answers for an object, times `weight`.
    pub fn loss(&self, place: usize, truth: &BBox, weight: f32, gains: BoxGains) -> BoxLoss {
        let (x, y) = self.level.centre(place);
        let truth = [truth.x1, truth.y1, truth.x2, truth.y2].map(|v| v / self.level.stride);
        let wished = [x - truth[0], y - truth[1], truth[2] - x, truth[3] - y];
        let sides: [Side; 4] = std::array::from_fn(|side| Side::of(self.bins(place, side)));
        let d: [Dual; 4] = std::array::from_fn(|side| Dual::variable(sides[side].distance, side));
        let (x, y) = (Dual::of(x), Dual::of(y));
        let overlap = complete_iou([x - d[0], y - d[1], x + d[2], y + d[3]], truth.map(Dual::of));
        let w = f64::from(weight);
        let mut distance = 0.0;
        let mut gradient = Vec::with_capacity(4 * self.bins);
        for ((side, wish), slope) in sides.iter().zip(wished).zip(overlap.slope) {
            distance += side.gradient(wish, -slope * w * gains.overlap, w / 4.0, gains.distance, &mut gradient);
        }
        BoxLoss { overlap: (1.0 - overlap.value) * w, distance, gradient }
    }
}

/// One distance.
struct Side {
    /// Logits; the number itself where it is plain.
    values: Vec<f32>,
    /// Softmax of the logits, and the logarithm of the sum of their exponentials; `None` where the number is plain.
    spread: Option<(Vec<f32>, f32)>,
    distance: f32,
}

impl Side {
    fn of(values: Vec<f32>) -> Self {
        if values.len() == 1 {
            return Self { distance: values[0], values, spread: None };
        }
        let spread = softmax(&values);
        Self { distance: mean(&spread.0), values, spread: Some(spread) }
    }

    /// Adds the gradient with respect to the values: `slope` is that of the overlap by the distance. Returns the loss of the
    /// distance against `wish`, times `share`.
    fn gradient(&self, wish: f32, slope: f64, share: f64, gain: f64, out: &mut Vec<f32>) -> f64 {
        let Some((p, log_sum)) = &self.spread else {
            let off = f64::from(self.distance - wish);
            let sign = if off == 0.0 { 0.0 } else { off.signum() };
            out.push((slope + sign * share * gain) as f32);
            return off.abs() * share;
        };
        let wish = wish.clamp(0.0, (p.len() - 1) as f32 - 0.01);
        let left = wish as usize;
        let near = f64::from(left as f32 + 1.0 - wish);
        let log_p = |k: usize| f64::from(self.values[k] - log_sum);
        for (k, &p) in p.iter().enumerate() {
            let hit = if k == left {
                near
            } else if k == left + 1 {
                1.0 - near
            } else {
                0.0
            };
            let p = f64::from(p);
            let of_box = slope * p * (k as f64 - f64::from(self.distance));
            out.push((of_box + (p - hit) * share * gain) as f32);
        }
        -(near * log_p(left) + (1.0 - near) * log_p(left + 1)) * share
    }
}

/// The mean of a distribution over 0, 1, 2, ….
fn mean(p: &[f32]) -> f32 {
    p.iter().enumerate().map(|(k, p)| k as f32 * p).sum()
}

/// Softmax, and the logarithm of the sum of exponentials.
fn softmax(logits: &[f32]) -> (Vec<f32>, f32) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut p: Vec<f32> = logits.iter().map(|v| (v - max).exp()).collect();
    let sum: f32 = p.iter().sum();
    p.iter_mut().for_each(|v| *v /= sum);
    (p, max + sum.ln())
}
