//! What makes one number of many: reductions, places of extremes, Softmax, running sums.

use super::spread::{binary, unary};
use crate::tflite::builder::{Builder, Form};
use crate::tflite::codes::{self, Reduction};
use crate::tflite::layout::{permuted, places, plain};
use crate::tflite::model::{Call, Grid, Kind, Type};
use crate::tflite::rounding::own_steps;
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use compresso_model::graph::normalize_axis;
use compresso_model::{Graph, Node};

/// Axes by attribute or input; all when left out, or none where the node asks for that.
fn axes(b: &Builder<'_>, node: &Node, rank: usize) -> Result<Vec<usize>> {
    let given = match node.find_ints("axes")? {
        Some(axes) => Some(axes.to_vec()),
        None => b.ints(node, 1)?,
    };
    let mut axes = match given {
        Some(axes) if !axes.is_empty() => axes.iter().map(|&a| normalize_axis(a, rank)).collect::<Result<Vec<_>>>()?,
        _ if node.get_int("noop_with_empty_axes", 0)? != 0 => Vec::new(),
        _ => plain(rank),
    };
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

pub(super) fn reduce(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let axes = axes(b, node, b.dims(&node.inputs[0])?.len())?;
    let kept = node.get_int("keepdims", 1)? != 0;
    let how = match node.op.as_str() {
        "ReduceMean" => Reduction::Mean,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Product,
        _ => Reduction::Sum,
    };
    over(b, node, how, &axes, kept)
}

/// A tensor reduced over some of its axes, which stay with size one.
pub(super) fn reduced(b: &mut Builder<'_>, t: usize, how: Reduction, axes: &[usize], grid: Option<Grid>) -> Result<usize> {
    let mut made = b.of(t).clone();
    axes.iter().for_each(|&a| made.shape[a] = 1);
    made.grid = grid.or(made.grid);
    if axes.is_empty() {
        return Ok(t);
    }
    let list = b.ints_tensor(axes)?;
    Ok(b.op(codes::reduce(how), &[t, list], made))
}

/// A reduction over axes of the value, in whatever order it is held.
pub(super) fn over(b: &mut Builder<'_>, node: &Node, how: Reduction, axes: &[usize], kept: bool) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let rounding = if how == Reduction::Mean { b.integers(node, &[0])?.filter(|r| r.fused == codes::Fused::Nothing) } else { None };
    let form = if rounding.is_some() { Form::Rounded } else { Form::Real };
    let perm = b.order(x)?;
    let mut t = b.read(x, &perm, form)?;
    let place = places(&perm);
    let at: Vec<usize> = axes.iter().map(|&a| place[a]).collect();
    let square = |b: &mut Builder<'_>, t: usize| {
        let made = b.of(t).clone();
        b.op(codes::mul(), &[t, t], made)
    };
    t = match node.op.as_str() {
        "ReduceL1" => unary(b, codes::abs(), t),
        "ReduceL2" | "ReduceSumSquare" => square(b, t),
        "ReduceLogSumExp" => return Err(Error::unsupported("logarithms of sums of exponentials are not written")),
        _ => t,
    };
    t = reduced(b, t, how, &at, rounding.as_ref().map(|r| r.grid.clone()))?;
    if node.is("ReduceL2") {
        t = unary(b, codes::sqrt(), t);
    }
    let perm = if kept {
        perm
    } else {
        let shape = b.of(t).shape.clone();
        let left: Vec<usize> = (0..perm.len()).filter(|&i| !at.contains(&i)).collect();
        t = b.reshape(t, &permuted(&shape, &left))?;
        // Axes are counted without those that are gone.
        left.iter().map(|&i| perm[i] - axes.iter().filter(|&&a| a < perm[i]).count()).collect()
    };
    match rounding {
        Some(r) => b.hold_rounded(r, perm, t),
        None => b.hold(y, perm, t, Form::Real),
    }
    Ok(())
}

/// The value with one axis last, the others as they are held.
fn with_last(b: &mut Builder<'_>, x: &str, axis: usize, form: Form) -> Result<(Vec<usize>, usize)> {
    let mut perm = b.order(x)?;
    if let Some(p) = b.views(x, form).into_iter().map(|(p, _)| p).find(|p| p.last() == Some(&axis)) {
        perm = p;
    } else {
        perm.retain(|&a| a != axis);
        perm.push(axis);
    }
    let t = b.read(x, &perm, form)?;
    Ok((perm, t))
}

/// The one axis of a Softmax; before operator set 13 all axes from the named one on are one.
pub(super) fn takes_softmax(graph: &Graph, node: &Node) -> bool {
    graph.opset_of(node) >= 13 || {
        let rank = graph.facts().ok().and_then(|f| f.get(node.input(0)?)?.rank());
        node.get_int("axis", 1).is_ok_and(|a| a == -1 || rank.is_none_or(|r| a + 1 == r as i64))
    }
}

