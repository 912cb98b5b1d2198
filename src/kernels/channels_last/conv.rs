//! Convolutions of float32 images, channels last.

use super::depthwise::Depthwise;
use super::direct::Direct;
use super::job::Job;
use super::runs::Runs;
use super::spec::ConvSpec;
use super::winograd::Winograd;
use crate::level::Level;
use compresso_base::error::{Error, Result};

/// A way to compute a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// The fastest of those that fit.
    Auto,
    /// A product of matrices for each tile of pixels and output channels; any convolution.
    Direct,
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
        other => other,
    };
    let other = || Error::unsupported(format!("{algorithm:?} does not compute {spec:?}"));
    Ok(match algorithm {
        Algorithm::Winograd if !Winograd::fits(spec) => return Err(other()),
        Algorithm::Winograd => Box::new(Winograd::new(level, spec, operands, weights, bias, threads)),
        Algorithm::Depthwise => Box::new(Depthwise::new(level, spec, operands, weights, bias, threads).ok_or_else(other)?),
        Algorithm::Runs => Box::new(Runs::new(level, spec, operands, weights, bias, threads).ok_or_else(other)?),
        Algorithm::Auto | Algorithm::Direct => Box::new(Direct::new(level, spec, operands, weights, bias, threads)?),
    })
}
