//! Cao et al., "PKD: general distillation framework for object detectors via Pearson correlation coefficient" (2022).

use super::tensors::flat;
use super::{FeatureLoss, Maps};
use candle_core::{D, Tensor};
use compresso_base::error::Result;

pub const PKD: FeatureLoss = FeatureLoss::new(
    "pkd",
    "1 − Pearson's correlation of each channel over batch and places; how large a map's numbers are does not matter",
    &[],
    loss,
);

/// Half the squared distance of the maps whose channels are brought to a mean of 0 and a variance of 1.
fn loss(m: &Maps<'_>, _: &[f64]) -> Result<Tensor> {
    let standard = |x: &Tensor| -> Result<Tensor> {
        let rows = flat(x)?.transpose(0, 1)?.contiguous()?.flatten_from(1)?;
        let centred = rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
        Ok(centred.broadcast_div(&deviation)?)
    };
    Ok(((standard(m.student)? - standard(m.teacher)?)?.sqr()?.mean_all()? / 2.0)?)
}
