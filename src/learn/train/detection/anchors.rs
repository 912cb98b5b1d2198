//! The loss of anchor-based detectors (YOLOv5).
//!
//! An anchor answers for an object when neither their widths nor their heights differ by more than a factor of four, in the
//! object's cell and in the two cells nearest to its centre. Boxes: complete IoU, the mean over a level's matches.
//! Objectness: binary cross entropy against the overlap of the predicted box, the mean over all anchors of a level, levels
//! weighed by their balance. Classes: binary cross entropy, the mean over a level's matches. Loss and gradient are computed
//! together on plain slices, image by image.

use super::geometry::{Dual, Number, complete_iou};
use crate::data::GroundTruth;
use crate::train::loss::{Loss, attach};
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_model::AnchorHead;
use rayon::prelude::*;

/// Values per anchor before the classes: box and objectness.
const FIXED: usize = 5;

/// The loss of an anchor-based detector from the raw values of its head.
#[derive(Debug, Clone)]
pub struct AnchorLoss {
    /// Which values of the model are the raw head, their anchors and strides.
    pub head: AnchorHead,
    /// Number of classes. Of a single one, the loss of classes is left out.
    pub classes: usize,
    /// Gain of the loss of boxes, 1 − complete IoU.
    pub box_gain: f64,
    /// Gain of the loss of objectness, for images of 640 × 640 pixels; it grows with their area.
    pub object_gain: f64,
    /// Gain of the loss of classes, for 80 of them; it grows with their number.
    pub class_gain: f64,
    /// Largest ratio between the sides of an object and of an anchor that answers for it.
    pub largest_ratio: f32,
    /// Weight of each level's objectness.
    pub balance: Vec<f64>,
}

/// An anchor of a cell that answers for an object.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Match {
    anchor: usize,
    /// Row by row.
    cell: usize,
    class: usize,
    /// The object's centre from the cell's corner, and its size, in cells.
    bbox: [f32; 4],
}

/// The cells of one level.
#[derive(Debug, Clone, Copy)]
struct Cells {
    height: usize,
    width: usize,
    stride: f32,
}

/// Sums over one image and level, undivided.
#[derive(Clone, Copy, Default)]
struct Sums {
    boxes: f64,
    objects: f64,
    classes: f64,
}

/// Factors of the gradients of one level.
#[derive(Clone, Copy)]
struct Factors {
    boxes: f64,
    objects: f64,
    classes: f64,
}

impl AnchorLoss {
    /// With the published gains: box 0.05, objectness 1.0, class 0.5, and balances 4, 1, 0.4 for three levels.
    ///
    /// # Errors
    /// `Format` for a head whose parts are not of one number of levels.
    pub fn new(head: AnchorHead, classes: usize) -> Result<Self> {
        let levels = head.strides.len();
        if head.outputs.len() != levels || head.anchors.len() != levels || levels == 0 || head.strides.contains(&0) {
            return Err(Error::format(format!(
                "the head has {} outputs, {} levels of anchors and the strides {:?}",
                head.outputs.len(),
                head.anchors.len(),
                head.strides
            )));
        }
        let balance = match levels {
            3 => vec![4.0, 1.0, 0.4],
            _ => (0..levels).map(|i| [4.0, 1.0, 0.25, 0.06, 0.02][i.min(4)]).collect(),
        };
        Ok(Self { head, classes, box_gain: 0.05, object_gain: 1.0, class_gain: 0.5, largest_ratio: 4.0, balance })
    }

