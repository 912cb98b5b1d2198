//! Quantized values: what QuantizeLinear and DequantizeLinear around operators ask for.
//!
//! An operator computes on integers where what it reads is there in integers and what it makes is rounded. Others read real numbers,
//! which a DEQUANTIZE makes. uint8 with a zero point z is the same as int8 with z - 128. int16 has zero point 0.

use super::builder::{Builder, Form};
use super::codes::{self, Fused};
use super::model::{Call, Grid, Kind, Type};
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;
use compresso_model::{Constant, Element, Graph, Node};

/// How what a node makes is rounded.
pub(super) struct Rounding {
    pub grid: Grid,
    /// The activation between the two, which the node does.
    pub fused: Fused,
    /// The value that is rounded.
    pub value: String,
    /// The node of the activation.
    activation: Option<usize>,
}

/// The numbers that a layer computes in.
pub(super) enum Numbers {
    Real,
    /// An integer weight, and real numbers that the kernel rounds while it runs.
    Hybrid(Integers),
    Integers(Integers, Rounding),
}

impl Numbers {
    /// The form in which the layer reads.
    pub fn read(&self) -> Form {
        if matches!(self, Self::Integers(..)) { Form::Rounded } else { Form::Real }
    }
    /// The activation that the layer does.
    pub fn fused(&self) -> Fused {
        if let Self::Integers(_, rounding) = self { rounding.fused } else { Fused::Nothing }
    }
    /// What the layer makes.
    pub fn made(&self, shape: &[usize]) -> Type {
        match self {
            Self::Integers(_, rounding) => Type::rounded(shape, rounding.grid.clone()),
            _ => Type::f32(shape),
        }
    }
}

/// A weight as it is stored in integers.
pub(super) struct Integers {
    pub dims: Vec<usize>,
    pub values: Vec<i8>,
    pub scales: Vec<f32>,
    /// The axis that several scales run along.
    pub axis: usize,
}

/// True for a node whose scale and zero point are constants of a form that int8 or int16 tensors can have.
pub(super) fn takes(graph: &Graph, node: &Node) -> bool {
    let constant = |i: usize| node.input(i).map(|n| graph.constant(n));
    let integers = |e: Element| matches!(e, Element::I8 | Element::U8) || (e == Element::I32 && node.is("DequantizeLinear"));
    let wide = |z: &Constant| z.element() == Element::I16 && z.to_i64s().is_ok_and(|z| z.iter().all(|&z| z == 0));
    let zero = constant(2).is_none_or(|z| z.is_some_and(|z| integers(z.element()) || wide(z)));
    let whole =
        |scale: &Constant| scale.count() == 1 || node.is("DequantizeLinear") && node.input(0).is_some_and(|x| graph.constant(x).is_some());
    let blocked = !node.get_int("block_size", 0).is_ok_and(|b| b == 0);
    zero && !blocked && constant(1).flatten().is_some_and(whole)
}

/// True for a layer whose kernel takes an integer weight beside real numbers, and is as fast with it: those of convolutions in groups
/// are slow.
pub(crate) fn is_hybrid(_: &Graph, node: &Node) -> bool {
    node.get_int("group", 1).is_ok_and(|g| g == 1)
}

/// The grid of a QuantizeLinear.
pub(super) fn grid_of(graph: &Graph, node: &Node) -> Result<Grid> {
    let missing = || Error::unsupported("its scale must be a constant");
    let scale = graph.constant(node.input(1).ok_or_else(missing)?).ok_or_else(missing)?.to_f32s()?;
    let &[scale] = scale.as_slice() else {
        return Err(Error::unsupported(format!("one scale is expected for a value that is computed, got {}", scale.len())));
    };
    let Some(zero) = node.input(2).and_then(|z| graph.constant(z)) else { return Ok(Grid::whole(Kind::I8, scale, -128)) };
    let shift = if zero.element() == Element::U8 { 128 } else { 0 };
    let kind = if zero.element() == Element::I16 { Kind::I16 } else { Kind::I8 };
    Ok(Grid::whole(kind, scale, zero.to_i64s()?.first().copied().unwrap_or_default() - shift))
}

/// The steps that an operator's kernel for integers of this type writes, whatever it is asked for: shares of one.
pub(super) fn own_steps(node: &Node, kind: Kind) -> Option<Grid> {
    match (node.op.as_str(), kind) {
        ("Sigmoid" | "Softmax" | "Tanh", Kind::I16) => Some(Grid::whole(kind, 1.0 / 32768.0, 0)),
        ("Sigmoid" | "Softmax", _) => Some(Grid::whole(kind, 1.0 / 256.0, -128)),
        ("Tanh", _) => Some(Grid::whole(kind, 1.0 / 128.0, 0)),
        _ => None,
    }
}

