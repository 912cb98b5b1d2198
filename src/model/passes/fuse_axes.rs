//! Joins nodes that take axes out and put them back: reductions before Unsqueeze, Squeeze after Squeeze.
//!
//! ONNX: [Squeeze](https://onnx.ai/onnx/operators/onnx__Squeeze.html), [Unsqueeze](https://onnx.ai/onnx/operators/onnx__Unsqueeze.html),
//! [ReduceMean](https://onnx.ai/onnx/operators/onnx__ReduceMean.html) and its siblings.

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::graph::{Attr, Node, normalize_axis};
use crate::ops::reduce::is_reduction;
use crate::ops::shape::{SQUEEZE, UNSQUEEZE};
use compresso_base::error::Result;
use std::collections::HashSet;

/// Lets a reduction keep the axes that an Unsqueeze puts back.
#[derive(Debug, Clone, Copy)]
pub struct FuseReduceUnsqueeze;

/// Makes one Squeeze of two.
#[derive(Debug, Clone, Copy)]
pub struct FuseSqueezes;

/// The axes of a node, in order and counted from the front; `None` where they are not constant.
fn axes(cx: &PassContext<'_>, node: &Node, rank: Option<usize>) -> Result<Option<Vec<usize>>> {
    let (Some(list), Some(rank)) = (cx.listed(node, "axes", 1)?, rank) else { return Ok(None) };
    let mut axes = list.into_iter().map(|a| normalize_axis(a, rank)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    Ok(Some(axes))
}

impl Pass for FuseReduceUnsqueeze {
    fn name(&self) -> &'static str {
        "fuse_consecutive_reduce_unsqueeze"
    }
    fn summary(&self) -> &'static str {
        "Lets a reduction keep the axes that an Unsqueeze after it puts back"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (i, unsqueeze) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(UNSQUEEZE)) {
            let Some(value) = unsqueeze.input(0) else { continue };
            let Some((p, reduction)) = cx.producer(value).filter(|(_, n)| is_reduction(n)) else { continue };
            if reduction.get_int("keepdims", 1)? != 0 {
                continue;
            }
            if cx.sole_reader(value).is_none() {
                out.refused.push(format!("{} stays: '{value}' has other readers", unsqueeze.label()));
                continue;
            }
            let whole = reduction.input(0).map(|x| cx.rank(x)).transpose()?.flatten();
            let (taken, put) = (axes(cx, reduction, whole)?, axes(cx, unsqueeze, whole)?);
            if taken.is_none() || taken != put {
                out.refused.push(format!("{} stays: it puts back other axes than {} takes out", unsqueeze.label(), reduction.label()));
                continue;
            }
            out.patch.edit(p).attrs.insert("keepdims".into(), Attr::Int(1));
            out.patch.remove(i);
            out.patch.redirect(&unsqueeze.outputs[0], value);
            out.done.push(format!("{} keeps its axes, {} is removed", reduction.label(), unsqueeze.label()));
        }
        Ok(out)
    }
}

impl Pass for FuseSqueezes {
    fn name(&self) -> &'static str {
        "fuse_consecutive_squeezes"
    }
    fn summary(&self) -> &'static str {
        "Makes one Squeeze of a Squeeze and the one after it"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut touched: HashSet<usize> = HashSet::new();
        for (i, outer) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(SQUEEZE)) {
            let Some(value) = outer.input(0) else { continue };
            let Some((p, inner)) = cx.producer(value).filter(|(_, n)| n.is(SQUEEZE)) else { continue };
            if touched.contains(&p) || touched.contains(&i) {
                continue;
            }
            let Some(source) = inner.input(0) else { continue };
            let first = axes(cx, inner, cx.rank(source)?)?;
            let second = axes(cx, outer, cx.rank(value)?)?;
            let (Some(first), Some(second)) = (first, second) else {
                out.refused.push(format!("{} stays: its axes, or those of {}, are not said", outer.label(), inner.label()));
                continue;
            };
            let rank = first.len() + cx.rank(value)?.unwrap_or_default();
            let left: Vec<usize> = (0..rank).filter(|a| !first.contains(a)).collect();
            let mut all: Vec<i64> = first.iter().chain(second.iter().filter_map(|&a| left.get(a))).map(|&a| a as i64).collect();
            all.sort_unstable();
            let mut joined = Node::new(SQUEEZE, outer.name.clone(), [source], [outer.outputs[0].as_str()]);
            if cx.graph().opset_of(outer) >= 13 {
                let name = out.patch.fresh("squeeze_axes");
                out.patch.set_constant(&name, Constant::ints(&all));
                joined.inputs.push(name);
            } else {
                joined = joined.ints("axes", &all);
            }
            touched.extend([p, i]);
            *out.patch.edit(i) = joined;
            out.done.push(format!("{} takes the axes of {} too", outer.label(), inner.label()));
        }
        Ok(out)
    }
}
