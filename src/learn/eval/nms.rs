//! Non-maximum suppression.

use crate::learn::data::BBox;
use serde::Serialize;

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
/// their order.
pub fn nms(mut candidates: Vec<Detection>, iou: f32, agnostic: bool, limit: usize) -> Vec<Detection> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(MAX_CANDIDATES);
    let mut kept: Vec<Detection> = Vec::new();
    for c in candidates {
        if kept.len() >= limit {
            break;
        }
        let rival = |k: &Detection| (agnostic || k.class == c.class) && k.bbox.iou(&c.bbox) > iou;
        if !kept.iter().any(rival) {
            kept.push(c);
        }
    }
    kept
}
