//! In the manner of Yang et al., "Focal and global knowledge distillation for detectors" (2022): foreground and background apart, each place
//! and channel weighted by the teacher's attention. What is foreground the teacher's confidence says, where the paper takes the labels'
//! boxes, so that no labels are needed; the relation of all places to each other (the paper's global part) is left out.

use super::tensors::{flat, log_softmax, weighted_mean};
use super::{FeatureLoss, Maps, Number};
use candle_core::{D, Tensor};
use compresso_base::error::Result;

pub const FGD: FeatureLoss = FeatureLoss::new(
    "fgd",
    "squared difference in foreground and background apart, weighted by the teacher's attention, and the difference of the attentions",
    &[
        Number { name: "temperature", doc: "Softens the attention.", default: 0.5, bounds: (0.1, 100.0) },
        Number { name: "foreground", doc: "Factor on what the teacher detects.", default: 1.0, bounds: (0.0, 1000.0) },
        Number { name: "background", doc: "Factor on the rest.", default: 0.5, bounds: (0.0, 1000.0) },
        Number { name: "attention", doc: "Factor on the difference of the attentions.", default: 0.5, bounds: (0.0, 1000.0) },
    ],
    loss,
)
.squared()
.with_confidence();

fn loss(m: &Maps<'_>, numbers: &[f64]) -> Result<Tensor> {
    let &[temperature, foreground, background, attention] = numbers else {
        return Err(compresso_base::error::Error::internal("four numbers"));
    };
    let (batch, channels, height, width) = m.teacher.dims4()?;
    let ([ss, sc], [ts, tc]) = (attentions(m.student, temperature)?, attentions(m.teacher, temperature)?);
    let places = ts.reshape((batch, 1, height, width))?;
    let weighted = (m.student - m.teacher)?.sqr()?.broadcast_mul(&tc.reshape((batch, channels, 1, 1))?)?;
    let each = (weighted.mean_keepdim(1)? * places)?;
    let mut loss = match m.confidence {
        Some(c) => {
            let rest = (1.0 - c)?;
            ((weighted_mean(&each, c)? * foreground)? + (weighted_mean(&each, &rest)? * background)?)?
        }
        None => (each.mean_all()? * foreground)?,
    };
    for (s, t) in [(ss, ts), (sc, tc)] {
        loss = (loss + ((s - t)?.abs()?.mean_all()? * attention)?)?;
    }
    Ok(loss)
}

/// Attention to places `[batch, height · width]` and to channels `[batch, channels]`, each with a mean of 1.
fn attentions(x: &Tensor, temperature: f64) -> Result<[Tensor; 2]> {
    let size = flat(x)?.abs()?;
    let of = |mean: Tensor| -> Result<Tensor> {
        let count = mean.dim(D::Minus1)? as f64;
        Ok((log_softmax(&(mean / temperature)?)?.exp()? * count)?)
    };
    Ok([of(size.mean(1)?)?, of(size.mean(2)?)?])
}
