//! Convolution with a group per channel: vectors of channels, summed over the taps in registers for several pixels.

use super::finish::{self, Channels, Finish, Follow, Straight, Sums};
use super::job::{Args, Job, about, share};
use super::memory::Aligned;
use super::operand::Operands;
use super::ring::{Ring, Terms, cut};
use super::spec::ConvSpec;
use super::tile::COLUMNS;
use crate::level::Level;
use crate::vector::Vector;

/// Pixels of a tile: with two vectors each, and one of weights for each, as many as there are registers.
const PIXELS: usize = 7;

pub struct Depthwise {
    spec: ConvSpec,
    operands: Operands,
    ring: Ring,
    /// `[panels of 16 channels, taps, 16]`
    packed: Aligned,
    /// `[panels, 16]`
    bias: Vec<f32>,
    sum: Sum,
    finish: Finish,
    follow: Option<Follow>,
    /// Channels of a vector.
    lanes: usize,
    /// Parts by rows and by panels.
    parts: [usize; 2],
}

/// Kernel columns, and what lies between them and between pixels, in pixels of the padded rows.
#[derive(Debug, Clone, Copy)]
struct Across {
    taps: usize,
    dilation: usize,
    stride: usize,
}

/// Sums up to 16 channels (`count`) of the pixels of a tile over the taps of some kernel rows.
///
/// # Safety
/// The level is there; weights are `[rows, taps, 16]`, the bias is `[16]`, and each row has 16 readable channels at each pixel that
/// the taps of a whole tile read. Results go `straight` only where the channels are whole vectors, all of which can be written.
type Sum = unsafe fn(terms: &Terms<'_>, across: Across, count: usize, straight: Option<&Straight>, sums: &mut Sums);

impl Depthwise {
    /// True for convolutions that this algorithm computes.
    pub fn fits(spec: &ConvSpec) -> bool {
        spec.groups == spec.input.channels && spec.groups == spec.output.channels && spec.input.channel == 1 && Self::ring(spec).is_some()
    }

    fn ring(spec: &ConvSpec) -> Option<Ring> {
        Ring::new(&spec.window, &spec.input, COLUMNS, spec.output.width.checked_next_multiple_of(PIXELS)?)
    }

    /// For a spec, with its operands; none where it does not [fit](Depthwise::fits).
    pub fn new(level: Level, spec: &ConvSpec, operands: Operands, weights: &[f32], bias: Option<&[f32]>, threads: usize) -> Option<Self> {
        let ring = Self::ring(spec).filter(|_| Self::fits(spec))?;
        let (taps, channels) = (spec.window.kernel[0] * spec.window.kernel[1], spec.output.channels);
        let padded = channels.next_multiple_of(COLUMNS);
        let mut packed = vec![0.0; padded * taps];
        for (i, &w) in weights.iter().enumerate() {
            let (c, k) = (i / taps, i % taps);
            packed[(c / COLUMNS * taps + k) * COLUMNS + c % COLUMNS] = w;
        }
        let mut biases = vec![0.0; padded];
        biases[..channels].copy_from_slice(bias.unwrap_or(&vec![0.0; channels]));
        // A tap costs more than a product of a matrix: values are loaded for it alone.
        let work = about(&[16, spec.output.height, spec.output.width, weights.len()]);
        let sum: Sum = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::sum512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::sum256,
            _ => sum::<[f32; 8]>,
        };
        let parts = cut(spec, padded / COLUMNS, work, threads);
        Some(Self {
            spec: *spec,
            operands,
            ring,
            packed: Aligned::new(&packed),
            bias: biases,
            sum,
            finish: finish::kernel(level),
            follow: Follow::of(&spec.epilogue),
            lanes: level.lanes(),
            parts,
        })
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
        self.ring.scratch()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let (s, y) = (&self.spec, &self.spec.output);
        let [kh, kw] = s.window.kernel;
        let across = Across { taps: kw, dilation: s.window.dilation[1], stride: s.window.stride[1] };
        let lines = share(y.height, part % self.parts[0], self.parts[0]);
        let panels = share(y.channels.div_ceil(COLUMNS), part / self.parts[0], self.parts[1]);
        // SAFETY: the scratch is the ring's.
        let mut rows = unsafe { self.ring.rows(scratch) };
        let mut sums = Sums([[0.0; COLUMNS]; 16]);
        for panel in panels {
            let first = panel * COLUMNS;
            let channels = Channels { first, count: COLUMNS.min(y.channels - first) };
            let bias = self.bias[first..].as_ptr();
            // SAFETY: the channels are inside the image.
            unsafe { rows.turn(args.inputs[0].cast::<f32>().add(first), channels.count) };
            for line in lines.clone() {
                let (tap, rows) = rows.at(line);
                let weights = self.packed[(panel * kh + tap) * kw * COLUMNS..].as_ptr();
                for x in (0..y.width).step_by(PIXELS) {
                    let n = PIXELS.min(y.width - x);
                    // SAFETY: the ring has the columns of whole tiles; pixels and channels are inside output and residual.
                    unsafe {
                        let straight = finish::straight(self.follow, self.lanes, y, args, [line, x], n, channels);
                        let terms = Terms { rows, at: x * across.stride * COLUMNS, weights, bias };
                        (self.sum)(&terms, across, channels.count, straight.as_ref(), &mut sums);
                        if straight.is_none() {
                            finish::row(self.finish, s, args, [line, x], n, &mut sums, channels);
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// See [`Sum`].
#[inline(always)]
unsafe fn sum<L: Vector>(terms: &Terms<'_>, across: Across, count: usize, straight: Option<&Straight>, sums: &mut Sums) {
    // SAFETY: as the caller vouches.
    unsafe {
        // Only the widest vectors are so few for a tile that its values stay in registers from tap to tap.
        if L::N == COLUMNS && across.dilation == 1 {
            match (across.taps, across.stride) {
                (3, 1) => return kept::<L, 3, 1>(terms, straight, sums),
                (5, 1) => return kept::<L, 5, 1>(terms, straight, sums),
                (7, 1) => return kept::<L, 7, 1>(terms, straight, sums),
                (3, 2) => return kept::<L, 3, 2>(terms, straight, sums),
                (5, 2) => return kept::<L, 5, 2>(terms, straight, sums),
                _ => {}
            }
        }
        match (across.stride, count > L::N) {
            (1, true) => vectors::<L, 2, 1>(terms, across, straight, sums),
            (1, false) => vectors::<L, 1, 1>(terms, across, straight, sums),
            (2, true) => vectors::<L, 2, 2>(terms, across, straight, sums),
            (2, false) => vectors::<L, 1, 2>(terms, across, straight, sums),
            (_, true) => vectors::<L, 2, 0>(terms, across, straight, sums),
            (_, false) => vectors::<L, 1, 0>(terms, across, straight, sums),
        }
    }
}

/// The first `V` vectors of channels; `S` is the stride, or 0 for any.
///
/// # Safety
/// See [`Sum`].
#[inline(always)]
unsafe fn vectors<L: Vector, const V: usize, const S: usize>(
    terms: &Terms<'_>,
    across: Across,
    straight: Option<&Straight>,
    sums: &mut Sums,
) {
    let Terms { rows, at, mut weights, bias } = *terms;
    let step = COLUMNS * if S == 0 { across.stride } else { S };
    // SAFETY: as the caller vouches.
    unsafe {
        let mut acc = [[L::splat(0.0); V]; PIXELS];
        for acc in &mut acc {
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = L::load(bias.add(v * L::N));
            }
        }
        for row in rows {
            let mut from = row.add(at);
            for _ in 0..across.taps {
                let mut w = [L::splat(0.0); V];
                for (v, w) in w.iter_mut().enumerate() {
                    *w = L::load(weights.add(v * L::N));
                }
                // Both halves of a line in turn: loads of the same half of two lines wait for each other in some caches.
                for (p, acc) in acc.iter_mut().enumerate() {
                    for (v, (acc, w)) in acc.iter_mut().zip(w).enumerate() {
                        *acc = L::load(from.add(p * step + v * L::N)).fma(w, *acc);
                    }
                }
                from = from.add(across.dilation * COLUMNS);
                weights = weights.add(COLUMNS);
            }
        }
        finish::store(acc, straight, sums);
    }
}

/// Most values of a row that a tile of [`kept`] reads.
const KEPT: usize = (PIXELS - 1) * 2 + 5;

/// A vector of channels, over `K` taps without dilation, of which each pixel starts `S` after the one before: a value is loaded once
/// for all taps that it meets.
///
/// # Safety
/// See [`Sum`].
#[expect(clippy::needless_range_loop, reason = "values are counted by tap and pixel")]
#[inline(always)]
unsafe fn kept<L: Vector, const K: usize, const S: usize>(terms: &Terms<'_>, straight: Option<&Straight>, sums: &mut Sums) {
    let Terms { rows, at, mut weights, bias } = *terms;
    // SAFETY: as the caller vouches.
    unsafe {
        let mut acc = [[L::load(bias)]; PIXELS];
        for row in rows {
            let from = row.add(at);
            let mut x = [L::splat(0.0); KEPT];
            for i in 0..(PIXELS - 1) * S + K {
                x[i] = L::load(from.add(i * COLUMNS));
            }
            for k in 0..K {
                let w = L::load(weights);
                for (p, acc) in acc.iter_mut().enumerate() {
                    acc[0] = x[p * S + k].fma(w, acc[0]);
                }
                weights = weights.add(COLUMNS);
            }
        }
        finish::store(acc, straight, sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Across, Straight, Sums, Terms, sum};
    use std::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// See [`super::Sum`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn sum256(terms: &Terms<'_>, across: Across, count: usize, straight: Option<&Straight>, sums: &mut Sums) {
        // SAFETY: as the caller vouches.
        unsafe { sum::<__m256>(terms, across, count, straight, sums) }
    }

    /// # Safety
    /// See [`super::Sum`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn sum512(terms: &Terms<'_>, across: Across, count: usize, straight: Option<&Straight>, sums: &mut Sums) {
        // SAFETY: as the caller vouches.
        unsafe { sum::<__m512>(terms, across, count, straight, sums) }
    }
}
