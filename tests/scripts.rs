//! The scripts of `scripts/`, run as users run them.

mod common;

use compresso::Context;
use compresso::learn::data::{DataOptions, dataset};
use compresso::model::zoo::{ZooOptions, build};
use serde_json::Value as Json;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a script and returns what it printed.
fn run(script: &str, args: &[&str]) -> String {
    let o = Command::new(env!("CARGO_BIN_EXE_compresso"))
        .args(["run", script])
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    assert!(o.status.success(), "{script} failed:\n{out}\n{err}");
    out.into_owned()
}

fn exists(dir: &Path, names: &[&str]) {
    for name in names {
        assert!(dir.join(name).exists(), "{name} is missing");
    }
}

/// Drawn pictures as JPEG files, with their boxes.
fn pictures(dir: &Path, count: usize) -> Vec<(String, Vec<compresso::learn::data::GroundTruth>)> {
    let options = DataOptions { images: Some(count), ..DataOptions::default() };
    let set = dataset("shapes", &options, &Context::new()).unwrap();
    (0..count)
        .map(|i| {
            let sample = set.source.get(i).unwrap();
            let name = format!("picture{i}.jpg");
            sample.image.save(dir.join(&name)).unwrap();
            (name, sample.targets)
        })
        .collect()
}

/// The README's first command: the figures that it promises.
#[test]
#[ignore = "trains for two minutes: scripts/test.sh runs it after the others"]
fn quickstart_reaches_its_figures() {
    let dir = tempfile::tempdir().unwrap();
    let out = run("scripts/quickstart.rhai", &[dir.path().to_str().unwrap()]);
    println!("{out}");
    exists(dir.path(), &["report.html", "tradeoff.png", "base.onnx", "pruned.onnx", "int8.onnx", "student.onnx"]);
    exists(&dir.path().join("tensorrt"), &["model_int8.onnx", "calibration.cache", "build.sh", "manifest.json"]);
    let report: Json = serde_json::from_slice(&std::fs::read(dir.path().join("report.json")).unwrap()).unwrap();
    let row = |name: &str, runtime: &str| -> Json {
        let rows = report["rows"].as_array().unwrap();
        rows.iter()
            .find(|r| r["name"] == name && r["runtime"] == runtime)
            .unwrap_or_else(|| panic!("no row for {name} on {runtime}"))
            .clone()
    };
    let map50 = |name: &str, runtime: &str| row(name, runtime)["map50"].as_f64().unwrap();
    let macs = |name: &str| row(name, "native")["macs"].as_f64().unwrap();
    let base = map50("base", "native");
    let pruned = map50("pruned", "native");
    assert!(base >= 0.90, "base mAP50 {base}");
    assert!(pruned >= base - 0.03, "pruned mAP50 {pruned}, base {base}");
    assert!(macs("pruned") <= 0.65 * macs("base"), "{} of {}", macs("pruned"), macs("base"));
    // The exported INT8 file on onnxruntime.
    let int8 = map50("int8", "onnxruntime");
    assert!((int8 - pruned).abs() <= 0.02, "int8 mAP50 {int8}, float {pruned}");
    // Both start from the base model's best channels; in so few epochs the one that learns from labels alone is not behind.
    for name in ["student", "student alone"] {
        let student = map50(name, "native");
        assert!(student >= pruned - 0.09, "{name} mAP50 {student}, pruned {pruned}");
    }
}

#[test]
fn each_loss_of_distillation_has_its_row() {
    for (task, ways) in [("classify", ["dkd", "dist", "attention"]), ("detect", ["weighted", "ld", "mgd"])] {
        let out = run("scripts/distillation.rhai", &[task, "1", "1", "16"]);
        for way in ways.into_iter().chain(["teacher", "alone", "default, from nothing"]) {
            assert!(out.lines().any(|l| l.contains(&format!("| {way} "))), "{task}: no row for {way} in\n{out}");
        }
    }
}

#[test]
fn a_foreign_detector_goes_through() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = pictures(dir.path(), 3);
    let options = ZooOptions { image_size: Some([96, 96]), width: Some(0.125), ..ZooOptions::default() };
    let model = dir.path().join("detector.onnx");
    build("yolov8n", &options).unwrap().save(&model).unwrap();
    let out = dir.path().join("out");
    let mut args = vec![model.display().to_string()];
    args.extend(pictures.iter().map(|(name, _)| dir.path().join(name).display().to_string()));
    args.extend(["--out".to_string(), out.display().to_string()]);
    let text = run("scripts/fastestdet.rhai", &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(text.contains("| model.0 "), "{text}");
    exists(&out, &["pruned.onnx", "int8.onnx", "report.html", "detections/picture0.jpg", "detections-int8/picture2.jpg"]);
}

