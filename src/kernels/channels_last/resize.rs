//! Enlarging images, channels last.

use super::{Args, Job, View, share};

/// Each pixel repeated `scale` times down and across; float32.
///
/// # Panics
/// When the output is not `scale` times the input, or a view is not channels last.
pub fn nearest(scale: [usize; 2], input: View, output: View) -> Box<dyn Job> {
    let fits = (output.height, output.width, output.channels) == (input.height * scale[0], input.width * scale[1], input.channels);
    assert!(fits && input.channel == 1 && output.channel == 1, "views of a resize by {scale:?}: {input:?} {output:?}");
    Box::new(Nearest { scale, input, output })
}

struct Nearest {
    scale: [usize; 2],
    input: View,
    output: View,
}

impl Job for Nearest {
    fn name(&self) -> String {
        format!("resize nearest {}x{}", self.scale[0], self.scale[1])
    }
    fn parts(&self) -> usize {
        let o = &self.output;
        (o.height * o.width * o.channels).div_ceil(super::PART).clamp(1, self.input.height.max(1))
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
