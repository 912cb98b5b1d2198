//! Convolution with a group per channel: vectors of channels, summed over the taps in registers for several pixels.

use super::finish::{self, Channels, Finish, Sums};
use super::job::{Args, Job, about, parts_for, share};
use super::operand::Operands;
use super::patches::{Patches, Pixels};
use super::spec::ConvSpec;
use super::tile::COLUMNS;
use crate::level::Level;
use crate::vector::Vector;

/// Pixels of a tile.
const PIXELS: usize = 6;

pub struct Depthwise {
    spec: ConvSpec,
    operands: Operands,
    patches: Patches,
    /// `[panels of 16 channels, taps, 16]`
    packed: Vec<f32>,
    /// `[panels, 16]`
    bias: Vec<f32>,
    /// A pixel of the padding.
    zeros: Vec<f32>,
    sum: Sum,
    finish: Finish,
    /// Parts by pixels and by panels.
    parts: [usize; 2],
}

/// Sums some channels of the pixels of a tile over the taps, of whose pixels `table` has the addresses.
///
/// # Safety
/// The level is there; the channels of each address can be read; weights are `[taps, 16]`, and the bias is `[16]`.
type Sum = unsafe fn(table: &[[*const f32; PIXELS]], channels: Channels, weights: *const f32, bias: *const f32, sums: &mut Sums);

impl Depthwise {
    /// True for convolutions that this algorithm computes.
    pub fn fits(spec: &ConvSpec) -> bool {
        spec.groups == spec.input.channels && spec.groups == spec.output.channels && spec.input.channel == 1
    }

    /// For a spec that [`Depthwise::fits`], with its operands.
    pub fn new(level: Level, spec: &ConvSpec, operands: Operands, weights: &[f32], bias: Option<&[f32]>, threads: usize) -> Self {
        let patches = Patches::new(spec);
        let (taps, channels) = (patches.taps(), spec.output.channels);
        let padded = channels.next_multiple_of(COLUMNS);
        let mut packed = vec![0.0; padded * taps];
        for (i, &w) in weights.iter().enumerate() {
            let (c, k) = (i / taps, i % taps);
            packed[(c / COLUMNS * taps + k) * COLUMNS + c % COLUMNS] = w;
        }
        let mut biases = vec![0.0; padded];
        biases[..channels].copy_from_slice(bias.unwrap_or(&vec![0.0; channels]));
        let pixels = spec.output.height * spec.output.width;
        // A tap costs more than a product of a matrix: values are loaded for it alone.
        let wanted = parts_for(about(&[8, pixels, weights.len()]), threads);
        let by_pixels = wanted.min(pixels / (2 * PIXELS)).max(1);
        let by_panels = wanted.div_ceil(by_pixels).min(padded / COLUMNS).max(1);
        let sum: Sum = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Avx512 => x86::sum256,
            _ => sum::<[f32; 8]>,
        };
        let finish = finish::kernel(level);
        Self {
            spec: *spec,
            operands,
            patches,
            packed,
            bias: biases,
            zeros: vec![0.0; channels],
            sum,
            finish,
            parts: [by_pixels, by_panels],
        }
    }
}

impl Job for Depthwise {
    fn name(&self) -> String {
        self.spec.name("depthwise")
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.parts[0] * self.parts[1]
    }
    fn scratch(&self) -> usize {
        size_of::<[*const f32; PIXELS]>() * self.patches.taps()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let s = &self.spec;
        let (taps, count) = (self.patches.taps(), s.output.height * s.output.width);
        let tiles = share(count.div_ceil(PIXELS), part % self.parts[0], self.parts[0]);
        let panels = share(s.output.channels.div_ceil(COLUMNS), part / self.parts[0], self.parts[1]);
        let table = scratch.cast::<[*const f32; PIXELS]>();
        // SAFETY: the scratch holds an address for each tap of each pixel, and is aligned; null is an address.
        let table = unsafe {
            table.write_bytes(0, taps);
            std::slice::from_raw_parts_mut(table, taps)
        };
        let (mut pixels, mut sums) = (Pixels::new(), Sums([[0.0; COLUMNS]; 16]));
        for tile in tiles {
            let first = tile * PIXELS;
            let n = PIXELS.min(count - first);
            let inside = pixels.place(&self.patches, first..first + n, args);
            // Pixels that a tile has too few of are those of its last.
            for (k, row) in table.iter_mut().enumerate() {
                for (r, t) in row.iter_mut().enumerate() {
                    let r = r.min(n - 1);
                    *t = if inside {
                        pixels.first[r].wrapping_add(self.patches.offsets()[k])
                    } else {
                        self.patches.tap(args.inputs[0].cast(), pixels.corners[r], k).unwrap_or(self.zeros.as_ptr())
                    };
                }
            }
            for panel in panels.clone() {
                let first = panel * COLUMNS;
                let channels = Channels { first, count: COLUMNS.min(s.output.channels - first) };
                let weights = self.packed[panel * taps * COLUMNS..].as_ptr();
                let bias = self.bias[first..].as_ptr();
                // SAFETY: the addresses are those of taps inside the image or of the zeros, which have all channels.
                unsafe {
                    (self.sum)(table, channels, weights, bias, &mut sums);
                    (self.finish)(&s.epilogue, &mut sums, &pixels.to[..n], &pixels.residual[..n], channels);
                }
            }
        }
    }
}

/// # Safety
/// See [`Sum`].
#[inline(always)]
unsafe fn sum<L: Vector>(table: &[[*const f32; PIXELS]], channels: Channels, weights: *const f32, bias: *const f32, sums: &mut Sums) {
    let Channels { first, count } = channels;
    // SAFETY: as the caller vouches.
    unsafe {
        if count == COLUMNS && COLUMNS == 2 * L::N {
            return vectors::<L, 2>(table, first, weights, bias, sums, 0);
        }
        let full = count / L::N * L::N;
        for c in (0..full).step_by(L::N) {
            vectors::<L, 1>(table, first, weights, bias, sums, c);
        }
        for c in full..count {
            vectors::<f32, 1>(table, first, weights, bias, sums, c);
        }
    }
}

/// # Safety
/// See [`Sum`]; `V` vectors of channels from `c` on are there.
#[inline(always)]
unsafe fn vectors<L: Vector, const V: usize>(
    table: &[[*const f32; PIXELS]],
    first: usize,
    weights: *const f32,
    bias: *const f32,
    sums: &mut Sums,
    c: usize,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut acc = [[L::splat(0.0); V]; PIXELS];
        for acc in &mut acc {
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = L::load(bias.add(c + v * L::N));
            }
        }
        for (k, pixels) in table.iter().enumerate() {
            for v in 0..V {
                let w = L::load(weights.add(k * COLUMNS + c + v * L::N));
                for (acc, pixel) in acc.iter_mut().zip(pixels) {
                    acc[v] = L::load(pixel.add(first + c + v * L::N)).fma(w, acc[v]);
                }
            }
        }
        for (row, acc) in sums.0.iter_mut().zip(acc) {
            for (v, acc) in acc.into_iter().enumerate() {
                acc.store(row.as_mut_ptr().add(c + v * L::N));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Channels, PIXELS, Sums, sum};
    use std::arch::x86_64::__m256;

    /// # Safety
    /// See [`super::Sum`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn sum256(table: &[[*const f32; PIXELS]], channels: Channels, weights: *const f32, bias: *const f32, sums: &mut Sums) {
        // SAFETY: as the caller vouches.
        unsafe { sum::<__m256>(table, channels, weights, bias, sums) }
    }
}
