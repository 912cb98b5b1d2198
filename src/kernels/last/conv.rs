//! Convolutions of float32 images, channels last.

use super::{Args, Epilogue, Job, View, share};
use crate::kernels::conv::tile::Level;
use crate::kernels::window::Window2;

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
    let _ = (level, algorithm);
    spec.check(weights, bias);
    let bias = bias.map_or_else(|| vec![0.0; spec.output.channels], <[f32]>::to_vec);
    Box::new(Plain { spec: *spec, weights: weights.to_vec(), bias, parts: threads })
}

impl ConvSpec {
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

/// Any convolution, one output at a time.
struct Plain {
    spec: ConvSpec,
    weights: Vec<f32>,
    bias: Vec<f32>,
    parts: usize,
}

impl Job for Plain {
    fn name(&self) -> String {
        "conv plain".into()
    }
    fn parts(&self) -> usize {
        self.parts
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let s = &self.spec;
        let (w, per) = (&s.window, s.input.channels / s.groups);
        let one = |act: Option<crate::kernels::activation::Activation>, v: f32| {
            let mut out = [0.0];
            act.map_or(v, |a| {
                a.forward(&[v], &mut out);
                out[0]
            })
        };
        for y in share(s.output.height, part, self.parts) {
            for x in 0..s.output.width {
                for m in 0..s.output.channels {
                    let mut sum = self.bias[m];
                    let group = m / (s.output.channels / s.groups);
                    for k in 0..w.kernel[0] * w.kernel[1] {
                        let (ky, kx) = (k / w.kernel[1], k % w.kernel[1]);
                        let Some(iy) = (y * w.stride[0] + ky * w.dilation[0]).checked_sub(w.pad[0]) else { continue };
                        let Some(ix) = (x * w.stride[1] + kx * w.dilation[1]).checked_sub(w.pad[1]) else { continue };
                        if iy >= w.input[0] || ix >= w.input[1] {
                            continue;
                        }
                        for c in 0..per {
                            let at = iy * s.input.row + ix * s.input.pixel + (group * per + c) * s.input.channel;
                            // SAFETY: the position is inside the view.
                            let v = unsafe { *args.inputs[0].cast::<f32>().add(at) };
                            sum += v * self.weights[(m * per + c) * w.kernel[0] * w.kernel[1] + k];
                        }
                    }
                    let mut v = one(s.epilogue.act, sum);
                    if let Some(r) = &s.residual {
                        // SAFETY: the position is inside the view.
                        v += unsafe { *args.inputs[1].cast::<f32>().add(y * r.row + x * r.pixel + m) };
                    }
                    // SAFETY: the position is inside the view.
                    unsafe { *args.outputs[0].cast::<f32>().add(y * s.output.row + x * s.output.pixel + m) = one(s.epilogue.then, v) };
                }
            }
        }
    }
}
