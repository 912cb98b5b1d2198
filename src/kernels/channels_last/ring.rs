//! Rows of an image, copied with zeros around them: what a window reads of a few channels then lies together, at even
//! distances, and no tap is outside.

use super::job::{about, parts_for};
use super::spec::ConvSpec;
use super::view::View;
use crate::activation::wide;
use crate::window::Window2;

/// Most floats of the copied rows.
const MOST: usize = 1 << 18;
/// Bytes of an image that units, one after another, read from the second-level cache.
const CACHED: usize = 256 << 10;

/// The rows under a window of some channels of an image: `[rows, width, depth]`.
#[derive(Debug, Clone)]
pub struct Ring {
    window: Window2,
    input: View,
    depth: usize,
    /// Pixels of a row, padding included.
    width: usize,
    rows: usize,
}

impl Ring {
    /// For up to `depth` channels and the windows of `columns` output pixels of a row; none where the rows are too long.
    pub fn new(window: &Window2, input: &View, depth: usize, columns: usize) -> Option<Self> {
        let span = |d: usize| (window.kernel[d] - 1) * window.dilation[d] + 1;
        let width = columns.saturating_sub(1).checked_mul(window.stride[1])?.checked_add(span(1))?;
        let rows = span(0).min(input.height);
        let floats = rows.checked_mul(width)?.checked_mul(depth)?;
        (floats <= MOST).then_some(Self { window: *window, input: *input, depth, width, rows })
    }
    /// Most kernel rows that lie inside the image.
    fn taps(&self) -> usize {
        self.window.kernel[0].min(self.input.height)
    }
    fn floats(&self) -> usize {
        (self.rows * self.width * self.depth).next_multiple_of(16)
    }
    /// Bytes of scratch memory, aligned to 64.
    pub fn scratch(&self) -> usize {
        self.floats() * size_of::<f32>() + self.taps() * size_of::<*const f32>()
    }
    /// # Safety
    /// The scratch has [`Ring::scratch`] bytes, aligned to 64, that nothing else uses while the rows are there.
    pub unsafe fn rows(&self, scratch: *mut u8) -> Rows<'_> {
        let memory = scratch.cast::<f32>();
        // SAFETY: the table lies behind the floats, aligned; null is an address.
        let table = unsafe {
            let table = memory.add(self.floats()).cast::<*const f32>();
            table.write_bytes(0, self.taps());
            std::slice::from_raw_parts_mut(table, self.taps())
        };
        Rows { ring: self, from: std::ptr::null(), count: 0, memory, table, next: 0 }
    }
}

/// What the pixels of a tile are summed from.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Kernel rows inside the image.
    pub rows: &'a [*const f32],
    /// Floats from the start of each to the first tap of the first pixel.
    pub at: usize,
    /// Of the first of the rows.
    pub weights: *const f32,
    pub bias: *const f32,
}

/// A [`Ring`] that moves down an image.
pub struct Rows<'a> {
    ring: &'a Ring,
    /// The first of `count` channels of the image.
    from: *const f32,
    count: usize,
    memory: *mut f32,
    table: &'a mut [*const f32],
    /// The first row of the image that has not been copied, among those that are still needed.
    next: usize,
}

impl Rows<'_> {
    /// Turns to `count` channels, at most the ring's depth, of which `from` is the first of the image.
    ///
    /// # Safety
    /// Until the next call, those channels can be read.
    pub unsafe fn turn(&mut self, from: *const f32, count: usize) {
        if self.from.is_null() {
            // What no row covers, beside the image, stays zero. Beyond `count` channels there may be those of a turn before.
            // SAFETY: the scratch has so many floats.
            unsafe { self.memory.write_bytes(0, self.ring.floats()) };
        }
        (self.from, self.count, self.next) = (from, count, 0);
    }

    /// The kernel rows inside the image at output row `y`: the first of them, and where the padded copy of each begins.
    /// Calls after a [`Rows::turn`] move down.
    pub fn at(&mut self, y: usize) -> (usize, &[*const f32]) {
        let (ring, w) = (self.ring, &self.ring.window);
        let taps = w.taps(0, y);
        let row = |tap: usize| y * w.stride[0] + tap * w.dilation[0] - w.pad[0];
        let found = &mut self.table[..taps.len()];
        if let (Some(last), false) = (taps.end.checked_sub(1), taps.is_empty()) {
            // All rows from the window's first on: those between its taps are taps of the windows below.
            let first = (y * w.stride[0]).saturating_sub(w.pad[0]);
            for y in self.next.max(first)..=row(last) {
                // SAFETY: the row is inside the image, whose channels can be read.
                unsafe { ring.copy(self.from.add(y * ring.input.row), self.count, self.memory.add(ring.start(y))) };
            }
            self.next = self.next.max(row(last) + 1);
        }
        for (tap, at) in taps.clone().zip(&mut *found) {
            *at = self.memory.wrapping_add(ring.start(row(tap)));
        }
        (taps.start, found)
    }
}

