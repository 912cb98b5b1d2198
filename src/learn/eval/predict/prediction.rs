//! What `predict` gives.

use super::throughput::Throughput;
use crate::data::{BBox, Source};
use crate::eval::draw::draw_detections;
use compresso_base::error::{At, Error, Result};
use compresso_base::report::{Picture, Show, Table};
use image::RgbImage;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A detected object of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Class name.
    pub label: String,
    pub class: usize,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// In pixels of the image.
    pub bbox: BBox,
}

/// A class with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// Class name.
    pub label: String,
    pub class: usize,
    /// Probability, 0 to 1.
    pub score: f32,
}

/// What a model sees in one image.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// The image's name: its path.
    pub name: String,
    pub width: u32,
    pub height: u32,
    /// Objects, best first, from a detector.
    pub detections: Vec<Found>,
    /// The likeliest classes, best first, from a classifier.
    pub classes: Vec<Ranked>,
    /// The drawn image's file, where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved: Option<PathBuf>,
    #[serde(skip)]
    origin: Origin,
}

/// Where the image is.
#[derive(Clone)]
enum Origin {
    Held(Arc<RgbImage>),
    /// Sample of a source, read for an input of this size.
    Source(Arc<dyn Source>, usize, [usize; 2]),
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Held(_) => f.write_str("held"),
            Self::Source(_, i, _) => write!(f, "image {i} of its source"),
        }
    }
}

impl Prediction {
    /// Nothing seen, in an image that is kept.
    pub fn held(name: impl Into<String>, image: RgbImage) -> Self {
        let (width, height) = image.dimensions();
        Self::new(name.into(), (width, height), Origin::Held(Arc::new(image)))
    }
    /// Nothing seen, in an image that its source reads again when it is asked for.
    pub(super) fn of_source(name: String, size: (u32, u32), source: &Arc<dyn Source>, index: usize, input: [usize; 2]) -> Self {
        Self::new(name, size, Origin::Source(source.clone(), index, input))
    }
    fn new(name: String, (width, height): (u32, u32), origin: Origin) -> Self {
        Self { name, width, height, detections: Vec::new(), classes: Vec::new(), saved: None, origin }
    }

    /// The image itself.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub fn image(&self) -> Result<RgbImage> {
        match &self.origin {
            Origin::Held(image) => Ok((**image).clone()),
            Origin::Source(source, i, size) => Ok(source.get_at(*i, *size)?.image),
        }
    }
    /// The image with the detections (or the best classes) drawn on it.
    ///
    /// # Errors
    /// As [`Prediction::image`].
    pub fn draw(&self) -> Result<RgbImage> {
        self.draw_on(&self.image()?)
    }
    /// As [`Prediction::draw`], on the image given.
    ///
    /// # Errors
    /// As [`draw_detections`].
    pub fn draw_on(&self, image: &RgbImage) -> Result<RgbImage> {
        let captions: Vec<String> = self.classes.iter().map(|c| format!("{} {:.2}", c.label, c.score)).collect();
        draw_detections(image, &self.detections, &captions)
    }
    /// Saves the drawn image, by extension .jpg or .png. The file is complete or not there at all.
    ///
    /// # Errors
    /// `Argument` for another extension; `Io`.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        check_ending(path)?;
        write_image(self.draw()?, path)
    }
    /// `3 RBC, 1 WBC`, or the best class.
    fn summary(&self) -> String {
        if let Some(best) = self.classes.first() {
            return format!("{} {:.3}", best.label, best.score);
        }
        let mut counts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
        for d in &self.detections {
            *counts.entry((d.class, &d.label)).or_default() += 1;
        }
        counts.into_iter().map(|((_, label), n)| format!("{n} {label}")).collect::<Vec<_>>().join(", ")
    }
}

fn ending(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase()
}

fn check_ending(path: &Path) -> Result<()> {
    match ending(path).as_str() {
        "png" | "jpg" | "jpeg" => Ok(()),
        other => Err(Error::argument(format!("images are saved as .jpg or .png, got '.{other}'")).file(path)),
    }
}

/// Writes an image by its path's ending.
///
/// # Errors
/// `Argument` for an image that cannot be encoded so; `Io`.
pub(super) fn write_image(image: RgbImage, path: &Path) -> Result<()> {
    let picture = Picture { title: String::new(), image };
    let bytes = if ending(path) == "png" { picture.png() } else { picture.jpeg() };
    compresso_base::report::write_file(path, &bytes.in_file(path)?)
}

/// Where drawn images go: one file, or a folder with a file for each.
pub(super) struct Places {
    path: PathBuf,
    folder: bool,
    used: HashSet<String>,
}

