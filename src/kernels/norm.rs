//! Per-channel statistics and affine maps: the parts of batch normalization, alone or followed by SiLU.
//!
//! # Shapes
//! Activations are `[batch, channels, plane]`; everything per channel is `[channels]`.

use super::activation::{sigmoid, wide};
use rayon::prelude::*;

/// Partial sums kept apart, so that they can be added in vectors.
const LANES: usize = 16;

/// Mean and population variance of each channel.
pub fn channel_stats(channels: usize, plane: usize, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let count = (x.len() / channels.max(1)) as f64;
    let stats = |c: usize| {
        let total: f64 = planes(channels, plane, c, x).map(|p| f64::from(sum(p, |v| v))).sum();
        let mean = (total / count) as f32;
        // Deviations from the rounded mean, corrected for the rounding.
        let (mut squares, mut rest) = (0.0f64, 0.0f64);
        for p in planes(channels, plane, c, x) {
            let (s, r) = sums(p, p, |v, _| ((v - mean) * (v - mean), v - mean));
            squares += f64::from(s);
            rest += f64::from(r);
        }
        (mean, ((squares - rest * rest / count) / count).max(0.0) as f32)
    };
    (0..channels).into_par_iter().map(stats).unzip()
}

/// `y = x · scale[c] + shift[c]`.
pub fn affine(channels: usize, plane: usize, x: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
    assert!(x.len() == y.len() && scale.len() == channels && shift.len() == channels, "lengths of a channel map");
    if plane == 0 {
        return;
    }
    y.par_chunks_mut(plane).zip(x.par_chunks(plane)).with_min_len(min_planes(plane)).enumerate().for_each(|(i, (y, x))| {
        let (a, b) = (scale[i % channels], shift[i % channels]);
        wide(
            #[inline(always)]
            || y.iter_mut().zip(x).for_each(|(y, x)| *y = x * a + b),
        );
    });
}

/// Sums over each channel of `g` and of `g · x`.
pub fn channel_sums(channels: usize, plane: usize, x: &[f32], g: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let of = |c: usize| {
        let (mut first, mut second) = (0.0f64, 0.0f64);
        for (x, g) in planes(channels, plane, c, x).zip(planes(channels, plane, c, g)) {
            let (a, b) = sums(x, g, |x, g| (g, g * x));
            first += f64::from(a);
            second += f64::from(b);
        }
        (first as f32, second as f32)
    };
    (0..channels).into_par_iter().map(of).unzip()
}

/// `y = silu(x · scale[c] + shift[c])` with `silu(z) = z · sigmoid(z)`.
pub fn affine_silu(channels: usize, plane: usize, x: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
    assert!(x.len() == y.len() && scale.len() == channels && shift.len() == channels, "lengths of a channel map");
    if plane == 0 {
        return;
    }
    y.par_chunks_mut(plane).zip(x.par_chunks(plane)).with_min_len(min_planes(plane)).enumerate().for_each(|(i, (y, x))| {
        let (a, b) = (scale[i % channels], shift[i % channels]);
        wide(
            #[inline(always)]
            || {
                y.iter_mut().zip(x).for_each(|(y, x)| {
                    let z = x * a + b;
                    *y = z * sigmoid(z);
                })
            },
        );
    });
}

/// What batch normalization did to its input: `x̂ = (x - mean) · inv`, `z = x̂ · scale + bias`, all per channel.
#[derive(Debug, Clone, Copy)]
pub struct Normalized<'a> {
    pub mean: &'a [f32],
    pub inv: &'a [f32],
    pub scale: &'a [f32],
    pub bias: &'a [f32],
}

impl Normalized<'_> {
    /// Factor and shift per channel that make `z` of `x`.
    pub fn map(&self) -> (Vec<f32>, Vec<f32>) {
        let scale: Vec<f32> = self.scale.iter().zip(self.inv).map(|(s, i)| s * i).collect();
        let shift = (0..scale.len()).map(|c| self.bias[c] - self.mean[c] * scale[c]).collect();
        (scale, shift)
    }
}

