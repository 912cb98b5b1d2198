//! Bytes from one view to another.

use super::super::{Job, View};
use super::quantize::table;
use super::store::Bytes;

/// A job from one input of bytes to one output of bytes of the same size.
///
/// # Panics
/// When sizes differ or a view is not channels last.
pub fn copy(input: View, output: View, threads: usize) -> Box<dyn Job> {
    assert_eq!(input.channels, output.channels, "channels of a copy");
    table(input, vec![Bytes::whole(output)], threads)
}
