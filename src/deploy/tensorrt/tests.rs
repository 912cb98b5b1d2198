//! Artefacts, cache bytes, build script, and what happens with and without a builder.

use super::*;
use crate::half::to_float16;
use candle_core::{Device, Tensor};
use compresso_compress::quantize::{Quantize, QuantizeMode, calibrate};
use compresso_exec::{Run, run};
use compresso_learn::data::{DataOptions, dataset};
use compresso_model::{Constant, Dim, Element, Fact, Graph, GraphBuilder, Node, Task, Value};
use std::collections::HashMap;

fn model(batch: Dim) -> Model {
    let mut b = GraphBuilder::new("tiny", 17);
    let x = b.input("images", Fact::new(Element::F32, vec![batch, Dim::Known(3), Dim::Known(8), Dim::Known(8)]));
    let w: Vec<f32> = (0..16 * 3).map(|i| (i as f32 * 0.7).sin()).collect();
    let w = b.constant("w", Constant::floats(&[16, 3, 1, 1], &w).unwrap());
    let y = b.node(Node::new("Conv", "first", [x.as_str(), &w], ["features"]));
    let y = b.node(Node::new("Relu", "", [y.as_str()], ["active"]));
    let v: Vec<f32> = (0..16 * 16).map(|i| (i as f32 * 0.3).cos() * 0.3).collect();
    let v = b.constant("v", Constant::floats(&[16, 16, 1, 1], &v).unwrap());
    let y = b.node(Node::new("Conv", "second", [y.as_str(), &v], ["logits"]));
    b.output(&y);
    Model::new(b.finish().unwrap(), Task::Unknown)
}

fn data() -> Dataset {
    dataset("random", &DataOptions { images: Some(6), ..DataOptions::default() }, &Context::new()).unwrap()
}

fn export(options: &TensorrtExport, m: &Model, dir: &Path) -> TensorrtArtifacts {
    options.apply(m, dir, Some(&data()), &Context::new()).unwrap()
}

