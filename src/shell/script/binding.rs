//! The table of functions: a signature and what it runs. Help, completion, hints and errors read the same table.

use super::error::{Raised, raise};
use super::value::{ModelValue, Report, kind_of, to_f64, to_json};
use super::{Shared, functions};
use crate::context::Context;
use crate::error::{Error, Result, nearest};
use crate::learn::data::Dataset;
use crate::learn::eval::image_files_dataset;
use crate::model::{LoadOptions, Model, Value};
use crate::operation::{ArgKind, Arguments, Inputs, Operation, Options, Signature, decode};
use crate::report::Show;
use rhai::{Dynamic, Engine, EvalAltResult, FnPtr, ImmutableString, Map, NativeCallContext};
use std::any::{Any, TypeId};
use std::path::Path;
use std::sync::Arc;

/// A script function.
#[derive(Clone, Copy)]
pub struct Binding {
    pub signature: Signature,
    pub call: fn(&Call<'_>) -> Result<Dynamic>,
}

/// All script functions, in the order of `help()`.
pub fn bindings() -> impl Iterator<Item = &'static Binding> {
    functions::TABLES.iter().flat_map(|t| t.iter())
}

/// The function of this name.
pub fn find(name: &str) -> Option<&'static Binding> {
    bindings().find(|b| b.signature.name == name)
}

/// One call: the arguments, checked against the signature.
pub struct Call<'a> {
    pub shared: &'a Arc<Shared>,
    /// What the call runs under, as the session was when it began.
    pub ctx: Context,
    pub signature: &'static Signature,
    /// One per argument of the signature; `()` for those left out.
    args: Vec<Dynamic>,
    options: Option<Map>,
    native: NativeCallContext<'a>,
}

/// Registers every function with every number of arguments that it takes.
pub fn register(engine: &mut Engine, shared: &Arc<Shared>) {
    // Words of the syntax cannot be functions.
    for binding in bindings().filter(|b| b.signature.name != "vars") {
        let sig = &binding.signature;
        let most = sig.args.len() + usize::from(!sig.fields.is_empty());
        let least = sig.args.iter().filter(|a| !a.optional).count();
        // Functions of tensors share their names with those of numbers and lists, so they take tensors only.
        let first = if sig.group == "tensors" && sig.args.first().is_some_and(|a| a.kind == ArgKind::Tensor) {
            TypeId::of::<Value>()
        } else {
            TypeId::of::<Dynamic>()
        };
        for count in least..=most {
            let types: Vec<TypeId> = (0..count).map(|i| if i == 0 { first } else { TypeId::of::<Dynamic>() }).collect();
            let shared = shared.clone();
            engine.register_raw_fn(sig.name, types, move |native: NativeCallContext<'_>, args: &mut [&mut Dynamic]| {
                let position = native.call_position();
                invoke(binding, &shared, native, args).map_err(|e| raise(e, position))
            });
        }
    }
}

fn invoke(binding: &'static Binding, shared: &Arc<Shared>, native: NativeCallContext<'_>, args: &mut [&mut Dynamic]) -> Result<Dynamic> {
    let mut given: Vec<Dynamic> = args.iter_mut().map(|a| a.flatten_clone()).collect();
    let sig = &binding.signature;
    let least = sig.args.iter().filter(|a| !a.optional).count();
    // The last argument is the option map unless the signature has a place for a map there.
    let is_options = |last: &Dynamic, count: usize| {
        last.is_map() && !sig.fields.is_empty() && count > least && !sig.args.get(count - 1).is_some_and(|a| accepts(a.kind, last))
    };
    let options = match given.last() {
        Some(last) if is_options(last, given.len()) => given.pop().and_then(Dynamic::try_cast::<Map>),
        _ => None,
    };
    if given.len() > sig.args.len() {
        let e = Error::argument(format!("{} takes at most {} arguments here, got {}", sig.name, sig.args.len(), given.len()));
        return Err(e.hint(usage(sig)));
    }
    for (i, (arg, value)) in sig.args.iter().zip(&given).enumerate() {
        if accepts(arg.kind, value) || (arg.optional && value.is_unit()) {
            continue;
        }
        let e = Error::argument(format!(
            "{} expects {} as argument {} ('{}'), got {}",
            sig.name,
            with_article(&arg.kind.to_string()),
            i + 1,
            arg.name,
            describe(value)
        ));
        return Err(e.hint(usage(sig)));
    }
    given.resize(sig.args.len(), Dynamic::UNIT);
    let ctx = shared.context();
    ctx.check()?;
    (binding.call)(&Call { shared, ctx, signature: sig, args: given, options, native })
}

