//! Operators along axes: reductions, softmax, norms, running sums.

use super::build::{Build, Held, axis, input, too_many};
use super::elementwise::{ADD, DIV, EXP, LOG, MUL, SUB};
use super::net::{Blob, Layer, Weight};
use super::shape::{MOST, image, with_axes};
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use compresso_model::Node;
use compresso_model::graph::normalize_axis;

/// Reduction's numbers by ONNX's names.
const REDUCTIONS: &[(&str, usize)] = &[
    ("ReduceSum", 0),
    ("ReduceSumSquare", 2),
    ("ReduceMean", 3),
    ("ReduceMax", MAX),
    ("ReduceMin", 5),
    ("ReduceProd", 6),
    ("ReduceL1", 7),
    ("ReduceL2", 8),
    ("ReduceLogSum", 9),
    ("ReduceLogSumExp", LOG_SUM_EXP),
];
const SUM: usize = 0;
const MAX: usize = 4;
const LOG_SUM_EXP: usize = 10;

fn reduced(cx: &mut Build<'_>, blob: Blob, op: usize, axes: &[usize]) -> Blob {
    let layer = Layer::new("Reduction").int(0, op).int(1, 0).float(2, 1.0).ints(3, axes.iter().copied()).int(4, 1).int(5, 1);
    cx.layer(layer, &[blob])
}

pub(super) fn reduction(name: &str) -> Option<usize> {
    REDUCTIONS.iter().find(|(n, _)| *n == name).map(|&(_, op)| op)
}

pub(super) fn reduce(cx: &mut Build<'_>, node: &Node, op: usize) -> Result<()> {
    let dims = cx.input_dims(node, 0)?;
    let named = match node.find_ints("axes")? {
        Some(axes) => Some(axes.to_vec()),
        None => cx.ints(node, 1, "the axes")?,
    };
    let mut axes: Vec<usize> = match named {
        Some(axes) if !axes.is_empty() => axes.iter().map(|&a| normalize_axis(a, dims.len())).collect::<Result<_>>()?,
        _ if node.get_int("noop_with_empty_axes", 0)? != 0 => return cx.same(node),
        _ => (0..dims.len()).collect(),
    };
    axes.sort_unstable();
    axes.dedup();
    // Nothing is left to reduce of an axis of one element, but what is done to each element remains.
    if axes.len() > 1 {
        axes = match axes.iter().copied().filter(|&a| dims[a] != 1).collect::<Vec<_>>() {
            long if long.is_empty() => vec![axes[0]],
            long => long,
        };
    }
    // Neighbours are reduced as one axis, in as many steps as there are others between them.
    let (mut shape, places) = match with_axes(&dims, &axes) {
        Some(found) => found,
        None => collapsed(&dims, &axes)?,
    };
    let blob = cx.view(input(node, 0)?, &shape)?;
    let blob = if op == LOG_SUM_EXP { log_sum_exp(cx, blob, &places) } else { reduced(cx, blob, op, &places) };
    places.iter().for_each(|&p| shape[p] = 1);
    cx.made(node, blob, shape)
}

/// Runs of reduced and of other axes, each as one.
fn collapsed(dims: &[usize], axes: &[usize]) -> Result<(Vec<usize>, Vec<usize>)> {
    let (mut shape, mut places, mut last): (Vec<usize>, Vec<usize>, _) = (Vec::new(), Vec::new(), None);
    for (axis, &size) in dims.iter().enumerate().filter(|(_, d)| **d != 1) {
        let is_reduced = axes.contains(&axis);
        match shape.last_mut() {
            Some(s) if last == Some(is_reduced) => *s *= size,
            _ => {
                if is_reduced {
                    places.push(shape.len());
                }
                shape.push(size);
            }
        }
        last = Some(is_reduced);
    }
    if shape.len() > MOST || places.is_empty() {
        return Err(too_many(dims));
    }
    Ok((shape, places))
}

/// The logarithm of a sum of exponentials, whose largest is one, so that none is infinite.
fn log_sum_exp(cx: &mut Build<'_>, x: Blob, axes: &[usize]) -> Blob {
    let top = reduced(cx, x, MAX, axes);
    let below = cx.layer(Layer::new("BinaryOp").int(0, SUB.op), &[x, top]);
    let exp = cx.layer(Layer::new("UnaryOp").int(0, EXP), &[below]);
    let sum = reduced(cx, exp, SUM, axes);
    let log = cx.layer(Layer::new("UnaryOp").int(0, LOG), &[sum]);
    cx.layer(Layer::new("BinaryOp").int(0, ADD.op), &[log, top])
}

