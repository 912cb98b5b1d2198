//! The kernels as differentiable functions on tensors.
//!
//! Each function takes float tensors of any float type. On the CPU the work is done in float32 by this crate's kernels,
//! and gradients flow through; on other devices candle's own operations do it, and what they cannot do is `Unsupported`.

mod activation;
mod add;
mod conv;
mod fake_quant;
mod join;
mod norm;
mod pool;
mod resize;
mod softmax;
mod storage;

pub use activation::{activate, activate_backward};
pub use add::{add, add_assign, contiguous, multiply, plane, plane_products, spread};
pub use conv::{conv, conv_backward, conv_transpose};
pub use fake_quant::{round_through, round_to, round_to_backward};
pub use join::join;
pub use norm::{batch_norm, batch_norm_backward, channel_affine};
pub use pool::{average_pool, max_pool, max_pool_backward, max_pool_indices};
pub use resize::{resize_axis, resize_axis_backward};
pub use softmax::{log_softmax, softmax};
