//! Enlarging by whole factors.

use super::super::job::{Args, Job, cut, share};
use super::super::operand::{Element, Operands};
use super::super::resize::operands;
use super::super::view::View;
use compresso_base::error::Result;

/// A job from one input of bytes to one output of bytes: each pixel becomes a rectangle of `factors` (height, width) pixels.
///
/// # Errors
/// `Shape` when sizes do not agree or a view is not channels last.
pub fn resize_nearest(factors: [usize; 2], input: View, output: View, threads: usize) -> Result<Box<dyn Job>> {
    let operands = operands(Element::U8, factors, &input, &output)?;
    Ok(Box::new(Nearest { factors, operands, input, output, threads }))
}

struct Nearest {
    factors: [usize; 2],
    operands: Operands,
    input: View,
    output: View,
    threads: usize,
}

impl Job for Nearest {
    fn name(&self) -> String {
        format!("int8 nearest {}x{}", self.factors[0], self.factors[1])
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        cut(self.output.height, self.output.height * self.output.width * self.output.channels, self.threads)
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _scratch: *mut u8) {
        for y in share(self.output.height, part, self.parts()) {
            for x in 0..self.output.width {
                let at = y / self.factors[0] * self.input.row + x / self.factors[1] * self.input.pixel;
                // SAFETY: one pixel of each view, which the caller promises.
                unsafe {
                    let from = args.inputs[0].add(at);
                    from.copy_to_nonoverlapping(args.outputs[0].add(y * self.output.row + x * self.output.pixel), self.input.channels);
                }
            }
        }
    }
}
