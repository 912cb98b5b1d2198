//! Direct convolution: each tile of pixels and output channels is summed in registers over taps and input channels, which
//! are read where they lie.

use super::finish::{self, Channels, Finish, Sums};
use super::job::{Args, Job, about, parts_for, share};
use super::memory::Aligned;
use super::operand::Operands;
use super::patches::{Corner, Patches, Pixels};
use super::spec::ConvSpec;
use super::tile::{self, COLUMNS, Kernels};
use crate::level::Level;
use compresso_base::error::{Error, Result};
use std::ops::Range;

/// Bytes of weights that stay in the second-level cache while pixels stream past.
const CACHED_WEIGHTS: usize = 256 << 10;
/// Input channels from which on a tap is long enough for a loop of its own.
const LONG_TAP: usize = 8;

pub struct Direct {
    spec: ConvSpec,
    operands: Operands,
    patches: Patches,
    panels: Vec<Panel>,
    /// All panels, `[taps, in / groups, columns]` each.
    packed: Aligned,
    /// `[panels, 16]`
    bias: Vec<f32>,
    /// A pixel of the padding.
    zeros: Vec<f32>,
    reading: Reading,
    /// For panels of 8 and of 16 columns.
    kernels: [Kernels; 2],
    finish: Finish,
    /// Pixels of a full tile.
    rows: usize,
    /// Parts by pixels and by panels.
    parts: [usize; 2],
    /// Panels that are used together on each tile.
    block: usize,
}

/// Output channels that are computed together.
struct Panel {
    index: usize,
    group: usize,
    /// Its output channels, at most the columns.
    channels: Channels,
    columns: usize,
    /// Where its weights start.
    at: usize,
}

/// How values of the image are found.
enum Reading {
    /// By the address of each tap. `joined`: taps of a row that lie inside the image are one run.
    Taps { joined: bool },
    /// By the address of the first tap and these offsets from it; `gathered` are those of a copied patch.
    Offsets { offsets: Vec<u32>, gathered: Vec<u32> },
}

impl Direct {
    /// For any spec, with its operands.
    ///
    /// # Errors
    /// `Unsupported` for windows that span more elements of the planes of an image than 32 bits count.
    pub fn new(level: Level, spec: &ConvSpec, operands: Operands, weights: &[f32], bias: Option<&[f32]>, threads: usize) -> Result<Self> {
        let (w, x, y) = (&spec.window, &spec.input, &spec.output);
        let patches = Patches::new(spec);
        let (taps, ins, outs) = (patches.taps(), x.channels / spec.groups, y.channels / spec.groups);
        let (mut panels, mut packed, mut biases) = (Vec::new(), Vec::new(), Vec::new());
        for group in 0..spec.groups {
            let mut done = 0;
            while done < outs {
                let columns = tile::columns(level, outs - done);
                let (first, channels) = (group * outs + done, columns.min(outs - done));
                panels.push(Panel { index: panels.len(), group, channels: Channels { first, count: channels }, columns, at: packed.len() });
                for k in 0..taps * ins {
                    let weight = |m: usize| weights[((first + m) * ins + k % ins) * taps + k / ins];
                    packed.extend((0..columns).map(|m| if m < channels { weight(m) } else { 0.0 }));
                }
                biases.extend((0..COLUMNS).map(|m| if m < channels { bias.map_or(0.0, |b| b[first + m]) } else { 0.0 }));
                done += channels;
            }
        }
        let reach = patches.offsets()[taps - 1] + x.channels * x.channel;
        let reading = if x.channel == 1 && (ins >= LONG_TAP || u32::try_from(reach).is_err()) {
            Reading::Taps { joined: x.pixel == ins && w.dilation[1] == 1 }
        } else {
            let offset = |k: usize| patches.offsets()[k / ins] + k % ins * x.channel;
            let short = |v: usize| {
                u32::try_from(v)
                    .map_err(|_| Error::unsupported(format!("a window that spans more than 2^32 elements of planes: {w:?} over {x:?}")))
            };
            let offsets = (0..taps * ins).map(|k| short(offset(k))).collect::<Result<_>>()?;
            Reading::Offsets { offsets, gathered: (0..taps * ins).map(short).collect::<Result<_>>()? }
        };
        let rows = tile::rows(level);
        let tiles = (y.height * y.width).div_ceil(rows);
        let bytes = size_of_val(&packed[..]);
        let wanted = parts_for(about(&[2, y.height, y.width, weights.len()]), threads);
        // Pixels are cut first, panels when there are too few pixels or when a thread had better keep to its own weights.
        let by_panels = |n: usize| n.min(panels.len()).max(1);
        let by_pixels = |n: usize| n.min(tiles.div_ceil(2)).max(1);
        let parts = if bytes > CACHED_WEIGHTS {
            let panels = by_panels(wanted);
            [by_pixels(wanted.div_ceil(panels)), panels]
        } else {
            let pixels = by_pixels(wanted);
            [pixels, by_panels(wanted.div_ceil(pixels))]
        };
        let block = (CACHED_WEIGHTS * panels.len() / bytes.max(1)).clamp(1, panels.len().max(1));
        let kernels = [8, COLUMNS].map(|columns| tile::kernels(level, columns));
        Ok(Self {
            spec: *spec,
            operands,
            patches,
            panels,
            packed: Aligned::new(&packed),
            bias: biases,
            zeros: vec![0.0; ins],
            reading,
            kernels,
            finish: finish::kernel(level),
            rows,
            parts,
            block,
        })
    }