/// The view of a softmax's input, and its axis. Up to operator set 12 all axes from one on are one.
fn softmax_view(cx: &mut Build<'_>, node: &Node) -> Result<(Blob, Vec<usize>, usize)> {
    let dims = cx.input_dims(node, 0)?;
    let old = cx.graph.opset_of(node) < 13;
    let axis = axis(node, if old { 1 } else { -1 }, dims.len().max(1))?;
    let (shape, at) = if old && axis + 1 < dims.len() {
        let (rows, all) = (dims[..axis].iter().product(), dims[axis..].iter().product());
        (vec![rows, all], 1)
    } else {
        let (shape, at) = with_axes(&dims, &[axis]).ok_or_else(|| too_many(&dims))?;
        (shape, at[0])
    };
    Ok((cx.view(input(node, 0)?, &shape)?, shape, at))
}

pub(super) fn softmax(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (x, shape, at) = softmax_view(cx, node)?;
    let blob = cx.layer(Layer::new("Softmax").int(0, at).int(1, 1), &[x]);
    cx.made(node, blob, shape)
}

pub(super) fn log_softmax(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (x, shape, at) = softmax_view(cx, node)?;
    let sum = log_sum_exp(cx, x, &[at]);
    let blob = cx.layer(Layer::new("BinaryOp").int(0, SUB.op), &[x, sum]);
    cx.made(node, blob, shape)
}

/// Vectors of length one.
pub(super) fn lp_normalization(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let dims = cx.input_dims(node, 0)?;
    let (shape, at) = with_axes(&dims, &[axis(node, -1, dims.len())?]).ok_or_else(|| too_many(&dims))?;
    let x = cx.view(input(node, 0)?, &shape)?;
    let norm = reduced(cx, x, if node.get_int("p", 2)? == 1 { 7 } else { 8 }, &at);
    let blob = cx.layer(Layer::new("BinaryOp").int(0, DIV.op), &[x, norm]);
    cx.made(node, blob, shape)
}

pub(super) fn cumulative_sum(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    if node.get_int("exclusive", 0)? != 0 || node.get_int("reverse", 0)? != 0 {
        return Err(Error::unsupported("NCNN's running sums go forwards and include each element"));
    }
    let dims = cx.input_dims(node, 0)?;
    let axes = cx.ints(node, 1, "the axis")?.unwrap_or_default();
    let axis = normalize_axis(axes.first().copied().unwrap_or(0), dims.len())?;
    let (shape, at) = with_axes(&dims, &[axis]).ok_or_else(|| too_many(&dims))?;
    let x = cx.view(input(node, 0)?, &shape)?;
    let blob = cx.layer(Layer::new("CumulativeSum").int(0, at[0]), &[x]);
    cx.made(node, blob, shape)
}

fn alone(cx: &Build<'_>, node: &Node) -> Result<()> {
    match node.outputs.iter().skip(1).any(|o| !o.is_empty() && cx.is_read(o)) {
        true => Err(Error::unsupported("its statistics are read, and NCNN's layer does not give them")),
        false => Ok(()),
    }
}

/// Channels and all else of a tensor with a batch of one.
fn channels(dims: &[usize]) -> Result<(usize, &[usize])> {
    match dims {
        [1, c, rest @ ..] => Ok((*c, rest)),
        _ => Err(Error::unsupported(format!("it works on {dims:?}, and NCNN's blobs have no batch"))),
    }
}

pub(super) fn batch_norm(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    alone(cx, node)?;
    if node.get_int("training_mode", 0)? != 0 {
        return Err(Error::unsupported("it is in training mode; NCNN uses the running statistics"));
    }
    let dims = cx.input_dims(node, 0)?;
    let [n, c, rest @ ..] = dims.as_slice() else { return Err(Error::shape(format!("it works on {dims:?}, which has no channels"))) };
    let epsilon = node.get_float("epsilon", 1e-5)?;
    let [scale, bias, mean, variance] = [
        cx.floats(node, 1, "the scale")?,
        cx.floats(node, 2, "the bias")?,
        cx.floats(node, 3, "the mean")?,
        cx.floats(node, 4, "the variance")?,
    ];
    if *n != 1 {
        // Channels are not the outermost axis: a factor and a summand for each.
        let factors: Vec<f32> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
        let summands = bias.iter().zip(&mean).zip(&factors).map(|((b, m), f)| b - m * f).collect();
        let shape = vec![*n, *c, rest.iter().product()];
        let mut blob = cx.view(input(node, 0)?, &shape)?;
        for (pair, values) in [(MUL, factors), (ADD, summands)] {
            let stored = cx.layer(Layer::new("MemoryData").sizes(&[1, *c, 1]).weight(Weight::Plain(values)), &[]);
            blob = cx.layer(Layer::new("BinaryOp").int(0, pair.op), &[blob, stored]);
        }
        return cx.made(node, blob, shape);
    }
    let layer = Layer::new("BatchNorm").int(0, *c).float(1, epsilon);
    let layer = [scale, mean, variance, bias].into_iter().fold(layer, |layer, v| layer.weight(Weight::Plain(v)));
    let shape = if dims.len() <= MOST + 1 { dims[1..].to_vec() } else { image(*c, rest) };
    let x = cx.view(input(node, 0)?, &shape)?;
    let blob = cx.layer(layer, &[x]);
    cx.made(node, blob, shape)
}

