//! Graphs in older operator sets say what they said: here and in onnxruntime, and to the onnx package's checker.

mod common;

use compresso::Context;
use compresso::deploy::OnnxExport;
use compresso::exec::{self, Run};
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::passes::{self, LowerOpset, Pass};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Attr, Constant, Element, Fact, Graph, GraphBuilder, Node, Value};
use std::collections::HashMap;

fn n(op: &str) -> Node {
    Node::new(op, op, [""; 0], [""])
}

fn floats(dims: &[usize], seed: usize) -> Constant {
    let numbers: Vec<f32> = (0..dims.iter().product::<usize>()).map(|i| ((i * 37 + seed * 11) % 19) as f32 / 19.0 + 0.1).collect();
    Constant::floats(dims, &numbers).unwrap()
}

/// Forms of new operator sets: the set, the oldest set that can say the same, the node, its inputs after `[2, 4, 6, 6]`; an empty list of
/// floats is an input that is left out.
fn forms() -> Vec<(i64, i64, Node, Vec<Constant>)> {
    let (ints, left_out) = (Constant::ints, || Constant::floats(&[0], &[]).unwrap());
    let text = |s: &str| Attr::text(s);
    let mut all = vec![
        (21, 11, n("Squeeze"), vec![ints(&[4])]),
        (21, 11, n("Unsqueeze"), vec![ints(&[0, 3])]),
        (18, 11, n("ReduceSum").int("keepdims", 0), vec![ints(&[1, -1])]),
        (18, 11, n("ReduceMean"), vec![ints(&[2])]),
        (20, 11, n("ReduceMax").int("noop_with_empty_axes", 0), vec![]),
        (20, 11, n("ReduceL2"), vec![ints(&[])]),
        (20, 18, n("ReduceL1").int("noop_with_empty_axes", 1), vec![ints(&[0])]),
        (18, 11, n("Split").int("axis", 1).int("num_outputs", 2), vec![]),
        (18, 18, n("Split").int("axis", 1).int("num_outputs", 3), vec![]),
        (18, 11, n("Split").int("axis", 1), vec![ints(&[1, 3])]),
        (18, 11, n("Pad"), vec![ints(&[1, 2, 0, 1]), Constant::scalar(0.5), ints(&[2, -1])]),
        (18, 11, n("Pad").attr("mode", text("reflect")), vec![ints(&[0, 0, 1, 2, 0, 0, 1, 0])]),
        (19, 19, n("Pad").attr("mode", text("wrap")), vec![ints(&[0, 0, 1, 2, 0, 0, 1, 0])]),
        (19, 11, n("Resize").int("antialias", 0), vec![left_out(), Constant::floats(&[4], &[1.0, 1.0, 2.0, 1.5]).unwrap()]),
        (19, 11, n("Resize").attr("mode", text("linear")), vec![left_out(), left_out(), ints(&[2, 4, 9, 12])]),
        (19, 18, n("Resize").attr("mode", text("linear")).int("antialias", 1), vec![left_out(), left_out(), ints(&[2, 4, 3, 3])]),
        (
            19,
            19,
            n("Resize").attr("mode", text("linear")).attr("coordinate_transformation_mode", text("half_pixel_symmetric")),
            vec![left_out(), left_out(), ints(&[2, 4, 9, 12])],
        ),
        (20, 16, n("GridSample").attr("mode", text("linear")), vec![floats(&[2, 3, 3, 2], 5)]),
        (20, 16, n("GridSample").attr("mode", text("cubic")), vec![floats(&[2, 3, 3, 2], 5)]),
        (17, 11, n("Reshape").int("allowzero", 0), vec![ints(&[0, -1])]),
        (17, 11, n("Dropout"), vec![Constant::scalar(0.3)]),
        (17, 11, n("BatchNormalization").int("training_mode", 0), vec![floats(&[4], 1), floats(&[4], 2), floats(&[4], 3), floats(&[4], 4)]),
        (17, 11, n("HardSwish"), vec![]),
        (18, 11, n("Mish"), vec![]),
        (20, 11, n("Gelu"), vec![]),
        (20, 20, n("Gelu").attr("approximate", text("tanh")), vec![]),
        (17, 11, n("LayerNormalization").int("axis", -1), vec![floats(&[6], 1), floats(&[6], 2)]),
        (17, 11, n("LayerNormalization").int("axis", 2).float("epsilon", 1e-3), vec![floats(&[6, 6], 1)]),
        (19, 11, n("AveragePool").ints("kernel_shape", &[2, 2]).ints("dilations", &[1, 1]), vec![]),
        (19, 19, n("AveragePool").ints("kernel_shape", &[2, 2]).ints("dilations", &[2, 1]), vec![]),
        (19, 11, n("ArgMax").int("axis", 1).int("select_last_index", 0), vec![]),
        (19, 12, n("ArgMax").int("axis", 1).int("select_last_index", 1), vec![]),
        (15, 11, n("Shape").int("start", 0), vec![]),
        (15, 15, n("Shape").int("start", 1), vec![]),
        (19, 11, n("Cast").int("to", i64::from(Element::F64.code())).int("saturate", 1), vec![]),
    ];
    for op in ["Softmax", "LogSoftmax", "Hardmax"] {
        for axis in [0, 1, 3, -1, -2] {
            all.push((17, 11, n(op).int("axis", axis), vec![]));
        }
    }
    all
}