impl Places {
    /// For `images` images. A path with the ending of an image is a file for the only one; else a folder, which is made.
    ///
    /// # Errors
    /// `Argument` for a file for several images or of an unknown ending; `Io` when the folder cannot be made.
    pub fn new(path: &Path, images: usize) -> Result<Self> {
        let folder = path.is_dir() || path.extension().is_none() || images != 1;
        if matches!(ending(path).as_str(), "png" | "jpg" | "jpeg") && folder && !path.is_dir() {
            return Err(Error::argument(format!("{images} images do not go into one file")).hint("give a folder").file(path));
        }
        if folder {
            std::fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
        } else {
            check_ending(path)?;
        }
        Ok(Self { path: path.to_path_buf(), folder, used: HashSet::new() })
    }
    /// The file for an image of this name. Images of one name from different folders do not replace each other.
    pub fn file(&mut self, name: &str, index: usize) -> PathBuf {
        if !self.folder {
            return self.path.clone();
        }
        let stem = Path::new(name).file_stem().map_or_else(|| index.to_string(), |s| s.to_string_lossy().into_owned());
        let mut file = stem.clone();
        let mut number = index;
        while !self.used.insert(file.to_lowercase()) {
            file = format!("{stem}_{number}");
            number += 1;
        }
        self.path.join(format!("{file}.jpg"))
    }
}

/// What a model sees in several images.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Predictions {
    pub images: Vec<Prediction>,
    /// Why images were skipped.
    pub skipped: Vec<String>,
    /// The user stopped before the end.
    pub cancelled: bool,
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
            return compresso_base::report::write_file(path, format!("{:#}\n", self.coco()).as_bytes());
        }
        let mut places = Places::new(path, self.images.len())?;
        for (i, p) in self.images.iter().enumerate() {
            p.save(places.file(&p.name, i))?;
        }
        Ok(())
    }
    /// Whether a path asks for COCO's form.
    pub fn is_coco(path: &Path) -> bool {
        path.to_string_lossy().to_lowercase().ends_with(".coco.json")
    }
    /// Detections as COCO's evaluation reads them: a list of `image_id` (the file's name without ending, as a number where
    /// it is one), `category_id` (the class's number from 0), `bbox` (left, top, width, height in pixels), `score`.
    pub fn coco(&self) -> serde_json::Value {
        let mut all = Vec::new();
        for p in &self.images {
            let stem = Path::new(&p.name).file_stem().map_or_else(|| p.name.clone(), |s| s.to_string_lossy().into_owned());
            let id = stem.parse::<u64>().map_or_else(|_| serde_json::json!(stem), |n| serde_json::json!(n));
            all.extend(p.detections.iter().map(|d| {
                let b = d.bbox;
                serde_json::json!({ "image_id": id, "category_id": d.class, "bbox": [b.x1, b.y1, b.width(), b.height()], "score": d.score })
            }));
        }
        serde_json::Value::Array(all)
    }
}

/// Images up to which each has a table of its own.
const OWN_TABLES: usize = 8;
/// Rows of the table of many images.
const ROWS: usize = 40;
/// Images up to which they are shown drawn.
const PICTURES: usize = 4;

impl Show for Predictions {
    fn tables(&self) -> Vec<Table> {
        if self.images.len() > OWN_TABLES {
            let mut t = Table::new(format!("{} images", self.images.len()), &["image", "size", "seen"]);
            for p in self.images.iter().take(ROWS) {
                t.row([p.name.clone(), format!("{}×{}", p.width, p.height), p.summary()]);
            }
            return vec![t];
        }
        let of = |p: &Prediction| {
            let title = format!("{} ({}×{})", p.name, p.width, p.height);
            if p.classes.is_empty() {
                let mut t = Table::new(title, &["object", ">score", ">left", ">top", ">right", ">bottom"]);
                for d in &p.detections {
                    let b = d.bbox;
                    let sides = [b.x1, b.y1, b.x2, b.y2].map(|v| format!("{v:.1}"));
                    t.row([d.label.clone(), format!("{:.3}", d.score)].into_iter().chain(sides));
                }
                t
            } else {
                let mut t = Table::new(title, &["class", ">probability"]);
                for c in &p.classes {
                    t.row([c.label.clone(), format!("{:.4}", c.score)]);
                }
                t
            }
        };
        // Of several images, those without a detection are counted in the notes.
        let empty = |p: &&Prediction| p.detections.is_empty() && p.classes.is_empty();
        let single = self.images.len() == 1;
        self.images.iter().filter(|p| single || !empty(p)).map(of).collect()
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
        let empty = self.images.iter().filter(|p| p.detections.is_empty() && p.classes.is_empty()).count();
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
