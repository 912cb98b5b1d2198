//! Convolution as a product of matrices in blocks: a slice of the weights that fits the first-level cache meets many tiles of
//! pixels before the next slice is read, and its successor is fetched meanwhile.

pub mod kernel;
#[cfg(test)]
mod tests;

use super::finish::{self, Channels, Finish};
use super::job::{Args, Job, about, parts_for, share};
use super::memory::Aligned;
use super::operand::Operands;
use super::patches::{Patches, Pixels};
use super::spec::{Before, Bounds, ConvSpec, UNBOUNDED, bounds};
use super::tile::COLUMNS;
use crate::activation::Activation;
use crate::level::Level;
use crate::window::Window2;
use kernel::{Part, Places, Shape};
use std::ops::Range;

/// Weights that stay in the first-level cache.
const NEAR_WEIGHTS: usize = 9 << 10;
/// Most values of the depth that are summed before sums are put aside.
const DEPTH: usize = 256;
/// Bytes of pixels that stay in the second-level cache with the sums of their tiles.
const CACHED_PIXELS: usize = 160 << 10;
/// Bytes of weights from which on a thread had better keep to its own.
const CACHED_WEIGHTS: usize = 256 << 10;
/// Operations that take about as long as it takes to read a weight that no cache holds.
const PER_WEIGHT: usize = 64;
/// Threads beyond which parts are as small as they get.
const MOST_PARTS: usize = 1 << 10;
/// Most tiles of a block.
const TILES: usize = 32;
/// Input channels from which on a tap is long enough for a loop of its own.
const LONG_TAP: usize = 8;

/// A convolution of one group over an image with its channels last.
pub struct Packed {
    spec: ConvSpec,
    operands: Operands,
    patches: Patches,
    panels: Vec<Panel>,
    /// All panels, `[taps, in, columns]` each.
    weights: Aligned,
    /// Of each output channel, and zeros behind them.
    bias: Vec<f32>,
    /// A pixel of the padding.
    zeros: Vec<f32>,
    slices: Vec<Slice>,
    /// Taps of a row of the window that lie inside the image are one run.
    joined: bool,
    shape: Shape,
    /// Rows of a full tile.
    rows: usize,
    /// Columns of the widest panel.
    widest: usize,
    /// Tiles of a block.
    tiles: usize,
    /// Parts by pixels and by panels.
    parts: [usize; 2],
    /// What follows a sum, where bounds are all that does.
    bounds: Option<[Bounds; 2]>,
    finish: Finish,
    before: Option<Prepared>,
}

/// What happens to the values of the image.
struct Prepared {
    scale: Vec<f32>,
    shift: Vec<f32>,
    bounds: Bounds,
    /// The last input has a factor for each channel.
    factor: bool,
}

/// Output channels that are computed together.
struct Panel {
    channels: Channels,
    vectors: usize,
    /// Where its weights start.
    at: usize,
}

/// A part of the depth: some taps, or values of one.
struct Slice {
    taps: Range<usize>,
    values: Range<usize>,
    /// Values of the depth before it.
    before: usize,
}

impl Packed {
    /// True for convolutions that this algorithm computes.
    pub fn fits(spec: &ConvSpec) -> bool {
        spec.groups == 1 && spec.input.channel == 1 && spec.input.channels >= LONG_TAP
    }

    /// For a spec that [`Packed::fits`], with its operands.
    pub fn new(level: Level, spec: &ConvSpec, operands: Operands, weights: &[f32], bias: Option<&[f32]>, threads: usize) -> Self {
        Self::shaped(Shape::of(level), finish::kernel(level), spec, operands, weights, bias, threads)
    }

