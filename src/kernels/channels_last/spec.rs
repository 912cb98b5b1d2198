//! What a convolution is, apart from its weights.

use super::operand::{Element, Operand, Operands};
use super::view::View;
use crate::activation::Activation;
use crate::window::Window2;
use compresso_base::error::{Error, Result};

/// What follows the sum of a convolution: `then(act(sum + bias) + residual)`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Epilogue {
    /// Applied to the sum with its bias; `None`: nothing is.
    pub act: Option<Activation>,
    /// A second input of the job, of the output's size, is added.
    pub residual: bool,
    /// Applied once the residual is added; `None`: nothing is.
    pub then: Option<Activation>,
}

/// Least and greatest value of a result; a NaN stays.
pub type Bounds = [f32; 2];

/// Bounds of all values.
pub const UNBOUNDED: Bounds = [f32::NEG_INFINITY, f32::INFINITY];

/// The bounds that an activation is, if it is no more.
pub fn bounds(act: Option<Activation>) -> Option<Bounds> {
    match act {
        None => Some(UNBOUNDED),
        Some(Activation::Relu) => Some([0.0, f32::INFINITY]),
        Some(Activation::Clip { min, max }) => Some([min, max]),
        Some(_) => None,
    }
}

/// What happens to an image before a convolution: `act(x · scale · factor + shift)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Before<'a> {
    /// A number for each input channel.
    pub scale: Option<&'a [f32]>,
    /// A number for each input channel.
    pub shift: Option<&'a [f32]>,
    /// The last input of the job has a number for each input channel: an image of one pixel, channels last.
    pub factor: Option<View>,
    /// Applied last; `None`: nothing is.
    pub act: Option<Activation>,
}

/// A convolution of one image, without its weights.
#[derive(Debug, Clone, Copy)]
pub struct ConvSpec {
    /// Sizes, stride, dilation and padding along height and width.
    pub window: Window2,
    /// Groups of channels, each convolved on its own.
    pub groups: usize,
    /// Channels last, or planes.
    pub input: View,
    /// Channels last.
    pub output: View,
    /// Channels last, as large as the output; there when the epilogue adds a residual. It may be the output itself.
    pub residual: Option<View>,
    /// What follows the sum.
    pub epilogue: Epilogue,
}

impl ConvSpec {
    /// The name of a job.
    pub fn name(&self, how: &str) -> String {
        let Window2 { kernel: [h, w], stride: [sy, sx], .. } = self.window;
        let stride = if [sy, sx] == [1, 1] { String::new() } else { format!("/{sy}") };
        let groups = if self.groups == 1 { String::new() } else { format!(" groups {}", self.groups) };
        format!("conv {h}x{w}{stride} {}→{}{groups} {how}", self.input.channels, self.output.channels)
    }

    /// The operands, when views, window, weights and bias fit together.
    ///
    /// # Errors
    /// `Shape` with what does not fit.
    pub fn operands(&self, weights: &[f32], bias: Option<&[f32]>) -> Result<Operands> {
        let (w, x, y) = (&self.window, &self.input, &self.output);
        fits(w, x, y.height, y.width)?;
        let groups = self.groups;
        if y.channels == 0 || groups == 0 || !x.channels.is_multiple_of(groups) || !y.channels.is_multiple_of(groups) {
            return Err(Error::shape(format!("{groups} groups of {} input and {} output channels", x.channels, y.channels)));
        }
        let expected = product(&[y.channels, x.channels / groups, w.kernel[0], w.kernel[1]]);
        if expected != Some(weights.len()) || bias.is_some_and(|b| b.len() != y.channels) {
            let (found, bias) = (weights.len(), bias.map(<[f32]>::len));
            return Err(Error::shape(format!("{found} weights and a bias of {bias:?} for {groups} groups over {w:?}: {x:?} {y:?}")));
        }
        if y.channel != 1 {
            return Err(Error::shape(format!("the output of a convolution must lie channels last, got {y:?}")));
        }
        let mut inputs = vec![Operand::image(Element::F32, x)?];
        match &self.residual {
            None if !self.epilogue.residual => {}
            Some(r) if self.epilogue.residual && r.size() == y.size() && r.channel == 1 => {
                inputs.push(Operand::image(Element::F32, r)?.in_place());
            }
            other => return Err(Error::shape(format!("a residual {other:?} for the output {y:?} and {:?}", self.epilogue))),
        }
        Operands::new(inputs, vec![Operand::image(Element::F32, y)?])
    }
}

/// The product of sizes, if it can be counted.
pub fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1usize, |p, &n| p.checked_mul(n))
}

/// Checks a window over an image that makes `height × width` pixels.
///
/// # Errors
/// `Shape` when sizes differ, the image or the result is empty, or offsets inside the window cannot be counted.
pub fn fits(w: &Window2, input: &View, height: usize, width: usize) -> Result<()> {
    w.check()?;
    if w.input != [input.height, input.width] || w.output != [height, width] {
        return Err(Error::shape(format!("a window {w:?} over {input:?} that makes {height}x{width} pixels")));
    }
    if input.size().contains(&0) || height == 0 || width == 0 {
        return Err(Error::shape(format!("a window over nothing, or that makes nothing: {w:?} over {input:?}")));
    }
    // Addresses of taps in the padding, which no one follows, must be countable too.
    let axis = |d: usize, stride: usize| w.span(d).max(w.stride[d]).max(w.dilation[d]).checked_mul(stride);
    let most = axis(0, input.row).and_then(|y| axis(1, input.pixel)?.checked_add(y));
    match most {
        Some(n) if n <= super::operand::MAX_ELEMENTS => Ok(()),
        _ => Err(Error::shape(format!("a window {w:?} whose padded image spans too much memory: {input:?}"))),
    }
}
