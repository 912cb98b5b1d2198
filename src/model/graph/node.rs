//! One operator call of a graph, with typed attributes.

use super::Graph;
use crate::constant::Constant;
use crate::wire::Wire;
use bytes::Bytes;
use compresso_base::error::{Error, Result};
use indexmap::IndexMap;

/// An attribute value, as ONNX types them.
#[derive(Debug, Clone, PartialEq)]
pub enum Attr {
    /// A float32 number.
    Float(f32),
    /// An int64 number, or a truth value as 0 or 1.
    Int(i64),
    /// A text, as its bytes.
    Str(Bytes),
    /// A constant.
    Tensor(Constant),
    /// An inner graph, such as a branch of If.
    Graph(Box<Graph>),
    /// A list of numbers.
    Floats(Vec<f32>),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A list of texts, each as its bytes.
    Strs(Vec<Bytes>),
    /// A list of constants.
    Tensors(Vec<Constant>),
    /// A list of inner graphs.
    Graphs(Vec<Graph>),
    /// A kind that this version only keeps: its encoded `AttributeProto`.
    Opaque(Bytes),
}

impl Attr {
    /// An [`Attr::Str`] of this text.
    pub fn text(s: impl AsRef<str>) -> Self {
        Self::Str(Bytes::copy_from_slice(s.as_ref().as_bytes()))
    }
    fn kind(&self) -> &'static str {
        match self {
            Self::Float(_) => "a float",
            Self::Int(_) => "an int",
            Self::Str(_) => "a string",
            Self::Tensor(_) => "a tensor",
            Self::Graph(_) => "a graph",
            Self::Floats(_) => "floats",
            Self::Ints(_) => "ints",
            Self::Strs(_) => "strings",
            Self::Tensors(_) => "tensors",
            Self::Graphs(_) => "graphs",
            Self::Opaque(_) => "an attribute of a kind that is not supported",
        }
    }
}

/// One operator call. Values are named; an empty input or output name means "left out".
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// May be empty; [`Node::label`] always says something.
    pub name: String,
    /// The operator's type, such as `Conv`.
    pub op: String,
    /// Empty for the ONNX operator set.
    pub domain: String,
    /// Names of the values that it reads, by position.
    pub inputs: Vec<String>,
    /// Names of the values that it makes, by position.
    pub outputs: Vec<String>,
    /// Attributes by name; one that is left out has its operator's default, if there is one.
    pub attrs: IndexMap<String, Attr>,
    /// How the file had it.
    pub(crate) wire: Wire,
}

impl Node {
    /// A node of the ONNX operator set, without attributes.
    pub fn new(
        op: impl Into<String>,
        name: impl Into<String>,
        inputs: impl IntoIterator<Item = impl Into<String>>,
        outputs: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            name: name.into(),
            op: op.into(),
            inputs: inputs.into_iter().map(Into::into).collect(),
            outputs: outputs.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
    /// The node with an attribute set, in place of any of that name.
    #[must_use]
    pub fn attr(mut self, name: impl Into<String>, value: Attr) -> Self {
        self.attrs.insert(name.into(), value);
        self
    }
    /// As [`Node::attr`], with an [`Attr::Int`].
    #[must_use]
    pub fn int(self, name: &str, value: i64) -> Self {
        self.attr(name, Attr::Int(value))
    }
    /// As [`Node::attr`], with an [`Attr::Ints`].
    #[must_use]
    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        self.attr(name, Attr::Ints(values.to_vec()))
    }
    /// As [`Node::attr`], with an [`Attr::Float`].
    #[must_use]
    pub fn float(self, name: &str, value: f32) -> Self {
        self.attr(name, Attr::Float(value))
    }

    /// How errors and dumps call this node: `node 'conv1' (Conv)`, or by its first output where it has no name.
    pub fn label(&self) -> String {
        let name = if self.name.is_empty() { self.outputs.first().map_or("", String::as_str) } else { &self.name };
        format!("node '{name}' ({})", self.op)
    }
    /// Input `i`, unless it is left out.
    pub fn input(&self, i: usize) -> Option<&str> {
        self.inputs.get(i).map(String::as_str).filter(|s| !s.is_empty())
    }
    /// Output `i`, unless it is left out.
    pub fn output(&self, i: usize) -> Option<&str> {
        self.outputs.get(i).map(String::as_str).filter(|s| !s.is_empty())
    }
    /// True for an operator of the ONNX set with this name.
    pub fn is(&self, op: &str) -> bool {
        self.op == op && matches!(self.domain.as_str(), "" | "ai.onnx")
    }

    fn wrong(&self, name: &str, expected: &str) -> Error {
        let got = self.attrs.get(name).map_or("nothing", Attr::kind);
        Error::format(format!("attribute '{name}' must be {expected}, got {got}"))
    }
    /// An int attribute or its default.
    pub fn get_int(&self, name: &str, default: i64) -> Result<i64> {
        self.find_int(name).map(|v| v.unwrap_or(default))
    }
    /// An int attribute; `None` where it is left out.
    ///
    /// # Errors
    /// `Format` for an attribute of another kind.
    pub fn find_int(&self, name: &str) -> Result<Option<i64>> {
        match self.attrs.get(name) {
            None => Ok(None),
            Some(Attr::Int(v)) => Ok(Some(*v)),
            Some(_) => Err(self.wrong(name, "an int")),
        }
    }
    /// A float attribute or its default; see [`Node::get_int`].
    pub fn get_float(&self, name: &str, default: f32) -> Result<f32> {
        match self.attrs.get(name) {
            None => Ok(default),
            Some(Attr::Float(v)) => Ok(*v),
            Some(_) => Err(self.wrong(name, "a float")),
        }
    }
    /// A list of ints; see [`Node::find_int`].
    pub fn find_ints(&self, name: &str) -> Result<Option<&[i64]>> {
        match self.attrs.get(name) {
            None => Ok(None),
            Some(Attr::Ints(v)) => Ok(Some(v)),
            // Some exporters leave an empty list without a type.
            Some(Attr::Floats(v)) if v.is_empty() => Ok(Some(&[])),
            Some(_) => Err(self.wrong(name, "ints")),
        }
    }
    /// A list of floats; see [`Node::find_int`].
    pub fn find_floats(&self, name: &str) -> Result<Option<&[f32]>> {
        match self.attrs.get(name) {
            None => Ok(None),
            Some(Attr::Floats(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong(name, "floats")),
        }
    }
    /// A text attribute or its default.
    pub fn get_str<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        match self.attrs.get(name) {
            None => Ok(default),
            Some(Attr::Str(v)) => std::str::from_utf8(v).map_err(|_| self.wrong(name, "UTF-8 text")),
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }
    /// A tensor attribute; see [`Node::find_int`].
    pub fn find_tensor(&self, name: &str) -> Result<Option<&Constant>> {
        match self.attrs.get(name) {
            None => Ok(None),
            Some(Attr::Tensor(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong(name, "a tensor")),
        }
    }
}
