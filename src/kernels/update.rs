//! How parameters follow gradients: one pass over a parameter and its state.
//!
//! The formulas are those of PyTorch's optimizers; tests of training hold them against its numbers.

/// Numbers of an [`sgd`] update.
#[derive(Debug, Clone, Copy)]
pub struct Sgd {
    /// Learning rate.
    pub rate: f32,
    /// Factor on the velocity where Nesterov's rule looks ahead.
    pub momentum: f32,
    /// Factor on the old velocity: the momentum, or 0 in the first step.
    pub keep: f32,
    /// Factor on the weight that is added to the gradient.
    pub decay: f32,
    /// Factor on the gradient.
    pub scale: f32,
    /// The weight follows `g + momentum · v` instead of `v`.
    pub nesterov: bool,
}

/// `v = keep · v + g`, `w = w - rate · v` (Nesterov: `g + momentum · v` in place of `v`).
pub fn sgd(weights: &mut [f32], gradient: &[f32], velocity: &mut [f32], n: Sgd) {
    assert!(weights.len() == gradient.len() && weights.len() == velocity.len(), "lengths of an update");
    for ((w, &g), v) in weights.iter_mut().zip(gradient).zip(velocity) {
        let g = g * n.scale + n.decay * *w;
        *v = n.keep * *v + g;
        *w -= n.rate * if n.nesterov { g + n.momentum * *v } else { *v };
    }
}

/// Numbers of an [`adam`] update.
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// How much of the old first moment stays, from 0 to 1.
    pub beta1: f32,
    /// How much of the old second moment stays, from 0 to 1.
    pub beta2: f32,
    /// Learning rate divided by the first moment's bias correction.
    pub step: f32,
    /// One over the root of the second moment's bias correction.
    pub root: f32,
    /// Added to the root of the second moment, so that nothing is divided by 0.
    pub epsilon: f32,
    /// Factor on the weight (decoupled decay).
    pub shrink: f32,
    /// Factor on the weight that is added to the gradient (coupled decay).
    pub decay: f32,
    /// Factor on the gradient.
    pub scale: f32,
}

/// `m` and `v` move towards `g` and `g²`; `w = shrink · w - step · m / (√v · root + epsilon)`.
pub fn adam(weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], n: Adam) {
    assert!(weights.len() == gradient.len() && weights.len() == first.len() && weights.len() == second.len(), "lengths of an update");
    for (((w, &g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
        let g = g * n.scale + n.decay * *w;
        *m += (1.0 - n.beta1) * (g - *m);
        *v = n.beta2 * *v + (1.0 - n.beta2) * g * g;
        *w = *w * n.shrink - n.step * *m / (v.sqrt() * n.root + n.epsilon);
    }
}

/// `a = decay · a + (1 - decay) · b`.
pub fn mix(a: &mut [f32], b: &[f32], decay: f32) {
    assert_eq!(a.len(), b.len(), "lengths of a mixture");
    a.iter_mut().zip(b).for_each(|(a, &b)| *a = decay * *a + (1.0 - decay) * b);
}

/// Sum of squares; the same whatever the number of threads.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    // Short float32 sums over lanes vectorise; their float64 total keeps precision.
    let of = |chunk: &[f32]| {
        let (lanes, rest) = chunk.as_chunks::<16>();
        let mut sums = [0f32; 16];
        for lane in lanes {
            sums.iter_mut().zip(lane).for_each(|(s, v)| *s += v * v);
        }
        f64::from(sums.iter().sum::<f32>() + rest.iter().map(|v| v * v).sum::<f32>())
    };
    values.chunks(1024).map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_of_squares_counts_every_element() {
        let values: Vec<f32> = (0..3001).map(|i| (i % 7) as f32).collect();
        let expected: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        assert_eq!(sum_of_squares(&values), expected);
        assert!(!sum_of_squares(&[1.0, f32::NAN]).is_finite());
    }
}