/// `usage: prune(m: model, …) -> model`
pub fn usage(sig: &Signature) -> String {
    format!("usage: {}", sig.usage())
}

pub fn with_article(kind: &str) -> String {
    let plural = kind.split(' ').next().is_some_and(|w| w.ends_with('s') && !w.ends_with("ss"));
    match kind {
        "text" | "any" | "nothing" | "true or false" => kind.to_string(),
        _ if plural => kind.to_string(),
        _ if kind.starts_with(['a', 'e', 'i', 'o', 'u']) => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

/// A value in an error: its kind and, when short, itself.
pub fn describe(value: &Dynamic) -> String {
    let kind = kind_of(value);
    let text = match kind {
        "whole number" | "number" | "true or false" => value.to_string(),
        "text" => format!("{:?}", value.to_string()),
        _ => return with_article(kind),
    };
    if text.chars().count() > 40 { with_article(kind) } else { text }
}

/// Whether a value is of a kind that a signature names.
fn accepts(kind: ArgKind, value: &Dynamic) -> bool {
    takes(kind, kind_of(value))
}

/// Whether an argument of a signature takes values that [`kind_of`] calls so.
pub fn takes(kind: ArgKind, got: &str) -> bool {
    match kind {
        ArgKind::Model | ArgKind::Dataset | ArgKind::Tensor | ArgKind::List | ArgKind::Map | ArgKind::Function => got == kind.to_string(),
        ArgKind::Text | ArgKind::Int | ArgKind::Bool => got == kind.to_string(),
        ArgKind::Number => matches!(got, "number" | "whole number"),
        ArgKind::Report => matches!(got, "report" | "plot" | "table"),
        // Names and models: #{ base: a, small: b }.
        ArgKind::Models => matches!(got, "model" | "text" | "list" | "map"),
        ArgKind::Images => matches!(got, "text" | "list" | "dataset"),
        ArgKind::OneOf(kinds) => kinds.iter().any(|k| takes(*k, got)),
        ArgKind::Any => true,
    }
}

impl Call<'_> {
    /// Runs an operation on the call's arguments and options.
    ///
    /// # Errors
    /// `Argument`, naming the argument or the option; those of the operation.
    pub fn run<O: Operation>(&self) -> Result<O::Output> {
        let options: O = self.options()?;
        let mut args = Arguments::default();
        for (i, arg) in self.signature.args.iter().enumerate() {
            args.push_any(if self.has(i) { Some(self.converted(i, arg.kind)?) } else { None });
        }
        options.run(O::Inputs::read(&args)?, &self.ctx)
    }
    /// Argument `i` as the Rust value that its kind stands for.
    fn converted(&self, i: usize, kind: ArgKind) -> Result<Box<dyn Any>> {
        Ok(match kind {
            ArgKind::Model => Box::new(self.model(i)?),
            ArgKind::Dataset => Box::new(self.dataset(i)?),
            ArgKind::Tensor => Box::new(self.tensor(i)?),
            ArgKind::Text => Box::new(self.text(i)?),
            ArgKind::Int => Box::new(self.int(i)?),
            ArgKind::Number => Box::new(self.number(i)?),
            ArgKind::Bool => Box::new(self.args[i].as_bool().map_err(|_| self.wrong(i))?),
            ArgKind::Models => Box::new(self.named_models(i)?),
            ArgKind::Images => Box::new(self.images(i)?),
            ArgKind::OneOf(kinds) => {
                let kind = kinds.iter().find(|k| accepts(**k, &self.args[i])).ok_or_else(|| self.wrong(i))?;
                self.converted(i, *kind)?
            }
            // Only functions that are no operations take these; they read them as the script has them.
            ArgKind::Report | ArgKind::List | ArgKind::Map | ArgKind::Function | ArgKind::Any => Box::new(self.args[i].clone()),
        })
    }
    /// A dataset, or image files by their paths.
    fn images(&self, i: usize) -> Result<Dataset> {
        match self.args[i].read_lock::<Dataset>() {
            Some(d) => Ok(d.for_evaluation()),
            None => image_files_dataset(&self.texts(i)?),
        }
    }
    /// Argument `i`; `()` when it was left out.
    pub fn arg(&self, i: usize) -> &Dynamic {
        &self.args[i]
    }
    pub fn has(&self, i: usize) -> bool {
        !self.args[i].is_unit()
    }
    fn wrong(&self, i: usize) -> Error {
        let arg = self.signature.args.get(i);
        let (kind, name) = arg.map_or((ArgKind::Any, "?"), |a| (a.kind, a.name));
        let wanted = with_article(&kind.to_string());
        Error::argument(format!("{} expects {wanted} for '{name}', got {}", self.signature.name, describe(&self.args[i])))
            .hint(usage(self.signature))
    }
    pub fn model(&self, i: usize) -> Result<Model> {
        self.args[i].read_lock::<ModelValue>().map(|m| m.model.clone()).ok_or_else(|| self.wrong(i))
    }
    pub fn dataset(&self, i: usize) -> Result<Dataset> {
        self.args[i].clone().try_cast::<Dataset>().ok_or_else(|| self.wrong(i))
    }
    pub fn tensor(&self, i: usize) -> Result<Value> {
        self.args[i].clone().try_cast::<Value>().ok_or_else(|| self.wrong(i))
    }
    pub fn text(&self, i: usize) -> Result<String> {
        self.args[i].clone().into_string().map_err(|_| self.wrong(i))
    }
    pub fn int(&self, i: usize) -> Result<i64> {
        self.args[i].as_int().map_err(|_| self.wrong(i))
    }
    pub fn number(&self, i: usize) -> Result<f64> {
        to_f64(&self.args[i]).ok_or_else(|| self.wrong(i))
    }
    /// A list of sizes such as a shape.
    pub fn sizes(&self, i: usize) -> Result<Vec<usize>> {
        let list = self.args[i].as_array_ref().map_err(|_| self.wrong(i))?;
        list.iter()
            .map(|d| {
                d.as_int()
                    .ok()
                    .and_then(|n| usize::try_from(n).ok())
                    .ok_or_else(|| Error::argument(format!("a shape is a list of whole numbers like [1, 3, 64, 64], got {}", describe(d))))
            })
            .collect()
    }
    /// A list of texts, or one text.
    pub fn texts(&self, i: usize) -> Result<Vec<String>> {
        if self.args[i].is_string() {
            return Ok(vec![self.text(i)?]);
        }
        let list = self.args[i].as_array_ref().map_err(|_| self.wrong(i))?;
        list.iter().map(|t| t.clone().into_string().map_err(|_| self.wrong(i))).collect()
    }
    /// The option map, decoded.
    ///
    /// # Errors
    /// `Argument`, naming the option.
    pub fn options<T: Options>(&self) -> Result<T> {
        match &self.options {
            None => Ok(T::default()),
            Some(map) => {
                // Named here, so that the error says which function.
                for name in map.keys() {
                    if !self.signature.fields.iter().any(|f| f.name == name.as_str()) {
                        return Err(unknown_option(self.signature, name));
                    }
                }
                decode(to_json(&Dynamic::from_map(map.clone()))?)
            }
        }
    }
    /// Models with their names: one model, a list of models (or of `[name, model]`), or a map from names to models. Files
    /// may stand for models.
    pub fn named_models(&self, i: usize) -> Result<Vec<(String, Model)>> {
        let value = &self.args[i];
        let wrong = || self.wrong(i).hint("give a model, a list [a, b] or a map #{ base: a, small: b }");
        let single = |v: &Dynamic, name: String| -> Result<Option<(String, Model)>> {
            if let Some(m) = v.read_lock::<ModelValue>() {
                return Ok(Some((name, m.model.clone())));
            }
            let Ok(path) = v.as_immutable_string_ref() else { return Ok(None) };
            let stem = Path::new(path.as_str()).file_stem().map(|s| s.to_string_lossy().into_owned());
            Ok(Some((stem.unwrap_or(name), Model::load(path.as_str(), &LoadOptions::default())?)))
        };
        if let Some(only) = single(value, "model".into())? {
            return Ok(vec![only]);
        }
        if let Ok(map) = value.as_map_ref() {
            let named = |(k, v): (_, &Dynamic)| Ok((ToString::to_string(&k), single(v, String::new())?.ok_or_else(wrong)?.1));
            return map.iter().map(named).collect();
        }
        let list = value.as_array_ref().map_err(|_| wrong())?;
        let mut models = Vec::with_capacity(list.len());
        for (n, item) in list.iter().enumerate() {
            if let Some(found) = single(item, format!("model {}", n + 1))? {
                models.push(found);
                continue;
            }
            let pair = item.clone().into_array().ok().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            let name = pair[0].clone().into_string().map_err(|_| wrong())?;
            models.push((name, single(&pair[1], String::new())?.ok_or_else(wrong)?.1));
        }
        Ok(models)
    }
    /// Calls the script function in argument `i` without arguments.
    pub fn run_function(&self, i: usize) -> Result<Dynamic> {
        let f = self.args[i].clone().try_cast::<FnPtr>().ok_or_else(|| self.wrong(i))?;
        f.call_within_context::<Dynamic>(&self.native, ()).map_err(|e| super::error::unwrap(&e))
    }
}

/// The error for an option that a function does not have.
pub fn unknown_option(sig: &Signature, name: &str) -> Error {
    let e = Error::argument(format!("{} has no option '{name}'", sig.name));
    match nearest(name, sig.fields.iter().map(|f| f.name)) {
        Some(near) => e.hint(format!("did you mean '{near}'?")),
        None if sig.fields.is_empty() => e.hint("it takes no options"),
        None => e.hint(format!("its options are {}", sig.fields.iter().map(|f| f.name).collect::<Vec<_>>().join(", "))),
    }
}

/// Reads a property by name through the tables of `properties`.
pub fn register_types(engine: &mut Engine) {
    engine.register_type_with_name::<ModelValue>("Model").register_type_with_name::<Dataset>("Dataset");
    engine.register_type_with_name::<Report>("Report").register_type_with_name::<Value>("Tensor");
    engine.register_type_with_name::<Raised>("Error");
    super::properties::register(engine);
    for kind in ["to_string", "to_debug"] {
        engine.register_fn(kind, |m: &mut ModelValue| m.line().unwrap_or_default());
        engine.register_fn(kind, |d: &mut Dataset| d.line().unwrap_or_default());
        engine.register_fn(kind, |r: &mut Report| r.data().to_string());
        engine.register_fn(kind, |t: &mut Value| t.line().unwrap_or_default());
        engine.register_fn(kind, |e: &mut Raised| e.0.to_string());
        engine.register_fn(kind, |p: &mut crate::report::Plot| format!("plot \"{}\"", p.title));
        engine.register_fn(kind, |t: &mut crate::report::Table| format!("table \"{}\"", t.title));
    }
    engine.register_indexer_get(|r: &mut Report, name: ImmutableString| -> std::result::Result<Dynamic, Box<EvalAltResult>> {
        r.field(&name).map_err(|e| raise(e, rhai::Position::NONE))
    });
}
