//! Datasets and loaders.

use crate::error::Result;
use candle_core::Tensor;
use std::sync::Arc;

/// A box in pixels: left, top, right, bottom.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct BBox {
    pub x1: f32,
    pub y1: f32,
    pub x2: f32,
    pub y2: f32,
}

/// A labelled object of an image.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Target {
    pub class: usize,
    pub bbox: BBox,
}

/// One image with its labels.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Stable name: the file's path, or the index for drawn images.
    pub name: String,
    pub image: image::RgbImage,
    /// Objects, for detection.
    pub targets: Vec<Target>,
    /// Class, for classification.
    pub label: Option<usize>,
}

/// What the labels of a dataset are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    Detection,
    Classification,
    Unlabelled,
}

/// Where samples come from.
pub trait Source: Send + Sync {
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Sample `i` of `len()`. Cheap enough to be called from loader threads; nothing is cached unless the source says so.
    fn get(&self, i: usize) -> Result<Sample>;
}

/// A dataset split: a value, cheap to clone.
#[derive(Clone)]
pub struct Dataset {
    /// How it was named, for provenance: `bccd` path, `shapes`.
    pub name: String,
    /// `train`, `val`, `test` or empty.
    pub split: String,
    pub kind: DataKind,
    pub classes: Arc<[String]>,
    pub source: Arc<dyn Source>,
    /// What was skipped or repaired on loading, one line each.
    pub warnings: Arc<[String]>,
    /// Other splits of the same data by name, if any.
    pub splits: Arc<[(String, Dataset)]>,
}

/// How an image was fitted into the network's input: scale, then padding, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Letterbox {
    pub scale: f32,
    pub pad_x: f32,
    pub pad_y: f32,
    /// Width and height of the original image.
    pub original: (u32, u32),
}

/// A batch ready for a network.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[n, 3, height, width]`, RGB, 0 to 1.
    pub images: Tensor,
    /// Objects per image, in input pixels.
    pub targets: Vec<Vec<Target>>,
    /// Class per image (empty for detection).
    pub labels: Vec<usize>,
    /// Index of each image in its dataset.
    pub indices: Vec<usize>,
    pub letterboxes: Vec<Letterbox>,
}
