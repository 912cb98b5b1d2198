//! Which nodes stay in float32, because float16 would lose what they compute with.
//!
//! What each value asks of its readers ([`Need`]) follows from how it was made: from its operator's [`Span`], from constants that
//! float16 cannot stand for, from products of a value with itself. So normalizations that an exporter has taken apart (mean, power,
//! epsilon, root, quotient) stay in float32 as one, up to the layer that reads them. What says where or how large something is
//! (scales, sizes, regions, what is rounded to integers) stays in float32 back to what it was computed from.

use super::numbers::{LARGEST, Lost, Role, lost};
use compresso_base::error::Result;
use compresso_compress::quantize::placement::{self, WeightedNode};
use compresso_model::ops::activation::CLIP;
use compresso_model::ops::arithmetic::{DIV, MUL};
use compresso_model::ops::cast::CAST;
use compresso_model::ops::einsum::EINSUM;
use compresso_model::ops::shape::{FLATTEN, RESHAPE, SQUEEZE, UNSQUEEZE};
use compresso_model::ops::transpose::{IDENTITY, TRANSPOSE};
use compresso_model::ops::{self, Float16Rule, OpDef, ParamKind, QuantRule, Span};
use compresso_model::passes::PassContext;
use compresso_model::{Attr, Element, Fact, Graph, Node};
use std::collections::{HashMap, HashSet};

/// What the readers of a value that is made in float32 have to mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// Nothing: it fits float16.
    Nothing,
    /// Only layers may read it in float16, whose sums even out small errors.
    Digits,
    /// None may read it in float16: it can be larger than float16 holds.
    Range,
}

/// The nodes before layers, sorted.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// Nodes that become float16.
    pub converted: HashSet<usize>,
    /// Layers among them.
    pub layers: usize,
    /// One line for each node that stays although its operator runs in float16.
    pub stay: Vec<String>,
}

/// Sorts the nodes from which some of `layers` can be reached, and the layers.
///
/// # Errors
/// Those of inference.
pub(super) fn split(cx: &PassContext<'_>, layers: &[WeightedNode]) -> Result<Split> {
    let graph = cx.graph();
    let inner = placement::inner_values(graph, layers);
    let layers: HashSet<usize> = layers.iter().map(|l| l.node).collect();
    let measures = measures(cx)?;
    let mut out = Split::default();
    let mut needs: HashMap<&str, Need> = HashMap::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        if !layers.contains(&i) && !node.outputs.iter().any(|o| inner.contains(o.as_str())) {
            continue;
        }
        let Some(need) = judge(cx, node, measures.contains(&i), &needs, &mut out.stay).map_err(|e| e.at(node.label()))? else {
            out.converted.insert(i);
            out.layers += usize::from(layers.contains(&i));
            continue;
        };
        for o in &node.outputs {
            if need > Need::Nothing && is_float(cx, o)? {
                needs.insert(o, need);
            }
        }
    }
    Ok(out)
}

/// True for a value in float32.
pub(super) fn is_float(cx: &PassContext<'_>, name: &str) -> Result<bool> {
    Ok(cx.facts()?.get(name).map(|f: &Fact| f.element) == Some(Element::F32))
}

/// True for an input that ONNX has in float32 always.
pub(super) fn is_excepted(rule: Float16Rule, at: usize) -> bool {
    matches!(rule, Float16Rule::Except(inputs) if inputs.contains(&at))
}

/// What a node's results need where it stays in float32; `None` where it becomes float16.
fn judge(cx: &PassContext<'_>, node: &Node, measures: bool, needs: &HashMap<&str, Need>, stay: &mut Vec<String>) -> Result<Option<Need>> {
    let graph = cx.graph();
    let op = ops::find(node)?;
    if node.inner().next().is_some() {
        return Ok(Some(Need::Nothing));
    }
    let need = |name: &str| needs.get(name).copied().unwrap_or(Need::Nothing);
    let read = node.inputs.iter().enumerate().filter(|&(at, _)| !is_excepted(op.float16, at));
    let (reads, from) = read.map(|(_, n)| (need(n), n.as_str())).max_by_key(|r| r.0).unwrap_or((Need::Nothing, ""));
    let bounded = op.span == Span::Bounded || is_clipped(graph, node)?;
    let gives = |need: Need| if bounded { Need::Nothing } else { need };
    let weighted = op.quant == QuantRule::Weighted;
    if let Some((name, lost)) = lost_number(graph, node, op)? {
        stay.push(format!("{} stays in float32: of '{name}', {lost}", node.label()));
        // By a tiny number something becomes large in a quotient.
        let large = matches!(lost, Lost::Large(_)) || op.span == Span::Wide || node.is(DIV);
        return Ok(Some(gives(reads.max(if large { Need::Range } else { Need::Digits }))));
    }
    Ok(match op.span {
        _ if measures || counts(cx, node)? => Some(gives(reads.max(Need::Digits))),
        Span::Fine => Some(Need::Digits),
        Span::Wide => Some(Need::Range),
        _ if is_square(cx, node, op) => Some(Need::Range),
        // A quotient of two large numbers is none.
        _ if node.is(DIV) && node.input(1).is_some_and(|d| graph.constant(d).is_none()) => {
            let large = |i: usize| node.input(i).is_some_and(|n| need(n) == Need::Range);
            Some(if large(0) && !large(1) { Need::Range } else { Need::Digits })
        }
        _ if op.float16 == Float16Rule::Float32 => Some(gives(reads)),
        _ if reads == Need::Range => {
            if weighted {
                stay.push(format!("{} stays in float32: it reads '{from}', which can be larger than float16 holds", node.label()));
            }
            Some(gives(reads))
        }
        _ if reads == Need::Digits && !weighted => Some(gives(reads)),
        _ => None,
    })
}

