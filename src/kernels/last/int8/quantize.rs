//! Between real numbers and bytes, and from bytes to bytes through a table.

use super::super::{Args, Job, View, share};
use super::cut;
use super::store::{Bytes, check, to_byte};

/// A job from one input of float32, of any strides, to one output of bytes per view.
///
/// # Panics
/// When the size of an output differs from that of the input.
pub fn quantize(inverse_scale: f32, zero: u8, input: View, outputs: Vec<Bytes>, threads: usize) -> Box<dyn Job> {
    check(&outputs, input.height, input.width, input.channels);
    Box::new(Quantize { inverse_scale, zero, input, outputs, threads })
}

struct Quantize {
    inverse_scale: f32,
    zero: u8,
    input: View,
    outputs: Vec<Bytes>,
    threads: usize,
}

impl Job for Quantize {
    fn name(&self) -> String {
        format!("quantize {}", self.input.channels)
    }
    fn parts(&self) -> usize {
        cut(self.input.height, self.input.height * self.input.width * self.input.channels, self.threads)
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _scratch: *mut u8) {
        let from = args.inputs[0].cast::<f32>();
        for (o, to) in self.outputs.iter().zip(args.outputs) {
            for y in share(self.input.height, part, self.parts()) {
                for x in 0..self.input.width {
                    for c in 0..o.view.channels {
                        let at = y * self.input.row + x * self.input.pixel + (o.first + c) * self.input.channel;
                        // SAFETY: elements of the two views, which the caller promises.
                        unsafe {
                            let q = to_byte(*from.add(at), self.inverse_scale, self.zero);
                            let q = o.table.as_ref().map_or(q, |t| t[usize::from(q)]);
                            *to.add(y * o.view.row + x * o.view.pixel + c) = q;
                        }
                    }
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
        let (from, to) = (args.inputs[0], args.outputs[0].cast::<f32>());
        for y in share(self.input.height, part, self.parts()) {
            for x in 0..self.input.width {
                for c in 0..self.input.channels {
                    // SAFETY: elements of the two views, which the caller promises.
                    unsafe {
                        let q = *from.add(y * self.input.row + x * self.input.pixel + c);
                        *to.add(y * self.output.row + x * self.output.pixel + c * self.output.channel) = self.table[usize::from(q)];
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
    check(&outputs, input.height, input.width, input.channels);
    assert_eq!(input.channel, 1, "bytes are channels last");
    Box::new(Table { input, outputs, threads })
}

struct Table {
    input: View,
    outputs: Vec<Bytes>,
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
        let from = args.inputs[0];
        for (o, to) in self.outputs.iter().zip(args.outputs) {
            for y in share(self.input.height, part, self.parts()) {
                for x in 0..self.input.width {
                    for c in 0..o.view.channels {
                        // SAFETY: elements of the two views, which the caller promises.
                        unsafe {
                            let q = *from.add(y * self.input.row + x * self.input.pixel + o.first + c);
                            let q = o.table.as_ref().map_or(q, |t| t[usize::from(q)]);
                            *to.add(y * o.view.row + x * o.view.pixel + c) = q;
                        }
                    }
                }
            }
        }
    }
}
