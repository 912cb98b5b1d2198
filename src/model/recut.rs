//! Graphs whose labelled axes become shorter or longer: constants, sizes and indices of nodes, shapes of values.

use crate::ops::channels::{Atom, AxisLabels, Edit, Labels, Site, Size};
use crate::ops::concat::CONCAT;
use crate::ops::gather::GATHER;
use crate::{Attr, Constant, Dim, Element, Fact, Facts, Graph, Node, Patch};
use candle_core::{Device, Tensor};
use compresso_base::error::{At, Error, Result};

/// A change of the axes of a graph that have labels: indices go, or others come.
pub trait Recut {
    /// Part of the names of new values.
    const WORD: &'static str;
    /// What sizes follow, for errors.
    const FOLLOWED: &'static str;
    /// What can be done where one does not.
    const HINT: &'static str;

    /// The graph before the change.
    fn graph(&self) -> &Graph;
    /// What is known of its values.
    fn facts(&self) -> &Facts;
    /// The labels of their axes.
    fn labels(&self) -> &Labels;
    /// How many indices an axis with these labels has afterwards; `None` where it stays as it is.
    ///
    /// # Errors
    /// `Unsupported` for labels that the change cannot be made on.
    fn new_size(&self, labels: &[Atom]) -> Result<Option<usize>>;
    /// What a constant becomes along an axis that changes.
    ///
    /// # Errors
    /// `Unsupported` for numbers that the change cannot be made on.
    fn recut(&self, name: &str, constant: &Tensor, axis: usize, labels: &[Atom]) -> Result<Tensor>;
    /// Where these indices of an axis stand afterwards.
    ///
    /// # Errors
    /// As [`Recut::new_size`].
    fn moved(&self, labels: &[Atom], indices: &[usize]) -> Result<Vec<i64>>;
    /// Whether sizes or indices in this input of a node become a constant though they do not change by themselves.
    fn pins(&self, _node: usize, _input: usize) -> bool {
        false
    }

    /// Makes the change.
    ///
    /// # Errors
    /// `Unsupported`, naming the constant or the node, for what it cannot be made on.
    fn rewrite(&self, patch: &mut Patch<'_>) -> Result<()> {
        let (graph, labels) = (self.graph(), self.labels());
        for (name, constant) in graph.constants() {
            let mut tensor: Option<Tensor> = None;
            for (axis, own) in labels.of(name).iter().enumerate() {
                let place = || format!("constant '{name}'");
                let Some(own) = own else { continue };
                if self.new_size(own).at(place)?.is_none() {
                    continue;
                }
                let full = tensor.take().map_or_else(|| constant.tensor(&Device::Cpu), Ok)?;
                tensor = Some(self.recut(name, &full, axis, own).at(place)?);
            }
            if let Some(t) = tensor {
                patch.set_constant(name, Constant::from_storage(constant.element(), &t)?);
            }
        }
        for edit in labels.edits() {
            self.edit(patch, edit).at(|| graph.nodes()[edit.node()].label())?;
        }
        let mut outputs = graph.outputs().to_vec();
        for output in &mut outputs {
            if let Some(shape) = &output.fact.shape {
                output.fact.shape = Some(self.new_shape(labels.of(&output.name), shape)?);
            }
        }
        if outputs != graph.outputs() {
            patch.set_outputs(outputs);
        }
        for (name, axes) in labels.values().filter(|(name, _)| !graph.is_output(name)) {
            let Some(shape) = self.facts().get(name).and_then(|f| f.shape.as_ref()) else { continue };
            let new = self.new_shape(axes, shape)?;
            if new != *shape {
                patch.reshape_value(name, new);
            }
        }
        Ok(())
    }

    /// One change of sizes or indices in a node.
    ///
    /// # Errors
    /// As [`Recut::rewrite`].
    fn edit(&self, patch: &mut Patch<'_>, edit: &Edit) -> Result<()> {
        let numbers = Renumber { graph: self.graph(), facts: self.facts(), word: Self::WORD };
        match edit {
            Edit::Indices { node, input, labels, indices } => {
                if self.new_size(labels)?.is_none() && !self.pins(*node, *input) {
                    return Ok(());
                }
                numbers.input(patch, *node, *input, &self.moved(labels, indices)?)
            }
            Edit::Sizes { node, place, sizes } => {
                let mut changes = matches!(place, Site::Input(i) if self.pins(*node, *i));
                let mut new = Vec::with_capacity(sizes.len());
                for size in sizes {
                    new.push(match size {
                        Size::Fixed(n) => Some(*n),
                        Size::Open => None,
                        Size::Count(labels) => {
                            let size = self.new_size(labels)?;
                            changes |= size.is_some();
                            Some(size.unwrap_or(labels.len()) as i64)
                        }
                    });
                }
                if changes { numbers.write(patch, *node, place, &new) } else { Ok(()) }
            }
        }
    }