/// Gradient of batch normalization with batch statistics, followed by SiLU when `silu`. Overwrites `gx` and returns the
/// gradients of scale and bias.
pub fn batch_norm_backward(plane: usize, n: Normalized<'_>, silu: bool, x: &[f32], gy: &[f32], gx: &mut [f32]) -> (Vec<f32>, Vec<f32>) {
    let channels = n.mean.len();
    assert!(x.len() == gx.len() && gy.len() == gx.len(), "lengths of a normalization's gradient");
    if plane * channels == 0 {
        return (vec![0.0; channels], vec![0.0; channels]);
    }
    let count = (x.len() / channels) as f32;
    let (factor, shift) = n.map();
    // First the gradient of z, kept in gx, and its sums.
    let sums: Vec<(f32, f32)> = gx
        .par_chunks_mut(plane)
        .zip(x.par_chunks(plane))
        .zip(gy.par_chunks(plane))
        .with_min_len(min_planes(plane))
        .enumerate()
        .map(|(i, ((gz, x), gy))| {
            let c = i % channels;
            let (a, b, mean) = (factor[c], shift[c], n.mean[c]);
            if silu {
                wide(
                    #[inline(always)]
                    || {
                        gz.iter_mut().zip(x).zip(gy).for_each(|((gz, x), gy)| {
                            let z = x * a + b;
                            let s = sigmoid(z);
                            *gz = gy * s * (1.0 + z * (1.0 - s));
                        })
                    },
                );
            } else {
                gz.copy_from_slice(gy);
            }
            sums(x, gz, |x, g| (g, g * (x - mean)))
        })
        .collect();
    let (mut g_scale, mut g_bias) = (vec![0.0f32; channels], vec![0.0f32; channels]);
    for (i, (first, second)) in sums.into_iter().enumerate() {
        g_bias[i % channels] += first;
        g_scale[i % channels] += second * n.inv[i % channels];
    }
    // gx = factor · (gz - mean(gz) - x̂ · mean(gz · x̂)), as one map of gz and x.
    let b: Vec<f32> = (0..channels).map(|c| -factor[c] * n.inv[c] * g_scale[c] / count).collect();
    let rest: Vec<f32> = (0..channels).map(|c| -factor[c] * g_bias[c] / count - b[c] * n.mean[c]).collect();
    gx.par_chunks_mut(plane).zip(x.par_chunks(plane)).with_min_len(min_planes(plane)).enumerate().for_each(|(i, (g, x))| {
        let (a, b, rest) = (factor[i % channels], b[i % channels], rest[i % channels]);
        wide(
            #[inline(always)]
            || g.iter_mut().zip(x).for_each(|(g, x)| *g = *g * a + x * b + rest),
        );
    });
    (g_scale, g_bias)
}

/// The planes of channel `c`, one per image.
fn planes(channels: usize, plane: usize, c: usize, x: &[f32]) -> impl Iterator<Item = &[f32]> {
    x.chunks_exact((channels * plane).max(1)).map(move |image| &image[c * plane..][..plane])
}

/// Planes that make a task large enough to be worth a thread.
fn min_planes(plane: usize) -> usize {
    (1 << 14) / plane + 1
}

/// Sum of `f` over a slice.
pub fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    wide(
        #[inline(always)]
        || {
            let mut lanes = [0.0f32; LANES];
            let (chunks, rest) = x.as_chunks::<LANES>();
            for chunk in chunks {
                for (lane, &v) in lanes.iter_mut().zip(chunk) {
                    *lane += f(v);
                }
            }
            lanes.iter().sum::<f32>() + rest.iter().map(|&v| f(v)).sum::<f32>()
        },
    )
}

/// Sums of both results of `f` over pairs.
fn sums(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> (f32, f32)) -> (f32, f32) {
    wide(
        #[inline(always)]
        || {
            let (mut first, mut second) = ([0.0f32; LANES], [0.0f32; LANES]);
            let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
            for (x, y) in xs.iter().zip(ys) {
                for i in 0..LANES {
                    let (a, b) = f(x[i], y[i]);
                    first[i] += a;
                    second[i] += b;
                }
            }
            let (mut a, mut b) = (first.iter().sum::<f32>(), second.iter().sum::<f32>());
            for (&x, &y) in x_rest.iter().zip(y_rest) {
                let (u, v) = f(x, y);
                a += u;
                b += v;
            }
            (a, b)
        },
    )
}
