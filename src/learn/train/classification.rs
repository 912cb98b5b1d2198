//! Cross entropy with label smoothing (Szegedy et al. 2016, "Rethinking the Inception Architecture").

use super::loss::{Loss, attach};
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

/// Mean cross entropy of logits `[batch, classes]`; a share `label_smoothing` of each target is spread over all classes.
#[derive(Debug, Clone)]
pub struct ClassificationLoss {
    /// Name of the logits.
    pub output: String,
    /// Number of classes of the task; [`ClassificationLoss::forward`] goes by the width of the logits.
    pub classes: usize,
    /// Share of each target that is spread over all classes, 0 to 1.
    pub label_smoothing: f64,
}

impl ClassificationLoss {
    /// # Shapes
    /// `logits` `[batch, classes]`, `labels` one per image.
    ///
    /// # Errors
    /// `Shape` for logits of another shape, `Argument` for labels out of range.
    pub fn forward(&self, logits: &Tensor, labels: &[usize]) -> Result<Loss> {
        let (value, gradient) = cross_entropy(logits, labels, self.label_smoothing)?;
        Ok(Loss { total: attach(logits, value, gradient)?, parts: vec![("ce", value)] })
    }
}

/// Mean cross entropy and its gradient with respect to the logits.
///
/// # Errors
/// As [`ClassificationLoss::forward`].
pub fn cross_entropy(logits: &Tensor, labels: &[usize], smoothing: f64) -> Result<(f64, Vec<f32>)> {
    let &[batch, classes] = logits.dims() else {
        return Err(Error::shape(format!("expected logits [batch, classes], got {:?}", logits.dims())));
    };
    if labels.len() != batch {
        return Err(Error::shape(format!("{batch} rows of logits, {} labels", labels.len()))
            .hint("training a classifier needs a dataset with a class per image"));
    }
    let mut gradient = logits.flatten_all()?.to_vec1::<f32>()?;
    let mut total = 0.0;
    for (row, &label) in gradient.chunks_exact_mut(classes.max(1)).zip(labels) {
        if label >= classes {
            return Err(Error::argument(format!("label {label} is out of range: the model has {classes} classes")));
        }
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_sum = f64::from(max) + row.iter().map(|&v| f64::from(v - max).exp()).sum::<f64>().ln();
        for (class, v) in row.iter_mut().enumerate() {
            let target = smoothing / classes as f64 + if class == label { 1.0 - smoothing } else { 0.0 };
            let log_p = f64::from(*v) - log_sum;
            total -= target * log_p;
            *v = ((log_p.exp() - target) / batch as f64) as f32;
        }
    }
    Ok((total / batch.max(1) as f64, gradient))
}