    /// The loss of a batch; its total is the sum of the parts times the number of images.
    ///
    /// # Shapes
    /// Per level: `[batch, anchors * (5 + classes), height, width]`; `targets` per image, in input pixels.
    ///
    /// # Errors
    /// `Shape` when these do not fit; `Argument` for classes out of range.
    pub fn forward(&self, outputs: &[Tensor], targets: &[Vec<GroundTruth>]) -> Result<Loss> {
        let levels = self.check(outputs, targets)?;
        let batch = targets.len();
        let count = levels.len() as f64;
        let area = levels.first().map_or(0.0, |l| (l.height * l.width) as f64 * f64::from(l.stride * l.stride));
        let box_gain = self.box_gain * 3.0 / count;
        let object_gain = self.object_gain * (area / (640.0 * 640.0)) * 3.0 / count;
        let class_gain = if self.classes > 1 { self.class_gain * self.classes as f64 / 80.0 * 3.0 / count } else { 0.0 };
        let mut parts = [0.0; 3];
        let mut gradients = Vec::with_capacity(levels.len());
        for (i, (cells, output)) in levels.iter().zip(outputs).enumerate() {
            let mut data: Vec<f32> = output.flatten_all()?.to_vec1()?;
            let matches: Vec<Vec<Match>> = targets.par_iter().map(|t| self.matches(i, *cells, t)).collect();
            let matched = matches.iter().map(Vec::len).sum::<usize>().max(1) as f64;
            let all = (batch * self.head.anchors[i].len() * cells.height * cells.width).max(1) as f64;
            let factors = Factors {
                boxes: box_gain / matched * batch as f64,
                objects: object_gain * self.balance[i] / all * batch as f64,
                classes: class_gain / (matched * self.classes as f64) * batch as f64,
            };
            let size = (data.len() / batch.max(1)).max(1);
            let sums: Vec<Sums> =
                data.par_chunks_mut(size).zip(&matches).map(|(values, m)| self.image(i, *cells, values, m, factors)).collect();
            for s in sums {
                parts[0] += s.boxes * factors.boxes / batch as f64;
                parts[1] += s.objects * factors.objects / batch as f64;
                parts[2] += s.classes * factors.classes / batch as f64;
            }
            gradients.push(data);
        }
        let value = parts.iter().sum::<f64>() * batch as f64;
        let mut total: Option<Tensor> = None;
        for (x, gradient) in outputs.iter().zip(gradients) {
            // The first term carries the value.
            let term = attach(x, if total.is_none() { value } else { 0.0 }, gradient)?;
            total = Some(match total {
                Some(t) => (t + term)?,
                None => term,
            });
        }
        let total = total.ok_or_else(|| Error::internal("a head without levels"))?;
        Ok(Loss { total, parts: ["box", "obj", "cls"].into_iter().zip(parts).collect() })
    }

    fn check(&self, outputs: &[Tensor], targets: &[Vec<GroundTruth>]) -> Result<Vec<Cells>> {
        if outputs.len() != self.head.strides.len() {
            return Err(Error::shape(format!("expected {} levels, got {}", self.head.strides.len(), outputs.len())));
        }
        if let Some(t) = targets.iter().flatten().find(|t| t.class >= self.classes) {
            let e = Error::argument(format!("an object has class {}, the model has {} classes", t.class, self.classes));
            return Err(e.hint("build the model with as many classes as the dataset"));
        }
        let one = |((x, anchors), &stride): ((&Tensor, &Vec<[f64; 2]>), &usize)| match *x.dims() {
            [n, c, height, width] if n == targets.len() && c == anchors.len() * (FIXED + self.classes) => {
                Ok(Cells { height, width, stride: stride as f32 })
            }
            _ => Err(Error::shape(format!(
                "expected [{}, {} anchors × {} values, height, width], got {:?}",
                targets.len(),
                anchors.len(),
                FIXED + self.classes,
                x.dims()
            ))),
        };
        outputs.iter().zip(&self.head.anchors).zip(&self.head.strides).map(one).collect()
    }

    /// Width and height of an anchor, in cells.
    fn anchor(&self, level: usize, anchor: usize) -> [f32; 2] {
        self.head.anchors[level][anchor].map(|n| n as f32 / self.head.strides[level] as f32)
    }

    /// Which anchors of a level answer for which objects of an image.
    fn matches(&self, level: usize, cells: Cells, targets: &[GroundTruth]) -> Vec<Match> {
        let mut found = Vec::new();
        for t in targets {
            let b = [t.bbox.x1, t.bbox.y1, t.bbox.x2, t.bbox.y2].map(|v| v / cells.stride);
            let (x, y, w, h) = ((b[0] + b[2]) / 2.0, (b[1] + b[3]) / 2.0, b[2] - b[0], b[3] - b[1]);
            let places = places(x, y, cells);
            for anchor in 0..self.head.anchors[level].len() {
                let [aw, ah] = self.anchor(level, anchor);
                let ratio = [w / aw, aw / w, h / ah, ah / h].into_iter().fold(0.0f32, f32::max);
                // Also false for boxes without area.
                if !(ratio < self.largest_ratio && w > 0.0 && h > 0.0) {
                    continue;
                }
                found.extend(places.iter().map(|&(column, row)| Match {
                    anchor,
                    cell: row * cells.width + column,
                    class: t.class,
                    bbox: [x - column as f32, y - row as f32, w, h],
                }));
            }
        }
        found
    }

