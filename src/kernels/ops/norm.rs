use super::activation::activate;
use super::add::contiguous;
use super::storage::{Candle, floats, in_f32, output, read};
use crate::norm::{self, Normalized, Then};
use crate::out::fresh;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Shape, Tensor};
use compresso_base::error::{Error, Result};
use std::sync::{Arc, OnceLock};

/// `y = x · scale[c] + shift[c]` for `x: [batch, channels, …]`; differentiable in all three.
pub fn channel_affine(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() {
        let (scale, shift) = (scale.to_dtype(DType::F32)?.contiguous()?, shift.to_dtype(DType::F32)?.contiguous()?);
        return in_f32(x, |x| Ok(x.contiguous()?.apply_op3(&scale, &shift, ChannelAffine)?));
    }
    let dims = per_channel(x);
    let wide = |t: &Tensor| t.to_dtype(x.dtype())?.reshape(dims.clone());
    Ok(x.broadcast_mul(&wide(scale)?)?.broadcast_add(&wide(shift)?)?)
}

/// Batch normalization with the statistics of the batch, followed by `then`. Also returns mean and population variance, float32 and detached.
///
/// # Shapes
/// `x: [batch, channels, …]`, all else `[channels]`.
pub fn batch_norm(x: &Tensor, scale: &Tensor, bias: &Tensor, epsilon: f64, then: Then) -> Result<(Tensor, Tensor, Tensor)> {
    let dtype = x.dtype();
    let single = |t: &Tensor| t.to_dtype(DType::F32)?.contiguous();
    let (x, scale, bias) = (single(x)?, single(scale)?, single(bias)?);
    #[cfg(feature = "cuda")]
    if super::device::takes(&x) {
        let (y, mean, var) = super::device::batch_norm(&x, &scale, &bias, epsilon, then)?;
        return Ok((y.to_dtype(dtype)?, mean, var));
    }
    if !x.device().is_cpu() {
        let dims = per_channel(&x);
        let axes: Vec<usize> = (0..x.rank()).filter(|&a| a != 1).collect();
        let count = x.elem_count() as f64 / x.dim(1)? as f64;
        let mean = (x.sum_keepdim(axes.as_slice())? / count)?;
        let centered = x.broadcast_sub(&mean)?;
        let var = (centered.sqr()?.sum_keepdim(axes.as_slice())? / count)?;
        let y = centered.broadcast_div(&(&var + epsilon)?.sqrt()?)?;
        let y = y.broadcast_mul(&scale.reshape(dims.clone())?)?.broadcast_add(&bias.reshape(dims)?)?;
        let y = then.activation().map_or(Ok(y.clone()), |f| activate(&y, f))?;
        return Ok((y.to_dtype(dtype)?, mean.flatten_all()?.detach(), var.flatten_all()?.detach()));
    }
    let channels = scale.elem_count();
    let statistics = Arc::new(OnceLock::new());
    let y = x.apply_op3(&scale, &bias, BatchNorm { statistics: statistics.clone(), epsilon, then })?;
    let (mean, var) = statistics.get().ok_or_else(|| Error::internal("a batch normalization without statistics"))?;
    let stats = |v: &[f32]| Tensor::from_slice(v, channels, x.device());
    Ok((y.to_dtype(dtype)?, stats(mean)?, stats(var)?))
}

/// Gradients of [`batch_norm`] with respect to `x`, scale and bias, from that of its result and the statistics that it
/// returned. All tensors are float32 on the CPU.
pub fn batch_norm_backward(
    x: &Tensor,
    scale: &Tensor,
    bias: &Tensor,
    (mean, var): (&Tensor, &Tensor),
    epsilon: f64,
    then: Then,
    gy: &Tensor,
) -> Result<[Tensor; 3]> {
    let (x, gy) = (contiguous(x)?, contiguous(gy)?);
    let (mean, var) = (read(mean)?.to_vec(), read(var)?.to_vec());
    let op = BatchNorm { statistics: Arc::new(OnceLock::from((mean, var))), epsilon, then };
    Ok(op.backward(&x, &scale.contiguous()?, &bias.contiguous()?, &gy)?)
}

