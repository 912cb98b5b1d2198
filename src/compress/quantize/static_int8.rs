//! Static quantization: scales of activations are fixed by calibration and written into the graph as QuantizeLinear and
//! DequantizeLinear pairs, which onnxruntime and TensorRT turn into int8 kernels.

use super::Settings;
use super::affine::{Affine, Grid};
use super::calibrate::Ranges;
use super::observers::Observe;
use super::placement::{Plan, WeightedNode};
use super::weights::{Weight, int32_bias};
use compresso_base::error::{At, Result};
use compresso_model::ops::quantize::{DEQUANTIZE_LINEAR, QUANTIZE_LINEAR};
use compresso_model::{Attr, Constant, Element, Graph, Node, Patch, Payload};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Takes values out of a plan whose largest channel is more than `limit` times as large as the middle one, unless a layer
/// reads them: one scale would lose their small channels. Returns their names.
pub(super) fn drop_uneven(graph: &Graph, plan: &mut Plan, ranges: &Ranges, limit: f32) -> Vec<String> {
    let needed: HashSet<&str> = plan.layers.iter().filter_map(|l| graph.nodes()[l.node].input(0)).collect();
    let uneven = |name: &str| ranges.get(name).is_some_and(|m| m.spread() > limit);
    let dropped: Vec<String> = plan.values.keys().filter(|v| !needed.contains(v.as_str()) && uneven(v)).cloned().collect();
    plan.values.retain(|v, _| !dropped.contains(v));
    plan.reads.retain(|&(n, i)| !dropped.contains(&graph.nodes()[n].inputs[i]));
    dropped
}

/// The graph with QuantizeLinear/DequantizeLinear where `plan` says.
///
/// # Errors
/// `Missing` for a value without an observed range; `Check` for weights that are not finite.
pub(super) fn insert(graph: &Graph, plan: &Plan, ranges: &Ranges, observer: &Observe, settings: &Settings) -> Result<Graph> {
    let grid = settings.activations;
    let mut groups: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (name, &group) in &plan.values {
        groups.entry(group).or_default().push(name);
    }
    let fit = |(group, names): (usize, Vec<&str>)| Ok((group, Affine::fit(ranges.range(observer, &names, grid)?, grid)));
    let groups: BTreeMap<usize, Affine> = groups.into_iter().map(fit).collect::<Result<_>>()?;
    let mut patch = Patch::new(graph);
    let mut through: HashMap<&str, (String, f32)> = HashMap::new();
    for (name, group) in &plan.values {
        let affine = groups[group];
        through.insert(name, (pair(&mut patch, name, affine, grid)?, affine.scale));
    }
    let mut weights: HashMap<(String, usize), (String, Vec<f32>)> = HashMap::new();
    for layer in &plan.layers {
        let input_scale = through[graph.nodes()[layer.node].inputs[0].as_str()].1;
        quantize_layer(&mut patch, graph, layer, input_scale, settings, &mut weights).at(|| graph.nodes()[layer.node].label())?;
    }
    for &(node, input) in &plan.reads {
        if let Some((name, _)) = through.get(graph.nodes()[node].inputs[input].as_str()) {
            patch.edit(node).inputs[input].clone_from(name);
        }
    }
    patch.apply()
}

/// Adds QuantizeLinear and DequantizeLinear after a value; returns the dequantized value's name.
fn pair(patch: &mut Patch<'_>, value: &str, affine: Affine, grid: Grid) -> Result<String> {
    let names = ["scale", "zero_point", "quantized", "dequantized"].map(|part| patch.fresh(&format!("{value}_{part}")));
    let [scale, zero, quantized, dequantized] = &names;
    patch.set_constant(scale, Constant::scalar(affine.scale));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the zero point lies in the grid of an 8-bit type")]
    let byte = affine.zero_point as u8;
    patch.set_constant(zero, Constant::new(grid.element, vec![], Payload::Raw(vec![byte].into()))?);
    let (q_name, dq_name) = (patch.fresh(&format!("{value}_QuantizeLinear")), patch.fresh(&format!("{value}_DequantizeLinear")));
    patch.add(Node::new(QUANTIZE_LINEAR, q_name, [value, scale.as_str(), zero.as_str()], [quantized]));
    patch.add(Node::new(DEQUANTIZE_LINEAR, dq_name, [quantized, scale, zero], [dequantized]));
    Ok(dequantized.clone())
}

