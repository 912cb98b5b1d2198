//! Opening and choosing datasets.

use super::files::{image_files, is_image};
use super::random::Noise;
use super::shapes::{SHAPES, Shapes};
use super::{DataKind, Dataset, Sample, Source, folder, voc, yolo};
use crate::context::Context;
use crate::error::{At, Error, Result, nearest};
use crate::operation::{Arg, Options, Signature};
use crate::report::{Show, Table};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

crate::choice! {
    /// What drawn images are for.
    pub enum DataTask { Detect = "detect", Classify = "classify" }
}

crate::options! {
    /// Options of `dataset`.
    pub struct DataOptions {
        /// Number of drawn images: "random" has 32, "shapes" 512 to train on and a quarter of that to validate.
        pub images: Option<usize> = None,
        /// Size of drawn images in pixels, one number or [height, width]; "shapes": 160, "random": the model's input.
        pub size: Option<Value> = None,
        /// Class names in order, which decide class numbers. For "shapes" also the number of different shapes, 1 to 6.
        pub classes: Option<Value> = None,
        /// Seed of drawn images; the session's when left out.
        pub seed: Option<u64> = None,
        /// What "shapes" are for: several shapes with boxes per image, or one shape to classify.
        pub task: DataTask = DataTask::Detect,
        /// Take this split at once.
        pub split: Option<String> = None,
    }
}

/// The script function `dataset`.
pub const SIGNATURE: Signature = Signature {
    name: "dataset",
    summary: "Opens a dataset: data.yaml (YOLO), a Pascal VOC folder, an image folder or pattern, \"shapes\" or \"random\".",
    group: "data",
    args: &[Arg::new("source", "text")],
    returns: "dataset",
    fields: DataOptions::FIELDS,
    examples: &[
        "dataset(\"shapes\", #{ images: 64, size: 96 })",
        "dataset(\"shapes\", #{ task: \"classify\", classes: [\"circle\", \"star\"] }).split(\"val\").len",
        "dataset(\"random\", #{ images: 8 })",
    ],
    keywords: &["data", "images", "labels", "yolo", "voc", "coco", "imagenet", "folder", "synthetic", "noise", "calibration"],
};

/// Opens or draws a dataset. `source` is the path of a `data.yaml`, of a Pascal VOC folder, of an image folder (a
/// subfolder per class, or plain images), a pattern such as `photos/*.jpg`, or one of the words `shapes` and `random`.
///
/// # Errors
/// `Missing` for a source that does not exist, `Format` for a malformed one, `Argument` for options out of range.
pub fn dataset(source: &str, options: &DataOptions, ctx: &Context) -> Result<Dataset> {
    let seed = options.seed.unwrap_or(ctx.seed);
    let size = options.size.as_ref().map(|v| size_of("size", v)).transpose()?;
    let data = match source {
        "shapes" => shapes(options, size.unwrap_or([160, 160]), seed)?,
        "random" => random(options, size, seed)?,
        path => open(path, options, ctx)?,
    };
    for line in data.warnings.iter() {
        ctx.note(format!("{}: {line}", data.name));
    }
    match &options.split {
        Some(name) => data.split(name),
        None => Ok(data),
    }
}

/// Opens files: by what is at the path.
fn open(source: &str, options: &DataOptions, ctx: &Context) -> Result<Dataset> {
    let path = Path::new(source);
    let is_yaml = |p: &Path| p.extension().is_some_and(|e| e == "yaml" || e == "yml");
    if path.is_file() && is_yaml(path) {
        return yolo::open(source, path, options, ctx);
    }
    if path.is_dir() {
        if let Some(root) = voc::find(path) {
            return voc::open(source, &root, options, ctx);
        }
        if let Some(yaml) = ["data.yaml", "dataset.yaml", "data.yml"].iter().map(|f| path.join(f)).find(|p| p.is_file()) {
            return yolo::open(source, &yaml, options, ctx);
        }
        if path.join("images").is_dir() && path.join("labels").is_dir() {
            return Err(Error::missing("a YOLO dataset needs a data.yaml with its class names").file(path));
        }
        return folder::open(source, path, options, ctx);
    }
    if path.is_file() || source.contains(['*', '?']) {
        let files = image_files(source)?;
        if files.iter().any(|f| !is_image(f)) {
            let e = Error::argument("expected a data.yaml, a folder or images").file(path);
            return Err(e.hint("dataset(\"folder\") takes a Pascal VOC folder, an image folder or a folder with a data.yaml"));
        }
        return Ok(folder::of_files(source, files));
    }
    let e = Error::missing(format!("there is no dataset '{source}'"));
    Err(match nearest(source, ["shapes", "random"]) {
        Some(near) => e.hint(format!("did you mean \"{near}\"?")),
        None => e.hint("give the path of a data.yaml or a folder, or \"shapes\" or \"random\""),
    })
}

