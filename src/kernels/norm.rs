//! Per-channel statistics and affine maps: the parts of batch normalization, alone or followed by SiLU.
//!
//! # Shapes
//! Activations are `[batch, channels, plane]`; everything per channel is `[channels]`.

use super::activation::{sigmoid, wide};
use super::out::Out;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Partial sums kept apart, so that they can be added in vectors.
const LANES: usize = 16;

/// Mean and population variance of the planes of a channel.
fn statistics<'a>(planes: impl Iterator<Item = &'a [f32]> + Clone, count: f64) -> (f32, f32) {
    let total: f64 = planes.clone().map(|p| f64::from(sum(p, |v| v))).sum();
    let mean = (total / count) as f32;
    // Deviations from the rounded mean, corrected for the rounding.
    let (mut squares, mut rest) = (0.0f64, 0.0f64);
    for p in planes {
        let (s, r) = sums(p, p, |v, _| ((v - mean) * (v - mean), v - mean));
        squares += f64::from(s);
        rest += f64::from(r);
    }
    (mean, ((squares - rest * rest / count) / count).max(0.0) as f32)
}

/// Batch normalization with the statistics of the batch, followed by SiLU (`z · sigmoid(z)`) when `silu`. Overwrites
/// `y` and returns mean and population variance of each channel, and `y`.
///
/// Work is shared out by channel: a channel is still in the cache when its statistics are known.
///
/// # Panics
/// When the lengths do not fit together.
pub fn batch_norm<'a>(
    plane: usize,
    (scale, bias): (&[f32], &[f32]),
    epsilon: f64,
    silu: bool,
    x: &[f32],
    y: impl Into<Out<'a>>,
) -> (Vec<f32>, Vec<f32>, &'a mut [f32]) {
    let mut y = y.into();
    let channels = scale.len();
    assert!(x.len() == y.len() && bias.len() == channels, "lengths of a normalization");
    check_planes(channels, plane, x.len());
    let count = (x.len() / channels.max(1)) as f64;
    let run = |(c, outputs): (usize, Vec<&mut [MaybeUninit<f32>]>)| {
        let (mean, var) = statistics(planes(channels, plane, c, x), count);
        let a = scale[c] * inverse(var, epsilon);
        let b = bias[c] - mean * a;
        for (y, x) in outputs.into_iter().zip(planes(channels, plane, c, x)) {
            wide(
                #[inline(always)]
                || {
                    if silu {
                        y.iter_mut().zip(x).for_each(|(y, x)| {
                            let z = x * a + b;
                            y.write(z * sigmoid(z));
                        });
                    } else {
                        y.iter_mut().zip(x).for_each(|(y, x)| {
                            y.write(x * a + b);
                        });
                    }
                },
            );
        }
        (mean, var)
    };
    let (mean, var) = by_channel(channels, plane, y.cells()).into_par_iter().enumerate().map(run).unzip();
    // SAFETY: the planes of all channels are all of `y`, and there is an `x` for every one.
    (mean, var, unsafe { y.written() })
}

/// `1 / sqrt(var + epsilon)`
pub fn inverse(var: f32, epsilon: f64) -> f32 {
    (1.0 / (f64::from(var) + epsilon).sqrt()) as f32
}

/// `y = x · scale[c] + shift[c]`; gives `y`.
///
/// # Panics
/// When the lengths do not fit together.
pub fn affine<'a>(channels: usize, plane: usize, x: &[f32], scale: &[f32], shift: &[f32], y: impl Into<Out<'a>>) -> &'a mut [f32] {
    let mut y = y.into();
    assert!(x.len() == y.len() && scale.len() == channels && shift.len() == channels, "lengths of a channel map");
    check_planes(channels, plane, x.len());
    if plane == 0 {
        return y.fill(0.0);
    }
    y.cells().par_chunks_mut(plane).zip(x.par_chunks(plane)).with_min_len(min_planes(plane)).enumerate().for_each(|(i, (y, x))| {
        let (a, b) = (scale[i % channels], shift[i % channels]);
        wide(
            #[inline(always)]
            || {
                y.iter_mut().zip(x).for_each(|(y, x)| {
                    y.write(x * a + b);
                })
            },
        );
    });
    // SAFETY: there is an `x` for every one.
    unsafe { y.written() }
}

