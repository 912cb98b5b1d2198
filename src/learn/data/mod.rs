//! Datasets and loaders.
//!
//! [`dataset`] opens or draws a [`Dataset`]; a [`Loader`] turns it into [`Batch`]es on worker threads. One file per
//! format; each gives a [`Source`] per split.

mod augment;
mod canvas;
mod check;
mod choose;
mod classes;
mod coco;
mod coco_json;
mod dataset;
mod export;
mod files;
mod folder;
mod form;
mod grid;
mod letterbox;
mod loader;
mod opacity;
mod open;
mod options;
mod plots;
mod random;
mod reader;
mod records;
mod rng;
mod shapes;
mod splits;
mod voc;
mod warnings;
mod warp;
mod whole;
mod yolo;
mod yolo_labels;

pub use augment::Augment;
pub use choose::{Split, Take};
pub use classes::{Matched, named_after};
pub use files::{ImageFiles, MAX_PIXELS, image_files, image_size, read_image, read_opacity, sample};
pub use form::ImageForm;
pub use grid::{Grid, GridOptions};
pub use letterbox::{PAD, PlacedImage, draw_layer, letterbox, resize, to_chw};
pub use loader::{Loader, LoaderOptions};
pub use opacity::grey_image;
pub use open::dataset;
pub use options::{DataOptions, DataTask};
pub use reader::Cache;
pub use splits::SplitOptions;

use candle_core::Tensor;
use compresso_base::error::Result;
use compresso_base::operation::Recipe;
use compresso_model::Task;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// A box in pixels: left, top, right, bottom.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct BBox {
    /// Left edge, from the left of the image.
    pub x1: f32,
    /// Upper edge, from the top of the image.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Lower edge.
    pub y2: f32,
}

/// A labelled object of an image.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct GroundTruth {
    /// Number of its class, from 0, in [`Dataset::classes`].
    pub class: usize,
    /// In pixels of the sample's image; in a [`Batch`], of the network's input.
    pub bbox: BBox,
}

/// What is known of an object besides class and box, for evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// As [`GroundTruth::class`].
    pub class: usize,
    /// In pixels of the original image.
    pub bbox: BBox,
    /// In square pixels: of the outline where the labels state it, else of the box.
    pub area: f64,
    /// A region of many objects (COCO's `iscrowd`), in which detections count neither as right nor as wrong.
    pub crowd: bool,
}

/// One image with its labels.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Stable name: the file's path, or the index for drawn images.
    pub name: String,
    /// Its pixels, RGB. Opacity is read apart: [`Source::opacity_of`].
    pub image: image::RgbImage,
    /// Objects, for detection.
    pub targets: Vec<GroundTruth>,
    /// Class, for classification.
    pub label: Option<usize>,
}

/// What the labels of a dataset are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    /// Boxes with their classes.
    Detection,
    /// A class for each image.
    Classification,
    /// None: images alone.
    Unlabelled,
}

impl DataKind {
    /// What labels train and judge a model of this task; `None` where none do.
    pub fn of_task(task: &Task) -> Option<Self> {
        match task {
            Task::Detect(_) => Some(Self::Detection),
            Task::Classify(_) => Some(Self::Classification),
            Task::Unknown | Task::Instances(_) => None,
        }
    }
}

impl std::fmt::Display for DataKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Detection => "detection",
            Self::Classification => "classification",
            Self::Unlabelled => "no",
        })
    }
}

/// Where samples come from.
pub trait Source: Send + Sync {
    /// How many samples there are.
    fn len(&self) -> usize;
    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Sample `i` of `len()`. Cheap enough to be called from loader threads; nothing is cached unless the source says so.
    ///
    /// # Errors
    /// An image that is missing or cannot be decoded, with its file.
    fn get(&self, i: usize) -> Result<Sample>;
    /// Sample `i` for a network input of `[height, width]`; sources without a size of their own draw it at that size.
    fn get_at(&self, i: usize, size: [usize; 2]) -> Result<Sample> {
        let _ = size;
        self.get(i)
    }
    /// Class of each object of sample `i` (or of the image itself), where possible without decoding pixels.
    fn classes_of(&self, i: usize) -> Result<Vec<usize>> {
        let s = self.get(i)?;
        Ok(s.label.map_or_else(|| s.targets.iter().map(|t| t.class).collect(), |l| vec![l]))
    }
    /// Objects of sample `i` in pixels, and width and height of its image, where possible without decoding pixels.
    fn boxes_of(&self, i: usize) -> Result<(Vec<GroundTruth>, (u32, u32))> {
        let s = self.get(i)?;
        Ok((s.targets, s.image.dimensions()))
    }
    /// All objects and crowds of sample `i`, whose image is of width and height `size`; `None` where the sample's targets
    /// say it all.
    fn regions_of(&self, i: usize, size: (u32, u32)) -> Option<Vec<Region>> {
        let _ = (i, size);
        None
    }
    /// The opacity of the image of sample `i`, of the image's size; `None` where all of it is opaque.
    ///
    /// # Errors
    /// As [`Source::get`].
    fn opacity_of(&self, i: usize) -> Result<Option<image::GrayImage>> {
        let _ = i;
        Ok(None)
    }
    /// The image file of sample `i`, if it has one.
    fn file_of(&self, i: usize) -> Option<&Path> {
        let _ = i;
        None
    }
}

/// A dataset, or one split of it: a value, cheap to clone.
///
/// A dataset of several splits stands for the first of them (`train`) until one is chosen: see [`Dataset::split`],
/// [`Dataset::for_training`], [`Dataset::for_evaluation`].
#[derive(Clone)]
pub struct Dataset {
    /// The source it was opened by, for provenance: a path, `shapes`, `random`.
    pub name: String,
    /// `train`, `val`, `test`; empty while none is chosen.
    pub split: String,
    /// What its labels are.
    pub kind: DataKind,
    /// Class names, by the numbers that labels have.
    pub classes: Arc<[String]>,
    /// Where its samples come from; while no split is chosen, those of the first.
    pub source: Arc<dyn Source>,
    /// What was skipped or repaired on loading, one line each.
    pub warnings: Arc<[String]>,
    /// The splits by name, while none is chosen; else empty.
    pub splits: Arc<[(String, Dataset)]>,
    /// How it was made.
    pub(super) recipe: Recipe,
    /// Most unreadable images that a pass over this split has told of, so that later passes do not repeat it.
    told: Arc<AtomicUsize>,
}

/// How an image was fitted into the network's input: scale, then padding, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Letterbox {
    /// Pixels of the input per pixel of the original image, along both axes.
    pub scale: f32,
    /// Padding on the left, in pixels of the input.
    pub pad_x: f32,
    /// Padding above, in pixels of the input.
    pub pad_y: f32,
    /// Width and height of the original image.
    pub original: (u32, u32),
}

/// A batch ready for a network.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[n, channels, height, width]`, 0 to 1: grey, RGB or RGBA, as the model takes them.
    pub images: Tensor,
    /// Objects per image, in input pixels.
    pub targets: Vec<Vec<GroundTruth>>,
    /// Class per image (empty for detection and for unlabelled images).
    pub labels: Vec<usize>,
    /// Index of each image in its dataset. Images that cannot be read are left out of a batch.
    pub indices: Vec<usize>,
    /// How each image fits into the input, as if it were not varied: [`Letterbox::inverse`] leads back to the original's pixels.
    pub letterboxes: Vec<Letterbox>,
}

#[cfg(test)]
mod augment_tests;
#[cfg(test)]
mod coco_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod look_tests;
#[cfg(test)]
mod tests;
