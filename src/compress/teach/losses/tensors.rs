//! What several losses compute with tensors, all with gradients.

use candle_core::{D, Tensor};
use compresso_base::error::{Error, Result};

/// Logarithms of the softmax along the last axis.
///
/// # Errors
/// Whatever the tensor library reports.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_sub(&log_sum_exp(x)?)?)
}

/// Logarithm of the sum of exponentials along the last axis, which stays with a size of 1.
///
/// # Errors
/// Whatever the tensor library reports.
pub fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    // Shifted by a constant, which has no gradient.
    let most = x.detach().max_keepdim(D::Minus1)?;
    Ok((x.broadcast_sub(&most)?.exp()?.sum_keepdim(D::Minus1)?.log()? + most)?)
}

/// `[batch, channels, height · width]`.
///
/// # Errors
/// `Shape` for what is no feature map.
pub fn flat(x: &Tensor) -> Result<Tensor> {
    match x.dims() {
        &[n, c, h, w] => Ok(x.reshape((n, c, h * w))?),
        dims => Err(Error::shape(format!("expected features [batch, channels, height, width], got {dims:?}"))),
    }
}

/// The mean of `each` (`[batch, 1, height, width]`), weighted by `weights` of that shape.
///
/// # Errors
/// Whatever the tensor library reports.
pub fn weighted_mean(each: &Tensor, weights: &Tensor) -> Result<Tensor> {
    // A batch of which the teacher says nothing has weights near zero.
    let sum = f64::from(weights.sum_all()?.to_scalar::<f32>()?).max(1e-6);
    Ok(((each * weights)?.sum_all()? / sum)?)
}