#[test]
fn every_format_is_written_and_run() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("small.onnx");
    let options = ZooOptions { image_size: Some([32, 32]), width: Some(0.25), ..ZooOptions::default() };
    common::lively(&build("classifier", &options).unwrap()).save(&model).unwrap();
    let out = run("scripts/exports.rhai", &[dir.path().to_str().unwrap(), "random", model.to_str().unwrap()]);
    let table = std::fs::read_to_string(dir.path().join("exports.csv")).unwrap();
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(rows.len(), 12, "{table}");
    // Without the environment of the tests a row says which runtime is missing.
    if std::env::var_os("COMPRESSO_PYTHON").is_some() {
        assert!(rows.iter().all(|r| !r.contains("cannot be used") && r.split(',').nth(6).is_some_and(|c| !c.is_empty())), "{table}\n{out}");
    }
    exists(
        &dir.path().join("small"),
        &["openvino_fp32.xml", "openvino_fp32.bin", "tflite_int8.tflite", "ncnn_fp16_model/model.ncnn.param"],
    );
}

#[test]
fn light_detectors_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let out = run("scripts/lightweight.rhai", &["1", "16", dir.path().to_str().unwrap()]);
    exists(dir.path(), &["yolov8n.onnx", "yolov8n-attention.onnx", "mobile_yolo.onnx", "report.html"]);
    let report: Json = serde_json::from_slice(&std::fs::read(dir.path().join("report.json")).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    for name in ["yolov8n", "yolov8n + attention", "mobile_yolo"] {
        let row = rows.iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("no row for {name}: {out}"));
        assert!(row["map50"].is_number() && row["params"].as_u64() > Some(10_000) && row["macs"].as_u64() > Some(1_000_000), "{row}");
    }
}

/// The recipes of the guide for phones and servers, run small.
#[test]
fn recipes_for_phones_and_servers_run() {
    let dir = tempfile::tempdir().unwrap();
    let set = |words: &[&str]| -> Vec<String> {
        words
            .iter()
            .flat_map(|w| ["--set".to_string(), (*w).to_string()])
            .chain(["--set".into(), format!("out={}", dir.path().display())])
            .collect()
    };
    let go = |script: &str, words: &[&str]| {
        let o = Command::new(env!("CARGO_BIN_EXE_compresso"))
            .arg("run")
            .args(["--folder", &dir.path().join("record").display().to_string(), "--replace"])
            .args(set(words))
            .arg(script)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
        assert!(o.status.success(), "{script} failed:\n{text}");
        let record = std::fs::read_to_string(dir.path().join("record/run.json")).unwrap();
        serde_json::from_str::<Json>(&record).unwrap()["metrics"].clone()
    };
    let mobile = go("scripts/mobile.rhai", &["epochs=1", "images=16", "size=64", "width=0.125", "runs=8"]);
    exists(dir.path(), &["base.onnx", "small.onnx", "small.tflite", "report.html"]);
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len();
    assert!(2 * size("small.onnx") < size("base.onnx") && mobile["p50_ms"].as_f64().unwrap() > 0.0, "{mobile}");
    let server = go("scripts/server.rhai", &["size=64", "width=0.125", "runs=10", "images=10", "rounds=1", "latency_ms=2000.0"]);
    exists(dir.path(), &["float16.onnx", "server.html", "throughput.html"]);
    assert!(server["queries_per_second"].as_f64().unwrap() > 0.0 && server["images_per_second"].as_f64().unwrap() > 0.0, "{server}");
}

#[test]
fn detectors_without_suppression_are_trained() {
    let dir = tempfile::tempdir().unwrap();
    let out = run("scripts/end_to_end.rhai", &["1", "16", dir.path().to_str().unwrap(), "0.0625"]);
    exists(dir.path(), &["yolov10n.onnx", "yolo26n.onnx"]);
    assert!(["yolov10n: ", "yolo26n: "].iter().all(|n| out.contains(n)) && out.contains("mAP50"), "{out}");
}

