//! What moves elements and computes nothing: these work on integers as on real numbers.

use super::elementwise::common;
use crate::tflite::builder::{Builder, Form};
use crate::tflite::codes;
use crate::tflite::layout::{permuted, places, plain, reshaped};
use crate::tflite::model::{Kind, Type};
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;
use compresso_model::ops::slice::listed_axes;
use compresso_model::{Graph, Node};

/// The numbers in which a value is moved: integers where it is there so.
fn form(b: &Builder<'_>, x: &str) -> Form {
    if b.is_rounded(x) { Form::Rounded } else { Form::Real }
}

/// The input with its axes as they are held, in the numbers that it is held in.
fn take(b: &mut Builder<'_>, x: &str) -> Result<(Vec<usize>, usize, Form)> {
    let (form, perm) = (form(b, x), b.order(x)?);
    let t = b.read(x, &perm, form)?;
    Ok((perm, t, form))
}

/// What is there already under another name.
pub(super) fn identity(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let used = |y: &&String| !y.is_empty() && (b.graph.is_output(y) || !b.readers(y).is_empty());
    if let Some(other) = node.outputs[1..].iter().find(used) {
        return Err(Error::unsupported(format!("only its first output is written, and '{other}' is read")));
    }
    let rank = b.dims(&node.inputs[0])?.len();
    take(b, &node.inputs[0])?;
    b.relabel(&node.inputs[0], &node.outputs[0], &plain(rank));
    Ok(())
}

