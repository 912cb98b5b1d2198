//! Writing datasets with boxes: as YOLO (`data.yaml`, `images`, `labels`) or as COCO (`.json`, `images`).
//!
//! Image files are copied; images without a file are written as PNG. The files appear together, the one that describes them last.

use super::files::{entries, is_image};
use super::warnings::file_name;
use super::{BBox, DataKind, Dataset, Region, Source};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_base::files::Stage;
use serde_json::json;
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

impl Dataset {
    /// Writes the dataset with its images beside `path`: YOLO for `.yaml`, COCO for `.json` (one file per split, of names
    /// such as `data_train.json`). Returns the files that open it again.
    ///
    /// # Errors
    /// `Unsupported` for a dataset without boxes, `Argument` for another ending, `Io`; an image that cannot be read.
    pub fn export(&self, path: impl AsRef<Path>, ctx: &Context) -> Result<Vec<PathBuf>> {
        // A folder is one of YOLO.
        let inside = path.as_ref().join("data.yaml");
        let path = if path.as_ref().extension().is_none() { inside.as_path() } else { path.as_ref() };
        if self.kind != DataKind::Detection {
            let e = Error::unsupported(format!("only datasets with boxes can be written so, '{}' has {} labels", self.name, self.kind));
            return Err(e.file(path));
        }
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = path.file_name().map(PathBuf::from).unwrap_or_default();
        if !matches!(ending.as_str(), "yaml" | "yml" | "json") {
            return Err(Error::argument(format!("a dataset is written as .yaml (YOLO) or .json (COCO), got '.{ending}'")).file(path));
        }
        let stage = Stage::new(folder)?;
        let total: usize = self.parts().iter().map(|d| d.len()).sum();
        let mut progress = ctx.progress("write images", total as u64);
        let mut writer = Writer { folder, stage: &stage, step: &mut || progress.step("") };
        let files = if ending == "json" { writer.coco(self, &file)? } else { writer.yolo(self, &file)? };
        drop(progress);
        stage.commit()?;
        Ok(files.iter().map(|f| folder.join(f)).collect())
    }
}

struct Writer<'a> {
    /// Where the files will stand.
    folder: &'a Path,
    stage: &'a Stage,
    /// After each image.
    step: &'a mut dyn FnMut() -> Result<()>,
}

/// An image that was written: its file below `images/SPLIT`, width and height, its objects and crowds.
struct Written {
    file: String,
    size: (u32, u32),
    regions: Vec<Region>,
}