/// The number of a constant that the node reads, or has as an attribute, that float16 cannot stand for.
fn lost_number(graph: &Graph, node: &Node, op: &OpDef) -> Result<Option<(String, Lost)>> {
    for (at, name) in node.inputs.iter().enumerate() {
        let Some(c) = graph.constant(name).filter(|c| c.element() == Element::F32) else { continue };
        if is_excepted(op.float16, at) || op.float16 == Float16Rule::Float32 {
            continue;
        }
        let is_weight = op.weight.is_some_and(|w| w.input == at);
        let is_bias = op.params.iter().any(|&(input, kind)| input == at && kind == ParamKind::Bias);
        let found = lost(c, if is_weight || is_bias { Role::Summed } else { Role::Each })?;
        // No float16 lies beyond such a bound.
        let is_bound = node.is(CLIP) && at > 0 && matches!(found, Some(Lost::Large(_)));
        if let Some(found) = found.filter(|_| !is_bound) {
            return Ok(Some((name.clone(), found)));
        }
    }
    match node.attrs.get("value") {
        Some(Attr::Tensor(c)) if c.element() == Element::F32 => Ok(lost(c, Role::Each)?.map(|l| ("value".into(), l))),
        _ => Ok(None),
    }
}

/// True for a Clip with two bounds that float16 holds.
fn is_clipped(graph: &Graph, node: &Node) -> Result<bool> {
    if !node.is(CLIP) {
        return Ok(false);
    }
    for (at, name) in [(1, "min"), (2, "max")] {
        let bound = match node.input(at) {
            Some(input) => graph.constant(input).map(|c| c.to_f32s()).transpose()?.and_then(|v| v.first().copied()),
            None => Some(node.get_float(name, f32::INFINITY)?),
        };
        if bound.is_none_or(|b| b.is_nan() || b.abs() > LARGEST) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True for a product of a value with itself, moved or not: what it sums are squares.
fn is_square<'a>(cx: &'a PassContext<'_>, node: &'a Node, op: &OpDef) -> bool {
    if !node.is(MUL) && !node.is(EINSUM) && op.quant != QuantRule::Weighted {
        return false;
    }
    let (Some(a), Some(b)) = (node.input(0), node.input(1)) else { return false };
    let (a, b) = (source(cx, a), source(cx, b));
    if a == b {
        return true;
    }
    // Exporters write (x - m) · (x - m) with two differences.
    let made = |name: &str| cx.producer(name).map(|(_, n)| n);
    let (Some(a), Some(b)) = (made(a), made(b)) else { return false };
    !a.inputs.is_empty() && (&a.op, &a.domain, &a.inputs, &a.attrs) == (&b.op, &b.domain, &b.inputs, &b.attrs) && a.outputs.len() == 1
}

/// Operators that give all elements of what they read, in another order or shape. Those that choose some (Split, Slice) tell parts apart.
const WHOLE: &[&str] = &[TRANSPOSE, IDENTITY, RESHAPE, FLATTEN, SQUEEZE, UNSQUEEZE];

/// The value that has all of a value's elements, as they were before they were moved.
fn source<'a>(cx: &'a PassContext<'_>, mut name: &'a str) -> &'a str {
    while let Some((_, node)) = cx.producer(name)
        && WHOLE.iter().any(|op| node.is(op))
        && let Some(from) = node.input(0)
    {
        name = from;
    }
    name
}

/// True for a Cast of integers that can be larger than float16 counts.
fn counts(cx: &PassContext<'_>, node: &Node) -> Result<bool> {
    let facts = cx.facts()?;
    let of = |name: Option<&str>| name.and_then(|n| facts.get(n)).map(|f| f.element);
    let (from, to) = (of(node.input(0)), of(node.output(0)));
    Ok(node.is(CAST) && to == Some(Element::F32) && from.is_some_and(|e| e.is_int() && e.bits() > 8))
}

/// The nodes that compute scales, sizes and regions at run time, or numbers that are rounded to integers.
fn measures(cx: &PassContext<'_>) -> Result<HashSet<usize>> {
    let facts = cx.facts()?;
    let mut stack: Vec<&str> = Vec::new();
    for node in cx.graph().nodes() {
        let rule = ops::find(node)?.float16;
        let to_int = node.is(CAST) && node.output(0).and_then(|o| facts.get(o)).is_some_and(|f| f.element.is_int());
        stack.extend(node.inputs.iter().enumerate().filter(|&(at, _)| to_int || is_excepted(rule, at)).map(|(_, n)| n.as_str()));
    }
    let mut found = HashSet::new();
    while let Some(name) = stack.pop() {
        if let Some((i, node)) = cx.producer(name)
            && is_float(cx, name)?
            && ops::find(node)?.quant != QuantRule::Weighted
            && found.insert(i)
        {
            stack.extend(node.inputs.iter().map(String::as_str));
        }
    }
    Ok(found)
}
