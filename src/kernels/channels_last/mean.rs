//! The mean of each channel over a whole image, read once, row by row.

use super::job::{Args, Job, PART, about, share};
use super::operand::{Element, Operand, Operands};
use super::spec::fits;
use super::tile::COLUMNS;
use super::view::View;
use crate::level::Level;
use crate::vector::Vector;
use crate::window::Window2;
use compresso_base::error::Result;

pub(super) struct Mean {
    operands: Operands,
    input: View,
    sum: Sum,
}

/// Sums `n` channels of an image's pixels and scales the results.
///
/// # Safety
/// The level is there; the channels can be read, and `n` values written.
type Sum = unsafe fn(image: &View, from: *const f32, n: usize, scale: f32, to: *mut f32);

impl Mean {
    /// True for an average pool that is the mean of an image with its channels last.
    pub fn fits(window: &Window2, input: &View, output: &View) -> bool {
        let whole = window.kernel == [input.height, input.width] && window.pad == [0, 0] && window.dilation == [1, 1];
        whole && window.output == [1, 1] && input.channel == 1 && output.channel == 1 && input.channels == output.channels
    }
    /// For a pool that this [fits](Mean::fits).
    ///
    /// # Errors
    /// `Shape` when window and views do not fit together.
    pub fn new(level: Level, window: &Window2, input: View, output: View) -> Result<Self> {
        fits(window, &input, output.height, output.width)?;
        let operands = Operands::new(vec![Operand::image(Element::F32, &input)?], vec![Operand::image(Element::F32, &output)?])?;
        let sum: Sum = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::sum512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::sum256,
            _ => sum::<[f32; 8]>,
        };
        Ok(Self { operands, input, sum })
    }
}

impl Job for Mean {
    fn name(&self) -> String {
        format!("average pool {}x{}", self.input.height, self.input.width)
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        (about(&self.input.size()) / PART).clamp(1, self.input.channels.div_ceil(COLUMNS).max(1))
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let i = &self.input;
        let panels = share(i.channels.div_ceil(COLUMNS), part, self.parts());
        let (first, end) = (panels.start * COLUMNS, (panels.end * COLUMNS).min(i.channels));
        let scale = 1.0 / (i.height * i.width) as f32;
        // SAFETY: the channels are inside both views.
        unsafe { (self.sum)(i, args.inputs[0].cast::<f32>().add(first), end - first, scale, args.outputs[0].cast::<f32>().add(first)) };
    }
}

/// # Safety
/// See [`Sum`].
#[inline(always)]
unsafe fn sum<L: Vector>(image: &View, from: *const f32, n: usize, scale: f32, to: *mut f32) {
    let mut c = 0;
    // SAFETY: as the caller vouches; no more than `n` channels are used.
    unsafe {
        while c + 4 * L::N <= n {
            vectors::<L, 4>(image, from.add(c), scale, to.add(c));
            c += 4 * L::N;
        }
        if c + 2 * L::N <= n {
            vectors::<L, 2>(image, from.add(c), scale, to.add(c));
            c += 2 * L::N;
        }
        if c + L::N <= n {
            vectors::<L, 1>(image, from.add(c), scale, to.add(c));
            c += L::N;
        }
        while c < n {
            vectors::<f32, 1>(image, from.add(c), scale, to.add(c));
            c += 1;
        }
    }
}

/// `V` vectors of [`sum`]. Rows are summed by themselves first, which keeps rounding small.
///
/// # Safety
/// See [`Sum`].
#[inline(always)]
unsafe fn vectors<L: Vector, const V: usize>(image: &View, from: *const f32, scale: f32, to: *mut f32) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut all = [L::splat(0.0); V];
        for y in 0..image.height {
            let row = from.add(y * image.row);
            let mut acc = [L::splat(0.0); V];
            for x in 0..image.width {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = acc.add(L::load(row.add(x * image.pixel + v * L::N)));
                }
            }
            for (all, acc) in all.iter_mut().zip(acc) {
                *all = all.add(acc);
            }
        }
        for (v, all) in all.into_iter().enumerate() {
            all.fma(L::splat(scale), L::splat(0.0)).store(to.add(v * L::N));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{View, sum};
    use std::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// See [`super::Sum`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn sum256(image: &View, from: *const f32, n: usize, scale: f32, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { sum::<__m256>(image, from, n, scale, to) }
    }

    /// # Safety
    /// See [`super::Sum`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn sum512(image: &View, from: *const f32, n: usize, scale: f32, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { sum::<__m512>(image, from, n, scale, to) }
    }
}
