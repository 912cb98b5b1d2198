//! Where the windows of a convolution read: in the input itself, or in a padded copy of a band of it.

use super::super::view::View;
use super::bytes::copy_bytes;
use crate::window::Window2;

/// A band of about so many bytes stays in the second-level cache beside the weights.
const BAND: usize = 1 << 16;

/// A padded copy of the rows that some output rows read. A pixel has the channels of each group, padded to `span`.
#[derive(Debug, Clone, Copy)]
pub struct Band {
    pub window: Window2,
    pub input: View,
    pub groups: usize,
    /// Bytes from one group of channels to the next.
    pub span: usize,
}

/// Bytes from one output row and column to the next, of where their windows begin.
#[derive(Debug, Clone, Copy)]
pub struct Strides {
    pub row: usize,
    pub pixel: usize,
}

impl Band {
    /// Bytes of a pixel.
    pub fn pixel(&self) -> usize {
        self.groups * self.span
    }
    /// Pixels of a row: all that windows reach.
    fn width(&self) -> usize {
        let w = &self.window;
        (w.output[1] - 1) * w.stride[1] + (w.kernel[1] - 1) * w.dilation[1] + 1
    }
    fn row(&self) -> usize {
        self.width() * self.pixel()
    }
    /// Rows under the windows of so many output rows.
    fn height(&self, outputs: usize) -> usize {
        let w = &self.window;
        (outputs - 1) * w.stride[0] + (w.kernel[0] - 1) * w.dilation[0] + 1
    }
    /// Output rows of a band.
    pub fn outputs(&self) -> usize {
        let fit = BAND / self.row().max(1);
        let more = fit.saturating_sub(self.height(1)) / self.window.stride[0];
        (1 + more).min(self.window.output[0].max(1))
    }
    /// Bytes of the copy for one output row, or from one output row to the next where that is more; none when they cannot be
    /// counted.
    pub fn least(&self) -> Option<usize> {
        self.height(1).max(self.window.stride[0]).checked_mul(self.checked_row()?)
    }
    fn checked_row(&self) -> Option<usize> {
        self.width().max(self.window.stride[1]).checked_mul(self.pixel())?;
        self.width().checked_mul(self.pixel())
    }
    /// Bytes from a tap to the one below and the one to the right, each if they can be counted.
    pub fn taps(&self) -> [Option<usize>; 2] {
        let [down, across] = self.window.dilation;
        [self.checked_row().and_then(|row| row.checked_mul(down)), self.pixel().checked_mul(across)]
    }
    /// True when rows are copied whole though there is something between the channels of their pixels: the fourth byte after
    /// three.
    pub fn reads_gaps(&self) -> bool {
        self.groups == 1 && (self.input.channels, self.input.pixel, self.pixel()) == (3, 4, 4)
    }
    /// Bytes of the copy for so many output rows, of which the last may be read beyond.
    pub fn len(&self, outputs: usize) -> usize {
        self.height(outputs) * self.row()
    }
    pub fn strides(&self) -> Strides {
        Strides { row: self.window.stride[0] * self.row(), pixel: self.window.stride[1] * self.pixel() }
    }

    /// Copies what the output rows `first..first + outputs` read; padding is `zero`.
    ///
    /// # Safety
    /// `from` is readable over the input's view, `to` writable for [`Band::len`] bytes.
    pub unsafe fn fill(&self, zero: u8, first: usize, outputs: usize, from: *const u8, to: *mut u8) {
        let (w, pixel, width) = (&self.window, self.pixel(), self.width());
        let left = w.pad[1].min(width);
        let inside = w.input[1].min(width - left);
        for y in 0..self.height(outputs) {
            // SAFETY: a row of the copy, and a row of the input.
            unsafe {
                let to = to.add(y * self.row());
                let at = (first * w.stride[0] + y).checked_sub(w.pad[0]).filter(|&at| at < w.input[0]);
                let Some(at) = at.filter(|_| inside > 0) else {
                    to.write_bytes(zero, self.row());
                    continue;
                };
                to.write_bytes(zero, left * pixel);
                self.fill_row(from.add(at * self.input.row), inside, to.add(left * pixel));
                let done = left + inside;
                to.add(done * pixel).write_bytes(zero, (width - done) * pixel);
            }
        }
    }

    /// # Safety
    /// There are `n` pixels in a row of the input at `from` and of the copy at `to`.
    unsafe fn fill_row(&self, from: *const u8, n: usize, to: *mut u8) {
        let (channels, stride, pixel) = (self.input.channels, self.input.pixel, self.pixel());
        // SAFETY: the caller's promise. What lies between pixels, and in the input need not be readable after the last, is
        // multiplied by zero weights.
        unsafe {
            if self.groups == 1 && stride == pixel && (channels == pixel || self.reads_gaps()) {
                let whole = (n - 1) * pixel + channels;
                from.copy_to_nonoverlapping(to, whole);
                to.add(whole).write_bytes(0, pixel - channels);
                return;
            }
            let per_group = channels / self.groups;
            for x in 0..n {
                let (from, to) = (from.add(x * stride), to.add(x * pixel));
                if per_group == self.span {
                    copy_bytes(from, channels, to);
                    continue;
                }
                for g in 0..self.groups {
                    let to = to.add(g * self.span);
                    copy_bytes(from.add(g * per_group), per_group, to);
                    to.add(per_group).write_bytes(0, self.span - per_group);
                }
            }
        }
    }
}

/// True when no window leaves the input.
pub fn unpadded(w: &Window2) -> bool {
    (0..2).all(|d| w.pad[d] == 0 && (w.output[d] - 1) * w.stride[d] + (w.kernel[d] - 1) * w.dilation[d] < w.input[d])
}