impl Ring {
    /// Where the copy of an image's row begins.
    fn start(&self, y: usize) -> usize {
        y % self.rows * self.width * self.depth
    }

    /// Copies a row, behind its padding.
    ///
    /// # Safety
    /// `count` channels of the pixels of a row can be read; `to` is a row of the ring.
    unsafe fn copy(&self, from: *const f32, count: usize, to: *mut f32) {
        let Self { input: View { pixel, channel, width, .. }, depth, .. } = *self;
        let before = self.window.pad[1];
        let n = self.width.saturating_sub(before).min(width);
        if n == 0 {
            return;
        }
        // SAFETY: pixels `before..before + n` are inside the ring's row, and `n` pixels inside the image's.
        unsafe {
            let to = to.add(before * depth);
            match (channel, count) {
                (1, _) if pixel == count && depth == count => to.copy_from_nonoverlapping(from, n * count),
                (1, 16) => chunks::<16>(from, pixel, n, to, depth),
                (1, 8) => chunks::<8>(from, pixel, n, to, depth),
                (1, _) => (0..n).for_each(|x| to.add(x * depth).copy_from_nonoverlapping(from.add(x * pixel), count)),
                (_, 3) if depth == 3 && pixel == 1 => three_planes(from, channel, n, to),
                _ => (0..count).for_each(|c| (0..n).for_each(|x| *to.add(x * depth + c) = *from.add(x * pixel + c * channel))),
            }
        }
    }
}

/// Copies `N` channels of `n` pixels.
///
/// # Safety
/// They can be read and written.
#[inline(always)]
unsafe fn chunks<const N: usize>(from: *const f32, pixel: usize, n: usize, to: *mut f32, depth: usize) {
    // SAFETY: as the caller vouches.
    wide(
        #[inline(always)]
        || unsafe {
            for x in 0..n {
                to.add(x * depth).cast::<[f32; N]>().write_unaligned(from.add(x * pixel).cast::<[f32; N]>().read_unaligned());
            }
        },
    );
}

/// Interleaves rows of three planes, four pixels at a time.
///
/// # Safety
/// `n` pixels can be read and written.
#[inline(always)]
unsafe fn three_planes(from: *const f32, channel: usize, n: usize, to: *mut f32) {
    // SAFETY: as the caller vouches.
    wide(
        #[inline(always)]
        || unsafe {
            let whole = n / 4 * 4;
            for x in (0..whole).step_by(4) {
                let [a, b, c]: [[f32; 4]; 3] = std::array::from_fn(|c| from.add(c * channel + x).cast::<[f32; 4]>().read_unaligned());
                let pixels = [a[0], b[0], c[0], a[1], b[1], c[1], a[2], b[2], c[2], a[3], b[3], c[3]];
                to.add(x * 3).cast::<[f32; 12]>().write_unaligned(pixels);
            }
            for x in whole..n {
                (0..3).for_each(|c| *to.add(x * 3 + c) = *from.add(c * channel + x));
            }
        },
    );
}

/// Parts by rows of the output and by units of channels, for `work` operations.
pub fn cut(spec: &ConvSpec, units: usize, work: usize, threads: usize) -> [usize; 2] {
    let (x, y) = (&spec.input, &spec.output);
    let wanted = parts_for(work, threads);
    // Each block of rows reads some of its neighbours' again.
    let most = (y.height / spec.window.kernel[0].clamp(1, 8)).max(1);
    let blocks = if units > 1 { about(&[x.height, x.width, x.channels, size_of::<f32>()]) / CACHED } else { 1 };
    let rows = blocks.clamp(1, most);
    let by_units = wanted.div_ceil(rows).clamp(1, units.max(1));
    [rows.max(wanted.div_ceil(by_units).min(y.height)), by_units]
}
