//! Huang et al., "Knowledge distillation from a stronger teacher" (2022): correlation in place of divergence.

use super::divergence::Soft;
use super::tensors::log_softmax;
use super::{Classes, LogitLoss, Number};
use candle_core::{D, Tensor};
use compresso_base::error::Result;

pub const DIST: LogitLoss = LogitLoss {
    name: "dist",
    summary: "of classifiers: how far the probabilities are from being correlated, over the classes of an image and over the images of a class",
    numbers: &[
        Number { name: "beta", doc: "Factor on the classes of an image.", default: 1.0, bounds: (0.0, 100.0) },
        Number { name: "gamma", doc: "Factor on the images of a class.", default: 1.0, bounds: (0.0, 100.0) },
    ],
    temperature: [1.0, 1.0],
    classes: Some(loss),
    head: None,
};

fn loss(c: &Classes<'_>, numbers: &[f64]) -> Result<Soft> {
    let soft = |x: &Tensor| -> Result<Tensor> { Ok(log_softmax(&(x / c.temperature)?)?.exp()?) };
    let (p, q) = (soft(c.student)?, soft(&c.teacher.detach())?);
    let between = (uncorrelated(&p, &q)? * numbers[0])?;
    let within = (uncorrelated(&p.t()?.contiguous()?, &q.t()?.contiguous()?)? * numbers[1])?;
    Soft::of(((between + within)? * (c.temperature * c.temperature))?)
}

/// Mean over rows of 1 − Pearson's correlation.
fn uncorrelated(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let centred = |x: &Tensor| x.broadcast_sub(&x.mean_keepdim(D::Minus1)?);
    let (a, b) = (centred(a)?, centred(b)?);
    let norm = |x: &Tensor| -> candle_core::Result<Tensor> { (x.sqr()?.sum(D::Minus1)? + 1e-16)?.sqrt() };
    let r = ((&a * &b)?.sum(D::Minus1)? / ((norm(&a)? * norm(&b)?)? + 1e-8)?)?;
    Ok((1.0 - r.mean_all()?)?)
}
