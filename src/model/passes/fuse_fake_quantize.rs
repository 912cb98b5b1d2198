//! Joins [QuantizeLinear](https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html) and the
//! [DequantizeLinear](https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html) behind it: training reads the rounded floats alone.
//!
//! The joined operator is of this library's own: the results are for its executors, not for files.

use super::{Pass, PassContext, Rewrite};
use crate::element::Element;
use crate::graph::Node;
use crate::ops::OWN_DOMAIN;
use crate::ops::quantize::{DEQUANTIZE_LINEAR, FAKE_QUANTIZE, QUANTIZE_LINEAR};
use compresso_base::error::Result;

/// Joins QuantizeLinear and the nodes that undo it.
#[derive(Debug, Clone, Copy)]
pub struct FuseFakeQuantize;

impl Pass for FuseFakeQuantize {
    fn name(&self) -> &'static str {
        "fuse_fake_quantize"
    }
    fn summary(&self) -> &'static str {
        "Joins QuantizeLinear and the DequantizeLinear nodes that alone read it to one rounding"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let graph = cx.graph();
        for (i, node) in graph.nodes().iter().enumerate().filter(|(_, n)| n.is(QUANTIZE_LINEAR)) {
            let Some(integers) = node.output(0).filter(|q| !cx.stays(q)) else { continue };
            let facts = cx.facts()?;
            let element = |at: usize| node.input(at).and_then(|n| facts.get(n)).map(|f| f.element);
            let short = match node.input(2) {
                Some(_) => element(2).is_some_and(|e| e.int_range().is_some() && e.bits() <= 16),
                None => node.get_int("output_dtype", 0)? == 0,
            };
            if !short || element(0) != Some(Element::F32) || element(1) != Some(Element::F32) || blocks(node)? {
                continue;
            }
            let readers = cx.readers(integers);
            let undone = |other: &Node| -> Result<bool> {
                let same = other.inputs[1..] == node.inputs[1..] && other.input(0) == Some(integers);
                let axis = |n: &Node| n.get_int("axis", 1);
                Ok(other.is(DEQUANTIZE_LINEAR)
                    && same
                    && axis(other)? == axis(node)?
                    && other.get_int("output_dtype", 0)? <= 1
                    && !blocks(other)?)
            };
            let mut all = !readers.is_empty();
            for &r in readers {
                all &= undone(&graph.nodes()[r])?;
            }
            if !all {
                continue;
            }
            out.patch.remove(i);
            for &r in readers {
                let joined = out.patch.edit(r);
                (joined.op, joined.domain) = (FAKE_QUANTIZE.to_string(), OWN_DOMAIN.to_string());
                (joined.inputs, joined.attrs) = (node.inputs.clone(), node.attrs.clone());
                out.done.push(format!("{} and {} become {FAKE_QUANTIZE}", node.label(), graph.nodes()[r].label()));
            }
        }
        Ok(out)
    }
}

/// Scales by blocks, or a calculation in other numbers than float32.
fn blocks(node: &Node) -> Result<bool> {
    Ok(node.get_int("block_size", 0)? != 0 || node.get_int("precision", 0)? > 1)
}
