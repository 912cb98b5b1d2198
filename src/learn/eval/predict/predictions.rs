//! What `predict` gives for several images.

use super::prediction::{Found, Places, Prediction};
use super::tables::{ROWS, table_of_all, tables_of};
use super::throughput::Throughput;
use crate::eval::instances::{KeyPoint, Part};
use compresso_base::error::Result;
use compresso_base::report::{Picture, Show, Table};
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::path::Path;

/// What a model sees in several images.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Predictions {
    /// Those that could be read, in their order.
    pub images: Vec<Prediction>,
    /// Why images were skipped.
    pub skipped: Vec<String>,
    /// The user stopped before the end.
    pub cancelled: bool,
    /// How fast it went.
    #[serde(flatten)]
    pub throughput: Throughput,
}

impl Predictions {
    /// Saves one drawn image to a file, or several into a folder under their own names; detections in COCO's form to a
    /// path that ends in `.coco.json`.
    ///
    /// # Errors
    /// As [`Prediction::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if Self::is_coco(path) {
            return compresso_base::files::write_file(path, format!("{:#}\n", self.coco()).as_bytes());
        }
        let mut places = Places::new(path, self.images.len())?;
        for (i, p) in self.images.iter().enumerate() {
            places.file(&p.name, i).write(p.draw()?)?;
        }
        places.commit()
    }
    /// Whether a path asks for COCO's form.
    pub fn is_coco(path: &Path) -> bool {
        path.to_string_lossy().to_lowercase().ends_with(".coco.json")
    }
    /// Detections as COCO's evaluation reads them: a list of `image_id` (the file's name without ending, as a number where
    /// it is one), `category_id` (the class's number from 1, as [`Dataset::export`](crate::data::Dataset::export) counts),
    /// `bbox` (left, top, width, height in pixels), `score`; and `segmentation`, the run lengths of a mask or the corners of a
    /// turned box, or `keypoints` (x, y, visibility of each).
    pub fn coco(&self) -> Json {
        let mut all = Vec::new();
        for p in &self.images {
            let stem = Path::new(&p.name).file_stem().map_or_else(|| p.name.clone(), |s| s.to_string_lossy().into_owned());
            let id = stem.parse::<u64>().map_or_else(|_| json!(stem), |n| json!(n));
            all.extend(p.detections.iter().map(|d| coco_result(&id, d)));
        }
        Json::Array(all)
    }
}

fn coco_result(image: &Json, d: &Found) -> Json {
    let b = d.bbox;
    let mut result =
        json!({ "image_id": image, "category_id": d.class + 1, "bbox": [b.x1, b.y1, b.width(), b.height()], "score": d.score });
    let point = |p: &KeyPoint| [p.x, p.y, p.visibility.unwrap_or(1.0)];
    match &d.part {
        None => {}
        Some(Part::Mask(mask)) => result["segmentation"] = json!(mask),
        Some(Part::Turned(b)) => result["segmentation"] = json!([b.corners().concat()]),
        Some(Part::KeyPoints(points)) => result["keypoints"] = json!(points.iter().flat_map(point).collect::<Vec<f32>>()),
    }
    result
}

/// Images up to which each has tables of its own.
const OWN_TABLES: usize = 8;
/// Images up to which they are shown drawn.
const PICTURES: usize = 4;

impl Show for Predictions {
    fn tables(&self) -> Vec<Table> {
        if self.images.len() > OWN_TABLES {
            return vec![table_of_all(&self.images)];
        }
        // Of several images, those without a detection are counted in the notes.
        let single = self.images.len() == 1;
        self.images.iter().filter(|p| single || !p.is_empty()).flat_map(tables_of).collect()
    }
    /// The drawn images of a few.
    fn pictures(&self) -> Vec<Picture> {
        if self.images.len() > PICTURES {
            return Vec::new();
        }
        let picture = |p: &Prediction| Some(Picture { title: p.name.clone(), image: p.draw().ok()? });
        self.images.iter().filter_map(picture).collect()
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let n = self.images.len();
        if n > ROWS {
            notes.push(format!("the first {ROWS} images are listed; save the result as .json for all"));
        }
        let empty = self.images.iter().filter(|p| p.is_empty()).count();
        if empty > 0 {
            notes.push(format!("{empty} of {n} images without a detection"));
        }
        if let Some(first) = self.skipped.first() {
            notes.push(format!("{} images skipped, the first: {}", self.skipped.len(), first.replace('\n', " ")));
        }
        if self.cancelled {
            notes.push("stopped by the user".into());
        }
        if n > 0 {
            notes.push(self.throughput.line());
        }
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
    /// The drawn images (.png, .jpg, a folder), COCO's results (.coco.json), else a report.
    fn save_as(&self, path: &Path) -> Result<()> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        if matches!(ending.as_str(), "" | "png" | "jpg" | "jpeg") || Self::is_coco(path) {
            return self.save(path);
        }
        compresso_base::report::save(self, path)
    }
}
