//! Convolution: forward, gradient of the data, gradient of the weights.
//!
//! Work is cut into jobs, each a band of output rows of one image and group. A job copies the input rows that it needs
//! into a padded scratch image (`gather`) in which each tap of the window is a plain offset, and multiplies the weights
//! with shifted views of it (`tile`): the patch matrix of im2col is never stored. The gradient of the data is the same
//! computation on the output's gradient: a part for each phase of the stride, all from one scratch image, whose rows are
//! put together as they are written.

mod gather;
pub(crate) mod shape;
mod single;
mod small;
mod tile;
mod weight;
mod winograd;

#[cfg(test)]
mod tests;

use super::level::Level;
use super::out::Out;
use super::reference;
use super::window::Window2;
use gather::{Gather, SLACK};
use rayon::prelude::*;
use shape::{Shared, shifts};
use std::cell::RefCell;
use std::mem::MaybeUninit;

pub use shape::ConvShape;

/// `y = conv(x, w) + bias`; gives `y`.
///
/// # Panics
/// When a slice does not have the length that `s` says.
pub fn forward<'a>(s: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: impl Into<Out<'a>>) -> &'a mut [f32] {
    let mut y = y.into();
    check(s, x.len(), w.len(), y.len(), bias.map(<[f32]>::len));
    let Some(win) = dense(s) else {
        let y = y.fill(0.0);
        reference::conv(s, x, w, bias, y);
        return y;
    };
    if winograd::suits(s, &win) {
        return winograd::Pass::forward(Level::best(), s, &win, w).run(x, bias, y);
    }
    let (cg, mg) = s.per_group();
    let phases = [0, 1].map(|d| win.stride[d].min((win.kernel[d] - 1) * win.dilation[d] + 1));
    let taps = s.window.kernel_len();
    let stage = Stage {
        batch: s.batch,
        groups: s.groups,
        depth_channels: cg,
        channels: mg,
        size: win.input,
        step: win.stride,
        origin: win.pad.map(|p| -(p as isize)),
        phases,
        output: win.output,
        parts: vec![Part { shifts: shifts(&win), taps: (0..taps).collect() }],
        lattice: Lattice { size: win.output, step: [1, 1], skip: [0, 0] },
    };
    stage.run(x, &Weights { w, group: mg * cg * taps, made: cg * taps, read: taps }, bias, y.cells());
    // SAFETY: the lattice of the only stage is all of `y`.
    unsafe { y.written() }
}

/// Gradient with respect to `x`; overwrites `gx` and gives it.
///
/// # Panics
/// As [`forward`].
pub fn backward_data<'a>(s: &ConvShape, w: &[f32], gy: &[f32], gx: impl Into<Out<'a>>) -> &'a mut [f32] {
    let mut gx = gx.into();
    check(s, gx.len(), w.len(), gy.len(), None);
    let Some(win) = dense(s) else {
        let gx = gx.fill(0.0);
        reference::conv_backward_data(s, w, gy, gx);
        return gx;
    };
    if winograd::suits(s, &win) {
        return winograd::Pass::backward(Level::best(), s, &win, w).run(gy, None, gx);
    }
    let (cg, mg) = s.per_group();
    let taps = s.window.kernel_len();
    // Input position i + pad = step · t + phase receives from outputs t - q through the taps at step · q + phase.
    let all = shifts(&win);
    let steps = [0, 1].map(|d| win.pad[d] / win.stride[d]..(win.input[d] + win.pad[d]).div_ceil(win.stride[d]));
    let q = |t: usize| [0, 1].map(|d| all[t][d] / win.stride[d]);
    let reach = (0..taps).fold([0, 0], |r, t| [0, 1].map(|d| r[d].max(q(t)[d])));
    let phases = (0..win.stride[0]).flat_map(|y| (0..win.stride[1]).map(move |x| [y, x]));
    let part = |phase: [usize; 2]| {
        let mine: Vec<usize> = (0..taps).filter(|&t| (0..2).all(|d| all[t][d] % win.stride[d] == phase[d])).collect();
        Part { shifts: mine.iter().map(|&t| [0, 1].map(|d| reach[d] - q(t)[d])).collect(), taps: mine }
    };
    let stage = Stage {
        batch: s.batch,
        groups: s.groups,
        depth_channels: mg,
        channels: cg,
        size: win.output,
        step: [1, 1],
        origin: [0, 1].map(|d| steps[d].start as isize - reach[d] as isize),
        phases: [1, 1],
        output: [0, 1].map(|d| steps[d].len()),
        parts: phases.map(part).collect(),
        lattice: Lattice { size: win.input, step: win.stride, skip: [0, 1].map(|d| win.pad[d] - win.stride[d] * steps[d].start) },
    };
    stage.run(gy, &Weights { w, group: mg * cg * taps, made: taps, read: cg * taps }, None, gx.cells());
    // SAFETY: each position of the input is in the lattice.
    unsafe { gx.written() }
}

