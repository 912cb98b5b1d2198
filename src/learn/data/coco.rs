//! COCO datasets: JSON files of `images`, `annotations` and `categories` (Lin et al. 2014), one file per split.
//!
//! Classes are the categories in the order of their ids. A box is left, top, width and height in pixels, taken as it is
//! written. Crowd regions are no objects to train on; evaluation ignores detections inside them, as pycocotools does, and
//! takes the area of an object from its annotation.

use super::classes::some_of;
use super::coco_json::{Contents, Id, Image, read};
use super::files::{entries, is_image, unread};
use super::options::class_names;
use super::reader::Reader;
use super::records::{Details, Record, Records};
use super::warnings::{NO_AREA, NOT_FINITE, OUTSIDE, Warnings, file_name};
use super::{BBox, DataKind, DataOptions, Dataset, GroundTruth, Region, Source};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// True for the path of a JSON file.
pub(super) fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"))
}

/// The annotation files of a folder by split: `annotations/*.json`, those of the folder itself, or those in `train`, `valid`
/// and `test` below it. Empty when there are none.
///
/// # Errors
/// `Format` when two files are for the same split.
pub(super) fn find(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = entries(dir).unwrap_or_default().into_iter().filter(|p| is_json(p) && p.is_file()).collect();
        // COCO's own folder also has captions, keypoints and the like, which repeat the boxes or have none.
        if files.iter().any(|f| file_name(f).starts_with("instances_")) {
            files.retain(|f| file_name(f).starts_with("instances_"));
        }
        files
    };
    let mut found = list(&root.join("annotations"));
    if found.is_empty() {
        found = ["train", "valid", "val", "validation", "test"].iter().flat_map(|s| list(&root.join(s))).collect();
    }
    if found.is_empty() {
        found = list(root).into_iter().filter(|f| split_of(f).is_some()).collect();
    }
    found.retain(|f| looks_like_coco(f));
    let mut splits: Vec<(String, PathBuf)> = Vec::new();
    for file in found {
        let Some(split) = split_of(&file) else { continue };
        if let Some((_, other)) = splits.iter().find(|(s, _)| s == split) {
            let message = format!("both {} and {} are for split '{split}'", file_name(other), file_name(&file));
            return Err(Error::format(message).file(root).hint("open one of the files: dataset(\"….json\")"));
        }
        splits.push((split.to_string(), file));
    }
    splits.sort_by_key(|(s, _)| ["train", "val", "test"].iter().position(|n| n == s));
    Ok(splits)
}

/// Whether a key of COCO's stands near the beginning of a file.
fn looks_like_coco(file: &Path) -> bool {
    let mut head = Vec::new();
    let read = std::fs::File::open(file).and_then(|f| f.take(HEAD).read_to_end(&mut head));
    let text = String::from_utf8_lossy(&head);
    read.is_ok() && ["\"images\"", "\"annotations\"", "\"categories\""].iter().any(|k| text.contains(k))
}

/// Bytes in which a file shows that it is COCO's.
const HEAD: u64 = 64 << 10;

/// The split that a file's name, or else its folder's, speaks of.
fn split_of(file: &Path) -> Option<&'static str> {
    let of = |name: String| ["train", "val", "test"].into_iter().find(|s| name.to_lowercase().contains(s));
    of(file_name(file)).or_else(|| of(file_name(file.parent()?)))
}

/// Opens one annotation file.
pub(super) fn open(name: &str, file: &Path, options: &DataOptions, pixels: &Reader, ctx: &Context) -> Result<Dataset> {
    Ok(open_splits(name, &[(String::new(), file.to_path_buf())], &[], None, options, pixels, ctx)?.without_splits())
}

