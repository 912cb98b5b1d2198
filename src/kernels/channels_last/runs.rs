//! Convolution of few input channels a group: rows are copied with their padding, so that the taps of a kernel row, over all
//! channels, are one run of values, and tiles of a row's pixels are summed in registers.

use super::finish::{self, Channels, Finish, Follow, Straight, Sums};
use super::job::{Args, Job, about, share};
use super::memory::Aligned;
use super::operand::Operands;
use super::ring::{Ring, Terms, cut};
use super::spec::ConvSpec;
use super::tile::{COLUMNS, columns};
use crate::level::Level;
use crate::vector::Vector;

/// Most input channels of a group, among several.
const NARROW: usize = 64;
/// Most input channels of the only group.
const FEW: usize = 4;
/// Most weights of a group: they are read for each row.
const MOST_WEIGHTS: usize = 1 << 15;

pub struct Runs {
    spec: ConvSpec,
    operands: Operands,
    ring: Ring,
    /// Of one group.
    panels: Vec<Panel>,
    /// `[groups, panels, kernel rows, run, columns]`
    packed: Aligned,
    /// `[groups, panels, 16]`
    bias: Vec<f32>,
    finish: Finish,
    follow: Option<Follow>,
    /// Pixels of a tile.
    pixels: usize,
    /// Parts by rows and by groups.
    parts: [usize; 2],
}

/// Output channels of a group that are computed together.
struct Panel {
    channels: Channels,
    columns: usize,
    /// Where its weights start, among those of the group.
    at: usize,
    tile: Tile,
}