/// Gradient with respect to `w`; overwrites `gw` and gives it.
///
/// # Panics
/// As [`forward`].
pub fn backward_weight<'a>(s: &ConvShape, x: &[f32], gy: &[f32], gw: impl Into<Out<'a>>) -> &'a mut [f32] {
    let gw = gw.into();
    check(s, x.len(), gw.len(), gy.len(), None);
    let gw = gw.fill(0.0);
    add_weight_gradient(s, x, gy, gw);
    gw
}

/// The window, unless it has more than two axes or is sparse, or there is nothing to multiply: the reference, which takes no memory of its own,
/// is for those.
fn dense(s: &ConvShape) -> Option<Window2> {
    let full = s.x_len() > 0 && s.w_len() > 0 && s.y_len() > 0;
    s.window.as_2d().filter(|win| full && !win.is_sparse())
}

/// `gw` is 0.
fn add_weight_gradient(s: &ConvShape, x: &[f32], gy: &[f32], gw: &mut [f32]) {
    let Some(win) = dense(s) else {
        return reference::conv_backward_weight(s, x, gy, gw);
    };
    let (cg, mg) = s.per_group();
    let taps = s.window.kernel_len();
    if s.batch * cg * mg * win.output[0] * win.output[1] == 0 {
        return;
    }
    if small::suits(s, &win) {
        return small::backward_weight(Level::best(), s, &win, x, gy, gw);
    }
    if winograd::suits(s, &win) {
        return winograd::backward_weight(Level::best(), s, &win, x, gy, gw);
    }
    if cg * taps <= 64 && mg < 4 {
        return single::backward_weight(s, &win, x, gy, gw);
    }
    weight::add(s, &win, x, gy, gw);
}

/// Sums of planes per channel, the gradient of a bias: `gy: [batch, channels, plane]`; overwrites `gb`.
///
/// # Panics
/// When `gb` does not have a float per channel.
pub fn sum_planes(channels: usize, plane: usize, gy: &[f32], gb: &mut [f32]) {
    assert_eq!(gb.len(), channels, "length of a bias's gradient");
    gb.fill(0.0);
    if plane == 0 || channels == 0 {
        return;
    }
    let few = (1 << 14) / (gy.len() / channels).max(1) + 1;
    gb.par_iter_mut().enumerate().with_min_len(few).for_each(|(c, sum)| {
        for plane in gy.chunks_exact(plane).skip(c).step_by(channels) {
            *sum += super::norm::sum(plane, |v| v);
        }
    });
}

/// # Panics
/// When the sizes are out of range or the lengths are not those that they say.
fn check(s: &ConvShape, x: usize, w: usize, y: usize, bias: Option<usize>) {
    s.check().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((x, w, y), (s.x_len(), s.w_len(), s.y_len()), "lengths of x, w and y of {s:?}");
    assert!(bias.is_none_or(|n| n == s.out_channels), "a bias of {bias:?} for {} channels", s.out_channels);
}

/// Floats of scratch that a job may use: it should stay in the second-level cache.
const SCRATCH: usize = 48 << 10;

/// Rows per job: as many as fit the cache, fewer when there would not be work for all threads.
fn band_rows(rows: usize, halo: usize, per_row: usize, images: usize, threads: usize) -> usize {
    let fit = (SCRATCH / per_row.max(1)).saturating_sub(halo).max(4);
    let share = if images >= threads { rows } else { (rows * images).div_ceil(2 * threads) };
    let most = fit.min(share).clamp(1, rows);
    rows.div_ceil(rows.div_ceil(most))
}

/// Weights by strides: those of a group, a channel that is made, a channel that is read.
struct Weights<'a> {
    w: &'a [f32],
    group: usize,
    made: usize,
    read: usize,
}

impl Weights<'_> {
    /// Writes the block `[read channels · taps, height]` of the made channels `first..`; zeros beyond `channels`.
    fn pack(&self, taps: &[usize], group: usize, first: usize, channels: usize, height: usize, to: &mut [f32]) {
        if to.is_empty() {
            return;
        }
        let here = height.min(channels - first);
        let start = group * self.group + first * self.made;
        for (c, to) in to.chunks_exact_mut(taps.len() * height).enumerate() {
            for (&tap, to) in taps.iter().zip(to.chunks_exact_mut(height)) {
                let from = start + c * self.read + tap;
                for (r, v) in to.iter_mut().enumerate() {
                    *v = if r < here { self.w[from + r * self.made] } else { 0.0 };
                }
            }
        }
    }
}

