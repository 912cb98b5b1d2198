//! The loss of anchor-free detectors of the YOLO family.
//!
//! Class logits: binary cross entropy against task-aligned scores (Feng et al. 2021). Boxes of the assigned cells:
//! complete IoU (Zheng et al. 2020), and distribution focal loss of each side's distance (Li et al. 2020, "Generalized
//! Focal Loss") or, where the head gives plain distances, their absolute difference in cells. All three are sums divided by the
//! sum of the scores of the whole batch. Loss and gradient are computed together on plain slices, image by image.

mod anchors;
mod assign;
mod geometry;
mod sides;
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
use sides::{BoxGains, Sides};

/// The loss of an anchor-free detector from the raw values of its head.
#[derive(Debug, Clone)]
pub struct DetectionLoss {
    /// Which values of the model are the raw head, and their strides.
    pub head: DetectHead,
    /// Number of classes.
    pub classes: usize,
    /// Which cells answer for an object.
    pub assigner: Assigner,
    /// Gain of the loss of boxes, 1 − complete IoU.
    pub box_gain: f64,
    /// Gain of the loss of class logits.
    pub class_gain: f64,
    /// Gain of the loss of each side's distance.
    pub distance_gain: f64,
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
    distances: f64,
}

impl DetectionLoss {
    /// With the usual gains: box 7.5, class 0.5, distance 1.5; several cells answer for an object.
    ///
    /// # Errors
    /// `Format` for a head whose parts are not of one number of levels, or of no bins.
    pub fn new(head: DetectHead, classes: usize) -> Result<Self> {
        let levels = head.strides.len();
        if head.boxes.len() != levels || head.scores.len() != levels || levels == 0 || head.reg_max == 0 {
            return Err(Error::format(format!(
                "the head has {} box values of {} bins, {} score values and {levels} strides",
                head.boxes.len(),
                head.reg_max,
                head.scores.len()
            )));
        }
        let assigner = Assigner { smallest: smallest(&head), ..Assigner::default() };
        Ok(Self { head, classes, assigner, box_gain: 7.5, class_gain: 0.5, distance_gain: 1.5 })
    }

    /// The same, by which one cell answers for an object.
    #[must_use]
    pub fn one_to_one(self) -> Self {
        Self { assigner: Assigner { top: 1, ..self.assigner }, ..self }
    }

    /// What the parts of the loss are called.
    pub fn parts(&self) -> [&'static str; 3] {
        ["box", "cls", if self.head.reg_max == 1 { "l1" } else { "dfl" }]
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
        let sums = [part(self.box_gain, |s| s.boxes), part(self.class_gain, |s| s.classes), part(self.distance_gain, |s| s.distances)];
        let parts: Vec<(&'static str, f64)> = self.parts().into_iter().zip(sums).collect();
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

/// Pixels below which the side of an object is short for a head of plain distances: a cell of the finest level. Heads of
/// distributions cannot place the sides of a box that a cell's centre lies outside of.
fn smallest(head: &DetectHead) -> f32 {
    let finest = head.strides.iter().min().copied().unwrap_or(0);
    if head.reg_max == 1 { finest as f32 } else { 0.0 }
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
                self.sides(l, levels[l].boxes).corners(place)
            })
        };
        self.loss.assigner.assign(self.grid, targets, probability, bbox)
    }

    fn sides<'b>(&'b self, level: usize, values: &'b [f32]) -> Sides<'b> {
        Sides { values, level: &self.grid.levels[level], bins: self.loss.head.reg_max }
    }

    /// The image's losses; the values become their gradients, both undivided.
    fn losses(&self, levels: &mut [LevelImage<'_>], targets: &[GroundTruth], assigned: &[Assigned]) -> Sums {
        let mut sums = Sums::default();
        let gain = self.loss.class_gain as f32;
        let gains = BoxGains { overlap: self.loss.box_gain, distance: self.loss.distance_gain };
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
            let found = self.sides(l, levels[l].boxes).loss(place, &targets[a.target].bbox, a.score, gains);
            sums.boxes += found.overlap;
            sums.distances += found.distance;
            box_gradients.push((l, place, found.gradient));
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
}
