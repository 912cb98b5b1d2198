//! Enlarging images, channels last.

use super::job::{Args, Job, share};
use super::operand::{Element, Operand, Operands};
use super::view::View;
use compresso_base::error::{Error, Result};

/// Each pixel repeated `scale` times down and across; float32.
///
/// # Errors
/// `Shape` when the output is not `scale` times the input, or a view is not channels last.
pub fn nearest(scale: [usize; 2], input: View, output: View) -> Result<Box<dyn Job>> {
    let operands = operands(Element::F32, scale, &input, &output)?;
    Ok(Box::new(Nearest { scale, operands, input, output }))
}

/// The operands of a resize, when the output is `scale` times the input.
///
/// # Errors
/// As [`nearest`].
pub fn operands(element: Element, scale: [usize; 2], input: &View, output: &View) -> Result<Operands> {
    let size = [input.height.checked_mul(scale[0]), input.width.checked_mul(scale[1]), Some(input.channels)];
    if output.size().map(Some) != size || input.channel != 1 || output.channel != 1 {
        return Err(Error::shape(format!("a resize by {scale:?} of views that do not fit, channels last: {input:?} {output:?}")));
    }
    Operands::new(vec![Operand::image(element, input)?], vec![Operand::image(element, output)?])
}

struct Nearest {
    scale: [usize; 2],
    operands: Operands,
    input: View,
    output: View,
}

impl Job for Nearest {
    fn name(&self) -> String {
        format!("resize nearest {}x{}", self.scale[0], self.scale[1])
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        let o = &self.output;
        (o.height * o.width * o.channels).div_ceil(super::job::PART).clamp(1, self.input.height.max(1))
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let (from, to) = (args.inputs[0].cast::<f32>(), args.outputs[0].cast::<f32>());
        let (i, o, [down, across]) = (&self.input, &self.output, self.scale);
        for y in share(i.height, part, self.parts()) {
            for x in 0..i.width {
                for k in 0..down * across {
                    let (oy, ox) = (y * down + k / across, x * across + k % across);
                    // SAFETY: both pixels are inside their views, whose memory the caller vouches for; input and output of
                    // a job do not overlap.
                    unsafe {
                        let (from, to) = (from.add(y * i.row + x * i.pixel), to.add(oy * o.row + ox * o.pixel));
                        to.copy_from_nonoverlapping(from, i.channels);
                    }
                }
            }
        }
    }
}
