//! Dynamic quantization: int8 weights, and scales of activations computed while the model runs. Needs no data.
//!
//! `Conv(x, w) + b` becomes
//! `Cast(ConvInteger(q, w8)) * (scale_x * scale_w) + b` with `(q, scale_x, zero_x) = DynamicQuantizeLinear(x)`, and
//! likewise MatMul and Gemm with MatMulInteger. Weights are stored as uint8 with zero point 128 for all channels:
//! onnxruntime's CPU provider takes one zero point per weight in ConvInteger, and its older releases no int8 weight at
//! all. ConvTranspose has no integer form: its weight is stored in int8 and multiplied in float.

use super::Settings;
use super::fit;
use super::placement::WeightedNode;
use super::static_int8::dequantized_weight;
use super::weights::{Weight, finite};
use compresso_base::error::{At, Error, Result};
use compresso_model::ops;
use compresso_model::ops::arithmetic::{ADD, MUL};
use compresso_model::ops::cast::CAST;
use compresso_model::ops::conv::CONV;
use compresso_model::ops::matmul::GEMM;
use compresso_model::ops::quantize::DYNAMIC_QUANTIZE_LINEAR;
use compresso_model::{Constant, Element, Graph, Node, Patch, Payload};
use std::collections::HashMap;

/// The graph with these layers computed on integers, or only their weights stored in int8.
pub(super) fn insert(graph: &Graph, layers: &[WeightedNode], settings: &Settings) -> Result<Graph> {
    let mut patch = Patch::new(graph);
    let mut inputs: HashMap<&str, [String; 3]> = HashMap::new();
    let mut stored: HashMap<(String, usize), String> = HashMap::new();
    for layer in layers {
        let node = &graph.nodes()[layer.node];
        let constant = fit::constant(graph, layer)?;
        let integer = settings.integers && integer_op(node)?.is_some();
        if integer {
            let x = node.inputs[0].as_str();
            if !inputs.contains_key(x) {
                inputs.insert(x, quantize_input(&mut patch, x));
            }
            let weight = layer_weight(node, constant, layer, settings).at(|| node.label())?;
            replace(&mut patch, layer, node, &weight, &inputs[x], graph).at(|| node.label())?;
        } else {
            let key = (layer.weight.clone(), layer.axis);
            let name = match stored.get(&key) {
                Some(name) => name.clone(),
                None => {
                    let weight = rounded(node, constant, layer, layer.axis, settings.per_channel, settings).at(|| node.label())?;
                    let name = dequantized_weight(&mut patch, &layer.weight, &weight, settings.stored())?;
                    stored.insert(key, name.clone());
                    name
                }
            };
            let at = node.inputs.iter().position(|n| *n == layer.weight).unwrap_or(1);
            patch.edit(layer.node).inputs[at] = name;
        }
    }
    patch.apply()
}

/// The integer operator that does a node's products, if there is one. None transposes its first input.
fn integer_op(node: &Node) -> Result<Option<&'static str>> {
    let transposed = node.get_int("transA", 0)?;
    let op = ops::find(node)?.weight.and_then(|w| w.integer);
    Ok(op.filter(|_| transposed == 0))
}

/// A weight as the integer operator reads it: Gemm's transposed to `[inputs, outputs]`.
fn layer_weight(node: &Node, constant: &Constant, layer: &WeightedNode, settings: &Settings) -> Result<Weight> {
    let per_channel = settings.per_channel && layer.channel_scales;
    if node.is(GEMM) && node.get_int("transB", 0)? != 0 {
        let t = constant.tensor(&candle_core::Device::Cpu)?.t()?.contiguous()?;
        return rounded(node, &Constant::from_tensor(&t)?, layer, 1, per_channel, settings);
    }
    rounded(node, constant, layer, layer.axis, per_channel, settings)
}

/// A weight under the layer's scales where they are chosen, else under those that suit it.
fn rounded(node: &Node, weight: &Constant, layer: &WeightedNode, axis: usize, per_channel: bool, settings: &Settings) -> Result<Weight> {
    if layer.scales.is_empty() {
        return Weight::quantize(weight, axis, per_channel, settings.weights);
    }
    // The layer's scales are those of the products.
    let alpha = if node.is(GEMM) { node.get_float("alpha", 1.0)? } else { 1.0 };
    let scales = layer.scales.iter().map(|s| s / alpha).collect();
    Ok(Weight::rounded(&finite(weight)?, weight.dims(), axis, settings.weights, scales))
}