/// Opens the annotation files of several splits. `folders` are further places for images, `classes` the class names in
/// order where a description states them.
pub(super) fn open_splits(
    name: &str,
    files: &[(String, PathBuf)],
    folders: &[PathBuf],
    classes: Option<Vec<String>>,
    options: &DataOptions,
    pixels: &Reader,
    ctx: &Context,
) -> Result<Dataset> {
    let mut contents = Vec::with_capacity(files.len());
    for (_, file) in files {
        contents.push(read(file, ctx)?);
    }
    let mut warnings = Warnings::default();
    let mut categories: BTreeMap<Id, String> = BTreeMap::new();
    for ((_, file), c) in files.iter().zip(&contents) {
        collect_categories(c, &mut categories, &mut warnings).map_err(|e| e.at("categories").file(file))?;
    }
    let labelled = contents.iter().any(|c| c.annotations.is_some());
    if labelled && categories.is_empty() {
        let file = files.first().map(|f| f.1.as_path()).unwrap_or(Path::new(""));
        return Err(Error::format("there are no categories").file(file));
    }
    let mut names: Vec<String> = Vec::new();
    for n in categories.values() {
        if !names.contains(n) {
            names.push(n.clone());
        }
    }
    let classes = match class_names(options)? {
        Some(asked) => some_of(asked, &names)?,
        None => classes.unwrap_or(names),
    };
    let numbers: HashMap<Id, Option<usize>> =
        categories.iter().map(|(id, name)| (id.clone(), classes.iter().position(|c| c == name))).collect();
    let mut splits: Vec<(String, Arc<dyn Source>)> = Vec::new();
    for ((split, file), c) in files.iter().zip(contents) {
        let reader = Split { file, split, folders, numbers: &numbers, names: &categories, options, ctx };
        splits.push((split.clone(), Arc::new(Records::new(reader.records(c, &mut warnings)?, false, pixels))));
    }
    let kind = if labelled { DataKind::Detection } else { DataKind::Unlabelled };
    let classes = if labelled { classes } else { Vec::new() };
    Ok(Dataset::of_splits(name, kind, classes, splits, warnings.lines()))
}

fn collect_categories(c: &Contents, all: &mut BTreeMap<Id, String>, warnings: &mut Warnings) -> Result<()> {
    let used: HashSet<&Id> = c.annotations.iter().flatten().map(|a| &a.category).collect();
    let mut seen = HashSet::new();
    for (i, category) in c.categories.iter().enumerate() {
        let place = format!("categories[{i}] ({})", category.name);
        if !seen.insert(&category.id) {
            warnings.add("category that repeats an id, skipped", place);
            continue;
        }
        // Some exporters list the group of all classes as a category of its own.
        let group = c.categories.iter().any(|o| o.supercategory.as_ref() == Some(&category.name) && o.name != category.name);
        if group && !used.contains(&category.id) {
            warnings.add("category that only names a group, left out", place);
            continue;
        }
        match all.get(&category.id) {
            Some(name) if *name != category.name => {
                return Err(Error::format(format!("category {} is '{name}' in one file and '{}' in another", category.id, category.name)));
            }
            Some(_) => {}
            None => {
                all.insert(category.id.clone(), category.name.clone());
            }
        }
    }
    Ok(())
}

/// What one file's images and boxes are read with.
struct Split<'a> {
    file: &'a Path,
    split: &'a str,
    folders: &'a [PathBuf],
    /// Class of each category; `None` for one that is not asked for.
    numbers: &'a HashMap<Id, Option<usize>>,
    names: &'a BTreeMap<Id, String>,
    options: &'a DataOptions,
    ctx: &'a Context,
}

