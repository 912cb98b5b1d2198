//! Shrink: soft and hard thresholds, as wavelet and sparse models have.
//!
//! <https://onnx.ai/onnx/operators/onnx__Shrink.html>. Version 9 is the only one.

use super::channels;
use super::cost;
use super::def::OpDef;
use super::facts::infer_same;
use super::run::Exec;
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::Result;

/// Shrinkage towards zero.
pub const OPS: &[OpDef] = &[OpDef::new("Shrink", &[9], infer_same, shrink).cost(cost::per_output).channels(channels::elementwise)];

/// `x − bias` above `lambd`, `x + bias` below `−lambd`, 0 between. A selection, so gradients are exact: 1 where a value stays, 0 between.
fn shrink(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let bias = f64::from(cx.node.get_float("bias", 0.0)?);
    let lambd = f64::from(cx.node.get_float("lambd", 0.5)?);
    let shrunk = |x: &Tensor| -> candle_core::Result<Tensor> {
        let below = x.lt(-lambd)?.where_cond(&(x + bias)?, &x.zeros_like()?)?;
        x.gt(lambd)?.where_cond(&(x - bias)?, &below)
    };
    let x = cx.tensor(0)?;
    if x.dtype().is_float() {
        return cx.one(shrunk(x)?);
    }
    // Thresholds need not be whole numbers; the results are cut to such.
    cx.one(shrunk(&x.to_dtype(DType::F64)?)?.to_dtype(x.dtype())?)
}
