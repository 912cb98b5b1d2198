//! Pascal VOC folders: `Annotations/*.xml`, `JPEGImages`, `ImageSets/Main/{train,val,test,trainval}.txt`.
//!
//! Box corners are taken as they are written, in pixels. Objects marked difficult are left out, as usual in training
//! and in VOC's own measure.

use super::classes::some_of;
use super::files::{EXTENSIONS, entries, is_image, unread};
use super::options::class_names;
use super::reader::Reader;
use super::records::{Record, Records};
use super::warnings::{NO_AREA, NOT_FINITE, OUTSIDE, Warnings, place};
use super::{BBox, DataKind, DataOptions, Dataset, GroundTruth, Source};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_base::files::read_text;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Split lists that are read, in the order in which a dataset offers them.
const SPLITS: [&str; 4] = ["train", "val", "test", "trainval"];
/// Largest annotation file.
const MAX_BYTES: u64 = 16 << 20;

/// The VOC folder at `dir` or up to two levels below it, if there is exactly one.
pub(super) fn find(dir: &Path) -> Option<PathBuf> {
    let is_voc = |d: &Path| d.join("Annotations").is_dir() && d.join("JPEGImages").is_dir();
    if is_voc(dir) {
        return Some(dir.to_path_buf());
    }
    let mut level = vec![dir.to_path_buf()];
    for _ in 0..2 {
        level = level.iter().flat_map(|d| entries(d).unwrap_or_default()).filter(|d| d.is_dir()).collect();
        let mut found = level.iter().filter(|d| is_voc(d));
        if let Some(first) = found.next() {
            return if found.next().is_none() { Some(first.clone()) } else { None };
        }
    }
    None
}

/// Opens the VOC folder `root`.
pub(super) fn open(name: &str, root: &Path, options: &DataOptions, pixels: &Reader, ctx: &Context) -> Result<Dataset> {
    let mut warnings = Warnings::default();
    let lists = lists(root)?;
    let mut read: HashMap<&str, Option<(PathBuf, Vec<Object>)>> = HashMap::new();
    for id in lists.iter().flat_map(|(_, ids)| ids).map(String::as_str) {
        ctx.check()?;
        if !read.contains_key(id) {
            let annotation = annotation(root, id, &mut warnings)?;
            read.insert(id, annotation);
        }
    }
    let own: BTreeSet<&String> = read.values().flatten().flat_map(|(_, o)| o).map(|o| &o.class).collect();
    let own: Vec<String> = own.into_iter().cloned().collect();
    let classes = match class_names(options)? {
        Some(names) => some_of(names, &own)?,
        None => own,
    };
    if classes.is_empty() {
        return Err(Error::format("the annotations hold no objects").file(root));
    }
    let mut ids: Vec<&&str> = read.keys().collect();
    ids.sort();
    for id in ids {
        for o in read[*id].iter().flat_map(|(_, o)| o).filter(|o| !classes.contains(&o.class)) {
            warnings.add(format!("object of class '{}', which is not asked for, left out", o.class), o.place.clone());
        }
    }
    let mut splits: Vec<(String, Arc<dyn Source>)> = Vec::new();
    for (split, ids) in &lists {
        let record = |id: &String| {
            let (path, objects) = read[id.as_str()].as_ref()?;
            let target = |o: &Object| Some(GroundTruth { class: classes.iter().position(|c| *c == o.class)?, bbox: o.bbox });
            Some(Record::new(path.clone(), objects.iter().filter_map(target).collect(), None))
        };
        let records: Vec<Record> = ids.iter().filter_map(record).collect();
        if records.is_empty() {
            return Err(Error::missing(format!("split '{split}' has no usable images")).file(root));
        }
        splits.push((split.clone(), Arc::new(Records::new(records, false, pixels))));
    }
    let single = splits.len() == 1 && splits[0].0.is_empty();
    let data = Dataset::of_splits(name, DataKind::Detection, classes, splits, warnings.lines());
    Ok(if single { data.without_splits() } else { data })
}

/// Image names of each split; without lists, all annotated images under no name.
fn lists(root: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let mut lists = Vec::new();
    for split in SPLITS {
        let path = root.join("ImageSets/Main").join(format!("{split}.txt"));
        if !path.is_file() {
            continue;
        }
        let text = read_text(&path)?;
        let ids: Vec<String> = text.lines().filter_map(|l| l.split_whitespace().next()).map(str::to_string).collect();
        if ids.is_empty() {
            continue;
        }
        if let Some(bad) = ids.iter().find(|id| id.contains("..") || id.starts_with('/')) {
            return Err(Error::format(format!("'{bad}' is not the name of an image")).file(path));
        }
        lists.push((split.to_string(), ids));
    }
    if lists.is_empty() {
        let stem = |p: &PathBuf| (p.extension()? == "xml").then(|| p.file_stem().map(|s| s.to_string_lossy().into_owned())).flatten();
        let ids: Vec<String> = entries(&root.join("Annotations"))?.iter().filter_map(stem).collect();
        if ids.is_empty() {
            return Err(Error::missing("no annotations (*.xml) found").file(root.join("Annotations")));
        }
        lists.push((String::new(), ids));
    }
    Ok(lists)
}

