//! Files for TensorFlow Lite give in its own runtime what our executor gives, and what cannot be written is refused.

mod common;
#[path = "tflite/judged.rs"]
mod judged;
#[path = "tflite/operators.rs"]
mod operators;

use compresso::compress::prune::Prune;
use compresso::compress::quantize::Quantize;
use compresso::compress::quantize::calibrate::Images;
use compresso::deploy::{Deploy, ExportPrecision};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Dim, Element, Fact, GraphBuilder, LoadOptions, Model, Node, Value};
use compresso::operation::Operation;
use compresso::target::Target;
use compresso::{Context, ErrorKind};
use judged::Judge;
use std::collections::HashMap;
use std::path::Path;

fn deploy(precision: ExportPrecision) -> Deploy {
    Deploy { target: Target::find("tflite").unwrap(), precision, ..Deploy::default() }
}

fn zoo(name: &str) -> Model {
    let options = ZooOptions {
        image_size: Some([64, 96]),
        width: Some(0.25),
        classes: Some(vec!["one".into(), "two".into()]),
        ..ZooOptions::default()
    };
    common::lively(&build(name, &options).unwrap())
}

fn shapes(images: usize) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(images), ..DataOptions::default() }, &Context::new()).unwrap()
}

/// An image of the dataset, as the model takes it.
fn image(m: &Model, data: &Dataset) -> HashMap<String, Value> {
    let mut images = Images::new(m.graph(), m.task(), data, 1, &Context::new().with_seed(9)).unwrap();
    images.next().unwrap().unwrap().1
}

const MODELS: [&str; 9] =
    ["yolov8n", "yolo11n", "yolov5nu", "yolov5n", "yolo26n", "yolo12n-cls", "mobile_yolo", "mobilenet_v2", "resnet18"];

#[test]
fn models_give_what_our_executor_gives() {
    let (mut judge, data) = (Judge::new(), shapes(2));
    for name in MODELS {
        let m = zoo(name);
        let fed = image(&m, &data);
        judge.add_fed(&format!("{name}_fp32"), &m, &fed, ExportPrecision::Fp32, 1e-3);
        // Where rounding decides which box is the first, or a made-up attention looks at, nothing can be compared.
        if !["yolo26n", "yolo12n-cls"].contains(&name) {
            judge.add_fed(&format!("{name}_fp16"), &m, &fed, ExportPrecision::Fp16, 2e-2);
        }
    }
    let pruned = Prune { ratio: 0.3, align: 1, ..Prune::default() }.apply(&zoo("yolov8n"), None, &Context::new()).unwrap();
    judge.add_fed("pruned", &pruned, &image(&pruned, &data), ExportPrecision::Fp32, 1e-3);
    let results = judge.run();
    for (name, most) in [("yolov8n", 1), ("yolov5nu", 1), ("yolo11n", 6), ("mobile_yolo", 1), ("mobilenet_v2", 0), ("resnet18", 0)] {
        // Convolutions follow each other without a turn of axes.
        let operators = &results[&format!("{name}_fp32")].operators;
        let turns = operators.iter().filter(|o| *o == "TRANSPOSE").count();
        assert!(turns <= most, "{name}: {turns} transposes of {} operators", operators.len());
    }
    let said = &results["yolov8n_fp32"].metadata;
    assert_eq!(said["labels"], "one\ntwo");
    let described: serde_json::Value = serde_json::from_str(said["compresso"].as_str().unwrap()).unwrap();
    assert_eq!(described["inputs"][0]["layout"], "NHWC");
    assert_eq!(described["image_size"], serde_json::json!([64, 96]));
}

