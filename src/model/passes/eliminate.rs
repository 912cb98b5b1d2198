//! Removes nodes that return their input: Identity, and Dropout outside training.
//!
//! ONNX: [Identity](https://onnx.ai/onnx/operators/onnx__Identity.html),
//! [Dropout](https://onnx.ai/onnx/operators/onnx__Dropout.html).

use super::{Pass, PassContext, Rewrite};
use crate::graph::Node;
use crate::ops::activation::DROPOUT;
use crate::ops::transpose::IDENTITY;
use compresso_base::error::Result;

/// Removes Identity, and Dropout as inference sees it.
#[derive(Debug, Clone, Copy)]
pub struct EliminateIdentity;

impl Pass for EliminateIdentity {
    fn name(&self) -> &'static str {
        "eliminate_identity"
    }
    fn summary(&self) -> &'static str {
        "Removes Identity, and Dropout as inference sees it"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let graph = cx.graph();
        // Names that this rewrite has already given to another producer.
        let mut renamed: Vec<&str> = Vec::new();
        for (i, node) in graph.nodes().iter().enumerate() {
            let (Some(from), Some(to)) = (node.output(0), node.input(0)) else { continue };
            if !node.is(IDENTITY) && !node.is(DROPOUT) {
                continue;
            }
            if let Some(reason) = keeps(cx, node) {
                out.refused.push(format!("{} stays: {reason}", node.label()));
            } else if cx.stays(from) && (cx.producer(to).is_none() || cx.stays(to) || renamed.contains(&to) || !graph.is_output(from)) {
                // The value needs a node of its own to make it.
                if node.is(DROPOUT) {
                    *out.patch.edit(i) = Node::new(IDENTITY, node.name.clone(), [to], [from]);
                    out.done.push(format!("{} becomes Identity", node.label()));
                } else {
                    let what = if graph.is_output(from) { "the graph output" } else { "the wanted value" };
                    out.refused.push(format!("{} stays: it gives {what} '{from}' its name", node.label()));
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
}

/// Why a Dropout must stay.
fn keeps(cx: &PassContext<'_>, node: &Node) -> Option<&'static str> {
    if !node.is(DROPOUT) {
        return None;
    }
    if node.output(1).is_some_and(|mask| cx.is_used(mask)) {
        return Some("its mask is read");
    }
    if let Some(training) = node.input(2)
        && cx.graph().constant(training).and_then(|c| c.to_i64s().ok()).is_none_or(|v| v.first() != Some(&0))
    {
        return Some("it may run in training mode");
    }
    None
}
