//! Non-maximum suppression.

use crate::data::BBox;
use serde::Serialize;
use std::cmp::Ordering;

/// A detected object.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Detection {
    pub class: usize,
    /// Confidence, 0 to 1.
    pub score: f32,
    pub bbox: BBox,
}

/// Most candidates that suppression looks at; the ones of lowest score beyond it are dropped (as Ultralytics does).
pub const MAX_CANDIDATES: usize = 30_000;

/// Keeps the best boxes: from the highest score down, a box is dropped when its IoU with a kept one is above `iou`.
/// Boxes of different classes only compete when `agnostic`. Gives at most `limit` boxes, best first; equal scores keep
/// their order. A box without area overlaps nothing, as in torchvision.
pub fn nms(candidates: Vec<Detection>, iou: f32, agnostic: bool, limit: usize) -> Vec<Detection> {
    let mut order: Vec<(f32, u32)> = candidates.iter().zip(0u32..).map(|(d, i)| (d.score, i)).collect();
    let best_first = |a: &(f32, u32), b: &(f32, u32)| -> Ordering { b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)) };
    if order.len() > MAX_CANDIDATES {
        order.select_nth_unstable_by(MAX_CANDIDATES, best_first);
        order.truncate(MAX_CANDIDATES);
    }
    order.sort_unstable_by(best_first);
    let mut kept: Vec<Detection> = Vec::new();
    // Kept boxes of each class, which alone compete with the next of that class.
    let mut rivals: Vec<Vec<BBox>> = Vec::new();
    for (_, i) in order {
        if kept.len() >= limit {
            break;
        }
        let c = candidates[i as usize];
        let class = if agnostic { 0 } else { c.class };
        if rivals.len() <= class {
            rivals.resize(class + 1, Vec::new());
        }
        if rivals[class].iter().all(|k| k.iou(&c.bbox) <= iou) {
            rivals[class].push(c.bbox);
            kept.push(c);
        }
    }
    kept
}
