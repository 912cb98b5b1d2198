//! Computes nodes whose inputs are constants, and shape arithmetic whose result is known.
//!
//! DequantizeLinear of a constant is left alone: folding it would turn int8 weights back into float ones.

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::element::Element;
use crate::graph::{Dim, Fact, Node};
use crate::ops::quantize::{DEQUANTIZE_LINEAR, QUANTIZE_LINEAR};
use crate::ops::{self, Exec, RunMode};
use crate::value::Value;
use candle_core::Device;
use compresso_base::error::{At, Result};
use std::collections::HashMap;

/// Results with more elements than this, and than their inputs, are not stored.
const GROWTH_LIMIT: usize = 1 << 16;

/// Computes what depends on constants and known shapes only.
#[derive(Debug, Clone, Copy)]
pub struct FoldConstants;

impl Pass for FoldConstants {
    fn name(&self) -> &'static str {
        "fold_constants"
    }
    fn summary(&self) -> &'static str {
        "Computes what depends on constants and known shapes only"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        // What this sweep has computed.
        let mut made: HashMap<&str, Constant> = HashMap::new();
        for (i, node) in cx.graph().nodes().iter().enumerate() {
            if node.is(DEQUANTIZE_LINEAR) || node.is(QUANTIZE_LINEAR) || node.outputs.iter().all(String::is_empty) {
                continue;
            }
            let values: Option<Vec<Constant>> = named(node).map(|o| known(cx, &made, o)).collect::<Result<_>>()?;
            let values = match values {
                Some(values) => values,
                None => match compute(cx, &made, node).at(|| node.label())? {
                    Some(values) => values,
                    None => continue,
                },
            };
            // A graph output must be made by a node.
            if let Some(name) = node.outputs.iter().find(|o| cx.stays(o)) {
                let what = if cx.graph().is_output(name) { "a graph output" } else { "wanted" };
                out.refused.push(format!("{} stays: '{name}' is {what}", node.label()));
                continue;
            }
            out.patch.remove(i);
            for (name, value) in named(node).zip(values) {
                made.insert(name, value.clone());
                out.patch.set_constant(name, value);
            }
            out.done.push(format!("{} is computed", node.label()));
        }
        Ok(out)
    }
}

/// The outputs that have a name.
fn named(node: &Node) -> impl Iterator<Item = &str> {
    node.outputs.iter().map(String::as_str).filter(|o| !o.is_empty())
}

/// The value of which all is known.
fn known(cx: &PassContext<'_>, made: &HashMap<&str, Constant>, name: &str) -> Result<Option<Constant>> {
    match made.get(name) {
        Some(value) => Ok(Some(value.clone())),
        None => Ok(cx.facts()?.get(name).and_then(constant)),
    }
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
fn compute(cx: &PassContext<'_>, made: &HashMap<&str, Constant>, node: &Node) -> Result<Option<Vec<Constant>>> {
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
        let Some(c) = known(cx, made, name)? else { return Ok(None) };
        read += c.count();
        inputs.push(Some(Value::of_constant(&c, &Device::Cpu)?));
    }
    let facts = cx.facts()?;
    let count: Option<usize> = named(node).map(|o| facts.get(o).and_then(Fact::count)).sum();
    if count.is_none_or(|n| n > GROWTH_LIMIT.max(read)) {
        return Ok(None);
    }
    let values = op.run(&Exec::new(node, cx.graph().opset_of(node), &inputs, &RunMode::default()))?;
    let named = node.outputs.iter().zip(values).filter(|(name, _)| !name.is_empty());
    named.map(|(_, v)| Constant::from_storage(v.element, &v.tensor)).collect::<Result<Vec<_>>>().map(Some)
}
