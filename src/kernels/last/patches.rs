//! Where the taps of a window lie in memory.

use super::View;
use crate::kernels::window::Window2;

/// A window over a view.
#[derive(Debug, Clone)]
pub struct Patches {
    window: Window2,
    input: View,
    /// Elements from the first tap to each tap.
    offsets: Vec<usize>,
}

/// Input row and column of the first tap of one output pixel; it may lie in the padding.
pub type Corner = [isize; 2];

impl Patches {
    pub fn new(window: &Window2, input: View) -> Self {
        let [_, kw] = window.kernel;
        let at = |k: usize| k / kw * window.dilation[0] * input.row + k % kw * window.dilation[1] * input.pixel;
        Self { window: *window, input, offsets: (0..window.kernel[0] * kw).map(at).collect() }
    }
    /// Number of taps.
    pub fn taps(&self) -> usize {
        self.offsets.len()
    }
    /// Elements from the first tap to tap `k`.
    pub fn offset(&self, k: usize) -> usize {
        self.offsets[k]
    }
    /// The first taps of consecutive output pixels from `first` on, in rows.
    #[inline]
    pub fn corners(&self, first: usize, corners: &mut [Corner]) {
        let w = &self.window;
        let (mut y, mut x) = (first / w.output[1], first % w.output[1]);
        for corner in corners {
            *corner = [(y * w.stride[0]) as isize - w.pad[0] as isize, (x * w.stride[1]) as isize - w.pad[1] as isize];
            x += 1;
            if x == w.output[1] {
                (y, x) = (y + 1, 0);
            }
        }
    }
    /// True when no tap lies in the padding.
    #[inline]
    pub fn inside(&self, corners: &[Corner]) -> bool {
        let w = &self.window;
        let last = [0, 1].map(|d| w.input[d] as isize - ((w.kernel[d] - 1) * w.dilation[d]) as isize);
        corners.iter().all(|c| c[0] >= 0 && c[1] >= 0 && c[0] < last[0] && c[1] < last[1])
    }
    /// Address of the first tap of a pixel; outside the image when it lies in the padding.
    #[inline]
    pub fn first(&self, base: *const f32, corner: Corner) -> *const f32 {
        base.wrapping_offset(corner[0] * self.input.row as isize + corner[1] * self.input.pixel as isize)
    }
    /// Address of tap `k` of a pixel; none in the padding.
    #[inline]
    pub fn tap(&self, base: *const f32, corner: Corner, k: usize) -> Option<*const f32> {
        let w = &self.window;
        let y = corner[0] + (k / w.kernel[1] * w.dilation[0]) as isize;
        let x = corner[1] + (k % w.kernel[1] * w.dilation[1]) as isize;
        let inside = y >= 0 && x >= 0 && y < w.input[0] as isize && x < w.input[1] as isize;
        inside.then(|| base.wrapping_add(y as usize * self.input.row + x as usize * self.input.pixel))
    }
    /// Fills `table: [taps, pixels]` with the addresses of taps, `zeros` for those in the padding.
    #[inline]
    pub fn table(&self, base: *const f32, corners: &[Corner], zeros: *const f32, table: &mut [*const f32]) {
        if self.inside(corners) {
            for (row, &offset) in table.chunks_exact_mut(corners.len()).zip(&self.offsets) {
                row.iter_mut().zip(corners).for_each(|(t, &c)| *t = self.first(base, c).wrapping_add(offset));
            }
        } else {
            for (k, row) in table.chunks_exact_mut(corners.len()).enumerate() {
                row.iter_mut().zip(corners).for_each(|(t, &c)| *t = self.tap(base, c, k).unwrap_or(zeros));
            }
        }
    }
}
