//! The plan of each operation. Inputs and results stand in the order that each function names.

mod activation;
mod depthwise;
mod int8;
mod layer_norm;
mod nms;
mod norm;
mod pool;
mod quantize;
mod resize;
mod softmax;

pub use activation::{activation, activation_backward};
pub use depthwise::{Depthwise, depthwise, depthwise_backward};
pub use int8::{Int8Conv, int8_conv, int8_matmul};
pub use layer_norm::{layer_norm, layer_norm_backward};
pub use nms::{MOST_BOXES, nms};
pub use norm::{batch_norm, batch_norm_backward, channel_statistics};
pub use pool::{average_pool, average_pool_backward, max_pool, max_pool_backward};
pub use quantize::{Grid, dequantize, fake_quantize, fake_quantize_backward, quantize};
pub use resize::{resize_axis, resize_axis_backward};
pub use softmax::{softmax, softmax_backward};

/// Sizes of a tensor `[outer, channels, inner]` with something per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Elements along the axes before that of the channels: the batch.
    pub outer: usize,
    /// Length of the axis of the channels.
    pub channels: usize,
    /// Elements along all axes after it.
    pub inner: usize,
}

/// Elements of a channel that a block reduces; `PART` of the kernels.
const PART: usize = 4096;

impl Channels {
    /// Of `[batch, channels, …]`.
    pub fn of(dims: &[usize]) -> Self {
        let channels = dims.get(1).copied().unwrap_or(1);
        Self { outer: dims.first().copied().unwrap_or(1), channels, inner: dims.iter().skip(2).product() }
    }
    /// Elements of the tensor.
    pub fn len(&self) -> usize {
        self.outer * self.channels * self.inner
    }
    /// True when a size is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Blocks that reduce one channel.
    fn parts(&self) -> usize {
        (self.outer * self.inner).div_ceil(PART)
    }
}
