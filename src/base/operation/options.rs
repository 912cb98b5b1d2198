//! Options: structs whose fields are documented, and their decoding from JSON.

use crate::error::{Error, Result, nearest};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// The kind of value an option takes; decides help text, completion and error text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// A text, such as a path or a name.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, or a map.
    ChoiceOrMap(&'static [&'static str]),
    /// A list of one kind.
    List(&'static OptionKind),
    /// A map from names to anything.
    Map,
    /// May be left out, `()` in scripts.
    Optional(&'static OptionKind),
    /// Any of these kinds, for example a word or a number.
    Any,
}

impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("true or false"),
            Self::Int => f.write_str("whole number"),
            Self::Float => f.write_str("number"),
            Self::Text => f.write_str("text"),
            Self::Choice(words) => {
                for (i, w) in words.iter().enumerate() {
                    if i > 0 {
                        f.write_str(if i + 1 == words.len() { " or " } else { ", " })?;
                    }
                    write!(f, "\"{w}\"")?;
                }
                Ok(())
            }
            Self::ChoiceOrMap(words) => {
                words.iter().try_for_each(|w| write!(f, "\"{w}\", "))?;
                f.write_str("or map")
            }
            Self::List(k) => write!(f, "list of {k}"),
            Self::Map => f.write_str("map"),
            Self::Optional(k) => write!(f, "{k}, optional"),
            Self::Any => f.write_str("value"),
        }
    }
}

/// A Rust type that can be an option.
pub trait OptionValue {
    /// How help, completion and errors speak of it.
    const KIND: OptionKind;
}

macro_rules! option_kinds {
    ($($kind:ident: $($ty:ty),+;)+) => { $($(impl OptionValue for $ty { const KIND: OptionKind = OptionKind::$kind; })+)+ };
}
option_kinds! {
    Bool: bool;
    Int: usize, u64, u32, i64, i32;
    Float: f32, f64;
    Text: String, std::path::PathBuf;
    Map: serde_json::Map<String, serde_json::Value>;
    Any: serde_json::Value;
}
impl<T: OptionValue> OptionValue for Vec<T> {
    const KIND: OptionKind = OptionKind::List(&T::KIND);
}
impl<T: OptionValue> OptionValue for Option<T> {
    const KIND: OptionKind = OptionKind::Optional(&T::KIND);
}

/// One documented option.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in scripts and recipes.
    pub name: &'static str,
    /// What it takes.
    pub kind: OptionKind,
    /// What it is for: the doc comment of the field.
    pub doc: &'static str,
    /// The default of the option of this name, as JSON.
    pub default: fn(&str) -> Value,
    /// What it is when a recipe is run again, of an option that recipes do not record since no result depends on it.
    pub replayed: Option<fn() -> Value>,
}

impl Field {
    /// The default, as JSON.
    pub fn default(&self) -> Value {
        (self.default)(self.name)
    }
}

/// An options struct, as [`options!`](crate::options) makes it.
pub trait Options: Serialize + DeserializeOwned + Default {
    /// All fields, in the order of the struct.
    const FIELDS: &'static [Field];
}

/// Decodes an option map, naming the option, what was expected and the nearest name on failure.
///
/// # Errors
/// `Argument` for a map that is not an object, an unknown option or a value of the wrong kind.
pub fn decode<T: Options>(options: Value) -> Result<T> {
    let Value::Object(given) = options else {
        return Err(Error::argument(format!("options must be a map like #{{ name: value }}, got {options}")));
    };
    let mut full = match serde_json::to_value(T::default()) {
        Ok(Value::Object(map)) => map,
        _ => return Err(Error::internal("the default options do not serialize to a map")),
    };
    for (name, value) in given {
        let Some(field) = T::FIELDS.iter().find(|f| f.name == name) else {
            let names: Vec<&str> = T::FIELDS.iter().map(|f| f.name).collect();
            let e = Error::argument(format!("unknown option '{name}'"));
            return Err(match nearest(&name, names.iter().copied()) {
                Some(near) => e.hint(format!("did you mean '{near}'?")),
                None if names.is_empty() => e.hint("there are no options here"),
                None => e.hint(format!("the options are {}", names.join(", "))),
            });
        };
        let given = value.to_string();
        full.insert(name, value);
        // Decode one option at a time, so that the error names it.
        if let Err(cause) = serde_json::from_value::<T>(Value::Object(full.clone())) {
            // A map inside has options of its own, and its error says which is wrong.
            if given.starts_with('{') && matches!(field.kind, OptionKind::Optional(OptionKind::ChoiceOrMap(_)) | OptionKind::ChoiceOrMap(_))
            {
                let text = cause.to_string();
                let (message, hint) = text.split_once("\n  help: ").unwrap_or((&text, ""));
                let e = Error::argument(message).at(format!("option '{}'", field.name));
                return Err(if hint.is_empty() { e } else { e.hint(hint) });
            }
            let mut expected = field.kind;
            while let OptionKind::Optional(inner) = expected {
                expected = *inner;
            }
            let e = Error::argument(format!("option '{}' expects {expected}, got {given}", field.name));
            let words: &[&str] = match field.kind {
                OptionKind::Choice(words) | OptionKind::ChoiceOrMap(words) => words,
                OptionKind::Optional(OptionKind::Choice(words) | OptionKind::ChoiceOrMap(words)) => words,
                _ => &[],
            };
            let near = nearest(given.trim_matches('"'), words.iter().copied()).filter(|_| !given.starts_with(['{', '[']));
            return Err(match near {
                Some(near) => e.hint(format!("did you mean \"{near}\"?")),
                None if given.starts_with(['{', '[']) => e.because(cause),
                None => e,
            });
        }
    }
    serde_json::from_value(Value::Object(full)).map_err(|e| Error::argument("the options do not fit together").because(e))
}

