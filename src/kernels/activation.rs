//! Elementwise activations with their derivatives, written so that the compiler vectorises them.

use super::out::Out;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// An elementwise function; definitions are those of the ONNX operators of the same names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `max(0, x)`; a NaN stays.
    Relu,
    /// `x`, and `alpha · x` below 0.
    LeakyRelu {
        /// Slope below 0.
        alpha: f32,
    },
    /// `x` above `alpha`, 0 elsewhere.
    ThresholdedRelu {
        /// What lies above it passes.
        alpha: f32,
    },
    /// `x`, and `alpha · (e^x - 1)` below 0 (Clevert et al. 2016).
    Elu {
        /// Far below 0 results come close to `-alpha`.
        alpha: f32,
    },
    /// `gamma · x`, and `gamma · alpha · (e^x - 1)` below 0 (Klambauer et al. 2017).
    Selu {
        /// Far below 0 results come close to `-gamma · alpha`.
        alpha: f32,
        /// Factor on all results.
        gamma: f32,
    },
    /// `x`, and `alpha · (e^(x / alpha) - 1)` below 0 (Barron 2017).
    Celu {
        /// Far below 0 results come close to `-alpha`.
        alpha: f32,
    },
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `x · sigmoid(alpha · x)`; SiLU with `alpha` 1.
    Swish {
        /// Factor on the sigmoid's argument.
        alpha: f32,
    },
    /// `alpha · x + beta`, at least 0 and at most 1.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Added to `alpha · x`.
        beta: f32,
    },
    /// `x · clamp(x / 6 + 1/2, 0, 1)` (Howard et al. 2019).
    HardSwish,
    /// `ln(1 + e^x)`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// Hyperbolic tangent.
    Tanh,
    /// `x`, at least `min` and at most `max`; `max` everywhere when `min` is greater. A NaN stays.
    Clip {
        /// Least result.
        min: f32,
        /// Greatest result.
        max: f32,
    },
    /// Error function; see [`erf`].
    Erf,
    /// `x · Φ(x)`, Φ being the normal distribution's cumulative function (Hendrycks & Gimpel 2016).
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `x · tanh(ln(1 + e^x))` (Misra 2019).
    Mish,
}

