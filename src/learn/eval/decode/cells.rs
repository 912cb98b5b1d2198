//! Boxes that are relative to the cells of a grid, or to prior boxes in these.

use super::{Read, sigmoid, softmax};
use crate::data::BBox;
use compresso_base::error::{Error, Result};
use compresso_model::{BoxDecode, BoxFormat, CellCentre, CellExtent};

/// What the numbers of one box are relative to, in pixels of the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    /// Where offsets start.
    point: [f32; 2],
    /// The unit of each axis: pixels per cell, or the prior's width and height.
    unit: [f32; 2],
}

/// The anchor of each box, level by level, row by row, and in a cell prior by prior (SSD, section 2.2; YOLOX, section 2.1); none for finished
/// boxes.
pub(super) fn anchors(read: &Read<'_>, d: &BoxDecode, boxes: usize) -> Result<Vec<Anchor>> {
    let [height, width] = read.task.image_size;
    let at = d.point.unwrap_or(if d.shapes.is_empty() { 0.0 } else { 0.5 }) as f32;
    let mut all = Vec::new();
    for (level, &stride) in d.strides.iter().enumerate() {
        let units: Vec<[f32; 2]> = match d.shapes.get(level) {
            Some(shapes) => shapes.iter().map(|s| [s[0] as f32, s[1] as f32]).collect(),
            None => vec![[stride as f32; 2]],
        };
        for row in 0..height.div_ceil(stride) {
            for column in 0..width.div_ceil(stride) {
                let point = [column, row].map(|i| (i as f32 + at) * stride as f32);
                all.extend(units.iter().map(|&unit| Anchor { point, unit }));
            }
        }
    }
    if !d.strides.is_empty() && all.len() != boxes {
        let made = if d.shapes.is_empty() { "cells" } else { "priors" };
        let message = format!("strides {:?} give {} {made} of an input of {height}×{width}, got {boxes} boxes", d.strides, all.len());
        return Err(Error::shape(message));
    }
    Ok(all)
}

/// The mean of 0, 1, 2, … under the softmax of each quarter of `logits` (Generalized Focal Loss, equation 4).
pub(super) fn expectations(logits: &mut [f32]) -> [f32; 4] {
    let bins = logits.len() / 4;
    std::array::from_fn(|side| {
        let own = &mut logits[side * bins..][..bins];
        softmax(own);
        own.iter().enumerate().map(|(i, p)| i as f32 * p).sum()
    })
}

impl Anchor {
    /// The box of four numbers relative to it, in input pixels.
    pub(super) fn place(&self, read: &Read<'_>, d: &BoxDecode, mut v: [f32; 4]) -> BBox {
        for (v, factor) in v.iter_mut().zip(&d.variances) {
            *v *= *factor as f32;
        }
        let ([x, y], [across, down]) = (self.point, self.unit);
        if d.format == BoxFormat::Ltrb {
            return BBox { x1: x - v[0] * across, y1: y - v[1] * down, x2: x + v[2] * across, y2: y + v[3] * down };
        }
        let [dx, dy, w, h] = v;
        let (dx, dy) = match d.centre {
            CellCentre::Offset => (dx, dy),
            CellCentre::Tanh => (dx.tanh(), dy.tanh()),
        };
        let (w, h) = match d.extent {
            CellExtent::Exp => (w.exp() * across, h.exp() * down),
            CellExtent::Sigmoid => {
                let [height, width] = read.task.image_size.map(|s| s as f32);
                (sigmoid(w) * width, sigmoid(h) * height)
            }
        };
        BBox::from_centre(x + dx * across, y + dy * down, w, h)
    }
}