fn names(a: &TensorrtArtifacts) -> Vec<String> {
    a.files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn each_precision_writes_its_files() {
    let m = model(Dim::Known(2));
    for (precision, files) in [
        (ExportPrecision::Fp32, vec!["model_fp32.onnx", "build.sh", "manifest.json"]),
        (ExportPrecision::Fp16, vec!["model_fp16.onnx", "build.sh", "manifest.json"]),
        (ExportPrecision::Int8, vec!["model_int8.onnx", "model_fp32.onnx", "calibration.cache", "build.sh", "manifest.json"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let a = export(&TensorrtExport { precision, build: Some(false), ..TensorrtExport::default() }, &m, dir.path());
        assert_eq!(names(&a), files);
        assert!(a.files.iter().all(|f| f.is_file()));
        let manifest: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(dir.path().join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["precision"], precision.to_string());
        assert_eq!(manifest["files"].as_array().unwrap().len(), files.len());
        assert_eq!(a.engine, EngineBuild::Skipped);
    }
}

/// The cache against ranges computed here from the same images, through nothing but the model's outputs.
#[test]
fn the_cache_holds_the_bits_of_the_largest_magnitude_over_127() {
    let m = model(Dim::Known(1));
    let dir = tempfile::tempdir().unwrap();
    export(
        &TensorrtExport { precision: ExportPrecision::Int8, images: 6, build: Some(false), ..TensorrtExport::default() },
        &m,
        dir.path(),
    );
    let text = std::fs::read_to_string(dir.path().join("calibration.cache")).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("TRT-8501-EntropyCalibration2"));
    let found: HashMap<&str, &str> = lines.map(|l| l.split_once(": ").unwrap()).collect();
    assert_eq!(found.len(), 4);
    let mut largest: HashMap<&str, f32> = HashMap::new();
    for feeds in calibrate::Images::new(m.graph(), m.task(), &data(), 6, &Context::new()).unwrap() {
        let (_, feeds) = feeds.unwrap();
        let wanted = ["images", "features", "active", "logits"];
        let run = compresso_exec::Run { wanted: &wanted, ..Default::default() };
        for (name, v) in compresso_exec::run(m.graph(), &feeds, run).unwrap() {
            let top = v.to_f32s().unwrap().iter().fold(0f32, |a, x| a.max(x.abs()));
            let name = wanted.into_iter().find(|w| *w == name).unwrap();
            let l = largest.entry(name).or_default();
            *l = l.max(top);
        }
    }
    for (name, top) in largest {
        let bytes = (top / 127.0).to_be_bytes();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(found[name], hex, "{name}");
    }
}

#[test]
fn open_batches_get_shapes_and_the_script_is_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let options = TensorrtExport { batch: 4, max_batch: Some(8), workspace: Some(512), build: Some(false), ..TensorrtExport::default() };
    export(&options, &model(Dim::symbol("n")), dir.path());
    let script = std::fs::read_to_string(dir.path().join("build.sh")).unwrap();
    for part in [
        "--minShapes=images:1x3x8x8",
        "--optShapes=images:4x3x8x8",
        "--maxShapes=images:8x3x8x8",
        "--onnx=model_fp16.onnx",
        "--saveEngine=model_fp16.engine",
        "--memPoolSize=workspace:512",
        "--stronglyTyped",
    ] {
        assert!(script.contains(part), "{part} is not in\n{script}");
    }
}

/// A stand-in for trtexec that notes its arguments: the script, its version check and the engine's way back are real.
#[cfg(unix)]
#[test]
fn a_builder_is_run_and_its_failure_is_told() {
    let m = model(Dim::Known(1));
    let dir = tempfile::tempdir().unwrap();
    let fake = dir.path().join("trtexec");
    let build = |body: &str| {
        std::fs::write(&fake, format!("#!/bin/sh\n{body}\n")).unwrap();
        compresso_target::make_executable(&fake).unwrap();
        let out = dir.path().join("out");
        let options = TensorrtExport { build: Some(false), ..TensorrtExport::default() };
        export(&options, &m, &out);
        builder::run(&fake, &out, "model_fp16.engine", &Context::new()).unwrap()
    };
    let engine =
        build(r#"if [ "$1" = --help ]; then echo " --stronglyTyped"; exit; fi; echo "$@" > args; echo plan > model_fp16.engine"#).unwrap();
    assert_eq!(std::fs::read_to_string(&engine).unwrap(), "plan\n");
    let args = std::fs::read_to_string(dir.path().join("out/args")).unwrap();
    assert!(args.starts_with("--stronglyTyped --onnx=model_fp16.onnx"), "{args}");
    std::fs::remove_file(&engine).unwrap();
    let words = build(r#"[ "$1" = --help ] && exit; echo "$1"; echo "[E] no CUDA device"; exit 1"#).unwrap_err();
    assert!(words.contains("no CUDA device"), "{words}");
    assert!(std::fs::read_to_string(dir.path().join("out/build.log")).unwrap().starts_with("--fp16"));
}

/// The builder needs no GPU, but only one loads what it makes.
#[test]
fn plans_for_rtx_are_built_in_every_precision() {
    use compresso_model::zoo::{ZooOptions, build};
    let dir = tempfile::tempdir().unwrap();
    let rtx = TensorrtExport { rtx: true, images: 4, score: false, build: Some(true), ..TensorrtExport::default() };
    if let Err(missing) = rtx::find() {
        let e = rtx.apply(&model(Dim::Known(1)), dir.path(), None, &Context::new()).unwrap_err().to_string();
        assert!(e.contains(&missing) && missing.contains("pip install tensorrt-rtx"), "{e}");
        return;
    }
    let yolo = build("yolov8n", &ZooOptions { image_size: Some([64, 64]), ..ZooOptions::default() }).unwrap();
    let sizes: Vec<u64> = [ExportPrecision::Fp32, ExportPrecision::Fp16, ExportPrecision::Int8]
        .into_iter()
        .map(|precision| {
            let made = export(&TensorrtExport { precision, ..rtx.clone() }, &yolo, &dir.path().join(precision.to_string()));
            let EngineBuild::Built(plan) = &made.engine else { panic!("{:?}", made.engine) };
            assert!(plan.ends_with(format!("model_{precision}.rtx.plan")) && made.files.contains(plan));
            assert!(made.line().contains("for TensorRT for RTX alone"));
            std::fs::metadata(plan).unwrap().len()
        })
        .collect();
    // Weights: 12.8 MB in float32.
    assert!(sizes[0] > 12_000_000 && sizes[1] < sizes[0] && sizes[2] < sizes[0], "{sizes:?}");
    // A profile of an open batch, and weights with two numbers in four.
    let open = model(Dim::symbol("n"));
    let mut patch = compresso_model::Patch::new(open.graph());
    let sparse: Vec<f32> = (0..256).map(|i| if i % 4 < 2 { 0.5 } else { 0.0 }).collect();
    patch.set_constant("v", Constant::floats(&[16, 16, 1, 1], &sparse).unwrap());
    let open = Model::new(patch.apply().unwrap(), Task::Unknown);
    let made =
        export(&TensorrtExport { batch: 2, max_batch: Some(4), workspace: Some(64), ..rtx.clone() }, &open, &dir.path().join("open"));
    assert!(matches!(made.engine, EngineBuild::Built(_)), "{:?}", made.engine);
    let manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("open/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["profile"]["images"], serde_json::json!({ "min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 8, 8] }));
    assert_eq!((&manifest["sparse"], &manifest["workspace_mib"]), (&serde_json::json!(true), &serde_json::json!(64)));
    assert!(std::fs::read_to_string(dir.path().join("open/build.sh")).unwrap().contains("--sparsity=enable"));
    // A graph that it cannot read.
    std::fs::write(dir.path().join("open/model_fp16.onnx"), b"nothing").unwrap();
    let interpreter = rtx::find().unwrap();
    let plan = "model_fp16.rtx.plan";
    assert!(dir.path().join("open").join(plan).is_file());
    let words = rtx::run(&interpreter, &dir.path().join("open"), ["model_fp16.onnx", plan], &Context::new()).unwrap().unwrap_err();
    assert!(!dir.path().join("open").join(plan).exists(), "the plan before is not taken for this one");
    assert!(words.contains("build.log"), "{words}");
}

