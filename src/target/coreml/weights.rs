//! How the file stores weights of layers: as they are, in int8 with a scale for each output channel, or as a palette.
//!
//! Weights that are kept as they are are stored without their zeros where that is smaller.

use super::palette::{indices, packed, palette};
use super::program::{Kind, Literal, Program, Ref, Type, to_half};
use compresso_base::error::{Error, Result};
use compresso_model::graph::Patch;
use compresso_model::{Constant, Element, Graph, ops};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Weights with fewer elements are kept as they are, as coremltools does: they cost little, and rounding them would be felt most.
const LEAST: usize = 2048;

/// Bits of an index into a palette that the format has.
pub const BITS: [u32; 5] = [1, 2, 4, 6, 8];

const INT8: &str = "int8_weights";
const PALETTE: &str = "palette_bits";

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weights {
    /// As the model has them.
    #[default]
    Kept,
    /// In int8, -127 to 127, with a scale for each output channel.
    Int8,
    /// As indices of so many bits ([`BITS`]) into a palette for each weight.
    Palette(u32),
}

impl Weights {
    /// As settings of an [`Artefact`](crate::Artefact).
    pub fn settings(self) -> Map<String, Value> {
        match self {
            Self::Kept => Map::new(),
            Self::Int8 => [(INT8.to_string(), json!(true))].into_iter().collect(),
            Self::Palette(bits) => [(PALETTE.to_string(), json!(bits))].into_iter().collect(),
        }
    }
    /// What the settings of an artefact say.
    ///
    /// # Errors
    /// `Argument` for a number of bits that the format lacks.
    pub fn of(settings: &Map<String, Value>) -> Result<Self> {
        let bits = settings.get(PALETTE).and_then(Value::as_u64);
        match bits.map(|b| BITS.into_iter().find(|own| u64::from(*own) == b).ok_or(b)) {
            Some(Ok(bits)) => Ok(Self::Palette(bits)),
            Some(Err(b)) => Err(Error::argument(format!("Core ML has palettes with indices of 1, 2, 4, 6 or 8 bits, got {b}"))),
            None if settings.get(INT8).and_then(Value::as_bool) == Some(true) => Ok(Self::Int8),
            None => Ok(Self::Kept),
        }
    }
}

/// A weight in another form than the model's.
#[derive(Debug)]
pub(super) enum Encoded {
    /// `scale[i] · q`, `i` along the axis.
    Affine { integers: Vec<i8>, scales: Vec<f32>, axis: usize },
    /// `scale[i] · numbers[index]`, `i` along the first axis; without scales, the numbers alone. The layer multiplies with the scales what it makes.
    Palette { indices: Vec<u8>, numbers: Vec<f32>, bits: u32, scales: Vec<f32> },
}

/// Steps of an axis: how many elements lie behind one of its indices.
fn behind(dims: &[usize], axis: usize) -> usize {
    dims[axis + 1..].iter().product()
}

