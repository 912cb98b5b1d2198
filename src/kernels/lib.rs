//! How numbers move: numeric kernels as plain functions on slices, each with a safe reference, and the candle operations
//! on top of them.
//!
//! Layouts are those of ONNX: activations `[N, C, spatial…]`, weights `[M, C / groups, kernel…]`, all row-major and
//! contiguous. [`mod@reference`] holds the plain definitions; the other modules hold the fast ones, which tests compare with
//! them. [`ops`] wraps them as differentiable tensor functions: on the CPU in float32 they use these kernels, on other
//! devices candle's own operations.

#![warn(missing_docs)]

pub mod activation;
pub mod channels_last;
pub mod conv;
pub mod cuda;
pub mod fake_quant;
pub mod level;
pub mod memory;
pub mod norm;
pub mod ops;
pub mod out;
pub mod pool;
pub mod reference;
pub mod resize;
pub mod softmax;
#[cfg(test)]
mod tests;
pub mod update;
mod vector;
pub mod window;

pub use conv::ConvShape;
pub use level::Level;
pub use window::{Window, Window2};
