//! Layers whose scales are measured while a model runs, operators on quantized numbers, and whatever reads a part of a tensor: the
//! planned executor against the eager one, and both against onnxruntime.

mod common;

use candle_core::{Device, Tensor};
use compresso::compress::quantize::weights::sqnr;
use compresso::compress::quantize::{Quantize, QuantizeMode};
use compresso::context::Context;
use compresso::exec::{self, Engine, Outputs, Run};
use compresso::learn::data::{DataOptions, dataset};
use compresso::learn::eval::Evaluate;
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::graph::{Graph, GraphBuilder};
use compresso::model::passes::pipelines;
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Constant, Dim, Element, Fact, Model, Node, Payload, Value};
use compresso::operation::Operation;
use std::collections::HashMap;
use std::path::Path;

/// Choices from a seed.
struct Draw(compresso_test_support::Draw);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(compresso_test_support::Draw(seed))
    }
    fn bits(&mut self) -> u64 {
        self.0.bits() >> 33
    }
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.bits()).unwrap() % n
    }
    fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.below(2001) as f32 / 1000.0 - 1.0).collect()
    }
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

/// A random graph of images: each value has a name and `[channels, height, width]`.
struct Random {
    b: GraphBuilder,
    draw: Draw,
    values: Vec<(String, [usize; 3])>,
    /// Outputs that are no images of floats.
    others: Vec<String>,
    count: usize,
}

