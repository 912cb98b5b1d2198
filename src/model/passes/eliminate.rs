//! Nodes that return their input.
//!
//! ONNX: [Identity](https://onnx.ai/onnx/operators/onnx__Identity.html),
//! [Dropout](https://onnx.ai/onnx/operators/onnx__Dropout.html), and others whose attributes or sizes make them do nothing.

use super::{Pass, PassContext, Rewrite};
use crate::graph::{Dim, Node};
use crate::ops::activation::DROPOUT;
use crate::ops::cast::CAST;
use crate::ops::concat::{CONCAT, PAD};
use crate::ops::shape::{FLATTEN, RESHAPE, SQUEEZE, UNSQUEEZE};
use crate::ops::slice::{SLICE, SPLIT};
use crate::ops::transpose::{EXPAND, IDENTITY, TRANSPOSE};
use compresso_base::error::Result;

/// What a node does to its first input.
#[derive(Debug)]
pub enum Effect {
    /// Something, or what is not known.
    Some,
    /// Nothing.
    None,
    /// Nothing, but the node must stay: why.
    Stays(&'static str),
}

/// Removes nodes that return their first input.
#[derive(Debug, Clone, Copy)]
pub struct EliminateNop {
    name: &'static str,
    summary: &'static str,
    effect: fn(&PassContext<'_>, &Node) -> Result<Effect>,
}

/// Removes Identity nodes, and what [`ELIMINATE_NOP_DROPOUT`] removes.
pub const ELIMINATE_IDENTITY: EliminateNop = EliminateNop {
    name: "eliminate_identity",
    summary: "Removes Identity, and Dropout as inference sees it",
    effect: |cx, node| if node.is(IDENTITY) { Ok(Effect::None) } else { dropout(cx, node) },
};

/// Removes Dropout nodes, unless their mask is read or they may run in training mode.
pub const ELIMINATE_NOP_DROPOUT: EliminateNop =
    EliminateNop { name: "eliminate_nop_dropout", summary: "Removes Dropout as inference sees it", effect: dropout };

/// Removes Pad nodes whose pads are known to be 0.
pub const ELIMINATE_NOP_PAD: EliminateNop = EliminateNop {
    name: "eliminate_nop_pad",
    summary: "Removes pads by nothing",
    effect: |cx, node| when(node.is(PAD) && cx.listed(node, "pads", 1)?.is_some_and(|pads| pads.iter().all(|&p| p == 0))),
};

/// Removes Transpose nodes that leave each axis at its place.
pub const ELIMINATE_NOP_TRANSPOSE: EliminateNop = EliminateNop {
    name: "eliminate_nop_transpose",
    summary: "Removes transposes that leave every axis where it is",
    effect: |cx, node| {
        let stands = |perm: &[i64]| perm.iter().enumerate().all(|(i, &p)| usize::try_from(p) == Ok(i));
        when(
            node.is(TRANSPOSE)
                && match node.find_ints("perm")? {
                    Some(perm) => stands(perm),
                    // The axes are turned round.
                    None => node.input(0).map(|x| cx.rank(x)).transpose()?.flatten().is_some_and(|r| r < 2),
                },
        )
    },
};

/// Removes Cast nodes to the type that their input has.
pub const ELIMINATE_NOP_CAST: EliminateNop = EliminateNop {
    name: "eliminate_nop_cast",
    summary: "Removes casts to the type that a value has",
    effect: |cx, node| unchanged(cx, node, &[CAST]),
};

/// Removes Reshape, Flatten, Squeeze and Unsqueeze nodes to the shape that their input has.
pub const ELIMINATE_NOP_RESHAPE: EliminateNop = EliminateNop {
    name: "eliminate_nop_reshape",
    summary: "Removes reshapes, flattenings and squeezes to the shape that a value has",
    effect: |cx, node| unchanged(cx, node, &[RESHAPE, FLATTEN, SQUEEZE, UNSQUEEZE]),
};

/// Removes Expand nodes to the shape that their input has.
pub const ELIMINATE_NOP_EXPAND: EliminateNop = EliminateNop {
    name: "eliminate_nop_expand",
    summary: "Removes expansions to the shape that a value has",
    effect: |cx, node| unchanged(cx, node, &[EXPAND]),
};

/// Removes Slice nodes that take all of their input, in its order.
pub const ELIMINATE_NOP_SLICE: EliminateNop = EliminateNop {
    name: "eliminate_nop_slice",
    summary: "Removes slices that take all of a value",
    effect: |cx, node| {
        if !node.is(SLICE) {
            return Ok(Effect::Some);
        }
        // Steps came with operator set 10, as an input. One backwards keeps the shape, and not the order.
        let forward = node.input(4).is_none() || cx.ints(node, 4)?.is_some_and(|steps| steps.iter().all(|&s| s > 0));
        if forward { unchanged(cx, node, &[SLICE]) } else { Ok(Effect::Some) }
    },
};

/// Removes Concat nodes of one value, and Split nodes into one.
pub const ELIMINATE_NOP_CONCAT: EliminateNop = EliminateNop {
    name: "eliminate_nop_concat",
    summary: "Removes concatenations of one value, and splits into one part",
    effect: |_, node| when(node.is(CONCAT) && node.inputs.len() == 1 || node.is(SPLIT) && node.outputs.len() == 1),
};

fn when(nothing: bool) -> Result<Effect> {
    Ok(if nothing { Effect::None } else { Effect::Some })
}

/// A node of one of these operators whose output has the type and shape of its first input.
fn unchanged(cx: &PassContext<'_>, node: &Node, ops: &[&str]) -> Result<Effect> {
    let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return Ok(Effect::Some) };
    if !ops.iter().any(|op| node.is(op)) {
        return Ok(Effect::Some);
    }
    let facts = cx.facts()?;
    let (Some(a), Some(b)) = (facts.get(x), facts.get(y)) else { return Ok(Effect::Some) };
    // Two unknown sizes need not be the same.
    let known = a.shape.as_ref().is_some_and(|s| s.iter().all(|d| *d != Dim::Unknown));
    // A type of more digits than the executors have is stored in another one, which the cast may go by.
    when(a.element == b.element && (node.is(CAST) || known && a.shape == b.shape))
}

fn dropout(cx: &PassContext<'_>, node: &Node) -> Result<Effect> {
    if !node.is(DROPOUT) {
        return Ok(Effect::Some);
    }
    if node.output(1).is_some_and(|mask| cx.is_used(mask)) {
        return Ok(Effect::Stays("its mask is read"));
    }
    if let Some(training) = node.input(2)
        && cx.graph().constant(training).and_then(|c| c.to_i64s().ok()).is_none_or(|v| v.first() != Some(&0))
    {
        return Ok(Effect::Stays("it may run in training mode"));
    }
    Ok(Effect::None)
}

impl Pass for EliminateNop {
    fn name(&self) -> &'static str {
        self.name
    }
    fn summary(&self) -> &'static str {
        self.summary
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let graph = cx.graph();
        // Names that this rewrite has already given to another producer.
        let mut renamed: Vec<&str> = Vec::new();
        for (i, node) in graph.nodes().iter().enumerate() {
            let (Some(from), Some(to)) = (node.output(0), node.input(0)) else { continue };
            match (self.effect)(cx, node)? {
                Effect::Some => continue,
                Effect::Stays(reason) => {
                    out.refused.push(format!("{} stays: {reason}", node.label()));
                    continue;
                }
                Effect::None => {}
            }
            if cx.stays(from) && (cx.producer(to).is_none() || cx.stays(to) || renamed.contains(&to) || !graph.is_output(from)) {
                // The value needs a node of its own to make it.
                if node.is(IDENTITY) {
                    let what = if graph.is_output(from) { "the graph output" } else { "the wanted value" };
                    out.refused.push(format!("{} stays: it gives {what} '{from}' its name", node.label()));
                } else {
                    *out.patch.edit(i) = Node::new(IDENTITY, node.name.clone(), [to], [from]);
                    out.done.push(format!("{} becomes Identity", node.label()));
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
