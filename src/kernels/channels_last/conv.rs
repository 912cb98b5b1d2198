//! Convolutions of float32 images, channels last.

use super::depthwise::Depthwise;
use super::direct::Direct;
use super::winograd::Winograd;
use super::{Epilogue, Job, View};
use crate::conv::tile::Level;
use crate::window::Window2;

/// A convolution of one image, without its weights.
#[derive(Debug, Clone, Copy)]
pub struct ConvSpec {
    pub window: Window2,
    pub groups: usize,
    /// Channels last, or planes.
    pub input: View,
    /// Channels last.
    pub output: View,
    /// Channels last, as large as the output; there when the epilogue adds a residual. It may be the output itself.
    pub residual: Option<View>,
    pub epilogue: Epilogue,
}

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
}

/// A convolution by the fastest kernel for its shape; `weights` are `[out, in / groups, kh, kw]`, `bias` is `[out]`.
/// Inputs of the job: the image and, if the epilogue says so, the residual; output: the image. All float32.
/// The job is cut so that `threads` threads are busy.
///
/// # Panics
/// When views, window, weights and bias do not fit together.
pub fn conv(spec: &ConvSpec, weights: &[f32], bias: Option<&[f32]>, threads: usize) -> Box<dyn Job> {
    conv_with(Level::best(), Algorithm::Auto, spec, weights, bias, threads)
}

/// [`conv`] by a given kernel.
///
/// # Panics
/// As [`conv`], and when the machine lacks the instructions or the algorithm does not fit the shape.
pub fn conv_with(
    level: Level,
    algorithm: Algorithm,
    spec: &ConvSpec,
    weights: &[f32],
    bias: Option<&[f32]>,
    threads: usize,
) -> Box<dyn Job> {
    assert!(level as u8 <= Level::best() as u8, "{level:?} on this machine");
    spec.check(weights, bias);
    let algorithm = match algorithm {
        Algorithm::Auto if Winograd::pays(spec) => Algorithm::Winograd,
        Algorithm::Auto if Depthwise::fits(spec) => Algorithm::Depthwise,
        other => other,
    };
    match algorithm {
        Algorithm::Winograd => {
            assert!(Winograd::fits(spec), "minimal filtering of {spec:?}");
            Box::new(Winograd::new(level, spec, weights, bias, threads))
        }
        Algorithm::Depthwise => {
            assert!(Depthwise::fits(spec), "one group per channel of {spec:?}");
            Box::new(Depthwise::new(level, spec, weights, bias, threads))
        }
        Algorithm::Auto | Algorithm::Direct => Box::new(Direct::new(level, spec, weights, bias, threads)),
    }
}

impl ConvSpec {
    /// The name of a job.
    pub(super) fn name(&self, how: &str) -> String {
        let Window2 { kernel: [h, w], stride: [sy, sx], .. } = self.window;
        let stride = if [sy, sx] == [1, 1] { String::new() } else { format!("/{sy}") };
        let groups = if self.groups == 1 { String::new() } else { format!(" groups {}", self.groups) };
        format!("conv {h}x{w}{stride} {}→{}{groups} {how}", self.input.channels, self.output.channels)
    }
    fn check(&self, weights: &[f32], bias: Option<&[f32]>) {
        let (w, x, y) = (&self.window, &self.input, &self.output);
        assert!(w.input == [x.height, x.width] && w.output == [y.height, y.width], "views of a convolution over {w:?}: {x:?} {y:?}");
        assert!([w.kernel, w.stride, w.dilation].iter().flatten().all(|&n| n > 0), "a window of nothing: {w:?}");
        let groups = self.groups;
        assert!(
            groups > 0 && x.channels.is_multiple_of(groups) && y.channels.is_multiple_of(groups),
            "{groups} groups of {} and {} channels",
            x.channels,
            y.channels
        );
        assert_eq!(weights.len(), y.channels * (x.channels / groups) * w.kernel[0] * w.kernel[1], "weights of a convolution");
        assert!(bias.is_none_or(|b| b.len() == y.channels), "bias of a convolution");
        assert_eq!(self.residual.is_some(), self.epilogue.residual, "residual of a convolution");
        let fits = |r: &View| (r.height, r.width, r.channels, r.channel) == (y.height, y.width, y.channels, 1);
        assert!(y.channel == 1 && self.residual.as_ref().is_none_or(fits), "output of a convolution: {y:?} {:?}", self.residual);
    }
}