/// Layer normalization over the last axes, those of `scale` and `bias`, in one pass, where a GPU's kernels do it; `None` elsewhere. Also gives
/// mean and `1 / sqrt(var + epsilon)` of each row, float32, flat and detached.
pub fn layer_norm(x: &Tensor, scale: &Tensor, bias: Option<&Tensor>, epsilon: f64) -> Result<Option<(Tensor, Tensor, Tensor)>> {
    #[cfg(feature = "cuda")]
    if super::device::takes(x) && x.dims().ends_with(scale.dims()) && bias.is_none_or(|b| b.dims() == scale.dims()) {
        let single = |t: &Tensor| t.to_dtype(DType::F32)?.contiguous();
        let flat = |t: &Tensor| single(&t.flatten_all()?);
        let bias = bias.map_or_else(|| Ok(scale.zeros_like()?.detach()), |b| Ok::<_, Error>(b.clone()))?;
        let (y, mean, inv) = super::device::layer_norm(&single(x)?, &flat(scale)?, &flat(&bias)?, epsilon)?;
        return Ok(Some((y.to_dtype(x.dtype())?, mean, inv)));
    }
    let _ = (x, scale, bias, epsilon);
    Ok(None)
}

/// Channels and elements per plane of `[batch, channels, …]`.
fn sizes(dims: &[usize]) -> (usize, usize) {
    (dims.get(1).copied().unwrap_or(1), dims.iter().skip(2).product())
}

/// The shape that broadcasts `[channels]` to `x`.
fn per_channel(x: &Tensor) -> Vec<usize> {
    x.dims().iter().enumerate().map(|(i, &n)| if i == 1 { n } else { 1 }).collect()
}

struct ChannelAffine;

impl CustomOp3 for ChannelAffine {
    fn name(&self) -> &'static str {
        "channel-affine"
    }
    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let x = floats(s1, l1)?;
        let (channels, plane) = sizes(l1.dims());
        let (scale, shift) = (floats(s2, l2)?, floats(s3, l3)?);
        output(fresh(x.len(), |y| norm::affine(channels, plane, x, scale, shift, y)), l1.shape().clone())
    }
    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _: &Tensor,
        gy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gy = gy.contiguous()?;
        let (channels, plane) = sizes(x.dims());
        let mut grads = (None, None, None);
        if x.track_op() {
            let (gy, scale) = (read(&gy)?, read(scale)?);
            let gx = fresh(x.elem_count(), |gx| norm::affine(channels, plane, &gy, &scale, &vec![0.0; channels], gx));
            grads.0 = Some(Tensor::from_vec(gx, x.shape(), x.device())?);
        }
        if scale.track_op() || shift.track_op() {
            let (first, second) = norm::channel_sums(channels, plane, &read(x)?, &read(&gy)?);
            grads.1 = Some(Tensor::from_vec(second, channels, x.device())?);
            grads.2 = Some(Tensor::from_vec(first, channels, x.device())?);
        }
        Ok(grads)
    }
}

struct BatchNorm {
    /// Mean and variance of the batch, once they are known.
    statistics: Arc<OnceLock<(Vec<f32>, Vec<f32>)>>,
    epsilon: f64,
    then: Then,
}

impl BatchNorm {
    fn backward(&self, x: &Tensor, scale: &Tensor, bias: &Tensor, gy: &Tensor) -> Candle<[Tensor; 3]> {
        let (channels, plane) = sizes(x.dims());
        let Some((mean, var)) = self.statistics.get() else {
            return Err(candle_core::Error::Msg("a gradient before the result".into()).bt());
        };
        let inv: Vec<f32> = var.iter().map(|&v| norm::inverse(v, self.epsilon)).collect();
        let mut sums = (Vec::new(), Vec::new());
        let gx = {
            let (scale, bias, x, gy) = (read(scale)?, read(bias)?, read(x)?, read(gy)?);
            let n = Normalized { mean, inv: &inv, scale: &scale, bias: &bias };
            fresh(x.len(), |gx| {
                let (g_scale, g_bias, gx) = norm::batch_norm_backward(plane, n, self.then, &x, &gy, gx);
                sums = (g_scale, g_bias);
                gx
            })
        };
        let (g_scale, g_bias) = sums;
        let gx = Tensor::from_vec(gx, x.shape(), x.device())?;
        Ok([gx, Tensor::from_vec(g_scale, channels, x.device())?, Tensor::from_vec(g_bias, channels, x.device())?])
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch-norm"
    }
    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let x = floats(s1, l1)?;
        let (_, plane) = sizes(l1.dims());
        let affine = (floats(s2, l2)?, floats(s3, l3)?);
        let mut found = (Vec::new(), Vec::new());
        let y = fresh(x.len(), |y| {
            let (mean, var, y) = norm::batch_norm(plane, affine, self.epsilon, self.then, x, y);
            found = (mean, var);
            y
        });
        if self.statistics.set(found).is_err() {
            return Err(candle_core::Error::Msg("a batch normalization runs once".into()).bt());
        }
        output(y, l1.shape().clone())
    }
    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gy: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [gx, g_scale, g_bias] = self.backward(x, scale, bias, &gy.contiguous()?)?;
        Ok((Some(gx), Some(g_scale), Some(g_bias)))
    }
}
