//! A network of the IR in the making: layers with ports, and the constants that they read.

use compresso_base::error::{Error, Result};
use compresso_model::{Constant, Dim, Element};
use half::f16;
use std::collections::{HashMap, HashSet};

/// An output of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Port {
    pub layer: usize,
    pub output: usize,
}

/// What stands at an output of a layer.
#[derive(Debug)]
pub(super) struct Output {
    pub element: Element,
    /// Sizes, where they are known; what the runtime reads it works out anew.
    pub shape: Option<Vec<Dim>>,
    /// Names by which the runtime finds the tensor.
    pub names: Vec<String>,
}

/// Numbers of a Const layer, as they are to be stored.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// As the model has them.
    Kept(Constant),
    /// Float32, stored in float16.
    Half(Constant),
    Bytes(Vec<u8>),
}

#[derive(Debug)]
pub(super) struct Layer {
    pub name: String,
    pub kind: &'static str,
    /// Number of the operator set.
    pub set: u8,
    pub attrs: Vec<(&'static str, String)>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Output>,
    pub data: Option<Data>,
    /// Makes float32 of weights that are stored in float16, so that the runtime may compute in either.
    pub decompresses: bool,
}

/// Constants with at least so many elements are stored in float16, where that is asked for. Smaller ones (biases, weights of depthwise
/// layers, settings) cost little in float32, and their rounding would be felt by whole channels.
const LEAST_HALF: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Net {
    pub layers: Vec<Layer>,
    names: HashSet<String>,
    values: HashMap<String, Port>,
    /// Values that lie on a grid of integers, with what tells the grid from others.
    pub grids: HashMap<String, Vec<u32>>,
    /// Whether weights are stored in float16.
    half: bool,
}

impl Net {
    pub fn new(half: bool) -> Self {
        Self { half, ..Self::default() }
    }
    /// The value of this name, when it has been made.
    pub fn value(&self, name: &str) -> Option<Port> {
        self.values.get(name).copied()
    }
    pub fn output(&self, port: Port) -> &Output {
        &self.layers[port.layer].outputs[port.output]
    }
    pub fn element(&self, port: Port) -> Element {
        self.output(port).element
    }
    /// Adds a layer whose outputs have these element types; its name gets a number where it is taken.
    pub fn add(
        &mut self,
        name: &str,
        kind: &'static str,
        set: u8,
        attrs: Vec<(&'static str, String)>,
        inputs: &[Port],
        outputs: &[Element],
    ) -> usize {
        let name = self.unique(name);
        let outputs = outputs.iter().map(|&element| Output { element, shape: None, names: Vec::new() }).collect();
        self.layers.push(Layer { name, kind, set, attrs, inputs: inputs.to_vec(), outputs, data: None, decompresses: false });
        self.layers.len() - 1
    }
    fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_string();
        let mut n = 0;
        while !self.names.insert(unique.clone()) {
            n += 1;
            unique = format!("{name}_{n}");
        }
        unique
    }
    /// Gives a layer the name of the node that it stands for, where that is free.
    pub fn rename(&mut self, layer: usize, name: &str) {
        if !name.is_empty() && self.names.insert(name.to_string()) {
            let old = std::mem::replace(&mut self.layers[layer].name, name.to_string());
            self.names.remove(&old);
        }
    }
    /// A Const layer of numbers with these sizes.
    pub fn constant(&mut self, name: &str, element: Element, dims: &[usize], data: Data) -> Port {
        let layer = self.add(name, "Const", 1, Vec::new(), &[], &[element]);
        self.layers[layer].data = Some(data);
        let port = Port { layer, output: 0 };
        self.shape(port, dims.iter().map(|&d| Dim::Known(d)).collect());
        port
    }
    /// A constant of the model under other sizes of the same number of elements; of large float32 ones, in float16 where that
    /// is asked for and its range holds them.
    ///
    /// # Errors
    /// `Dtype` for numbers that cannot be read.
    pub fn stored(&mut self, name: &str, constant: &Constant, dims: &[usize]) -> Result<Port> {
        let halved = self.half && constant.element() == Element::F32 && constant.count() >= LEAST_HALF && in_float16(&constant.to_f32s()?);
        if !halved {
            return Ok(self.constant(name, constant.element(), dims, Data::Kept(constant.clone())));
        }
        let small = self.constant(&format!("{name}_compressed"), Element::F16, dims, Data::Half(constant.clone()));
        let to = vec![("destination_type", "f32".to_string())];
        let layer = self.add(name, "Convert", 1, to, &[small], &[Element::F32]);
        self.layers[layer].decompresses = true;
        let port = Port { layer, output: 0 };
        self.shape(port, dims.iter().map(|&d| Dim::Known(d)).collect());
        Ok(port)
    }
    /// Drops the layers on which no result depends; inputs stay.
    pub fn sweep(&mut self) {
        let mut live: Vec<bool> = self.layers.iter().map(|l| matches!(l.kind, "Parameter" | "Result")).collect();
        // A layer stands after those that it reads.
        for i in (0..self.layers.len()).rev() {
            if !live[i] {
                continue;
            }
            self.layers[i].inputs.iter().for_each(|p| live[p.layer] = true);
        }
        let mut count = 0;
        let mut place = |&live: &bool| {
            let at = count;
            count += usize::from(live);
            at
        };
        let places: Vec<usize> = live.iter().map(&mut place).collect();
        let mut kept = live.iter();
        self.layers.retain(|_| kept.next().is_some_and(|&l| l));
        self.layers.iter_mut().flat_map(|l| &mut l.inputs).for_each(|p| p.layer = places[p.layer]);
    }
    pub fn shape(&mut self, port: Port, shape: Vec<Dim>) {
        self.layers[port.layer].outputs[port.output].shape = Some(shape);
    }
    /// Makes a port known as a value of the graph.
    pub fn set(&mut self, name: &str, port: Port, shape: Option<Vec<Dim>>) {
        let out = &mut self.layers[port.layer].outputs[port.output];
        if shape.is_some() {
            out.shape = shape;
        }
        out.names.push(name.to_string());
        self.values.insert(name.to_string(), port);
    }
}

impl Data {
    /// The numbers as the file has them: little-endian, packed.
    ///
    /// # Errors
    /// `Dtype` for numbers that cannot be read.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        match self {
            Self::Kept(c) => c.to_raw().map(|b| b.to_vec()),
            Self::Half(c) => Ok(c.to_f32s()?.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
            Self::Bytes(b) => Ok(b.clone()),
        }
    }
}

