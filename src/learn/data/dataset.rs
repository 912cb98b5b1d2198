//! Choosing from datasets, and showing them.

use super::{DataKind, DataOptions, Dataset, Grid, GridOptions, GroundTruth, Region, Sample, Source, Split, Take, plots};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_base::operation::{Argument, Call, Operation, Recipe};
use compresso_base::report::{self, Picture, Plot, Show, Table, printable};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// Some samples of a source.
struct Subset {
    source: Arc<dyn Source>,
    indices: Vec<usize>,
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn get(&self, i: usize) -> Result<Sample> {
        self.source.get(self.indices[i])
    }
    fn get_at(&self, i: usize, size: [usize; 2]) -> Result<Sample> {
        self.source.get_at(self.indices[i], size)
    }
    fn classes_of(&self, i: usize) -> Result<Vec<usize>> {
        self.source.classes_of(self.indices[i])
    }
    fn boxes_of(&self, i: usize) -> Result<(Vec<GroundTruth>, (u32, u32))> {
        self.source.boxes_of(self.indices[i])
    }
    fn regions_of(&self, i: usize, size: (u32, u32)) -> Option<Vec<Region>> {
        self.source.regions_of(self.indices[i], size)
    }
    fn opacity_of(&self, i: usize) -> Result<Option<image::GrayImage>> {
        self.source.opacity_of(self.indices[i])
    }
    fn file_of(&self, i: usize) -> Option<&Path> {
        self.source.file_of(self.indices[i])
    }
}

/// The samples of `source` at `indices`, in that order.
pub(super) fn subset(source: &Arc<dyn Source>, indices: Vec<usize>) -> Arc<dyn Source> {
    Arc::new(Subset { source: source.clone(), indices })
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dataset({} {:?} {:?}, {} images)", self.name, self.split, self.kind, self.len())
    }
}

impl Dataset {
    /// A dataset without splits.
    pub fn new(name: impl Into<String>, kind: DataKind, classes: Vec<String>, source: Arc<dyn Source>) -> Self {
        let name = name.into();
        Self {
            recipe: Recipe::of(Call::new(DataOptions::SIGNATURE.name, [Argument::Named(name.clone())], Map::new())),
            name,
            split: String::new(),
            kind,
            classes: classes.into(),
            source,
            warnings: Arc::from([]),
            splits: Arc::new([]),
            told: Arc::default(),
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
        let of =
            |(name, source): (String, Arc<dyn Source>)| (name.clone(), Self { split: name, source, told: Arc::default(), ..root.clone() });
        root.splits = splits.into_iter().map(of).collect();
        let recipe = root.recipe.clone();
        root.with_recipe(recipe)
    }
    /// Itself, without the names of its splits.
    pub(super) fn without_splits(self) -> Self {
        Self { split: String::new(), splits: Arc::new([]), ..self }
    }
    /// Number of images.
    pub fn len(&self) -> usize {
        self.source.len()
    }
    /// Whether it has no images.
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
        let taken = self.with_sources(|d| subset(&d.source, (0..count.min(d.len())).collect()));
        taken.with_recipe(Recipe::of(Take {}.call([self.into(), Argument::Value(count.into())])))
    }
    /// Its images again and again, without splits, until there are `count` of them.
    #[must_use]
    pub fn repeated(&self, count: usize) -> Self {
        let indices = (0..self.len()).cycle().take(count).collect();
        Self::new(self.name.clone(), self.kind, self.classes.to_vec(), subset(&self.source, indices))
    }
    /// How it was made. Of one that was made in Rust, only the name is known.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }
    /// Itself as made by this recipe, and its splits as chosen from it.
    pub(super) fn with_recipe(mut self, recipe: Recipe) -> Self {
        let choice = |name: &str| Recipe::of(Split {}.call([Argument::Call(recipe.clone()), Argument::Value(name.into())]));
        let of = |(name, d): &(String, Self)| (name.clone(), Self { recipe: choice(name), ..d.clone() });
        self.splits = self.splits.iter().map(of).collect();
        self.recipe = recipe;
        self
    }
    /// Itself with other samples, in each split.
    pub(super) fn with_sources(&self, mut source: impl FnMut(&Self) -> Arc<dyn Source>) -> Self {
        let mut of = |d: &Self| Self { source: source(d), told: Arc::default(), ..d.clone() };
        if self.splits.is_empty() {
            return of(self);
        }
        let splits: Vec<(String, Self)> = self.splits.iter().map(|(n, d)| (n.clone(), of(d))).collect();
        // The whole stands for its first split.
        Self { source: splits[0].1.source.clone(), told: Arc::default(), splits: splits.into(), ..self.clone() }
    }
    /// Itself with other warnings, in each split.
    #[must_use]
    pub fn with_warnings(&self, warnings: Arc<[String]>) -> Self {
        let splits = self.splits.iter().map(|(n, d)| (n.clone(), Self { warnings: warnings.clone(), ..d.clone() })).collect();
        Self { warnings, splits, ..self.clone() }
    }
    /// Itself with other class names, in each split.
    pub(super) fn with_classes(&self, names: &[String]) -> Self {
        let classes: Arc<[String]> = names.into();
        let splits = self.splits.iter().map(|(n, d)| (n.clone(), Self { classes: classes.clone(), ..d.clone() })).collect();
        Self { classes, splits, ..self.clone() }
    }
    /// Name and split, for messages: `bccd test`.
    pub fn label(&self) -> String {
        if self.split.is_empty() { self.name.clone() } else { format!("{} {}", self.name, self.split) }
    }

    /// Itself, or its splits.
    pub(super) fn parts(&self) -> Vec<&Self> {
        if self.splits.is_empty() { vec![self] } else { self.splits.iter().map(|(_, d)| d).collect() }
    }
    /// Objects (or images) per class; `None` where there are no labels.
    pub(super) fn counts(&self) -> Option<Vec<usize>> {
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

/// A dataset as an argument of a call.
impl From<&Dataset> for Argument<Recipe> {
    fn from(data: &Dataset) -> Self {
        Self::Call(data.recipe.clone())
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
    /// Objects (or images) per class, and the sizes of objects.
    fn plots(&self) -> Vec<Plot> {
        plots::plots(self)
    }
    /// A few images with their labels.
    fn pictures(&self) -> Vec<Picture> {
        Grid::of(self, &GridOptions::default(), &Context::new()).map(|g| g.pictures()).unwrap_or_default()
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
    fn line(&self) -> Option<String> {
        let kind = match self.kind {
            DataKind::Detection => "detection",
            DataKind::Classification => "classification",
            DataKind::Unlabelled => "unlabelled",
        };
        let split = if self.split.is_empty() { String::new() } else { format!(", split {}", self.split) };
        let classes = if self.classes.is_empty() { String::new() } else { format!(", {} classes", self.classes.len()) };
        let warnings =
            if self.warnings.is_empty() { String::new() } else { format!(", {}", report::counted(self.warnings.len(), "warning")) };
        Some(printable(&format!("Dataset: {} ({kind}), {} images{split}{classes}{warnings}", self.name, self.source.len())))
    }
    /// A dataset of another format with its images (.yaml: YOLO, .json: COCO), a grid of images (.png), or a report (.html).
    fn save_as(&self, path: &Path) -> Result<()> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        if matches!(ending.as_str(), "yaml" | "yml" | "json") {
            return self.export(path, &Context::new()).map(drop);
        }
        report::save(self, path)
    }
}

/// Classes that the table shows.
const MAX_COLUMNS: usize = 12;
