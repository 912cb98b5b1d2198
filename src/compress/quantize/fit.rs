//! The scales of what a plan rounds.

use super::Settings;
use super::affine::Affine;
use super::bias;
use super::calibrate::Ranges;
use super::observers::Observe;
use super::placement::{Plan, WeightedNode};
use super::weights::{best, finite};
use compresso_base::error::{At, Error, Result};
use compresso_model::ops::matmul::GEMM;
use compresso_model::{Constant, Graph, ops};
use std::collections::{BTreeMap, HashMap};

/// What was chosen for values by measured error: the scale, and whose range it is.
pub(super) type Chosen = HashMap<String, (Affine, &'static str)>;

/// What a plan is rounded with.
pub(super) enum Fit {
    /// The scales of its values by name; those of its layers' weights are in the plan.
    Scales(HashMap<String, Affine>),
    /// Layers that have no good scale, by their nodes, and why: the plan must do without them.
    Left(Vec<(usize, String)>),
}

/// Chooses scales of the plan's values, where they are not `chosen` already, and of its layers' weights. Values of which
/// calibration saw zeros alone leave the plan.
///
/// # Errors
/// `Check` for weights and biases that are not finite.
pub(super) fn fit(
    graph: &Graph,
    plan: &mut Plan,
    ranges: &Ranges,
    observer: &Observe,
    chosen: &Chosen,
    settings: &Settings,
) -> Result<Fit> {
    let (values, silent) = values(plan, ranges, observer, chosen, settings)?;
    let readers = plan.layers.iter().map(|l| (l.node, &graph.nodes()[l.node].inputs[0])).filter(|(_, x)| silent.contains(x));
    let left: Vec<_> = readers.map(|(node, x)| (node, format!("calibration saw nothing but zeros in its input '{x}'"))).collect();
    if !left.is_empty() {
        return Ok(Fit::Left(left));
    }
    plan.leave_values(graph, &silent);
    plan.skip(silent, "calibration saw nothing but zeros in it");
    let mut left = Vec::new();
    for layer in &mut plan.layers {
        let node = &graph.nodes()[layer.node];
        let input = values.get(&node.inputs[0]).ok_or_else(|| Error::internal("what a layer of a plan reads has a scale"))?;
        match weight(graph, layer, *input, settings).at(|| node.label())? {
            Ok(scales) => layer.scales = scales,
            Err(reason) => left.push((layer.node, reason)),
        }
    }
    Ok(if left.is_empty() { Fit::Scales(values) } else { Fit::Left(left) })
}

/// Scales of values, those of a group alike, and the values that have none.
fn values(
    plan: &Plan,
    ranges: &Ranges,
    observer: &Observe,
    chosen: &Chosen,
    settings: &Settings,
) -> Result<(HashMap<String, Affine>, Vec<String>)> {
    let mut groups: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (name, &group) in &plan.values {
        groups.entry(group).or_default().push(name.clone());
    }
    let (mut found, mut silent) = (HashMap::new(), Vec::new());
    for names in groups.into_values() {
        // Values without elements, such as those of an image without a detection, say nothing of their scale.
        let seen: Vec<&str> = names.iter().map(String::as_str).filter(|n| ranges.get(n).is_some_and(|m| !m.range().is_empty())).collect();
        let affine = match names.iter().find_map(|n| chosen.get(n)) {
            Some((affine, _)) => Some(*affine),
            None if seen.is_empty() => None,
            None => Affine::finest(ranges.range(observer, &seen, settings.activations)?, settings.activations),
        };
        match affine {
            Some(affine) => found.extend(names.into_iter().map(|n| (n, affine))),
            None => silent.extend(names),
        }
    }
    Ok((found, silent))
}

/// Scales of a layer's weight, or why there are none.
fn weight(graph: &Graph, layer: &WeightedNode, input: Affine, settings: &Settings) -> Result<Result<Vec<f32>, String>> {
    let node = &graph.nodes()[layer.node];
    let constant = constant(graph, layer)?;
    let values = values_of(graph, layer)?;
    let axis = (settings.per_channel && layer.channel_scales).then_some(layer.axis);
    let finest = best(&values, constant.dims(), axis, settings.weights);
    let channels = ops::layer_weight(graph, node)?.map_or(0, |w| w.output_channels());
    let bias = bias::of_layer(graph, node, channels)?.map_or_else(Vec::new, |(_, values)| values);
    let integer = settings.rules.int32_bias.iter().any(|op| op.is(graph, node));
    let scales = match bias::scales(&finest, &bias, input.scale) {
        Some(scales) => scales,
        None if integer => return Ok(Err("int32 has no room for its bias beside the scale of its weight".into())),
        None => finest.iter().map(|s| s.unwrap_or(1.0)).collect(),
    };
    if sums_leave_int32(&values, constant.dims(), layer.axis, &scales, settings) {
        return Ok(Err("its sums of products could leave int32".into()));
    }
    Ok(Ok(scales))
}

/// Chooses scales of the weights of a plan whose activations stay in float. Layers that multiply by a factor of zero or less beside
/// their weight get none.
///
/// # Errors
/// `Check` for weights that are not finite.
pub(super) fn weights(graph: &Graph, plan: &mut Plan, settings: &Settings) -> Result<()> {
    for layer in &mut plan.layers {
        let node = &graph.nodes()[layer.node];
        if node.is(GEMM) && node.get_float("alpha", 1.0)? <= 0.0 {
            continue;
        }
        let axis = (settings.per_channel && layer.channel_scales).then_some(layer.axis);
        let found = best(&values_of(graph, layer).at(|| node.label())?, constant(graph, layer)?.dims(), axis, settings.weights);
        layer.scales = found.into_iter().map(|s| s.unwrap_or(1.0)).collect();
    }
    Ok(())
}

/// True when the sum of products of an output channel can exceed what a bias leaves of int32.
fn sums_leave_int32(values: &[f32], dims: &[usize], axis: usize, scales: &[f32], settings: &Settings) -> bool {
    // Kernels for longer integers add up in int64.
    if settings.rules.wide == Some(settings.activations) {
        return false;
    }
    let span = f64::from(settings.activations.high - settings.activations.low);
    let (channels, run) = (dims[axis].max(1), dims[axis + 1..].iter().product::<usize>().max(1));
    if (values.len() / channels) as f64 * span * f64::from(settings.weights.high) <= bias::LIMIT {
        return false;
    }
    let mut sums = vec![0f64; channels];
    for (i, run) in values.chunks(run).enumerate() {
        let scale = scales[i % channels % scales.len()];
        sums[i % channels] += run.iter().map(|v| f64::from((v / scale).abs().round())).sum::<f64>();
    }
    sums.iter().any(|s| s * span > bias::LIMIT)
}

/// The numbers that a layer multiplies with, Gemm's `alpha` included.
///
/// # Errors
/// `Check` for numbers that are infinite or not a number.
pub(super) fn values_of(graph: &Graph, layer: &WeightedNode) -> Result<Vec<f32>> {
    let node = &graph.nodes()[layer.node];
    let mut values = finite(constant(graph, layer)?)?;
    if node.is(GEMM) {
        let alpha = node.get_float("alpha", 1.0)?;
        values.iter_mut().for_each(|v| *v *= alpha);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Error::check("the weight times alpha holds values that are infinite or not a number"));
        }
    }
    Ok(values)
}

/// A layer's weight as the graph has it.
pub(super) fn constant<'g>(graph: &'g Graph, layer: &WeightedNode) -> Result<&'g Constant> {
    graph.constant(&layer.weight).ok_or_else(|| Error::internal("a layer's weight is a constant"))
}
