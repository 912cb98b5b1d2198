//! Rounding to a grid that gradients pass.

use super::{Parametrization, Tensors};
use crate::train::params::Param;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::ops;
use compresso_model::ops::ParamKind;
use indexmap::IndexMap;

/// The smallest and largest integer of a grid of at most 16 bits.
pub type Limits = (f64, f64);

/// A tensor with the elements of `value`, exactly, whose gradient with respect to each tensor of `slopes` is the given slope.
/// Slopes have `value`'s shape; their tensors are broadcast to it.
///
/// # Errors
/// `Shape` when a tensor cannot be broadcast.
pub fn straight_through(value: &Tensor, slopes: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    let mut result = value.detach();
    for (x, slope) in slopes {
        let linear = x.broadcast_mul(&slope.detach())?;
        // Zero, whose gradient is the slope.
        result = (result + (&linear - linear.detach())?)?;
    }
    Ok(result)
}

/// `(clamp(round(x / scale) + zero, limits) - zero) * scale`, rounding halves to even: what QuantizeLinear and DequantizeLinear
/// make of `x`, bit for bit. `scale` and `zero` are broadcast to `x`.
///
/// The gradient passes `x` where the rounded value lies inside the limits, and is zero elsewhere (straight-through, Bengio et
/// al. 2013). A scale that is a variable receives the gradient of LSQ (Esser et al. 2020): inside, `round(x / scale) - x / scale`;
/// outside, the limit it is clipped to.
///
/// # Errors
/// `Shape` when scale or zero point cannot be broadcast.
pub fn fake_quantize(x: &Tensor, scale: &Tensor, zero: Option<&Tensor>, limits: Limits) -> Result<Tensor> {
    match ops::fake_quantize(x, scale, zero, [limits.0 as f32, limits.1 as f32])? {
        Some(y) => Ok(y),
        None => composed(x, scale, zero, limits),
    }
}

/// [`fake_quantize`] of candle's operations: any device.
fn composed(x: &Tensor, scale: &Tensor, zero: Option<&Tensor>, limits: Limits) -> Result<Tensor> {
    // Numbers of 16 bits plus this have no room for fractions in float32.
    const ROUND: f64 = 12_582_912.0;
    let (value, step) = (x.detach(), scale.detach());
    let ratio = value.broadcast_div(&step)?;
    // Far outside is as much outside.
    let whole = ((ratio.clamp(-131_072f32, 131_072f32)? + ROUND)? - ROUND)?;
    let whole = match zero {
        Some(zero) => whole.broadcast_add(zero)?,
        None => whole,
    };
    let clipped = whole.clamp(limits.0 as f32, limits.1 as f32)?;
    let inside = whole.eq(&clipped)?.to_dtype(DType::F32)?;
    let steps = match zero {
        Some(zero) => clipped.broadcast_sub(zero)?,
        None => clipped,
    };
    let rounded = steps.broadcast_mul(&step)?;
    if !scale.track_op() {
        return straight_through(&rounded, &[(x, &inside)]);
    }
    let slope = (steps - (&inside * ratio)?)?;
    straight_through(&rounded, &[(x, &inside), (scale, &slope)])
}

/// Weights are rounded to int8 in the forward pass, around zero, with one step per output channel, and the gradient passes:
/// training for a model whose weights will be quantized. At the end the rounded weights, as float32, are the model's.
///
/// Steps are those that fit the weights when training begins; learned ones ([`FakeQuantWeights::learned`]) begin there and
/// follow the gradient of LSQ, scaled by 1 / √(elements of the channel · largest integer) as there.
#[derive(Debug, Clone)]
pub struct FakeQuantWeights {
    axes: IndexMap<String, usize>,
    largest: f64,
    learned: bool,
    /// By weight, shaped to be broadcast to it; empty where steps are learned.
    steps: Tensors,
}

