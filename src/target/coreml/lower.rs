//! What turns a node into operations sees: the node, what is known of its values, and the program in the making.

use super::program::{Kind, Literal, Program, Ref, Type};
use super::weights::{Encoded, store};
use compresso_base::error::{Error, Result};
use compresso_base::memory;
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

    // Constants.

    fn literal(&mut self, literal: Literal) -> Ref {
        let name = self.inner("const");
        self.net.constant(&name, literal)
    }
    pub fn int(&mut self, value: i64) -> Ref {
        self.literal(Literal::i32s(&[], &[value]))
    }
    pub fn list_of(&mut self, values: &[usize]) -> Ref {
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        self.literal(Literal::i32s(&[values.len()], &values))
    }
    pub fn int_tensor(&mut self, dims: &[usize], values: &[i64]) -> Ref {
        self.literal(Literal::i32s(dims, values))
    }
    pub fn flag(&mut self, on: bool) -> Ref {
        self.literal(Literal::new(Kind::Bool, &[], vec![u8::from(on)]))
    }
    pub fn flags(&mut self, dims: &[usize], on: &[bool]) -> Ref {
        self.literal(Literal::new(Kind::Bool, dims, on.iter().map(|&b| u8::from(b)).collect::<Vec<_>>()))
    }
    pub fn text(&mut self, text: &str) -> Ref {
        self.literal(Literal::text(text))
    }
    /// A scalar of a type.
    pub fn number(&mut self, value: f32, kind: Kind) -> Ref {
        if kind.is_float() { self.literal(Literal::floats(kind, &[], &[value])) } else { self.int(value as i64) }
    }
    pub fn floats(&mut self, kind: Kind, dims: &[usize], values: &[f32]) -> Ref {
        self.literal(Literal::floats(kind, dims, values))
    }

    // Operations.

    fn inner(&self, kind: &str) -> String {
        let name = if self.node.name.is_empty() { self.node.outputs.first().map_or("", String::as_str) } else { &self.node.name };
        format!("{name}_{kind}")
    }
    pub fn several(&mut self, kind: &'static str, inputs: &[(&'static str, Ref)], made: Vec<Type>) -> Vec<Ref> {
        let name = self.inner(kind);
        let inputs = inputs.iter().map(|(name, value)| (*name, vec![*value])).collect();
        self.net.operation(&name, kind, inputs, Vec::new(), made)
    }
    pub fn op(&mut self, kind: &'static str, inputs: &[(&'static str, Ref)], made: Type) -> Ref {
        self.several(kind, inputs, vec![made])[0]
    }
    /// An operation on `x` that makes a tensor like it.
    pub fn like(&mut self, kind: &'static str, x: Ref, settings: &[(&'static str, Ref)]) -> Ref {
        let made = self.net.made(x).clone();
        let inputs: Vec<_> = std::iter::once(("x", x)).chain(settings.iter().copied()).collect();
        self.op(kind, &inputs, made)
    }
    /// An operation of two tensors of one type, which broadcast.
    pub fn binary(&mut self, kind: &'static str, a: Ref, b: Ref) -> Result<Ref> {
        let made = Type { kind: self.kind(a), dims: broadcast(&self.sizes(a), &self.sizes(b))? };
        Ok(self.op(kind, &[("x", a), ("y", b)], made))
    }
    /// As [`Lower::binary`], which makes booleans.
    pub fn test(&mut self, kind: &'static str, a: Ref, b: Ref) -> Result<Ref> {
        let made = Type { kind: Kind::Bool, dims: broadcast(&self.sizes(a), &self.sizes(b))? };
        Ok(self.op(kind, &[("x", a), ("y", b)], made))
    }
    /// `a` where `on`, else `b`.
    pub fn select(&mut self, on: Ref, a: Ref, b: Ref) -> Result<Ref> {
        let dims = broadcast(&broadcast(&self.sizes(a), &self.sizes(b))?, &self.sizes(on))?;
        // coremltools works the result's sizes out from both choices alone.
        let a = if broadcast(&self.sizes(a), &self.sizes(b))? == dims { a } else { self.spread(a, &dims)? };
        let made = Type { kind: self.kind(a), dims };
        Ok(self.op("select", &[("cond", on), ("a", a), ("b", b)], made))
    }
    pub fn cast(&mut self, x: Ref, to: Kind) -> Ref {
        if self.kind(x) == to {
            return x;
        }
        let (made, word) = (Type { kind: to, dims: self.sizes(x) }, self.text(to.word()));
        self.op("cast", &[("x", x), ("dtype", word)], made)
    }
    /// The value with other sizes of as many elements.
    pub fn reshape(&mut self, x: Ref, dims: &[usize]) -> Ref {
        let own = self.sizes(x);
        if own == dims {
            return x;
        }
        let made = Type::new(self.kind(x), dims);
        if dims.is_empty() {
            return self.op("squeeze", &[("x", x)], made);
        }
        let shape = self.list_of(dims);
        self.op("reshape", &[("x", x), ("shape", shape)], made)
    }
    /// The value with its axes in another order.
    pub fn transpose(&mut self, x: Ref, order: &[usize]) -> Ref {
        let own = self.sizes(x);
        if order.iter().enumerate().all(|(i, &a)| i == a) {
            return x;
        }
        let made = Type { kind: self.kind(x), dims: order.iter().map(|&a| own[a]).collect() };
        let order = self.list_of(order);
        self.op("transpose", &[("x", x), ("perm", order)], made)
    }
    /// The value repeated along axes of size 1, and those before its own, until it has these sizes.
    pub fn spread(&mut self, x: Ref, dims: &[usize]) -> Result<Ref> {
        let own = self.sizes(x);
        if own == dims {
            return Ok(x);
        }
        let lead = dims.len().checked_sub(own.len()).ok_or_else(|| Error::internal("a value is spread to fewer axes"))?;
        let full: Vec<usize> = std::iter::repeat_n(1, lead).chain(own).collect();
        let x = self.reshape(x, &full);
        let repeats: Vec<usize> = full.iter().zip(dims).map(|(&own, &to)| if own == to { 1 } else { to }).collect();
        self.repeat(x, &repeats)
    }
    pub fn repeat(&mut self, x: Ref, repeats: &[usize]) -> Result<Ref> {
        if repeats.iter().all(|&r| r == 1) {
            return Ok(x);
        }
        let dims: Vec<usize> = self.sizes(x).iter().zip(repeats).map(|(d, r)| d * r).collect();
        memory::elements(dims.iter().copied()).ok_or_else(|| lacks(format!("tensor as large as {dims:?}")))?;
        let (made, repeats) = (Type { kind: self.kind(x), dims }, self.list_of(repeats));
        Ok(self.op("tile", &[("x", x), ("reps", repeats)], made))
    }
    /// Elements along an axis by their numbers, from 0 on.
    pub fn gather(&mut self, x: Ref, at: Ref, axis: usize) -> Ref {
        let (own, indices) = (self.sizes(x), self.sizes(at));
        let dims = own[..axis].iter().chain(&indices).chain(&own[axis + 1..]).copied().collect();
        let (made, axis) = (Type { kind: self.kind(x), dims }, self.int(axis as i64));
        self.op("gather", &[("x", x), ("indices", at), ("axis", axis)], made)
    }
    /// From an element to another of each axis.
    pub fn cut(&mut self, x: Ref, begin: &[usize], end: &[usize], step: &[usize]) -> Ref {
        let dims: Vec<usize> = (0..begin.len()).map(|d| (end[d] - begin[d]).div_ceil(step[d])).collect();
        if dims == self.sizes(x) {
            return x;
        }
        let made = Type { kind: self.kind(x), dims };
        let (begin, end) = (self.list_of(begin), self.list_of(end));
        let mut inputs = vec![("x", x), ("begin", begin), ("end", end)];
        if step.iter().any(|&s| s != 1) {
            inputs.push(("stride", self.list_of(step)));
        }
        self.op("slice_by_index", &inputs, made)
    }
    pub fn join(&mut self, values: Vec<Ref>, axis: usize) -> Ref {
        let mut made = self.net.made(values[0]).clone();
        made.dims[axis] = values.iter().map(|v| self.net.made(*v).dims[axis]).sum();
        let (axis, interleave, name) = (self.int(axis as i64), self.flag(false), self.inner("concat"));
        let inputs = vec![("values", values), ("axis", vec![axis]), ("interleave", vec![interleave])];
        self.net.operation(&name, "concat", inputs, Vec::new(), vec![made])[0]
    }
    /// A reduction along axes.
    pub fn reduce(&mut self, kind: &'static str, x: Ref, axes: &[usize], keep: bool) -> Ref {
        let kept = |(d, &n): (usize, &usize)| match (axes.contains(&d), keep) {
            (false, _) => Some(n),
            (true, true) => Some(1),
            (true, false) => None,
        };
        let dims = self.sizes(x).iter().enumerate().filter_map(kept).collect();
        let made = Type { kind: self.kind(x), dims };
        let (axes, keep) = (self.list_of(axes), self.flag(keep));
        self.op(kind, &[("x", x), ("axes", axes), ("keep_dims", keep)], made)
    }
    /// Input `i`, a number for each channel, for values of this rank whose axis 1 are the channels.
    pub fn per_channel(&mut self, i: usize, rank: usize) -> Result<Ref> {
        let (x, count) = (self.input(i)?, self.dims(i)?.iter().product());
        let dims: Vec<usize> = (0..rank).map(|d| if d == 1 { count } else { 1 }).collect();
        match self.constant(i).map(Constant::to_f32s).transpose()? {
            Some(values) => Ok(self.floats(self.kind(x), &dims, &values)),
            None => Ok(self.reshape(x, &dims)),
        }
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
