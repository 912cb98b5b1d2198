//! Scripts as experiments: parameters, metrics, recorded runs, sweeps.

use super::{report, signature};
use crate::error::{Error, Result};
use crate::experiment::{Runs, Sweep};
use crate::operation::{Arg, ArgKind, Operation};
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::value::{from_json, to_json};
use rhai::Dynamic;
use std::path::Path;

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: signature(
            ("experiments", "param"),
            "A parameter of the script: the value given by `compresso run --set NAME=VALUE` or a sweep, which must be of the default's kind, \
             else the default",
            &[Arg::new("name", ArgKind::Text), Arg::new("default", ArgKind::Any)],
            "value",
            &["param(\"ratio\", 0.3)"],
            &["parameter", "argument", "option", "set", "hyperparameter", "argparse"],
        ),
        call: param,
    },
    Binding {
        signature: signature(
            ("experiments", "record"),
            "Keeps metrics for the record of the run and for sweeps: a map of them, or a name and a number, text or report (its numbers as name.field)",
            &[Arg::new("metrics", ArgKind::OneOf(&[ArgKind::Map, ArgKind::Text])), Arg::optional("value", ArgKind::Any)],
            "nothing",
            &["record(#{ map50: 0.81, ms: 12.5 })", "record(\"map50\", 0.81)"],
            &["metric", "log", "log_metric", "tracking", "result"],
        ),
        call: record,
    },
    Binding { signature: Runs::SIGNATURE, call: |c| Ok(report(c.run::<Runs>()?)) },
    Binding { signature: Sweep::SIGNATURE, call: |c| Ok(report(c.run::<Sweep>()?)) },
];

fn param(c: &Call<'_>) -> Result<Dynamic> {
    let (name, default) = (c.text(0)?, to_json(c.arg(1))?);
    Ok(from_json(&c.shared.journal(|j| j.param(&name, &default))?))
}

fn record(c: &Call<'_>) -> Result<Dynamic> {
    match (to_json(c.arg(0))?, c.has(1)) {
        (serde_json::Value::Object(all), false) => {
            c.shared.journal(|j| all.iter().try_for_each(|(name, value)| j.record(name, value)))?;
        }
        (serde_json::Value::String(name), true) => {
            let value = to_json(c.arg(1))?;
            c.shared.journal(|j| j.record(&name, &value))?;
        }
        _ => {
            let e = Error::argument("record expects a map of metrics, or a name and a value");
            return Err(e.hint("record(#{ map50: 0.81 }) or record(\"map50\", 0.81)"));
        }
    }
    Ok(Dynamic::UNIT)
}

/// Notes a file that the script has saved.
pub(super) fn saved(c: &Call<'_>, path: &Path) {
    c.shared.journal(|j| j.save(path));
}
