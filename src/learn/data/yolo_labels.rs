//! Label files of YOLO datasets, one for each image.
//!
//! A line is `class x y width height`, centre and size as parts of the image, or `class x1 y1 x2 y2 x3 y3 …`, a polygon, of
//! which the box is taken. What cannot be used is treated as the Ultralytics trainer does: a line that makes no sense takes
//! its image out, for the objects of that image are not known; lines that repeat others count once.

use super::files::{entries, is_image, unread};
use super::warnings::{NO_AREA, OUTSIDE, Warnings, file_name, place};
use super::{BBox, GroundTruth};
use compresso_base::error::{Error, Result};
use compresso_base::files::{check_regular, read_text};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Largest `data.yaml` and label file.
const MAX_BYTES: u64 = 16 << 20;
/// Coordinates may leave 0 to 1 by this much and are cut.
const SLACK: f32 = 0.01;

/// A text file of bounded size.
pub(super) fn read(path: &Path) -> Result<String> {
    check_regular(path)?;
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if meta.len() > MAX_BYTES {
        return Err(Error::format(format!("the file has {} bytes, more than {MAX_BYTES}", meta.len())).file(path));
    }
    read_text(path)
}

/// Why an image is left out: the kind of a warning, and its place.
pub(super) struct Unusable(pub String, pub String);

/// The objects of an image.
pub(super) fn objects(
    image: &Path,
    split: &str,
    classes: usize,
    warnings: &mut Warnings,
) -> std::result::Result<Vec<GroundTruth>, Unusable> {
    let file = label_file(image);
    if !file.is_file() {
        warnings.add(format!("image of '{split}' without label file, taken as empty"), file_name(image));
        return Ok(Vec::new());
    }
    match read(&file) {
        Ok(text) => parse(&text, &file, classes, warnings),
        Err(e) => {
            Err(Unusable("label file that cannot be read, its image left out".into(), format!("{} ({})", file_name(&file), e.message())))
        }
    }
}

/// Counts the label files of a folder of images to which there is no image.
pub(super) fn orphans(images: &Path, warnings: &mut Warnings) {
    let labels = label_file(&images.join("any"));
    let Some(labels) = labels.parent().filter(|l| *l != images) else { return };
    let stem = |p: &PathBuf| p.file_stem().map(|s| s.to_os_string());
    let is = |p: &PathBuf, ending: &str| p.extension().is_some_and(|e| e == ending);
    let there: HashSet<_> =
        entries(images).unwrap_or_default().iter().filter(|p| is_image(p) || unread(p).is_some()).filter_map(stem).collect();
    for file in entries(labels).unwrap_or_default().into_iter().filter(|p| is(p, "txt")) {
        // Some tools write the class names beside the labels.
        if stem(&file).is_some_and(|s| s != "classes" && !there.contains(&s)) {
            warnings.add("label file without image, left out", file_name(&file));
        }
    }
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

/// The objects of a label file.
fn parse(text: &str, path: &Path, classes: usize, warnings: &mut Warnings) -> std::result::Result<Vec<GroundTruth>, Unusable> {
    let (mut objects, mut seen, mut forms) = (Vec::new(), HashSet::new(), [false; 2]);
    // Some editors begin a text with a mark of its encoding.
    for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let at = place(path, i + 1);
        let (class, numbers) = row(&words, classes).map_err(|why| Unusable(format!("{why}, its image left out"), at.clone()))?;
        forms[usize::from(numbers.len() > 4)] = true;
        if forms == [true; 2] {
            return Err(Unusable("label file of both boxes and polygons, its image left out".into(), at));
        }
        // Adding 0 makes one zero of both.
        if !seen.insert((class, numbers.iter().map(|v| (v + 0.0).to_bits()).collect::<Vec<u32>>())) {
            warnings.add("line that repeats another, skipped", at);
            continue;
        }
        match boxed(&numbers) {
            Ok(bbox) => objects.push(GroundTruth { class, bbox }),
            Err(why) => warnings.add(why, at),
        }
    }
    Ok(objects)
}

/// Class and numbers of a line: of a box (centre and size) or of a polygon; else what is wrong.
fn row(words: &[&str], classes: usize) -> std::result::Result<(usize, Vec<f32>), String> {
    if words.len() != 5 && (words.len() < 7 || words.len().is_multiple_of(2)) {
        return Err("line without 5 columns (or a polygon's 7, 9, …)".into());
    }
    let Some(class) = words[0].parse::<f64>().ok().filter(|c| c.fract() == 0.0 && *c >= 0.0) else {
        return Err("line whose class is no whole number".into());
    };
    if class >= classes as f64 {
        return Err(format!("line with a class above {}", classes - 1));
    }
    let numbers: Vec<f32> = words[1..].iter().filter_map(|w| w.parse().ok()).filter(|v: &f32| v.is_finite()).collect();
    if numbers.len() + 1 != words.len() {
        return Err("line with a coordinate that is no number".into());
    }
    // Of a polygon, the box counts.
    let [x, y, w, h] = centred(&numbers);
    if w < 0.0 || h < 0.0 {
        return Err("line with a negative size".into());
    }
    if [x, y, w, h].iter().any(|v| *v < -SLACK || *v > 1.0 + SLACK) {
        return Err("line with a coordinate outside 0 to 1".into());
    }
    Ok((class as usize, numbers))
}

/// Centre and size of a row's box.
fn centred(numbers: &[f32]) -> [f32; 4] {
    if let [x, y, w, h] = *numbers {
        return [x, y, w, h];
    }
    around(numbers).to_centre()
}

/// The box around the points of a polygon.
fn around(points: &[f32]) -> BBox {
    let low = |axis: usize| points.iter().skip(axis).step_by(2).copied().fold(f32::MAX, f32::min);
    let high = |axis: usize| points.iter().skip(axis).step_by(2).copied().fold(f32::MIN, f32::max);
    BBox { x1: low(0), y1: low(1), x2: high(0), y2: high(1) }
}

/// The box of a row, cut at the image's edges; else why it is none.
fn boxed(numbers: &[f32]) -> std::result::Result<BBox, &'static str> {
    let b = match *numbers {
        [x, y, w, h] => BBox::from_centre(x, y, w, h),
        _ => around(numbers),
    };
    if b.x2 <= b.x1 || b.y2 <= b.y1 {
        return Err(NO_AREA);
    }
    let cut = |v: f32| v.clamp(0.0, 1.0);
    let bbox = BBox { x1: cut(b.x1), y1: cut(b.y1), x2: cut(b.x2), y2: cut(b.y2) };
    if bbox.x2 <= bbox.x1 || bbox.y2 <= bbox.y1 { Err(OUTSIDE) } else { Ok(bbox) }
}
