use super::add::contiguous;
use super::storage::{Candle, floats, in_f32, output, read};
use crate::resize::{self, AxisMap};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use compresso_base::error::Result;

/// Resizes one axis of a tensor by a table of weights.
pub fn resize_axis(map: &AxisMap, x: &Tensor, axis: usize) -> Result<Tensor> {
    if map.is_identity() {
        return Ok(x.clone());
    }
    #[cfg(feature = "cuda")]
    if super::device::takes(x) {
        return in_f32(x, |x| super::device::resize_axis(map, &x.contiguous()?, axis));
    }
    if !x.device().is_cpu() {
        return weighted_sum(map, x, axis);
    }
    in_f32(x, |x| Ok(x.contiguous()?.apply_op1(ResizeAxis { map: map.clone(), axis })?))
}

/// Gradient of [`resize_axis`]; float32 on the CPU.
pub fn resize_axis_backward(map: &AxisMap, gy: &Tensor, axis: usize) -> Result<Tensor> {
    let op = ResizeAxis { map: map.clone(), axis };
    Ok(op.backward(gy)?)
}

/// On other devices: one gather per table column, weighted.
fn weighted_sum(map: &AxisMap, x: &Tensor, axis: usize) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    shape[axis] = map.output;
    let mut sum: Option<Tensor> = None;
    for t in 0..map.taps {
        let column = |i: usize| i * map.taps + t;
        let index: Vec<u32> = (0..map.output).map(|o| map.index[column(o)]).collect();
        let weight: Vec<f32> = (0..map.output).map(|o| map.weight[column(o)]).collect();
        let part = x.index_select(&Tensor::new(index, x.device())?, axis)?;
        let part = if weight.iter().all(|&w| w == 1.0) {
            part
        } else {
            let weight = Tensor::new(weight, x.device())?.to_dtype(x.dtype())?.reshape(shape.clone())?;
            part.broadcast_mul(&weight)?
        };
        sum = Some(match sum {
            Some(s) => (s + part)?,
            None => part,
        });
    }
    Ok(sum.unwrap_or_else(|| x.clone()))
}

struct ResizeAxis {
    map: AxisMap,
    axis: usize,
}

impl ResizeAxis {
    fn backward(&self, gy: &Tensor) -> Candle<Tensor> {
        let gy = contiguous(gy).map_err(candle_core::Error::wrap)?;
        let mut dims = gy.dims().to_vec();
        dims[self.axis] = self.map.input;
        let inner = dims[self.axis + 1..].iter().product();
        let mut gx = vec![0.0; dims.iter().product()];
        if !gx.is_empty() && gy.elem_count() > 0 {
            resize::backward(&self.map, inner, &read(&gy)?, &mut gx);
        }
        Tensor::from_vec(gx, dims, gy.device())
    }
}

impl CustomOp1 for ResizeAxis {
    fn name(&self) -> &'static str {
        "resize"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Candle<(CpuStorage, Shape)> {
        let x = floats(s, l)?;
        let mut dims = l.dims().to_vec();
        let inner = dims[self.axis + 1..].iter().product();
        dims[self.axis] = self.map.output;
        let mut y = vec![0.0; dims.iter().product()];
        if !y.is_empty() && !x.is_empty() {
            resize::forward(&self.map, inner, x, &mut y);
        }
        output(y, dims)
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, gy: &Tensor) -> Candle<Option<Tensor>> {
        self.backward(gy).map(Some)
    }
}