impl Activation {
    /// `y[i] = f(x[i])`; gives `y`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn forward<'a>(self, x: &[f32], y: impl Into<Out<'a>>) -> &'a mut [f32] {
        let y = y.into();
        assert_eq!(x.len(), y.len(), "lengths of an elementwise function");
        match self {
            Self::Relu => map(x, y, |v| if v < 0.0 { 0.0 } else { v }),
            Self::LeakyRelu { alpha } => map(x, y, |v| if v < 0.0 { alpha * v } else { v }),
            Self::ThresholdedRelu { alpha } => map(x, y, |v| if v > alpha { v } else { 0.0 }),
            Self::Elu { alpha } => map(x, y, |v| if v < 0.0 { alpha * expm1(v) } else { v }),
            Self::Selu { alpha, gamma } => map(x, y, |v| gamma * if v <= 0.0 { alpha * expm1(v) } else { v }),
            Self::Celu { alpha } => map(x, y, |v| if v < 0.0 { alpha * expm1(v / alpha) } else { v }),
            Self::Sigmoid => map(x, y, sigmoid),
            Self::Swish { alpha } => map(x, y, |v| v * sigmoid(alpha * v)),
            Self::HardSigmoid { alpha, beta } => map(x, y, |v| (alpha * v + beta).clamp(0.0, 1.0)),
            Self::HardSwish => map(x, y, |v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0)),
            Self::Softplus => map(x, y, softplus),
            Self::Softsign => map(x, y, |v| v / (1.0 + v.abs())),
            Self::Tanh => map(x, y, tanh),
            // Not `clamp`: ONNX allows min > max, where max wins.
            Self::Clip { min, max } => map(x, y, |v| {
                let v = if v < min { min } else { v };
                if v > max { max } else { v }
            }),
            Self::Erf => map(x, y, erf),
            Self::Gelu => map(x, y, |v| 0.5 * v * (1.0 + erf(v * FRAC_1_SQRT_2))),
            Self::GeluTanh => map(x, y, |v| 0.5 * v * (1.0 + tanh(gelu_inner(v)))),
            Self::Mish => map(x, y, |v| v * tanh_softplus(v)),
        }
    }

    /// `gx[i] = gy[i] · f'(x[i])`, with `y[i] = f(x[i])` at hand. At kinks the derivative is that of PyTorch; gives `gx`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn backward<'a>(self, x: &[f32], y: &[f32], gy: &[f32], gx: impl Into<Out<'a>>) -> &'a mut [f32] {
        let gx = gx.into();
        assert!(x.len() == y.len() && x.len() == gy.len() && x.len() == gx.len(), "lengths of an elementwise function");
        match self {
            Self::Relu => grad(x, y, gy, gx, |v, _| if v > 0.0 { 1.0 } else { 0.0 }),
            Self::LeakyRelu { alpha } => grad(x, y, gy, gx, |v, _| if v > 0.0 { 1.0 } else { alpha }),
            Self::ThresholdedRelu { alpha } => grad(x, y, gy, gx, |v, _| if v > alpha { 1.0 } else { 0.0 }),
            Self::Elu { alpha } => grad(x, y, gy, gx, |v, y| if v > 0.0 { 1.0 } else { y + alpha }),
            Self::Selu { alpha, gamma } => grad(x, y, gy, gx, |v, y| if v > 0.0 { gamma } else { y + alpha * gamma }),
            Self::Celu { alpha } => grad(x, y, gy, gx, |v, y| if v > 0.0 { 1.0 } else { y / alpha + 1.0 }),
            Self::Sigmoid => grad(x, y, gy, gx, |_, y| y * (1.0 - y)),
            Self::Swish { alpha } => grad(x, y, gy, gx, |v, y| {
                let s = sigmoid(alpha * v);
                s + alpha * y * (1.0 - s)
            }),
            Self::HardSigmoid { alpha, .. } => grad(x, y, gy, gx, |_, y| if (y > 0.0) & (y < 1.0) { alpha } else { 0.0 }),
            Self::HardSwish => grad(x, y, gy, gx, |v, _| {
                let inner = if v < 3.0 { v / 3.0 + 0.5 } else { 1.0 };
                if v < -3.0 { 0.0 } else { inner }
            }),
            Self::Softplus => grad(x, y, gy, gx, |v, _| sigmoid(v)),
            Self::Softsign => grad(x, y, gy, gx, |v, _| {
                let d = 1.0 + v.abs();
                1.0 / (d * d)
            }),
            Self::Tanh => grad(x, y, gy, gx, |_, y| 1.0 - y * y),
            Self::Clip { min, max } => grad(x, y, gy, gx, |v, _| if (v >= min) & (v <= max) { 1.0 } else { 0.0 }),
            Self::Erf => grad(x, y, gy, gx, |v, _| FRAC_2_SQRT_PI * exp(-v * v)),
            Self::Gelu => grad(x, y, gy, gx, |v, _| {
                let density = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * exp(-0.5 * v * v);
                0.5 * (1.0 + erf(v * FRAC_1_SQRT_2)) + v * density
            }),
            Self::GeluTanh => grad(x, y, gy, gx, |v, _| {
                let t = tanh(gelu_inner(v));
                let slope = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * v * v);
                0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * slope
            }),
            Self::Mish => grad(x, y, gy, gx, |v, _| {
                let t = tanh_softplus(v);
                t + v * (1.0 - t * t) * sigmoid(v)
            }),
        }
    }
}

const FRAC_1_SQRT_2: f32 = std::f32::consts::FRAC_1_SQRT_2;
const FRAC_2_SQRT_PI: f32 = std::f32::consts::FRAC_2_SQRT_PI;
/// √(2/π)
const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBIC: f32 = 0.044_715;

#[inline(always)]
fn gelu_inner(v: f32) -> f32 {
    GELU_SCALE * (v + GELU_CUBIC * v * v * v)
}

/// `e^x` within 2 units in the last place for results in the normal range; infinity above about 2.4e38, and smaller
/// arguments saturate at about 1.2e-38.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2^23 rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // 88.4 rounds to 2^128, which is infinity.
    let x = x.clamp(-87.3, 88.4);
    let t = x * std::f32::consts::LOG2_E + ROUND;
    let n = t - ROUND;
    // ln 2 in two parts: the first has few bits, so that n times it is exact.
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(t.to_bits().wrapping_sub(ROUND.to_bits().wrapping_sub(127)) << 23)
}

/// `2^z` within 3e-7 of itself, for z from -126 to 128, where it is infinity; NaN for NaN. `FUSED`: multiplication and addition are one instruction.
#[inline(always)]
pub(crate) fn exp2<const FUSED: bool>(z: f32) -> f32 {
    let madd = |a: f32, b: f32, c: f32| if FUSED { a.mul_add(b, c) } else { a * b + c };
    // Adding 1.5 · 2^23 rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let t = z + ROUND;
    let f = z - (t - ROUND);
    // 2^f for |f| <= 1/2: interpolated at Chebyshev nodes.
    let p = madd(1.338_130_3e-3, f, 9.666_368e-3);
    let p = madd(p, f, 5.550_381e-2);
    let p = madd(p, f, 2.402_235e-1);
    let p = madd(p, f, std::f32::consts::LN_2);
    let p = madd(p, f, 1.0);
    f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23))
}