    /// Addresses that a tile needs.
    fn table(&self) -> usize {
        match self.reading {
            Reading::Taps { .. } => self.patches.taps() * self.rows,
            Reading::Offsets { .. } => self.rows,
        }
    }
    /// Floats of the copied patches of a tile.
    fn gathered(&self) -> usize {
        match &self.reading {
            Reading::Taps { .. } => 0,
            Reading::Offsets { offsets, .. } => offsets.len() * self.rows,
        }
    }
}

/// Memory for a tile.
struct Workspace<'a> {
    pixels: Pixels,
    /// Addresses of taps.
    table: &'a mut [*const f32],
    sums: Sums,
    /// Copied patches.
    patches: *mut f32,
}

impl Direct {
    /// Computes some panels of the tile of pixels from `start` on.
    ///
    /// # Safety
    /// As [`Job::run`].
    unsafe fn tile(&self, start: usize, panels: Range<usize>, args: Args<'_>, work: &mut Workspace<'_>) {
        let s = &self.spec;
        let (taps, ins) = (self.patches.taps(), s.input.channels / s.groups);
        let n = self.rows.min(s.output.height * s.output.width - start);
        let inside = work.pixels.place(&self.patches, start..start + n, args);
        let pixels = &work.pixels;
        let (mut group, mut rows, mut depth) = (usize::MAX, taps, ins);
        for panel in &self.panels[panels] {
            if panel.group != group {
                group = panel.group;
                let shift = group * ins * s.input.channel;
                let base = args.inputs[0].cast::<f32>().wrapping_add(shift);
                // Tables that hold an address of each pixel for each of some offsets.
                let shifted = |table: &mut [*const f32], offset: usize| {
                    table.iter_mut().zip(&pixels.first[..n]).for_each(|(t, &f)| *t = f.wrapping_add(shift + offset));
                };
                match &self.reading {
                    Reading::Taps { joined: true } if inside => {
                        let kw = s.window.kernel[1];
                        (rows, depth) = (taps / kw, ins * kw);
                        let rows = work.table[..rows * n].chunks_exact_mut(n);
                        rows.zip(self.patches.offsets().iter().step_by(kw)).for_each(|(row, &offset)| shifted(row, offset));
                    }
                    Reading::Taps { .. } if inside => {
                        let rows = work.table[..taps * n].chunks_exact_mut(n);
                        rows.zip(self.patches.offsets()).for_each(|(row, &offset)| shifted(row, offset));
                    }
                    Reading::Taps { .. } => {
                        for (k, row) in work.table[..taps * n].chunks_exact_mut(n).enumerate() {
                            for (t, &corner) in row.iter_mut().zip(&pixels.corners) {
                                *t = self.patches.tap(base, corner, k).unwrap_or(self.zeros.as_ptr());
                            }
                        }
                    }
                    Reading::Offsets { .. } if inside => shifted(&mut work.table[..n], 0),
                    Reading::Offsets { offsets, .. } => {
                        for (r, &corner) in pixels.corners.iter().enumerate().take(n) {
                            let patch = work.patches.wrapping_add(r * offsets.len());
                            // SAFETY: the scratch holds a patch for each pixel.
                            unsafe { self.gather(base, corner, patch) };
                            work.table[r] = patch;
                        }
                    }
                }
            }
            let kernels = &self.kernels[usize::from(panel.columns == COLUMNS)];
            let (weights, bias) = (self.packed[panel.at..].as_ptr(), self.bias[panel.index * COLUMNS..].as_ptr());
            let out = work.sums.0.as_mut_ptr().cast::<f32>();
            // SAFETY: the table points at taps inside the image, at the zeros or at patches; panel and bias are as deep and wide
            // as the kernel reads; and the panel's channels are inside output and residual.
            unsafe {
                match &self.reading {
                    Reading::Taps { .. } => kernels.taps[n - 1](&work.table[..rows * n], depth, weights, bias, out, COLUMNS),
                    Reading::Offsets { offsets, gathered } => {
                        let offsets = if inside { offsets } else { gathered };
                        kernels.offsets[n - 1](&work.table[..n], offsets, weights, bias, out, COLUMNS);
                    }
                }
                (self.finish)(&s.epilogue, &mut work.sums, &pixels.to[..n], &pixels.residual[..n], panel.channels);
            }
        }
    }

