//! Kernels on 8-bit activations: unsigned bytes, channels last, with `real = (q − zero) · scale`.
//!
//! Sums of products are exact integers and what follows them is done operation by operation, never fused, so that every
//! instruction set and the plain definitions in [`reference`] give the same bits.

mod add;
mod bytes;
mod conv;
mod copy;
mod pack;
mod pool;
mod quantize;
pub mod reference;
mod resize;
mod source;
mod store;
mod sum;
#[cfg(test)]
mod tests;
mod tile;

pub use add::{Int8Add, add, add_with, binary};
pub use conv::{Int8Conv, MAX_DEPTH, conv, conv_with};
pub use copy::copy;
pub use pool::{AveragePool, average_pool, average_pool_with, max_pool};
pub use quantize::{dequantize, quantize, quantize_with, table, table_with};
pub use resize::resize_nearest;
pub use store::{Bytes, Store};
pub use sum::sum;

/// Parts that `rows` of a job are cut into: a few per thread, unless there is too little to do.
fn cut(rows: usize, bytes: usize, threads: usize) -> usize {
    if threads <= 1 { 1 } else { (threads * 4).min(bytes / 4096 + 1).min(rows).max(1) }
}
