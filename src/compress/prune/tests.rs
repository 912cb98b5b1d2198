//! Each topology in a small net: intended channels can be pruned, and the pruned net equals the masked one.

use super::*;
use candle_core::{Device, Tensor};
use compresso_exec::{Run, run};
use compresso_model::{Constant, Dim, Element, Fact, Graph, GraphBuilder, Node, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A builder of nets with seeded weights.
struct Net {
    b: GraphBuilder,
    state: u64,
}

impl Net {
    fn new(opset: i64) -> Self {
        Self { b: GraphBuilder::new("net", opset), state: 1 }
    }
    fn random(&mut self) -> f32 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 40) as f32 / (1u64 << 24) as f32
    }
    fn weight(&mut self, name: &str, dims: &[usize]) -> String {
        let fan_in = dims[1..].iter().product::<usize>().max(1) as f32;
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| (self.random() * 2.0 - 1.0) / fan_in.sqrt()).collect();
        self.b.constant(name, Constant::floats(dims, &values).unwrap())
    }
    fn positive(&mut self, name: &str, n: usize) -> String {
        let values: Vec<f32> = (0..n).map(|_| 0.5 + self.random()).collect();
        self.b.constant(name, Constant::floats(&[n], &values).unwrap())
    }
    fn ints(&mut self, values: &[i64]) -> String {
        self.b.constant("ints", Constant::ints(values))
    }
    fn image(&mut self, c: usize, size: usize) -> String {
        self.b.input("x", Fact::known(Element::F32, &[1, c, size, size]))
    }
    /// A convolution that keeps the size, with bias.
    fn conv(&mut self, name: &str, x: &str, from: usize, to: usize, k: usize, groups: usize) -> String {
        let w = self.weight(&format!("{name}.weight"), &[to, from / groups, k, k]);
        let b = self.weight(&format!("{name}.bias"), &[to]);
        let pad = [k as i64 / 2; 4];
        self.b.node(Node::new("Conv", name, [x, &w, &b], [""]).int("group", groups as i64).ints("pads", &pad))
    }
    fn batch_norm(&mut self, name: &str, x: &str, c: usize) -> String {
        let scale = self.positive(&format!("{name}.weight"), c);
        let bias = self.weight(&format!("{name}.bias"), &[c]);
        let mean = self.weight(&format!("{name}.running_mean"), &[c]);
        let var = self.positive(&format!("{name}.running_var"), c);
        self.b.node(Node::new("BatchNormalization", name, [x, &scale, &bias, &mean, &var], [""]))
    }
    fn silu(&mut self, x: &str) -> String {
        let s = self.b.op("Sigmoid", &[x]);
        self.b.op("Mul", &[x, &s])
    }
    fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.b.op(op, inputs)
    }
    /// One more convolution to `out` channels, and the net ends.
    fn end(mut self, x: &str, c: usize) -> Model {
        let y = self.conv("last", x, c, 3, 1, 1);
        self.b.output(&y);
        self.model()
    }
    fn model(self) -> Model {
        Model::new(self.b.finish().unwrap(), Task::Unknown)
    }
}

fn feeds(graph: &Graph, seed: u64) -> HashMap<String, Value> {
    let mut net = Net::new(17);
    net.state = seed;
    let mut out = HashMap::new();
    for input in graph.feeds() {
        let dims: Vec<usize> = input.fact.shape.as_ref().unwrap().iter().map(|d| d.known().unwrap_or(2)).collect();
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| net.random()).collect();
        out.insert(input.name.clone(), Value::plain(Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap());
    }
    out
}

fn outputs(graph: &Graph, seed: u64) -> Vec<f32> {
    let made = run(graph, &feeds(graph, seed), Run::default()).unwrap();
    made.values().flat_map(|v| v.to_f32s().unwrap()).collect()
}

/// The channels of each group, by the name of its first layer.
fn group_sizes(model: &Model) -> Vec<(String, usize)> {
    groups(model.graph(), &[]).unwrap().0.into_iter().map(|g| (g.layers[0].clone(), g.channels)).collect()
}

fn half() -> Prune {
    Prune { ratio: 0.5, scope: Scope::Layer, align: 1, min_channels: 1, ..Prune::default() }
}

/// Prunes half of each group and shows, apart from the check within `apply`, that the result equals the masked graph
/// and that the mask changed something.
fn prove(model: &Model) -> Model {
    prove_with(model, &half())
}

fn prove_with(model: &Model, options: &Prune) -> Model {
    let pruned = options.apply(model, None, &Context::new()).unwrap();
    let found = Analysis::new(model.graph(), &head_values(model.task())).unwrap();
    let chosen = found.groups.chosen(&options.include, &options.exclude).unwrap();
    let scores = importance::scores(options.importance, &found, &chosen, &Context::new()).unwrap();
    let (all, weights) = select::axes(&found, &chosen);
    let removal = Removal::new(&found, select::select(options, &chosen, &scores, &all, &weights).unwrap());
    let masked = removal.masked().unwrap();
    same_inside(&found, &removal, &masked, pruned.graph());
    for seed in [5, 77] {
        let (before, expected, got) = (outputs(model.graph(), seed), outputs(&masked, seed), outputs(pruned.graph(), seed));
        let scale = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert_eq!(expected.len(), got.len());
        let worst = expected.iter().zip(&got).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= 1e-5 * scale, "differs by {worst} of {scale}");
        let moved = before.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(moved > 1e-4 * scale, "the mask changed nothing");
    }
    assert!(pruned.stats().unwrap().params < model.stats().unwrap().params);
    pruned
}

