//! The planned executor against the eager one, and, where it works on bytes, against plain integers.

#[path = "engine/before.rs"]
mod before;
mod common;
#[path = "engine/convnets.rs"]
mod convnets;
#[path = "engine/transformers.rs"]
mod transformers;

use candle_core::{DType, Device, Tensor};
use compresso::compress::quantize::Quantize;
use compresso::context::{Cancel, Context};
use compresso::exec::{self, Engine, Outputs, Run};
use compresso::learn::data::{DataOptions, dataset};
use compresso::learn::eval::{Evaluate, ImageRunner, evaluate_with, run_images_with};
use compresso::model::graph::{Graph, GraphBuilder};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Constant, Dim, Element, Fact, Model, Node, Payload, Value, ops, passes};
use compresso::operation::Operation;
use compresso::target::{Target, tensorrt};
use compresso_test_support::noise;
use std::collections::{HashMap, HashSet};

fn tensor(dims: &[usize], seed: u32) -> Value {
    Value::plain(Tensor::from_vec(noise(dims.iter().product(), seed), dims, &Device::Cpu).unwrap()).unwrap()
}

fn feed(g: &Graph, dims: &[usize], seed: u32) -> HashMap<String, Value> {
    HashMap::from([(g.feeds().next().unwrap().name.clone(), tensor(dims, seed))])
}

fn relative(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let apart = a.iter().zip(b).fold(0.0f32, |m, (x, y)| if (x - y).abs() > m || (x - y).is_nan() { (x - y).abs() } else { m });
    if apart == 0.0 { 0.0 } else { apart / scale }
}

fn agree(what: &str, planned: &Outputs, eager: &Outputs, tolerance: f32) {
    assert_eq!(planned.len(), eager.len());
    for (name, e) in eager {
        let p = &planned[name];
        assert_eq!((p.element, p.dims()), (e.element, e.dims()), "{what}: '{name}'");
        if e.element == Element::F32 {
            let d = relative(&p.to_f32s().unwrap(), &e.to_f32s().unwrap());
            assert!(d <= tolerance, "{what}: '{name}' {:?} differs by {d:e}", e.dims());
        } else {
            assert_eq!(p.to_i64s().unwrap(), e.to_i64s().unwrap(), "{what}: '{name}'");
        }
    }
}

/// Runs both executors on `[n, …dims]` for several n with one engine.
fn hold(what: &str, g: &Graph, dims: &[usize], planned: bool) {
    let mut engine = Engine::new(g, &[], 3).unwrap();
    for (n, seed) in [(1, 1), (3, 2), (1, 3)] {
        let mut dims = dims.to_vec();
        dims[0] *= n;
        let feeds = feed(g, &dims, seed);
        let ours = engine.run(&feeds, None).unwrap();
        agree(what, &ours, &exec::run(g, &feeds, Run::default()).unwrap(), 1e-4);
    }
    assert_eq!(engine.refused(), None, "{what}");
    let steps = engine.latest().unwrap().steps();
    assert_eq!(steps.iter().any(|s| s.starts_with("candle")), !planned, "{what}: {steps:?}");
}

struct Net(GraphBuilder, u32);

