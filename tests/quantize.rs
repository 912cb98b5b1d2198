//! Quantized files in onnxruntime: they load, and give what our executor gives.

mod common;

use compresso::Context;
use compresso::compress::quantize::weights::sqnr;
use compresso::compress::quantize::{Quantize, QuantizeMode};
use compresso::exec::{self, Run};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::learn::eval::{Evaluate, evaluate_with, run_images_with};
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Model, Value};
use compresso::operation::Operation;
use compresso::target::{Target, tensorrt};
use std::collections::HashMap;

fn shapes(images: usize) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(images), ..DataOptions::default() }, &Context::new()).unwrap()
}

/// An image of the dataset, as the model takes it.
fn feeds(m: &Model, data: &Dataset) -> HashMap<String, Value> {
    let mut images =
        compresso::compress::quantize::calibrate::Images::new(m.graph(), m.task(), data, 1, &Context::new().with_seed(9)).unwrap();
    images.next().unwrap().unwrap().1
}

/// Signal over noise of the first output: ours against the float model's, onnxruntime's against ours.
fn distances(float: &Model, quantized: &Model, data: &Dataset) -> (f64, f64) {
    let feeds = feeds(float, data);
    let first = |g| exec::run(g, &feeds, Run::default()).unwrap()[0].to_f32s().unwrap();
    let (exact, ours) = (first(float.graph()), first(quantized.graph()));
    let theirs = Session::from_graph(quantized.graph(), 2).unwrap().run(&feeds).unwrap()[0].to_f32s().unwrap();
    (sqnr(&exact, &ours), sqnr(&ours, &theirs))
}

#[test]
fn every_way_of_quantizing_runs_in_onnxruntime_with_our_outputs() {
    let data = shapes(16);
    let zoo = |name, size| common::lively(&build(name, &ZooOptions { image_size: Some([size, size]), ..ZooOptions::default() }).unwrap());
    let (detector, classifier) = (zoo("yolov8n", 96), zoo("classifier", 64));
    let base = || Quantize { images: 16, ..Quantize::default() };
    for (name, m) in [("yolov8n", &detector), ("classifier", &classifier)] {
        for (way, options) in [
            ("static", base()),
            ("elementwise", Quantize { elementwise: Some(true), ..base() }),
            ("per tensor", Quantize { per_channel: false, ..base() }),
            ("symmetric", Quantize { symmetric: true, ..base() }),
            ("tensorrt", Quantize { target: Target(&tensorrt::SPEC), ..base() }),
            ("dynamic", Quantize { mode: QuantizeMode::Dynamic, ..base() }),
            ("weights", Quantize { mode: QuantizeMode::Dynamic, activations: false, ..base() }),
        ] {
            let q = options.apply(m, Some(&data), &Context::new()).unwrap();
            let (loss, apart) = distances(m, &q, &data);
            println!("{name}, {way}: {loss:.1} dB from float, onnxruntime {apart:.1} dB from us");
            assert!(loss > 15.0, "{name}, {way}: {loss:.1} dB from the float model");
            assert!(apart > 30.0, "{name}, {way}: onnxruntime is {apart:.1} dB from our executor");
        }
    }
}

/// onnxruntime must find its int8 kernels in the graph, not fall back to float ones around quantized weights.
#[test]
fn onnxruntime_fuses_the_layers() {
    let data = shapes(8);
    let m = build("yolov8n", &ZooOptions { image_size: Some([64, 64]), ..ZooOptions::default() }).unwrap();
    let q = Quantize { images: 8, ..Quantize::default() }.apply(&m, Some(&data), &Context::new()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.onnx");
    q.save(&path).unwrap();
    let out = common::python(&["tests/python/optimized_ops.py", path.to_str().unwrap()]);
    let ops: HashMap<String, usize> = serde_json::from_str(out.trim()).unwrap();
    let layers = q.graph().nodes().iter().filter(|n| n.is("Conv")).count();
    let fused = ops.get("com.microsoft.QLinearConv").or_else(|| ops.get("QLinearConv")).copied().unwrap_or(0);
    // Six last convolutions and the expectation over box distributions stay in float.
    assert_eq!(fused, layers - 7, "{ops:?}");
}

/// The accuracy that the defaults keep on real data: BCCD and a YOLOv8n trained on it, in the folder that
/// `COMPRESSO_DATA` names. Float mAP50 is 0.823.
#[test]
#[ignore = "needs the BCCD images and minutes; COMPRESSO_DATA=… cargo test --release --test quantize -- --ignored"]
fn default_int8_keeps_the_accuracy_of_a_real_detector() {
    let root = std::env::var("COMPRESSO_DATA").expect("COMPRESSO_DATA names the folder with bccd and bccd_yolov8n");
    let ctx = Context::new();
    let m = Model::load(format!("{root}/bccd_yolov8n/best.onnx"), &Default::default()).unwrap();
    let data = dataset(&format!("{root}/bccd"), &DataOptions::default(), &ctx).unwrap();
    let (train, test) = (data.split("train").unwrap(), data.split("test").unwrap());
    let settings = Evaluate::default();
    println!("float: {}", settings.run((&m, &test), &ctx).unwrap().summary());
    for (way, options) in [
        ("static", Quantize::default()),
        ("elementwise", Quantize { elementwise: Some(true), ..Quantize::default() }),
        ("dynamic", Quantize { mode: QuantizeMode::Dynamic, ..Quantize::default() }),
        ("tensorrt", Quantize { target: Target(&tensorrt::SPEC), ..Quantize::default() }),
    ] {
        let q = options.apply(&m, Some(&train), &ctx).unwrap();
        let ours = settings.run((&q, &test), &ctx).unwrap();
        let mut session = Session::from_graph(q.graph(), 2).unwrap();
        let mut run = |images: &_| run_images_with(&q, images, &mut |feeds| session.run(feeds));
        let theirs = evaluate_with(&mut run, q.task(), &test, &settings, &ctx).unwrap();
        println!("{way}: ours {}, onnxruntime {}", ours.summary(), theirs.summary());
        assert!(ours.map50.unwrap() >= 0.80 && theirs.map50.unwrap() >= 0.80, "{way}");
    }
}

/// Networks exported by PyTorch and Ultralytics, with seeded random weights (tests/python/export_models.py).
#[test]
fn exported_networks_quantize_without_a_layer_list_and_run_in_onnxruntime() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
    common::python(&["tests/python/export_models.py", dir.to_str().unwrap()]);
    let index: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(dir.join("models.json")).unwrap()).unwrap();
    let data = dataset("random", &DataOptions { images: Some(4), ..DataOptions::default() }, &Context::new()).unwrap();
    let mut failures = Vec::new();
    let mut seen = 0;
    for entry in index["models"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let m = Model::load(dir.join(format!("{name}.onnx")), &Default::default()).unwrap();
        let q = Quantize { images: 4, ..Quantize::default() }.apply(&m, Some(&data), &Context::new()).unwrap();
        let (loss, apart) = distances(&m, &q, &data);
        println!("{name:32} {loss:5.1} dB from float, onnxruntime {apart:5.1} dB from us");
        if !(loss > 10.0 && apart > 25.0) {
            failures.push(format!("{name}: {loss:.1}, {apart:.1}"));
        }
        seen += 1;
    }
    assert!(seen >= 13);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