/// Every inner value of the pruned graph is that of the masked one without the removed indices.
fn same_inside(found: &Analysis, removal: &Removal<'_>, masked: &Graph, pruned: &Graph) {
    let made: Vec<&str> = pruned.nodes().iter().flat_map(|n| &n.outputs).map(String::as_str).collect();
    let floats = |n: &&str| found.facts.get(*n).is_some_and(|f| f.element.is_float() && f.constant.is_none());
    let wanted: Vec<&str> = made.into_iter().filter(floats).collect();
    let of = |g: &Graph| run(g, &feeds(g, 3), Run { wanted: &wanted, ..Run::default() }).unwrap();
    for ((name, m), p) in of(masked).iter().zip(of(pruned).values()) {
        let mut expected = m.tensor.clone();
        for (axis, labels) in found.labels.of(name).iter().enumerate() {
            let Some(labels) = labels else { continue };
            let keep: Vec<u32> = (0u32..).zip(labels.iter()).filter(|(_, a)| removal.stays(**a)).map(|(i, _)| i).collect();
            expected = expected.contiguous().unwrap().index_select(&Tensor::new(keep, &Device::Cpu).unwrap(), axis).unwrap();
        }
        assert_eq!(expected.dims(), p.dims(), "{name}");
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (e, g) = (flat(&expected), flat(&p.tensor));
        let scale = e.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        assert!(e.iter().zip(&g).all(|(a, b)| (a - b).abs() <= 1e-5 * scale), "{name} differs");
    }
}

fn dims<'a>(model: &'a Model, constant: &str) -> &'a [usize] {
    model.graph().constant(constant).unwrap_or_else(|| panic!("no constant {constant}")).dims()
}

fn attr_int(model: &Model, node: &str, name: &str) -> i64 {
    let g = model.graph();
    g.nodes()[g.find(node).unwrap()].get_int(name, -99).unwrap()
}

#[test]
fn chain_with_batch_norm() {
    let mut n = Net::new(17);
    let x = n.image(3, 8);
    let y = n.conv("a", &x, 3, 8, 3, 1);
    let y = n.batch_norm("bn", &y, 8);
    let y = n.silu(&y);
    let y = n.conv("b", &y, 8, 6, 3, 1);
    let y = n.op("Sigmoid", &[&y]);
    let m = n.end(&y, 6);
    assert_eq!(group_sizes(&m), [("a".into(), 8), ("b".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "a.weight"), [4, 3, 3, 3]);
    assert_eq!(dims(&p, "bn.running_var"), [4]);
    assert_eq!(dims(&p, "b.weight"), [3, 4, 3, 3]);
    assert_eq!(dims(&p, "last.weight"), [3, 3, 1, 1], "the outputs stay");
}

#[test]
fn residual_additions_join_their_layers() {
    let mut n = Net::new(17);
    let x = n.image(3, 8);
    let stem = n.conv("stem", &x, 3, 8, 3, 1);
    let stem = n.op("Relu", &[&stem]);
    let y = n.conv("a", &stem, 8, 10, 3, 1);
    let y = n.op("Relu", &[&y]);
    let y = n.conv("b", &y, 10, 8, 3, 1);
    let y = n.op("Add", &[&y, &stem]);
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 8);
    let found = groups(m.graph(), &[]).unwrap();
    assert_eq!(found.0[0].layers, ["stem", "b"]);
    assert_eq!(group_sizes(&m), [("stem".into(), 8), ("a".into(), 10)]);
    let p = prove(&m);
    assert_eq!((dims(&p, "stem.weight")[0], dims(&p, "b.weight")[0], dims(&p, "last.weight")[1]), (4, 4, 4));
}

#[test]
fn concat_keeps_groups_apart() {
    let mut n = Net::new(17);
    let x = n.image(3, 8);
    let a = n.conv("a", &x, 3, 4, 3, 1);
    let b = n.conv("b", &x, 3, 6, 1, 1);
    let y = n.b.node(Node::new("Concat", "", [&a, &x, &b], [""]).int("axis", -3));
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 13);
    assert_eq!(group_sizes(&m), [("a".into(), 4), ("b".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "last.weight"), [3, 2 + 3 + 3, 1, 1]);
}

/// A C2f block: split, bottleneck on one half, concat of all.
#[test]
fn split_halves_are_groups_of_their_own() {
    for (opset, with_input) in [(17, true), (17, false), (18, false), (11, false)] {
        let mut n = Net::new(opset);
        let x = n.image(3, 8);
        let y = n.conv("cv1", &x, 3, 16, 1, 1);
        let y = n.silu(&y);
        let mut split = Node::new("Split", "split", [&y], ["left", "right"]).int("axis", 1);
        if with_input {
            split.inputs.push(n.ints(&[8, 8]));
        } else if opset == 18 {
            split = split.int("num_outputs", 2);
        }
        n.b.node(split);
        let inner = n.conv("m", "right", 8, 8, 3, 1);
        let inner = n.op("Relu", &[&inner]);
        let sum = n.op("Add", &[&inner, "right"]);
        let y = n.b.node(Node::new("Concat", "", ["left", "right", &sum], [""]).int("axis", 1));
        let m = n.end(&y, 24);
        assert_eq!(group_sizes(&m), [("cv1".into(), 8), ("cv1".into(), 8)]);
        let options = Prune { ratio: 0.4, scope: Scope::Global, ..half() };
        let p = prove_with(&m, &options);
        let kept = dims(&p, "cv1.weight")[0];
        assert_eq!(kept, 16 - 6);
        assert_eq!(dims(&p, "last.weight")[1], kept + dims(&p, "m.weight")[0]);
    }
}

