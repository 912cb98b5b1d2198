//! A product and a sum per channel, then an activation: what is left of a normalization that no layer takes up.

use super::finish::{self, Activate};
use super::job::{Args, Job, cut, share};
use super::operand::{Element, Operand, Operands};
use super::packed::kernel::{Before, Prepare, Shape};
use super::spec::{Bounds, UNBOUNDED, bounds};
use super::tile::COLUMNS;
use super::view::View;
use crate::activation::Activation;
use crate::level::Level;
use compresso_base::error::{Error, Result};

/// `y = act(x · scale + shift)`, with one number of each for a channel; float32, views channels last. The output may be the input
/// itself. The job is cut so that `threads` threads are busy.
///
/// # Errors
/// `Shape` when the views differ in size or do not lie channels last, or there are not as many numbers as channels.
pub fn affine(scale: &[f32], shift: &[f32], act: Option<Activation>, input: View, output: View, threads: usize) -> Result<Box<dyn Job>> {
    Ok(Box::new(Affine::new(Level::best(), scale, shift, act, input, output, threads)?))
}

/// Channels that are worked on at once.
const CHUNK: usize = COLUMNS * ROWS;
const ROWS: usize = 16;

pub(super) struct Affine {
    operands: Operands,
    /// `[2, channels]`: products, then sums.
    factors: Vec<f32>,
    act: Option<Activation>,
    /// The bounds that the activation is, if it is no more.
    bounds: Option<Bounds>,
    input: View,
    output: View,
    prepare: Prepare,
    activate: Activate,
    parts: usize,
}

impl Affine {
    /// # Errors
    /// As [`affine`]; the level is there.
    pub fn new(
        level: Level,
        scale: &[f32],
        shift: &[f32],
        act: Option<Activation>,
        input: View,
        output: View,
        threads: usize,
    ) -> Result<Self> {
        let channels = output.channels;
        if input.size() != output.size() || input.channel != 1 || output.channel != 1 || scale.len() != channels || shift.len() != channels
        {
            let numbers = [scale.len(), shift.len()];
            return Err(Error::shape(format!("{numbers:?} factors for channels that lie last: {input:?} {output:?}")));
        }
        let operands = Operands::new(vec![Operand::image(Element::F32, &input)?.in_place()], vec![Operand::image(Element::F32, &output)?])?;
        let pixels = output.height.saturating_mul(output.width);
        Ok(Self {
            operands,
            factors: [scale, shift].concat(),
            act,
            bounds: bounds(act),
            input,
            output,
            prepare: Shape::of(level).prepare,
            activate: finish::activation(level),
            parts: cut(pixels, pixels.saturating_mul(channels).saturating_mul(size_of::<f32>()), threads),
        })
    }
}

impl Job for Affine {
    fn name(&self) -> String {
        self.act.map_or_else(|| "affine".into(), |a| format!("affine {a:?}"))
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.parts
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let (i, o) = (&self.input, &self.output);
        let mut chunk = [[0.0; COLUMNS]; ROWS];
        for at in share(o.height * o.width, part, self.parts) {
            let (y, x) = (at / o.width, at % o.width);
            let from = args.inputs[0].cast::<f32>().wrapping_add(y * i.row + x * i.pixel);
            let to = args.outputs[0].cast::<f32>().wrapping_add(y * o.row + x * o.pixel);
            let (scale, shift) = self.factors.split_at(o.channels);
            if let Some(bounds) = self.bounds {
                // SAFETY: the channels of the pixel are inside both views.
                unsafe { (self.prepare)(&Before { scale, shift, bounds }, from, to) };
                continue;
            }
            for first in (0..o.channels).step_by(CHUNK) {
                let n = CHUNK.min(o.channels - first);
                let some = first..first + n;
                let line = Before { scale: &scale[some.clone()], shift: &shift[some], bounds: UNBOUNDED };
                // SAFETY: as above, for `n` channels from `first` on, which the chunk has room for.
                unsafe {
                    (self.prepare)(&line, from.add(first), chunk.as_flattened_mut().as_mut_ptr());
                    (self.activate)(self.act, &mut chunk[..n.div_ceil(COLUMNS)]);
                    to.add(first).copy_from_nonoverlapping(chunk.as_flattened().as_ptr(), n);
                }
            }
        }
    }
}
