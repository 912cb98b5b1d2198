//! Files for TensorFlow Lite give in its own runtime what our executor gives, and what cannot be written is refused.

mod common;
#[path = "tflite/judged.rs"]
mod judged;
#[path = "tflite/nets.rs"]
mod nets;
#[path = "tflite/operators.rs"]
mod operators;

use compresso::compress::prune::Prune;
use compresso::compress::quantize::Quantize;
use compresso::compress::quantize::calibrate::Images;
use compresso::deploy::{Deploy, ExportPrecision, TfliteExport};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Dim, Element, Fact, GraphBuilder, LoadOptions, Model, Node, Value};
use compresso::operation::Operation;
use compresso::target::Target;
use compresso::target::tflite::EndType;
use compresso::{Context, ErrorKind};
use judged::Judge;
use nets::{small, various};
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

/// Images for [`nets`].
fn noise() -> Dataset {
    dataset("random", &DataOptions { images: Some(8), size: Some(8.into()), ..DataOptions::default() }, &Context::new()).unwrap()
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
        for elementwise in [Some(false), None].into_iter().filter(|e| e.is_none() || ["yolov8n", "resnet18"].contains(&name)) {
            let q = Quantize { images: 8, target, elementwise, score: false, ..Quantize::default() }
                .apply(&zoo(name), Some(&data), &ctx)
                .unwrap();
            let name = if elementwise.is_none() { name.to_string() } else { format!("{name}_layers") };
            judge.add_fed(&name, &q, &image(&q, &data), ExportPrecision::Int8, 0.99);
        }
    }
    // For onnxruntime: uint8 with a zero point.
    let q = Quantize { images: 8, score: false, ..Quantize::default() }.apply(&zoo("resnet18"), Some(&data), &ctx).unwrap();
    judge.add_fed("uint8", &q, &image(&q, &data), ExportPrecision::Int8, 0.99);
    let results = judge.run();
    // A classifier is computed on integers from its first layer to its last, a detector to its heads: two in each of three sizes.
    for (name, most) in [("resnet18", 1), ("mobilenet_v2", 1), ("yolov8n", 6), ("yolov5nu", 6)] {
        let operators = &results[name].operators;
        let real = operators.iter().filter(|o| *o == "DEQUANTIZE").count();
        assert!(real <= most, "{name}: {operators:?}");
        let layers = results[name].types.iter().filter(|t| t.starts_with("CONV_2D") || t.starts_with("FULLY_CONNECTED"));
        // The expectation over a Softmax, which gives the boxes.
        let float = layers.filter(|t| !t.contains("int8 int8 int32")).count();
        assert!(float <= usize::from(most > 1), "{name}: {:?}", results[name].types);
    }
}

#[test]
fn integer_weights_stand_beside_floats() {
    let (mut judge, data) = (Judge::new(), shapes(2));
    for name in ["yolov8n", "mobile_yolo", "resnet18", "mobilenet_v2"] {
        let m = zoo(name);
        judge.add_fed(name, &m, &image(&m, &data), ExportPrecision::Dynamic, 0.99);
    }
    judge.add("small", &small(), ExportPrecision::Dynamic, 0.99);
    judge.add("small_fp32", &small(), ExportPrecision::Fp32, 1e-3);
    let m = zoo("resnet18");
    judge.add_fed("resnet18_fp32", &m, &image(&m, &data), ExportPrecision::Fp32, 1e-3);
    let (small, large) = (judge.size("resnet18"), judge.size("resnet18_fp32"));
    assert!(small * 100 < large * 27, "{small} of {large} bytes");
    let results = judge.run();
    let types = &results["small"].types;
    for layer in ["CONV_2D float32 int8 float32", "TRANSPOSE_CONV int32 int8 float32 float32", "FULLY_CONNECTED float32 int8 float32"] {
        assert!(types.iter().any(|t| t == layer), "{types:?}");
    }
    let types = &results["mobilenet_v2"].types;
    assert!(types.iter().any(|t| t == "DEPTHWISE_CONV_2D float32 float32 float32"), "{types:?}");
    assert!(!types.iter().any(|t| t == "CONV_2D float32 float32 float32"), "{types:?}");
}

