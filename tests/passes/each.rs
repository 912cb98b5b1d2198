//! Each pass leaves the outputs as they were, and says what it did or why not.

use candle_core::{Device, Tensor};
use compresso::exec::{self, Run};
use compresso::model::passes::*;
use compresso::model::{Attr, Constant, Element, Fact, Graph, GraphBuilder, Node, Patch, Value};
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

fn run(g: &Graph, names: &[&str]) -> compresso::Result<(Graph, Vec<PassReport>)> {
    let passes = names.iter().map(|n| pipelines::pass(n)).collect::<compresso::Result<Vec<_>>>()?;
    compresso::model::passes::run(g, &passes, &[]).map(|o| (o.graph, o.reports))
}

fn raise_opset(g: &Graph) -> compresso::Result<Graph> {
    run(g, &["raise_opset"]).map(|o| o.0)
}

fn noise(seed: u64, dims: &[usize], low: f32, high: f32) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..dims.iter().product()).map(|_| rng.random_range(low..high)).collect()
}

fn constant(b: &mut GraphBuilder, name: &str, dims: &[usize], low: f32, high: f32) -> String {
    let seed = name.bytes().fold(7u64, |s, c| s.wrapping_mul(31).wrapping_add(u64::from(c)));
    b.constant(name, Constant::floats(dims, &noise(seed, dims, low, high)).unwrap())
}

fn outputs(g: &Graph) -> Vec<Vec<f32>> {
    let feeds: HashMap<String, Value> = g
        .feeds()
        .map(|i| {
            let dims = i.fact.dims().unwrap();
            let t = Tensor::from_vec(noise(99, &dims, -1.0, 1.0), dims, &Device::Cpu).unwrap();
            (i.name.clone(), Value::plain(t).unwrap())
        })
        .collect();
    exec::run(g, &feeds, Run::default()).unwrap().values().map(|v| v.to_f32s().unwrap()).collect()
}

fn assert_unchanged(before: &Graph, after: &Graph) {
    let names = |g: &Graph| g.outputs().iter().map(|o| o.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
    for (a, b) in outputs(before).iter().zip(outputs(after)) {
        let scale = a.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
        let worst = a.iter().zip(&b).fold(0f32, |m, (x, y)| m.max((x - y).abs()));
        assert!(a.len() == b.len() && worst <= 1e-5 * scale, "outputs moved by {worst} of {scale}");
    }
}

fn batch_norm(b: &mut GraphBuilder, x: &str, channels: usize) -> String {
    let params: Vec<String> = [("gamma", 0.5, 2.0), ("beta", -1.0, 1.0), ("mean", -1.0, 1.0), ("var", 0.1, 3.0)]
        .iter()
        .map(|(n, low, high)| constant(b, n, &[channels], *low, *high))
        .collect();
    let inputs: Vec<&str> = std::iter::once(x).chain(params.iter().map(String::as_str)).collect();
    b.node(Node::new("BatchNormalization", "", inputs, [""]).float("epsilon", 1e-3))
}

fn count(g: &Graph, op: &str) -> usize {
    g.nodes().iter().filter(|n| n.is(op)).count()
}

/// A layer of each kind that a batch norm folds into: the node, its weight's dims, its bias.
fn layers() -> Vec<(Node, Vec<usize>, Option<usize>, Vec<usize>)> {
    let n = |op: &str| Node::new(op, op, [""; 0], [""]);
    vec![
        (n("Conv").ints("pads", &[1, 1, 1, 1]), vec![6, 4, 3, 3], None, vec![2, 4, 5, 5]),
        (n("Conv").int("group", 2), vec![6, 2, 3, 3], Some(6), vec![2, 4, 5, 5]),
        (n("Conv").int("group", 4), vec![4, 1, 3, 3], Some(4), vec![1, 4, 5, 5]),
        (n("ConvTranspose").ints("strides", &[2, 2]), vec![4, 6, 2, 2], Some(6), vec![1, 4, 3, 3]),
        (n("ConvTranspose").int("group", 2), vec![4, 3, 2, 2], None, vec![1, 4, 3, 3]),
        (n("Gemm"), vec![4, 6], None, vec![3, 4]),
        (n("Gemm").int("transB", 1).float("alpha", 0.5).float("beta", 2.0), vec![6, 4], Some(6), vec![3, 4]),
    ]
}

#[test]
fn batch_norms_fold_into_every_layer() {
    for (i, (node, dims, bias, input)) in layers().into_iter().enumerate() {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &input));
        let w = constant(&mut b, "weight", &dims, -1.0, 1.0);
        let mut node = node;
        node.inputs = vec![x, w];
        if let Some(n) = bias {
            node.inputs.push(constant(&mut b, "bias", &[n], -1.0, 1.0));
        }
        let y = b.node(node);
        let y = batch_norm(&mut b, &y, if input.len() == 2 || dims[0] == 6 || dims[1] != 1 { 6 } else { 4 });
        let y = b.op("Relu", &[&y]);
        b.output(&y);
        let g = b.finish().unwrap();
        let (after, reports) = run(&g, &["fold_batch_norm"]).unwrap();
        assert_eq!(count(&after, "BatchNormalization"), 0, "layer {i}: {:?}", reports[0].refused);
        assert!(reports[0].done[0].contains("is folded into"));
        assert!(after.constant("weight").is_some() && after.constant("bias").is_some(), "names are kept");
        assert_unchanged(&g, &after);
    }
}

