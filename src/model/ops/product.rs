//! Products of many numbers: CumProd, Det.
//!
//! <https://onnx.ai/onnx/operators/onnx__CumProd.html>, <https://onnx.ai/onnx/operators/onnx__Det.html>. A determinant passes no
//! gradient.

use super::cost;
use super::def::OpDef;
use super::facts::{axis_of, fact, infer_same};
use super::ints::Ints;
use super::run::Exec;
use crate::graph::{Fact, Infer};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

/// Running products and determinants.
pub const OPS: &[OpDef] = &[
    OpDef::new("CumProd", &[26], infer_same, cumprod).sums().cost(cost::per_output),
    OpDef::new("Det", &[11, 22], infer_det, det).cost(cost::per_input),
];

fn cumprod(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let axis = cx.ints(1)?.and_then(|v| v.first().copied()).ok_or_else(|| Error::format("the axis is missing"))?;
    let axis = axis_of(axis, x.dims().len())?;
    let (exclusive, reverse) = (cx.node.get_int("exclusive", 0)? != 0, cx.node.get_int("reverse", 0)? != 0);
    let (n, inner) = (x.dims()[axis], x.dims()[axis + 1..].iter().product::<usize>());
    if x.tensor.elem_count() == 0 {
        return Ok(vec![x.clone()]);
    }
    if !x.element.is_float() {
        let mut all = Ints::of(x)?;
        for slice in all.data.chunks_mut(n * inner) {
            for k in 0..inner {
                let mut product = 1i64;
                for i in 0..n {
                    let at = if reverse { n - 1 - i } else { i } * inner + k;
                    let new = product.wrapping_mul(slice[at]);
                    slice[at] = if exclusive { product } else { new };
                    product = new;
                }
            }
        }
        return Ok(vec![all.into_value(x.element, x.tensor.device())?]);
    }
    let mut products: Vec<Tensor> = Vec::with_capacity(n);
    let one = x.tensor.narrow(axis, 0, 1)?.ones_like()?;
    let mut product = one;
    for i in 0..n {
        let new = (&product * x.tensor.narrow(axis, if reverse { n - 1 - i } else { i }, 1)?)?;
        products.push(if exclusive { product } else { new.clone() });
        product = new;
    }
    if reverse {
        products.reverse();
    }
    cx.one(Tensor::cat(&products, axis)?)
}

fn infer_det(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    match shape.as_slice() {
        [lead @ .., rows, columns] if rows.compatible(columns) => Ok(vec![fact(x.element, Some(lead.to_vec()))]),
        _ => Err(Error::shape(format!("a determinant is of square matrices, got {x}"))),
    }
}

/// By elimination with the largest pivot of each column.
fn det(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let (lead, n) = match x.dims() {
        [lead @ .., rows, columns] if rows == columns => (lead.to_vec(), *rows),
        dims => return Err(Error::shape(format!("a determinant is of square matrices, got {dims:?}"))),
    };
    let mut all = x.to_f64s()?;
    let count: usize = lead.iter().product();
    let mut dets = vec![1.0; count];
    for (det, m) in dets.iter_mut().zip(all.chunks_mut((n * n).max(1))) {
        for k in 0..n {
            let pivot = (k..n).fold(k, |best, r| if m[r * n + k].abs() > m[best * n + k].abs() { r } else { best });
            if pivot != k {
                (0..n).for_each(|c| m.swap(k * n + c, pivot * n + c));
                *det = -*det;
            }
            let head = m[k * n + k];
            *det *= head;
            if head == 0.0 {
                break;
            }
            for r in k + 1..n {
                let factor = m[r * n + k] / head;
                for c in k..n {
                    m[r * n + c] -= factor * m[k * n + c];
                }
            }
        }
    }
    cx.one(Tensor::from_vec(dets, lead, x.tensor.device())?.to_dtype(x.tensor.dtype())?)
}
