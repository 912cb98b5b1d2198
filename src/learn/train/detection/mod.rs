//! The loss of YOLOv8 detectors.
//!
//! Class logits: binary cross entropy against task-aligned scores (Feng et al. 2021). Boxes of the assigned cells:
//! complete IoU (Zheng et al. 2020), and distribution focal loss of each side's distance (Li et al. 2020, "Generalized
//! Focal Loss"). All three are sums divided by the sum of the scores of the whole batch. Loss and gradient are computed
//! together on plain slices, image by image.

mod anchors;
mod assign;
mod geometry;
#[cfg(test)]
mod tests;

pub use anchors::AnchorLoss;
pub use assign::{Assigned, Assigner, Grid, Level};
pub use geometry::{Dual, Number, complete_iou};

use super::loss::{Loss, attach};
use crate::data::GroundTruth;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_model::DetectHead;
use rayon::prelude::*;

/// The loss of a YOLOv8 detector from the raw values of its head.
#[derive(Debug, Clone)]
pub struct DetectionLoss {
    pub head: DetectHead,
    pub classes: usize,
    pub assigner: Assigner,
    pub box_gain: f64,
    pub class_gain: f64,
    /// Gain of the distribution focal loss.
    pub dfl_gain: f64,
}

/// One level's raw values and their gradients, `[batch, channels, height · width]`.
struct LevelData {
    boxes: Vec<f32>,
    scores: Vec<f32>,
}

/// Sums over one image, undivided.
#[derive(Clone, Copy, Default)]
struct Sums {
    boxes: f64,
    classes: f64,
    dfl: f64,
}

impl DetectionLoss {
    /// With the usual gains: box 7.5, class 0.5, distribution 1.5.
    ///
    /// # Errors
    /// `Unsupported` for a head without box distributions.
    pub fn new(head: DetectHead, classes: usize) -> Result<Self> {
        if head.reg_max < 2 {
            return Err(Error::unsupported(format!("training needs box distributions of at least 2 bins, this head has {}", head.reg_max)));
        }
        let levels = head.strides.len();
        if head.boxes.len() != levels || head.scores.len() != levels || levels == 0 {
            return Err(Error::format(format!(
                "the head has {} box values, {} score values and {levels} strides",
                head.boxes.len(),
                head.scores.len()
            )));
        }
        Ok(Self { head, classes, assigner: Assigner::default(), box_gain: 7.5, class_gain: 0.5, dfl_gain: 1.5 })
    }

    /// The loss of a batch; its total is the sum of the parts times the number of images.
    ///
    /// # Shapes
    /// Per level: `boxes` `[batch, 4 * reg_max, height, width]`, `scores` `[batch, classes, height, width]`; `targets` per
    /// image, in input pixels.
    ///
    /// # Errors
    /// `Shape` when these do not fit; `Argument` for classes out of range.
    pub fn forward(&self, boxes: &[Tensor], scores: &[Tensor], targets: &[Vec<GroundTruth>]) -> Result<Loss> {
        let (grid, batch) = self.check(boxes, scores, targets)?;
        let read = |(b, s): (&Tensor, &Tensor)| -> Result<LevelData> {
            Ok(LevelData { boxes: b.flatten_all()?.to_vec1()?, scores: s.flatten_all()?.to_vec1()? })
        };
        let mut data = boxes.iter().zip(scores).map(read).collect::<Result<Vec<_>>>()?;
        let images: Vec<Vec<LevelImage<'_>>> = self.images(&mut data, batch);
        let work = |(mut levels, targets): (Vec<LevelImage<'_>>, &Vec<GroundTruth>)| {
            let view = ImageView { loss: self, grid: &grid };
            let assigned = view.assign(&levels, targets);
            let total: f64 = assigned.iter().map(|a| f64::from(a.score)).sum();
            let sums = view.losses(&mut levels, targets, &assigned);
            (total, sums)
        };
        let found: Vec<(f64, Sums)> = images.into_par_iter().zip(targets).map(work).collect();
        let normaliser = found.iter().map(|f| f.0).sum::<f64>().max(1.0);
        let part = |gain: f64, pick: fn(&Sums) -> f64| gain * found.iter().map(|f| pick(&f.1)).sum::<f64>() / normaliser;
        let parts = vec![
            ("box", part(self.box_gain, |s| s.boxes)),
            ("cls", part(self.class_gain, |s| s.classes)),
            ("dfl", part(self.dfl_gain, |s| s.dfl)),
        ];
        let factor = (batch as f64 / normaliser) as f32;
        let value: f64 = parts.iter().map(|p| p.1).sum::<f64>() * batch as f64;
        let mut total: Option<Tensor> = None;
        for ((data, b), s) in data.into_iter().zip(boxes).zip(scores) {
            for (x, mut gradient) in [(b, data.boxes), (s, data.scores)] {
                gradient.iter_mut().for_each(|g| *g *= factor);
                // The first term carries the value.
                let term = attach(x, if total.is_none() { value } else { 0.0 }, gradient)?;
                total = Some(match total {
                    Some(t) => (t + term)?,
                    None => term,
                });
            }
        }
        let total = total.ok_or_else(|| Error::internal("a head without levels"))?;
        Ok(Loss { total, parts })
    }