    /// By kernels of the machine's instructions.
    fn shaped(
        shape: Shape,
        finish: Finish,
        spec: &ConvSpec,
        operands: Operands,
        weights: &[f32],
        bias: Option<&[f32]>,
        threads: usize,
    ) -> Self {
        let (w, x, y) = (&spec.window, &spec.input, &spec.output);
        let patches = Patches::new(spec);
        let (taps, ins, outs) = (patches.taps(), x.channels, y.channels);
        let (lanes, pixels) = (shape.lanes, y.height * y.width);
        let cut = shape.cut(pixels.div_ceil(threads.clamp(1, MOST_PARTS)), outs);
        let rows = cut.rows;
        let widest = lanes * cut.panels.iter().max().copied().unwrap_or(1);
        let (mut panels, mut packed) = (Vec::new(), Vec::new());
        let mut first = 0;
        for vectors in cut.panels {
            let (columns, count) = (vectors * lanes, (outs - first).min(vectors * lanes));
            panels.push(Panel { channels: Channels { first, count }, vectors, at: packed.len() });
            for k in 0..taps * ins {
                let weight = |m: usize| weights[((first + m) * ins + k % ins) * taps + k / ins];
                packed.extend((0..columns).map(|m| if m < count { weight(m) } else { 0.0 }));
            }
            first += count;
        }
        let mut biases = vec![0.0; outs + widest];
        if let Some(bias) = bias {
            biases[..outs].copy_from_slice(bias);
        }
        let depth = (NEAR_WEIGHTS / widest).min(DEPTH);
        let joined = x.pixel == ins && w.dilation[1] == 1 && w.kernel[1] * ins <= depth;
        let slices = slices(taps, ins, if joined { w.kernel[1] } else { 1 }, depth);
        let bytes = size_of_val(&packed[..]);
        let wanted = parts_for(about(&[(2 * pixels).max(PER_WEIGHT), weights.len()]), threads);
        // Pixels are cut first, panels when there are too few pixels or when a thread had better keep to its own weights.
        let by_panels = |n: usize| n.min(panels.len()).max(1);
        let by_pixels = |n: usize| n.min(pixels.div_ceil(2 * rows)).max(1);
        let parts = if bytes > CACHED_WEIGHTS {
            let panels = by_panels(wanted);
            [by_pixels(wanted.div_ceil(panels)), panels]
        } else {
            let pixels = by_pixels(wanted);
            [pixels, by_panels(wanted.div_ceil(pixels))]
        };
        let tiles = (CACHED_PIXELS / (size_of::<f32>() * rows * taps * ins)).clamp(4, TILES);
        Self {
            spec: *spec,
            operands,
            patches,
            panels,
            weights: Aligned::new(&packed),
            bias: biases,
            zeros: vec![0.0; ins],
            slices,
            joined,
            shape,
            rows,
            widest,
            tiles,
            parts,
            bounds: bounds(spec.epilogue.act).zip(bounds(spec.epilogue.then)).map(|(act, then)| [act, then]),
            finish,
            before: None,
        }
    }

    /// True for convolutions that can work out values of the image as they read them.
    pub fn prepares(window: &Window2, groups: usize, channels: usize, act: Option<Activation>) -> bool {
        let inside = |d: usize| window.pad[d] == 0 && window.output[d].saturating_sub(1).saturating_mul(window.stride[d]) < window.input[d];
        window.kernel == [1, 1] && inside(0) && inside(1) && groups == 1 && channels >= LONG_TAP && bounds(act).is_some()
    }

    /// The same on values that are worked out first, for one that [`Packed::prepares`].
    pub fn after(self, before: &Before<'_>, threads: usize) -> Self {
        let channels = self.spec.input.channels;
        let all = |given: Option<&[f32]>, other: f32| given.map_or_else(|| vec![other; channels], <[f32]>::to_vec);
        let prepared = Prepared {
            scale: all(before.scale, 1.0),
            shift: all(before.shift, 0.0),
            bounds: bounds(before.act).unwrap_or(UNBOUNDED),
            factor: before.factor.is_some(),
        };
        // Every part by panels works all values out.
        let panels = self.parts[1].min(threads.max(1));
        Self { before: Some(prepared), parts: [self.parts[0], panels], ..self }
    }

    /// Floats of the pixels of a tile that are worked out.
    fn prepared(&self) -> usize {
        if self.before.is_some() { self.rows * self.spec.input.channels } else { 0 }
    }
    /// Floats of the factors and scales that are multiplied first.
    fn factors(&self) -> usize {
        if self.before.as_ref().is_some_and(|b| b.factor) { self.spec.input.channels.next_multiple_of(16) } else { 0 }
    }

    /// Floats of the sums of a tile.
    fn sums(&self) -> usize {
        self.rows * self.widest
    }
    /// Addresses of the taps of a tile: whole cache lines of them.
    fn table(&self) -> usize {
        (self.patches.taps() * self.rows).next_multiple_of(16)
    }
}

/// Cuts the depth into nearly equal parts, of at most `depth` values, of whole rows of `together` taps, or into parts of taps where one is long.
fn slices(taps: usize, ins: usize, together: usize, depth: usize) -> Vec<Slice> {
    let row = together * ins;
    if row <= depth {
        let rows = taps / together;
        let parts = rows.div_ceil(depth / row);
        let cut = |part: usize| {
            let rows = share(rows, part, parts);
            Slice { taps: rows.start * together..rows.end * together, values: 0..ins, before: rows.start * row }
        };
        return (0..parts).map(cut).collect();
    }
    let parts = ins.div_ceil(depth);
    let cut = |i: usize| {
        let (tap, values) = (i / parts, share(ins, i % parts, parts));
        Slice { taps: tap..tap + 1, before: tap * ins + values.start, values }
    };
    (0..taps * parts).map(cut).collect()
}