impl Split<'_> {
    fn records(&self, c: Contents, warnings: &mut Warnings) -> Result<Vec<Record>> {
        if c.images.is_empty() {
            return Err(Error::format("there are no images").at("images").file(self.file));
        }
        let mut places: HashMap<Id, usize> = HashMap::with_capacity(c.images.len());
        let mut images: Vec<Image> = Vec::with_capacity(c.images.len());
        for (i, image) in c.images.into_iter().enumerate() {
            if places.contains_key(&image.id) {
                warnings.add("image that repeats an id, skipped", format!("images[{i}] ({})", image.file_name));
                continue;
            }
            places.insert(image.id.clone(), images.len());
            images.push(image);
        }
        let mut objects: Vec<(Vec<GroundTruth>, Details)> = images.iter().map(|_| Default::default()).collect();
        let mut ids: HashMap<Id, (usize, usize, [u64; 4])> = HashMap::new();
        for (i, a) in c.annotations.unwrap_or_default().into_iter().enumerate() {
            let place = || format!("{}: annotations[{i}]", file_name(self.file));
            let Some(&at) = places.get(&a.image) else {
                warnings.add("annotation of an image that is not listed, skipped", place());
                continue;
            };
            let class = match self.numbers.get(&a.category) {
                Some(Some(class)) => *class,
                Some(None) => {
                    let name = &self.names[&a.category];
                    warnings.add(format!("object of class '{name}', which is not asked for, left out"), place());
                    continue;
                }
                None => {
                    warnings.add("annotation of a category that is not listed, skipped", place());
                    continue;
                }
            };
            let Some(sides) = a.bbox else {
                warnings.add("annotation without a box of four numbers, skipped", place());
                continue;
            };
            let bbox = match checked(sides, &images[at]) {
                Ok(bbox) => bbox,
                Err(why) => {
                    warnings.add(why, place());
                    continue;
                }
            };
            if let Some(id) = a.id {
                let this = (at, class, sides.map(f64::to_bits));
                match ids.get(&id) {
                    Some(other) if *other == this => {
                        warnings.add("annotation that repeats another, skipped", place());
                        continue;
                    }
                    Some(_) => warnings.add("annotation with the id of another, kept", place()),
                    None => {
                        ids.insert(id, this);
                    }
                }
            }
            let area = a.area.filter(|v| v.is_finite() && *v > 0.0).unwrap_or(sides[2] * sides[3]);
            let (targets, details) = &mut objects[at];
            if a.crowd {
                details.crowds.push(Region { class, bbox, area, crowd: true });
            } else {
                targets.push(GroundTruth { class, bbox });
                details.areas.push(area);
            }
        }
        self.find_images(images, objects, warnings)
    }

    /// The images that are there, with their objects.
    fn find_images(&self, images: Vec<Image>, objects: Vec<(Vec<GroundTruth>, Details)>, warnings: &mut Warnings) -> Result<Vec<Record>> {
        let folders = self.image_folders();
        let step = (images.len() / SAMPLES).max(1);
        let sample: Vec<PathBuf> = images.iter().step_by(step).filter_map(|i| inner_path(&i.file_name)).collect();
        let hits = |folder: &PathBuf| sample.iter().filter(|p| folder.join(p).is_file()).count();
        // Of equally good folders the first.
        let (_, folder) = folders.iter().fold((0, &folders[0]), |best, f| {
            let n = hits(f);
            if n > best.0 { (n, f) } else { best }
        });
        let mut records = Vec::with_capacity(images.len());
        for (image, (objects, details)) in images.into_iter().zip(objects) {
            self.ctx.check()?;
            match inner_path(&image.file_name) {
                None => warnings.add("image whose name leads out of its folder, left out", image.file_name),
                Some(inner) if !is_image(&inner) => {
                    warnings.add(unread(&inner).unwrap_or_else(|| "image of an unknown kind, left out".into()), image.file_name);
                }
                Some(inner) => {
                    let path = folder.join(inner);
                    if path.is_file() {
                        records.push(Record { details: Some(Box::new(details)), ..Record::new(path, objects, None) });
                    } else {
                        warnings.add("listed image that is not there, left out", image.file_name);
                    }
                }
            }
        }
        if records.is_empty() {
            let looked: Vec<String> = folders.iter().take(6).map(|f| f.display().to_string()).collect();
            let e = Error::missing(format!("none of the images is there (looked in {}, …)", looked.join(", "))).file(self.file);
            return Err(e.hint("name their folder: dataset(path, #{ image_folder: \"…\" })"));
        }
        Ok(records)
    }

    /// Folders where the images may be, the likeliest first; at least one.
    fn image_folders(&self) -> Vec<PathBuf> {
        if let Some(folder) = &self.options.image_folder {
            return ["", self.split].iter().map(|s| Path::new(folder).join(s)).collect();
        }
        let own = self.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
        let stem = self.file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        // `train2017` of `instances_train2017.json`.
        let set = stem.strip_prefix("instances_").unwrap_or(&stem).to_string();
        let split = if self.split.is_empty() { split_of(self.file).unwrap_or_default() } else { self.split };
        let other = if split == "val" { "valid" } else { split };
        let mut all: Vec<PathBuf> = Vec::new();
        for base in std::iter::once(own.clone()).chain([own.join("..")]).chain(self.folders.iter().cloned()) {
            for inner in ["", "images"] {
                let base = base.join(inner);
                all.extend([base.clone(), base.join(&set), base.join(split), base.join(other)]);
            }
            all.extend([base.join(&set).join("images"), base.join(split).join("images"), base.join(other).join("images")]);
        }
        let mut seen = HashSet::new();
        all.retain(|f| seen.insert(f.clone()));
        all
    }
}

/// Images by which the folder is found.
const SAMPLES: usize = 20;

/// A file name as a path that stays inside its folder.
fn inner_path(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(name.replace('\\', "/"));
    let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    (inside && !name.is_empty() && !name.contains('\0')).then_some(path)
}

/// Left, top, width and height as a box; else why it is skipped.
fn checked([x, y, w, h]: [f64; 4], image: &Image) -> Result<BBox, &'static str> {
    if ![x, y, w, h].iter().all(|v| v.is_finite() && v.abs() < 1e9) {
        return Err(NOT_FINITE);
    }
    if w <= 0.0 || h <= 0.0 {
        return Err(NO_AREA);
    }
    let beyond = |start: f64, side: Option<f64>| side.is_some_and(|s| s > 0.0 && start >= s);
    if x + w <= 0.0 || y + h <= 0.0 || beyond(x, image.width) || beyond(y, image.height) {
        return Err(OUTSIDE);
    }
    Ok(BBox { x1: x as f32, y1: y as f32, x2: (x + w) as f32, y2: (y + h) as f32 })
}
