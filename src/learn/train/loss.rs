//! The loss of a batch, with the gradient that is known beforehand.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use compresso_base::error::{At, Result};

/// A loss with its named parts.
#[derive(Debug)]
pub struct Loss {
    /// Scalar whose gradients train the model.
    pub total: Tensor,
    /// What is reported, by part; the reported loss is their sum.
    pub parts: Vec<(&'static str, f64)>,
}

impl Loss {
    /// The reported loss.
    pub fn value(&self) -> f64 {
        self.parts.iter().map(|(_, v)| v).sum()
    }
}

/// A scalar of this value whose gradient with respect to `x` is `gradient` (row-major, of `x`'s shape): how losses that
/// are computed with their gradients on plain slices take part in the backward pass.
///
/// # Errors
/// `Shape` when the gradient does not fill `x`'s shape.
pub fn attach(x: &Tensor, value: f64, gradient: Vec<f32>) -> Result<Tensor> {
    let gradient = Tensor::from_vec(gradient, x.shape(), x.device()).at(|| "gradient".to_string())?;
    if x.device().is_cpu() {
        return Ok(x.apply_op1(Attached { value: value as f32, gradient })?);
    }
    let dot = (x * gradient)?.sum_all()?;
    Ok((&dot + (value - dot.detach())?)?)
}

struct Attached {
    value: f32,
    gradient: Tensor,
}

impl CustomOp1 for Attached {
    fn name(&self) -> &'static str {
        "loss"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.value]), Shape::from(())))
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let factor = f64::from(grad.to_scalar::<f32>()?);
        let same = (factor - 1.0).abs() < f64::EPSILON;
        Ok(Some(if same { self.gradient.clone() } else { (&self.gradient * factor)? }))
    }
}
