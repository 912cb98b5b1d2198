//! The table of functions: a signature and what it runs. Help, completion, hints and errors read the same table.

use super::call::{Binding, Call};
use super::raised::{Raised, raise};
use super::value::{ModelValue, Report};
use super::words::{accepts, describe, usage, with_article};
use super::{Shared, display, functions};
use crate::error::{Error, Result};
use crate::learn::data::Dataset;
use crate::model::Value;
use crate::operation::ArgKind;
use crate::report::Show;
use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Map, NativeCallContext};
use std::any::TypeId;
use std::sync::Arc;

/// All script functions, in the order of `help()`.
pub fn bindings() -> impl Iterator<Item = &'static Binding> {
    functions::TABLES.iter().flat_map(|t| t.iter())
}

/// The function of this name.
pub fn find(name: &str) -> Option<&'static Binding> {
    bindings().find(|b| b.signature.name == name)
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
        let options = match sig.fields.first().filter(|_| arg.optional) {
            Some(first) => format!("; options stand in a map, such as #{{ {}: … }}", first.name),
            None => String::new(),
        };
        return Err(e.hint(format!("{}{options}", usage(sig))));
    }
    given.resize(sig.args.len(), Dynamic::UNIT);
    let ctx = shared.context();
    ctx.check()?;
    shared.watch.check()?;
    let _turn = shared.watch.turn();
    compresso_base::contain::contain(|| (binding.call)(&Call { shared, ctx, signature: sig, args: given, options, native }))
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
        // The engine's own follow every level.
        engine.register_fn(kind, |list: &mut rhai::Array| display::list_line(list, 0));
        engine.register_fn(kind, |map: &mut Map| display::map_line(map, 0));
        engine.register_fn(kind, |p: &mut crate::report::Plot| format!("plot \"{}\"", p.title));
        engine.register_fn(kind, |t: &mut crate::report::Table| format!("table \"{}\"", t.title));
    }
    engine.register_indexer_get(|r: &mut Report, name: ImmutableString| -> std::result::Result<Dynamic, Box<EvalAltResult>> {
        r.field(&name).map_err(|e| raise(e, rhai::Position::NONE))
    });
}
