//! Exported files in onnxruntime.

mod common;

use compresso::Context;
use compresso::compress::quantize::weights::sqnr;
use compresso::deploy::{ExportPrecision, OnnxExport, TensorrtExport};
use compresso::exec::{self, Run};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Element, LoadOptions, Model, Value, infer};
use std::collections::HashMap;

fn shapes(images: usize) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(images), ..DataOptions::default() }, &Context::new()).unwrap()
}

fn detector() -> Model {
    common::lively(&build("yolov8n", &ZooOptions { image_size: Some([96, 96]), ..ZooOptions::default() }).unwrap())
}

fn feeds(m: &Model) -> HashMap<String, Value> {
    let ctx = Context::new().with_seed(9);
    compresso::compress::quantize::calibrate::Images::new(m.graph(), m.task(), &shapes(4), 2, &ctx).unwrap().next().unwrap().unwrap().1
}

#[test]
fn tensorrt_graphs_of_every_precision_run_with_close_outputs() {
    let m = detector();
    let feeds = feeds(&m);
    let exact = exec::run(m.graph(), &feeds, Run::default()).unwrap()[0].to_f32s().unwrap();
    for (precision, db) in [(ExportPrecision::Fp32, 90.0), (ExportPrecision::Fp16, 40.0), (ExportPrecision::Int8, 15.0)] {
        let dir = tempfile::tempdir().unwrap();
        let options = TensorrtExport { precision, images: 8, build: Some(false), ..TensorrtExport::default() };
        let a = options.apply(&m, dir.path(), Some(&shapes(8)), &Context::new()).unwrap();
        let mut session = Session::from_file(&a.files[0], 2).unwrap();
        let got = session.run(&feeds).unwrap();
        assert_eq!(got[0].element, Element::F32, "outputs stay float32");
        let found = sqnr(&exact, &got[0].to_f32s().unwrap());
        println!("{precision}: {found:.1} dB");
        assert!(found > db, "{precision}: {found:.1} dB, expected {db}");
    }
}

#[test]
fn the_fp16_graph_is_half_the_size_and_decodes_boxes_in_float32() {
    let m = detector();
    let dir = tempfile::tempdir().unwrap();
    let export = |precision| {
        let options = TensorrtExport { precision, build: Some(false), ..TensorrtExport::default() };
        options.apply(&m, dir.path(), None, &Context::new()).unwrap().files[0].clone()
    };
    let (full, half) = (export(ExportPrecision::Fp32), export(ExportPrecision::Fp16));
    let size = |p| std::fs::metadata(p).unwrap().len() as f64;
    assert!(size(&half) < 0.55 * size(&full), "{} against {}", size(&half), size(&full));
    let loaded = Model::load(&half, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.task(), m.task());
    let facts = infer(loaded.graph()).unwrap();
    let output = loaded.graph().outputs()[0].name.clone();
    let last = &loaded.graph().nodes()[loaded.graph().find(&output).unwrap()];
    assert!(last.inputs.iter().all(|i| facts[i].element == Element::F32), "{last:?}");
}

#[test]
fn onnx_export_folds_batch_norms_and_keeps_the_outputs() {
    let m = detector();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    let file = OnnxExport::default().apply(&m, &path, &Context::new()).unwrap();
    assert!(file.changes.iter().any(|c| c.contains("is folded into")));
    let feeds = feeds(&m);
    let exact = exec::run(m.graph(), &feeds, Run::default()).unwrap();
    let got = Session::from_file(&path, 2).unwrap().run(&feeds).unwrap();
    for (name, v) in &exact {
        common::assert_close(&got[name.as_str()], v, 1e-4);
    }
    let loaded = Model::load(&path, &LoadOptions::default()).unwrap();
    assert!(loaded.graph().nodes().iter().all(|n| n.op != "BatchNormalization"));
    assert_eq!(loaded.steps().last().unwrap().operation, "onnx_export");
    assert!(OnnxExport::default().apply(&m, dir.path().join("m.pt"), &Context::new()).is_err());
}

#[test]
fn tensors_in_a_second_file_are_the_same_model() {
    let m = detector();
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one.onnx", "two.onnx"].map(|name| dir.path().join(name));
    OnnxExport::default().apply(&m, &one, &Context::new()).unwrap();
    let file = OnnxExport { external_data: true, ..OnnxExport::default() }.apply(&m, &two, &Context::new()).unwrap();
    let size = |p: &std::path::Path| std::fs::metadata(p).unwrap().len();
    let data = dir.path().join("two.onnx.data");
    assert_eq!(file.bytes, size(&two) + size(&data));
    assert!(size(&data) > 9 * size(&two), "{} of tensors beside {}", size(&data), size(&two));
    let feeds = feeds(&m);
    let [a, b] = [&one, &two].map(|path| Session::from_file(path, 2).unwrap().run(&feeds).unwrap()[0].to_f32s().unwrap());
    assert_eq!(a, b);
    let [a, b] = [&one, &two].map(|path| Model::load(path, &LoadOptions::default()).unwrap());
    assert_eq!((a.task(), a.graph().nodes()), (b.task(), b.graph().nodes()));
    // Without a large tensor there is nothing to put aside.
    let small = build("classifier", &ZooOptions { image_size: Some([8, 8]), width: Some(0.05), ..ZooOptions::default() }).unwrap();
    let again =
        OnnxExport { external_data: true, ..OnnxExport::default() }.apply(&small, dir.path().join("s.onnx"), &Context::new()).unwrap();
    assert!(again.bytes > 0);
    std::fs::remove_file(&data).unwrap();
    assert!(Model::load(&two, &LoadOptions::default()).unwrap_err().to_string().contains("two.onnx.data"));
}
