//! What layers cost, by the channels that are left.

use super::{Analysis, Group};
use compresso_base::error::Result;
use compresso_model::graph::{infer_at, stats};
use compresso_model::ops::channels::Atom;
use compresso_model::{Graph, Task};
use std::collections::HashMap;

compresso_base::choice! {
    /// What `ratio` is a share of.
    pub enum Budget {
        /// The channels that may go.
        Channels = "channels",
        /// The weights of layers.
        Params = "params",
        /// The multiply-accumulates of a run.
        Macs = "macs",
        /// The time of a run, measured on this machine.
        Latency = "latency",
    }
}

/// A layer's cost, which is in proportion to the size of each axis of its weight.
#[derive(Debug, Clone)]
struct LayerCost {
    node: usize,
    /// The axis that makes channels.
    output: usize,
    whole: f64,
    sizes: Vec<usize>,
    left: Vec<usize>,
}

impl LayerCost {
    fn now(&self) -> f64 {
        self.sizes.iter().zip(&self.left).fold(self.whole, |c, (&n, &l)| c * l as f64 / n.max(1) as f64)
    }
}

/// The costs of all layers, of which channels can be taken away.
#[derive(Debug, Clone)]
pub(super) struct Costs {
    /// Of what is no layer.
    fixed: f64,
    layers: Vec<LayerCost>,
    /// Layer, axis, and how many indices there have the atom.
    of_atom: HashMap<Atom, Vec<(usize, usize, usize)>>,
}

/// The multiply-accumulates of each node; `None` where the size of the image is open.
///
/// # Errors
/// What shape inference reports.
fn macs(graph: &Graph, task: &Task) -> Result<Option<Vec<f64>>> {
    let facts = infer_at(graph, 1, task.image_size())?;
    let stats = stats(graph, &facts)?;
    Ok(stats.layers.iter().map(|l| l.macs().map(|m| m as f64)).collect())
}

impl Costs {
    /// In multiply-accumulates where `budget` says so and they are known, else in weights; and whether they are what was asked for.
    ///
    /// # Errors
    /// What shape inference reports.
    pub fn new(found: &Analysis, task: &Task, budget: Budget) -> Result<(Self, bool)> {
        let (graph, labels) = (&found.graph, &found.labels);
        let macs = if matches!(budget, Budget::Macs | Budget::Latency) { macs(graph, task)? } else { None };
        let mut new = Self { fixed: macs.iter().flatten().sum(), layers: Vec::new(), of_atom: HashMap::new() };
        for layer in labels.layers() {
            let Some(dims) = graph.constant(&layer.weight).map(|c| c.dims().to_vec()) else { continue };
            let whole = macs.as_ref().map_or(dims.iter().product::<usize>() as f64, |m| m[layer.node]);
            if macs.is_some() {
                new.fixed -= whole;
            }
            for (axis, l) in labels.of(&layer.weight).iter().enumerate() {
                let mut times: HashMap<Atom, usize> = HashMap::new();
                l.iter().flat_map(|l| l.iter()).for_each(|&a| *times.entry(labels.root(a)).or_default() += 1);
                for (atom, times) in times {
                    new.of_atom.entry(atom).or_default().push((new.layers.len(), axis, times));
                }
            }
            new.layers.push(LayerCost { node: layer.node, output: layer.axis, whole, left: dims.clone(), sizes: dims });
        }
        Ok((new, macs.is_some() || !matches!(budget, Budget::Macs | Budget::Latency)))
    }

    /// The cost of all layers.
    pub fn total(&self) -> f64 {
        self.fixed.max(0.0) + self.layers.iter().map(LayerCost::now).sum::<f64>()
    }
    /// By how much the cost falls without an atom.
    pub fn saving(&self, atom: Atom) -> f64 {
        let places = self.of_atom.get(&atom).map_or(&[][..], Vec::as_slice);
        let saving = |part: &[(usize, usize, usize)]| {
            let layer = &self.layers[part[0].0];
            let left = part.iter().fold(1.0, |s, &(_, axis, times)| s * (1.0 - times as f64 / layer.left[axis].max(times) as f64));
            layer.now() * (1.0 - left)
        };
        places.chunk_by(|a, b| a.0 == b.0).map(saving).sum()
    }
    /// The fewest channels that an axis with the atom would be left with, and how many it had.
    pub fn narrowest(&self, atom: Atom) -> Option<(usize, usize)> {
        let places = self.of_atom.get(&atom)?;
        let after =
            |&(l, axis, times): &(usize, usize, usize)| (self.layers[l].left[axis].saturating_sub(times), self.layers[l].sizes[axis]);
        places.iter().map(after).min()
    }
    /// Takes `count` atoms like this one away.
    pub fn remove(&mut self, atom: Atom, count: usize) {
        for &(l, axis, times) in self.of_atom.get(&atom).into_iter().flatten() {
            let left = &mut self.layers[l].left[axis];
            *left = left.saturating_sub(times * count);
        }
    }
    /// Layers that make the atom's channel: node, and the share of its channels that stays when the atom goes.
    pub fn makers(&self, atom: Atom) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.of_atom.get(&atom).into_iter().flatten().filter_map(|&(l, axis, times)| {
            let layer = &self.layers[l];
            (axis == layer.output).then(|| (layer.node, 1.0 - times as f64 / layer.left[axis].max(times) as f64))
        })
    }
    /// The layers of an atom.
    pub fn layers_of(&self, atom: Atom) -> &[(usize, usize, usize)] {
        self.of_atom.get(&atom).map_or(&[], Vec::as_slice)
    }
    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }
    /// The share of the cost that falls without `count` channels of a group.
    pub fn saving_of(&self, group: &Group, count: usize) -> f64 {
        let (mut less, whole) = (self.clone(), self.total());
        if let Some(&first) = group.atoms.first() {
            less.remove(first, count);
        }
        if whole > 0.0 { 1.0 - less.total() / whole } else { 0.0 }
    }
    /// The cost with so many channels of each group.
    pub fn with(&self, groups: &[&Group], kept: &[usize]) -> f64 {
        let mut left = self.clone();
        for (group, &kept) in groups.iter().zip(kept) {
            if let Some(&first) = group.atoms.first() {
                left.remove(first, group.channels - kept);
            }
        }
        left.total()
    }
}
