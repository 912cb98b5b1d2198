//! Romero et al., "FitNets: hints for thin deep nets" (2015).

use super::FeatureLoss;

pub const MSE: FeatureLoss =
    FeatureLoss::new("mse", "mean squared difference", &[], |m, _| Ok((m.student - m.teacher)?.sqr()?.mean_all()?)).squared();