impl Random {
    fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let size = [2 + draw.below(7), 3 + draw.below(4), 2 + draw.below(4)];
        let mut b = GraphBuilder::new("random", 17);
        let shape = [Dim::symbol("n")].into_iter().chain(size.map(Dim::Known)).collect();
        b.input("x", Fact::new(Element::F32, shape));
        Self { b, draw, values: vec![("x".into(), size)], others: Vec::new(), count: 0 }
    }
    fn constant(&mut self, c: Constant) -> String {
        self.count += 1;
        self.b.constant(&format!("c{}", self.count), c)
    }
    fn floats(&mut self, dims: &[usize], scale: f32) -> String {
        let v: Vec<f32> = self.draw.floats(dims.iter().product()).iter().map(|v| v * scale).collect();
        self.constant(Constant::floats(dims, &v).unwrap())
    }
    fn integers(&mut self, element: Element, dims: &[usize]) -> String {
        let bytes = self.draw.bytes(dims.iter().product());
        self.constant(Constant::new(element, dims.to_vec(), Payload::Raw(bytes.into())).unwrap())
    }
    fn op(&mut self, op: &str, inputs: &[&str], with: impl FnOnce(Node) -> Node) -> String {
        self.count += 1;
        let made = format!("v{}", self.count);
        self.b.node(with(Node::new(op, made.clone(), inputs.iter().copied(), [made.clone()])))
    }
    fn pick(&mut self) -> (String, [usize; 3]) {
        // Mostly a late value.
        let back = self.draw.below(self.values.len()).min(self.draw.below(self.values.len()));
        self.values[self.values.len() - 1 - back].clone()
    }
    /// DynamicQuantizeLinear: the names of bytes, scale and zero point.
    fn measured(&mut self, x: &str) -> [String; 3] {
        self.count += 1;
        let names = ["q", "s", "z"].map(|n| format!("{n}{}", self.count));
        self.b.node(Node::new("DynamicQuantizeLinear", names[0].clone(), [x], names.clone()));
        let seen = names.iter().filter(|_| self.draw.below(8) == 0).cloned();
        self.others.extend(seen);
        names
    }
    /// What follows the sums of an integer layer, in one of the forms that files have.
    fn finished(&mut self, sums: &str, scale: &str, channels: &[usize], count: usize) -> String {
        let y = self.op("Cast", &[sums], |n| n.int("to", 1));
        let weights = if self.draw.below(3) == 0 { self.floats(&[], 0.01) } else { self.floats(channels, 0.01) };
        let mut y = match self.draw.below(4) {
            0 => {
                let y = self.op("Mul", &[&y, scale], |n| n);
                self.op("Mul", &[&weights, &y], |n| n)
            }
            1 => y,
            _ => {
                let step = self.op("Mul", &[scale, &weights], |n| n);
                self.op("Mul", &[&y, &step], |n| n)
            }
        };
        if self.draw.below(2) == 0 {
            let bias = if self.draw.below(4) == 0 { self.floats(&[1], 1.0) } else { self.floats(channels, 1.0) };
            y = self.op("Add", &[&y, &bias], |n| n);
        }
        assert_eq!(channels.iter().product::<usize>(), count);
        if self.draw.below(2) == 0 { self.op("Relu", &[&y], |n| n) } else { y }
    }
    fn integer_conv(&mut self, x: &str, size: [usize; 3]) -> (String, [usize; 3]) {
        let [c, h, w] = size;
        let divisors: Vec<usize> = (1..=c).filter(|g| c % g == 0).collect();
        let groups = *self.draw.one_of(&divisors);
        let outs = groups * (1 + self.draw.below(4));
        let (k, stride, pad) = (1 + self.draw.below(3.min(h).min(w)), 1 + self.draw.below(2), self.draw.below(2));
        let element = *self.draw.one_of(&[Element::U8, Element::I8]);
        let weight = self.integers(element, &[outs, c / groups, k, k]);
        let [q, s, z] = self.measured(x);
        let mut inputs = vec![q, weight];
        match self.draw.below(4) {
            0 => {}
            1 => inputs.push(z),
            2 => {
                let zero = self.integers(element, &[]);
                inputs.extend([z, zero]);
            }
            _ => {
                let zero = self.integers(element, &[outs]);
                inputs.extend([z, zero]);
            }
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let (g, st, p) = (i64::try_from(groups).unwrap(), i64::try_from(stride).unwrap(), i64::try_from(pad).unwrap());
        let sums = self.op("ConvInteger", &inputs, |n| n.int("group", g).ints("strides", &[st, st]).ints("pads", &[p, p, 0, p]));
        let y = self.finished(&sums, &s, &[1, outs, 1, 1], outs);
        (y, [outs, (h + pad - k) / stride + 1, (w + 2 * pad - k) / stride + 1])
    }
    fn float_conv(&mut self, x: &str, size: [usize; 3]) -> (String, [usize; 3]) {
        let [c, h, w] = size;
        let outs = 1 + self.draw.below(9);
        let (weight, bias) = (self.floats(&[outs, c, 1, 1], 1.0 / c as f32), self.floats(&[outs], 0.3));
        let mut y = self.op("Conv", &[x, &weight, &bias], |n| n);
        if self.draw.below(2) == 0 {
            let s = self.op("Sigmoid", &[&y], |n| n);
            y = self.op("Mul", &[&y, &s], |n| n);
        }
        (y, [outs, h, w])
    }

    /// Adds a piece. `exact`: both executors must give the same bits.
    fn grow(&mut self, exact: bool) {
        let (x, [c, h, w]) = self.pick();
        let made = match self.draw.below(15) {
            0 | 1 if c > 1 => {
                let (from, to) = (self.draw.below(c - 1), c - self.draw.below(2).min(c - 2));
                let step = 1 + self.draw.below(2);
                let ends = [from, to.max(from + 1), 1, step].map(|v| self.constant(Constant::ints(&[i64::try_from(v).unwrap()])));
                let size = (to.max(from + 1) - from).div_ceil(step);
                (self.op("Slice", &[&x, &ends[0], &ends[1], &ends[2], &ends[3]], |n| n), [size, h, w])
            }
            2 | 3 if c > 1 => {
                let first = 1 + self.draw.below(c - 1);
                let sizes = self.constant(Constant::ints(&[first, c - first].map(|v| i64::try_from(v).unwrap())));
                self.count += 1;
                let names = [format!("a{}", self.count), format!("b{}", self.count)];
                self.b.node(Node::new("Split", names[0].clone(), [&x, &sizes], names.clone()).int("axis", 1));
                self.values.push((names[0].clone(), [first, h, w]));
                (names[1].clone(), [c - first, h, w])
            }
            4..=6 => {
                let along = self.draw.below(3);
                let fits = |s: &[usize; 3]| (0..3).all(|d| d == along || s[d] == [c, h, w][d]);
                let fitting: Vec<(String, [usize; 3])> = self.values.iter().filter(|v| fits(&v.1)).cloned().collect();
                let parts: Vec<(String, [usize; 3])> =
                    (0..1 + self.draw.below(3)).map(|_| self.draw.one_of(&fitting).clone()).chain([(x, [c, h, w])]).collect();
                let total: usize = parts.iter().map(|p| p.1[along]).sum();
                if total > 24 {
                    return;
                }
                let mut size = [c, h, w];
                size[along] = total;
                let names: Vec<&str> = parts.iter().map(|p| p.0.as_str()).collect();
                (self.op("Concat", &names, |n| n.int("axis", i64::try_from(along + 1).unwrap())), size)
            }
            7 => (self.op("Relu", &[&x], |n| n), [c, h, w]),
            8 => {
                let same: Vec<String> = self.values.iter().filter(|v| v.1 == [c, h, w]).map(|v| v.0.clone()).collect();
                let other = self.draw.one_of(&same).clone();
                (self.op("Add", &[&x, &other], |n| n), [c, h, w])
            }
            9 => (self.op("Transpose", &[&x], |n| n.ints("perm", &[0, 1, 3, 2])), [c, w, h]),
            10 if c % 2 == 0 => {
                let sizes = self.constant(Constant::ints(&[0, c / 2, h * 2, w].map(|v| i64::try_from(v).unwrap())));
                (self.op("Reshape", &[&x, &sizes], |n| n), [c / 2, h * 2, w])
            }
            // No kernel: by candle.
            11 => match self.draw.below(4) {
                0 if exact => {
                    let whole = self.op("Cast", &[&x], |n| n.int("to", 7));
                    (self.op("Cast", &[&whole], |n| n.int("to", 1)), [c, h, w])
                }
                1 if exact => {
                    let [q, s, z] = self.measured(&x);
                    (self.op("DequantizeLinear", &[&q, &s, &z], |n| n), [c, h, w])
                }
                2 if c % 4 == 0 => (self.op("DepthToSpace", &[&x], |n| n.int("blocksize", 2)), [c / 4, 2 * h, 2 * w]),
                _ => (self.op("Sin", &[&x], |n| n), [c, h, w]),
            },
            // Bytes that stand for floats. Division by such a scale is exact.
            13 if exact => {
                let (scale, element) = (self.constant(Constant::scalar(1.0 / 64.0)), *self.draw.one_of(&[Element::U8, Element::I8]));
                let zero = self.integers(element, &[]);
                let q = self.op("QuantizeLinear", &[&x, &scale, &zero], |n| n);
                if self.draw.below(4) == 0 {
                    self.others.push(q.clone());
                }
                (self.op("DequantizeLinear", &[&q, &scale, &zero], |n| n), [c, h, w])
            }
            12 => (self.op("MaxPool", &[&x], |n| n.ints("kernel_shape", &[3, 3]).ints("pads", &[1, 1, 1, 1])), [c, h, w]),
            _ if exact => self.integer_conv(&x, [c, h, w]),
            _ => self.float_conv(&x, [c, h, w]),
        };
        self.values.push(made);
    }

    fn finish(mut self) -> Graph {
        let mut outputs = std::mem::take(&mut self.others);
        outputs.push(self.values.last().unwrap().0.clone());
        for _ in 0..1 + self.draw.below(3) {
            outputs.push(self.values[self.draw.below(self.values.len())].0.clone());
        }
        outputs.sort();
        outputs.dedup();
        outputs.retain(|o| o != "x");
        outputs.iter().for_each(|o| self.b.output(o));
        self.b.finish().unwrap()
    }
}

