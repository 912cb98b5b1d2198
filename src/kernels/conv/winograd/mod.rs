//! Convolution with windows of three by three and stride 1 in fewer multiplications (Winograd 1980; Lavin and Gray 2016).
//!
//! The image is cut into tiles of six by six that lie four apart. Tiles and filters are evaluated at 36 points, multiplied
//! point by point, summed over channels, and turned back into four by four results: 36 products in place of 144. The
//! products of a point are a matrix product, made by the register tiles of [`super::tile`] with tiles as columns.

mod eight;
pub(super) mod tiles;

#[cfg(test)]
mod tests;

use super::grown;
use super::shape::{ConvShape, Shared};
use super::tile;
use crate::level::Level;
use crate::out::{Out, fresh};
use crate::window::Window2;
use rayon::prelude::*;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use tiles::POINTS;

/// True for convolutions that this way suits.
pub fn suits(s: &ConvShape, win: &Window2) -> bool {
    let window = win.kernel == [3, 3] && win.stride == [1, 1] && win.dilation == [1, 1];
    let large = s.in_channels.min(s.out_channels) >= 8 && win.output.iter().chain(&win.input).all(|&n| n >= 6);
    window && s.groups == 1 && large && win.pad.iter().all(|&p| p <= 2)
}

/// One pass over a batch: `y[m] = Σ_c w[m, c] ∗ x[c]`.
pub struct Pass<'a> {
    pub level: Level,
    pub batch: usize,
    /// Channels that are read, and that are made.
    pub depth: usize,
    pub channels: usize,
    /// Height and width of what is read.
    pub size: [usize; 2],
    /// Row and column of what is read under the first tap of the first result.
    pub origin: [isize; 2],
    pub output: [usize; 2],
    pub w: &'a [f32],
    /// The weights are those of the forward pass, and this is the gradient of its data: taps are read backwards and the
    /// channels change roles.
    pub flipped: bool,
}

/// Rows of tiles of the whole batch, of which a job takes several.
#[derive(Debug, Clone, Copy)]
struct Grid {
    /// Tiles side by side, and rows of tiles in an image.
    columns: usize,
    rows: usize,
    /// Rows in all images.
    all: usize,
    /// Rows of a job.
    job: usize,
}

impl Grid {
    /// `floats` are those of scratch per tile.
    fn new(batch: usize, output: [usize; 2], floats: usize) -> Self {
        let (columns, rows) = (output[1].div_ceil(4), output[0].div_ceil(4));
        let all = batch * rows;
        let threads = rayon::current_num_threads();
        // As few and as full vectors as possible for the last thread to finish, in scratch that stays in the cache.
        let most = (SCRATCH / (floats * columns)).max(48 / columns).clamp(1, all);
        let cost = |job: usize| all.div_ceil(job).div_ceil(threads) * ((job * columns).next_multiple_of(16) + 4);
        let job = (1..=most).min_by_key(|&job| cost(job)).unwrap_or(1);
        Self { columns, rows, all, job }
    }
    fn jobs(&self) -> usize {
        self.all.div_ceil(self.job)
    }
    /// Floats from one channel to the next in scratch: whole vectors of any level.
    fn pitch(&self) -> usize {
        (self.job * self.columns).next_multiple_of(16)
    }
    /// Image and row of tiles of each row of a job.
    fn rows_of(&self, job: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let this = *self;
        let first = job * this.job;
        (first..(first + this.job).min(this.all)).map(move |r| (r / this.rows, r % this.rows))
    }
}

/// Floats of scratch that a job may use.
const SCRATCH: usize = 160 << 10;

/// Floats after a row of tiles that vectors may write.
const SLACK: usize = 8;

/// Buffers of a thread.
#[derive(Default)]
struct Scratch {
    line: Vec<f32>,
    /// Tiles of a channel before their transform.
    raw: Vec<f32>,
    points: Vec<f32>,
    products: Vec<f32>,
    rows: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::default();
}

/// Cuts rows of planes into tiles.
struct Cutter {
    level: Level,
    /// Height and width of a plane.
    size: [usize; 2],
    /// Column of the first element of the first tile.
    origin: isize,
    columns: usize,
    /// Floats from one element of tiles to the next.
    apart: usize,
    /// Elements (0 to 5) and tiles that lie outside the plane.
    outside: Vec<(usize, usize)>,
}

