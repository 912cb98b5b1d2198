//! What the operators' table says of the nodes of a graph.

use super::cast::CAST;
use super::constant::literal;
use super::def::{OpDef, QuantRule};
use super::quantize::{DEQUANTIZE_LINEAR, QUANTIZE_LINEAR};
use super::registry::find;
use super::softmax::SOFTMAX;
use super::weight::WeightAxes;
use crate::constant::Constant;
use crate::graph::{Graph, Node};
use compresso_base::error::Result;
use std::collections::HashMap;

/// The constant that a node multiplies its data with.
#[derive(Debug, Clone, Copy)]
pub struct LayerWeight<'g> {
    /// The value that it is.
    pub name: &'g str,
    /// Its elements and shape.
    pub constant: &'g Constant,
    /// Where its channels lie; `None` for a vector, which has no output channels.
    pub axes: Option<WeightAxes>,
}

impl LayerWeight<'_> {
    /// Output channels; 0 where the weight has no axis for them.
    pub fn output_channels(&self) -> usize {
        self.axes.map_or(0, |a| a.output.count(self.constant.dims()))
    }
    /// Input channels; 0 where the weight has no axis for them.
    pub fn input_channels(&self) -> usize {
        self.axes.map_or(0, |a| a.input.count(self.constant.dims()))
    }
}

/// The weight of a node, where it is a layer: it multiplies in floating point with a constant.
///
/// # Errors
/// `Unsupported` for an operator that the registry does not know; `Format` for wrong attributes.
pub fn layer_weight<'g>(graph: &'g Graph, node: &'g Node) -> Result<Option<LayerWeight<'g>>> {
    let op = find(node)?;
    let Some(rule) = op.weight.filter(|_| op.quant == QuantRule::Weighted) else { return Ok(None) };
    // A product of two activations (attention) has no weight.
    let Some((name, constant)) = node.input(rule.input).and_then(|n| Some((n, graph.constant(n)?))) else { return Ok(None) };
    Ok(Some(LayerWeight { name, constant, axes: (rule.axes)(node, constant.dims().len())? }))
}

/// The stored constant that a node multiplies its data with, wherever it lies: behind Cast, Transpose, Identity, Reshape or in a node of its
/// own, its numbers as they are stored. `makers` is [`Graph::producers`].
///
/// # Errors
/// `Unsupported` for an operator that the registry does not know.
pub fn stored_weight<'g>(graph: &'g Graph, makers: &HashMap<&'g str, usize>, node: &'g Node) -> Result<Option<(&'g str, Constant)>> {
    let op = find(node)?;
    let Some(mut name) = op.weight.filter(|_| op.quant == QuantRule::Weighted).and_then(|rule| node.input(rule.input)) else {
        return Ok(None);
    };
    loop {
        if let Some(constant) = graph.constant(name) {
            return Ok(Some((name, constant.clone())));
        }
        let Some(maker) = makers.get(name).map(|&i| &graph.nodes()[i]) else { return Ok(None) };
        if let Some(constant) = literal(maker) {
            return Ok(Some((name, constant)));
        }
        match carried(find(maker)?, maker).as_deref() {
            Some([slot]) if !is_quantized(maker) => match maker.input(*slot) {
                Some(from) => name = from,
                None => return Ok(None),
            },
            _ => return Ok(None),
        }
    }
}

/// The first node that only a quantized graph has.
pub fn quantized_node(graph: &Graph) -> Option<&Node> {
    graph.nodes().iter().find(|n| is_quantized(n))
}

/// True for a node that reads or makes integers that stand for floats.
pub fn is_quantized(node: &Node) -> bool {
    find(node).is_ok_and(|op| op.quant == QuantRule::Quantized)
}

/// True for a layer that takes an expectation over a distribution: what it multiplies is the result of a Softmax, or parts of it,
/// moved. That is how exported detectors decode boxes; its weight is a list of fixed values. `makers` is
/// [`Graph::producers`].
pub fn is_expectation(graph: &Graph, makers: &HashMap<&str, usize>, node: &Node) -> bool {
    let mut at = node;
    while let Some(&i) = at.input(0).and_then(|x| makers.get(x)) {
        at = &graph.nodes()[i];
        if at.is(SOFTMAX) {
            return true;
        }
        if !moves(at) {
            return false;
        }
    }
    false
}

/// True for a node each element of whose outputs is an element of its data, chosen by its place alone.
pub fn moves(node: &Node) -> bool {
    find(node).is_ok_and(|op| op.moves)
}

/// The inputs whose elements, moved, cast or between integers and what they stand for, are all that the outputs of a node have; `None` for
/// a node that computes.
pub fn carried(op: &OpDef, node: &Node) -> Option<Vec<usize>> {
    if op.moves {
        return Some(op.data_inputs(node).map(|(slot, _)| slot).collect());
    }
    (node.is(CAST) || node.is(QUANTIZE_LINEAR) || node.is(DEQUANTIZE_LINEAR)).then(|| vec![0])
}
