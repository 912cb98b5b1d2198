//! Kernels against their plain definitions.

use super::activation::{self, Activation};
use super::norm::{self, Normalized, Then};
use super::resize::{self, AxisMap};
use super::softmax::{self, Kind};
use super::{Window, pool, reference};
use proptest::prelude::*;

/// Values from a fixed sequence, of both signs.
pub(super) fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(777);
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(next).collect()
}

fn close(what: &str, got: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= 1e-5 * largest, "{what}[{i}]: got {g}, expected {e}");
    }
}

#[test]
fn elementary_functions_are_as_exact_as_float32_allows() {
    let grid = (-88_000..88_000).map(|i| i as f32 * 1e-3);
    for x in grid {
        let d = f64::from(x);
        let relative = |got: f32, exact: f64| (f64::from(got) - exact).abs() / exact.abs().max(1e-37);
        if x > -87.0 {
            assert!(relative(activation::exp(x), d.exp()) < 3e-7, "exp({x})");
            assert!(relative(activation::sigmoid(x), 1.0 / (1.0 + (-d).exp())) < 4e-7, "sigmoid({x})");
        }
        if x != 0.0 {
            assert!(relative(activation::tanh(x), d.tanh()) < 4e-7, "tanh({x})");
        }
    }
    assert!(activation::exp(f32::NAN).is_nan() && activation::sigmoid(f32::NAN).is_nan() && activation::tanh(f32::NAN).is_nan());
    assert_eq!(activation::sigmoid(f32::INFINITY), 1.0);
    assert!(activation::sigmoid(f32::NEG_INFINITY) < 1e-37);
    // erf by its series, in float64.
    let erf = |x: f64| {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        2.0 / std::f64::consts::PI.sqrt() * sum
    };
    for i in -400..400 {
        let x = i as f32 * 0.01;
        assert!((f64::from(activation::erf(x)) - erf(f64::from(x))).abs() < 4e-7, "erf({x})");
    }
}