fn shuffle(n: &mut Net, x: &str, c: usize, g: usize, size: usize) -> String {
    let target = n.ints(&[1, g as i64, (c / g) as i64, size as i64, size as i64]);
    let y = n.op("Reshape", &[x, &target]);
    let y = n.b.node(Node::new("Transpose", "", [&y], [""]).ints("perm", &[0, 2, 1, 3, 4]));
    let back = n.ints(&[1, -1, size as i64, size as i64]);
    n.op("Reshape", &[&y, &back])
}

#[test]
fn channel_shuffle_keeps_its_groups_equal() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 12, 1, 1);
    let y = shuffle(&mut n, &y, 12, 2, 4);
    let y = n.conv("dw", &y, 12, 12, 3, 12);
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 12);
    assert_eq!(group_sizes(&m), [("a".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "a.weight")[0], 6);
    assert_eq!(dims(&p, "dw.weight"), [6, 1, 3, 3]);
    assert_eq!(attr_int(&p, "dw", "group"), 6);
}

#[test]
fn shuffle_between_grouped_convolutions() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 16, 1, 1);
    let y = n.conv("g1", &y, 16, 24, 1, 4);
    let y = n.op("Relu", &[&y]);
    let y = shuffle(&mut n, &y, 24, 4, 4);
    let y = n.conv("dw", &y, 24, 24, 3, 24);
    let m = n.end(&y, 24);
    assert_eq!(group_sizes(&m), [("a".into(), 4), ("g1".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "g1.weight"), [12, 2, 1, 1]);
    assert_eq!(attr_int(&p, "g1", "group"), 4);
    assert_eq!(attr_int(&p, "dw", "group"), 12);
}

#[test]
fn depthwise_with_a_multiplier_loses_whole_groups() {
    let mut n = Net::new(17);
    let x = n.image(3, 6);
    let y = n.conv("a", &x, 3, 6, 1, 1);
    let y = n.conv("dw", &y, 6, 12, 3, 6);
    let y = n.op("HardSwish", &[&y]);
    let m = n.end(&y, 12);
    assert_eq!(group_sizes(&m), [("a".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "dw.weight"), [6, 1, 3, 3]);
    assert_eq!(attr_int(&p, "dw", "group"), 3);
    assert_eq!(dims(&p, "last.weight")[1], 6);
}

#[test]
fn transposed_convolutions() {
    for groups in [1usize, 2, 8] {
        let mut n = Net::new(17);
        let x = n.image(3, 4);
        let y = n.conv("a", &x, 3, 8, 1, 1);
        let out = if groups == 8 { 1 } else { 4 };
        let w = n.weight("up.weight", &[8, out, 2, 2]);
        let bias = n.weight("up.bias", &[out * groups]);
        let y = n.b.node(Node::new("ConvTranspose", "up", [&y, &w, &bias], [""]).int("group", groups as i64).ints("strides", &[2, 2]));
        let y = n.op("Relu", &[&y]);
        let m = n.end(&y, out * groups);
        let expected: Vec<(String, usize)> = match groups {
            1 => vec![("a".into(), 8), ("up".into(), 4)],
            2 => vec![("a".into(), 4), ("up".into(), 4)],
            _ => vec![("a".into(), 8)],
        };
        assert_eq!(group_sizes(&m), expected);
        let p = prove(&m);
        assert_eq!(dims(&p, "a.weight")[0], 4);
        assert_eq!(dims(&p, "up.bias")[0], out * groups / 2);
        assert_eq!(attr_int(&p, "up", "group"), if groups == 8 { 4 } else { groups as i64 });
    }
}

#[test]
fn flatten_spreads_a_channel_over_its_positions() {
    for symbolic in [false, true] {
        let mut n = Net::new(17);
        let batch = if symbolic { Dim::symbol("batch") } else { Dim::Known(1) };
        let x = n.b.input("x", Fact::new(Element::F32, vec![batch, Dim::Known(3), Dim::Known(4), Dim::Known(4)]));
        let y = n.conv("a", &x, 3, 8, 3, 1);
        let y = n.op("Relu", &[&y]);
        let y = n.b.node(Node::new("MaxPool", "", [&y], [""]).ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]));
        let y = n.b.node(Node::new("Flatten", "", [&y], [""]));
        let (w, b) = (n.weight("fc.weight", &[10, 8 * 4]), n.weight("fc.bias", &[10]));
        let y = n.b.node(Node::new("Gemm", "fc", [&y, &w, &b], [""]).int("transB", 1));
        let y = n.op("Relu", &[&y]);
        let w = n.weight("out.weight", &[10, 5]);
        let y = n.b.node(Node::new("MatMul", "out", [&y, &w], [""]));
        n.b.output(&y);
        let m = n.model();
        assert_eq!(group_sizes(&m), [("a".into(), 8), ("fc".into(), 10)]);
        let p = prove(&m);
        assert_eq!(dims(&p, "fc.weight"), [5, 16]);
        assert_eq!(dims(&p, "out.weight"), [5, 5]);
    }
}

