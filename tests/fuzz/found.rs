//! Graphs that were found by fuzzing and that fit no table of a unit test.

use crate::targets::judge::checked;
use compresso::compress::prune::Prune;
use compresso::context::Cancel;
use compresso::exec::{self, Run};
use compresso::model::{Attr, Constant, Element, Fact, Graph, GraphBuilder, Model, Node, Payload, Task, Value};
use compresso::operation::Operation;
use compresso::{Context, ErrorKind, Result};
use std::collections::HashMap;

fn prune(graph: Graph) {
    checked(Prune::default().run((&Model::new(graph, Task::Unknown), None), &Context::new()));
}

#[test]
fn channels_are_followed_through_lists_that_do_not_fit() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[4, 3, 2, 2]));
    let starts = b.constant("starts", Constant::ints(&[0, 1, 0, 255, -1, 2, 0, 0]));
    let ends = Constant::new(Element::I64, vec![2, 2], Payload::Int64s(vec![2, 255, -1, i64::MIN])).unwrap();
    let ends = b.constant("ends", ends);
    // Attributes of an older version hide the inputs from inference.
    let y = b.node(Node::new("Slice", "", [x, starts, ends], [""]).ints("starts", &[]).ints("ends", &[]));
    b.output(&y);
    prune(b.finish().unwrap());

    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[]));
    let y = b.node(Node::new("ArgMax", "", [x], [""]).int("keepdims", 0));
    b.output(&y);
    prune(b.finish().unwrap());
}

/// A loop of 2⁶² rounds over a body without nodes.
fn endless() -> Result<Graph> {
    let mut body = GraphBuilder::new("body", 19);
    body.input("round", Fact::known(Element::I64, &[]));
    let go = body.input("go", Fact::known(Element::Bool, &[]));
    let kept = body.input("kept", Fact::known(Element::F32, &[2]));
    body.output(&go);
    body.output(&kept);
    let mut b = GraphBuilder::new("g", 19);
    let x = b.input("x", Fact::known(Element::F32, &[2]));
    let limit = b.constant("limit", Constant::new(Element::I64, Vec::new(), Payload::Int64s(vec![1 << 62]))?);
    let go = b.constant("go_on", Constant::new(Element::Bool, Vec::new(), Payload::Int32s(vec![1]))?);
    let y = b.node(Node::new("Loop", "", [limit, go, x], [""]).attr("body", Attr::Graph(Box::new(body.finish_inner()))));
    b.output(&y);
    b.finish()
}

#[test]
fn a_loop_without_nodes_hears_that_it_is_cancelled() {
    let graph = endless().unwrap();
    let tensor = candle_core::Tensor::zeros(2, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let feeds = HashMap::from([("x".to_string(), Value::plain(tensor).unwrap())]);
    let cancel = Cancel::new();
    let flag = cancel.clone();
    let waiting = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        flag.cancel();
    });
    let e = exec::run(&graph, &feeds, Run { cancel: Some(&cancel), ..Run::default() }).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Cancelled, "{e}");
    waiting.join().unwrap();
}

#[test]
fn what_inference_works_out_wraps_as_what_runs_does() {
    let mut b = GraphBuilder::new("g", 21);
    let list = |v: &[i32]| Constant::new(Element::U16, vec![v.len()], Payload::Int32s(v.to_vec())).unwrap();
    let (x, y) = (b.constant("x", list(&[4, 65532])), b.constant("y", list(&[65530, 2])));
    let z = b.node(Node::new("Mul", "", [x, y], [""]));
    b.output(&z);
    let graph = b.finish().unwrap();
    let known = graph.facts().unwrap()[&z].constant.as_ref().map(|c| c.to_i64s().unwrap());
    assert_eq!(known, Some(vec![65512, 65528]));
}

#[test]
fn parts_of_nothing_have_no_elements() {
    let nothing = candle_core::Tensor::zeros((1, 0, 3, 1), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let part = Value::plain(nothing).unwrap();
    let part = part.with(part.tensor.narrow(2, 1, 0).unwrap()).unwrap();
    assert_eq!((part.dims(), part.to_f64s().unwrap()), (&[1, 0, 0, 1][..], Vec::new()));
}

#[test]
fn a_pad_is_cut_off_by_a_negative_one_behind_it() {
    for (pads, expected) in
        [([3, -4], vec![0.0, 0.0]), ([-4, 3], vec![0.0, 0.0]), ([2, -1], vec![0.0, 0.0, 1.0, 2.0]), ([-1, 1], vec![2.0, 3.0, 0.0])]
    {
        let mut b = GraphBuilder::new("g", 21);
        let x = b.input("x", Fact::known(Element::F32, &[3]));
        let pads = b.constant("pads", Constant::ints(&pads));
        let y = b.node(Node::new("Pad", "", [x, pads], [""]));
        b.output(&y);
        let x = candle_core::Tensor::new(&[1f32, 2.0, 3.0], &candle_core::Device::Cpu).unwrap();
        let feeds = HashMap::from([("x".to_string(), Value::plain(x).unwrap())]);
        let made = exec::run(&b.finish().unwrap(), &feeds, Run::default()).unwrap();
        assert_eq!(made[0].to_f32s().unwrap(), expected);
    }
}

fn floats(v: &[f32], dims: &[usize]) -> HashMap<String, Value> {
    let tensor = candle_core::Tensor::from_vec(v.to_vec(), dims, &candle_core::Device::Cpu).unwrap();
    HashMap::from([("x".to_string(), Value::plain(tensor).unwrap())])
}

#[test]
fn what_is_no_number_rounds_to_the_lowest_in_both_executors() {
    for (element, zero, low) in [(Element::I8, -56, -72.0), (Element::I8, 0, -128.0), (Element::U8, 3, -3.0)] {
        let mut b = GraphBuilder::new("g", 21);
        let x = b.input("x", Fact::known(Element::F32, &[1, 4]));
        let scale = b.constant("scale", Constant::floats(&[], &[1.0]).unwrap());
        let zero = b.constant("zero", Constant::new(element, Vec::new(), Payload::Int32s(vec![zero])).unwrap());
        let q = b.op("QuantizeLinear", &[&x, &scale, &zero]);
        let y = b.op("DequantizeLinear", &[&q, &scale, &zero]);
        b.output(&y);
        let graph = b.finish().unwrap();
        let feeds = floats(&[f32::NAN, 1.5, f32::NEG_INFINITY, -f32::NAN], &[1, 4]);
        let made = exec::run(&graph, &feeds, Run::default()).unwrap();
        assert_eq!(made[0].to_f32s().unwrap(), [low, 2.0, low, low]);
        crate::targets::model::both(&graph, &feeds);
    }
}

#[test]
fn axes_named_twice_are_errors() {
    let mut b = GraphBuilder::new("g", 19);
    let x = b.input("x", Fact::known(Element::F32, &[1, 5, 1, 4]));
    let scales = b.constant("scales", Constant::floats(&[2], &[0.25, 2.25]).unwrap());
    let resize = Node::new("Resize", "", [x, String::new(), scales], [""]).ints("axes", &[-2, -2]);
    let y = b.node(resize);
    b.output(&y);
    assert!(b.finish().is_err_and(|e| e.to_string().contains("axis -2 is named twice")));
}
