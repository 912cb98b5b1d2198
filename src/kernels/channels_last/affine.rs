//! A product and a sum per channel, then an activation: what is left of a normalization that no layer takes up.

use super::finish::{self, Activate};
use super::job::{Args, Job, cut, share};
use super::operand::{Element, Operand, Operands};
use super::tile::COLUMNS;
use super::view::View;
use crate::activation::Activation;
use crate::level::Level;
use crate::vector::Vector;
use compresso_base::error::{Error, Result};

/// `y = act(x · scale + shift)`, with one number of each for a channel; float32, views channels last. The output may be the input
/// itself. The job is cut so that `threads` threads are busy.
///
/// # Errors
/// `Shape` when the views differ in size or do not lie channels last, or there are not as many numbers as channels.
pub fn affine(scale: &[f32], shift: &[f32], act: Option<Activation>, input: View, output: View, threads: usize) -> Result<Box<dyn Job>> {
    Ok(Box::new(Affine::new(Level::best(), scale, shift, act, input, output, threads)?))
}

/// Channels that are worked on at once.
const CHUNK: usize = COLUMNS * ROWS;
const ROWS: usize = 16;

pub(super) struct Affine {
    operands: Operands,
    /// `[2, channels]`: products, then sums.
    factors: Vec<f32>,
    act: Option<Activation>,
    input: View,
    output: View,
    line: Line,
    activate: Activate,
    parts: usize,
}

/// `to[i] = from[i] · scale[i] + shift[i]`, or zero where that is less.
///
/// # Safety
/// The level is there; `n` values of each can be read, or written; `to` may be `from`.
type Line = unsafe fn(from: *const f32, scale: *const f32, shift: *const f32, n: usize, to: *mut f32);

impl Affine {
    /// # Errors
    /// As [`affine`]; the level is there.
    pub fn new(
        level: Level,
        scale: &[f32],
        shift: &[f32],
        act: Option<Activation>,
        input: View,
        output: View,
        threads: usize,
    ) -> Result<Self> {
        let channels = output.channels;
        if input.size() != output.size() || input.channel != 1 || output.channel != 1 || scale.len() != channels || shift.len() != channels
        {
            let numbers = [scale.len(), shift.len()];
            return Err(Error::shape(format!("{numbers:?} factors for channels that lie last: {input:?} {output:?}")));
        }
        let operands = Operands::new(vec![Operand::image(Element::F32, &input)?.in_place()], vec![Operand::image(Element::F32, &output)?])?;
        let pixels = output.height.saturating_mul(output.width);
        Ok(Self {
            operands,
            factors: [scale, shift].concat(),
            act,
            input,
            output,
            line: line_of(level, act == Some(Activation::Relu)),
            activate: finish::activation(level),
            parts: cut(pixels, pixels.saturating_mul(channels).saturating_mul(size_of::<f32>()), threads),
        })
    }
}

impl Job for Affine {
    fn name(&self) -> String {
        self.act.map_or_else(|| "affine".into(), |a| format!("affine {a:?}"))
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.parts
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let (i, o) = (&self.input, &self.output);
        let mut chunk = [[0.0; COLUMNS]; ROWS];
        for at in share(o.height * o.width, part, self.parts) {
            let (y, x) = (at / o.width, at % o.width);
            let from = args.inputs[0].cast::<f32>().wrapping_add(y * i.row + x * i.pixel);
            let to = args.outputs[0].cast::<f32>().wrapping_add(y * o.row + x * o.pixel);
            let (scale, shift) = self.factors.split_at(o.channels);
            if matches!(self.act, None | Some(Activation::Relu)) {
                // SAFETY: the channels of the pixel are inside both views.
                unsafe { (self.line)(from, scale.as_ptr(), shift.as_ptr(), o.channels, to) };
                continue;
            }
            for first in (0..o.channels).step_by(CHUNK) {
                let n = CHUNK.min(o.channels - first);
                // SAFETY: as above, for `n` channels from `first` on, which the chunk has room for.
                unsafe {
                    let buffer = chunk.as_flattened_mut().as_mut_ptr();
                    (self.line)(from.add(first), scale[first..].as_ptr(), shift[first..].as_ptr(), n, buffer);
                    (self.activate)(self.act, &mut chunk[..n.div_ceil(COLUMNS)]);
                    to.add(first).copy_from_nonoverlapping(chunk.as_flattened().as_ptr(), n);
                }
            }
        }
    }
}

fn line_of(level: Level, relu: bool) -> Line {
    match (level, relu) {
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512, true) => x86::line512::<true>,
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512, false) => x86::line512::<false>,
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, true) => x86::line256::<true>,
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, false) => x86::line256::<false>,
        (_, true) => line::<[f32; 8], true>,
        (_, false) => line::<[f32; 8], false>,
    }
}

/// # Safety
/// See [`Line`].
#[inline(always)]
unsafe fn line<L: Vector, const RELU: bool>(from: *const f32, scale: *const f32, shift: *const f32, n: usize, to: *mut f32) {
    // SAFETY: as the caller vouches; no more than `n` values are used.
    unsafe {
        let mut c = 0;
        while c + L::N <= n {
            value::<L, RELU>(from.add(c), scale.add(c), shift.add(c), to.add(c));
            c += L::N;
        }
        while c < n {
            value::<f32, RELU>(from.add(c), scale.add(c), shift.add(c), to.add(c));
            c += 1;
        }
    }
}

/// # Safety
/// See [`Line`], for one vector.
#[inline(always)]
unsafe fn value<L: Vector, const RELU: bool>(from: *const f32, scale: *const f32, shift: *const f32, to: *mut f32) {
    // SAFETY: as the caller vouches.
    unsafe {
        let v = L::load(from).fma(L::load(scale), L::load(shift));
        let v = if RELU { L::splat(0.0).max(v) } else { v };
        v.store(to);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::line;
    use std::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// See [`super::Line`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn line256<const RELU: bool>(from: *const f32, scale: *const f32, shift: *const f32, n: usize, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { line::<__m256, RELU>(from, scale, shift, n, to) }
    }

    /// # Safety
    /// See [`super::Line`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn line512<const RELU: bool>(from: *const f32, scale: *const f32, shift: *const f32, n: usize, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { line::<__m512, RELU>(from, scale, shift, n, to) }
    }
}