/// Only the order of axes changes, which a later reader may have moved.
pub(super) fn transpose(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let rank = b.dims(x)?.len();
    let perm = match node.find_ints("perm")? {
        Some(p) => p.iter().map(|&a| normalize_axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    take(b, x)?;
    b.relabel(x, y, &places(&perm));
    Ok(())
}

/// Reshape, Flatten, Squeeze, Unsqueeze: the sizes of the result are known.
pub(super) fn reshape(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let (old, new) = (b.dims(x)?, b.dims(y)?);
    let (perm, _, form) = take(b, x)?;
    let (needed, made) = reshaped(&old, &new, &perm);
    let t = b.read(x, &needed, form)?;
    let shape = permuted(&new, &made);
    let t = if b.of(t).shape == shape { t } else { b.reshape(t, &shape)? };
    b.hold(y, made, t, form);
    Ok(())
}

pub(super) fn concat(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let y = &node.outputs[0];
    let dims = b.dims(y)?;
    let axis = normalize_axis(node.get_int("axis", 0)?, dims.len())?;
    let perm = common(b, node, dims.len())?;
    let rounded = node.inputs.iter().all(|x| b.is_rounded(x));
    let grids: Vec<_> = if rounded { node.inputs.iter().map(|x| b.grid(x)).collect() } else { Vec::new() };
    // Inputs on grids of their own are brought to that of the result.
    let wanted = if rounded { b.rounding(node)?.filter(|r| r.fused == codes::Fused::Nothing).map(|r| r.grid) } else { None };
    let grid = wanted.or_else(|| grids.first().cloned().flatten().filter(|_| grids.windows(2).all(|w| w[0] == w[1])));
    let form = if grid.is_some() { Form::Rounded } else { Form::Real };
    let mut inputs = Vec::new();
    for x in &node.inputs {
        // What has no elements is left out.
        if b.dims(x)?.contains(&0) {
            continue;
        }
        let t = b.read(x, &perm, form)?;
        inputs.push(match &grid {
            Some(grid) => b.requantize(t, grid),
            None => t,
        });
    }
    let first = *inputs.first().ok_or_else(|| Error::unsupported("it joins tensors without elements"))?;
    let made = b.of(first).shaped(&permuted(&dims, &perm));
    let t = if inputs.len() == 1 { first } else { b.op(codes::concatenation(places(&perm)[axis]), &inputs, made) };
    b.hold(y, perm, t, form);
    Ok(())
}

pub(super) fn split(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let x = &node.inputs[0];
    let rank = b.dims(x)?.len();
    let axis = normalize_axis(node.get_int("axis", 0)?, rank)?;
    let (perm, t, form) = take(b, x)?;
    let of = b.of(t).clone();
    let names: Vec<&String> = node.outputs.iter().filter(|o| !o.is_empty()).collect();
    let dims: Vec<Vec<usize>> = names.iter().map(|y| b.dims(y)).collect::<Result<_>>()?;
    if names.len() != node.outputs.len() {
        return Err(Error::unsupported("all of its outputs must have names"));
    }
    let sizes = b.ints_tensor(&dims.iter().map(|d| d[axis]).collect::<Vec<_>>())?;
    let at = b.i32s(&[], &[places(&perm)[axis] as i32]);
    let made: Vec<Type> = dims.iter().map(|d| of.shaped(&permuted(d, &perm))).collect();
    let parts = b.ops(codes::split_v(names.len()), &[t, sizes, at], made);
    for (y, t) in names.into_iter().zip(parts) {
        b.hold(y, perm.clone(), t, form);
    }
    Ok(())
}

/// Starts, ends, axes and steps, by attribute or input.
pub(super) fn slice(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let (dims, made) = (b.dims(x)?, b.dims(y)?);
    let list = |b: &Builder<'_>, i: usize, name: &str| -> Result<Option<Vec<i64>>> {
        match node.find_ints(name)? {
            Some(v) => Ok(Some(v.to_vec())),
            None => b.ints(node, i),
        }
    };
    let starts = list(b, 1, "starts")?.ok_or_else(|| Error::unsupported("its starts must be known"))?;
    let axes = listed_axes(list(b, 3, "axes")?, starts.len(), dims.len())?;
    let steps = list(b, 4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    let (mut from, mut by) = (vec![0i64; dims.len()], vec![1i64; dims.len()]);
    for ((&start, &axis), &step) in starts.iter().zip(&axes).zip(&steps) {
        let size = dims[axis] as i64;
        let start = if start < 0 { start.saturating_add(size) } else { start };
        from[axis] = start.clamp(0, if step < 0 { (size - 1).max(0) } else { size });
        by[axis] = step;
    }
    let (perm, t, form) = take(b, x)?;
    let shape = b.of(t).shape.clone();
    let of = b.of(t).shaped(&permuted(&made, &perm));
    let (from, by, sizes) = (permuted(&from, &perm), permuted(&by, &perm), permuted(&made, &perm));
    let narrow = |v: i64| i32::try_from(v).map_err(|_| Error::unsupported(format!("{v} is too large for TensorFlow Lite")));
    let starts: Vec<i32> = from.iter().map(|&v| narrow(v)).collect::<Result<_>>()?;
    let starts = b.i32s(&[from.len()], &starts);
    let t = if by.iter().all(|&s| s == 1) {
        let sizes = b.ints_tensor(&sizes)?;
        b.op(codes::slice(), &[t, starts, sizes], of)
    } else {
        // Backwards to the first element, an end before it is told by a mask.
        let mut mask = 0;
        let mut ends = Vec::new();
        for (i, ((&f, &s), &n)) in from.iter().zip(&by).zip(&sizes).enumerate() {
            let end = f.saturating_add(s.saturating_mul(n as i64)).min(shape[i] as i64);
            if end < 0 {
                mask |= 1 << i;
            }
            ends.push(narrow(end.max(0))?);
        }
        let steps: Vec<i32> = by.iter().map(|&v| narrow(v)).collect::<Result<_>>()?;
        let (ends, steps) = (b.i32s(&[by.len()], &ends), b.i32s(&[by.len()], &steps));
        b.op(codes::strided_slice(mask), &[t, starts, ends, steps], of)
    };
    b.hold(y, perm, t, form);
    Ok(())
}

/// Elements along an axis by number. Numbers from the end are counted from the start where they are known.
pub(super) fn gather(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, i, y) = (&node.inputs[0], &node.inputs[1], &node.outputs[0]);
    let (dims, at) = (b.dims(x)?, b.dims(i)?);
    let axis = normalize_axis(node.get_int("axis", 0)?, dims.len())?;
    let (perm, t, form) = take(b, x)?;
    let indices = match b.constant(i) {
        Some(c) => {
            let size = dims[axis] as i64;
            let values: Vec<i32> = c.to_i64s()?.iter().map(|&v| (if v < 0 { v + size } else { v }) as i32).collect();
            b.i32s(&at, &values)
        }
        None => b.read(i, &plain(at.len()), Form::Real)?,
    };
    let place = places(&perm)[axis];
    let shape = b.of(t).shape.clone();
    let made: Vec<usize> = shape[..place].iter().chain(&at).chain(&shape[place + 1..]).copied().collect();
    let of = b.of(t).shaped(&made);
    let t = b.op(codes::gather(place), &[t, indices], of);
    // Axes behind the gathered one move by what its place now holds.
    let moved = |a: usize| if a < axis { a } else { a + at.len() - 1 };
    let perm =
        perm[..place].iter().map(|&a| moved(a)).chain(axis..axis + at.len()).chain(perm[place + 1..].iter().map(|&a| moved(a))).collect();
    b.hold(y, perm, t, form);
    Ok(())
}

pub(super) fn takes_gather_nd(_: &Graph, node: &Node) -> bool {
    node.get_int("batch_dims", 0).is_ok_and(|d| d == 0)
}

pub(super) fn gather_nd(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, i, y) = (&node.inputs[0], &node.inputs[1], &node.outputs[0]);
    let (dims, at, made) = (b.dims(x)?, b.dims(i)?, b.dims(y)?);
    let t = b.read(x, &plain(dims.len()), Form::Real)?;
    let indices = b.read(i, &plain(at.len()), Form::Real)?;
    let of = b.of(t).shaped(&made);
    let t = b.op(codes::gather_nd(), &[t, indices], of);
    b.hold(y, plain(made.len()), t, Form::Real);
    Ok(())
}

