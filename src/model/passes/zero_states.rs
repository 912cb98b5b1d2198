//! Leaves out initial states of recurrent layers ([LSTM](https://onnx.ai/onnx/operators/onnx__LSTM.html)) that are zero: that is what a
//! state is that is not given. Exporters make such from the shape of the data, or share one constant among layers.

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::ops::constant::CONSTANT_OF_SHAPE;
use crate::ops::{self, recurrent};
use compresso_base::error::Result;

/// Leaves out initial states that are zero.
#[derive(Debug, Clone, Copy)]
pub struct ZeroStates;

impl Pass for ZeroStates {
    fn name(&self) -> &'static str {
        "zero_states"
    }
    fn summary(&self) -> &'static str {
        "Leaves out initial states of recurrent layers that are zero"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        for (i, node) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| recurrent::is_recurrent(n)) {
            for slot in recurrent::STATES {
                let Some(state) = node.input(slot) else { continue };
                if is_zero(cx, state)? {
                    out.patch.edit(i).inputs[slot].clear();
                    out.done.push(format!("{} starts at zero without '{state}'", node.label()));
                }
            }
        }
        Ok(out)
    }
}

/// True for a value of which it is known that all of it is zero.
fn is_zero(cx: &PassContext<'_>, value: &str) -> Result<bool> {
    let mut stack = vec![value];
    while let Some(name) = stack.pop() {
        if let Some(c) = cx.graph().constant(name) {
            if !zeros(c)? {
                return Ok(false);
            }
            continue;
        }
        let Some((_, maker)) = cx.producer(name) else { return Ok(false) };
        if maker.is(CONSTANT_OF_SHAPE) {
            // Without a value it is filled with zero.
            if !maker.find_tensor("value")?.map_or(Ok(true), zeros)? {
                return Ok(false);
            }
        } else if ops::moves(maker) {
            // The same elements in other places.
            stack.extend(ops::find(maker)?.data_inputs(maker).map(|(_, name)| name));
        } else {
            return Ok(false);
        }
    }
    Ok(true)
}

fn zeros(c: &Constant) -> Result<bool> {
    Ok(c.element().is_float() && c.to_f64s()?.iter().all(|&v| v == 0.0))
}
