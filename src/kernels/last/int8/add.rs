//! Operations on two byte images.

use super::super::{Args, Job, View, share};
use super::cut;

/// A job from inputs a and b of bytes to one output of bytes: `y = table[a · 256 + b]`.
///
/// # Panics
/// When sizes differ or a view is not channels last.
pub fn binary(table: Box<[u8; 65536]>, a: View, b: View, output: View, threads: usize) -> Box<dyn Job> {
    check(&a, &b, &output);
    assert_eq!(output.channel, 1, "bytes are channels last");
    Box::new(Binary { table, a, b, output, threads })
}

/// A job from inputs a and b of bytes to one output of float32, of any strides: `y = table_a[a] + table_b[b]`.
///
/// # Panics
/// When sizes differ or an input is not channels last.
pub fn binary_float(table_a: Box<[f32; 256]>, table_b: Box<[f32; 256]>, a: View, b: View, output: View, threads: usize) -> Box<dyn Job> {
    check(&a, &b, &output);
    Box::new(BinaryFloat { table_a, table_b, a, b, output, threads })
}

fn check(a: &View, b: &View, output: &View) {
    let size = |v: &View| [v.height, v.width, v.channels];
    assert!(size(a) == size(b) && size(a) == size(output), "sizes of an operation on two images");
    assert!(a.channel == 1 && b.channel == 1, "bytes are channels last");
}

struct Binary {
    table: Box<[u8; 65536]>,
    a: View,
    b: View,
    output: View,
    threads: usize,
}

impl Job for Binary {
    fn name(&self) -> String {
        format!("int8 binary {}", self.a.channels)
    }
    fn parts(&self) -> usize {
        cut(self.a.height, self.a.height * self.a.width * self.a.channels, self.threads)
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _scratch: *mut u8) {
        let (from_a, from_b, to) = (args.inputs[0], args.inputs[1], args.outputs[0]);
        for y in share(self.a.height, part, self.parts()) {
            for x in 0..self.a.width {
                for c in 0..self.a.channels {
                    // SAFETY: elements of the views, which the caller promises.
                    unsafe {
                        let a = *from_a.add(y * self.a.row + x * self.a.pixel + c);
                        let b = *from_b.add(y * self.b.row + x * self.b.pixel + c);
                        *to.add(y * self.output.row + x * self.output.pixel + c) = self.table[usize::from(a) * 256 + usize::from(b)];
                    }
                }
            }
        }
    }
}

struct BinaryFloat {
    table_a: Box<[f32; 256]>,
    table_b: Box<[f32; 256]>,
    a: View,
    b: View,
    output: View,
    threads: usize,
}

impl Job for BinaryFloat {
    fn name(&self) -> String {
        format!("int8 add {}", self.a.channels)
    }
    fn parts(&self) -> usize {
        cut(self.a.height, self.a.height * self.a.width * self.a.channels, self.threads)
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _scratch: *mut u8) {
        let (from_a, from_b, to) = (args.inputs[0], args.inputs[1], args.outputs[0].cast::<f32>());
        for y in share(self.a.height, part, self.parts()) {
            for x in 0..self.a.width {
                for c in 0..self.a.channels {
                    // SAFETY: elements of the views, which the caller promises.
                    unsafe {
                        let a = *from_a.add(y * self.a.row + x * self.a.pixel + c);
                        let b = *from_b.add(y * self.b.row + x * self.b.pixel + c);
                        let sum = self.table_a[usize::from(a)] + self.table_b[usize::from(b)];
                        *to.add(y * self.output.row + x * self.output.pixel + c * self.output.channel) = sum;
                    }
                }
            }
        }
    }
}