#[test]
fn a_batch_norm_stays_where_folding_would_change_something() {
    let build = |also_read: bool, training: bool, declared: bool| {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 3, 4, 4]));
        let w = constant(&mut b, "weight", &[3, 3, 1, 1], -1.0, 1.0);
        let y = b.op("Conv", &[&x, &w]);
        if also_read {
            let z = b.op("Relu", &[&y]);
            b.output(&z);
        }
        if declared {
            b.output(&y);
        }
        let z = batch_norm(&mut b, &y, 3);
        b.output(&z);
        let g = b.finish().unwrap();
        if !training {
            return g;
        }
        let mut p = Patch::new(&g);
        let i = g.find(&z).unwrap();
        p.edit(i).attrs.insert("training_mode".into(), Attr::Int(1));
        p.apply().unwrap()
    };
    for (g, reason) in [
        (build(true, false, false), "other readers"),
        (build(false, false, true), "other readers"),
        (build(false, true, false), "training mode"),
    ] {
        let (after, reports) = run(&g, &["fold_batch_norm"]).unwrap();
        assert_eq!(count(&after, "BatchNormalization"), 1);
        assert!(reports[0].refused[0].contains(reason), "{:?}", reports[0].refused);
        assert_eq!(after, g);
    }
}

#[test]
fn a_shared_weight_is_folded_into_a_copy() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 3, 4, 4]));
    let w = constant(&mut b, "weight", &[3, 3, 1, 1], -1.0, 1.0);
    let y = b.op("Conv", &[&x, &w]);
    let y = batch_norm(&mut b, &y, 3);
    let y = b.op("Conv", &[&y, &w]);
    b.output(&y);
    let g = b.finish().unwrap();
    let (after, _) = run(&g, &["fold_batch_norm"]).unwrap();
    assert_eq!(count(&after, "BatchNormalization"), 0);
    assert_eq!(after.constant("weight"), g.constant("weight"));
    assert_unchanged(&g, &after);
}

#[test]
fn identities_and_dropouts_go() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 4]));
    let i = b.op("Identity", &[&x]);
    let y = b.op("Relu", &[&i]);
    let ratio = b.constant("ratio", Constant::scalar(0.4));
    let y = b.op("Dropout", &[&y, &ratio]);
    let z = b.op("Neg", &[&y]);
    b.output_as(&z, "named");
    b.output_as(&x, "passed");
    let g = b.finish().unwrap();
    let (after, reports) = run(&g, &["eliminate_identity", "dead_code"]).unwrap();
    assert_eq!(after.nodes().iter().map(|n| n.op.as_str()).collect::<Vec<_>>(), ["Relu", "Neg", "Identity"]);
    assert!(reports[0].refused[0].contains("graph output 'passed'"), "{:?}", reports[0].refused);
    assert!(after.constant("ratio").is_none());
    assert_unchanged(&g, &after);
}

