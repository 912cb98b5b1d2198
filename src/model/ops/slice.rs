//! Parts and joins of tensors: Slice, Split, Concat, Pad, Tile.
//!
//! <https://onnx.ai/onnx/operators/onnx__Slice.html> and siblings.

mod labels;

use super::facts::{Item, axes_of, fact, items, of_items, same_elements, size};
use super::{Exec, OpDef, QuantRule};
use crate::error::{Error, Result};
use crate::model::graph::{Dim, Fact, Infer, Node, normalize_axis};
use crate::model::value::Value;
use candle_core::Tensor;

pub const OPS: &[OpDef] = &[
    OpDef::new("Slice", &[1, 10, 11, 13], infer_slice, slice).quant(QuantRule::SameScale).channels(labels::slice),
    OpDef::new("Split", &[2, 11, 13, 18], infer_split, split).quant(QuantRule::SameScale).channels(labels::split),
    OpDef::new("Concat", &[4, 11, 13], infer_concat, concat).quant(QuantRule::SameScale).channels(labels::concat),
    OpDef::new("Pad", &[2, 11, 13, 18, 19, 21, 23, 24, 25], infer_pad, pad).quant(QuantRule::SameScale).channels(labels::pad),
    OpDef::new("Tile", &[6, 13], infer_tile, tile).quant(QuantRule::SameScale).channels(labels::tile),
];

/// A tensor of zeros when a result has no elements (candle's kernels need at least one), else what `f` makes.
pub fn unless_empty(like: &Tensor, dims: &[usize], f: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    if dims.contains(&0) { Ok(Tensor::zeros(dims, like.dtype(), like.device())?) } else { f() }
}

/// Selects indices along an axis; differentiable.
pub fn select(x: &Tensor, axis: usize, indices: &[usize]) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    dims[axis] = indices.len();
    unless_empty(x, &dims, || {
        let ids = indices.iter().map(|&i| u32::try_from(i)).collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|_| Error::unsupported("axes of more than 2^32 indices are not supported"))?;
        Ok(x.contiguous()?.index_select(&Tensor::new(ids, x.device())?, axis)?)
    })
}

/// Start, step and length of a slice of an axis of size `d`.
fn slice_range(start: i64, end: i64, step: i64, d: usize) -> Result<(i64, usize)> {
    if step == 0 {
        return Err(Error::argument("a slice step is 0"));
    }
    let d = i64::try_from(d).map_err(|_| Error::shape("the axis is too long"))?;
    let wrap = |v: i64| if v < 0 { v.saturating_add(d) } else { v };
    let (start, end) = if step > 0 {
        (wrap(start).clamp(0, d), wrap(end).clamp(0, d))
    } else {
        (wrap(start).clamp(0, (d - 1).max(0)), wrap(end).clamp(-1, d - 1))
    };
    let span = if step > 0 { end - start } else { start - end };
    let count = if span <= 0 || d == 0 { 0 } else { (span - 1) / step.saturating_abs() + 1 };
    Ok((start, usize::try_from(count).unwrap_or(0)))
}

/// The axes that a slice or pad lists, or all in order.
fn listed_axes(axes: Option<Vec<i64>>, count: usize, rank: usize) -> Result<Vec<usize>> {
    match axes {
        Some(a) if a.len() == count => axes_of(&a, rank),
        Some(a) => Err(Error::shape(format!("{} axes are given for {count} entries", a.len()))),
        None if count <= rank => Ok((0..count).collect()),
        None => Err(Error::shape(format!("{count} entries are given for rank {rank}"))),
    }
}