#[test]
fn without_a_builder_the_artefacts_stay_and_the_reason_is_typed() {
    if find_trtexec().is_some() {
        return;
    }
    let m = model(Dim::Known(1));
    let dir = tempfile::tempdir().unwrap();
    let a = export(&TensorrtExport::default(), &m, dir.path());
    assert!(matches!(&a.engine, EngineBuild::Unavailable(why) if why.contains("TensorRT")));
    let e = TensorrtExport { build: Some(true), ..TensorrtExport::default() }.apply(&m, dir.path(), None, &Context::new()).unwrap_err();
    assert_eq!(e.kind(), compresso_base::ErrorKind::Unavailable);
    assert!(e.to_string().contains("model_fp16.onnx"), "{e}");
    assert!(dir.path().join("model_fp16.onnx").is_file());
}

#[test]
fn what_tensorrt_refuses_is_refused_before_anything_is_written() {
    let m = model(Dim::Known(1));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let int8 = TensorrtExport { precision: ExportPrecision::Int8, ..TensorrtExport::default() };
    for mode in [QuantizeMode::Static, QuantizeMode::Dynamic] {
        let q = Quantize { mode, ..Quantize::default() }.apply(&m, Some(&data()), &Context::new()).unwrap();
        let e = int8.apply(&q, &out, Some(&data()), &Context::new()).unwrap_err();
        assert!(e.kind() == compresso_base::ErrorKind::Unsupported && e.to_string().contains("target: \"tensorrt\""), "{e}");
    }
    assert!(!out.exists());
    let e = int8.apply(&m, &out, None, &Context::new()).unwrap_err();
    assert!(e.to_string().contains("int8 needs images"), "{e}");
    // One that follows the rules passes, in its own precision only.
    let q = Quantize { target: Target(&tensorrt::SPEC), ..Quantize::default() }.apply(&m, Some(&data()), &Context::new()).unwrap();
    let kept = TensorrtExport { build: Some(false), ..int8 };
    assert_eq!(names(&export(&kept, &q, &out)), ["model_int8.onnx", "build.sh", "manifest.json"]);
    assert!(TensorrtExport::default().apply(&q, &out, None, &Context::new()).unwrap_err().to_string().contains("precision"));
    // A file's name makes no folder.
    let file = dir.path().join("model.onnx");
    let e = TensorrtExport::default().apply(&m, &file, None, &Context::new()).unwrap_err();
    assert!(e.to_string().contains("tensorrt_export(m, \"folder\")") && !file.exists(), "{e}");
}

#[test]
fn half_precision_covers_layers_and_keeps_float32_ends() {
    let m = model(Dim::Known(1));
    let (g, notes) = to_float16(m.graph()).unwrap();
    assert!(notes.is_empty());
    let ops: Vec<&str> = g.nodes().iter().map(|n| n.op.as_str()).collect();
    assert_eq!(ops, ["Cast", "Conv", "Relu", "Conv", "Cast"]);
    assert!(g.constants().values().all(|c| c.element() == Element::F16));
    let facts = compresso_model::infer(&g).unwrap();
    assert_eq!((facts["images"].element, facts["logits"].element), (Element::F32, Element::F32));
    assert_eq!(facts["active_float16"].element, Element::F16);
}

#[test]
fn a_layer_with_numbers_beyond_float16_stays_and_is_told() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 3, 4, 4]));
    let v = b.constant("v", Constant::floats(&[3, 3, 1, 1], &[0.5; 9]).unwrap());
    let w = b.constant("w", Constant::floats(&[1, 3, 1, 1], &[1e6, -1e6, 1.0]).unwrap());
    let y = b.op("Conv", &[&x, &v]);
    let y = b.node(Node::new("Conv", "large", [y, w], [""]));
    b.output(&y);
    let g = b.finish().unwrap();
    let (half, notes) = to_float16(&g).unwrap();
    assert_eq!(half.constant("w"), g.constant("w"));
    assert_eq!(half.nodes().iter().map(|n| n.op.as_str()).collect::<Vec<_>>(), ["Cast", "Conv", "Cast", "Conv"]);
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("node 'large' (Conv) stays in float32") && notes[0].contains("'w'"), "{notes:?}");
}

