//! Geometry of a sliding window over any number of spatial axes.
//!
//! Kernels compute positions without asking whether numbers overflow: [`Window::check`] and [`Window2::check`] have made sure
//! that they cannot.

use compresso_base::error::{Error, Result};
use std::ops::Range;

/// Most positions of one axis that a window spans: the input with its padding, and the window at its last output.
pub const MAX_SPAN: usize = 1 << 31;

/// Most elements of an array.
const MAX_ELEMENTS: usize = isize::MAX as usize / size_of::<f32>();

/// The number of elements of an array of such sizes.
///
/// # Errors
/// `Shape` when no memory holds as many floats.
pub fn elements(sizes: &[usize]) -> Result<usize> {
    let count = sizes.iter().try_fold(1usize, |p, &n| p.checked_mul(n)).filter(|n| *n <= MAX_ELEMENTS);
    count.ok_or_else(|| Error::shape(format!("an array of sizes {sizes:?} has more than {MAX_ELEMENTS} elements")))
}

/// One axis of a window.
struct Axis {
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pads: [usize; 2],
    output: usize,
}

impl Axis {
    fn check(&self, axis: usize) -> Result<()> {
        if self.kernel == 0 || self.stride == 0 || self.dilation == 0 {
            let (kernel, stride, dilation) = (self.kernel, self.stride, self.dilation);
            return Err(Error::shape(format!(
                "kernel size, stride and dilation of axis {axis} must be at least 1, got {kernel}, {stride} and {dilation}"
            )));
        }
        let padded = self.input.checked_add(self.pads[0]).and_then(|n| n.checked_add(self.pads[1]));
        let last = self.output.saturating_sub(1).checked_mul(self.stride);
        let reached = last.and_then(|at| (self.kernel - 1).checked_mul(self.dilation)?.checked_add(at)?.checked_add(1));
        match padded.zip(reached) {
            Some((padded, reached)) if padded.max(reached).max(self.stride).max(self.dilation) <= MAX_SPAN => Ok(()),
            _ => Err(Error::shape(format!(
                "the window, its stride or the padded input spans more than {MAX_SPAN} positions of axis {axis}: input {}, pads {:?}, kernel {}, dilation {}, stride {}, output {}",
                self.input, self.pads, self.kernel, self.dilation, self.stride, self.output
            ))),
        }
    }
}

/// A window that slides over a padded input: of convolutions and pools.
///
/// Output position `o` and kernel position `k` read input position `o * stride + k * dilation - pad_begin` of each axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Sizes of the input, without padding; one number per axis here and below.
    pub input: Vec<usize>,
    /// Taps along each axis.
    pub kernel: Vec<usize>,
    /// Input positions from one output to the next.
    pub stride: Vec<usize>,
    /// Input positions from one tap to the next.
    pub dilation: Vec<usize>,
    /// Padding before the input.
    pub pad_begin: Vec<usize>,
    /// Only average pools that count padding look at it; the output's size is given.
    pub pad_end: Vec<usize>,
    /// Sizes of the output.
    pub output: Vec<usize>,
}

