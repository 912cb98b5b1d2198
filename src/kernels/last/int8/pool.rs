//! Pools of bytes.

use super::super::{Args, Job, View};
use super::conv::write_all;
use super::reference;
use super::store::Store;
use crate::kernels::Window2;

/// A job from one input of bytes to one output of bytes: the largest under the window; 0 where it holds only padding.
///
/// # Panics
/// When sizes do not agree or a view is not channels last.
pub fn max_pool(window: Window2, input: View, output: View, threads: usize) -> Box<dyn Job> {
    assert_eq!([input.height, input.width], window.input, "input of a pool");
    assert_eq!([output.height, output.width, output.channels], [window.output[0], window.output[1], input.channels], "output of a pool");
    assert!(input.channel == 1 && output.channel == 1, "bytes are channels last");
    Box::new(MaxPool { window, input, output, _threads: threads })
}

struct MaxPool {
    window: Window2,
    input: View,
    output: View,
    _threads: usize,
}

impl Job for MaxPool {
    fn name(&self) -> String {
        format!("int8 max pool {}x{}", self.window.kernel[0], self.window.kernel[1])
    }
    fn parts(&self) -> usize {
        1
    }
    unsafe fn run(&self, _part: usize, args: Args<'_>, _scratch: *mut u8) {
        // SAFETY: the caller's promise about the input.
        let x = unsafe { std::slice::from_raw_parts(args.inputs[0], self.input.reach()) };
        let values = reference::max_pool(&self.window, self.input.channels, &reference::gather(&self.input, x));
        for (i, value) in values.into_iter().enumerate() {
            let (pixel, c) = (i / self.input.channels, i % self.input.channels);
            let at = pixel / self.output.width * self.output.row + pixel % self.output.width * self.output.pixel + c;
            // SAFETY: an element of the output's view.
            unsafe { *args.outputs[0].add(at) = value };
        }
    }
}

/// `real = Σ (q − input_zero) · (scale / count)` over what is under the window.
#[derive(Debug, Clone, PartialEq)]
pub struct AveragePool {
    pub window: Window2,
    /// Channels last.
    pub input: View,
    pub input_zero: u8,
    pub scale: f32,
    /// `Some`: padding counts, as far as this many rows and columns beyond the end of the input.
    pub padded: Option<[usize; 2]>,
    pub store: Store,
    pub threads: usize,
}

impl AveragePool {
    /// What the sum at an output position is divided by; at least 1.
    pub fn count(&self, out: [usize; 2]) -> usize {
        let w = &self.window;
        let along = |d: usize| {
            let start = out[d] * w.stride[d];
            let taps = (0..w.kernel[d]).map(|k| start + k * w.dilation[d]);
            match self.padded {
                Some(end) => taps.filter(|&at| at < w.pad[d] + w.input[d] + end[d]).count(),
                None => taps.filter(|&at| at >= w.pad[d] && at < w.pad[d] + w.input[d]).count(),
            }
        };
        (along(0) * along(1)).max(1)
    }
}

/// A job with one input of bytes and the outputs of its store.
///
/// # Panics
/// When sizes do not agree or the input is not channels last.
pub fn average_pool(spec: &AveragePool) -> Box<dyn Job> {
    assert_eq!([spec.input.height, spec.input.width], spec.window.input, "input of a pool");
    assert_eq!(spec.input.channel, 1, "bytes are channels last");
    spec.store.check(spec.window.output[0], spec.window.output[1], spec.input.channels);
    Box::new(Average(spec.clone()))
}

struct Average(AveragePool);

impl Job for Average {
    fn name(&self) -> String {
        format!("int8 average pool {}x{}", self.0.window.kernel[0], self.0.window.kernel[1])
    }
    fn parts(&self) -> usize {
        1
    }
    unsafe fn run(&self, _part: usize, args: Args<'_>, _scratch: *mut u8) {
        // SAFETY: the caller's promise about the input.
        let x = unsafe { std::slice::from_raw_parts(args.inputs[0], self.0.input.reach()) };
        let reals = reference::average_pool(&self.0, &reference::gather(&self.0.input, x));
        // SAFETY: the caller's promise about the outputs.
        unsafe { write_all(&self.0.store, self.0.input.channels, &reals, args) };
    }
}
