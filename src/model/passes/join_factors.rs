//! Multiplies small factors with each other before they are multiplied with a large value, as after a response normalization:
//! `(x · a) · b` becomes `x · (a · b)`, and `x + (x · a + b)` becomes `x · (a + 1) + b`, where `a` and `b` are repeated over `x`.
//!
//! ONNX: [Mul](https://onnx.ai/onnx/operators/onnx__Mul.html), [Add](https://onnx.ai/onnx/operators/onnx__Add.html).

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::element::Element;
use crate::graph::Node;
use crate::ops::arithmetic::{ADD, MUL};
use compresso_base::error::Result;
use std::collections::HashSet;

/// Joins small factors of a large value.
#[derive(Debug, Clone, Copy)]
pub struct JoinFactors;

/// A large value has at least so many times the elements of what is repeated over it.
const LARGER: usize = 8;

impl Pass for JoinFactors {
    fn name(&self) -> &'static str {
        "join_factors"
    }
    fn summary(&self) -> &'static str {
        "Multiplies small factors with each other before a large value"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut touched: HashSet<usize> = HashSet::new();
        for (i, node) in cx.graph().nodes().iter().enumerate() {
            let nodes: Vec<usize>;
            if let Some((inner, [x, a, b])) = factors(cx, node)? {
                nodes = vec![i, inner];
                if nodes.iter().any(|n| touched.contains(n)) {
                    continue;
                }
                let factor = out.patch.op(MUL, "factor", [a, b], |n| n);
                out.patch.remove(inner);
                out.patch.edit(i).inputs = vec![x.to_string(), factor];
                let before = cx.graph().nodes()[inner].label();
                out.done.push(format!("the factors of {before} and {} are multiplied with each other", node.label()));
            } else if let Some(Residual { product, sum, x, a, b }) = residual(cx, node)? {
                nodes = [i, product].into_iter().chain(sum).collect();
                if nodes.iter().any(|n| touched.contains(n)) {
                    continue;
                }
                let one = out.patch.constant("one", Constant::scalar(1.0));
                let factor = out.patch.op(ADD, "factor", [a, one.as_str()], |n| n);
                if let (Some(sum), Some(b)) = (sum, b) {
                    let made = cx.graph().nodes()[product].outputs[0].clone();
                    out.patch.edit(product).inputs = vec![x.to_string(), factor];
                    out.patch.remove(sum);
                    out.patch.edit(i).inputs = vec![made, b.to_string()];
                } else {
                    out.patch.remove(product);
                    let joined = out.patch.edit(i);
                    joined.op = MUL.to_string();
                    joined.inputs = vec![x.to_string(), factor];
                }
                out.done.push(format!("{} adds what its other operand is a multiple of: the factor is one larger instead", node.label()));
            } else {
                continue;
            }
            touched.extend(nodes);
        }
        Ok(out)
    }
}

/// The product before a product, and the large value and the two factors of the two.
fn factors<'g>(cx: &PassContext<'g>, node: &'g Node) -> Result<Option<(usize, [&'g str; 3])>> {
    if !node.is(MUL) {
        return Ok(None);
    }
    for (v, b) in [(0, 1), (1, 0)] {
        let (v, b) = (&node.inputs[v], &node.inputs[b]);
        let Some((inner, x, a)) = product(cx, v)? else { continue };
        if is_small(cx, b, x)? && b != v {
            return Ok(Some((inner, [x, a, b.as_str()])));
        }
    }
    Ok(None)
}

/// `x + x · a` or `x + (x · a + b)`
struct Residual<'g> {
    product: usize,
    sum: Option<usize>,
    x: &'g str,
    a: &'g str,
    b: Option<&'g str>,
}

fn residual<'g>(cx: &PassContext<'g>, node: &'g Node) -> Result<Option<Residual<'g>>> {
    if !node.is(ADD) {
        return Ok(None);
    }
    for (x, t) in [(0, 1), (1, 0)] {
        let (x, t) = (node.inputs[x].as_str(), node.inputs[t].as_str());
        if let Some((product, of, a)) = product(cx, t)?.filter(|found| found.1 == x) {
            return Ok(Some(Residual { product, sum: None, x: of, a, b: None }));
        }
        let Some((sum, inner)) = cx.producer(t).filter(|(_, n)| n.is(ADD) && cx.sole_reader(t).is_some()) else { continue };
        for (m, b) in [(0, 1), (1, 0)] {
            let (m, b) = (inner.inputs[m].as_str(), inner.inputs[b].as_str());
            if let Some((product, of, a)) = product(cx, m)?.filter(|found| found.1 == x)
                && is_small(cx, b, x)?
            {
                return Ok(Some(Residual { product, sum: Some(sum), x: of, a, b: Some(b) }));
            }
        }
    }
    Ok(None)
}

/// The node that makes a value, which one node reads, of a large value and a small factor; those two.
fn product<'g>(cx: &PassContext<'g>, value: &str) -> Result<Option<(usize, &'g str, &'g str)>> {
    let Some((i, node)) = cx.producer(value).filter(|(_, n)| n.is(MUL) && cx.sole_reader(value).is_some()) else { return Ok(None) };
    for (x, a) in [(0, 1), (1, 0)] {
        if is_small(cx, &node.inputs[a], &node.inputs[x])? {
            return Ok(Some((i, node.inputs[x].as_str(), node.inputs[a].as_str())));
        }
    }
    Ok(None)
}

/// True for floats that are repeated over `x`, which has many more.
fn is_small(cx: &PassContext<'_>, factor: &str, x: &str) -> Result<bool> {
    let facts = cx.facts()?;
    let (Some(f), Some(whole)) = (facts.get(factor), facts.get(x)) else { return Ok(false) };
    let (Some(small), Some(large)) = (f.dims(), whole.dims()) else { return Ok(false) };
    let Some(lead) = large.len().checked_sub(small.len()) else { return Ok(false) };
    let repeated = small.iter().zip(&large[lead..]).all(|(&s, &l)| s == 1 || s == l);
    let count = |d: &[usize]| d.iter().product::<usize>();
    Ok(f.element == Element::F32 && whole.element == Element::F32 && repeated && count(&small).saturating_mul(LARGER) <= count(&large))
}
