//! Mixed precision: short numbers around convolutions and matrix products.

use crate::error::Result;
use crate::model::{Element, Value};
use candle_core::{DType, Tensor};

/// The float32 values among `inputs` in short numbers.
///
/// # Errors
/// Whatever a conversion reports.
pub(super) fn shortened(inputs: &[Option<Value>], short: DType) -> Result<Vec<Option<Value>>> {
    let element = if short == DType::F16 { Element::F16 } else { Element::BF16 };
    let one = |v: &Option<Value>| match v {
        Some(v) if v.tensor.dtype() == DType::F32 => Ok(Some(Value::new(element, v.tensor.to_dtype(short)?)?)),
        other => Ok(other.clone()),
    };
    inputs.iter().map(one).collect()
}

/// Short values as float32.
///
/// # Errors
/// Whatever a conversion reports.
pub(super) fn widened(values: Vec<Value>) -> Result<Vec<Value>> {
    let one = |v: Value| match v.tensor.dtype() {
        DType::F16 | DType::BF16 => Value::new(Element::F32, v.tensor.to_dtype(DType::F32)?),
        _ => Ok(v),
    };
    values.into_iter().map(one).collect()
}

/// The float32 values rounded to what short numbers can hold.
///
/// # Errors
/// Whatever a conversion reports.
pub(super) fn rounded(values: &[Option<Value>], short: DType) -> Result<Vec<Option<Value>>> {
    let one = |v: &Option<Value>| match v {
        Some(v) if v.tensor.dtype() == DType::F32 => Ok(Some(v.with(round(&v.tensor, short)?)?)),
        other => Ok(other.clone()),
    };
    values.iter().map(one).collect()
}

/// # Errors
/// Whatever a conversion reports.
pub(super) fn round(t: &Tensor, short: DType) -> Result<Tensor> {
    Ok(t.to_dtype(short)?.to_dtype(DType::F32)?)
}
