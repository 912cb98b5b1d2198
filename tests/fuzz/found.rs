//! Graphs that were found by fuzzing and that fit no table of a unit test.

use crate::targets::files::folder;
use crate::targets::judge::checked;
use crate::targets::model::both;
use compresso::compress::prune::Prune;
use compresso::context::Cancel;
use compresso::exec::{self, Run};
use compresso::model::graph::Dim;
use compresso::model::passes;
use compresso::model::{Attr, Constant, Element, Fact, Graph, GraphBuilder, Model, Node, Payload, Task, Value};
use compresso::operation::Operation;
use compresso::target::{TARGETS, write_model};
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

/// A graph of one node that reads `x` and constants.
fn one(opset: i64, x: &[usize], node: Node, constants: &[(&str, Constant)]) -> Result<Graph> {
    let mut b = GraphBuilder::new("g", opset);
    b.input("x", Fact::known(Element::F32, x));
    for (name, value) in constants {
        b.constant(name, value.clone());
    }
    let y = b.node(node);
    b.output(&y);
    b.finish()
}

/// Sizes that are known only when a graph runs are asked for before they are taken.
#[test]
fn sizes_that_no_memory_holds_are_errors() {
    let huge = Constant::floats(&[1], &[1e12]).unwrap();
    let one_scale = |axes: usize| Constant::floats(&[axes], &vec![2f32.powi(37); axes]).unwrap();
    let resize = Node::new("Resize", "", ["x", "", "scales"], [""]).ints("axes", &[0]);
    let fails = |graph: Result<Graph>, dims: &[usize]| {
        let count = dims.iter().product();
        let run = |graph| exec::run(&graph, &floats(&vec![1.0; count], dims), Run::default());
        let e = graph.and_then(run).unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::Memory | ErrorKind::Shape), "{e}");
    };
    fails(one(19, &[2, 3], resize, &[("scales", huge)]), &[2, 3]);
    fails(one(9, &[1, 2], Node::new("Upsample", "", ["x", "scales"], [""]), &[("scales", one_scale(2))]), &[1, 2]);
    // A window as wide as that costs what it covers.
    let pool = Node::new("MaxPool", "", ["x"], ["y", "at"])
        .ints("kernel_shape", &[i64::from(i32::MAX) - 64])
        .attr("auto_pad", Attr::text("SAME_UPPER"));
    let graph = one(22, &[1, 1, 4], pool, &[]).unwrap();
    let made = exec::run(&graph, &floats(&[1.0, 4.0, 2.0, 3.0], &[1, 1, 4]), Run::default()).unwrap();
    assert_eq!(made["y"].to_f32s().unwrap(), [4.0; 4]);
    // As many classes as an axis is long have no names.
    let flat = one(13, &[8, 4, 1, 1 << 40], Node::new("Flatten", "", ["x"], [""]), &[]).unwrap();
    checked(Model::of_graph(flat, &compresso::model::LoadOptions::default()));
}

#[test]
fn groups_that_no_weight_has_are_errors() {
    let weight = Constant::floats(&[2, 4, 1, 1], &[1.0; 8]).unwrap();
    for op in ["Conv", "ConvTranspose"] {
        let node = Node::new(op, "", ["x", "w"], [""]).int("group", 1 << 62);
        assert!(one(13, &[1, 2, 3, 3], node, &[("w", weight.clone())]).is_err());
    }
}

/// Of an axis without elements both executors make what the formula says.
#[test]
fn transposed_convolutions_of_nothing_have_one_size() {
    let mut b = GraphBuilder::new("g", 13);
    let x = b.input("x", Fact::new(Element::F32, vec![Dim::Unknown, Dim::Known(2), Dim::Unknown, Dim::Known(3)]));
    let w = b.constant("w", Constant::floats(&[2, 2, 3, 3], &[0.5; 36]).unwrap());
    let y = b.op("ConvTranspose", &[&x, &w]);
    b.output(&y);
    let graph = b.finish().unwrap();
    for dims in [[0, 2, 0, 3], [1, 2, 0, 3], [1, 2, 1, 3]] {
        let feeds = floats(&vec![1.0; dims.iter().product()], &dims);
        crate::targets::model::both(&graph, &feeds);
        let made = exec::run(&graph, &feeds, Run::default()).unwrap();
        assert_eq!(made[0].dims(), [dims[0], 2, 2 + dims[2], 5]);
    }
}

