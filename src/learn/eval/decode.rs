//! From a detector's outputs to candidate boxes.

use super::Detection;
use crate::error::{At, Error, Result};
use crate::exec::Outputs;
use crate::learn::data::BBox;
use crate::model::{Decode, Detect};

/// Reads candidates per image, boxes in input pixels, scores above `confidence`. A box counts once for its best class,
/// or, when `multi_label`, once for each class above the threshold.
///
/// # Errors
/// `Missing` when the output is not there, `Shape` when it is not of the detector's form, `Check` when it holds NaN.
pub fn decode(task: &Detect, outputs: &Outputs, confidence: f32, multi_label: bool) -> Result<Vec<Vec<Detection>>> {
    let (Decode::Yolo { output: name } | Decode::FastestDet { output: name }) = &task.decode;
    let place = || format!("output '{name}'");
    let value = outputs.get(name).ok_or_else(|| {
        let names: Vec<&str> = outputs.keys().map(String::as_str).collect();
        Error::missing(format!("the model gave no output '{name}', but {}", names.join(", ")))
    })?;
    let dims = value.dims().to_vec();
    let data = value.to_f32s().at(place)?;
    if data.iter().any(|v| v.is_nan()) {
        return Err(Error::check("the detector's output holds NaN").at(place()));
    }
    let classes = task.classes.len();
    let read = Read { data: &data, confidence, multi_label };
    let found = match (&task.decode, dims.as_slice()) {
        (Decode::Yolo { .. }, &[batch, rows, anchors]) if rows > 4 && (classes == 0 || rows == 4 + classes) => {
            read.yolo(batch, rows, anchors)
        }
        (Decode::FastestDet { .. }, &[batch, planes, h, w]) if planes > 5 && (classes == 0 || planes == 5 + classes) => {
            read.fastestdet(batch, planes, h, w, task.image_size)
        }
        (kind, dims) => {
            let expected = match kind {
                Decode::Yolo { .. } => format!("[batch, 4 + {classes} classes, anchors]"),
                Decode::FastestDet { .. } => format!("[batch, 5 + {classes} classes, rows, columns]"),
            };
            return Err(Error::shape(format!("expected {expected}, got {dims:?}")).at(place()));
        }
    };
    Ok(found)
}

struct Read<'a> {
    data: &'a [f32],
    confidence: f32,
    multi_label: bool,
}

impl Read<'_> {
    /// Layout `[batch, 4 + classes, anchors]`: centre x, centre y, width, height, class probabilities.
    fn yolo(&self, batch: usize, rows: usize, anchors: usize) -> Vec<Vec<Detection>> {
        (0..batch)
            .map(|n| {
                let image = &self.data[n * rows * anchors..][..rows * anchors];
                let mut found = Vec::new();
                for a in 0..anchors {
                    let at = |row: usize| image[row * anchors + a];
                    let bbox = BBox::from_centre(at(0), at(1), at(2), at(3));
                    self.push(&mut found, bbox, (4..rows).map(at));
                }
                found
            })
            .collect()
    }

    /// Layout `[batch, 5 + classes, rows, columns]`: objectness, then the box relative to the cell: offset of the centre
    /// in cells by tanh, width and height as a part of the image by sigmoid; then class probabilities. The score is
    /// objectness^0.6 · probability^0.4 (FastestDet's reference decoder).
    fn fastestdet(&self, batch: usize, planes: usize, h: usize, w: usize, [height, width]: [usize; 2]) -> Vec<Vec<Detection>> {
        let sigmoid = |v: f32| 1.0 / (1.0 + (-v).exp());
        let (height, width) = (height as f32, width as f32);
        (0..batch)
            .map(|n| {
                let image = &self.data[n * planes * h * w..][..planes * h * w];
                let mut found = Vec::new();
                for cell in 0..h * w {
                    let at = |plane: usize| image[plane * h * w + cell];
                    let cx = (at(1).tanh() + (cell % w) as f32) / w as f32 * width;
                    let cy = (at(2).tanh() + (cell / w) as f32) / h as f32 * height;
                    let bbox = BBox::from_centre(cx, cy, sigmoid(at(3)) * width, sigmoid(at(4)) * height);
                    let object = at(0).max(0.0).powf(0.6);
                    self.push(&mut found, bbox, (5..planes).map(|p| object * at(p).max(0.0).powf(0.4)));
                }
                found
            })
            .collect()
    }

    fn push(&self, found: &mut Vec<Detection>, bbox: BBox, scores: impl Iterator<Item = f32>) {
        let mut best: Option<(usize, f32)> = None;
        for (class, score) in scores.enumerate() {
            if score <= self.confidence {
                continue;
            }
            if self.multi_label && bbox.is_finite() {
                found.push(Detection { class, score, bbox });
            } else if best.is_none_or(|(_, b)| score > b) {
                best = Some((class, score));
            }
        }
        if let Some((class, score)) = best.filter(|_| bbox.is_finite() && !self.multi_label) {
            found.push(Detection { class, score, bbox });
        }
    }
}