impl FakeQuantWeights {
    /// Of these weights, each with its output-channel axis, on the integers from -127 to 127.
    pub fn new(axes: impl IntoIterator<Item = (String, usize)>) -> Self {
        Self { axes: axes.into_iter().collect(), largest: 127.0, learned: false, steps: Tensors::new() }
    }
    /// On the integers from `-largest` to `largest`.
    #[must_use]
    pub fn up_to(mut self, largest: u8) -> Self {
        self.largest = f64::from(largest.max(1));
        self
    }
    /// With steps that are trained too.
    #[must_use]
    pub fn learned(mut self) -> Self {
        self.learned = true;
        self
    }
    fn step_name(weight: &str) -> String {
        format!("fake_quant.{weight}.step")
    }
    /// The step of each channel that maps its largest magnitude onto the largest integer; 1 for a channel of zeros.
    pub(super) fn fit(&self, weight: &Tensor, axis: usize) -> Result<Tensor> {
        let dims = weight.dims();
        if axis >= dims.len() {
            return Err(Error::argument(format!("axis {axis} of a weight with the shape {dims:?}")));
        }
        let mut top = weight.abs()?;
        for d in (0..dims.len()).filter(|&d| d != axis) {
            top = top.max_keepdim(d)?;
        }
        let step = (top / self.largest)?;
        let tiny = step.lt(f32::MIN_POSITIVE)?;
        Ok(tiny.where_cond(&step.ones_like()?, &step)?)
    }
}

impl Parametrization for FakeQuantWeights {
    fn name(&self) -> &'static str {
        "fake_quant"
    }
    fn start(&mut self, params: &[Param]) -> Result<Vec<Param>> {
        let mut own = Vec::new();
        let mut steps = Tensors::new();
        for p in params {
            let Some(&axis) = self.axes.get(&p.name) else { continue };
            let step = self.fit(&p.var.as_tensor().detach(), axis)?;
            if self.learned {
                own.push(Param::new(Self::step_name(&p.name), &step, ParamKind::Scale)?);
            } else {
                steps.insert(p.name.clone(), step);
            }
        }
        self.steps = steps;
        Ok(own)
    }
    fn forward(&self, tensors: &mut Tensors) -> Result<()> {
        for name in self.axes.keys() {
            let step = match tensors.get(&Self::step_name(name)) {
                Some(own) if self.learned => {
                    let channels = own.elem_count().max(1);
                    let each = tensors.get(name).map_or(1, |w| w.elem_count() / channels);
                    let factor = 1.0 / (each.max(1) as f64 * self.largest).sqrt();
                    // A step that training has carried past zero counts by its size.
                    let sign = own.detach().ge(0f32)?.to_dtype(DType::F32)?.affine(2.0, -1.0)?;
                    straight_through(&own.abs()?, &[(own, &(sign * factor)?)])?
                }
                _ => match self.steps.get(name) {
                    Some(step) => step.clone(),
                    None => continue,
                },
            };
            if let Some(w) = tensors.get_mut(name) {
                *w = fake_quantize(w, &step, None, (-self.largest, self.largest))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// The kernel and candle's operations give the same numbers and gradients.
    #[test]
    fn the_kernel_is_what_it_stands_for() {
        let numbers: Vec<f32> = (0..4 * 3 * 5).map(|i| ((i * 37 % 61) as f32 - 30.0) * 0.17).collect();
        for (axis, zeros) in [(0, None), (1, Some(3.0f32)), (2, None)] {
            let mut spread = [1, 1, 1];
            spread[axis] = [4, 3, 5][axis];
            let scales: Vec<f32> = (0..spread[axis]).map(|i| 0.05 + 0.03 * i as f32).collect();
            let zero = zeros.map(|z| Tensor::full(z, &spread, &Device::Cpu).unwrap());
            let weights = Tensor::arange(0f32, 60.0, &Device::Cpu).unwrap().reshape((4, 3, 5)).unwrap().sin().unwrap();
            let made = |f: &dyn Fn(&Tensor, &Tensor) -> Result<Tensor>| {
                let x = Var::from_slice(&numbers, (4, 3, 5), &Device::Cpu).unwrap();
                let scale = Var::from_slice(&scales, &spread, &Device::Cpu).unwrap();
                let y = f(&x, &scale).unwrap();
                let store = (&y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
                [&y, store.get(&x).unwrap(), store.get(&scale).unwrap()].map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            };
            let limits = (-20.0, 20.0);
            let kernel = made(&|x, s| Ok(ops::fake_quantize(x, s, zero.as_ref(), [-20.0, 20.0])?.unwrap()));
            let candle = made(&|x, s| composed(x, s, zero.as_ref(), limits));
            assert_eq!(kernel[0], candle[0]);
            assert_eq!(kernel[1], candle[1]);
            assert!(
                kernel[2].iter().zip(&candle[2]).all(|(a, b)| (a - b).abs() < 1e-3 * b.abs().max(1.0)),
                "{:?} {:?}",
                kernel[2],
                candle[2]
            );
        }
    }
}
