//! Convolution of bytes with 8-bit weights.

use super::super::{Args, Job, View};
use super::reference;
use super::store::Store;
use crate::kernels::Window2;
use crate::kernels::activation::Activation;
use crate::kernels::conv::tile::Level;

/// Longest sum of products of a result (input channels of its group times taps) that 32 bits hold for sure.
pub const MAX_DEPTH: usize = 65_536;

/// `real = act(Σ (q − input_zero) · w · scales[o] + bias[o])`, then stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Conv {
    pub window: Window2,
    pub groups: usize,
    /// Channels last. With 3 channels and a pixel stride of 4, the fourth byte may hold anything.
    pub input: View,
    /// The byte of the real number 0, which padding is filled with.
    pub input_zero: u8,
    /// Per output channel: scale of the input times scale of the weights.
    pub scales: Vec<f32>,
    /// Per output channel, in real units.
    pub bias: Vec<f32>,
    pub act: Option<Activation>,
    pub store: Store,
    pub threads: usize,
}

/// A job with one input of bytes and the outputs of its store. `weights: [out, in / groups, kh, kw]`.
///
/// # Panics
/// When sizes do not agree, or sums are longer than [`MAX_DEPTH`].
pub fn conv(spec: &Int8Conv, weights: &[i8]) -> Box<dyn Job> {
    conv_with(Level::best(), spec, weights)
}

/// [`conv`] with given instructions, which the machine must have.
///
/// # Panics
/// As [`conv`].
pub fn conv_with(_level: Level, spec: &Int8Conv, weights: &[i8]) -> Box<dyn Job> {
    let (w, outs) = (&spec.window, spec.scales.len());
    assert_eq!([spec.input.height, spec.input.width], w.input, "input of a convolution");
    assert_eq!(spec.bias.len(), outs, "bias of a convolution");
    assert!(spec.input.channels.is_multiple_of(spec.groups) && outs.is_multiple_of(spec.groups), "groups of a convolution");
    let depth = spec.input.channels / spec.groups * w.kernel[0] * w.kernel[1];
    assert!(depth <= MAX_DEPTH && weights.len() == outs * depth, "weights of a convolution");
    assert_eq!(spec.input.channel, 1, "bytes are channels last");
    spec.store.check(w.output[0], w.output[1], outs);
    Box::new(Plain { spec: spec.clone(), weights: weights.to_vec() })
}

struct Plain {
    spec: Int8Conv,
    weights: Vec<i8>,
}

impl Job for Plain {
    fn name(&self) -> String {
        format!("int8 conv {}x{}", self.spec.window.kernel[0], self.spec.window.kernel[1])
    }
    fn parts(&self) -> usize {
        1
    }
    unsafe fn run(&self, _part: usize, args: Args<'_>, _scratch: *mut u8) {
        // SAFETY: the caller's promise about the input.
        let x = unsafe { std::slice::from_raw_parts(args.inputs[0], self.spec.input.reach()) };
        let reals = reference::conv(&self.spec, &self.weights, &reference::gather(&self.spec.input, x));
        // SAFETY: the caller's promise about the outputs.
        unsafe { write_all(&self.spec.store, self.spec.scales.len(), &reals, args) };
    }
}

/// # Safety
/// The outputs of `args` are writable over the views of `store`.
pub(super) unsafe fn write_all(store: &Store, channels: usize, reals: &[f32], args: Args<'_>) {
    let (floats, bytes) = reference::store(store, channels, reals);
    // SAFETY: the caller's promise.
    unsafe {
        match store {
            Store::Floats { output } => write(output, &floats, args.outputs[0].cast()),
            Store::Bytes { outputs, .. } => {
                for ((o, values), to) in outputs.iter().zip(&bytes).zip(args.outputs) {
                    write(&o.view, values, *to);
                }
            }
        }
    }
}

/// # Safety
/// `to` is writable over the view.
unsafe fn write<T: Copy>(view: &View, values: &[T], to: *mut T) {
    let mut values = values.iter();
    for y in 0..view.height {
        for x in 0..view.width {
            for c in 0..view.channels {
                let value = *values.next().expect("as many values as the view has");
                // SAFETY: an element of the view.
                unsafe { *to.add(y * view.row + x * view.pixel + c * view.channel) = value };
            }
        }
    }
}
