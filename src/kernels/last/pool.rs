//! Max and average pools of float32 images, channels last.

use super::{Args, Job, PART, View, share};
use crate::kernels::activation::wide;
use crate::kernels::window::Window2;
use std::ops::Range;

/// Largest value under the window; a NaN is largest, and a window of nothing gives −∞.
///
/// # Panics
/// When window and views do not fit together, or a view is not channels last.
pub fn max_pool(window: &Window2, input: View, output: View) -> Box<dyn Job> {
    Box::new(Pool::new(window, input, output, None))
}

/// Mean under the window: over what lies inside the image or, with `count_padding`, inside the image and its padding,
/// of which `pad_end` is at the bottom and the right. A window of nothing gives 0.
///
/// # Panics
/// When window and views do not fit together, or a view is not channels last.
pub fn average_pool(window: &Window2, input: View, output: View, count_padding: bool, pad_end: [usize; 2]) -> Box<dyn Job> {
    let counts = [0, 1].map(|d| {
        let limit = if count_padding { window.pad[d] + window.input[d] + pad_end[d] } else { window.pad[d] + window.input[d] };
        let first = if count_padding { 0 } else { window.pad[d] };
        let inside = |o: usize, k: usize| (first..limit).contains(&(o * window.stride[d] + k * window.dilation[d]));
        (0..window.output[d]).map(|o| (0..window.kernel[d]).filter(|&k| inside(o, k)).count()).collect()
    });
    Box::new(Pool::new(window, input, output, Some(counts)))
}

/// Channels that are worked on at once.
const CHUNK: usize = 64;

struct Pool {
    window: Window2,
    input: View,
    output: View,
    /// Of a mean: positions that count, by output row and column.
    counts: Option<[Vec<usize>; 2]>,
}

impl Pool {
    fn new(window: &Window2, input: View, output: View, counts: Option<[Vec<usize>; 2]>) -> Self {
        let (w, i, o) = (window, &input, &output);
        assert!(w.input == [i.height, i.width] && w.output == [o.height, o.width], "views of a pool over {w:?}: {i:?} {o:?}");
        assert!([w.kernel, w.stride, w.dilation].iter().flatten().all(|&n| n > 0), "a window of nothing: {w:?}");
        assert!(i.channels == o.channels && i.channel == 1 && o.channel == 1, "views of a pool: {i:?} {o:?}");
        Self { window: *window, input, output, counts }
    }
    /// Channels by which the image is cut.
    fn chunks(&self) -> usize {
        self.output.channels.div_ceil(CHUNK)
    }
    /// Kernel positions of axis `d` that lie inside the image for output position `o`.
    fn taps(&self, d: usize, o: usize) -> Range<usize> {
        let w = &self.window;
        let start = o * w.stride[d];
        let first = w.pad[d].saturating_sub(start).div_ceil(w.dilation[d]);
        let end = (w.pad[d] + w.input[d]).saturating_sub(start).div_ceil(w.dilation[d]).min(w.kernel[d]);
        first.min(end)..end
    }
    /// One row of output, `N` or fewer channels of it.
    ///
    /// # Safety
    /// As [`Job::run`]; `n <= CHUNK` channels are there.
    #[inline(always)]
    unsafe fn row(&self, y: usize, from: *const f32, to: *mut f32, n: usize, merge: impl Fn(&mut f32, f32)) {
        let (w, i, o) = (&self.window, &self.input, &self.output);
        let down = self.taps(0, y);
        for x in 0..o.width {
            let across = self.taps(1, x);
            let mut acc = [if self.counts.is_none() { f32::NEG_INFINITY } else { 0.0 }; CHUNK];
            for ky in down.clone() {
                let row = (y * w.stride[0] + ky * w.dilation[0] - w.pad[0]) * i.row;
                for kx in across.clone() {
                    let at = row + (x * w.stride[1] + kx * w.dilation[1] - w.pad[1]) * i.pixel;
                    // SAFETY: the tap is inside the image.
                    let v = unsafe { std::slice::from_raw_parts(from.add(at), n) };
                    acc[..n].iter_mut().zip(v).for_each(|(a, &v)| merge(a, v));
                }
            }
            if let Some([rows, columns]) = &self.counts {
                let scale = 1.0 / (rows[y] * columns[x]).max(1) as f32;
                acc[..n].iter_mut().for_each(|a| *a *= scale);
            }
            // SAFETY: the pixel is inside the output.
            unsafe { to.add(y * o.row + x * o.pixel).copy_from_nonoverlapping(acc.as_ptr(), n) };
        }
    }
}

impl Job for Pool {
    fn name(&self) -> String {
        let [h, w] = self.window.kernel;
        format!("{} pool {h}x{w}", if self.counts.is_some() { "average" } else { "max" })
    }
    fn parts(&self) -> usize {
        let o = &self.output;
        let work = o.height * o.width * o.channels * self.window.kernel[0] * self.window.kernel[1];
        (work / 4).div_ceil(PART).clamp(1, (o.height * self.chunks()).max(1))
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let chunks = self.chunks();
        for unit in share(self.output.height * chunks, part, self.parts()) {
            let (y, first) = (unit / chunks, unit % chunks * CHUNK);
            let n = CHUNK.min(self.output.channels - first);
            wide(
                #[inline(always)]
                || {
                    // SAFETY: the caller vouches for the views; `n` channels from `first` on are inside them.
                    unsafe {
                        let (from, to) = (args.inputs[0].cast::<f32>().add(first), args.outputs[0].cast::<f32>().add(first));
                        match (self.counts.is_some(), n) {
                            (false, CHUNK) => self.row(y, from, to, CHUNK, larger),
                            (false, _) => self.row(y, from, to, n, larger),
                            (true, CHUNK) => self.row(y, from, to, CHUNK, |a, v| *a += v),
                            (true, _) => self.row(y, from, to, n, |a, v| *a += v),
                        }
                    }
                },
            );
        }
    }
}

/// Keeps the larger of two; a NaN is largest.
#[inline(always)]
fn larger(best: &mut f32, v: f32) {
    *best = if (v > *best) | v.is_nan() { v } else { *best };
}
