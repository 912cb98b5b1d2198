//! Between real numbers and bytes, and from bytes to bytes through a table.

use super::super::{Args, Job, View, share};
use super::bytes::{round_row, transpose_pixels};
use super::cut;
use super::store::{Bytes, Quant, Writer, check};
use crate::conv::tile::Level;

/// A job from one input of float32, of any strides, to one output of bytes per view.
///
/// # Panics
/// When the size of an output differs from that of the input.
pub fn quantize(inverse_scale: f32, zero: u8, input: View, outputs: Vec<Bytes>, threads: usize) -> Box<dyn Job> {
    quantize_with(Level::best(), inverse_scale, zero, input, &outputs, threads)
}

/// [`quantize`] with given instructions, which the machine must have.
///
/// # Panics
/// As [`quantize`].
pub fn quantize_with(level: Level, inverse_scale: f32, zero: u8, input: View, outputs: &[Bytes], threads: usize) -> Box<dyn Job> {
    check(outputs, input.height, input.width, input.channels);
    let chunk = (STAGE / input.channels.max(1)).clamp(1, input.width.max(1));
    Box::new(Quantize { level, quant: Quant { inverse_scale, zero }, input, chunk, writer: Writer::new(level, outputs), threads })
}

/// Bytes that are staged at a time, unless a pixel has more.
const STAGE: usize = 8192;

struct Quantize {
    level: Level,
    quant: Quant,
    input: View,
    /// Pixels of a row that are staged at a time.
    chunk: usize,
    writer: Writer,
    threads: usize,
}

impl Quantize {
    /// Bytes of a staged pixel.
    fn pitch(&self) -> usize {
        if self.input.channel != 1 && self.input.channels == 3 { 4 } else { self.input.channels }
    }
    fn stage(&self) -> usize {
        (self.chunk * self.pitch()).next_multiple_of(64)
    }
}

impl Job for Quantize {
    fn name(&self) -> String {
        format!("quantize {}", self.input.channels)
    }
    fn parts(&self) -> usize {
        cut(self.input.height, self.input.height * self.input.width * self.input.channels, self.threads)
    }
    fn scratch(&self) -> usize {
        // The stage, then planes of one chunk; or with any other stride, a row of reals.
        self.stage() * 2 + self.chunk * 4
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let (View { channels, width, .. }, pitch) = (self.input, self.pitch());
        // SAFETY: the stage, planes and reals are parts of the scratch memory and large enough for a chunk; reads stay in the
        // view.
        unsafe {
            let (planes, reals) = (scratch.add(self.stage()), scratch.add(2 * self.stage()).cast::<f32>());
            for y in share(self.input.height, part, self.parts()) {
                for x in (0..width).step_by(self.chunk) {
                    let n = self.chunk.min(width - x);
                    let from = args.inputs[0].cast::<f32>().add(y * self.input.row + x * self.input.pixel);
                    if self.input.channel == 1 && self.input.pixel == channels {
                        round_row(self.level, self.quant, from, n * channels, scratch);
                    } else if self.input.channel == 1 {
                        for i in 0..n {
                            round_row(self.level, self.quant, from.add(i * self.input.pixel), channels, scratch.add(i * channels));
                        }
                    } else {
                        for c in 0..channels {
                            let mut from = from.add(c * self.input.channel);
                            if self.input.pixel != 1 {
                                (0..n).for_each(|i| *reals.add(i) = *from.add(i * self.input.pixel));
                                from = reals;
                            }
                            round_row(self.level, self.quant, from, n, planes.add(c * n));
                        }
                        transpose_pixels(planes, channels, n, scratch, pitch);
                    }
                    self.writer.write(scratch, pitch, 0..channels, y * width + x, n, args);
                }
            }
        }
    }
}

/// A job from one input of bytes to one output of float32, of any strides: `y = table[q]`.
///
/// # Panics
/// When sizes differ or the input is not channels last.
pub fn dequantize(table: Box<[f32; 256]>, input: View, output: View, threads: usize) -> Box<dyn Job> {
    assert_eq!([input.height, input.width, input.channels], [output.height, output.width, output.channels], "sizes of a dequantization");
    assert_eq!(input.channel, 1, "bytes are channels last");
    Box::new(Dequantize { table, input, output, threads })
}

struct Dequantize {
    table: Box<[f32; 256]>,
    input: View,
    output: View,
    threads: usize,
}

impl Job for Dequantize {
    fn name(&self) -> String {
        format!("dequantize {}", self.input.channels)
    }
    fn parts(&self) -> usize {
        cut(self.input.height, self.input.height * self.input.width * self.input.channels, self.threads)
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _scratch: *mut u8) {
        let View { width, channels, .. } = self.input;
        for y in share(self.input.height, part, self.parts()) {
            // SAFETY: elements of the two views, which the caller promises.
            unsafe {
                let (from, to) = (args.inputs[0].add(y * self.input.row), args.outputs[0].cast::<f32>().add(y * self.output.row));
                let one = |from: *const u8, to: *mut f32| *to = self.table[usize::from(*from)];
                if self.output.channel == 1 {
                    for x in 0..width {
                        let (from, to) = (from.add(x * self.input.pixel), to.add(x * self.output.pixel));
                        (0..channels).for_each(|c| one(from.add(c), to.add(c)));
                    }
                } else {
                    // Along the planes, a few at a time, which share cache lines of the input.
                    for first in (0..channels).step_by(8) {
                        for x in 0..width {
                            let (from, to) = (from.add(x * self.input.pixel), to.add(x * self.output.pixel));
                            (first..channels.min(first + 8)).for_each(|c| one(from.add(c), to.add(c * self.output.channel)));
                        }
                    }
                }
            }
        }
    }
}

/// A job from one input of bytes to one output of bytes per view, each through its table.
///
/// # Panics
/// When sizes differ or a view is not channels last.
pub fn table(input: View, outputs: Vec<Bytes>, threads: usize) -> Box<dyn Job> {
    table_with(Level::best(), input, &outputs, threads)
}

/// [`table()`] with given instructions, which the machine must have.
///
/// # Panics
/// As [`table()`].
pub fn table_with(level: Level, input: View, outputs: &[Bytes], threads: usize) -> Box<dyn Job> {
    check(outputs, input.height, input.width, input.channels);
    assert_eq!(input.channel, 1, "bytes are channels last");
    Box::new(Table { input, writer: Writer::new(level, outputs), threads })
}

struct Table {
    input: View,
    writer: Writer,
    threads: usize,
}

impl Job for Table {
    fn name(&self) -> String {
        format!("table {}", self.input.channels)
    }
    fn parts(&self) -> usize {
        cut(self.input.height, self.input.height * self.input.width * self.input.channels, self.threads)
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _scratch: *mut u8) {
        let View { width, pixel, row, channels, .. } = self.input;
        for y in share(self.input.height, part, self.parts()) {
            // SAFETY: a row of the input and of the outputs.
            unsafe { self.writer.write(args.inputs[0].add(y * row), pixel, 0..channels, y * width, width, args) };
        }
    }
}
