//! Elementwise functions, and normalization over channels.

use super::super::plans::{self, Channels};
use super::expect;
use crate::activation::Activation;
use crate::norm::{self, Normalized, Then};
use crate::tests::values;
use proptest::prelude::*;

const ALL: [Activation; 18] = [
    Activation::Relu,
    Activation::LeakyRelu { alpha: 0.1 },
    Activation::ThresholdedRelu { alpha: 0.7 },
    Activation::Elu { alpha: 1.3 },
    Activation::Selu { alpha: 1.67, gamma: 1.05 },
    Activation::Celu { alpha: 0.8 },
    Activation::Sigmoid,
    Activation::Swish { alpha: 1.0 },
    Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Activation::HardSwish,
    Activation::Softplus,
    Activation::Softsign,
    Activation::Tanh,
    Activation::Clip { min: -0.5, max: 6.0 },
    Activation::Erf,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Mish,
];

#[test]
fn activations() {
    // Several blocks, kinks, both ends, and no number.
    let mut x: Vec<f32> = values(700, 3).into_iter().map(|v| v * 6.0).collect();
    x.extend([0.0, -0.0, 3.0, -3.0, 0.7, -0.5, 6.0, 60.0, -60.0, f32::NAN]);
    let n = x.len();
    let gy = values(n, 4);
    for f in ALL {
        let (mut y, mut gx) = (vec![0.0; n], vec![0.0; n]);
        f.forward(&x, &mut y);
        f.backward(&x, &y, &gy, &mut gx);
        expect(&format!("{f:?}"), &plans::activation(n, f).unwrap(), &[&x], &[&y], 4e-7);
        expect(&format!("{f:?}, gradient"), &plans::activation_backward(n, f).unwrap(), &[&x, &y, &gy], &[&gx], 4e-6);
    }
}

#[test]
fn statistics_of_channels() {
    // Three parts, a large mean, and fewer elements than threads.
    for (outer, channels, inner, mean) in [(3, 2, 3000, 1000.0f32), (1, 3, 7, 0.0), (4, 1, 1, -2.0)] {
        let c = Channels { outer, channels, inner };
        let x: Vec<f32> = values(c.len(), 5).into_iter().map(|v| v + mean).collect();
        let mut expected = vec![Vec::new(); 4];
        for channel in 0..channels {
            let all: Vec<f64> = (0..outer * inner).map(|e| f64::from(x[(e / inner * channels + channel) * inner + e % inner])).collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            expected[0].push(mean as f32);
            expected[1].push((all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / all.len() as f64) as f32);
            expected[2].push(all.iter().copied().fold(f64::INFINITY, f64::min) as f32);
            expected[3].push(all.iter().copied().fold(f64::NEG_INFINITY, f64::max) as f32);
        }
        let plan = plans::channel_statistics(c).unwrap();
        super::each(&plan, &[super::Bytes::bytes(x.as_slice())], |runner, results| {
            let got = super::floats(&results[0]);
            for (k, wanted) in expected.iter().enumerate() {
                super::close(&format!("{k} of {c:?}, {runner}"), &got[k * channels..(k + 1) * channels], wanted, [3e-7, 2e-6, 0.0, 0.0][k]);
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn batch_normalization(outer in 1usize..4, channels in 1usize..4, inner in prop_oneof![1usize..30, 2100usize..2200], seed in 0u32..1000, which in 0usize..5) {
        let then = [Then::Nothing, Then::Relu, Then::Silu, Then::HardSwish, Then::Clip { min: -0.3, max: 0.9 }][which];
        let c = Channels { outer, channels, inner };
        let (x, gy) = (values(c.len(), seed), values(c.len(), seed + 1));
        let (scale, bias) = (values(channels, seed + 2), values(channels, seed + 3));
        let (mut y, mut gx) = (vec![0.0; c.len()], vec![0.0; c.len()]);
        let epsilon = 1e-3;
        let (mean, var, _) = norm::batch_norm(inner, (&scale, &bias), epsilon, then, &x, &mut y);
        let statistics: Vec<f32> = mean.iter().chain(&var).copied().chain(vec![0.0; 2 * channels]).collect();
        expect("y", &plans::batch_norm(c, epsilon as f32, then).unwrap(), &[&x, &scale, &bias, &statistics], &[&y], 1e-5);
        let inv: Vec<f32> = var.iter().map(|&v| norm::inverse(v, epsilon)).collect();
        let n = Normalized { mean: &mean, inv: &inv, scale: &scale, bias: &bias };
        let (g_scale, g_bias, _) = norm::batch_norm_backward(inner, n, then, &x, &gy, &mut gx);
        let gradients: Vec<f32> = g_scale.into_iter().chain(g_bias).collect();
        let plan = plans::batch_norm_backward(c, epsilon as f32, then).unwrap();
        expect("gradients", &plan, &[&x, &scale, &bias, &statistics, &gy], &[&gx, &gradients], 2e-5);
    }
}
