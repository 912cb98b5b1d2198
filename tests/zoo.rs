//! Zoo models against the reference implementation of the same architectures.

#[path = "zoo/anchors.rs"]
mod anchors;
#[path = "zoo/blocks.rs"]
mod blocks;
mod common;
#[path = "zoo/files.rs"]
mod files;
#[path = "zoo/models.rs"]
mod models;

use candle_core::{Device, Tensor};
use compresso::exec::{Run, run};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Model, Value, weights};
use std::collections::HashMap;

fn feed(images: &Value) -> HashMap<String, Value> {
    HashMap::from([("images".to_string(), images.clone())])
}

/// What the reference packages say of a model: parameters, and names and shapes of all tensors where they are listed.
fn reference() -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(include_str!("fixtures/zoo/state_dicts.json")).unwrap()
}

#[test]
fn parameter_counts_are_those_of_the_published_models() {
    let reference = reference();
    assert!(reference.len() >= 29);
    for (name, facts) in &reference {
        // The package's file for this one says 80 classes, though the published model finds people alone.
        let classes = (name == "yolo11n-pose").then(|| (0..80).map(|i| i.to_string()).collect());
        let m = build(name, &ZooOptions { image_size: Some([32, 32]), classes, ..ZooOptions::default() }).unwrap();
        assert_eq!(m.stats().unwrap().params, facts["params"].as_u64().unwrap(), "{name}");
    }
}

#[test]
fn yolov5_has_the_published_parameter_counts() {
    // As the YOLOv5 repository prints them for 80 classes.
    for (name, params) in
        [("yolov5n", 1_872_157), ("yolov5s", 7_235_389), ("yolov5m", 21_190_557), ("yolov5l", 46_563_709), ("yolov5x", 86_749_405)]
    {
        let m = build(name, &ZooOptions { image_size: Some([32, 32]), ..ZooOptions::default() }).unwrap();
        assert_eq!(m.stats().unwrap().params, params, "{name}");
    }
    let m = build("yolov5n", &ZooOptions { image_size: Some([32, 32]), ..ZooOptions::default() }).unwrap();
    assert_eq!(m.graph().constant("model.24.m.0.weight").unwrap().dims(), [255, 64, 1, 1]);
}

#[test]
fn tensors_have_the_names_and_shapes_of_pytorch() {
    let mut seen = 0;
    for (name, facts) in reference() {
        let Some(tensors) = facts["tensors"].as_array() else { continue };
        let m = build(&name, &ZooOptions { image_size: Some([32, 32]), ..ZooOptions::default() }).unwrap();
        let mut expected: Vec<String> = tensors.iter().map(|t| t.as_str().unwrap().to_string()).collect();
        let ours = parameters(&m).into_iter().map(|n| {
            let dims = m.graph().constant(&n).unwrap().dims().iter().map(ToString::to_string).collect::<Vec<_>>();
            format!("{n} {}", dims.join("x"))
        });
        let mut ours: Vec<String> = ours.collect();
        expected.sort();
        ours.sort();
        assert_eq!(ours, expected, "{name}");
        seen += 1;
    }
    assert!(seen >= 10);
}

/// Names of the constants that PyTorch calls parameters or running statistics.
fn parameters(m: &Model) -> Vec<String> {
    let kinds = [".weight", ".bias", ".running_mean", ".running_var"];
    m.graph().constants().keys().filter(|n| kinds.iter().any(|k| n.ends_with(k))).cloned().collect()
}

#[test]
fn yolov8n_costs_what_its_paper_trail_says() {
    // 8.7 GFLOPs at 640 × 640, one multiply-accumulate counted as two.
    let macs = build("yolov8n", &ZooOptions::default()).unwrap().stats().unwrap().macs.unwrap() as f64;
    assert!((2.0 * macs / 1e9 - 8.74).abs() < 0.05, "{macs}");
}

/// One run of the reference for all of them: its packages take seconds to load.
fn equal_the_reference(names: &[&str], image: [usize; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, file: &str| dir.path().join(name).join(file);
    let options =
        ZooOptions { classes: Some((0..3).map(|i| format!("c{i}")).collect()), image_size: Some(image), seed: 3, ..ZooOptions::default() };
    let x = Value::plain(Tensor::rand(0f32, 1f32, (2, 3, image[0], image[1]), &Device::Cpu).unwrap()).unwrap();
    let mut ours = Vec::new();
    for name in names {
        let m = common::lively(&build(name, &options).unwrap());
        // Weights under their PyTorch names; decode-only constants stay here.
        let tensors: indexmap::IndexMap<String, Value> = parameters(&m)
            .into_iter()
            .filter(|n| !n.contains(".dfl."))
            .map(|n| (n.clone(), Value::of_constant(m.graph().constant(&n).unwrap(), &Device::Cpu).unwrap()))
            .collect();
        std::fs::create_dir(dir.path().join(name)).unwrap();
        weights::save_tensors(&tensors, path(name, "weights.npz")).unwrap();
        weights::save_tensors(&indexmap::IndexMap::from([("images".to_string(), x.clone())]), path(name, "x.npz")).unwrap();
        ours.push(run(m.graph(), &HashMap::from([("images".to_string(), x.clone())]), Run::default()).unwrap());
    }
    let folder = dir.path().display().to_string();
    let args: Vec<&str> = ["tests/python/zoo_reference.py", "3", &folder].into_iter().chain(names.iter().copied()).collect();
    common::python(&args);
    for (name, ours) in names.iter().zip(ours) {
        let expected = weights::load_tensors(path(name, "y.npz")).unwrap();
        println!("{name}");
        common::assert_close(&ours[0], &expected["output0"], 1e-4);
    }
}

#[test]
fn detectors_equal_the_reference_on_the_same_weights() {
    equal_the_reference(&["yolov8n", "yolo11n", "yolo11m", "yolov5nu"], [96, 128]);
}

#[test]
fn classifiers_equal_the_reference_on_the_same_weights() {
    equal_the_reference(&["yolov8n-cls", "yolo11n-cls", "resnet18", "resnet50", "mobilenet_v2"], [64, 64]);
}
