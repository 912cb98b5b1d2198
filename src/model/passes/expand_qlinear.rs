//! Writes operators on quantized numbers (QLinearConv, QLinearMatMul and those of onnxruntime's QOperator form) as
//! [DequantizeLinear](https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html), an operator on floats, and
//! [QuantizeLinear](https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html). What moves quantized numbers between them (MaxPool,
//! Reshape, Concat) moves the reals that they stand for. Results differ by rounding, one step of the integers.

use super::{Pass, PassContext, Rewrite};
use crate::element::Element;
use crate::graph::Node;
use crate::ops;
use crate::ops::pool::MAX_POOL;
use crate::ops::qlinear::expand;
use crate::ops::quantize::{DEQUANTIZE_LINEAR, QUANTIZE_LINEAR};
use crate::ops::resize::RESIZE;
use compresso_base::error::{ErrorKind, Result};
use std::collections::HashMap;

/// Writes operators on quantized numbers as operators on floats between DequantizeLinear and QuantizeLinear.
#[derive(Debug, Clone, Copy)]
pub struct ExpandQLinear;

impl Pass for ExpandQLinear {
    fn name(&self) -> &'static str {
        "expand_qlinear"
    }
    fn summary(&self) -> &'static str {
        "Writes operators on quantized numbers as operators on floats between DequantizeLinear and QuantizeLinear"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let graph = cx.graph();
        if !graph.nodes().iter().any(ops::qlinear::is_expandable) {
            return Ok(out);
        }
        let facts = cx.facts()?;
        // Scale and zero point of quantized values.
        let mut units: HashMap<&str, [String; 2]> = HashMap::new();
        for (i, node) in graph.nodes().iter().enumerate() {
            if let (true, Some(scale), Some(zero)) = (node.is(QUANTIZE_LINEAR), node.input(1), node.input(2)) {
                units.insert(&node.outputs[0], [scale, zero].map(str::to_string));
                continue;
            }
            let expansion = match expand(node, graph.opset(), &|name| facts.get(name), &mut |stem| out.patch.fresh(stem)) {
                Ok(Some(expansion)) => expansion,
                Ok(None) => {
                    if let Some(unit) = unit_of(cx, node, &units)? {
                        let reals = move_reals(&mut out, i, node, &unit)?;
                        node.outputs.iter().for_each(|o| drop(units.insert(o, unit.clone())));
                        out.done.push(format!("{} moves {reals}", node.label()));
                    }
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::Unsupported => {
                    out.refused.push(format!("{} stays: {e}", node.label()));
                    continue;
                }
                Err(e) => return Err(e.at(node.label())),
            };
            if let Some(last) = expansion.nodes.last().filter(|n| n.is(QUANTIZE_LINEAR)) {
                units.insert(&node.outputs[0], [last.inputs[1].clone(), last.inputs[2].clone()]);
            }
            out.patch.remove(i);
            let names: Vec<&str> = expansion.nodes.iter().map(|n| n.op.as_str()).collect();
            out.done.push(format!("{} becomes {}", node.label(), names.join(", ")));
            expansion.constants.into_iter().for_each(|(name, value)| out.patch.set_constant(name, value));
            expansion.nodes.into_iter().for_each(|n| out.patch.add(n));
        }
        Ok(out)
    }
}

/// Scale and zero point of the quantized numbers that a node moves, if it does nothing else.
fn unit_of(cx: &PassContext<'_>, node: &Node, units: &HashMap<&str, [String; 2]>) -> Result<Option<[String; 2]>> {
    let op = ops::find(node)?;
    let nearest = node.is(RESIZE) && node.get_str("mode", "nearest")? == "nearest";
    let moves = op.moves || nearest || node.is(MAX_POOL) && node.output(1).is_none();
    let facts = cx.facts()?;
    let mut data = op.data_inputs(node).map(|(_, name)| {
        let bytes = facts.get(name).is_some_and(|f| matches!(f.element, Element::I8 | Element::U8));
        units.get(name).filter(|_| bytes)
    });
    let Some(Some(first)) = data.next().filter(|_| moves) else { return Ok(None) };
    Ok(data.all(|unit| unit == Some(first)).then(|| first.clone()))
}

/// Lets a node that moves quantized numbers move reals, with DequantizeLinear before it and QuantizeLinear after it.
fn move_reals(out: &mut Rewrite<'_>, at: usize, node: &Node, [scale, zero]: &[String; 2]) -> Result<&'static str> {
    let places: Vec<(usize, String)> = ops::find(node)?.data_inputs(node).map(|(i, name)| (i, name.to_string())).collect();
    for (i, name) in places {
        let real = out.patch.fresh(&format!("{name}_real"));
        out.patch.add(Node::new(DEQUANTIZE_LINEAR, real.clone(), [&name, scale, zero], [&real]));
        out.patch.edit(at).inputs[i] = real;
    }
    for (i, name) in node.outputs.iter().enumerate().filter(|(_, n)| !n.is_empty()) {
        let real = out.patch.fresh(&format!("{name}_real"));
        let label = out.patch.fresh(&format!("{name}_{QUANTIZE_LINEAR}"));
        out.patch.add(Node::new(QUANTIZE_LINEAR, label, [&real, scale, zero], [name]));
        out.patch.edit(at).outputs[i] = real;
    }
    Ok("the reals that its numbers stand for")
}
