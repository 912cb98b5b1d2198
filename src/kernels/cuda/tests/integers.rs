//! Rounding to integers, and products of integers.

use super::super::plans::{self, Channels, Grid, Int8Conv};
use super::{Bytes, close, each, expect, floats, ints};
use crate::tests::values;
use crate::window::Window2;
use proptest::prelude::*;

/// Codes from -127 to 127 or, of the same bits, from 0 to 255.
fn codes(n: usize, seed: u32) -> Vec<i8> {
    values(n, seed).into_iter().map(|v| (v * 127.0) as i8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn rounding(outer in 1usize..4, channels in 1usize..4, inner in prop_oneof![1usize..30, 2100usize..2200], signed in any::<bool>(), seed in 0u32..1000) {
        let c = Channels { outer, channels, inner };
        let grid = if signed { Grid::INT8 } else { Grid::UINT8 };
        let scale: Vec<f32> = values(channels, seed).into_iter().map(|v| v.abs() * 0.01 + 0.002).collect();
        let zero: Vec<f32> = values(channels, seed + 1).into_iter().map(|v| (v * 9.0).round() + if signed { 0.0 } else { 128.0 }).collect();
        let (mut x, gy) = (values(c.len(), seed + 2), values(c.len(), seed + 3));
        // Halves, far outside, and no number.
        let count = c.len();
        x[0] = 2.5 * scale[0];
        x[count / 2] = 1e9;
        x[count - 1] = f32::NAN;
        let of = |i: usize| i / inner % channels;
        let (mut codes, mut fake, mut gx, mut g_scale) = (Vec::new(), Vec::new(), Vec::new(), vec![0.0f64; channels]);
        for (i, &v) in x.iter().enumerate() {
            let (s, z) = (scale[of(i)], zero[of(i)]);
            let q = (v / s).round_ties_even() + z;
            let kept = q.max(grid.low).min(grid.high);
            codes.push(kept as i32 as u8);
            fake.push((kept - z) * s);
            gx.push(if q == kept { gy[i] } else { 0.0 });
            g_scale[of(i)] += f64::from(gy[i]) * f64::from(kept - z - if q == kept { v / s } else { 0.0 });
        }
        let given = [x.bytes(), scale.bytes(), zero.bytes()];
        each(&plans::quantize(c, grid).unwrap(), &given, |runner, results| assert_eq!(results[0], codes, "{runner}"));
        expect("fake", &plans::fake_quantize(c, grid).unwrap(), &[&x, &scale, &zero], &[&fake], 0.0);
        let back = [codes.clone(), scale.bytes(), zero.bytes()];
        each(&plans::dequantize(c, signed).unwrap(), &back, |runner, results| close(runner, &floats(&results[0]), &fake, 0.0));
        let plan = plans::fake_quantize_backward(c, grid, true).unwrap();
        each(&plan, &[x.bytes(), scale.bytes(), zero.bytes(), gy.bytes()], |runner, results| {
            close(runner, &floats(&results[0]), &gx, 0.0);
            let wanted: Vec<f32> = g_scale.iter().map(|v| *v as f32).collect();
            close(runner, &floats(&results[1])[..channels], &wanted, 1e-5);
        });
        let plan = plans::fake_quantize_backward(c, grid, false).unwrap();
        expect("straight through", &plan, &[&x, &scale, &zero, &gy], &[&gx], 0.0);
    }

    #[test]
    fn products(m in 1usize..140, n in 1usize..70, words in 1usize..20, seed in 0u32..1000) {
        let k = 4 * words;
        let (a, b) = (codes(m * k, seed), codes(n * k, seed + 1));
        let dot = |i: usize, j: usize| (0..k).map(|d| i32::from(a[i * k + d]) * i32::from(b[j * k + d])).sum::<i32>();
        let wanted: Vec<i32> = (0..m * n).map(|i| dot(i / n, i % n)).collect();
        each(&plans::int8_matmul(m, n, k).unwrap(), &[a.bytes(), b.bytes()], |runner, results| assert_eq!(ints(&results[0]), wanted, "{runner}"));
    }

    #[test]
    fn integer_convolutions(
        batch in 1usize..3,
        words in 1usize..4,
        filters in prop_oneof![1usize..9, 60usize..70],
        input in [1usize..9, 1usize..9],
        kernel in [1usize..4, 1usize..4],
        stride in [1usize..3, 1usize..3],
        dilation in [1usize..3, 1usize..3],
        pad in [0usize..3, 0usize..3],
        signed in any::<bool>(),
        seed in 0u32..1000,
    ) {
        let output = [0, 1].map(|d| (input[d] + 2 * pad[d]).saturating_sub((kernel[d] - 1) * dilation[d] + 1) / stride[d] + 1);
        let window = Window2 { input, kernel, stride, dilation, pad, output };
        let channels = 4 * words;
        let (x_zero, y_zero) = (if signed { -3 } else { 131 }, if signed { 5 } else { 120 });
        let grid = if signed { Grid::INT8 } else { Grid::UINT8 };
        let c = Int8Conv { batch, channels, filters, window, signed, x_zero, y_zero, grid };
        let x = codes(batch * input[0] * input[1] * channels, seed);
        let taps = kernel[0] * kernel[1];
        let w = codes(filters * taps * channels, seed + 1);
        let raw_bias: Vec<i32> = values(filters, seed + 2).into_iter().map(|v| (v * 2000.0) as i32).collect();
        let factor: Vec<f32> = values(filters, seed + 3).into_iter().map(|v| v.abs() * 0.003 + 1e-4).collect();
        let stored = |code: i8| if signed { i32::from(code) } else { i32::from(code.cast_unsigned()) };
        let mut wanted = Vec::new();
        for image in 0..batch {
            for o in 0..output[0] * output[1] {
                for f in 0..filters {
                    let mut sum = raw_bias[f];
                    for tap in 0..taps {
                        let at = |d: usize, o: usize, k: usize| (o * stride[d] + k * dilation[d]).checked_sub(pad[d]).filter(|i| *i < input[d]);
                        let (iy, ix) = (at(0, o / output[1], tap / kernel[1]), at(1, o % output[1], tap % kernel[1]));
                        let Some((iy, ix)) = iy.zip(ix) else { continue };
                        for ch in 0..channels {
                            let code = x[((image * input[0] + iy) * input[1] + ix) * channels + ch];
                            sum += (stored(code) - x_zero) * i32::from(w[(f * taps + tap) * channels + ch]);
                        }
                    }
                    let q = (sum as f32 * factor[f]).round_ties_even() + y_zero as f32;
                    wanted.push(q.max(grid.low).min(grid.high) as i32 as u8);
                }
            }
        }
        let zero = if signed { x_zero } else { x_zero - 128 };
        let of = |f: usize| w[f * taps * channels..][..taps * channels].iter().map(|v| i32::from(*v)).sum::<i32>();
        let bias: Vec<i32> = raw_bias.iter().enumerate().map(|(f, b)| b - zero * of(f)).collect();
        let given = [x.bytes(), w.bytes(), bias.bytes(), factor.bytes()];
        each(&plans::int8_conv(&c).unwrap(), &given, |runner, results| assert_eq!(results[0], wanted, "{runner}"));
    }
}

#[test]
fn rows_of_codes_are_whole_words() {
    let text = plans::int8_matmul(2, 2, 6).unwrap_err().to_string();
    assert!(text.contains("whole words"), "{text}");
}
