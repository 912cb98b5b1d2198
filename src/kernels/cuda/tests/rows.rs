//! Along rows and columns: softmax, layer normalization; suppression of boxes.

use super::super::plans;
use super::{Bytes, each, expect};
use crate::softmax::{self, Kind};
use crate::tests::values;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn softmaxes(outer in 1usize..4, n in prop_oneof![1usize..20, 250usize..600], inner in prop_oneof![Just(1usize), 2usize..9], log in any::<bool>(), seed in 0u32..1000) {
        let kind = if log { Kind::Log } else { Kind::Softmax };
        let x: Vec<f32> = values(outer * n * inner, seed).into_iter().map(|v| v * 20.0).collect();
        let gy = values(x.len(), seed + 1);
        let (mut y, mut gx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        softmax::forward(kind, n, inner, &x, &mut y);
        softmax::backward(kind, n, inner, &y, &gy, &mut gx);
        expect("y", &plans::softmax(kind, outer, n, inner).unwrap(), &[&x], &[&y], 2e-6);
        expect("gx", &plans::softmax_backward(kind, outer, n, inner).unwrap(), &[&y, &gy], &[&gx], 1e-5);
    }

    #[test]
    fn layer_normalization(rows in prop_oneof![1usize..6, 257usize..300], n in prop_oneof![1usize..40, 257usize..300], seed in 0u32..1000) {
        let rows = if n > 40 { rows.min(5) } else { rows.min(260) };
        let (x, gy) = (values(rows * n, seed), values(rows * n, seed + 1));
        let (scale, bias) = (values(n, seed + 2), values(n, seed + 3));
        let epsilon = 1e-3f64;
        let (mut y, mut gx) = (vec![0.0f32; x.len()], vec![0.0f32; x.len()]);
        let (mut means, mut invs) = (Vec::new(), Vec::new());
        let (mut g_scale, mut g_bias) = (vec![0.0f64; n], vec![0.0f64; n]);
        for r in 0..rows {
            let row: Vec<f64> = x[r * n..][..n].iter().map(|v| f64::from(*v)).collect();
            let mean = row.iter().sum::<f64>() / n as f64;
            let var = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
            let inv = 1.0 / (var + epsilon).sqrt();
            let hat: Vec<f64> = row.iter().map(|v| (v - mean) * inv).collect();
            let g: Vec<f64> = (0..n).map(|i| f64::from(gy[r * n + i]) * f64::from(scale[i])).collect();
            let (g_mean, g_hat) = (g.iter().sum::<f64>() / n as f64, g.iter().zip(&hat).map(|(g, h)| g * h).sum::<f64>() / n as f64);
            for i in 0..n {
                y[r * n + i] = (hat[i] * f64::from(scale[i]) + f64::from(bias[i])) as f32;
                gx[r * n + i] = (inv * (g[i] - g_mean - hat[i] * g_hat)) as f32;
                g_scale[i] += f64::from(gy[r * n + i]) * hat[i];
                g_bias[i] += f64::from(gy[r * n + i]);
            }
            means.push(mean as f32);
            invs.push(inv as f32);
        }
        let moments: Vec<f32> = means.into_iter().chain(invs).collect();
        let gradients: Vec<f32> = g_scale.iter().chain(&g_bias).map(|v| *v as f32).collect();
        expect("y", &plans::layer_norm(rows, n, epsilon as f32).unwrap(), &[&x, &scale, &bias], &[&y, &moments], 1e-5);
        expect("gradients", &plans::layer_norm_backward(rows, n).unwrap(), &[&x, &scale, &moments, &gy], &[&gx, &gradients], 2e-5);
    }

    /// Greedy suppression, box by box.
    #[test]
    fn suppressed_boxes(n in 0usize..90, classes in 1i32..4, iou in 0.2f32..0.8, seed in 0u32..1000) {
        let raw = values(4 * n, seed);
        let boxes: Vec<f32> = raw.as_chunks::<4>().0.iter().flat_map(|[x, y, w, h]| [*x, *y, x + w.abs(), y + h.abs()]).collect();
        let kinds: Vec<i32> = (0..n as i32).map(|i| i * 7 % 5 % classes).collect();
        let area = |b: &[f32]| f64::from(b[2] - b[0]) * f64::from(b[3] - b[1]);
        let overlap = |a: &[f32], b: &[f32]| {
            let side = |k: usize| f64::from(a[k + 2].min(b[k + 2]) - a[k].max(b[k])).max(0.0);
            let both = side(0) * side(1);
            let all = area(a) + area(b) - both;
            if all > 0.0 { both / all } else { 0.0 }
        };
        let (mut keep, mut near) = (vec![1u8; n], false);
        for i in 0..n {
            for j in (0..i).filter(|&j| kinds[j] == kinds[i]) {
                let o = overlap(&boxes[4 * i..], &boxes[4 * j..]);
                near |= (o - f64::from(iou)).abs() < 1e-5;
                if keep[j] == 1 && o > f64::from(iou) {
                    keep[i] = 0;
                }
            }
        }
        // At the limit itself rounding decides.
        prop_assume!(!near);
        each(&plans::nms(n, iou).unwrap(), &[boxes.bytes(), kinds.bytes()], |runner, results| assert_eq!(results[0], keep, "{runner}"));
    }
}

#[test]
fn too_many_boxes_are_refused() {
    assert!(plans::nms(plans::MOST_BOXES + 1, 0.5).is_err());
}
