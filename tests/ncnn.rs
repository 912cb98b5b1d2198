//! Files for NCNN, run by NCNN itself (the `ncnn` wheel) and compared with this library's executor.

mod common;
#[path = "ncnn/operators.rs"]
mod operators;

use compresso::compress::prune::Prune;
use compresso::compress::quantize::Quantize;
use compresso::deploy::{Deploy, ExportPrecision, Lint};
use compresso::exec::{Run, run};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Element, Fact, GraphBuilder, LoadOptions, Model, Node, Task, Value, uniform, weights};
use compresso::operation::Operation;
use compresso::target::Target;
use compresso::{Context, ErrorKind};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::path::Path;

fn ncnn() -> Target {
    Target::find("ncnn").unwrap()
}

fn shapes(images: usize) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(images), ..DataOptions::default() }, &Context::new()).unwrap()
}

fn zoo(name: &str, size: usize) -> Model {
    common::lively(&build(name, &ZooOptions { image_size: Some([size, size]), width: Some(0.25), ..ZooOptions::default() }).unwrap())
}

/// What NCNN made of a case, beside what was expected.
#[derive(Debug)]
struct Judged {
    errors: Vec<f64>,
    cosines: Vec<f64>,
    wrong: Option<String>,
}

/// Files for NCNN with inputs and what this library makes of them, to be judged by one process.
struct Cases {
    folder: tempfile::TempDir,
    list: Vec<serde_json::Value>,
}

impl Cases {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), list: Vec::new() }
    }
    /// Adds a model as it is written in a precision.
    fn add(&mut self, name: &str, m: &Model, precision: ExportPrecision) {
        let folder = self.folder.path().join(self.list.len().to_string());
        let made = Deploy { target: ncnn(), precision, ..Deploy::default() }.run((m, &folder, None), &Context::new());
        made.unwrap_or_else(|e| panic!("{name}: {e}"));
        let (mut feeds, mut x) = (HashMap::new(), IndexMap::new());
        for (i, feed) in m.graph().feeds().enumerate() {
            let dims: Vec<usize> = feed.fact.shape.as_ref().unwrap().iter().map(|d| d.known().unwrap_or(1)).collect();
            let value = uniform(&dims, 7 + i as u64).unwrap();
            x.insert(format!("in{i}"), without_batch(&value));
            feeds.insert(feed.name.clone(), value);
        }
        let made = run(m.graph(), &feeds, Run::default()).unwrap();
        let y: IndexMap<String, Value> = made.values().enumerate().map(|(i, v)| (format!("out{i}"), without_batch(v))).collect();
        let (inputs, outputs) = (folder.join("x.npz"), folder.join("y.npz"));
        weights::save_tensors(&x, &inputs).unwrap();
        weights::save_tensors(&y, &outputs).unwrap();
        let half = precision == ExportPrecision::Fp16;
        self.list.push(serde_json::json!({ "name": name, "folder": folder, "x": inputs, "y": outputs, "half": half }));
    }
    fn judge(&self) -> Vec<(String, Judged)> {
        let list = self.folder.path().join("list.json");
        std::fs::write(&list, serde_json::to_string(&self.list).unwrap()).unwrap();
        let said = common::python(&["tests/python/ncnn_judge.py", &list.display().to_string()]);
        let results: Vec<serde_json::Value> = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(results.len(), self.list.len());
        let numbers = |v: &serde_json::Value| v.as_array().unwrap().iter().map(|e| e.as_f64().unwrap_or(f64::NAN)).collect();
        let one = |r: &serde_json::Value| Judged {
            errors: numbers(&r["errors"]),
            cosines: numbers(&r["cosines"]),
            wrong: r["wrong"].as_str().map(str::to_string),
        };
        results.iter().map(|r| (r["name"].as_str().unwrap().to_string(), one(r))).collect()
    }
    /// Asserts that the largest error of each output, relative to its largest magnitude, is below a limit.
    fn assert_errors(&self, limit: f64) {
        let results = self.judge();
        for (name, r) in &results {
            println!("{name}: {:?}", r.errors);
        }
        let within = |r: &Judged| r.wrong.is_none() && !r.errors.is_empty() && r.errors.iter().all(|&e| e <= limit);
        let wrong: Vec<String> = results.iter().filter(|(_, r)| !within(r)).map(|(name, r)| format!("{name}: {r:?}")).collect();
        assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), results.len(), wrong.join("\n"));
    }
}

