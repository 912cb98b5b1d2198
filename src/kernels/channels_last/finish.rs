//! What follows a sum: activation, residual, activation, and the way to memory.

use super::spec::Epilogue;
use super::tile::COLUMNS;
use crate::activation::{Activation, erf_of, exp2};
use crate::level::Level;

/// Sums of up to 16 pixels and 16 channels.
#[repr(align(64))]
pub struct Sums(pub [[f32; COLUMNS]; 16]);

/// Applies an epilogue to the first `to.len()` rows and stores channels of each.
///
/// # Safety
/// The level is there. The channels are at most 16, from the address of each pixel in `to` on they are writable, and with
/// a residual those of each pixel in `residual` (as many) are readable.
pub type Finish = unsafe fn(epilogue: &Epilogue, sums: &mut Sums, to: &[*mut f32], residual: &[*const f32], channels: Channels);

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
                    row.iter_mut().enumerate().take(count).for_each(|(c, r)| *r += *from.add(c));
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
                row.iter().enumerate().take(count).for_each(|(c, &v)| *to.add(c) = v);
            }
        }
    }
}

#[inline(always)]
fn activate<const FUSED: bool>(act: Option<Activation>, rows: &mut [[f32; COLUMNS]]) {
    #[inline(always)]
    fn each(rows: &mut [[f32; COLUMNS]], f: impl Fn(f32) -> f32) {
        rows.iter_mut().for_each(|row| row.iter_mut().for_each(|v| *v = f(*v)));
    }
    match act {
        None => {}
        Some(Activation::Swish { alpha: 1.0 }) => each(rows, silu::<FUSED>),
        Some(Activation::Relu) => each(rows, |v| if v < 0.0 { 0.0 } else { v }),
        Some(Activation::LeakyRelu { alpha }) => each(rows, |v| if v < 0.0 { alpha * v } else { v }),
        Some(Activation::Clip { min, max }) => each(rows, |v| {
            let v = if v < min { min } else { v };
            if v > max { max } else { v }
        }),
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
    let inner = v * (1.595_769_1 + 0.071_354_814 * v * v);
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
    let z = if z > 126.0 { 126.0 } else { z };
    let z = if z < -126.0 { -126.0 } else { z };
    v / (1.0 + exp2::<FUSED>(z))
}

#[cfg(test)]
mod tests {
    use super::{gelu, gelu_tanh, silu};
    use crate::activation::{erf, erf_of};

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
    }
}
