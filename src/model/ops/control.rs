//! Control flow: If, Loop.
//!
//! <https://onnx.ai/onnx/operators/onnx__Loop.html>. A value that a loop carries may be a sequence; one that it collects may not.

use super::def::{OpDef, operators};
use super::facts::fact;
use super::roles::Data;
use super::run::Exec;
use crate::element::Element;
use crate::graph::{Attr, Dim, Fact, Facts, Graph, Infer, Node, infer_with};
use crate::value::Value;
use candle_core::{Device, Tensor};
use compresso_base::error::{Error, Result};
use compresso_base::memory;

operators! {
    pub const IF: &str = "If";
    pub const LOOP: &str = "Loop";
}

/// Bytes that a value takes beside its elements, at the least.
const LEAST: u64 = 256;

/// Operators that run inner graphs: one of two, or one many times.
pub const OPS: &[OpDef] = &[
    OpDef::new(IF, &[1, 11, 13, 16, 19, 21, 23, 24, 25], infer_if, branch).data(Data::At(&[])).not_foldable().sequences(),
    OpDef::new(LOOP, &[1, 11, 13, 16, 19, 21, 23, 24, 25], infer_loop, repeat).data(Data::All).not_foldable().sequences(),
];

pub(super) fn graph<'a>(node: &'a Node, name: &str) -> Result<&'a Graph> {
    match node.attrs.get(name) {
        Some(Attr::Graph(g)) => Ok(g),
        Some(_) => Err(Error::format(format!("attribute '{name}' must be a graph"))),
        None => Err(Error::format(format!("attribute '{name}' is missing"))),
    }
}

/// Facts of an inner graph's outputs, given those of the enclosing one.
pub(super) fn outputs(inner: &Graph, given: &Facts) -> Result<Vec<Fact>> {
    let facts = infer_with(inner, given)?;
    let of = |name: &str| facts.get(name).cloned().ok_or_else(|| Error::format(format!("nothing makes the inner output '{name}'")));
    inner.outputs().iter().map(|o| of(&o.name)).collect()
}

/// What two facts of one value agree on.
pub(super) fn common(a: &Fact, b: &Fact) -> Result<Fact> {
    if a.element != b.element {
        return Err(Error::dtype(format!("the branches give {} and {}", a.element, b.element)));
    }
    let shape = match (&a.shape, &b.shape) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            Some(a.iter().zip(b).map(|(x, y)| if x == y { x.clone() } else { Dim::Unknown }).collect())
        }
        _ => None,
    };
    Ok(fact(a.element, shape))
}

/// The branch of an If whose condition is known; `None` for other nodes.
///
/// # Errors
/// `Format` for branches that are missing.
pub fn taken<'n>(node: &'n Node, facts: &Facts) -> Result<Option<&'n Graph>> {
    let condition = node.input(0).filter(|_| node.is(IF)).and_then(|n| facts.get(n)).and_then(|f| f.constant.as_ref());
    let Some(c) = condition else { return Ok(None) };
    let name = if c.to_i64s()?.first().is_some_and(|&v| v != 0) { "then_branch" } else { "else_branch" };
    graph(node, name).map(Some)
}

fn infer_if(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let (then, other) = (graph(cx.node, "then_branch")?, graph(cx.node, "else_branch")?);
    if let Some(chosen) = taken(cx.node, cx.outer)? {
        return outputs(chosen, cx.outer);
    }
    let (a, b) = (outputs(then, cx.outer)?, outputs(other, cx.outer)?);
    if a.len() != b.len() {
        return Err(Error::format(format!("the branches give {} and {} values", a.len(), b.len())));
    }
    a.iter().zip(&b).map(|(a, b)| common(a, b)).collect()
}

pub(super) fn run(cx: &Exec<'_>, inner: &Graph, feeds: Vec<(String, Value)>) -> Result<Vec<Value>> {
    let run = cx.subgraph.ok_or_else(|| Error::internal("control flow runs only inside a graph"))?;
    run(inner, feeds)
}

fn truth(v: &Value) -> Result<bool> {
    match v.to_i64s()?.as_slice() {
        [v] => Ok(*v != 0),
        _ => Err(Error::shape(format!("the condition must have one element, got {:?}", v.dims()))),
    }
}

fn branch(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let name = if truth(cx.input(0)?)? { "then_branch" } else { "else_branch" };
    run(cx, graph(cx.node, name)?, Vec::new())
}

