//! Channel labels: which indices of which axes must be kept or removed together.
//!
//! Pruning asks of each value and constant, for each axis: may single indices of this axis be removed, and which
//! indices elsewhere go with them? The answer is a label (an *atom*) per index. Indices with one atom are removed
//! together; an axis without labels is fixed. A convolution starts fresh atoms at its output channels and joins those of
//! its weight's input axis with those of its input; Add joins its inputs index by index; Concat appends label lists;
//! Reshape and Transpose move them. So dependency groups need no list of layers and no index arithmetic of their own.
//!
//! An operator's `channels` rule reads labels of its inputs and sets those of its outputs. Joining atoms later reaches
//! everything labelled before.

use crate::error::{Error, Result};
use crate::model::graph::{Fact, Facts, Node};
use std::collections::HashMap;
use std::sync::Arc;

/// The label of one index of an axis.
pub type Atom = u32;
/// One label per index of an axis; `None` for an axis from which nothing may be removed.
pub type AxisLabels = Option<Arc<[Atom]>>;

/// Labels of every axis of every value of a graph, with a union-find over the atoms.
#[derive(Debug, Default, Clone)]
pub struct Labels {
    parent: Vec<Atom>,
    frozen: Vec<bool>,
    axes: HashMap<String, Vec<AxisLabels>>,
}

impl Labels {
    pub fn new() -> Self {
        Self::default()
    }
    /// `n` new atoms.
    pub fn fresh(&mut self, n: usize) -> Arc<[Atom]> {
        let start = Atom::try_from(self.parent.len()).unwrap_or(Atom::MAX);
        let end = start + Atom::try_from(n).unwrap_or(0);
        self.parent.extend(start..end);
        self.frozen.extend(std::iter::repeat_n(false, n));
        (start..end).collect()
    }
    /// The representative of an atom's set.
    pub fn root(&self, mut a: Atom) -> Atom {
        while self.parent[a as usize] != a {
            a = self.parent[a as usize];
        }
        a
    }
    pub fn join(&mut self, a: Atom, b: Atom) {
        let (a, b) = (self.compress(a), self.compress(b));
        if a != b {
            let (low, high) = (a.min(b), a.max(b));
            self.parent[high as usize] = low;
            self.frozen[low as usize] |= self.frozen[high as usize];
        }
    }
    fn compress(&mut self, a: Atom) -> Atom {
        let root = self.root(a);
        let mut at = a;
        while self.parent[at as usize] != root {
            at = std::mem::replace(&mut self.parent[at as usize], root);
        }
        root
    }
    pub fn freeze(&mut self, a: Atom) {
        let root = self.compress(a);
        self.frozen[root as usize] = true;
    }
    pub fn is_frozen(&self, a: Atom) -> bool {
        self.frozen[self.root(a) as usize]
    }
    /// Labels of one axis of a value; `None` when it is fixed.
    pub fn axis(&self, value: &str, axis: usize) -> AxisLabels {
        self.axes.get(value).and_then(|v| v.get(axis)).cloned().flatten()
    }
    /// Labels of all axes of a value, empty when none are known.
    pub fn of(&self, value: &str) -> &[AxisLabels] {
        self.axes.get(value).map_or(&[], Vec::as_slice)
    }
    pub fn set(&mut self, value: &str, labels: Vec<AxisLabels>) {
        self.axes.insert(value.to_string(), labels);
    }
    /// All labelled values.
    pub fn values(&self) -> impl Iterator<Item = (&str, &[AxisLabels])> {
        self.axes.iter().map(|(k, v)| (k.as_str(), v.as_slice()))
    }
}

/// What a channel rule sees: a node, what is known of its values, and the labels so far.
#[derive(Debug)]
pub struct Channels<'a> {
    pub node: &'a Node,
    pub facts: &'a Facts,
    pub labels: &'a mut Labels,
}

impl Channels<'_> {
    /// What is known of input `i`.
    ///
    /// # Errors
    /// `Format` when it is left out.
    pub fn fact(&self, i: usize) -> Result<&Fact> {
        let name = self.node.input(i).ok_or_else(|| Error::format(format!("input {i} is missing")))?;
        self.facts.get(name).ok_or_else(|| Error::internal(format!("no fact of '{name}'")))
    }
    pub fn out_fact(&self, i: usize) -> Result<&Fact> {
        let name = self.node.output(i).ok_or_else(|| Error::format(format!("output {i} is missing")))?;
        self.facts.get(name).ok_or_else(|| Error::internal(format!("no fact of '{name}'")))
    }
    pub fn rank(&self, i: usize) -> Result<usize> {
        self.fact(i)?.rank().ok_or_else(|| Error::unsupported("pruning needs a known rank here"))
    }
    /// Labels of an axis of input `i`. A float constant gets labels of its own on first use.
    pub fn axis(&mut self, i: usize, axis: usize) -> AxisLabels {
        let name = self.node.input(i)?.to_string();
        if self.labels.of(&name).is_empty() {
            let dims = self.facts.get(&name).filter(|f| f.element.is_float())?.constant.as_ref()?.dims().to_vec();
            let axes = dims.iter().map(|&d| Some(self.labels.fresh(d))).collect();
            self.labels.set(&name, axes);
        }
        self.labels.axis(&name, axis)
    }
    /// Labels of all axes of input `i`, as many as its rank.
    pub fn axes(&mut self, i: usize) -> Result<Vec<AxisLabels>> {
        Ok((0..self.rank(i)?).map(|a| self.axis(i, a)).collect())
    }
    /// The two axes keep and lose the same indices. A fixed one fixes the other.
    ///
    /// # Errors
    /// `Shape` when they have different lengths.
    pub fn join(&mut self, a: &AxisLabels, b: &AxisLabels) -> Result<()> {
        match (a, b) {
            (Some(a), Some(b)) if a.len() == b.len() => a.iter().zip(b.iter()).for_each(|(&a, &b)| self.labels.join(a, b)),
            (Some(a), Some(b)) => return Err(Error::shape(format!("axes of {} and {} indices must match", a.len(), b.len()))),
            (Some(x), None) | (None, Some(x)) => self.freeze(&Some(x.clone())),
            (None, None) => {}
        }
        Ok(())
    }
    /// Nothing may be removed from this axis.
    pub fn freeze(&mut self, axis: &AxisLabels) {
        for &a in axis.iter().flat_map(|l| l.iter()) {
            self.labels.freeze(a);
        }
    }
    /// Nothing may be removed from any axis of input `i`.
    pub fn freeze_input(&mut self, i: usize) {
        let Some(name) = self.node.input(i) else { return };
        for axis in self.labels.of(name).to_vec() {
            self.freeze(&axis);
        }
    }
    /// Sets the labels of output `i`, one entry per axis.
    pub fn set(&mut self, i: usize, axes: Vec<AxisLabels>) {
        if let Some(name) = self.node.output(i) {
            self.labels.set(name, axes);
        }
    }
}

/// The rule of operators through which nothing may be pruned: all inputs are fixed, outputs have no labels.
pub fn fixed(cx: &mut Channels<'_>) -> Result<()> {
    for i in 0..cx.node.inputs.len() {
        cx.freeze_input(i);
    }
    Ok(())
}

/// The rule of operators that treat each element alone and keep the shape of input 0.
pub fn same(cx: &mut Channels<'_>) -> Result<()> {
    let axes = cx.axes(0)?;
    cx.set(0, axes);
    Ok(())
}
