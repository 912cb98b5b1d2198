//! Pools of bytes. A row of results takes two steps: down the rows under the window, then along it.

use super::super::{Args, Job, View, share};
use super::cut;
use super::store::{Sink, Store};
use crate::Window2;
use crate::activation::wide;
use crate::conv::tile::Level;
use std::ops::Range;

/// A job from one input of bytes to one output of bytes: the largest under the window; 0 where it holds only padding.
///
/// # Panics
/// When sizes do not agree or a view is not channels last.
pub fn max_pool(window: Window2, input: View, output: View, threads: usize) -> Box<dyn Job> {
    check(&window, &input);
    assert_eq!([output.height, output.width, output.channels], [window.output[0], window.output[1], input.channels], "output of a pool");
    assert_eq!(output.channel, 1, "bytes are channels last");
    Box::new(MaxPool { window, input, output, threads })
}

fn check(window: &Window2, input: &View) {
    assert_eq!([input.height, input.width], window.input, "input of a pool");
    assert_eq!(input.channel, 1, "bytes are channels last");
}

/// The taps of axis `d` that lie inside the input at output position `out`, as input positions.
fn inside(w: &Window2, d: usize, out: usize) -> impl Iterator<Item = usize> + Clone {
    let (start, pad, input, step) = (out * w.stride[d], w.pad[d], w.input[d], w.dilation[d]);
    (0..w.kernel[d]).filter_map(move |k| (start + k * step).checked_sub(pad).filter(|&at| at < input))
}

/// `rows[x, c] = f(rows[x, c], input[y, x, c])` for the rows `y` under output row `out`.
///
/// # Safety
/// `from` is readable over the view.
#[inline(always)]
unsafe fn down<T>(w: &Window2, view: &View, out: usize, from: *const u8, rows: &mut [T], f: impl Fn(&mut T, u8)) {
    for y in inside(w, 0, out) {
        if view.pixel == view.channels {
            // SAFETY: a row of the view without gaps.
            let row = unsafe { std::slice::from_raw_parts(from.add(y * view.row), view.width * view.channels) };
            rows.iter_mut().zip(row).for_each(|(r, &q)| f(r, q));
            continue;
        }
        for (x, rows) in rows.chunks_exact_mut(view.channels).enumerate() {
            // SAFETY: a pixel of the view.
            let pixel = unsafe { std::slice::from_raw_parts(from.add(y * view.row + x * view.pixel), view.channels) };
            rows.iter_mut().zip(pixel).for_each(|(r, &q)| f(r, q));
        }
    }
}

struct MaxPool {
    window: Window2,
    input: View,
    output: View,
    threads: usize,
}

impl Job for MaxPool {
    fn name(&self) -> String {
        format!("int8 max pool {}x{}", self.window.kernel[0], self.window.kernel[1])
    }
    fn parts(&self) -> usize {
        cut(self.output.height, self.output.height * self.output.width * self.output.channels, self.threads)
    }
    fn scratch(&self) -> usize {
        self.input.width * self.input.channels
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let (w, channels, n) = (&self.window, self.input.channels, self.scratch());
        for y in share(w.output[0], part, self.parts()) {
            // SAFETY: the scratch memory, initialized first; then a pixel of the output at a time, of which this part alone
            // writes the channels.
            unsafe {
                scratch.write_bytes(0, n);
                let rows = std::slice::from_raw_parts_mut(scratch, n);
                wide(
                    #[inline(always)]
                    || {
                        down(w, &self.input, y, args.inputs[0], rows, |r, q| *r = q.max(*r));
                        for x in 0..w.output[1] {
                            let to = args.outputs[0].add(y * self.output.row + x * self.output.pixel);
                            to.write_bytes(0, channels);
                            let to = std::slice::from_raw_parts_mut(to, channels);
                            for at in inside(w, 1, x) {
                                to.iter_mut().zip(&rows[at * channels..]).for_each(|(t, &r)| *t = r.max(*t));
                            }
                        }
                    },
                );
            }
        }
    }
}

/// `real = Σ (q − input_zero) · (scale / count)` over what is under the window.
#[derive(Debug, Clone, PartialEq)]
pub struct AveragePool {
    pub window: Window2,
    /// Channels last.
    pub input: View,
    pub input_zero: u8,
    pub scale: f32,
    /// `Some`: padding counts, as far as this many rows and columns beyond the end of the input.
    pub padded: Option<[usize; 2]>,
    pub store: Store,
    pub threads: usize,
}