#[test]
fn a_dropout_with_a_read_mask_stays() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 4]));
    let y = b.node(Node::new("Dropout", "drop", [x.as_str()], ["y", "mask"]));
    let m = b.node(Node::new("Cast", "", ["mask"], [""]).int("to", 1));
    let z = b.op("Mul", &[&y, &m]);
    b.output(&z);
    let g = b.finish().unwrap();
    let (after, reports) = run(&g, &["eliminate_identity"]).unwrap();
    assert_eq!(after, g);
    assert!(reports[0].refused[0].contains("its mask is read"));
}

#[test]
fn constants_are_computed_but_int8_weights_stay_int8() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[2, 3, 4]));
    let a = b.constant("a", Constant::scalar(2.0));
    let c = b.constant("c", Constant::scalar(3.0));
    let sum = b.op("Add", &[&a, &c]);
    let shape = b.op("Shape", &[&x]);
    let y = b.op("Mul", &[&x, &sum]);
    let y = b.op("Reshape", &[&y, &shape]);
    let q = Constant::new(Element::I8, vec![4], compresso::model::Payload::Raw(vec![1, 2, 3, 4].into())).unwrap();
    let q = b.constant("q", q);
    let w = b.op("DequantizeLinear", &[&q, &a]);
    let y = b.op("Mul", &[&y, &w]);
    b.output(&y);
    let g = b.finish().unwrap();
    let (after, reports) = simplify(&g).unwrap();
    assert_eq!(after.nodes().iter().map(|n| n.op.as_str()).collect::<Vec<_>>(), ["Mul", "Reshape", "DequantizeLinear", "Mul"]);
    assert_eq!(after.constant(&sum).unwrap().to_f32s().unwrap(), [5.0]);
    assert_eq!(after.constant(&shape).unwrap().to_i64s().unwrap(), [2, 3, 4]);
    assert!(reports[0].done.iter().any(|l| l.contains("is computed")));
    assert_unchanged(&g, &after);
}

#[test]
fn what_no_output_needs_is_removed() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 4]));
    let dead = constant(&mut b, "dead", &[4], 0.0, 1.0);
    let y = b.op("Relu", &[&x]);
    let z = b.op("Mul", &[&y, &dead]);
    b.op("Neg", &[&z]);
    b.output(&y);
    let g = b.finish().unwrap();
    let (after, reports) = run(&g, &["dead_code"]).unwrap();
    assert_eq!((after.nodes().len(), after.constants().len()), (1, 0));
    assert_eq!(reports[0].done.len(), 3);
    assert_unchanged(&g, &after);
}

#[test]
fn old_operator_sets_are_raised_with_the_same_meaning() {
    let mut b = GraphBuilder::new("g", 9);
    let x = b.input("x", Fact::known(Element::F32, &[1, 4, 6, 6]));
    let y = b.node(Node::new("Clip", "", [x.as_str()], [""]).float("min", -0.5).float("max", 0.5));
    let y = b.node(Node::new("Pad", "", [y.as_str()], [""]).ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]).float("value", 2.0));
    let y = b.node(Node::new("Slice", "", [y.as_str()], [""]).ints("starts", &[1, 0]).ints("ends", &[7, 6]).ints("axes", &[2, 3]));
    let scales = b.constant("scales", Constant::floats(&[4], &[1.0, 1.0, 2.0, 2.0]).unwrap());
    let y = b.op("Upsample", &[&y, &scales]);
    b.node(Node::new("Split", "", [y.as_str()], ["s0", "s1"]).int("axis", 1).ints("split", &[1, 3]));
    let y = b.node(Node::new("ReduceSum", "", ["s1"], [""]).ints("axes", &[2]).int("keepdims", 0));
    let y = b.node(Node::new("Unsqueeze", "", [y.as_str()], [""]).ints("axes", &[0]));
    let y = b.node(Node::new("Squeeze", "", [y.as_str()], [""]).ints("axes", &[0]));
    let y = b.node(Node::new("Softmax", "", [y.as_str()], [""]).int("axis", 2));
    b.output(&y);
    b.output("s0");
    let g = b.finish().unwrap();
    let after = raise_opset(&g).unwrap();
    assert_eq!(after.opset(), 13);
    assert_eq!(count(&after, "Resize"), 1);
    assert_unchanged(&g, &after);
    assert_eq!(raise_opset(&after).unwrap(), after);
}

