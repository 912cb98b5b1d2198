//! Sizes and indices of nodes, written anew where channels of a graph come or go.

use crate::ops::channels::Site;
use crate::ops::concat::CONCAT;
use crate::ops::gather::GATHER;
use crate::{Attr, Constant, Element, Facts, Graph, Node, Patch};
use candle_core::{Device, Tensor};
use compresso_base::error::{Error, Result};

/// Writes sizes and indices of the nodes of a graph.
#[derive(Debug, Clone, Copy)]
pub struct Renumber<'a> {
    pub graph: &'a Graph,
    pub facts: &'a Facts,
    /// Part of the names of new values.
    pub word: &'static str,
}

impl Renumber<'_> {
    /// The integers at a place of a node become these; `None` stands for one that is known only when the graph runs, and stays.
    ///
    /// # Errors
    /// `Unsupported` for integers of a type that cannot be computed with.
    pub fn write(&self, patch: &mut Patch<'_>, node: usize, place: &Site, numbers: &[Option<i64>]) -> Result<()> {
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
    pub fn input(&self, patch: &mut Patch<'_>, node: usize, i: usize, values: &[i64]) -> Result<()> {
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
