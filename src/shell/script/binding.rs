//! The table of functions: a signature and what it runs. Help, completion, hints and errors read the same table.

use super::call::{Binding, Call};
use super::raised::{Raised, raise};
use super::value::{ModelValue, Report};
use super::words::{accepts, describe, usage, with_article};
use super::{Shared, display, functions};
use crate::error::{Error, Result};
use crate::learn::data::Dataset;
use crate::model::Value;
use crate::operation::{ArgKind, OptionKind, Signature};
use crate::report::Show;
use rhai::{Array, Dynamic, Engine, EvalAltResult, FLOAT, INT, ImmutableString, Map, NativeCallContext};
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

/// Functions whose signatures stand in the table for help and completion, and that are registered elsewhere: a syntax of its own, and
/// what changes a list in its place.
const ELSEWHERE: [&str; 3] = ["vars", "sort_by", "order_by"];

/// Types of the first argument that a function is registered for: functions of tensors, lists and numbers share their names with those of
/// the language, so they take their own alone.
fn first_types(sig: &Signature) -> Vec<TypeId> {
    let of = |kind: ArgKind| match (sig.group, kind) {
        ("tensors" | "lists", ArgKind::Tensor) => vec![TypeId::of::<Value>()],
        ("lists", ArgKind::List) => vec![TypeId::of::<Array>()],
        ("numbers", ArgKind::Number) => vec![TypeId::of::<INT>(), TypeId::of::<FLOAT>()],
        ("numbers", ArgKind::Int) => vec![TypeId::of::<INT>()],
        ("numbers", ArgKind::Text) => vec![TypeId::of::<ImmutableString>()],
        _ => Vec::new(),
    };
    let types: Vec<TypeId> = match sig.args.first().map(|a| a.kind) {
        Some(ArgKind::OneOf(kinds)) if sig.group != "tensors" => kinds.iter().flat_map(|kind| of(*kind)).collect(),
        Some(kind) => of(kind),
        None => Vec::new(),
    };
    if types.is_empty() { vec![TypeId::of::<Dynamic>()] } else { types }
}

/// Registers every function with every number of arguments that it takes.
pub fn register(engine: &mut Engine, shared: &Arc<Shared>) {
    for binding in bindings().filter(|b| !ELSEWHERE.contains(&b.signature.name)) {
        let sig = &binding.signature;
        let most = sig.args.len() + usize::from(!sig.fields.is_empty());
        let least = sig.args.iter().filter(|a| !a.optional).count();
        let firsts = first_types(sig);
        for (first, count) in firsts.iter().flat_map(|first| (least..=most).map(move |count| (*first, count))) {
            let types: Vec<TypeId> = (0..count).map(|i| if i == 0 { first } else { TypeId::of::<Dynamic>() }).collect();
            let shared = shared.clone();
            engine.register_raw_fn(sig.name, types, move |native: NativeCallContext<'_>, args: &mut [&mut Dynamic]| {
                let position = native.call_position();
                let result = invoke(binding, &shared, native, args);
                // What a function of the script raised keeps its place.
                let inner = shared.take_raised();
                result.map_err(|e| inner.unwrap_or_else(|| raise(e, position)))
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
        let options = match option_for(sig, value).filter(|_| arg.optional) {
            Some(option) => format!("; options stand in a map, such as #{{ {option} }}"),
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

/// The first option that a value given in a wrong place may stand for: `ratio: 0.3`.
fn option_for(sig: &Signature, value: &Dynamic) -> Option<String> {
    let takes = |kind: OptionKind| match kind {
        OptionKind::Optional(inner) => *inner,
        kind => kind,
    };
    let fits = |kind: OptionKind| match takes(kind) {
        OptionKind::Float => value.is_int() || value.is_float(),
        OptionKind::Int => value.is_int(),
        OptionKind::Bool => value.is_bool(),
        OptionKind::Text => value.is_string(),
        OptionKind::Choice(words) => words.contains(&value.to_string().as_str()),
        OptionKind::List(_) => value.is_array(),
        _ => false,
    };
    match sig.fields.iter().find(|f| fits(f.kind)) {
        Some(f) => Some(format!("{}: {}", f.name, display::inner_line(value, 0))),
        None => sig.fields.first().map(|f| format!("{}: …", f.name)),
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