impl Net {
    fn new(dims: &[usize]) -> Self {
        let mut b = GraphBuilder::new("net", 17);
        let shape = std::iter::once(Dim::symbol("n")).chain(dims[1..].iter().map(|&d| Dim::Known(d))).collect();
        b.input("x", Fact::new(Element::F32, shape));
        Self(b, 0)
    }
    fn floats(&mut self, dims: &[usize], scale: f32) -> String {
        self.1 += 1;
        let v: Vec<f32> = noise(dims.iter().product(), self.1).iter().map(|v| v * scale).collect();
        self.0.constant(&format!("w{}", self.1), Constant::floats(dims, &v).unwrap())
    }
    fn ints(&mut self, v: &[i64]) -> String {
        self.1 += 1;
        self.0.constant(&format!("i{}", self.1), Constant::ints(v))
    }
    fn node(&mut self, node: Node) -> String {
        self.0.node(node)
    }
    /// A convolution `[out, in / groups, k, k]` with bias.
    fn conv(&mut self, x: &str, w: [usize; 3], attrs: impl FnOnce(Node) -> Node) -> String {
        let [out, ins, k] = w;
        let (w, b) = (self.floats(&[out, ins, k, k], 1.0 / (ins * k * k) as f32), self.floats(&[out], 0.1));
        self.1 += 1;
        let made = format!("conv{}", self.1);
        self.node(attrs(Node::new("Conv", made.clone(), [x, &w, &b], [made.clone()])))
    }
    fn op(&mut self, op: &str, inputs: &[&str], attrs: impl FnOnce(Node) -> Node) -> String {
        self.1 += 1;
        let made = format!("{}{}", op.to_lowercase(), self.1);
        self.node(attrs(Node::new(op, made.clone(), inputs.iter().copied(), [made.clone()])))
    }
    fn silu(&mut self, x: &str) -> String {
        let s = self.op("Sigmoid", &[x], |n| n);
        self.op("Mul", &[x, &s], |n| n)
    }
    /// A value rounded to bytes, with a zero point of `zero`.
    fn rounded(&mut self, x: &str, scale: f32, zero: u8) -> String {
        self.1 += 1;
        let s = self.0.constant(&format!("s{}", self.1), Constant::scalar(scale));
        let zero = Constant::new(Element::U8, vec![], Payload::Raw(vec![zero].into())).unwrap();
        let z = self.0.constant(&format!("z{}", self.1), zero);
        let q = self.op("QuantizeLinear", &[x, &s, &z], |n| n);
        self.op("DequantizeLinear", &[&q, &s, &z], |n| n)
    }
    /// A batch normalization of so many channels.
    fn norm(&mut self, x: &str, channels: usize) -> String {
        let (scale, bias, mean) = (self.floats(&[channels], 1.0), self.floats(&[channels], 0.5), self.floats(&[channels], 0.5));
        let positive: Vec<f32> = noise(channels, 77).iter().map(|v| v.abs() + 0.3).collect();
        self.1 += 1;
        let variance = self.0.constant(&format!("v{}", self.1), Constant::floats(&[channels], &positive).unwrap());
        self.op("BatchNormalization", &[x, &scale, &bias, &mean, &variance], |n| n)
    }
    fn finish(mut self, outputs: &[&str]) -> Graph {
        outputs.iter().for_each(|o| self.0.output(o));
        self.0.finish().unwrap()
    }
}

#[test]
fn blocks_of_detectors() {
    // Split, bottlenecks, concatenation; the whole result is also cut unevenly and joined again.
    let mut n = Net::new(&[1, 10, 13, 9]);
    let c = n.conv("x", [22, 10, 1], |n| n);
    let c = n.silu(&c);
    let sizes = n.ints(&[11, 11]);
    n.node(Node::new("Split", "split", [c.as_str(), &sizes], ["y0", "y1"]).int("axis", 1));
    let a = n.conv("y1", [11, 11, 3], |n| n.ints("pads", &[1, 1, 1, 1]));
    let a = n.silu(&a);
    let b = n.conv(&a, [11, 11, 3], |n| n.ints("pads", &[1, 1, 1, 1]));
    let b = n.silu(&b);
    let sum = n.op("Add", &["y1", &b], |n| n);
    let joined = n.op("Concat", &["y0", "y1", &sum], |n| n.int("axis", 1));
    let d = n.conv(&joined, [5, 33, 1], |n| n);
    let pooled = n.op("MaxPool", &[&d], |n| n.ints("kernel_shape", &[5, 5]).ints("pads", &[2, 2, 2, 2]));
    let wide = n.op("Concat", &[&d, &pooled, &d], |n| n.int("axis", 1));
    let scales = n.0.constant("scales", Constant::floats(&[4], &[1.0, 1.0, 2.0, 2.0]).unwrap());
    let up = n.op("Resize", &[&wide, "", &scales], |n| {
        n.attr("mode", compresso::model::Attr::text("nearest"))
            .attr("coordinate_transformation_mode", compresso::model::Attr::text("asymmetric"))
            .attr("nearest_mode", compresso::model::Attr::text("floor"))
    });
    let g = n.finish(&[&up, &joined]);
    hold("block", &g, &[1, 10, 13, 9], true);
}

