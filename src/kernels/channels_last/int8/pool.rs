//! Pools of bytes. A row of results takes two steps: down the rows under the window, then along it.

use super::super::job::{Args, Job, cut, share};
use super::super::operand::Operands;
use super::super::spec::{fits, product};
use super::super::view::View;
use super::spec::{AveragePool, Bytes, byte_input, byte_outputs};
use super::store::Sink;
use crate::activation::wide;
use crate::level::Level;
use crate::window::Window2;
use compresso_base::error::{Error, Result};
use std::ops::Range;

/// A job from one input of bytes to one output of bytes: the largest under the window; 0 where it holds only padding.
///
/// # Errors
/// `Shape` when sizes do not agree or a view is not channels last.
pub fn max_pool(window: Window2, input: View, output: View, threads: usize) -> Result<Box<dyn Job>> {
    fits(&window, &input, output.height, output.width)?;
    if output.channels != input.channels {
        return Err(Error::shape(format!("a pool must keep the channels, got {} and {}", input.channels, output.channels)));
    }
    let to = byte_outputs(&[Bytes::whole(output)], output.height, output.width, output.channels)?;
    let operands = Operands::new(vec![byte_input(&input)?], to)?;
    Ok(Box::new(MaxPool { window, operands, input, output, threads }))
}

/// The taps of axis `d` that lie inside the input at output position `out`, as input positions.
fn inside(w: &Window2, d: usize, out: usize) -> impl Iterator<Item = usize> + Clone {
    let (start, pad, step) = (out * w.stride[d], w.pad[d], w.dilation[d]);
    w.taps(d, out).map(move |k| start + k * step - pad)
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
    operands: Operands,
    input: View,
    output: View,
    threads: usize,
}

impl Job for MaxPool {
    fn name(&self) -> String {
        format!("int8 max pool {}x{}", self.window.kernel[0], self.window.kernel[1])
    }
    fn operands(&self) -> &Operands {
        &self.operands
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

/// A job with one input of bytes and the outputs of its store.
///
/// # Errors
/// `Shape` when sizes do not agree or the input is not channels last, `Unsupported` when the window has more than 2^23 taps.
pub fn average_pool(spec: &AveragePool) -> Result<Box<dyn Job>> {
    average_pool_with(Level::best(), spec)
}

/// [`average_pool`] with given instructions.
///
/// # Errors
/// As [`average_pool`]; `Unavailable` when the machine lacks the instructions.
pub fn average_pool_with(level: Level, spec: &AveragePool) -> Result<Box<dyn Job>> {
    level.check()?;
    let w = &spec.window;
    fits(w, &spec.input, w.output[0], w.output[1])?;
    if product(&w.kernel).is_none_or(|taps| taps > 1 << 23) {
        return Err(Error::unsupported(format!("a pool's window of more than 2^23 taps: {:?}", w.kernel)));
    }
    let to = spec.store.outputs(w.output[0], w.output[1], spec.input.channels)?;
    let operands = Operands::new(vec![byte_input(&spec.input)?], to)?;
    Ok(Box::new(Average { operands, sink: Sink::new(level, &spec.store), spec: spec.clone() }))
}

struct Average {
    operands: Operands,
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
    fn operands(&self) -> &Operands {
        &self.operands
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
                        let taps = inside(w, 1, x);
                        for (c, real) in reals.iter_mut().enumerate() {
                            let sum: i32 = taps.clone().map(|at| sums[at * channels + c]).sum();
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
