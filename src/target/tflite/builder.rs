//! What the file is built with: the values of the graph, each held by tensors in the orders of axes that were asked for.
//!
//! A value that is wanted in another order than it is held in gets a TRANSPOSE, once for all that want it so. Operators that only
//! move axes (Transpose, and Reshape where it can) relabel what is there, so that transposes meet and cancel.
//!
//! A quantized value is held in integers, and as real numbers too once an operator asks for these.

use super::codes;
use super::layout::{permuted, plain, same_elements};
use super::model::{Call, File, Kind, Operator, Type};
use bytes::Bytes;
use compresso_base::error::{Error, Result};
use compresso_model::graph::Facts;
use compresso_model::{Constant, Element, Graph, Node};
use std::collections::{HashMap, HashSet};

/// In which numbers a value is read or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As its type says.
    Real,
    /// As integers with a scale.
    Rounded,
}

/// The tensors that hold a value, each in an order of axes.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    pub real: Vec<(Vec<usize>, usize)>,
    pub rounded: Vec<(Vec<usize>, usize)>,
}

impl Held {
    pub fn list(&mut self, form: Form) -> &mut Vec<(Vec<usize>, usize)> {
        match form {
            Form::Real => &mut self.real,
            Form::Rounded => &mut self.rounded,
        }
    }
}

pub(super) struct Builder<'a> {
    pub graph: &'a Graph,
    facts: &'a Facts,
    pub file: File,
    pub held: HashMap<String, Held>,
    readers: HashMap<&'a str, Vec<usize>>,
    makers: HashMap<&'a str, usize>,
    /// Constants that are computed from others while writing, such as dequantized weights.
    computed: HashMap<String, Constant>,
    /// Weights are stored in float16.
    pub half: bool,
    /// Layers round what they read while they run, beside integer weights.
    pub hybrid: bool,
    /// The file gives away integers where it can.
    pub integer_outputs: bool,
    /// Nodes that others have done.
    pub done: HashSet<usize>,
    /// Constant tensors by their bytes' place and type, so that each is stored once.
    pub stored: HashMap<(Kind, Vec<usize>, Vec<u8>), usize>,
}

impl<'a> Builder<'a> {
    pub fn new(graph: &'a Graph, facts: &'a Facts) -> Self {
        let file = File {
            name: graph.name().to_string(),
            tensors: Vec::new(),
            operators: Vec::new(),
            // The first buffer is the empty one by convention.
            buffers: vec![Bytes::new()],
            inputs: Vec::new(),
            outputs: Vec::new(),
            metadata: Vec::new(),
        };
        let (readers, makers) = (graph.consumers(), graph.producers());
        let (held, computed, done, stored) = (HashMap::new(), HashMap::new(), HashSet::new(), HashMap::new());
        Self { graph, facts, file, held, readers, makers, computed, half: false, hybrid: false, integer_outputs: false, done, stored }
    }

    /// The sizes of a value.
    ///
    /// # Errors
    /// `Unsupported` where some are open.
    pub fn dims(&self, name: &str) -> Result<Vec<usize>> {
        if let Some(c) = self.constant(name) {
            return Ok(c.dims().to_vec());
        }
        let fact = self.facts.get(name).ok_or_else(|| Error::internal(format!("nothing is known of '{name}'")))?;
        fact.dims().ok_or_else(|| {
            Error::unsupported(format!("TensorFlow Lite needs sizes that are known, and '{name}' is {fact}"))
                .hint("open the model with fixed sizes: image_size: [height, width], batch: 1")
        })
    }

    pub fn kind(&self, name: &str) -> Result<Kind> {
        let fact = self.facts.get(name).ok_or_else(|| Error::internal(format!("nothing is known of '{name}'")))?;
        kind_of(fact.element)
    }

    /// A constant of the graph, or one computed from such.
    pub fn constant(&self, name: &str) -> Option<&Constant> {
        self.computed.get(name).or_else(|| self.graph.constant(name)).or_else(|| self.facts.get(name)?.constant.as_ref())
    }
    pub fn set_constant(&mut self, name: &str, value: Constant) {
        self.computed.insert(name.into(), value);
    }