#[test]
fn windows_groups_and_activations() {
    type Attrs = fn(Node) -> Node;
    let cases: [([usize; 3], usize, Attrs); 8] = [
        ([12, 12, 3], 12, |n| n.ints("pads", &[1, 1, 1, 1])),
        ([12, 1, 3], 12, |n| n.int("group", 12).ints("strides", &[2, 1]).ints("pads", &[0, 1, 1, 2])),
        ([6, 4, 3], 12, |n| n.int("group", 3).ints("dilations", &[2, 1])),
        ([24, 1, 5], 12, |n| n.int("group", 12).ints("pads", &[2, 2, 2, 2])),
        ([9, 12, 1], 12, |n| n.ints("strides", &[2, 2])),
        ([7, 3, 6], 3, |n| n.ints("strides", &[2, 2]).ints("pads", &[2, 2, 2, 2])),
        ([16, 3, 3], 3, |n| n.ints("strides", &[2, 2]).attr("auto_pad", compresso::model::Attr::text("SAME_LOWER"))),
        ([1, 1, 3], 1, |n| n),
    ];
    let acts: [(&str, Attrs); 9] = [
        ("Relu", |n| n),
        ("LeakyRelu", |n| n.float("alpha", 0.1)),
        ("HardSwish", |n| n),
        ("Sigmoid", |n| n),
        ("Tanh", |n| n),
        ("Elu", |n| n),
        ("HardSigmoid", |n| n),
        ("Mish", |n| n),
        ("Softplus", |n| n),
    ];
    for (i, (w, channels, attrs)) in cases.into_iter().enumerate() {
        let (act, of_act) = acts[i % acts.len()];
        let dims = [1, channels, 12, 11];
        let mut n = Net::new(&dims);
        let y = n.conv("x", w, attrs);
        let y = n.op(act, &[&y], of_act);
        let limits = [n.0.constant("low", Constant::scalar(-0.2)), n.0.constant("high", Constant::scalar(0.3))];
        let clipped = n.op("Clip", &[&y, &limits[0], &limits[1]], |n| n);
        let g = n.finish(&[&clipped]);
        hold(&format!("{w:?} {act}"), &g, &dims, true);
    }
}

#[test]
fn moves_products_and_heads() {
    let dims = [1, 6, 8, 5];
    let mut n = Net::new(&dims);
    let c = n.conv("x", [8, 6, 1], |n| n);
    // Attention over positions.
    let shape = n.ints(&[0, 2, 4, 40]);
    let heads = n.op("Reshape", &[&c, &shape], |n| n);
    let keys = n.op("Transpose", &[&heads], |n| n.ints("perm", &[0, 1, 3, 2]));
    let scores = n.op("MatMul", &[&keys, &heads], |n| n);
    let weights = n.op("Softmax", &[&scores], |n| n.int("axis", 2));
    let mixed = n.op("MatMul", &[&heads, &weights], |n| n);
    let back = n.ints(&[0, 8, 8, 5]);
    let mixed = n.op("Reshape", &[&mixed, &back], |n| n);
    let mixed = n.op("Add", &[&mixed, &c], |n| n);
    // A head over two scales.
    let small = n.conv(&mixed, [8, 8, 3], |n| n.ints("strides", &[2, 2]).ints("pads", &[1, 1, 1, 1]));
    let flat = n.ints(&[0, 8, -1]);
    let (p, q) = (n.op("Reshape", &[&mixed, &flat], |n| n), n.op("Reshape", &[&small, &flat], |n| n));
    let all = n.op("Concat", &[&p, &q], |n| n.int("axis", 2));
    let (starts, ends, axes, steps) = (n.ints(&[1, 3]), n.ints(&[7, 1000]), n.ints(&[1, -1]), n.ints(&[2, 3]));
    let cut = n.op("Slice", &[&all, &starts, &ends, &axes, &steps], |n| n);
    let row = n.floats(&[3, 1], 1.0);
    let scaled = n.op("Mul", &[&cut, &row], |n| n);
    let less = n.op("Sub", &[&row, &scaled], |n| n);
    let over = n.op("Div", &[&less, &row], |n| n);
    // A classifier.
    let mean = n.op("GlobalAveragePool", &[&mixed], |n| n);
    let mean = n.op("Flatten", &[&mean], |n| n);
    let (w, b) = (n.floats(&[10, 8], 0.3), n.floats(&[10], 0.3));
    let logits = n.op("Gemm", &[&mean, &w, &b], |n| n.int("transB", 1));
    let w = n.floats(&[10, 4], 0.3);
    let product = n.op("MatMul", &[&logits, &w], |n| n);
    let narrow =
        n.op("AveragePool", &[&mixed], |n| n.ints("kernel_shape", &[3, 2]).ints("pads", &[1, 0, 1, 1]).int("count_include_pad", 1));
    let g = n.finish(&[&over, &product, &narrow, &all]);
    hold("moves", &g, &dims, true);
}

