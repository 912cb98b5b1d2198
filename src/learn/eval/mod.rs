//! Evaluation: boxes, non-maximum suppression, mean average precision, classification accuracy; prediction.

mod boxes;
mod coco;
mod confusion;
mod decode;
mod draw;
mod evaluate;
mod evaluation;
mod input;
mod instances;
mod map;
mod nms;
mod parts;
mod predict;
mod run;

pub use coco::{AreaRange, Coco, CocoSummary, LIMITS, RECALLS, THRESHOLDS, Truth};
pub use confusion::{CONFUSION_CONFIDENCE, CONFUSION_IOU, Confusion};
pub use decode::decode;
pub use draw::{class_color, draw_detections};
pub use evaluate::{Evaluate, PerImage, evaluate_as, evaluate_images, evaluate_with, judged};
pub use evaluation::{ClassResult, Conditions, Evaluation};
pub use input::{InputForm, model_input};
pub use instances::{Instance, KeyPoint, Limits, Mask, Part, TurnedBox, instances};
pub use map::{ClassPrecision, ConfidenceCurve, MeanPrecision, mean_average_precision};
pub use nms::{Detection, MAX_CANDIDATES, nms};
pub use parts::{OutputPart, class_places, output_parts};
pub use predict::{
    Found, Predict, Prediction, Predictions, Ranked, Throughput as Rates, image_files_dataset, predict_each, predict_measured,
    predict_serially, samples_dataset,
};
pub use run::{ImageRunner, run_images_with};

#[cfg(test)]
mod preprocess_tests;
#[cfg(test)]
mod tests;
