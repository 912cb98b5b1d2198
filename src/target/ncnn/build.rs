//! What translates a graph node by node: where each value's blob is and what shape it has.

use super::net::{Blob, Layer, Net, Weight};
use super::shape::canonical;
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;
use compresso_model::{Constant, Facts, Graph, Node};
use std::collections::HashMap;

/// A blob and the shape that it has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    pub blob: Blob,
    pub shape: Vec<usize>,
}

/// A value that stands for integers: what is rounded, and the scale of its integers.
#[derive(Debug, Clone)]
pub(super) struct Rounded {
    pub source: String,
    pub scale: f32,
}

/// A network in the making.
#[derive(Debug)]
pub(super) struct Build<'g> {
    pub graph: &'g Graph,
    pub facts: &'g Facts,
    pub net: Net,
    held: HashMap<String, Held>,
    views: HashMap<(Blob, Vec<usize>), Blob>,
    /// Values between QuantizeLinear and the layers that read them.
    pub rounded: HashMap<String, Rounded>,
    /// What layers are called that are made now.
    pub label: String,
}

impl<'g> Build<'g> {
    pub(super) fn new(graph: &'g Graph, facts: &'g Facts) -> Self {
        Self {
            graph,
            facts,
            net: Net::default(),
            held: HashMap::new(),
            views: HashMap::new(),
            rounded: HashMap::new(),
            label: String::new(),
        }
    }

