//! Gradient of the weights over small planes: there are many more weights than pixels of an image, so that several images are
//! summed at once, and threads share out the weights. No sum depends on how many threads there are.

use super::gather::{Gather, SLACK};
use super::shape::{ConvShape, shifts};
use super::tile::{self, Pixels};
use super::weight::{turn, unpack};
use crate::level::Level;
use crate::window::Window2;
use rayon::prelude::*;

/// Pixels of the result up to which a plane is small.
const SMALL: usize = 256;
/// Pixels that are summed in one visit to the weights: those of a vector of channels stay in the second-level cache.
const PIXELS: usize = 1024;
/// Weights from which on visits to them cost more than the pixels.
const MANY: usize = 1 << 14;

/// True for convolutions that this way suits.
pub fn suits(s: &ConvShape, win: &Window2) -> bool {
    s.groups == 1 && win.output[0] * win.output[1] <= SMALL && s.w_len() >= MANY
}

/// Gradient with respect to the weights, for convolutions that [`suits`]; overwrites `gw`.
pub fn backward_weight(level: Level, s: &ConvShape, win: &Window2, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    let (ins, outs, taps) = (s.window.input_len(), s.window.output_len(), s.window.kernel_len());
    let (depth, channels) = (s.in_channels, s.out_channels);
    let vectors = if channels <= level.lanes() { 1 } else { 2 };
    let wide = vectors * level.lanes();
    let made = channels.next_multiple_of(wide);
    let all = shifts(win);
    let reach = |d: usize| all.iter().map(|t| t[d] / win.stride[d]).max().unwrap_or(0);
    let gather = Gather {
        size: win.input,
        step: win.stride,
        origin: win.pad.map(|p| -(p as isize)),
        phases: [0, 1].map(|d| win.stride[d].min((win.kernel[d] - 1) * win.dilation[d] + 1)),
        rows: win.output[0] + reach(0),
        pitch: win.output[1] + reach(1),
    };
    // Windows of one element read the images where they lie.
    let plain = win.is_pointwise();
    let channel = if plain { ins } else { gather.channel() };
    let apart = if plain { depth * ins } else { depth * channel + SLACK };
    let offset = |c: usize, t: [usize; 2]| (c * channel + if plain { 0 } else { gather.offset(t) }) as u32;
    let mut offsets: Vec<u32> = (0..depth).flat_map(|c| all.iter().map(move |&t| (c, t))).map(|(c, t)| offset(c, t)).collect();
    offsets.resize((depth * taps).next_multiple_of(level.taps()), 0);
    let most = (PIXELS / outs.max(1)).clamp(1, s.batch.max(1));
    let mut copies = vec![0.0; if plain { 0 } else { most * apart }];
    let mut turned = vec![0.0; most * made * outs];
    let mut sums = vec![0.0; offsets.len() * made];
    // Several shares for each thread, of whole tiles.
    let share = offsets.len().div_ceil(8 * rayon::current_num_threads()).next_multiple_of(level.taps());
    for first in (0..s.batch).step_by(most) {
        let images = most.min(s.batch - first);
        let x = &x[first * depth * ins..][..images * depth * ins];
        let gy = &gy[first * channels * outs..][..images * channels * outs];
        if !plain {
            let copies = copies[..images * apart].par_chunks_mut(apart).zip(x.par_chunks(depth * ins));
            copies.for_each(|(to, x)| gather.copy_to(depth, x, to));
        }
        let src = if plain { x } else { &copies[..images * apart] };
        // [blocks of channels, images, pixels, channels of a block]
        let turned = &mut turned[..images * made * outs];
        turned.par_chunks_mut(images * outs * wide).enumerate().for_each(|(block, to)| {
            for (to, gy) in to.chunks_exact_mut(outs * wide).zip(gy.chunks_exact(channels * outs)) {
                turn(level, gy, block * wide..channels.min((block + 1) * wide), outs, 0..outs, wide, to);
            }
        });
        let pixels = if plain {
            Pixels { images, apart, rows: 1, width: outs, pitch: outs }
        } else {
            Pixels { images, apart, rows: win.output[0], width: win.output[1], pitch: gather.pitch }
        };
        let turned = &*turned;
        sums.par_chunks_mut(share * made).zip(offsets.par_chunks(share)).for_each(|(sums, offsets)| {
            for (block, gy) in turned.chunks_exact(images * outs * wide).enumerate() {
                tile::accumulate(level, vectors, offsets, src, pixels, gy, &mut sums[block * wide..], made);
            }
        });
    }
    unpack(&[sums], made, depth * taps, gw);
}