    /// The shape of a value afterwards.
    ///
    /// # Errors
    /// As [`Recut::new_size`].
    fn new_shape(&self, axes: &[AxisLabels], shape: &[Dim]) -> Result<Vec<Dim>> {
        let size = |(i, d): (usize, &Dim)| match axes.get(i).and_then(Option::as_deref) {
            Some(labels) => Ok(self.new_size(labels)?.map_or_else(|| d.clone(), Dim::Known)),
            None => Ok(d.clone()),
        };
        shape.iter().enumerate().map(size).collect()
    }

    /// In the graph that came of the change, every value has the size that its labels say.
    ///
    /// # Errors
    /// `Unsupported`, naming the node, where one has not.
    fn check(&self, made: &Graph) -> Result<()> {
        let facts = made.facts().map_err(|e| if e.suggestion().is_some() { e } else { e.hint(Self::HINT) })?;
        for node in made.nodes() {
            for name in &node.outputs {
                let (Some(now), Some(old)) = (facts.get(name), self.facts().get(name)) else { continue };
                let (Some(got), Some(shape)) = (&now.shape, &old.shape) else { continue };
                let expected = self.new_shape(self.labels().of(name), shape)?;
                if got.len() != expected.len() || !got.iter().zip(&expected).all(|(a, b)| a.compatible(b)) {
                    let wanted = Fact::new(now.element, expected);
                    let e = format!("a size in the graph does not follow {}: '{name}' should be {wanted}, got {now}", Self::FOLLOWED);
                    return Err(Error::unsupported(e).at(node.label()).hint(Self::HINT));
                }
            }
        }
        Ok(())
    }
}

/// Writes sizes and indices of the nodes of a graph.
struct Renumber<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    /// Part of the names of new values.
    word: &'static str,
}

impl Renumber<'_> {
    /// The integers at a place of a node become these; `None` stands for one that is known only when the graph runs, and stays.
    ///
    /// # Errors
    /// `Unsupported` for integers of a type that cannot be computed with.
    fn write(&self, patch: &mut Patch<'_>, node: usize, place: &Site, numbers: &[Option<i64>]) -> Result<()> {
        match (place, numbers.iter().copied().collect::<Option<Vec<i64>>>()) {
            (Site::Attr(name), Some(v)) => {
                let attr = patch.edit(node).attrs.entry((*name).to_string()).or_insert(Attr::Ints(Vec::new()));
                *attr = match (&*attr, v.as_slice()) {
                    (Attr::Int(_), [n]) => Attr::Int(*n),
                    _ => Attr::Ints(v),
                };
                Ok(())
            }
            (Site::Input(i), Some(v)) => self.input(patch, node, *i, &v),
            (Site::Input(i), None) => self.partly_open(patch, node, *i, numbers),
            (Site::Attr(name), None) => Err(Error::internal(format!("attribute '{name}' has no number"))),
        }
    }

    /// Input `i` of a node becomes a constant of these integers, of the type and rank that it had.
    ///
    /// # Errors
    /// As [`Renumber::write`].
    fn input(&self, patch: &mut Patch<'_>, node: usize, i: usize, values: &[i64]) -> Result<()> {
        let old = &self.graph.nodes()[node];
        let fact = old.input(i).and_then(|n| self.facts.get(n));
        let element = fact.map_or(Element::I64, |f| f.element);
        let mut tensor = Tensor::new(values, &Device::Cpu)?;
        if fact.and_then(|f| f.rank()) == Some(0) {
            tensor = tensor.reshape(())?;
        }
        let storage = element.storage().ok_or_else(|| Error::unsupported(format!("{element} sizes cannot be computed with")))?;
        let name = patch.fresh(&self.stem(old, i));
        patch.set_constant(&name, Constant::from_storage(element, &tensor.to_dtype(storage)?)?);
        let node = patch.edit(node);
        if node.inputs.len() <= i {
            // Sizes of equal parts, so far implied by their number.
            node.attrs.shift_remove("num_outputs");
            node.inputs.resize(i + 1, String::new());
        }
        node.inputs[i] = name;
        Ok(())
    }

    /// As [`Self::input`], with some numbers known only when the graph runs: these are picked from the old input.
    fn partly_open(&self, patch: &mut Patch<'_>, node: usize, i: usize, numbers: &[Option<i64>]) -> Result<()> {
        let old = &self.graph.nodes()[node];
        let input = old.input(i).ok_or_else(|| Error::internal("open sizes of an input that is left out"))?;
        let element = self.facts.get(input).map_or(Element::I64, |f| f.element);
        if element != Element::I64 {
            return Err(Error::unsupported(format!("sizes of type {element} that are known only at run time")));
        }
        let stem = self.stem(old, i);
        let mut parts = Vec::new();
        for (k, number) in numbers.iter().enumerate() {
            let part = patch.fresh(&format!("{stem}_{k}"));
            match number {
                Some(n) => patch.set_constant(&part, Constant::ints(&[*n])),
                None => {
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

    fn stem(&self, node: &Node, i: usize) -> String {
        format!("{}_{}_{i}", node.output(0).unwrap_or(&node.op), self.word)
    }
}
