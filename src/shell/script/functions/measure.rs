//! Accuracy, speed, differences.

use super::report;
use crate::error::{Error, Result};
use crate::learn::eval::Evaluate;
use crate::measure::compare::{Compare, compare_benchmarks, compare_tensors};
use crate::measure::{Benchmark, Stages, Throughput};
use crate::model::Value;
use crate::operation::Operation;
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::value::{Report, to_json};
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: Evaluate::SIGNATURE, call: |c| Ok(report(c.run::<Evaluate>()?)) },
    Binding { signature: Benchmark::SIGNATURE, call: |c| Ok(report(c.run::<Benchmark>()?)) },
    Binding { signature: Throughput::SIGNATURE, call: |c| Ok(report(c.run::<Throughput>()?)) },
    Binding { signature: Stages::SIGNATURE, call: |c| Ok(report(c.run::<Stages>()?)) },
    Binding { signature: Compare::SIGNATURE, call: compare },
];

fn compare(c: &Call<'_>) -> Result<Dynamic> {
    let data = |i: usize| -> Result<Option<serde_json::Value>> {
        let value = c.arg(i);
        match value.clone().try_cast::<Report>() {
            Some(report) => Ok(Some(report.data().clone())),
            None if value.is_map() => to_json(value).map(Some),
            None => Ok(None),
        }
    };
    match (data(0)?, data(1)?) {
        (Some(before), Some(after)) => {
            c.options::<Compare>()?;
            return Ok(report(compare_benchmarks(&before, &after)?));
        }
        (None, None) => {}
        _ => return Err(Error::argument("a report can be compared with another report alone")),
    }
    match (c.arg(0).is::<Value>(), c.arg(1).is::<Value>()) {
        (true, true) => {
            // There is nothing to choose for tensors; a word that is no option is told all the same.
            c.options::<Compare>()?;
            Ok(report(compare_tensors(&c.tensor(0)?, &c.tensor(1)?)?))
        }
        (false, false) => Ok(report(c.run::<Compare>()?)),
        _ => Err(Error::argument("a model and a tensor cannot be compared").hint("forward(m, x) gives a model's tensors")),
    }
}
