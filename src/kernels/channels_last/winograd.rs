//! Minimal filtering: 4×4 outputs of a 3×3 kernel by 36 multiplications per channel pair instead of 144.
//!
//! Tiles of 6×6 input pixels are transformed to 36 values ("points") per channel; each point of all tiles is a matrix
//! that is multiplied with the transformed weights of that point; the inverse transform gives tiles of 4×4 pixels.

mod transform;

use super::finish::{self, Channels, Finish, Sums};
use super::job::{Args, Job, about, parts_for, share};
use super::memory::Aligned;
use super::operand::Operands;
use super::packed::kernel::{Part, Places, ROWS, Shape, Sums as Products};
use super::spec::ConvSpec;
use super::tile::COLUMNS;
use crate::level::Level;
use std::ops::Range;
use transform::{Input, Output, POINTS};

/// Bytes of transformed values of tiles that are worked on together.
const CACHED: usize = 320 << 10;
/// Output channels that are worked on together.
const BLOCK: usize = 64;

pub struct Winograd {
    spec: ConvSpec,
    operands: Operands,
    /// Tiles down and across.
    tiles: [usize; 2],
    panels: Vec<Panel>,
    /// Columns of the widest panel.
    widest: usize,
    /// `[points, panels, in, columns]`
    packed: Aligned,
    /// `[panels, widest]`
    bias: Vec<f32>,
    zeros: Vec<f32>,
    shape: Shape,
    /// Tiles that are multiplied together.
    rows: usize,
    input: Input,
    output: Output,
    finish: Finish,
    /// Most image tiles that are worked on together.
    batch: usize,
    /// Parts by tiles and by panels.
    parts: [usize; 2],
}

/// Output channels that are multiplied together, some vectors of them.
#[derive(Clone, Copy)]
struct Panel {
    channels: Channels,
    columns: usize,
    /// Where its weights start among those of a point.
    at: usize,
}

impl Winograd {
    /// True for convolutions that this algorithm computes.
    pub fn fits(spec: &ConvSpec) -> bool {
        let w = &spec.window;
        w.kernel == [3, 3] && w.stride == [1, 1] && w.dilation == [1, 1] && spec.groups == 1 && spec.input.channel == 1
    }

    /// True when it is faster than the sum over all taps.
    pub fn pays(spec: &ConvSpec) -> bool {
        /// Channels from which on fewer multiplications are worth the transforms.
        const CHANNELS: usize = 8;
        /// Weights, four times as many as given, that are read for few tiles.
        const WEIGHTS: usize = 2 << 20;
        let (ins, outs) = (spec.input.channels, spec.output.channels);
        let tiles = spec.output.height.div_ceil(4) * spec.output.width.div_ceil(4);
        Self::fits(spec) && ins.min(outs) >= CHANNELS && (tiles >= 8 || about(&[POINTS, ins, outs]) <= WEIGHTS)
    }

    /// For a spec that [`Winograd::fits`], with its operands.
    pub fn new(level: Level, spec: &ConvSpec, operands: Operands, weights: &[f32], bias: Option<&[f32]>, threads: usize) -> Self {
        let (ins, outs) = (spec.input.channels, spec.output.channels);
        let shape = Shape::of(level);
        let tiles = [spec.output.height.div_ceil(4), spec.output.width.div_ceil(4)];
        let count = tiles[0] * tiles[1];
        let cut = shape.cut(count, outs);
        let (rows, widest) = (cut.rows, shape.lanes * cut.panels.iter().max().copied().unwrap_or(1));
        let mut panels = Vec::new();
        let (mut first, mut at) = (0, 0);
        for columns in cut.panels.iter().map(|vectors| vectors * shape.lanes) {
            panels.push(Panel { channels: Channels { first, count: columns.min(outs - first) }, columns, at });
            first += columns;
            at += columns * ins;
        }
        let mut packed = vec![0.0; POINTS * at];
        let mut biases = vec![0.0; panels.len() * widest];
        for (i, panel) in panels.iter().enumerate() {
            for m in 0..panel.channels.count {
                let out = panel.channels.first + m;
                biases[i * widest + m] = bias.map_or(0.0, |b| b[out]);
                for c in 0..ins {
                    let kernel = std::array::from_fn(|k| f64::from(weights[(out * ins + c) * 9 + k]));
                    for (point, v) in transform::weights(&kernel).into_iter().enumerate() {
                        packed[point * at + panel.at + c * panel.columns + m] = v as f32;
                    }
                }
            }
        }
        let padded = ins.next_multiple_of(COLUMNS).max(widest);
        let each = POINTS * size_of::<f32>() * (padded + BLOCK.min(panels.len() * widest));
        let batch = (CACHED / each / rows).max(2) * rows;
        let wanted = parts_for(about(&[count, POINTS, ins, outs, 2]), threads);
        // Cut by tiles when each part gets enough of them, by channels otherwise.
        let by_tiles = wanted.min(count / batch).max(1);
        let parts = [by_tiles, threads.min(wanted).div_ceil(by_tiles).min(panels.len()).max(1)];
        let (input, output) = transform::transforms(level);
        Self {
            spec: *spec,
            operands,
            tiles,
            panels,
            widest,
            packed: Aligned::new(&packed),
            bias: biases,
            zeros: vec![0.0; padded],
            shape,
            rows,
            input,
            output,
            finish: finish::kernel(level),
            batch,
            parts,
        }
    }

