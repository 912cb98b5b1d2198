//! Max and average pools, forward and backward, for any window.

use super::reference;
use super::window::{Window, Window2};
use rayon::prelude::*;

/// Index of a window that holds no input element.
pub const NOTHING: u32 = u32::MAX;

/// Largest value under the window of each plane, and its index in the input plane (the first of equals).
pub fn max_forward(w: &Window, planes: usize, x: &[f32], y: &mut [f32], at: &mut [u32]) {
    let (ins, outs) = (w.input_len(), w.output_len());
    assert!(x.len() == planes * ins && y.len() == planes * outs && at.len() == y.len(), "lengths of {planes} planes of {w:?}");
    if outs == 0 {
        return;
    }
    y.par_chunks_mut(outs).zip(at.par_chunks_mut(outs)).enumerate().for_each(|(p, (y, at))| {
        let x = &x[p * ins..][..ins];
        match w.as_2d() {
            Some(w2) => max_plane(&w2, x, y, at),
            None => {
                let mut found = vec![0; outs];
                reference::max_pool(w, 1, x, y, &mut found);
                for (a, f) in at.iter_mut().zip(found) {
                    *a = u32::try_from(f).unwrap_or(NOTHING);
                }
            }
        }
    });
}

fn max_plane(w: &Window2, x: &[f32], y: &mut [f32], at: &mut [u32]) {
    y.fill(f32::NEG_INFINITY);
    at.fill(NOTHING);
    for ky in 0..w.kernel[0] {
        let (y0, y1) = w.valid(0, ky);
        for kx in 0..w.kernel[1] {
            let (x0, x1) = w.valid(1, kx);
            for oy in y0..y1 {
                let iy = oy * w.stride[0] + ky * w.dilation[0] - w.pad[0];
                let row = oy * w.output[1];
                for ox in x0..x1 {
                    let i = iy * w.input[1] + ox * w.stride[1] + kx * w.dilation[1] - w.pad[1];
                    let (v, best, a) = (x[i], &mut y[row + ox], &mut at[row + ox]);
                    if v > *best || *a == NOTHING || (v.is_nan() && !best.is_nan()) {
                        *best = v;
                        *a = i as u32;
                    }
                }
            }
        }
    }
}

/// Gradient of a max pool: each `gy` goes to the element that was largest. Overwrites `gx`.
pub fn max_backward(w: &Window, planes: usize, at: &[u32], gy: &[f32], gx: &mut [f32]) {
    let (ins, outs) = (w.input_len(), w.output_len());
    assert!(gx.len() == planes * ins && gy.len() == planes * outs && at.len() == gy.len(), "lengths of {planes} planes of {w:?}");
    if ins == 0 {
        return;
    }
    gx.par_chunks_mut(ins).enumerate().for_each(|(p, gx)| {
        gx.fill(0.0);
        for (&a, &g) in at[p * outs..][..outs].iter().zip(&gy[p * outs..]) {
            if a != NOTHING {
                gx[a as usize] += g;
            }
        }
    });
}

/// Mean under the window of each plane. With `count_padding` the padding counts as zeros.
pub fn average_forward(w: &Window, planes: usize, count_padding: bool, x: &[f32], y: &mut [f32]) {
    let (ins, outs) = (w.input_len(), w.output_len());
    assert!(x.len() == planes * ins && y.len() == planes * outs, "lengths of {planes} planes of {w:?}");
    if outs == 0 {
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
pub fn average_backward(w: &Window, planes: usize, count_padding: bool, gy: &[f32], gx: &mut [f32]) {
    let (ins, outs) = (w.input_len(), w.output_len());
    assert!(gx.len() == planes * ins && gy.len() == planes * outs, "lengths of {planes} planes of {w:?}");
    if ins == 0 {
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

/// Calls `f(output index, input index)` for each pair that a tap joins.
fn each_read(w: &Window2, mut f: impl FnMut(usize, usize)) {
    for ky in 0..w.kernel[0] {
        let (y0, y1) = w.valid(0, ky);
        for kx in 0..w.kernel[1] {
            let (x0, x1) = w.valid(1, kx);
            for oy in y0..y1 {
                let iy = oy * w.stride[0] + ky * w.dilation[0] - w.pad[0];
                for ox in x0..x1 {
                    f(oy * w.output[1] + ox, iy * w.input[1] + ox * w.stride[1] + kx * w.dilation[1] - w.pad[1]);
                }
            }
        }
    }
}
