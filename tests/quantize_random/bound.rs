//! How far a quantized graph may be from the float one: the error that rounding brings, carried through every operator.
//!
//! Each value has a bound of its error, element by element:
//!
//! - QuantizeLinear rounds to half a step at most, and its rounded zero point may cut half a step off the ends of the range: the
//!   bound grows by one step of the range that calibration saw.
//! - A layer that multiplies `x`, off by `e`, with weights `W` that are off by `d`: `|W| e + d (|x| + e)`, and its bias's error.
//!   `d` is half a step of the finest grid that holds the channel, or of the one in which its bias fits into int32; the bias is
//!   off by half of the product of both steps, or by the accuracy of float32.
//! - What moves, selects or averages does the same to the bounds; what else there is grows differences no more than its slope.
//!
//! Nothing here looks at scales of weights or biases in the quantized file.

use candle_core::{Device, Tensor};
use compresso::exec::{self, Run};
use compresso::model::{Constant, Element, Fact, Graph, GraphBuilder, Node, Value, ops};
use std::collections::HashMap;

/// The grid that a layer's input is on.
#[derive(Debug, Clone, Copy)]
pub enum Input {
    /// It stays in float.
    Float,
    /// One with this step, in whose integers the bias is stored.
    Grid(f32),
    /// One with this step, measured when the model runs; the bias stays in float.
    Measured(f32),
}

/// What a layer's quantization may lose, under a target's rules.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Largest integer of a weight.
    pub top: f32,
    pub per_channel: bool,
    /// How far values may be outside of a Clip.
    pub clip: f32,
}

/// A value of the float graph and the bound of the quantized one's distance from it.
#[derive(Debug, Clone)]
pub struct Tracked {
    pub exact: Value,
    pub error: Value,
}