/// A tensor as its blob has it.
fn without_batch(v: &Value) -> Value {
    let dims = match v.dims() {
        [] => vec![1],
        [1, rest @ ..] if !rest.is_empty() => rest.to_vec(),
        dims => dims.to_vec(),
    };
    v.with(v.tensor.reshape(dims).unwrap()).unwrap()
}

/// Detectors and classifiers of all families, narrow, on small images.
#[test]
fn zoo_models_make_the_same_numbers_in_ncnn() {
    let mut cases = Cases::new();
    for name in ["yolo11n", "yolov5nu", "mobile_yolo", "resnet18", "mobilenet_v2", "yolo12n", "yolov8n-seg", "yolov8n-obb"] {
        cases.add(name, &zoo(name, 64), ExportPrecision::Fp32);
    }
    cases.assert_errors(1e-3);
}

#[test]
fn weights_in_float16_make_nearly_the_same_numbers() {
    let mut cases = Cases::new();
    for name in ["yolo11n", "mobilenet_v2"] {
        cases.add(name, &zoo(name, 64), ExportPrecision::Fp16);
    }
    cases.assert_errors(2e-2);
    let size = |i: usize| std::fs::metadata(cases.folder.path().join(format!("{i}/model.ncnn.bin"))).unwrap().len() as f64;
    let mut float = Cases::new();
    float.add("yolo11n", &zoo("yolo11n", 64), ExportPrecision::Fp32);
    let whole = std::fs::metadata(float.folder.path().join("0/model.ncnn.bin")).unwrap().len() as f64;
    assert!(size(0) < 0.55 * whole, "{} of {whole}", size(0));
}

#[test]
fn a_pruned_and_quantized_models_run_on_integers() {
    let data = shapes(4);
    let mut cases = Cases::new();
    let pruned = Prune { ratio: 0.4, align: 1, ..Prune::default() }.apply(&zoo("yolov8n", 64), None, &Context::new()).unwrap();
    cases.add("pruned", &pruned, ExportPrecision::Fp32);
    cases.assert_errors(1e-3);
    let mut cases = Cases::new();
    for name in ["yolov8n", "mobilenet_v2"] {
        let m = zoo(name, 64);
        let q = Quantize { images: 4, target: ncnn(), ..Quantize::default() }.apply(&m, Some(&data), &Context::new()).unwrap();
        cases.add(name, &q, ExportPrecision::Int8);
    }
    for (name, r) in cases.judge() {
        println!("{name}: {r:?}");
        assert!(r.wrong.is_none() && !r.cosines.is_empty() && r.cosines.iter().all(|&c| c >= 0.99), "{name}: {r:?}");
    }
    let layers = std::fs::read_to_string(cases.folder.path().join("0/model.ncnn.param")).unwrap();
    let integer = layers.lines().filter(|l| l.starts_with("Convolution") && l.contains(" 8=1")).count();
    assert!(integer > 40, "{integer}:\n{layers}");
    assert!(!layers.lines().any(|l| l.starts_with("Quantize")), "{layers}");
}

fn write(m: &Model, to: &Path, options: Deploy) -> compresso::Result<Vec<std::path::PathBuf>> {
    Deploy { target: ncnn(), ..options }.run((m, to, None), &Context::new()).map(|d| d.files)
}

