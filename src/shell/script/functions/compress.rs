//! Pruning, quantization, distillation.

use super::signature;
use crate::compress::distill::Distill;
use crate::compress::prune::{self, Prune, prune_report};
use crate::compress::quantize::Quantize;
use crate::error::Result;
use crate::operation::Arg;
use crate::shell::script::binding::{Binding, Call};
use crate::shell::script::value::Report;
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: prune::SIGNATURE, call: prune },
    Binding {
        signature: signature(
            ("compress", "prune_groups"),
            "The groups of channels of a model that can only be pruned together",
            &[Arg::new("m", "model")],
            "report",
            &["prune_groups(model(\"classifier\", #{ classes: 3, image_size: 32 }))"],
            &["layers", "channels", "dependencies", "structure"],
        ),
        call: |c| {
            let m = c.model(0)?;
            Ok(Dynamic::from(Report::new(prune::groups(m.graph(), &prune::head_values(m.task()))?)))
        },
    },
    Binding { signature: Quantize::SIGNATURE, call: quantize },
    Binding { signature: Distill::SIGNATURE, call: distill },
];

fn prune(c: &Call<'_>) -> Result<Dynamic> {
    let options: Prune = c.options()?;
    let before = c.model_value(0)?;
    let after = options.apply(&before.model, c.maybe_dataset(1)?.as_ref(), &c.ctx)?;
    let report = prune_report(&before.model, &after).ok().map(Report::new);
    Ok(Dynamic::from(before.derive(after, report)))
}

fn distill(c: &Call<'_>) -> Result<Dynamic> {
    let options: Distill = c.options()?;
    let student = c.model_value(0)?;
    let trained = options.train(&student.model, &c.model_value(1)?.with_source(), &c.dataset(2)?, c.maybe_dataset(3)?.as_ref(), &c.ctx)?;
    Ok(super::models::after_training(c, &student, trained))
}

fn quantize(c: &Call<'_>) -> Result<Dynamic> {
    let options: Quantize = c.options()?;
    let before = c.model_value(0)?;
    let (after, report) = options.apply_with_report(&before.model, c.maybe_dataset(1)?.as_ref(), &c.ctx)?;
    Ok(Dynamic::from(before.derive(after, Some(Report::new(report)))))
}