fn infer_slice(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    let unknown = || Ok(vec![fact(x.element, Some(vec![Dim::Unknown; shape.len()]))]);
    let list = |name: &str, i: usize| -> Result<Option<Vec<Item>>> {
        match cx.node.find_ints(name)? {
            Some(v) => Ok(Some(v.iter().map(|&v| Item::Int(v)).collect())),
            None => Ok(cx.get(i).and_then(items)),
        }
    };
    let (Some(starts), Some(ends)) = (list("starts", 1)?, list("ends", 2)?) else { return unknown() };
    let ints = |v: Option<Vec<Item>>| v.map(|v| v.iter().map(Item::int).collect::<Option<Vec<_>>>());
    let (axes, steps) = (ints(list("axes", 3)?), ints(list("steps", 4)?));
    if matches!(axes, Some(None)) || (cx.get(3).is_some() && axes.is_none()) {
        return unknown();
    }
    let axes = listed_axes(axes.flatten(), starts.len(), shape.len())?;
    let steps = match steps {
        Some(Some(s)) => s.into_iter().map(Some).collect(),
        None if cx.get(4).is_none() => vec![Some(1); axes.len()],
        _ => vec![None; axes.len()],
    };
    if ends.len() != axes.len() || steps.len() != axes.len() {
        return Err(Error::shape(format!("{} starts, {} ends and {} steps are given", starts.len(), ends.len(), steps.len())));
    }
    let mut out = shape.clone();
    for (i, &a) in axes.iter().enumerate() {
        out[a] = sliced(&shape[a], &starts[i], &ends[i], steps[i])?;
    }
    let result = fact(x.element, Some(out));
    // The contents of a vector, when the slice is known.
    if let (Some(v), [a], [Item::Int(s)], [Item::Int(e)], [Some(step)]) =
        (items(x), axes.as_slice(), starts.as_slice(), ends.as_slice(), steps.as_slice())
        && x.element.is_int()
        && shape.len() == 1
    {
        debug_assert_eq!(*a, 0);
        let (start, count) = slice_range(*s, *e, *step, v.len())?;
        let part: Vec<Item> = (0..count as i64).map(|i| v[usize::try_from(start + i * step).unwrap_or(0)].clone()).collect();
        return Ok(vec![of_items(x.element, false, &part)]);
    }
    Ok(vec![result])
}

fn sliced(d: &Dim, start: &Item, end: &Item, step: Option<i64>) -> Result<Dim> {
    Ok(match (d, start, end, step) {
        (Dim::Known(n), Item::Int(s), Item::Int(e), Some(step)) => Dim::Known(slice_range(*s, *e, step, *n)?.1),
        (Dim::Known(0), ..) => Dim::Known(0),
        (_, Item::Int(0), Item::Size(e), Some(1)) if e == d && *d != Dim::Unknown => d.clone(),
        (Dim::Symbol(_), Item::Int(s), Item::Int(e), Some(1)) if *s >= 0 && *e >= i64::from(i32::MAX) => {
            if *s == 0 {
                d.clone()
            } else {
                d.map(&format!("({{}}-{s})"), |_| None)
            }
        }
        (Dim::Symbol(_), Item::Int(0), Item::Int(e), Some(1)) if *e < 0 => d.map(&format!("({{}}{e})"), |_| None),
        _ => Dim::Unknown,
    })
}

fn slice(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let mut x = cx.tensor(0)?.clone();
    let list = |name: &str, i: usize| -> Result<Option<Vec<i64>>> {
        match cx.node.find_ints(name)? {
            Some(v) => Ok(Some(v.to_vec())),
            None => cx.ints(i),
        }
    };
    let missing = |what: &str| Error::format(format!("the {what} are missing"));
    let starts = list("starts", 1)?.ok_or_else(|| missing("starts"))?;
    let ends = list("ends", 2)?.ok_or_else(|| missing("ends"))?;
    let axes = listed_axes(list("axes", 3)?, starts.len(), x.rank())?;
    let steps = list("steps", 4)?.unwrap_or_else(|| vec![1; axes.len()]);
    if ends.len() != axes.len() || steps.len() != axes.len() {
        return Err(Error::shape(format!("{} starts, {} ends and {} steps are given", starts.len(), ends.len(), steps.len())));
    }
    for (i, &a) in axes.iter().enumerate() {
        let (start, count) = slice_range(starts[i], ends[i], steps[i], x.dims()[a])?;
        let mut dims = x.dims().to_vec();
        dims[a] = count;
        x = unless_empty(&x, &dims, || {
            if steps[i] == 1 {
                return Ok(x.narrow(a, usize::try_from(start).unwrap_or(0), count)?);
            }
            let ids: Vec<usize> = (0..count as i64).filter_map(|k| usize::try_from(start + k * steps[i]).ok()).collect();
            select(&x, a, &ids)
        })?;
    }
    cx.one(x)
}

