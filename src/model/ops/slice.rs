//! Parts of tensors: Slice, Split.
//!
//! <https://onnx.ai/onnx/operators/onnx__Slice.html> and siblings.

pub(super) mod labels;

use super::backward::{Back, Flow};
use super::cat::cat;
use super::def::{OpDef, operators};
use super::facts::{Item, axes_of, axis_of, fact, items, of_items, size};
use super::run::Exec;
use crate::graph::{Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

operators! {
    pub const SLICE: &str = "Slice";
    pub const SPLIT: &str = "Split";
}

/// Operators that take parts of tensors.
pub const OPS: &[OpDef] = &[
    OpDef::new(SLICE, &[1, 10, 11, 13], infer_slice, slice).moves().channels(labels::slice),
    OpDef::new(SPLIT, &[2, 11, 13, 18], infer_split, split).moves().backward(|_| Some(split_backward)).channels(labels::split),
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
pub fn listed_axes(axes: Option<Vec<i64>>, count: usize, rank: usize) -> Result<Vec<usize>> {
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
    if sizes.len() != node.outputs.len() || sizes.iter().try_fold(0usize, |all, &n| all.checked_add(n)) != Some(d) {
        return Err(Error::shape(format!("parts of {sizes:?} do not make {} outputs of an axis of size {d}", node.outputs.len())));
    }
    Ok(Some(sizes))
}

fn infer_split(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let n = cx.node.outputs.len();
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None); n]) };
    let axis = axis_of(cx.node.get_int("axis", 0)?, shape.len())?;
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

fn split_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let axis = axis_of(back.cx.node.get_int("axis", 0)?, back.cx.tensor(0)?.rank())?;
    // All parts together are the whole gradient.
    let parts: Vec<&Tensor> = back.gradients.iter().flatten().collect();
    if parts.len() == back.made.len() {
        return Ok(vec![(0, Flow::Own(cat(&parts, axis)?))]);
    }
    let mut flows = Vec::new();
    let mut start = 0;
    for (part, gradient) in back.made.iter().zip(&back.gradients) {
        flows.extend(gradient.clone().map(|gradient| (0, Flow::Part { axis, start, gradient })));
        start += part.dims()[axis];
    }
    Ok(flows)
}

fn split(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let axis = axis_of(cx.node.get_int("axis", 0)?, x.dims().len())?;
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
