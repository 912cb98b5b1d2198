//! Options of `dataset`, which the formats read.

use super::reader::Cache;
use compresso_base::error::{Error, Result};
use serde_json::Value;

compresso_base::choice! {
    /// What drawn images are for.
    pub enum DataTask {
        /// Several objects with boxes in each image.
        Detect = "detect",
        /// One object in each image, whose class is the image's.
        Classify = "classify",
    }
}

compresso_base::options! {
    /// Options of `dataset`.
    pub struct DataOptions {
        /// Number of drawn images: "random" has 32, "shapes" 512 to train on and a quarter of that to validate.
        pub images: Option<usize> = None,
        /// Size of drawn images in pixels, one number or [height, width]; "shapes": 160, "random": the model's input.
        pub size: Option<Value> = None,
        /// Class names in order, which decide class numbers; objects of other classes are left out. A YOLO dataset takes as many other
        /// names, too, for its numbers. For "shapes" also the number of different shapes, 1 to 6.
        pub classes: Option<Value> = None,
        /// Seed of drawn images; the session's when left out.
        pub seed: Option<u64> = None,
        /// What "shapes" are for: several shapes with boxes per image, or one shape to classify.
        pub task: DataTask = DataTask::Detect,
        /// Take this split at once.
        pub split: Option<String> = None,
        /// Folder of the images of COCO annotations, where they are not in one of the usual places.
        pub image_folder: Option<String> = None,
        /// Keep decoded images: "ram" (up to half of the free memory) or "disk" (3 bytes per pixel, some 10 times the size
        /// of a JPEG, in ~/.cache/compresso/images). Worth it when reading images takes longer than the model.
        #[replayed = "none"]
        pub cache: Cache = Cache::None,
        /// Decode every image now, and leave out and list those that are corrupt, cut off or (labelled ones) less than 10 pixels
        /// wide or high. Otherwise they are left out when met.
        pub check: bool = false,
    }
}

/// Class names that the options give.
pub(super) fn class_names(options: &DataOptions) -> Result<Option<Vec<String>>> {
    let Some(value) = &options.classes else { return Ok(None) };
    let bad = || Error::argument(format!("option 'classes' expects a list of different names, got {value}"));
    let names: Vec<String> =
        value.as_array().ok_or_else(bad)?.iter().map(|v| v.as_str().map(str::to_string).ok_or_else(bad)).collect::<Result<_>>()?;
    if names.is_empty() || names.iter().enumerate().any(|(i, n)| names[..i].contains(n)) {
        return Err(bad());
    }
    Ok(Some(names))
}