/// For each place of the indices, the element of that number along the axis: GATHER_ND of all places.
pub(super) fn gather_elements(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, i, y) = (&node.inputs[0], &node.inputs[1], &node.outputs[0]);
    let (dims, at) = (b.dims(x)?, b.dims(i)?);
    let axis = normalize_axis(node.get_int("axis", 0)?, dims.len())?;
    let t = b.read(x, &plain(dims.len()), Form::Real)?;
    let indices = b.read(i, &plain(at.len()), Form::Real)?;
    let mut column = at.clone();
    column.push(1);
    let count: usize = at.iter().product();
    let indices = b.reshape(indices, &column)?;
    let mut columns = Vec::new();
    for (a, _) in dims.iter().enumerate() {
        if a == axis {
            columns.push(indices);
            continue;
        }
        let step: usize = at[a + 1..].iter().product();
        let places: Vec<i32> = (0..count).map(|i| (i / step % at[a]) as i32).collect();
        columns.push(b.i32s(&column, &places));
    }
    column[at.len()] = dims.len();
    let all = if columns.len() == 1 { indices } else { b.op(codes::concatenation(at.len()), &columns, Type::new(Kind::I32, &column)) };
    let of = b.of(t).shaped(&at);
    let t = b.op(codes::gather_nd(), &[t, all], of);
    b.hold(y, plain(at.len()), t, Form::Real);
    Ok(())
}

/// Padding with a number or by reflection, none of it negative.
pub(super) fn takes_pad(_: &Graph, node: &Node) -> bool {
    let mode = node.get_str("mode", "constant").is_ok_and(|m| matches!(m, "constant" | "reflect"));
    mode && node.find_ints("pads").is_ok_and(|p| p.is_none_or(|p| p.iter().all(|&p| p >= 0)))
}

