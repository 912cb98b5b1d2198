//! Scores on a validation set, and the one number that decides which weights are kept.

use crate::data::{Dataset, ImageForm};
use crate::eval::{Evaluate, ImageRunner, evaluate_as};
use compresso_base::context::Context;
use compresso_base::error::{At, Result};
use compresso_model::Model;
use indexmap::IndexMap;

/// Scores of a model by name, and its fitness: mAP50-95, or top-1.
///
/// # Errors
/// As [`evaluate_as`].
pub(super) fn scores(model: &Model, data: &Dataset, size: [usize; 2], batch: usize, ctx: &Context) -> Result<(IndexMap<String, f64>, f64)> {
    let options = Evaluate { size: Some(serde_json::json!(size)), batch, ..Evaluate::default() };
    let mut runner = ImageRunner::new(model, ctx);
    let form = ImageForm::of(model.graph(), model.task());
    let found = evaluate_as(&form, &mut |images| runner.run(images), model.task(), data, &options, ctx);
    let found = found.at(|| "validation".to_string())?;
    let named = [
        ("map50", found.map50),
        ("map", found.map),
        ("precision", found.precision),
        ("recall", found.recall),
        ("top1", found.top1),
        ("top5", found.top5),
    ];
    let scores = named.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))).collect();
    Ok((scores, found.fitness()))
}