#[test]
fn a_softmax_over_several_axes_runs_over_one_of_a_matrix() {
    for op in ["Softmax", "LogSoftmax", "Hardmax"] {
        for axis in 0..3 {
            let mut b = GraphBuilder::new("g", 11);
            let x = b.input("x", Fact::known(Element::F32, &[2, 4, 6]));
            let y = b.node(Node::new(op, "soft", [x.as_str()], ["y"]).int("axis", axis));
            b.output(&y);
            let g = b.finish().unwrap();
            let after = raise_opset(&g).unwrap();
            let ops: Vec<&str> = after.nodes().iter().map(|n| n.op.as_str()).collect();
            assert_eq!(ops, if axis == 2 { vec![op] } else { vec!["Flatten", op, "Reshape"] });
            assert_unchanged(&g, &after);
        }
    }
}

#[test]
fn a_meaning_that_cannot_be_kept_is_an_error_that_names_the_node() {
    let mut b = GraphBuilder::new("g", 7);
    let x = b.input("x", Fact::known(Element::F32, &[1, 4, 6]));
    let y = b.node(Node::new("Dropout", "drop", [x.as_str()], ["y", "mask"]));
    b.output(&y);
    b.output("mask");
    let e = raise_opset(&b.finish().unwrap()).unwrap_err();
    assert!(e.to_string().contains("node 'drop' (Dropout)") && e.to_string().contains("mask has another type"), "{e}");
}

#[test]
fn an_unknown_pass_is_named_with_its_neighbour() {
    let g = Graph::default();
    assert!(run(&g, &["fold_batchnorm"]).unwrap_err().to_string().contains("did you mean 'fold_batch_norm'?"));
}

/// An LSTM with an initial state and cell, `[2, 1, 3]`, as `state` makes them.
fn lstm(state: impl Fn(&mut GraphBuilder) -> String) -> Graph {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[4, 1, 5]));
    let (w, r) = (constant(&mut b, "w", &[2, 12, 5], -1.0, 1.0), constant(&mut b, "r", &[2, 12, 3], -1.0, 1.0));
    let (h, c) = (state(&mut b), state(&mut b));
    let node = Node::new("LSTM", "lstm", [x.as_str(), &w, &r, "", "", &h, &c], ["y"]).attr("direction", Attr::text("bidirectional"));
    let y = b.node(node);
    b.output(&y);
    b.finish().unwrap()
}

#[test]
fn initial_states_of_zero_are_left_out() {
    let zeros = |b: &mut GraphBuilder| b.constant("h", Constant::floats(&[2, 1, 3], &[0.0; 6]).unwrap());
    let made = |b: &mut GraphBuilder| {
        let shape = b.constant("shape", Constant::ints(&[4, 1, 3]));
        let all = b.op("ConstantOfShape", &[&shape]);
        let ends: Vec<String> = [("from", 1), ("to", 3), ("axis", 0)].iter().map(|(n, v)| b.constant(n, Constant::ints(&[*v]))).collect();
        b.op("Slice", &[&all, &ends[0], &ends[1], &ends[2]])
    };
    for g in [lstm(zeros), lstm(made)] {
        let (after, reports) = run(&g, &["zero_states", "dead_code"]).unwrap();
        assert_eq!((after.nodes().len(), after.nodes()[0].input(5), after.nodes()[0].input(6)), (1, None, None), "{reports:?}");
        assert_unchanged(&g, &after);
    }
    let one = |b: &mut GraphBuilder| b.constant("h", Constant::floats(&[2, 1, 3], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.1]).unwrap());
    let given = lstm(one);
    assert_eq!(run(&given, &["zero_states"]).unwrap().0, given);
}

