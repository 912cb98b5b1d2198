//! Max and average pools of float32 images, channels last.

use super::job::{Args, Job, PART, about, share};
use super::mean::Mean;
use super::operand::{Element, Operand, Operands};
use super::spec::fits;
use super::view::View;
use crate::level::Level;
use crate::vector::Vector;
use crate::window::Window2;
use compresso_base::error::{Error, Result};
use std::ops::Range;

/// Largest value under the window; a NaN is largest, and a window of nothing gives −∞.
///
/// # Errors
/// `Shape` when window and views do not fit together, or a view is not channels last.
pub fn max_pool(window: &Window2, input: View, output: View) -> Result<Box<dyn Job>> {
    Ok(Box::new(Pool::max(Level::best(), window, input, output)?))
}

/// Mean under the window: over what lies inside the image or, with `count_padding`, inside the image and its padding,
/// of which `pad_end` is at the bottom and the right. A window of nothing gives 0.
///
/// # Errors
/// `Shape` when window and views do not fit together, or a view is not channels last.
pub fn average_pool(window: &Window2, input: View, output: View, count_padding: bool, pad_end: [usize; 2]) -> Result<Box<dyn Job>> {
    if Mean::fits(window, &input, &output) {
        return Ok(Box::new(Mean::new(Level::best(), window, input, output)?));
    }
    Ok(Box::new(Pool::average(Level::best(), window, input, output, count_padding, pad_end)?))
}

/// Channels that are worked on together.
const CHUNK: usize = 64;

/// A pool, first down, then across.
pub(super) struct Pool {
    window: Window2,
    operands: Operands,
    input: View,
    output: View,
    /// Of a mean: positions that count, down and across, from the start of the padding on.
    counted: Option<[Range<usize>; 2]>,
    line: Line,
}

/// Merges `taps` pixels, `step` apart, of which `n` channels count, and scales the result.
///
/// # Safety
/// The level is there; pixels can be read and the result written.
type Line = unsafe fn(from: *const f32, taps: usize, step: usize, n: usize, scale: f32, to: *mut f32);

impl Pool {
    /// # Errors
    /// As [`max_pool`].
    pub fn max(level: Level, window: &Window2, input: View, output: View) -> Result<Self> {
        Self::new(window, input, output, None, line_of::<Max>(level))
    }
    /// # Errors
    /// As [`average_pool`].
    pub fn average(level: Level, w: &Window2, input: View, output: View, count_padding: bool, pad_end: [usize; 2]) -> Result<Self> {
        Self::new(w, input, output, Some((count_padding, pad_end)), line_of::<Sum>(level))
    }
    fn new(w: &Window2, input: View, output: View, mean: Option<(bool, [usize; 2])>, line: Line) -> Result<Self> {
        fits(w, &input, output.height, output.width)?;
        if input.channels != output.channels || input.channel != 1 || output.channel != 1 {
            return Err(Error::shape(format!("views of a pool must have as many channels, channels last: {input:?} {output:?}")));
        }
        let operands = Operands::new(vec![Operand::image(Element::F32, &input)?], vec![Operand::image(Element::F32, &output)?])?;
        let counted = mean.map(|(count_padding, pad_end)| {
            [0, 1].map(|d| {
                let end = w.pad[d] + w.input[d];
                if count_padding { 0..end.saturating_add(pad_end[d]) } else { w.pad[d]..end }
            })
        });
        Ok(Self { window: *w, operands, input, output, counted, line })
    }
    /// Chunks of channels by which the image is cut.
    fn chunks(&self) -> usize {
        self.output.channels.div_ceil(CHUNK)
    }
    /// Input position of a tap inside the image; 0 when there is none.
    fn at(&self, d: usize, o: usize, taps: &Range<usize>) -> usize {
        let w = &self.window;
        if taps.is_empty() { 0 } else { o * w.stride[d] + taps.start * w.dilation[d] - w.pad[d] }
    }
}

