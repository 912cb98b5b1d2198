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
    Softmax,
    Log,
}

/// `y = softmax(x)` or its logarithm.
pub fn forward(kind: Kind, n: usize, inner: usize, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == y.len() && n * inner > 0, "sizes of a softmax");
    y.par_chunks_mut(n * inner).zip(x.par_chunks(n * inner)).for_each(|(y, x)| {
        columns(inner, |start, width| {
            wide(
                #[inline(always)]
                || {
                    let (mut largest, mut sum) = ([f32::NEG_INFINITY; LANES], [0.0f32; LANES]);
                    for k in 0..n {
                        for (m, &v) in largest.iter_mut().zip(&x[k * inner + start..][..width]) {
                            *m = if v > *m || v.is_nan() { v } else { *m };
                        }
                    }
                    for k in 0..n {
                        let at = k * inner + start;
                        for i in 0..width {
                            let e = exp(x[at + i] - largest[i]);
                            sum[i] += e;
                            y[at + i] = e;
                        }
                    }
                    let last: [f32; LANES] =
                        std::array::from_fn(|i| if kind == Kind::Log { largest[i] + sum[i].ln() } else { 1.0 / sum[i] });
                    for k in 0..n {
                        let at = k * inner + start;
                        for i in 0..width {
                            y[at + i] = if kind == Kind::Log { x[at + i] - last[i] } else { y[at + i] * last[i] };
                        }
                    }
                },
            );
        });
    });
}

/// Gradient of [`forward`] from its result `y`; overwrites `gx`.
pub fn backward(kind: Kind, n: usize, inner: usize, y: &[f32], gy: &[f32], gx: &mut [f32]) {
    assert!(y.len() == gx.len() && gy.len() == gx.len() && n * inner > 0, "sizes of a softmax");
    let size = n * inner;
    gx.par_chunks_mut(size).zip(y.par_chunks(size)).zip(gy.par_chunks(size)).for_each(|((gx, y), gy)| {
        columns(inner, |start, width| {
            wide(
                #[inline(always)]
                || {
                    let mut sum = [0.0f32; LANES];
                    for at in (0..n).map(|k| k * inner + start) {
                        for i in 0..width {
                            sum[i] += if kind == Kind::Log { gy[at + i] } else { gy[at + i] * y[at + i] };
                        }
                    }
                    for at in (0..n).map(|k| k * inner + start) {
                        for i in 0..width {
                            let (y, g) = (y[at + i], gy[at + i]);
                            gx[at + i] = if kind == Kind::Log { g - exp(y) * sum[i] } else { y * (g - sum[i]) };
                        }
                    }
                },
            );
        });
    });
}

/// Calls `f(start, width)` for pieces of at most [`LANES`] of the inner axis.
fn columns(inner: usize, mut f: impl FnMut(usize, usize)) {
    for start in (0..inner).step_by(LANES) {
        f(start, LANES.min(inner - start));
    }
}
