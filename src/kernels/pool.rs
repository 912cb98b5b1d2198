//! Max and average pools, forward and backward, for any window.

use super::activation::wide;
use super::reference;
use super::window::{Window, Window2};
use rayon::prelude::*;

/// Index of a window that holds no input element.
pub const NOTHING: u32 = u32::MAX;

/// Elements of a plane of the input and of the output.
///
/// # Panics
/// When the window is out of range or the lengths do not fit it.
fn check(w: &Window, planes: usize, x: usize, y: usize) -> [usize; 2] {
    w.check().unwrap_or_else(|e| panic!("{e}"));
    let (ins, outs) = (w.input_len(), w.output_len());
    let lengths = (planes.checked_mul(ins), planes.checked_mul(outs));
    assert!(lengths == (Some(x), Some(y)), "lengths {x} and {y} of {planes} planes of {w:?}");
    [ins, outs]
}

/// Largest value under the window of each plane; a NaN is largest.
///
/// # Panics
/// When the lengths do not fit the window.
pub fn max_forward(w: &Window, planes: usize, x: &[f32], y: &mut [f32]) {
    let [ins, outs] = check(w, planes, x.len(), y.len());
    if ins == 0 {
        return y.fill(f32::NEG_INFINITY);
    }
    if y.is_empty() {
        return;
    }
    let Some(w2) = w.as_2d() else { return reference::max_pool(w, planes, x, y, &mut vec![0; planes * outs]) };
    // Largest values of columns first, then of their neighbours: the first step runs over whole rows.
    y.par_chunks_mut(outs).zip(x.par_chunks(ins)).for_each_init(
        || vec![0.0; w2.input[1]],
        |columns, (y, x)| {
            wide(
                #[inline(always)]
                || {
                    for (oy, y) in y.chunks_exact_mut(w2.output[1]).enumerate() {
                        columns.fill(f32::NEG_INFINITY);
                        for ky in w2.taps(0, oy) {
                            let iy = oy * w2.stride[0] + ky * w2.dilation[0] - w2.pad[0];
                            columns.iter_mut().zip(&x[iy * w2.input[1]..]).for_each(|(c, &x)| larger(c, x));
                        }
                        y.fill(f32::NEG_INFINITY);
                        for kx in w2.useful(1) {
                            let (x0, x1) = w2.valid(1, kx);
                            if x0 == x1 {
                                continue;
                            }
                            let from = &columns[x0 * w2.stride[1] + kx * w2.dilation[1] - w2.pad[1]..];
                            let to = &mut y[x0..x1];
                            match w2.stride[1] {
                                1 => to.iter_mut().zip(from).for_each(|(y, &x)| larger(y, x)),
                                // With a constant step the compiler finds vectors.
                                2 => to.iter_mut().zip(from.iter().step_by(2)).for_each(|(y, &x)| larger(y, x)),
                                step => to.iter_mut().zip(from.iter().step_by(step)).for_each(|(y, &x)| larger(y, x)),
                            }
                        }
                    }
                },
            );
        },
    );
}

/// Keeps the larger of two; a NaN is largest.
#[inline(always)]
fn larger(best: &mut f32, v: f32) {
    *best = if (v > *best) | v.is_nan() { v } else { *best };
}

/// Adds each gradient of a plane to the first element under its window that is largest.
fn search(w: &Window2, x: &[f32], y: &[f32], gy: &[f32], gx: &mut [f32]) {
    for oy in 0..w.output[0] {
        let rows = w.taps(0, oy);
        for ox in 0..w.output[1] {
            let o = oy * w.output[1] + ox;
            let (largest, columns) = (y[o], w.taps(1, ox));
            // From the last tap to the first, without a branch: which one it is cannot be foreseen.
            let mut at = None;
            for ky in rows.clone().rev() {
                let row = (oy * w.stride[0] + ky * w.dilation[0] - w.pad[0]) * w.input[1];
                for kx in columns.clone().rev() {
                    let i = row + ox * w.stride[1] + kx * w.dilation[1] - w.pad[1];
                    let hit = (x[i] == largest) | (x[i].is_nan() & largest.is_nan());
                    at = if hit { Some(i) } else { at };
                }
            }
            if let Some(i) = at {
                gx[i] += gy[o];
            }
        }
    }
}

/// Gives the gradient that is left to the element `x` when that is the largest, `y`.
#[inline(always)]
fn give(left: &mut f32, gx: &mut f32, x: f32, y: f32) {
    let hit = (x == y) | (x.is_nan() & y.is_nan());
    *gx += if hit { *left } else { 0.0 };
    *left = if hit { 0.0 } else { *left };
}

/// Index, in the input plane, of the element that each output of a max pool takes: the first of equals, [`NOTHING`] where
/// the window holds none.
///
/// # Panics
/// When the lengths do not fit the window.
pub fn max_indices(w: &Window, planes: usize, x: &[f32]) -> Vec<u32> {
    check(w, planes, x.len(), planes.saturating_mul(w.output_len()));
    let count = planes * w.output_len();
    let (mut y, mut at) = (vec![0.0; count], vec![0; count]);
    reference::max_pool(w, planes, x, &mut y, &mut at);
    at.into_iter().map(|a| u32::try_from(a).unwrap_or(NOTHING)).collect()
}