#[test]
fn integers_give_what_our_executor_gives_on_the_same_graph() {
    let (mut judge, data, ctx) = (Judge::new(), shapes(8), Context::new());
    let target = Target::find("tflite").unwrap();
    for name in ["yolov8n", "yolo11n", "yolov5nu", "mobile_yolo", "resnet18", "mobilenet_v2"] {
        for elementwise in [false, true] {
            let q = Quantize { images: 8, target, elementwise, score: false, ..Quantize::default() }
                .apply(&zoo(name), Some(&data), &ctx)
                .unwrap();
            judge.add_fed(&format!("{name}_{elementwise}"), &q, &image(&q, &data), ExportPrecision::Int8, 0.99);
        }
    }
    // For onnxruntime: uint8 with a zero point.
    let q = Quantize { images: 8, score: false, ..Quantize::default() }.apply(&zoo("resnet18"), Some(&data), &ctx).unwrap();
    judge.add_fed("uint8", &q, &image(&q, &data), ExportPrecision::Int8, 0.99);
    let results = judge.run();
    // A residual network is computed on integers from its first layer to its last.
    let operators = &results["resnet18_true"].operators;
    let real = operators.iter().filter(|o| *o == "DEQUANTIZE").count();
    assert!(real <= 2, "{operators:?}");
}

#[test]
fn operators_give_what_our_executor_gives() {
    let mut judge = Judge::new();
    for (name, model) in operators::cases() {
        judge.add(&name, &model, ExportPrecision::Fp32, 1e-3);
    }
    judge.run();
}

#[test]
fn the_same_model_gives_the_same_bytes_in_a_batch_of_the_wanted_size() {
    let (m, dir) = (zoo("classifier"), tempfile::tempdir().unwrap());
    let write = |m: &Model, file: &str, options: &Deploy| {
        let path = dir.path().join(file);
        options.run((m, &path, None), &Context::new()).unwrap();
        std::fs::read(&path).unwrap()
    };
    let once = write(&m, "a.tflite", &deploy(ExportPrecision::Fp32));
    assert_eq!(once, write(&m, "b.tflite", &deploy(ExportPrecision::Fp32)));
    assert_eq!(&once[4..8], b"TFL3");
    // Weights in float16 take half the room.
    let half = write(&m, "c.tflite", &deploy(ExportPrecision::Fp16));
    assert!(half.len() * 10 < once.len() * 7, "{} and {}", half.len(), once.len());
}

/// A graph of one node without constants, its input of these sizes.
fn single(node: Node, shape: Vec<Dim>) -> Model {
    let mut b = GraphBuilder::new("g", 17);
    b.input("x", Fact::new(Element::F32, shape));
    let y = b.node(node);
    b.output(&y);
    Model::of_graph(b.finish().unwrap(), &LoadOptions::default()).unwrap()
}

#[test]
fn what_cannot_be_written_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.tflite");
    let refused = |m: &Model, to: &Path| deploy(ExportPrecision::Fp32).run((m, to, None), &Context::new()).unwrap_err();
    let sizes = |dims: &[usize]| dims.iter().map(|&d| Dim::Known(d)).collect::<Vec<_>>();
    let relu = |shape| single(Node::new("Relu", "act", ["x"], [""]), shape);
    let e = refused(&relu(vec![Dim::Known(1), Dim::Known(3), Dim::symbol("h"), Dim::symbol("w")]), &path);
    assert_eq!(e.kind(), ErrorKind::Argument);
    assert!(e.to_string().contains("the sizes of input 'x' must be known") && e.to_string().contains("image_size"), "{e}");
    let cases: [(Node, &[usize]); 2] = [
        (Node::new("MaxPool", "pool", ["x"], [""]).ints("kernel_shape", &[2, 2]).ints("dilations", &[2, 2]), &[1, 3, 8, 8]),
        (Node::new("Hardmax", "hard", ["x"], [""]), &[1, 3]),
    ];
    for (node, dims) in cases {
        let name = node.name.clone();
        let e = refused(&single(node, sizes(dims)), &path);
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        let text = e.to_string();
        assert!(text.contains(&format!("'{name}'")) && text.contains("lint(m, \"tflite\")"), "{text}");
    }
    let e = refused(&relu(sizes(&[1, 3])), &dir.path().join("m.onnx"));
    assert!(e.to_string().contains("must end in .tflite"), "{e}");
    // Nothing is left of what was refused.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
