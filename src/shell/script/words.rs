//! How errors call signatures, kinds and values.

use super::value::kind_of;
use crate::error::{Error, nearest};
use crate::operation::{ArgKind, Signature};
use rhai::Dynamic;

/// `usage: prune(m: model, …) -> model`
pub fn usage(sig: &Signature) -> String {
    format!("usage: {}", sig.usage())
}

/// `a model`, `an image`; kinds that take no article stay as they are.
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

/// The error for an option that a function does not have.
pub fn unknown_option(sig: &Signature, name: &str) -> Error {
    let e = Error::argument(format!("{} has no option '{name}'", sig.name));
    match nearest(name, sig.fields.iter().map(|f| f.name)) {
        Some(near) => e.hint(format!("did you mean '{near}'?")),
        None if sig.fields.is_empty() => e.hint("it takes no options"),
        None => e.hint(format!("its options are {}", sig.fields.iter().map(|f| f.name).collect::<Vec<_>>().join(", "))),
    }
}

/// Whether a value is of a kind that a signature names.
pub fn accepts(kind: ArgKind, value: &Dynamic) -> bool {
    takes(kind, kind_of(value))
}

/// Whether an argument of a signature takes values that `kind_of` calls so.
pub fn takes(kind: ArgKind, got: &str) -> bool {
    match kind {
        ArgKind::Model | ArgKind::Dataset | ArgKind::Tensor | ArgKind::List | ArgKind::Map | ArgKind::Function => got == kind.to_string(),
        ArgKind::Text | ArgKind::Int | ArgKind::Bool => got == kind.to_string(),
        ArgKind::Number => matches!(got, "number" | "whole number"),
        ArgKind::Report => matches!(got, "report" | "plot" | "table"),
        // Names and models: #{ base: a, small: b }.
        ArgKind::Models => matches!(got, "model" | "text" | "list" | "map"),
        ArgKind::Images => matches!(got, "text" | "list" | "dataset"),
        ArgKind::Feeds => matches!(got, "tensor" | "map"),
        ArgKind::Texts => matches!(got, "text" | "list"),
        ArgKind::OneOf(kinds) => kinds.iter().any(|k| takes(*k, got)),
        ArgKind::Any => true,
    }
}
