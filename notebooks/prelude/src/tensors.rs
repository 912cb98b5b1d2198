//! Making tensors.

use crate::session::seed;
use candle_core::{DType, Device, Tensor};
use compresso::model::Value;
use compresso::{Error, Result};

/// A float32 tensor of numbers in a shape.
///
/// # Errors
/// `Shape` when the shape needs another count of numbers.
pub fn tensor(values: &[f32], shape: &[usize]) -> Result<Value> {
    let needs: usize = shape.iter().product();
    if needs != values.len() {
        return Err(Error::shape(format!("the shape {shape:?} needs {needs} values, got {}", values.len())));
    }
    Value::plain(Tensor::from_slice(values, shape, &Device::Cpu)?)
}

/// A float32 tensor of zeros.
///
/// # Errors
/// `Internal` when there is no memory for it.
pub fn zeros(shape: &[usize]) -> Result<Value> {
    Value::plain(Tensor::zeros(shape, DType::F32, &Device::Cpu)?)
}

/// A float32 tensor of uniform numbers from 0 to 1, drawn with the session's seed.
///
/// # Errors
/// `Argument` for a shape that is too large.
pub fn random(shape: &[usize]) -> Result<Value> {
    random_with(shape, seed())
}

/// As [`random`], with a seed.
///
/// # Errors
/// As [`random`].
pub fn random_with(shape: &[usize], seed: u64) -> Result<Value> {
    compresso::model::uniform(shape, seed)
}
