//! What a pruning changed, layer by layer.

use super::groups::name_of;
use crate::damage::Damage;
use compresso_base::error::Result;
use compresso_base::report::{Cell, Show, Table};
use compresso_model::ops::layer_weight;
use compresso_model::{Constant, Model};
use serde::Serialize;
use std::collections::HashMap;

/// One layer before and after.
#[derive(Debug, Clone, Serialize)]
pub struct LayerChange {
    pub layer: String,
    pub op: String,
    /// Output channels.
    pub channels_before: usize,
    pub channels_after: usize,
    /// Elements of weight, bias and the like.
    pub params_before: u64,
    pub params_after: u64,
    /// Multiply-accumulates of one run.
    pub macs_before: u64,
    pub macs_after: u64,
    /// Share of zeros in the weight.
    pub sparsity_before: f64,
    pub sparsity_after: f64,
}

/// Two versions of a model side by side.
#[derive(Debug, Clone, Serialize)]
pub struct PruneReport {
    pub layers: Vec<LayerChange>,
    pub params_before: u64,
    pub params_after: u64,
    pub macs_before: u64,
    pub macs_after: u64,
    /// The scores of both, where they were judged on a dataset.
    pub score: Option<Damage>,
}

struct Seen {
    op: String,
    channels: usize,
    params: u64,
    macs: u64,
    sparsity: f64,
}

/// Compares the multiplying layers that two versions of a model have in common, by name.
///
/// # Errors
/// What shape inference reports for either.
pub fn prune_report(before: &Model, after: &Model) -> Result<PruneReport> {
    let (old, new) = (layers(before)?, layers(after)?);
    let by_name: HashMap<&str, &Seen> = new.iter().map(|(n, s)| (n.as_str(), s)).collect();
    let layers = old
        .iter()
        .filter_map(|(name, b)| {
            let a = by_name.get(name.as_str())?;
            Some(LayerChange {
                layer: name.clone(),
                op: b.op.clone(),
                channels_before: b.channels,
                channels_after: a.channels,
                params_before: b.params,
                params_after: a.params,
                macs_before: b.macs,
                macs_after: a.macs,
                sparsity_before: b.sparsity,
                sparsity_after: a.sparsity,
            })
        })
        .collect();
    let (b, a) = (before.stats()?, after.stats()?);
    let (params_before, params_after, macs_before, macs_after) = (b.params, a.params, b.macs, a.macs);
    Ok(PruneReport { layers, params_before, params_after, macs_before, macs_after, score: None })
}

fn layers(model: &Model) -> Result<Vec<(String, Seen)>> {
    let stats = model.stats()?;
    let graph = model.graph();
    let mut found = Vec::new();
    for (node, layer) in graph.nodes().iter().zip(&stats.layers) {
        let Some(weight) = layer_weight(graph, node)? else { continue };
        let seen = Seen {
            op: node.op.clone(),
            channels: weight.output_channels(),
            params: layer.params,
            macs: layer.cost.macs,
            sparsity: sparsity(weight.constant)?,
        };
        found.push((name_of(node).to_string(), seen));
    }
    Ok(found)
}

fn sparsity(c: &Constant) -> Result<f64> {
    let values = c.to_f32s()?;
    Ok(values.iter().filter(|v| **v == 0.0).count() as f64 / values.len().max(1) as f64)
}

impl PruneReport {
    /// `prune: 3.16 → 1.48 M params, 4.37 → 2.10 GMACs`
    pub fn headline(&self) -> String {
        let pair = |a: u64, b: u64, noun: &str| {
            let (unit, sign) = match a {
                1_000_000_000.. => (1e9, "G"),
                1_000_000.. => (1e6, "M"),
                _ => (1e3, "k"),
            };
            format!("{:.2} → {:.2} {sign}{noun}", a as f64 / unit, b as f64 / unit)
        };
        format!("prune: {}, {}", pair(self.params_before, self.params_after, " params"), pair(self.macs_before, self.macs_after, "MACs"))
    }
}

impl Show for PruneReport {
    fn tables(&self) -> Vec<Table> {
        let mut table = Table::new("Pruned layers", &["layer", "op", ">channels", ">parameters", ">MACs", ">zeros"]);
        let mut row = |name: &str, op: &str, channels: Cell, p: (u64, u64), m: (u64, u64), zeros: Cell| {
            table.row([Cell::from(name), Cell::from(op), channels, Cell::change(p.0, p.1), Cell::change(m.0, m.1), zeros]);
        };
        for l in &self.layers {
            let channels = Cell::change(l.channels_before as u64, l.channels_after as u64);
            let (p, m) = ((l.params_before, l.params_after), (l.macs_before, l.macs_after));
            row(&l.layer, &l.op, channels, p, m, Cell::share(l.sparsity_after));
        }
        let (p, m) = ((self.params_before, self.params_after), (self.macs_before, self.macs_after));
        row("all", "", Cell::default(), p, m, Cell::default());
        vec![table]
    }
    fn notes(&self) -> Vec<String> {
        vec![self.headline()]
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
