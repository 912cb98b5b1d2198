//! What follows a sum: activation, residual, activation, and the way to memory.

use super::job::Args;
use super::spec::{Bounds, ConvSpec, Epilogue, bounds};
use super::tile::COLUMNS;
use super::view::View;
use crate::activation::{Activation, erf_of, exp2};
use crate::level::Level;
use crate::vector::Vector;

/// Sums of up to 16 pixels and 16 channels.
#[repr(align(64))]
pub struct Sums(pub [[f32; COLUMNS]; 16]);

/// Applies an epilogue to the first `to.len()` rows and stores channels of each.
///
/// # Safety
/// The level is there. The channels are at most 16, from the address of each pixel in `to` on they are writable, and with
/// a residual those of each pixel in `residual` (as many) are readable.
pub type Finish = unsafe fn(epilogue: &Epilogue, sums: &mut Sums, to: &[*mut f32], residual: &[*const f32], channels: Channels);

/// Channels that are loaded and stored together where there are fewer than 16.
const HALF: usize = 4;

/// Some channels of a pixel.
#[derive(Debug, Clone, Copy)]
pub struct Channels {
    pub first: usize,
    pub count: usize,
}

/// The kernel of a level.
pub fn kernel(level: Level) -> Finish {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => x86::finish512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => x86::finish256,
        _ => finish::<false>,
    }
}

/// Finishes the sums of `n` pixels of an output row, from pixel (y, x) on.
///
/// # Safety
/// The addresses are those of the operands of a convolution; pixels and channels are inside its output. Otherwise as [`Finish`].
#[inline(always)]
pub unsafe fn row(finish: Finish, spec: &ConvSpec, args: Args<'_>, [y, x]: [usize; 2], n: usize, sums: &mut Sums, channels: Channels) {
    let (mut to, mut residual) = ([std::ptr::null_mut(); 16], [std::ptr::null(); 16]);
    let out = &spec.output;
    let first = args.outputs[0].cast::<f32>().wrapping_add(y * out.row + x * out.pixel);
    to.iter_mut().enumerate().take(n).for_each(|(r, t)| *t = first.wrapping_add(r * out.pixel));
    if let Some(v) = &spec.residual {
        let first = args.inputs[1].cast::<f32>().wrapping_add(y * v.row + x * v.pixel);
        residual.iter_mut().enumerate().take(n).for_each(|(r, t)| *t = first.wrapping_add(r * v.pixel));
    }
    // SAFETY: as the caller vouches.
    unsafe { finish(&spec.epilogue, sums, &to[..n], &residual[..n], channels) };
}

/// What follows a sum, where it is worked out in registers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Follow {
    /// Least and greatest value.
    Bounds(Bounds),
    HardSwish,
}

impl Follow {
    pub fn of(epilogue: &Epilogue) -> Option<Self> {
        match epilogue {
            Epilogue { act: Some(Activation::HardSwish), residual: false, then: None } => Some(Self::HardSwish),
            Epilogue { act, residual: false, then: None } => bounds(*act).map(Self::Bounds),
            _ => None,
        }
    }
}

/// Where the sums of the pixels of a row go, from registers.
#[derive(Debug, Clone, Copy)]
pub struct Straight {
    /// The first channel of the first pixel.
    pub to: *mut f32,
    /// Floats from pixel to pixel.
    pub pixel: usize,
    pub pixels: usize,
    pub follow: Follow,
}

/// Where `n` pixels of an output row go, from pixel (y, x) on, when the channels are whole vectors of `lanes`.
#[inline(always)]
pub fn straight(
    follow: Option<Follow>,
    lanes: usize,
    out: &View,
    args: Args<'_>,
    [y, x]: [usize; 2],
    n: usize,
    channels: Channels,
) -> Option<Straight> {
    let follow = follow.filter(|_| channels.count.is_multiple_of(lanes))?;
    let to = args.outputs[0].cast::<f32>().wrapping_add(y * out.row + x * out.pixel + channels.first);
    Some(Straight { to, pixel: out.pixel, pixels: n, follow })
}

