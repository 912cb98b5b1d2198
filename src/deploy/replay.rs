//! Recipes run again, without the script language.

use super::embed::{EmbedNms, EmbedPreprocessing};
use super::{
    CoremlExport, Deploy, Deployed, NcnnExport, OnnxExport, OpenvinoExport, Optimize, TensorrtArtifacts, TensorrtExport, TfliteExport,
    onnx::OnnxFile,
};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result, nearest};
use compresso_base::operation::{ArgKind, Argument, Arguments, Call, Inputs, Operation, Recipe, Signature, decode, replayed};
use compresso_compress::distill::Distill;
use compresso_compress::prune::{Prune, Student};
use compresso_compress::quantize::Quantize;
use compresso_compress::recover::Recover;
use compresso_learn::data::{DataOptions, Dataset, Split, SplitOptions, Take};
use compresso_learn::train::{Train, Trained};
use compresso_model::{LoadOptions, Made, Model, ModelOptions, Resize};
use serde_json::{Map, Value};
use std::any::Any;
use std::path::Path;

/// The operations whose results others are made of.
const OPERATIONS: &[Replayable] = &[
    replayable::<ModelOptions>(),
    replayable::<Resize>(),
    replayable::<DataOptions>(),
    replayable::<Split>(),
    replayable::<SplitOptions>(),
    replayable::<Take>(),
    replayable::<Train>(),
    replayable::<Prune>(),
    replayable::<Quantize>(),
    replayable::<Distill>(),
    replayable::<Recover>(),
    replayable::<Student>(),
    replayable::<Deploy>(),
    replayable::<OnnxExport>(),
    replayable::<Optimize>(),
    replayable::<EmbedNms>(),
    replayable::<EmbedPreprocessing>(),
    replayable::<TensorrtExport>(),
    replayable::<OpenvinoExport>(),
    replayable::<TfliteExport>(),
    replayable::<NcnnExport>(),
    replayable::<CoremlExport>(),
];

/// A value that a recipe makes.
#[derive(Debug, Clone)]
pub enum Remade {
    /// A model.
    Model(Model),
    /// A dataset.
    Dataset(Dataset),
}

impl Remade {
    /// # Errors
    /// `Argument` for a dataset.
    pub fn model(self) -> Result<Model> {
        match self {
            Self::Model(m) => Ok(m),
            Self::Dataset(d) => Err(Error::argument(format!("expected the recipe of a model, got that of dataset '{}'", d.name))),
        }
    }
    fn recipe(&self) -> Option<&Recipe> {
        match self {
            Self::Model(m) => m.recipe(),
            Self::Dataset(d) => Some(d.recipe()),
        }
    }
}

/// Running a recipe again.
pub trait Replay {
    /// The value, made anew. Each call runs under the seed that the recipe has for it, the context's where it has none, and writes the
    /// files that it wrote. What the value does not depend on is left out: scores before and after, checkpoints, engines.
    ///
    /// # Errors
    /// `Missing` for an operation that this program does not have; `Unsupported` for what is known by its name, or as a script, only;
    /// `Check` for a file that has changed since; those of the operations, with the call's number; `Cancelled`.
    fn replay(&self, ctx: &Context) -> Result<Remade>;
}

impl Replay for Recipe {
    fn replay(&self, ctx: &Context) -> Result<Remade> {
        let mut last_read: Vec<usize> = (0..self.calls().len()).collect();
        for (at, call) in self.calls().iter().enumerate() {
            call.given().for_each(|given| last_read[given] = at);
        }
        let mut values: Vec<Option<Remade>> = Vec::with_capacity(self.calls().len());
        for (at, call) in self.calls().iter().enumerate() {
            ctx.check()?;
            let value = run(call, &values, ctx).at(|| format!("call {} of the recipe ({})", at + 1, call.operation))?;
            values.push(Some(value));
            // What no later call reads is dropped.
            for given in call.given().filter(|&g| last_read[g] == at) {
                values[given] = None;
            }
        }
        values.pop().flatten().ok_or_else(|| Error::internal("a recipe has a call"))
    }
}

struct Replayable {
    signature: Signature,
    run: fn(&Map<String, Value>, &Arguments, &Context) -> Result<Option<Remade>>,
}

const fn replayable<O: Operation<Output: Gives>>() -> Replayable {
    Replayable {
        signature: O::SIGNATURE,
        run: |options, args, ctx| Ok(decode::<O>(replayed::<O>(options.clone()))?.run(O::Inputs::read(args)?, ctx)?.value()),
    }
}

/// What an operation gives, as a value of recipes; `None` where the value lies in a file.
trait Gives {
    fn value(self) -> Option<Remade>;
}
impl Gives for Model {
    fn value(self) -> Option<Remade> {
        Some(Remade::Model(self))
    }
}
impl<R> Gives for Made<R> {
    fn value(self) -> Option<Remade> {
        Some(Remade::Model(self.model))
    }
}
impl Gives for Trained {
    fn value(self) -> Option<Remade> {
        Some(Remade::Model(self.model))
    }
}
impl Gives for Dataset {
    fn value(self) -> Option<Remade> {
        Some(Remade::Dataset(self))
    }
}
impl Gives for OnnxFile {
    fn value(self) -> Option<Remade> {
        None
    }
}
impl Gives for Deployed {
    fn value(self) -> Option<Remade> {
        None
    }
}
impl Gives for TensorrtArtifacts {
    fn value(self) -> Option<Remade> {
        None
    }
}

