//! What turns a node into layers sees: the node, what is known of its values, and the network in the making.

use super::element::attribute;
use super::net::{Data, Net, Port, number};
use compresso_base::error::{Error, Result};
use compresso_model::{Constant, Dim, Element, Fact, Facts, Graph, Infer, Node};
use std::collections::HashMap;
use std::fmt::Display;

/// Names and texts of a layer's attributes.
pub(super) type Attrs = Vec<(&'static str, String)>;

/// How the layers of an operator are written.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// One layer of this type and operator set with the same inputs.
    Same(&'static str, u8),
    /// As [`Form::Same`], with an output of booleans.
    Test(&'static str, u8),
    /// Layers of two inputs, one after the other, for any number of inputs.
    Chain(&'static str),
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
    pub makers: &'a HashMap<&'a str, usize>,
    pub net: &'a mut Net,
}

/// An error of sizes or ranks that are left open, with the remedy.
pub(super) fn open(what: &str) -> Error {
    Error::unsupported(format!("{what} must be known when the file is written"))
        .hint("open the model with image_size: [height, width] or batch: 1, so that its sizes are fixed")
}

/// `1, 1` of numbers.
pub(super) fn listed<T: Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Constants of the model are made when they are first read.
pub(super) fn value(net: &mut Net, graph: &Graph, name: &str) -> Result<Port> {
    if let Some(port) = net.value(name) {
        return Ok(port);
    }
    let constant = graph.constant(name).ok_or_else(|| Error::internal(format!("the value '{name}' was not made before it is read")))?;
    attribute(constant.element())?;
    let port = net.stored(name, constant, constant.dims())?;
    net.set(name, port, None);
    Ok(port)
}

impl Lower<'_> {
    /// Input `i`, when it is given.
    pub fn get(&mut self, i: usize) -> Result<Option<Port>> {
        let node = self.node;
        node.input(i).map(|name| value(self.net, self.graph, name)).transpose()
    }
    /// Input `i`.
    pub fn input(&mut self, i: usize) -> Result<Port> {
        self.get(i)?.ok_or_else(|| Error::format(format!("input {i} is missing")))
    }
    /// All inputs that are given.
    pub fn inputs(&mut self) -> Result<Vec<Port>> {
        (0..self.node.inputs.len()).filter_map(|i| self.get(i).transpose()).collect()
    }
    pub fn fact(&self, i: usize) -> Option<&Fact> {
        self.node.input(i).and_then(|name| self.facts.get(name))
    }
    /// The sizes of input `i`.
    pub fn shape(&self, i: usize) -> Result<Vec<Dim>> {
        self.fact(i).and_then(|f| f.shape.clone()).ok_or_else(|| open(&format!("the rank of input {i}")))
    }
    pub fn rank(&self, i: usize) -> Result<usize> {
        self.shape(i).map(|s| s.len())
    }
    pub fn output_element(&self, i: usize) -> Option<Element> {
        self.node.output(i).and_then(|name| self.facts.get(name)).map(|f| f.element)
    }
    /// Input `i`, when it is a constant.
    pub fn constant(&self, i: usize) -> Option<&Constant> {
        self.fact(i).and_then(|f| f.constant.as_ref())
    }
    /// Integers of input `i`, when they are known.
    pub fn ints(&self, i: usize) -> Result<Option<Vec<i64>>> {
        Infer::new(self.node, self.opset, self.facts).ints(i)
    }
    /// The axis that an attribute names, counted from the start.
    pub fn axis(&self, default: i64, rank: usize) -> Result<usize> {
        compresso_model::graph::normalize_axis(self.node.get_int("axis", default)?, rank)
    }
    /// A list that is an attribute in old operator sets and an input in new ones.
    pub fn list(&mut self, attribute: &str, slot: usize) -> Result<Option<Port>> {
        match self.node.find_ints(attribute)?.map(<[i64]>::to_vec) {
            Some(list) => Ok(Some(self.of_ints(&list))),
            None => self.get(slot),
        }
    }
    /// As [`Lower::list`], where the numbers are known.
    pub fn known_list(&self, attribute: &str, slot: usize) -> Result<Option<Vec<i64>>> {
        match self.node.find_ints(attribute)? {
            Some(list) => Ok(Some(list.to_vec())),
            None => self.ints(slot),
        }
    }

    /// Adds a layer with one output, of the type of its first input.
    pub fn layer(&mut self, kind: &'static str, set: u8, attrs: Attrs, inputs: &[Port]) -> Port {
        let element = inputs.first().map_or(Element::F32, |&p| self.net.element(p));
        self.typed(kind, set, attrs, inputs, element)
    }
    /// Adds a layer with one output of this type.
    pub fn typed(&mut self, kind: &'static str, set: u8, attrs: Attrs, inputs: &[Port], element: Element) -> Port {
        self.several(kind, set, attrs, inputs, &[element])[0]
    }
    /// Adds a layer with outputs of these types.
    pub fn several(&mut self, kind: &'static str, set: u8, attrs: Attrs, inputs: &[Port], elements: &[Element]) -> Vec<Port> {
        let name = self.inner(kind);
        let layer = self.net.add(&name, kind, set, attrs, inputs, elements);
        (0..elements.len()).map(|output| Port { layer, output }).collect()
    }
    fn inner(&self, kind: &str) -> String {
        let name = if self.node.name.is_empty() { self.node.outputs.first().map_or("", String::as_str) } else { &self.node.name };
        format!("{name}/{kind}")
    }
    /// A layer of two inputs of one type.
    pub fn binary(&mut self, kind: &'static str, a: Port, b: Port) -> Port {
        self.layer(kind, 1, broadcast(), &[a, b])
    }
    /// A list of int64.
    pub fn of_ints(&mut self, values: &[i64]) -> Port {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.numbers(Element::I64, &[values.len()], bytes)
    }
    pub fn of_int(&mut self, value: i64) -> Port {
        self.numbers(Element::I64, &[], value.to_le_bytes().to_vec())
    }
    /// A scalar.
    pub fn scalar(&mut self, value: f64, element: Element) -> Result<Port> {
        let bytes = number(value, element)?;
        Ok(self.numbers(element, &[], bytes))
    }
    /// Float32 numbers.
    pub fn of_floats(&mut self, dims: &[usize], values: &[f32]) -> Port {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.numbers(Element::F32, dims, bytes)
    }
    pub fn numbers(&mut self, element: Element, dims: &[usize], bytes: Vec<u8>) -> Port {
        let name = self.inner("Const");
        self.net.constant(&name, element, dims, Data::Bytes(bytes))
    }
    pub fn convert(&mut self, x: Port, to: Element) -> Result<Port> {
        if self.net.element(x) == to {
            return Ok(x);
        }
        let attrs = vec![("destination_type", attribute(to)?.to_string())];
        Ok(self.typed("Convert", 1, attrs, &[x], to))
    }
    /// The value with another shape; a 0 stands for the size that is there.
    pub fn reshape(&mut self, x: Port, shape: &[i64]) -> Port {
        let shape = self.of_ints(shape);
        self.layer("Reshape", 1, vec![("special_zero", "true".into())], &[x, shape])
    }
    pub fn shape_of(&mut self, x: Port) -> Port {
        self.typed("ShapeOf", 3, vec![("output_type", "i64".into())], &[x], Element::I64)
    }
    /// The scalar of a tensor with one element.
    pub fn as_scalar(&mut self, x: Port) -> Port {
        let shape = self.of_ints(&[]);
        self.layer("Reshape", 1, vec![("special_zero", "false".into())], &[x, shape])
    }
    /// Input `i`, a vector with a number for each channel, for values of this rank whose axis 1 are the channels.
    pub fn per_channel(&mut self, i: usize, rank: usize) -> Result<Port> {
        let shape: Vec<i64> = (0..rank).map(|d| if d == 1 { -1 } else { 1 }).collect();
        let node = self.node;
        match node.input(i).and_then(|name| Some((name, self.graph.constant(name)?))) {
            Some((name, c)) => {
                let dims: Vec<usize> = (0..rank).map(|d| if d == 1 { c.count() } else { 1 }).collect();
                self.net.stored(name, c, &dims)
            }
            None => {
                let x = self.input(i)?;
                Ok(self.reshape(x, &shape))
            }
        }
    }

    /// Says what output `i` of the node is.
    pub fn set(&mut self, i: usize, port: Port) {
        let Some(name) = self.node.output(i) else { return };
        let shape = self.facts.get(name).and_then(|f| f.shape.clone());
        self.net.set(name, port, shape);
        if i == 0 {
            self.net.rename(port.layer, &self.node.name);
        }
    }
    /// Says what the node's only output is.
    ///
    /// # Errors
    /// `Unsupported` where another output is asked for.
    pub fn one(&mut self, port: Port) -> Result<()> {
        if let Some(other) = (1..self.node.outputs.len()).find_map(|i| self.node.output(i)) {
            return Err(Error::unsupported(format!("OpenVINO's writer makes no second output ('{other}') of this operator")));
        }
        self.set(0, port);
        Ok(())
    }
    /// The value as it is, under the output's name. What the model gives out is a layer of its own.
    pub fn alias(&mut self, port: Port) -> Result<()> {
        let Some(name) = self.node.output(0) else { return Ok(()) };
        if !self.graph.is_output(name) {
            self.net.set(name, port, None);
            return Ok(());
        }
        let element = self.net.element(port);
        let copy = self.typed("Convert", 1, vec![("destination_type", attribute(element)?.to_string())], &[port], element);
        self.set(0, copy);
        Ok(())
    }
}

/// Attributes of layers that broadcast as NumPy does.
pub(super) fn broadcast() -> Attrs {
    vec![("auto_broadcast", "numpy".into())]
}

/// An error of a form that the IR or its runtime lacks.
pub(super) fn lacks(what: impl Display) -> Error {
    Error::unsupported(format!("OpenVINO has no {what}"))
}

pub(super) fn flag(on: bool) -> String {
    if on { "true".into() } else { "false".into() }
}