impl Encoded {
    fn int8(values: &[f32], dims: &[usize], axis: usize, kind: Kind) -> Self {
        let (step, channels) = (behind(dims, axis).max(1), dims[axis]);
        let channel = |i: usize| i / step % channels;
        let mut largest = vec![0f32; channels];
        values.iter().enumerate().for_each(|(i, v)| largest[channel(i)] = largest[channel(i)].max(v.abs()));
        let scale = |m: &f32| match kind {
            Kind::F16 => to_half(m / 127.0).max(half::f16::MIN_POSITIVE_SUBNORMAL).to_f32(),
            _ if *m > 0.0 => m / 127.0,
            _ => 1.0,
        };
        let scales: Vec<f32> = largest.iter().map(scale).collect();
        let round = |(i, v): (usize, &f32)| (v / scales[channel(i)]).round_ties_even().clamp(-127.0, 127.0) as i8;
        let integers = values.iter().enumerate().map(round).collect();
        Self::Affine { integers, scales, axis }
    }
    /// `channels`: of a layer that can multiply with scales, how many it has.
    fn palette(values: &[f32], channels: Option<usize>, bits: u32, kind: Kind) -> Self {
        let scales = channels.map(|n| channel_scales(values, n)).unwrap_or_default();
        let each = if scales.is_empty() { values.len() } else { values.len() / scales.len() };
        let even: Vec<f32> = values.iter().enumerate().map(|(i, v)| v / scales.get(i / each).unwrap_or(&1.0)).collect();
        let round = |v: f32| if kind == Kind::F16 { to_half(v).to_f32() } else { v };
        let mut numbers: Vec<f32> = palette(&even, 1 << bits).into_iter().map(round).collect();
        numbers.dedup();
        let indices = indices(&even, &numbers);
        Self::Palette { indices, numbers, bits, scales }
    }
    /// The numbers that it stands for.
    fn decoded(&self, dims: &[usize]) -> Vec<f32> {
        match self {
            Self::Affine { integers, scales, axis } => {
                let (step, channels) = (behind(dims, *axis).max(1), dims[*axis]);
                integers.iter().enumerate().map(|(i, q)| f32::from(*q) * scales[i / step % channels]).collect()
            }
            Self::Palette { indices, numbers, scales, .. } => {
                let each = behind(dims, 0).max(1);
                let number = |(i, index): (usize, &u8)| numbers[usize::from(*index)] * scales.get(i / each).unwrap_or(&1.0);
                indices.iter().enumerate().map(number).collect()
            }
        }
    }
    /// What the layer multiplies its channels with, which reads the weight.
    pub fn scales(&self) -> Option<&[f32]> {
        match self {
            Self::Palette { scales, .. } if !scales.is_empty() => Some(scales),
            _ => None,
        }
    }
    /// The operation that makes the weight of it.
    pub fn write(&self, net: &mut Program, name: &str, kind: Kind, dims: &[usize]) -> Ref {
        let (operation, attributes) = match self {
            Self::Affine { integers, scales, axis } => {
                let data: Vec<u8> = integers.iter().map(|q| *q as u8).collect();
                let literals = vec![
                    ("quantized_data", Literal::new(Kind::I8, dims, data)),
                    ("zero_point", Literal::new(Kind::I8, &[], vec![0u8])),
                    ("scale", Literal::floats(kind, &[scales.len()], scales)),
                    ("axis", Literal::i32s(&[], &[*axis as i64])),
                ];
                ("constexpr_affine_dequantize", literals)
            }
            Self::Palette { indices, numbers, bits, .. } => {
                let data = packed(indices, *bits);
                let mut all = numbers.clone();
                all.resize(1 << bits, 0.0);
                let literals = vec![
                    ("indices", Literal::new(Kind::U8, &[data.len()], data)),
                    ("lut", Literal::floats(kind, &[all.len()], &all)),
                    ("shape", Literal::u32s(dims)),
                ];
                ("constexpr_lut_to_dense", literals)
            }
        };
        net.operation(name, operation, Vec::new(), attributes, vec![Type::new(kind, dims)])[0]
    }
}

/// Powers of two, at most 1, that make the channels of a weight as large as its largest; none where they are all about as large. A palette
/// is for all channels, and small ones would have few of its numbers. With powers of two, nothing else is rounded.
fn channel_scales(values: &[f32], channels: usize) -> Vec<f32> {
    let each = values.len() / channels.max(1);
    let size = |c: &[f32]| (c.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / each.max(1) as f64).sqrt();
    let sizes: Vec<f64> = values.chunks(each.max(1)).map(size).collect();
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    let scale = |s: &f64| if *s > 0.0 { (s / largest).log2().round().clamp(-10.0, 0.0).exp2() as f32 } else { 1.0 };
    let scales: Vec<f32> = sizes.iter().map(scale).collect();
    if scales.iter().all(|&s| s == 1.0) { Vec::new() } else { scales }
}

/// Whether every node that reads a constant is a convolution with this weight, whose channels can be scaled afterwards.
fn is_scalable(graph: &Graph, name: &str) -> bool {
    let mut readers = graph.nodes().iter().filter(|n| n.reads().any(|r| r == name));
    readers.all(|n| n.is("Conv") && n.inputs.iter().enumerate().all(|(i, input)| input != name || i == 1)) && !graph.is_output(name)
}