fn graph(opset: i64, mut node: Node, constants: &[Constant]) -> Graph {
    let mut b = GraphBuilder::new("g", opset);
    let x = b.input("x", Fact::known(Element::F32, &[2, 4, 6, 6]));
    node.inputs = vec![x.clone()];
    if node.is("Squeeze") {
        let one = b.constant("one", Constant::ints(&[4]));
        node.inputs[0] = b.op("Unsqueeze", &[&x, &one]);
    }
    for c in constants {
        let name = if c.element() == Element::F32 && c.count() == 0 { String::new() } else { b.constant("c", c.clone()) };
        node.inputs.push(name);
    }
    let parts = if node.is("Split") { node.get_int("num_outputs", 2).unwrap() as usize } else { 1 };
    node.outputs = (0..parts).map(|i| format!("y{i}")).collect();
    b.node(node);
    (0..parts).for_each(|i| b.output(&format!("y{i}")));
    b.finish().unwrap()
}

fn image() -> HashMap<String, Value> {
    let numbers = Constant::floats(&[2, 4, 6, 6], &(0..288).map(|i| ((i * 29 + 3) % 41) as f32 / 20.0 - 1.0).collect::<Vec<_>>()).unwrap();
    HashMap::from([("x".into(), Value::plain(numbers.tensor(&candle_core::Device::Cpu).unwrap()).unwrap())])
}

#[test]
fn lowered_operators_give_what_they_gave_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (from, oldest, node, constants) in forms() {
        let what = format!("{} of set {from} {:?}", node.op, node.attrs);
        let before = graph(from, node.clone(), &constants);
        let expected = exec::run(&before, &image(), Run::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
        for to in (11..=20).filter(|to| *to < from) {
            let pass = LowerOpset::to(to).unwrap();
            let lowered = passes::run(&before, &[&pass as &dyn Pass], &[]);
            if to < oldest {
                let e = lowered.err().unwrap_or_else(|| panic!("{what} cannot be said in {to}")).to_string();
                assert!(e.contains(&format!("node '{}'", node.op)), "{what}: {e}");
                continue;
            }
            let after = lowered.unwrap_or_else(|e| panic!("{what} to {to}: {e}")).graph;
            assert_eq!(after.opset(), to);
            let ours = exec::run(&after, &image(), Run::default()).unwrap_or_else(|e| panic!("{what} to {to}: {e}"));
            let theirs = Session::from_graph(&after, 1).unwrap_or_else(|e| panic!("{what} to {to}: {e}")).run(&image()).unwrap();
            for (i, (_, expected)) in expected.iter().enumerate() {
                for got in [&ours[i], &theirs[i]] {
                    common::assert_close(got, expected, 1e-5);
                }
            }
            let file = folder.path().join(format!("{}.onnx", files.len()));
            compresso::model::onnx::save(&after, &file).unwrap();
            files.push(file.to_str().unwrap().to_string());
        }
    }
    assert!(files.len() > 200, "{}", files.len());
    let args: Vec<&str> = std::iter::once("tests/python/check_onnx.py").chain(files.iter().map(String::as_str)).collect();
    common::python(&args);
}

