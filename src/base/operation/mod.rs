//! An operation is an options struct: defined once, it serves Rust, scripts, help and completion.
//!
//! [`options!`](crate::options) writes the struct, its `Default`, its serde form and its documented
//! [`FIELDS`](Options::FIELDS) from one text. A [`Signature`] adds the name, the positional arguments and the examples;
//! `shell` binds it to the script language and builds `help()` from it.
//!
//! ```
//! compresso_base::options! {
//!     /// Options of a made-up operation.
//!     pub struct Blur {
//!         /// Radius in pixels.
//!         pub radius: usize = 3,
//!     }
//! }
//! use compresso_base::operation::{decode, Options};
//! let blur: Blur = decode(serde_json::json!({ "radius": 5 })).unwrap();
//! assert_eq!(blur.radius, 5);
//! assert_eq!(Blur::FIELDS[0].doc, "Radius in pixels.");
//! let e = decode::<Blur>(serde_json::json!({ "radios": 5 })).unwrap_err();
//! assert!(e.to_string().contains("did you mean 'radius'?"));
//! ```

pub mod script;

use crate::error::{Error, Result, nearest};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

/// The kind of value an option takes; decides help text, completion and error text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    Bool,
    Int,
    Float,
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, or a map.
    ChoiceOrMap(&'static [&'static str]),
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
            Self::Any => f.write_str("any value"),
        }
    }
}

/// A Rust type that can be an option.
pub trait OptionValue {
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
    pub name: &'static str,
    pub kind: OptionKind,
    pub doc: &'static str,
    /// The default, as JSON.
    pub default: fn() -> serde_json::Value,
}

/// An options struct, as [`options!`](crate::options) makes it.
pub trait Options: Serialize + DeserializeOwned + Default {
    const FIELDS: &'static [Field];
}

/// For signatures of functions that take no options.
#[derive(Debug, Clone, Default, Serialize, serde::Deserialize)]
pub struct NoOptions {}
impl Options for NoOptions {
    const FIELDS: &'static [Field] = &[];
}

/// One positional argument of a script function.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    pub name: &'static str,
    /// "model", "dataset", "text", "tensor", "list of models", …
    pub kind: &'static str,
    pub optional: bool,
}

impl Arg {
    pub const fn new(name: &'static str, kind: &'static str) -> Self {
        Self { name, kind, optional: false }
    }
    pub const fn optional(name: &'static str, kind: &'static str) -> Self {
        Self { name, kind, optional: true }
    }
}

/// What help, completion and the binding need to know of a script function.
#[derive(Debug, Clone, Copy)]
pub struct Signature {
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// A heading of `help()`: "models", "data", "compress", "deploy", "measure", "session".
    pub group: &'static str,
    pub args: &'static [Arg],
    pub returns: &'static str,
    pub fields: &'static [Field],
    /// Script lines that run as they stand; each is a test.
    pub examples: &'static [&'static str],
    /// Words that a search for this function would use.
    pub keywords: &'static [&'static str],
}

impl Signature {
    /// `prune(m: model[, d: dataset][, #{ ratio, … }]) -> model`
    pub fn usage(&self) -> String {
        let mut text = format!("{}(", self.name);
        for (i, a) in self.args.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let part = format!("{comma}{}: {}", a.name, a.kind);
            text += &if a.optional { format!("[{part}]") } else { part };
        }
        if !self.fields.is_empty() {
            text += if self.args.is_empty() { "[#{…}]" } else { "[, #{…}]" };
        }
        text + ") -> " + self.returns
    }
}