impl Job for Pool {
    fn name(&self) -> String {
        let [h, w] = self.window.kernel;
        format!("{} pool {h}x{w}", if self.counted.is_some() { "average" } else { "max" })
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        let (i, o, [h, w]) = (&self.input, &self.output, self.window.kernel);
        let work = about(&[o.height, o.channels, about(&[i.width, h]).saturating_add(about(&[o.width, w]))]);
        (work / 4).div_ceil(PART).clamp(1, (o.height * self.chunks()).max(1))
    }
    fn scratch(&self) -> usize {
        self.input.width * CHUNK * size_of::<f32>()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let (w, i, o, chunks) = (&self.window, &self.input, &self.output, self.chunks());
        let (from, to, columns) = (args.inputs[0].cast::<f32>(), args.outputs[0].cast::<f32>(), scratch.cast::<f32>());
        for unit in share(o.height * chunks, part, self.parts()) {
            let (y, first) = (unit / chunks, unit % chunks * CHUNK);
            let n = CHUNK.min(o.channels - first);
            let down = self.window.taps(0, y);
            let row = from.wrapping_add(self.at(0, y, &down) * i.row + first);
            for x in 0..i.width {
                let (from, to) = (row.wrapping_add(x * i.pixel), columns.wrapping_add(x * CHUNK));
                // SAFETY: the taps are inside the image, and the scratch has a pixel for each of its columns.
                unsafe { (self.line)(from, down.len(), w.dilation[0] * i.row, n, 1.0, to) };
            }
            let rows = self.counted.as_ref().map_or(1, |[rows, _]| w.taps_in(0, y, rows.clone()).len());
            for x in 0..o.width {
                let across = self.window.taps(1, x);
                let count = rows * self.counted.as_ref().map_or(1, |[_, columns]| w.taps_in(1, x, columns.clone()).len());
                let from = columns.wrapping_add(self.at(1, x, &across) * CHUNK);
                let to = to.wrapping_add(y * o.row + x * o.pixel + first);
                // SAFETY: the taps are columns of the scratch, and the pixel is inside the output.
                unsafe { (self.line)(from, across.len(), w.dilation[1] * CHUNK, n, 1.0 / count.max(1) as f32, to) };
            }
        }
    }
}

/// How values are merged.
trait Merge {
    /// The result of nothing.
    const START: f32;
    const SCALED: bool;
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn merge<L: Vector>(a: L, b: L) -> L;
}

struct Max;

impl Merge for Max {
    const START: f32 = f32::NEG_INFINITY;
    const SCALED: bool = false;
    #[inline(always)]
    unsafe fn merge<L: Vector>(a: L, b: L) -> L {
        // SAFETY: as the caller vouches.
        unsafe { a.max(b) }
    }
}

struct Sum;

impl Merge for Sum {
    const START: f32 = 0.0;
    const SCALED: bool = true;
    #[inline(always)]
    unsafe fn merge<L: Vector>(a: L, b: L) -> L {
        // SAFETY: as the caller vouches.
        unsafe { a.add(b) }
    }
}

fn line_of<M: Merge>(level: Level) -> Line {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => x86::line512::<M>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => x86::line256::<M>,
        _ => line::<[f32; 8], M>,
    }
}

/// # Safety
/// See [`Line`].
#[inline(always)]
unsafe fn line<L: Vector, M: Merge>(from: *const f32, taps: usize, step: usize, n: usize, scale: f32, to: *mut f32) {
    // SAFETY: as the caller vouches; no more than `n` channels are used.
    unsafe {
        let mut c = 0;
        while c + 4 * L::N <= n {
            vectors::<L, M, 4>(from.add(c), taps, step, scale, to.add(c));
            c += 4 * L::N;
        }
        while c + L::N <= n {
            vectors::<L, M, 1>(from.add(c), taps, step, scale, to.add(c));
            c += L::N;
        }
        while c < n {
            vectors::<f32, M, 1>(from.add(c), taps, step, scale, to.add(c));
            c += 1;
        }
    }
}

/// `V` vectors of [`line`].
///
/// # Safety
/// See [`Line`].
#[inline(always)]
unsafe fn vectors<L: Vector, M: Merge, const V: usize>(from: *const f32, taps: usize, step: usize, scale: f32, to: *mut f32) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut acc = [L::splat(M::START); V];
        for t in 0..taps {
            let from = from.add(t * step);
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = M::merge(*acc, L::load(from.add(v * L::N)));
            }
        }
        for (v, acc) in acc.into_iter().enumerate() {
            let acc = if M::SCALED { acc.fma(L::splat(scale), L::splat(0.0)) } else { acc };
            acc.store(to.add(v * L::N));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Merge, line};
    use std::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// See [`super::Line`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn line256<M: Merge>(from: *const f32, taps: usize, step: usize, n: usize, scale: f32, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { line::<__m256, M>(from, taps, step, n, scale, to) }
    }

    /// # Safety
    /// See [`super::Line`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn line512<M: Merge>(from: *const f32, taps: usize, step: usize, n: usize, scale: f32, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { line::<__m512, M>(from, taps, step, n, scale, to) }
    }
}