impl Cutter {
    fn new(level: Level, size: [usize; 2], origin: isize, columns: usize, apart: usize) -> Self {
        let inside = |j: usize, t: usize| (0..size[1] as isize).contains(&((4 * t + j) as isize + origin));
        let outside = (0..6).flat_map(|j| (0..columns).map(move |t| (j, t))).filter(|&(j, t)| !inside(j, t)).collect();
        Self { level, size, origin, columns, apart, outside }
    }
    /// Element `j` of tile `t` goes to `to[j * apart + t]`: row `y` of plane `plane` of `x`, and zeros outside.
    fn cut(&self, x: &[f32], plane: usize, y: isize, line: &mut Vec<f32>, to: &mut [f32]) {
        let [height, width] = self.size;
        let Some(y) = usize::try_from(y).ok().filter(|&y| y < height) else {
            return (0..6).for_each(|j| to[j * self.apart..][..self.columns].fill(0.0));
        };
        let reach = 4 * self.columns.next_multiple_of(8) + 4;
        let start = ((plane * height + y) * width) as isize + self.origin;
        let from = match usize::try_from(start).ok().and_then(|s| x.get(s..s + reach)) {
            Some(from) => from,
            None => {
                let line = grown(line, reach);
                for (i, v) in line.iter_mut().enumerate() {
                    *v = usize::try_from(start + i as isize).ok().and_then(|i| x.get(i)).copied().unwrap_or(0.0);
                }
                line
            }
        };
        tiles::split(self.level, from, self.columns, self.apart, to);
        self.outside.iter().for_each(|&(j, t)| to[j * self.apart + t] = 0.0);
    }
}

impl<'a> Pass<'a> {
    /// The forward pass of `s`.
    pub fn forward(level: Level, s: &ConvShape, win: &Window2, w: &'a [f32]) -> Self {
        Self {
            level,
            batch: s.batch,
            depth: s.in_channels,
            channels: s.out_channels,
            size: win.input,
            origin: win.pad.map(|p| -(p as isize)),
            output: win.output,
            w,
            flipped: false,
        }
    }
    /// The gradient of its data.
    pub fn backward(level: Level, s: &ConvShape, win: &Window2, w: &'a [f32]) -> Self {
        Self {
            level,
            batch: s.batch,
            depth: s.out_channels,
            channels: s.in_channels,
            size: win.output,
            origin: win.pad.map(|p| p as isize - 2),
            output: win.input,
            w,
            flipped: true,
        }
    }

