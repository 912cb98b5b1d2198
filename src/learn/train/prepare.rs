//! The graph as training runs it.

use crate::error::Result;
use crate::model::{Graph, Patch};

/// A graph with the same constants, values and gradients in which `x · sigmoid(x)`, which exporters write as two nodes, is
/// one: half the memory traffic of an activation, forward and backward. A batch normalization before it becomes part of
/// it. Values in `wanted` stay.
///
/// # Errors
/// As [`Patch::apply`].
pub(super) fn prepare(graph: &Graph, wanted: &[String]) -> Result<Graph> {
    let (consumers, producers) = (graph.consumers(), graph.producers());
    let mut patch = Patch::new(graph);
    for (i, sigmoid) in graph.nodes().iter().enumerate().filter(|(_, n)| n.is("Sigmoid")) {
        let (Some(x), Some(s)) = (sigmoid.input(0), sigmoid.output(0)) else { continue };
        let Some(&[reader]) = consumers.get(s).map(Vec::as_slice) else { continue };
        let product = &graph.nodes()[reader];
        let both = product.inputs.len() == 2 && product.inputs.iter().any(|n| n == x) && product.inputs.iter().any(|n| n == s);
        if !product.is("Mul") || !both || graph.is_output(s) || wanted.iter().any(|w| w == s) {
            continue;
        }
        patch.remove(i);
        let fused = patch.edit(reader);
        fused.op = "Swish".to_string();
        fused.inputs = vec![x.to_string()];
        let norm = producers.get(x).copied().filter(|&n| graph.nodes()[n].is("BatchNormalization"));
        let others = |n: usize| graph.nodes()[n].outputs.iter().skip(1).any(|o| !o.is_empty());
        let alone = consumers.get(x).is_some_and(|r| r.len() == 2) && !graph.is_output(x) && !wanted.iter().any(|w| w == x);
        if let Some(norm) = norm.filter(|&n| alone && !others(n)) {
            let node = &graph.nodes()[norm];
            (fused.op, fused.domain) = ("BatchNormSwish".to_string(), "compresso".to_string());
            (fused.inputs, fused.attrs) = (node.inputs.clone(), node.attrs.clone());
            patch.remove(norm);
        }
    }
    if patch.is_empty() { Ok(graph.clone()) } else { patch.apply() }
}
