//! Angle between the channels of student and teacher at each place.

use super::{FeatureLoss, Maps};
use candle_core::Tensor;
use compresso_base::error::Result;

pub const COSINE: FeatureLoss =
    FeatureLoss::new("cosine", "1 − the cosine of the angle between the channels of both at each place", &[], loss);

fn loss(m: &Maps<'_>, _: &[f64]) -> Result<Tensor> {
    let unit = |x: &Tensor| x.broadcast_div(&(x.sqr()?.sum_keepdim(1)? + 1e-12)?.sqrt()?);
    Ok((1.0 - (unit(m.student)? * unit(m.teacher)?)?.sum_keepdim(1)?.mean_all()?)?)
}
