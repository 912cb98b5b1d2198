//! Removes nodes that return their input: Identity, and Dropout outside training.
//!
//! ONNX: [Identity](https://onnx.ai/onnx/operators/onnx__Identity.html),
//! [Dropout](https://onnx.ai/onnx/operators/onnx__Dropout.html).

use super::Rewrite;
use crate::graph::{Graph, Node};
use compresso_base::error::Result;

pub(super) fn rewrite(graph: &Graph) -> Result<Rewrite<'_>> {
    let mut out = Rewrite::new(graph);
    let makers = graph.producers();
    let readers = graph.consumers();
    // Names that this rewrite has already given to another producer.
    let mut renamed: Vec<&str> = Vec::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        let (Some(from), Some(to)) = (node.output(0), node.input(0)) else { continue };
        if !node.is("Identity") && !node.is("Dropout") {
            continue;
        }
        if let Some(reason) = keeps(graph, node, &readers) {
            out.refused.push(format!("{} stays: {reason}", node.label()));
        } else if graph.is_output(from) && (!makers.contains_key(to) || graph.is_output(to) || renamed.contains(&to)) {
            // The output needs a node of its own to make it.
            if node.is("Dropout") {
                let edited = out.patch.edit(i);
                *edited = Node::new("Identity", node.name.clone(), [to], [from]);
                out.done.push(format!("{} becomes Identity", node.label()));
            } else {
                out.refused.push(format!("{} stays: it gives the graph output '{from}' its name", node.label()));
            }
        } else {
            if graph.is_output(from) {
                renamed.push(to);
            }
            out.patch.remove(i);
            out.patch.redirect(from, to);
            out.done.push(format!("{} is removed", node.label()));
        }
    }
    Ok(out)
}

/// Why a Dropout must stay.
fn keeps(graph: &Graph, node: &Node, readers: &std::collections::HashMap<&str, Vec<usize>>) -> Option<&'static str> {
    if !node.is("Dropout") {
        return None;
    }
    if let Some(mask) = node.output(1)
        && (readers.contains_key(mask) || graph.is_output(mask))
    {
        return Some("its mask is read");
    }
    if let Some(training) = node.input(2)
        && graph.constant(training).and_then(|c| c.to_i64s().ok()).is_none_or(|v| v.first() != Some(&0))
    {
        return Some("it may run in training mode");
    }
    None
}
