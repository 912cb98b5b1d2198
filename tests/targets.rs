//! What each target makes of a model, and the recipe of docs/adding-a-target.md.

mod common;
#[path = "recipes/target.rs"]
mod pocket;

use compresso::Context;
use compresso::compress::prune::Prune;
use compresso::compress::quantize::Quantize;
use compresso::deploy::{Deploy, ExportPrecision, Lint, Severity, TensorrtExport};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Constant, Element, Fact, Graph, GraphBuilder, LoadOptions, Model, Node, Task};
use compresso::operation::Operation;
use compresso::target::{self, NAMES, Target};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

fn shapes(images: usize) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(images), ..DataOptions::default() }, &Context::new()).unwrap()
}

fn zoo(name: &str) -> Model {
    common::lively(&build(name, &ZooOptions { image_size: Some([64, 64]), width: Some(0.25), ..ZooOptions::default() }).unwrap())
}

/// Of each node that reads integers, the type of each input, with the scale's name as values that share one have it; of each
/// value that is rounded, the type.
fn placement(g: &Graph) -> String {
    let makers = g.producers();
    let mut scales: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut seen = |name: &str| -> Option<String> {
        let node = &g.nodes()[*makers.get(name)?];
        let element = g.constant(node.inputs.get(2)?)?.element();
        if !node.is("DequantizeLinear") {
            return None;
        }
        if g.constant(&node.inputs[0]).is_some() {
            return Some(element.to_string());
        }
        let next = scales.len();
        let scale = g.constant(&node.inputs[1])?.to_f32s().ok()?;
        let number = *scales.entry(scale.iter().flat_map(|s| s.to_le_bytes()).collect()).or_insert(next);
        Some(format!("{element} s{number}"))
    };
    let mut text = String::new();
    for node in g.nodes().iter().filter(|n| !n.op.ends_with("QuantizeLinear") && !n.op.ends_with("DequantizeLinear")) {
        let inputs: Vec<Option<String>> = node.inputs.iter().map(|n| seen(n)).collect();
        if inputs.iter().any(Option::is_some) {
            let bias = |name: &String| g.constant(g.nodes()[*makers.get(name.as_str())?].input(0)?).map(|c| c.element().to_string());
            let words =
                inputs.into_iter().zip(&node.inputs).map(|(seen, name)| seen.or_else(|| bias(name)).unwrap_or_else(|| "float".into()));
            let _ = writeln!(text, "{}: {}", node.label(), words.collect::<Vec<_>>().join(", "));
        }
    }
    text
}

#[test]
fn every_target_takes_what_is_quantized_for_it_and_what_is_deployed_to_it() {
    let (m, data, dir) = (zoo("classifier"), shapes(4), tempfile::tempdir().unwrap());
    for name in NAMES {
        let target = Target::find(name).unwrap();
        let lint = |m: &Model| Lint {}.run((m, name), &Context::new());
        assert!(lint(&m).unwrap().findings.iter().all(|f| f.severity == Severity::Advice), "{name}");
        if target.quantization.is_some() {
            let q = Quantize { images: 4, target, ..Quantize::default() }.apply(&m, Some(&data), &Context::new()).unwrap();
            let findings = lint(&q).unwrap().findings;
            assert!(findings.iter().all(|f| f.severity == Severity::Advice), "{name}: {findings:?}");
        }
        for precision in [ExportPrecision::Fp32, ExportPrecision::Fp16, ExportPrecision::Int8] {
            let to = match target.destination {
                target::Destination::File(ending) | target::Destination::Package(ending) => {
                    dir.path().join(format!("{name}_{precision}.{ending}"))
                }
                target::Destination::Folder => dir.path().join(format!("{name}_{precision}")),
            };
            let made = Deploy { target, precision, images: 4, ..Deploy::default() }.run((&m, &to, Some(&data)), &Context::new()).unwrap();
            // Other formats are read back by the tests of their own.
            if made.files[0].extension().is_none_or(|e| e != "onnx") {
                continue;
            }
            let again = Model::load(&made.files[0], &LoadOptions::default()).unwrap();
            assert_eq!(again.task(), m.task(), "{name}");
            let rounded = again.graph().nodes().iter().any(|n| n.is("QuantizeLinear"));
            assert_eq!(rounded, precision == ExportPrecision::Int8, "{name} {precision}");
            assert_eq!(again.graph().constants().values().any(|c| c.element() == Element::F16), precision == ExportPrecision::Fp16);
        }
    }
    let options = Deploy { images: 4, ..Deploy::default() };
    let e = options.run((&m, &dir.path().join("m.bin"), None), &Context::new()).unwrap_err();
    assert!(e.to_string().contains("must end in .onnx"), "{e}");
    let int8 = Deploy { precision: ExportPrecision::Int8, ..options };
    let e = int8.run((&m, &dir.path().join("m.onnx"), None), &Context::new()).unwrap_err();
    assert!(e.to_string().contains("int8 needs images"), "{e}");
}

