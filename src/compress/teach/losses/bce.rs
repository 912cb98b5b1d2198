//! Binary cross-entropy with the teacher's probabilities as targets: of classifiers as in Beyer et al., "Are we done with ImageNet?" (2020),
//! of detectors with the focus of Li et al., "Generalized focal loss" (2020), as CrossKD (Wang et al. 2024) compares classes.

use super::divergence::{ClassPart, Soft, head_divergence, read};
use super::{Classes, LogitLoss, Number};
use compresso_base::error::{Error, Result};
use compresso_learn::train::attach;

pub const BCE: LogitLoss = LogitLoss {
    name: "bce",
    summary: "cross-entropy of single classes with the teacher's probabilities as targets; of detectors focused on what differs",
    numbers: &[
        Number { name: "class", doc: "Factor on the classes of detectors.", default: 1.0, bounds: (0.0, 1000.0) },
        Number { name: "box", doc: "Factor on the boxes of detectors.", default: 1.0, bounds: (0.0, 1000.0) },
        Number { name: "focus", doc: "Power of the difference that weighs a cell of a detector.", default: 1.0, bounds: (0.0, 5.0) },
    ],
    temperature: [1.0, 1.0],
    classes: Some(|c, _| of_classes(c)),
    head: Some(|h, n| head_divergence(h.levels, h.head, h.temperature, h.gains.times(n[0], n[1]), ClassPart::Focused(n[2]))),
};

/// Targets are `softmax(t / T)`; the sum over classes, mean over the batch.
fn of_classes(c: &Classes<'_>) -> Result<Soft> {
    let &[batch, classes] = c.student.dims() else {
        return Err(Error::shape(format!("expected logits [batch, classes], got {:?}", c.student.dims())));
    };
    let (mut s, t) = (read(c.student)?, read(c.teacher)?);
    let mut value = 0.0;
    for (s, t) in s.chunks_exact_mut(classes.max(1)).zip(t.chunks_exact(classes.max(1))) {
        let most = t.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let power = |x: f32| (f64::from(x - most) / c.temperature).exp();
        let sum: f64 = t.iter().map(|&x| power(x)).sum();
        for (s, &t) in s.iter_mut().zip(t) {
            let (x, q) = (f64::from(*s), power(t) / sum);
            value += x.max(0.0) - x * q + (-x.abs()).exp().ln_1p();
            *s = ((1.0 / (1.0 + (-x).exp()) - q) / batch as f64) as f32;
        }
    }
    value /= batch as f64;
    Ok(Soft { value, total: attach(c.student, value, s)? })
}