impl Window {
    /// A two-dimensional window whose output is as large as fits.
    pub fn square(input: [usize; 2], kernel: usize, stride: usize, pad: usize, dilation: usize) -> Self {
        let out = |n: usize| (n + 2 * pad).saturating_sub(dilation * kernel.saturating_sub(1) + 1) / stride + 1;
        Self {
            input: input.to_vec(),
            kernel: vec![kernel; 2],
            stride: vec![stride; 2],
            dilation: vec![dilation; 2],
            pad_begin: vec![pad; 2],
            pad_end: vec![pad; 2],
            output: input.map(out).to_vec(),
        }
    }
    /// Axes that it slides along.
    pub fn rank(&self) -> usize {
        self.input.len()
    }
    /// Checks that the lists are of one length and that no number that is worked out from them overflows.
    ///
    /// # Errors
    /// `Shape` with the axis that is out of range.
    pub fn check(&self) -> Result<()> {
        let lists = [&self.kernel, &self.stride, &self.dilation, &self.pad_begin, &self.pad_end, &self.output];
        if lists.iter().any(|l| l.len() != self.rank()) {
            return Err(Error::shape(format!("a window needs one number per axis, got {self:?}")));
        }
        for d in 0..self.rank() {
            let axis = Axis {
                input: self.input[d],
                kernel: self.kernel[d],
                stride: self.stride[d],
                dilation: self.dilation[d],
                pads: [self.pad_begin[d], self.pad_end[d]],
                output: self.output[d],
            };
            axis.check(d)?;
        }
        elements(&self.input).and(elements(&self.output)).and(elements(&self.kernel)).map(|_| ())
    }
    /// Elements of one input plane.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }
    /// Elements of one output plane.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }
    /// Taps of the window.
    pub fn kernel_len(&self) -> usize {
        self.kernel.iter().product()
    }
    /// The input index that flat output position `out` reads at flat kernel position `tap`; `None` in the padding.
    pub fn read(&self, mut out: usize, mut tap: usize) -> Option<usize> {
        let (mut index, mut scale) = (0, 1);
        for d in (0..self.rank()).rev() {
            let (o, k) = (out % self.output[d], tap % self.kernel[d]);
            out /= self.output[d];
            tap /= self.kernel[d];
            let at = (o * self.stride[d] + k * self.dilation[d]).checked_sub(self.pad_begin[d])?;
            if at >= self.input[d] {
                return None;
            }
            index += at * scale;
            scale *= self.input[d];
        }
        Some(index)
    }
    /// Calls `f` with each input index that flat output position `out` reads, in row-major order. Only taps inside the input are looked at,
    /// however large the window is.
    pub fn reads(&self, mut out: usize, mut f: impl FnMut(usize)) {
        let rank = self.rank();
        let mut taps = vec![(0, 0..0); rank];
        for d in (0..rank).rev() {
            let start = (out % self.output[d]) * self.stride[d];
            out /= self.output[d];
            let inside = self.pad_begin[d]..self.pad_begin[d] + self.input[d];
            taps[d] = (start, taps_in(start, self.dilation[d], self.kernel[d], inside));
        }
        if taps.iter().any(|(_, t)| t.is_empty()) {
            return;
        }
        let mut at: Vec<usize> = taps.iter().map(|(_, t)| t.start).collect();
        loop {
            f((0..rank).fold(0, |index, d| index * self.input[d] + taps[d].0 + at[d] * self.dilation[d] - self.pad_begin[d]));
            let Some(d) = (0..rank).rev().find(|&d| at[d] + 1 < taps[d].1.end) else { return };
            at[d] += 1;
            at[d + 1..].iter_mut().zip(&taps[d + 1..]).for_each(|(a, (_, t))| *a = t.start);
        }
    }
    /// Taps of output position `out` that lie inside the input or, with `padding`, inside the input and its padding.
    pub fn count(&self, mut out: usize, padding: bool) -> usize {
        let mut count = 1;
        for d in (0..self.rank()).rev() {
            let start = (out % self.output[d]) * self.stride[d];
            out /= self.output[d];
            let end = self.pad_begin[d] + self.input[d];
            let within = if padding { 0..end + self.pad_end[d] } else { self.pad_begin[d]..end };
            count *= taps_in(start, self.dilation[d], self.kernel[d], within).len();
        }
        count
    }
    /// The same window with one-dimensional axes widened to two (a height of 1).
    #[must_use]
    pub fn as_2d(&self) -> Option<Window2> {
        let pair = |v: &[usize], fill: usize| match *v {
            [w] => Some([fill, w]),
            [h, w] => Some([h, w]),
            _ => None,
        };
        Some(Window2 {
            input: pair(&self.input, 1)?,
            kernel: pair(&self.kernel, 1)?,
            stride: pair(&self.stride, 1)?,
            dilation: pair(&self.dilation, 1)?,
            pad: pair(&self.pad_begin, 0)?,
            output: pair(&self.output, 1)?,
        })
    }
}