#[test]
fn squeeze_and_excite() {
    for conv in [true, false] {
        let mut n = Net::new(17);
        let x = n.image(3, 6);
        let y = n.conv("a", &x, 3, 8, 3, 1);
        let y = n.op("Relu", &[&y]);
        let s = n.op("GlobalAveragePool", &[&y]);
        let s = if conv {
            let s = n.conv("down", &s, 8, 4, 1, 1);
            let s = n.op("Relu", &[&s]);
            n.conv("up", &s, 4, 8, 1, 1)
        } else {
            let s = n.b.node(Node::new("Flatten", "", [&s], [""]));
            let w = n.weight("down.weight", &[8, 4]);
            let s = n.b.node(Node::new("MatMul", "down", [&s, &w], [""]));
            let s = n.op("Relu", &[&s]);
            let w = n.weight("up.weight", &[4, 8]);
            let s = n.b.node(Node::new("MatMul", "up", [&s, &w], [""]));
            let target = n.ints(&[1, 8, 1, 1]);
            let s = n.op("Reshape", &[&s, &target]);
            let full = n.ints(&[1, 8, 6, 6]);
            n.op("Expand", &[&s, &full])
        };
        let s = n.op("HardSigmoid", &[&s]);
        let y = n.op("Mul", &[&y, &s]);
        let m = n.end(&y, 8);
        let found = groups(m.graph(), &[]).unwrap();
        assert_eq!(found.0[0].layers, ["a", "up"]);
        assert_eq!(group_sizes(&m), [("a".into(), 8), ("down".into(), 4)]);
        let p = prove(&m);
        assert_eq!(dims(&p, "down.weight"), if conv { vec![2, 4, 1, 1] } else { vec![4, 2] });
    }
}

/// YOLO11's attention: one convolution makes queries, keys and values of several heads.
#[test]
fn attention_prunes_inner_sizes_of_heads() {
    let (heads, key, value, size) = (2usize, 4usize, 8usize, 3usize);
    let mut n = Net::new(17);
    let x = n.image(3, size);
    let y = n.conv("a", &x, 3, heads * value, 1, 1);
    let each = key * 2 + value;
    let qkv = n.conv("qkv", &y, heads * value, heads * each, 1, 1);
    let tokens = (size * size) as i64;
    let target = n.ints(&[1, heads as i64, each as i64, tokens]);
    let qkv = n.op("Reshape", &[&qkv, &target]);
    let sizes = n.ints(&[key as i64, key as i64, value as i64]);
    n.b.node(Node::new("Split", "split", [&qkv, &sizes], ["q", "k", "v"]).int("axis", 2));
    let q = n.b.node(Node::new("Transpose", "", ["q"], [""]).ints("perm", &[0, 1, 3, 2]));
    let s = n.op("MatMul", &[&q, "k"]);
    let scale = n.b.constant("scale", Constant::scalar(0.5));
    let s = n.op("Mul", &[&s, &scale]);
    let s = n.b.node(Node::new("Softmax", "", [&s], [""]).int("axis", -1));
    let s = n.b.node(Node::new("Transpose", "", [&s], [""]).ints("perm", &[0, 1, 3, 2]));
    let y = n.op("MatMul", &["v", &s]);
    let image = n.ints(&[1, (heads * value) as i64, size as i64, size as i64]);
    let y = n.op("Reshape", &[&y, &image]);
    let v = n.op("Reshape", &["v", &image]);
    let pe = n.conv("pe", &v, heads * value, heads * value, 3, heads * value);
    let y = n.op("Add", &[&y, &pe]);
    let m = n.end(&y, heads * value);
    assert_eq!(group_sizes(&m), [("a".into(), 16), ("qkv".into(), 4), ("qkv".into(), 8)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "qkv.weight"), [heads * each / 2, 8, 1, 1]);
    assert_eq!(attr_int(&p, "pe", "group"), 8);
    assert_eq!(dims(&p, "last.weight")[1], 8);
}

/// Keys after a sigmoid are not zero where they are masked, so the sum over them cannot leave them out.
#[test]
fn products_of_values_that_masking_leaves_alone_are_fixed() {
    let mut n = Net::new(17);
    let x = n.image(3, 3);
    let q = n.conv("q", &x, 3, 4, 1, 1);
    let k = n.conv("k", &x, 3, 4, 1, 1);
    let (q, k) = (n.op("Sigmoid", &[&q]), n.op("Sigmoid", &[&k]));
    let flat = n.ints(&[1, 4, 9]);
    let (q, k) = (n.op("Reshape", &[&q, &flat]), n.op("Reshape", &[&k, &flat]));
    let q = n.b.node(Node::new("Transpose", "", [&q], [""]).ints("perm", &[0, 2, 1]));
    let y = n.op("MatMul", &[&q, &k]);
    n.b.output(&y);
    let m = n.model();
    assert_eq!(group_sizes(&m), []);
    let e = half().apply(&m, None, &Context::new()).unwrap_err();
    assert_eq!(e.kind(), compresso_base::ErrorKind::Unsupported);
}

