//! Removes a [ScatterND](https://onnx.ai/onnx/operators/onnx__ScatterND.html) that writes every element, each at its own place, as
//! an assignment to a whole slice is exported.

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::ops::concat::CONCAT;
use crate::ops::scatter::SCATTER_ND;
use crate::ops::shape::UNSQUEEZE;
use crate::ops::transpose::EXPAND;
use compresso_base::error::Result;

/// Removes a ScatterND whose updates are its result.
#[derive(Debug, Clone, Copy)]
pub struct EliminateWholeScatter;

impl Pass for EliminateWholeScatter {
    fn name(&self) -> &'static str {
        "eliminate_whole_scatter"
    }
    fn summary(&self) -> &'static str {
        "Removes a ScatterND that writes every element at its own place"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (i, node) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(SCATTER_ND)) {
            let [data, indices, updates] = &node.inputs[..] else { continue };
            let (Some(dims), Some(written)) = (dims_of(cx, data)?, dims_of(cx, updates)?) else { continue };
            if dims != written || node.get_str("reduction", "none")? != "none" || !is_grid(cx, indices, &dims)? {
                continue;
            }
            if cx.stays(&node.outputs[0]) {
                out.refused.push(format!("{} stays: it gives '{}' its name", node.label(), node.outputs[0]));
                continue;
            }
            out.patch.remove(i);
            out.patch.redirect(&node.outputs[0], updates);
            out.done.push(format!("{} is taken out: it writes all of '{data}'", node.label()));
        }
        Ok(out)
    }
}

fn dims_of(cx: &PassContext<'_>, name: &str) -> Result<Option<Vec<usize>>> {
    Ok(cx.facts()?.get(name).and_then(crate::graph::Fact::dims))
}

fn constant<'c>(cx: &'c PassContext<'_>, name: &str) -> Result<Option<&'c Constant>> {
    Ok(match cx.graph().constant(name) {
        Some(c) => Some(c),
        None => cx.facts()?.get(name).and_then(|f| f.constant.as_ref()),
    })
}

/// True for indices `[…dims, rank]` that are those of their places.
fn is_grid(cx: &PassContext<'_>, indices: &str, dims: &[usize]) -> Result<bool> {
    let rank = dims.len();
    if dims_of(cx, indices)? != Some([dims, &[rank]].concat()) {
        return Ok(false);
    }
    if let Some(c) = constant(cx, indices)? {
        let values = c.to_i64s()?;
        return Ok((0..rank).all(|axis| is_place(values.iter().skip(axis).step_by(rank), dims, axis)));
    }
    let Some((_, concat)) = cx.producer(indices).filter(|(_, n)| n.is(CONCAT)) else { return Ok(false) };
    let last = concat.get_int("axis", 0)?;
    if concat.inputs.len() != rank || last != -1 && usize::try_from(last) != Ok(rank) {
        return Ok(false);
    }
    for (axis, part) in concat.inputs.iter().enumerate() {
        if !counts(cx, part, dims, axis)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True for a value `[…dims, 1]` whose elements are their index along `axis`.
fn counts(cx: &PassContext<'_>, part: &str, dims: &[usize], axis: usize) -> Result<bool> {
    if let Some(c) = constant(cx, part)? {
        return Ok(c.count() == dims.iter().product::<usize>() && is_place(c.to_i64s()?.iter(), dims, axis));
    }
    let Some((_, outer)) = cx.producer(part).filter(|(_, n)| n.is(UNSQUEEZE)) else { return Ok(false) };
    let Some((_, expand)) = cx.producer(&outer.inputs[0]).filter(|(_, n)| n.is(EXPAND)) else { return Ok(false) };
    let whole = dims_of(cx, &expand.outputs[0])?.as_deref() == Some(dims) && dims_of(cx, part)? == Some([dims, &[1]].concat());
    let Some(c) = constant(cx, &expand.inputs[0])? else { return Ok(false) };
    // What is repeated is a line along the axis, or one number along an axis of one.
    let Some(lead) = dims.len().checked_sub(c.dims().len()) else { return Ok(false) };
    let line = c.dims().iter().enumerate().all(|(d, &n)| n == 1 || lead + d == axis);
    Ok(whole && line && c.count() == dims[axis] && c.to_i64s()?.iter().zip(0..).all(|(&v, i)| v == i))
}

/// True for one number for each place of a grid, its index along `axis`.
fn is_place<'v>(values: impl Iterator<Item = &'v i64>, dims: &[usize], axis: usize) -> bool {
    let inner: usize = dims[axis + 1..].iter().product();
    values.enumerate().all(|(at, &v)| usize::try_from(v) == Ok(at / inner % dims[axis]))
}
