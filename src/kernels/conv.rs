//! Convolution: forward, gradient of the data, gradient of the weights.
//!
//! An image becomes a matrix of patches (`im2col`), tile by tile, which is multiplied with the weights.

use super::reference;
use super::window::{Window, Window2};
use rayon::prelude::*;

/// Sizes of a convolution: `x: [batch, in_channels, input…]`, `w: [out_channels, in_channels / groups, kernel…]`,
/// `y: [batch, out_channels, output…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvShape {
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub window: Window,
}

impl ConvShape {
    pub fn x_len(&self) -> usize {
        self.batch * self.in_channels * self.window.input_len()
    }
    pub fn w_len(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups) * self.window.kernel_len()
    }
    pub fn y_len(&self) -> usize {
        self.batch * self.out_channels * self.window.output_len()
    }
    /// Multiply-accumulates of one pass.
    pub fn macs(&self) -> usize {
        self.y_len() * (self.in_channels / self.groups) * self.window.kernel_len()
    }
}

/// `y = conv(x, w) + bias`.
///
/// # Panics
/// When a slice does not have the length that `s` says.
pub fn forward(s: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    check(s, x.len(), w.len(), y.len());
    let Some(win) = s.window.as_2d() else {
        y.fill(0.0);
        return reference::conv(s, x, w, bias, y);
    };
    let (ins, outs, taps) = (s.window.input_len(), s.window.output_len(), s.window.kernel_len());
    let (cg, mg) = (s.in_channels / s.groups, s.out_channels / s.groups);
    if outs * mg == 0 {
        return;
    }
    y.par_chunks_mut(mg * outs).enumerate().for_each_init(Vec::new, |columns, (job, y)| {
        let (n, g) = (job / s.groups, job % s.groups);
        let x = &x[(n * s.in_channels + g * cg) * ins..][..cg * ins];
        let w = &w[g * mg * cg * taps..][..mg * cg * taps];
        let columns = patches(&win, cg, x, columns);
        multiply(mg, outs, cg * taps, w, false, columns, false, y, 0.0);
        if let Some(bias) = bias {
            for (row, b) in y.chunks_exact_mut(outs).zip(&bias[g * mg..]) {
                row.iter_mut().for_each(|v| *v += b);
            }
        }
    });
}

/// Gradient with respect to `x`; overwrites `gx`.
pub fn backward_data(s: &ConvShape, w: &[f32], gy: &[f32], gx: &mut [f32]) {
    check(s, gx.len(), w.len(), gy.len());
    let Some(win) = s.window.as_2d() else {
        gx.fill(0.0);
        return reference::conv_backward_data(s, w, gy, gx);
    };
    let (ins, outs, taps) = (s.window.input_len(), s.window.output_len(), s.window.kernel_len());
    let (cg, mg) = (s.in_channels / s.groups, s.out_channels / s.groups);
    if ins * cg == 0 {
        return;
    }
    gx.par_chunks_mut(cg * ins).enumerate().for_each_init(Vec::new, |columns, (job, gx)| {
        let (n, g) = (job / s.groups, job % s.groups);
        let gy = &gy[(n * s.out_channels + g * mg) * outs..][..mg * outs];
        let w = &w[g * mg * cg * taps..][..mg * cg * taps];
        columns.resize(cg * taps * outs, 0.0);
        multiply(cg * taps, outs, mg, w, true, gy, false, columns, 0.0);
        gx.fill(0.0);
        add_patches(&win, cg, columns, gx);
    });
}

/// Gradient with respect to `w`; overwrites `gw`.
pub fn backward_weight(s: &ConvShape, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    check(s, x.len(), gw.len(), gy.len());
    gw.fill(0.0);
    let Some(win) = s.window.as_2d() else {
        return reference::conv_backward_weight(s, x, gy, gw);
    };
    let (ins, outs, taps) = (s.window.input_len(), s.window.output_len(), s.window.kernel_len());
    let (cg, mg) = (s.in_channels / s.groups, s.out_channels / s.groups);
    let mut columns = Vec::new();
    for n in 0..s.batch {
        for g in 0..s.groups {
            let x = &x[(n * s.in_channels + g * cg) * ins..][..cg * ins];
            let gy = &gy[(n * s.out_channels + g * mg) * outs..][..mg * outs];
            let columns = patches(&win, cg, x, &mut columns);
            multiply(mg, cg * taps, outs, gy, false, columns, true, &mut gw[g * mg * cg * taps..][..mg * cg * taps], 1.0);
        }
    }
}

