//! From a detector's outputs to candidate boxes.

mod cells;
mod described;

use super::Detection;
use crate::data::BBox;
use compresso_base::error::{At, Error, Result};
use compresso_exec::Outputs;
use compresso_model::{Decode, Detect};

/// Reads candidates per image, boxes in input pixels, scores above `confidence`. A box counts once for its best class,
/// or, when `multi_label`, once for each class above the threshold.
///
/// # Errors
/// `Missing` when the output is not there, `Shape` when it is not of the detector's form, `Check` when it holds NaN.
pub fn decode(task: &Detect, outputs: &Outputs, confidence: f32, multi_label: bool) -> Result<Vec<Vec<Detection>>> {
    let read = Read { task, outputs, confidence, multi_label };
    match &task.decode {
        Decode::Yolo { output } => read.yolo(output).at(|| format!("output '{output}'")),
        Decode::Described(d) => described::decode(&read, d),
    }
}

/// What all forms are read from and by.
struct Read<'a> {
    task: &'a Detect,
    outputs: &'a Outputs,
    confidence: f32,
    multi_label: bool,
}

impl Read<'_> {
    /// Sizes and values of an output.
    fn output(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        read_output(self.outputs, name)
    }

    /// Layout `[batch, 4 + classes, anchors]`: centre x, centre y, width, height, class probabilities.
    fn yolo(&self, output: &str) -> Result<Vec<Vec<Detection>>> {
        let (dims, data) = self.output(output)?;
        let classes = self.task.classes.len();
        let &[_, rows, anchors] = dims.as_slice() else { return Err(unfit(&format!("[batch, 4 + {classes} classes, anchors]"), &dims)) };
        if rows <= 4 || (classes != 0 && rows != 4 + classes) {
            return Err(unfit(&format!("[batch, 4 + {classes} classes, anchors]"), &dims));
        }
        let image = |image: &[f32]| {
            let mut found = Vec::new();
            // Most anchors have no score that counts: the best of each, row by row, tells which.
            let mut best = vec![0f32; anchors];
            for row in image[4 * anchors..].chunks_exact(anchors) {
                for (b, &v) in best.iter_mut().zip(row) {
                    *b = b.max(v);
                }
            }
            for a in (0..anchors).filter(|&a| best[a] > self.confidence) {
                let at = |row: usize| image[row * anchors + a];
                let bbox = BBox::from_centre(at(0), at(1), at(2), at(3));
                self.push(&mut found, bbox, (4..rows).map(at));
            }
            found
        };
        Ok(data.chunks_exact((rows * anchors).max(1)).map(image).collect())
    }

    /// Takes up a box with its scores by class.
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

/// Sizes and values of an output.
///
/// # Errors
/// `Missing` when it is not there, `Check` when it holds NaN.
pub(super) fn read_output(outputs: &Outputs, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    let value = outputs.get(name).ok_or_else(|| {
        let names: Vec<&str> = outputs.keys().map(String::as_str).collect();
        Error::missing(format!("the model gave no output '{name}', but {}", names.join(", ")))
    })?;
    let data = value.to_f32s()?;
    if data.iter().any(|v| v.is_nan()) {
        return Err(Error::check("the detector's output holds NaN"));
    }
    Ok((value.dims().to_vec(), data))
}

fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + (-v).exp())
}

fn softmax(values: &mut [f32]) {
    let high = values.iter().copied().fold(f32::MIN, f32::max);
    values.iter_mut().for_each(|v| *v = (*v - high).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|v| *v /= sum);
}

pub(super) fn unfit(expected: &str, dims: &[usize]) -> Error {
    Error::shape(format!("expected {expected}, got {dims:?}"))
}

#[cfg(test)]
mod tests;
