//! Per-channel statistics and affine maps: the parts of batch normalization, alone or followed by an activation.
//!
//! # Shapes
//! Activations are `[batch, channels, plane]`; everything per channel is `[channels]`.

use super::activation::{Activation, sigmoid, wide};
use super::out::Out;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Partial sums kept apart, so that they can be added in vectors.
const LANES: usize = 16;

/// Values whose sums are taken together: they stay in the first-level cache from their mean to their deviations.
const PART: usize = 4096;

/// Mean and population variance of the planes of a channel of `count` values.
fn statistics<'a>(planes: impl Iterator<Item = &'a [f32]>, count: f64) -> (f32, f32) {
    // Of what has been read: how many, mean, sum of squared deviations from it.
    let (mut seen, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
    for part in planes.flat_map(|p| p.chunks(PART)) {
        let n = part.len() as f64;
        let about = (f64::from(sum(part, |v| v)) / n) as f32;
        // Deviations from the rounded mean, corrected for the rounding.
        let (s, rest) = (sum(part, |v| (v - about) * (v - about)), sum(part, |v| v - about));
        let (own, rest) = (f64::from(about) + f64::from(rest) / n, f64::from(rest));
        let apart = own - mean;
        squares += f64::from(s) - rest * rest / n + apart * apart * seen * n / (seen + n);
        mean += apart * n / (seen + n);
        seen += n;
    }
    (mean as f32, (squares / count).max(0.0) as f32)
}

/// What follows a batch normalization as part of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Then {
    /// The batch normalization stands alone.
    Nothing,
    /// As [`Activation::Relu`].
    Relu,
    /// `z · sigmoid(z)`
    Silu,
    /// As [`Activation::HardSwish`].
    HardSwish,
    /// As [`Activation::Clip`].
    Clip {
        /// Least result.
        min: f32,
        /// Greatest result.
        max: f32,
    },
}

impl Then {
    /// An activation as part of a batch normalization, where that is possible.
    pub fn of(f: Activation) -> Option<Self> {
        match f {
            Activation::Relu => Some(Self::Relu),
            Activation::Swish { alpha: 1.0 } => Some(Self::Silu),
            Activation::HardSwish => Some(Self::HardSwish),
            Activation::Clip { min, max } => Some(Self::Clip { min, max }),
            _ => None,
        }
    }
    /// The activation alone.
    pub fn activation(self) -> Option<Activation> {
        match self {
            Self::Nothing => None,
            Self::Relu => Some(Activation::Relu),
            Self::Silu => Some(Activation::Swish { alpha: 1.0 }),
            Self::HardSwish => Some(Activation::HardSwish),
            Self::Clip { min, max } => Some(Activation::Clip { min, max }),
        }
    }
}

/// A function of one value and its derivative, as [`Activation`] has them.
trait Curve: Copy + Sync {
    fn value(self, z: f32) -> f32;
    fn slope(self, z: f32) -> f32;
}

#[derive(Clone, Copy)]
struct Line;
#[derive(Clone, Copy)]
struct Relu;
#[derive(Clone, Copy)]
struct Silu;
#[derive(Clone, Copy)]
struct HardSwish;
#[derive(Clone, Copy)]
struct Clip(f32, f32);

impl Curve for Line {
    #[inline(always)]
    fn value(self, z: f32) -> f32 {
        z
    }
    #[inline(always)]
    fn slope(self, _: f32) -> f32 {
        1.0
    }
}

impl Curve for Relu {
    #[inline(always)]
    fn value(self, z: f32) -> f32 {
        if z < 0.0 { 0.0 } else { z }
    }
    #[inline(always)]
    fn slope(self, z: f32) -> f32 {
        if z > 0.0 { 1.0 } else { 0.0 }
    }
}

impl Curve for Silu {
    #[inline(always)]
    fn value(self, z: f32) -> f32 {
        z * sigmoid(z)
    }
    #[inline(always)]
    fn slope(self, z: f32) -> f32 {
        let s = sigmoid(z);
        s * (1.0 + z * (1.0 - s))
    }
}

impl Curve for HardSwish {
    #[inline(always)]
    fn value(self, z: f32) -> f32 {
        z * (z / 6.0 + 0.5).clamp(0.0, 1.0)
    }
    #[inline(always)]
    fn slope(self, z: f32) -> f32 {
        let inner = if z < 3.0 { z / 3.0 + 0.5 } else { 1.0 };
        if z < -3.0 { 0.0 } else { inner }
    }
}

impl Curve for Clip {
    #[inline(always)]
    fn value(self, z: f32) -> f32 {
        let z = if z < self.0 { self.0 } else { z };
        if z > self.1 { self.1 } else { z }
    }
    #[inline(always)]
    fn slope(self, z: f32) -> f32 {
        if (z >= self.0) & (z <= self.1) { 1.0 } else { 0.0 }
    }
}

