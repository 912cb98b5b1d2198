//! The graph as training runs it.

use compresso_base::error::Result;
use compresso_model::{Graph, Node, Patch};
use std::collections::HashMap;

/// A graph with the same constants, values and gradients that moves less memory, forward and backward. Values in `wanted`
/// stay.
///
/// `x · sigmoid(x)`, which exporters write as two nodes, becomes one; a batch normalization before it becomes part of it. A
/// Concat that reads all parts of a Split side by side reads what was split.
///
/// # Errors
/// As [`Patch::apply`].
pub(super) fn prepare(graph: &Graph, wanted: &[String]) -> Result<Graph> {
    let mut patch = Patch::new(graph);
    fuse_swish(graph, wanted, &mut patch);
    join_splits(graph, &mut patch);
    if patch.is_empty() { Ok(graph.clone()) } else { patch.apply() }
}

fn fuse_swish(graph: &Graph, wanted: &[String], patch: &mut Patch<'_>) {
    let (consumers, producers) = (graph.consumers(), graph.producers());
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
}

fn join_splits(graph: &Graph, patch: &mut Patch<'_>) {
    let axis = |n: &Node| n.get_int("axis", 0).ok();
    // By the name of their first part.
    let splits: HashMap<&str, &Node> = graph.nodes().iter().filter(|n| n.is("Split")).filter_map(|n| Some((n.output(0)?, n))).collect();
    for (i, concat) in graph.nodes().iter().enumerate().filter(|(_, n)| n.is("Concat")) {
        let mut inputs: Vec<String> = Vec::with_capacity(concat.inputs.len());
        let mut rest = concat.inputs.as_slice();
        while let Some(first) = rest.first() {
            match splits.get(first.as_str()) {
                Some(split) if axis(split) == axis(concat) && rest.starts_with(&split.outputs) => {
                    inputs.push(split.inputs[0].clone());
                    rest = &rest[split.outputs.len()..];
                }
                _ => {
                    inputs.push(first.clone());
                    rest = &rest[1..];
                }
            }
        }
        if inputs.len() < concat.inputs.len() {
            patch.edit(i).inputs = inputs;
        }
    }
}
