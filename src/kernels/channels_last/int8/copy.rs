//! Bytes from one view to another.

use super::super::job::Job;
use super::super::view::View;
use super::quantize::table;
use super::spec::Bytes;
use compresso_base::error::{Error, Result};

/// A job from one input of bytes to one output of bytes of the same size.
///
/// # Errors
/// `Shape` when sizes differ or a view is not channels last.
pub fn copy(input: View, output: View, threads: usize) -> Result<Box<dyn Job>> {
    if input.channels != output.channels {
        return Err(Error::shape(format!("a copy must keep the channels, got {} and {}", input.channels, output.channels)));
    }
    table(input, vec![Bytes::whole(output)], threads)
}
