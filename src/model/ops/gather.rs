//! Selection by index: Gather, GatherElements, GatherND.
//!
//! <https://onnx.ai/onnx/operators/onnx__Gather.html> and siblings. Negative indices count from the end.

use super::channels::{Atom, AxisLabels, Channels};
use super::def::{OpDef, operators};
use super::facts::{Item, axis_of, fact, items, of_items};
use super::ints::{Ints, count, strides};
use super::run::Exec;
use super::slice::unless_empty;
use crate::graph::{Dim, Fact, Infer, normalize_axis};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use std::sync::Arc;

operators! {
    pub const GATHER: &str = "Gather";
    pub const GATHER_ELEMENTS: &str = "GatherElements";
}

/// Operators that select elements and slices by index.
pub const OPS: &[OpDef] = &[
    OpDef::new(GATHER, &[1, 11, 13], infer_gather, gather).moves().channels(gather_channels),
    OpDef::new(GATHER_ELEMENTS, &[11, 13], infer_gather_elements, gather_elements).moves(),
    OpDef::new("GatherND", &[11, 12, 13], infer_gather_nd, gather_nd).moves(),
];

/// The elements at row-major positions, as a tensor of shape `dims`; differentiable.
pub fn pick(x: &Tensor, positions: &[usize], dims: &[usize]) -> Result<Tensor> {
    unless_empty(x, dims, || {
        let ids = positions.iter().map(|&i| u32::try_from(i)).collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|_| Error::unsupported("tensors of more than 2^32 elements are not supported"))?;
        Ok(x.flatten_all()?.contiguous()?.index_select(&Tensor::new(ids, x.device())?, 0)?.reshape(dims)?)
    })
}

/// An index of an axis of size `d`, counted from the end when negative.
///
/// # Errors
/// `Shape` when it is out of range.
pub fn index(i: i64, d: usize) -> Result<usize> {
    let n = i64::try_from(d).unwrap_or(i64::MAX);
    let at = if i < 0 { i + n } else { i };
    usize::try_from(at).ok().filter(|&a| a < d).ok_or_else(|| Error::shape(format!("index {i} is out of range for an axis of size {d}")))
}

fn infer_gather(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let (x, ids) = (cx.input(0)?, cx.input(1)?);
    let (Some(shape), Some(picked)) = (&x.shape, &ids.shape) else { return Ok(vec![fact(x.element, None)]) };
    let axis = axis_of(cx.node.get_int("axis", 0)?, shape.len())?;
    if shape.is_empty() {
        return Err(Error::shape("cannot gather from a scalar"));
    }
    if x.element.is_int()
        && shape.len() == 1
        && picked.len() <= 1
        && let (Some(v), Some(want)) = (items(x), cx.ints(1)?)
    {
        let part = want.iter().map(|&i| Ok(v[index(i, v.len())?].clone())).collect::<Result<Vec<Item>>>()?;
        return Ok(vec![of_items(x.element, picked.is_empty(), &part)]);
    }
    let out: Vec<Dim> = shape[..axis].iter().chain(picked).chain(&shape[axis + 1..]).cloned().collect();
    Ok(vec![fact(x.element, Some(out))])
}

fn gather(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, ids) = (cx.tensor(0)?, Ints::of(cx.input(1)?)?);
    let axis = axis_of(cx.node.get_int("axis", 0)?, x.rank())?;
    if x.rank() == 0 {
        return Err(Error::shape("cannot gather from a scalar"));
    }
    let d = x.dims()[axis];
    let at = ids.data.iter().map(|&i| index(i, d)).collect::<Result<Vec<_>>>()?;
    let dims: Vec<usize> = x.dims()[..axis].iter().chain(&ids.dims).chain(&x.dims()[axis + 1..]).copied().collect();
    // A run of consecutive indices is a view.
    let out = unless_empty(x, &dims, || {
        let run = at.iter().zip(&at[1..]).all(|(a, b)| a + 1 == *b);
        Ok(if run { x.narrow(axis, at[0], at.len())? } else { super::slice::select(x, axis, &at)? }.reshape(dims.as_slice())?)
    })?;
    cx.one(out)
}

fn infer_gather_elements(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let (x, ids) = (cx.input(0)?, cx.input(1)?);
    if let (Some(from), Some(to)) = (&x.shape, &ids.shape) {
        let axis = normalize_axis(cx.node.get_int("axis", 0)?, from.len())?;
        let larger = |d: usize| d != axis && to[d].known().zip(from[d].known()).is_some_and(|(to, from)| to > from);
        if from.len() != to.len() || (0..from.len()).any(larger) {
            return Err(Error::shape(format!("indices {ids} do not fit data {x} on axis {axis}")));
        }
    }
    Ok(vec![fact(x.element, ids.shape.clone())])
}

