//! Zhao et al., "Decoupled knowledge distillation" (2022).

use super::divergence::Soft;
use super::tensors::{log_softmax, log_sum_exp};
use super::{Classes, LogitLoss, Number};
use candle_core::{D, Tensor};
use compresso_base::error::{Error, Result};

pub const DKD: LogitLoss = LogitLoss {
    name: "dkd",
    summary: "of classifiers: the probability of the right class and the distribution over the others, each with a factor of its own",
    numbers: &[
        Number { name: "alpha", doc: "Factor on the right class.", default: 1.0, bounds: (0.0, 100.0) },
        Number { name: "beta", doc: "Factor on the distribution over the other classes.", default: 8.0, bounds: (0.0, 100.0) },
    ],
    temperature: [4.0, 4.0],
    classes: Some(loss),
    head: None,
};

/// Takes what is masked out of a softmax.
const FAR: f64 = -1000.0;

fn loss(c: &Classes<'_>, numbers: &[f64]) -> Result<Soft> {
    let (batch, classes) = c.student.dims2()?;
    if c.labels.len() != batch {
        return Err(Error::argument("loss \"dkd\" needs a label for each image").hint("use loss: \"kd\" for images without labels"));
    }
    let mut mask = vec![0f32; batch * classes];
    c.labels.iter().enumerate().for_each(|(i, &label)| mask[i * classes + label] = 1.0);
    let mask = Tensor::from_vec(mask, (batch, classes), c.student.device())?;
    let far = (&mask * FAR)?;
    let soft = |x: &Tensor| x / c.temperature;
    let (s, t) = (soft(c.student)?, soft(&c.teacher.detach())?);
    // Of the right class and of all others together: logarithms of the two probabilities.
    let two = |x: &Tensor| -> Result<[Tensor; 2]> {
        let right = (log_softmax(x)? * &mask)?.sum_keepdim(D::Minus1)?;
        Ok([right, (log_sum_exp(&(x + &far)?)? - log_sum_exp(x)?)?])
    };
    let mut target = Tensor::zeros((), c.student.dtype(), c.student.device())?;
    for (p, q) in two(&s)?.iter().zip(two(&t)?) {
        target = (target + (q.exp()? * (q - p)?)?.sum_all()?)?;
    }
    let (p, q) = (log_softmax(&(s + &far)?)?, log_softmax(&(t + &far)?)?);
    let others = (q.exp()? * (q - p)?)?.sum_all()?;
    let scale = c.temperature * c.temperature / batch as f64;
    Soft::of(((target * (numbers[0] * scale))? + (others * (numbers[1] * scale))?)?)
}