#[test]
fn real_data_goes_through() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("voc");
    let classes: Vec<String> = (0..6).map(|c| format!("shape{c}")).collect();
    common::voc(&root, &classes, [4, 1, 1]);
    let out = dir.path().join("out");
    let text = run("scripts/bccd.rhai", &[root.to_str().unwrap(), "1", out.to_str().unwrap()]);
    assert!(text.contains("mAP50"), "{text}");
    exists(&out, &["base.onnx", "pruned.onnx", "int8.onnx", "training.png", "report.html", "detections"]);
    // The tables of the documents, on the same few images.
    let base = out.join("base.onnx");
    let (base, root) = (base.to_str().unwrap(), root.to_str().unwrap());
    let csv = out.join("pruned.csv");
    run("scripts/prune_table.rhai", &[base, root, "0.3", "l2", "none,weights", "4", csv.to_str().unwrap()]);
    let table = std::fs::read_to_string(csv).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(["macs_left", "map50", "error_recovered"].iter().all(|c| table.lines().next().unwrap().contains(c)), "{table}");
    let csv = out.join("quantized.csv");
    run("scripts/quantize_table.rhai", &[base, root, "2", "native", csv.to_str().unwrap()]);
    let table = std::fs::read_to_string(csv).unwrap();
    assert!(["float", "minmax 0", "minmax 1"].iter().all(|n| table.contains(n)), "{table}");
}

/// One round of each comparison on a small model.
#[test]
fn other_tools_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("small.onnx");
    build("classifier", &ZooOptions { image_size: Some([32, 32]), ..ZooOptions::default() }).unwrap().save(&file).unwrap();
    let file = file.to_str().unwrap();
    for mode in ["infer", "int8", "ptq"] {
        let few = ["--rounds", "1", "--runs", "2", "--images", "2", "--threads", "2", "--compresso", env!("CARGO_BIN_EXE_compresso")];
        let args: Vec<&str> = ["scripts/compare.py", mode, file].into_iter().chain(few).collect();
        let out = common::python(&args);
        let times: Vec<f64> = out.lines().filter_map(|l| l.split_whitespace().nth(1)?.parse().ok()).collect();
        assert!(times.len() >= 2 && times.iter().all(|&t| t > 0.0), "{out}");
        assert!(out.lines().last().unwrap().starts_with("compresso takes "), "{out}");
    }
    let few = ["--rounds", "1", "--runs", "2", "--threads", "2", "--compresso", env!("CARGO_BIN_EXE_compresso")];
    let out = common::python(&[&["scripts/compare.py", "infer", file, file][..], &few[..]].concat());
    let last = out.lines().last().unwrap();
    assert!(last.starts_with("| geometric mean of 2 |") && out.lines().filter(|l| l.starts_with("| small |")).count() == 2, "{out}");
}

/// A model against itself and against one with a twentieth more layers, in few trials.
#[test]
fn verdicts_are_counted() {
    let few = ["--trials", "2", "--runs", "8", "--layers", "20", "--threads", "1", "--compresso", env!("CARGO_BIN_EXE_compresso")];
    let out = common::python(&[&["scripts/verdicts.py"][..], &few[..]].concat());
    for what in ["the model against itself, which takes ", "the twin, which takes "] {
        let line = out.lines().find(|l| l.starts_with(what)).unwrap_or_else(|| panic!("{out}"));
        let counts: usize = line.split(": ").nth(1).unwrap().split(", ").filter_map(|c| c.rsplit(' ').next()?.parse::<usize>().ok()).sum();
        assert_eq!(counts, 2, "{out}");
    }
}

/// What scripts for CUDA do where there is no GPU: the build refuses what it does not know before it fetches anything, the check ends at the device.
#[test]
fn scripts_for_cuda_say_what_they_need() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = |script: &str, args: &[&str]| {
        let o = Command::new("bash").arg(root.join(script)).args(args).stdin(Stdio::null()).output().unwrap();
        (o.status.code(), String::from_utf8_lossy(&o.stderr).into_owned())
    };
    let (code, said) = run("scripts/cuda-build.sh", &["--compute-capability", "fast"]);
    assert!(code == Some(2) && said.contains("a compute capability is a number such as 80"), "{said}");
    let (code, said) = run("scripts/cuda-build.sh", &["--fast"]);
    assert!(code == Some(2) && said.contains("scripts/cuda-build.sh [--compute-capability 80]"), "{said}");
    if Path::new("/dev/nvidiactl").exists() {
        return println!("there is a GPU: what is said without one is not tested");
    }
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_compresso"), dir.path().join("compresso")).unwrap();
    let (code, said) = run("scripts/cuda-check.sh", &[dir.path().to_str().unwrap(), "python3"]);
    assert!(code != Some(0) && said.contains("cuda"), "{said}");
    assert!(!dir.path().join("cuda-check.md").exists());
}
