//! Removing chosen channels from a graph, or setting them to zero in it.

use super::Analysis;
use candle_core::{Device, Tensor};
use compresso_base::error::Result;
use compresso_model::ops::channels::{Atom, AxisLabels, Labels};
use compresso_model::{Constant, Facts, Graph, Patch, Recut};
use std::collections::HashSet;

/// Channels to be removed from a graph.
#[derive(Debug)]
pub struct Removal<'a> {
    found: &'a Analysis,
    /// Roots of the atoms that go.
    gone: HashSet<Atom>,
}

impl<'a> Removal<'a> {
    /// The removal of `atoms` (any of each set) from the analysed graph.
    pub fn new(found: &'a Analysis, atoms: impl IntoIterator<Item = Atom>) -> Self {
        let gone = atoms.into_iter().map(|a| found.labels.root(a)).collect();
        Self { found, gone }
    }
    pub(super) fn stays(&self, a: Atom) -> bool {
        !self.gone.contains(&self.found.labels.root(a))
    }
    /// How many indices with these labels stay.
    fn count(&self, labels: &[Atom]) -> usize {
        labels.iter().filter(|&&a| self.stays(a)).count()
    }
    /// The labels of an axis that loses indices.
    fn cut<'l>(&self, axis: &'l AxisLabels) -> Option<&'l [Atom]> {
        axis.as_deref().filter(|l| l.iter().any(|&a| !self.stays(a)))
    }

    /// The graph with the removed channels' slices of all constants set to zero.
    ///
    /// # Errors
    /// `Unsupported` for constants that cannot be computed with.
    pub fn masked(&self) -> Result<Graph> {
        let mut patch = Patch::new(&self.found.graph);
        for (name, constant) in self.found.graph.constants() {
            let mut tensor: Option<Tensor> = None;
            for (axis, labels) in self.found.labels.of(name).iter().enumerate() {
                let Some(labels) = self.cut(labels).filter(|_| self.found.labels.is_masked(name)) else { continue };
                let full = tensor.take().map_or_else(|| constant.tensor(&Device::Cpu), Ok)?;
                let mask: Vec<f32> = labels.iter().map(|&a| f32::from(u8::from(self.stays(a)))).collect();
                let mut shape = vec![1; full.rank()];
                shape[axis] = mask.len();
                let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?.to_dtype(full.dtype())?;
                tensor = Some(full.broadcast_mul(&mask)?);
            }
            if let Some(t) = tensor {
                patch.set_constant(name, Constant::from_storage(constant.element(), &t)?);
            }
        }
        patch.apply()
    }

    /// The graph without the removed channels, with shapes checked.
    ///
    /// # Errors
    /// `Unsupported`, naming the node, when a size in the graph does not follow.
    pub fn pruned(&self) -> Result<Graph> {
        let mut patch = Patch::new(&self.found.graph);
        self.rewrite(&mut patch)?;
        let pruned = self.share_again(&patch.apply()?)?;
        self.check(&pruned)?;
        Ok(pruned)
    }

    /// Copies of a vector that still equal their original are read from it again.
    fn share_again(&self, graph: &Graph) -> Result<Graph> {
        let mut patch = Patch::new(graph);
        for (i, node) in graph.nodes().iter().enumerate() {
            for (k, input) in node.inputs.iter().enumerate() {
                let Some(original) = self.found.copies.get(input) else { continue };
                if graph.constant(original).is_some() && graph.constant(original) == graph.constant(input) {
                    patch.edit(i).inputs[k].clone_from(original);
                }
            }
        }
        if patch.is_empty() { Ok(graph.clone()) } else { patch.apply() }
    }
}

impl Recut for Removal<'_> {
    const WORD: &'static str = "pruned";
    const FOLLOWED: &'static str = "the removed channels";
    const HINT: &'static str = "leave these layers out with exclude: [\"name\"]";

    fn graph(&self) -> &Graph {
        &self.found.graph
    }
    fn facts(&self) -> &Facts {
        &self.found.facts
    }
    fn labels(&self) -> &Labels {
        &self.found.labels
    }
    fn new_size(&self, labels: &[Atom]) -> Result<Option<usize>> {
        let kept = self.count(labels);
        Ok((kept != labels.len()).then_some(kept))
    }
    fn recut(&self, _: &str, constant: &Tensor, axis: usize, labels: &[Atom]) -> Result<Tensor> {
        let keep: Vec<u32> = (0u32..).zip(labels).filter(|(_, a)| self.stays(**a)).map(|(i, _)| i).collect();
        Ok(constant.index_select(&Tensor::new(keep, &Device::Cpu)?, axis)?)
    }
    fn moved(&self, labels: &[Atom], indices: &[usize]) -> Result<Vec<i64>> {
        let kept = indices.iter().filter(|&&i| self.stays(labels[i]));
        Ok(kept.map(|&i| self.count(&labels[..i]) as i64).collect())
    }
    /// What is computed may follow from other sizes that change.
    fn pins(&self, node: usize, input: usize) -> bool {
        let graph = &self.found.graph;
        graph.nodes()[node].input(input).is_some_and(|n| graph.constant(n).is_none())
    }
}
