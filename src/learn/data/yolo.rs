//! YOLO datasets: a `data.yaml` that names classes and image lists; per image a text file of labels, in `labels` where
//! the image is in `images`.
//!
//! A label line is `class x y width height`, centre and size as parts of the image, or `class x1 y1 x2 y2 x3 y3 …`, a
//! polygon, of which the box is taken.

use super::classes::asked_for;
use super::coco;
use super::files::{image_files, is_image, walk};
use super::reader::Reader;
use super::records::{NO_AREA, NOT_FINITE, OUTSIDE, Record, Records, Warnings, file_name, place};
use super::{BBox, DataKind, DataOptions, Dataset, GroundTruth, Source};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use saphyr::{LoadableYamlNode, Yaml};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest `data.yaml` and label file.
const MAX_BYTES: u64 = 16 << 20;
/// Aliases in a `data.yaml`; each may repeat what others hold, so many of them could fill the memory.
const MAX_ALIASES: usize = 8;
/// Coordinates may leave 0 to 1 by this much and are cut.
const SLACK: f32 = 0.01;

/// Opens the dataset that `yaml` describes.
pub(super) fn open(name: &str, yaml: &Path, options: &DataOptions, pixels: &Reader, ctx: &Context) -> Result<Dataset> {
    let text = read(yaml)?;
    describe(name, yaml, &text, options, pixels, ctx).in_file(yaml)
}

fn read(path: &Path) -> Result<String> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if meta.len() > MAX_BYTES {
        return Err(Error::format(format!("the file has {} bytes, more than {MAX_BYTES}", meta.len())).file(path));
    }
    std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => Error::format("the file is not UTF-8 text").file(path),
        _ => Error::io(path, e),
    })
}

fn describe(name: &str, yaml: &Path, text: &str, options: &DataOptions, pixels: &Reader, ctx: &Context) -> Result<Dataset> {
    let starts = |w: &[u8]| w[1] == b'*' && b" [,{\n".contains(&w[0]) && (w[2].is_ascii_alphanumeric() || w[2] == b'_');
    if text.as_bytes().windows(3).filter(|w| starts(w)).count() > MAX_ALIASES {
        return Err(Error::unsupported(format!("more than {MAX_ALIASES} YAML aliases")));
    }
    let documents = Yaml::load_from_str(text).map_err(|e| Error::format("not valid YAML").because(e))?;
    let root = documents.first().filter(|d| d.as_mapping().is_some());
    let root = root.ok_or_else(|| Error::format("expected a map with names, train and val"))?;
    let bases = bases(yaml, root.as_mapping_get("path").and_then(Yaml::as_str));
    if let Some(files) = coco_files(root, &bases)? {
        let names = if root.as_mapping_get("names").is_some() { Some(names(root)?) } else { None };
        return coco::open_splits(name, &files, &bases, names, options, pixels, ctx);
    }
    let classes = names(root)?;
    let mut warnings = Warnings::default();
    let mut splits: Vec<(String, Arc<dyn Source>)> = Vec::new();
    for (split, entry) in split_entries(root) {
        let mut images = Vec::new();
        let found = sources(entry).at(|| format!("'{split}'"))?.into_iter().try_for_each(|s| list(s, &bases, &mut images));
        match found.at(|| format!("'{split}'")) {
            // Many published files name a test set that is not part of the download.
            Err(_) if split == "test" => {
                warnings.add("split that is not there, left out", split);
                continue;
            }
            found => found?,
        }
        let records = labelled(images, split, classes.len(), &mut warnings, ctx)?;
        splits.push((split.to_string(), Arc::new(Records::new(records, true, pixels))));
    }
    if splits.is_empty() {
        return Err(Error::format("there is neither 'train' nor 'val' nor 'test'"));
    }
    asked_for(Dataset::of_splits(name, DataKind::Detection, classes, splits, warnings.lines()), options)
}

/// The entries of the splits that are there, in their order.
fn split_entries<'a>(root: &'a Yaml<'a>) -> impl Iterator<Item = (&'static str, &'a Yaml<'a>)> {
    let splits = [("train", &["train"][..]), ("val", &["val", "valid", "validation"]), ("test", &["test"])];
    splits.into_iter().filter_map(|(split, keys)| {
        let entry = keys.iter().find_map(|k| root.as_mapping_get(k)).filter(|e| !e.is_null())?;
        Some((split, entry))
    })
}