    /// Tiles that are worked on together when there are `n`: about the batch, all about the same.
    fn batches(&self, n: usize) -> usize {
        ((n + self.batch / 2) / self.batch).max(1)
    }
    /// Most tiles of a batch.
    fn most(&self) -> usize {
        let n = (self.tiles[0] * self.tiles[1]).div_ceil(self.parts[0]);
        (0..2).map(|less| (n - less.min(n)).div_ceil(self.batches(n - less.min(n)))).max().unwrap_or(0)
    }
    /// Floats from point to point of transformed inputs and of products; never a power of two, which would crowd few
    /// cache lines.
    fn planes(&self) -> [usize; 2] {
        self.widths().map(|width| self.most() * width + COLUMNS)
    }
    /// Floats from tile to tile of them.
    fn widths(&self) -> [usize; 2] {
        [self.zeros.len(), BLOCK.min(self.panels.len() * self.widest)]
    }

    /// Transforms the 6×6 pixels of a tile.
    ///
    /// # Safety
    /// As [`Job::run`]; `to` can be written.
    unsafe fn transform(&self, tile: usize, from: *const f32, to: *mut f32, plane: usize) {
        let (w, view) = (&self.spec.window, &self.spec.input);
        let (ty, tx) = (tile / self.tiles[1], tile % self.tiles[1]);
        let corner = [(ty * 4) as isize - w.pad[0] as isize, (tx * 4) as isize - w.pad[1] as isize];
        let inside = |d: usize, at: isize| at >= 0 && at < w.input[d] as isize;
        let first = from.wrapping_offset(corner[0] * view.row as isize + corner[1] * view.pixel as isize);
        let all = [0, 1].iter().all(|&d| inside(d, corner[d]) && inside(d, corner[d] + 5));
        let mut pixels = [self.zeros.as_ptr(); POINTS];
        for (y, row) in pixels.as_chunks_mut::<6>().0.iter_mut().enumerate() {
            if all || inside(0, corner[0] + y as isize) {
                let first = first.wrapping_add(y * view.row);
                for (x, pixel) in row.iter_mut().enumerate() {
                    if all || inside(1, corner[1] + x as isize) {
                        *pixel = first.wrapping_add(x * view.pixel);
                    }
                }
            }
        }
        // SAFETY: each pixel is inside the image, or the zeros.
        unsafe { (self.input)(&pixels, view.channels, to, plane) };
    }

    /// Makes the pixels of a tile from the products of a panel.
    ///
    /// # Safety
    /// As [`Job::run`]; `from` can be read.
    unsafe fn finish(&self, tile: usize, panel: usize, from: *const f32, plane: usize, sums: &mut Sums, args: Args<'_>) {
        let Panel { channels, columns, .. } = self.panels[panel];
        let s = &self.spec;
        let (y, x) = (tile / self.tiles[1] * 4, tile % self.tiles[1] * 4);
        let [height, width] = [(s.output.height - y).min(4), (s.output.width - x).min(4)];
        let (mut to, mut residual) = ([std::ptr::null_mut(); 16], [std::ptr::null(); 16]);
        for dy in 0..height {
            let row = dy * width;
            let first = args.outputs[0].cast::<f32>().wrapping_add((y + dy) * s.output.row + x * s.output.pixel);
            to[row..][..width].iter_mut().enumerate().for_each(|(i, to)| *to = first.wrapping_add(i * s.output.pixel));
            if let Some(v) = &s.residual {
                let first = args.inputs[1].cast::<f32>().wrapping_add((y + dy) * v.row + x * v.pixel);
                residual[row..][..width].iter_mut().enumerate().for_each(|(i, from)| *from = first.wrapping_add(i * v.pixel));
            }
        }
        let pixels = height * width;
        for at in (0..channels.count).step_by(COLUMNS) {
            let bias = self.bias[panel * self.widest + at..].as_ptr();
            let some = Channels { first: channels.first + at, count: (channels.count - at).min(COLUMNS) };
            // SAFETY: the products of all columns of the panel are there; pixels and channels are inside output and residual.
            unsafe {
                (self.output)(from.wrapping_add(at), plane, columns.min(COLUMNS), bias, sums);
                if width < 4 {
                    (0..pixels).for_each(|i| sums.0[i] = sums.0[i / width * 4 + i % width]);
                }
                (self.finish)(&s.epilogue, sums, &to[..pixels], &residual[..pixels], some);
            }
        }
    }