/// Nodes that lack what they read, or cut axes that are not there, are errors wherever they are read: in older operator sets and in exports.
#[test]
fn what_reads_nothing_is_an_error() {
    for (op, opset) in
        [("Upsample", 8), ("Resize", 10), ("Clip", 6), ("Pad", 2), ("Slice", 9), ("TopK", 9), ("Softmax", 11), ("RoiAlign", 10)]
    {
        let node = Node::new(op, "", Vec::<String>::new(), ["y"]).attr("width_scale", Attr::Floats(Vec::new()));
        let graph = one(opset, &[7], node, &[]);
        if let Some(graph) = checked(graph) {
            checked(passes::run(&graph, &[&passes::RaiseOpset::to(21).unwrap()], &[]));
        }
    }
    let node = || Node::new("Slice", "", ["x", "starts", "ends"], [""]);
    let constants = [("starts", Constant::ints(&[0, 0])), ("ends", Constant::ints(&[1, 1]))];
    for dims in [&[][..], &[3], &[0, 4]] {
        let Some(graph) = checked(one(13, dims, node(), &constants)) else { continue };
        for &target in TARGETS {
            checked(write_model(target, &Model::new(graph.clone(), Task::Unknown), &folder().join("out")));
        }
    }
}

/// What is repeated along an axis of one element has strides that reductions cannot divide by.
#[test]
fn one_element_that_was_repeated_is_reduced() {
    for op in ["Hardmax", "ReduceMin", "ArgMax"] {
        let mut b = GraphBuilder::new("g", 13);
        let x = b.input("x", Fact::known(Element::F32, &[]));
        let shape = b.constant("shape", Constant::ints(&[1]));
        let one = b.op("Expand", &[&x, &shape]);
        let y = b.op(op, &[&one]);
        b.output(&y);
        let graph = b.finish().unwrap();
        let made = exec::run(&graph, &floats(&[3.0], &[]), Run::default()).unwrap();
        assert_eq!(made[0].tensor.elem_count(), 1);
        crate::targets::model::both(&graph, &floats(&[3.0], &[]));
    }
}

#[test]
fn products_of_nothing_keep_their_sizes() {
    for (equation, x, other, expected) in
        [("...i,...j->...", vec![3, 0, 7, 4], vec![1], vec![3, 0, 7]), ("...i,...j->...", vec![8], vec![2, 0, 8], vec![2, 0])]
    {
        let mut b = GraphBuilder::new("g", 13);
        b.input("x", Fact::known(Element::F32, &x));
        let count = other.iter().product();
        b.constant("w", Constant::floats(&other, &vec![1.0; count]).unwrap());
        let y = b.node(Node::new("Einsum", "", ["x", "w"], [""]).attr("equation", Attr::text(equation)));
        b.output(&y);
        let made = exec::run(&b.finish().unwrap(), &floats(&vec![1.0; x.iter().product()], &x), Run::default()).unwrap();
        assert_eq!(made[0].dims(), expected);
    }
}

#[test]
fn channels_of_a_deformable_convolution_without_axes_stay() {
    let mut b = GraphBuilder::new("g", 20);
    let x = b.input("x", Fact::known(Element::F32, &[2]));
    let w = b.constant("w", Constant::floats(&[1, 1, 3, 3], &[1.0; 9]).unwrap());
    // Its rank is known to nobody.
    let offset = b.input("offset", Fact::unranked(Element::F32));
    let y = b.op("DeformConv", &[&x, &w, &offset]);
    b.output(&y);
    if let Some(graph) = checked(b.finish()) {
        prune(graph);
    }
    let norm = Node::new("GroupNormalization", "", ["x", "w", "b"], [""]).int("num_groups", 1);
    let ones = || Constant::floats(&[1], &[1.0]).unwrap();
    assert!(one(18, &[4], norm, &[("w", ones()), ("b", ones())]).is_err());
}

/// Outputs beside the first are written or refused by name, by every target.
#[test]
fn outputs_that_a_target_does_not_make_are_refused() {
    let mut b = GraphBuilder::new("g", 9);
    let x = b.input("x", Fact::known(Element::F32, &[2]));
    b.node(Node::new("Dropout", "", [x], ["y", "mask"]));
    b.output("y");
    b.output("mask");
    let Some(graph) = checked(b.finish()) else { return };
    for &target in TARGETS {
        checked(write_model(target, &Model::new(graph.clone(), Task::Unknown), &folder().join("out")));
    }
}

