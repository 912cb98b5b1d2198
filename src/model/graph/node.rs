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
    Float(f32),
    Int(i64),
    Str(Bytes),
    Tensor(Constant),
    Graph(Box<Graph>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strs(Vec<Bytes>),
    Tensors(Vec<Constant>),
    Graphs(Vec<Graph>),
    /// A kind that this version only keeps: its encoded `AttributeProto`.
    Opaque(Bytes),
}

impl Attr {
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
    pub op: String,
    /// Empty for the ONNX operator set.
    pub domain: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attrs: IndexMap<String, Attr>,
    /// How the file had it.
    pub(crate) wire: Wire,
}

impl Node {
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
    #[must_use]
    pub fn attr(mut self, name: impl Into<String>, value: Attr) -> Self {
        self.attrs.insert(name.into(), value);
        self
    }
    #[must_use]
    pub fn int(self, name: &str, value: i64) -> Self {
        self.attr(name, Attr::Int(value))
    }
    #[must_use]
    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        self.attr(name, Attr::Ints(values.to_vec()))
    }
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
    pub fn find_int(&self, name: &str) -> Result<Option<i64>> {
        match self.attrs.get(name) {
            None => Ok(None),
            Some(Attr::Int(v)) => Ok(Some(*v)),
            Some(_) => Err(self.wrong(name, "an int")),
        }
    }
    pub fn get_float(&self, name: &str, default: f32) -> Result<f32> {
        match self.attrs.get(name) {
            None => Ok(default),
            Some(Attr::Float(v)) => Ok(*v),
            Some(_) => Err(self.wrong(name, "a float")),
        }
    }
    pub fn find_ints(&self, name: &str) -> Result<Option<&[i64]>> {
        match self.attrs.get(name) {
            None => Ok(None),
            Some(Attr::Ints(v)) => Ok(Some(v)),
            // Some exporters leave an empty list without a type.
            Some(Attr::Floats(v)) if v.is_empty() => Ok(Some(&[])),
            Some(_) => Err(self.wrong(name, "ints")),
        }
    }
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
    pub fn find_tensor(&self, name: &str) -> Result<Option<&Constant>> {
        match self.attrs.get(name) {
            None => Ok(None),
            Some(Attr::Tensor(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong(name, "a tensor")),
        }
    }
}