#[test]
fn operators_without_a_kernel_and_other_types_run_by_candle() {
    let dims = [1, 6, 8, 5];
    let mut n = Net::new(&dims);
    let c = n.conv("x", [8, 6, 1], |n| n);
    let two = n.0.constant("two", Constant::scalar(2.0));
    let squared = n.op("Pow", &[&c, &two], |n| n);
    let d = n.conv(&squared, [3, 8, 3], |n| n);
    let best = n.op("ArgMax", &[&d], |n| n.int("axis", 1));
    let half = n.0.constant("half", Constant::scalar(0.0));
    let positive = n.op("Greater", &[&d, &half], |n| n);
    let zero = n.0.constant("zero", Constant::scalar(0.0));
    let kept = n.op("Where", &[&positive, &d, &zero], |n| n);
    let g = n.finish(&[&best, &positive, &kept, "x"]);
    hold("candle", &g, &dims, false);
}

#[test]
fn a_detector_value_by_value_and_with_any_number_of_threads() {
    let m = common::lively(&build("yolov8n", &ZooOptions { image_size: Some([96, 96]), ..ZooOptions::default() }).unwrap());
    let simple = passes::simplify(m.graph()).unwrap().0;
    let made = |op: &str| simple.nodes().iter().filter(|n| n.is(op)).map(|n| n.outputs[0].clone()).collect::<Vec<_>>();
    let keep: HashSet<String> = ["Conv", "Mul", "Add", "Concat", "MaxPool", "Softmax"].iter().flat_map(|op| made(op)).collect();
    let feeds = feed(&simple, &[2, 3, 96, 96], 5);
    let wanted: Vec<&str> = keep.iter().map(String::as_str).collect();
    let eager = exec::run(&simple, &feeds, Run { wanted: &wanted, ..Run::default() }).unwrap();

    let mut seen = HashSet::new();
    let mut watching = Engine::watching(&simple, &[], keep.clone(), 2).unwrap();
    let planned = watching
        .run_watched(&feeds, None, &mut |s| {
            let mut at = vec![0usize; s.dims.len()];
            let values: Vec<f32> = (0..s.dims.iter().product())
                .map(|_| {
                    let v = s.values[at.iter().zip(s.strides).map(|(i, s)| i * s).sum::<usize>()];
                    for d in (0..at.len()).rev() {
                        at[d] += 1;
                        if at[d] < s.dims[d] {
                            break;
                        }
                        at[d] = 0;
                    }
                    v
                })
                .collect();
            let d = relative(&values, &eager[s.name].to_f32s().unwrap());
            assert!(d <= 1e-4, "'{}' differs by {d:e}", s.name);
            seen.insert(s.name.to_string());
            Ok(())
        })
        .unwrap();
    assert!(planned);
    assert_eq!(seen, keep);

    // The convolutions before the decoding, all of what is before them done in the fewest steps.
    let last: Vec<&str> = made("Conv").iter().rev().take(7).map(|n| wanted[wanted.iter().position(|w| w == n).unwrap()]).collect();
    let mut first: Option<Outputs> = None;
    for threads in [1, 2, 5] {
        let mut engine = Engine::new(&simple, &last, threads).unwrap();
        let outputs = engine.run(&feeds, None).unwrap();
        for (name, v) in &outputs {
            let d = relative(&v.to_f32s().unwrap(), &eager[name].to_f32s().unwrap());
            assert!(d <= 1e-4, "'{name}' differs by {d:e} with {threads} threads");
        }
        if let Some(first) = &first {
            agree("threads", &outputs, first, 0.0);
        }
        first = Some(outputs);
    }
    let mut engine = Engine::new(m.graph(), &[], 2).unwrap();
    engine.run(&feeds, None).unwrap();
    let (used, unshared) = engine.latest().unwrap().memory();
    assert!(used * 3 < unshared, "an arena of {used} bytes for {unshared}");
    let steps = engine.latest().unwrap().steps();
    assert!(!steps.iter().any(|s| s.starts_with("candle") || s == "copy"), "{steps:?}");
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(engine.run(&feeds, Some(&cancel)).is_err());
}

