//! Accuracy, speed, differences.

use super::report;
use crate::error::{Error, Result};
use crate::learn::eval::Evaluate;
use crate::measure::compare::{Compare, compare_tensors};
use crate::measure::{Benchmark, Stages, Throughput};
use crate::model::Value;
use crate::operation::Operation;
use crate::shell::script::call::{Binding, Call};
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: Evaluate::SIGNATURE, call: |c| Ok(report(c.run::<Evaluate>()?)) },
    Binding { signature: Benchmark::SIGNATURE, call: |c| Ok(report(c.run::<Benchmark>()?)) },
    Binding { signature: Throughput::SIGNATURE, call: |c| Ok(report(c.run::<Throughput>()?)) },
    Binding { signature: Stages::SIGNATURE, call: |c| Ok(report(c.run::<Stages>()?)) },
    Binding { signature: Compare::SIGNATURE, call: compare },
];

fn compare(c: &Call<'_>) -> Result<Dynamic> {
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