/// Results at places of one phase: the taps that make them, and where these read after the position of a result.
struct Part {
    shifts: Vec<[usize; 2]>,
    taps: Vec<usize>,
}

/// Where results go: element `(t, u)` of the part of phase `(y, x)` to row `step[0] · t + y - skip[0]` and column
/// `step[1] · u + x - skip[1]` of planes of `size`, or nowhere when these lie outside.
struct Lattice {
    size: [usize; 2],
    step: [usize; 2],
    skip: [usize; 2],
}

/// Buffers of a job.
#[derive(Default)]
struct Scratch {
    image: Vec<f32>,
    /// Results, or what they are summed with.
    out: Vec<f32>,
    line: Vec<f32>,
}

thread_local! {
    /// Buffers of a thread: fresh ones would cost a page fault for each page.
    static BUFFERS: RefCell<Scratch> = RefCell::default();
}

/// One pass of shifted multiplications over a batch.
struct Stage {
    batch: usize,
    groups: usize,
    /// Channels per group of what is read, and of what is made.
    depth_channels: usize,
    channels: usize,
    /// Height and width of what is read.
    size: [usize; 2],
    step: [usize; 2],
    origin: [isize; 2],
    phases: [usize; 2],
    /// Rows and columns of each part.
    output: [usize; 2],
    /// One for each phase of the lattice, row by row.
    parts: Vec<Part>,
    lattice: Lattice,
}

