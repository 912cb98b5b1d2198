//! What models are timed on.

use super::Benchmark;
use crate::worker::Input;
use compresso_base::error::Result;
use compresso_model::{Model, size_of};

/// Height and width of the images that a model is timed on.
///
/// # Errors
/// `Argument` for an option that is no size.
pub(super) fn size(model: &Model, options: &Benchmark) -> Result<Option<[usize; 2]>> {
    Ok(options.size.as_ref().map(|v| size_of("size", v)).transpose()?.or_else(|| model.image_size()))
}

/// The inputs of a model, with the sizes that it leaves open filled in by the options and its task.
///
/// # Errors
/// `Argument` when a size is still open; `DType` for inputs that cannot be computed with.
pub(super) fn inputs(model: &Model, options: &Benchmark) -> Result<Vec<Input>> {
    Input::of(model.graph(), options.batch, size(model, options)?).map_err(|e| e.hint("give the image size: benchmark(m, #{ size: 640 })"))
}
