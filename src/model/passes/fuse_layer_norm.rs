//! Joins the nodes that exporters write for
//! [LayerNormalization](https://onnx.ai/onnx/operators/onnx__LayerNormalization.html) over the last axis:
//! `d / √(mean(d²) + ε) · scale + bias` with `d = x − mean(x)`.
//!
//! LayerNormalization came with operator set 17: in older graphs the results are for this library's executors, not for files.

use super::{Pass, PassContext, Rewrite};
use crate::graph::{Node, normalize_axis};
use crate::ops::arithmetic::{ADD, DIV, MUL, POW, SUB};
use crate::ops::math::SQRT;
use crate::ops::norm::LAYER_NORMALIZATION;
use crate::ops::reduce::REDUCE_MEAN;
use compresso_base::error::Result;

/// Joins the nodes of a layer normalization.
#[derive(Debug, Clone, Copy)]
pub struct FuseLayerNorm;

impl Pass for FuseLayerNorm {
    fn name(&self) -> &'static str {
        "fuse_layer_norm"
    }
    fn summary(&self) -> &'static str {
        "Joins the nodes of a layer normalization over the last axis"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (root, sqrt) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(SQRT)) {
            let Some(found) = standardized(cx, sqrt)? else { continue };
            let quotient = &cx.graph().nodes()[found.quotient].outputs[0];
            let Some((product, scale)) = vector(cx, quotient, MUL, found.size)? else {
                out.refused.push(format!("{} stays: no scale for each of {} numbers comes after '{quotient}'", sqrt.label(), found.size));
                continue;
            };
            let mut inputs = vec![found.x.to_string(), scale.to_string()];
            let mut last = product;
            let mut taken = vec![root, found.quotient];
            if let Some((sum, bias)) = vector(cx, &cx.graph().nodes()[product].outputs[0], ADD, found.size)? {
                inputs.push(bias.to_string());
                taken.push(product);
                last = sum;
            }
            let reader = &cx.graph().nodes()[last];
            let made = &reader.outputs[0];
            if cx.rank(made)? != cx.rank(found.x)? {
                out.refused.push(format!("{} stays: its scale has more axes than '{}'", sqrt.label(), found.x));
                continue;
            }
            taken.iter().for_each(|&n| out.patch.remove(n));
            let joined = Node::new(LAYER_NORMALIZATION, reader.name.clone(), inputs, vec![made.clone()]);
            out.done.push(format!("{} and the nodes around it become LayerNormalization", sqrt.label()));
            *out.patch.edit(last) = joined.int("axis", -1).float("epsilon", found.epsilon as f32);
        }
        Ok(out)
    }
}

/// `(x − mean(x)) / √(mean((x − mean(x))²) + ε)`
struct Standardized<'g> {
    x: &'g str,
    epsilon: f64,
    /// The node that divides.
    quotient: usize,
    /// Numbers of the last axis.
    size: usize,
}

fn standardized<'g>(cx: &PassContext<'g>, sqrt: &'g Node) -> Result<Option<Standardized<'g>>> {
    let Some((_, sum)) = cx.producer(&sqrt.inputs[0]).filter(|(_, n)| n.is(ADD)) else { return Ok(None) };
    let Some((variance, epsilon)) = beside_number(cx, sum)? else { return Ok(None) };
    let Some(squares) = mean_of(cx, variance)? else { return Ok(None) };
    let Some((_, square)) = cx.producer(squares) else { return Ok(None) };
    let squared =
        if square.is(POW) { cx.number(&square.inputs[1])? == Some(2.0) } else { square.is(MUL) && square.inputs[0] == square.inputs[1] };
    if !squared {
        return Ok(None);
    }
    let Some((_, inner)) = cx.producer(&square.inputs[0]).filter(|(_, n)| n.is(SUB)) else { return Ok(None) };
    let x = inner.inputs[0].as_str();
    if mean_of(cx, &inner.inputs[1])? != Some(x) {
        return Ok(None);
    }
    let Some((quotient, division)) = cx.sole_reader(&sqrt.outputs[0]) else { return Ok(None) };
    if !division.is(DIV) || division.inputs[1] != sqrt.outputs[0] {
        return Ok(None);
    }
    // Old exporters subtract the mean twice.
    let Some((_, outer)) = cx.producer(&division.inputs[0]) else { return Ok(None) };
    let same = outer.outputs == inner.outputs || outer.is(SUB) && outer.inputs[0] == x && mean_of(cx, &outer.inputs[1])? == Some(x);
    let size = cx.facts()?.get(x).and_then(|f| f.shape.as_ref()?.last()?.known());
    Ok(size.filter(|_| same).map(|size| Standardized { x, epsilon, quotient, size }))
}

/// What a value is the mean of over the last axis, which stays with size 1.
fn mean_of<'g>(cx: &PassContext<'g>, value: &str) -> Result<Option<&'g str>> {
    let Some((_, node)) = cx.producer(value).filter(|(_, n)| n.is(REDUCE_MEAN)) else { return Ok(None) };
    let (Some(axes), Some(rank)) = (cx.listed(node, "axes", 1)?, cx.rank(&node.inputs[0])?) else { return Ok(None) };
    let last = match axes.as_slice() {
        &[axis] => normalize_axis(axis, rank)? + 1 == rank,
        _ => false,
    };
    Ok((last && node.get_int("keepdims", 1)? != 0).then_some(node.inputs[0].as_str()))
}

/// A value and the number that is added to it.
fn beside_number<'g>(cx: &PassContext<'g>, sum: &'g Node) -> Result<Option<(&'g str, f64)>> {
    for (value, constant) in [(0, 1), (1, 0)] {
        if let Some(v) = cx.number(&sum.inputs[constant])? {
            return Ok(Some((&sum.inputs[value], v)));
        }
    }
    Ok(None)
}

/// The node that alone reads a value, and its other operand, a vector of `size` numbers along the last axis.
fn vector<'g>(cx: &PassContext<'g>, value: &str, op: &str, size: usize) -> Result<Option<(usize, &'g str)>> {
    let Some((i, node)) = cx.sole_reader(value).filter(|(_, n)| n.is(op)) else { return Ok(None) };
    let other = if node.inputs[0] == value { &node.inputs[1] } else { &node.inputs[0] };
    let dims = cx.facts()?.get(other).and_then(crate::graph::Fact::dims);
    Ok((dims.as_deref() == Some(&[size]) && other != value).then_some((i, other.as_str())))
}