#[test]
fn int16_activations_stand_beside_int8_weights() {
    let (mut judge, data, ctx, target) = (Judge::new(), shapes(8), Context::new(), Target::find("tflite").unwrap());
    let quantize = Quantize { images: 8, target, score: false, ..Quantize::default() };
    for name in ["yolov8n", "mobilenet_v2"] {
        let q = quantize.apply_wide(&zoo(name), Some(&data), &ctx).unwrap();
        judge.add_fed(name, &q, &image(&q, &data), ExportPrecision::Int16, 1e-2);
    }
    let noise = noise();
    for (name, m) in [("small", small()), ("various", various())] {
        let q = quantize.apply_wide(&m, Some(&noise), &ctx).unwrap();
        let fed = image(&q, &noise);
        let export = TfliteExport { inputs: EndType::Int16, outputs: EndType::Int16, ..TfliteExport::default() };
        judge.add_export(name, &q, &fed, &export, ExportPrecision::Int16, 1e-2);
        // The same in int8.
        let q = quantize.apply(&m, Some(&noise), &ctx).unwrap();
        judge.add_fed(&format!("{name}_int8"), &q, &fed, ExportPrecision::Int8, 0.99);
    }
    let results = judge.run();
    assert!(results["mobilenet_v2"].types.iter().any(|t| t == "DEPTHWISE_CONV_2D int16 int8 int64"), "{:?}", results["mobilenet_v2"].types);
    let real = results["yolov8n"].operators.iter().filter(|o| *o == "DEQUANTIZE").count();
    assert!(real <= 6, "{:?}", results["yolov8n"].operators);
    assert_eq!(results["small"].ends, ["int16", "int16"]);

    let (q, dir) = (quantize.apply_wide(&small(), Some(&noise), &ctx).unwrap(), tempfile::tempdir().unwrap());
    let export = TfliteExport { inputs: EndType::Uint8, ..TfliteExport::default() };
    let e = export.apply(&q, dir.path().join("m.tflite"), None, &ctx).unwrap_err().to_string();
    assert!(e.contains("rounded to int16, which is not held as uint8") && e.contains("inputs: \"int16\""), "{e}");
    let wide = |target: &str, data| {
        let deploy = Deploy { target: Target::find(target).unwrap(), precision: ExportPrecision::Int16, ..Deploy::default() };
        let ending = if target == "tflite" { "tflite" } else { "xml" };
        deploy.run((&small(), &dir.path().join(format!("m.{ending}")), data), &ctx).unwrap_err().to_string()
    };
    let e = wide("openvino", Some(&noise));
    assert!(e.contains("OpenVINO has no kernels for int16 activations"), "{e}");
    assert!(wide("tflite", None).contains("int16 needs images to calibrate on"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn inputs_and_outputs_are_integers_where_they_are_asked_for() {
    let (mut judge, data, ctx, target) = (Judge::new(), shapes(8), Context::new(), Target::find("tflite").unwrap());
    let quantized = |m: &Model| Quantize { images: 8, target, score: false, ..Quantize::default() }.apply(m, Some(&data), &ctx).unwrap();
    let q = quantized(&zoo("mobilenet_v2"));
    for (inputs, outputs) in [(EndType::Int8, EndType::Int8), (EndType::Uint8, EndType::Uint8), (EndType::Float32, EndType::Int8)] {
        let export = TfliteExport { inputs, outputs, ..TfliteExport::default() };
        judge.add_export(&format!("{inputs}_{outputs}"), &q, &image(&q, &data), &export, ExportPrecision::Int8, 0.99);
    }
    // Shares of one have steps of their own.
    let noise = noise();
    let q = Quantize { images: 8, target, score: false, ..Quantize::default() }.apply(&small(), Some(&noise), &ctx).unwrap();
    let export = TfliteExport { inputs: EndType::Int8, outputs: EndType::Uint8, ..TfliteExport::default() };
    judge.add_export("shares", &q, &image(&q, &noise), &export, ExportPrecision::Int8, 0.99);
    // A detector's boxes are worked out in floats.
    let q = quantized(&zoo("mobile_yolo"));
    let export = TfliteExport { inputs: EndType::Uint8, ..TfliteExport::default() };
    judge.add_export("detector", &q, &image(&q, &data), &export, ExportPrecision::Int8, 0.99);
    let results = judge.run();
    assert_eq!(results["int8_int8"].ends, ["int8", "int8"]);
    assert_eq!(results["uint8_uint8"].ends, ["uint8", "uint8"]);
    assert_eq!(results["float32_int8"].ends, ["float32", "int8"]);
    assert_eq!(results["shares"].ends, ["int8", "uint8"]);
    assert_eq!(results["detector"].ends[0], "uint8");
    // Nothing is left of floats.
    assert!(!results["int8_int8"].operators.iter().any(|o| o.contains("QUANTIZE")), "{:?}", results["int8_int8"].operators);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.tflite");
    let refused = |m: &Model, export: TfliteExport| export.apply(m, &path, None, &ctx).unwrap_err().to_string();
    let whole = || TfliteExport { inputs: EndType::Int8, outputs: EndType::Int8, ..TfliteExport::default() };
    let e = refused(&q, whole());
    assert!(e.contains("output '") && e.contains("computed in floats after the last layer") && e.contains("outputs: \"float32\""), "{e}");
    let e = refused(&zoo("resnet18"), whole());
    assert!(e.contains("input '") && e.contains("reads it as floats") && e.contains("precision: \"int8\""), "{e}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let e = Deploy { target: Target::find("ncnn").unwrap(), precision: ExportPrecision::Dynamic, ..Deploy::default() };
    let e = e.run((&zoo("resnet18"), &dir.path().join("m_ncnn"), None), &ctx).unwrap_err().to_string();
    assert!(e.contains("NCNN does not round activations while a model runs") && e.contains("precision: \"int8\""), "{e}");
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