/// An attention mask makes a value infinite that is quantized for nobody.
#[test]
fn the_cache_leaves_out_what_is_infinite_and_says_so() {
    let mut b = GraphBuilder::new("masked", 17);
    let x = b.input("images", Fact::known(Element::F32, &[1, 3, 8, 8]));
    let w: Vec<f32> = (0..16 * 3).map(|i| (i as f32 * 0.7).sin()).collect();
    let w = b.constant("w", Constant::floats(&[16, 3, 1, 1], &w).unwrap());
    let y = b.node(Node::new("Conv", "first", [x.as_str(), &w], ["features"]));
    let mask: Vec<f32> = (0..8).map(|i| if i % 3 == 1 { f32::NEG_INFINITY } else { 0.0 }).collect();
    let mask = b.constant("mask", Constant::floats(&[8], &mask).unwrap());
    let y = b.node(Node::new("Add", "", [y.as_str(), &mask], ["scores"]));
    let y = b.node(Node::new("Softmax", "", [y.as_str()], ["weights"]).int("axis", -1));
    let y = b.node(Node::new("Relu", "", [y.as_str()], ["positive"]));
    let v: Vec<f32> = (0..16 * 16).map(|i| (i as f32 * 0.3).cos() * 0.3).collect();
    let v = b.constant("v", Constant::floats(&[16, 16, 1, 1], &v).unwrap());
    let y = b.node(Node::new("Conv", "second", [y.as_str(), &v], ["logits"]));
    b.output(&y);
    let m = Model::new(b.finish().unwrap(), Task::Unknown);
    let dir = tempfile::tempdir().unwrap();
    let a = export(&TensorrtExport { precision: ExportPrecision::Int8, build: Some(false), ..TensorrtExport::default() }, &m, dir.path());
    assert!(a.notes.iter().any(|n| n.contains("infinite") && n.ends_with("the calibration cache lacks 'scores'")), "{:?}", a.notes);
    let text = std::fs::read_to_string(dir.path().join("calibration.cache")).unwrap();
    let names: Vec<&str> = text.lines().skip(1).map(|l| l.split_once(": ").unwrap().0).collect();
    assert_eq!(names, ["images", "features", "weights", "positive", "logits"]);
}

#[test]
fn what_float16_cannot_hold_stays_in_float32() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 3, 4, 4]));
    let w = b.constant("w", Constant::floats(&[3, 3, 1, 1], &[0.5, -0.25, 1.0, 0.125, 0.75, -1.0, 0.25, 0.5, 0.5]).unwrap());
    let scales = b.constant("scales", Constant::floats(&[4], &[1.0, 1.0, 2.0, 2.0]).unwrap());
    let y = b.op("Conv", &[&x, &w]);
    let y = b.op("Resize", &[&y, "", &scales]);
    let y = b.node(Node::new("LpNormalization", "norm", [y], ["normed"]).int("axis", 1));
    let y = b.op("Conv", &[&y, &w]);
    b.output_as(&y, "y");
    let g = b.finish().unwrap();
    let (half, _) = to_float16(&g).unwrap();
    let facts = compresso_model::infer(&half).unwrap();
    let node = |op: &str| half.nodes().iter().find(|n| n.op == op).unwrap();
    let element = |name: &str| facts[name].element;
    let (resize, norm) = (node("Resize"), node("LpNormalization"));
    assert_eq!([&resize.inputs[0], &resize.inputs[2]].map(|n| element(n)), [Element::F16, Element::F32]);
    assert_eq!([&norm.inputs[0], &norm.outputs[0]].map(|n| element(n)), [Element::F32, Element::F32]);
    assert_eq!(half.nodes().iter().filter(|n| n.op == "Conv").map(|n| element(&n.outputs[0])).collect::<Vec<_>>(), [Element::F16; 2]);
    // Sums of squares of 1000 and more would be infinite.
    let numbers: Vec<f32> = (0..48).map(|i| 1000.0 + 10.0 * i as f32).collect();
    let feeds = HashMap::from([("x".to_string(), Value::plain(Tensor::from_vec(numbers, (1, 3, 4, 4), &Device::Cpu).unwrap()).unwrap())]);
    let of = |g: &Graph| run(g, &feeds, Run::default()).unwrap()["y"].to_f32s().unwrap();
    for (a, b) in of(&g).iter().zip(of(&half)) {
        assert!((a - b).abs() < 1e-2, "{a} and {b}");
    }
}