/// A graph of QuantizeLinear and DequantizeLinear by plain definitions: convolutions of dequantized bytes with dequantized
/// int8 weights as sums of integers, quantization by a multiplication with `1 / scale`, all else by the eager executor's
/// operators.
fn by_integers(g: &Graph, feeds: &HashMap<String, Value>) -> HashMap<String, Value> {
    let makers = g.producers();
    let mut values: HashMap<String, Value> = feeds.clone();
    for node in g.nodes() {
        let input = |name: &String| -> Option<Value> {
            values.get(name).cloned().or_else(|| g.constant(name).map(|c| Value::of_constant(c, &Device::Cpu).unwrap()))
        };
        let scalar = |name: &String| input(name).unwrap().to_f32s().unwrap()[0];
        let dequantized = |name: &String| makers.get(name.as_str()).map(|&i| &g.nodes()[i]).filter(|n| n.is("DequantizeLinear"));
        let made = match node.op.as_str() {
            "QuantizeLinear" => {
                let zero = input(&node.inputs[2]).unwrap();
                let (low, high) = if zero.element == Element::I8 { (-128.0, 127.0) } else { (0.0, 255.0) };
                let (inverse, z) = (1.0 / scalar(&node.inputs[1]), zero.to_f32s().unwrap()[0]);
                let x = input(&node.inputs[0]).unwrap();
                let q: Vec<f32> = x.to_f32s().unwrap().iter().map(|v| ((v * inverse).round_ties_even() + z).clamp(low, high)).collect();
                let storage = zero.element.storage().unwrap();
                let t = Tensor::from_vec(q, x.dims(), &Device::Cpu).unwrap().to_dtype(DType::I64).unwrap().to_dtype(storage).unwrap();
                vec![Value::new(zero.element, t).unwrap()]
            }
            "Conv" if dequantized(&node.inputs[0]).is_some() && dequantized(&node.inputs[1]).is_some() => {
                let (x, w) = (dequantized(&node.inputs[0]).unwrap(), dequantized(&node.inputs[1]).unwrap());
                let (zero, sx) = (input(&x.inputs[2]).unwrap().to_i64s().unwrap()[0], scalar(&x.inputs[1]));
                let (q, bytes) = (input(&x.inputs[0]).unwrap(), input(&w.inputs[0]).unwrap());
                let scales = input(&w.inputs[1]).unwrap().to_f32s().unwrap();
                let bias = node.input(2).map(|b| input(&b.to_string()).unwrap().to_f32s().unwrap());
                // Sums of products of integers are exact in float64.
                let shift =
                    Tensor::from_vec(q.to_i64s().unwrap().iter().map(|v| (v - zero) as f32).collect::<Vec<_>>(), q.dims(), &Device::Cpu);
                let ints = Tensor::from_vec(bytes.to_f32s().unwrap(), bytes.dims(), &Device::Cpu);
                let y = exact_conv(node, &shift.unwrap(), &ints.unwrap());
                let (dims, sums) = y;
                let plane = sums.len() / dims[0] / dims[1];
                let real: Vec<f32> = sums
                    .iter()
                    .enumerate()
                    .map(|(i, &sum)| {
                        let o = i / plane % dims[1];
                        (sum as i32) as f32 * (scales[if scales.len() == 1 { 0 } else { o }] * sx) + bias.as_ref().map_or(0.0, |b| b[o])
                    })
                    .collect();
                vec![Value::plain(Tensor::from_vec(real, dims.as_slice(), &Device::Cpu).unwrap()).unwrap()]
            }
            _ => {
                let inputs: Vec<Option<Value>> = node.inputs.iter().map(|n| if n.is_empty() { None } else { input(n) }).collect();
                let mode = ops::RunMode::default();
                (ops::find(node).unwrap().forward)(&ops::Exec::new(node, g.opset(), &inputs, &mode)).unwrap()
            }
        };
        values.extend(node.outputs.iter().cloned().zip(made));
    }
    values
}