/// Sums of planes per channel, the gradient of a bias: `gy: [batch, channels, plane]`; overwrites `gb`.
pub fn sum_planes(channels: usize, planes: usize, gy: &[f32], gb: &mut [f32]) {
    gb.fill(0.0);
    if planes == 0 {
        return;
    }
    for (i, plane) in gy.chunks_exact(planes).enumerate() {
        gb[i % channels] += plane.iter().sum::<f32>();
    }
}

fn check(s: &ConvShape, x: usize, w: usize, y: usize) {
    assert_eq!((x, w, y), (s.x_len(), s.w_len(), s.y_len()), "lengths of x, w and y of {s:?}");
}

/// The patch matrix `[channels · taps, outputs]` of an image `[channels, input]`; the image itself for 1×1 windows.
fn patches<'a>(win: &Window2, channels: usize, x: &'a [f32], columns: &'a mut Vec<f32>) -> &'a [f32] {
    if win.is_pointwise() {
        return x;
    }
    let (ins, outs) = (win.input[0] * win.input[1], win.output[0] * win.output[1]);
    columns.resize(channels * win.kernel[0] * win.kernel[1] * outs, 0.0);
    let mut rows = columns.chunks_exact_mut(outs);
    for plane in x.chunks_exact(ins) {
        for ky in 0..win.kernel[0] {
            for kx in 0..win.kernel[1] {
                let row = rows.next().expect("one row per channel and tap");
                row.fill(0.0);
                each_run(win, ky, kx, |out, input, len| {
                    for i in 0..len {
                        row[out + i] = plane[input + i * win.stride[1]];
                    }
                });
            }
        }
    }
    columns
}

/// The transpose of [`patches`]: adds each patch element to the input element it came from.
fn add_patches(win: &Window2, channels: usize, columns: &[f32], gx: &mut [f32]) {
    let (ins, outs) = (win.input[0] * win.input[1], win.output[0] * win.output[1]);
    let mut rows = columns.chunks_exact(outs);
    for plane in gx.chunks_exact_mut(ins).take(channels) {
        for ky in 0..win.kernel[0] {
            for kx in 0..win.kernel[1] {
                let row = rows.next().expect("one row per channel and tap");
                each_run(win, ky, kx, |out, input, len| {
                    for i in 0..len {
                        plane[input + i * win.stride[1]] += row[out + i];
                    }
                });
            }
        }
    }
}

/// Calls `f(output index, input index, length)` for each run of outputs in a row that tap `(ky, kx)` serves from inside
/// the input; consecutive outputs read inputs `stride[1]` apart.
fn each_run(win: &Window2, ky: usize, kx: usize, mut f: impl FnMut(usize, usize, usize)) {
    let (x0, x1) = win.valid(1, kx);
    if x0 == x1 {
        return;
    }
    let (y0, y1) = win.valid(0, ky);
    for oy in y0..y1 {
        let iy = oy * win.stride[0] + ky * win.dilation[0] - win.pad[0];
        let ix = x0 * win.stride[1] + kx * win.dilation[1] - win.pad[1];
        f(oy * win.output[1] + x0, iy * win.input[1] + ix, x1 - x0);
    }
}

/// `c = keep · c + a · b` for row-major `c: [m, n]`; `a` is `[m, k]`, or `[k, m]` when `a_transposed`; `b` is `[k, n]`, or
/// `[n, k]` when `b_transposed`. Single-threaded.
fn multiply(m: usize, n: usize, k: usize, a: &[f32], a_transposed: bool, b: &[f32], b_transposed: bool, c: &mut [f32], keep: f32) {
    assert!(a.len() >= m * k && b.len() >= k * n && c.len() >= m * n, "matrices of {m}×{k} by {k}×{n}");
    let step = |v: usize| v as isize;
    let (a_row, a_col) = if a_transposed { (1, step(m)) } else { (step(k), 1) };
    let (b_row, b_col) = if b_transposed { (1, step(k)) } else { (step(n), 1) };
    // SAFETY: the assertion above shows that every element that these sizes and strides reach is inside its slice.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            step(n),
            keep != 0.0,
            a.as_ptr(),
            a_col,
            a_row,
            b.as_ptr(),
            b_col,
            b_row,
            keep,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