/// The options that differ from their defaults and that results depend on, for recipes.
pub fn changed<T: Options>(options: &T) -> Map<String, Value> {
    let Ok(Value::Object(map)) = serde_json::to_value(options) else { return Map::new() };
    let field = |name: &str| T::FIELDS.iter().find(|f| f.name == name);
    let is_kept = |name: &str, value: &Value| field(name).is_none_or(|f| f.replayed.is_none() && f.default() != *value);
    map.into_iter().filter(|(name, value)| is_kept(name, value)).collect()
}

/// Those of the options named that were given and so ask for what cannot be: a line that says so, `why` being where that is, such as
/// "without a dataset".
pub fn idle<T: Options>(operation: &str, options: &T, names: &[&str], why: &str) -> Option<String> {
    let given = changed(options);
    let idle: Vec<String> = names.iter().filter(|n| given.contains_key(**n)).map(|n| format!("'{n}'")).collect();
    let (last, before) = idle.split_last()?;
    let (list, verb) = if before.is_empty() { (last.clone(), "changes") } else { (format!("{} and {last}", before.join(", ")), "change") };
    Some(format!("{operation}: {list} {verb} nothing {why}"))
}

/// The options with which a recorded call is run again.
pub fn replayed<T: Options>(recorded: Map<String, Value>) -> Value {
    let mut options = recorded;
    for field in T::FIELDS {
        if let Some(value) = field.replayed {
            options.insert(field.name.into(), value());
        }
    }
    Value::Object(options)
}

/// Checks that an option lies in a range; NaN never does.
///
/// # Errors
/// `Argument`, naming the option, the range and the value.
pub fn in_range(name: &str, value: f64, range: impl std::ops::RangeBounds<f64>) -> Result<()> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    if range.contains(&value) {
        return Ok(());
    }
    let low = match range.start_bound() {
        Included(l) => format!("at least {l}"),
        Excluded(l) => format!("above {l}"),
        Unbounded => String::new(),
    };
    let high = match range.end_bound() {
        Included(h) => format!("at most {h}"),
        Excluded(h) => format!("below {h}"),
        Unbounded => String::new(),
    };
    let and = if low.is_empty() || high.is_empty() { "" } else { " and " };
    let e = Error::argument(format!("option '{name}' must be {low}{and}{high}, got {value}"));
    // Per cent, where a share is asked for; of small numbers nobody knows what was meant.
    let is_share = (5.0..=100.0).contains(&value) && matches!(range.end_bound(), Included(1.0) | Excluded(1.0));
    Err(if is_share && range.contains(&(value / 100.0)) { e.hint(format!("it is a share: {value} % is {}", value / 100.0)) } else { e })
}

/// Strips the blank that rustdoc puts before a doc comment's text and the last line break.
pub const fn trim_doc(doc: &'static str) -> &'static str {
    doc.trim_ascii()
}

/// The fields of a struct that takes in those of another, whose defaults are given by `default`. A name that stands twice does
/// not compile.
pub const fn splice<const N: usize>(own: &[Field], inner: &[Field], default: fn(&str) -> Value) -> [Field; N] {
    assert!(N == own.len() + inner.len(), "every field has a place");
    let mut all = [Field { name: "", kind: OptionKind::Any, doc: "", default: |_| Value::Null, replayed: None }; N];
    let mut i = 0;
    while i < N {
        all[i] = if i < own.len() { own[i] } else { Field { default, ..inner[i - own.len()] } };
        let mut j = 0;
        while j < i {
            assert!(!same(all[i].name, all[j].name), "an option of this name is there already");
            j += 1;
        }
        i += 1;
    }
    all
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// One of these options, as JSON.
pub fn default_of<T: Options>(options: &T, name: &str) -> Value {
    serde_json::to_value(options).ok().and_then(|v| v.get(name).cloned()).unwrap_or_default()
}

/// Decodes a struct's own options and those that it takes in, which begin as `inner` says.
///
/// # Errors
/// Those of decoding either.
pub fn spliced<'de, D: Deserializer<'de>, Own: DeserializeOwned, Inner: Options>(
    from: D,
    inner: &Inner,
) -> std::result::Result<(Own, Inner), D::Error> {
    let mut own = Map::deserialize(from)?;
    let mut others = Map::new();
    for field in Inner::FIELDS {
        let given = own.shift_remove(field.name);
        others.insert(field.name.into(), given.unwrap_or_else(|| default_of(inner, field.name)));
    }
    let own = serde_json::from_value(own.into()).map_err(D::Error::custom)?;
    Ok((own, serde_json::from_value(others.into()).map_err(D::Error::custom)?))
}

#[cfg(test)]
mod tests;
