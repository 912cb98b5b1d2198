//! Unstructured pruning: the smallest weights become zero.

use super::groups::name_of;
use super::{Prune, Ranking};
use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_learn::train::MASKS_KEY;
use compresso_model::graph::{Stored, stored};
use compresso_model::names::{Choice, Patterns};
use compresso_model::ops;
use compresso_model::{Attr, Constant, Graph, Patch, Payload};
use std::collections::{HashMap, HashSet};

/// The graph with a share `ratio` of the weights of layers set to zero: those with |w| at or below the quantile of all
/// weights (global) or of their own tensor (layer). `None` when none is.
///
/// # Errors
/// `Unsupported` when there are no weights, `Missing` for patterns that match nothing.
pub(super) fn prune(options: &Prune, graph: &Graph, ctx: &Context) -> Result<Option<Graph>> {
    let all = weights(graph)?;
    let names: Vec<Vec<&str>> = all.iter().map(|(layer, weight)| vec![layer.as_str(), weight.as_str()]).collect();
    let choices = Patterns { include: &options.include, exclude: &options.exclude }.choose(
        &names,
        "layer that can be pruned",
        "summary(m) lists the layers",
    )?;
    let mut seen = HashSet::new();
    let chosen: Vec<&String> = all
        .iter()
        .zip(choices)
        .filter(|(_, c)| *c == Choice::Chosen)
        .map(|((_, weight), _)| weight)
        .filter(|w| seen.insert(w.as_str()))
        .collect();
    let (graph, chosen) = &apart(graph, &chosen, ctx)?;
    let held = stored(graph)?;
    let tensors: Vec<(&Stored<'_>, Vec<f32>)> = chosen
        .iter()
        .filter_map(|w| held.iter().find(|s| s.name == w.as_str()))
        .map(|s| Ok((s, s.constant.to_f32s()?)))
        .collect::<Result<_>>()?;
    if tensors.is_empty() {
        return Err(Error::unsupported("the model has no weights to prune").hint("summary(m) lists its layers"));
    }
    let global = match options.scope {
        Ranking::Global => Some(quantile(tensors.iter().flat_map(|(_, v)| v.iter().map(|w| w.abs())).collect(), options.ratio)),
        Ranking::Layer => None,
    };
    let mut patch = Patch::new(graph);
    let (mut zeros, mut count) = (0usize, 0usize);
    for (at, values) in &tensors {
        ctx.check()?;
        let threshold = global.unwrap_or_else(|| quantile(values.iter().map(|w| w.abs()).collect(), options.ratio));
        let kept: Vec<f32> = values.iter().map(|w| if w.abs() > threshold { *w } else { 0.0 }).collect();
        zeros += kept.iter().filter(|w| **w == 0.0).count();
        count += kept.len();
        let made = like(&at.constant, kept)?;
        match at.holder {
            Some(node) => patch.edit(node).attrs = [("value".to_string(), Attr::Tensor(made))].into_iter().collect(),
            None => patch.set_constant(at.name, made),
        }
    }
    patch.set_metadata(MASKS_KEY, masks(graph, tensors.iter().map(|(s, _)| s.name))?);
    let percent = 100.0 * zeros as f64 / count as f64;
    ctx.note(format!("prune: {zeros} of {count} weights in {} layers are zero ({percent:.1} %); shapes and speed stay", tensors.len()));
    Ok(Some(patch.apply()?))
}

/// The graph in which layers have these weights for themselves, and what they are called there: a weight that is an output too, or that
/// anything but a layer reads, stays for that as it is.
fn apart(graph: &Graph, weights: &[&String], ctx: &Context) -> Result<(Graph, Vec<String>)> {
    let (makers, readers) = (graph.producers(), graph.consumers());
    let mut layers: HashMap<&str, HashSet<usize>> = HashMap::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        if let Some((name, _)) = ops::stored_weight(graph, &makers, node)? {
            layers.entry(name).or_default().insert(i);
        }
    }
    let held = stored(graph)?;
    let mut patch = Patch::new(graph);
    let mut names = Vec::with_capacity(weights.len());
    for &weight in weights {
        let direct = readers.get(weight.as_str()).into_iter().flatten().copied();
        let (mut own, mut others, mut both) = (Vec::new(), graph.is_output(weight), false);
        for i in direct {
            match ends(graph, &readers, &layers[weight.as_str()], i)? {
                (true, false) => own.push(i),
                (leads, other) => {
                    others |= other;
                    both |= leads;
                }
            }
        }
        if both {
            ctx.note(format!("prune: '{weight}' stays: what is made of it is read by more than layers"));
            continue;
        }
        let Some(constant) = held.iter().find(|s| others && s.name == weight.as_str()).map(|s| &s.constant) else {
            names.push(weight.clone());
            continue;
        };
        let copy = patch.fresh(&format!("{weight}_pruned"));
        patch.set_constant(&copy, constant.clone());
        for i in own {
            patch.edit(i).inputs.iter_mut().filter(|n| *n == weight).for_each(|n| n.clone_from(&copy));
        }
        names.push(copy);
    }
    Ok((if patch.is_empty() { graph.clone() } else { patch.apply()? }, names))
}

