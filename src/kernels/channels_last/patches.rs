//! Where the pixels of a convolution lie in memory, and the taps of its window.

use super::job::Args;
use super::spec::ConvSpec;
use super::tile::ROWS;
use super::view::View;
use crate::window::Window2;
use std::ops::Range;

/// A window over a view.
#[derive(Debug, Clone)]
pub struct Patches {
    window: Window2,
    input: View,
    output: View,
    residual: Option<View>,
    /// Elements from the first tap to each tap.
    offsets: Vec<usize>,
    /// Where first taps end that have all others inside the image.
    ends: Corner,
}

/// Input row and column of the first tap of one output pixel; it may lie in the padding.
pub type Corner = [isize; 2];

impl Patches {
    pub fn new(spec: &ConvSpec) -> Self {
        let ConvSpec { window, input, output, residual, .. } = *spec;
        let [_, kw] = window.kernel;
        let at = |k: usize| k / kw * window.dilation[0] * input.row + k % kw * window.dilation[1] * input.pixel;
        let end = |d: usize| window.input[d] as isize - ((window.kernel[d] - 1) * window.dilation[d]) as isize;
        let offsets = (0..window.kernel[0] * kw).map(at).collect();
        Self { window, input, output, residual, offsets, ends: [end(0), end(1)] }
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

/// The pixels of a tile.
pub struct Pixels {
    pub corners: [Corner; ROWS],
    /// Addresses of the first taps; outside the image for some when not all are inside.
    pub first: [*const f32; ROWS],
    pub to: [*mut f32; ROWS],
    pub residual: [*const f32; ROWS],
}

impl Pixels {
    pub fn new() -> Self {
        Self {
            corners: [[0; 2]; ROWS],
            first: [std::ptr::null(); ROWS],
            to: [std::ptr::null_mut(); ROWS],
            residual: [std::ptr::null(); ROWS],
        }
    }
    /// Moves to `pixels` of the output, counted in rows; true when all their taps are inside the image.
    #[inline(always)]
    pub fn place(&mut self, patches: &Patches, pixels: Range<usize>, args: Args<'_>) -> bool {
        let Patches { window, input, output, residual, .. } = patches;
        let n = pixels.len();
        let (mut y, mut x) = (pixels.start / output.width, pixels.start % output.width);
        let (from, to) = (args.inputs[0].cast::<f32>(), args.outputs[0].cast::<f32>());
        if x + n <= output.width {
            let corner = patches.corner(y, x);
            let first = patches.first(from, corner);
            let (across, to) = (window.stride[1], to.wrapping_add(y * output.row + x * output.pixel));
            for r in 0..n {
                self.corners[r] = [corner[0], corner[1] + (r * across) as isize];
                self.first[r] = first.wrapping_add(r * across * input.pixel);
                self.to[r] = to.wrapping_add(r * output.pixel);
            }
            if let Some(v) = residual {
                let residual = args.inputs[1].cast::<f32>().wrapping_add(y * v.row + x * v.pixel);
                self.residual.iter_mut().take(n).enumerate().for_each(|(r, p)| *p = residual.wrapping_add(r * v.pixel));
            }
            return patches.inside(corner) && patches.inside(self.corners[n - 1]);
        }
        let mut inside = true;
        for r in 0..n {
            self.corners[r] = patches.corner(y, x);
            inside &= patches.inside(self.corners[r]);
            self.first[r] = patches.first(from, self.corners[r]);
            self.to[r] = to.wrapping_add(y * output.row + x * output.pixel);
            if let Some(v) = residual {
                self.residual[r] = args.inputs[1].cast::<f32>().wrapping_add(y * v.row + x * v.pixel);
            }
            x += 1;
            if x == output.width {
                (y, x) = (y + 1, 0);
            }
        }
        inside
    }
}