#[test]
fn operators_that_look_across_channels_fix_them() {
    for op in ["Softmax", "ReduceMean", "LRN", "ArgMax", "LpNormalization", "ReduceMax"] {
        let mut n = Net::new(17);
        let x = n.image(3, 4);
        let y = n.conv("a", &x, 3, 8, 1, 1);
        let node = Node::new(op, "", [&y], [""]);
        let y = n.b.node(match op {
            "ReduceMean" | "ReduceMax" => node.ints("axes", &[1]),
            "LRN" => node.int("size", 3),
            _ => node.int("axis", 1),
        });
        n.b.output(&y);
        assert_eq!(group_sizes(&n.model()), [], "{op}");
    }
}

#[test]
fn slices_and_gathers_follow() {
    for opset in [9, 17] {
        let mut n = Net::new(opset);
        let x = n.image(3, 4);
        let y = n.conv("a", &x, 3, 10, 1, 1);
        let y = n.op("Relu", &[&y]);
        let slice = |n: &mut Net, y: &str, from: i64, to: i64| {
            if opset < 10 {
                return n.b.node(Node::new("Slice", "", [y], [""]).ints("axes", &[1]).ints("starts", &[from]).ints("ends", &[to]));
            }
            let (s, e, a, step) = (n.ints(&[from]), n.ints(&[to]), n.ints(&[1]), n.ints(&[1]));
            n.op("Slice", &[y, &s, &e, &a, &step])
        };
        let left = slice(&mut n, &y, 0, -6);
        let right = slice(&mut n, &y, 4, i64::MAX);
        let right = n.conv("b", &right, 6, 4, 3, 1);
        let order = n.ints(&[3, 0, 2, 1]);
        let left = n.b.node(Node::new("Gather", "", [&left, &order], [""]).int("axis", 1));
        let y = n.op("Add", &[&left, &right]);
        let m = n.end(&y, 4);
        assert_eq!(group_sizes(&m), [("a".into(), 4), ("a".into(), 6)], "opset {opset}");
        let p = prove(&m);
        assert_eq!((dims(&p, "a.weight")[0], dims(&p, "b.weight")[1], dims(&p, "last.weight")[1]), (5, 3, 2));
    }
}

/// Targets computed from the shape at run time are replaced by what is known, open sizes stay open.
#[test]
fn reshapes_computed_from_a_symbolic_batch() {
    let mut n = Net::new(17);
    let x = n.b.input("x", Fact::new(Element::F32, vec![Dim::symbol("batch"), Dim::Known(3), Dim::Known(4), Dim::Known(4)]));
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let shape = n.op("Shape", &[&y]);
    let zero = n.ints(&[0]);
    let batch = n.b.node(Node::new("Gather", "", [&shape, &zero], [""]).int("axis", 0));
    let rest = n.ints(&[2, 4, 16]);
    let target = n.b.node(Node::new("Concat", "", [&batch, &rest], [""]).int("axis", 0));
    let y = n.op("Reshape", &[&y, &target]);
    let y = n.op("Relu", &[&y]);
    let whole = n.op("Reshape", &[&y, &shape]);
    let m = n.end(&whole, 8);
    assert_eq!(group_sizes(&m), [("a".into(), 4)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "a.weight")[0], 4);
}

/// A scale that a file computes from a channel count keeps its value.
#[test]
fn numbers_computed_from_a_shape_keep_their_values() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let shape = n.op("Shape", &[&y]);
    let one = n.ints(&[1]);
    let c = n.b.node(Node::new("Gather", "", [&shape, &one], [""]).int("axis", 0));
    let c = n.b.node(Node::new("Cast", "", [&c], [""]).int("to", 1));
    let c = n.op("Sqrt", &[&c]);
    let y = n.op("Div", &[&y, &c]);
    let m = n.end(&y, 8);
    prove(&m);
}

#[test]
fn constants_in_arithmetic_go_along_and_divisors_stay_finite() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let values: Vec<f32> = (0..8).map(|i| 1.0 + i as f32).collect();
    let d = n.b.constant("divisor", Constant::floats(&[1, 8, 1, 1], &values).unwrap());
    let s = n.b.constant("slope", Constant::floats(&[8, 1, 1], &values).unwrap());
    let y = n.op("Div", &[&y, &d]);
    let y = n.op("PRelu", &[&y, &s]);
    let y = n.op("Sub", &[&y, &s]);
    let m = n.end(&y, 8);
    let p = prove(&m);
    assert_eq!(dims(&p, "divisor"), [1, 4, 1, 1]);
    assert_eq!(dims(&p, "slope"), [4, 1, 1]);
}

#[test]
fn padding_resizing_instance_norm_and_pools() {
    let mut n = Net::new(17);
    let x = n.image(3, 6);
    let y = n.conv("a", &x, 3, 6, 3, 1);
    let (s, b) = (n.positive("in.scale", 6), n.weight("in.bias", &[6]));
    let y = n.op("InstanceNormalization", &[&y, &s, &b]);
    let pads = n.ints(&[0, 0, 1, 1, 0, 2, 1, 1]);
    let y = n.op("Pad", &[&y, &pads]);
    let y = n.b.node(Node::new("AveragePool", "", [&y], [""]).ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]));
    let sizes = n.ints(&[1, 8, 8, 8]);
    let y = n.b.node(Node::new("Resize", "", [&y, "", "", &sizes], [""]).attr("mode", compresso_model::Attr::text("nearest")));
    let m = n.end(&y, 8);
    assert_eq!(group_sizes(&m), [("a".into(), 6)]);
    let p = prove(&m);
    assert_eq!(dims(&p, "last.weight")[1], 3 + 2, "padded channels stay");
}