/// A tile of pixels.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    /// The table holds an address for each row of the window, not for each tap.
    joined: bool,
    to: [*mut f32; kernel::ROWS],
    residual: [*const f32; kernel::ROWS],
}

/// Memory for a block of tiles.
struct Workspace<'a> {
    tiles: [Tile; TILES],
    /// Addresses of taps.
    tables: &'a mut [*const f32],
    /// Sums of all tiles, of the slices before.
    sums: *mut f32,
    /// Pixels that are worked out, of all tiles.
    pixels: *mut f32,
    scale: &'a [f32],
    whole: [finish::Sums; kernel::VECTORS],
}

impl Packed {
    /// Finds the pixels of the `i`-th tile of a block.
    ///
    /// # Safety
    /// As [`Job::run`].
    unsafe fn place(&self, i: usize, pixels: Range<usize>, args: Args<'_>, work: &mut Workspace<'_>) {
        let mut at = Pixels::new();
        let n = pixels.len();
        let inside = at.place(&self.patches, pixels, args);
        let (tile, table) = (&mut work.tiles[i], &mut work.tables[i * self.table()..][..self.table()]);
        tile.rows = n;
        tile.joined = self.joined && inside;
        tile.to.copy_from_slice(&at.to[..kernel::ROWS]);
        tile.residual.copy_from_slice(&at.residual[..kernel::ROWS]);
        if let Some(before) = &self.before {
            let ins = self.spec.input.channels;
            let values = kernel::Before { scale: work.scale, shift: &before.shift, bounds: before.bounds };
            for (r, (t, &from)) in table.iter_mut().zip(&at.first).enumerate().take(n) {
                let to = work.pixels.wrapping_add((i * self.rows + r) * ins);
                // SAFETY: windows of one tap without padding lie inside the image, whose memory the caller vouches for, and the
                // scratch has room for all pixels of all tiles.
                unsafe { (self.shape.prepare)(&values, from, to) };
                *t = to;
            }
        } else if inside {
            let step = if tile.joined { self.spec.window.kernel[1] } else { 1 };
            let offsets = self.patches.offsets().iter().step_by(step);
            for (row, &offset) in table.chunks_exact_mut(n).zip(offsets) {
                row.iter_mut().zip(&at.first).for_each(|(t, &f)| *t = f.wrapping_add(offset));
            }
        } else {
            for (k, row) in table.chunks_exact_mut(n).take(self.patches.taps()).enumerate() {
                for (t, &corner) in row.iter_mut().zip(&at.corners) {
                    *t = self.patches.tap(args.inputs[0].cast(), corner, k).unwrap_or(self.zeros.as_ptr());
                }
            }
        }
    }

    /// Adds a slice of the depth to the sums of a tile for a panel; the last one makes the results.
    ///
    /// # Safety
    /// As [`Job::run`]; the tile has been placed.
    unsafe fn multiply(&self, i: usize, panel: usize, slice: usize, ahead: (*const f32, usize), work: &mut Workspace<'_>) {
        let (tile, p, s) = (&work.tiles[i], &self.panels[panel], &self.slices[slice]);
        let (n, columns, ins) = (tile.rows, p.vectors * self.shape.lanes, self.spec.input.channels);
        let table = &work.tables[i * self.table()..][..self.table()];
        let (runs, depth) = if tile.joined {
            let kw = self.spec.window.kernel[1];
            (s.taps.start / kw..s.taps.end / kw, kw * ins)
        } else {
            (s.taps.clone(), s.values.len())
        };
        let wide = self.widest;
        let sums = work.sums.wrapping_add(i * self.sums());
        let start = if slice == 0 {
            Places { first: self.bias[p.channels.first..].as_ptr(), row: 0, apart: self.shape.lanes }
        } else {
            Places { first: sums, row: wide, apart: self.shape.lanes }
        };
        let part = Part {
            table: &table[runs.start * n..runs.end * n],
            skip: s.values.start,
            depth,
            weights: self.weights[p.at + s.before * columns..].as_ptr(),
            start,
            ahead,
        };
        let kernels = self.shape.kernels(p.vectors);
        // SAFETY: the table points at taps inside the image or at the zeros, weights and bias are as deep and wide as the kernel
        // reads, a tile's sums have room for all of its rows, and the panel's channels are inside output and residual.
        unsafe {
            if slice + 1 < self.slices.len() {
                return kernels.add[n - 1](&part, kernel::Sums { first: sums, row: wide, apart: self.shape.lanes });
            }
            if let Some([act, then]) = self.bounds
                && p.channels.count == columns
            {
                let residual = if self.spec.residual.is_some() { &tile.residual[..n] } else { &[] };
                let to = kernel::Pixels { to: &tile.to[..n], residual, first: p.channels.first, act, then };
                return kernels.finish[n - 1](&part, &to);
            }
            // Sixteen columns lie together, as those who finish them want them.
            let apart = if self.shape.lanes == COLUMNS { COLUMNS * COLUMNS } else { self.shape.lanes };
            let first = work.whole.as_mut_ptr().cast::<f32>();
            kernels.add[n - 1](&part, kernel::Sums { first, row: COLUMNS, apart });
            for (v, sums) in work.whole.iter_mut().enumerate().take(columns.div_ceil(COLUMNS)) {
                let first = p.channels.first + v * COLUMNS;
                let count = (p.channels.count - v * COLUMNS).min(COLUMNS);
                (self.finish)(&self.spec.epilogue, sums, &tile.to[..n], &tile.residual[..n], Channels { first, count });
            }
        }
    }
}

