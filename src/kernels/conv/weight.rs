//! Gradient of the weights for any window: threads take bands of rows, and have sums of their own.

use super::gather::Gather;
use super::shape::{ConvShape, shifts};
use super::tile::{self, Pixels};
use super::{BUFFERS, Scratch, band_rows, grown, winograd};
use crate::level::Level;
use crate::window::Window2;
use rayon::prelude::*;
use std::ops::Range;

/// Gradient with respect to the weights; adds to `gw`, which is 0, and takes no sizes of 0.
pub fn add(s: &ConvShape, win: &Window2, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    let (cg, mg) = s.per_group();
    let taps = s.window.kernel_len();
    let level = Level::best();
    let vectors = if mg <= level.lanes() { 1 } else { 2 };
    let wide = vectors * level.lanes();
    let blocks = mg.div_ceil(wide);
    let all = shifts(win);
    let phases = [0, 1].map(|d| win.stride[d].min((win.kernel[d] - 1) * win.dilation[d] + 1));
    let pitch = win.output[1] + all.iter().map(|t| t[1] / win.stride[1]).max().unwrap_or(0);
    let halo = all.iter().map(|t| t[0] / win.stride[0]).max().unwrap_or(0);
    let per_row = (cg * phases[0] * phases[1] * pitch).max(blocks * wide * win.output[1]);
    let threads = rayon::current_num_threads();
    let rows = band_rows(win.output[0], halo, per_row, s.batch, threads);
    let bands = win.output[0].div_ceil(rows);
    let (ins, outs) = (s.window.input_len(), s.window.output_len());
    let depth = (cg * taps).next_multiple_of(level.taps());
    // With one tap the image itself is what a copy would be.
    let plain = taps == 1 && win.stride == [1, 1] && win.pad == [0, 0] && win.input == win.output;
    // Jobs of one group are shared out to threads with sums of their own.
    for g in 0..s.groups {
        let jobs = s.batch * bands;
        let shares = threads.min(jobs);
        let sums: Vec<Vec<f32>> = (0..shares)
            .into_par_iter()
            .map(|share| {
                let mut sum = vec![0.0; depth * blocks * wide];
                let mut run = |Scratch { image, out: turned, .. }: &mut Scratch, job: usize| {
                    let (n, first) = (job / bands, job % bands * rows);
                    let count = rows.min(win.output[0] - first);
                    let gather = Gather {
                        size: win.input,
                        step: win.stride,
                        origin: [(first * win.stride[0]) as isize - win.pad[0] as isize, -(win.pad[1] as isize)],
                        phases,
                        rows: count + halo,
                        pitch,
                    };
                    let image: &[f32] = if plain {
                        &x[(n * s.in_channels + g * cg) * ins + first * win.input[1]..(n * s.in_channels + (g + 1) * cg) * ins]
                    } else {
                        gather.copy(cg, &x[(n * s.in_channels + g * cg) * ins..][..cg * ins], image);
                        image
                    };
                    let channel = if plain { ins } else { gather.channel() };
                    let mut offsets: Vec<u32> = (0..cg)
                        .flat_map(|c| all.iter().map(move |&t| (c, t)))
                        .map(|(c, t)| (c * channel + gather.offset(t)) as u32)
                        .collect();
                    offsets.resize(depth, 0);
                    let gy = &gy[(n * s.out_channels + g * mg) * outs..][..mg * outs];
                    let pixels = if plain {
                        Pixels { images: 1, apart: 0, rows: 1, width: count * win.output[1], pitch }
                    } else {
                        Pixels { images: 1, apart: 0, rows: count, width: win.output[1], pitch }
                    };
                    let part = first * win.output[1]..(first + count) * win.output[1];
                    let turned = grown(turned, blocks * wide * part.len());
                    for (b, to) in turned.chunks_exact_mut(wide * part.len()).enumerate() {
                        turn(level, gy, b * wide..mg.min((b + 1) * wide), outs, part.clone(), wide, to);
                    }
                    for b in 0..blocks {
                        let gy = &turned[b * wide * count * win.output[1]..];
                        tile::accumulate(level, vectors, &offsets, image, pixels, gy, &mut sum[b * wide..], blocks * wide);
                    }
                };
                (jobs * share / shares..jobs * (share + 1) / shares).for_each(|job| BUFFERS.with_borrow_mut(|buffers| run(buffers, job)));
                sum
            })
            .collect();
        unpack(&sums, blocks * wide, cg * taps, &mut gw[g * mg * cg * taps..][..mg * cg * taps]);
    }
}

/// Writes the sum of `sums`, each `[taps or more, made]`, as `gw: [channels, taps]`.
pub fn unpack(sums: &[Vec<f32>], made: usize, taps: usize, gw: &mut [f32]) {
    const CHANNELS: usize = 16;
    gw.par_chunks_mut(CHANNELS * taps).enumerate().for_each(|(block, gw)| {
        for k in 0..taps {
            let at = k * made + block * CHANNELS;
            for m in 0..gw.len() / taps {
                gw[m * taps + k] = sums.iter().map(|s| s[at + m]).sum();
            }
        }
    });
}

/// Writes some pixels of some channels of `gy: [channels, plane]`, at most `wide`, as `[pixels, wide]`, with zeros for the channels
/// that are missing.
pub fn turn(level: Level, gy: &[f32], channels: Range<usize>, plane: usize, pixels: Range<usize>, wide: usize, to: &mut [f32]) {
    if channels.len() < wide {
        to.fill(0.0);
    }
    let count = pixels.len();
    // Eight channels at a time: a line of the result is filled in one or two visits.
    for m in channels.clone().step_by(8) {
        let (some, inside) = (8.min(channels.end - m), m - channels.start);
        let row = |i: usize| &gy[(m + i.min(some - 1)) * plane + pixels.start..][..count];
        let rows: [&[f32]; 8] = std::array::from_fn(row);
        let done = if some == 8 { count / 8 * 8 } else { 0 };
        if done > 0 {
            winograd::tiles::turn(level, &gy[m * plane + pixels.start..], done, plane, &mut to[inside..], wide);
        }
        for (p, to) in to.chunks_exact_mut(wide).enumerate().take(count).skip(done) {
            for (i, v) in to[inside..][..some].iter_mut().enumerate() {
                *v = rows[i][p];
            }
        }
    }
}