impl Writer<'_> {
    fn yolo(&mut self, data: &Dataset, file: &Path) -> Result<Vec<PathBuf>> {
        // JSON texts are YAML texts too, whatever the names hold.
        let mut yaml = String::new();
        for part in data.parts() {
            let split = split_name(part);
            let labels = Path::new("labels").join(split);
            let written = self.images(part, split)?;
            self.no_others(split, &written)?;
            for w in written {
                let (width, height) = (f64::from(w.size.0), f64::from(w.size.1));
                let line = |r: &Region| {
                    let (class, [x1, y1, x2, y2]) = (r.class, sides(r.bbox));
                    let (cx, cy) = ((x1 + x2) / 2.0 / width, (y1 + y2) / 2.0 / height);
                    format!("{class} {cx:.9} {cy:.9} {:.9} {:.9}\n", (x2 - x1) / width, (y2 - y1) / height)
                };
                // The format has no crowds.
                let text: String = w.regions.iter().filter(|r| !r.crowd).map(line).collect();
                self.stage.write(labels.join(Path::new(&w.file).with_extension("txt")), text.as_bytes())?;
            }
            yaml += &format!("{split}: images/{split}\n");
        }
        yaml += &format!("nc: {}\nnames:\n", data.classes.len());
        for (i, name) in data.classes.iter().enumerate() {
            yaml += &format!("  {i}: {}\n", json!(name));
        }
        self.stage.write(file, yaml.as_bytes())?;
        Ok(vec![file.to_path_buf()])
    }

    /// Nothing else may be among the images of a split: they are all that is in their folder.
    fn no_others(&self, split: &str, written: &[Written]) -> Result<()> {
        let folder = self.folder.join("images").join(split);
        let own: HashSet<&str> = written.iter().map(|w| w.file.as_str()).collect();
        let there = entries(&folder).unwrap_or_default().into_iter();
        let others: Vec<String> =
            there.filter(|p| p.is_dir() || is_image(p)).map(|p| file_name(&p)).filter(|n| !own.contains(n.as_str())).collect();
        let Some(first) = others.first() else { return Ok(()) };
        let e =
            Error::argument(format!("there are {} other images, such as {first}, which would become part of the dataset", others.len()));
        Err(e.file(folder).hint("save into another folder, or remove this one first"))
    }

    fn coco(&mut self, data: &Dataset, path: &Path) -> Result<Vec<PathBuf>> {
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let categories: Vec<_> = data.classes.iter().enumerate().map(|(i, n)| json!({ "id": i + 1, "name": n })).collect();
        let mut files = Vec::new();
        for part in data.parts() {
            let split = split_name(part);
            let written = self.images(part, split)?;
            let file = if data.splits.is_empty() { path.to_path_buf() } else { PathBuf::from(format!("{stem}_{split}.json")) };
            let mut text = Vec::new();
            let mut id = 0;
            let mut annotations = Vec::new();
            // An entry per line: large files stay readable, and differences small.
            let list = |name: &str, entries: &[serde_json::Value], text: &mut Vec<u8>| -> std::io::Result<()> {
                write!(text, "\"{name}\": [")?;
                for (i, e) in entries.iter().enumerate() {
                    write!(text, "{}\n{e}", if i == 0 { "" } else { "," })?;
                }
                write!(text, "\n]")
            };
            let images: Vec<_> = written
                .iter()
                .zip(image_ids(&written))
                .map(|(w, image)| {
                    for r in &w.regions {
                        id += 1;
                        let [x1, y1, x2, y2] = sides(r.bbox);
                        annotations.push(json!({
                            "id": id, "image_id": image, "category_id": r.class + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                            "area": r.area, "iscrowd": u8::from(r.crowd),
                        }));
                    }
                    json!({ "id": image, "file_name": format!("images/{split}/{}", w.file), "width": w.size.0, "height": w.size.1 })
                })
                .collect();
            let whole = (|| {
                text.write_all(b"{\n")?;
                list("categories", &categories, &mut text)?;
                text.write_all(b",\n")?;
                list("images", &images, &mut text)?;
                text.write_all(b",\n")?;
                list("annotations", &annotations, &mut text)?;
                text.write_all(b"\n}\n")
            })();
            whole.map_err(|e: std::io::Error| Error::io(&file, e))?;
            self.stage.write(&file, &text)?;
            files.push(file);
        }
        Ok(files)
    }

    /// Writes the images of one split.
    fn images(&mut self, part: &Dataset, split: &str) -> Result<Vec<Written>> {
        let folder = Path::new("images").join(split);
        let mut stems: HashSet<String> = HashSet::new();
        let mut all = Vec::with_capacity(part.len());
        for i in 0..part.len() {
            let original = part.source.file_of(i).map(Path::to_path_buf);
            let stem = original.as_ref().and_then(|p| p.file_stem()).map(|s| s.to_string_lossy().into_owned());
            let mut stem = stem.unwrap_or_else(|| format!("{i:06}"));
            // Images of one name from different folders must not replace each other, nor their labels.
            while !stems.insert(stem.to_lowercase()) {
                stem = format!("{stem}_{i}");
            }
            let ending = original.as_ref().and_then(|p| p.extension()).map_or("png".into(), |e| e.to_string_lossy().into_owned());
            let file = format!("{stem}.{ending}");
            let (targets, size) = self.image(part.source.as_ref(), i, original.as_deref(), &folder.join(&file)).at(|| part.label())?;
            let region = |t: &super::GroundTruth| {
                let [x1, y1, x2, y2] = sides(t.bbox);
                Region { class: t.class, bbox: t.bbox, area: (x2 - x1) * (y2 - y1), crowd: false }
            };
            let regions = part.source.regions_of(i, size).unwrap_or_else(|| targets.iter().map(region).collect());
            all.push(Written { file, size, regions });
            (self.step)()?;
        }
        Ok(all)
    }

    /// Copies or writes one image, to a path in the folder. One that stands there already stays as it is.
    fn image(&self, source: &dyn Source, i: usize, original: Option<&Path>, to: &Path) -> Result<(Vec<super::GroundTruth>, (u32, u32))> {
        match original {
            Some(from) => {
                let known = source.boxes_of(i)?;
                let same = from.canonicalize().ok().is_some_and(|f| self.folder.join(to).canonicalize().ok() == Some(f));
                if !same {
                    self.stage.copy(from, to)?;
                }
                Ok(known)
            }
            None => {
                let s = source.get(i)?;
                let picture = compresso_base::report::Picture { title: String::new(), image: s.image };
                self.stage.write(to, &picture.png()?)?;
                Ok((s.targets, picture.image.dimensions()))
            }
        }
    }
}

/// Numbers of images: those that their files are named by, as COCO's own are, so that predictions name the same; else from 1.
fn image_ids(written: &[Written]) -> Vec<u64> {
    let named: Option<Vec<u64>> = written.iter().map(|w| Path::new(&w.file).file_stem()?.to_str()?.parse().ok()).collect();
    named.filter(|ids| ids.iter().collect::<HashSet<_>>().len() == ids.len()).unwrap_or_else(|| (1..).take(written.len()).collect())
}

fn sides(b: BBox) -> [f64; 4] {
    [b.x1, b.y1, b.x2, b.y2].map(f64::from)
}

/// The folder of a split; a dataset without splits is one to train on.
fn split_name(part: &Dataset) -> &str {
    if part.split.is_empty() { "train" } else { &part.split }
}