/// The sizes of Split's parts, or `None` when they are given by an unknown input.
fn split_sizes(node: &Node, given: Option<Option<Vec<i64>>>, d: usize) -> Result<Option<Vec<usize>>> {
    let given = match (node.find_ints("split")?, given) {
        (Some(s), _) => Some(s.to_vec()),
        (None, Some(None)) => return Ok(None),
        (None, Some(Some(s))) => Some(s),
        (None, None) => None,
    };
    let n = usize::try_from(node.get_int("num_outputs", node.outputs.len() as i64)?).unwrap_or(0);
    let Some(given) = given else {
        if n == 0 || n != node.outputs.len() {
            return Err(Error::format(format!("num_outputs is {n}, but the node has {} outputs", node.outputs.len())));
        }
        let part = d.div_ceil(n);
        if !d.is_multiple_of(n) && !node.attrs.contains_key("num_outputs") {
            return Err(Error::shape(format!("an axis of size {d} does not split into {n} equal parts")));
        }
        return Ok(Some((0..n).map(|i| part.min(d.saturating_sub(i * part))).collect()));
    };
    let sizes = given.iter().map(|&v| size(v, "a part's size")).collect::<Result<Vec<_>>>()?;
    if sizes.len() != node.outputs.len() || sizes.iter().sum::<usize>() != d {
        return Err(Error::shape(format!("parts of {sizes:?} do not make {} outputs of an axis of size {d}", node.outputs.len())));
    }
    Ok(Some(sizes))
}

fn infer_split(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let n = cx.node.outputs.len();
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None); n]) };
    let axis = normalize_axis(cx.node.get_int("axis", 0)?, shape.len())?;
    let given = if cx.get(1).is_some() { Some(cx.ints(1)?) } else { None };
    let sizes: Vec<Dim> = match &shape[axis] {
        Dim::Known(d) => match split_sizes(cx.node, given, *d)? {
            Some(v) => v.into_iter().map(Dim::Known).collect(),
            None => vec![Dim::Unknown; n],
        },
        _ => match cx.node.find_ints("split")?.map(<[i64]>::to_vec).or(given.flatten()) {
            Some(v) if v.len() == n => v.iter().map(|&v| Ok(Dim::Known(size(v, "a part's size")?))).collect::<Result<_>>()?,
            _ => vec![Dim::Unknown; n],
        },
    };
    let contents = items(x).filter(|v| x.element.is_int() && shape.len() == 1 && shape[0] == Dim::Known(v.len()));
    let mut at = 0;
    Ok(sizes
        .into_iter()
        .map(|s| {
            if let (Some(v), Some(k)) = (&contents, s.known()) {
                at += k;
                return of_items(x.element, false, &v[at - k..at]);
            }
            let mut shape = shape.clone();
            shape[axis] = s;
            fact(x.element, Some(shape))
        })
        .collect())
}

fn split(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let axis = normalize_axis(cx.node.get_int("axis", 0)?, x.dims().len())?;
    let given = cx.ints(1)?.map(Some);
    let sizes = split_sizes(cx.node, given, x.dims()[axis])?.ok_or_else(|| Error::format("the sizes are missing"))?;
    let mut at = 0;
    sizes
        .into_iter()
        .map(|s| {
            let mut dims = x.dims().to_vec();
            dims[axis] = s;
            at += s;
            x.with(unless_empty(&x.tensor, &dims, || Ok(x.tensor.narrow(axis, at - s, s)?))?)
        })
        .collect()
}

fn concat_axis(node: &Node, rank: usize) -> Result<usize> {
    let axis = node.find_int("axis")?.ok_or_else(|| Error::format("attribute 'axis' is missing"))?;
    normalize_axis(axis, rank)
}

fn infer_concat(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    same_elements(cx, 0)?;
    let element = cx.input(0)?.element;
    let mut shapes = Vec::new();
    for i in 0..cx.input_count() {
        match cx.shape(i)? {
            Some(s) => shapes.push(s),
            None => return Ok(vec![fact(element, None)]),
        }
    }
    let rank = shapes[0].len();
    let axis = concat_axis(cx.node, rank)?;
    let mut out = shapes[0].to_vec();
    for (i, s) in shapes.iter().enumerate().skip(1) {
        let fits = s.len() == rank && (0..rank).all(|a| a == axis || s[a].compatible(&out[a]));
        if !fits {
            return Err(Error::shape(format!("input {i} ({}) does not fit input 0 ({}) on axis {axis}", cx.input(i)?, cx.input(0)?)));
        }
        for a in 0..rank {
            if a == axis {
                out[a] = out[a].plus(&s[a]);
            } else if out[a].known().is_none() && (s[a].known().is_some() || out[a] == Dim::Unknown) {
                out[a] = s[a].clone();
            }
        }
    }
    if element.is_int() && rank == 1 {
        // An input with unknown contents but a known length still leaves the others' entries known.
        let parts: Option<Vec<Vec<Item>>> = (0..cx.input_count())
            .map(|i| {
                let f = cx.get(i)?;
                items(f).or_else(|| Some(vec![Item::unknown(); f.dim(0).filter(|&n| n <= 64)?]))
            })
            .collect();
        if let Some(parts) = parts {
            return Ok(vec![of_items(element, false, &parts.concat())]);
        }
    }
    Ok(vec![fact(element, Some(out))])
}

