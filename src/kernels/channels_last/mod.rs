//! Kernels of planned inference: channels last, cut into parts that any thread may take.
//!
//! An image is a [`View`] into a buffer: the values of one pixel lie together, and pixels may lie further apart than they
//! are wide. A slice or concatenation of channels is then a view of the same buffer. A [`Job`] is one operation, made once
//! for fixed sizes and weights (which it packs), run often.
//!
//! A job declares its [`Operands`]: sizes, strides and element types of all that it reads and writes. [`run_alone`] and
//! [`program::Program`], the safe ways to run one, check the memory that they are given against them before anything runs.

pub mod affine;
mod alone;
pub mod conv;
mod depthwise;
mod direct;
mod finish;
pub mod int8;
mod job;
pub mod map;
mod mean;
mod memory;
mod operand;
mod packed;
mod patches;
pub mod pool;
pub mod program;
#[cfg(test)]
mod refusals;
pub mod resize;
mod ring;
mod runs;
mod spec;
pub mod strided;
mod team;
#[cfg(test)]
mod tests;
mod tile;
mod view;
mod winograd;

pub use alone::{Scalar, run_alone};
pub use job::{Args, Job};
pub use operand::{Element, MAX_ELEMENTS, Operand, Operands, Place};
pub use spec::{Before, ConvSpec, Epilogue};
pub use team::Team;
pub use view::View;
