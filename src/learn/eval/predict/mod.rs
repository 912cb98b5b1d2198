//! `predict`: what a model sees in images.

mod pipeline;
mod prediction;
mod predictions;
mod source;
mod tables;
mod throughput;

pub use pipeline::{predict_each, predict_measured, predict_serially};
pub use prediction::{Found, Prediction, Ranked};
pub use predictions::Predictions;
pub use source::{image_files_dataset, samples_dataset};
pub use throughput::Throughput;

use crate::data::Dataset;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_model::Model;
use std::path::PathBuf;

compresso_base::options! {
    /// Options of `predict`.
    pub struct Predict {
        /// Boxes of lower confidence are dropped.
        pub confidence: f64 = 0.25,
        /// Non-maximum suppression drops a box that overlaps a better one by more than this (intersection over union; of turned
        /// boxes the probabilistic one).
        pub iou: f64 = 0.7,
        /// Most boxes per image.
        pub max_detections: usize = 300,
        /// Boxes of different classes suppress each other.
        pub agnostic: bool = false,
        /// Classes to list for a classifier.
        pub top: usize = 5,
        /// Input size in pixels, one number or [height, width]; the model's own when left out.
        pub size: Option<serde_json::Value> = None,
        /// Images that the model runs on side by side, which share the session's threads; 0: one for each thread. Others
        /// are read, drawn and written meanwhile.
        pub workers: usize = 0,
        /// Images that a worker runs at once, where the model leaves it open.
        pub batch: usize = 1,
        /// Milliseconds that a worker waits for a batch to fill.
        pub wait_ms: f64 = 5.0,
        /// Folder for the drawn images, which appear in it together in the end; or a file for the drawing of one image.
        pub save: Option<PathBuf> = None,
    }
}

/// Runs a model on all images and keeps what it sees, not the images themselves. Images that cannot be read are skipped
/// and counted. When the user cancels, what was seen until then is given.
///
/// # Errors
/// As [`predict_each`].
impl Operation for Predict {
    const SIGNATURE: Signature = Signature {
        name: "predict",
        summary: "Runs a model on images and lists what it sees (boxes, masks, key points, turned boxes, classes); the result draws itself on the \
                  images: .save(path), or option save.",
        group: "models",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("images", ArgKind::Images)],
        returns: "predictions",
        fields: Self::FIELDS,
        examples: &["let m = model(\"yolov8n\", #{ classes: 3, width: 0.125, image_size: 64 }); \
             predict(m, dataset(\"shapes\", #{ images: 2, size: 64 }), #{ confidence: 0.5, workers: 2 }).images_per_second"],
        keywords: &[
            "detect",
            "detections",
            "inference",
            "classify",
            "run",
            "draw",
            "boxes",
            "masks",
            "segmentation",
            "key points",
            "pose",
            "oriented boxes",
            "image",
            "photo",
            "folder",
            "throughput",
            "coco",
        ],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset);
    type Output = Predictions;

    fn run(&self, (model, images): (&Model, &Dataset), ctx: &Context) -> Result<Predictions> {
        let mut all = Predictions::default();
        let run = predict_each(model, images, self, ctx, &mut |prediction, _| {
            all.images.push(prediction);
            Ok(())
        });
        let (throughput, skipped) = run?;
        all.cancelled = throughput.cancelled;
        (all.throughput, all.skipped) = (throughput, skipped);
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