/// The row-major positions in a tensor of shape `from` that an index tensor names along `axis`.
///
/// # Errors
/// `Shape` when the ranks differ, the index tensor is larger than the data beside the axis, or an index is out of range; `Memory`.
pub fn element_positions(from: &[usize], ids: &Ints, axis: usize) -> Result<Vec<usize>> {
    let fits = ids.dims.len() == from.len() && (0..from.len()).all(|a| a == axis || ids.dims[a] <= from[a]);
    if !fits {
        return Err(Error::shape(format!("indices {:?} do not fit data {from:?} on axis {axis}", ids.dims)));
    }
    count(&ids.dims)?;
    let mut steps = strides(from);
    let along = std::mem::replace(&mut steps[axis], 0);
    let base = super::ints::offsets(&ids.dims, &steps);
    base.into_iter().zip(&ids.data).map(|(b, &i)| Ok(b + index(i, from[axis])? * along)).collect()
}

fn gather_elements(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, ids) = (cx.tensor(0)?, Ints::of(cx.input(1)?)?);
    let axis = axis_of(cx.node.get_int("axis", 0)?, x.rank())?;
    let at = element_positions(x.dims(), &ids, axis)?;
    cx.one(pick(x, &at, &ids.dims)?)
}

fn infer_gather_nd(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let (x, ids) = (cx.input(0)?, cx.input(1)?);
    let (Some(shape), Some(picked)) = (&x.shape, &ids.shape) else { return Ok(vec![fact(x.element, None)]) };
    let batch = usize::try_from(cx.node.get_int("batch_dims", 0)?).unwrap_or(0);
    let out = picked.split_last().and_then(|(last, lead)| {
        let rest = shape.get(batch + last.known()?..)?;
        Some(lead.iter().chain(rest).cloned().collect())
    });
    Ok(vec![fact(x.element, out)])
}

/// For index tuples in the last axis of `ids`, the row-major position where each tuple's slice starts and the shape of
/// one slice. The first `batch` axes of data and indices run together.
///
/// # Errors
/// `Shape` when tuples are longer than the data's rank or an index is out of range.
pub fn tuple_positions(from: &[usize], ids: &Ints, batch: usize) -> Result<(Vec<usize>, Vec<usize>)> {
    let wrong = || Error::shape(format!("index tuples {:?} do not fit data {from:?} with {batch} batch axes", ids.dims));
    let (&len, lead) = ids.dims.split_last().ok_or_else(wrong)?;
    let slice = from.get(batch + len..).ok_or_else(wrong)?.to_vec();
    if lead.len() < batch || lead[..batch] != from[..batch] {
        return Err(wrong());
    }
    let steps = strides(from);
    let tuples: usize = lead.iter().product();
    let per_batch = (tuples / from[..batch].iter().product::<usize>().max(1)).max(1);
    let batch_step = from[batch..].iter().product::<usize>();
    let at = (0..tuples)
        .map(|t| {
            let start = t / per_batch * batch_step;
            ids.data[t * len..(t + 1) * len]
                .iter()
                .enumerate()
                .try_fold(start, |p, (k, &i)| Ok(p + index(i, from[batch + k])? * steps[batch + k]))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((at, slice))
}

fn gather_nd(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, ids) = (cx.tensor(0)?, Ints::of(cx.input(1)?)?);
    let batch = usize::try_from(cx.node.get_int("batch_dims", 0)?).map_err(|_| Error::argument("batch_dims is negative"))?;
    let (at, slice) = tuple_positions(x.dims(), &ids, batch)?;
    let n: usize = slice.iter().product();
    let dims: Vec<usize> = ids.dims[..ids.dims.len() - 1].iter().chain(&slice).copied().collect();
    count(&dims)?;
    let positions: Vec<usize> = at.iter().flat_map(|&p| p..p + n).collect();
    cx.one(pick(x, &positions, &dims)?)
}

/// Channels of Gather with known indices: their labels; indices follow.
fn gather_channels(cx: &mut Channels<'_>) -> Result<()> {
    let axis = cx.normal_axis(0, cx.node.get_int("axis", 0)?)?;
    let mut axes = cx.axes(0)?;
    let picked = cx.shape(1)?.len();
    cx.freeze_input(1);
    let labels = axes.remove(axis);
    let mut middle: Vec<AxisLabels> = vec![None; picked];
    if let Some(labels) = labels {
        let n = labels.len() as i64;
        let index = |i: i64| usize::try_from(if i < 0 { i + n } else { i }).ok().filter(|&i| i < labels.len());
        match cx.ints(1).and_then(|v| v.into_iter().map(index).collect::<Option<Vec<usize>>>()) {
            Some(indices) => {
                let own: Arc<[Atom]> = indices.iter().map(|&i| labels[i]).collect();
                if picked == 1 {
                    middle[0] = Some(own);
                } else {
                    cx.freeze(&Some(own));
                }
                cx.indices(1, &Some(labels), indices);
            }
            None => cx.freeze(&Some(labels)),
        }
    }
    let out = axes[..axis].iter().cloned().chain(middle).chain(axes[axis..].iter().cloned()).collect();
    cx.set(0, out);
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    Ok(())
}
