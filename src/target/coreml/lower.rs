//! What turns a node into operations sees: the node, what is known of its values, and the program in the making.

use super::program::{Kind, Literal, Program, Ref};
use super::weights::{Encoded, store};
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;
use compresso_model::{Constant, Dim, Fact, Facts, Graph, Infer, Node};
use std::collections::BTreeMap;
use std::fmt::Display;

/// How an operator is written.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// One operation on one tensor of floats.
    Same(&'static str),
    With(fn(&mut Lower<'_>) -> Result<()>),
}

/// An operator of ONNX and its form.
pub(super) type Entry = (&'static str, Form);

pub(super) struct Lower<'a> {
    pub graph: &'a Graph,
    pub node: &'a Node,
    /// Version of the node's operator set.
    pub opset: i64,
    pub facts: &'a Facts,
    pub net: &'a mut Program,
    /// Weights that are stored in another form.
    pub encoded: &'a BTreeMap<String, Encoded>,
}

/// Tensors have at most so many axes.
pub(super) const RANK: usize = 5;

/// An error of what the format lacks.
pub(super) fn lacks(what: impl Display) -> Error {
    Error::unsupported(format!("Core ML has no {what}"))
}

/// An error of what is computed when the model runs and must stand in the file.
pub(super) fn open(what: impl Display) -> Error {
    Error::unsupported(format!("{what} must be known when the file is written"))
        .hint("open the model with image_size: [height, width] or batch: 1, so that its sizes are fixed")
}

/// Sizes as tensors have them: what has too many axes lies in one.
pub(super) fn held(dims: &[usize]) -> Vec<usize> {
    if dims.len() > RANK { vec![dims.iter().product()] } else { dims.to_vec() }
}

/// The sizes two shapes broadcast to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let known = |dims: &[usize]| dims.iter().map(|&d| Dim::Known(d)).collect::<Vec<_>>();
    Ok(compresso_model::graph::broadcast(&known(a), &known(b))?.iter().filter_map(Dim::known).collect())
}

impl Lower<'_> {
    // What is known of the node.

    pub fn fact(&self, i: usize) -> Option<&Fact> {
        self.node.input(i).and_then(|name| self.facts.get(name))
    }
    /// The sizes of input `i`.
    pub fn dims(&self, i: usize) -> Result<Vec<usize>> {
        let fact = self.fact(i).ok_or_else(|| Error::format(format!("input {i} is missing")))?;
        fact.dims().ok_or_else(|| open(format!("the sizes of input {i}, which is {fact},")))
    }
    /// The sizes of output `i`.
    pub fn out_dims(&self, i: usize) -> Result<Vec<usize>> {
        let fact = self.node.output(i).and_then(|name| self.facts.get(name));
        fact.and_then(Fact::dims).ok_or_else(|| open(format!("the sizes of output {i}")))
    }
    pub fn rank(&self, i: usize) -> Result<usize> {
        self.dims(i).map(|d| d.len())
    }
    /// The type of output `i`.
    pub fn out_kind(&self, i: usize) -> Result<Kind> {
        let fact = self.node.output(i).and_then(|name| self.facts.get(name));
        Kind::of(fact.ok_or_else(|| Error::internal("an output without a type"))?.element)
    }
    /// Input `i`, when it is a constant.
    pub fn constant(&self, i: usize) -> Option<&Constant> {
        self.fact(i).and_then(|f| f.constant.as_ref())
    }
    /// Integers of input `i`; `None` where it is left out.
    pub fn ints(&self, i: usize) -> Result<Option<Vec<i64>>> {
        if self.node.input(i).is_none() {
            return Ok(None);
        }
        let known = Infer::new(self.node, self.opset, self.facts).ints(i)?;
        known.map(Some).ok_or_else(|| open(format!("input {i}, which the model computes,")))
    }
    /// A list that is an attribute in old operator sets and an input in new ones.
    pub fn list(&self, attribute: &str, slot: usize) -> Result<Option<Vec<i64>>> {
        match self.node.find_ints(attribute)? {
            Some(list) => Ok(Some(list.to_vec())),
            None => self.ints(slot),
        }
    }
    /// Numbers of input `i`, which must be a constant.
    pub fn numbers(&self, i: usize) -> Result<Vec<f32>> {
        self.constant(i).ok_or_else(|| open(format!("input {i}")))?.to_f32s()
    }
    /// The axis that an attribute names, counted from the start.
    pub fn axis(&self, default: i64, rank: usize) -> Result<usize> {
        normalize_axis(self.node.get_int("axis", default)?, rank)
    }

    // Values.

    /// Input `i` as it is held, when it is given: see [`held`].
    pub fn raw(&mut self, i: usize) -> Result<Option<Ref>> {
        let Some(name) = self.node.input(i) else { return Ok(None) };
        if let Some(value) = self.net.value(name) {
            return Ok(Some(value));
        }
        let own = self.graph.constant(name);
        let constant = own.or_else(|| self.facts.get(name)?.constant.as_ref());
        let constant = constant.ok_or_else(|| Error::internal(format!("the value '{name}' was not made before it is read")))?;
        let value = constant_value(self.net, self.encoded, name, constant)?;
        self.net.know(name, value);
        Ok(Some(value))
    }
    /// Input `i`, when it is given.
    pub fn get(&mut self, i: usize) -> Result<Option<Ref>> {
        if let Some(rank) = self.fact(i).and_then(Fact::rank).filter(|&r| r > RANK) {
            return Err(lacks(format!("tensors of {rank} axes; it has up to {RANK}")));
        }
        self.raw(i)
    }
    /// Input `i`.
    pub fn input(&mut self, i: usize) -> Result<Ref> {
        self.get(i)?.ok_or_else(|| Error::format(format!("input {i} is missing")))
    }
    /// Input `i`, a tensor of floats.
    pub fn float(&mut self, i: usize) -> Result<Ref> {
        let x = self.input(i)?;
        let kind = self.kind(x);
        if kind.is_float() { Ok(x) } else { Err(lacks(format!("{} of {}", self.node.op, kind.word()))) }
    }
    /// All inputs that are given.
    pub fn inputs(&mut self) -> Result<Vec<Ref>> {
        (0..self.node.inputs.len()).filter_map(|i| self.get(i).transpose()).collect()
    }
    pub fn kind(&self, x: Ref) -> Kind {
        self.net.made(x).kind
    }
    pub fn sizes(&self, x: Ref) -> Vec<usize> {
        self.net.made(x).dims.clone()
    }

    /// Says what output `i` of the node is.
    pub fn set(&mut self, i: usize, value: Ref) -> Result<()> {
        let Some(name) = self.node.output(i) else { return Ok(()) };
        let expected = held(&self.out_dims(i)?);
        if self.sizes(value) != expected {
            return Err(Error::internal(format!("'{name}' was made as {:?}, expected {expected:?}", self.sizes(value))));
        }
        self.net.know(name, value);
        Ok(())
    }
    /// Says what the node's only output is.
    ///
    /// # Errors
    /// `Unsupported` where another output is asked for.
    pub fn one(&mut self, value: Ref) -> Result<()> {
        if let Some(other) = (1..self.node.outputs.len()).find_map(|i| self.node.output(i)) {
            return Err(Error::unsupported(format!("Core ML's writer makes no second output ('{other}') of this operator")));
        }
        self.set(0, value)
    }
}

/// A constant of the graph.
pub(super) fn constant_value(net: &mut Program, encoded: &BTreeMap<String, Encoded>, name: &str, c: &Constant) -> Result<Ref> {
    let (kind, dims) = (Kind::of(c.element())?, held(c.dims()));
    if let Some(encoded) = encoded.get(name) {
        return Ok(encoded.write(net, name, kind, &dims));
    }
    let literal = match kind {
        Kind::F32 | Kind::F16 => Literal::new(kind, &dims, c.to_raw()?),
        Kind::Bool => Literal::new(kind, &dims, c.to_i64s()?.iter().map(|&b| u8::from(b != 0)).collect::<Vec<_>>()),
        _ => Literal::i32s(&dims, &c.to_i64s()?),
    };
    Ok(store(net, name, literal))
}