fn graph(seed: u64, exact: bool) -> Graph {
    let mut random = Random::new(seed);
    while random.values.len() < 10 {
        random.grow(exact);
    }
    random.finish()
}

/// Inputs of the kinds that scales depend on.
fn input(dims: &[usize], seed: u64) -> Value {
    let n = dims.iter().product();
    let values: Vec<f32> = match seed % 5 {
        0 => vec![0.0; n],
        1 => vec![-1.7; n],
        2 => Draw::new(seed).floats(n).iter().map(|v| v - 1.5).collect(),
        _ => Draw::new(seed).floats(n),
    };
    Value::plain(Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap()
}

fn feeds(g: &Graph, batch: usize, seed: u64) -> HashMap<String, Value> {
    let input_of = g.feeds().next().unwrap();
    let dims: Vec<usize> = input_of.fact.shape.as_ref().unwrap().iter().map(|d| d.known().unwrap_or(batch)).collect();
    HashMap::from([(input_of.name.clone(), input(&dims, seed))])
}

/// Largest difference over all outputs, in units of the largest value.
fn apart(what: &str, got: &Outputs, expected: &Outputs) -> f32 {
    assert_eq!(got.len(), expected.len(), "{what}");
    let mut most = 0.0f32;
    for (name, e) in expected {
        let g = &got[name];
        assert_eq!((g.element, g.dims()), (e.element, e.dims()), "{what}: '{name}'");
        let (g, e) = (g.to_f32s().unwrap(), e.to_f32s().unwrap());
        let scale = e.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        most = g.iter().zip(&e).fold(most, |m, (a, b)| if a == b { m } else { m.max((a - b).abs() / scale) });
        assert!(g.iter().all(|v| v.is_finite()), "{what}: '{name}'");
    }
    most
}

/// Both executors on one engine, at several batch sizes.
fn hold(what: &str, g: &Graph, tolerance: f32) {
    let mut engine = Engine::new(g, &[], 2).unwrap();
    for (batch, seed) in [(1, 3), (2, 8), (3, 0), (1, 1), (2, 2)] {
        let feeds = feeds(g, batch, seed);
        let eager = exec::run(g, &feeds, Run::default()).unwrap();
        let planned = engine.run(&feeds, None).unwrap_or_else(|e| panic!("{what}, batch {batch}: {e}"));
        assert_eq!(engine.refused(), None, "{what}");
        let d = apart(what, &planned, &eager);
        assert!(d <= tolerance, "{what}, batch {batch}: {d:e} apart");
    }
}

/// How many random graphs; `COMPRESSO_CASES` asks for more.
fn cases() -> u64 {
    std::env::var("COMPRESSO_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

#[test]
fn random_graphs_of_views_and_integer_layers_give_the_same_bits() {
    for seed in 0..cases() {
        hold(&format!("graph {seed}"), &graph(seed, true), 0.0);
    }
}

#[test]
fn random_graphs_of_views_and_float_layers_agree() {
    for seed in 0..cases() {
        hold(&format!("graph {seed}"), &graph(seed + 1_000_000, false), 1e-4);
    }
}

/// Pieces that double from one concatenation to the next, and concatenations far inside of others, are measured as a whole.
#[test]
fn tensors_of_too_many_pieces_are_measured_all_the_same() {
    for (what, many) in [("doubled", 16), ("nested", 300)] {
        let mut b = GraphBuilder::new(what, 17);
        b.input("x", Fact::known(Element::F32, &[1, 2, 1, 1]));
        let mut last = String::from("x");
        for i in 0..many {
            let (made, other) = (format!("v{i}"), if what == "doubled" { last.clone() } else { "x".into() });
            b.node(Node::new("Concat", made.clone(), [last, other], [made.clone()]).int("axis", 1));
            last = made;
        }
        let names = ["q", "scale", "zero"];
        b.node(Node::new("DynamicQuantizeLinear", "measure", [last], names));
        names.iter().for_each(|name| b.output(name));
        hold(what, &b.finish().unwrap(), 0.0);
    }
}

/// Integer layers by themselves, also by onnxruntime, which must find the same scales.
#[test]
fn integer_layers_run_on_kernels_and_equal_onnxruntime() {
    for seed in 0..24 {
        let mut r = Random::new(seed);
        let [c, h, w] = r.values[0].1;
        let [q, s, z] = r.measured("x");
        let (weight, zero) = (r.integers(Element::U8, &[5, c, 2, 2]), r.integers(Element::U8, &[]));
        let sums = r.op("ConvInteger", &[&q, &weight, &z, &zero], |n| n.ints("pads", &[1, 0, 1, 1]));
        let y = r.finished(&sums, &s, &[1, 5, 1, 1], 5);
        let sizes = r.constant(Constant::ints(&[0, 5, -1]));
        let flat = r.op("Reshape", &[&y, &sizes], |n| n);
        let [q, s, z] = r.measured(&flat);
        // Products of unsigned activations and signed weights saturate in onnxruntime on machines without VNNI.
        let element = Element::U8;
        let inner = (h + 1) * w;
        let (weight, zero) = (r.integers(element, &[inner, 6]), r.integers(element, if seed % 2 == 0 { &[] } else { &[6] }));
        let sums = r.op("MatMulInteger", &[&q, &weight, &z, &zero], |n| n);
        let y2 = r.finished(&sums, &s, &[6], 6);
        r.b.output(&y);
        r.b.output(&y2);
        let g = r.b.finish().unwrap();
        hold(&format!("layers {seed}"), &g, 0.0);
        let mut engine = Engine::new(&g, &[], 2).unwrap();
        for kind in 0..5 {
            let feeds = feeds(&g, 2, kind);
            let ours = engine.run(&feeds, None).unwrap();
            let steps = engine.latest().unwrap().steps();
            assert!(!steps.iter().any(|s| s.starts_with("candle")), "layers {seed}: {steps:?}");
            let theirs = Session::from_graph(&g, 1).unwrap().run(&feeds).unwrap();
            // The second layer reads what the first makes, and of equal values all may round the other way.
            for (name, tolerance) in [(&y, 1e-5), (&y2, 5e-2)] {
                let (a, b) = (ours[name].to_f32s().unwrap(), theirs[name].to_f32s().unwrap());
                let scale = b.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
                let most = a.iter().zip(&b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(most <= tolerance * scale, "layers {seed}, input {kind}, '{name}': {most} of {scale}");
            }
        }
    }
}

#[test]
fn a_dynamically_quantized_detector_is_evaluated_in_batches() {
    let ctx = Context::new().with_seed(1);
    let data = dataset("shapes", &DataOptions { images: Some(6), ..DataOptions::default() }, &ctx).unwrap();
    let classes = Some(data.classes.to_vec());
    let options = ZooOptions { classes, image_size: Some([64, 64]), width: Some(0.125), ..ZooOptions::default() };
    let m = common::lively(&build("yolov8n", &options).unwrap());
    let q = Quantize { mode: QuantizeMode::Dynamic, ..Quantize::default() }.apply(&m, None, &ctx).unwrap();
    let input = q.graph().feeds().next().unwrap().name.clone();
    let mut engine = Engine::new(q.graph(), &[], 2).unwrap();
    for batch in [1, 3] {
        let feeds = HashMap::from([(input.clone(), self::input(&[batch, 3, 64, 64], 4))]);
        let eager = exec::run(q.graph(), &feeds, Run::default()).unwrap();
        let ours = engine.run(&feeds, None).unwrap();
        let db = sqnr(&eager[0].to_f32s().unwrap(), &ours[0].to_f32s().unwrap());
        assert!(db > 25.0, "batch {batch}: {db:.1} dB");
        let steps = engine.latest().unwrap().steps();
        assert!(!steps.iter().any(|s| s.contains("Integer") || s.contains("QuantizeLinear")), "{steps:?}");
    }
    assert_eq!(engine.refused(), None);
    Evaluate { batch: 3, ..Evaluate::default() }.run((&q, &data), &ctx).unwrap();
}

/// Files of onnxruntime's quantizer in QOperator form (tests/fixtures/qoperator/generate.py).
#[test]
fn operators_on_quantized_numbers_equal_onnxruntime_and_are_expanded() {
    for (name, planned) in [("signed", true), ("unsigned", true), ("rare", false)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/qoperator/{name}.onnx"));
        let m = Model::load(&path, &Default::default()).unwrap();
        let expanded = pipelines::TENSORRT.run(m.graph()).unwrap();
        let left = expanded.graph.nodes().iter().find(|n| n.op.starts_with("QLinear") || n.op == "QGemm");
        assert_eq!(left, None, "{name}");
        let mut engine = Engine::new(m.graph(), &[], 2).unwrap();
        for (batch, seed) in [(1, 3), (3, 8), (2, 0), (2, 1)] {
            let feeds = feeds(m.graph(), batch, seed);
            let theirs = Session::from_graph(m.graph(), 1).unwrap().run(&feeds).unwrap();
            let again = Session::from_graph(&expanded.graph, 1).unwrap().run(&feeds).unwrap();
            let eager = exec::run(m.graph(), &feeds, Run::default()).unwrap();
            let ours = engine.run(&feeds, None).unwrap();
            assert_eq!(engine.refused(), None, "{name}");
            for (what, got) in [("eager", &eager), ("planned", &ours), ("expanded", &again)] {
                for (output, e) in &theirs {
                    let (a, b) = (got[output].to_f32s().unwrap(), e.to_f32s().unwrap());
                    assert_eq!(got[output].dims(), e.dims(), "{name}, {what}: '{output}'");
                    // A rounding in one layer becomes a few in the last; each output of `rare` is a layer by itself, in steps of at
                    // most 0.05.
                    let step: f32 = if name == "rare" { 0.0501 } else { 0.0 };
                    let scale = b.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
                    let most = a.iter().zip(&b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
                    assert!(
                        most <= step.max(0.03 * scale),
                        "{name}, {what}, batch {batch}, input {seed}: '{output}' is {most} of {scale} apart"
                    );
                }
            }
        }
        let steps = engine.latest().unwrap().steps();
        assert_eq!(!steps.iter().any(|s| s.starts_with("candle")), planned, "{name}: {steps:?}");
        let dir = tempfile::tempdir().unwrap();
        m.save(dir.path().join("same.onnx")).unwrap();
        assert_eq!(std::fs::read(dir.path().join("same.onnx")).unwrap(), std::fs::read(&path).unwrap(), "{name} is saved as it was");
        // Statistics know the products.
        assert!(m.stats().unwrap().layers.iter().any(|l| l.cost.macs > 0), "{name}");
    }
}