/// Reads an image size option: one number, or `[height, width]`.
///
/// # Errors
/// `Argument`, with the option's name.
pub fn size_of(option: &str, value: &Value) -> Result<[usize; 2]> {
    let side = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (8..=8192).contains(n));
    let size = match value {
        Value::Array(sides) if sides.len() == 2 => side(&sides[0]).zip(side(&sides[1])).map(|(h, w)| [h, w]),
        v => side(v).map(|s| [s, s]),
    };
    size.ok_or_else(|| {
        Error::argument(format!("option '{option}' expects a number of pixels from 8 to 8192, or [height, width], got {value}"))
    })
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

fn shapes(options: &DataOptions, size: [usize; 2], seed: u64) -> Result<Dataset> {
    let kinds: Vec<usize> = match &options.classes {
        None => vec![0, 1, 2],
        Some(Value::Number(n)) => {
            let n = n.as_u64().filter(|n| (1..=SHAPES.len() as u64).contains(n));
            let n = n.ok_or_else(|| Error::argument(format!("option 'classes' of \"shapes\" must be 1 to {}", SHAPES.len())))?;
            (0..n as usize).collect()
        }
        Some(_) => {
            let names = class_names(options)?.unwrap_or_default();
            let kind = |n: &String| {
                SHAPES.iter().position(|s| s == n).ok_or_else(|| {
                    let e = Error::argument(format!("there is no shape '{n}'"));
                    match nearest(n, SHAPES) {
                        Some(near) => e.hint(format!("did you mean '{near}'?")),
                        None => e.hint(format!("the shapes are {}", SHAPES.join(", "))),
                    }
                })
            };
            names.iter().map(kind).collect::<Result<_>>()?
        }
    };
    let images = options.images.unwrap_or(512);
    if images == 0 {
        return Err(Error::argument("option 'images' must be at least 1, got 0"));
    }
    let single = options.task == DataTask::Classify;
    let classes: Vec<String> = kinds.iter().map(|&k| SHAPES[k].to_string()).collect();
    let split = |name: &str, number: u64, images: usize| {
        let source = Shapes { images, size, kinds: kinds.clone(), seed, split: number, single };
        (name.to_string(), Arc::new(source) as Arc<dyn Source>)
    };
    let splits = vec![split("train", 0, images), split("val", 1, (images / 4).max(8))];
    let kind = if single { DataKind::Classification } else { DataKind::Detection };
    Ok(Dataset::of_splits("shapes", kind, classes, splits, Vec::new()))
}

fn random(options: &DataOptions, size: Option<[usize; 2]>, seed: u64) -> Result<Dataset> {
    let images = options.images.unwrap_or(32);
    if images == 0 {
        return Err(Error::argument("option 'images' must be at least 1, got 0"));
    }
    Ok(Dataset::new("random", DataKind::Unlabelled, Vec::new(), Arc::new(Noise { images, size, seed })))
}

/// The first `count` samples of a source.
struct First {
    source: Arc<dyn Source>,
    count: usize,
}

impl Source for First {
    fn len(&self) -> usize {
        self.count.min(self.source.len())
    }
    fn get(&self, i: usize) -> Result<Sample> {
        self.source.get(i)
    }
    fn get_at(&self, i: usize, size: [usize; 2]) -> Result<Sample> {
        self.source.get_at(i, size)
    }
    fn classes_of(&self, i: usize) -> Result<Vec<usize>> {
        self.source.classes_of(i)
    }
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dataset({} {:?} {:?}, {} images)", self.name, self.split, self.kind, self.len())
    }
}

