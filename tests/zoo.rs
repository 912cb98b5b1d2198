//! Zoo models against the reference implementation of the same architectures.

mod common;

use candle_core::{Device, Tensor};
use compresso::exec::{Run, run};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Element, Value, weights};
use std::collections::HashMap;

#[test]
fn parameter_counts_are_those_of_the_published_models() {
    // As the ultralytics package counts them for 80 classes.
    for (name, params) in
        [("yolov8n", 3_157_200), ("yolov8s", 11_166_560), ("yolov8m", 25_902_640), ("yolov8l", 43_691_520), ("yolov8x", 68_229_648)]
    {
        let m = build(name, &ZooOptions::default()).unwrap();
        assert_eq!(m.stats().unwrap().params, params, "{name}");
    }
}

#[test]
fn yolov8n_costs_what_its_paper_trail_says() {
    // 8.7 GFLOPs at 640 × 640, one multiply-accumulate counted as two.
    let macs = build("yolov8n", &ZooOptions::default()).unwrap().stats().unwrap().macs as f64;
    assert!((2.0 * macs / 1e9 - 8.74).abs() < 0.05, "{macs}");
}

#[test]
fn yolov8n_equals_the_reference_on_the_same_weights() {
    let image = [96, 128];
    let options =
        ZooOptions { classes: Some((0..3).map(|i| format!("c{i}")).collect()), image_size: Some(image), seed: 3, ..ZooOptions::default() };
    let m = build("yolov8n", &options).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    // Weights under their PyTorch names; decode-only constants stay here.
    let mut tensors = indexmap::IndexMap::new();
    for (name, c) in m.graph().constants() {
        if c.element() == Element::F32
            && name.starts_with("model.")
            && ["weight", "bias", "running_mean", "running_var"].iter().any(|s| name.ends_with(s))
            && !name.contains(".dfl.")
        {
            tensors.insert(name.clone(), Value::of_constant(c, &Device::Cpu).unwrap());
        }
    }
    weights::save_tensors(&tensors, path("weights.npz")).unwrap();
    let x = Tensor::rand(0f32, 1f32, (2, 3, image[0], image[1]), &Device::Cpu).unwrap();
    let x = Value::plain(x).unwrap();
    weights::save_tensors(&indexmap::IndexMap::from([("images".to_string(), x.clone())]), path("x.npz")).unwrap();
    common::python(&["tests/python/zoo_reference.py", "yolov8n.yaml", "3", &path("weights.npz"), &path("x.npz"), &path("y.npz")]);
    let expected = weights::load_tensors(path("y.npz")).unwrap();
    let ours = run(m.graph(), &HashMap::from([("images".to_string(), x)]), Run::default()).unwrap();
    common::assert_close(&ours["output0"], &expected["output0"], 1e-4);
}
