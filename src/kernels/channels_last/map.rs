//! Elementwise functions from view to view.

use super::finish::{self, Activate};
use super::job::{Args, Job, PART, share};
use super::operand::{Element, Operand, Operands};
use super::tile::COLUMNS;
use super::view::View;
use crate::activation::Activation;
use crate::level::Level;
use compresso_base::error::{Error, Result};

/// `y = act(x)`; float32. The output may be the input itself. Views of any layout.
///
/// # Errors
/// `Shape` when the views differ in size.
pub fn map(act: Activation, input: View, output: View) -> Result<Box<dyn Job>> {
    Ok(Box::new(Map::new(vec![input], output, Some(act))?))
}

/// `y = x`, from one layout to another; float32.
///
/// # Errors
/// `Shape` when the views differ in size.
pub fn copy(input: View, output: View) -> Result<Box<dyn Job>> {
    Ok(Box::new(Map::new(vec![input], output, None)?))
}

/// `y = then(a + b)`; float32. The output may be one of the inputs. Views of any layout.
///
/// # Errors
/// `Shape` when the views differ in size.
pub fn add(a: View, b: View, output: View, then: Option<Activation>) -> Result<Box<dyn Job>> {
    Ok(Box::new(Map::new(vec![a, b], output, then)?))
}

/// Elements that are worked on at once.
const CHUNK: usize = COLUMNS * ROWS;
const ROWS: usize = 16;

/// The sum of the inputs, then a function.
struct Map {
    operands: Operands,
    inputs: Vec<View>,
    output: View,
    act: Option<Activation>,
    activate: Activate,
}

impl Map {
    fn new(mut inputs: Vec<View>, mut output: View, act: Option<Activation>) -> Result<Self> {
        if inputs.iter().any(|i| i.size() != output.size()) {
            return Err(Error::shape(format!("views of an elementwise function must have one size: {inputs:?} {output:?}")));
        }
        let reads = inputs.iter().map(|i| Ok(Operand::image(Element::F32, i)?.in_place())).collect::<Result<_>>()?;
        let operands = Operands::new(reads, vec![Operand::image(Element::F32, &output)?])?;
        // A row of pixels without gaps is one long pixel.
        if inputs.iter().chain([&output]).all(|v| v.channel == 1 && v.pixel == v.channels) {
            for v in inputs.iter_mut().chain([&mut output]) {
                *v = View { width: 1, channels: v.width * v.channels, ..*v };
            }
        }
        Ok(Self { operands, inputs, output, act, activate: finish::activation(Level::best()) })
    }
}

impl Job for Map {
    fn name(&self) -> String {
        let what = if self.inputs.len() == 2 { "add" } else { "map" };
        self.act.map_or_else(|| what.into(), |a| format!("{what} {a:?}"))
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        let o = &self.output;
        (o.height * o.width * o.channels).div_ceil(PART).clamp(1, o.height.max(1))
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let o = &self.output;
        let to = args.outputs[0].cast::<f32>();
        let (mut sum, mut more) = ([[0.0; COLUMNS]; ROWS], [0.0; CHUNK]);
        // Pixels of few channels are worked on together.
        let together = (CHUNK / o.channels.max(1)).clamp(1, o.width.max(1));
        for y in share(o.height, part, self.parts()) {
            for x in (0..o.width).step_by(together) {
                for first in (0..o.channels).step_by(CHUNK) {
                    let block = [together.min(o.width - x), CHUNK.min(o.channels - first)];
                    let n = block[0] * block[1];
                    let at = |v: &View| y * v.row + x * v.pixel + first * v.channel;
                    for (i, view) in self.inputs.iter().enumerate() {
                        // SAFETY: these channels of these pixels are inside the view, whose memory the caller vouches for.
                        unsafe {
                            let from = args.inputs[i].cast::<f32>().add(at(view));
                            if i == 0 {
                                load(from, view, block, &mut sum.as_flattened_mut()[..n]);
                            } else {
                                load(from, view, block, &mut more[..n]);
                                sum.as_flattened_mut().iter_mut().zip(&more[..n]).for_each(|(s, v)| *s += v);
                            }
                        }
                    }
                    // SAFETY: the level was detected; the output is as the inputs.
                    unsafe {
                        (self.activate)(self.act, &mut sum[..n.div_ceil(COLUMNS)]);
                        store(&sum.as_flattened()[..n], to.add(at(o)), o, block);
                    }
                }
            }
        }
    }
}

/// # Safety
/// `to` has as many elements as the pixels and channels of the block, which can be read in the view.
unsafe fn load(from: *const f32, view: &View, [pixels, channels]: [usize; 2], to: &mut [f32]) {
    for (p, to) in to.chunks_exact_mut(channels).enumerate().take(pixels) {
        // SAFETY: as the caller vouches.
        unsafe {
            let from = from.add(p * view.pixel);
            if view.channel == 1 {
                to.as_mut_ptr().copy_from_nonoverlapping(from, channels);
            } else {
                to.iter_mut().enumerate().for_each(|(i, v)| *v = *from.add(i * view.channel));
            }
        }
    }
}

/// # Safety
/// `from` has as many elements as the pixels and channels of the block, which can be written in the view.
unsafe fn store(from: &[f32], to: *mut f32, view: &View, [pixels, channels]: [usize; 2]) {
    for (p, from) in from.chunks_exact(channels).enumerate().take(pixels) {
        // SAFETY: as the caller vouches.
        unsafe {
            let to = to.add(p * view.pixel);
            if view.channel == 1 {
                to.copy_from_nonoverlapping(from.as_ptr(), channels);
            } else {
                from.iter().enumerate().for_each(|(i, &v)| *to.add(i * view.channel) = v);
            }
        }
    }
}