/// Whether layers of a weight, and whether anything else, read what a reader of the weight makes of it. A layer is itself where it ends.
fn ends(graph: &Graph, readers: &HashMap<&str, Vec<usize>>, layers: &HashSet<usize>, reader: usize) -> Result<(bool, bool)> {
    let (mut leads, mut other) = (false, false);
    let (mut waiting, mut seen) = (vec![reader], HashSet::new());
    while let Some(i) = waiting.pop() {
        let node = &graph.nodes()[i];
        if layers.contains(&i) {
            leads = true;
        } else if ops::carried(ops::find(node)?, node).is_none() {
            other = true;
        } else if seen.insert(i) {
            for made in node.outputs.iter().filter(|o| !o.is_empty()) {
                other |= graph.is_output(made);
                waiting.extend(readers.get(made.as_str()).into_iter().flatten());
            }
        }
    }
    Ok((leads, other))
}

/// (layer, stored weight) of all multiplying layers, in order.
fn weights(graph: &Graph) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let makers = graph.producers();
    for node in graph.nodes() {
        let Some((name, constant)) = ops::stored_weight(graph, &makers, node)? else { continue };
        if !constant.element().is_float() || constant.dims().len() < 2 {
            continue;
        }
        // An expectation is taken over fixed values (the bins of distribution focal boxes).
        if !ops::is_expectation(graph, &makers, node) {
            found.push((name_of(node).to_string(), name.to_string()));
        }
    }
    Ok(found)
}

/// The `q` quantile with linear interpolation, as `torch.quantile`.
fn quantile(mut values: Vec<f32>, q: f64) -> f32 {
    let at = q * (values.len() - 1) as f64;
    // 0 ≤ q < 1, so `at` is an index.
    let low = at.floor() as usize;
    let (_, &mut a, above) = values.select_nth_unstable_by(low, f32::total_cmp);
    let b = above.iter().copied().min_by(f32::total_cmp).unwrap_or(a);
    a + (b - a) * (at - low as f64) as f32
}

/// A constant of the type and shape of `old` with new values.
fn like(old: &Constant, values: Vec<f32>) -> Result<Constant> {
    if let (compresso_model::Element::F32, Payload::Raw(_)) = (old.element(), old.payload()) {
        return Constant::floats(old.dims(), &values);
    }
    let storage = old.element().storage().ok_or_else(|| Error::unsupported(format!("{} weights", old.element())))?;
    Constant::from_storage(old.element(), &Tensor::from_vec(values, old.dims(), &Device::Cpu)?.to_dtype(storage)?)
}

/// The list of masked constants with those of this pruning added.
fn masks<'a>(graph: &Graph, new: impl Iterator<Item = &'a str>) -> Result<String> {
    let mut names: Vec<String> = match graph.metadata().get(MASKS_KEY) {
        Some(text) => serde_json::from_str(text)
            .map_err(|e| Error::format(format!("the metadata '{MASKS_KEY}' is not a list of names")).because(e))?,
        None => Vec::new(),
    };
    for name in new {
        if !names.iter().any(|n| n == name) {
            names.push(name.to_string());
        }
    }
    serde_json::to_string(&names).map_err(|e| Error::internal("names do not serialize").because(e))
}