/// One pattern chooses the same layers in every operation, and one that fits none is the same mistake.
#[test]
fn patterns_mean_the_same_in_every_operation() {
    let (m, data, dir) = (zoo("yolov8n"), shapes(2), tempfile::tempdir().unwrap());
    let ctx = Context::new();
    let list = |p: &str| vec![p.to_string()];
    // Blocks 2, not 22; of block 2, any part.
    let pattern = "model.2";
    let weights = |g: &Graph| -> Vec<String> { g.constants().keys().filter(|n| n.ends_with("conv.weight")).cloned().collect() };
    let below = |name: &String| name.starts_with("model.2.");
    let pruned = Prune { include: list(pattern), align: 1, ..Prune::default() }.apply(&m, None, &ctx).unwrap();
    let narrower = |name: &String| pruned.graph().constant(name).unwrap().dims()[0] < m.graph().constant(name).unwrap().dims()[0];
    let cut: Vec<String> = weights(m.graph()).into_iter().filter(|n| narrower(n)).collect();
    assert!(!cut.is_empty() && cut.iter().all(below), "{cut:?}");
    let quantize = Quantize { images: 2, include: list(pattern), ..Quantize::default() };
    let q = quantize.apply(&m, Some(&data), &ctx).unwrap();
    let float: Vec<String> = weights(q.graph());
    assert!(float.iter().all(|n| !below(n)) && float.len() < weights(m.graph()).len(), "{float:?}");
    let trt = TensorrtExport {
        precision: ExportPrecision::Int8,
        images: 2,
        include: list(pattern),
        build: Some(false),
        ..TensorrtExport::default()
    };
    let made = trt.apply(&m, dir.path(), Some(&data), &ctx).unwrap();
    let made = Model::load(&made.files[0], &LoadOptions::default()).unwrap();
    let rounded = made.graph().constants().keys().filter(|n| n.ends_with("conv.weight_quantized"));
    assert!(rounded.clone().count() > 0 && rounded.clone().all(|n| n.starts_with("model.2.")));

    let wrong = "model.2.cv1.konv.weight";
    let said = |option: &str, e: compresso::Error| {
        let text = e.to_string();
        assert_eq!(e.kind(), compresso::ErrorKind::Missing);
        assert!(text.contains(&format!("option '{option}': '{wrong}' matches no layer")), "{text}");
        assert!(text.contains("did you mean 'model.2.cv1.conv.weight'?"), "{text}");
    };
    said("exclude", Prune { exclude: list(wrong), ..Prune::default() }.apply(&m, None, &ctx).unwrap_err());
    said("include", Prune { include: list(wrong), ..Prune::default() }.apply(&m, None, &ctx).unwrap_err());
    said("exclude", Quantize { exclude: list(wrong), ..Quantize::default() }.apply(&m, Some(&data), &ctx).unwrap_err());
    said("include", Quantize { include: list(wrong), ..Quantize::default() }.apply(&m, Some(&data), &ctx).unwrap_err());
    let trt = TensorrtExport { exclude: list(wrong), include: Vec::new(), ..trt };
    said("exclude", trt.apply(&m, dir.path(), Some(&data), &ctx).unwrap_err());
}