    /// The integers of an input that is a setting, such as axes; `None` where it is left out.
    pub fn ints(&self, node: &Node, input: usize) -> Result<Option<Vec<i64>>> {
        let Some(name) = node.input(input) else { return Ok(None) };
        if let Some(c) = self.constant(name) {
            return c.to_i64s().map(Some);
        }
        let known =
            self.facts.get(name).and_then(|f| f.contents.as_ref()).and_then(|c| c.iter().map(|d| d.known()).collect::<Option<Vec<_>>>());
        match known {
            Some(v) => Ok(Some(v.into_iter().map(|x| x as i64).collect())),
            None => {
                Err(Error::unsupported(format!("'{name}' must be known before the model runs")).hint("open the model with fixed sizes"))
            }
        }
    }

    /// The numbers of a constant input.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        self.constant(name).ok_or_else(|| Error::unsupported(format!("'{name}' must be a constant")))?.to_f32s()
    }

    pub fn readers(&self, name: &str) -> &[usize] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }
    /// The one node that reads a value which is no output of the graph.
    pub fn sole_reader(&self, name: &str) -> Option<(usize, &'a Node)> {
        match self.readers(name) {
            &[i] if !self.graph.is_output(name) => Some((i, &self.graph.nodes()[i])),
            _ => None,
        }
    }
    pub fn maker(&self, name: &str) -> Option<&'a Node> {
        self.makers.get(name).map(|&i| &self.graph.nodes()[i])
    }

    /// An operator with one result.
    pub fn op(&mut self, call: Call, inputs: &[usize], made: Type) -> usize {
        self.ops(call, inputs, vec![made])[0]
    }
    pub fn ops(&mut self, mut call: Call, inputs: &[usize], made: Vec<Type>) -> Vec<usize> {
        let outputs: Vec<usize> = made.into_iter().map(|m| self.tensor(String::new(), m, 0)).collect();
        let has = |kind: Kind| outputs.iter().chain(inputs.first()).any(|&t| self.of(t).kind == kind);
        if has(Kind::I8) {
            call.version = call.version.max(codes::int8_version(call.code));
        } else if has(Kind::I16) {
            call.version = call.version.max(codes::int16_version(call.code));
        }
        for &t in &outputs {
            self.file.tensors[t].name = format!("t{t}");
        }
        self.file.operators.push(Operator { call, inputs: inputs.to_vec(), outputs: outputs.clone() });
        outputs
    }
    pub fn reshape(&mut self, tensor: usize, shape: &[usize]) -> Result<usize> {
        let made = self.of(tensor).shaped(shape);
        let to = self.ints_tensor(shape)?;
        Ok(self.op(codes::reshape(), &[tensor, to], made))
    }
    /// The tensor with its axes in another order.
    pub fn transpose(&mut self, tensor: usize, order: &[usize]) -> Result<usize> {
        let old = self.of(tensor).shape.clone();
        let shape = permuted(&old, order);
        if order == plain(old.len()) {
            return Ok(tensor);
        }
        if same_elements(&old, order, &plain(old.len())) {
            return self.reshape(tensor, &shape);
        }
        if order.len() > 6 {
            return Err(Error::unsupported(format!("a transpose of {} axes: TensorFlow Lite has up to 6", order.len())));
        }
        let made = self.of(tensor).shaped(&shape);
        let to = self.ints_tensor(order)?;
        Ok(self.op(codes::transpose(), &[tensor, to], made))
    }
}

/// The type that holds elements. Integers have 32 bits: operators of the runtime take no others throughout.
pub(super) fn kind_of(element: Element) -> Result<Kind> {
    match element {
        Element::F32 | Element::F16 | Element::BF16 | Element::F64 => Ok(Kind::F32),
        Element::I64 | Element::I32 => Ok(Kind::I32),
        Element::Bool => Ok(Kind::Bool),
        Element::U8 => Ok(Kind::U8),
        Element::I8 => Ok(Kind::I8),
        other => Err(Error::unsupported(format!("TensorFlow Lite's kernels take no {other} tensors"))),
    }
}