#[test]
fn depth_to_space_keeps_blocks_whole() {
    for mode in ["DCR", "CRD"] {
        let mut n = Net::new(17);
        let x = n.image(3, 4);
        let y = n.conv("a", &x, 3, 24, 1, 1);
        let y = n.b.node(Node::new("DepthToSpace", "", [&y], [""]).int("blocksize", 2).attr("mode", compresso_model::Attr::text(mode)));
        let y = n.op("Relu", &[&y]);
        let y = n.b.node(Node::new("SpaceToDepth", "", [&y], [""]).int("blocksize", 2));
        let m = n.end(&y, 24);
        assert_eq!(group_sizes(&m), [("a".into(), 6)]);
        assert_eq!(dims(&prove(&m), "a.weight")[0], 12);
    }
}

/// Two batch norms that share one vector in the file do not have to lose the same channels.
#[test]
fn vectors_shared_by_two_layers_are_split() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let shared = n.positive("shared", 6);
    let mut y = x;
    for (name, from) in [("a", 3), ("b", 6)] {
        y = n.conv(name, &y, from, 6, 1, 1);
        let bias = n.weight(&format!("{name}.shift"), &[6]);
        let mean = n.weight(&format!("{name}.mean"), &[6]);
        y = n.op("BatchNormalization", &[&y, &shared, &bias, &mean, &shared]);
        y = n.op("Relu", &[&y]);
    }
    let m = n.end(&y, 6);
    assert_eq!(group_sizes(&m), [("a".into(), 6), ("b".into(), 6)]);
    let p = prove_with(&m, &Prune { include: vec!["a".into()], ..half() });
    assert_eq!(dims(&p, "b.weight"), [6, 3, 1, 1]);
    let options = Prune { include: vec!["last".into()], ..half() };
    let e = options.apply(&m, None, &Context::new()).unwrap_err();
    assert!(e.to_string().contains("'last' matches no layer"), "{e}");
}

#[test]
fn weights_shared_by_two_layers_are_pruned_once() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let a = n.conv("a", &x, 3, 6, 1, 1);
    let b = n.conv("b", &x, 3, 6, 1, 1);
    let w = n.weight("head.weight", &[4, 6, 1, 1]);
    let (a, b) = (n.op("Conv", &[&a, &w]), n.op("Conv", &[&b, &w]));
    let y = n.b.node(Node::new("Concat", "", [&a, &b], [""]).int("axis", 2));
    let m = n.end(&y, 4);
    let found = groups(m.graph(), &[]).unwrap();
    assert_eq!(found.0[0].layers, ["a", "b"]);
    assert_eq!(dims(&prove(&m), "head.weight"), [2, 3, 1, 1]);
}

#[test]
fn declared_types_follow() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 8);
    let p = prove(&m);
    let facts = compresso_model::infer(p.graph()).unwrap();
    assert_eq!(facts["a_output_0"].dims().unwrap(), [1, 4, 4, 4]);
}

#[test]
fn a_wrong_pruning_does_not_pass() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 8);
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let atoms = &found.groups.0[0].atoms;
    let (one, other) = (Removal::new(&found, [atoms[0]]), Removal::new(&found, [atoms[1]]));
    let check =
        |a: &Removal<'_>, b: &Removal<'_>| verify::equal(&a.masked().unwrap(), &b.pruned().unwrap(), m.task(), None, &Context::new());
    check(&one, &one).unwrap();
    let e = check(&one, &other).unwrap_err();
    assert_eq!(e.kind(), compresso_base::ErrorKind::Check);
    assert!(e.to_string().contains("the pruned model does not equal the masked one"), "{e}");
}

/// Collects what an operation says.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);
impl compresso_base::context::ProgressSink for Notes {
    fn start(&self, _: u64, _: &str, _: u64) {}
    fn update(&self, _: u64, _: u64, _: &str) {}
    fn finish(&self, _: u64) {}
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_string());
    }
}

fn two_layers() -> Model {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 16, 1, 1);
    let y = n.batch_norm("bn", &y, 16);
    let y = n.op("Relu", &[&y]);
    let y = n.conv("b", &y, 16, 16, 1, 1);
    let y = n.op("Relu", &[&y]);
    n.end(&y, 16)
}

#[test]
fn bad_options_say_what_is_wrong() {
    let m = two_layers();
    let ctx = Context::new();
    for ratio in [1.0, -0.1, f64::NAN, f64::INFINITY] {
        let e = Prune { ratio, ..half() }.apply(&m, None, &ctx).unwrap_err();
        assert!(e.to_string().starts_with("option 'ratio' must be at least 0 and below 1"), "{e}");
    }
    let e = Prune { align: 0, ..half() }.apply(&m, None, &ctx).unwrap_err();
    assert!(e.to_string().contains("'align'"), "{e}");
    let e = Prune { exclude: vec!["bb".into()], ..half() }.apply(&m, None, &ctx).unwrap_err();
    assert!(e.to_string().contains("option 'exclude': 'bb' matches no layer"), "{e}");
    let e = Prune { ratio: 0.99, min_channels: 0, ..half() }.apply(&m, None, &ctx).unwrap_err();
    assert!(e.to_string().contains("would leave layer 'a' without channels"), "{e}");
}

