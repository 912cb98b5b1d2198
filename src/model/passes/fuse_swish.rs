//! Joins activations that exporters write as two nodes: `x · sigmoid(x)` becomes
//! [Swish](https://onnx.ai/onnx/operators/onnx__Swish.html), `x · hard_sigmoid(x)`
//! [HardSwish](https://onnx.ai/onnx/operators/onnx__HardSwish.html), and an activation after a BatchNormalization part of it.
//!
//! Swish came with operator set 24, and the joined batch norm is an operator of this library's own: the results are for
//! this library's executors, not for files.

use super::{Pass, PassContext, Rewrite};
use crate::graph::{Attr, Node};
use crate::ops::OWN_DOMAIN;
use crate::ops::activation::{self, HARD_SIGMOID, HARD_SWISH, SIGMOID, SWISH};
use crate::ops::arithmetic::MUL;
use crate::ops::constant::CONSTANT;
use crate::ops::norm::{BATCH_NORM_ACTIVATION, BATCH_NORMALIZATION, with_then};
use compresso_base::error::Result;
use compresso_kernels::norm::Then;

/// Joins `x · sigmoid(x)` to Swish.
#[derive(Debug, Clone, Copy)]
pub struct FuseSwish;

impl Pass for FuseSwish {
    fn name(&self) -> &'static str {
        "fuse_swish"
    }
    fn summary(&self) -> &'static str {
        "Joins x · sigmoid(x), written as two nodes, to Swish"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        join(cx, SWISH, |gate| Ok(gate.is(SIGMOID)))
    }
}

/// Joins `x · hard_sigmoid(x)` to HardSwish.
#[derive(Debug, Clone, Copy)]
pub struct FuseHardSwish;

impl Pass for FuseHardSwish {
    fn name(&self) -> &'static str {
        "fuse_hard_swish"
    }
    fn summary(&self) -> &'static str {
        "Joins x · hard_sigmoid(x), written as two nodes, to HardSwish"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        join(cx, HARD_SWISH, |gate| {
            // HardSwish is defined with slope 1/6 and offset 1/2.
            Ok(gate.is(HARD_SIGMOID) && (gate.get_float("alpha", 0.2)? - 1.0 / 6.0).abs() <= 1e-6 && gate.get_float("beta", 0.5)? == 0.5)
        })
    }
}

/// Joins each gate and the product of its input with its output, its only reader.
fn join<'g>(cx: &PassContext<'g>, op: &str, is_gate: impl Fn(&Node) -> Result<bool>) -> Result<Rewrite<'g>> {
    let mut out = cx.rewrite();
    for (i, gate) in cx.graph().nodes().iter().enumerate() {
        if !is_gate(gate).map_err(|e| e.at(gate.label()))? {
            continue;
        }
        let (Some(x), Some(s)) = (gate.input(0), gate.output(0)) else { continue };
        let Some((reader, product)) = cx.sole_reader(s) else { continue };
        let both = product.inputs.len() == 2 && product.inputs.iter().any(|n| n == x) && product.inputs.iter().any(|n| n == s);
        if !product.is(MUL) || !both {
            continue;
        }
        out.patch.remove(i);
        let joined = out.patch.edit(reader);
        joined.op = op.to_string();
        joined.inputs = vec![x.to_string()];
        out.done.push(format!("{} and {} become {op}", gate.label(), product.label()));
    }
    Ok(out)
}

/// Joins a BatchNormalization and the activation that alone reads it.
#[derive(Debug, Clone, Copy)]
pub struct FuseBatchNormActivation;

impl Pass for FuseBatchNormActivation {
    fn name(&self) -> &'static str {
        "fuse_batch_norm_activation"
    }
    fn summary(&self) -> &'static str {
        "Joins a batch normalization and the activation after it"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let graph = cx.graph();
        // Bounds of Clip are initializers or nodes of their own.
        let held = |name: &str| match cx.producer(name) {
            Some((_, node)) if node.is(CONSTANT) => match node.attrs.get("value") {
                Some(Attr::Tensor(c)) => Some(c),
                _ => None,
            },
            Some(_) => None,
            None => graph.constant(name),
        };
        let mut out = cx.rewrite();
        for (i, norm) in graph.nodes().iter().enumerate() {
            // Running statistics are reported beside the outputs.
            let read = |o: &String| !o.is_empty() && (cx.stays(o) || !cx.readers(o).is_empty());
            if !norm.is(BATCH_NORMALIZATION) || norm.outputs.iter().skip(1).any(read) {
                continue;
            }
            let Some(x) = norm.output(0) else { continue };
            let Some((reader, after)) = cx.sole_reader(x).filter(|(_, after)| after.input(0) == Some(x)) else { continue };
            let label = after.label();
            let function = activation::of_node(after, graph.opset_of(after), &held).map_err(|e| e.at(label.clone()))?;
            let Some(then) = function.and_then(Then::of) else { continue };
            out.patch.remove(i);
            let joined = out.patch.edit(reader);
            (joined.op, joined.domain) = (BATCH_NORM_ACTIVATION.to_string(), OWN_DOMAIN.to_string());
            (joined.inputs, joined.attrs) = (norm.inputs.clone(), norm.attrs.clone());
            with_then(&mut joined.attrs, then);
            out.done.push(format!("{} and {label} become {BATCH_NORM_ACTIVATION}", norm.label()));
        }
        Ok(out)
    }
}