/// Replaces a layer's weight by int8, and its bias by int32 where the target wants that.
fn quantize_layer(
    patch: &mut Patch<'_>,
    graph: &Graph,
    layer: &WeightedNode,
    input_scale: f32,
    settings: &Settings,
    weights: &mut HashMap<(String, usize), (String, Vec<f32>)>,
) -> Result<()> {
    let node = &graph.nodes()[layer.node];
    let bias = node.input(2).and_then(|b| Some((b.to_string(), graph.constant(b)?.clone())));
    let bias = bias.filter(|(_, c)| {
        let one_each = c.element() == Element::F32 && c.dims() == [weights_channels(graph, layer)];
        one_each && settings.rules.int32_bias.iter().any(|op| op.is(graph, node))
    });
    let bias_values = bias.as_ref().map(|(_, c)| c.to_f32s()).transpose()?;
    // Layers that share a weight share its scales too, unless a bias has raised them.
    let key = (layer.weight.clone(), layer.axis);
    let (name, scales) = match weights.get(&key) {
        Some(made) => made.clone(),
        None => {
            let constant =
                graph.constant(&layer.weight).ok_or_else(|| compresso_base::Error::internal("a layer's weight is a constant"))?;
            let limits = bias_values.as_deref().map(|b| (b, input_scale));
            let weight = Weight::quantize(constant, layer.axis, settings.per_channel, settings.weights, limits)?;
            let made = (dequantized_weight(patch, &layer.weight, &weight)?, weight.scales);
            weights.insert(key, made.clone());
            made
        }
    };
    let at = node.inputs.iter().position(|n| *n == layer.weight).unwrap_or(1);
    patch.edit(layer.node).inputs[at] = name;
    if let (Some((bias_name, _)), Some(values)) = (bias, bias_values) {
        let scales: Vec<f32> = scales.iter().map(|s| s * input_scale).collect();
        let [q, scale, dq] = ["quantized", "scale", "dequantized"].map(|part| patch.fresh(&format!("{bias_name}_{part}")));
        patch.set_constant(&q, int32_bias(&values, &scales)?);
        let one = scales.len() == 1;
        patch.set_constant(&scale, if one { Constant::scalar(scales[0]) } else { Constant::floats(&[scales.len()], &scales)? });
        let dq_name = patch.fresh(&format!("{bias_name}_DequantizeLinear"));
        let dequantize = Node::new(DEQUANTIZE_LINEAR, dq_name, [&q, &scale], [&dq]);
        patch.add(if one { dequantize } else { dequantize.int("axis", 0) });
        patch.edit(layer.node).inputs[2] = dq;
    }
    Ok(())
}

fn weights_channels(graph: &Graph, layer: &WeightedNode) -> usize {
    graph.constant(&layer.weight).map_or(0, |c| c.dims()[layer.axis])
}

/// Adds an int8 weight and its DequantizeLinear; returns the dequantized value's name.
pub(super) fn dequantized_weight(patch: &mut Patch<'_>, stem: &str, weight: &Weight) -> Result<String> {
    let [q, scale, zero, dq] = ["quantized", "scale", "zero_point", "dequantized"].map(|part| patch.fresh(&format!("{stem}_{part}")));
    patch.set_constant(&q, weight.signed()?);
    patch.set_constant(&scale, weight.scale()?);
    patch.set_constant(&zero, weight.zero_point()?);
    let name = patch.fresh(&format!("{stem}_DequantizeLinear"));
    let mut node = Node::new(DEQUANTIZE_LINEAR, name, [q, scale, zero], [dq.clone()]);
    if weight.scales.len() > 1 {
        node.attrs.insert("axis".into(), Attr::Int(i64::try_from(weight.axis).unwrap_or(0)));
    }
    patch.add(node);
    Ok(dq)
}
