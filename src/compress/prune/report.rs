//! What a pruning changed, layer by layer.

use super::groups::{Stay, name_of, stays_table};
use super::{Recovery, Timed};
use crate::damage::Damage;
use compresso_base::error::Result;
use compresso_base::report::{Cell, Show, Table};
use compresso_model::graph::{Stored, stored};
use compresso_model::ops::layer_weight;
use compresso_model::passes::pipelines;
use compresso_model::{Constant, Element, Graph, Model};
use serde::Serialize;
use std::collections::HashMap;

/// One layer before and after.
#[derive(Debug, Clone, Serialize)]
pub struct LayerChange {
    /// Name of its node; of a node without, its first output.
    pub layer: String,
    /// Its operator.
    pub op: String,
    /// Output channels.
    pub channels_before: usize,
    /// As [`LayerChange::channels_before`], of the pruned model.
    pub channels_after: usize,
    /// Elements of weight, bias and the like.
    pub params_before: u64,
    /// As [`LayerChange::params_before`], of the pruned model.
    pub params_after: u64,
    /// Multiply-accumulates of one run; `None` where the model leaves the image's size open.
    pub macs_before: Option<u64>,
    /// As [`LayerChange::macs_before`], of the pruned model.
    pub macs_after: Option<u64>,
    /// Share of zeros in the weight.
    pub sparsity_before: f64,
    /// As [`LayerChange::sparsity_before`], of the pruned model.
    pub sparsity_after: f64,
}

/// Two versions of a model side by side.
#[derive(Debug, Clone, Serialize)]
pub struct PruneReport {
    /// The multiplying layers that both have, in the order of the model.
    pub layers: Vec<LayerChange>,
    /// Parameters of the whole model.
    pub params_before: u64,
    /// As [`PruneReport::params_before`], of the pruned model.
    pub params_after: u64,
    /// Multiply-accumulates of one run of the whole model; `None` where it leaves the image's size open.
    pub macs_before: Option<u64>,
    /// As [`PruneReport::macs_before`], of the pruned model.
    pub macs_after: Option<u64>,
    /// Layers that keep all their channels whatever the options, with what keeps them.
    pub stays: Vec<Stay>,
    /// What was measured where a time was asked for.
    pub latency: Option<Timed>,
    /// What recovery without training did, where there was one.
    pub recovery: Option<Recovery>,
    /// The scores of both, where they were judged on a dataset.
    pub score: Option<Damage>,
}

struct Seen {
    op: String,
    channels: usize,
    params: u64,
    macs: Option<u64>,
    sparsity: f64,
}

/// Compares the multiplying layers that two versions of a model have in common, by name.
///
/// # Errors
/// What shape inference reports for either.
pub fn prune_report(before: &Model, after: &Model) -> Result<PruneReport> {
    // Weights as layers read them, whatever stands between the stored numbers and the layer.
    let form = |model: &Model| pipelines::PRUNE.run(model.graph()).map(|own| own.graph);
    between((before, &form(before)?), (after, &form(after)?))
}

/// As [`prune_report`], of models with their graphs in the form that the pipeline for pruning gives.
pub(super) fn between((before, old): (&Model, &Graph), (after, new): (&Model, &Graph)) -> Result<PruneReport> {
    let (old, new) = (layers(before, old)?, layers(after, new)?);
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
    Ok(PruneReport {
        layers,
        params_before,
        params_after,
        macs_before,
        macs_after,
        stays: Vec::new(),
        latency: None,
        recovery: None,
        score: None,
    })
}

fn layers(model: &Model, graph: &Graph) -> Result<Vec<(String, Seen)>> {
    let stats = model.stats()?;
    let costs: HashMap<&str, _> = model.graph().nodes().iter().zip(&stats.layers).filter_map(|(n, l)| Some((n.output(0)?, l))).collect();
    let mut found = Vec::new();
    for node in graph.nodes() {
        let Some(layer) = node.output(0).and_then(|o| costs.get(o)) else { continue };
        let Some(weight) = layer_weight(graph, node)? else { continue };
        let seen = Seen {
            op: node.op.clone(),
            channels: weight.output_channels(),
            params: layer.params,
            macs: layer.macs(),
            sparsity: sparsity(weight.constant)?,
        };
        found.push((name_of(node).to_string(), seen));
    }
    Ok(found)
}

/// What became of weights that were stored in a shorter type than the one that layers read; `None` where there were none.
///
/// # Errors
/// `Unsupported` for operators that the library does not know.
pub(super) fn widened(before: &Graph, after: &Graph) -> Result<Option<String>> {
    let short = |graph: &Graph| -> Result<usize> {
        let is_short = |s: &Stored<'_>| s.is_parameter() && matches!(s.constant.element(), Element::F16 | Element::BF16);
        Ok(stored(graph)?.iter().filter(|s| is_short(s)).count())
    };
    let had = short(before)?;
    if had == 0 {
        return Ok(None);
    }
    let has = short(after)?;
    Ok((has < had).then(|| {
        let n = had - has;
        format!("prune: {n} weights that were stored in float16 and cast are stored in float32 now, as training wants them")
    }))
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
        let macs = match (self.macs_before, self.macs_after) {
            (Some(a), Some(b)) => pair(a, b, "MACs"),
            _ => "MACs unknown before a run (where the image size is open, model(file, #{ image_size: 640 }) states one)".into(),
        };
        format!("prune: {}, {macs}", pair(self.params_before, self.params_after, " params"))
    }
    /// `prune: 12 layers keep all their channels: LayerNormalization '/norm' takes their mean and variance together; …`; `None` where there
    /// is none but those that make the model's outputs.
    pub fn kept_line(&self) -> Option<String> {
        let inner: Vec<&Stay> = self.stays.iter().filter(|s| s.inner).collect();
        let count = inner.iter().map(|s| s.layers.len()).sum::<usize>();
        let first = inner.first()?;
        let more = if inner.len() > 1 { format!(" ({} more reasons in the report)", inner.len() - 1) } else { String::new() };
        Some(format!("prune: {count} layers keep all their channels, {} of them because {}{more}", first.layers.len(), first.because))
    }
}

impl Show for PruneReport {
    fn tables(&self) -> Vec<Table> {
        let mut table = Table::new("Pruned layers", &["layer", "op", ">channels", ">parameters", ">MACs", ">zeros"]);
        let mut row = |name: &str, op: &str, channels: Cell, p: (u64, u64), m: (Option<u64>, Option<u64>), zeros: Cell| {
            let macs = m.0.zip(m.1).map_or_else(Cell::unknown, |(before, after)| Cell::change(before, after));
            table.row([Cell::from(name), Cell::from(op), channels, Cell::change(p.0, p.1), macs, zeros]);
        };
        for l in &self.layers {
            let channels = Cell::change(l.channels_before as u64, l.channels_after as u64);
            let (p, m) = ((l.params_before, l.params_after), (l.macs_before, l.macs_after));
            row(&l.layer, &l.op, channels, p, m, Cell::share(l.sparsity_after));
        }
        let (p, m) = ((self.params_before, self.params_after), (self.macs_before, self.macs_after));
        row("all", "", Cell::default(), p, m, Cell::default());
        let mut tables = vec![table];
        tables.extend(stays_table(&self.stays));
        tables
    }
    fn notes(&self) -> Vec<String> {
        std::iter::once(self.headline())
            .chain(self.latency.iter().map(Timed::headline))
            .chain(self.recovery.iter().map(Recovery::headline))
            .collect()
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
