use candle_core::Tensor;
use compresso_base::error::Result;

/// `(clamp(round(x / scale) + zero, low, high) - zero) * scale` in one pass, where a GPU's kernels do it; `None` elsewhere. Gradients pass `x`
/// where nothing is clipped, and a scale that is a variable receives that of LSQ.
///
/// # Shapes
/// `scale` has one element, or the rank of `x` and one axis that is not 1; `zero` has the shape of `scale`.
pub fn fake_quantize(x: &Tensor, scale: &Tensor, zero: Option<&Tensor>, low: f64, high: f64) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if super::device::takes(x) {
        return on_gpu(x, scale, zero, low, high);
    }
    let _ = (x, scale, zero, low, high);
    Ok(None)
}

#[cfg(feature = "cuda")]
fn on_gpu(x: &Tensor, scale: &Tensor, zero: Option<&Tensor>, low: f64, high: f64) -> Result<Option<Tensor>> {
    use crate::cuda::plans::{Channels, Grid};
    use candle_core::DType;
    let wide: Vec<usize> = (0..scale.rank()).filter(|&d| scale.dims()[d] != 1).collect();
    let c = match wide[..] {
        [] => Channels { outer: 1, channels: 1, inner: x.elem_count() },
        [axis] if scale.rank() == x.rank() && scale.dims()[axis] == x.dims()[axis] => {
            let dims = x.dims();
            Channels { outer: dims[..axis].iter().product(), channels: dims[axis], inner: dims[axis + 1..].iter().product() }
        }
        _ => return Ok(None),
    };
    let zero = match zero {
        Some(zero) if zero.elem_count() == c.channels => zero.detach().to_dtype(DType::F32)?.flatten_all()?.contiguous()?,
        Some(_) => return Ok(None),
        None => Tensor::zeros(c.channels, DType::F32, x.device())?,
    };
    let scale = scale.to_dtype(DType::F32)?.flatten_all()?.contiguous()?;
    let grid = Grid { low: low as f32, high: high as f32 };
    let x32 = x.to_dtype(DType::F32)?.contiguous()?;
    Ok(Some(super::device::fake_quantize(c, &x32, &scale, &zero, grid)?.to_dtype(x.dtype())?))
}