    /// The losses of an image's values of one level, `[anchors * (5 + classes), cells]`, which become their gradients.
    fn image(&self, level: usize, cells: Cells, values: &mut [f32], matches: &[Match], factors: Factors) -> Sums {
        let n = cells.height * cells.width;
        let width = FIXED + self.classes;
        let mut sums = Sums::default();
        // Overlaps that objectness is to tell: of several matches of an anchor the best.
        let mut wished: Vec<(usize, f32)> = Vec::with_capacity(matches.len());
        let mut slopes: Vec<(usize, f64)> = Vec::with_capacity(matches.len() * (4 + self.classes));
        for m in matches {
            let at = |channel: usize| (m.anchor * width + channel) * n + m.cell;
            let p: [f32; 4] = std::array::from_fn(|i| sigmoid(values[at(i)]));
            let size = self.anchor(level, m.anchor);
            let predicted: [f32; 4] = std::array::from_fn(|i| if i < 2 { 2.0 * p[i] - 0.5 } else { 4.0 * p[i] * p[i] * size[i - 2] });
            let d: [Dual; 4] = std::array::from_fn(|i| Dual::variable(predicted[i], i));
            let overlap = complete_iou(corners(d), corners(m.bbox.map(Dual::of)));
            sums.boxes += 1.0 - overlap.value;
            for i in 0..4 {
                let of_logit = f64::from(p[i] * (1.0 - p[i]));
                let slope = if i < 2 { 2.0 * of_logit } else { 8.0 * f64::from(p[i] * size[i - 2]) * of_logit };
                slopes.push((at(i), -overlap.slope[i] * slope * factors.boxes));
            }
            wished.push((at(4), overlap.value.max(0.0) as f32));
            if self.classes > 1 {
                for class in 0..self.classes {
                    let (i, wish) = (at(FIXED + class), if class == m.class { 1.0 } else { 0.0 });
                    sums.classes += cross_entropy(values[i], wish);
                    slopes.push((i, f64::from(sigmoid(values[i]) - wish) * factors.classes));
                }
            }
        }
        wished.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        wished.dedup_by_key(|w| w.0);
        for anchor in 0..self.head.anchors[level].len() {
            let start = anchor * width * n;
            let (boxes, rest) = values[start..start + width * n].split_at_mut(4 * n);
            let (objects, classes) = rest.split_at_mut(n);
            boxes.fill(0.0);
            classes.fill(0.0);
            let from = wished.partition_point(|w| w.0 < start + 4 * n);
            let mut wishes = wished[from..].iter().peekable();
            for (i, x) in objects.iter_mut().enumerate() {
                let wish = wishes.next_if(|w| w.0 == start + 4 * n + i).map_or(0.0, |w| w.1);
                sums.objects += cross_entropy(*x, wish);
                *x = (f64::from(sigmoid(*x) - wish) * factors.objects) as f32;
            }
        }
        for (i, slope) in slopes {
            values[i] += slope as f32;
        }
        sums
    }
}

/// The cell of a centre (in cells), and the nearest neighbours to the left or right and above or below, inside the grid:
/// columns and rows.
fn places(x: f32, y: f32, cells: Cells) -> Vec<(usize, usize)> {
    let inside = |v: f32, n: usize| (v.max(0.0) as usize).min(n.saturating_sub(1));
    let (column, row) = (inside(x, cells.width), inside(y, cells.height));
    let (w, h) = (cells.width as f32, cells.height as f32);
    let mut found = vec![(column, row)];
    if x % 1.0 < 0.5 && x > 1.0 {
        found.push((inside(x - 0.5, cells.width), row));
    }
    if y % 1.0 < 0.5 && y > 1.0 {
        found.push((column, inside(y - 0.5, cells.height)));
    }
    if (w - x) % 1.0 < 0.5 && w - x > 1.0 {
        found.push((inside(x + 0.5, cells.width), row));
    }
    if (h - y) % 1.0 < 0.5 && h - y > 1.0 {
        found.push((column, inside(y + 0.5, cells.height)));
    }
    found
}

/// Left, top, right, bottom from centre and size.
fn corners(b: [Dual; 4]) -> [Dual; 4] {
    let half = Dual::of(0.5);
    [b[0] - b[2] * half, b[1] - b[3] * half, b[0] + b[2] * half, b[1] + b[3] * half]
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Binary cross entropy of a logit against a probability.
fn cross_entropy(x: f32, wish: f32) -> f64 {
    f64::from(x.max(0.0) - x * wish + (-x.abs()).exp().ln_1p())
}

#[cfg(test)]
#[path = "anchors_tests.rs"]
mod tests;
