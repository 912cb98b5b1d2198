//! Image folders: a subfolder per class, or plain images without labels; `train`, `val` and `test` subfolders are splits.

use super::classes::some_of;
use super::files::{ImageFiles, entries, is_image, walk};
use super::options::class_names;
use super::reader::Reader;
use super::records::{Record, Records};
use super::warnings::{Warnings, file_name};
use super::{DataKind, DataOptions, Dataset, Source};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names of split folders and the split that each is.
const SPLITS: [(&str, &str); 7] = [
    ("train", "train"),
    ("training", "train"),
    ("val", "val"),
    ("valid", "val"),
    ("validation", "val"),
    ("test", "test"),
    ("testing", "test"),
];

/// Opens the folder `root`.
pub(super) fn open(name: &str, root: &Path, options: &DataOptions, pixels: &Reader, ctx: &Context) -> Result<Dataset> {
    let mut parts: Vec<(String, PathBuf)> = Vec::new();
    for (folder, split) in SPLITS {
        let path = root.join(folder);
        if path.is_dir() && !parts.iter().any(|(s, _)| s == split) {
            parts.push((split.to_string(), path));
        }
    }
    let whole = parts.is_empty();
    if whole {
        parts.push((String::new(), root.to_path_buf()));
    }
    let mut folders = Vec::new();
    for (_, path) in &parts {
        ctx.check()?;
        folders.push(class_folders(path, ctx)?);
    }
    let mut warnings = Warnings::default();
    let labelled = folders.iter().any(Option::is_some);
    let classes = match (labelled, class_names(options)?) {
        (false, _) => Vec::new(),
        (true, Some(asked)) => some_of(asked, &named(&folders))?,
        (true, None) => named(&folders),
    };
    let mut splits: Vec<(String, Arc<dyn Source>)> = Vec::new();
    for ((split, path), folders) in parts.iter().zip(folders) {
        ctx.check()?;
        let source = match folders {
            Some(folders) => {
                let mut records = Vec::new();
                for (class, files) in folders {
                    let label = classes.iter().position(|c| *c == class);
                    files.warn(&mut warnings);
                    let files = files.images;
                    if label.is_none() {
                        warnings.add("folder of a class that is not asked for, left out", format!("{split}/{class}"));
                    } else if files.is_empty() {
                        warnings.add("class folder without images", format!("{split}/{class}"));
                    } else {
                        records.extend(files.into_iter().map(|path| Record::new(path, Vec::new(), label)));
                    }
                }
                Records::new(records, false, pixels)
            }
            None if labelled => {
                warnings.add("split without class folders, left out", file_name(path));
                continue;
            }
            None => {
                let mut files = ImageFiles::default();
                walk(path, &mut files, ctx)?;
                files.warn(&mut warnings);
                Records::unlabelled(files.images, pixels)
            }
        };
        if source.is_empty() {
            let e = Error::missing("no images found").file(path);
            let e = e.hint("an image folder holds images, or a subfolder of images per class");
            return Err(match warnings.first() {
                Some((kind, place)) => e.because(Error::unsupported(format!("{kind}: {place}"))),
                None => e,
            });
        }
        splits.push((split.clone(), Arc::new(source)));
    }
    let kind = if labelled { DataKind::Classification } else { DataKind::Unlabelled };
    let data = Dataset::of_splits(name, kind, classes, splits, warnings.lines());
    Ok(if whole { data.without_splits() } else { data })
}

/// A dataset of the given image files, without labels.
pub(super) fn of_files(name: &str, files: ImageFiles, pixels: &Reader) -> Dataset {
    let warnings = files.warnings();
    let data = Dataset::new(name, DataKind::Unlabelled, Vec::new(), Arc::new(Records::unlabelled(files.images, pixels)));
    data.with_warnings(warnings.into())
}

/// Names of the class folders of all splits, in order.
fn named<T>(splits: &[Option<Vec<(String, T)>>]) -> Vec<String> {
    let names: BTreeSet<&String> = splits.iter().flatten().flatten().map(|(class, _)| class).collect();
    names.into_iter().cloned().collect()
}

/// Images of each class folder below `dir`; `None` when it holds images itself or no image at all below.
fn class_folders(dir: &Path, ctx: &Context) -> Result<Option<Vec<(String, ImageFiles)>>> {
    let inside = entries(dir)?;
    if inside.iter().any(|p| p.is_file() && is_image(p)) {
        return Ok(None);
    }
    let mut folders = Vec::new();
    for path in inside.into_iter().filter(|p| p.is_dir()) {
        let mut files = ImageFiles::default();
        walk(&path, &mut files, ctx)?;
        folders.push((file_name(&path), files));
    }
    Ok(folders.iter().any(|(_, files)| !files.images.is_empty()).then_some(folders))
}