impl Dataset {
    /// A dataset without splits.
    pub fn new(name: impl Into<String>, kind: DataKind, classes: Vec<String>, source: Arc<dyn Source>) -> Self {
        Self {
            name: name.into(),
            split: String::new(),
            kind,
            classes: classes.into(),
            source,
            warnings: Arc::from([]),
            splits: Arc::new([]),
        }
    }
    /// A dataset of named splits, of which there is at least one. It stands for the first until one is chosen.
    pub fn of_splits(
        name: impl Into<String>,
        kind: DataKind,
        classes: Vec<String>,
        splits: Vec<(String, Arc<dyn Source>)>,
        warnings: Vec<String>,
    ) -> Self {
        let first = splits.first().map(|(_, s)| s.clone()).expect("a dataset has at least one split");
        let mut root = Self::new(name, kind, classes, first);
        root.warnings = warnings.into();
        let of = |(name, source): (String, Arc<dyn Source>)| (name.clone(), Self { split: name, source, ..root.clone() });
        root.splits = splits.into_iter().map(of).collect();
        root
    }
    /// Itself, without the names of its splits.
    pub(super) fn without_splits(self) -> Self {
        Self { split: String::new(), splits: Arc::new([]), ..self }
    }
    /// Number of images.
    pub fn len(&self) -> usize {
        self.source.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Image `i` with its labels.
    pub fn get(&self, i: usize) -> Result<Sample> {
        if i >= self.len() {
            return Err(Error::argument(format!("there is no image {i}: dataset '{}' has {}", self.name, self.len())));
        }
        self.source.get(i).at(|| format!("dataset '{}'", self.name))
    }
    /// One split.
    ///
    /// # Errors
    /// `Missing`, with the names of the splits.
    pub fn split(&self, name: &str) -> Result<Self> {
        if let Some((_, d)) = self.splits.iter().find(|(n, _)| n == name) {
            return Ok(d.clone());
        }
        if self.split == name {
            return Ok(self.clone());
        }
        let e = Error::missing(format!("dataset '{}' has no split '{name}'", self.name));
        let names: Vec<&str> = self.splits.iter().map(|(n, _)| n.as_str()).collect();
        Err(match (names.is_empty(), self.split.is_empty()) {
            (false, _) => e.hint(format!("its splits are {}", names.join(", "))),
            (true, true) => e.hint("it has no splits"),
            (true, false) => e.hint(format!("this is its split '{}' already", self.split)),
        })
    }
    /// The split to train on: `train` where there is one and none was chosen, else the dataset as it is.
    #[must_use]
    pub fn for_training(&self) -> Self {
        self.first_of(&["train", "trainval"])
    }
    /// The split to judge by: `val`, else `test`, where none was chosen; else the dataset as it is.
    #[must_use]
    pub fn for_evaluation(&self) -> Self {
        self.first_of(&["val", "test"])
    }
    fn first_of(&self, names: &[&str]) -> Self {
        names.iter().find_map(|n| self.splits.iter().find(|(s, _)| s == n)).map_or_else(|| self.clone(), |(_, d)| d.clone())
    }
    /// The first `count` images (of each split).
    #[must_use]
    pub fn take(&self, count: usize) -> Self {
        let first = |d: &Self| Self { source: Arc::new(First { source: d.source.clone(), count }), ..d.clone() };
        let splits = self.splits.iter().map(|(n, d)| (n.clone(), first(d))).collect();
        Self { splits, ..first(self) }
    }
    /// Name and split, for messages: `bccd test`.
    pub fn label(&self) -> String {
        if self.split.is_empty() { self.name.clone() } else { format!("{} {}", self.name, self.split) }
    }

    /// Itself, or its splits.
    fn parts(&self) -> Vec<&Self> {
        if self.splits.is_empty() { vec![self] } else { self.splits.iter().map(|(_, d)| d).collect() }
    }
    /// Objects (or images) per class; `None` where there are no labels.
    fn counts(&self) -> Option<Vec<usize>> {
        if self.kind == DataKind::Unlabelled {
            return None;
        }
        let mut counts = vec![0; self.classes.len()];
        for i in 0..self.len() {
            for class in self.source.classes_of(i).unwrap_or_default() {
                if let Some(n) = counts.get_mut(class) {
                    *n += 1;
                }
            }
        }
        Some(counts)
    }
}

impl Show for Dataset {
    fn tables(&self) -> Vec<Table> {
        let what = match self.kind {
            DataKind::Detection => "objects",
            DataKind::Classification => "images per class",
            DataKind::Unlabelled => "unlabelled",
        };
        let mut headers = vec!["split".to_string(), ">images".to_string()];
        headers.extend(self.classes.iter().take(MAX_COLUMNS).map(|c| format!(">{c}")));
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let mut table = Table::new(format!("{} ({what})", self.name), &headers);
        for part in self.parts() {
            let mut row = vec![if part.split.is_empty() { "all".to_string() } else { part.split.clone() }, part.len().to_string()];
            row.extend(part.counts().unwrap_or_default().iter().take(MAX_COLUMNS).map(usize::to_string));
            table.row(row);
        }
        vec![table]
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = self.warnings.to_vec();
        if self.classes.len() > MAX_COLUMNS {
            notes.push(format!("the first {MAX_COLUMNS} of {} classes are shown", self.classes.len()));
        }
        notes
    }
    fn data(&self) -> Value {
        let splits: serde_json::Map<String, Value> =
            self.splits.iter().map(|(n, d)| (n.clone(), serde_json::json!({ "images": d.len(), "objects": d.counts() }))).collect();
        serde_json::json!({
            "name": self.name, "split": self.split, "kind": self.kind, "classes": &*self.classes, "images": self.len(),
            "len": self.len(), "splits": splits, "warnings": &*self.warnings,
        })
    }
}

/// Classes that the table shows.
const MAX_COLUMNS: usize = 12;
