//! What the integration tests share.
#![allow(dead_code, reason = "each test uses its part")]

use compresso::context::Notes;
use compresso::model::Value;
use compresso::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The Python with the packages that the tests compare against.
///
/// # Panics
/// When `COMPRESSO_PYTHON` is not set: these tests run through `scripts/test.sh`.
pub fn python_path() -> PathBuf {
    std::env::var_os("COMPRESSO_PYTHON")
        .map(PathBuf::from)
        .expect("COMPRESSO_PYTHON is not set: run scripts/test.sh, which installs what the tests compare against")
}

/// Runs a script of `tests/python` and returns what it printed.
pub fn python(args: &[&str]) -> String {
    let out = Command::new(python_path()).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(out.status.success(), "{args:?} failed:\n{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// What `work` gives, and what it notes.
pub fn noted<T>(work: impl FnOnce(&Context) -> T) -> (T, String) {
    let notes = Arc::new(Notes::default());
    let result = work(&Context::new().with_progress(notes.clone()));
    (result, notes.take().join("\n"))
}

/// Each file that `bad.json` in a folder names is refused with its kind, part of its text and its name. `least`: how many there are
/// at the least.
pub fn assert_refused<T>(folder: &Path, least: usize, load: impl Fn(PathBuf) -> Result<T>) {
    let list = std::fs::read_to_string(folder.join("bad.json")).unwrap();
    let list: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&list).unwrap();
    assert!(list.len() >= least);
    let mut wrong = Vec::new();
    for (file, expected) in &list {
        let (kind, text) = (expected[0].as_str().unwrap(), expected[1].as_str().unwrap());
        match load(folder.join(file)) {
            Ok(_) => wrong.push(format!("{file} was accepted")),
            Err(e) => {
                let said = e.to_string();
                if format!("{:?}", e.kind()) != kind || !said.contains(text) || !said.contains(file.as_str()) {
                    wrong.push(format!("{file}: expected {kind} \"{text}\", got {:?} \"{said}\"", e.kind()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Asserts equal shapes and a largest difference of at most `tolerance` times the largest expected magnitude.
pub fn assert_close(got: &Value, expected: &Value, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims());
    let (got, expected) = (got.to_f64s().unwrap(), expected.to_f64s().unwrap());
    let scale = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f64, |m, d| if d.is_nan() { f64::NAN } else { m.max(d) });
    assert!(worst <= tolerance * scale, "largest difference {worst:e} at scale {scale:e}, allowed {:e}", tolerance * scale);
}

/// The model with its weights made larger, so that values keep their size through the layers as they do in a trained one;
/// with initial weights they fade, and outputs hardly depend on the input.
pub fn lively(m: &compresso::Model) -> compresso::Model {
    let mut patch = compresso::model::Patch::new(m.graph());
    for (name, c) in m.graph().constants().iter().filter(|(n, c)| n.ends_with(".weight") && c.dims().len() == 4 && c.count() > 64) {
        let values: Vec<f32> = c.to_f32s().unwrap().iter().map(|v| v * 2.6).collect();
        patch.set_constant(name, compresso::model::Constant::floats(c.dims(), &values).unwrap());
    }
    compresso::Model::new(patch.apply().unwrap(), m.task().clone())
}

/// Drawn pictures with boxes in the form of Pascal VOC: so many to train on, to validate and to test with, of classes with these names.
pub fn voc(root: &Path, classes: &[String], [train, val, test]: [usize; 3]) {
    use compresso::learn::data::{DataOptions, dataset};
    for folder in ["Annotations", "JPEGImages", "ImageSets/Main"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let count = train + val + test;
    let options = DataOptions { images: Some(count), ..DataOptions::default() };
    let set = dataset("shapes", &options, &Context::new()).unwrap();
    for i in 0..count {
        let sample = set.source.get(i).unwrap();
        sample.image.save(root.join(format!("JPEGImages/picture{i}.jpg"))).unwrap();
        let object = |t: &compresso::learn::data::GroundTruth| {
            let corners = [("xmin", t.bbox.x1), ("ymin", t.bbox.y1), ("xmax", t.bbox.x2), ("ymax", t.bbox.y2)];
            let corners: String = corners.iter().map(|(n, v)| format!("<{n}>{}</{n}>", v.round() as i64)).collect();
            format!("<object><name>{}</name><bndbox>{corners}</bndbox></object>", classes[t.class % classes.len()])
        };
        let objects: String = sample.targets.iter().map(object).collect();
        let xml = format!("<annotation><filename>picture{i}.jpg</filename>{objects}</annotation>");
        std::fs::write(root.join(format!("Annotations/picture{i}.xml")), xml).unwrap();
    }
    for (split, range) in [("train", 0..train), ("val", train..train + val), ("test", train + val..count)] {
        let list: String = range.map(|i| format!("picture{i}\n")).collect();
        std::fs::write(root.join(format!("ImageSets/Main/{split}.txt")), list).unwrap();
    }
}