/// Decodes an option map, naming the option, what was expected and the nearest name on failure.
///
/// # Errors
/// `Argument` for a map that is not an object, an unknown option or a value of the wrong kind.
pub fn decode<T: Options>(options: serde_json::Value) -> Result<T> {
    let serde_json::Value::Object(given) = options else {
        return Err(Error::argument(format!("options must be a map like #{{ name: value }}, got {options}")));
    };
    let mut full = match serde_json::to_value(T::default()) {
        Ok(serde_json::Value::Object(map)) => map,
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
        if let Err(cause) = serde_json::from_value::<T>(serde_json::Value::Object(full.clone())) {
            // A map inside has options of its own, and its error says which is wrong.
            if given.starts_with('{') && matches!(field.kind, OptionKind::Optional(OptionKind::ChoiceOrMap(_)) | OptionKind::ChoiceOrMap(_))
            {
                let text = cause.to_string();
                let (message, hint) = text.split_once("\n  help: ").unwrap_or((&text, ""));
                let e = Error::argument(message).at(format!("option '{}'", field.name));
                return Err(if hint.is_empty() { e } else { e.hint(hint) });
            }
            let e = Error::argument(format!("option '{}' expects {}, got {given}", field.name, field.kind));
            let words: &[&str] = match field.kind {
                OptionKind::Choice(words) => words,
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
    serde_json::from_value(serde_json::Value::Object(full)).map_err(|e| Error::argument("the options do not fit together").because(e))
}

/// The options that differ from their defaults, for provenance.
pub fn changed<T: Options>(options: &T) -> serde_json::Map<String, serde_json::Value> {
    let Ok(serde_json::Value::Object(map)) = serde_json::to_value(options) else { return serde_json::Map::new() };
    let default = |name: &str| T::FIELDS.iter().find(|f| f.name == name).map(|f| (f.default)());
    map.into_iter().filter(|(name, value)| default(name).as_ref() != Some(value)).collect()
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
    Err(Error::argument(format!("option '{name}' must be {low}{and}{high}, got {value}")))
}

/// Writes an options struct with defaults, serde form and documented fields. See the module's example.
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ pub $field:ident : $ty:ty = $default:expr, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $ty, )*
        }
        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }
        impl $crate::operation::Options for $name {
            const FIELDS: &'static [$crate::operation::Field] = &[
                $( $crate::operation::Field {
                    name: stringify!($field),
                    kind: <$ty as $crate::operation::OptionValue>::KIND,
                    doc: $crate::operation::trim_doc(concat!($($doc, "\n"),+)),
                    default: || serde_json::to_value::<$ty>($default).unwrap_or(serde_json::Value::Null),
                }, )*
            ];
        }
    };
}

/// Writes an enum whose variants are words in scripts, usable as an option.
///
/// ```
/// compresso_base::choice! {
///     /// Where something counts.
///     pub enum Scope { Global = "global", Layer = "layer" }
/// }
/// assert_eq!(serde_json::to_value(Scope::Global).unwrap(), "global");
/// ```
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $word:literal ),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name { $( $(#[$vmeta])* #[serde(rename = $word)] $variant ),+ }
        impl $crate::operation::OptionValue for $name {
            const KIND: $crate::operation::OptionKind = $crate::operation::OptionKind::Choice(&[$($word),+]);
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $( Self::$variant => $word ),+ })
            }
        }
    };
}

/// Strips the blank that rustdoc puts before a doc comment's text and the last line break.
pub const fn trim_doc(doc: &'static str) -> &'static str {
    doc.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    crate::choice! { pub enum Scope { Global = "global", Layer = "layer" } }
    crate::options! {
        /// Test options.
        pub struct Sample {
            /// How much.
            pub ratio: f64 = 0.5,
            /// Where.
            pub scope: Scope = Scope::Global,
            /// How often, or not at all.
            pub rounds: Option<usize> = None,
        }
    }

    #[test]
    fn whole_numbers_serve_as_floats_and_defaults_fill_in() {
        let s: Sample = decode(json!({ "ratio": 1, "rounds": 3 })).unwrap();
        assert_eq!((s.ratio, s.scope, s.rounds), (1.0, Scope::Global, Some(3)));
    }

    #[test]
    fn errors_name_option_kind_and_nearest() {
        let text = |v| decode::<Sample>(v).unwrap_err().to_string();
        assert_eq!(text(json!({ "ratoi": 1 })), "unknown option 'ratoi'\n  help: did you mean 'ratio'?");
        assert_eq!(text(json!({ "ratio": "x" })), "option 'ratio' expects number, got \"x\"");
        assert_eq!(
            text(json!({ "scope": "globle" })),
            "option 'scope' expects \"global\" or \"layer\", got \"globle\"\n  help: did you mean \"global\"?"
        );
        assert_eq!(text(json!({ "rounds": -1 })), "option 'rounds' expects whole number, optional, got -1");
        assert!(text(json!(3)).contains("options must be a map"));
    }

    #[test]
    fn only_changed_options_are_kept() {
        let s = Sample { ratio: 0.25, ..Sample::default() };
        assert_eq!(serde_json::Value::Object(changed(&s)), json!({ "ratio": 0.25 }));
        assert!(changed(&Sample::default()).is_empty());
    }

    #[test]
    fn ranges_reject_nan() {
        assert!(in_range("ratio", 0.5, 0.0..1.0).is_ok());
        let e = in_range("ratio", f64::NAN, 0.0..1.0).unwrap_err();
        assert_eq!(e.to_string(), "option 'ratio' must be at least 0 and below 1, got NaN");
    }
}
