//! QuantizeLinear and DequantizeLinear.
//!
//! What is rounded for a reader becomes a FakeQuantize, of which the runtime makes integers; int8 weights are stored as such, with
//! the Convert, Subtract and Multiply that make floats of them, which the runtime takes for quantized weights.
//!
//! <https://docs.openvino.ai/2026/documentation/openvino-ir-format/operation-sets/operation-specs/quantization/fake-quantize-1.html>

use super::lower::{Entry, Form, Lower, lacks, open};
use super::net::Port;
use compresso_base::error::{Error, Result};
use compresso_model::{Constant, Element, Node, ops};

pub(super) const OPS: &[Entry] = &[("QuantizeLinear", Form::With(quantize)), ("DequantizeLinear", Form::With(dequantize))];

/// Scales and zero points of a node, as float32.
struct Steps {
    scales: Vec<f32>,
    zeros: Vec<f32>,
    /// Their sizes beside a value of the node's rank: ones but for the axis.
    dims: Vec<usize>,
}

impl Steps {
    fn of(cx: &Lower<'_>, node: &Node) -> Result<Self> {
        let constant = |i: usize| node.input(i).and_then(|name| cx.facts.get(name)).and_then(|f| f.constant.as_ref());
        let computed = || {
            Error::unsupported("OpenVINO's writer takes scales and zero points that are constants")
                .hint("quantize with mode: \"static\", target: \"openvino\"")
        };
        let scale = constant(1).ok_or_else(computed)?;
        let rank = node.input(0).and_then(|name| cx.facts.get(name)).and_then(compresso_model::Fact::rank);
        if scale.dims().len() > 1 || node.get_int("block_size", 0)? != 0 {
            return Err(lacks("quantization in blocks"));
        }
        let zeros = match node.input(2) {
            None => vec![0.0; scale.count()],
            Some(_) => constant(2).ok_or_else(computed)?.to_f32s()?,
        };
        if zeros.len() != scale.count() {
            return Err(Error::shape(format!("expected {} zero points as there are scales, got {}", scale.count(), zeros.len())));
        }
        let dims = if scale.count() == 1 {
            Vec::new()
        } else {
            let rank = rank.ok_or_else(|| open("the rank of what is quantized"))?;
            let axis = compresso_model::graph::normalize_axis(node.get_int("axis", 1)?, rank)?;
            (0..rank).map(|d| if d == axis { scale.count() } else { 1 }).collect()
        };
        Ok(Self { scales: scale.to_f32s()?, zeros, dims })
    }
    /// What tells the grid of these steps from others.
    fn key(&self, (element, ..): (Element, i64, i64)) -> Vec<u32> {
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let sizes = self.dims.iter().filter_map(|&d| u32::try_from(d).ok());
        std::iter::once(element.code().unsigned_abs()).chain(bits(&self.scales)).chain(bits(&self.zeros)).chain(sizes).collect()
    }
    /// The number of each integer.
    fn numbers(&self, integer: i64) -> Vec<f32> {
        self.scales.iter().zip(&self.zeros).map(|(s, z)| (integer as f32 - z) * s).collect()
    }
}

/// The integers that a QuantizeLinear makes: type, smallest, largest.
fn grid(cx: &Lower<'_>, node: &Node) -> Result<(Element, i64, i64)> {
    let element = node.output(0).and_then(|name| cx.facts.get(name)).map_or(Element::U8, |f| f.element);
    match element {
        Element::U8 | Element::I8 => element.int_range().map(|(low, high)| (element, low, high)).ok_or_else(|| Error::internal("a range")),
        other => Err(lacks(format!("values that are quantized to {other}")).hint("quantize to int8 or uint8")),
    }
}

/// What a QuantizeLinear rounds, as numbers: with these ranges before and after.
fn rounded(cx: &mut Lower<'_>, x: Port, steps: &Steps, grid: (Element, i64, i64), as_integers: bool) -> Port {
    let (_, low, high) = grid;
    let mut inputs = vec![x];
    let mut bounds = [steps.numbers(low), steps.numbers(high)].map(|v| cx.of_floats(&steps.dims, &v)).to_vec();
    inputs.append(&mut bounds.clone());
    if as_integers {
        bounds = [low, high].map(|v| cx.of_floats(&[], &[v as f32])).to_vec();
    }
    inputs.append(&mut bounds);
    cx.layer("FakeQuantize", 1, vec![("levels", (high - low + 1).to_string()), ("auto_broadcast", "numpy".into())], &inputs)
}

/// True for a DequantizeLinear that undoes this QuantizeLinear.
fn undoes(cx: &Lower<'_>, quantize: &Node, reader: &Node) -> bool {
    let same = |i: usize| {
        let constant = |node: &Node| node.input(i).and_then(|name| cx.facts.get(name)).and_then(|f| f.constant.clone());
        match (constant(quantize), constant(reader)) {
            (Some(a), Some(b)) => a.element() == b.element() && a.dims() == b.dims() && a.to_f32s().ok() == b.to_f32s().ok(),
            (None, None) => quantize.input(i).is_none() && reader.input(i).is_none(),
            _ => false,
        }
    };
    reader.is("DequantizeLinear")
        && reader.input(0) == quantize.output(0)
        && same(1)
        && same(2)
        && quantize.get_int("axis", 1).ok() == reader.get_int("axis", 1).ok()
}

/// The name under which the numbers stand that an integer value is for.
fn numbers_of(integers: &str) -> String {
    format!("{integers}/rounded")
}