struct Object {
    class: String,
    bbox: BBox,
    place: String,
}

/// Image file and objects of one annotation; `None`, with a warning, for one that cannot be used.
fn annotation(root: &Path, id: &str, warnings: &mut Warnings) -> Result<Option<(PathBuf, Vec<Object>)>> {
    let path = root.join("Annotations").join(format!("{id}.xml"));
    let text = match std::fs::metadata(&path) {
        Err(_) => {
            warnings.add("image without annotation file, left out", id);
            return Ok(None);
        }
        Ok(meta) if meta.len() > MAX_BYTES => Err("too large".to_string()),
        Ok(_) => read_text(&path).map_err(|e| e.message().to_string()),
    };
    let parsed = text.and_then(|t| parse(&t, &path, warnings).map_err(|e| e.to_string()));
    let (file, objects) = match parsed {
        Ok(found) => found,
        Err(why) => {
            warnings.add("annotation that cannot be read, its image left out", format!("{id}.xml ({why})"));
            return Ok(None);
        }
    };
    let folder = root.join("JPEGImages");
    let stated = file.map(|f| folder.join(f)).filter(|p| p.is_file());
    let endings = EXTENSIONS.iter().flat_map(|e| [e.to_string(), e.to_uppercase()]);
    let mut beside = endings.map(|e| folder.join(format!("{id}.{e}")));
    let found = stated.clone().filter(|p| is_image(p)).or_else(|| beside.find(|p| p.is_file()));
    match found {
        Some(image) => Ok(Some((image, objects))),
        None => {
            let kind = stated.as_deref().and_then(unread);
            warnings.add(kind.unwrap_or_else(|| "annotation without image file, left out".into()), format!("{id}.xml"));
            Ok(None)
        }
    }
}

fn parse(text: &str, path: &Path, warnings: &mut Warnings) -> Result<(Option<String>, Vec<Object>)> {
    let document = roxmltree::Document::parse(text).map_err(|e| Error::format(e.to_string())).at(|| "XML".to_string())?;
    let root = document.root_element();
    let text_of = |node: roxmltree::Node<'_, '_>, name: &str| {
        node.children().find(|c| c.has_tag_name(name)).and_then(|c| c.text()).map(|t| t.trim().to_string())
    };
    // Only a bare file name: an annotation must not lead out of its dataset.
    let file = text_of(root, "filename").filter(|f| !f.is_empty() && !f.contains(['/', '\\']) && f != "..");
    let size = root.children().find(|c| c.has_tag_name("size"));
    let side = |name: &str| size.and_then(|s| text_of(s, name)).and_then(|t| t.parse::<f32>().ok()).filter(|&v| v > 0.0);
    let (width, height) = (side("width"), side("height"));
    let mut objects = Vec::new();
    for node in root.children().filter(|c| c.has_tag_name("object")) {
        let at = place(path, document.text_pos_at(node.range().start).row as usize);
        let Some(class) = text_of(node, "name").filter(|n| !n.is_empty()) else {
            warnings.add("object without a class name, skipped", at);
            continue;
        };
        if text_of(node, "difficult").as_deref() == Some("1") {
            warnings.add("object marked difficult, left out", at);
            continue;
        }
        let corners = node.children().find(|c| c.has_tag_name("bndbox"));
        let corner = |name: &str| corners.and_then(|b| text_of(b, name)).and_then(|t| t.parse::<f32>().ok()).filter(|v| v.is_finite());
        let (Some(x1), Some(y1), Some(x2), Some(y2)) = (corner("xmin"), corner("ymin"), corner("xmax"), corner("ymax")) else {
            warnings.add(NOT_FINITE, at);
            continue;
        };
        if x2 <= x1 || y2 <= y1 {
            warnings.add(NO_AREA, at);
            continue;
        }
        let outside = x2 <= 0.0 || y2 <= 0.0 || width.is_some_and(|w| x1 >= w) || height.is_some_and(|h| y1 >= h);
        if outside {
            warnings.add(OUTSIDE, at);
            continue;
        }
        objects.push(Object { class, bbox: BBox { x1, y1, x2, y2 }, place: at });
    }
    Ok((file, objects))
}
