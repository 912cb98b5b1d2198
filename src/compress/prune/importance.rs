//! Scores of channels: how much a model would miss each.

use super::{Analysis, Group, Importance};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_model::ops::channels::{Atom, Layer};
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

/// One score per atom of each group. Each layer's scores are divided by their mean before they are averaged over the
/// layers of a group, so that scores of different groups compare and no layer vanishes for having small weights.
///
/// # Errors
/// `Unsupported` for batch-norm importance in a model without batch norms.
pub(super) fn scores(kind: Importance, found: &Analysis, groups: &[&Group], ctx: &Context) -> Result<Vec<Vec<f64>>> {
    if kind == Importance::Random {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(ctx.seed);
        return Ok(groups.iter().map(|g| g.atoms.iter().map(|_| rng.random::<f64>()).collect()).collect());
    }
    if kind == Importance::BatchNorm && !found.graph.nodes().iter().any(|n| n.is("BatchNormalization")) {
        let e = Error::unsupported(
            "importance \"batchnorm\" needs batch norms, and this model has none (they may have been folded into the convolutions)",
        );
        return Err(e.hint("use importance: \"l2\""));
    }
    // Sum and number of the normalised scores of each atom.
    let mut sums: HashMap<Atom, (f64, f64)> = HashMap::new();
    let mut by_norm: HashMap<Atom, (f64, f64)> = HashMap::new();
    for layer in found.labels.layers() {
        ctx.check()?;
        let Some(axis) = found.labels.axis(&layer.weight, layer.axis) else { continue };
        let norm = batch_norm(found, layer, axis.len())?;
        let gamma = norm.as_ref().map(|n| n.gamma.clone());
        let (scores, sums) = match (kind, gamma) {
            (Importance::BatchNorm, Some(gamma)) => (gamma, &mut sums),
            (Importance::BatchNorm, None) => (norms(found, layer, Importance::L2, None)?, &mut by_norm),
            _ => (norms(found, layer, kind, norm.as_ref())?, &mut sums),
        };
        let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
        // Indices that go together have the mean of their scores.
        let mut of_root: HashMap<Atom, (f64, f64)> = HashMap::new();
        for (&a, &s) in axis.iter().zip(&scores) {
            let entry = of_root.entry(found.labels.root(a)).or_default();
            entry.0 += s;
            entry.1 += 1.0;
        }
        for (root, (s, n)) in of_root {
            let entry = sums.entry(root).or_default();
            entry.0 += if mean > 0.0 { s / n / mean } else { 0.0 };
            entry.1 += 1.0;
        }
    }
    let score = |a: &Atom| sums.get(a).or_else(|| by_norm.get(a)).map_or(0.0, |(s, n)| s / n);
    Ok(groups.iter().map(|g| g.atoms.iter().map(score).collect()).collect())
}

/// A batch norm right after a layer.
struct Norm {
    /// |gamma| per channel.
    gamma: Vec<f64>,
    /// |gamma| / sqrt(variance + epsilon): by how much it scales the layer's weights.
    factor: Vec<f64>,
}

fn batch_norm(found: &Analysis, layer: &Layer, channels: usize) -> Result<Option<Norm>> {
    let graph = &found.graph;
    let Some(out) = graph.nodes()[layer.node].output(0) else { return Ok(None) };
    let consumers = graph.consumers();
    let Some([reader]) = consumers.get(out).map(Vec::as_slice) else { return Ok(None) };
    let node = &graph.nodes()[*reader];
    if !node.is("BatchNormalization") || node.input(0) != Some(out) {
        return Ok(None);
    }
    let values = |i: usize| node.input(i).and_then(|n| graph.constant(n)).map(|c| c.to_f64s()).transpose();
    let (Some(gamma), Some(var)) = (values(1)?, values(4)?) else { return Ok(None) };
    if gamma.len() != channels || var.len() != channels {
        return Ok(None);
    }
    let epsilon = f64::from(node.get_float("epsilon", 1e-5)?);
    let gamma: Vec<f64> = gamma.iter().map(|g| g.abs()).collect();
    let factor = gamma.iter().zip(&var).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    Ok(Some(Norm { gamma, factor }))
}

/// Norm of each slice of the weight along its output axis.
fn norms(found: &Analysis, layer: &Layer, kind: Importance, norm: Option<&Norm>) -> Result<Vec<f64>> {
    let Some(weight) = found.graph.constant(&layer.weight) else { return Ok(Vec::new()) };
    let dims = weight.dims();
    let n = dims[layer.axis];
    let inner: usize = dims[layer.axis + 1..].iter().product();
    let mut sums = vec![0f64; n];
    for (i, w) in weight.to_f32s()?.into_iter().enumerate() {
        let w = f64::from(w);
        sums[(i / inner) % n] += if kind == Importance::L1 { w.abs() } else { w * w };
    }
    if kind != Importance::L1 {
        sums.iter_mut().for_each(|s| *s = s.sqrt());
    }
    if let Some(norm) = norm {
        sums.iter_mut().zip(&norm.factor).for_each(|(s, f)| *s *= f);
    }
    Ok(sums)
}
