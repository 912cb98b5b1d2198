//! Lets ArgMax read what a growing function reads: the largest element stays the largest, but for those that rounding makes equal.
//!
//! ONNX: [ArgMax](https://onnx.ai/onnx/operators/onnx__ArgMax.html),
//! [Softmax](https://onnx.ai/onnx/operators/onnx__Softmax.html).

use super::{Pass, PassContext, Rewrite};
use crate::graph::{Node, normalize_axis};
use crate::ops::math::{EXP, LOG, SQRT};
use crate::ops::order::ARG_MAX;
use crate::ops::softmax::{LOG_SOFTMAX, SOFTMAX};
use compresso_base::error::Result;

/// Takes functions that keep the order from before ArgMax.
#[derive(Debug, Clone, Copy)]
pub struct MonotoneArgMax;

impl Pass for MonotoneArgMax {
    fn name(&self) -> &'static str {
        "eliminate_nop_monotone_argmax"
    }
    fn summary(&self) -> &'static str {
        "Lets ArgMax read what a Softmax, LogSoftmax, Log, Exp or Sqrt before it reads"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (i, node) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(ARG_MAX)) {
            let Some((_, before)) = node.input(0).and_then(|x| cx.producer(x)) else { continue };
            let Some(source) = before.input(0) else { continue };
            match keeps_order(cx, node, before)? {
                Some(true) => {
                    out.patch.edit(i).inputs[0] = source.to_string();
                    out.done.push(format!("{} reads '{source}', past {}", node.label(), before.label()));
                }
                Some(false) => out.refused.push(format!("{} stays before {}: its axis is another", before.label(), node.label())),
                None => {}
            }
        }
        Ok(out)
    }
}

/// Whether the largest element along the axis is the largest before; `None` for other functions.
fn keeps_order(cx: &PassContext<'_>, argmax: &Node, before: &Node) -> Result<Option<bool>> {
    if [EXP, LOG, SQRT].iter().any(|op| before.is(op)) {
        return Ok(Some(true));
    }
    if !before.is(SOFTMAX) && !before.is(LOG_SOFTMAX) {
        return Ok(None);
    }
    let Some(rank) = before.input(0).map(|x| cx.rank(x)).transpose()?.flatten() else { return Ok(None) };
    let along = normalize_axis(argmax.get_int("axis", 0)?, rank)?;
    // Up to operator set 12 all axes from the named one on are divided by one sum.
    let flat = cx.graph().opset_of(before) < 13;
    let over = normalize_axis(before.get_int("axis", if flat { 1 } else { -1 })?, rank)?;
    Ok(Some(if flat { along >= over } else { along == over }))
}