/// The number of loop-carried values, checked against the body's signature.
fn carried(node: &Node, body: &Graph) -> Result<usize> {
    let n = node.inputs.len().saturating_sub(2);
    let fits = body.inputs().len() == n + 2 && body.outputs().len() == node.outputs.len().max(n) + 1;
    if fits {
        Ok(n)
    } else {
        let (i, o) = (body.inputs().len(), body.outputs().len());
        Err(Error::format(format!("the body has {i} inputs and {o} outputs, which do not fit {n} carried values")))
    }
}

fn infer_loop(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let body = graph(cx.node, "body")?;
    let n = carried(cx.node, body)?;
    let mut given = cx.outer.clone();
    let scalar = |e: Element| Fact::known(e, &[]);
    given.insert(body.inputs()[0].name.clone(), scalar(Element::I64));
    given.insert(body.inputs()[1].name.clone(), scalar(Element::Bool));
    // A carried value may change its sizes from round to round: first with its sizes, then with those that stayed.
    let mut carried: Vec<Fact> = (0..n).map(|i| cx.input(i + 2).map(|f| fact(f.element, f.shape.clone()))).collect::<Result<_>>()?;
    let mut made = Vec::new();
    for _ in 0..2 {
        for (input, f) in body.inputs()[2..].iter().zip(&carried) {
            given.insert(input.name.clone(), f.clone());
        }
        made = outputs(body, &given)?;
        carried = carried.iter().zip(&made[1..]).map(|(a, b)| common(a, b)).collect::<Result<_>>()?;
    }
    let rounds = |f: &Fact| {
        let shape = f.shape.as_ref().map(|s| std::iter::once(Dim::Unknown).chain(s.iter().cloned()).collect());
        fact(f.element, shape)
    };
    Ok(carried.into_iter().chain(made[n + 1..].iter().map(rounds)).collect())
}

/// What a body that never ran has collected of an output.
pub(super) fn unstacked(f: &Fact, device: &Device) -> Result<Value> {
    let dims: Vec<usize> = std::iter::once(0).chain(f.shape.iter().flatten().map(|d| d.known().unwrap_or(0))).collect();
    let storage = f.element.storage().ok_or_else(|| Error::unsupported(format!("{} values cannot be computed with", f.element)))?;
    Value::new(f.element, Tensor::zeros(dims, storage, device)?)
}

fn repeat(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let body = graph(cx.node, "body")?;
    let n = carried(cx.node, body)?;
    let limit = cx.ints(0)?.and_then(|v| v.first().copied());
    let mut go = cx.get(1).map(truth).transpose()?.unwrap_or(true);
    if limit.is_none() && cx.get(1).is_none() {
        return Err(Error::unsupported("a loop without a limit and a condition does not end"));
    }
    let device = cx.device();
    let mut state = (0..n).map(|i| cx.input(i + 2).cloned()).collect::<Result<Vec<_>>>()?;
    let scans = body.outputs().len() - n - 1;
    let mut collected: Vec<Vec<Value>> = vec![Vec::new(); scans];
    let mut round = 0i64;
    let mut bytes = 0u64;
    while go && limit.is_none_or(|l| round < l) {
        if round.unsigned_abs().is_power_of_two() {
            // What is collected has doubled since the last time, and may again.
            memory::claim(bytes.saturating_mul(2), || format!("what {round} rounds collected, twice,"))?;
        }
        let names = body.inputs().iter().map(|i| i.name.clone());
        let head = [Value::new(Element::I64, Tensor::new(round, &device)?)?, Value::bool(Tensor::new(u8::from(go), &device)?)?];
        let mut out = run(cx, body, names.zip(head.into_iter().chain(state)).collect())?.into_iter();
        go = out.next().map(|v| truth(&v)).transpose()?.unwrap_or(false);
        state = out.by_ref().take(n).collect();
        if state.len() != n {
            return Err(Error::format("two outputs of the loop's body have one name"));
        }
        for (all, v) in collected.iter_mut().zip(out) {
            if v.is_sequence() {
                return Err(Error::unsupported("a loop that collects sequences is not supported"));
            }
            bytes = bytes.saturating_add((v.tensor.elem_count() * v.tensor.dtype().size_in_bytes()) as u64 + LEAST);
            all.push(v);
        }
        round += 1;
    }
    let stack = |all: Vec<Value>, i: usize| -> Result<Value> {
        let Some(first) = all.first() else {
            return unstacked(&body.outputs()[n + 1 + i].fact, &device);
        };
        let parts: Vec<&Tensor> = all.iter().map(|v| &v.tensor).collect();
        first.with(Tensor::stack(&parts, 0)?)
    };
    let scanned = collected.into_iter().enumerate().map(|(i, all)| stack(all, i)).collect::<Result<Vec<_>>>()?;
    Ok(state.into_iter().chain(scanned).collect())
}