    /// Sizes of a value.
    ///
    /// # Errors
    /// `Unsupported` when they are not known, or there is none of it.
    pub(super) fn dims(&self, name: &str) -> Result<Vec<usize>> {
        let fact = self.facts.get(name).ok_or_else(|| Error::missing(format!("there is no value '{name}'")))?;
        let dims = fact.dims().ok_or_else(|| {
            Error::unsupported(format!("'{name}' is {fact}, and NCNN's files have fixed sizes"))
                .hint("a size that depends on the data cannot be fixed; export the part of the model before it")
        })?;
        if dims.contains(&0) {
            return Err(Error::unsupported(format!("'{name}' is {fact}, and NCNN has no empty blobs")));
        }
        Ok(dims)
    }
    /// Sizes of a node's input.
    pub(super) fn input_dims(&self, node: &Node, i: usize) -> Result<Vec<usize>> {
        self.dims(input(node, i)?)
    }
    /// Sizes of a node's first output.
    pub(super) fn output_dims(&self, node: &Node) -> Result<Vec<usize>> {
        self.dims(output(node)?)
    }
    /// A value that is a constant.
    pub(super) fn constant(&self, name: &str) -> Option<&'g Constant> {
        self.graph.constant(name).or_else(|| self.facts.get(name)?.constant.as_ref())
    }
    /// Numbers of a node's input.
    ///
    /// # Errors
    /// `Unsupported` when it is no constant.
    pub(super) fn floats(&self, node: &Node, i: usize, what: &str) -> Result<Vec<f32>> {
        let name = input(node, i)?;
        let constant =
            self.constant(name).ok_or_else(|| Error::unsupported(format!("{what} '{name}' is computed; NCNN wants a constant")))?;
        constant.to_f32s()
    }
    /// Integers of a node's input; `None` where it is left out.
    ///
    /// # Errors
    /// `Unsupported` when it is no constant.
    pub(super) fn ints(&self, node: &Node, i: usize, what: &str) -> Result<Option<Vec<i64>>> {
        let Some(name) = node.input(i) else { return Ok(None) };
        let constant =
            self.constant(name).ok_or_else(|| Error::unsupported(format!("{what} '{name}' is computed; NCNN wants a constant")))?;
        constant.to_i64s().map(Some)
    }

    /// A value's blob. A constant becomes a layer of its own.
    ///
    /// # Errors
    /// `Unsupported` for what is no float.
    pub(super) fn held(&mut self, name: &str) -> Result<Held> {
        if let Some(held) = self.held.get(name) {
            return Ok(held.clone());
        }
        let shape = canonical(&self.dims(name)?);
        self.floating(name)?;
        if let Some(constant) = self.constant(name) {
            let blob = self.stored(name, constant.to_f32s()?, &shape);
            let held = Held { blob, shape };
            self.held.insert(name.to_string(), held.clone());
            return Ok(held);
        }
        let rounded = self.rounded.get(name).cloned();
        match rounded {
            Some(rounded) => self.rounded_blob(name, &rounded),
            None => Err(Error::missing(format!("nothing makes '{name}'"))),
        }
    }
    fn floating(&self, name: &str) -> Result<()> {
        match self.facts.get(name) {
            Some(fact) if !fact.element.is_float() => {
                Err(Error::unsupported(format!("'{name}' is {fact}, and NCNN computes with floats only")))
            }
            _ => Ok(()),
        }
    }
    /// A rounded value for a layer that computes in float: to int8 and back.
    fn rounded_blob(&mut self, name: &str, rounded: &Rounded) -> Result<Held> {
        let from = self.held(&rounded.source)?;
        let scales = |v: f32| Weight::Plain(vec![v]);
        let int = self.layer(Layer::new("Quantize").int(0, 1).weight(scales(1.0 / rounded.scale)), &[from.blob]);
        let back = self.layer(Layer::new("Dequantize").int(0, 1).int(1, 0).weight(scales(rounded.scale)), &[int]);
        let held = Held { blob: back, shape: from.shape };
        self.held.insert(name.to_string(), held.clone());
        Ok(held)
    }
    fn stored(&mut self, name: &str, values: Vec<f32>, shape: &[usize]) -> Blob {
        let before = std::mem::replace(&mut self.label, name.to_string());
        let blob = self.layer(Layer::new("MemoryData").sizes(shape).weight(Weight::Plain(values)), &[]);
        self.label = before;
        blob
    }
    /// A value's blob in a certain shape.
    ///
    /// # Errors
    /// As [`Build::held`]; `Internal` for another number of elements.
    pub(super) fn view(&mut self, name: &str, shape: &[usize]) -> Result<Blob> {
        if !self.held.contains_key(name)
            && let Some(constant) = self.constant(name)
        {
            self.floating(name)?;
            let blob = self.stored(name, constant.to_f32s()?, shape);
            self.held.insert(name.to_string(), Held { blob, shape: shape.to_vec() });
            return Ok(blob);
        }
        let held = self.held(name)?;
        self.reshaped(&held, shape)
    }
    /// A blob in another shape.
    pub(super) fn reshaped(&mut self, held: &Held, shape: &[usize]) -> Result<Blob> {
        if held.shape == shape {
            return Ok(held.blob);
        }
        if held.shape.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(Error::internal(format!("a blob {:?} cannot be seen as {shape:?}", held.shape)));
        }
        if let Some(&blob) = self.views.get(&(held.blob, shape.to_vec())) {
            return Ok(blob);
        }
        let blob = self.layer(Layer::new("Reshape").sizes(shape), &[held.blob]);
        self.views.insert((held.blob, shape.to_vec()), blob);
        Ok(blob)
    }

    /// Adds a layer with one output.
    pub(super) fn layer(&mut self, layer: Layer, inputs: &[Blob]) -> Blob {
        self.layers(layer, inputs, 1)[0]
    }
    /// Adds a layer with several outputs.
    pub(super) fn layers(&mut self, layer: Layer, inputs: &[Blob], outputs: usize) -> Vec<Blob> {
        let made: Vec<Blob> = (0..outputs).map(|_| self.net.blob()).collect();
        self.net.layers.push(Layer { name: self.label.clone(), inputs: inputs.to_vec(), outputs: made.clone(), ..layer });
        made
    }
    /// Says where a value is.
    pub(super) fn set(&mut self, name: &str, blob: Blob, shape: Vec<usize>) {
        self.held.insert(name.to_string(), Held { blob, shape });
    }
    /// Says where a node's first output is.
    pub(super) fn made(&mut self, node: &Node, blob: Blob, shape: Vec<usize>) -> Result<()> {
        self.set(output(node)?, blob, shape);
        Ok(())
    }
    /// The node's first output is its first input, whatever its shape.
    pub(super) fn same(&mut self, node: &Node) -> Result<()> {
        let held = self.held(input(node, 0)?)?;
        self.made(node, held.blob, held.shape)
    }
    /// A layer that makes of each element of the first input one of the first output.
    pub(super) fn elementwise(&mut self, node: &Node, layer: Layer) -> Result<()> {
        let held = self.held(input(node, 0)?)?;
        let blob = self.layer(layer, &[held.blob]);
        self.made(node, blob, held.shape)
    }
    /// Whether something reads a value: a node, or who runs the graph.
    pub(super) fn is_read(&self, name: &str) -> bool {
        self.graph.is_output(name) || self.graph.nodes().iter().any(|n| n.reads().any(|r| r == name))
    }
}

/// A node's input.
///
/// # Errors
/// `Format` when it is left out.
pub(super) fn input(node: &Node, i: usize) -> Result<&str> {
    node.input(i).ok_or_else(|| Error::format(format!("input {i} is missing")))
}

/// A node's first output.
///
/// # Errors
/// `Format` when it is left out.
pub(super) fn output(node: &Node) -> Result<&str> {
    node.output(0).ok_or_else(|| Error::format("it has no output"))
}

/// An axis that an attribute names.
pub(super) fn axis(node: &Node, default: i64, rank: usize) -> Result<usize> {
    normalize_axis(node.get_int("axis", default)?, rank)
}

/// A rank or size that a blob cannot have.
pub(super) fn too_many(dims: &[usize]) -> Error {
    Error::unsupported(format!("it works on {dims:?} along axes that NCNN's blobs of four axes cannot hold apart"))
}
