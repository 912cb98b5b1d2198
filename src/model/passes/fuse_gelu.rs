//! Joins the nodes that exporters write for [Gelu](https://onnx.ai/onnx/operators/onnx__Gelu.html):
//! `x · 0.5 · (1 + erf(x / √2))`, and its approximation `x · 0.5 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`.
//!
//! Gelu came with operator set 20: the results are for this library's executors, not for files.

use super::{Pass, PassContext, Rewrite};
use crate::graph::{Attr, Node};
use crate::ops::activation::{ERF, GELU, TANH};
use crate::ops::arithmetic::{ADD, DIV, MUL, POW};
use compresso_base::error::Result;

/// Joins the nodes of a GELU to Gelu.
#[derive(Debug, Clone, Copy)]
pub struct FuseGelu;

impl Pass for FuseGelu {
    fn name(&self) -> &'static str {
        "fuse_gelu"
    }
    fn summary(&self) -> &'static str {
        "Joins the nodes of x · Φ(x), by erf or tanh, to Gelu"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (i, gate) in cx.graph().nodes().iter().enumerate() {
            let exact = gate.is(ERF);
            if !exact && !gate.is(TANH) {
                continue;
            }
            let argument = &gate.inputs[0];
            let found = if exact { scaled(cx, argument, SQRT_HALF)? } else { cubic(cx, argument)? };
            let Some(x) = found else { continue };
            let Some(tail) = tail(cx, &gate.outputs[0], x)? else { continue };
            let reader = &cx.graph().nodes()[tail.last];
            if cx.rank(&reader.outputs[0])? != cx.rank(x)? {
                out.refused.push(format!("{} stays: its constants have more axes than '{x}'", reader.label()));
                continue;
            }
            let label = reader.label();
            out.patch.remove(i);
            tail.nodes.iter().for_each(|&n| out.patch.remove(n));
            let joined = Node::new(GELU, reader.name.clone(), [x], [reader.outputs[0].as_str()]);
            *out.patch.edit(tail.last) = if exact { joined } else { joined.attr("approximate", Attr::text("tanh")) };
            out.done.push(format!("{} and {} become Gelu", gate.label(), label));
        }
        Ok(out)
    }
}

const SQRT_HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// √(2/π)
const TANH_SCALE: f64 = 0.797_884_560_802_865_4;
const CUBIC: f64 = 0.044_715;

/// True for a constant of that number, to the digits of float32.
fn is_number(cx: &PassContext<'_>, name: &str, number: f64) -> Result<bool> {
    Ok(cx.number(name)?.is_some_and(|v| (v - number).abs() <= 1e-5 * number))
}

/// The other operand of a commutative node of which one is that constant.
fn beside<'g>(cx: &PassContext<'g>, node: &'g Node, op: &str, number: f64) -> Result<Option<&'g str>> {
    if !node.is(op) || node.inputs.len() != 2 {
        return Ok(None);
    }
    for (value, constant) in [(0, 1), (1, 0)] {
        if is_number(cx, &node.inputs[constant], number)? {
            return Ok(Some(&node.inputs[value]));
        }
    }
    Ok(None)
}

/// `x`, where a value is `x · factor` or `x / (1 / factor)`.
fn scaled<'g>(cx: &PassContext<'g>, value: &str, factor: f64) -> Result<Option<&'g str>> {
    let Some((_, node)) = cx.producer(value) else { return Ok(None) };
    if node.is(DIV) && is_number(cx, &node.inputs[1], 1.0 / factor)? {
        return Ok(Some(&node.inputs[0]));
    }
    beside(cx, node, MUL, factor)
}

/// `x`, where a value is `√(2/π) · (x + 0.044715 · x³)`.
fn cubic<'g>(cx: &PassContext<'g>, value: &str) -> Result<Option<&'g str>> {
    let Some(inner) = scaled(cx, value, TANH_SCALE)? else { return Ok(None) };
    let Some((_, sum)) = cx.producer(inner).filter(|(_, n)| n.is(ADD)) else { return Ok(None) };
    for (x, term) in [(0, 1), (1, 0)] {
        let x = &sum.inputs[x];
        let Some(cube) = scaled(cx, &sum.inputs[term], CUBIC)? else { continue };
        let Some((_, node)) = cx.producer(cube) else { continue };
        let square = |name: &str| cx.producer(name).is_some_and(|(_, n)| n.is(MUL) && n.inputs.iter().all(|i| i == x));
        let is_cube = if node.is(POW) {
            node.inputs[0] == *x && is_number(cx, &node.inputs[1], 3.0)?
        } else {
            node.is(MUL) && [(0, 1), (1, 0)].iter().any(|&(a, b)| node.inputs[a] == *x && square(&node.inputs[b]))
        };
        if is_cube {
            return Ok(Some(x));
        }
    }
    Ok(None)
}

/// The nodes after the gate that make `x · 0.5 · (1 + gate)` of it.
struct Tail {
    /// All but the last.
    nodes: Vec<usize>,
    last: usize,
}

fn tail(cx: &PassContext<'_>, gate: &str, x: &str) -> Result<Option<Tail>> {
    let Some((one, sum)) = cx.sole_reader(gate) else { return Ok(None) };
    if beside(cx, sum, ADD, 1.0)? != Some(gate) {
        return Ok(None);
    }
    let (mut nodes, mut at) = (vec![one], sum);
    // Which factors are still to come.
    let (mut half, mut whole) = (true, true);
    while half || whole {
        let made = &at.outputs[0];
        let Some((next, product)) = cx.sole_reader(made).filter(|(_, n)| n.is(MUL)) else { return Ok(None) };
        let other = if product.inputs[0] == *made { &product.inputs[1] } else { &product.inputs[0] };
        let halved = match cx.producer(other) {
            Some((_, n)) => beside(cx, n, MUL, 0.5)? == Some(x),
            None => false,
        };
        if half && is_number(cx, other, 0.5)? {
            half = false;
        } else if whole && other == x {
            whole = false;
        } else if half && whole && halved {
            (half, whole) = (false, false);
        } else {
            return Ok(None);
        }
        nodes.push(next);
        at = product;
    }
    let last = nodes.pop().unwrap_or(one);
    Ok(Some(Tail { nodes, last }))
}