#[test]
fn the_same_model_gives_the_same_bytes_and_says_what_it_is() {
    let (m, dir) = (zoo("yolov8n", 64), tempfile::tempdir().unwrap());
    let read = |name: &str| -> Vec<Vec<u8>> {
        let files = write(&m, &dir.path().join(name), Deploy::default()).unwrap();
        files.iter().map(|f| std::fs::read(f).unwrap()).collect()
    };
    assert_eq!(read("a"), read("b"));
    let text = std::fs::read_to_string(dir.path().join("a/metadata.yaml")).unwrap();
    for line in [
        "stride: 32",
        "task: detect",
        "batch: 1",
        "imgsz:\n- 64\n- 64",
        "names:\n  0: \"",
        "- blob: in0\n  name: \"images\"\n  shape: [3, 64, 64]",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let param = std::fs::read_to_string(dir.path().join("a/model.ncnn.param")).unwrap();
    assert!(param.starts_with("7767517\n") && param.contains(" out0"), "{param}");
}

#[test]
fn all_that_ncnn_lacks_is_refused_at_once_and_nothing_is_written() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 3, 8, 8]));
    let d = b.node(Node::new("Det", "det", [x.as_str()], [""]));
    let n = b.node(Node::new("NonZero", "which", [x.as_str()], [""]));
    let y = b.node(Node::new("Relu", "fine", [x.as_str()], [""]));
    let p = b.node(Node::new("MaxPool", "pool", [y.as_str()], [""]).ints("kernel_shape", &[2, 2]).ints("dilations", &[2, 2]));
    for out in [&d, &n, &p] {
        b.output(out);
    }
    let m = Model::new(b.finish().unwrap(), Task::Unknown);
    let found = Lint {}.run((&m, "ncnn"), &Context::new()).unwrap().findings;
    let said: Vec<String> = found.iter().map(|f| format!("{}: {}", f.place, f.message)).collect();
    assert_eq!(
        said,
        [
            "node 'det' (Det): NCNN has no layer for the operator Det",
            "node 'which' (NonZero): NCNN has no layer for the operator NonZero",
            "node 'pool' (MaxPool): NCNN's pools have no dilation",
        ]
    );
    let dir = tempfile::tempdir().unwrap();
    let e = write(&m, &dir.path().join("out"), Deploy::default()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("NCNN refuses 3 of the model's nodes") && e.to_string().contains("node 'det'"), "{e}");
    assert!(!dir.path().join("out").exists());
}

/// A convolution over images of any size, several at a time.
fn open(batch: Option<usize>) -> Model {
    use compresso::model::{Constant, Dim};
    let mut b = GraphBuilder::new("g", 17);
    let batch = batch.map_or(Dim::symbol("N"), Dim::Known);
    let x = b.input("x", Fact::new(Element::F32, vec![batch, Dim::Known(3), Dim::symbol("h"), Dim::symbol("w")]));
    let w = b.constant("w", Constant::floats(&[2, 3, 1, 1], &[0.5, 1.0, -1.0, 2.0, 0.25, 1.0]).unwrap());
    let y = b.node(Node::new("Conv", "conv", [x.as_str(), w.as_str()], [""]));
    b.output(&y);
    Model::new(b.finish().unwrap(), Task::Unknown)
}

#[test]
fn open_sizes_and_batches_are_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out");
    let e = write(&open(None), &to, Deploy::default()).unwrap_err().to_string();
    assert!(e.contains("the sizes of input 'x' must be known") && e.contains("image_size"), "{e}");
    let m = open(None).with_image_size([8, 8]);
    write(&m, &to, Deploy::default()).unwrap();
    let e = write(&m, &to, Deploy { batch: 4, ..Deploy::default() }).unwrap_err().to_string();
    assert!(e.contains("a batch of 4") && e.contains("leave its batch open"), "{e}");
    let e = write(&open(Some(4)).with_image_size([8, 8]), &to, Deploy::default()).unwrap_err().to_string();
    assert!(e.contains("a batch of 4") && e.contains("leave its batch open"), "{e}");
    let file = dir.path().join("m.onnx");
    open(None).save(&file).unwrap();
    let m = Model::load(&file, &LoadOptions::default()).unwrap();
    let found = Lint {}.run((&m, "ncnn"), &Context::new()).unwrap().findings;
    assert!(found.len() == 1 && found[0].message.contains("fixed sizes"), "{found:?}");
}
