//! A function of the language, and one call of it.

use super::Shared;
use super::raised::unwrap;
use super::value::{ModelValue, to_f64, to_json};
use super::words::{accepts, describe, unknown_option, usage, with_article};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::exec::Feeds;
use crate::learn::data::Dataset;
use crate::learn::eval::image_files_dataset;
use crate::model::{LoadOptions, Model, Value};
use crate::operation::{ArgKind, Arguments, Inputs, Operation, Options, Signature, decode};
use rhai::{Dynamic, FnPtr, Map, NativeCallContext};
use std::any::Any;
use std::path::Path;
use std::sync::Arc;

/// A script function.
#[derive(Clone, Copy)]
pub struct Binding {
    /// Its name, arguments, options and examples.
    pub signature: Signature,
    /// What it does.
    pub call: fn(&Call<'_>) -> Result<Dynamic>,
}

/// A path under `~/` is one under the user's home folder, as shells have it; a folder named `~` is `./~`.
fn at_home(text: String) -> String {
    match (text.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) if !home.is_empty() => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => text,
    }
}

/// One call: the arguments, checked against the signature.
pub struct Call<'a> {
    /// What the functions of the session share.
    pub shared: &'a Arc<Shared>,
    /// What the call runs under, as the session was when it began.
    pub ctx: Context,
    /// Of the function that is called.
    pub signature: &'static Signature,
    /// One per argument of the signature; `()` for those left out.
    pub(super) args: Vec<Dynamic>,
    pub(super) options: Option<Map>,
    pub(super) native: NativeCallContext<'a>,
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
            ArgKind::Feeds => Box::new(self.feeds(i)?),
            ArgKind::Texts => Box::new(self.texts(i)?),
            ArgKind::OneOf(kinds) => {
                let kind = kinds.iter().find(|k| accepts(**k, &self.args[i])).ok_or_else(|| self.wrong(i))?;
                self.converted(i, *kind)?
            }
            ArgKind::Map => match to_json(&self.args[i])? {
                serde_json::Value::Object(map) => Box::new(map),
                _ => return Err(self.wrong(i)),
            },
            // Only functions that are no operations take these; they read them as the script has them.
            ArgKind::Report | ArgKind::List | ArgKind::Function | ArgKind::Any => Box::new(self.args[i].clone()),
        })
    }
    /// A tensor, or tensors by the names of inputs.
    fn feeds(&self, i: usize) -> Result<Feeds> {
        if let Some(only) = self.args[i].read_lock::<Value>() {
            return Ok(Feeds::Only(only.clone()));
        }
        let map = self.args[i].as_map_ref().map_err(|_| self.wrong(i))?;
        let named = map.iter().map(|(name, v)| match v.read_lock::<Value>() {
            Some(x) => Ok((name.to_string(), x.clone())),
            None => Err(Error::argument(format!("input '{name}' must be a tensor, got {}", describe(v)))),
        });
        named.collect::<Result<_>>().map(Feeds::Named)
    }
    /// A dataset, or image files by their paths.
    fn images(&self, i: usize) -> Result<Dataset> {
        match self.args[i].read_lock::<Dataset>() {
            Some(d) => Ok(d.for_evaluation()),
            None => {
                let data = image_files_dataset(&self.texts(i)?, &self.ctx)?;
                data.warnings.iter().for_each(|line| self.ctx.note(format!("{}: {line}", data.name)));
                Ok(data)
            }
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
        self.args[i].clone().into_string().map(at_home).map_err(|_| self.wrong(i))
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
        list.iter().map(|t| t.clone().into_string().map(at_home).map_err(|_| self.wrong(i))).collect()
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
            Ok(Some((stem.unwrap_or(name), Model::load(at_home(path.to_string()), &LoadOptions::default())?)))
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
        self.call_function(i, ())
    }
    /// Calls the script function in argument `i`. What it raises goes on with its place.
    pub fn call_function(&self, i: usize, args: impl rhai::FuncArgs) -> Result<Dynamic> {
        let f = self.args[i].clone().try_cast::<FnPtr>().ok_or_else(|| self.wrong(i))?;
        let _turn = self.shared.watch.turn();
        f.call_within_context::<Dynamic>(&self.native, args).map_err(|e| {
            let error = unwrap(&e);
            self.shared.keep_raised(e);
            error
        })
    }
}