/// Adds DynamicQuantizeLinear: names of the quantized value, its scale and its zero point.
fn quantize_input(patch: &mut Patch<'_>, x: &str) -> [String; 3] {
    let names = ["quantized", "scale", "zero_point"].map(|part| patch.fresh(&format!("{x}_{part}")));
    let name = patch.fresh(&format!("{x}_DynamicQuantizeLinear"));
    patch.add(Node::new(DYNAMIC_QUANTIZE_LINEAR, name, [x], names.clone()));
    names
}

fn replace(patch: &mut Patch<'_>, layer: &WeightedNode, node: &Node, weight: &Weight, input: &[String; 3], graph: &Graph) -> Result<()> {
    let op = integer_op(node)?.ok_or_else(|| Error::internal("the layer has an integer form"))?;
    let out = node.outputs[0].clone();
    let stem = layer.weight.clone();
    let [q, zero, scale] = ["quantized", "zero_point", "scale"].map(|part| patch.fresh(&format!("{stem}_{part}")));
    patch.set_constant(&q, weight.unsigned()?);
    patch.set_constant(&zero, Constant::new(Element::U8, vec![], Payload::Raw(vec![128].into()))?);
    let alpha = if node.is(GEMM) { node.get_float("alpha", 1.0)? } else { 1.0 };
    let scales: Vec<f32> = weight.scales.iter().map(|s| s * alpha).collect();
    // Channels stand on axis 1 of a convolution's output, on the last of a matrix product's.
    let spread = |n: usize| if node.is(CONV) { [vec![1, n], vec![1; weight.dims.len() - 2]].concat() } else { vec![n] };
    let one = scales.len() == 1;
    patch.set_constant(&scale, if one { Constant::scalar(scales[0]) } else { Constant::floats(&spread(scales.len()), &scales)? });

    let [sums, floats, step] = ["sums", "floats", "step"].map(|part| patch.fresh(&format!("{out}_{part}")));
    let bias = node.input(2).map(str::to_string);
    let scaled = if bias.is_some() { patch.fresh(&format!("{out}_scaled")) } else { out.clone() };
    let mut product = Node::new(op, node.name.clone(), [&input[0], &q, &input[2], &zero], [&sums]);
    if node.is(CONV) {
        product.attrs = node.attrs.clone();
    }
    patch.remove(layer.node);
    patch.add(product);
    let mut add = |op: &str, inputs: [&str; 2], output: &str| {
        let name = patch.fresh(&format!("{output}_{op}"));
        patch.add(Node::new(op, name, inputs, [output]));
    };
    add(MUL, [&input[1], &scale], &step);
    add(MUL, [&floats, &step], &scaled);
    if let Some(bias) = bias {
        let bias = match (graph.constant(&bias), node.op.as_str()) {
            (Some(c), CONV) => {
                let values = c.to_f32s()?;
                let name = patch.fresh(&format!("{bias}_spread"));
                patch.set_constant(&name, Constant::floats(&spread(values.len()), &values)?);
                name
            }
            (None, CONV) => return Err(Error::unsupported("its bias is computed; fold constants first")),
            (constant, _) => {
                let beta = node.get_float("beta", 1.0)?;
                match constant {
                    _ if beta == 1.0 => bias,
                    Some(c) => {
                        let values: Vec<f32> = c.to_f32s()?.iter().map(|v| v * beta).collect();
                        let name = patch.fresh(&format!("{bias}_scaled"));
                        patch.set_constant(&name, Constant::floats(c.dims(), &values)?);
                        name
                    }
                    None => return Err(Error::unsupported("its bias is computed and beta is not 1")),
                }
            }
        };
        let name = patch.fresh(&format!("{out}_Add"));
        patch.add(Node::new(ADD, name, [&scaled, &bias], [&out]));
    }
    let name = patch.fresh(&format!("{out}_Cast"));
    patch.add(Node::new(CAST, name, [&sums], [&floats]).int("to", i64::from(Element::F32.code())));
    Ok(())
}