/// Stores `V` vectors of each of some pixels: all in `sums`, or those that there are where they go.
///
/// # Safety
/// The machine has the instructions; the channels of the pixels can be written.
#[inline(always)]
pub unsafe fn store<L: Vector, const R: usize, const V: usize>(acc: [[L; V]; R], straight: Option<&Straight>, sums: &mut Sums) {
    // SAFETY: as the caller vouches.
    unsafe {
        let Some(s) = straight else {
            for (row, acc) in sums.0.iter_mut().zip(acc) {
                for (v, acc) in acc.into_iter().enumerate() {
                    acc.store(row.as_mut_ptr().add(v * L::N));
                }
            }
            return;
        };
        match s.follow {
            Follow::Bounds([low, high]) => {
                let (low, high) = (L::splat(low), L::splat(high));
                for (r, acc) in acc.into_iter().enumerate() {
                    if r < s.pixels {
                        for (v, acc) in acc.into_iter().enumerate() {
                            acc.at_least(low).at_most(high).store(s.to.add(r * s.pixel + v * L::N));
                        }
                    }
                }
            }
            Follow::HardSwish => {
                let (zero, sixth, half, one) = (L::splat(0.0), L::splat(1.0 / 6.0), L::splat(0.5), L::splat(1.0));
                for (r, acc) in acc.into_iter().enumerate() {
                    if r < s.pixels {
                        for (v, acc) in acc.into_iter().enumerate() {
                            let gate = acc.fma(sixth, half).at_least(zero).at_most(one);
                            acc.fma(gate, zero).store(s.to.add(r * s.pixel + v * L::N));
                        }
                    }
                }
            }
        }
    }
}

/// Applies an activation to rows of values.
///
/// # Safety
/// The level is there.
pub type Activate = unsafe fn(act: Option<Activation>, rows: &mut [[f32; COLUMNS]]);

/// The elementwise kernel of a level.
pub fn activation(level: Level) -> Activate {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => x86::activate512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => x86::activate256,
        _ => activate::<false>,
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Activation, COLUMNS, Channels, Epilogue, Sums, activate, finish};

    #[target_feature(enable = "avx2,fma")]
    pub fn activate256(act: Option<Activation>, rows: &mut [[f32; COLUMNS]]) {
        activate::<true>(act, rows);
    }

    #[target_feature(enable = "avx512f")]
    pub fn activate512(act: Option<Activation>, rows: &mut [[f32; COLUMNS]]) {
        activate::<true>(act, rows);
    }

    /// # Safety
    /// See [`super::Finish`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn finish256(epilogue: &Epilogue, sums: &mut Sums, to: &[*mut f32], residual: &[*const f32], channels: Channels) {
        // SAFETY: as the caller vouches.
        unsafe { finish::<true>(epilogue, sums, to, residual, channels) };
    }

    /// # Safety
    /// See [`super::Finish`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn finish512(epilogue: &Epilogue, sums: &mut Sums, to: &[*mut f32], residual: &[*const f32], channels: Channels) {
        // SAFETY: as the caller vouches.
        unsafe { finish::<true>(epilogue, sums, to, residual, channels) };
    }
}

