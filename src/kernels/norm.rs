//! Per-channel statistics and affine maps: the parts of batch normalization.
//!
//! # Shapes
//! Activations are `[batch, channels, plane]`; everything per channel is `[channels]`.

use super::activation::wide;
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

/// `z = x · a[c] + y · b[c] + shift[c]`.
pub fn affine2(channels: usize, plane: usize, x: &[f32], a: &[f32], y: &[f32], b: &[f32], shift: &[f32], z: &mut [f32]) {
    assert!(x.len() == z.len() && y.len() == z.len() && shift.len() == channels, "lengths of a channel map");
    if plane == 0 {
        return;
    }
    z.par_chunks_mut(plane).zip(x.par_chunks(plane)).zip(y.par_chunks(plane)).with_min_len(min_planes(plane)).enumerate().for_each(
        |(i, ((z, x), y))| {
            let (a, b, s) = (a[i % channels], b[i % channels], shift[i % channels]);
            wide(
                #[inline(always)]
                || z.iter_mut().zip(x).zip(y).for_each(|((z, x), y)| *z = x * a + y * b + s),
            );
        },
    );
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

/// Gradient of batch normalization with batch statistics.
///
/// With `x̂ = (x - mean) · inv` and `y = x̂ · scale + bias`, overwrites `gx` and returns the gradients of scale and bias.
pub fn batch_norm_backward(
    channels: usize,
    plane: usize,
    x: &[f32],
    mean: &[f32],
    inv: &[f32],
    scale: &[f32],
    gy: &[f32],
    gx: &mut [f32],
) -> (Vec<f32>, Vec<f32>) {
    let count = (x.len() / channels.max(1)) as f32;
    let of = |c: usize| {
        let (mut first, mut second) = (0.0f64, 0.0f64);
        let mean = mean[c];
        for (x, g) in planes(channels, plane, c, x).zip(planes(channels, plane, c, gy)) {
            let (a, b) = sums(x, g, |x, g| (g, g * (x - mean)));
            first += f64::from(a);
            second += f64::from(b);
        }
        (first as f32, second as f32 * inv[c])
    };
    let (g_bias, g_scale): (Vec<f32>, Vec<f32>) = (0..channels).into_par_iter().map(of).unzip();
    // gx = scale · inv · (gy - mean(gy) - x̂ · mean(gy · x̂)), as one affine map of gy and x.
    let a: Vec<f32> = (0..channels).map(|c| scale[c] * inv[c]).collect();
    let b: Vec<f32> = (0..channels).map(|c| -a[c] * inv[c] * g_scale[c] / count).collect();
    let shift: Vec<f32> = (0..channels).map(|c| -a[c] * g_bias[c] / count - b[c] * mean[c]).collect();
    affine2(channels, plane, gy, &a, x, &b, &shift, gx);
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
