//! What a graph costs: parameters, multiply-accumulates, bytes, per layer and in all.

use super::{Facts, Graph, Node};
use crate::ops::quantize::DEQUANTIZE_LINEAR;
use crate::ops::{self, ParamKind, QuantRule};
use compresso_base::error::Result;
use serde::Serialize;
use std::collections::HashMap;

/// Cost of one node for one run at the inferred shapes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Elementary operations that are not multiply-accumulates (activations, pooling, resizing).
    pub other: u64,
}

/// Statistics of one node.
#[derive(Debug, Clone, Serialize)]
pub struct LayerStats {
    /// Node name, or its first output where it has none.
    pub name: String,
    pub op: String,
    /// Shapes of the outputs, as text with symbols.
    pub output: String,
    /// Parameters: elements of the trainable constants (weights, biases, scales) that this node is the first to read.
    pub params: u64,
    /// Bytes of all constants that this node is the first to read (running statistics included).
    pub weight_bytes: u64,
    /// Bytes read and written as activations, when the shapes are known.
    pub activation_bytes: u64,
    pub cost: Cost,
    /// False when some shape is unknown, so that the cost counts only what is known.
    pub exact: bool,
}

/// Statistics of a whole graph.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    pub layers: Vec<LayerStats>,
    pub params: u64,
    pub macs: u64,
    pub weight_bytes: u64,
}

/// Per-layer statistics at the shapes in `facts` (from [`infer`](super::infer)). Unknown batch sizes count as 1.
pub fn stats(graph: &Graph, facts: &Facts) -> Result<Stats> {
    let mut seen = std::collections::HashSet::new();
    let producers = graph.producers();
    let readers = graph.consumers();
    let mut layers = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let op = ops::find(node)?;
        let inputs: Vec<_> = node.inputs.iter().map(|n| facts.get(n)).collect();
        let outputs: Vec<_> = node.outputs.iter().filter_map(|n| facts.get(n)).collect();
        let exact = outputs.iter().all(|f| ops::cost::elements(f).is_some());
        let mut layer = LayerStats {
            name: if node.name.is_empty() { node.outputs.first().cloned().unwrap_or_default() } else { node.name.clone() },
            op: node.op.clone(),
            output: outputs.iter().map(|f| f.to_string()).collect::<Vec<_>>().join(", "),
            params: 0,
            weight_bytes: 0,
            activation_bytes: 0,
            cost: (op.cost)(&ops::CostInput { node, inputs: &inputs, outputs: &outputs }),
            exact,
        };
        for (slot, name) in node.inputs.iter().enumerate() {
            match graph.constant(name) {
                Some(c) => {
                    if seen.insert(name.as_str()) {
                        layer.weight_bytes += c.byte_size() as u64;
                        let trained = parameter_kind(graph, &producers, node, slot).is_some_and(|k| k != ParamKind::Statistic);
                        if trained || is_integer_parameter(graph, &readers, node, slot) {
                            layer.params += c.count() as u64;
                        }
                    }
                }
                None => layer.activation_bytes += facts.get(name).and_then(ops::cost::bytes).unwrap_or(0),
            }
        }
        layer.activation_bytes += outputs.iter().filter_map(|f| ops::cost::bytes(f)).sum::<u64>();
        layers.push(layer);
    }
    Ok(Stats {
        params: layers.iter().map(|l| l.params).sum(),
        macs: layers.iter().map(|l| l.cost.macs).sum(),
        weight_bytes: layers.iter().map(|l| l.weight_bytes).sum(),
        layers,
    })
}

/// True for a parameter stored as integers: what DequantizeLinear turns into a weight or bias, and integer weights.
fn is_integer_parameter(graph: &Graph, readers: &HashMap<&str, Vec<usize>>, node: &Node, slot: usize) -> bool {
    let own = |op: &ops::OpDef| op.quant == QuantRule::Quantized && op.weight.is_some_and(|w| w.input == slot);
    if ops::find(node).is_ok_and(own) {
        return true;
    }
    let Some(value) = node.output(0).filter(|_| slot == 0 && node.is(DEQUANTIZE_LINEAR)) else { return false };
    readers.get(value).into_iter().flatten().any(|&i| {
        let reader = &graph.nodes()[i];
        ops::find(reader).is_ok_and(|op| op.params.iter().any(|&(s, _)| reader.input(s) == Some(value)))
    })
}

/// What the constant at an input slot of a node is to training; `None` for constants that are no parameters (settings,
/// anchors, shapes). A separate addition is a bias only behind an operator with a constant weight.
pub fn parameter_kind(graph: &Graph, producers: &HashMap<&str, usize>, node: &Node, slot: usize) -> Option<ParamKind> {
    let slots = |node: &Node| ops::find(node).map_or(&[][..], |op| op.params);
    let (_, kind) = *slots(node).iter().find(|(s, _)| *s == slot)?;
    let constant = graph.constant(node.input(slot)?)?;
    let stray_bias = kind == ParamKind::Bias && slots(node).iter().all(|(_, k)| *k == ParamKind::Bias);
    let follows_weight = || {
        node.inputs.iter().filter_map(|n| producers.get(n.as_str())).any(|&i| {
            let maker = &graph.nodes()[i];
            let is_weight =
                |&(s, k): &(usize, ParamKind)| k == ParamKind::Weight && maker.input(s).is_some_and(|n| graph.constant(n).is_some());
            slots(maker).iter().any(is_weight)
        })
    };
    (!stray_bias || (constant.count() > 1 && follows_weight())).then_some(kind)
}