impl Builder<'_> {
    /// How what a node makes is rounded, when a QuantizeLinear is all that reads it, perhaps behind an activation.
    pub fn rounding(&self, node: &Node) -> Result<Option<Rounding>> {
        let Some(value) = node.output(0) else { return Ok(None) };
        if self.integer_outputs
            && self.graph.is_output(value)
            && self.readers(value).is_empty()
            && let Some(kind) = node.input(0).and_then(|x| self.grid(x)).map(|g| g.kind)
            && let Some(grid) = own_steps(node, kind)
        {
            return Ok(Some(Rounding { grid, fused: Fused::Nothing, value: value.into(), activation: None }));
        }
        let Some((i, reader)) = self.sole_reader(value) else { return Ok(None) };
        if reader.is("QuantizeLinear") {
            return Ok(Some(Rounding { grid: grid_of(self.graph, reader)?, fused: Fused::Nothing, value: value.into(), activation: None }));
        }
        let Some((low, high)) = self.bounds(reader) else { return Ok(None) };
        let Some(value) = reader.output(0) else { return Ok(None) };
        let Some((_, last)) = self.sole_reader(value).filter(|(_, n)| n.is("QuantizeLinear")) else { return Ok(None) };
        let grid = grid_of(self.graph, last)?;
        let [bottom, top] = grid.kind.range().map(|end| (end - grid.zero_points[0]) as f32 * grid.scales[0]);
        // What the rounding cuts off anyway is none of the kernel's business, whose steps to a bound may be too many to count.
        let room = 0.5 * grid.scales[0];
        let fused = match (low, high) {
            (low, high) if bottom >= low - room && top <= high + room => Fused::Nothing,
            (0.0, high) if top <= high + room => Fused::Relu,
            (0.0, 6.0) => Fused::Relu6,
            (-1.0, 1.0) => Fused::ReluN1,
            _ => return Ok(None),
        };
        Ok(Some(Rounding { grid, fused, value: value.into(), activation: Some(i) }))
    }

    /// In which numbers a layer computes. `fits` says whether its kernels take a weight's scales.
    pub fn layer(&self, node: &Node, weight: &str, fits: impl Fn(&Integers) -> bool) -> Result<Numbers> {
        let Some(stored) = self.stored_integers(weight)?.filter(|s| fits(s)) else { return Ok(Numbers::Real) };
        if let Some(rounding) = self.integers(node, &[0])? {
            return Ok(Numbers::Integers(stored, rounding));
        }
        let real = node.input(0).is_some_and(|x| !self.is_rounded(x));
        Ok(if self.hybrid && real && is_hybrid(self.graph, node) { Numbers::Hybrid(stored) } else { Numbers::Real })
    }

    /// How a node that computes on integers rounds; `None` where it computes on real numbers. `data` are the inputs that must be rounded.
    pub fn integers(&self, node: &Node, data: &[usize]) -> Result<Option<Rounding>> {
        let kinds: Option<Vec<Kind>> = data.iter().map(|&i| Some(self.grid(node.input(i)?)?.kind)).collect();
        let Some(kinds) = kinds else { return Ok(None) };
        Ok(self.rounding(node)?.filter(|r| kinds.iter().all(|&k| k == r.grid.kind)))
    }

    /// The bounds that an activation keeps values in, where they are known.
    pub fn bounds(&self, node: &Node) -> Option<(f32, f32)> {
        if node.is("Relu") {
            return Some((0.0, f32::INFINITY));
        }
        if !node.is("Clip") {
            return None;
        }
        let bound = |i: usize, name: &str, open: f32| match node.input(i) {
            Some(input) => self.floats(input).ok()?.first().copied(),
            None => node.get_float(name, open).ok(),
        };
        Some((bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?))
    }

    /// Holds what a node made on integers.
    pub fn hold_rounded(&mut self, rounding: Rounding, perm: Vec<usize>, tensor: usize) {
        self.done.extend(rounding.activation);
        self.hold(&rounding.value, perm, tensor, Form::Rounded);
    }

    /// Holds what a layer made, called `y` where it is not rounded.
    pub fn hold_layer(&mut self, y: &str, numbers: Numbers, perm: Vec<usize>, tensor: usize) {
        match numbers {
            Numbers::Integers(_, rounding) => self.hold_rounded(rounding, perm, tensor),
            _ => self.hold(y, perm, tensor, Form::Real),
        }
    }

    /// The tensor on another grid.
    pub fn requantize(&mut self, tensor: usize, grid: &Grid) -> usize {
        if self.of(tensor).grid.as_ref() == Some(grid) {
            return tensor;
        }
        let made = Type::rounded(&self.of(tensor).shape, grid.clone());
        let version = if matches!(self.of(tensor).kind, Kind::I8 | Kind::I16) || grid.kind == Kind::I16 { 2 } else { 1 };
        self.op(Call { version, ..codes::quantize() }, &[tensor], made)
    }

    /// A weight in integers, where the graph stores it so and the kernels take it: int8 with zero points 0.
    pub fn stored_integers(&self, weight: &str) -> Result<Option<Integers>> {
        let Some(node) = self.maker(weight).filter(|n| n.is("DequantizeLinear")) else { return Ok(None) };
        let Some(stored) = node.input(0).and_then(|x| self.constant(x)).filter(|c| c.element() == Element::I8) else { return Ok(None) };
        let zero = node.input(2).and_then(|z| self.constant(z)).map(Constant::to_i64s).transpose()?;
        if zero.is_some_and(|z| z.iter().any(|&z| z != 0)) {
            return Ok(None);
        }
        let values: Vec<i8> = stored.to_i64s()?.into_iter().map(|v| v as i8).collect();
        let scales = node.input(1).map_or_else(|| Ok(Vec::new()), |s| self.floats(s))?;
        let rank = stored.dims().len();
        let axis = if scales.len() == 1 { 0 } else { normalize_axis(node.get_int("axis", 1)?, rank)? };
        Ok(Some(Integers { dims: stored.dims().to_vec(), values, scales, axis }))
    }
}

