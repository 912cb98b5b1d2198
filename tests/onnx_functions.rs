//! Operators that a model defines itself are replaced by what they are made of; models over one operator set are raised to another.
//! The files in fixtures/onnx/functions are made by generate.py there.

mod common;

use candle_core::{Device, Tensor};
use compresso::exec::{self, Run};
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::passes::{self, Pass, RaiseOpset, pipelines};
use compresso::model::{Attr, Constant, Dim, Element, Fact, Graph, GraphBuilder, Node, Value, onnx};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/functions").join(name)
}

fn read(name: &str) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

/// The input x that the generator feeds.
fn feed(g: &Graph) -> HashMap<String, Value> {
    let dims = g.feeds().next().unwrap().fact.dims().unwrap();
    let numbers: Vec<f32> = (0..dims.iter().product::<usize>()).map(|i| ((i % 7) as f32 - 3.0) / 2.0).collect();
    HashMap::from([("x".into(), Value::plain(Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap()).unwrap())])
}

fn close(name: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-5 * scale, "{name}: {a} instead of {b}");
    }
}

#[test]
fn functions_give_what_the_reference_gives() {
    let dir = tempfile::tempdir().unwrap();
    let mut saved = Vec::new();
    for (name, expected) in read("expected.json") {
        let g = onnx::load(fixture(&format!("{name}.onnx"))).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!g.opsets().contains_key("my.lib") && g.nodes().iter().all(|n| n.domain.is_empty()), "{name}");
        let ours = exec::run(&g, &feed(&g), Run::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let file = dir.path().join(format!("{name}.onnx"));
        onnx::save(&g, &file).unwrap();
        // Shapes of outputs are stated when it is saved.
        let dump = |g: &Graph| g.dump(None).lines().filter(|l| !l.starts_with("  out ")).map(str::to_string).collect::<Vec<_>>();
        assert_eq!(dump(&onnx::load(&file).unwrap()), dump(&g), "{name}");
        let theirs = Session::from_file(&file, 1).unwrap_or_else(|e| panic!("{name}: {e}")).run(&feed(&g)).unwrap();
        for (output, numbers) in expected.as_object().unwrap() {
            let numbers: Vec<f64> = numbers.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            for outputs in [&ours, &theirs] {
                close(&format!("{name}, {output}"), &outputs[output.as_str()].to_f64s().unwrap(), &numbers);
            }
        }
        saved.push(file);
    }
    assert!(saved.len() >= 6);
    let files: Vec<&str> = saved.iter().map(|p| p.to_str().unwrap()).collect();
    let said = common::python(&[&["tests/python/check_onnx.py"], files.as_slice()].concat());
    assert_eq!(said.lines().filter(|l| l.starts_with("ok ")).count(), saved.len(), "{said}");
}

#[test]
fn a_models_set_is_raised_with_that_of_its_functions() {
    assert_eq!(onnx::load(fixture("older.onnx")).unwrap().opset(), 18);
    assert_eq!(onnx::load(fixture("newer.onnx")).unwrap().opset(), 18);
}

#[test]
fn functions_without_end_are_refused() {
    for (name, text) in read("bad.json") {
        let e = onnx::load(fixture(&format!("{name}.onnx"))).unwrap_err().to_string();
        assert!(e.contains(text.as_str().unwrap()), "{name}: {e}");
    }
}

fn floats(dims: &[usize], seed: usize) -> Constant {
    let numbers: Vec<f32> = (0..dims.iter().product::<usize>()).map(|i| ((i * 37 + seed * 11) % 19) as f32 / 19.0 + 0.1).collect();
    Constant::floats(dims, &numbers).unwrap()
}

/// Operators whose meaning or form changed on the way from set 7 to 13: the set up to which the old form is one, the node, its
/// constants after the input `[2, 4, 6, 6]`.
fn old_forms() -> Vec<(i64, Node, Vec<Constant>)> {
    let n = |op: &str| Node::new(op, op, [""; 0], [""]);
    let mut all: Vec<(i64, Node, Vec<Constant>)> = vec![
        (12, n("Squeeze"), vec![]),
        (12, n("Unsqueeze").ints("axes", &[0, 3]), vec![]),
        (12, n("ReduceSum").ints("axes", &[1, 2]).int("keepdims", 0), vec![]),
        (12, n("ReduceSum"), vec![]),
        (12, n("ReduceMean").ints("axes", &[1]), vec![]),
        (9, n("Slice").ints("starts", &[1, 0]).ints("ends", &[7, -1]).ints("axes", &[2, 3]), vec![]),
        (9, n("Slice").ints("starts", &[0, 1]).ints("ends", &[1, 3]), vec![]),
        (10, n("Clip").float("min", 0.2), vec![]),
        (10, n("Clip").float("max", 0.4).float("min", -0.1), vec![]),
        (10, n("Clip"), vec![]),
        (10, n("Pad").ints("pads", &[0, 0, 1, 1, 0, 0, 2, 1]).float("value", 2.0), vec![]),
        (10, n("Pad").ints("pads", &[0, 0, 1, 1, 0, 0, 2, 1]).attr("mode", Attr::text("reflect")), vec![]),
        (11, n("Dropout").float("ratio", 0.3), vec![]),
        (8, n("BatchNormalization").int("spatial", 1), vec![floats(&[4], 1), floats(&[4], 2), floats(&[4], 3), floats(&[4], 4)]),
        (8, n("Upsample").attr("scales", Attr::Floats(vec![1.0, 1.0, 2.0, 3.0])), vec![]),
        (9, n("Upsample"), vec![Constant::floats(&[4], &[1.0, 1.0, 2.0, 2.0]).unwrap()]),
        (10, n("Resize"), vec![Constant::floats(&[4], &[1.0, 1.0, 1.5, 2.0]).unwrap()]),
        (10, n("Resize").attr("mode", Attr::text("linear")), vec![Constant::floats(&[4], &[1.0, 1.0, 2.0, 2.0]).unwrap()]),
    ];
    for op in ["Softmax", "LogSoftmax", "Hardmax"] {
        all.push((12, n(op), vec![]));
        for axis in 0..4 {
            all.push((12, n(op).int("axis", axis), vec![]));
        }
        for axis in [-1, -2, -4] {
            all.push((-12, n(op).int("axis", axis), vec![]));
        }
    }
    all
}