pub(super) fn pad(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let (dims, made) = (b.dims(x)?, b.dims(y)?);
    let given = match node.find_ints("pads")? {
        Some(p) => p.to_vec(),
        None => b.ints(node, 1)?.ok_or_else(|| Error::unsupported("its pads must be known"))?,
    };
    let axes = match b.ints(node, 3)? {
        Some(axes) => axes.iter().map(|&a| normalize_axis(a, dims.len())).collect::<Result<Vec<_>>>()?,
        None => plain(dims.len()),
    };
    let mut widths = vec![[0i32; 2]; dims.len()];
    for (i, &a) in axes.iter().enumerate() {
        for (side, at) in [i, i + axes.len()].into_iter().enumerate() {
            widths[a][side] = given
                .get(at)
                .and_then(|&p| i32::try_from(p).ok())
                .filter(|&p| p >= 0)
                .ok_or_else(|| Error::unsupported(format!("pads must not be negative, got {given:?}")))?;
        }
    }
    let reflects = node.get_str("mode", "constant")? == "reflect";
    let value = match node.input(2).filter(|_| !reflects) {
        Some(v) => b.floats(v)?.first().copied().unwrap_or_default(),
        None => node.get_float("value", 0.0)?,
    };
    let (perm, mut t, mut form) = take(b, x)?;
    if form == Form::Rounded && value != 0.0 {
        (t, form) = (b.read(x, &perm, Form::Real)?, Form::Real);
    }
    let of = b.of(t).shaped(&permuted(&made, &perm));
    let widths: Vec<i32> = permuted(&widths, &perm).into_iter().flatten().collect();
    let widths = b.i32s(&[dims.len(), 2], &widths);
    let t = if reflects {
        b.op(codes::mirror_pad(), &[t, widths], of)
    } else if value == 0.0 {
        b.op(codes::pad(), &[t, widths], of)
    } else {
        let value = if of.kind == Kind::I32 { b.i32s(&[1], &[value as i32]) } else { b.f32s("value", &[1], &[value]) };
        b.op(codes::padv2(), &[t, widths, value], of)
    };
    b.hold(y, perm, t, form);
    Ok(())
}

/// Tile, and Expand, which repeats axes of size one.
pub(super) fn repeat(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let (dims, made) = (b.dims(x)?, b.dims(y)?);
    let lead = made.len() - dims.len();
    // Axes that the result has before those of the input.
    let held = b.order(x)?;
    let perm: Vec<usize> = (0..lead).chain(held.iter().map(|a| a + lead)).collect();
    let form = if lead == 0 { form(b, x) } else { Form::Real };
    let t = b.read(x, &held, form)?;
    let shape: Vec<usize> = std::iter::repeat_n(1, lead).chain(b.of(t).shape.iter().copied()).collect();
    let t = if lead == 0 { t } else { b.reshape(t, &shape)? };
    let wanted = permuted(&made, &perm);
    let times: Vec<usize> = wanted.iter().zip(&shape).map(|(&w, &s)| w / s.max(1)).collect();
    let t = if times.iter().all(|&n| n == 1) {
        t
    } else {
        let of = b.of(t).shaped(&wanted);
        let times = b.ints_tensor(&times)?;
        b.op(codes::tile(), &[t, times], of)
    };
    b.hold(y, perm, t, form);
    Ok(())
}

/// Channels as squares of pixels, in either order of the parts; SpaceToDepth the other way.
pub(super) fn depth_space(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let (dims, made) = (b.dims(x)?, b.dims(y)?);
    let block = node.get_int("blocksize", 1)?.max(1) as usize;
    // Its kernels take no int16.
    let form = if b.grid(x).is_some_and(|g| g.kind == Kind::I16) { Form::Real } else { form(b, x) };
    let perm = vec![0, 2, 3, 1];
    let mut t = b.read(x, &perm, form)?;
    let of = b.of(t).shaped(&permuted(&made, &perm));
    let space = node.is("SpaceToDepth");
    if !space && node.get_str("mode", "DCR")? == "CRD" {
        // The parts of a square stand behind the channel there, before it here.
        t = shuffled(b, t, [dims[1] / (block * block), block * block])?;
    }
    let call = if space { codes::space_to_depth(block) } else { codes::depth_to_space(block) };
    let t = b.op(call, &[t], of);
    b.hold(y, perm, t, form);
    Ok(())
}

/// The channels (last axis) of a tensor, a table of this shape, by columns.
fn shuffled(b: &mut Builder<'_>, t: usize, table: [usize; 2]) -> Result<usize> {
    let [rows, columns] = table;
    let shape = b.of(t).shape.clone();
    let order: Vec<i32> = (0..columns).flat_map(|c| (0..rows).map(move |r| (r * columns + c) as i32)).collect();
    let made = b.of(t).clone();
    let order = b.i32s(&[order.len()], &order);
    Ok(b.op(codes::gather(shape.len() - 1), &[t, order], made))
}
