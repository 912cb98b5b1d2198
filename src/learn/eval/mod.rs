//! Evaluation: boxes, non-maximum suppression, mean average precision, classification accuracy; prediction.

mod boxes;
mod decode;
mod draw;
mod evaluate;
mod evaluation;
mod map;
mod nms;
mod predict;
mod run;

pub use decode::decode;
pub use draw::{class_color, draw_detections};
pub use evaluate::{Evaluate, SIGNATURE as EVALUATE, evaluate, evaluate_with};
pub use evaluation::{ClassResult, Evaluation};
pub use map::{ClassPrecision, MeanPrecision, RECALLS, THRESHOLDS, mean_average_precision};
pub use nms::{Detection, MAX_CANDIDATES, nms};
pub use predict::{Found, Predict, Prediction, Predictions, Ranked, SIGNATURE as PREDICT, predict};
pub use run::{ImageRunner, model_input, run_images_with};

#[cfg(test)]
mod tests;
