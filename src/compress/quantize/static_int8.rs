//! Static quantization: scales of activations are fixed by calibration and written into the graph as QuantizeLinear and
//! DequantizeLinear pairs, which onnxruntime and TensorRT turn into int8 kernels.

use super::Settings;
use super::affine::{Affine, Grid};
use super::bias;
use super::calibrate::Ranges;
use super::fit::{constant, values_of};
use super::placement::{Plan, WeightedNode};
use super::weights::Weight;
use compresso_base::error::{At, Error, Result};
use compresso_model::ops;
use compresso_model::ops::matmul::GEMM;
use compresso_model::ops::quantize::{DEQUANTIZE_LINEAR, QUANTIZE_LINEAR};
use compresso_model::{Attr, Constant, Element, Graph, Node, Patch, Payload};
use std::collections::{HashMap, HashSet};

/// Takes values out of a plan whose largest channel is more than `limit` times as large as the middle one, unless a layer
/// reads them: one scale would lose their small channels. Returns their names.
pub(super) fn drop_uneven(graph: &Graph, plan: &mut Plan, ranges: &Ranges, limit: f32) -> Vec<String> {
    let needed: HashSet<&str> = plan.layers.iter().filter_map(|l| graph.nodes()[l.node].input(0)).collect();
    let uneven = |name: &str| ranges.get(name).is_some_and(|m| m.spread() > limit);
    let dropped: Vec<String> = plan.values.keys().filter(|v| !needed.contains(v.as_str()) && uneven(v)).cloned().collect();
    plan.leave_values(graph, &dropped);
    dropped
}

/// The graph with QuantizeLinear/DequantizeLinear where `plan` says, with these scales of its values.
///
/// # Errors
/// Whatever the patch reports.
pub(super) fn insert(graph: &Graph, plan: &Plan, values: &HashMap<String, Affine>, settings: &Settings) -> Result<Graph> {
    let mut patch = Patch::new(graph);
    let mut through: HashMap<&str, String> = HashMap::new();
    let (makers, readers) = (graph.producers(), graph.consumers());
    for name in plan.values.keys() {
        let affine = values.get(name).ok_or_else(|| Error::internal("what a plan rounds has a scale"))?;
        let maker = makers.get(name.as_str()).filter(|_| settings.rules.ends && graph.is_output(name));
        let Some(&maker) = maker else {
            let to = patch.fresh(&format!("{name}_dequantized"));
            pair(&mut patch, name, [name, &to], *affine, settings.activations)?;
            through.insert(name, to);
            continue;
        };
        // What the graph gives away is the rounded number, under the old name.
        let exact = patch.fresh(&format!("{name}_exact"));
        patch.edit(maker).outputs.iter_mut().filter(|o| *o == name).for_each(|o| o.clone_from(&exact));
        for &reader in readers.get(name.as_str()).into_iter().flatten() {
            for (input, read) in graph.nodes()[reader].inputs.iter().enumerate() {
                if read == name && !plan.reads.contains(&(reader, input)) {
                    patch.edit(reader).inputs[input].clone_from(&exact);
                }
            }
        }
        pair(&mut patch, name, [&exact, name], *affine, settings.activations)?;
    }
    let mut weights = HashMap::new();
    for layer in &plan.layers {
        let node = &graph.nodes()[layer.node];
        let input = values.get(&node.inputs[0]).ok_or_else(|| Error::internal("what a layer of a plan reads has a scale"))?;
        quantize_layer(&mut patch, graph, layer, input.scale, settings, &mut weights).at(|| node.label())?;
    }
    for &(node, input) in &plan.reads {
        if let Some(name) = through.get(graph.nodes()[node].inputs[input].as_str()) {
            patch.edit(node).inputs[input].clone_from(name);
        }
    }
    patch.apply()
}

/// Adds QuantizeLinear and DequantizeLinear between two names, called after `value`.
fn pair(patch: &mut Patch<'_>, value: &str, [exact, dequantized]: [&str; 2], affine: Affine, grid: Grid) -> Result<()> {
    let [scale, zero, quantized] = &["scale", "zero_point", "quantized"].map(|part| patch.fresh(&format!("{value}_{part}")));
    patch.set_constant(scale, Constant::scalar(affine.scale));
    let bytes = affine.zero_point.to_le_bytes()[..if grid.element == Element::I16 { 2 } else { 1 }].to_vec();
    patch.set_constant(zero, Constant::new(grid.element, vec![], Payload::Raw(bytes.into()))?);
    let (q_name, dq_name) = (patch.fresh(&format!("{value}_QuantizeLinear")), patch.fresh(&format!("{value}_DequantizeLinear")));
    patch.add(Node::new(QUANTIZE_LINEAR, q_name, [exact, scale.as_str(), zero.as_str()], [quantized]));
    patch.add(Node::new(DEQUANTIZE_LINEAR, dq_name, [quantized, scale, zero], [dequantized]));
    Ok(())
}

