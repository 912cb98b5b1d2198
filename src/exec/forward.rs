//! `forward`: running a model once, on the device that there is.

use super::{Engine, Outputs, Run, run};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_model::{Model, Value};
use std::collections::HashMap;

compresso_base::options! {
    /// Runs a model once.
    pub struct Forward {}
}

/// Tensors for a model's inputs.
#[derive(Debug, Clone)]
pub enum Feeds {
    /// For the only input.
    Only(Value),
    /// By the names of the inputs.
    Named(HashMap<String, Value>),
}

impl Feeds {
    /// By the names of the inputs of a model.
    ///
    /// # Errors
    /// `Argument` for one tensor and a model of several inputs.
    pub fn named(&self, model: &Model) -> Result<HashMap<String, Value>> {
        let x = match self {
            Self::Only(x) => x,
            Self::Named(all) => return Ok(all.clone()),
        };
        let names: Vec<&str> = model.graph().feeds().map(|f| f.name.as_str()).collect();
        let [name] = names.as_slice() else {
            let entries = names.iter().map(|n| format!("{n}: tensor")).collect::<Vec<_>>().join(", ");
            return Err(Error::argument(format!("the model has {} inputs", names.len())).hint(format!("give a map: #{{ {entries} }}")));
        };
        Ok(HashMap::from([((*name).to_string(), x.clone())]))
    }
}

/// Runs a model and gives its outputs by name, or the values asked for. The engine runs it on the CPU.
///
/// # Errors
/// `Argument` for one tensor and a model of several inputs; `Missing` and `Shape` for inputs that do not fit; whatever running reports.
impl Operation for Forward {
    const SIGNATURE: Signature = Signature {
        name: "forward",
        summary: "Runs a model and gives its outputs by name, and any inner values asked for",
        group: "models",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("x", ArgKind::Feeds), Arg::optional("wanted", ArgKind::Texts)],
        returns: "map of tensors",
        fields: Self::FIELDS,
        examples: &["forward(model(\"classifier\", #{ classes: 3, image_size: 32 }), random([1, 3, 32, 32]))"],
        keywords: &["run", "infer", "inference", "outputs", "activations"],
    };
    type Inputs<'a> = (&'a Model, &'a Feeds, Option<&'a Vec<String>>);
    type Output = Outputs;

    fn run(&self, (model, feeds, wanted): Self::Inputs<'_>, ctx: &Context) -> Result<Outputs> {
        let wanted: Vec<&str> = wanted.into_iter().flatten().map(String::as_str).collect();
        let on_device = |(name, v): (String, Value)| Ok((name, v.with(v.tensor.to_device(&ctx.device)?)?));
        let feeds: HashMap<String, Value> = feeds.named(model)?.into_iter().map(on_device).collect::<Result<_>>()?;
        if ctx.device.is_cpu() {
            return Engine::new(model.graph(), &wanted, ctx.threads)?.run(&feeds, Some(&ctx.cancel));
        }
        run(model.graph(), &feeds, Run { wanted: &wanted, cancel: Some(&ctx.cancel), device: Some(ctx.device.clone()), ..Run::default() })
    }
}