/// The chain of convolutions that Pocket is for, with a window that it is not for when `tall`.
fn chain(tall: bool) -> Model {
    let mut b = GraphBuilder::new("chain", 17);
    let x = b.input("images", Fact::known(Element::F32, &[1, 3, 16, 16]));
    let conv = |b: &mut GraphBuilder, name: &str, x: &str, dims: [usize; 4]| {
        let values: Vec<f32> = (0..dims.iter().product()).map(|i: usize| (i as f32 * 0.7).sin() * 0.2).collect();
        let w = b.constant(&format!("{name}.weight"), Constant::floats(&dims, &values).unwrap());
        let bias = b.constant(&format!("{name}.bias"), Constant::floats(&[dims[0]], &vec![0.1; dims[0]]).unwrap());
        let y = b.node(Node::new("Conv", name, [x, &w, &bias], [""]));
        b.node(Node::new("Relu", format!("{name}.act"), [y.as_str()], [""]))
    };
    let stem = conv(&mut b, "stem", &x, [8, 3, 1, 1]);
    let left = conv(&mut b, "left", &stem, [8, 8, 1, 1]);
    let pool = b.node(
        Node::new("MaxPool", "pool", [left.as_str()], [""])
            .ints("kernel_shape", &[3, 3])
            .ints("pads", &[1, 1, 1, 1])
            .ints("strides", &[1, 1]),
    );
    let both = b.node(Node::new("Concat", "both", [left.as_str(), &pool], [""]).int("axis", 1));
    let y = conv(&mut b, "last", &both, [4, 16, if tall { 3 } else { 1 }, 1]);
    b.output(&y);
    Model::new(b.finish().unwrap(), Task::Unknown)
}

#[test]
fn the_recipe_of_a_target_works_as_its_document_shows_it() {
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/adding-a-target.md")).unwrap();
    assert!(document.contains(include_str!("recipes/target.rs")), "docs/adding-a-target.md does not show tests/recipes/target.rs");
    // Its registration is the list as it stands, with one more.
    let list = include_str!("../src/target/lib.rs").lines().find(|l| l.starts_with("pub const TARGETS:")).unwrap();
    let registered = list.replace("];", ", &pocket::SPEC];");
    assert!(document.contains(&registered), "docs/adding-a-target.md does not show: {registered}");

    let (pocket, ctx) = (Target(&pocket::SPEC), Context::new());
    let data = dataset("random", &DataOptions { images: Some(4), ..DataOptions::default() }, &ctx).unwrap();
    assert!(target::lint(&pocket, chain(false).graph()).unwrap().is_empty());
    let found = target::lint(&pocket, chain(true).graph()).unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].place.contains("'last'") && found[0].message.contains("does not take the operator Conv"), "{found:?}");

    let q = Quantize { images: 4, target: pocket, ..Quantize::default() }.apply(&chain(false), Some(&data), &ctx).unwrap();
    // The stem's three input channels are too few; what 'left' makes, the pool and the concatenation share a scale.
    let expected = "node 'left' (Conv): int8 s0, int8, int32\n\
                    node 'pool' (MaxPool): int8 s1\n\
                    node 'both' (Concat): int8 s1, int8 s1\n\
                    node 'last' (Conv): int8 s1, int8, int32\n";
    assert_eq!(placement(q.graph()), expected);
    let dir = tempfile::tempdir().unwrap();
    let deploy = Deploy { target: pocket, precision: ExportPrecision::Int8, images: 4, ..Deploy::default() };
    let made = deploy.run((&chain(false), dir.path(), Some(&data)), &ctx).unwrap();
    assert!(made.files[0].ends_with("model_int8.onnx"));
    assert!(std::fs::read_to_string(&made.files[1]).unwrap().lines().any(|l| l == "left.weight_quantized"));
    let e = deploy.run((&chain(true), &dir.path().join("none"), Some(&data)), &ctx).unwrap_err();
    assert!(e.to_string().contains("Pocket refuses 1 of the model's nodes"), "{e}");
    assert!(!dir.path().join("none").exists());
    let dynamic = Quantize { mode: compresso::compress::quantize::QuantizeMode::Dynamic, target: pocket, ..Quantize::default() };
    assert!(dynamic.apply(&chain(false), None, &ctx).unwrap_err().to_string().contains("Pocket does not run dynamically"));
}