#[test]
fn a_zoo_model_is_exported_in_every_operator_set() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for name in ["yolov8n", "yolo11n", "yolo12n", "mobilenet_v2"] {
        let options = ZooOptions { image_size: Some([64, 64]), width: name.starts_with("yolo").then_some(0.125), ..ZooOptions::default() };
        let built = build(name, &options).unwrap();
        let m = common::lively(&built);
        for opset in [11, 12, 13, 16, 17, 18, 20, 21] {
            let file = folder.path().join(format!("{name}_{opset}.onnx"));
            let said = OnnxExport { opset: Some(opset), ..OnnxExport::default() }.apply(&m, &file, &Context::new()).unwrap();
            assert_eq!(said.opset, opset);
            let feeds = HashMap::from([(m.graph().inputs()[0].name.clone(), {
                let c = floats(&[1, 3, 64, 64], 3);
                Value::plain(c.tensor(&candle_core::Device::Cpu).unwrap()).unwrap()
            })]);
            let expected = exec::run(m.graph(), &feeds, Run::default()).unwrap();
            let got = Session::from_file(&file, 1).unwrap().run(&feeds).unwrap();
            common::assert_close(&got[0], &expected[0], 1e-4);
            files.push(file.to_str().unwrap().to_string());
        }
    }
    assert_eq!(files.len(), 32);
    let args: Vec<&str> = std::iter::once("tests/python/check_onnx.py").chain(files.iter().map(String::as_str)).collect();
    common::python(&args);
    let e = OnnxExport { opset: Some(10), ..OnnxExport::default() }
        .apply(&build("classifier", &ZooOptions::default()).unwrap(), folder.path().join("x.onnx"), &Context::new())
        .unwrap_err();
    assert!(e.to_string().contains("11 to 21"), "{e}");
}

#[test]
fn scales_per_channel_and_inner_graphs_stay_in_the_sets_that_have_them() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 2]));
    let scale = b.constant("scale", Constant::floats(&[2], &[0.1, 0.2]).unwrap());
    let zero = b.constant("zero", Constant::rounded(Element::I8, &[2], vec![0.0, 0.0]).unwrap());
    let q = b.node(Node::new("QuantizeLinear", "q", [x.as_str(), &scale, &zero], [""]).int("axis", 1));
    let y = b.node(Node::new("DequantizeLinear", "d", [q.as_str(), &scale, &zero], [""]).int("axis", 1));
    b.output(&y);
    let g = b.finish().unwrap();
    let pass = |to| LowerOpset::to(to).unwrap();
    assert_eq!(passes::run(&g, &[&pass(13) as &dyn Pass], &[]).unwrap().graph.opset(), 13);
    let e = passes::run(&g, &[&pass(12) as &dyn Pass], &[]).unwrap_err().to_string();
    assert!(e.contains("node 'q'") && e.contains("per channel"), "{e}");
    assert!(LowerOpset::to(10).unwrap_err().to_string().contains("11 to 21"));
}

/// A cast, an operator of that type, and the oldest operator set that has it.
#[test]
fn element_types_are_kept_to_the_sets_that_have_them() {
    for (element, op, inputs, oldest) in [
        (Element::I32, "Relu", 1, 14),
        (Element::U8, "Min", 2, 12),
        (Element::I64, "Max", 2, 12),
        (Element::F32, "Max", 2, 11),
        (Element::U32, "Max", 2, 12),
        (Element::U32, "Add", 2, 11),
        (Element::I8, "Add", 2, 14),
        (Element::BF16, "Add", 2, 13),
    ] {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[2, 3]));
        let x = b.node(Node::new("Cast", "", [x.as_str()], [""]).int("to", i64::from(element.code())));
        let y = b.node(Node::new(op, "typed", vec![x.as_str(); inputs], [""]));
        let y = b.node(Node::new("Cast", "", [y.as_str()], [""]).int("to", i64::from(Element::F32.code())));
        b.output(&y);
        let g = b.finish().unwrap();
        for to in 11..17 {
            let pass = LowerOpset::to(to).unwrap();
            let lowered = passes::run(&g, &[&pass as &dyn Pass], &[]);
            assert_eq!(lowered.is_ok(), to >= oldest, "{op} of {element} in set {to}: {:?}", lowered.err());
        }
    }
}

/// Readers of an old operator set may know no newer version of the format.
#[test]
fn a_lowered_file_has_the_version_of_its_operator_set() {
    let folder = tempfile::tempdir().unwrap();
    let (new, old) = (folder.path().join("new.onnx"), folder.path().join("old.onnx"));
    let g = graph(21, n("Relu"), &[]);
    compresso::model::onnx::save(&g, &new).unwrap();
    let m = compresso::model::Model::load(&new, &compresso::model::LoadOptions::default()).unwrap();
    OnnxExport { opset: Some(13), ..OnnxExport::default() }.apply(&m, &old, &Context::new()).unwrap();
    let said = common::python(&["-c", &format!("import onnx; print([onnx.load(p).ir_version for p in ({new:?}, {old:?})])")]);
    assert_eq!(said.trim(), "[10, 7]");
}