pub(super) fn softmax(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let rank = b.dims(x)?.len();
    let axis = normalize_axis(node.get_int("axis", if b.graph.opset_of(node) < 13 { 1 } else { -1 })?, rank)?;
    let rounding = if node.is("Softmax") { b.integers(node, &[0])?.filter(|r| r.fused == codes::Fused::Nothing) } else { None };
    let form = if rounding.is_some() { Form::Rounded } else { Form::Real };
    let (perm, t) = with_last(b, x, axis, form)?;
    let mut made = b.of(t).clone();
    made.grid = rounding.as_ref().and_then(|r| own_steps(node, r.grid.kind));
    let t = b.op(if node.is("Softmax") { codes::softmax() } else { codes::log_softmax() }, &[t], made);
    match rounding {
        Some(r) => b.hold_rounded(r, perm, t),
        None => b.hold(y, perm, t, Form::Real),
    }
    Ok(())
}

/// The first place of the largest.
pub(super) fn takes_arg(_: &Graph, node: &Node) -> bool {
    node.get_int("select_last_index", 0).is_ok_and(|s| s == 0)
}

pub(super) fn arg(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let rank = b.dims(x)?.len();
    let axis = normalize_axis(node.get_int("axis", 0)?, rank)?;
    let perm = b.order(x)?;
    let t = b.read(x, &perm, Form::Real)?;
    let at = places(&perm)[axis];
    let mut shape = b.of(t).shape.clone();
    shape.remove(at);
    let axis_tensor = b.i32s(&[], &[at as i32]);
    let mut t = b.op(codes::arg_max(node.is("ArgMin")), &[t, axis_tensor], Type::new(Kind::I32, &shape));
    let perm = if node.get_int("keepdims", 1)? != 0 {
        shape.insert(at, 1);
        t = b.reshape(t, &shape)?;
        perm
    } else {
        perm.iter().filter(|&&a| a != axis).map(|&a| a - usize::from(a > axis)).collect()
    };
    b.hold(y, perm, t, Form::Real);
    Ok(())
}

/// The largest, in order.
pub(super) fn takes_top_k(_: &Graph, node: &Node) -> bool {
    node.get_int("largest", 1).is_ok_and(|l| l == 1)
}

pub(super) fn top_k(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let x = &node.inputs[0];
    let rank = b.dims(x)?.len();
    let axis = normalize_axis(node.get_int("axis", -1)?, rank)?;
    let k = b.ints(node, 1)?.and_then(|k| k.first().copied()).ok_or_else(|| Error::unsupported("how many are wanted must be known"))?;
    let (perm, t) = with_last(b, x, axis, Form::Real)?;
    let mut made = b.of(t).clone();
    if let Some(last) = made.shape.last_mut() {
        *last = usize::try_from(k).unwrap_or_default();
    }
    let places = Type::new(Kind::I32, &made.shape);
    let k = b.i32s(&[], &[i32::try_from(k).unwrap_or(i32::MAX)]);
    let t = b.ops(codes::topk_v2(), &[t, k], vec![made, places]);
    for (i, t) in t.into_iter().enumerate() {
        if let Some(y) = node.output(i) {
            b.hold(y, perm.clone(), t, Form::Real);
        }
    }
    Ok(())
}

pub(super) fn cumulative_sum(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let rank = b.dims(x)?.len();
    let axis = b.ints(node, 1)?.and_then(|a| a.first().copied()).ok_or_else(|| Error::unsupported("its axis must be known"))?;
    let perm = b.order(x)?;
    let t = b.read(x, &perm, Form::Real)?;
    let at = places(&perm)[normalize_axis(axis, rank)?];
    let at = b.i32s(&[], &[at as i32]);
    let made = b.of(t).clone();
    let t = b.op(codes::cumsum(node.get_int("exclusive", 0)? != 0, node.get_int("reverse", 0)? != 0), &[t, at], made);
    b.hold(y, perm, t, Form::Real);
    Ok(())
}

/// Numbers less their mean, over their deviation. `axes` are of the tensor.
fn normalized(b: &mut Builder<'_>, t: usize, axes: &[usize], epsilon: f32, centred: bool) -> Result<usize> {
    let centred = if centred {
        let mean = reduced(b, t, Reduction::Mean, axes, None)?;
        binary(b, codes::sub(), t, mean)?
    } else {
        t
    };
    let squares = binary(b, codes::mul(), centred, centred)?;
    let variance = reduced(b, squares, Reduction::Mean, axes, None)?;
    let epsilon = b.number(epsilon);
    let variance = binary(b, codes::add(), variance, epsilon)?;
    let scale = unary(b, codes::rsqrt(), variance);
    binary(b, codes::mul(), centred, scale)
}