/// `e^x - 1`, also accurate near 0.
#[inline(always)]
fn expm1(x: f32) -> f32 {
    // Near 0, by tanh: e^x − 1 = 2t / (1 − t) with t = tanh(x / 2).
    let t = tanh(0.5 * x);
    if x.abs() < 1.0 { 2.0 * t / (1.0 - t) } else { exp(x) - 1.0 }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn softplus(x: f32) -> f32 {
    (if x > 0.0 { x } else { 0.0 }) + exp(-x.abs()).ln_1p()
}

/// `tanh(ln(1 + e^x))` without the logarithm.
#[inline(always)]
fn tanh_softplus(x: f32) -> f32 {
    let e = exp(if x > 20.0 { 20.0 } else { x });
    let n = e * (e + 2.0);
    n / (n + 2.0)
}

/// Hyperbolic tangent: a polynomial below 0.625 (Cephes `tanhf`), the exponential above.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let p = -5.704_988_7e-3 * z + 2.063_908_8e-2;
    let p = p * z - 5.373_971_6e-2;
    let p = p * z + 1.333_144_2e-1;
    let p = p * z - 0.333_332_8;
    let near = p * z * x + x;
    let far = (1.0 - 2.0 / (exp(2.0 * a) + 1.0)).copysign(x);
    if a < 0.625 { near } else { far }
}

/// Error function, within 4e-7 of it; from 4 on, where it is nearer to 1 than to any other float, 1.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    erf_of::<false>(x)
}

/// [`erf`]; `FUSED`: multiplication and addition are one instruction.
///
/// A fraction of two polynomials of x², fitted to the least absolute error on [0, 4.1]. All coefficients are positive, so that
/// nothing cancels.
#[inline(always)]
pub(crate) fn erf_of<const FUSED: bool>(x: f32) -> f32 {
    let madd = |a: f32, b: f32, c: f32| if FUSED { a.mul_add(b, c) } else { a * b + c };
    let z = x * x;
    let p = madd(1.906_688_6e-6, z, 2.898_536e-4);
    let p = madd(p, z, 4.193_776e-3);
    let p = madd(p, z, 5.404_845_3e-2);
    let p = madd(p, z, 2.010_199e-1);
    let p = madd(p, z, 1.128_378_9);
    let q = madd(3.686_730_2e-5, z, 1.257_800_5e-3);
    let q = madd(q, z, 1.582_802_3e-2);
    let q = madd(q, z, 1.184_031_6e-1);
    let q = madd(q, z, 5.114_796e-1);
    let q = madd(q, z, 1.0);
    let a = x.abs();
    let near = a * p / q;
    // Rounding must not lead beyond 1.
    let near = if near > 1.0 { 1.0 } else { near };
    let size = if a >= 4.0 { 1.0 } else { near };
    size.copysign(x)
}

/// Elements that one task works on.
const CHUNK: usize = 1 << 15;

/// `y` is as long as `x`.
fn map<'a>(x: &[f32], mut y: Out<'a>, f: impl Fn(f32) -> f32 + Sync) -> &'a mut [f32] {
    let run = |x: &[f32], y: &mut [MaybeUninit<f32>]| {
        wide(
            #[inline(always)]
            || {
                y.iter_mut().zip(x).for_each(|(y, &x)| {
                    y.write(f(x));
                })
            },
        )
    };
    if x.len() <= CHUNK {
        run(x, y.cells());
    } else {
        y.cells().par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| run(x, y));
    }
    assert_eq!(x.len(), y.len(), "lengths of an elementwise function");
    // SAFETY: there is an `x` for every one.
    unsafe { y.written() }
}

/// All are of one length.
fn grad<'a>(x: &[f32], y: &[f32], gy: &[f32], mut gx: Out<'a>, f: impl Fn(f32, f32) -> f32 + Sync) -> &'a mut [f32] {
    let run = |start: usize, gx: &mut [MaybeUninit<f32>]| {
        let at = start..start + gx.len();
        let (x, y, gy) = (&x[at.clone()], &y[at.clone()], &gy[at]);
        wide(
            #[inline(always)]
            || {
                gx.iter_mut().zip(x).zip(y).zip(gy).for_each(|(((gx, &x), &y), &gy)| {
                    gx.write(gy * f(x, y));
                })
            },
        );
    };
    if gx.len() <= CHUNK {
        run(0, gx.cells());
    } else {
        gx.cells().par_chunks_mut(CHUNK).enumerate().for_each(|(i, gx)| run(i * CHUNK, gx));
    }
    // SAFETY: the pieces of the others are as long as each piece.
    unsafe { gx.written() }
}

/// Runs `f` compiled for the widest vectors that this machine has. `f` must be inlined to profit.
#[inline(always)]
pub(crate) fn wide<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            // SAFETY: the machine has the features that the function is compiled for.
            return unsafe { avx512(f) };
        }
        if has!("avx2") && has!("fma") {
            // SAFETY: as above.
            return unsafe { avx2(f) };
        }
    }
    f()
}
