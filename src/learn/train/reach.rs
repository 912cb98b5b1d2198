//! Stored weights in the form that training changes.
//!
//! A file may keep a weight in a Constant node, or in float16 with a Cast between it and its layer. Training changes float32 constants of
//! the graph, through whatever moves their elements (Transpose, Identity) on the way to a layer.

use super::params::ancestors;
use compresso_base::error::Result;
use compresso_model::graph::stored;
use compresso_model::ops::cast::{CAST, cast};
use compresso_model::ops::quantize::DEQUANTIZE_LINEAR;
use compresso_model::ops::transpose::IDENTITY;
use compresso_model::ops::{self, ParamKind};
use compresso_model::{Constant, Element, Graph, Patch, Value};
use std::collections::{HashMap, HashSet};

/// The graph with the parameters behind `wanted` as constants of its own, in float32 where they are cast to it; all values are the same bits.
/// `None` when it has them so.
///
/// # Errors
/// `Unsupported` for operators that the library does not know.
pub(super) fn in_reach(graph: &Graph, wanted: &[String]) -> Result<Option<Graph>> {
    let readers = graph.consumers();
    let nodes: Vec<_> = ancestors(graph, wanted).into_iter().map(|i| &graph.nodes()[i]).collect();
    let read: HashSet<&str> = nodes.iter().flat_map(|n| n.reads()).collect();
    // Integers and what they stand for: a quantized graph is trained as such.
    let grids: HashSet<&str> = nodes.iter().filter(|n| n.is(DEQUANTIZE_LINEAR)).flat_map(|n| n.inputs.iter().map(String::as_str)).collect();
    let held = stored(graph)?;
    let mut patch = Patch::new(graph);
    for s in held.iter().filter(|s| read.contains(s.name)) {
        let is_parameter = s.kind.is_some();
        let widened = is_parameter && only_cast(graph, &readers, s.name, s.constant.element())?;
        let constant = if widened { float32(&s.constant)? } else { s.constant.clone() };
        match s.holder {
            Some(node) if (is_parameter || grids.contains(s.name)) && !graph.is_output(s.name) => {
                patch.remove(node);
                patch.set_constant(s.name, constant);
            }
            None if widened => patch.set_constant(s.name, constant),
            _ => {}
        }
    }
    // What training remembers of each batch is written under the name that the node reads.
    let makers = graph.producers();
    for (i, node) in graph.nodes().iter().enumerate() {
        for &(slot, _) in ops::find(node)?.params.iter().filter(|(_, kind)| *kind == ParamKind::Statistic) {
            let Some(name) = node.input(slot).filter(|n| read.contains(n) && graph.constant(n).is_none()) else { continue };
            let mut origin = name;
            while let Some(from) = makers.get(origin).map(|&m| &graph.nodes()[m]).filter(|m| m.is(IDENTITY)).and_then(|m| m.input(0)) {
                origin = from;
            }
            if let Some(s) = held.iter().find(|s| s.name == origin && origin != name) {
                let own = patch.fresh(name);
                patch.set_constant(&own, s.constant.clone());
                patch.edit(i).inputs[slot] = own;
            }
        }
    }
    if patch.is_empty() { Ok(None) } else { patch.apply().map(Some) }
}

/// True for a constant of another float type than float32 of which all that is read is what a Cast to float32 makes of it.
fn only_cast(graph: &Graph, readers: &HashMap<&str, Vec<usize>>, name: &str, element: Element) -> Result<bool> {
    if !element.is_float() || element.storage().is_none() || element == Element::F32 || graph.inputs().iter().any(|i| i.name == name) {
        return Ok(false);
    }
    let mut waiting = vec![name];
    while let Some(value) = waiting.pop() {
        if graph.is_output(value) {
            return Ok(false);
        }
        for node in readers.get(value).into_iter().flatten().map(|&i| &graph.nodes()[i]) {
            let op = ops::find(node)?;
            let moved = op.moves && op.data_inputs(node).count() == 1 && !node.captured().contains(&value);
            if node.is(CAST) {
                if node.get_int("to", 0)? != i64::from(Element::F32.code()) {
                    return Ok(false);
                }
            } else if moved {
                waiting.extend(node.outputs.iter().map(String::as_str).filter(|o| !o.is_empty()));
            } else {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// What a Cast to float32 makes of a constant.
fn float32(constant: &Constant) -> Result<Constant> {
    let value = cast(&Value::of_constant(constant, &candle_core::Device::Cpu)?, Element::F32)?;
    Constant::from_tensor(&value.tensor)
}