/// A GELU of `x`, its nodes in one of six orders.
fn gelu(b: &mut GraphBuilder, x: &str, order: usize, by_tanh: bool) -> String {
    let number = |b: &mut GraphBuilder, v: f64| b.constant("number", Constant::scalar(v as f32));
    let gate = if by_tanh {
        let (three, cubic, scale) = (number(b, 3.0), number(b, 0.044_715), number(b, (2.0 / std::f64::consts::PI).sqrt()));
        let cube = if order.is_multiple_of(2) {
            b.op("Pow", &[x, &three])
        } else {
            let square = b.op("Mul", &[x, x]);
            b.op("Mul", &[&square, x])
        };
        let term = b.op("Mul", &[&cubic, &cube]);
        let sum = b.op("Add", &[x, &term]);
        let inner = b.op("Mul", &[&sum, &scale]);
        b.op("Tanh", &[&inner])
    } else {
        let inner = if order.is_multiple_of(2) {
            let root = number(b, std::f64::consts::SQRT_2);
            b.op("Div", &[x, &root])
        } else {
            let root = number(b, std::f64::consts::FRAC_1_SQRT_2);
            b.op("Mul", &[&root, x])
        };
        b.op("Erf", &[&inner])
    };
    let (one, half) = (number(b, 1.0), number(b, 0.5));
    let sum = b.op("Add", &[&one, &gate]);
    let (first, second) = match order / 2 % 3 {
        0 => (b.op("Mul", &[x, &sum]), half),
        1 => (b.op("Mul", &[&half, &sum]), x.to_string()),
        _ => (b.op("Mul", &[x, &half]), sum),
    };
    b.op("Mul", &[&first, &second])
}

#[test]
fn gelu_in_its_nodes_becomes_one() {
    for (order, by_tanh) in (0..6).flat_map(|o| [(o, false), (o, true)]) {
        let mut b = GraphBuilder::new("gelu", 17);
        let x = b.input("x", Fact::known(Element::F32, &[2, 3, 5]));
        let y = gelu(&mut b, &x, order, by_tanh);
        let y = b.op("Neg", &[&y]);
        b.output(&y);
        let g = b.finish().unwrap();
        let (after, _) = run(&g, &["fuse_gelu", "dead_code"]).unwrap();
        let names: Vec<&str> = after.nodes().iter().map(|n| n.op.as_str()).collect();
        assert_eq!(names, ["Gelu", "Neg"], "{order} {by_tanh}");
        assert_unchanged(&g, &after);
    }
}

