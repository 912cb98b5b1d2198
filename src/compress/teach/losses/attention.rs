//! Zagoruyko and Komodakis, "Paying more attention to attention" (2017).

use super::tensors::flat;
use super::{FeatureLoss, Maps};
use candle_core::{D, Tensor};
use compresso_base::error::Result;

pub const ATTENTION: FeatureLoss = FeatureLoss::new(
    "attention",
    "squared distance of the normalized maps of energy, the mean square over channels; which channels there are does not matter",
    &[],
    loss,
);

/// The sum over places, mean over the batch.
fn loss(m: &Maps<'_>, _: &[f64]) -> Result<Tensor> {
    let energy = |x: &Tensor| -> Result<Tensor> {
        let q = flat(x)?.sqr()?.mean(1)?;
        Ok(q.broadcast_div(&(q.sqr()?.sum_keepdim(D::Minus1)? + 1e-24)?.sqrt()?)?)
    };
    Ok((energy(m.student)? - energy(m.teacher)?)?.sqr()?.sum(D::Minus1)?.mean_all()?)
}
