//! Convolutions of float32 images, channels last.

use super::depthwise::Depthwise;
use super::direct::Direct;
use super::job::Job;
use super::operand::{Element, Operand, Operands};
use super::packed::Packed;
use super::runs::Runs;
use super::spec::{Before, ConvSpec};
use super::winograd::Winograd;
use crate::activation::Activation;
use crate::level::Level;
use crate::window::Window2;
use compresso_base::error::{Error, Result};

/// A way to compute a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// The fastest of those that fit.
    Auto,
    /// A product of matrices for each tile of pixels and output channels; any convolution.
    Direct,
    /// The same in blocks that fit the caches: one group, channels last, at least 8 of them.
    Packed,
    /// Minimal filtering, 36 multiplications for 16 outputs: 3×3, stride and dilation 1, one group, channels last.
    Winograd,
    /// As many groups as input channels and as output channels, channels last.
    Depthwise,
    /// Of few input channels a group, over rows that are copied with their padding; no dilation across.
    Runs,
}

/// A convolution by the fastest kernel for its shape; `weights` are `[out, in / groups, kh, kw]`, `bias` is `[out]`.
/// Inputs of the job: the image and, if the epilogue says so, the residual; output: the image. All float32.
/// The job is cut so that `threads` threads are busy.
///
/// # Errors
/// `Shape` when views, window, weights and bias do not fit together.
pub fn conv(spec: &ConvSpec, weights: &[f32], bias: Option<&[f32]>, threads: usize) -> Result<Box<dyn Job>> {
    conv_with(Level::best(), Algorithm::Auto, spec, weights, bias, threads)
}

/// True when [`conv_after`] takes a convolution of so many input channels, channels last: one tap, no padding, one group, and no
/// more than bounds as the activation before it.
pub fn prepares(window: &Window2, groups: usize, channels: usize, act: Option<Activation>) -> bool {
    Packed::prepares(window, groups, channels, act)
}

/// A convolution of one tap on values that are worked out from the image as they are read.
/// Inputs of the job: the image, the residual if the epilogue says so, and the factor if there is one; output: the image.
///
/// # Errors
/// As [`conv`]; `Shape` too when there is not a number for each input channel, `Unsupported` for what it does not take.
pub fn conv_after(before: &Before<'_>, spec: &ConvSpec, weights: &[f32], bias: Option<&[f32]>, threads: usize) -> Result<Box<dyn Job>> {
    conv_after_with(Level::best(), before, spec, weights, bias, threads)
}

/// [`conv_after`] by the kernels of a level.
///
/// # Errors
/// As [`conv_after`]; `Unavailable` when the machine lacks the instructions.
pub fn conv_after_with(
    level: Level,
    before: &Before<'_>,
    spec: &ConvSpec,
    weights: &[f32],
    bias: Option<&[f32]>,
    threads: usize,
) -> Result<Box<dyn Job>> {
    level.check()?;
    let operands = spec.operands(weights, bias)?;
    let channels = spec.input.channels;
    if [before.scale, before.shift].iter().flatten().any(|v| v.len() != channels) {
        let found = [before.scale, before.shift].map(|v| v.map(<[f32]>::len));
        return Err(Error::shape(format!("{found:?} numbers for {channels} input channels")));
    }
    let (mut inputs, outputs) = (operands.inputs().to_vec(), operands.outputs().to_vec());
    if let Some(factor) = &before.factor {
        if factor.size() != [1, 1, channels] || factor.channel != 1 {
            return Err(Error::shape(format!("factors for {channels} input channels, channels last, got {factor:?}")));
        }
        inputs.push(Operand::image(Element::F32, factor)?);
    }
    if !Packed::fits(spec) || !Packed::prepares(&spec.window, spec.groups, channels, before.act) {
        return Err(Error::unsupported(format!("no kernel works out {before:?} before {spec:?}")));
    }
    let operands = Operands::new(inputs, outputs)?;
    Ok(Box::new(Packed::new(level, spec, operands, weights, bias, threads).after(before, threads)))
}

/// [`conv`] by a given kernel.
///
/// # Errors
/// As [`conv`]; `Unavailable` when the machine lacks the instructions, `Unsupported` when the algorithm does not fit the shape.
pub fn conv_with(
    level: Level,
    algorithm: Algorithm,
    spec: &ConvSpec,
    weights: &[f32],
    bias: Option<&[f32]>,
    threads: usize,
) -> Result<Box<dyn Job>> {
    level.check()?;
    let operands = spec.operands(weights, bias)?;
    let algorithm = match algorithm {
        Algorithm::Auto if Runs::pays(spec) => Algorithm::Runs,
        Algorithm::Auto if Winograd::pays(spec) => Algorithm::Winograd,
        Algorithm::Auto if Depthwise::fits(spec) => Algorithm::Depthwise,
        Algorithm::Auto if Packed::fits(spec) => Algorithm::Packed,
        other => other,
    };
    let other = || Error::unsupported(format!("{algorithm:?} does not compute {spec:?}"));
    Ok(match algorithm {
        Algorithm::Winograd if !Winograd::fits(spec) => return Err(other()),
        Algorithm::Winograd => Box::new(Winograd::new(level, spec, operands, weights, bias, threads)),
        Algorithm::Depthwise => Box::new(Depthwise::new(level, spec, operands, weights, bias, threads).ok_or_else(other)?),
        Algorithm::Runs => Box::new(Runs::new(level, spec, operands, weights, bias, threads).ok_or_else(other)?),
        Algorithm::Packed if !Packed::fits(spec) => return Err(other()),
        Algorithm::Packed => Box::new(Packed::new(level, spec, operands, weights, bias, threads)),
        Algorithm::Auto | Algorithm::Direct => Box::new(Direct::new(level, spec, operands, weights, bias, threads)?),
    })
}
