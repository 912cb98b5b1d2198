use super::add::contiguous;
use super::storage::read;
use crate::fake_quant::Steps;
use crate::out::fresh;
use candle_core::Tensor;
use compresso_base::error::Result;

/// The nearest numbers of a grid: [`Steps::round`]. `x` is float32 on the CPU.
///
/// # Errors
/// Of candle, for other tensors.
pub fn round_to(x: &Tensor, steps: &Steps<'_>) -> Result<Tensor> {
    let x = contiguous(x)?;
    let y = {
        let from = read(&x)?;
        fresh(from.len(), |y| steps.round(&from, y))
    };
    Ok(Tensor::from_vec(y, x.shape(), x.device())?)
}

/// Gradients of [`round_to`]: that of `x`, and those of the scales where they are asked for. All tensors are float32 on the CPU.
///
/// # Errors
/// Of candle, for other tensors.
pub fn round_to_backward(x: &Tensor, gy: &Tensor, steps: &Steps<'_>, scales: bool) -> Result<(Tensor, Option<Vec<f32>>)> {
    let (x, gy) = (contiguous(x)?, contiguous(gy)?);
    let mut sums = None;
    let gx = {
        let (from, gradient) = (read(&x)?, read(&gy)?);
        fresh(from.len(), |gx| {
            let (gx, own) = steps.backward(&from, &gradient, gx, scales);
            sums = own;
            gx
        })
    };
    Ok((Tensor::from_vec(gx, x.shape(), x.device())?, sums))
}
