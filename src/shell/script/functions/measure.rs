//! Accuracy, speed, differences.

use crate::error::{Error, Result};
use crate::learn::eval::{self, Evaluate};
use crate::measure::compare::{Compare, compare_on, compare_tensors};
use crate::measure::{Benchmark, benchmark};
use crate::model::Value;
use crate::operation::{Arg, Options as _, Signature};
use crate::shell::script::binding::{Binding, Call};
use crate::shell::script::value::Report;
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: eval::EVALUATE, call: evaluate },
    Binding { signature: Benchmark::SIGNATURE, call: run_benchmark },
    Binding {
        signature: Signature {
            name: "compare",
            summary: "How far the outputs of two models are apart on images of a dataset (seeded noise without one); also of two tensors",
            group: "measure",
            args: &[Arg::new("a", "model or tensor"), Arg::new("b", "model or tensor"), Arg::optional("d", "dataset")],
            returns: "report",
            fields: Compare::FIELDS,
            examples: &[
                "let m = model(\"classifier\", #{ classes: 3, image_size: 32 }); compare(m, m, #{ images: 2 }).max_abs",
                "compare(tensor([1, 2]), tensor([1, 2.5])).max_abs",
            ],
            keywords: &["difference", "error", "equal", "cosine", "numeric", "diff"],
        },
        call: compare_values,
    },
];

fn evaluate(c: &Call<'_>) -> Result<Dynamic> {
    let options: Evaluate = c.options()?;
    Ok(Dynamic::from(Report::new(eval::evaluate(&c.model(0)?, &c.dataset(1)?, &options, &c.ctx)?)))
}

fn run_benchmark(c: &Call<'_>) -> Result<Dynamic> {
    let options: Benchmark = c.options()?;
    Ok(Dynamic::from(Report::new(benchmark(&c.named_models(0)?, c.maybe_dataset(1)?.as_ref(), &options, &c.ctx)?)))
}

fn compare_values(c: &Call<'_>) -> Result<Dynamic> {
    let options: Compare = c.options()?;
    let found = match (c.arg(0).is::<Value>(), c.arg(1).is::<Value>()) {
        (true, true) => compare_tensors(&c.tensor(0)?, &c.tensor(1)?)?,
        (false, false) => compare_on(&c.model(0)?, &c.model(1)?, c.maybe_dataset(2)?.as_ref(), &options, &c.ctx)?,
        _ => return Err(Error::argument("a model and a tensor cannot be compared").hint("forward(m, x) gives a model's tensors")),
    };
    Ok(Dynamic::from(Report::new(found)))
}
