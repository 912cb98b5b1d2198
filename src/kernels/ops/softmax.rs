use super::storage::{Candle, floats, in_f32, output, read};
use crate::softmax::{self, Kind};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};
use compresso_base::error::Result;

/// Softmax along an axis.
pub fn softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    run(x, axis, Kind::Softmax)
}

/// Logarithm of the softmax along an axis.
pub fn log_softmax(x: &Tensor, axis: usize) -> Result<Tensor> {
    run(x, axis, Kind::Log)
}

fn run(x: &Tensor, axis: usize, kind: Kind) -> Result<Tensor> {
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    if x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F16) {
        return in_f32(x, |x| Ok(x.contiguous()?.apply_op1(Softmax { axis, kind })?));
    }
    #[cfg(feature = "cuda")]
    if super::device::takes(x) {
        return in_f32(x, |x| super::device::softmax(&x.contiguous()?, axis, kind));
    }
    // Less the largest value, which does not change the result.
    let x = x.broadcast_sub(&x.detach().max_keepdim(axis)?)?;
    let e = x.exp()?;
    let sum = e.sum_keepdim(axis)?;
    Ok(match kind {
        Kind::Softmax => e.broadcast_div(&sum)?,
        Kind::Log => x.broadcast_sub(&sum.log()?)?,
    })
}

struct Softmax {
    axis: usize,
    kind: Kind,
}

impl Softmax {
    /// Size of the axis, and of what is inside it.
    fn sizes(&self, dims: &[usize]) -> (usize, usize) {
        (dims[self.axis], dims[self.axis + 1..].iter().product())
    }
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Candle<(CpuStorage, Shape)> {
        let x = floats(s, l)?;
        let (n, inner) = self.sizes(l.dims());
        let mut y = vec![0.0; x.len()];
        softmax::forward(self.kind, n, inner, x, &mut y);
        output(y, l.shape().clone())
    }
    fn bwd(&self, x: &Tensor, y: &Tensor, gy: &Tensor) -> Candle<Option<Tensor>> {
        let gy = gy.contiguous()?;
        let (n, inner) = self.sizes(x.dims());
        let mut gx = vec![0.0; x.elem_count()];
        softmax::backward(self.kind, n, inner, &read(y)?, &read(&gy)?, &mut gx);
        Tensor::from_vec(gx, x.shape(), x.device()).map(Some)
    }
}