/// Batch normalization with the statistics of the batch, followed by `then`. Overwrites `y` and returns mean and population
/// variance of each channel, and `y`.
///
/// Work is shared out by channel: a channel is still in the cache when its statistics are known.
///
/// # Panics
/// When the lengths do not fit together.
pub fn batch_norm<'a>(
    plane: usize,
    affine: (&[f32], &[f32]),
    epsilon: f64,
    then: Then,
    x: &[f32],
    y: impl Into<Out<'a>>,
) -> (Vec<f32>, Vec<f32>, &'a mut [f32]) {
    let y = y.into();
    match then {
        Then::Nothing => normalize(plane, affine, epsilon, Line, x, y),
        Then::Relu => normalize(plane, affine, epsilon, Relu, x, y),
        Then::Silu => normalize(plane, affine, epsilon, Silu, x, y),
        Then::HardSwish => normalize(plane, affine, epsilon, HardSwish, x, y),
        Then::Clip { min, max } => normalize(plane, affine, epsilon, Clip(min, max), x, y),
    }
}

fn normalize<'a>(
    plane: usize,
    (scale, bias): (&[f32], &[f32]),
    epsilon: f64,
    curve: impl Curve,
    x: &[f32],
    mut y: Out<'a>,
) -> (Vec<f32>, Vec<f32>, &'a mut [f32]) {
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
                    y.iter_mut().zip(x).for_each(|(y, x)| {
                        y.write(curve.value(x * a + b));
                    })
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
    /// Mean of the batch.
    pub mean: &'a [f32],
    /// `1 / √(variance + ε)`, as [`inverse`] gives it.
    pub inv: &'a [f32],
    /// Learned factor.
    pub scale: &'a [f32],
    /// Learned summand.
    pub bias: &'a [f32],
}

/// Gradient of [`batch_norm`]. Overwrites `gx` and returns the gradients of scale and bias, and `gx`.
///
/// # Panics
/// When the lengths do not fit together.
pub fn batch_norm_backward<'a>(
    plane: usize,
    n: Normalized<'_>,
    then: Then,
    x: &[f32],
    gy: &[f32],
    gx: impl Into<Out<'a>>,
) -> (Vec<f32>, Vec<f32>, &'a mut [f32]) {
    let gx = gx.into();
    match then {
        Then::Nothing => normalize_backward(plane, n, Line, x, gy, gx),
        Then::Relu => normalize_backward(plane, n, Relu, x, gy, gx),
        Then::Silu => normalize_backward(plane, n, Silu, x, gy, gx),
        Then::HardSwish => normalize_backward(plane, n, HardSwish, x, gy, gx),
        Then::Clip { min, max } => normalize_backward(plane, n, Clip(min, max), x, gy, gx),
    }
}

fn normalize_backward<'a>(
    plane: usize,
    n: Normalized<'_>,
    curve: impl Curve,
    x: &[f32],
    gy: &[f32],
    mut gx: Out<'a>,
) -> (Vec<f32>, Vec<f32>, &'a mut [f32]) {
    let channels = n.mean.len();
    let per_channel = [n.inv, n.scale, n.bias].iter().all(|v| v.len() == channels);
    assert!(x.len() == gx.len() && gy.len() == gx.len() && per_channel, "lengths of a normalization's gradient");
    check_planes(channels, plane, x.len());
    let count = (x.len() / channels.max(1)) as f32;
    let run = |(c, outputs): (usize, Vec<&mut [MaybeUninit<f32>]>)| {
        let (mean, factor) = (n.mean[c], n.scale[c] * n.inv[c]);
        let shift = n.bias[c] - mean * factor;
        let inputs = || planes(channels, plane, c, x).zip(planes(channels, plane, c, gy));
        // Sums of gz, the gradient of z, and of gz · (x - mean). It is worked out twice: that costs less than to keep it.
        let (mut g_scale, mut g_bias) = (0.0f64, 0.0f64);
        for (x, gy) in inputs() {
            let (first, second) = sums(
                x,
                gy,
                #[inline(always)]
                |x, gy| {
                    let g = gy * curve.slope(x * factor + shift);
                    (g, g * (x - mean))
                },
            );
            g_bias += f64::from(first);
            g_scale += f64::from(second);
        }
        let (g_scale, g_bias) = (g_scale as f32 * n.inv[c], g_bias as f32);
        // gx = factor · (gz - mean(gz) - x̂ · mean(gz · x̂)), as one map of gz and x.
        let b = -factor * n.inv[c] * g_scale / count;
        let rest = -factor * g_bias / count - b * mean;
        for (gx, (x, gy)) in outputs.into_iter().zip(inputs()) {
            wide(
                #[inline(always)]
                || {
                    gx.iter_mut().zip(x).zip(gy).for_each(|((gx, &x), &gy)| {
                        gx.write(gy * curve.slope(x * factor + shift) * factor + x * b + rest);
                    })
                },
            );
        }
        (g_scale, g_bias)
    };
    let (g_scale, g_bias) = by_channel(channels, plane, gx.cells()).into_par_iter().enumerate().map(run).unzip();
    // SAFETY: the planes of all channels are all of `gx`, and there are `x` and `gy` for every one.
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
