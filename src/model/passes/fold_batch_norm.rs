//! Merges a BatchNormalization into the Conv, ConvTranspose or Gemm whose output it alone reads.
//!
//! With `s = scale / sqrt(var + epsilon)` per channel, the weight becomes `w * s` and the bias `(b - mean) * s + shift`
//! ([BatchNormalization](https://onnx.ai/onnx/operators/onnx__BatchNormalization.html)). Computed in float64 and rounded
//! once to the weight's own type.

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::graph::{Attr, Node};
use crate::ops::matmul::GEMM;
use crate::ops::norm::BATCH_NORMALIZATION;
use crate::ops::{self, ChannelAxis, QuantRule};
use compresso_base::error::Result;

/// Merges batch normalizations into the convolution or matrix product before them.
#[derive(Debug, Clone, Copy)]
pub struct FoldBatchNorm;

impl Pass for FoldBatchNorm {
    fn name(&self) -> &'static str {
        "fold_batch_norm"
    }
    fn summary(&self) -> &'static str {
        "Merges batch normalizations into the convolution or matrix product before them"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut folded: Vec<usize> = Vec::new();
        for (i, bn) in cx.graph().nodes().iter().enumerate() {
            if !bn.is(BATCH_NORMALIZATION) {
                continue;
            }
            let Some((p, layer)) = bn.input(0).and_then(|x| cx.producer(x)) else { continue };
            let op = ops::find(layer)?;
            let takes_bias = op.quant == QuantRule::Weighted && op.bias().is_some();
            if !takes_bias || folded.contains(&p) {
                continue;
            }
            match fold(cx, layer, bn).map_err(|e| e.at(bn.label()))? {
                Err(reason) => out.refused.push(format!("{} stays: {reason}", bn.label())),
                Ok(Folded { weight, bias }) => {
                    folded.push(p);
                    let own = |name: &str| cx.sole_reader(name).is_some();
                    let weight_name = layer.inputs[1].clone();
                    let weight_name = if own(&weight_name) { weight_name } else { out.patch.fresh(&format!("{weight_name}_folded")) };
                    let bias_name = match layer.input(2) {
                        Some(b) if own(b) => b.to_string(),
                        _ => {
                            let stem =
                                weight_name.strip_suffix("weight").map_or_else(|| format!("{weight_name}_bias"), |s| format!("{s}bias"));
                            out.patch.fresh(&stem)
                        }
                    };
                    out.patch.set_constant(&weight_name, weight);
                    out.patch.set_constant(&bias_name, bias);
                    let edited = out.patch.edit(p);
                    edited.inputs.truncate(1);
                    edited.inputs.extend([weight_name, bias_name]);
                    if layer.is(GEMM) {
                        edited.attrs.insert("beta".into(), Attr::Float(1.0));
                    }
                    out.patch.remove(i);
                    out.patch.redirect(&bn.outputs[0], &layer.outputs[0]);
                    out.done.push(format!("{} is folded into {}", bn.label(), layer.label()));
                }
            }
        }
        Ok(out)
    }
}

struct Folded {
    weight: Constant,
    bias: Constant,
}

/// The merged weight and bias, or the reason why these two cannot merge.
fn fold(cx: &PassContext<'_>, layer: &Node, bn: &Node) -> Result<Result<Folded, String>> {
    let graph = cx.graph();
    let value = &layer.outputs[0];
    if cx.sole_reader(value).is_none() {
        return Ok(Err(format!("'{value}' has other readers")));
    }
    if bn.get_int("training_mode", 0)? != 0 {
        return Ok(Err("it is in training mode".into()));
    }
    if bn.outputs.iter().skip(1).any(|o| cx.is_used(o)) {
        return Ok(Err("its statistics are read".into()));
    }
    let mut stats = Vec::new();
    for i in 1..5 {
        match bn.input(i).and_then(|n| graph.constant(n)) {
            Some(c) => stats.push(c.to_f64s()?),
            None => return Ok(Err(format!("input {i} is not a constant"))),
        }
    }
    let Some(weight) = layer.input(1).and_then(|n| graph.constant(n)) else {
        return Ok(Err(format!("the weight of {} is not a constant", layer.label())));
    };
    let epsilon = f64::from(bn.get_float("epsilon", 1e-5)?);
    let scale: Vec<f64> = stats[0].iter().zip(&stats[3]).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let channels = scale.len();
    let Some(map) = Channels::of(layer, weight.dims(), channels)? else {
        return Ok(Err(format!("{} and it have different channel counts", layer.label())));
    };
    let mut bias = vec![0.0; channels];
    if let Some(name) = layer.input(2) {
        let Some(c) = graph.constant(name) else { return Ok(Err(format!("the bias of {} is not a constant", layer.label()))) };
        let beta = if layer.is(GEMM) { f64::from(layer.get_float("beta", 1.0)?) } else { 1.0 };
        let values = c.to_f64s()?;
        // Gemm's third input broadcasts to [rows, channels]; only one row of them can be a bias.
        if c.count() != 1 && (c.count() != channels || c.dims().last() != Some(&channels)) {
            return Ok(Err(format!("the bias of {} differs from row to row", layer.label())));
        }
        bias.iter_mut().enumerate().for_each(|(i, b)| *b = beta * values[if values.len() == 1 { 0 } else { i }]);
    }
    let weights: Vec<f64> = weight.to_f64s()?.iter().enumerate().map(|(i, w)| w * scale[map.channel(i)]).collect();
    let bias: Vec<f64> = (0..channels).map(|c| (bias[c] - stats[2][c]) * scale[c] + stats[1][c]).collect();
    if weights.iter().chain(&bias).any(|v| !v.is_finite()) {
        return Ok(Err("its variance gives an infinite or undefined scale".into()));
    }
    let element = weight.element();
    let (weight, bias) = (Constant::rounded(element, weight.dims(), weights)?, Constant::rounded(element, &[channels], bias)?);
    Ok(Ok(Folded { weight, bias }))
}

/// Which output channel each weight element belongs to.
struct Channels {
    /// Elements between neighbouring channels of one group.
    inner: usize,
    /// Channels along the weight's channel axis.
    per_group: usize,
    /// Elements of one group: the whole weight but for a grouped ConvTranspose.
    group: usize,
}

impl Channels {
    fn of(layer: &Node, dims: &[usize], channels: usize) -> Result<Option<Self>> {
        let Some(rule) = ops::find(layer)?.weight else { return Ok(None) };
        let Some(axes) = (rule.axes)(layer, dims.len())? else { return Ok(None) };
        let ChannelAxis { axis, groups } = axes.output;
        if dims.len() <= axis || dims[axis] * groups != channels || !dims[0].is_multiple_of(groups) {
            return Ok(None);
        }
        let count: usize = dims.iter().product();
        Ok(Some(Self { inner: dims[axis + 1..].iter().product(), per_group: dims[axis], group: count / groups }))
    }
    fn channel(&self, element: usize) -> usize {
        let group = element / self.group;
        group * self.per_group + (element / self.inner) % self.per_group
    }
}
