//! Kernels on 8-bit activations: unsigned bytes, channels last, with `real = (q − zero) · scale`.
//!
//! Sums of products are exact integers and what follows them is done operation by operation, never fused, so that every
//! instruction set and the plain definitions in [`mod@reference`] give the same bits.

mod add;
mod bytes;
mod channels;
mod conv;
mod copy;
mod curve;
mod measure;
mod pack;
mod pool;
mod quant;
mod quantize;
pub mod reference;
mod resize;
mod source;
mod spec;
mod store;
mod sum;
#[cfg(test)]
mod tests;
mod tile;

pub use add::{add, add_with, binary};
pub use channels::{ChannelMap, Channels, Factors, channel_map, channel_map_with};
pub use conv::{conv, conv_wide, conv_wide_with, conv_with};
pub use copy::copy;
pub use measure::{Found, MOST_RANGES, ranges, scale};
pub use pool::{average_pool, average_pool_with, max_pool};
pub use quantize::{dequantize, quantize, quantize_measured, quantize_with, table, table_with};
pub use resize::resize_nearest;
pub use spec::{AveragePool, Bytes, Int8Add, Int8Conv, MAX_DEPTH, MAX_WIDE_DEPTH, Store};
pub use sum::{sum, sums_of_curves_are_fast};
