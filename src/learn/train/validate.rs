//! Scores on a validation set, and the one number that decides which weights are kept.
use crate::context::Context;
use crate::error::Result;
use crate::learn::data::Dataset;
use crate::model::Model;
use indexmap::IndexMap;
pub(super) fn scores(_model: &Model, _data: &Dataset, _ctx: &Context) -> Result<(IndexMap<String, f64>, f64)> {
    Ok((IndexMap::new(), 0.0))
}
