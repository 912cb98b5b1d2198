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

/// `rows[x, c] = f(rows[x, c], input[y, x, c])` for the rows `y` under output row `out` and the channels `c` of a range.
///
/// # Safety
/// `from` is readable over the view, which has these channels, at least one.
#[inline(always)]
unsafe fn down<T>(w: &Window2, view: &View, channels: Range<usize>, out: usize, from: *const u8, rows: &mut [T], f: impl Fn(&mut T, u8)) {
    for y in inside(w, 0, out) {
        if view.pixel == channels.len() {
            // SAFETY: a row of the view without gaps.
            let row = unsafe { std::slice::from_raw_parts(from.add(y * view.row), view.width * view.channels) };
            rows.iter_mut().zip(row).for_each(|(r, &q)| f(r, q));
            continue;
        }
        for (x, rows) in rows.chunks_exact_mut(channels.len()).enumerate() {
            // SAFETY: channels of a pixel of the view.
            let pixel = unsafe { std::slice::from_raw_parts(from.add(y * view.row + x * view.pixel + channels.start), channels.len()) };
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
                        down(w, &self.input, 0..channels, y, args.inputs[0], rows, |r, q| *r = q.max(*r));
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
    let threads = cut(usize::MAX, w.input[0].saturating_mul(spec.input.width).saturating_mul(spec.input.channels), spec.threads);
    let rows = threads.min(w.output[0]).max(1);
    // Few rows, such as the one of a global pool, are cut along the channels too.
    let columns = if rows * 2 > threads { 1 } else { (threads / rows).min(spec.input.channels / CHANNELS).max(1) };
    Ok(Box::new(Average { operands, sink: Sink::new(level, &spec.store, None, false).0, spec: spec.clone(), rows, columns }))
}

/// Least channels of a part.
const CHANNELS: usize = 32;

struct Average {
    operands: Operands,
    spec: AveragePool,
    sink: Sink,
    /// Parts along output rows and along channels.
    rows: usize,
    columns: usize,
}

impl Average {
    /// Offsets in the scratch memory, and its end: sums down the rows, reals and bytes of a row of results.
    fn places(&self) -> [Range<usize>; 3] {
        let (w, channels) = (&self.spec.window, self.spec.input.channels);
        let (sums, results) = ((w.input[1] * channels * 4).next_multiple_of(64), w.output[1] * channels);
        let reals = sums + (results * 4).next_multiple_of(64);
        [0..sums, sums..reals, reals..reals + results]
    }

    /// Real results of the channels of a part in output row `y`. `sums` has room for the columns of the input.
    ///
    /// # Safety
    /// The input is readable at `from` over its view.
    #[inline(always)]
    unsafe fn row(&self, y: usize, channels: Range<usize>, from: *const u8, sums: &mut [i32], reals: &mut [f32]) {
        let AveragePool { window: w, input, input_zero, scale, .. } = &self.spec;
        let (n, zero) = (channels.len(), i32::from(*input_zero));
        sums.fill(0);
        // SAFETY: the caller's promise.
        unsafe { down(w, input, channels.clone(), y, from, sums, |sum, q| *sum += i32::from(q) - zero) };
        for (x, reals) in reals.chunks_exact_mut(input.channels).enumerate() {
            let factor = scale / self.spec.count([y, x]) as f32;
            let reals = &mut reals[channels.clone()];
            let taps = inside(w, 1, x);
            if taps.clone().count() > 8 {
                // Long windows, which seldom overlap: the columns are added up one after another.
                let (mut total, taps) = ([0i32; CHANNELS], taps);
                for first in (0..n).step_by(CHANNELS) {
                    let count = CHANNELS.min(n - first);
                    total[..count].fill(0);
                    taps.clone().for_each(|at| total[..count].iter_mut().zip(&sums[at * n + first..]).for_each(|(t, &s)| *t += s));
                    reals[first..first + count].iter_mut().zip(&total).for_each(|(real, &sum)| *real = sum as f32 * factor);
                }
                continue;
            }
            for (c, real) in reals.iter_mut().enumerate() {
                let sum: i32 = taps.clone().map(|at| sums[at * n + c]).sum();
                *real = sum as f32 * factor;
            }
        }
    }

    /// As [`Average::row`], for bytes that stand for the numbers of a table.
    ///
    /// # Safety
    /// The input is readable at `from` over its view.
    unsafe fn row_of(&self, table: &[f32; 256], y: usize, channels: Range<usize>, from: *const u8, sums: &mut [f32], reals: &mut [f32]) {
        let AveragePool { window: w, input, .. } = &self.spec;
        let n = channels.len();
        sums.fill(0.0);
        // SAFETY: the caller's promise.
        unsafe { down(w, input, channels.clone(), y, from, sums, |sum, q| *sum += table[usize::from(q)]) };
        for (x, reals) in reals.chunks_exact_mut(input.channels).enumerate() {
            let count = self.spec.count([y, x]) as f32;
            for (c, real) in reals[channels.clone()].iter_mut().enumerate() {
                *real = inside(w, 1, x).fold(0.0, |sum, at| sum + sums[at * n + c]) / count;
            }
        }
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
        self.rows * self.columns
    }
    fn scratch(&self) -> usize {
        self.places()[2].end
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let (input, width, [at_sums, at_reals, at_bytes]) = (&self.spec.input, self.spec.window.output[1], self.places());
        let channels = share(input.channels, part % self.columns, self.columns);
        if channels.is_empty() {
            return;
        }
        let (sums, results) = (input.width * channels.len(), width * input.channels);
        // SAFETY: the three parts of the scratch memory, initialized first.
        let (reals, bytes) = unsafe {
            scratch.write_bytes(0, self.scratch());
            (std::slice::from_raw_parts_mut(scratch.add(at_reals.start).cast::<f32>(), results), scratch.add(at_bytes.start))
        };
        for y in share(self.spec.window.output[0], part / self.columns, self.rows) {
            // SAFETY: the first part of the scratch memory, of numbers of 32 bits; the caller's promise.
            unsafe {
                let sums_at = scratch.add(at_sums.start);
                match &self.spec.table {
                    None => {
                        let sums = std::slice::from_raw_parts_mut(sums_at.cast::<i32>(), sums);
                        wide(
                            #[inline(always)]
                            || self.row(y, channels.clone(), args.inputs[0], sums, reals),
                        );
                    }
                    // Not compiled for wide vectors: gathering from tables is slower than loading from them.
                    Some(table) => {
                        let sums = std::slice::from_raw_parts_mut(sums_at.cast::<f32>(), sums);
                        self.row_of(table, y, channels.clone(), args.inputs[0], sums, reals);
                    }
                }
            }
            // SAFETY: a row of results; the stage has room for it.
            unsafe {
                let from = reals.as_ptr().add(channels.start);
                self.sink.write_reals(from, input.channels, channels.clone(), y * width, width, bytes, args)
            };
        }
    }
}