/// Sizes are rounded down, scales are not: 2.05 makes twelve of six pixels, but not each of them twice.
#[test]
fn sizes_that_follow_from_scales_do_not_stand_for_them() {
    for (dims, scales) in [([1, 2, 4, 6], [1.0, 1.0, 1.0, 2.05]), ([3, 1, 2, 2], [1.003, 1.0, 2.0, 2.0])] {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &dims));
        let scales = b.constant("scales", Constant::floats(&[4], &scales).unwrap());
        let resize = Node::new("Resize", "", [x.as_str(), "", &scales], [""]);
        let resize = resize.attr("coordinate_transformation_mode", Attr::text("asymmetric")).attr("nearest_mode", Attr::text("floor"));
        let y = b.node(resize);
        b.output(&y);
        let numbers: Vec<f32> = (0..dims.iter().product()).map(|i| i as f32).collect();
        both(&b.finish().unwrap(), &floats(&numbers, &dims));
    }
}

/// A number chosen beside a vector of nothing is nothing, also where inference follows it.
#[test]
fn one_integer_broadcasts_to_none() {
    let mut b = GraphBuilder::new("g", 19);
    let x = b.input("x", Fact::known(Element::F32, &[1]));
    let condition = b.constant("c", Constant::new(Element::Bool, Vec::new(), Payload::Int32s(vec![1])).unwrap());
    let one = b.constant("one", Constant::new(Element::I32, vec![1], Payload::Int32s(vec![3])).unwrap());
    let none = b.constant("none", Constant::new(Element::I32, vec![0], Payload::Int32s(Vec::new())).unwrap());
    let y = b.op("Where", &[&condition, &one, &none]);
    let z = b.op("Equal", &[&one, &none]);
    b.output(&y);
    b.output(&z);
    b.output(&x);
    let graph = b.finish().unwrap();
    let made = exec::run(&graph, &floats(&[1.0], &[1]), Run::default()).unwrap();
    assert_eq!((made[0].dims(), made[1].dims()), (&[0][..], &[0][..]));
    both(&graph, &floats(&[1.0], &[1]));
}

/// The largest of nothing is below every number: 8 bits cannot say so before they are rounded anew.
#[test]
fn windows_that_hold_padding_alone_are_the_lowest_number_in_both_executors() {
    let mut b = GraphBuilder::new("g", 21);
    let x = b.input("x", Fact::known(Element::F32, &[1, 1, 2, 3]));
    let number = |v: f32| Constant::floats(&[], &[v]).unwrap();
    let (fine, coarse) = (b.constant("fine", number(0.03125)), b.constant("coarse", number(0.5)));
    let zero = b.constant("zero", Constant::new(Element::I8, Vec::new(), Payload::Int32s(vec![0])).unwrap());
    let q = b.op("QuantizeLinear", &[&x, &fine, &zero]);
    let f = b.op("DequantizeLinear", &[&q, &fine, &zero]);
    let largest = b.node(Node::new("MaxPool", "", [f], [""]).ints("kernel_shape", &[1, 1]).ints("pads", &[1, 0, 2, 1]));
    let q = b.op("QuantizeLinear", &[&largest, &coarse, &zero]);
    let y = b.op("DequantizeLinear", &[&q, &coarse, &zero]);
    b.output(&y);
    let graph = b.finish().unwrap();
    let feeds = floats(&[0.0, 1.0, -2.0, 3.0, 1.5, -1.0], &[1, 1, 2, 3]);
    assert_eq!(exec::run(&graph, &feeds, Run::default()).unwrap()[0].to_f32s().unwrap()[..4], [-64.0; 4]);
    both(&graph, &feeds);
    // A pool says how large its window is.
    let pool = Node::new("MaxPool", "", ["x"], [""]).ints("kernel_shape", &[]);
    assert!(one(21, &[1, 1, 2, 3], pool, &[]).is_err_and(|e| e.to_string().contains("'kernel_shape' is missing")));
}

/// Layers of no channels, no images, no results.
#[test]
fn convolutions_of_nothing_make_nothing() {
    let bytes = |dims: [usize; 4]| Constant::new(Element::U8, dims.to_vec(), Payload::Raw(vec![3; dims.iter().product()].into())).unwrap();
    for (data, weight) in
        [([0, 8, 8, 7], [0, 8, 8, 7]), ([1, 2, 4, 4], [0, 2, 3, 3]), ([0, 2, 4, 4], [3, 2, 3, 3]), ([1, 0, 4, 4], [3, 0, 1, 1])]
    {
        let node = Node::new("ConvInteger", "", ["d", "w"], [""]);
        if let Some(graph) = checked(one(23, &[1], node, &[("d", bytes(data)), ("w", bytes(weight))])) {
            both(&graph, &floats(&[1.0], &[1]));
        }
        let float = |dims: [usize; 4]| Constant::floats(&dims, &vec![0.5; dims.iter().product()]).unwrap();
        for op in ["Conv", "ConvTranspose"] {
            let node = Node::new(op, "", ["x", "w"], [""]);
            if let Some(graph) = checked(one(23, &data, node, &[("w", float(weight))])) {
                both(&graph, &floats(&vec![1.0; data.iter().product()], &data));
            }
        }
    }
}