impl Job for Packed {
    fn name(&self) -> String {
        self.spec.name(if self.before.is_some() { "packed after scaling" } else { "packed" })
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.parts[0] * self.parts[1]
    }
    fn scratch(&self) -> usize {
        let floats = self.tiles * (self.sums() + self.prepared()) + self.factors();
        self.tiles * self.table() * size_of::<*const f32>() + floats.next_multiple_of(2) * size_of::<f32>()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let pixels = share(self.spec.output.height * self.spec.output.width, part % self.parts[0], self.parts[0]);
        let panels = share(self.panels.len(), part / self.parts[0], self.parts[1]);
        let (tables, count) = (scratch.cast::<*const f32>(), self.tiles * self.table());
        let sums = tables.wrapping_add(count).cast::<f32>();
        let pixels_at = sums.wrapping_add(self.tiles * self.sums());
        let factors = pixels_at.wrapping_add(self.tiles * self.prepared());
        // SAFETY: the scratch begins with the tables and is aligned; null addresses initialize them.
        let tables = unsafe {
            tables.write_bytes(0, count);
            std::slice::from_raw_parts_mut(tables, count)
        };
        let none = Tile { rows: 0, joined: false, to: [std::ptr::null_mut(); kernel::ROWS], residual: [std::ptr::null(); kernel::ROWS] };
        let whole = [const { finish::Sums([[0.0; COLUMNS]; 16]) }; kernel::VECTORS];
        let scale = match &self.before {
            None => &[],
            Some(before) if before.factor => {
                let given = args.inputs[args.inputs.len() - 1].cast::<f32>();
                for (c, scale) in before.scale.iter().enumerate() {
                    // SAFETY: the last input has a number for each channel, and the scratch has room for as many.
                    unsafe { factors.add(c).write(scale * *given.add(c)) };
                }
                // SAFETY: all of them have been written.
                unsafe { std::slice::from_raw_parts(factors, before.scale.len()) }
            }
            Some(before) => &before.scale[..],
        };
        let mut work = Workspace { tiles: [none; TILES], tables, sums, pixels: pixels_at, scale, whole };
        // Tiles of nearly equal heights, in blocks of nearly equal numbers.
        let tiles = pixels.len().div_ceil(self.rows);
        let blocks = tiles.div_ceil(self.tiles);
        for block in 0..blocks {
            let block = share(tiles, block, blocks);
            for (i, tile) in block.clone().enumerate() {
                let rows = share(pixels.len(), tile, tiles);
                // SAFETY: as the caller vouches.
                unsafe { self.place(i, pixels.start + rows.start..pixels.start + rows.end, args, &mut work) };
            }
            for panel in panels.clone() {
                for (slice, s) in self.slices.iter().enumerate() {
                    // The slice after this one, of which each tile fetches a share.
                    let columns = self.panels[panel].vectors * self.shape.lanes;
                    let length = s.values.len() * s.taps.len() * columns;
                    let next = self.weights.as_ptr().wrapping_add(self.panels[panel].at + s.before * columns + length);
                    for i in 0..block.len() {
                        let ahead = (next.wrapping_add(share(length, i, block.len()).start), columns.div_ceil(block.len()));
                        // SAFETY: as the caller vouches; the tiles are those placed above.
                        unsafe { self.multiply(i, panel, slice, ahead, &mut work) };
                    }
                }
            }
        }
    }
}