/// A graph of one node; `open`: no size of its input is known.
fn of(opset: i64, mut node: Node, constants: &[Constant], open: bool) -> compresso::Result<Graph> {
    let mut b = GraphBuilder::new("g", opset);
    let dims = [2, 4, 6, 6];
    let shape = dims.iter().enumerate().map(|(i, &n)| if open { Dim::symbol(format!("n{i}")) } else { Dim::Known(n) }).collect();
    node.inputs = vec![b.input("x", Fact::new(Element::F32, shape))];
    for c in constants {
        let name = b.constant("c", c.clone());
        node.inputs.push(name);
    }
    // A Squeeze needs an axis to squeeze, and a Split parts.
    if node.is("Squeeze") {
        node.inputs[0] = b.node(Node::new("Slice", "", ["x"], [""]).ints("starts", &[1]).ints("ends", &[2]).ints("axes", &[1]));
        node = node.ints("axes", &[1]);
    }
    let y = b.node(node);
    b.output(&y);
    b.finish()
}

fn image(seed: usize) -> HashMap<String, Value> {
    let numbers: Vec<f32> = (0..288).map(|i| ((i * 29 + seed) % 41) as f32 / 20.0 - 1.0).collect();
    HashMap::from([("x".into(), Value::plain(Tensor::from_vec(numbers, (2, 4, 6, 6), &Device::Cpu).unwrap()).unwrap())])
}

#[test]
fn raised_operators_give_in_onnxruntime_what_they_gave_before() {
    let mut held = 0;
    for (last, node, constants) in old_forms() {
        // Negative axes came with set 11.
        let first = if last < 0 { 11 } else { 7 };
        for (from, open) in (first..=last.abs()).flat_map(|from| [(from, false), (from, true)]) {
            let what = format!("{} of set {from} {:?}", node.op, node.attrs);
            // A Slice of set 10 has no attributes, and others are newer than the set.
            let too_new = matches!((node.op.as_str(), constants.len()), ("Upsample", 1) if from < 9) || node.is("Resize") && from < 10;
            let too_old = node.is("Upsample") && constants.is_empty() && from > 8 || node.is("Squeeze") && from > 9;
            if too_new || too_old {
                continue;
            }
            let before = of(from, node.clone(), &constants, open).unwrap_or_else(|e| panic!("{what}: {e}"));
            let before_runs = Session::from_graph(&before, 1).unwrap_or_else(|e| panic!("{what}: {e}")).run(&image(3)).unwrap();
            for to in [11, 12, 13, 16, 18, 21].into_iter().filter(|&to| to > from) {
                let pass = RaiseOpset::to(to).unwrap();
                let after = passes::run(&before, &[&pass as &dyn Pass], &[]).unwrap_or_else(|e| panic!("{what} to {to}: {e}")).graph;
                assert_eq!(after.opset(), to);
                let ours = exec::run(&after, &image(3), Run::default()).unwrap_or_else(|e| panic!("{what} to {to}: {e}"));
                let theirs = Session::from_graph(&after, 1).unwrap_or_else(|e| panic!("{what} to {to}: {e}")).run(&image(3)).unwrap();
                let expected = &before_runs[0];
                for got in [&ours[0], &theirs[0]] {
                    assert_eq!(got.dims(), expected.dims(), "{what} to {to}");
                    close(&format!("{what} to {to}"), &got.to_f64s().unwrap(), &expected.to_f64s().unwrap());
                }
                held += 1;
            }
        }
    }
    assert!(held > 200, "{held}");
}

#[test]
fn graphs_inside_an_if_are_raised_with_it() {
    let before = onnx::load(fixture("inner.onnx")).unwrap();
    let after = pipelines::pass("raise_opset").and_then(|p| passes::run(&before, &[p], &[])).unwrap().graph;
    for seed in [0, 3, 30] {
        let run = |g: &Graph| Session::from_graph(g, 1).unwrap().run(&image(seed)).unwrap()[0].to_f64s().unwrap();
        close("in onnxruntime", &run(&after), &run(&before));
        close("here", &exec::run(&after, &image(seed), Run::default()).unwrap()[0].to_f64s().unwrap(), &run(&before));
    }
}