/// A stride of 2²⁰ between two results, and padding as wide, cost what there is to compute.
#[test]
fn steps_beyond_the_image_take_no_memory() {
    let weight = Constant::floats(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
    let wide = 1 << 20;
    for op in ["Conv", "ConvTranspose"] {
        let node = Node::new(op, "", ["x", "w"], [""]).ints("strides", &[wide, wide]).ints("pads", &[1, 1, 1, 1]);
        let Some(graph) = checked(one(13, &[1, 1, 1, 1], node, &[("w", weight.clone())])) else { continue };
        both(&graph, &floats(&[1.0], &[1, 1, 1, 1]));
    }
    let far = Node::new("Conv", "", ["x", "w"], [""]).ints("dilations", &[wide, wide]).ints("pads", &[wide, wide, 0, 0]);
    let graph = one(13, &[1, 1, 1, 1], far, &[("w", weight)]).unwrap();
    assert_eq!(exec::run(&graph, &floats(&[1.0], &[1, 1, 1, 1]), Run::default()).unwrap()[0].to_f32s().unwrap(), [4.0]);
    both(&graph, &floats(&[1.0], &[1, 1, 1, 1]));
}

#[test]
fn parts_whose_sum_wraps_are_an_error() {
    let mut b = GraphBuilder::new("g", 13);
    let x = b.input("x", Fact::known(Element::F32, &[4]));
    let parts = b.constant("parts", Constant::ints(&[i64::MAX, i64::MAX, 6]));
    b.node(Node::new("Split", "", [x, parts], ["p", "q", "r"]));
    b.output("p");
    assert!(b.finish().is_err_and(|e| e.to_string().contains("do not make 3 outputs")));
}

/// Reductions over no axes leave everything as it is, in every export.
#[test]
fn reductions_of_no_axes_are_written() {
    let node = Node::new("ReduceMean", "", ["x", ""], [""]).int("keepdims", 0).int("noop_with_empty_axes", 4);
    let graph = one(22, &[3], node, &[]).unwrap();
    for &target in TARGETS {
        checked(write_model(target, &Model::new(graph.clone(), Task::Unknown), &folder().join("out")));
    }
}

/// What is known of shapes is compared, also beside an input of which nothing is.
#[test]
fn joined_inputs_of_other_ranks_are_an_error_beside_an_unknown_one() {
    let mut b = GraphBuilder::new("g", 13);
    let x = b.input("x", Fact::unranked(Element::F32));
    let table = b.constant("table", Constant::floats(&[2, 3], &[1.0; 6]).unwrap());
    let list = b.constant("list", Constant::floats(&[3], &[1.0; 3]).unwrap());
    let y = b.node(Node::new("Concat", "", [x, table, list], [""]).int("axis", 1));
    b.output(&y);
    assert!(b.finish().is_err_and(|e| e.to_string().contains("does not fit input 1")));
}

#[test]
fn an_axis_is_normalized_over_once() {
    let norm = |axes: &[i64]| Node::new("MeanVarianceNormalization", "", ["x"], [""]).ints("axes", axes);
    assert!(one(13, &[1, 1 << 20, 3, 2], norm(&[1; 4]), &[]).is_err_and(|e| e.to_string().contains("named twice")));
    assert!(one(13, &[1, 2, 3, 2], norm(&[-1, 2]), &[]).is_ok());
}

/// Formats without tensors of no elements refuse them by name, before their writers count on one.
#[test]
fn what_has_no_elements_is_refused_by_name() {
    let relu = one(13, &[1, 0, 4, 4], Node::new("Relu", "", ["x"], [""]), &[]).unwrap();
    let nothing = Constant::ints(&[1]);
    let cut = Node::new("Slice", "", ["x", "one", "one"], [""]);
    let cut = one(13, &[2, 3], cut, &[("one", nothing)]).unwrap();
    for graph in [relu, cut] {
        for &target in TARGETS {
            let written = write_model(target, &Model::new(graph.clone(), Task::Unknown), &folder().join("out"));
            let refused = checked(written).is_none();
            assert!(refused || target.empty, "{}", target.name);
        }
    }
    let ones = || Constant::floats(&[1], &[1.0]).unwrap();
    let norm = Node::new("BatchNormalization", "", ["x", "a", "b", "m", "v"], [""]);
    assert!(one(15, &[], norm, &[("a", ones()), ("b", ones()), ("m", ones()), ("v", ones())]).is_err());
}