    /// Adds `bias` per channel; overwrites `y` and gives it.
    pub fn run<'y>(&self, x: &[f32], bias: Option<&[f32]>, y: impl Into<Out<'y>>) -> &'y mut [f32] {
        let mut y = y.into();
        let (depth, channels) = (self.depth, self.channels);
        let heights = self.level.heights(channels);
        let made: usize = heights.iter().sum();
        let filters = self.filters(&heights);
        let grid = Grid::new(self.batch, self.output, POINTS * (depth + made));
        let pitch = grid.pitch();
        let offsets: Vec<u32> = (0..depth).map(|c| (c * pitch) as u32).collect();
        let [out_rows, out_columns] = self.output;
        let place = out_rows * out_columns;
        assert_eq!(y.len(), self.batch * channels * place, "length of a convolution's result");
        let shared = Shared(y.cells().as_mut_ptr().cast(), y.len());
        let shared = &shared;
        let run = |scratch: &mut Scratch, job: usize| {
            self.points(&grid, job, x, scratch);
            let tiles = grid.rows_of(job).count() * grid.columns;
            let points = &scratch.points[..POINTS * depth * pitch];
            let products = grown(&mut scratch.products, POINTS * made * pitch);
            for (p, (points, products)) in points.chunks_exact(depth * pitch).zip(products.chunks_exact_mut(made * pitch)).enumerate() {
                let mut first = 0;
                for &height in &heights {
                    let packed = &filters[(POINTS * first + p * height) * depth..][..height * depth];
                    let mut out = Out::from(&mut products[first * pitch..][..height * pitch]);
                    tile::multiply(self.level, &[height], &offsets, packed, points, tiles, out.cells(), pitch);
                    first += height;
                }
            }
            let width = 4 * pitch;
            let rows = grown(&mut scratch.rows, 4 * width);
            for m in 0..channels {
                tiles::results(self.level, &products[m * pitch..], tiles, made * pitch, rows, width);
                let bias = bias.map_or(0.0, |b| b[m]);
                for (r, (n, ty)) in grid.rows_of(job).enumerate() {
                    for i in 0..4.min(out_rows - 4 * ty) {
                        let from = &rows[i * width + 4 * r * grid.columns..][..out_columns];
                        let at = (n * channels + m) * place + (4 * ty + i) * out_columns;
                        assert!(at + out_columns <= shared.1, "place of a convolution's result");
                        // SAFETY: the assertion bounds the row by the result, and rows of tiles, which no two jobs share,
                        // have rows of their own in it.
                        let to = unsafe { std::slice::from_raw_parts_mut(shared.0.add(at).cast::<MaybeUninit<f32>>(), out_columns) };
                        to.iter_mut().zip(from).for_each(|(y, v)| {
                            y.write(v + bias);
                        });
                    }
                }
            }
        };
        (0..grid.jobs()).into_par_iter().for_each(|job| BUFFERS.with_borrow_mut(|scratch| run(scratch, job)));
        // SAFETY: the rows of the tiles of all jobs are all rows of each channel, and each was written whole.
        unsafe { y.written() }
    }

    /// Points of all filters: for each block of made channels, `[POINTS, depth, height]`.
    fn filters(&self, heights: &[usize]) -> Vec<f32> {
        let (depth, channels) = (self.depth, self.channels);
        let made: usize = heights.iter().sum();
        let fill = |(first, height, block): (usize, usize, &mut [MaybeUninit<f32>])| {
            let (mut taps, mut points) = ([0.0; 72], [0.0; 288]);
            let here = height.min(channels - first);
            for c in 0..depth {
                for r in 0..here {
                    let (m, at) = (first + r, if self.flipped { c * channels + first + r } else { (first + r) * depth + c });
                    debug_assert!(m < channels);
                    let w = &self.w[9 * at..][..9];
                    for k in 0..9 {
                        taps[8 * k + r] = w[if self.flipped { 8 - k } else { k }];
                    }
                }
                tiles::filters(self.level, &taps, &mut points);
                for (to, from) in block.chunks_exact_mut(depth * height).zip(points.chunks_exact(8)) {
                    to[c * height..][..height].write_copy_of_slice(&from[..height]);
                }
            }
        };
        fresh(POINTS * made * depth, |mut all| {
            let mut blocks = Vec::with_capacity(heights.len());
            let (mut rest, mut first) = (all.cells(), 0);
            for &height in heights {
                let (block, after) = rest.split_at_mut(POINTS * height * depth);
                blocks.push((first, height, block));
                (rest, first) = (after, first + height);
            }
            blocks.into_par_iter().for_each(fill);
            // SAFETY: the blocks are all of it, and each point of each channel that is read has its row of `height` filters.
            unsafe { all.written() }
        })
    }

    /// Points of the tiles of a job: `scratch.points` becomes `[POINTS, depth, pitch]`.
    fn points(&self, grid: &Grid, job: usize, x: &[f32], scratch: &mut Scratch) {
        let pitch = grid.pitch();
        let apart = pitch + SLACK;
        let raw = grown(&mut scratch.raw, POINTS * apart);
        let points = grown(&mut scratch.points, POINTS * self.depth * pitch);
        let tiles = grid.rows_of(job).count() * grid.columns;
        let cutter = Cutter::new(self.level, self.size, self.origin[1], grid.columns, apart);
        for c in 0..self.depth {
            for (r, (n, ty)) in grid.rows_of(job).enumerate() {
                for i in 0..6 {
                    let y = (4 * ty + i) as isize + self.origin[0];
                    cutter.cut(x, n * self.depth + c, y, &mut scratch.line, &mut raw[6 * i * apart + r * grid.columns..]);
                }
            }
            tiles::signals(self.level, raw, tiles, apart, &mut points[c * pitch..], self.depth * pitch);
        }
    }
}

