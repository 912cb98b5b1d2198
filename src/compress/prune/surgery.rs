//! Removing chosen channels from a graph, or setting them to zero in it.

use super::Analysis;
use candle_core::{Device, Tensor};
use compresso_base::error::{At, Error, Result};
use compresso_model::ops::channels::{Atom, AxisLabels, Edit, Site, Size};
use compresso_model::ops::concat::CONCAT;
use compresso_model::ops::gather::GATHER;
use compresso_model::{Attr, Constant, Dim, Element, Graph, Node, Patch};
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

    /// One change of sizes or indices in a node.
    fn edit(&self, patch: &mut Patch<'_>, edit: &Edit) -> Result<()> {
        match edit {
            Edit::Indices { node, input, labels, indices } => {
                if self.count(labels) == labels.len() && self.is_given(*node, *input) {
                    return Ok(());
                }
                let kept = indices.iter().filter(|&&i| self.stays(labels[i]));
                let moved: Vec<i64> = kept.map(|&i| self.count(&labels[..i]) as i64).collect();
                self.set_input(patch, *node, *input, &moved)
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
                let numbers: Option<Vec<i64>> = sizes
                    .iter()
                    .map(|s| match s {
                        Size::Fixed(n) => Some(*n),
                        Size::Count(l) => Some(self.count(l) as i64),
                        Size::Open => None,
                    })
                    .collect();
                match (place, numbers) {
                    (Site::Attr(name), Some(v)) => {
                        let attr = patch.edit(*node).attrs.entry((*name).to_string()).or_insert(Attr::Ints(Vec::new()));
                        *attr = match (&*attr, v.as_slice()) {
                            (Attr::Int(_), [n]) => Attr::Int(*n),
                            _ => Attr::Ints(v),
                        };
                        Ok(())
                    }
                    (Site::Input(i), Some(v)) => self.set_input(patch, *node, *i, &v),
                    (Site::Input(i), None) => self.partly_open(patch, *node, *i, sizes),
                    (Site::Attr(name), None) => Err(Error::internal(format!("attribute '{name}' has no number"))),
                }
            }
        }
    }

    /// True for an input that is left out or an initializer. A computed one may follow from other sizes that change.
    fn is_given(&self, node: usize, i: usize) -> bool {
        let graph = &self.found.graph;
        graph.nodes()[node].input(i).is_none_or(|n| graph.constant(n).is_some())
    }

    /// Input `i` of a node becomes a constant of these integers, of the type and rank that it had.
    fn set_input(&self, patch: &mut Patch<'_>, node: usize, i: usize, values: &[i64]) -> Result<()> {
        let old = &self.found.graph.nodes()[node];
        let fact = old.input(i).and_then(|n| self.found.facts.get(n));
        let element = fact.map_or(Element::I64, |f| f.element);
        let scalar = fact.and_then(|f| f.rank()) == Some(0);
        let mut tensor = Tensor::new(values, &Device::Cpu)?;
        if scalar {
            tensor = tensor.reshape(())?;
        }
        let storage = element.storage().ok_or_else(|| Error::unsupported(format!("{element} sizes cannot be computed with")))?;
        let constant = Constant::from_storage(element, &tensor.to_dtype(storage)?)?;
        let name = patch.fresh(&format!("{}_pruned_{i}", old.output(0).unwrap_or(&old.op)));
        patch.set_constant(&name, constant);
        let node = patch.edit(node);
        if node.inputs.len() <= i {
            // Sizes of equal parts, so far implied by their number.
            node.attrs.shift_remove("num_outputs");
            node.inputs.resize(i + 1, String::new());
        }
        node.inputs[i] = name;
        Ok(())
    }

    /// As [`Self::set_input`], with some numbers known only when the graph runs: these are picked from the old input.
    fn partly_open(&self, patch: &mut Patch<'_>, node: usize, i: usize, sizes: &[Size]) -> Result<()> {
        let old = &self.found.graph.nodes()[node];
        let input = old.input(i).ok_or_else(|| Error::internal("open sizes of an input that is left out"))?;
        let element = self.found.facts.get(input).map_or(Element::I64, |f| f.element);
        if element != Element::I64 {
            return Err(Error::unsupported(format!("sizes of type {element} that are known only at run time")));
        }
        let stem = format!("{}_pruned_{i}", old.output(0).unwrap_or(&old.op));
        let mut parts = Vec::new();
        for (k, size) in sizes.iter().enumerate() {
            let part = patch.fresh(&format!("{stem}_{k}"));
            match size {
                Size::Fixed(n) => patch.set_constant(&part, Constant::ints(&[*n])),
                Size::Count(l) => patch.set_constant(&part, Constant::ints(&[self.count(l) as i64])),
                Size::Open => {
                    let index = patch.fresh(&format!("{part}_index"));
                    patch.set_constant(&index, Constant::ints(&[k as i64]));
                    patch.add(Node::new(GATHER, "", [input, &index], [part.as_str()]).int("axis", 0));
                }
            }
            parts.push(part);
        }
        let whole = patch.fresh(&stem);
        patch.add(Node::new(CONCAT, "", parts, [whole.as_str()]).int("axis", 0));
        patch.edit(node).inputs[i] = whole;
        Ok(())
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