/// `FUSED`: multiplication and addition are one instruction.
///
/// # Safety
/// See [`Finish`].
#[inline(always)]
unsafe fn finish<const FUSED: bool>(epilogue: &Epilogue, sums: &mut Sums, to: &[*mut f32], residual: &[*const f32], channels: Channels) {
    let rows = &mut sums.0[..to.len()];
    let Channels { first, count } = channels;
    activate::<FUSED>(epilogue.act, rows);
    if epilogue.residual {
        for (row, &from) in rows.iter_mut().zip(residual) {
            // SAFETY: as the caller vouches.
            unsafe {
                let from = from.add(first);
                if count == COLUMNS {
                    let values = from.cast::<[f32; COLUMNS]>().read_unaligned();
                    row.iter_mut().zip(values).for_each(|(r, v)| *r += v);
                } else {
                    let whole = count / HALF * HALF;
                    for c in (0..whole).step_by(HALF) {
                        let values = from.add(c).cast::<[f32; HALF]>().read_unaligned();
                        row[c..c + HALF].iter_mut().zip(values).for_each(|(r, v)| *r += v);
                    }
                    row.iter_mut().enumerate().take(count).skip(whole).for_each(|(c, r)| *r += *from.add(c));
                }
            }
        }
    }
    activate::<FUSED>(epilogue.then, rows);
    for (row, &to) in rows.iter().zip(to) {
        // SAFETY: as the caller vouches.
        unsafe {
            let to = to.add(first);
            if count == COLUMNS {
                to.cast::<[f32; COLUMNS]>().write_unaligned(*row);
            } else {
                let whole = count / HALF * HALF;
                for c in (0..whole).step_by(HALF) {
                    let values: [f32; HALF] = std::array::from_fn(|i| row[c + i]);
                    to.add(c).cast::<[f32; HALF]>().write_unaligned(values);
                }
                row.iter().enumerate().take(count).skip(whole).for_each(|(c, &v)| *to.add(c) = v);
            }
        }
    }
}

#[inline(always)]
fn activate<const FUSED: bool>(act: Option<Activation>, rows: &mut [[f32; COLUMNS]]) {
    #[inline(always)]
    fn each(rows: &mut [[f32; COLUMNS]], f: impl Fn(f32) -> f32) {
        for v in rows.as_flattened_mut() {
            *v = f(*v);
        }
    }
    // Where a value may stay as it was loaded, stores become masked ones, which are slow: so it is worked out anew.
    match act {
        None => {}
        Some(Activation::Swish { alpha: 1.0 }) => each(rows, silu::<FUSED>),
        Some(Activation::Relu) => each(rows, |v| {
            let v = v + 0.0;
            if v < 0.0 { 0.0 } else { v }
        }),
        Some(Activation::LeakyRelu { alpha }) => each(rows, |v| v * if v < 0.0 { alpha } else { 1.0 }),
        Some(Activation::Clip { min, max }) => each(rows, |v| {
            let v = if v < min { min } else { v };
            if v > max { max } else { v }
        }),
        Some(Activation::HardSigmoid { alpha, beta }) => each(rows, |v| (alpha * v + beta).clamp(0.0, 1.0)),
        Some(Activation::HardSwish) => each(rows, |v| v * (v * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)),
        Some(Activation::Erf) => each(rows, erf_of::<FUSED>),
        Some(Activation::Gelu) => each(rows, gelu::<FUSED>),
        Some(Activation::GeluTanh) => each(rows, gelu_tanh::<FUSED>),
        Some(act) => {
            let mut x = [[0.0; COLUMNS]; 16];
            let x = &mut x[..rows.len()];
            x.copy_from_slice(rows);
            act.forward(x.as_flattened(), rows.as_flattened_mut());
        }
    }
}

/// `v · (1 + erf(v / √2)) / 2`, within 3e-7 of the larger of 1 and |v|.
#[inline(always)]
fn gelu<const FUSED: bool>(v: f32) -> f32 {
    let half = 0.5 * v;
    let e = erf_of::<FUSED>(v * std::f32::consts::FRAC_1_SQRT_2);
    if FUSED { half.mul_add(e, half) } else { half * e + half }
}

/// `v · (1 + tanh(√(2/π) · (v + 0.044715 · v³))) / 2`, within 5e-7 of the larger of 1 and |v|: half of one and a hyperbolic
/// tangent is a logistic function of twice the argument.
#[inline(always)]
fn gelu_tanh<const FUSED: bool>(v: f32) -> f32 {
    let inner = v * (1.595_769 + 0.071_354_814 * v * v);
    gated::<FUSED>(v, inner)
}