/// What makes two quantized weights the same: the constant, its axis, the bits of what Gemm multiplies it with, those of its scales.
type Key = (String, usize, u32, Vec<u32>);

/// Replaces a layer's weight by int8, and its bias by int32 where the target wants that.
fn quantize_layer(
    patch: &mut Patch<'_>,
    graph: &Graph,
    layer: &WeightedNode,
    input_scale: f32,
    settings: &Settings,
    weights: &mut HashMap<Key, String>,
) -> Result<()> {
    let node = &graph.nodes()[layer.node];
    let lost = || Error::internal("a layer of a plan has a weight");
    let rule = ops::find(node)?.weight.ok_or_else(lost)?;
    let channels = ops::layer_weight(graph, node)?.ok_or_else(lost)?.output_channels();
    // Layers that share a weight share its integers too, unless a bias asks for other scales.
    let alpha = if node.is(GEMM) { node.get_float("alpha", 1.0)? } else { 1.0 };
    let key = (layer.weight.clone(), layer.axis, alpha.to_bits(), layer.scales.iter().map(|s| s.to_bits()).collect());
    let name = match weights.get(&key) {
        Some(name) => name.clone(),
        None => {
            let dims = constant(graph, layer)?.dims();
            let weight = Weight::rounded(&values_of(graph, layer)?, dims, layer.axis, settings.weights, layer.scales.clone());
            let name = dequantized_weight(patch, &layer.weight, &weight, Element::I8)?;
            weights.insert(key, name.clone());
            name
        }
    };
    let edited = patch.edit(layer.node);
    edited.inputs[rule.input] = name;
    if alpha != 1.0 {
        edited.attrs.shift_remove("alpha");
    }
    let Some((input, values)) = bias::of_layer(graph, node, channels)? else { return Ok(()) };
    if !settings.rules.int32_bias.iter().any(|op| op.is(graph, node)) {
        return Ok(());
    }
    let (integers, scales) = bias::int32(&values, &layer.scales, input_scale)?;
    let stem = node.inputs[input].clone();
    let [q, scale, dq] = ["quantized", "scale", "dequantized"].map(|part| patch.fresh(&format!("{stem}_{part}")));
    patch.set_constant(&q, integers);
    let one = scales.len() == 1;
    patch.set_constant(&scale, if one { Constant::scalar(scales[0]) } else { Constant::floats(&[scales.len()], &scales)? });
    let dq_name = patch.fresh(&format!("{stem}_DequantizeLinear"));
    let dequantize = Node::new(DEQUANTIZE_LINEAR, dq_name, [&q, &scale], [&dq]);
    patch.add(if one { dequantize } else { dequantize.int("axis", 0) });
    let edited = patch.edit(layer.node);
    edited.inputs[input] = dq;
    if node.is(GEMM) {
        edited.attrs.shift_remove("beta");
    }
    Ok(())
}

/// Adds an int8 or int4 weight and its DequantizeLinear; returns the dequantized value's name.
pub(super) fn dequantized_weight(patch: &mut Patch<'_>, stem: &str, weight: &Weight, element: Element) -> Result<String> {
    let [q, scale, zero, dq] = ["quantized", "scale", "zero_point", "dequantized"].map(|part| patch.fresh(&format!("{stem}_{part}")));
    patch.set_constant(&scale, weight.scale()?);
    let mut inputs = vec![q.clone(), scale];
    if element == Element::I4 {
        patch.set_constant(&q, weight.packed()?);
    } else {
        patch.set_constant(&q, weight.signed()?);
        patch.set_constant(&zero, weight.zero_point()?);
        inputs.push(zero);
    }
    let name = patch.fresh(&format!("{stem}_DequantizeLinear"));
    let mut node = Node::new(DEQUANTIZE_LINEAR, name, inputs, [dq.clone()]);
    if weight.scales.len() > 1 {
        node.attrs.insert("axis".into(), Attr::Int(i64::try_from(weight.axis).unwrap_or(0)));
    }
    patch.add(node);
    Ok(dq)
}
