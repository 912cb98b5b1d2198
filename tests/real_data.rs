//! Real detectors on real photographs, which are not part of the project:
//!
//! `COMPRESSO_DATA=DIR cargo test --test real_data -- --ignored` with `bccd`, `bccd_yolov8n` and `fastestdet` in DIR.

use compresso::Context;
use compresso::learn::data::{DataOptions, dataset};
use compresso::learn::eval::{Evaluate, Evaluation, Predict, evaluate_with, image_files_dataset};
use compresso::measure::runtimes::onnxruntime;
use compresso::model::{LoadOptions, Model, Value};
use compresso::operation::Operation;
use std::collections::HashMap;
use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    let root = std::env::var_os("COMPRESSO_DATA").expect("COMPRESSO_DATA names the folder with the data");
    PathBuf::from(root).join(name)
}

fn bccd() -> (Model, compresso::learn::data::Dataset) {
    let model = Model::load(data("bccd_yolov8n/best.onnx"), &LoadOptions::default()).unwrap();
    let source = data("bccd").display().to_string();
    let set = dataset(&source, &DataOptions { split: Some("test".into()), ..DataOptions::default() }, &Context::new()).unwrap();
    (model, set)
}

/// pycocotools' figures for this model: 320 px square letterbox, confidence 0.001, suppression at IoU 0.7.
fn check(e: &Evaluation) {
    println!("{} {:?}", e.summary(), e.per_class.iter().map(|c| (&c.class, c.objects, c.map50)).collect::<Vec<_>>());
    assert_eq!(e.images, 72);
    assert!((e.map50.unwrap() - 0.8225).abs() < 0.003, "{:?}", e.map50);
    assert!((e.map.unwrap() - 0.5131).abs() < 0.003, "{:?}", e.map);
}

#[test]
#[ignore = "needs the BCCD photographs"]
fn bccd_loads_with_its_splits_and_two_degenerate_boxes() {
    for folder in ["bccd", "bccd/BCCD"] {
        let set = dataset(&data(folder).display().to_string(), &DataOptions::default(), &Context::new()).unwrap();
        let lengths: Vec<(&str, usize)> = set.splits.iter().map(|(n, d)| (n.as_str(), d.len())).collect();
        assert_eq!(lengths, [("train", 205), ("val", 87), ("test", 72), ("trainval", 292)]);
        assert_eq!(&*set.classes, ["Platelets", "RBC", "WBC"]);
        println!("{:#?}", set.warnings);
        assert_eq!(set.warnings.len(), 1);
        assert!(set.warnings[0].starts_with("2 × box without area, skipped"));
    }
}

#[test]
#[ignore = "needs the BCCD photographs"]
fn bccd_figures_with_onnxruntime() {
    let (model, set) = bccd();
    let mut session = onnxruntime::Session::from_file(data("bccd_yolov8n/best.onnx"), 2).unwrap();
    let mut run = |images: &candle_core::Tensor| {
        let feeds = HashMap::from([("images".to_string(), Value::plain(images.clone())?)]);
        session.run(&feeds)
    };
    check(&evaluate_with(&mut run, model.task(), &set, &Evaluate { batch: 1, ..Evaluate::default() }, &Context::new()).unwrap());
}

#[test]
#[ignore = "needs the BCCD photographs"]
fn bccd_figures_with_the_eager_executor() {
    let (model, set) = bccd();
    check(&Evaluate::default().run((&model, &set), &Context::new()).unwrap());
}

/// The trainer's own checkpoint, of which the .onnx file is an export.
#[test]
#[ignore = "needs the BCCD photographs"]
fn bccd_figures_of_the_pytorch_checkpoint() {
    let (exported, set) = bccd();
    let model = Model::load(data("bccd_yolov8n/best.pt"), &LoadOptions::default()).unwrap();
    assert_eq!((model.task().classes(), model.task().image_size()), (exported.task().classes(), Some([320, 320])));
    assert!(model.task().detect().unwrap().head.is_some());
    let e = Evaluate::default().run((&model, &set), &Context::new()).unwrap();
    check(&e);
    assert!((e.map50.unwrap() - 0.823).abs() < 0.002 && (e.map.unwrap() - 0.513).abs() < 0.002, "{:?} {:?}", e.map50, e.map);
}

#[test]
#[ignore = "needs FastestDet and its photographs"]
fn fastestdet_sees_what_is_in_the_photographs() {
    let names = data("fastestdet/coco.names").display().to_string();
    let options = compresso::operation::decode(serde_json::json!({ "classes": names })).unwrap();
    let model = Model::load(data("fastestdet/FastestDet.onnx"), &options).unwrap();
    let images = image_files_dataset(&[data("fastestdet").join("*.jpg").display().to_string()], &Context::new()).unwrap();
    assert_eq!(images.len(), 5);
    let found = Predict { confidence: 0.5, iou: 0.45, ..Predict::default() }.run((&model, &images), &Context::new()).unwrap();
    for p in &found.images {
        println!("{} {:?}", p.name, p.detections.iter().map(|d| format!("{} {:.2}", d.label, d.score)).collect::<Vec<_>>());
        assert!(!p.detections.is_empty(), "{}", p.name);
    }
    let folder = std::env::var_os("COMPRESSO_PICTURES").map_or_else(|| tempfile::tempdir().unwrap().keep(), PathBuf::from);
    found.save(folder.join("fastestdet")).unwrap();
}
