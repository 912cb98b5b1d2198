//! Softmax, LogSoftmax, Hardmax.
//!
//! <https://onnx.ai/onnx/operators/onnx__Softmax.html>. Before operator set 13 the input counts as a matrix
//! `[product of the sizes before axis, product of the rest]` and the default axis is 1.

use super::channels::{self, Channels};
use super::cost;
use super::def::{OpDef, operators};
use super::facts::infer_same;
use super::roles::Span;
use super::run::Exec;
use crate::graph::normalize_axis;
use crate::value::Value;
use candle_core::{D, DType, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::ops;

operators! {
    pub const SOFTMAX: &str = "Softmax";
    pub const LOG_SOFTMAX: &str = "LogSoftmax";
    pub const HARDMAX: &str = "Hardmax";
}

/// Softmax and its relatives along an axis.
pub const OPS: &[OpDef] = &[
    OpDef::new(SOFTMAX, &[1, 11, 13], infer_same, |cx| over_axis(cx, ops::softmax))
        .sums()
        .cost(cost::per_output)
        .span(Span::Bounded)
        .channels(softmax_channels),
    OpDef::new(LOG_SOFTMAX, &[1, 11, 13], infer_same, |cx| over_axis(cx, ops::log_softmax))
        .sums()
        .cost(cost::per_output)
        .channels(softmax_channels),
    OpDef::new(HARDMAX, &[1, 11, 13], infer_same, |cx| over_axis(cx, hardmax))
        .cost(cost::per_output)
        .span(Span::Bounded)
        .channels(softmax_channels),
];

/// Applies `f(x, axis)` along the node's axis.
fn over_axis(cx: &Exec<'_>, f: fn(&Tensor, usize) -> Result<Tensor>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    if !x.dtype().is_float() {
        return Err(Error::dtype(format!("expected floating point, got {}", cx.input(0)?.element)));
    }
    if x.elem_count() == 0 {
        return cx.one(x.clone());
    }
    if cx.opset >= 13 {
        return cx.one(f(x, normalize_axis(cx.node.get_int("axis", -1)?, x.rank())?)?);
    }
    let axis = normalize_axis(cx.node.get_int("axis", 1)?, x.rank())?;
    let rows: usize = x.dims()[..axis].iter().product();
    cx.one(f(&x.reshape((rows, ()))?, 1)?.reshape(x.shape())?)
}

/// 1 at the first largest element, 0 elsewhere.
fn hardmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    let last = x.rank() - 1;
    let rows = x.transpose(axis, last)?.contiguous()?;
    let n = rows.dim(D::Minus1)?;
    let at = rows.argmax_keepdim(D::Minus1)?.to_dtype(DType::F32)?;
    let index = Tensor::arange(0u32, n as u32, x.device())?.to_dtype(DType::F32)?;
    let one_hot = at.broadcast_eq(&index.reshape([vec![1; last], vec![n]].concat())?)?;
    Ok(one_hot.to_dtype(x.dtype())?.transpose(axis, last)?.contiguous()?)
}

/// Channels through softmax: fixed along its axis (before opset 13: along all axes from it on).
fn softmax_channels(cx: &mut Channels<'_>) -> Result<()> {
    let modern = cx.opset >= 13;
    let axis = cx.normal_axis(0, cx.node.get_int("axis", if modern { -1 } else { 1 })?)?;
    channels::through_except(cx, |a| if modern { a == axis } else { a >= axis })?;
    Ok(())
}
