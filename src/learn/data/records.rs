//! What the file formats have in common: images on disk with boxes or classes in memory.

use super::files::{image_size, read_opacity};
use super::reader::Reader;
use super::{BBox, GroundTruth, Region, Sample, Source};
use compresso_base::error::{Error, Result};
use std::path::{Path, PathBuf};

/// One image file with its labels.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub path: PathBuf,
    pub objects: Vec<GroundTruth>,
    pub label: Option<usize>,
    /// Areas of the objects and crowds, where the format has them.
    pub details: Option<Box<Details>>,
}

/// What COCO's annotations say beyond classes and boxes.
#[derive(Debug, Clone, Default)]
pub(super) struct Details {
    /// One per object.
    pub areas: Vec<f64>,
    pub crowds: Vec<Region>,
}

impl Record {
    pub fn new(path: PathBuf, objects: Vec<GroundTruth>, label: Option<usize>) -> Self {
        Self { path, objects, label, details: None }
    }
}

/// Image files of one split.
pub(super) struct Records {
    records: Vec<Record>,
    /// Boxes are parts of width and height, not pixels.
    relative: bool,
    /// Width and height that an image has at least, in pixels.
    least: u32,
    reader: Reader,
}

/// Labelled images that are narrower or lower than this are left out, as in the Ultralytics trainer.
const LEAST: u32 = 10;

impl Records {
    pub fn new(records: Vec<Record>, relative: bool, reader: &Reader) -> Self {
        Self { records, relative, least: LEAST, reader: reader.clone() }
    }
    /// Images without labels, of any size.
    pub fn unlabelled(files: Vec<PathBuf>, reader: &Reader) -> Self {
        let records = files.into_iter().map(|path| Record::new(path, Vec::new(), None)).collect();
        Self { least: 1, ..Self::new(records, false, reader) }
    }
    /// A box in pixels of an image of this width and height, cut at its edges; `None` when nothing is left.
    fn cut(&self, b: BBox, (w, h): (u32, u32)) -> Option<BBox> {
        let (w, h) = (w as f32, h as f32);
        let (sx, sy) = if self.relative { (w, h) } else { (1.0, 1.0) };
        let (x, y) = (|v: f32| (v * sx).clamp(0.0, w), |v: f32| (v * sy).clamp(0.0, h));
        let bbox = BBox { x1: x(b.x1), y1: y(b.y1), x2: x(b.x2), y2: y(b.y2) };
        (bbox.x2 > bbox.x1 && bbox.y2 > bbox.y1).then_some(bbox)
    }
    fn fit(&self, r: &Record, size: (u32, u32)) -> Vec<GroundTruth> {
        r.objects.iter().filter_map(|t| Some(GroundTruth { class: t.class, bbox: self.cut(t.bbox, size)? })).collect()
    }
}

impl Source for Records {
    fn len(&self) -> usize {
        self.records.len()
    }
    fn get(&self, i: usize) -> Result<Sample> {
        let r = &self.records[i];
        let image = self.reader.read(&r.path)?;
        let (w, h) = image.dimensions();
        if w.min(h) < self.least {
            let e = Error::format(format!("the image is {w}×{h} pixels, less than {} on a side", self.least));
            return Err(e.file(&r.path));
        }
        let targets = self.fit(r, image.dimensions());
        Ok(Sample { name: r.path.display().to_string(), image, targets, label: r.label })
    }
    fn boxes_of(&self, i: usize) -> Result<(Vec<GroundTruth>, (u32, u32))> {
        let r = &self.records[i];
        let size = image_size(&r.path)?;
        Ok((self.fit(r, size), size))
    }
    fn regions_of(&self, i: usize, size: (u32, u32)) -> Option<Vec<Region>> {
        let r = &self.records[i];
        let details = r.details.as_ref()?;
        let objects = r.objects.iter().zip(&details.areas);
        let objects = objects.map(|(t, &area)| Region { class: t.class, bbox: t.bbox, area, crowd: false });
        let all = objects.chain(details.crowds.iter().copied());
        Some(all.filter_map(|o| Some(Region { bbox: self.cut(o.bbox, size)?, ..o })).collect())
    }
    fn opacity_of(&self, i: usize) -> Result<Option<image::GrayImage>> {
        read_opacity(&self.records[i].path)
    }
    fn file_of(&self, i: usize) -> Option<&Path> {
        Some(&self.records[i].path)
    }
    fn classes_of(&self, i: usize) -> Result<Vec<usize>> {
        let r = &self.records[i];
        Ok(r.label.map_or_else(|| r.objects.iter().map(|t| t.class).collect(), |l| vec![l]))
    }
}