impl AveragePool {
    /// What the sum at an output position is divided by; at least 1.
    pub fn count(&self, out: [usize; 2]) -> usize {
        let w = &self.window;
        let along = |d: usize| {
            let start = out[d] * w.stride[d];
            let taps = (0..w.kernel[d]).map(|k| start + k * w.dilation[d]);
            match self.padded {
                Some(end) => taps.filter(|&at| at < w.pad[d] + w.input[d] + end[d]).count(),
                None => taps.filter(|&at| at >= w.pad[d] && at < w.pad[d] + w.input[d]).count(),
            }
        };
        (along(0) * along(1)).max(1)
    }
}

/// A job with one input of bytes and the outputs of its store.
///
/// # Panics
/// When sizes do not agree, the input is not channels last, or the window has more than 2^23 taps.
pub fn average_pool(spec: &AveragePool) -> Box<dyn Job> {
    average_pool_with(Level::best(), spec)
}

/// [`average_pool`] with given instructions, which the machine must have.
///
/// # Panics
/// As [`average_pool`].
pub fn average_pool_with(level: Level, spec: &AveragePool) -> Box<dyn Job> {
    let w = &spec.window;
    check(w, &spec.input);
    assert!(w.kernel[0] * w.kernel[1] <= 1 << 23, "window of a pool");
    spec.store.check(w.output[0], w.output[1], spec.input.channels);
    Box::new(Average { sink: Sink::new(level, &spec.store), spec: spec.clone() })
}

struct Average {
    spec: AveragePool,
    sink: Sink,
}

impl Average {
    /// Offsets in the scratch memory, and its end: 32-bit sums down the rows, reals and bytes of a row of results.
    fn places(&self) -> [Range<usize>; 3] {
        let (w, channels) = (&self.spec.window, self.spec.input.channels);
        let (sums, results) = ((w.input[1] * channels * 4).next_multiple_of(64), w.output[1] * channels);
        let reals = sums + (results * 4).next_multiple_of(64);
        [0..sums, sums..reals, reals..reals + results]
    }
}

impl Job for Average {
    fn name(&self) -> String {
        format!("int8 average pool {}x{}", self.spec.window.kernel[0], self.spec.window.kernel[1])
    }
    fn parts(&self) -> usize {
        cut(self.spec.window.output[0], self.spec.window.input[0] * self.spec.input.width * self.spec.input.channels, self.spec.threads)
    }
    fn scratch(&self) -> usize {
        self.places()[2].end
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let AveragePool { window: w, input, input_zero, scale, .. } = &self.spec;
        let (channels, width, [at_sums, at_reals, at_bytes]) = (input.channels, w.output[1], self.places());
        // SAFETY: the three parts of the scratch memory, initialized first.
        let (sums, reals, bytes) = unsafe {
            scratch.write_bytes(0, self.scratch());
            let sums = std::slice::from_raw_parts_mut(scratch.add(at_sums.start).cast::<i32>(), input.width * channels);
            let reals = std::slice::from_raw_parts_mut(scratch.add(at_reals.start).cast::<f32>(), width * channels);
            (sums, reals, scratch.add(at_bytes.start))
        };
        for y in share(w.output[0], part, self.parts()) {
            wide(
                #[inline(always)]
                || {
                    sums.fill(0);
                    let zero = i32::from(*input_zero);
                    // SAFETY: the caller's promise.
                    unsafe { down(w, input, y, args.inputs[0], sums, |sum, q| *sum += i32::from(q) - zero) };
                    for (x, reals) in reals.chunks_exact_mut(channels).enumerate() {
                        let factor = scale / self.spec.count([y, x]) as f32;
                        for (c, real) in reals.iter_mut().enumerate() {
                            let sum: i32 = inside(w, 1, x).map(|at| sums[at * channels + c]).sum();
                            *real = sum as f32 * factor;
                        }
                    }
                },
            );
            // SAFETY: a row of results; the stage has room for it.
            unsafe { self.sink.write_reals(reals.as_ptr(), channels, 0..channels, y * width, width, bytes, args) };
        }
    }
}