/// # Panics
/// When `len` values are not whole images of `channels` planes.
fn check_planes(channels: usize, plane: usize, len: usize) {
    let image = channels.checked_mul(plane);
    assert!(image.is_some_and(|n| len.is_multiple_of(n)), "{len} values are not whole images of {channels} planes of {plane}");
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

/// What batch normalization did to its input: `x̂ = (x - mean) · inv`, `z = x̂ · scale + bias`, all per channel.
#[derive(Debug, Clone, Copy)]
pub struct Normalized<'a> {
    pub mean: &'a [f32],
    pub inv: &'a [f32],
    pub scale: &'a [f32],
    pub bias: &'a [f32],
}

/// Gradient of [`batch_norm`]. Overwrites `gx` and returns the gradients of scale and bias, and `gx`.
///
/// # Panics
/// When the lengths do not fit together.
pub fn batch_norm_backward<'a>(
    plane: usize,
    n: Normalized<'_>,
    silu: bool,
    x: &[f32],
    gy: &[f32],
    gx: impl Into<Out<'a>>,
) -> (Vec<f32>, Vec<f32>, &'a mut [f32]) {
    let mut gx = gx.into();
    let channels = n.mean.len();
    let per_channel = [n.inv, n.scale, n.bias].iter().all(|v| v.len() == channels);
    assert!(x.len() == gx.len() && gy.len() == gx.len() && per_channel, "lengths of a normalization's gradient");
    check_planes(channels, plane, x.len());
    let count = (x.len() / channels.max(1)) as f32;
    let run = |(c, outputs): (usize, Vec<&mut [MaybeUninit<f32>]>)| {
        let (mean, factor) = (n.mean[c], n.scale[c] * n.inv[c]);
        let shift = n.bias[c] - mean * factor;
        let inputs = planes(channels, plane, c, x).zip(planes(channels, plane, c, gy));
        let (mut g_scale, mut g_bias) = (0.0f32, 0.0f32);
        // First the gradient of z, kept in gx, and its sums.
        let mut gradients = Vec::with_capacity(outputs.len());
        for (gz, (x, gy)) in outputs.into_iter().zip(inputs) {
            if silu {
                wide(
                    #[inline(always)]
                    || {
                        gz.iter_mut().zip(x).zip(gy).for_each(|((gz, x), gy)| {
                            let z = x * factor + shift;
                            let s = sigmoid(z);
                            gz.write(gy * s * (1.0 + z * (1.0 - s)));
                        })
                    },
                );
            } else {
                gz.write_copy_of_slice(gy);
            }
            // SAFETY: `x`, `gy` and this are planes of one size, so every one has been written.
            let gz = unsafe { gz.assume_init_mut() };
            let (first, second) = sums(x, gz, |x, g| (g, g * (x - mean)));
            g_bias += first;
            g_scale += second * n.inv[c];
            gradients.push(gz);
        }
        // gx = factor · (gz - mean(gz) - x̂ · mean(gz · x̂)), as one map of gz and x.
        let b = -factor * n.inv[c] * g_scale / count;
        let rest = -factor * g_bias / count - b * mean;
        for (g, x) in gradients.into_iter().zip(planes(channels, plane, c, x)) {
            wide(
                #[inline(always)]
                || g.iter_mut().zip(x).for_each(|(g, x)| *g = *g * factor + x * b + rest),
            );
        }
        (g_scale, g_bias)
    };
    let (g_scale, g_bias) = by_channel(channels, plane, gx.cells()).into_par_iter().enumerate().map(run).unzip();
    // SAFETY: the planes of all channels are all of `gx`, and each has been written whole.
    (g_scale, g_bias, unsafe { gx.written() })
}

/// The planes of each channel, one per image.
fn by_channel<T>(channels: usize, plane: usize, v: &mut [T]) -> Vec<Vec<&mut [T]>> {
    let mut all: Vec<Vec<&mut [T]>> = (0..channels).map(|_| Vec::new()).collect();
    for (i, p) in v.chunks_exact_mut(plane.max(1)).enumerate() {
        all[i % channels].push(p);
    }
    all
}

/// The planes of channel `c`, one per image.
fn planes(channels: usize, plane: usize, c: usize, x: &[f32]) -> impl Iterator<Item = &[f32]> + Clone {
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