fn concat(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let first = cx.input(0)?;
    let axis = concat_axis(cx.node, first.dims().len())?;
    let mut total = first.dims().to_vec();
    let mut parts = Vec::with_capacity(cx.input_count());
    for i in 0..cx.input_count() {
        let v = cx.input(i)?;
        if v.element != first.element {
            return Err(Error::dtype(format!("expected {} as input 0 has, got {} for input {i}", first.element, v.element)));
        }
        let fits = v.dims().len() == total.len() && (0..total.len()).all(|a| a == axis || v.dims()[a] == total[a]);
        if !fits {
            return Err(Error::shape(format!("input {i} {:?} does not fit input 0 {:?} on axis {axis}", v.dims(), first.dims())));
        }
        if i > 0 {
            total[axis] += v.dims()[axis];
        }
        if v.dims()[axis] > 0 {
            parts.push(&v.tensor);
        }
    }
    cx.one(unless_empty(&first.tensor, &total, || cat(&parts, axis))?)
}

/// Joins tensors along an axis. Parts that candle cannot copy in rows are made contiguous first, so that the result is.
pub fn cat(parts: &[&Tensor], axis: usize) -> Result<Tensor> {
    let parts = parts
        .iter()
        .map(|t| if copies_in_rows(t, axis) { Ok((*t).clone()) } else { t.contiguous() })
        .collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&parts, axis)?)
}

/// True when the axes from `axis` on are without gaps and those before it are evenly spaced: candle's condition.
fn copies_in_rows(t: &Tensor, axis: usize) -> bool {
    let (dims, stride) = (t.dims(), t.stride());
    let mut next = 1;
    for i in (axis..dims.len()).rev() {
        if stride[i] != next {
            return false;
        }
        next *= dims[i];
    }
    (1..axis).all(|i| stride[i - 1] == stride[i] * dims[i])
}

/// Padding per axis as (before, after); negative numbers cut off.
fn pad_amounts(pads: &[i64], axes: Option<Vec<i64>>, rank: usize) -> Result<Vec<(i64, i64)>> {
    if !pads.len().is_multiple_of(2) {
        return Err(Error::shape(format!("expected two paddings per axis, got {}", pads.len())));
    }
    let n = pads.len() / 2;
    let axes = listed_axes(axes, n, rank)?;
    if axes.len() != n {
        return Err(Error::shape(format!("{n} paddings are given for {} axes", axes.len())));
    }
    let mut out = vec![(0, 0); rank];
    for (i, a) in axes.into_iter().enumerate() {
        out[a] = (pads[i], pads[n + i]);
    }
    Ok(out)
}

