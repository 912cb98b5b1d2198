//! Computes nodes whose inputs are constants, and shape arithmetic whose result is known.
//!
//! DequantizeLinear of a constant is left alone: folding it would turn int8 weights back into float ones.

use super::Rewrite;
use crate::constant::Constant;
use crate::element::Element;
use crate::graph::{Dim, Fact, Facts, Graph, Node, infer};
use crate::ops::{self, Exec, Mode};
use crate::value::Value;
use candle_core::Device;
use compresso_base::error::{At, Result};

/// Results with more elements than this, and than their inputs, are not stored.
const GROWTH_LIMIT: usize = 1 << 16;

pub(super) fn rewrite(graph: &Graph) -> Result<Rewrite<'_>> {
    let mut out = Rewrite::new(graph);
    let mut facts = infer(graph)?;
    for (i, node) in graph.nodes().iter().enumerate() {
        if matches!(node.op.as_str(), "DequantizeLinear" | "QuantizeLinear") || node.outputs.iter().all(String::is_empty) {
            continue;
        }
        let known: Option<Vec<Constant>> = node.outputs.iter().filter(|o| !o.is_empty()).map(|o| facts.get(o).and_then(constant)).collect();
        let values = match known {
            Some(values) => values,
            None => match compute(graph, node, &facts).at(|| node.label())? {
                Some(values) => values,
                None => continue,
            },
        };
        // A graph output must be made by a node.
        if let Some(name) = node.outputs.iter().find(|o| graph.is_output(o)) {
            out.refused.push(format!("{} stays: '{name}' is a graph output", node.label()));
            continue;
        }
        out.patch.remove(i);
        for (name, value) in node.outputs.iter().filter(|o| !o.is_empty()).zip(values) {
            if let Some(fact) = facts.get_mut(name) {
                fact.constant = Some(value.clone());
            }
            out.patch.set_constant(name, value);
        }
        out.done.push(format!("{} is computed", node.label()));
    }
    Ok(out)
}

/// The value of a fact that says all of it.
fn constant(fact: &Fact) -> Option<Constant> {
    if let Some(c) = &fact.constant {
        return Some(c.clone());
    }
    if fact.element != Element::I64 {
        return None;
    }
    let values: Vec<i64> =
        fact.contents.as_ref()?.iter().map(|d| Dim::known(d).and_then(|n| i64::try_from(n).ok())).collect::<Option<_>>()?;
    let dims = fact.dims()?;
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Constant::new(Element::I64, dims, crate::Payload::Raw(raw.into())).ok()
}

/// The outputs of a node whose inputs are all constant, unless they are too large to be worth storing.
fn compute(graph: &Graph, node: &Node, facts: &Facts) -> Result<Option<Vec<Constant>>> {
    let op = ops::find(node)?;
    if !op.foldable || !node.captured().is_empty() || node.inputs.iter().all(String::is_empty) {
        return Ok(None);
    }
    let mut read = 0;
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for name in &node.inputs {
        if name.is_empty() {
            inputs.push(None);
            continue;
        }
        let Some(c) = facts.get(name).and_then(constant) else { return Ok(None) };
        read += c.count();
        inputs.push(Some(Value::of_constant(&c, &Device::Cpu)?));
    }
    let made: Option<usize> = node.outputs.iter().filter(|o| !o.is_empty()).map(|o| facts.get(o).and_then(Fact::count)).sum();
    if made.is_none_or(|n| n > GROWTH_LIMIT.max(read)) {
        return Ok(None);
    }
    let values = (op.forward)(&Exec::new(node, graph.opset_of(node), &inputs, &Mode::default()))?;
    let named = node.outputs.iter().zip(values).filter(|(name, _)| !name.is_empty());
    named.map(|(_, v)| Constant::from_storage(v.element, &v.tensor)).collect::<Result<Vec<_>>>().map(Some)
}