pub fn value(dims: &[usize], values: Vec<f32>) -> Value {
    Value::plain(Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap()
}

fn map(a: &Value, f: impl Fn(f32) -> f32) -> Value {
    value(a.dims(), a.to_f32s().unwrap().into_iter().map(f).collect())
}

fn zip(a: &Value, b: &Value, f: impl Fn(f32, f32) -> f32) -> Value {
    assert_eq!(a.dims(), b.dims());
    value(a.dims(), a.to_f32s().unwrap().into_iter().zip(b.to_f32s().unwrap()).map(|(a, b)| f(a, b)).collect())
}

/// Runs one node on values; constants are given as they are.
fn run(node: &Node, inputs: &[Given<'_>], opset: i64) -> Vec<Value> {
    let mut b = GraphBuilder::new("node", opset);
    let (mut feeds, mut names) = (HashMap::new(), Vec::new());
    for (i, input) in inputs.iter().enumerate() {
        names.push(match input {
            Given::None => String::new(),
            Given::Constant(c) => b.constant(&format!("c{i}"), (*c).clone()),
            Given::Value(v) => {
                feeds.insert(format!("x{i}"), (*v).clone());
                b.input(&format!("x{i}"), Fact::known(v.element, v.dims()))
            }
        });
    }
    let mut node = node.clone();
    node.inputs = names;
    node.outputs = (0..node.outputs.len()).map(|i| format!("y{i}")).collect();
    let outputs = node.outputs.clone();
    b.node(node);
    outputs.iter().for_each(|o| b.output(o));
    let outputs = exec::run(&b.finish().unwrap(), &feeds, Run::default()).unwrap();
    outputs.into_values().collect()
}

#[derive(Clone, Copy)]
enum Given<'a> {
    None,
    Constant(&'a Constant),
    Value(&'a Value),
}

/// A layer of the float graph: its weight, with Gemm's alpha, its bias, with Gemm's beta, and the grids that they may have.
pub struct Layer {
    pub weight: Vec<f32>,
    pub dims: Vec<usize>,
    /// Half a step, element by element.
    pub weight_error: Vec<f32>,
    pub bias: Option<(Vec<usize>, Vec<f32>)>,
    /// Element by element of the bias.
    pub bias_error: Vec<f32>,
}

impl Layer {
    pub fn of(graph: &Graph, node: &Node, input: Input, rules: Rules) -> Option<Self> {
        let found = ops::layer_weight(graph, node).unwrap()?;
        let (alpha, beta) = (node.get_float("alpha", 1.0).unwrap(), node.get_float("beta", 1.0).unwrap());
        let gemm = node.is("Gemm");
        let scaled = |c: &Constant, by: f32| c.to_f32s().unwrap().iter().map(|v| v * if gemm { by } else { 1.0 }).collect::<Vec<f32>>();
        let weight = scaled(found.constant, alpha);
        let dims = found.constant.dims().to_vec();
        let constant = node.input(2).and_then(|n| graph.constant(n));
        let bias = constant.map(|c| (c.dims().to_vec(), scaled(c, beta)));
        let count = bias.as_ref().map_or(0, |b| b.1.len());
        let mut layer = Self { weight_error: vec![0.0; weight.len()], bias_error: vec![0.0; count], weight, dims, bias };
        let (Input::Grid(input_scale) | Input::Measured(input_scale), Some(axes)) = (input, found.axes) else { return Some(layer) };
        let stored_bias = matches!(input, Input::Grid(_));
        // A batch of matrices has one scale.
        let (channels, axis) = (layer.dims[axes.output.axis], axes.output.axis);
        let own = channels == 1 || rules.per_channel && !(node.is("MatMul") && layer.dims.len() != 2);
        let inner: usize = layer.dims[axis + 1..].iter().product();
        let channel = |i: usize| if own { i / inner % channels } else { 0 };
        let mut largest = vec![0f32; if own { channels } else { 1 }];
        layer.weight.iter().enumerate().for_each(|(i, w)| largest[channel(i)] = largest[channel(i)].max(w.abs()));
        // Steps below float32's normal numbers are none: such weights may vanish.
        let mut steps: Vec<f32> = largest.iter().map(|l| if l / rules.top < f32::MIN_POSITIVE { 2.0 * l } else { l / rules.top }).collect();
        let room = 2f32.powi(30) * input_scale;
        if own
            && stored_bias
            && axes.output.groups == 1
            && let Some((_, bias)) = layer.bias.as_ref().filter(|b| b.1.len() == channels || b.1.len() == 1)
        {
            // Under a bias that needs a coarser scale, weights are lost only where they are nothing beside it.
            (0..channels).for_each(|c| steps[c] = steps[c].max((bias[c % bias.len()].abs() / room).min(2.0 * largest[c])));
        }
        // In float32's smallest numbers, products of scales have no accuracy.
        let least = f32::MIN_POSITIVE / input_scale.min(1.0);
        steps.iter_mut().zip(&largest).for_each(|(s, &l)| *s = s.max(least.min(2.0 * l)));
        layer.weight_error = (0..layer.weight.len()).map(|i| 0.5001 * steps[channel(i)]).collect();
        if let Some((_, bias)) = layer.bias.as_ref().filter(|_| stored_bias) {
            let last = |i: usize| if own { steps[i % channels] } else { steps[0] };
            // A scale of several channels without weights suits the largest of their biases.
            let most = bias.iter().fold(0f32, |m, b| m.max(b.abs())) * if own && axes.output.groups == 1 { 0.0 } else { 2f32.powi(-30) };
            let off = |(i, b): (usize, &f32)| 0.5001 * last(i) * input_scale + b.abs() * 2f32.powi(-22) + most;
            layer.bias_error = bias.iter().enumerate().map(off).collect();
            // One number for all channels is as bad as the worst.
            if bias.len() == 1 {
                let worst = steps.iter().fold(0f32, |a, &b| a.max(b));
                layer.bias_error[0] = 0.5001 * worst * input_scale + bias[0].abs() * 2f32.powi(-22);
            }
        }
        Some(layer)
    }
}

/// Bounds of all values that a quantized graph computes in float, by name.
///
/// `float` is the graph that was quantized, `exact` has its values.
pub fn bounds(float: &Graph, quantized: &Graph, exact: &HashMap<String, Value>, rules: Rules) -> HashMap<String, Tracked> {
    let originals: HashMap<&str, &Node> = float.nodes().iter().map(|n| (n.outputs[0].as_str(), n)).collect();
    let mut known: HashMap<String, Tracked> = HashMap::new();
    // The step of the value behind a DequantizeLinear.
    let mut steps: HashMap<&str, f32> = HashMap::new();
    for input in quantized.feeds() {
        let exact = exact[&input.name].clone();
        known.insert(input.name.clone(), Tracked { error: map(&exact, |_| 0.0), exact });
    }
    for node in quantized.nodes() {
        let out = node.outputs[0].as_str();
        if node.is("QuantizeLinear") || node.is("DequantizeLinear") {
            let Some(from) = known.get(&node.inputs[0]).cloned() else { continue };
            let scale = quantized.constant(&node.inputs[1]).unwrap().to_f32s().unwrap()[0];
            steps.insert(out, scale);
            let grow = if node.is("QuantizeLinear") { 1.0001 * scale } else { 0.0 };
            known.insert(out.into(), Tracked { error: map(&from.error, |e| e + grow), exact: from.exact });
            continue;
        }
        let Some(original) = originals.get(out) else { panic!("{} is new", node.label()) };
        let tracked = |i: usize| node.input(i).and_then(|n| known.get(n));
        let input = steps.get(node.inputs[0].as_str()).map_or(Input::Float, |&step| Input::Grid(step));
        let errors = errors(float, quantized, original, &tracked, input, rules);
        note(&mut known, node, errors, exact);
    }
    known
}

/// Bounds of all values of a graph whose layers measure the scales of their inputs, by name.
///
/// `quantized` tells which layers multiply integers: its own nodes are other ones.
pub fn measured_bounds(float: &Graph, quantized: &Graph, exact: &HashMap<String, Value>, rules: Rules) -> HashMap<String, Tracked> {
    let kept: HashMap<&str, &Node> = quantized.nodes().iter().map(|n| (n.outputs[0].as_str(), n)).collect();
    let mut known: HashMap<String, Tracked> = HashMap::new();
    for input in float.feeds() {
        let exact = exact[&input.name].clone();
        known.insert(input.name.clone(), Tracked { error: map(&exact, |_| 0.0), exact });
    }
    for node in float.nodes() {
        let same = kept.get(node.outputs[0].as_str()).filter(|n| n.op == node.op);
        let mut measured = None;
        if let (None, Some(x)) = (same, node.input(0).and_then(|n| known.get(n))) {
            let (low, high) = pairs(x).1.into_iter().fold((0f32, 0f32), |(l, h), (v, e)| (l.min(v - e), h.max(v + e)));
            let step = (high - low) / 255.0;
            // Rounding, and the end of the range that the rounded zero point cuts off.
            measured = Some((step, Tracked { exact: x.exact.clone(), error: map(&x.error, |e| e + 1.0001 * step) }));
        }
        let input = match (&measured, same) {
            (Some((step, _)), _) => Input::Measured(*step),
            // Weights alone are rounded: their steps depend on no input.
            (None, Some(n)) if n.inputs != node.inputs => Input::Measured(1.0),
            _ => Input::Float,
        };
        let tracked = |i: usize| match &measured {
            Some((_, x)) if i == 0 => Some(x),
            _ => node.input(i).and_then(|n| known.get(n)),
        };
        let errors = errors(float, float, node, &tracked, input, rules);
        note(&mut known, node, errors, exact);
    }
    known
}

/// Takes down the bounds of what a node makes, with what executors differ by.
fn note(known: &mut HashMap<String, Tracked>, node: &Node, errors: Option<Vec<Value>>, exact: &HashMap<String, Value>) {
    for (name, error) in node.outputs.iter().zip(errors.unwrap_or_default()) {
        let exact = exact[name].clone();
        let most = exact.to_f32s().unwrap().iter().fold(0f32, |m, v| m.max(v.abs()));
        let error = map(&error, |e| e * 1.0001 + most * 2e-6 + f32::MIN_POSITIVE);
        known.insert(name.clone(), Tracked { exact, error });
    }
}

/// Bounds of what a node makes; `None` where it makes no floats from tracked values.
fn errors<'t>(
    float: &Graph,
    quantized: &Graph,
    node: &Node,
    tracked: &dyn Fn(usize) -> Option<&'t Tracked>,
    input: Input,
    rules: Rules,
) -> Option<Vec<Value>> {
    let opset = float.opset();
    if let Some(layer) = Layer::of(float, node, input, rules) {
        let x = tracked(0)?;
        let of = |v: Vec<f32>| value(&layer.dims, v);
        let magnitude = of(layer.weight.iter().map(|w| w.abs()).collect());
        // Nothing but the product: Gemm's factors are in the constants.
        let mut product = node.clone();
        product.inputs.truncate(2);
        product.attrs.shift_remove("alpha");
        product.attrs.shift_remove("beta");
        let times = |x: &Value, w: &Value| run(&product, &[Given::Value(x), Given::Value(w)], opset).remove(0);
        let reach = zip(&x.exact, &x.error, |x, e| x.abs() + e);
        let mut error = zip(&times(&x.error, &magnitude), &times(&reach, &of(layer.weight_error.clone())), |a, b| a + b);
        // Sums of products in float32, in any order.
        let sums = times(&reach, &magnitude);
        error = zip(&error, &sums, |e, s| e + s * 2e-6);
        if let Some((dims, bias)) = &layer.bias {
            let off: Vec<f32> = bias.iter().zip(&layer.bias_error).map(|(b, e)| e + b.abs() * 2e-6).collect();
            let dims = if node.is("Gemm") { dims.clone() } else { [vec![1, dims[0]], vec![1; layer.dims.len() - 2]].concat() };
            error = run(&Node::new("Add", "", ["", ""], [""]), &[Given::Value(&error), Given::Value(&value(&dims, off))], opset).remove(0);
        }
        return Some(vec![error]);
    }
    let constant = |i: usize| node.input(i).and_then(|n| quantized.constant(n));
    let given = |i: usize, v: Option<&'t Value>| match (v, constant(i)) {
        (Some(v), _) => Given::Value(v),
        (None, Some(c)) => Given::Constant(c),
        (None, None) => Given::None,
    };
    let x = tracked(0);
    match node.op.as_str() {
        "Relu" | "LeakyRelu" | "Sigmoid" => Some(vec![x?.error.clone()]),
        "Clip" => Some(vec![map(&x?.error, |e| e + rules.clip)]),
        // Two rounds with a half.
        "Loop" => Some(vec![map(&tracked(2)?.error, |e| e * 0.25)]),
        "Add" => {
            let (a, b) = (x?, tracked(1)?);
            Some(vec![zip(&a.error, &b.error, |a, b| a + b)])
        }
        "Mul" => match (x?, tracked(1)) {
            (a, Some(b)) => {
                let (a, b) = (pairs(a), pairs(b));
                let bound = a.1.into_iter().zip(b.1).map(|((x, e), (y, d))| x.abs() * d + y.abs() * e + e * d).collect();
                Some(vec![value(&a.0, bound)])
            }
            // The factor that an If makes of constants.
            (a, None) => Some(vec![map(&a.error, |e| e * 0.5)]),
        },
        "ReduceMax" | "Greater" | "If" => None,
        "MaxPool" | "AveragePool" | "GlobalAveragePool" | "Reshape" | "Transpose" | "Split" | "Resize" | "Concat" => {
            let inputs: Vec<Given<'_>> = (0..node.inputs.len()).map(|i| given(i, tracked(i).map(|t| &t.error))).collect();
            Some(run(node, &inputs, opset))
        }
        other => panic!("no bound for {other}"),
    }
}

fn pairs(t: &Tracked) -> (Vec<usize>, Vec<(f32, f32)>) {
    (t.exact.dims().to_vec(), t.exact.to_f32s().unwrap().into_iter().zip(t.error.to_f32s().unwrap()).collect())
}

/// The element that is farthest beyond its bound: by how many times, and where.
pub fn beyond(got: &Value, tracked: &Tracked, times: f32) -> Option<String> {
    assert_eq!((got.element, got.dims()), (Element::F32, tracked.exact.dims()));
    let (got, (_, expected)) = (got.to_f32s().unwrap(), pairs(tracked));
    let over = got
        .iter()
        .zip(&expected)
        .enumerate()
        .filter(|(_, (g, (v, e)))| (*g - v).abs().partial_cmp(&(times * e)).is_none_or(std::cmp::Ordering::is_gt));
    let worst = over.max_by(|a, b| {
        let ratio = |(_, (g, (v, e))): &(usize, (&f32, &(f32, f32)))| if g.is_nan() { f32::INFINITY } else { (*g - v).abs() / e };
        ratio(a).total_cmp(&ratio(b))
    });
    worst.map(|(i, (g, (v, e)))| format!("element {i} is {g:e}, exact {v:e}, allowed error {:e}", times * e))
}
