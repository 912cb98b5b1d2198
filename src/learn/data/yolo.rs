//! YOLO datasets: a `data.yaml` that names classes and image lists; per image a text file of labels, in `labels` where
//! the image is in `images`.
//!
//! What is in those is in `yolo_labels`.

use super::classes::asked_for;
use super::coco;
use super::files::{ImageFiles, image_files, is_image, unread, walk};
use super::reader::Reader;
use super::records::{Record, Records};
use super::warnings::{Warnings, file_name};
use super::yolo_labels::{Unusable, objects, orphans, read};
use super::{DataKind, DataOptions, Dataset, Source};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use saphyr::{LoadableYamlNode, Yaml};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Aliases in a `data.yaml`; each may repeat what others hold, so many of them could fill the memory.
const MAX_ALIASES: usize = 8;

/// Opens the dataset that `yaml` describes.
pub(super) fn open(name: &str, yaml: &Path, options: &DataOptions, pixels: &Reader, ctx: &Context) -> Result<Dataset> {
    let text = read(yaml)?;
    describe(name, yaml, &text, options, pixels, ctx).in_file(yaml)
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
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    for (split, entry) in split_entries(root) {
        let mut images = Vec::new();
        let mut add = |s| list(s, &bases, &mut images, &mut warnings, ctx);
        let found = sources(entry).at(|| format!("'{split}'"))?.into_iter().try_for_each(&mut add);
        match found.at(|| format!("'{split}'")) {
            // Many published files name a test set that is not part of the download.
            Err(e) if split == "test" && !e.is_cancelled() => {
                warnings.add("split that is not there, left out", split);
                continue;
            }
            found => found?,
        }
        folders.extend(images.iter().filter_map(|i| i.parent()).map(Path::to_path_buf));
        let records = labelled(images, split, classes.len(), &mut warnings, ctx)?;
        splits.push((split.to_string(), Arc::new(Records::new(records, true, pixels))));
    }
    if splits.is_empty() {
        return Err(Error::format("there is neither 'train' nor 'val' nor 'test'"));
    }
    for folder in folders {
        ctx.check()?;
        orphans(&folder, &mut warnings);
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
fn list(source: &str, bases: &[PathBuf], images: &mut Vec<PathBuf>, warnings: &mut Warnings, ctx: &Context) -> Result<()> {
    // Some exporters write `../train/images` for a folder beside the file.
    let short = source.trim_start_matches("../").trim_start_matches("./");
    let tries = bases.iter().flat_map(|b| [b.join(source), b.join(short)]);
    let before = images.len();
    if source.contains(['*', '?']) {
        let found = tries.filter_map(|p| image_files(&p.to_string_lossy(), ctx).ok()).next().unwrap_or_default();
        ctx.check()?;
        found.warn(warnings);
        images.extend(found.images);
    } else {
        let tries: Vec<PathBuf> = tries.collect();
        let Some(path) = tries.iter().find(|p| p.exists()) else {
            let tried = tries.first().map(|p| p.display().to_string()).unwrap_or_default();
            return Err(Error::missing(format!("there is no '{source}' (looked for {tried})")));
        };
        if path.is_dir() {
            let mut found = ImageFiles::default();
            walk(path, &mut found, ctx)?;
            found.warn(warnings);
            images.extend(found.images);
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
    let (all, mut first) = (images.len(), None);
    let mut records = Vec::with_capacity(all);
    for path in images {
        ctx.check()?;
        let record = if !path.is_file() {
            Err(Unusable("listed image that is not there, left out".into(), file_name(&path)))
        } else if !is_image(&path) {
            Err(Unusable(unread(&path).unwrap_or_else(|| "listed file that is no image, left out".into()), file_name(&path)))
        } else {
            objects(&path, split, classes, warnings).map(|objects| Record::new(path, objects, None))
        };
        match record {
            Ok(record) => records.push(record),
            Err(Unusable(kind, place)) => {
                first.get_or_insert_with(|| format!("{kind}: {place}"));
                warnings.add(kind, place);
            }
        }
    }
    if records.is_empty() {
        let e = Error::missing(format!("none of the {all} images of '{split}' can be used"));
        return Err(e.because(Error::format(first.unwrap_or_default())));
    }
    Ok(records)
}
