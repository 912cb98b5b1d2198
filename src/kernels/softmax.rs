//! Softmax and log-softmax along one axis.
//!
//! # Shapes
//! `[outer, n, inner]`; the axis is the middle one.

use super::activation::{exp, wide};
use rayon::prelude::*;

/// Positions of the inner axis worked on together.
const LANES: usize = 16;

/// Which of the two functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `e^x / Σ e^x`
    Softmax,
    /// `x - ln Σ e^x`
    Log,
}

/// `y = softmax(x)` or its logarithm.
///
/// # Panics
/// When the lengths differ or a size is 0.
pub fn forward(kind: Kind, n: usize, inner: usize, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == y.len() && n * inner > 0, "sizes of a softmax");
    let size = n * inner;
    y.par_chunks_mut(size).zip(x.par_chunks(size)).with_min_len((1 << 14) / size + 1).for_each(|(y, x)| {
        for start in (0..inner).step_by(LANES) {
            let width = LANES.min(inner - start);
            wide(
                #[inline(always)]
                || {
                    let (mut largest, mut sum) = ([f32::NEG_INFINITY; LANES], [0.0f32; LANES]);
                    for x in rows(x, inner, start, width) {
                        let v = padded(x, f32::NEG_INFINITY);
                        (0..LANES).for_each(|i| largest[i] = if (v[i] > largest[i]) | v[i].is_nan() { v[i] } else { largest[i] });
                    }
                    for (x, y) in rows(x, inner, start, width).zip(rows_mut(y, inner, start, width)) {
                        let v = padded(x, 0.0);
                        let e: [f32; LANES] = std::array::from_fn(|i| exp(v[i] - largest[i]));
                        (0..LANES).for_each(|i| sum[i] += e[i]);
                        y.copy_from_slice(&e[..width]);
                    }
                    match kind {
                        Kind::Softmax => {
                            let scale: [f32; LANES] = std::array::from_fn(|i| 1.0 / sum[i]);
                            for y in rows_mut(y, inner, start, width) {
                                y.iter_mut().zip(&scale).for_each(|(y, s)| *y *= s);
                            }
                        }
                        Kind::Log => {
                            let shift: [f32; LANES] = std::array::from_fn(|i| largest[i] + sum[i].ln());
                            for (x, y) in rows(x, inner, start, width).zip(rows_mut(y, inner, start, width)) {
                                y.iter_mut().zip(x).zip(&shift).for_each(|((y, x), s)| *y = x - s);
                            }
                        }
                    }
                },
            );
        }
    });
}

/// Gradient of [`forward`] from its result `y`; overwrites `gx`.
///
/// # Panics
/// As [`forward`].
pub fn backward(kind: Kind, n: usize, inner: usize, y: &[f32], gy: &[f32], gx: &mut [f32]) {
    assert!(y.len() == gx.len() && gy.len() == gx.len() && n * inner > 0, "sizes of a softmax");
    let size = n * inner;
    let jobs = gx.par_chunks_mut(size).zip(y.par_chunks(size)).zip(gy.par_chunks(size));
    jobs.with_min_len((1 << 14) / size + 1).for_each(|((gx, y), gy)| {
        for start in (0..inner).step_by(LANES) {
            let width = LANES.min(inner - start);
            let both = || rows(y, inner, start, width).zip(rows(gy, inner, start, width));
            wide(
                #[inline(always)]
                || {
                    let mut sum = [0.0f32; LANES];
                    for (y, g) in both() {
                        for ((s, y), g) in sum.iter_mut().zip(y).zip(g) {
                            *s += if kind == Kind::Log { *g } else { g * y };
                        }
                    }
                    for ((y, g), gx) in both().zip(rows_mut(gx, inner, start, width)) {
                        for (((gx, y), g), s) in gx.iter_mut().zip(y).zip(g).zip(&sum) {
                            *gx = if kind == Kind::Log { g - exp(*y) * s } else { y * (g - s) };
                        }
                    }
                },
            );
        }
    });
}

/// Positions `start..start + width` of the inner axis, at each position of the middle one.
#[inline(always)]
fn rows(x: &[f32], inner: usize, start: usize, width: usize) -> impl Iterator<Item = &[f32]> {
    x.chunks_exact(inner).map(move |row| &row[start..start + width])
}

#[inline(always)]
fn rows_mut(x: &mut [f32], inner: usize, start: usize, width: usize) -> impl Iterator<Item = &mut [f32]> {
    x.chunks_exact_mut(inner).map(move |row| &mut row[start..start + width])
}

/// A whole vector from a row that may be shorter.
#[inline(always)]
fn padded(row: &[f32], fill: f32) -> [f32; LANES] {
    match row.first_chunk::<LANES>() {
        Some(v) => *v,
        None => std::array::from_fn(|i| row.get(i).copied().unwrap_or(fill)),
    }
}