    /// Multiplies the values of `n` tiles with the weights of some panels.
    ///
    /// # Safety
    /// The scratch areas hold so many tiles.
    unsafe fn multiply(&self, n: usize, panels: Range<usize>, values: *const f32, products: *mut f32) {
        let (ins, [plane_in, plane_out]) = (self.spec.input.channels, self.planes());
        let [width_in, width_out] = self.widths();
        let per_point = self.packed.len() / POINTS;
        let groups = n.div_ceil(self.rows);
        let lanes = self.shape.lanes;
        for point in 0..POINTS {
            for (i, panel) in self.panels[panels.clone()].iter().enumerate() {
                let kernels = self.shape.kernels(panel.columns.div_ceil(lanes));
                let weights = self.packed[point * per_point + panel.at..].as_ptr();
                // The weights that are read after these, of which each group fetches a share.
                let length = panel.columns * ins;
                let next = if i + 1 < panels.len() {
                    weights.wrapping_add(length)
                } else {
                    self.packed.as_ptr().wrapping_add((point + 1) * per_point + self.panels[panels.start].at)
                };
                let mut from = values.wrapping_add(point * plane_in);
                let mut to = products.wrapping_add(point * plane_out + i * self.widest);
                for group in 0..groups {
                    // All groups have about as many rows.
                    let rows = share(n, group, groups).len();
                    let mut table = [std::ptr::null(); ROWS];
                    for t in &mut table[..rows] {
                        *t = from;
                        from = from.wrapping_add(width_in);
                    }
                    let part = Part {
                        table: &table[..rows],
                        skip: 0,
                        depth: ins,
                        weights,
                        start: Places { first: self.zeros.as_ptr(), row: 0, apart: lanes },
                        ahead: (next.wrapping_add(share(length, group, groups).start), panel.columns.div_ceil(groups)),
                    };
                    // SAFETY: the table points at transformed tiles, which have all input channels; the zeros are as wide as
                    // a panel; and the products have room.
                    unsafe { kernels.add[rows - 1](&part, Products { first: to, row: width_out, apart: lanes }) };
                    to = to.wrapping_add(rows * width_out);
                }
            }
        }
    }
}

impl Job for Winograd {
    fn name(&self) -> String {
        self.spec.name("winograd")
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.parts[0] * self.parts[1]
    }
    fn scratch(&self) -> usize {
        self.planes().iter().sum::<usize>() * POINTS * size_of::<f32>()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let tiles = share(self.tiles[0] * self.tiles[1], part % self.parts[0], self.parts[0]);
        let panels = share(self.panels.len(), part / self.parts[0], self.parts[1]);
        let [plane_in, plane_out] = self.planes();
        let values = scratch.cast::<f32>();
        let products = values.wrapping_add(plane_in * POINTS);
        let [width_in, width_out] = self.widths();
        let most = (BLOCK / self.widest).max(1);
        let mut sums = Sums([[0.0; COLUMNS]; 16]);
        let batches = self.batches(tiles.len());
        for batch in 0..batches {
            let batch = share(tiles.len(), batch, batches);
            let batch = tiles.start + batch.start..tiles.start + batch.end;
            for (i, tile) in batch.clone().enumerate() {
                // SAFETY: as the caller vouches; the scratch has room for all tiles of a batch.
                unsafe { self.transform(tile, args.inputs[0].cast(), values.wrapping_add(i * width_in), plane_in) };
            }
            for first in panels.clone().step_by(most) {
                let block = first..panels.end.min(first + most);
                // SAFETY: as above.
                unsafe { self.multiply(batch.len(), block.clone(), values, products) };
                for (i, tile) in batch.clone().enumerate() {
                    for (p, panel) in block.clone().enumerate() {
                        // SAFETY: as above.
                        unsafe {
                            let from = products.wrapping_add(i * width_out + p * self.widest);
                            self.finish(tile, panel, from, plane_out, &mut sums, args);
                        }
                    }
                }
            }
        }
    }
}
