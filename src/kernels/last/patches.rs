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
    /// Where first taps end that have all others inside the image.
    ends: Corner,
}

/// Input row and column of the first tap of one output pixel; it may lie in the padding.
pub type Corner = [isize; 2];

impl Patches {
    pub fn new(window: &Window2, input: View) -> Self {
        let [_, kw] = window.kernel;
        let at = |k: usize| k / kw * window.dilation[0] * input.row + k % kw * window.dilation[1] * input.pixel;
        let end = |d: usize| window.input[d] as isize - ((window.kernel[d] - 1) * window.dilation[d]) as isize;
        Self { window: *window, input, offsets: (0..window.kernel[0] * kw).map(at).collect(), ends: [end(0), end(1)] }
    }
    /// Number of taps.
    pub fn taps(&self) -> usize {
        self.offsets.len()
    }
    /// Elements from the first tap to each tap.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }
    /// The first tap of an output pixel.
    #[inline(always)]
    pub fn corner(&self, y: usize, x: usize) -> Corner {
        let w = &self.window;
        [(y * w.stride[0]) as isize - w.pad[0] as isize, (x * w.stride[1]) as isize - w.pad[1] as isize]
    }
    /// True when no tap lies in the padding.
    #[inline(always)]
    pub fn inside(&self, c: Corner) -> bool {
        c[0] >= 0 && c[1] >= 0 && c[0] < self.ends[0] && c[1] < self.ends[1]
    }
    /// Address of the first tap of a pixel; outside the image when it lies in the padding.
    #[inline(always)]
    pub fn first(&self, base: *const f32, corner: Corner) -> *const f32 {
        base.wrapping_offset(corner[0] * self.input.row as isize + corner[1] * self.input.pixel as isize)
    }
    /// Address of tap `k` of a pixel; none in the padding.
    #[inline(always)]
    pub fn tap(&self, base: *const f32, corner: Corner, k: usize) -> Option<*const f32> {
        let w = &self.window;
        let y = corner[0] + (k / w.kernel[1] * w.dilation[0]) as isize;
        let x = corner[1] + (k % w.kernel[1] * w.dilation[1]) as isize;
        let inside = y >= 0 && x >= 0 && y < w.input[0] as isize && x < w.input[1] as isize;
        inside.then(|| base.wrapping_add(y as usize * self.input.row + x as usize * self.input.pixel))
    }
}