/// The COCO annotation file of each split, where the description names such files; `None` where it names none.
///
/// # Errors
/// `Format` when only some of the splits are JSON files, `Missing` for a file that is not there.
fn coco_files<'a>(root: &'a Yaml<'a>, bases: &[PathBuf]) -> Result<Option<Vec<(String, PathBuf)>>> {
    let (mut files, mut others) = (Vec::new(), false);
    for (split, entry) in split_entries(root) {
        let Some(source) = entry.as_str().filter(|s| coco::is_json(Path::new(s))) else {
            others = true;
            continue;
        };
        let short = source.trim_start_matches("../").trim_start_matches("./");
        let found = bases.iter().flat_map(|b| [b.join(source), b.join(short)]).find(|p| p.is_file());
        match found {
            Some(file) => files.push((split.to_string(), file)),
            // As with folders: a test set is often not part of the download.
            None if split == "test" => {}
            None => return Err(Error::missing(format!("there is no '{source}'")).at(format!("'{split}'"))),
        }
    }
    match (files.is_empty(), others) {
        (true, _) => Ok(None),
        (false, false) => Ok(Some(files)),
        (false, true) => Err(Error::format("some splits are JSON files and some are not").hint("give all as .json or all as folders")),
    }
}

/// Class names: a list, or a map from 0, 1, … to names; else `nc` numbers.
fn names(root: &Yaml<'_>) -> Result<Vec<String>> {
    let text = |y: &Yaml<'_>| y.as_str().map(str::to_string).or_else(|| y.as_integer().map(|i| i.to_string()));
    let bad = || Error::format("expected a list or a map from number to name").at("'names'");
    let count = root.as_mapping_get("nc").map(|n| {
        n.as_integer()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=100_000).contains(n))
            .ok_or_else(|| Error::format("expected a number of classes of at least 1").at("'nc'"))
    });
    let count = count.transpose()?;
    let names: Vec<String> = match root.as_mapping_get("names") {
        None => {
            let n = count.ok_or_else(|| Error::format("the class names are missing").at("'names'"))?;
            (0..n).map(|i| i.to_string()).collect()
        }
        Some(y) => match (y.as_vec(), y.as_mapping()) {
            (Some(list), _) => list.iter().map(|y| text(y).ok_or_else(bad)).collect::<Result<_>>()?,
            (_, Some(map)) => {
                let mut pairs: Vec<(i64, String)> = map
                    .iter()
                    .map(|(k, v)| {
                        let key = k.as_integer().or_else(|| k.as_str().and_then(|s| s.parse().ok()));
                        key.zip(text(v)).ok_or_else(bad)
                    })
                    .collect::<Result<_>>()?;
                pairs.sort();
                if pairs.iter().enumerate().any(|(i, (k, _))| *k != i as i64) {
                    return Err(Error::format("the numbers must be 0, 1, 2, … without gaps").at("'names'"));
                }
                pairs.into_iter().map(|(_, n)| n).collect()
            }
            _ => return Err(bad()),
        },
    };
    match count {
        _ if names.is_empty() => Err(Error::format("there are no classes").at("'names'")),
        Some(n) if n != names.len() => Err(Error::format(format!("'nc' is {n}, but there are {} names", names.len()))),
        _ => Ok(names),
    }
}

/// Folders that image lists may be relative to, best first: the stated `path`, then the file's own folder.
fn bases(yaml: &Path, path: Option<&str>) -> Vec<PathBuf> {
    let own = yaml.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let stated = path.map(|p| own.join(p)).filter(|p| p.is_dir());
    stated.into_iter().chain([own]).collect()
}

/// The texts of an entry: one, or a list.
fn sources<'a>(entry: &'a Yaml<'_>) -> Result<Vec<&'a str>> {
    let bad = || Error::format("expected a folder, a .txt list, or a list of these");
    match (entry.as_str(), entry.as_vec()) {
        (Some(s), _) => Ok(vec![s]),
        (_, Some(list)) if !list.is_empty() => list.iter().map(|y| y.as_str().ok_or_else(bad)).collect(),
        _ => Err(bad()),
    }
}

/// Adds the images of a folder, a text list or a pattern.
fn list(source: &str, bases: &[PathBuf], images: &mut Vec<PathBuf>) -> Result<()> {
    // Some exporters write `../train/images` for a folder beside the file.
    let short = source.trim_start_matches("../").trim_start_matches("./");
    let tries = bases.iter().flat_map(|b| [b.join(source), b.join(short)]);
    let before = images.len();
    if source.contains(['*', '?']) {
        let found = tries.filter_map(|p| image_files(&p.to_string_lossy()).ok()).next();
        images.extend(found.unwrap_or_default());
    } else {
        let tries: Vec<PathBuf> = tries.collect();
        let Some(path) = tries.iter().find(|p| p.exists()) else {
            let tried = tries.first().map(|p| p.display().to_string()).unwrap_or_default();
            return Err(Error::missing(format!("there is no '{source}' (looked for {tried})")));
        };
        if path.is_dir() {
            walk(path, 0, images)?;
        } else {
            let folder = path.parent().unwrap_or(Path::new("."));
            for line in read(path)?.lines().map(str::trim).filter(|l| !l.is_empty()) {
                let mut candidates = std::iter::once(folder).chain(bases.iter().map(PathBuf::as_path)).map(|b| b.join(line));
                // An image that is not there is kept, so that it is counted as missing below.
                images.push(candidates.find(|p| p.is_file()).unwrap_or_else(|| folder.join(line)));
            }
        }
    }
    if images.len() == before { Err(Error::missing(format!("there are no images in '{source}'"))) } else { Ok(()) }
}