impl Stage {
    /// True when each result is made of the elements at its own position.
    fn is_plain(&self) -> bool {
        let whole = self.size == self.output && self.size == self.lattice.size && self.parts.iter().all(|p| p.shifts == [[0, 0]]);
        whole && self.origin == [0, 0] && self.step == [1, 1] && self.lattice.step == [1, 1]
    }
    /// Writes every element of the lattice of every channel.
    fn run(&self, x: &[f32], weights: &Weights<'_>, bias: Option<&[f32]>, y: &mut [MaybeUninit<f32>]) {
        let [out_rows, out_columns] = self.output;
        if self.batch * self.channels * out_rows * out_columns == 0 {
            return;
        }
        let level = Level::best();
        let alone = self.channels == 1;
        let heights = if alone { vec![1] } else { level.heights(self.channels) };
        let made: usize = heights.iter().sum();
        let taps: usize = self.parts.iter().map(|p| p.taps.len()).sum();
        let depth = self.depth_channels * taps;
        let farthest = |d: usize| self.parts.iter().flat_map(|p| &p.shifts).map(|t| t[d] / self.step[d]).max().unwrap_or(0);
        let (halo, pitch) = (farthest(0), out_columns + farthest(1));
        // For each group and part the blocks of heights.
        let mut packed = vec![0.0; self.groups * made * depth];
        let mut blocks = Vec::with_capacity(self.groups * self.parts.len() * heights.len());
        let mut rest = packed.as_mut_slice();
        for g in 0..self.groups {
            for part in &self.parts {
                let mut first = 0;
                for &height in &heights {
                    let (block, after) = rest.split_at_mut(height * self.depth_channels * part.taps.len());
                    blocks.push((g, &part.taps, first, height, block));
                    (rest, first) = (after, first + height);
                }
            }
        }
        blocks
            .into_par_iter()
            .with_min_len((1 << 14) / (depth * 4).max(1) + 1)
            .for_each(|(g, taps, first, height, block)| weights.pack(taps, g, first, self.channels, height, block));
        let (area, place) = (self.size[0] * self.size[1], self.lattice.size[0] * self.lattice.size[1]);
        assert_eq!(y.len(), self.batch * self.groups * self.channels * place, "length of a convolution's result");
        let busy = self.batch * self.groups >= rayon::current_num_threads();
        if busy && depth > 0 && self.is_plain() && made == self.channels && !alone && area.is_multiple_of(level.lanes()) {
            // Results can be made where they go. Pieces of what is read are copied all the same: planes of most sizes would
            // share few sets of the cache.
            let most = (SCRATCH / depth.max(1)).next_multiple_of(64).min(area);
            let images = y.par_chunks_mut(made * area).zip(x.par_chunks(depth * area));
            return images.enumerate().for_each(|(ng, (y, x))| {
                let g = ng % self.groups;
                let packed = &packed[g * made * depth..][..made * depth];
                let mut run = |Scratch { image, .. }: &mut Scratch, first: usize| {
                    let len = most.min(area - first);
                    let gather = Gather { size: [1, area], step: [1, 1], origin: [0, first as isize], phases: [1, 1], rows: 1, pitch: len };
                    gather.copy(depth, x, image);
                    let offsets: Vec<u32> = (0..depth).map(|c| (c * gather.channel()) as u32).collect();
                    tile::multiply(level, &heights, &offsets, packed, image, len, &mut y[first..], area);
                };
                (0..area).step_by(most).for_each(|first| BUFFERS.with_borrow_mut(|buffers| run(buffers, first)));
                if let Some(bias) = bias {
                    // SAFETY: the rows of the tiles are as long as the area, a multiple of a vector, and all were made.
                    let y = unsafe { y.assume_init_mut() };
                    let planes = y.chunks_exact_mut(area).zip(&bias[g * made..]);
                    planes.for_each(|(y, b)| y.iter_mut().for_each(|v| *v += b));
                }
            });
        }
        let per_row = (self.depth_channels * self.phases[0] * self.phases[1] * pitch).max(self.parts.len() * made * pitch);
        let rows = band_rows(out_rows, halo, per_row, self.batch * self.groups, rayon::current_num_threads());
        let bands = out_rows.div_ceil(rows);
        let shared = Shared(y.as_mut_ptr().cast(), y.len());
        let shared = &shared;
        let [high, wide] = self.lattice.size;
        let job = |scratch: &mut Scratch, job: usize| {
            let Scratch { image, out, line } = scratch;
            let (ng, first) = (job / bands, job % bands * rows);
            let g = ng % self.groups;
            let count = rows.min(out_rows - first);
            let gather = Gather {
                size: self.size,
                step: self.step,
                origin: [self.origin[0] + (first * self.step[0]) as isize, self.origin[1]],
                phases: self.phases,
                rows: count + halo,
                pitch,
            };
            gather.copy(self.depth_channels, &x[ng * self.depth_channels * area..][..self.depth_channels * area], image);
            let len = (count - 1) * pitch + out_columns;
            let ld = len.next_multiple_of(SLACK);
            let out = grown(out, self.parts.len() * made * ld);
            let mut packed = &packed[g * made * depth..][..made * depth];
            for (part, out) in self.parts.iter().zip(out.chunks_exact_mut(made * ld)) {
                let offset = |c: usize, t: [usize; 2]| (c * gather.channel() + gather.offset(t)) as u32;
                let offsets: Vec<u32> = (0..self.depth_channels).flat_map(|c| part.shifts.iter().map(move |&t| offset(c, t))).collect();
                let (mine, after) = packed.split_at(made * offsets.len());
                packed = after;
                if alone {
                    single::multiply(&offsets, mine, image, len, out);
                } else {
                    tile::multiply(level, &heights, &offsets, mine, image, len, Out::from(out).cells(), ld);
                }
            }
            let [step_y, step_x] = self.lattice.step;
            let line = grown(line, step_x * out_columns);
            for m in 0..self.channels {
                let bias = bias.map_or(0.0, |b| b[g * self.channels + m]);
                for t in 0..count {
                    for phase in 0..step_y {
                        let row = (step_y * (first + t) + phase).checked_sub(self.lattice.skip[0]).filter(|&row| row < high);
                        let Some(row) = row else { continue };
                        let of = |x: usize| &out[((phase * step_x + x) * made + m) * ld + t * pitch..][..out_columns];
                        let from = match step_x {
                            1 => of(0),
                            2 => {
                                gather::join(of(0), of(1), line);
                                &*line
                            }
                            _ => {
                                for x in 0..step_x {
                                    line.iter_mut().skip(x).step_by(step_x).zip(of(x)).for_each(|(to, v)| *to = *v);
                                }
                                &*line
                            }
                        };
                        let from = &from[self.lattice.skip[1]..][..wide];
                        let at = (ng * self.channels + m) * place + row * wide;
                        assert!(at + wide <= shared.1, "place of a convolution's result");
                        // SAFETY: the assertion bounds the row by the result, and no two jobs, channels or rows share one: a
                        // job is an image, a group and a band of rows.
                        let to = unsafe { std::slice::from_raw_parts_mut(shared.0.add(at).cast::<MaybeUninit<f32>>(), wide) };
                        to.iter_mut().zip(from).for_each(|(y, v)| {
                            y.write(v + bias);
                        });
                    }
                }
            }
        };
        let jobs = self.batch * self.groups * bands;
        // Many tiny jobs (depthwise convolutions) are handed out several at a time.
        let work = depth * self.channels * rows * out_columns;
        (0..jobs)
            .into_par_iter()
            .with_min_len((1 << 16) / work.max(1) + 1)
            .for_each(|i| BUFFERS.with_borrow_mut(|scratch| job(scratch, i)));
    }
}

/// The first `len` floats of a buffer that grows where it must.
fn grown(v: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if v.len() < len {
        v.resize(len, 0.0);
    }
    &mut v[..len]
}