/// Gradient with respect to the weights; overwrites `gw`. The filters are four by four pieces of the output's gradient, the
/// results three by three taps, summed over tiles.
pub fn backward_weight(level: Level, s: &ConvShape, win: &Window2, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    let (depth, channels) = (s.in_channels, s.out_channels);
    let vectors = if channels <= level.lanes() { 1 } else { 2 };
    let wide = vectors * level.lanes();
    let blocks = channels.div_ceil(wide);
    let made = blocks * wide;
    let taps = depth.next_multiple_of(level.taps());
    let grid = Grid::new(s.batch, win.output, POINTS * (depth + made));
    let pitch = grid.pitch();
    let mut offsets: Vec<u32> = (0..depth).map(|c| (c * pitch) as u32).collect();
    offsets.resize(taps, 0);
    let pass = Pass::forward(level, s, win, &[]);
    let jobs = grid.jobs();
    let shares = rayon::current_num_threads().min(jobs);
    // Sums per thread: [POINTS, taps, made].
    let mut sums: Vec<Vec<f32>> = (0..shares)
        .into_par_iter()
        .map(|share| {
            let mut sum = vec![0.0; POINTS * taps * made];
            let mut run = |scratch: &mut Scratch, job: usize| {
                pass.points(&grid, job, x, scratch);
                let tiles = grid.rows_of(job).count() * grid.columns;
                let Scratch { line, raw, points, products, rows } = scratch;
                let points = &points[..POINTS * depth * pitch];
                // The gradient's points, with channels side by side: [POINTS, blocks, tiles, wide].
                let turned = grown(products, POINTS * made * pitch);
                let apart = pitch + SLACK;
                let cutter = Cutter::new(level, win.output, 0, grid.columns, apart);
                let raw = grown(raw, POINTS * apart);
                let eight = grown(rows, POINTS * 8 * pitch);
                for first in (0..made).step_by(8) {
                    for m in first..first + 8 {
                        let points = &mut eight[(m - first) * pitch..];
                        if m >= channels {
                            (0..POINTS).for_each(|p| points[p * 8 * pitch..][..pitch].fill(0.0));
                            continue;
                        }
                        for (r, (n, ty)) in grid.rows_of(job).enumerate() {
                            for i in 0..4 {
                                let to = &mut raw[4 * i * apart + r * grid.columns..];
                                cutter.cut(gy, n * channels + m, (4 * ty + i) as isize, line, to);
                            }
                        }
                        tiles::blocks(level, raw, tiles, apart, points, 8 * pitch);
                    }
                    let (block, inside) = (first / wide, first % wide);
                    for p in 0..POINTS {
                        let to = &mut turned[(p * blocks + block) * wide * pitch + inside..];
                        tiles::turn(level, &eight[p * 8 * pitch..], tiles, pitch, to, wide);
                    }
                }
                let pixels = tile::Pixels { images: 1, apart: 0, rows: 1, width: tiles, pitch: tiles };
                for p in 0..POINTS {
                    for block in 0..blocks {
                        let gy = &turned[(p * blocks + block) * wide * pitch..][..wide * pitch];
                        let sum = &mut sum[p * taps * made + block * wide..];
                        tile::accumulate(level, vectors, &offsets, &points[p * depth * pitch..], pixels, gy, sum, made);
                    }
                }
            };
            (jobs * share / shares..jobs * (share + 1) / shares).for_each(|job| BUFFERS.with_borrow_mut(|scratch| run(scratch, job)));
            sum
        })
        .collect();
    let (first, rest) = sums.split_at_mut(1);
    let sum = &mut first[0];
    for other in rest {
        sum.par_chunks_mut(1 << 14).zip(other.par_chunks(1 << 14)).for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| *a += b));
    }
    let sum = &*sum;
    gw.par_chunks_mut(8 * 9 * depth).enumerate().for_each(|(block, gw)| {
        let mut results = [0.0; 72];
        for c in 0..depth {
            tiles::gradients(level, &sum[c * made + 8 * block..], taps * made, &mut results);
            for (m, gw) in gw.chunks_exact_mut(9 * depth).enumerate() {
                gw[9 * c..][..9].iter_mut().enumerate().for_each(|(k, v)| *v = results[8 * k + m]);
            }
        }
    });
}