/// A [`Window`] over height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window2 {
    /// Height and width of the input, without padding.
    pub input: [usize; 2],
    /// Taps along height and width.
    pub kernel: [usize; 2],
    /// Input positions from one output to the next.
    pub stride: [usize; 2],
    /// Input positions from one tap to the next.
    pub dilation: [usize; 2],
    /// Padding at the top and the left.
    pub pad: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
}

/// Kernel positions `k` at which `start + k · dilation` lies in a range.
fn taps_in(start: usize, dilation: usize, kernel: usize, within: Range<usize>) -> Range<usize> {
    let first = |at: usize| at.saturating_sub(start).div_ceil(dilation).min(kernel);
    let end = first(within.end);
    first(within.start).min(end)..end
}

impl Window2 {
    /// Checks that no number that is worked out from the window overflows.
    ///
    /// # Errors
    /// As [`Window::check`].
    pub fn check(&self) -> Result<()> {
        for d in 0..2 {
            let axis = Axis {
                input: self.input[d],
                kernel: self.kernel[d],
                stride: self.stride[d],
                dilation: self.dilation[d],
                pads: [self.pad[d], 0],
                output: self.output[d],
            };
            axis.check(d)?;
        }
        elements(&self.input).and(elements(&self.output)).and(elements(&self.kernel)).map(|_| ())
    }
    /// Positions of axis `d`, padding before the input included, that the input and the window at its last output take.
    pub fn span(&self, d: usize) -> usize {
        let reached = self.output[d].saturating_sub(1) * self.stride[d] + (self.kernel[d] - 1) * self.dilation[d] + 1;
        reached.max(self.pad[d] + self.input[d])
    }
    /// True when an axis steps over, or pads with, many times the positions that it has: kernels that lay out a place for each phase of a stride
    /// and each position of a padded image would take memory that neither input nor output account for.
    pub fn is_sparse(&self) -> bool {
        (0..2).any(|d| self.span(d).max(self.stride[d]) > 8 * self.input[d].max(self.output[d]) + 64)
    }
    /// Kernel positions of axis `d` that lie inside the input for output position `o`.
    pub fn taps(&self, d: usize, o: usize) -> Range<usize> {
        self.taps_in(d, o, self.pad[d]..self.pad[d] + self.input[d])
    }
    /// True when each output position has a kernel position inside the input: an empty window has no largest value, but that of its type.
    pub fn reads_everywhere(&self) -> bool {
        (0..2).all(|d| (0..self.output[d]).all(|o| !self.taps(d, o).is_empty()))
    }
    /// Kernel positions of axis `d` that lie in a range of positions, padding before the input included, for output `o`.
    pub fn taps_in(&self, d: usize, o: usize, within: Range<usize>) -> Range<usize> {
        taps_in(o * self.stride[d], self.dilation[d], self.kernel[d], within)
    }
    /// Kernel positions of axis `d` that may lie inside the input for some output position: no others do.
    pub fn useful(&self, d: usize) -> Range<usize> {
        let last = self.output[d].saturating_sub(1) * self.stride[d];
        let end = taps_in(0, self.dilation[d], self.kernel[d], 0..self.pad[d] + self.input[d]).end;
        let start = self.pad[d].saturating_sub(last).div_ceil(self.dilation[d]).min(end);
        start..end
    }
    /// Output positions of axis `d` at which kernel position `k` reads inside the input: a half-open range.
    pub fn valid(&self, d: usize, k: usize) -> (usize, usize) {
        let (shift, stride) = (k * self.dilation[d], self.stride[d]);
        let start = self.pad[d].saturating_sub(shift).div_ceil(stride).min(self.output[d]);
        let end = match (self.input[d] + self.pad[d]).checked_sub(shift + 1) {
            Some(last) => (last / stride + 1).min(self.output[d]),
            None => 0,
        };
        (start, end.max(start))
    }
    /// True for a window that reads each input position once, in order.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0] && self.input == self.output
    }
}