/// The factors and summands of a norm with so many of them.
fn affine(cx: &Build<'_>, node: &Node, count: usize) -> Result<[Weight; 2]> {
    let scale = match node.input(1) {
        Some(_) => cx.floats(node, 1, "the scale")?,
        None => memory::repeated(1.0, count, || format!("a scale of {count}"))?,
    };
    let bias = match node.input(2) {
        Some(_) => cx.floats(node, 2, "the bias")?,
        None => memory::repeated(0.0, count, || format!("a bias of {count}"))?,
    };
    // Up to operator set 20, groups have one of each.
    let spread = |v: Vec<f32>| -> Result<Weight> {
        let each = count.checked_div(v.len()).filter(|&each| each * v.len() == count);
        let each = each.ok_or_else(|| Error::unsupported(format!("{} factors for {count} elements that are normalized", v.len())))?;
        memory::claim(count as u64 * 4, || format!("{count} factors"))?;
        Ok(Weight::Plain(v.iter().flat_map(|&v| std::iter::repeat_n(v, each)).collect()))
    };
    Ok([spread(scale)?, spread(bias)?])
}

pub(super) fn instance_norm(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let dims = cx.input_dims(node, 0)?;
    let (c, rest) = channels(&dims)?;
    let [scale, bias] = affine(cx, node, c)?;
    let layer = Layer::new("InstanceNorm").int(0, c).float(1, node.get_float("epsilon", 1e-5)?).int(2, 1).weight(scale).weight(bias);
    let shape = image(c, rest);
    let x = cx.view(input(node, 0)?, &shape)?;
    let blob = cx.layer(layer, &[x]);
    cx.made(node, blob, shape)
}

pub(super) fn group_norm(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let dims = cx.input_dims(node, 0)?;
    let (c, rest) = channels(&dims)?;
    let groups = usize::try_from(node.get_int("num_groups", 1)?).ok().filter(|&g| g > 0 && c % g == 0);
    let groups = groups.ok_or_else(|| Error::format(format!("attribute 'num_groups' must divide {c}")))?;
    let [scale, bias] = affine(cx, node, c)?;
    let layer = Layer::new("GroupNorm").int(0, groups).int(1, c).float(2, node.get_float("epsilon", 1e-5)?).int(3, 1);
    let shape = image(c, rest);
    let x = cx.view(input(node, 0)?, &shape)?;
    let blob = cx.layer(layer.weight(scale).weight(bias), &[x]);
    cx.made(node, blob, shape)
}

pub(super) fn layer_norm(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    alone(cx, node)?;
    let dims = cx.input_dims(node, 0)?;
    let axis = axis(node, -1, dims.len())?;
    let count: usize = dims[axis..].iter().product();
    let rows: usize = dims[..axis].iter().product();
    let whole = |i: usize| node.input(i).and_then(|n| cx.constant(n)).is_none_or(|c| c.count() == count);
    if !whole(1) || !whole(2) {
        return Err(Error::unsupported(format!("its scale and bias must have the {count} elements that are normalized")));
    }
    let [scale, bias] = affine(cx, node, count)?;
    let layer = Layer::new("LayerNorm").int(0, count).float(1, node.get_float("epsilon", 1e-5)?).int(2, 1).weight(scale).weight(bias);
    let name = input(node, 0)?;
    let held = cx.held(name)?;
    // A blob whose rows are what is normalized stays as it is.
    let held = if held.shape.len() <= 3 && held.shape.last() == Some(&count) {
        held
    } else {
        let shape = if rows == 1 { vec![count] } else { vec![rows, count] };
        Held { blob: cx.view(name, &shape)?, shape }
    };
    let blob = cx.layer(layer, &[held.blob]);
    cx.made(node, blob, held.shape)
}

/// Each element by the squares of its neighbours in other channels.
pub(super) fn local_response_norm(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let dims = cx.input_dims(node, 0)?;
    let (c, rest) = channels(&dims)?;
    let size = usize::try_from(node.get_int("size", 1)?).ok().filter(|s| s % 2 == 1);
    let size = size.ok_or_else(|| Error::unsupported("NCNN's LRN looks as far ahead as back: its size must be odd"))?;
    let layer = Layer::new("LRN").int(0, 0).int(1, size);
    let layer =
        layer.float(2, node.get_float("alpha", 1e-4)?).float(3, node.get_float("beta", 0.75)?).float(4, node.get_float("bias", 1.0)?);
    let shape = image(c, rest);
    let x = cx.view(input(node, 0)?, &shape)?;
    let blob = cx.layer(layer, &[x]);
    cx.made(node, blob, shape)
}