#[test]
fn activations_split_among_threads_without_a_seam() {
    let x = values(100_003, 1);
    let (mut y, mut gx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
    Activation::Swish { alpha: 1.0 }.forward(&x, &mut y);
    Activation::Swish { alpha: 1.0 }.backward(&x, &y, &x, &mut gx);
    let silu = |v: f32| v / (1.0 + (-v).exp());
    close("y", &y, &x.iter().map(|&v| silu(v)).collect::<Vec<_>>());
    let slope = |v: f32| {
        let s = 1.0 / (1.0 + (-v).exp());
        v * (s + v * s * (1.0 - s))
    };
    close("gx", &gx, &x.iter().map(|&v| slope(v)).collect::<Vec<_>>());
}

prop_compose! {
    fn windows()(kernel in [1usize..6, 1usize..6], stride in [1usize..4, 1usize..4], dilation in [1usize..3, 1usize..3],
                 pad in [0usize..3, 0usize..3], extra in [0usize..20, 0usize..20]) -> Window {
        let pad = [pad[0].min(kernel[0] / 2), pad[1].min(kernel[1] / 2)];
        let reach = [0, 1].map(|d| (kernel[d] - 1) * dilation[d] + 1);
        let input = [0, 1].map(|d| (reach[d] + extra[d]).saturating_sub(2 * pad[d]).max(1));
        let output = [0, 1].map(|d| (input[d] + 2 * pad[d]).max(reach[d]).saturating_sub(reach[d]) / stride[d] + 1);
        Window {
            input: input.to_vec(), kernel: kernel.to_vec(), stride: stride.to_vec(), dilation: dilation.to_vec(),
            pad_begin: pad.to_vec(), pad_end: pad.to_vec(), output: output.to_vec(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pools_agree_with_the_reference(w in windows(), padding in any::<bool>()) {
        let (ins, outs) = (3 * w.input_len(), 3 * w.output_len());
        // Few distinct values, so that there are ties.
        let x: Vec<f32> = values(ins, 1).iter().map(|v| (v * 4.0).round()).collect();
        let gy = values(outs, 2);
        let mut y = vec![f32::NAN; outs];
        let (mut y2, mut at) = (vec![0.0; outs], vec![0usize; outs]);
        for o in 0..w.output_len() {
            let mut read = Vec::new();
            w.reads(o, |i| read.push(i));
            prop_assert_eq!(read, (0..w.kernel_len()).filter_map(|k| w.read(o, k)).collect::<Vec<_>>());
        }
        pool::max_forward(&w, 3, &x, &mut y);
        reference::max_pool(&w, 3, &x, &mut y2, &mut at);
        prop_assert_eq!(&y, &y2);
        let mut gx = vec![f32::NAN; ins];
        pool::max_backward(&w, 3, &x, &y, &gy, &mut gx);
        let mut gx2 = vec![0.0; ins];
        for (i, &a) in at.iter().enumerate().filter(|(_, a)| **a != usize::MAX) {
            gx2[i / w.output_len() * w.input_len() + a] += gy[i];
        }
        close("max gx", &gx, &gx2);
        pool::average_forward(&w, 3, padding, &x, &mut y);
        reference::average_pool(&w, 3, padding, &x, &mut y2);
        close("average", &y, &y2);
        gx2.fill(0.0);
        pool::average_backward(&w, 3, padding, &gy, &mut gx);
        reference::average_pool_backward(&w, 3, padding, &gy, &mut gx2);
        close("average gx", &gx, &gx2);
    }

    #[test]
    fn a_resized_axis_and_its_gradient_are_adjoint(input in 1usize..9, output in 1usize..17, inner in 1usize..20, taps in 1usize..4) {
        let index: Vec<u32> = (0..output * taps).map(|i| (i * 7 % input) as u32).collect();
        let map = AxisMap { input, output, taps, weight: values(index.len(), 3), index };
        let (x, gy) = (values(2 * input * inner, 4), values(2 * output * inner, 5));
        let (mut y, mut gx) = (vec![f32::NAN; gy.len()], vec![f32::NAN; x.len()]);
        resize::forward(&map, inner, &x, &mut y);
        resize::backward(&map, inner, &gy, &mut gx);
        let expected: Vec<f32> = (0..y.len()).map(|i| {
            let (p, o, e) = (i / (output * inner), i / inner % output, i % inner);
            (0..taps).map(|t| map.weight[o * taps + t] * x[(p * input + map.index[o * taps + t] as usize) * inner + e]).sum()
        }).collect();
        close("y", &y, &expected);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        prop_assert!((dot(&y, &gy) - dot(&x, &gx)).abs() < 1e-4 * (1.0 + dot(&y, &gy).abs()));
    }

    #[test]
    fn softmax_sums_to_one_and_its_gradient_is_that_of_the_definition(n in 1usize..20, inner in 1usize..40) {
        let x: Vec<f32> = values(2 * n * inner, 6).iter().map(|v| v * 10.0).collect();
        let gy = values(x.len(), 7);
        let at = |p: usize, k: usize, i: usize| (p * n + k) * inner + i;
        let mut soft = vec![f64::NAN; x.len()];
        for (p, i) in (0..2).flat_map(|p| (0..inner).map(move |i| (p, i))) {
            let sum: f64 = (0..n).map(|k| f64::from(x[at(p, k, i)]).exp()).sum();
            (0..n).for_each(|k| soft[at(p, k, i)] = f64::from(x[at(p, k, i)]).exp() / sum);
        }
        for kind in [Kind::Softmax, Kind::Log] {
            let (mut y, mut gx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            softmax::forward(kind, n, inner, &x, &mut y);
            close("y", &y, &soft.iter().map(|s| if kind == Kind::Log { s.ln() } else { *s } as f32).collect::<Vec<_>>());
            softmax::backward(kind, n, inner, &y, &gy, &mut gx);
            let mut expected = vec![0.0; x.len()];
            for (p, i) in (0..2).flat_map(|p| (0..inner).map(move |i| (p, i))) {
                let g = |k: usize| f64::from(gy[at(p, k, i)]);
                let s = |k: usize| soft[at(p, k, i)];
                let sum: f64 = (0..n).map(|k| if kind == Kind::Log { g(k) } else { g(k) * s(k) }).sum();
                for k in 0..n {
                    expected[at(p, k, i)] = (if kind == Kind::Log { g(k) - s(k) * sum } else { s(k) * (g(k) - sum) }) as f32;
                }
            }
            close("gx", &gx, &expected);
        }
    }
}

/// Batch normalization by its definition in float64, with what may follow it: the loss `Σ gy · y` and its numeric gradient.
#[test]
fn batch_norm_gradients_are_those_of_the_definition() {
    let (batch, channels, plane) = (3, 2, 37);
    let x: Vec<f32> = values(batch * channels * plane, 8).iter().map(|v| v * 2.0 + 0.7).collect();
    let (gy, scale, bias) = (values(x.len(), 9), [1.5f32, -0.6], [0.2f32, 0.4]);
    let loss = |x: &[f64], scale: &[f64], bias: &[f64], then: Then| -> f64 {
        let of = |c: usize| x.chunks_exact(plane).enumerate().filter(move |(i, _)| i % channels == c).flat_map(|(_, p)| p.iter());
        let count = (batch * plane) as f64;
        (0..x.len())
            .map(|i| {
                let c = i / plane % channels;
                let mean = of(c).sum::<f64>() / count;
                let var = of(c).map(|v| (v - mean).powi(2)).sum::<f64>() / count;
                let z = (x[i] - mean) / (var + 1e-3).sqrt() * scale[c] + bias[c];
                let y = match then {
                    Then::Nothing => z,
                    Then::Relu => z.max(0.0),
                    Then::Silu => z / (1.0 + (-z).exp()),
                    Then::HardSwish => z * (z / 6.0 + 0.5).clamp(0.0, 1.0),
                    Then::Clip { min, max } => z.max(f64::from(min)).min(f64::from(max)),
                };
                f64::from(gy[i]) * y
            })
            .sum()
    };
    let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    for then in [Then::Nothing, Then::Relu, Then::Silu, Then::HardSwish, Then::Clip { min: -0.3, max: 0.9 }] {
        let mut y = vec![f32::NAN; x.len()];
        let (mean, var, _) = norm::batch_norm(plane, (&scale, &bias), 1e-3, then, &x, &mut y);
        let inv: Vec<f32> = var.iter().map(|&v| norm::inverse(v, 1e-3)).collect();
        let n = Normalized { mean: &mean, inv: &inv, scale: &scale, bias: &bias };
        let mut gx = vec![f32::NAN; x.len()];
        let (g_scale, g_bias, _) = norm::batch_norm_backward(plane, n, then, &x, &gy, &mut gx);
        let numeric = |which: usize, i: usize| {
            let at = |d: f64| {
                let mut all = [wide(&x), wide(&scale), wide(&bias)];
                all[which][i] += d;
                loss(&all[0], &all[1], &all[2], then)
            };
            ((at(1e-4) - at(-1e-4)) / 2e-4) as f32
        };
        for (i, g) in gx.iter().enumerate().step_by(23) {
            assert!((g - numeric(0, i)).abs() < 2e-4, "{then:?} gx[{i}] {g} {}", numeric(0, i));
        }
        for c in 0..channels {
            assert!((g_scale[c] - numeric(1, c)).abs() < 1e-3 && (g_bias[c] - numeric(2, c)).abs() < 1e-3, "channel {c}");
        }
        let sum: f64 = y.iter().zip(&gy).map(|(y, g)| f64::from(*y) * f64::from(*g)).sum();
        assert!((sum - loss(&wide(&x), &wide(&scale), &wide(&bias), then)).abs() < 1e-3);
    }
}