/// The weights of layers that are stored in another form, each once: name, numbers, and the axis of its output channels.
fn chosen(graph: &Graph) -> Result<Vec<(&str, &Constant, usize)>> {
    let mut found: Vec<(&str, &Constant, usize)> = Vec::new();
    for node in graph.nodes() {
        let Some(weight) = ops::layer_weight(graph, node)? else { continue };
        let large = matches!(weight.constant.element(), Element::F32 | Element::F16) && weight.constant.count() >= LEAST;
        if let Some(axes) = weight.axes.filter(|_| large && found.iter().all(|(name, ..)| *name != weight.name)) {
            found.push((weight.name, weight.constant, axes.output.axis));
        }
    }
    Ok(found)
}

/// The weights of layers in the form asked for, by their names. One that is not finite is kept as it is.
///
/// # Errors
/// `Dtype` for numbers that cannot be read.
pub(super) fn encode(graph: &Graph, form: Weights) -> Result<BTreeMap<String, Encoded>> {
    let mut encoded = BTreeMap::new();
    if form == Weights::Kept {
        return Ok(encoded);
    }
    for (name, constant, axis) in chosen(graph)? {
        let kind = if constant.element() == Element::F16 { Kind::F16 } else { Kind::F32 };
        let values = constant.to_f32s()?;
        if values.iter().all(|v| v.is_finite()) {
            let made = match form {
                Weights::Palette(bits) => {
                    let channels = is_scalable(graph, name).then(|| constant.dims()[0]);
                    Encoded::palette(&values, channels, bits, kind)
                }
                _ => Encoded::int8(&values, constant.dims(), axis, kind),
            };
            encoded.insert(name.to_string(), made);
        }
    }
    Ok(encoded)
}

/// The graph with the weights that a file in this form stands for.
///
/// # Errors
/// As the function that encodes.
pub fn decoded(graph: &Graph, form: Weights) -> Result<Graph> {
    let mut patch = Patch::new(graph);
    for (name, weight) in encode(graph, form)? {
        if let Some(c) = graph.constant(&name) {
            let values = weight.decoded(c.dims()).into_iter().map(f64::from).collect();
            patch.set_constant(&name, Constant::rounded(c.element(), c.dims(), values)?);
        }
    }
    patch.apply()
}

/// How many weights a file rounds that does not keep them.
///
/// # Errors
/// `Unsupported` for an operator that the registry does not know.
pub fn rounded(graph: &Graph) -> Result<usize> {
    chosen(graph).map(|c| c.len())
}

/// A constant of floats, without its zeros where that is smaller by an eighth: the operation that makes it of the others and a bit for
/// each element.
pub(super) fn store(net: &mut Program, name: &str, literal: Literal) -> Ref {
    let (kind, count) = (literal.made.kind, literal.made.count());
    let size = if kind == Kind::F16 { 2 } else { 4 };
    if !kind.is_float() || count < LEAST {
        return net.constant(name, literal);
    }
    // A negative zero is kept.
    let nonzero = |number: &[u8]| number.iter().any(|&b| b != 0);
    let left = literal.data.chunks(size).filter(|n| nonzero(n)).count();
    let bits = count.div_ceil(8);
    if left == 0 || (left * size + bits) * 8 > literal.data.len() * 7 {
        return net.constant(name, literal);
    }
    let mut mask = vec![0u8; bits];
    let mut numbers = Vec::with_capacity(left * size);
    for (i, number) in literal.data.chunks(size).enumerate().filter(|(_, n)| nonzero(n)) {
        mask[i / 8] |= 1 << (i % 8);
        numbers.extend_from_slice(number);
    }
    let attributes = vec![
        ("nonzero_data", Literal::new(kind, &[left], numbers)),
        ("mask", Literal::new(Kind::U8, &[bits], mask)),
        ("shape", Literal::u32s(&literal.made.dims)),
    ];
    net.operation(name, "constexpr_sparse_to_dense", Vec::new(), attributes, vec![literal.made])[0]
}