/// Sizes and sums of a convolution of two spatial axes with symmetric padding, in integers.
fn exact_conv(node: &Node, x: &Tensor, w: &Tensor) -> (Vec<usize>, Vec<i64>) {
    let (xd, wd) = (x.dims().to_vec(), w.dims().to_vec());
    let list = |name: &str, fill: i64, n: usize| node.find_ints(name).unwrap().map_or(vec![fill; n], <[i64]>::to_vec);
    let (stride, pads, groups) = (list("strides", 1, 2), list("pads", 0, 4), node.get_int("group", 1).unwrap() as usize);
    let out = |d: usize| (xd[d + 2] as i64 + pads[d] + pads[d + 2] - wd[d + 2] as i64) / stride[d] + 1;
    let (oh, ow) = (out(0) as usize, out(1) as usize);
    let (xs, ws): (Vec<f32>, Vec<f32>) = (x.flatten_all().unwrap().to_vec1().unwrap(), w.flatten_all().unwrap().to_vec1().unwrap());
    let per = wd[0] / groups;
    let mut sums = Vec::with_capacity(xd[0] * wd[0] * oh * ow);
    for n in 0..xd[0] {
        for o in 0..wd[0] {
            for y in 0..oh {
                for z in 0..ow {
                    let mut sum = 0i64;
                    for c in 0..wd[1] {
                        let channel = o / per * wd[1] + c;
                        for ky in 0..wd[2] {
                            for kx in 0..wd[3] {
                                let (iy, ix) = (y as i64 * stride[0] + ky as i64 - pads[0], z as i64 * stride[1] + kx as i64 - pads[1]);
                                if iy >= 0 && ix >= 0 && iy < xd[2] as i64 && ix < xd[3] as i64 {
                                    let at = ((n * xd[1] + channel) * xd[2] + iy as usize) * xd[3] + ix as usize;
                                    sum += xs[at] as i64 * ws[((o * wd[1] + c) * wd[2] + ky) * wd[3] + kx] as i64;
                                }
                            }
                        }
                    }
                    sums.push(sum);
                }
            }
        }
    }
    (vec![xd[0], wd[0], oh, ow], sums)
}

