//! What help, completion and callers need to know of an operation.

use super::Field;
use std::fmt;

/// What an argument can be. Its text is what help says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgKind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
    /// A tensor.
    Tensor,
    /// A result: also a plot or a table.
    Report,
    /// A text.
    Text,
    /// A whole number.
    Int,
    /// A number, whole or not.
    Number,
    /// `true` or `false`.
    Bool,
    /// A list of anything.
    List,
    /// A map from names to anything.
    Map,
    /// A function of the script.
    Function,
    /// A model or a model file, or several with their names.
    Models,
    /// Images by their files, or a dataset.
    Images,
    /// Tensors for a model's inputs: one for its only input, or a map from names.
    Feeds,
    /// A text, or a list of them.
    Texts,
    /// One of these kinds.
    OneOf(&'static [ArgKind]),
    /// Anything.
    Any,
}

impl fmt::Display for ArgKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
            Self::Tensor => "tensor",
            Self::Report => "report",
            Self::Text => "text",
            Self::Int => "whole number",
            Self::Number => "number",
            Self::Bool => "true or false",
            Self::List => "list",
            Self::Map => "map",
            Self::Function => "function",
            Self::Models => "model or .onnx file, or a list of them",
            Self::Images => "image path, folder, pattern, list of these, or dataset",
            Self::Feeds => "tensor or map",
            Self::Texts => "list or text",
            Self::OneOf(kinds) => {
                for (i, kind) in kinds.iter().enumerate() {
                    write!(f, "{}{kind}", if i == 0 { "" } else { " or " })?;
                }
                return Ok(());
            }
            Self::Any => "value",
        })
    }
}

/// One positional argument of a script function.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    /// Its name in help and errors.
    pub name: &'static str,
    /// What it takes.
    pub kind: ArgKind,
    /// It may be left out.
    pub optional: bool,
}

impl Arg {
    /// An argument that must be given.
    pub const fn new(name: &'static str, kind: ArgKind) -> Self {
        Self { name, kind, optional: false }
    }
    /// An argument that may be left out.
    pub const fn optional(name: &'static str, kind: ArgKind) -> Self {
        Self { name, kind, optional: true }
    }
}

/// What help, completion and the binding need to know of a script function.
#[derive(Debug, Clone, Copy)]
pub struct Signature {
    /// The name of the function in scripts.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// A heading of `help()`: "models", "data", "compress", "deploy", "measure", "session".
    pub group: &'static str,
    /// Its positional arguments, in order.
    pub args: &'static [Arg],
    /// What it gives, in the words of help.
    pub returns: &'static str,
    /// Its options.
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
