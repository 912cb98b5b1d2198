//! Targets from fixtures, for the tests of losses.

use crate::data::{BBox, GroundTruth};
use candle_core::Tensor;

/// Targets per image from rows of image, class, x1, y1, x2, y2.
pub(crate) fn targets(rows: &Tensor, images: usize) -> Vec<Vec<GroundTruth>> {
    let mut targets = vec![Vec::new(); images];
    for r in rows.to_vec2::<f32>().unwrap() {
        targets[r[0] as usize].push(GroundTruth { class: r[1] as usize, bbox: BBox { x1: r[2], y1: r[3], x2: r[4], y2: r[5] } });
    }
    targets
}
