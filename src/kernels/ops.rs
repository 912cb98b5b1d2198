//! The kernels as differentiable functions on tensors.
//!
//! Each function takes float tensors of any float type. On the CPU the work is done in float32 by this crate's kernels,
//! and gradients flow through. In a build with the feature `cuda` those of [`cuda`](crate::cuda) do it on GPUs, in float32 too, where there are
//! any; else candle's own operations do, and what they cannot do is `Unsupported`.

mod activation;
mod add;
mod conv;
#[cfg(feature = "cuda")]
mod device;
mod fake_quant;
mod join;
mod norm;
mod pool;
mod resize;
mod softmax;
mod storage;

pub use activation::{activate, activate_backward};
pub use add::{add, add_assign, contiguous, copied, multiply, plane, plane_products, spread};
pub use conv::{conv, conv_backward, conv_transpose};
pub use fake_quant::{fake_quantize, round_to, round_to_backward};
pub use join::join;
pub use norm::{batch_norm, batch_norm_backward, channel_affine, layer_norm};
pub use pool::{average_pool, max_pool, max_pool_backward, max_pool_indices};
pub use resize::{resize_axis, resize_axis_backward};
pub use softmax::{log_softmax, softmax};
pub use storage::place;
