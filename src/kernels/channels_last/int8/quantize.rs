//! Between real numbers and bytes, and from bytes to bytes through a table.

use super::super::job::{Args, Job, cut, share};
use super::super::operand::{Element, Operand, Operands};
use super::super::view::View;
use super::bytes::{divide_row, round_row, transpose_pixels};
use super::quant::Quant;
use super::spec::{Bytes, byte_input, byte_outputs};
use super::store::Writer;
use crate::level::Level;
use compresso_base::error::{Error, Result};

/// A job from one input of float32, of any strides, to one output of bytes per view.
///
/// # Errors
/// `Shape` when the size of an output differs from that of the input.
pub fn quantize(inverse_scale: f32, zero: u8, input: View, outputs: Vec<Bytes>, threads: usize) -> Result<Box<dyn Job>> {
    quantize_with(Level::best(), inverse_scale, zero, input, &outputs, threads)
}

/// [`quantize`] with given instructions.
///
/// # Errors
/// As [`quantize`]; `Unavailable` when the machine lacks the instructions.
pub fn quantize_with(level: Level, inverse_scale: f32, zero: u8, input: View, outputs: &[Bytes], threads: usize) -> Result<Box<dyn Job>> {
    level.check()?;
    let quant = Some(Quant::new(inverse_scale, zero));
    Ok(Box::new(Quantize::new(level, quant, input, outputs, threads)?))
}

/// A job from an image of float32, of any strides, its scale and its zero point, as [`super::scale`] writes them, to one output
/// of bytes per view: `q = clamp(round_ties_even(x / scale) + zero, 0, 255)`.
///
/// # Errors
/// `Shape` when the size of an output differs from that of the input.
pub fn quantize_measured(input: View, outputs: &[Bytes], threads: usize) -> Result<Box<dyn Job>> {
    Ok(Box::new(Quantize::new(Level::best(), None, input, outputs, threads)?))
}

/// Bytes that are staged at a time, unless a pixel has more.
const STAGE: usize = 8192;

struct Quantize {
    level: Level,
    /// `None`: scale and zero point are read.
    quant: Option<Quant>,
    operands: Operands,
    input: View,
    /// Pixels of a row that are staged at a time.
    chunk: usize,
    writer: Writer,
    threads: usize,
}

impl Quantize {
    fn new(level: Level, quant: Option<Quant>, input: View, outputs: &[Bytes], threads: usize) -> Result<Self> {
        let to = byte_outputs(outputs, input.height, input.width, input.channels)?;
        let mut from = vec![Operand::image(Element::F32, &input)?];
        if quant.is_none() {
            from.extend([Operand::strided(Element::F32, &[1], &[1])?, Operand::strided(Element::U8, &[1], &[1])?]);
        }
        let operands = Operands::new(from, to)?;
        let chunk = (STAGE / input.channels.max(1)).clamp(1, input.width.max(1));
        Ok(Self { level, quant, operands, input, chunk, writer: Writer::new(level, outputs), threads })
    }
    /// Bytes of a row, as [`round_row`] or as [`divide_row`].
    ///
    /// # Safety
    /// Both rows are valid, and `args` are those of the job.
    unsafe fn round(&self, args: Args<'_>, from: *const f32, n: usize, to: *mut u8) {
        // SAFETY: the caller's promise; the level was detected.
        unsafe {
            match self.quant {
                Some(quant) => round_row(self.level, quant, from, n, to),
                None => divide_row(*args.inputs[1].cast::<f32>(), *args.inputs[2], from, n, to),
            }
        }
    }
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
    fn operands(&self) -> &Operands {
        &self.operands
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
                        self.round(args, from, n * channels, scratch);
                    } else if self.input.channel == 1 {
                        for i in 0..n {
                            self.round(args, from.add(i * self.input.pixel), channels, scratch.add(i * channels));
                        }
                    } else {
                        for c in 0..channels {
                            let mut from = from.add(c * self.input.channel);
                            if self.input.pixel != 1 {
                                (0..n).for_each(|i| *reals.add(i) = *from.add(i * self.input.pixel));
                                from = reals;
                            }
                            self.round(args, from, n, planes.add(c * n));
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
/// # Errors
/// `Shape` when sizes differ or the input is not channels last.
pub fn dequantize(table: Box<[f32; 256]>, input: View, output: View, threads: usize) -> Result<Box<dyn Job>> {
    if input.size() != output.size() {
        return Err(Error::shape(format!("a dequantization must keep the size: {input:?} {output:?}")));
    }
    let operands = Operands::new(vec![byte_input(&input)?], vec![Operand::image(Element::F32, &output)?])?;
    Ok(Box::new(Dequantize { table, operands, input, output, threads }))
}

struct Dequantize {
    table: Box<[f32; 256]>,
    operands: Operands,
    input: View,
    output: View,
    threads: usize,
}

impl Job for Dequantize {
    fn name(&self) -> String {
        format!("dequantize {}", self.input.channels)
    }
    fn operands(&self) -> &Operands {
        &self.operands
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
/// # Errors
/// `Shape` when sizes differ or a view is not channels last.
pub fn table(input: View, outputs: Vec<Bytes>, threads: usize) -> Result<Box<dyn Job>> {
    table_with(Level::best(), input, &outputs, threads)
}

/// [`table()`] with given instructions.
///
/// # Errors
/// As [`table()`]; `Unavailable` when the machine lacks the instructions.
pub fn table_with(level: Level, input: View, outputs: &[Bytes], threads: usize) -> Result<Box<dyn Job>> {
    level.check()?;
    let operands = Operands::new(vec![byte_input(&input)?], byte_outputs(outputs, input.height, input.width, input.channels)?)?;
    Ok(Box::new(Table { operands, input, writer: Writer::new(level, outputs), threads }))
}

struct Table {
    operands: Operands,
    input: View,
    writer: Writer,
    threads: usize,
}

impl Job for Table {
    fn name(&self) -> String {
        format!("table {}", self.input.channels)
    }
    fn operands(&self) -> &Operands {
        &self.operands
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
