//! The plain definitions: any number of spatial axes, no blocking, no threads. Fast kernels are tested against these,
//! and shapes without a fast kernel (three spatial axes) run on them.

use super::conv::shape::ConvShape;
use super::window::Window;

/// `y[n, m, o] = bias[m] + Σ x[n, c, read(o, k)] · w[m, c, k]` over the channels `c` of the group of `m`.
pub fn conv(s: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let (outs, taps) = (s.window.output_len(), s.window.kernel_len());
    each_product(s, |n, m, o, weight, from| {
        let _ = (n, m);
        y[o] += w[weight] * x[from];
    });
    if let Some(bias) = bias {
        for (i, v) in y.iter_mut().enumerate() {
            *v += bias[i / outs % s.out_channels];
        }
    }
    debug_assert!(taps > 0);
}

/// Gradient of [`conv`] with respect to `x`, added to `gx`.
pub fn conv_backward_data(s: &ConvShape, w: &[f32], gy: &[f32], gx: &mut [f32]) {
    each_product(s, |_, _, o, weight, from| gx[from] += w[weight] * gy[o]);
}

/// Gradient of [`conv`] with respect to `w`, added to `gw`.
pub fn conv_backward_weight(s: &ConvShape, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    each_product(s, |_, _, o, weight, from| gw[weight] += x[from] * gy[o]);
}

/// Calls `f(n, m, index in y, index in w, index in x)` for every product of a convolution.
fn each_product(s: &ConvShape, mut f: impl FnMut(usize, usize, usize, usize, usize)) {
    let (ins, outs, taps) = (s.window.input_len(), s.window.output_len(), s.window.kernel_len());
    let (per_in, per_out) = (s.in_channels / s.groups, s.out_channels / s.groups);
    for n in 0..s.batch {
        for m in 0..s.out_channels {
            for o in 0..outs {
                for k in 0..taps {
                    let Some(at) = s.window.read(o, k) else { continue };
                    for c in 0..per_in {
                        let channel = m / per_out * per_in + c;
                        let y = (n * s.out_channels + m) * outs + o;
                        f(n, m, y, (m * per_in + c) * taps + k, (n * s.in_channels + channel) * ins + at);
                    }
                }
            }
        }
    }
}

/// Largest value under the window of each plane; `at` gets its input index (the first of equals), `usize::MAX` where
/// the window holds nothing.
pub fn max_pool(w: &Window, planes: usize, x: &[f32], y: &mut [f32], at: &mut [usize]) {
    let (ins, outs) = (w.input_len(), w.output_len());
    for p in 0..planes {
        for o in 0..outs {
            let (mut best, mut index) = (f32::NEG_INFINITY, usize::MAX);
            w.reads(o, |i| {
                let v = x[p * ins + i];
                if index == usize::MAX || !best.is_nan() && (v > best || v.is_nan()) {
                    (best, index) = (v, i);
                }
            });
            y[p * outs + o] = best;
            at[p * outs + o] = index;
        }
    }
}

/// Number that the sum under the window is divided by at output position `o`.
pub fn average_divisor(w: &Window, o: usize, count_padding: bool) -> usize {
    w.count(o, count_padding).max(1)
}

/// Mean under the window of each plane.
pub fn average_pool(w: &Window, planes: usize, count_padding: bool, x: &[f32], y: &mut [f32]) {
    let (ins, outs) = (w.input_len(), w.output_len());
    for o in 0..outs {
        let scale = 1.0 / average_divisor(w, o, count_padding) as f32;
        for p in 0..planes {
            let mut sum = 0.0;
            w.reads(o, |i| sum += x[p * ins + i]);
            y[p * outs + o] = sum * scale;
        }
    }
}

/// Gradient of [`average_pool`], added to `gx`.
pub fn average_pool_backward(w: &Window, planes: usize, count_padding: bool, gy: &[f32], gx: &mut [f32]) {
    let (ins, outs) = (w.input_len(), w.output_len());
    for o in 0..outs {
        let scale = 1.0 / average_divisor(w, o, count_padding) as f32;
        for p in 0..planes {
            w.reads(o, |i| gx[p * ins + i] += gy[p * outs + o] * scale);
        }
    }
}