/// Sums over kernel rows: `sums[r, c] = bias[c] + Σ_row Σ_k<run row[at + r · step + k] · weights[row, k, c]`.
///
/// # Safety
/// The level is there; the values can be read; weights and bias are as wide as the kernel. Results go `straight` only where all
/// columns are channels that can be written.
type Tile = unsafe fn(terms: &Terms<'_>, step: usize, run: usize, straight: Option<&Straight>, sums: &mut Sums);

/// Most pixels of a tile: twice its vectors, and what they are summed from, are in registers.
fn most_pixels(level: Level, columns: usize) -> usize {
    if columns == 8 || level == Level::Avx512 { 12 } else { 6 }
}

impl Runs {
    /// True for convolutions that this algorithm computes.
    pub fn fits(spec: &ConvSpec) -> bool {
        spec.window.dilation[1] == 1 && Self::ring(spec, 12).is_some()
    }
    /// True for those that it computes faster than others do.
    pub fn pays(spec: &ConvSpec) -> bool {
        let (ins, outs) = (spec.input.channels / spec.groups, spec.output.channels / spec.groups);
        let few = if spec.groups > 1 { ins > 1 && ins <= NARROW } else { ins <= FEW };
        few && about(&[ins, outs, spec.window.kernel[0], spec.window.kernel[1]]) <= MOST_WEIGHTS && Self::fits(spec)
    }

    fn ring(spec: &ConvSpec, pixels: usize) -> Option<Ring> {
        Ring::new(&spec.window, &spec.input, spec.input.channels / spec.groups, spec.output.width.checked_next_multiple_of(pixels)?)
    }

    /// For a spec, with its operands; none where it does not [fit](Runs::fits).
    pub fn new(level: Level, spec: &ConvSpec, operands: Operands, weights: &[f32], bias: Option<&[f32]>, threads: usize) -> Option<Self> {
        let [kh, kw] = spec.window.kernel;
        let (taps, ins, outs) = (kh * kw, spec.input.channels / spec.groups, spec.output.channels / spec.groups);
        let narrow = columns(level, outs);
        // Tiles of a row are as even as can be.
        let pixels = spec.output.width.div_ceil(spec.output.width.div_ceil(most_pixels(level, narrow)));
        let ring = Self::ring(spec, pixels).filter(|_| Self::fits(spec))?;
        let (mut panels, mut done, mut at) = (Vec::new(), 0, 0);
        while done < outs {
            let columns = columns(level, outs - done);
            let count = columns.min(outs - done);
            panels.push(Panel { channels: Channels { first: done, count }, columns, at, tile: tile_of(level, columns, pixels) });
            (done, at) = (done + count, at + taps * ins * columns);
        }
        let (mut packed, mut biases) = (Vec::with_capacity(at * spec.groups), Vec::new());
        for group in 0..spec.groups {
            for p in &panels {
                let first = group * outs + p.channels.first;
                for k in 0..taps * ins {
                    let weight = |m: usize| weights[((first + m) * ins + k % ins) * taps + k / ins];
                    packed.extend((0..p.columns).map(|m| if m < p.channels.count { weight(m) } else { 0.0 }));
                }
                biases.extend((0..COLUMNS).map(|m| if m < p.channels.count { bias.map_or(0.0, |b| b[first + m]) } else { 0.0 }));
            }
        }
        let work = about(&[4, spec.output.height, spec.output.width, weights.len()]);
        let parts = cut(spec, spec.groups, work, threads);
        Some(Self {
            spec: *spec,
            operands,
            ring,
            panels,
            packed: Aligned::new(&packed),
            bias: biases,
            finish: finish::kernel(level),
            follow: Follow::of(&spec.epilogue),
            pixels,
            parts,
        })
    }
}

impl Job for Runs {
    fn name(&self) -> String {
        self.spec.name("rows")
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
        let (ins, outs) = (s.input.channels / s.groups, y.channels / s.groups);
        let (run, step) = (s.window.kernel[1] * ins, s.window.stride[1] * ins);
        let lines = share(y.height, part % self.parts[0], self.parts[0]);
        // SAFETY: the scratch is the ring's.
        let mut rows = unsafe { self.ring.rows(scratch) };
        let mut sums = Sums([[0.0; COLUMNS]; 16]);
        for group in share(s.groups, part / self.parts[0], self.parts[1]) {
            let packed = &self.packed[self.packed.len() / s.groups * group..];
            // SAFETY: the channels are inside the image.
            unsafe { rows.turn(args.inputs[0].cast::<f32>().add(group * ins * s.input.channel), ins) };
            for line in lines.clone() {
                let (tap, rows) = rows.at(line);
                for (i, panel) in self.panels.iter().enumerate() {
                    let weights = packed[panel.at + tap * run * panel.columns..].as_ptr();
                    let bias = self.bias[(group * self.panels.len() + i) * COLUMNS..].as_ptr();
                    let channels = Channels { first: group * outs + panel.channels.first, ..panel.channels };
                    for x in (0..y.width).step_by(self.pixels) {
                        let n = self.pixels.min(y.width - x);
                        // SAFETY: the ring has the columns of whole tiles; pixels and channels are inside output and residual.
                        unsafe {
                            let straight = finish::straight(self.follow, panel.columns, y, args, [line, x], n, channels);
                            let terms = Terms { rows, at: x * step, weights, bias };
                            (panel.tile)(&terms, step, run, straight.as_ref(), &mut sums);
                            if straight.is_none() {
                                finish::row(self.finish, s, args, [line, x], n, &mut sums, channels);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `$f::<1, $v>` and so on.
macro_rules! by_pixels {
    ($f:path, $v:literal, $($n:literal)*) => {{
        use $f as f;
        [$(f::<$n, $v>),*]
    }};
}

/// The kernel for tiles of so many pixels, from 1 to [`most_pixels`].
fn tile_of(level: Level, columns: usize, pixels: usize) -> Tile {
    let at = pixels - 1;
    match (level, columns) {
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512, _) => (by_pixels!(x86::tile512, 1, 1 2 3 4 5 6 7 8 9 10 11 12) as [Tile; 12])[at],
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, 8) => (by_pixels!(x86::tile256, 1, 1 2 3 4 5 6 7 8 9 10 11 12) as [Tile; 12])[at],
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, _) => (by_pixels!(x86::tile256, 2, 1 2 3 4 5 6) as [Tile; 6])[at],
        (_, 8) => (by_pixels!(portable, 1, 1 2 3 4 5 6 7 8 9 10 11 12) as [Tile; 12])[at],
        _ => (by_pixels!(portable, 2, 1 2 3 4 5 6) as [Tile; 6])[at],
    }
}

/// # Safety
/// See [`Tile`].
unsafe fn portable<const R: usize, const V: usize>(
    terms: &Terms<'_>,
    step: usize,
    run: usize,
    straight: Option<&Straight>,
    sums: &mut Sums,
) {
    // SAFETY: as the caller vouches.
    unsafe { tile::<[f32; 8], R, V>(terms, step, run, straight, sums) }
}

/// # Safety
/// See [`Tile`].
#[inline(always)]
unsafe fn tile<L: Vector, const R: usize, const V: usize>(
    terms: &Terms<'_>,
    step: usize,
    run: usize,
    straight: Option<&Straight>,
    sums: &mut Sums,
) {
    let Terms { rows, at, mut weights, bias } = *terms;
    // SAFETY: as the caller vouches.
    unsafe {
        let mut acc = [[L::splat(0.0); V]; R];
        for acc in &mut acc {
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = L::load(bias.add(v * L::N));
            }
        }
        for row in rows {
            let from: [*const f32; R] = std::array::from_fn(|r| row.add(at + r * step));
            for k in 0..run {
                let mut w = [L::splat(0.0); V];
                for (v, w) in w.iter_mut().enumerate() {
                    *w = L::load(weights.add(v * L::N));
                }
                weights = weights.add(V * L::N);
                for (acc, from) in acc.iter_mut().zip(from) {
                    let x = L::splat(*from.add(k));
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = x.fma(w, *acc);
                    }
                }
            }
        }
        finish::store(acc, straight, sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Straight, Sums, Terms, tile};
    use std::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// See [`super::Tile`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn tile256<const R: usize, const V: usize>(
        terms: &Terms<'_>,
        step: usize,
        run: usize,
        straight: Option<&Straight>,
        sums: &mut Sums,
    ) {
        // SAFETY: as the caller vouches.
        unsafe { tile::<__m256, R, V>(terms, step, run, straight, sums) }
    }

    /// # Safety
    /// See [`super::Tile`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn tile512<const R: usize, const V: usize>(
        terms: &Terms<'_>,
        step: usize,
        run: usize,
        straight: Option<&Straight>,
        sums: &mut Sums,
    ) {
        // SAFETY: as the caller vouches.
        unsafe { tile::<__m512, R, V>(terms, step, run, straight, sums) }
    }
}