pub(super) fn dequantize(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    if b.graph.constant(x).is_some() {
        return dequantize_constant(b, node);
    }
    if !b.is_rounded(x) {
        return Err(Error::unsupported("it reads integers that no QuantizeLinear makes").hint("quantize a model whose inputs are float32"));
    }
    for (perm, t) in b.views(x, Form::Rounded) {
        b.hold(y, perm, t, Form::Rounded);
    }
    Ok(())
}

/// The real numbers of a constant, for operators that read such.
fn dequantize_constant(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let stored = b.constant(&node.inputs[0]).cloned().ok_or_else(|| Error::internal("the constant is there"))?;
    let scales = b.floats(&node.inputs[1])?;
    let zeros = node.input(2).and_then(|z| b.constant(z)).map(Constant::to_i64s).transpose()?.unwrap_or_default();
    let dims = stored.dims().to_vec();
    if scales.is_empty() {
        return Err(Error::unsupported("it has no scale"));
    }
    let axis = if scales.len() == 1 { 0 } else { normalize_axis(node.get_int("axis", 1)?, dims.len())? };
    let inner: usize = if scales.len() == 1 { 1 } else { dims.iter().skip(axis + 1).product() };
    let values: Vec<f32> = stored
        .to_i64s()?
        .iter()
        .enumerate()
        .map(|(i, &v)| {
            let c = i / inner.max(1) % scales.len();
            (v - zeros.get(c).or(zeros.first()).copied().unwrap_or_default()) as f32 * scales[c]
        })
        .collect();
    let value = Constant::floats(&dims, &values)?;
    b.set_constant(&node.outputs[0], value);
    Ok(())
}

pub(super) fn quantize(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let grid = grid_of(b.graph, node)?;
    let form = if b.is_rounded(x) { Form::Rounded } else { Form::Real };
    let perm = b.order(x)?;
    let t = b.read(x, &perm, form)?;
    // Kernels of these write steps of their own, to which other steps add nothing.
    let own = form == Form::Rounded && b.maker(x).is_some_and(|n| own_steps(n, grid.kind).is_some());
    let t = if own { t } else { b.requantize(t, &grid) };
    b.hold(y, perm, t, Form::Rounded);
    Ok(())
}

/// A Clip from 0 to 6, which layers do by themselves. Its bounds were attributes up to operator set 10.
pub(super) fn is_relu6(graph: &Graph, node: &Node) -> bool {
    let bound = |i: usize, name: &str| match node.input(i) {
        Some(input) => graph.constant(input).and_then(|c| c.to_f32s().ok()?.first().copied()),
        None => node.get_float(name, f32::NAN).ok(),
    };
    bound(1, "min") == Some(0.0) && bound(2, "max") == Some(6.0)
}