#[test]
fn quantized_graphs_equal_plain_integers_bit_for_bit() {
    let data = dataset("shapes", &DataOptions { images: Some(8), ..DataOptions::default() }, &Context::new()).unwrap();
    let zoo = |name, size| -> Model {
        common::lively(&build(name, &ZooOptions { image_size: Some([size, size]), width: Some(0.125), ..ZooOptions::default() }).unwrap())
    };
    let base = || Quantize { images: 8, ..Quantize::default() };
    for (name, m) in [("yolov8n", zoo("yolov8n", 64))] {
        for (way, options) in [
            ("static", base()),
            ("full range", Quantize { reduce_range: false, ..base() }),
            ("elementwise", Quantize { elementwise: Some(true), ..base() }),
            ("per tensor", Quantize { per_channel: false, ..base() }),
            ("symmetric", Quantize { symmetric: true, ..base() }),
            ("tensorrt", Quantize { target: Target(&tensorrt::SPEC), ..base() }),
        ] {
            let q = options.apply(&m, Some(&data), &Context::new()).unwrap();
            let size = m.task().image_size().unwrap();
            let mut feeds = feed(q.graph(), &[2, 3, size[0], size[1]], 7);
            for v in feeds.values_mut() {
                *v = v.with(v.tensor.affine(0.5, 0.5).unwrap()).unwrap();
            }
            let exact = by_integers(q.graph(), &feeds);
            // Layers on bytes whose result is not quantized again, which ends the part on bytes.
            let readers = q.graph().consumers();
            let wanted: Vec<&str> = q
                .graph()
                .nodes()
                .iter()
                .filter(|n| n.is("Conv") && n.inputs[1].contains("dequantized"))
                .map(|n| n.outputs[0].as_str())
                .filter(|n| !readers.get(n).is_some_and(|r| r.iter().any(|&i| q.graph().nodes()[i].is("QuantizeLinear"))))
                .collect();
            assert!(wanted.len() >= 6, "{name}, {way}");
            let mut engine = Engine::new(q.graph(), &wanted, 2).unwrap();
            let outputs = engine.run(&feeds, None).unwrap();
            assert_eq!(engine.refused(), None);
            let steps = engine.latest().unwrap().steps();
            assert!(steps.iter().filter(|s| s.starts_with("int8 conv")).count() >= 8, "{name}, {way}: {steps:?}");
            for (n, v) in &outputs {
                assert_eq!(v.to_f32s().unwrap(), exact[n].to_f32s().unwrap(), "{name}, {way}: '{n}'");
            }
        }
    }
}

/// What stands between layers of classifiers, on bytes: no step by candle, and at most one step of the scale apart, where sums of
/// floats are rounded otherwise than sums of integers.
#[test]
fn blocks_between_quantized_layers_run_on_bytes() {
    const SCALE: f32 = 0.02;
    let dims = [1, 10, 9, 7];
    let mut n = Net::new(&dims);
    let x = n.rounded("x", SCALE, 128);
    let mut outputs = Vec::new();
    // A squeeze and excitation of bytes on a line and on a curve, read by others too.
    let curve = n.silu(&x);
    for of in [&x, &curve] {
        let mean = n.op("GlobalAveragePool", &[of], |n| n);
        let gate = n.op("HardSigmoid", &[&mean], |n| n);
        let gated = n.op("Mul", &[of, &gate], |n| n);
        outputs.push(n.rounded(&gated, SCALE, 100));
        let back = n.op("Mul", &[&gate, of], |n| n);
        outputs.push(n.op("Relu", &[&back], |n| n));
    }
    // Sums with an activation, once quantized next and once read as floats too.
    let other = n.norm(&x, 10);
    let other = n.rounded(&other, SCALE, 120);
    for act in ["Relu", "HardSwish"] {
        let sum = n.op("Add", &[&x, &other], |n| n);
        let acted = n.op(act, &[&sum], |n| n);
        let rounded = n.rounded(&acted, SCALE, 3);
        let again = n.op("Add", &[&acted, &rounded], |n| n);
        outputs.extend([rounded, again]);
        let sum = n.op("Add", &[&curve, &other], |n| n);
        let acted = n.op(act, &[&sum], |n| n);
        outputs.push(n.rounded(&acted, SCALE, 40));
    }
    // A concatenation of bytes and floats before a batch normalization: more parts than a step reads.
    let pooled = n.op("AveragePool", &[&x], |n| n.ints("kernel_shape", &[3, 3]).ints("pads", &[1, 1, 1, 1]).int("count_include_pad", 1));
    let wide = n.op("AveragePool", &[&curve], |n| n.ints("kernel_shape", &[2, 3]).ints("pads", &[0, 1, 1, 1]));
    let rounded = n.rounded(&wide, SCALE, 128);
    let mut parts = vec![x.as_str(), &curve, &pooled, &wide, &rounded];
    parts.extend([x.as_str(), &other].iter().cycle().take(10));
    let joined = n.op("Concat", &parts, |n| n.int("axis", 1));
    let normal = n.norm(&joined, 150);
    let relu = n.op("Relu", &[&normal], |n| n);
    outputs.push(n.rounded(&relu, SCALE, 0));
    let normal = n.norm(&joined, 150);
    outputs.push(n.op("LeakyRelu", &[&normal], |n| n));
    let g = n.finish(&outputs.iter().map(String::as_str).collect::<Vec<_>>());
    let mut engine = Engine::new(&g, &[], 3).unwrap();
    for (batch, seed) in [(1, 1), (2, 2)] {
        let feeds = feed(&g, &[batch, dims[1], dims[2], dims[3]], seed);
        let ours = engine.run(&feeds, None).unwrap();
        assert_eq!(engine.refused(), None);
        for (name, eager) in &exec::run(&g, &feeds, Run::default()).unwrap() {
            let (a, b) = (ours[name].to_f32s().unwrap(), eager.to_f32s().unwrap());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1.01 * SCALE), "'{name}'");
            let apart = a.iter().zip(&b).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
            assert!(apart * 50 <= a.len(), "'{name}': {apart} of {} differ", a.len());
        }
    }
    let steps = engine.latest().unwrap().steps();
    let count = |of: &str| steps.iter().filter(|s| s.starts_with(of)).count();
    assert_eq!([count("candle"), count("int8 scale and shift"), count("int8 gate")], [0, 5, 4], "{steps:?}");
    assert!(count("int8 average pool") >= 4, "{steps:?}");

    // Watched values are seen, with the same results.
    let watched: Vec<&str> = g.nodes().iter().map(|n| n.outputs[0].as_str()).filter(|n| !n.starts_with("quantize")).collect();
    let feeds = feed(&g, &dims, 4);
    let mut seen = Engine::new(&g, &watched, 2).unwrap();
    let (plain, all) = (engine.run(&feeds, None).unwrap(), seen.run(&feeds, None).unwrap());
    for name in &outputs {
        let (a, b) = (plain[name].to_f32s().unwrap(), all[name].to_f32s().unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1.01 * SCALE), "'{name}'");
    }
}