fn run(call: &Call, values: &[Option<Remade>], ctx: &Context) -> Result<Remade> {
    let found = OPERATIONS.iter().find(|o| o.signature.name == call.operation).ok_or_else(|| {
        let e = Error::missing(format!("there is no operation '{}' that makes a model or a dataset", call.operation));
        match nearest(&call.operation, OPERATIONS.iter().map(|o| o.signature.name)) {
            Some(near) => e.hint(format!("is it '{near}'?")),
            None => e,
        }
    })?;
    if call.args.len() > found.signature.args.len() {
        return Err(Error::argument(format!("it was given {} arguments", call.args.len())).hint(found.signature.usage()));
    }
    let mut args = Arguments::default();
    for (arg, given) in found.signature.args.iter().zip(&call.args) {
        args.push_any(Some(argument(arg.kind, given, values).at(|| format!("argument '{}'", arg.name))?));
    }
    let seeded = call.seed.map_or_else(|| ctx.clone(), |seed| ctx.clone().with_seed(seed));
    let made = (found.run)(&call.options, &args, &seeded)?;
    match (&call.file, made) {
        (Some(file), None) => {
            // What is opened must be what was written: the target itself, or a file in it.
            let target = call.args.iter().find_map(|a| if let Argument::Target(path) = a { Some(Path::new(path)) } else { None });
            if target.is_none_or(|target| !Path::new(file).starts_with(target)) {
                return Err(Error::format(format!("the recipe says that it wrote '{file}', which is not where it was told to write")));
            }
            Model::load(file, &LoadOptions::default()).map(Remade::Model)
        }
        (Some(file), Some(_)) => Err(Error::format(format!("it writes no file, and the recipe says that it wrote '{file}'"))),
        (None, Some(made)) => unchanged(call, &made).map(|()| made),
        (None, None) => Err(Error::format("it writes its result to a file, and the recipe does not say to which")),
    }
}

/// What was given, as the Rust value that an argument's kind stands for.
fn argument(kind: ArgKind, given: &Argument, values: &[Option<Remade>]) -> Result<Box<dyn Any>> {
    let wrong = |what: &str| Err(Error::argument(format!("expected {kind}, got {what}")));
    match (kind, given) {
        (_, Argument::Named(name)) => {
            let e = Error::unsupported(format!("'{name}' was made outside of any recipe; only its name is known"));
            Err(e.hint("save it to a file and open that"))
        }
        (_, Argument::Script(text)) => {
            let e = Error::unsupported(format!("an earlier version kept this as a script: {text}"));
            Err(e.hint("run the model's script"))
        }
        (_, Argument::Call(at)) => match (kind, values.get(*at).and_then(Option::as_ref)) {
            (ArgKind::Model, Some(Remade::Model(m))) => Ok(Box::new(m.clone())),
            (ArgKind::Dataset, Some(Remade::Dataset(d))) => Ok(Box::new(d.clone())),
            (_, Some(Remade::Model(_))) => wrong("a model"),
            (_, Some(Remade::Dataset(_))) => wrong("a dataset"),
            (_, None) => Err(Error::internal("results are kept until their last reader")),
        },
        (ArgKind::Text, Argument::File { path, .. } | Argument::Target(path)) => Ok(Box::new(path.clone())),
        (_, Argument::File { .. } | Argument::Target(_)) => wrong("a path"),
        (ArgKind::Text, Argument::Value(Value::String(text))) => Ok(Box::new(text.clone())),
        (ArgKind::Int, Argument::Value(Value::Number(n))) if n.is_i64() => Ok(Box::new(n.as_i64().unwrap_or_default())),
        (_, Argument::Value(value)) => wrong(&value.to_string()),
    }
}

/// The files that the call read are those of the recipe.
fn unchanged(call: &Call, made: &Remade) -> Result<()> {
    let now = made.recipe().map(Recipe::steps).unwrap_or_default();
    // An opened split is a call after the one that opens.
    let now = now.iter().rev().find(|c| c.operation == call.operation);
    let changed = |path: &str| {
        let e = Error::check("the file has changed since the recipe was written");
        Err(e.hint("with other content the result would be another one; bring the file back, or run the model's script").file(path))
    };
    for (i, arg) in call.args.iter().enumerate() {
        let Argument::File { path, sha256: Some(then) } = arg else { continue };
        match now.and_then(|c| c.args.get(i)) {
            Some(Argument::File { sha256: Some(now), .. }) if now == then => {}
            _ => return changed(path),
        }
    }
    for (option, then) in &call.files {
        if now.and_then(|c| c.files.get(option)) != Some(then) {
            return changed(call.options.get(option).and_then(Value::as_str).unwrap_or(option));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