/// The result times a scale and with a shift, each of which is left out or is read with `read`.
fn affine(b: &mut Builder<'_>, mut t: usize, node: &Node, read: impl Fn(&mut Builder<'_>, &str) -> Result<usize>) -> Result<usize> {
    for (i, call) in [(1, codes::mul as fn() -> Call), (2, codes::add)] {
        if let Some(name) = node.input(i) {
            let by = read(b, name)?;
            t = binary(b, call(), t, by)?;
        }
    }
    Ok(t)
}

/// LayerNormalization and RMSNormalization: over the last axes.
pub(super) fn layer_norm(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let rank = b.dims(x)?.len();
    let axis = normalize_axis(node.get_int("axis", -1)?, rank)?;
    let perm = b.order(x)?;
    let t = b.read(x, &perm, Form::Real)?;
    let place = places(&perm);
    let at: Vec<usize> = (axis..rank).map(|a| place[a]).collect();
    let t = normalized(b, t, &at, node.get_float("epsilon", 1e-5)?, node.is("LayerNormalization"))?;
    let t = affine(b, t, node, |b, name| b.read_ranked(name, &perm, Form::Real))?;
    b.hold(y, perm, t, Form::Real);
    Ok(())
}

/// Only the normalized numbers, not their mean and deviation.
pub(super) fn takes_layer_norm(_: &Graph, node: &Node) -> bool {
    node.output(1).is_none() && node.output(2).is_none()
}

/// InstanceNormalization, and GroupNormalization, whose groups of channels are an axis of their own meanwhile.
pub(super) fn instance_norm(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let dims = b.dims(x)?;
    let perm = b.order(x)?;
    let mut t = b.read(x, &perm, Form::Real)?;
    let place = places(&perm);
    let shape = b.of(t).shape.clone();
    let epsilon = node.get_float("epsilon", 1e-5)?;
    let spread = |b: &mut Builder<'_>, name: &str, groups: usize| -> Result<usize> {
        let mut values = b.floats(name)?;
        // Up to operator set 20, a scale for each group.
        if values.len() == groups && groups > 0 && values.len() != dims[1] {
            memory::claim(dims[1] as u64 * 4, || format!("{} factors", dims[1]))?;
            values = values.iter().flat_map(|&v| std::iter::repeat_n(v, dims[1] / groups)).collect();
        }
        let mut shape = vec![1; dims.len()];
        shape[place[1]] = dims[1];
        Ok(b.f32s(name, &shape, &values))
    };
    let groups = if node.is("GroupNormalization") { node.get_int("num_groups", 1)?.max(1) as usize } else { dims[1] };
    if dims[1] % groups != 0 {
        return Err(Error::unsupported(format!("{} channels are not {groups} equal groups", dims[1])));
    }
    if groups == dims[1] {
        let at: Vec<usize> = (2..dims.len()).map(|a| place[a]).collect();
        t = normalized(b, t, &at, epsilon, true)?;
    } else {
        let mut split = shape.clone();
        split[place[1]] = dims[1] / groups;
        split.insert(place[1], groups);
        t = b.reshape(t, &split)?;
        // The batch and the groups stay.
        let batch = place[0] + usize::from(place[0] > place[1]);
        let at: Vec<usize> = (0..split.len()).filter(|&i| i != place[1] && i != batch).collect();
        t = normalized(b, t, &at, epsilon, true)?;
        t = b.reshape(t, &shape)?;
    }
    let t = affine(b, t, node, |b, name| spread(b, name, groups))?;
    b.hold(y, perm, t, Form::Real);
    Ok(())
}

/// One that could not be folded into a layer: a scale and a shift of each channel.
pub(super) fn batch_norm(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let rank = b.dims(x)?.len();
    let [scale, shift, mean, variance] = [1, 2, 3, 4].map(|i| node.input(i).map_or_else(|| Ok(Vec::new()), |n| b.floats(n)));
    let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
    let epsilon = node.get_float("epsilon", 1e-5)?;
    let by: Vec<f32> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let plus: Vec<f32> = shift.iter().zip(&mean).zip(&by).map(|((s, m), by)| s - m * by).collect();
    let perm = b.order(x)?;
    let t = b.read(x, &perm, Form::Real)?;
    let mut shape = vec![1; rank];
    shape[places(&perm)[1.min(rank.saturating_sub(1))]] = by.len();
    let (by, plus) = (b.f32s("scale", &shape, &by), b.f32s("shift", &shape, &plus));
    let t = binary(b, codes::mul(), t, by)?;
    let t = binary(b, codes::add(), t, plus)?;
    b.hold(y, perm, t, Form::Real);
    Ok(())
}