/// The images with their labels.
fn labelled(images: Vec<PathBuf>, split: &str, classes: usize, warnings: &mut Warnings, ctx: &Context) -> Result<Vec<Record>> {
    let mut records = Vec::with_capacity(images.len());
    for path in images {
        ctx.check()?;
        if !path.is_file() || !is_image(&path) {
            warnings.add("listed image that is not there, left out", file_name(&path));
            continue;
        }
        let file = label_file(&path);
        let mut objects = Vec::new();
        if file.is_file() {
            match read(&file) {
                Ok(text) => parse(&text, &file, classes, &mut objects, warnings),
                Err(e) => {
                    warnings.add("label file that cannot be read, its image left out", format!("{} ({})", file_name(&file), e.message()));
                    continue;
                }
            }
        } else {
            warnings.add(format!("image of '{split}' without label file, taken as empty"), file_name(&path));
        }
        records.push(Record::new(path, objects, None));
    }
    if records.is_empty() {
        return Err(Error::missing(format!("none of the images of '{split}' is there")));
    }
    Ok(records)
}

/// `…/labels/a.txt` for `…/images/a.jpg` (the last folder of that name counts); else beside the image.
fn label_file(image: &Path) -> PathBuf {
    let parts: Vec<_> = image.iter().collect();
    let file = image.with_extension("txt");
    match parts.iter().rposition(|p| *p == "images") {
        Some(i) if i + 1 < parts.len() => file.iter().enumerate().map(|(j, p)| if i == j { "labels".as_ref() } else { p }).collect(),
        _ => file,
    }
}

fn parse(text: &str, path: &Path, classes: usize, objects: &mut Vec<GroundTruth>, warnings: &mut Warnings) {
    for (i, line) in text.lines().enumerate() {
        let at = place(path, i + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        if words.len() != 5 && (words.len() < 7 || words.len().is_multiple_of(2)) {
            warnings.add("line without 5 columns (or a polygon's 7, 9, …), skipped", at);
            continue;
        }
        let Some(class) = words[0].parse::<f64>().ok().filter(|c| c.fract() == 0.0 && *c >= 0.0) else {
            warnings.add("line whose class is no whole number, skipped", at);
            continue;
        };
        if class >= classes as f64 {
            warnings.add(format!("line with a class above {}, skipped", classes - 1), at);
            continue;
        }
        let numbers: Vec<f32> = words[1..].iter().filter_map(|w| w.parse().ok()).filter(|v: &f32| v.is_finite()).collect();
        if numbers.len() + 1 != words.len() {
            warnings.add(NOT_FINITE, at);
            continue;
        }
        let bbox = if numbers.len() == 4 {
            if numbers[2] <= 0.0 || numbers[3] <= 0.0 {
                warnings.add(NO_AREA, at);
                continue;
            }
            BBox::from_centre(numbers[0], numbers[1], numbers[2], numbers[3])
        } else {
            let low = |axis: usize| numbers.iter().skip(axis).step_by(2).copied().fold(f32::MAX, f32::min);
            let high = |axis: usize| numbers.iter().skip(axis).step_by(2).copied().fold(f32::MIN, f32::max);
            BBox { x1: low(0), y1: low(1), x2: high(0), y2: high(1) }
        };
        if numbers.iter().any(|v| *v < -SLACK || *v > 1.0 + SLACK) {
            warnings.add("line with a coordinate outside 0 to 1, skipped", at);
            continue;
        }
        let cut = |v: f32| v.clamp(0.0, 1.0);
        let bbox = BBox { x1: cut(bbox.x1), y1: cut(bbox.y1), x2: cut(bbox.x2), y2: cut(bbox.y2) };
        if bbox.x2 <= bbox.x1 || bbox.y2 <= bbox.y1 {
            warnings.add(if numbers.len() == 4 { OUTSIDE } else { NO_AREA }, at);
            continue;
        }
        objects.push(GroundTruth { class: class as usize, bbox });
    }
}