    /// Copies the values under the window of one pixel, zeros in the padding.
    ///
    /// # Safety
    /// `base` is the first element of an image, and `patch` is writable.
    unsafe fn gather(&self, base: *const f32, corner: Corner, patch: *mut f32) {
        let (ins, step) = (self.spec.input.channels / self.spec.groups, self.spec.input.channel);
        for k in 0..self.patches.taps() {
            let from = self.patches.tap(base, corner, k);
            for c in 0..ins {
                // SAFETY: the tap is inside the image, for all channels.
                unsafe { *patch.add(k * ins + c) = from.map_or(0.0, |f| *f.add(c * step)) };
            }
        }
    }
}

impl Job for Direct {
    fn name(&self) -> String {
        self.spec.name("direct")
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.parts[0] * self.parts[1]
    }
    fn scratch(&self) -> usize {
        self.table() * size_of::<*const f32>() + self.gathered() * size_of::<f32>()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let pixels = self.spec.output.height * self.spec.output.width;
        let tiles = share(pixels.div_ceil(self.rows), part % self.parts[0], self.parts[0]);
        let panels = share(self.panels.len(), part / self.parts[0], self.parts[1]);
        let table = scratch.cast::<*const f32>();
        // SAFETY: the scratch begins with an aligned table; null addresses initialize it.
        let table = unsafe {
            table.write_bytes(0, self.table());
            std::slice::from_raw_parts_mut(table, self.table())
        };
        let patches = scratch.wrapping_add(size_of_val(table)).cast();
        let mut work = Workspace { pixels: Pixels::new(), table, sums: Sums([[0.0; COLUMNS]; 16]), patches };
        for first in panels.clone().step_by(self.block) {
            for t in tiles.clone() {
                // SAFETY: as the caller vouches.
                unsafe { self.tile(t * self.rows, first..panels.end.min(first + self.block), args, &mut work) };
            }
        }
    }
}