    fn check(&self, boxes: &[Tensor], scores: &[Tensor], targets: &[Vec<GroundTruth>]) -> Result<(Grid, usize)> {
        if boxes.len() != self.head.strides.len() || scores.len() != boxes.len() {
            return Err(Error::shape(format!("expected {} levels, got {} and {}", self.head.strides.len(), boxes.len(), scores.len())));
        }
        let mut levels = Vec::new();
        for ((b, s), &stride) in boxes.iter().zip(scores).zip(&self.head.strides) {
            let &[n, channels, height, width] = b.dims() else {
                return Err(Error::shape(format!("expected box values [batch, channels, height, width], got {:?}", b.dims())));
            };
            if channels != 4 * self.head.reg_max || s.dims() != [n, self.classes, height, width] || n != targets.len() {
                let e = Error::shape(format!(
                    "box values {:?} and score values {:?} do not fit {} images, {} bins and {} classes",
                    b.dims(),
                    s.dims(),
                    targets.len(),
                    self.head.reg_max,
                    self.classes
                ));
                return Err(e);
            }
            levels.push((height, width, stride));
        }
        if let Some(t) = targets.iter().flatten().find(|t| t.class >= self.classes) {
            let e = Error::argument(format!("an object has class {}, the model has {} classes", t.class, self.classes));
            return Err(e.hint("build the model with as many classes as the dataset"));
        }
        Ok((Grid::new(levels), targets.len()))
    }

    /// Splits the values of all levels by image.
    fn images<'a>(&self, data: &'a mut [LevelData], batch: usize) -> Vec<Vec<LevelImage<'a>>> {
        let mut images: Vec<Vec<LevelImage<'_>>> = (0..batch).map(|_| Vec::new()).collect();
        for level in data {
            let (b, s) = (level.boxes.len() / batch.max(1), level.scores.len() / batch.max(1));
            let parts = level.boxes.chunks_mut(b.max(1)).zip(level.scores.chunks_mut(s.max(1)));
            for (image, (boxes, scores)) in images.iter_mut().zip(parts) {
                image.push(LevelImage { boxes, scores });
            }
        }
        images
    }
}

/// One image's values of one level, `[channels, cells]`; overwritten by their gradients.
struct LevelImage<'a> {
    boxes: &'a mut [f32],
    scores: &'a mut [f32],
}

struct ImageView<'a> {
    loss: &'a DetectionLoss,
    grid: &'a Grid,
}

