//! Whole models.

use super::common;
use super::judge::{Judge, feeds};
use compresso::Context;
use compresso::compress::prune::Prune;
use compresso::compress::quantize::Quantize;
use compresso::compress::quantize::calibrate::Images;
use compresso::deploy::{Deploy, ExportPrecision, Lint};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Attr, Constant, Dim, Element, Fact, GraphBuilder, LoadOptions, Model, Node};
use compresso::operation::Operation;
use compresso::target::{Target, TargetSpec, onnxruntime, openvino, tensorrt};
use std::collections::HashMap;

fn zoo(name: &str) -> Model {
    common::lively(&build(name, &ZooOptions { image_size: Some([64, 64]), width: Some(0.25), ..ZooOptions::default() }).unwrap())
}

#[test]
fn models_give_what_our_executor_gives() {
    let judge = Judge::new();
    for name in ["yolov8n", "yolo11n", "mobile_yolo", "resnet18", "mobilenet_v2"] {
        let model = zoo(name);
        let feeds = feeds(model.graph(), 1);
        let precisions = [ExportPrecision::Fp32, ExportPrecision::Fp16];
        // Half of the models in float16 hold that as well.
        let count = if ["yolov8n", "mobilenet_v2"].contains(&name) { 2 } else { 1 };
        for precision in precisions.into_iter().take(count) {
            judge.add(&format!("{name}_{precision}"), &model, precision, model.graph(), &feeds).unwrap();
        }
    }
    let mut wrong = Vec::new();
    for (name, verdict) in judge.verdicts() {
        let bound = if name.ends_with("fp16") { 2e-2 } else { 1e-3 };
        println!("{name}: {:?}", verdict.extremes());
        wrong.extend(verdict.wrong(bound, 0.99).into_iter().map(|w| format!("{name}: {w}")));
        if name.starts_with("yolo") {
            assert_eq!(verdict.names, [["output0"]], "{name}");
            assert_eq!(verdict.labels.as_ref().map(|l| l.split(' ').count()), Some(80), "{name}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn shapes(images: usize) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(images), ..DataOptions::default() }, &Context::new()).unwrap()
}

/// Quantized models run on integers, and give what our executor makes of the same quantized graph.
#[test]
fn quantized_models_run_on_integers() {
    let (judge, data) = (Judge::new(), shapes(4));
    let quantize = |target: &'static TargetSpec| Quantize { images: 4, score: false, target: Target(target), ..Quantize::default() };
    let image = |m: &Model| Images::new(m.graph(), m.task(), &data, 1, &Context::new()).unwrap().next().unwrap().unwrap().1;
    let mut layers = HashMap::new();
    for name in ["yolov8n", "resnet18"] {
        let model = zoo(name);
        let q = quantize(&openvino::SPEC).apply(&model, Some(&data), &Context::new()).unwrap();
        judge.add(name, &q, ExportPrecision::Int8, q.graph(), &image(&model)).unwrap();
        layers.insert(
            name.to_string(),
            q.graph().constants().iter().filter(|(n, c)| c.element() == Element::I8 && n.ends_with("_quantized")).count(),
        );
    }
    // Other targets' placements are taken too: biases in int32, results that are rounded.
    let small = zoo("classifier");
    for target in [&onnxruntime::SPEC, &tensorrt::SPEC] {
        let q = quantize(target).apply(&small, Some(&data), &Context::new()).unwrap();
        judge.add(target.name, &q, ExportPrecision::Int8, q.graph(), &image(&small)).unwrap();
    }
    let model = zoo("mobile_yolo");
    let pruned = Prune { ratio: 0.3, align: 1, ..Prune::default() }.apply(&model, None, &Context::new()).unwrap();
    let q = quantize(&openvino::SPEC).apply(&pruned, Some(&data), &Context::new()).unwrap();
    judge.add("pruned", &q, ExportPrecision::Int8, q.graph(), &image(&model)).unwrap();
    let mut wrong = Vec::new();
    for (name, verdict) in judge.verdicts() {
        println!("{name}: {:?}, {} of {} layers on integers", verdict.extremes(), verdict.integers, verdict.layers);
        wrong.extend(verdict.inexact(5e-2).into_iter().map(|w| format!("{name}, in float32: {w}")));
        // Kernels for x86 without VNNI overflow where activations are int8, as TensorRT wants them.
        if name != tensorrt::SPEC.name {
            wrong.extend(verdict.wrong(f64::INFINITY, 0.99).into_iter().map(|w| format!("{name}: {w}")));
        }
        if let Some(&expected) = layers.get(&name)
            && verdict.integers < expected
        {
            wrong.push(format!("{name}: {} layers run on integers, expected {expected}", verdict.integers));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_model_gives_the_same_bytes_and_what_is_said_of_it() {
    let judge = Judge::new();
    let model = zoo("yolov8n").with_image_size([64, 64]);
    let bytes = |name: &str| {
        judge.write(name, &model, ExportPrecision::Fp16).unwrap();
        [judge.path(name), judge.path(name).with_extension("bin")].map(|p| std::fs::read(p).unwrap())
    };
    assert_eq!(bytes("a"), bytes("b"));
    let yaml = std::fs::read_to_string(judge.folder.path().join("metadata.yaml")).unwrap();
    for line in ["task: detect", "stride: 32", "imgsz: [64, 64]", "names:", "  79: "] {
        assert!(yaml.lines().any(|l| l.starts_with(line)), "{line} in {yaml}");
    }
    let xml = std::fs::read_to_string(judge.path("a")).unwrap();
    assert!(xml.contains("<labels value=\"class0 class1 ") && xml.contains("type=\"Result\""));
    let left: Vec<_> = std::fs::read_dir(judge.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|n| !n.starts_with('.')), "{left:?}");
}

/// All that cannot be written is told at once, at its node, before anything is written.
#[test]
fn what_cannot_be_written_is_refused_with_its_node() {
    let mut b = GraphBuilder::new("g", 18);
    let x = b.input("x", Fact::new(Element::F32, vec![Dim::symbol("n"), Dim::Known(3), Dim::symbol("h"), Dim::symbol("w")]));
    let scales = b.constant("scales", Constant::floats(&[4], &[1.0, 1.0, 0.5, 0.5]).unwrap());
    let small = Node::new("Resize", "small", [x.as_str(), "", &scales], [""]).attr("mode", Attr::text("linear")).int("antialias", 1);
    let outputs = [
        b.node(small),
        b.node(Node::new("Hardmax", "hard", [x.as_str()], [""])),
        b.node(Node::new("ArgMax", "last", [x.as_str()], [""]).int("select_last_index", 1)),
        b.node(Node::new("Flatten", "flat", [x.as_str()], [""]).int("axis", 3)),
        b.node(Node::new("Relu", "fine", [x.as_str()], [""])),
    ];
    outputs.iter().for_each(|o| b.output(o));
    let model = Model::of_graph(b.finish().unwrap(), &LoadOptions::default()).unwrap();
    let found = Lint {}.run((&model, "openvino"), &Context::new()).unwrap().findings;
    let told: Vec<String> = found.iter().map(|f| format!("{}: {}", f.place, f.message)).collect();
    let expected = [
        "node 'small' (Resize): OpenVINO has no resize with antialias as ONNX has it",
        "node 'hard' (Hardmax): OpenVINO's writer has no layers for the operator Hardmax",
        "node 'last' (ArgMax): OpenVINO has no choice of the last of equal elements",
        "node 'flat' (Flatten): the sizes before or after the axis of a Flatten must be known when the file is written; open the model \
         with image_size: [height, width] or batch: 1, so that its sizes are fixed",
    ];
    assert_eq!(told, expected);
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("m.xml");
    let deploy = Deploy { target: Target(&openvino::SPEC), ..Deploy::default() };
    let e = deploy.run((&model, &to, None), &Context::new()).unwrap_err().to_string();
    assert!(e.contains("node 'small' (Resize)") && e.contains("refuses 4 of the model's nodes"), "{e}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
