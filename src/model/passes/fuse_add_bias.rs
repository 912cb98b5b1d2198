//! Merges the addition of a vector into the bias of the layer before it.
//!
//! ONNX: [Conv](https://onnx.ai/onnx/operators/onnx__Conv.html), [Add](https://onnx.ai/onnx/operators/onnx__Add.html).

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::graph::Node;
use crate::ops::arithmetic::ADD;
use crate::ops::conv::{CONV, CONV_TRANSPOSE};
use compresso_base::error::Result;
use std::collections::HashSet;

/// Merges the addition of a number per channel into the convolution before it.
#[derive(Debug, Clone, Copy)]
pub struct FuseAddBias;

impl Pass for FuseAddBias {
    fn name(&self) -> &'static str {
        "fuse_add_bias_into_conv"
    }
    fn summary(&self) -> &'static str {
        "Merges the addition of a number per channel into the bias of the convolution before it"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut touched: HashSet<usize> = HashSet::new();
        for (i, add) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(ADD)) {
            for (value, term) in [(0, 1), (1, 0)] {
                let (Some(value), Some(term)) = (add.input(value), add.input(term)) else { continue };
                let Some((p, layer)) = cx.producer(value).filter(|(_, n)| n.is(CONV) || n.is(CONV_TRANSPOSE)) else { continue };
                let Some(term) = cx.graph().constant(term) else { continue };
                if touched.contains(&p) {
                    continue;
                }
                match bias(cx, layer, value, term)? {
                    Err(reason) => out.refused.push(format!("{} stays: {reason}", add.label())),
                    Ok(bias) => {
                        touched.insert(p);
                        let name = out.patch.fresh(&format!("{}_bias", layer.inputs[1]));
                        out.patch.set_constant(&name, bias);
                        let edited = out.patch.edit(p);
                        edited.inputs.truncate(2);
                        edited.inputs.push(name);
                        out.patch.remove(i);
                        out.patch.redirect(&add.outputs[0], value);
                        out.done.push(format!("{} is merged into {}", add.label(), layer.label()));
                    }
                }
                break;
            }
        }
        Ok(out)
    }
}

/// The layer's bias with the term added, or why there is none.
fn bias(cx: &PassContext<'_>, layer: &Node, value: &str, term: &Constant) -> Result<Result<Constant, String>> {
    if cx.sole_reader(value).is_none() {
        return Ok(Err(format!("'{value}' has other readers")));
    }
    let Some(shape) = cx.facts()?.get(value).and_then(|f| f.shape.as_deref()) else {
        return Ok(Err(format!("the shape of '{value}' is not known")));
    };
    let Some(channels) = shape.get(1).and_then(crate::graph::Dim::known) else {
        return Ok(Err("the number of channels is not known".into()));
    };
    // The term's axes are the last ones of the value's: one number, or one for each channel.
    let dims = term.dims();
    let whole = dims.len() <= shape.len()
        && dims.iter().rev().enumerate().all(|(from_end, &d)| d == 1 || d == channels && from_end + 2 == shape.len());
    if !whole {
        return Ok(Err(format!("it adds more than a number per channel, {dims:?}")));
    }
    let old = match layer.input(2) {
        None => None,
        Some(name) => match cx.graph().constant(name) {
            Some(c) => Some(c),
            None => return Ok(Err(format!("the bias of {} is not a constant", layer.label()))),
        },
    };
    let Some(weight) = layer.input(1).and_then(|w| cx.graph().constant(w)) else { return Ok(Err("the weight is not a constant".into())) };
    let element = weight.element();
    if term.element() != element || old.is_some_and(|o| o.element() != element) {
        return Ok(Err("it is of another type than the weight".into()));
    }
    let added = term.to_f64s()?;
    let old = old.map(Constant::to_f64s).transpose()?;
    let at = |values: &[f64], c: usize| values.get(if values.len() == 1 { 0 } else { c }).copied();
    let sum: Option<Vec<f64>> = (0..channels).map(|c| Some(at(&added, c)? + old.as_ref().map_or(Some(0.0), |o| at(o, c))?)).collect();
    let Some(sum) = sum else { return Ok(Err("the bias has another length".into())) };
    Ok(Ok(Constant::rounded(element, &[channels], sum)?))
}
