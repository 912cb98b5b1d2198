//! Writing by index: ScatterElements (and its old name Scatter), ScatterND, TensorScatter.
//!
//! <https://onnx.ai/onnx/operators/onnx__ScatterElements.html>, <https://onnx.ai/onnx/operators/onnx__ScatterND.html>.
//! Differentiable for replacing and adding; products, minima and maxima pass no gradient.

use super::def::{OpDef, operators};
use super::facts::{axis_of, infer_same};
use super::gather::{element_positions, tuple_positions};
use super::ints::Ints;
use super::roles::Data;
use super::run::Exec;
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

operators! {
    pub const SCATTER: &str = "Scatter";
    pub const SCATTER_ELEMENTS: &str = "ScatterElements";
    pub const SCATTER_ND: &str = "ScatterND";
}

/// Operators that write elements and slices by index.
pub const OPS: &[OpDef] = &[
    OpDef::new(SCATTER_ELEMENTS, &[11, 13, 16, 18], infer_same, scatter_elements).sums().data(Data::At(&[0, 2])),
    OpDef::new(SCATTER, &[9, 11], infer_same, scatter_elements).sums().data(Data::At(&[0, 2])),
    OpDef::new(SCATTER_ND, &[11, 13, 16, 18], infer_same, scatter_nd).sums().data(Data::At(&[0, 2])),
    OpDef::new("TensorScatter", &[24], infer_same, tensor_scatter).data(Data::At(&[0, 1])),
];

fn scatter_elements(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, ids, updates) = (cx.input(0)?, Ints::of(cx.input(1)?)?, cx.input(2)?);
    let axis = axis_of(cx.node.get_int("axis", 0)?, x.dims().len())?;
    if updates.dims() != ids.dims {
        return Err(Error::shape(format!("indices {:?} and updates {:?} differ", ids.dims, updates.dims())));
    }
    let at = element_positions(x.dims(), &ids, axis)?;
    scatter(cx, x, &at, updates)
}

fn scatter_nd(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, ids, updates) = (cx.input(0)?, Ints::of(cx.input(1)?)?, cx.input(2)?);
    let (at, slice) = tuple_positions(x.dims(), &ids, 0)?;
    let n: usize = slice.iter().product();
    let expected: Vec<usize> = ids.dims[..ids.dims.len() - 1].iter().chain(&slice).copied().collect();
    if updates.dims() != expected {
        return Err(Error::shape(format!("expected updates of shape {expected:?}, got {:?}", updates.dims())));
    }
    let positions: Vec<usize> = at.iter().flat_map(|&p| p..p + n).collect();
    scatter(cx, x, &positions, updates)
}

/// Writes a piece of a sequence into each image of a cache, from an index on.
fn tensor_scatter(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, updates) = (cx.input(0)?, cx.input(1)?);
    let (dims, new) = (x.dims(), updates.dims());
    let axis = axis_of(cx.node.get_int("axis", -2)?, dims.len())?;
    let fits = new.len() == dims.len() && (0..dims.len()).all(|a| if a == axis { new[a] <= dims[a] } else { new[a] == dims[a] });
    if axis == 0 || !fits {
        return Err(Error::shape(format!("updates {new:?} do not fit a cache {dims:?} along axis {axis}")));
    }
    let circular = match cx.node.get_str("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(Error::format(format!("attribute 'mode' must be linear or circular, got '{other}'"))),
    };
    let starts = cx.ints(2)?.unwrap_or_else(|| vec![0; dims[0]]);
    if starts.len() != dims[0] {
        return Err(Error::shape(format!("{} indices are given for {} images", starts.len(), dims[0])));
    }
    let size = dims[axis] as i64;
    let inner: usize = dims[axis + 1..].iter().product();
    let per_image: usize = dims[1..axis].iter().product();
    let mut positions = Vec::with_capacity(updates.tensor.elem_count());
    for prefix in 0..if updates.tensor.elem_count() == 0 { 0 } else { dims[0] * per_image } {
        for step in 0..new[axis] {
            let at = starts[prefix / per_image].saturating_add(step as i64);
            let at = if circular { at.rem_euclid(size) } else { at };
            let row = usize::try_from(at).ok().filter(|_| at < size);
            let row = row.ok_or_else(|| Error::shape(format!("index {at} is out of range for a cache of {size}")))?;
            positions.extend((0..inner).map(|k| (prefix * dims[axis] + row) * inner + k));
        }
    }
    scatter(cx, x, &positions, updates)
}

/// Writes `updates` at row-major positions of `x`, combined as the node says.
fn scatter(cx: &Exec<'_>, x: &Value, at: &[usize], updates: &Value) -> Result<Vec<Value>> {
    if updates.element != x.element {
        return Err(Error::dtype(format!("expected updates of type {}, got {}", x.element, updates.element)));
    }
    if at.is_empty() || x.tensor.elem_count() == 0 {
        return Ok(vec![x.clone()]);
    }
    let how = cx.node.get_str("reduction", "none")?;
    if !matches!(how, "none" | "add" | "mul" | "min" | "max") {
        return Err(Error::unsupported(format!("the reduction '{how}' is not supported")).hint("none, add, mul, min and max are"));
    }
    if !x.element.is_float() {
        let (mut data, new) = (Ints::of(x)?, Ints::of(updates)?);
        for (&p, &v) in at.iter().zip(&new.data) {
            let old = &mut data.data[p];
            *old = match how {
                "add" => old.wrapping_add(v),
                "mul" => old.wrapping_mul(v),
                "min" => v.min(*old),
                "max" => v.max(*old),
                _ => v,
            };
        }
        return Ok(vec![data.into_value(x.element, x.tensor.device())?]);
    }
    let device = x.tensor.device();
    let flat = x.tensor.flatten_all()?.contiguous()?;
    let new = updates.tensor.flatten_all()?.contiguous()?;
    let out = match how {
        "none" | "add" => {
            // When a position is written more than once, the last write stays.
            let (base, ids, new) = if how == "none" {
                let mut last = std::collections::HashMap::new();
                for (i, &p) in at.iter().enumerate() {
                    last.insert(p, i);
                }
                let kept: Vec<usize> = (0..at.len()).filter(|&i| last[&at[i]] == i).collect();
                let mut free = vec![1u8; flat.elem_count()];
                kept.iter().for_each(|&i| free[at[i]] = 0);
                let free = Tensor::from_vec(free, flat.shape(), device)?;
                let ids: Vec<u32> = kept.iter().map(|&i| at[i] as u32).collect();
                let new = if kept.len() == at.len() { new } else { super::slice::select(&new, 0, &kept)? };
                (free.where_cond(&flat, &flat.zeros_like()?)?, ids, new)
            } else {
                (flat, at.iter().map(|&p| p as u32).collect(), new)
            };
            base.index_add(&Tensor::new(ids, device)?, &new, 0)?
        }
        _ => {
            let (mut data, new) = (x.to_f64s()?, updates.to_f64s()?);
            for (&p, &v) in at.iter().zip(&new) {
                let old = &mut data[p];
                *old = match how {
                    "mul" => *old * v,
                    "min" => v.min(*old),
                    _ => v.max(*old),
                };
            }
            Tensor::from_vec(data, x.tensor.elem_count(), device)?.to_dtype(x.tensor.dtype())?
        }
    };
    Ok(vec![x.with(out.reshape(x.dims())?)?])
}
