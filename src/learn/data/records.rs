//! What the file formats have in common: images on disk with boxes or classes in memory, and warnings by kind.

use super::files::image_size;
use super::reader::Reader;
use super::{BBox, GroundTruth, Region, Sample, Source};
use compresso_base::error::Result;
use indexmap::IndexMap;
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
    reader: Reader,
}

impl Records {
    pub fn new(records: Vec<Record>, relative: bool, reader: &Reader) -> Self {
        Self { records, relative, reader: reader.clone() }
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
    fn file_of(&self, i: usize) -> Option<&Path> {
        Some(&self.records[i].path)
    }
    fn classes_of(&self, i: usize) -> Result<Vec<usize>> {
        let r = &self.records[i];
        Ok(r.label.map_or_else(|| r.objects.iter().map(|t| t.class).collect(), |l| vec![l]))
    }
}

/// Places that a warning names; more are counted.
const NAMED: usize = 5;

/// Warnings of one opening, counted by kind.
#[derive(Default)]
pub(super) struct Warnings {
    kinds: IndexMap<String, (usize, Vec<String>)>,
}

impl Warnings {
    /// Counts one case of `kind` at a place such as `a.txt:3`.
    pub fn add(&mut self, kind: impl Into<String>, place: impl Into<String>) {
        let (count, places) = self.kinds.entry(kind.into()).or_default();
        *count += 1;
        if places.len() < NAMED {
            places.push(place.into());
        }
    }
    /// One line per kind: `2 × box without area, skipped: a.xml:12, b.xml:40`.
    pub fn lines(self) -> Vec<String> {
        let line = |(kind, (count, places)): (String, (usize, Vec<String>))| {
            let more = if count > places.len() { format!(" and {} more", count - places.len()) } else { String::new() };
            format!("{count} × {kind}: {}{more}", places.join(", "))
        };
        self.kinds.into_iter().map(line).collect()
    }
}

/// File name and line, for a warning.
pub(super) fn place(path: &Path, line: usize) -> String {
    format!("{}:{line}", file_name(path))
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// Kinds of warnings that several formats give.
pub(super) const NO_AREA: &str = "box without area, skipped";
pub(super) const NOT_FINITE: &str = "box with a coordinate that is no number, skipped";
pub(super) const OUTSIDE: &str = "box outside its image, skipped";
