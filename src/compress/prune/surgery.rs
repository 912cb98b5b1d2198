//! Removing chosen channels from a graph, or setting them to zero in it.

use super::Analysis;
use candle_core::{Device, Tensor};
use compresso_base::error::{At, Error, Result};
use compresso_model::ops::channels::{Atom, AxisLabels, Edit, Site, Size};
use compresso_model::{Constant, Dim, Graph, Patch, Renumber};
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
        let found = self.found;
        let mut patch = Patch::new(&found.graph);
        for (name, constant) in found.graph.constants() {
            let mut tensor: Option<Tensor> = None;
            for (axis, labels) in found.labels.of(name).iter().enumerate() {
                let Some(labels) = self.cut(labels) else { continue };
                let full = tensor.take().map_or_else(|| constant.tensor(&Device::Cpu), Ok)?;
                let keep: Vec<u32> = (0u32..).zip(labels).filter(|(_, a)| self.stays(**a)).map(|(i, _)| i).collect();
                tensor = Some(full.index_select(&Tensor::new(keep, &Device::Cpu)?, axis)?);
            }
            if let Some(t) = tensor {
                patch.set_constant(name, Constant::from_storage(constant.element(), &t)?);
            }
        }
        for edit in found.labels.edits() {
            self.edit(&mut patch, edit).at(|| found.graph.nodes()[edit.node()].label())?;
        }
        for (name, axes) in found.labels.values() {
            let Some(shape) = found.facts.get(name).and_then(|f| f.shape.clone()) else { continue };
            if axes.iter().any(|l| self.cut(l).is_some()) {
                patch.reshape_value(name, self.new_shape(axes, shape));
            }
        }
        let pruned = self.share_again(&patch.apply()?)?;
        self.check_shapes(&pruned)?;
        Ok(pruned)
    }

    fn new_shape(&self, axes: &[AxisLabels], shape: Vec<Dim>) -> Vec<Dim> {
        let size = |(i, d)| match axes.get(i).and_then(Option::as_deref) {
            Some(labels) => Dim::Known(self.count(labels)),
            None => d,
        };
        shape.into_iter().enumerate().map(size).collect()
    }

    fn numbers(&self) -> Renumber<'_> {
        Renumber { graph: &self.found.graph, facts: &self.found.facts, word: "pruned" }
    }

    /// One change of sizes or indices in a node.
    fn edit(&self, patch: &mut Patch<'_>, edit: &Edit) -> Result<()> {
        match edit {
            Edit::Indices { node, input, labels, indices } => {
                if self.count(labels) == labels.len() && self.is_given(*node, *input) {
                    return Ok(());
                }
                let kept = indices.iter().filter(|&&i| self.stays(labels[i]));
                let moved: Vec<i64> = kept.map(|&i| self.count(&labels[..i]) as i64).collect();
                self.numbers().input(patch, *node, *input, &moved)
            }
            Edit::Sizes { node, place, sizes } => {
                let changes = |s: &Size| matches!(s, Size::Count(l) if self.count(l) != l.len());
                let given = match place {
                    Site::Input(i) => self.is_given(*node, *i),
                    Site::Attr(_) => true,
                };
                if given && !sizes.iter().any(changes) {
                    return Ok(());
                }
                let number = |s: &Size| match s {
                    Size::Fixed(n) => Some(*n),
                    Size::Count(l) => Some(self.count(l) as i64),
                    Size::Open => None,
                };
                let numbers: Vec<Option<i64>> = sizes.iter().map(number).collect();
                self.numbers().write(patch, *node, place, &numbers)
            }
        }
    }

    /// True for an input that is left out or an initializer. A computed one may follow from other sizes that change.
    fn is_given(&self, node: usize, i: usize) -> bool {
        let graph = &self.found.graph;
        graph.nodes()[node].input(i).is_none_or(|n| graph.constant(n).is_some())
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

    /// Every value has the size that its labels say.
    fn check_shapes(&self, pruned: &Graph) -> Result<()> {
        let facts = pruned.facts()?;
        for node in pruned.nodes() {
            for name in &node.outputs {
                let (Some(new), Some(old)) = (facts.get(name), self.found.facts.get(name)) else { continue };
                let (Some(got), Some(shape)) = (&new.shape, &old.shape) else { continue };
                let expected = self.new_shape(self.found.labels.of(name), shape.clone());
                let fits = got.len() == expected.len() && got.iter().zip(&expected).all(|(a, b)| a.compatible(b));
                if !fits {
                    let e = Error::unsupported(format!(
                        "a size in the graph does not follow the removed channels: '{name}' should be {}, got {new}",
                        compresso_model::Fact::new(new.element, expected)
                    ));
                    return Err(e.at(node.label()).hint("leave these layers out with exclude: [\"name\"]"));
                }
            }
        }
        Ok(())
    }
}
