use super::storage::{Candle, floats, in_f32, output, read};
use crate::Window;
use crate::{pool, reference};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};
use compresso_base::error::{Error, Result};

/// Max pool of `x: [batch, channels, w.input…]`; the result is `[batch, channels, w.output…]`.
///
/// # Errors
/// `Shape` when the window is out of range or is not one over `x`.
pub fn max_pool(w: &Window, x: &Tensor) -> Result<Tensor> {
    check(w, x)?;
    #[cfg(feature = "cuda")]
    if super::device::takes(x) && w.rank() <= 2 {
        return in_f32(x, |x| super::device::max_pool(w, &x.contiguous()?));
    }
    if !x.device().is_cpu() {
        return max_on_device(w, x);
    }
    in_f32(x, |x| Ok(x.contiguous()?.apply_op1(MaxPool { window: w.clone() })?))
}

/// Gradient of [`max_pool`] from its input, its result and the gradient of that. All tensors are float32 on the CPU.
pub fn max_pool_backward(w: &Window, x: &Tensor, y: &Tensor, gy: &Tensor) -> Result<Tensor> {
    check(w, x)?;
    let op = MaxPool { window: w.clone() };
    op.bwd(&x.contiguous()?, y, gy)?.ok_or_else(|| Error::internal("a pool without a gradient"))
}

/// Indices, in the plane of each, of the elements that [`max_pool`] takes.
///
/// # Errors
/// As [`max_pool`].
pub fn max_pool_indices(w: &Window, x: &Tensor) -> Result<Vec<u32>> {
    check(w, x)?;
    let x = x.to_device(&candle_core::Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
    let planes = x.elem_count() / w.input_len().max(1);
    Ok(pool::max_indices(w, planes, &read(&x)?))
}

/// Average pool of `x: [batch, channels, w.input…]`; with `count_padding` the padding counts as zeros.
///
/// # Errors
/// As [`max_pool`].
pub fn average_pool(w: &Window, x: &Tensor, count_padding: bool) -> Result<Tensor> {
    check(w, x)?;
    #[cfg(feature = "cuda")]
    if super::device::takes(x) && w.rank() <= 2 {
        return in_f32(x, |x| super::device::average_pool(w, &x.contiguous()?, count_padding));
    }
    if !x.device().is_cpu() {
        return average_on_device(w, x, count_padding);
    }
    in_f32(x, |x| Ok(x.contiguous()?.apply_op1(AveragePool { window: w.clone(), count_padding })?))
}

/// # Errors
/// `Shape` when the window is out of range or is not one over `x: [batch, channels, w.input…]`.
fn check(w: &Window, x: &Tensor) -> Result<()> {
    w.check()?;
    match x.dims() {
        [_, _, size @ ..] if size == w.input => Ok(()),
        dims => Err(Error::shape(format!("a window over {:?} does not fit a tensor {dims:?}", w.input))),
    }
}

/// The elements under each tap of the window, of the shape of the output; `fill` stands in the padding.
fn taps(w: &Window, x: &Tensor, fill: f64) -> Result<Vec<Tensor>> {
    let mut padded = x.clone();
    for d in 0..w.rank() {
        let reach = (w.output[d] - 1) * w.stride[d] + (w.kernel[d] - 1) * w.dilation[d] + 1;
        let after = reach.saturating_sub(w.pad_begin[d] + w.input[d]);
        let edge = |n: usize| -> Result<Tensor> {
            let mut dims = padded.dims().to_vec();
            dims[d + 2] = n;
            Ok(Tensor::full(fill as f32, dims, x.device())?.to_dtype(x.dtype())?)
        };
        padded = Tensor::cat(&[&edge(w.pad_begin[d])?, &padded, &edge(after)?], d + 2)?;
    }
    let tap = |mut rest: usize| -> Result<Tensor> {
        let mut t = padded.clone();
        for d in (0..w.rank()).rev() {
            let k = rest % w.kernel[d];
            rest /= w.kernel[d];
            let at: Vec<u32> = (0..w.output[d]).map(|o| (o * w.stride[d] + k * w.dilation[d]) as u32).collect();
            t = t.index_select(&Tensor::new(at, x.device())?, d + 2)?;
        }
        Ok(t)
    };
    (0..w.kernel_len()).map(tap).collect()
}

fn max_on_device(w: &Window, x: &Tensor) -> Result<Tensor> {
    let largest = taps(w, x, f64::NEG_INFINITY)?.into_iter().map(Ok).reduce(|a, b| Ok::<_, Error>(a?.maximum(&b?)?));
    largest.ok_or_else(|| Error::shape("the pool's window is empty"))?
}

fn average_on_device(w: &Window, x: &Tensor, count_padding: bool) -> Result<Tensor> {
    let sum = taps(w, x, 0.0)?.into_iter().map(Ok).reduce(|a, b| Ok::<_, Error>((a? + b?)?));
    let sum = sum.ok_or_else(|| Error::shape("the pool's window is empty"))??;
    let scale: Vec<f32> = (0..w.output_len()).map(|o| 1.0 / reference::average_divisor(w, o, count_padding) as f32).collect();
    let dims: Vec<usize> = [1, 1].into_iter().chain(w.output.iter().copied()).collect();
    Ok(sum.broadcast_mul(&Tensor::from_vec(scale, dims, x.device())?.to_dtype(x.dtype())?)?)
}

struct MaxPool {
    window: Window,
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Candle<(CpuStorage, Shape)> {
        let x = floats(s, l)?;
        let (planes, dims) = pooled(&self.window, l.dims());
        let mut y = vec![0.0; planes * self.window.output_len()];
        pool::max_forward(&self.window, planes, x, &mut y);
        output(y, dims)
    }
    fn bwd(&self, x: &Tensor, y: &Tensor, gy: &Tensor) -> Candle<Option<Tensor>> {
        let gy = gy.contiguous()?;
        let mut gx = vec![0.0; x.elem_count()];
        pool::max_backward(&self.window, pooled(&self.window, x.dims()).0, &read(x)?, &read(y)?, &read(&gy)?, &mut gx);
        Tensor::from_vec(gx, x.shape(), x.device()).map(Some)
    }
}

struct AveragePool {
    window: Window,
    count_padding: bool,
}

impl CustomOp1 for AveragePool {
    fn name(&self) -> &'static str {
        "average-pool"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Candle<(CpuStorage, Shape)> {
        let x = floats(s, l)?;
        let (planes, dims) = pooled(&self.window, l.dims());
        let mut y = vec![0.0; planes * self.window.output_len()];
        pool::average_forward(&self.window, planes, self.count_padding, x, &mut y);
        output(y, dims)
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, gy: &Tensor) -> Candle<Option<Tensor>> {
        let gy = gy.contiguous()?;
        let mut gx = vec![0.0; x.elem_count()];
        pool::average_backward(&self.window, pooled(&self.window, x.dims()).0, self.count_padding, &read(&gy)?, &mut gx);
        Tensor::from_vec(gx, x.shape(), x.device()).map(Some)
    }
}

/// Number of planes of `dims`, and the shape after pooling.
fn pooled(w: &Window, dims: &[usize]) -> (usize, Vec<usize>) {
    (dims[..2].iter().product(), dims[..2].iter().chain(&w.output).copied().collect())
}
