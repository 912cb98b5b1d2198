//! What `predict` gives.

use crate::data::{BBox, Source};
use crate::eval::draw::draw_detections;
use crate::eval::instances::Part;
use compresso_base::error::{At, Error, Result};
use compresso_base::files::{Stage, write_file};
use compresso_base::report::Picture;
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
    /// Number of the class, from 0.
    pub class: usize,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// In pixels of the image.
    pub bbox: BBox,
    /// Its mask, key points or turned box, from a model that finds them.
    #[serde(flatten)]
    pub part: Option<Part>,
}

/// A class with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// Class name.
    pub label: String,
    /// Number of the class, from 0.
    pub class: usize,
    /// Probability, 0 to 1.
    pub score: f32,
}

/// What a model sees in one image.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// The image's name: its path.
    pub name: String,
    /// Of the image, in pixels.
    pub width: u32,
    /// Of the image, in pixels.
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
        write_file(path, &encode(self.draw()?, path)?)
    }
    /// Whether nothing is seen.
    pub(super) fn is_empty(&self) -> bool {
        self.detections.is_empty() && self.classes.is_empty()
    }
    /// `3 RBC, 1 WBC`, or the best class.
    pub(super) fn summary(&self) -> String {
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

/// The bytes of an image's file, by its path's ending.
fn encode(image: RgbImage, path: &Path) -> Result<Vec<u8>> {
    let picture = Picture { title: String::new(), image };
    if ending(path) == "png" { picture.png() } else { picture.jpeg() }.in_file(path)
}

/// Where drawn images go: one file, or a folder with a file for each, in which they appear together.
pub(super) struct Places {
    path: PathBuf,
    stage: Option<Arc<Stage>>,
    used: HashSet<String>,
}

/// Where one drawn image goes.
pub(super) struct Spot {
    /// The file as it will stand.
    pub path: PathBuf,
    stage: Option<Arc<Stage>>,
}

impl Spot {
    /// Writes the image, by the path's ending.
    ///
    /// # Errors
    /// `Argument` for an image that cannot be encoded so; `Io`.
    pub fn write(&self, image: RgbImage) -> Result<()> {
        let bytes = encode(image, &self.path)?;
        match (&self.stage, self.path.file_name()) {
            (Some(stage), Some(name)) => stage.write(name, &bytes),
            _ => write_file(&self.path, &bytes),
        }
    }
}

impl Places {
    /// For `images` images. A path with the ending of an image is a file for the only one; else a folder.
    ///
    /// # Errors
    /// `Argument` for a file for several images or of an unknown ending; `Io` when nothing can be written there.
    pub fn new(path: &Path, images: usize) -> Result<Self> {
        let folder = path.is_dir() || path.extension().is_none() || images != 1;
        if matches!(ending(path).as_str(), "png" | "jpg" | "jpeg") && folder && !path.is_dir() {
            return Err(Error::argument(format!("{images} images do not go into one file")).hint("give a folder").file(path));
        }
        if !folder {
            check_ending(path)?;
        }
        let stage = if folder { Some(Arc::new(Stage::new(path)?)) } else { None };
        Ok(Self { path: path.to_path_buf(), stage, used: HashSet::new() })
    }
    /// The file for an image of this name. Images of one name from different folders do not replace each other.
    pub fn file(&mut self, name: &str, index: usize) -> Spot {
        if self.stage.is_none() {
            return Spot { path: self.path.clone(), stage: None };
        }
        let stem = Path::new(name).file_stem().map_or_else(|| index.to_string(), |s| s.to_string_lossy().into_owned());
        let mut file = stem.clone();
        let mut number = index;
        while !self.used.insert(file.to_lowercase()) {
            file = format!("{stem}_{number}");
            number += 1;
        }
        Spot { path: self.path.join(format!("{file}.jpg")), stage: self.stage.clone() }
    }
    /// Shows what was drawn. No spot may be in use any more.
    ///
    /// # Errors
    /// As [`Stage::commit`].
    pub fn commit(self) -> Result<()> {
        match self.stage.map(Arc::try_unwrap) {
            None => Ok(()),
            Some(Ok(stage)) => stage.commit(),
            Some(Err(_)) => Err(Error::internal("images are still being drawn").file(&self.path)),
        }
    }
}
