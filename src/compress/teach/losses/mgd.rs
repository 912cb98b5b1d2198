//! Yang et al., "Masked generative distillation" (2022): the teacher's map is made from the student's with parts masked.

use super::{FeatureLoss, Maps, Number};
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_kernels::{ConvShape, Window, ops};
use rand::{RngExt, SeedableRng};

pub const MGD: FeatureLoss = FeatureLoss {
    variables: |c| vec![("generation.0.weight", [c, c, 3, 3]), ("generation.1.weight", [c, c, 3, 3])],
    ..FeatureLoss::new(
        "mgd",
        "squared difference of what two 3×3 convolutions make of the student's map, with some places masked",
        &[Number { name: "mask", doc: "Share of the places that are masked.", default: 0.65, bounds: (0.0, 0.99) }],
        loss,
    )
    .squared()
};

fn loss(m: &Maps<'_>, numbers: &[f64]) -> Result<Tensor> {
    let (batch, _, height, width) = m.student.dims4()?;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(m.seed);
    let kept: Vec<f32> = (0..batch * height * width).map(|_| f32::from(u8::from(rng.random::<f64>() >= numbers[0]))).collect();
    let kept = Tensor::from_vec(kept, (batch, 1, height, width), m.student.device())?;
    generated(m, &kept)
}

/// With the places that are kept given: mean over all elements.
pub(super) fn generated(m: &Maps<'_>, kept: &Tensor) -> Result<Tensor> {
    let [first, second] = m.variables else { return Err(Error::internal("two convolutions make a map")) };
    let made = conv(&m.student.broadcast_mul(kept)?, first.var.as_tensor())?.relu()?;
    Ok((conv(&made, second.var.as_tensor())? - m.teacher)?.sqr()?.mean_all()?)
}

/// A 3×3 convolution that keeps the size.
fn conv(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (batch, in_channels, h, w) = x.dims4()?;
    let shape = ConvShape { batch, in_channels, out_channels: weight.dim(0)?, groups: 1, window: Window::square([h, w], 3, 1, 1, 1) };
    ops::conv(&shape, x, weight, None)
}
