//! Shu et al., "Channel-wise knowledge distillation for dense prediction" (2021).

use super::tensors::{flat, log_softmax};
use super::{FeatureLoss, Maps, Number};
use candle_core::Tensor;
use compresso_base::error::Result;

pub const CWD: FeatureLoss = FeatureLoss::new(
    "cwd",
    "divergence of each channel's distribution over the places",
    &[Number { name: "temperature", doc: "Softens the distributions.", default: 1.0, bounds: (0.1, 100.0) }],
    loss,
);

/// `T² · KL`, mean over channels and batch.
fn loss(m: &Maps<'_>, numbers: &[f64]) -> Result<Tensor> {
    let soft = |x: &Tensor| log_softmax(&(flat(x)? / numbers[0])?);
    let (p, q) = (soft(m.student)?, soft(m.teacher)?);
    let (batch, channels, _) = q.dims3()?;
    let sum = (q.exp()? * (q - p)?)?.sum_all()?;
    Ok((sum * (numbers[0] * numbers[0] / (batch * channels) as f64))?)
}