#[test]
fn what_is_nearly_a_gelu_or_is_read_inside_stays() {
    let with = |change: &dyn Fn(&mut GraphBuilder, &str) -> String| {
        let mut b = GraphBuilder::new("gelu", 17);
        let x = b.input("x", Fact::known(Element::F32, &[2, 3]));
        let y = change(&mut b, &x);
        b.output(&y);
        let g = b.finish().unwrap();
        let (after, reports) = run(&g, &["fuse_gelu"]).unwrap();
        assert_unchanged(&g, &after);
        (count(&after, "Gelu"), reports.iter().flat_map(|r| r.refused.clone()).collect::<Vec<_>>())
    };
    let parts = |b: &mut GraphBuilder, x: &str, numbers: [&Constant; 3], reads: bool| {
        let [root, one, half] = numbers.map(|c| b.constant("number", c.clone()));
        let inner = b.op("Div", &[x, &root]);
        let gate = b.op("Erf", &[&inner]);
        let sum = b.op("Add", &[&gate, &one]);
        let product = b.op("Mul", &[x, &sum]);
        let y = b.op("Mul", &[&product, &half]);
        if reads { b.op("Add", &[&y, &sum]) } else { y }
    };
    let number = |v: f32| Constant::scalar(v);
    let (root, one, half) = (number(std::f32::consts::SQRT_2), number(1.0), number(0.5));
    assert_eq!(with(&|b, x| parts(b, x, [&root, &one, &half], false)).0, 1);
    assert_eq!(with(&|b, x| parts(b, x, [&root, &one, &half], true)).0, 0);
    assert_eq!(with(&|b, x| parts(b, x, [&number(1.4), &one, &half], false)).0, 0);
    assert_eq!(with(&|b, x| parts(b, x, [&root, &number(1.1), &half], false)).0, 0);
    assert_eq!(with(&|b, x| parts(b, x, [&root, &one, &number(0.7)], false)).0, 0);
    // A constant with more axes than the value gives it one more.
    let deep = Constant::floats(&[1, 1, 1], &[0.5]).unwrap();
    let (made, refused) = with(&|b, x| parts(b, x, [&root, &one, &deep], false));
    assert!(made == 0 && refused.len() == 1, "{refused:?}");
    // A value that the caller wants stays.
    let mut b = GraphBuilder::new("gelu", 17);
    let x = b.input("x", Fact::known(Element::F32, &[2, 3]));
    let y = gelu(&mut b, &x, 0, false);
    b.output(&y);
    let g = b.finish().unwrap();
    let erf = g.nodes().iter().find(|n| n.op == "Erf").unwrap().outputs[0].clone();
    let kept = compresso::model::passes::run(&g, &[pipelines::pass("fuse_gelu").unwrap()], &[erf]).unwrap();
    assert_eq!(count(&kept.graph, "Gelu"), 0);
}

/// The nodes of a layer normalization; `change` numbers what is unlike it.
fn layer_norm(b: &mut GraphBuilder, x: &str, change: usize) -> String {
    let axis = if change == 1 { -2 } else { -1 };
    let mean = |b: &mut GraphBuilder, x: &str| b.node(Node::new("ReduceMean", "", [x], [""]).ints("axes", &[axis]));
    let center = mean(b, x);
    let inner = b.op("Sub", &[x, &center]);
    let power = b.constant("power", Constant::scalar(if change == 2 { 4.0 } else { 2.0 }));
    let square = if change == 7 { b.op("Mul", &[&inner, &inner]) } else { b.op("Pow", &[&inner, &power]) };
    let variance = mean(b, &square);
    let epsilon = b.constant("epsilon", Constant::scalar(1e-3));
    let shifted = b.op("Add", &[&epsilon, &variance]);
    let root = b.op("Sqrt", &[&shifted]);
    // Old exporters subtract the mean twice.
    let over = if change == 8 { b.op("Sub", &[x, &center]) } else { inner.clone() };
    let y = b.op("Div", &[if change == 3 { x } else { &over }, &root]);
    let y = if change == 4 { b.op("Add", &[&y, &root]) } else { y };
    let scale = constant(b, "scale", if change == 5 { &[4, 1] } else { &[4] }, 0.5, 2.0);
    let y = b.op("Mul", &[&scale, &y]);
    let bias = constant(b, "bias", &[4], -1.0, 1.0);
    if change == 6 { y } else { b.op("Add", &[&y, &bias]) }
}

#[test]
fn layer_normalization_in_its_nodes_becomes_one() {
    for change in 0..9 {
        let mut b = GraphBuilder::new("norm", 13);
        let x = b.input("x", Fact::known(Element::F32, &[2, 4, 4]));
        let y = layer_norm(&mut b, &x, change);
        b.output(&y);
        let g = b.finish().unwrap();
        let (after, reports) = run(&g, &["fuse_layer_norm", "dead_code"]).unwrap();
        assert_unchanged(&g, &after);
        let joined = matches!(change, 0 | 6 | 7 | 8);
        assert_eq!(count(&after, "LayerNormalization") == 1 && count(&after, "Sqrt") == 0, joined, "{change}");
        assert!(!joined || after.nodes().len() == 1, "{change}");
        let refused = reports.iter().any(|r| !r.refused.is_empty());
        assert_eq!(refused, change == 5, "{change}");
    }
}

