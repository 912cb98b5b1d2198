//! Kernels of planned inference: channels last, cut into parts that any thread may take.
//!
//! An image is a [`View`] into a buffer: the values of one pixel lie together, and pixels may lie further apart than they
//! are wide. A slice or concatenation of channels is then a view of the same buffer. A [`Job`] is one operation, made once
//! for fixed sizes and weights (which it packs), run often.

pub mod conv;
mod depthwise;
mod direct;
mod finish;
pub mod int8;
mod lanes;
pub mod map;
mod patches;
pub mod pool;
pub mod program;
pub mod resize;
pub mod strided;
mod team;
#[cfg(test)]
mod tests;
mod tile;
mod winograd;

use super::activation::Activation;
use std::ops::Range;

pub use team::Team;

/// Where an image lies: element (y, x, c) is `y * row + x * pixel + c * channel` elements after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub row: usize,
    pub pixel: usize,
    /// 1 for channels last; `height * width` for the planes of an ONNX input.
    pub channel: usize,
}

impl View {
    /// A whole channels-last image.
    pub fn dense(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels, row: width * channels, pixel: channels, channel: 1 }
    }
    /// A whole image of planes.
    pub fn planes(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels, row: width, pixel: 1, channel: height * width }
    }
    /// Elements from the first to the last, both included; 0 when the image is empty.
    pub fn reach(&self) -> usize {
        if self.height * self.width * self.channels == 0 {
            return 0;
        }
        (self.height - 1) * self.row + (self.width - 1) * self.pixel + (self.channels - 1) * self.channel + 1
    }
}

/// What follows the sum of a convolution: `then(act(sum + bias) + residual)`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Epilogue {
    pub act: Option<Activation>,
    /// A second input of the job, of the output's size, is added.
    pub residual: bool,
    pub then: Option<Activation>,
}

/// Addresses of the first element of each view of a job, in the order that its maker documents.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    pub inputs: &'a [*const u8],
    pub outputs: &'a [*mut u8],
}

/// One operation on one image, packed for its sizes.
pub trait Job: Send + Sync {
    /// What it is and how it runs, such as `conv 3x3 64→64 winograd`.
    fn name(&self) -> String;
    /// Parts that may run at the same time, in any order; each writes elements of its own.
    fn parts(&self) -> usize;
    /// Bytes of scratch memory that a part may use; aligned to 64 and not initialized.
    fn scratch(&self) -> usize {
        0
    }
    /// # Safety
    /// `part < parts()`. Each input is readable and each output writable over the reach of its view, in elements of the
    /// type that the maker documents, and no other part or thread writes what this one reads. `scratch` has
    /// [`Job::scratch`] bytes that no one else uses.
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8);
}

/// Elements of output that are worth a part of their own in operations that are bound by memory.
pub(crate) const PART: usize = 1 << 15;

/// The `part`-th of `parts` ranges of nearly equal length that make up `0..n`.
pub(crate) fn share(n: usize, part: usize, parts: usize) -> Range<usize> {
    n * part / parts..n * (part + 1) / parts
}

/// Runs all parts of a job on slices, checked: the safe way to run one job.
///
/// # Panics
/// When a slice is shorter than the reach given with it.
pub fn run_alone<I: Copy, O: Copy>(job: &dyn Job, inputs: &[(&[I], usize)], outputs: &mut [(&mut [O], usize)]) {
    assert!(inputs.iter().all(|(s, reach)| s.len() >= *reach), "inputs of {}", job.name());
    assert!(outputs.iter().all(|(s, reach)| s.len() >= *reach), "outputs of {}", job.name());
    let from: Vec<*const u8> = inputs.iter().map(|(s, _)| s.as_ptr().cast()).collect();
    let to: Vec<*mut u8> = outputs.iter_mut().map(|(s, _)| s.as_mut_ptr().cast()).collect();
    let mut scratch = vec![[0u64; 8]; job.scratch().div_ceil(64) + 1];
    let at = scratch.as_mut_ptr().cast::<u8>();
    // SAFETY: an offset below 64 inside an allocation that is 64 bytes longer than asked for.
    let at = unsafe { at.add(at.align_offset(64)) };
    for part in 0..job.parts() {
        // SAFETY: the slices cover the reach of their views, this thread alone uses them, and the scratch is large enough.
        unsafe { job.run(part, Args { inputs: &from, outputs: &to }, at) };
    }
}