impl ImageView<'_> {
    fn assign(&self, levels: &[LevelImage<'_>], targets: &[GroundTruth]) -> Vec<Assigned> {
        let mut decoded: Vec<Option<[f32; 4]>> = vec![None; self.grid.len()];
        let probability = |cell: usize, class: usize| {
            let (l, place) = self.grid.locate(cell);
            let level = &self.grid.levels[l];
            let x = levels[l].scores[class * level.height * level.width + place];
            1.0 / (1.0 + (-x).exp())
        };
        let bbox = |cell: usize| {
            *decoded[cell].get_or_insert_with(|| {
                let (l, place) = self.grid.locate(cell);
                let level = &self.grid.levels[l];
                let (x, y) = level.centre(place);
                let d: [f32; 4] = std::array::from_fn(|side| {
                    let bins = self.bins(levels[l].boxes, level, place, side);
                    let (p, _) = softmax(&bins);
                    p.iter().enumerate().map(|(k, p)| k as f32 * p).sum()
                });
                [x - d[0], y - d[1], x + d[2], y + d[3]].map(|v| v * level.stride)
            })
        };
        self.loss.assigner.assign(self.grid, targets, probability, bbox)
    }

    /// Logits of the distances of one side of one cell.
    fn bins(&self, boxes: &[f32], level: &Level, place: usize, side: usize) -> Vec<f32> {
        let (cells, n) = (level.height * level.width, self.loss.head.reg_max);
        (0..n).map(|k| boxes[(side * n + k) * cells + place]).collect()
    }

    /// The image's losses; the values become their gradients, both undivided.
    fn losses(&self, levels: &mut [LevelImage<'_>], targets: &[GroundTruth], assigned: &[Assigned]) -> Sums {
        let mut sums = Sums::default();
        let gain = self.loss.class_gain as f32;
        // What the class logits of assigned cells are, before they become gradients.
        let logits: Vec<f32> = assigned.iter().map(|a| levels[self.grid.locate(a.cell).0].scores[self.class_index(a, targets)]).collect();
        for level in levels.iter_mut() {
            for x in level.scores.iter_mut() {
                let e = (-x.abs()).exp();
                sums.classes += f64::from(x.max(0.0) + e.ln_1p());
                *x = gain * if *x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
            }
        }
        let mut box_gradients = Vec::with_capacity(assigned.len());
        for (a, logit) in assigned.iter().zip(logits) {
            let (l, place) = self.grid.locate(a.cell);
            sums.classes -= f64::from(a.score * logit);
            levels[l].scores[self.class_index(a, targets)] -= gain * a.score;
            let (box_loss, dfl_loss, gradient) = self.box_losses(levels[l].boxes, &self.grid.levels[l], place, &targets[a.target], a.score);
            sums.boxes += box_loss;
            sums.dfl += dfl_loss;
            box_gradients.push((l, place, gradient));
        }
        levels.iter_mut().for_each(|l| l.boxes.fill(0.0));
        for (l, place, gradient) in box_gradients {
            let cells = self.grid.levels[l].height * self.grid.levels[l].width;
            for (channel, g) in gradient.into_iter().enumerate() {
                levels[l].boxes[channel * cells + place] = g;
            }
        }
        sums
    }

    fn class_index(&self, a: &Assigned, targets: &[GroundTruth]) -> usize {
        let (l, place) = self.grid.locate(a.cell);
        let level = &self.grid.levels[l];
        targets[a.target].class * level.height * level.width + place
    }

    /// Box loss, distribution loss, and the gradient with respect to the cell's `4 * reg_max` logits.
    fn box_losses(&self, boxes: &[f32], level: &Level, place: usize, target: &GroundTruth, weight: f32) -> (f64, f64, Vec<f32>) {
        let n = self.loss.head.reg_max;
        let (x, y) = level.centre(place);
        let t = &target.bbox;
        let truth = [t.x1, t.y1, t.x2, t.y2].map(|v| v / level.stride);
        let sides: [(Vec<f32>, f32); 4] = std::array::from_fn(|side| softmax(&self.bins(boxes, level, place, side)));
        let distance: [f32; 4] = std::array::from_fn(|side| sides[side].0.iter().enumerate().map(|(k, p)| k as f32 * p).sum());
        let d: [Dual; 4] = std::array::from_fn(|side| Dual::variable(distance[side], side));
        let (x_, y_) = (Dual::of(x), Dual::of(y));
        let overlap = complete_iou([x_ - d[0], y_ - d[1], x_ + d[2], y_ + d[3]], truth.map(Dual::of));
        let w = f64::from(weight);
        let wished = [x - truth[0], y - truth[1], truth[2] - x, truth[3] - y];
        let mut dfl = 0.0;
        let mut gradient = Vec::with_capacity(4 * n);
        for side in 0..4 {
            let (p, log_sum) = &sides[side];
            let wish = wished[side].clamp(0.0, (n - 1) as f32 - 0.01);
            let left = wish as usize;
            let share = f64::from(left as f32 + 1.0 - wish);
            let log_p = |k: usize| f64::from(boxes[(side * n + k) * level.height * level.width + place] - log_sum);
            dfl -= (share * log_p(left) + (1.0 - share) * log_p(left + 1)) * w / 4.0;
            let slope = -overlap.slope[side] * w * self.loss.box_gain;
            for (k, &p) in p.iter().enumerate() {
                let hit = if k == left {
                    share
                } else if k == left + 1 {
                    1.0 - share
                } else {
                    0.0
                };
                let p = f64::from(p);
                let of_box = slope * p * (k as f64 - f64::from(distance[side]));
                let of_dfl = (p - hit) * w / 4.0 * self.loss.dfl_gain;
                gradient.push((of_box + of_dfl) as f32);
            }
        }
        ((1.0 - overlap.value) * w, dfl, gradient)
    }
}

/// Softmax, and the logarithm of the sum of exponentials.
fn softmax(logits: &[f32]) -> (Vec<f32>, f32) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut p: Vec<f32> = logits.iter().map(|v| (v - max).exp()).collect();
    let sum: f32 = p.iter().sum();
    p.iter_mut().for_each(|v| *v /= sum);
    (p, max + sum.ln())
}