fn infer_pad(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    let unknown = || Ok(vec![fact(x.element, Some(vec![Dim::Unknown; shape.len()]))]);
    let pads = match cx.node.find_ints("pads")? {
        Some(p) => p.to_vec(),
        None => match cx.ints(1)? {
            Some(p) => p,
            None => return unknown(),
        },
    };
    let axes = match cx.get(3) {
        None => None,
        Some(_) => match cx.ints(3)? {
            Some(a) => Some(a),
            None => return unknown(),
        },
    };
    let amounts = pad_amounts(&pads, axes, shape.len())?;
    let out = shape
        .iter()
        .zip(amounts)
        .map(|(d, (before, after))| {
            let total = before + after;
            match d {
                d if total == 0 => Ok(d.clone()),
                Dim::Known(n) => Ok(Dim::Known(size(*n as i64 + total, "a padded size")?)),
                d => Ok(d.map(&format!("({{}}{total:+})"), |_| None)),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(vec![fact(x.element, Some(out))])
}

fn pad(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let pads = match cx.node.find_ints("pads")? {
        Some(p) => p.to_vec(),
        None => cx.ints(1)?.ok_or_else(|| Error::format("the paddings are missing"))?,
    };
    let amounts = pad_amounts(&pads, cx.ints(3)?, x.dims().len())?;
    let fill = match cx.get(2) {
        Some(v) if v.tensor.elem_count() > 0 => v.tensor.flatten_all()?.narrow(0, 0, 1)?.reshape(())?,
        _ => Tensor::new(cx.node.get_float("value", 0.0)?, x.tensor.device())?,
    };
    let fill = fill.to_dtype(x.tensor.dtype())?;
    let mode = cx.node.get_str("mode", "constant")?;
    let mut out = x.tensor.clone();
    for (axis, (before, after)) in amounts.into_iter().enumerate() {
        out = pad_axis(&out, axis, before, after, mode, &fill)?;
    }
    cx.one(out)
}

fn pad_axis(x: &Tensor, axis: usize, before: i64, after: i64, mode: &str, fill: &Tensor) -> Result<Tensor> {
    if before == 0 && after == 0 {
        return Ok(x.clone());
    }
    let d = x.dims()[axis] as i64;
    let mut dims = x.dims().to_vec();
    dims[axis] = size(d + before + after, "a padded size")?;
    if mode == "constant" {
        return unless_empty(x, &dims, || {
            let border = |n: i64| -> Result<Option<Tensor>> {
                let mut dims = x.dims().to_vec();
                dims[axis] = usize::try_from(n).unwrap_or(0);
                Ok(if n > 0 { Some(fill.broadcast_as(dims)?.contiguous()?) } else { None })
            };
            let (cut, end) = ((-before).clamp(0, d), (d + after.min(0)).clamp(0, d));
            let kept = usize::try_from(end - cut).unwrap_or(0);
            let middle = if kept == 0 { None } else { Some(x.narrow(axis, usize::try_from(cut).unwrap_or(0), kept)?) };
            // A border beside a middle that was cut away entirely is shorter by what is missing.
            let missing = (end - cut).min(0);
            let (first, last) = (border(before + missing.min(0))?, border(after)?);
            let parts: Vec<&Tensor> = [&first, &middle, &last].into_iter().flatten().collect();
            cat(&parts, axis)
        });
    }
    if d == 0 {
        return Err(Error::shape(format!("an empty axis cannot be padded in mode '{mode}'")));
    }
    let source = |i: i64| -> Result<i64> {
        Ok(match mode {
            "edge" => i.clamp(0, d - 1),
            "wrap" => i.rem_euclid(d),
            "reflect" if d == 1 => 0,
            "reflect" => {
                let p = i.rem_euclid(2 * (d - 1));
                p.min(2 * (d - 1) - p)
            }
            _ => {
                return Err(
                    Error::unsupported(format!("padding mode '{mode}' is not supported")).hint("constant, reflect, edge and wrap are")
                );
            }
        })
    };
    let ids = (0..dims[axis] as i64).map(|i| source(i - before).map(|v| usize::try_from(v).unwrap_or(0))).collect::<Result<Vec<_>>>()?;
    select(x, axis, &ids)
}

fn infer_tile(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    let Some(repeats) = items(cx.input(1)?) else { return Ok(vec![fact(x.element, Some(vec![Dim::Unknown; shape.len()]))]) };
    if repeats.len() != shape.len() {
        return Err(Error::shape(format!("{} repeats are given for rank {}", repeats.len(), shape.len())));
    }
    let out = shape.iter().zip(&repeats).map(|(d, r)| d.times(&r.to_dim())).collect();
    Ok(vec![fact(x.element, Some(out))])
}

fn tile(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let repeats = cx.ints(1)?.ok_or_else(|| Error::format("the repeats are missing"))?;
    if repeats.len() != x.rank() {
        return Err(Error::shape(format!("{} repeats are given for rank {}", repeats.len(), x.rank())));
    }
    let repeats = repeats.iter().map(|&r| size(r, "a repeat")).collect::<Result<Vec<_>>>()?;
    let dims: Vec<usize> = x.dims().iter().zip(&repeats).map(|(d, r)| d * r).collect();
    let out = unless_empty(x, &dims, || {
        let mut out = x.clone();
        for (axis, &n) in repeats.iter().enumerate().filter(|(_, n)| **n > 1) {
            let copies = vec![&out; n];
            out = cat(&copies, axis)?;
        }
        Ok(out)
    })?;
    cx.one(out)
}