/// Gradient of a max pool from its input and result: each `gy` goes to the element that was largest, the first of equals.
/// Overwrites `gx`.
///
/// # Panics
/// When the lengths do not fit the window.
pub fn max_backward(w: &Window, planes: usize, x: &[f32], y: &[f32], gy: &[f32], gx: &mut [f32]) {
    let [ins, outs] = check(w, planes, x.len(), y.len());
    assert!(gx.len() == x.len() && gy.len() == y.len(), "lengths of {planes} planes of {w:?}");
    if x.is_empty() || y.is_empty() {
        return gx.fill(0.0);
    }
    let Some(w2) = w.as_2d() else {
        gx.fill(0.0);
        for (i, (a, g)) in max_indices(w, planes, x).into_iter().zip(gy).enumerate().filter(|(_, (a, _))| *a != NOTHING) {
            gx[i / outs * ins + a as usize] += g;
        }
        return;
    };
    if w2.stride[1] > 1 {
        let jobs = gx.par_chunks_mut(ins).zip(x.par_chunks(ins)).zip(y.par_chunks(outs).zip(gy.par_chunks(outs)));
        return jobs.for_each(|((gx, x), (y, gy))| {
            gx.fill(0.0);
            search(&w2, x, y, gy, gx);
        });
    }
    let jobs = gx.par_chunks_mut(ins).zip(x.par_chunks(ins)).zip(y.par_chunks(outs).zip(gy.par_chunks(outs)));
    jobs.for_each_init(Vec::new, |left, ((gx, x), (y, gy))| {
        gx.fill(0.0);
        // The gradient that has not found its element yet.
        left.clear();
        left.extend_from_slice(gy);
        wide(
            #[inline(always)]
            || {
                each_run(
                    &w2,
                    #[inline(always)]
                    |out, from, len| {
                        let step = w2.stride[1];
                        let span = from..from + (len - 1) * step + 1;
                        let (x, gx) = (&x[span.clone()], &mut gx[span]);
                        let outs = left[out..][..len].iter_mut().zip(&y[out..][..len]);
                        if step == 1 {
                            outs.zip(x.iter().zip(gx)).for_each(|((left, &y), (&x, gx))| give(left, gx, x, y));
                        } else {
                            let ins = x.iter().step_by(step).zip(gx.iter_mut().step_by(step));
                            outs.zip(ins).for_each(|((left, &y), (&x, gx))| give(left, gx, x, y));
                        }
                    },
                )
            },
        );
    });
}

/// Mean under the window of each plane. With `count_padding` the padding counts as zeros.
///
/// # Panics
/// When the lengths do not fit the window.
pub fn average_forward(w: &Window, planes: usize, count_padding: bool, x: &[f32], y: &mut [f32]) {
    let [ins, outs] = check(w, planes, x.len(), y.len());
    if y.is_empty() {
        return;
    }
    let Some(w2) = w.as_2d() else { return reference::average_pool(w, planes, count_padding, x, y) };
    let scales = scales(w, count_padding);
    y.par_chunks_mut(outs).enumerate().for_each(|(p, y)| {
        let x = &x[p * ins..][..ins];
        y.fill(0.0);
        each_read(&w2, |o, i| y[o] += x[i]);
        y.iter_mut().zip(&scales).for_each(|(v, s)| *v *= s);
    });
}

/// Gradient of an average pool. Overwrites `gx`.
///
/// # Panics
/// When the lengths do not fit the window.
pub fn average_backward(w: &Window, planes: usize, count_padding: bool, gy: &[f32], gx: &mut [f32]) {
    let [ins, outs] = check(w, planes, gx.len(), gy.len());
    if gx.is_empty() {
        return;
    }
    let Some(w2) = w.as_2d() else {
        gx.fill(0.0);
        return reference::average_pool_backward(w, planes, count_padding, gy, gx);
    };
    let scales = scales(w, count_padding);
    gx.par_chunks_mut(ins).enumerate().for_each(|(p, gx)| {
        let gy = &gy[p * outs..][..outs];
        gx.fill(0.0);
        each_read(&w2, |o, i| gx[i] += gy[o] * scales[o]);
    });
}

fn scales(w: &Window, count_padding: bool) -> Vec<f32> {
    (0..w.output_len()).map(|o| 1.0 / reference::average_divisor(w, o, count_padding) as f32).collect()
}

/// Calls `f(first output index, first input index, length)` for each run of outputs of a row that a tap serves from inside
/// the input, tap by tap; consecutive outputs read inputs `stride[1]` apart.
#[inline(always)]
fn each_run(w: &Window2, mut f: impl FnMut(usize, usize, usize)) {
    for ky in w.useful(0) {
        let (y0, y1) = w.valid(0, ky);
        for kx in w.useful(1) {
            let (x0, x1) = w.valid(1, kx);
            for oy in (y0..y1).take_while(|_| x0 < x1) {
                let iy = oy * w.stride[0] + ky * w.dilation[0] - w.pad[0];
                let ix = x0 * w.stride[1] + kx * w.dilation[1] - w.pad[1];
                f(oy * w.output[1] + x0, iy * w.input[1] + ix, x1 - x0);
            }
        }
    }
}

/// Calls `f(output index, input index)` for each pair that a tap joins.
fn each_read(w: &Window2, mut f: impl FnMut(usize, usize)) {
    each_run(w, |out, input, len| (0..len).for_each(|i| f(out + i, input + i * w.stride[1])));
}