/// An assignment to a slice as exporters write it; `change` numbers what is unlike one to all of it.
fn assigned(change: usize) -> Graph {
    let dims = [1usize, 3, 4];
    let mut b = GraphBuilder::new("scatter", 17);
    let x = b.input("x", Fact::known(Element::F32, &dims));
    let y = b.op("Sin", &[&x]);
    let shape = b.constant("shape", Constant::ints(&[1, 3, 4]));
    let axes = b.constant("axes", Constant::ints(&[-1]));
    let parts: Vec<String> = (0..3)
        .map(|axis| {
            let mut numbers: Vec<i64> = (0..i64::try_from(dims[axis]).unwrap()).collect();
            if change == 1 && axis == 2 {
                numbers.reverse();
            }
            let line: Vec<usize> = (0..3).map(|d| if d == axis { dims[axis] } else { 1 }).collect();
            let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
            let line = b.constant("line", Constant::new(Element::I64, line, compresso::model::Payload::Raw(bytes.into())).unwrap());
            let all = b.op("Expand", &[&line, &shape]);
            b.op("Unsqueeze", &[&all, &axes])
        })
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let indices = b.node(Node::new("Concat", "", parts, [""]).int("axis", -1));
    let node = Node::new("ScatterND", "", [x.as_str(), &indices, &y], [""]);
    let z = b.node(if change == 2 { node.attr("reduction", Attr::text("add")) } else { node });
    let last = b.op("Neg", &[&z]);
    b.output(&last);
    if change == 3 {
        b.output(&z);
    }
    b.finish().unwrap()
}

#[test]
fn an_assignment_to_all_is_what_is_assigned() {
    for change in 0..4 {
        let g = assigned(change);
        for passes in [&["eliminate_whole_scatter"][..], &["fold_constants", "eliminate_whole_scatter"]] {
            let (after, reports) = run(&g, passes).unwrap();
            assert_unchanged(&g, &after);
            assert_eq!(count(&after, "ScatterND"), usize::from(change != 0), "{change}");
            assert_eq!(reports.iter().any(|r| !r.refused.is_empty()), change == 3, "{change}");
        }
    }
}

#[test]
fn small_factors_are_multiplied_first() {
    // 0: a response normalization; 1: its product is read twice; 2: its factor is as large as the value; 3: another value is added.
    for case in 0..4 {
        let mut b = GraphBuilder::new("factors", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 3, 4, 5]));
        let norm = b.node(Node::new("ReduceL2", "", [x.as_str()], [""]).ints("axes", &[2, 3]));
        let norm = if case == 2 { b.op("Sin", &[&x]) } else { norm };
        let (scale, shift) = (constant(&mut b, "scale", &[1, 3, 1, 1], 0.5, 2.0), constant(&mut b, "shift", &[3, 1, 1], 0.5, 2.0));
        let product = b.op("Mul", &[&x, &norm]);
        let scaled = b.op("Mul", &[&scale, &product]);
        let shifted = b.op("Add", &[&shift, &scaled]);
        let other = b.op("Cos", &[&x]);
        let y = b.op("Add", &[if case == 3 { &other } else { &x }, &shifted]);
        let y = if case == 1 { b.op("Sub", &[&y, &product]) } else { y };
        b.output(&y);
        let g = b.finish().unwrap();
        let (after, _) = run(&g, &["join_factors"]).unwrap();
        assert_unchanged(&g, &after);
        let large = |g: &Graph| {
            let facts = g.facts().unwrap();
            g.nodes().iter().filter(|n| ["Mul", "Add"].contains(&n.op.as_str()) && facts[&n.outputs[0]].count() == Some(60)).count()
        };
        assert_eq!((large(&g), large(&after)), (4, [2, 4, 4, 3][case]), "{case}");
    }
}