/// `v / (1 + e^-v)`, within 3e-7 of the larger of 1 and |v|.
#[inline(always)]
fn silu<const FUSED: bool>(v: f32) -> f32 {
    gated::<FUSED>(v, v)
}

/// `v / (1 + e^-x)`
#[inline(always)]
fn gated<const FUSED: bool>(v: f32, x: f32) -> f32 {
    let z = x * -std::f32::consts::LOG2_E;
    // 2^128 is infinity, of which every v is 0.
    let z = if z > 128.0 { 128.0 } else { z };
    let z = if z < -126.0 { -126.0 } else { z };
    v / (1.0 + exp2::<FUSED>(z))
}

#[cfg(test)]
mod tests {
    use super::{gelu, gelu_tanh, silu};
    use crate::activation::{Activation, erf, erf_of};

    /// The error function by its series and, from 3 on, its continued fraction.
    fn exact_erf(x: f64) -> f64 {
        let a = x.abs();
        let value = if a < 3.0 {
            let (mut term, mut sum) = (a, a);
            for n in 1..200 {
                term *= -a * a / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        } else {
            let below = (1..80).rev().fold(0.0, |f, n| 0.5 * f64::from(n) / (a + f));
            1.0 - (-a * a).exp() / ((a + below) * std::f64::consts::PI.sqrt())
        };
        value.copysign(x)
    }

    #[test]
    fn error_function_and_gelu_are_near_their_definitions() {
        for i in -60_000..=60_000 {
            let v = i as f32 * 1e-4;
            let exact = exact_erf(f64::from(v));
            for got in [erf(v), erf_of::<true>(v)] {
                assert!((f64::from(got) - exact).abs() <= 4e-7, "erf({v}): {got}, not {exact}");
            }
            let v = 2.0 * v;
            let wide = f64::from(v);
            let near = |got: f32, want: f64, error: f64| {
                assert!((f64::from(got) - want).abs() <= error * wide.abs().max(1.0), "{v}: {got}, not {want}")
            };
            let want = 0.5 * wide * (1.0 + exact_erf(wide * std::f64::consts::FRAC_1_SQRT_2));
            [gelu::<false>(v), gelu::<true>(v)].iter().for_each(|&got| near(got, want, 3e-7));
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
            let want = 0.5 * wide * (1.0 + inner.tanh());
            [gelu_tanh::<false>(v), gelu_tanh::<true>(v)].iter().for_each(|&got| near(got, want, 5e-7));
        }
        assert!(gelu::<true>(f32::NAN).is_nan() && gelu_tanh::<true>(f32::NAN).is_nan());
        assert_eq!([gelu::<true>(1e30), gelu::<true>(-1e30)], [1e30, 0.0]);
        assert_eq!([erf(f32::INFINITY), erf(f32::NEG_INFINITY)], [1.0, -1.0]);
    }

    #[test]
    fn silu_is_near_its_definition() {
        for i in -200_000..200_000 {
            let v = i as f32 * 1e-3;
            let want = f64::from(v) / (1.0 + (-f64::from(v)).exp());
            for got in [silu::<false>(v), silu::<true>(v)] {
                assert!((f64::from(got) - want).abs() <= 3e-7 * f64::from(v).abs().max(1.0), "silu({v}): {got}, not {want}");
            }
        }
        assert!(silu::<true>(f32::NAN).is_nan() && silu::<true>(f32::INFINITY) == f32::INFINITY);
        for v in [-104.0, -1e30, -3e38] {
            assert_eq!([silu::<false>(v), silu::<true>(v)], [0.0; 2], "what is far below 0 makes nothing, however large it is");
            let mut made = [1.0];
            Activation::Swish { alpha: 1.0 }.forward(&[v], &mut made[..]);
            assert_eq!(made, [0.0]);
        }
    }
}
