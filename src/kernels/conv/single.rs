//! Convolutions with one output channel per group (depthwise) or few: no tile of output channels to fill.

use super::super::activation::wide;
use super::gather::{Gather, SLACK};
use super::shape::{ConvShape, shifts};
use crate::window::Window2;
use rayon::prelude::*;

/// Columns summed in registers at a time.
const COLUMNS: usize = 32;
const _: () = assert!(COLUMNS <= SLACK);

/// `out[p] = Σ_k weights[k] · src[offsets[k] + p]` for `p < len`, rounded up to [`SLACK`].
pub fn multiply(offsets: &[u32], weights: &[f32], src: &[f32], len: usize, out: &mut [f32]) {
    wide(
        #[inline(always)]
        || {
            for (i, out) in out.as_chunks_mut::<COLUMNS>().0.iter_mut().enumerate().take(len.div_ceil(COLUMNS)) {
                let mut sums = [0.0f32; COLUMNS];
                for (&offset, &w) in offsets.iter().zip(weights) {
                    let values = src[offset as usize + i * COLUMNS..].first_chunk::<COLUMNS>().expect("the scratch image ends with slack");
                    sums.iter_mut().zip(values).for_each(|(s, v)| *s += w * v);
                }
                *out = sums;
            }
        },
    );
}

/// Gradient with respect to the weights; overwrites `gw`.
pub fn backward_weight(s: &ConvShape, win: &Window2, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    let (cg, mg) = s.per_group();
    let (ins, outs, taps) = (s.window.input_len(), s.window.output_len(), s.window.kernel_len());
    let all = shifts(win);
    let phases = [0, 1].map(|d| win.stride[d].min((win.kernel[d] - 1) * win.dilation[d] + 1));
    let gather = Gather {
        size: win.input,
        step: win.stride,
        origin: win.pad.map(|p| -(p as isize)),
        phases,
        rows: win.output[0] + all.iter().map(|t| t[0] / win.stride[0]).max().unwrap_or(0),
        pitch: win.output[1] + all.iter().map(|t| t[1] / win.stride[1]).max().unwrap_or(0),
    };
    // The gradient in rows of the same pitch, with zeros between them.
    let spread = Gather { size: win.output, step: [1, 1], origin: [0, 0], phases: [1, 1], rows: win.output[0], pitch: gather.pitch };
    let len = win.output[0] * gather.pitch;
    gw.par_chunks_mut(mg * cg * taps).enumerate().for_each_init(
        || (Vec::new(), Vec::new()),
        |(image, rows), (g, gw)| {
            for n in 0..s.batch {
                gather.copy(cg, &x[(n * s.in_channels + g * cg) * ins..][..cg * ins], image);
                for m in 0..mg {
                    spread.copy(1, &gy[(n * s.out_channels + g * mg + m) * outs..][..outs], rows);
                    for c in 0..cg {
                        for (tap, &shift) in all.iter().enumerate() {
                            let from = c * gather.channel() + gather.offset(shift);
                            // The last row ends before the pitch does; what follows meets zeros.
                            let n = len.min(image.len() - from);
                            gw[(m * cg + c) * taps + tap] += dot(&rows[..n], &image[from..][..n]);
                        }
                    }
                }
            }
        },
    );
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    wide(
        #[inline(always)]
        || {
            let mut lanes = [0.0f32; 32];
            let ((xs, x_rest), (ys, y_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
            for (x, y) in xs.iter().zip(ys) {
                for i in 0..32 {
                    lanes[i] += x[i] * y[i];
                }
            }
            lanes.iter().sum::<f32>() + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f32>()
        },
    )
}
