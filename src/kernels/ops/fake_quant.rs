use super::add::contiguous;
use super::storage::{Candle, floats, output, read};
use crate::fake_quant::Steps;
use crate::out::fresh;
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
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

/// [`round_to`] of tensors with a gradient that flows on, to the scales too. `scales` holds one for each of `zeros`; element `i` of `x` has number
/// `i / inner % zeros.len()`. Both are float32 on the CPU.
///
/// # Errors
/// Of candle, for other tensors.
pub fn round_through(x: &Tensor, scales: &Tensor, zeros: Vec<f32>, inner: usize, [low, high]: [f32; 2]) -> Result<Tensor> {
    Ok(x.contiguous()?.apply_op2(&scales.contiguous()?, Through { zeros, inner, low, high })?)
}

struct Through {
    zeros: Vec<f32>,
    inner: usize,
    low: f32,
    high: f32,
}

impl Through {
    fn steps<'a>(&'a self, scales: &'a [f32]) -> Candle<Steps<'a>> {
        if scales.len() != self.zeros.len() || self.inner == 0 {
            return Err(candle_core::Error::Msg(format!("{} scales for {} zero points", scales.len(), self.zeros.len())).bt());
        }
        Ok(Steps { scales, zeros: &self.zeros, inner: self.inner, low: self.low, high: self.high })
    }
}

impl CustomOp2 for Through {
    fn name(&self) -> &'static str {
        "fake-quantize"
    }
    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, s: &CpuStorage, ls: &Layout) -> Candle<(CpuStorage, Shape)> {
        let (x, scales) = (floats(x, lx)?, floats(s, ls)?);
        let steps = self.steps(scales)?;
        output(fresh(x.len(), |y| steps.round(x, y)), lx.shape().clone())
    }
    fn bwd(&self, x: &Tensor, s: &Tensor, _: &Tensor, gy: &Tensor) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let scales = read(s)?;
        let steps = self.steps(&scales)?;
        let inner = |e: compresso_base::error::Error| candle_core::Error::Msg(e.to_string()).bt();
        let (gx, sums) = round_to_backward(x, &gy.contiguous()?, &steps, s.track_op()).map_err(inner)?;
        let gs = sums.map(|v| Tensor::from_vec(v, s.shape(), s.device())).transpose()?;
        Ok((Some(gx), gs))
    }
}
