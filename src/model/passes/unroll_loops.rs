//! Puts the rounds of a [Loop](https://onnx.ai/onnx/operators/onnx__Loop.html) one after another, where their number is known.

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::element::Element;
use crate::graph::{Attr, Fact, Facts, Graph, Node, infer_with};
use crate::ops::concat::CONCAT;
use crate::ops::control::LOOP;
use crate::ops::shape::UNSQUEEZE;
use candle_core::{Device, Tensor};
use compresso_base::error::{At, Result};
use indexmap::IndexMap;
use std::collections::HashSet;

/// A graph may have as many nodes after unrolling.
const MOST_NODES: usize = 2048;

/// Replaces a Loop of a known number of rounds by its rounds.
#[derive(Debug, Clone, Copy)]
pub struct UnrollLoops;

impl Pass for UnrollLoops {
    fn name(&self) -> &'static str {
        "unroll_loops"
    }
    fn summary(&self) -> &'static str {
        "Replaces a Loop of a known number of rounds by its rounds"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut nodes = cx.graph().nodes().len();
        let mut replaced: HashSet<&str> = HashSet::new();
        for (i, node) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(LOOP)) {
            let Some(Attr::Graph(body)) = node.attrs.get("body") else { continue };
            // Its turn comes when what it reads has another name.
            if node.reads().any(|name| replaced.contains(name)) {
                continue;
            }
            let Some(rounds) = rounds(cx.facts()?, node, body).at(|| node.label())? else {
                out.refused.push(format!("{} stays: how often it runs is not known", node.label()));
                continue;
            };
            let carried = node.inputs.len().saturating_sub(2);
            let scans = body.outputs().len().saturating_sub(carried + 1);
            let fits = body.inputs().len() == carried + 2 && node.outputs.len() <= carried + scans && body.outputs().len() > carried;
            // Nothing says of which sizes a stack of nothing is.
            if !fits || (rounds == 0 && scans > 0) {
                continue;
            }
            let more = rounds.saturating_mul(body.nodes().len() + scans).saturating_add(nodes);
            if more > MOST_NODES {
                out.refused.push(format!("{} stays: {rounds} rounds would be {more} nodes, at most {MOST_NODES} are made", node.label()));
                continue;
            }
            nodes = more;
            unroll(&mut out, cx.graph(), i, body, rounds).at(|| node.label())?;
            replaced.extend(node.outputs.iter().map(String::as_str));
        }
        Ok(out)
    }
}

/// How often a loop runs: its limit, where it goes on whenever it has gone on.
fn rounds(facts: &Facts, node: &Node, body: &Graph) -> Result<Option<usize>> {
    let int = |i: usize| -> Result<Option<i64>> {
        let known = node.input(i).and_then(|n| facts.get(n)).and_then(|f| f.constant.as_ref());
        Ok(known.map(Constant::to_i64s).transpose()?.and_then(|v| v.first().copied()))
    };
    let (limit, go) = (int(0)?, int(1)?);
    if node.input(1).is_some() && go.is_none() {
        return Ok(None);
    }
    if go == Some(0) {
        return Ok(Some(0));
    }
    let (Some(limit), [number, condition, ..]) = (limit, body.inputs()) else { return Ok(None) };
    let mut given = facts.clone();
    given.insert(number.name.clone(), Fact::known(Element::I64, &[]));
    given.insert(condition.name.clone(), Fact::of(&scalar(Element::Bool, 1)?));
    for (input, outer) in body.inputs()[2..].iter().zip(&node.inputs[2..]) {
        let f = facts.get(outer).map_or(Element::F32, |f| f.element);
        given.insert(input.name.clone(), Fact::unranked(f));
    }
    let Ok(inner) = infer_with(body, &given) else { return Ok(None) };
    let goes_on = body.outputs().first().and_then(|o| inner.get(&o.name)).and_then(|f| f.constant.as_ref());
    let always = goes_on.map(Constant::to_i64s).transpose()?.is_some_and(|v| v.first().is_some_and(|&v| v != 0));
    Ok(if always { Some(usize::try_from(limit).unwrap_or(0)) } else { None })
}

fn scalar(element: Element, value: i64) -> Result<Constant> {
    let t = Tensor::new(value, &Device::Cpu)?;
    let storage = element.storage().unwrap_or(t.dtype());
    Constant::from_storage(element, &t.to_dtype(storage)?)
}

fn unroll(out: &mut Rewrite<'_>, graph: &Graph, at: usize, body: &Graph, rounds: usize) -> Result<()> {
    let node = &graph.nodes()[at];
    let carried = node.inputs.len() - 2;
    let mut state = node.inputs[2..].to_vec();
    let mut collected: Vec<Vec<String>> = vec![Vec::new(); body.outputs().len() - carried - 1];
    let mut constants = IndexMap::new();
    let go = out.patch.fresh("go");
    out.patch.set_constant(&go, scalar(Element::Bool, 1)?);
    for round in 0..rounds {
        let number = out.patch.fresh("round");
        out.patch.set_constant(&number, scalar(Element::I64, round as i64)?);
        let inputs: Vec<String> = [number, go.clone()].into_iter().chain(state).collect();
        let mut made = out.patch.inline(body, &inputs, &mut constants)?.into_iter().skip(1);
        state = made.by_ref().take(carried).collect();
        collected.iter_mut().zip(made).for_each(|(all, name)| all.push(name));
    }
    out.patch.remove(at);
    let old = graph.opset() < 13;
    let stacked = collected.into_iter().zip(node.outputs.iter().skip(carried)).filter(|(_, name)| !name.is_empty());
    for (all, name) in stacked {
        let mut rows = Vec::with_capacity(all.len());
        for value in all {
            let row = out.patch.fresh(&format!("{value}_row"));
            let mut unsqueeze = Node::new(UNSQUEEZE, row.clone(), [value], [row.clone()]);
            if old {
                unsqueeze = unsqueeze.ints("axes", &[0]);
            } else {
                let axes = out.patch.fresh("axes");
                out.patch.set_constant(&axes, Constant::ints(&[0]));
                unsqueeze.inputs.push(axes);
            }
            out.patch.add(unsqueeze);
            rows.push(row);
        }
        let concat = out.patch.fresh(&format!("{name}_rows"));
        out.patch.add(Node::new(CONCAT, concat, rows, [name.clone()]).int("axis", 0));
    }
    for (name, end) in node.outputs.iter().zip(&state).filter(|(name, _)| !name.is_empty()) {
        out.patch.redirect(name, end);
    }
    out.done.push(format!("{} is its {rounds} rounds", node.label()));
    Ok(())
}
