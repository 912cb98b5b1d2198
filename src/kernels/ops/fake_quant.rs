use super::add::contiguous;
use super::storage::{Candle, floats, output, read};
use crate::fake_quant::Steps;
use crate::out::fresh;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Shape, Tensor};
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

/// `(clamp(round(x / scale) + zero, low, high) - zero) * scale` in one pass, with gradients: they pass `x` where nothing is clipped, and a scale that
/// is a variable receives that of LSQ. `None` where no kernel serves: other layouts, other devices.
///
/// # Shapes
/// `scale` has one element, or the rank of `x` and one axis that is not 1; `zero` has the shape of `scale`, or one element as it.
///
/// # Errors
/// Those of candle.
pub fn fake_quantize(x: &Tensor, scale: &Tensor, zero: Option<&Tensor>, [low, high]: [f32; 2]) -> Result<Option<Tensor>> {
    let (dims, spread) = (x.dims(), scale.dims());
    let wide: Vec<usize> = (0..spread.len()).filter(|&d| spread[d] != 1).collect();
    let inner = match wide[..] {
        [] => x.elem_count(),
        [axis] if spread.len() == dims.len() && spread[axis] == dims[axis] => dims[axis + 1..].iter().product(),
        _ => return Ok(None),
    };
    let fits = zero.is_none_or(|z| z.elem_count() == scale.elem_count() && (z.elem_count() == 1 || z.dims() == spread));
    if !fits || inner == 0 || spread.len() > dims.len() {
        return Ok(None);
    }
    #[cfg(feature = "cuda")]
    if super::device::takes(x) {
        return on_gpu(x, scale, zero, inner, [low, high]).map(Some);
    }
    if !x.device().is_cpu() || [Some(x), Some(scale), zero].into_iter().flatten().any(|t| t.dtype() != DType::F32) {
        return Ok(None);
    }
    let zeros = zero.map_or_else(|| Ok(vec![0.0; scale.elem_count()]), |z| z.flatten_all()?.to_vec1())?;
    Ok(Some(x.contiguous()?.apply_op2(&scale.contiguous()?, Through { zeros, inner, low, high })?))
}

#[cfg(feature = "cuda")]
fn on_gpu(x: &Tensor, scale: &Tensor, zero: Option<&Tensor>, inner: usize, [low, high]: [f32; 2]) -> Result<Tensor> {
    use crate::cuda::plans::{Channels, Grid};
    let channels = scale.elem_count();
    let c = Channels { outer: x.elem_count() / (channels * inner), channels, inner };
    let zero = match zero {
        Some(zero) => zero.detach().to_dtype(DType::F32)?.flatten_all()?.contiguous()?,
        None => Tensor::zeros(channels, DType::F32, x.device())?,
    };
    let scale = scale.to_dtype(DType::F32)?.flatten_all()?.contiguous()?;
    let x32 = x.to_dtype(DType::F32)?.contiguous()?;
    Ok(super::device::fake_quantize(c, &x32, &scale, &zero, Grid { low, high })?.to_dtype(x.dtype())?)
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
