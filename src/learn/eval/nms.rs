//! Non-maximum suppression.

use crate::data::BBox;
use serde::Serialize;
use std::cmp::Ordering;

/// A detected object.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Detection {
    /// Number of its class, from 0.
    pub class: usize,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// In pixels: of the network's input as outputs are decoded, later of the original image.
    pub bbox: BBox,
}

/// Most candidates that suppression looks at; the ones of lowest score beyond it are dropped (as Ultralytics does).
pub const MAX_CANDIDATES: usize = 30_000;

/// Keeps the best boxes: from the highest score down, a box is dropped when its IoU with a kept one is above `iou`.
/// Boxes of different classes only compete when `agnostic`. Gives at most `limit` boxes, best first; equal scores keep
/// their order. A box without area overlaps nothing, as in torchvision.
pub fn nms(candidates: Vec<Detection>, iou: f32, agnostic: bool, limit: usize) -> Vec<Detection> {
    best_apart(&candidates, iou, agnostic, limit).into_iter().map(|i| candidates[i]).collect()
}

/// The places of those that [`nms`] keeps.
pub(super) fn best_apart(candidates: &[Detection], iou: f32, agnostic: bool, limit: usize) -> Vec<usize> {
    let mut kept = Vec::new();
    // Kept boxes of each class, which alone compete with the next of that class.
    let mut rivals: Vec<Vec<BBox>> = Vec::new();
    for i in best_first(candidates) {
        if kept.len() >= limit {
            break;
        }
        let c = candidates[i];
        let class = if agnostic { 0 } else { c.class };
        if rivals.len() <= class {
            rivals.resize(class + 1, Vec::new());
        }
        if rivals[class].iter().all(|k| k.iou(&c.bbox) <= iou) {
            rivals[class].push(c.bbox);
            kept.push(i);
        }
    }
    kept
}

/// The places of the candidates that suppression looks at, best first; equal scores keep their order.
pub(super) fn best_first(candidates: &[Detection]) -> Vec<usize> {
    let mut order: Vec<(f32, usize)> = candidates.iter().enumerate().map(|(i, d)| (d.score, i)).collect();
    let best_first = |a: &(f32, usize), b: &(f32, usize)| -> Ordering { b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)) };
    if order.len() > MAX_CANDIDATES {
        order.select_nth_unstable_by(MAX_CANDIDATES, best_first);
        order.truncate(MAX_CANDIDATES);
    }
    order.sort_unstable_by(best_first);
    order.into_iter().map(|(_, i)| i).collect()
}
