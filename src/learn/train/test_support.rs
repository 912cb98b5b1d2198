//! What the tests of training share.

use super::MASKS_KEY;
use crate::data::{BBox, GroundTruth};
use candle_core::Tensor;
use compresso_base::context::{Cancel, Context, ProgressSink};
use compresso_model::{Constant, Model, Patch};
use std::sync::Arc;

/// Targets per image from rows of image, class, x1, y1, x2, y2.
pub(crate) fn targets(rows: &Tensor, images: usize) -> Vec<Vec<GroundTruth>> {
    let mut targets = vec![Vec::new(); images];
    for r in rows.to_vec2::<f32>().unwrap() {
        targets[r[0] as usize].push(GroundTruth { class: r[1] as usize, bbox: BBox { x1: r[2], y1: r[3], x2: r[4], y2: r[5] } });
    }
    targets
}

/// Cancels once a progress bar's message begins so, at this step or later.
struct CancelAt(Cancel, &'static str, u64);

impl ProgressSink for CancelAt {
    fn start(&self, _: u64, _: &str, _: u64) {}
    fn update(&self, _: u64, done: u64, message: &str) {
        if message.starts_with(self.1) && done >= self.2 {
            self.0.cancel();
        }
    }
    fn finish(&self, _: u64) {}
    fn note(&self, _: &str) {}
}

/// A context that is cancelled once a progress bar's message begins so, at this step or later.
pub(crate) fn cancelled_at(message: &'static str, step: u64) -> Context {
    let ctx = Context::new();
    let cancel = ctx.cancel.clone();
    ctx.with_progress(Arc::new(CancelAt(cancel, message, step)))
}

/// The model with every third number of a constant set to zero, and the constant's numbers then; where `masked`, it says that these zeros
/// stay.
pub(crate) fn sparse(model: &Model, name: &str, masked: bool) -> (Model, Vec<f32>) {
    let weight = model.graph().constant(name).unwrap();
    let mut pruned = weight.to_f32s().unwrap();
    pruned.iter_mut().step_by(3).for_each(|v| *v = 0.0);
    let mut patch = Patch::new(model.graph());
    patch.set_constant(name, Constant::floats(weight.dims(), &pruned).unwrap());
    if masked {
        patch.set_metadata(MASKS_KEY, format!("[\"{name}\"]"));
    }
    (Model::new(patch.apply().unwrap(), model.task().clone()), pruned)
}