fn quantize(cx: &mut Lower<'_>) -> Result<()> {
    let (x, steps, grid) = (cx.input(0)?, Steps::of(cx, cx.node)?, grid(cx, cx.node)?);
    let x = cx.convert(x, Element::F32)?;
    let name = cx.node.output(0).unwrap_or_default();
    let mut readers = cx.graph.nodes().iter().filter(|n| n.reads().any(|r| r == name));
    let (undone, only) = (readers.clone().any(|r| undoes(cx, cx.node, r)), readers.all(|r| undoes(cx, cx.node, r)));
    if undone {
        let key = steps.key(grid);
        // What is on the grid already would be rounded to itself.
        let lies = cx.node.input(0).and_then(|name| cx.net.grids.get(name)).is_some_and(|known| *known == key);
        let numbers = if lies { x } else { rounded(cx, x, &steps, grid, false) };
        cx.net.set(&numbers_of(name), numbers, cx.fact(0).and_then(|f| f.shape.clone()));
        if !lies {
            cx.net.rename(numbers.layer, &cx.node.name);
        }
        // A scale per channel belongs to an axis, which moves may change.
        if steps.dims.is_empty() {
            cx.net.grids.insert(name.into(), key);
        }
    }
    if !only || cx.graph.is_output(name) {
        let integers = rounded(cx, x, &steps, grid, true);
        let integers = cx.convert(integers, grid.0)?;
        cx.one(integers)?;
    }
    Ok(())
}

fn dequantize(cx: &mut Lower<'_>) -> Result<()> {
    let node = cx.node;
    let name = node.input(0).ok_or_else(|| Error::format("input 0 is missing"))?;
    if let Some(&maker) = cx.makers.get(name)
        && cx.graph.nodes()[maker].is("QuantizeLinear")
        && undoes(cx, &cx.graph.nodes()[maker], node)
        && let Some(port) = cx.net.value(&numbers_of(name))
    {
        if let (Some(key), Some(out)) = (cx.net.grids.get(name).cloned(), node.output(0)) {
            cx.net.grids.insert(out.into(), key);
        }
        return cx.alias(port);
    }
    let steps = Steps::of(cx, node)?;
    let y = match cx.graph.constant(name) {
        Some(q) => of_constant(cx, name, q, &steps, q.dims(), &steps.dims)?,
        None => {
            let q = cx.input(0)?;
            let q = cx.convert(q, Element::F32)?;
            scaled(cx, q, &steps, &steps.dims)
        }
    };
    cx.one(y)
}

/// What moves elements of one grid makes elements of it.
pub(super) fn carry(cx: &mut Lower<'_>) {
    let node = cx.node;
    let nearest = node.is("Resize") && node.get_str("mode", "nearest").is_ok_and(|m| m == "nearest");
    if node.is("Pad") || !(ops::moves(node) || node.is("MaxPool") || nearest) {
        return;
    }
    let Ok(op) = ops::find(node) else { return };
    let shared = {
        let mut grids = op.data_inputs(node).map(|(_, name)| cx.net.grids.get(name));
        let first = grids.next().flatten().cloned();
        first.filter(|first| grids.all(|g| g == Some(first)))
    };
    if let Some(grid) = shared {
        node.outputs.iter().for_each(|out| drop(cx.net.grids.insert(out.clone(), grid.clone())));
    }
}

/// Numbers of integers that are stored: biases as floats, all others as they are.
fn of_constant(cx: &mut Lower<'_>, name: &str, q: &Constant, steps: &Steps, dims: &[usize], scales: &[usize]) -> Result<Port> {
    if q.element() == Element::I32 {
        let per = if steps.scales.len() == 1 { 1 } else { q.count() };
        if per != 1 && q.count() != steps.scales.len() {
            return Err(lacks("int32 constants of several axes with a scale per channel"));
        }
        let at = |i: usize| if per == 1 { 0 } else { i };
        let values: Vec<f32> = q
            .to_f64s()?
            .iter()
            .enumerate()
            .map(|(i, v)| ((v - f64::from(steps.zeros[at(i)])) * f64::from(steps.scales[at(i)])) as f32)
            .collect();
        return Ok(cx.of_floats(dims, &values));
    }
    let stored = cx.net.stored(name, q, dims)?;
    let y = cx.convert(stored, Element::F32)?;
    Ok(scaled(cx, y, steps, scales))
}

/// `(q − zero) · scale`
fn scaled(cx: &mut Lower<'_>, q: Port, steps: &Steps, dims: &[usize]) -> Port {
    let mut y = q;
    if steps.zeros.iter().any(|&z| z != 0.0) {
        let zeros = cx.of_floats(dims, &steps.zeros);
        y = cx.binary("Subtract", y, zeros);
    }
    let scales = cx.of_floats(dims, &steps.scales);
    cx.binary("Multiply", y, scales)
}

/// Input `i` where it is a stored weight made of integers, with its first axis cut in two.
pub(super) fn grouped(cx: &mut Lower<'_>, i: usize, cut: &[usize]) -> Result<Option<Port>> {
    let Some(&maker) = cx.node.input(i).and_then(|name| cx.makers.get(name)) else { return Ok(None) };
    let node = &cx.graph.nodes()[maker];
    let stored = node.input(0).and_then(|name| Some((name, cx.graph.constant(name)?)));
    let Some((name, q)) = stored.filter(|_| node.is("DequantizeLinear")) else { return Ok(None) };
    let steps = Steps::of(cx, node)?;
    let scales: Vec<usize> = match steps.dims.split_first() {
        None => Vec::new(),
        // Scales of the first axis are cut as it is.
        Some((&n, rest)) if n > 1 => cut[..2].iter().copied().chain(rest.iter().copied()).collect(),
        Some((_, rest)) => [1, 1].into_iter().chain(rest.iter().copied()).collect(),
    };
    of_constant(cx, name, q, &steps, cut, &scales).map(Some)
}