#[test]
fn no_ops_say_why_and_results_say_what() {
    let notes = Arc::new(Notes::default());
    let ctx = Context::new().with_progress(notes.clone());
    let m = two_layers();
    let same = Prune { ratio: 0.0, ..half() }.apply(&m, None, &ctx).unwrap();
    assert_eq!(same.steps().len(), 0);
    Prune { ratio: 0.3, min_channels: 16, ..half() }.apply(&m, None, &ctx).unwrap();
    let p = Prune { exclude: vec!["b".into()], ..half() }.apply(&m, None, &ctx).unwrap();
    assert_eq!(dims(&p, "b.weight"), [16, 8, 1, 1]);
    assert_eq!(p.steps()[0].operation, "prune");
    assert_eq!(p.steps()[0].options["exclude"], serde_json::json!(["b"]));
    assert!(!p.steps()[0].options.contains_key("ratio"), "0.5 is the default");
    let lines = notes.0.lock().unwrap().clone();
    assert!(lines[0].contains("ratio is 0"), "{lines:?}");
    assert!(lines[1].contains("nothing removed"), "{lines:?}");
    assert!(lines[2].starts_with("prune: ") && lines[2].contains("params"), "{lines:?}");
    let report = prune_report(&m, &p).unwrap();
    let a = &report.layers[0];
    assert_eq!((a.layer.as_str(), a.channels_before, a.channels_after), ("a", 16, 8));
    assert!(report.macs_after < report.macs_before);
}

#[test]
fn quantized_models_are_refused() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let scale = n.b.constant("scale", Constant::scalar(0.1));
    let zero = n.b.constant("zero", Constant::new(Element::I8, vec![], compresso_model::Payload::Int32s(vec![0])).unwrap());
    let q = n.op("QuantizeLinear", &[&x, &scale, &zero]);
    let y = n.op("DequantizeLinear", &[&q, &scale, &zero]);
    let m = n.end(&y, 3);
    let e = half().apply(&m, None, &Context::new()).unwrap_err();
    assert!(e.to_string().contains("quantized already"), "{e}");
    assert_eq!(e.suggestion(), Some("prune first, then quantize"));
}

/// The order of channels by each criterion, on weights made for it.
#[test]
fn criteria_rank_channels() {
    let mut n = Net::new(17);
    let x = n.image(1, 2);
    // Channel: two weights. L1: 5, 4, 6, 1. L2: 5, 2.83, 4.24, 1.
    let w = n.b.constant("a.weight", Constant::floats(&[4, 1, 1, 2], &[5., 0., 2., -2., 3., -3., 1., 0.]).unwrap());
    let y = n.b.node(Node::new("Conv", "a", [&x, &w], [""]).ints("pads", &[0, 0, 0, 1]));
    let gamma = n.b.constant("gamma", Constant::floats(&[4], &[0.1, -4.0, 0.2, 0.3]).unwrap());
    let (bias, mean) = (n.weight("bias", &[4]), n.weight("mean", &[4]));
    let var = n.b.constant("var", Constant::floats(&[4], &[1.0, 16.0, 0.04, 0.01]).unwrap());
    let y = n.b.node(Node::new("BatchNormalization", "", [&y, &gamma, &bias, &mean, &var], [""]));
    let y = n.op("Relu", &[&y]);
    let m = n.end(&y, 4);
    let found = Analysis::new(m.graph(), &[]).unwrap();
    let chosen = found.groups.chosen(&[], &[]).unwrap();
    let order = |kind| {
        let s = importance::scores(kind, &found, &chosen, &Context::new()).unwrap().remove(0);
        let mut order: Vec<usize> = (0..4).collect();
        order.sort_by(|&a, &b| s[a].total_cmp(&s[b]));
        (order, s)
    };
    // |gamma| / sqrt(var): 0.1, 1, 1, 3.
    assert_eq!(order(Importance::L1).0, [0, 3, 1, 2]);
    assert_eq!(order(Importance::L2).0, [0, 1, 3, 2]);
    let (by_gamma, s) = order(Importance::BatchNorm);
    assert_eq!(by_gamma, [0, 2, 3, 1]);
    assert!((s.iter().sum::<f64>() - 4.0).abs() < 1e-6, "scores are shares of their mean");
}

#[test]
fn batch_norm_importance_needs_batch_norms() {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 8, 1, 1);
    let m = n.end(&y, 8);
    let e = Prune { importance: Importance::BatchNorm, ..half() }.apply(&m, None, &Context::new()).unwrap_err();
    assert_eq!(e.suggestion(), Some("use importance: \"l2\""));
}

