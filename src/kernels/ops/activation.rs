use super::add::contiguous;
use super::storage::{Candle, floats, in_f32, output, read};
use crate::activation::Activation;
use crate::out::fresh;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};
use compresso_base::error::Result;

/// Applies an activation elementwise.
///
/// # Errors
/// `DType` for tensors that are not of floating point.
pub fn activate(x: &Tensor, f: Activation) -> Result<Tensor> {
    if x.device().is_cpu() && x.dtype() != DType::F64 {
        return in_f32(x, |x| Ok(x.contiguous()?.apply_op1(Elementwise(f))?));
    }
    #[cfg(feature = "cuda")]
    if super::device::takes(x) {
        return in_f32(x, |x| super::device::activate(&x.contiguous()?, f));
    }
    compose(x, f)
}

/// Gradient of [`activate`] with respect to `x`, from that of its result `y`. All tensors are float32 on the CPU.
pub fn activate_backward(x: &Tensor, y: &Tensor, gy: &Tensor, f: Activation) -> Result<Tensor> {
    Ok(Elementwise(f).backward(&contiguous(x)?, y, &contiguous(gy)?)?)
}

struct Elementwise(Activation);

impl Elementwise {
    fn backward(&self, x: &Tensor, y: &Tensor, gy: &Tensor) -> Candle<Tensor> {
        let gx = {
            let (from, to, gradient) = (read(x)?, read(y)?, read(gy)?);
            fresh(x.elem_count(), |gx| self.0.backward(&from, &to, &gradient, gx))
        };
        Tensor::from_vec(gx, x.shape(), x.device())
    }
}

impl CustomOp1 for Elementwise {
    fn name(&self) -> &'static str {
        "activation"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Candle<(CpuStorage, Shape)> {
        let x = floats(s, l)?;
        output(fresh(x.len(), |y| self.0.forward(x, y)), l.shape().clone())
    }
    fn bwd(&self, x: &Tensor, y: &Tensor, gy: &Tensor) -> Candle<Option<Tensor>> {
        self.backward(x, y, &gy.contiguous()?).map(Some)
    }
}

/// The same functions of candle's operations: any device, any float type.
fn compose(x: &Tensor, f: Activation) -> Result<Tensor> {
    let zero = x.zeros_like()?;
    let sigmoid = |x: &Tensor| -> Candle<Tensor> { (x.neg()?.exp()? + 1.0)?.recip() };
    // ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)
    let softplus = |x: &Tensor| -> Candle<Tensor> { x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()? };
    let scalar = |v: f32| -> Candle<Tensor> { Tensor::full(v, x.shape(), x.device())?.to_dtype(x.dtype()) };
    let elu = |alpha: f32, by: f64| -> Candle<Tensor> {
        x.gt(&zero)?.where_cond(x, &x.minimum(&zero)?.affine(1.0 / by, 0.0)?.exp()?.affine(f64::from(alpha), -f64::from(alpha))?)
    };
    Ok(match f {
        Activation::Relu => x.relu()?,
        Activation::LeakyRelu { alpha } => (x.relu()? - (x.neg()?.relu()? * f64::from(alpha))?)?,
        Activation::ThresholdedRelu { alpha } => x.gt(&scalar(alpha)?)?.where_cond(x, &zero)?,
        Activation::Elu { alpha } => elu(alpha, 1.0)?,
        Activation::Selu { alpha, gamma } => (elu(alpha, 1.0)? * f64::from(gamma))?,
        Activation::Celu { alpha } => elu(alpha, f64::from(alpha))?,
        Activation::Sigmoid => sigmoid(x)?,
        Activation::Swish { alpha } => (x * sigmoid(&(x * f64::from(alpha))?)?)?,
        Activation::HardSigmoid { alpha, beta } => x.affine(f64::from(alpha), f64::from(beta))?.clamp(0.0, 1.0)?,
        Activation::HardSwish => (x * x.affine(1.0 / 6.0, 0.5)?.clamp(0.0, 1.0)?)?,
        Activation::Softplus => softplus(x)?,
        Activation::Softsign => (x / (x.abs()? + 1.0)?)?,
        Activation::Tanh => x.tanh()?,
        Activation::Clip { min, max } => x.maximum(&scalar(min)?)?.minimum(&scalar(max)?)?,
        Activation::Erf => x.erf()?,
        Activation::Gelu => x.gelu_erf()?,
        Activation::GeluTanh => x.gelu()?,
        Activation::Mish => (x * softplus(x)?.tanh()?)?,
    })
}