/// Whether float16 holds these numbers: none is too large, and the largest has all digits.
fn in_float16(values: &[f32]) -> bool {
    let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    values.iter().all(|v| f16::from_f32(*v).is_finite()) && largest >= f16::MIN_POSITIVE.to_f32()
}

/// A number as an element type stores it.
///
/// # Errors
/// `Unsupported` for a type that numbers are not made in.
pub(super) fn number(value: f64, element: Element) -> Result<Vec<u8>> {
    Ok(match element {
        Element::F32 => (value as f32).to_le_bytes().to_vec(),
        Element::F64 => value.to_le_bytes().to_vec(),
        Element::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
        Element::BF16 => half::bf16::from_f64(value).to_le_bytes().to_vec(),
        Element::I64 => (value as i64).to_le_bytes().to_vec(),
        Element::U64 => (value as u64).to_le_bytes().to_vec(),
        Element::I32 => (value as i32).to_le_bytes().to_vec(),
        Element::U32 => (value as u32).to_le_bytes().to_vec(),
        Element::I16 => (value as i16).to_le_bytes().to_vec(),
        Element::U16 => (value as u16).to_le_bytes().to_vec(),
        Element::I8 => (value as i8).to_le_bytes().to_vec(),
        Element::U8 => (value as u8).to_le_bytes().to_vec(),
        Element::Bool => vec![u8::from(value != 0.0)],
        other => return Err(Error::unsupported(format!("OpenVINO's writer makes no numbers of {other}"))),
    })
}