/// Threshold by `torch.quantile(torch.cat([w.abs().flatten() for w in weights]), 0.4)`: for |w| = 1..10 it is 4.6.
#[test]
fn weights_below_the_quantile_become_zero() {
    let mut n = Net::new(17);
    let x = n.b.input("x", Fact::known(Element::F32, &[1, 2]));
    let w = n.b.constant("fc1.weight", Constant::floats(&[2, 3], &[1., -2., 3., -4., 5., -6.]).unwrap());
    let y = n.b.node(Node::new("MatMul", "fc1", [&x, &w], [""]));
    let w = n.b.constant("fc2.weight", Constant::floats(&[3, 1], &[7., 8., 9.]).unwrap());
    let y = n.b.node(Node::new("MatMul", "fc2", [&y, &w], [""]));
    let w = n.b.constant("fc3.weight", Constant::floats(&[1, 1], &[10.]).unwrap());
    let y = n.b.node(Node::new("MatMul", "fc3", [&y, &w], [""]));
    n.b.output(&y);
    let m = n.model();
    let ctx = Context::new();
    let prune = |options: Prune| options.apply(&m, None, &ctx).unwrap();
    let base = Prune { method: Method::Weights, ratio: 0.4, ..Prune::default() };
    let values = |m: &Model, name: &str| m.graph().constant(name).unwrap().to_f32s().unwrap();
    let p = prune(base.clone());
    assert_eq!(values(&p, "fc1.weight"), [0., 0., 0., 0., 5., -6.]);
    assert_eq!(values(&p, "fc2.weight"), [7., 8., 9.]);
    assert_eq!(p.graph().metadata()[compresso_learn::train::MASKS_KEY], r#"["fc1.weight","fc2.weight","fc3.weight"]"#);
    assert_eq!(p.steps()[0].options["method"], "weights");
    let p = prune(Prune { scope: Scope::Layer, exclude: vec!["fc1".into(), "fc3".into()], ..base });
    assert_eq!(values(&p, "fc1.weight"), [1., -2., 3., -4., 5., -6.]);
    assert_eq!(values(&p, "fc2.weight"), [0., 8., 9.], "the quantile of 7, 8, 9 at 0.4 is 7.8");
}

#[test]
fn patterns_match_whole_parts() {
    use super::groups::matches;
    for (pattern, name, hit) in [
        ("model.2", "model.2.cv1.conv.weight", true),
        ("model.2", "model.22.cv1.conv.weight", false),
        ("model.2", "/model.2/cv1/conv/Conv", true),
        ("cv1", "/model.2/cv1/conv/Conv", true),
        ("model.2*", "model.22.cv1", true),
        ("m*l.*.cv1", "model.22.cv1", true),
        ("conv", "cv1", false),
        ("", "x", false),
    ] {
        assert_eq!(matches(pattern, name), hit, "{pattern} {name}");
    }
}

mod random_nets {
    use super::*;
    use proptest::prelude::*;

    /// Builds a net from a list of choices: each adds one piece on top of what is there.
    fn build(choices: &[u8]) -> Model {
        let mut n = Net::new(17);
        let x = n.image(3, 4);
        let mut live = vec![(n.conv("stem", &x, 3, 8, 1, 1), 8usize)];
        for (i, &c) in choices.iter().enumerate() {
            let (x, width) = live[(c as usize / 16) % live.len()].clone();
            let name = format!("l{i}");
            let made = match c % 10 {
                0 | 1 => {
                    let y = n.conv(&name, &x, width, 8, 3, 1);
                    (n.op("Relu", &[&y]), 8)
                }
                2 => (n.silu(&x), width),
                3 => (n.conv(&name, &x, width, width, 3, width), width),
                4 => {
                    let y = n.conv(&name, &x, width, width, 1, 1);
                    (n.op("Add", &[&y, &x]), width)
                }
                5 => {
                    let (other, w) = live[c as usize % live.len()].clone();
                    (n.b.node(Node::new("Concat", "", [&x, &other], [""]).int("axis", 1)), width + w)
                }
                6 if width % 2 == 0 => {
                    let names = [format!("{name}a"), format!("{name}b")];
                    n.b.node(Node::new("Split", "", [&x], names.clone()).int("axis", 1));
                    live.push((names[0].clone(), width / 2));
                    (names[1].clone(), width / 2)
                }
                7 if width % 2 == 0 => (shuffle(&mut n, &x, width, 2, 4), width),
                8 if width % 4 == 0 => (n.conv(&name, &x, width, width, 1, 4), width),
                _ => {
                    let g = n.op("GlobalAveragePool", &[&x]);
                    let g = n.conv(&name, &g, width, width, 1, 1);
                    let g = n.op("Sigmoid", &[&g]);
                    (n.op("Mul", &[&x, &g]), width)
                }
            };
            live.push(made);
        }
        // All that is there ends in the output, so that nothing is idle.
        let names: Vec<&str> = live.iter().map(|(v, _)| v.as_str()).collect();
        let total = live.iter().map(|(_, w)| w).sum();
        let y = n.b.node(Node::new("Concat", "", names, [""]).int("axis", 1));
        n.end(&y, total)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
        /// Whatever the net and the ratio, pruning gives the masked outputs (checked by `apply`) and a smaller model.
        #[test]
        fn any_net_prunes_to_what_masking_gives(
            choices in prop::collection::vec(any::<u8>(), 0..9),
            ratio in 0.05f64..0.95,
            global in any::<bool>(),
            align in 1usize..4,
        ) {
            let m = build(&choices);
            let scope = if global { Scope::Global } else { Scope::Layer };
            let options = Prune { ratio, scope, align, min_channels: 1, ..Prune::default() };
            let p = options.apply(&m, None, &Context::new()).unwrap();
            let changed = !p.steps().is_empty();
            prop_assert_eq!(changed, p.stats().unwrap().params < m.stats().unwrap().params);
            // A pruned model can be pruned again, unless single channels are all that is left.
            match options.apply(&p, None, &Context::new()) {
                Ok(again) => prop_assert!(again.stats().unwrap().params <= p.stats().unwrap().params),
                Err(e) => prop_assert!(e.to_string().contains("no channels of this model can be removed"), "{}", e),
            }
        }
    }
}
