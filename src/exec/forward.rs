//! Running a model once, on the device that there is.

use super::{Engine, Outputs, Run, run};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_model::{Model, Value};
use std::collections::HashMap;

/// Runs a model and gives its outputs by name, or the values asked for. The engine runs it on the CPU.
///
/// # Errors
/// `Missing` and `Shape` for inputs that do not fit; whatever running reports.
pub fn forward(model: &Model, feeds: &HashMap<String, Value>, wanted: &[&str], ctx: &Context) -> Result<Outputs> {
    let on_device = |(name, v): (&String, &Value)| Ok((name.clone(), v.with(v.tensor.to_device(&ctx.device)?)?));
    let feeds: HashMap<String, Value> = feeds.iter().map(on_device).collect::<Result<_>>()?;
    if ctx.device.is_cpu() {
        return Engine::new(model.graph(), wanted, ctx.threads)?.run(&feeds, Some(&ctx.cancel));
    }
    run(model.graph(), &feeds, Run { wanted, cancel: Some(&ctx.cancel), device: Some(ctx.device.clone()), ..Run::default() })
}

/// The inputs of a model that has one.
///
/// # Errors
/// `Argument` for a model of several inputs.
pub fn only_feed(model: &Model, x: &Value) -> Result<HashMap<String, Value>> {
    let names: Vec<&str> = model.graph().feeds().map(|f| f.name.as_str()).collect();
    let [name] = names.as_slice() else {
        let entries = names.iter().map(|n| format!("{n}: tensor")).collect::<Vec<_>>().join(", ");
        return Err(Error::argument(format!("the model has {} inputs", names.len())).hint(format!("give a map: #{{ {entries} }}")));
    };
    Ok(HashMap::from([((*name).to_string(), x.clone())]))
}