/// A small detector and its quantization, as both executors run them.
#[test]
fn planned_and_eager_runs_are_judged_alike() {
    let ctx = Context::new();
    let zoo = compresso::model::zoo::ZooOptions {
        classes: Some(["circle", "square", "triangle"].map(String::from).to_vec()),
        image_size: Some([64, 64]),
        width: Some(0.125),
        ..Default::default()
    };
    let float = compresso::model::zoo::build("yolov8n", &zoo).unwrap();
    let data =
        dataset("shapes", &DataOptions { images: Some(12), size: Some(serde_json::json!([48, 64])), ..Default::default() }, &ctx).unwrap();
    let quantize = compresso::compress::quantize::Quantize { images: 4, ..Default::default() };
    let quantized = quantize.apply(&float, Some(&data), &ctx).unwrap();
    // Two batches of 3 images and one of fewer.
    let options = Evaluate { batch: 3, ..Evaluate::default() };
    for (model, tolerance) in [(&float, 1e-4), (&quantized, 2e-2)] {
        let mut runner = ImageRunner::new(model, &ctx);
        let mut runs = 0;
        let mut both = |images: &Tensor| {
            let eager = run_images_with(model, images, &mut |feeds| compresso::exec::run(model.graph(), feeds, Default::default()))?;
            let planned = runner.run(images)?;
            for (name, e) in &eager {
                let (e, p) = (e.to_f32s()?, planned[name].to_f32s()?);
                let most = e.iter().fold(0f32, |m, v| m.max(v.abs()));
                assert_eq!(e.len(), p.len());
                for (a, b) in e.iter().zip(&p) {
                    assert!((a - b).abs() <= tolerance * most, "{name}: {a} became {b}");
                }
            }
            runs += 1;
            Ok(eager)
        };
        let by_eager = evaluate_with(&mut both, model.task(), &data, &options, &ctx).unwrap();
        assert_eq!(runs, 3);
        let by_plan = options.run((model, &data), &ctx).unwrap();
        for (what, a, b) in [("mAP50", by_eager.map50, by_plan.map50), ("recall", by_eager.recall, by_plan.recall)] {
            let (a, b) = (a.unwrap(), b.unwrap());
            assert!((a - b).abs() <= 0.02, "{what}: {a} and {b}");
        }
    }
}
