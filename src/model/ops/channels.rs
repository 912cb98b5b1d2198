//! Channel labels: which indices of which axes must be kept or removed together.
//!
//! Pruning asks of each value and constant, for each axis: may single indices of this axis be removed, and which
//! indices elsewhere go with them? The answer is a label (an [`Atom`]) per index. Indices with one atom are removed
//! together; an axis without labels is fixed. A convolution starts with the atoms of its weight's output axis and joins
//! those of the input axis with those of its input; Add joins its inputs index by index; Concat appends label lists;
//! Reshape and Transpose move them. So dependency groups need no list of layers and no index arithmetic of their own.
//!
//! An operator's `channels` rule reads labels of its inputs and sets those of its outputs. Joining atoms later reaches
//! everything labelled before. Where a node carries sizes or indices of a labelled axis (the target of Reshape, the
//! group count of Conv), the rule says how they follow from what is kept ([`Edit`]).
//!
//! What a rule promises: set every labelled constant slice of an atom to zero (the mask), and no output index with
//! another atom depends on a finite value at that atom's indices any more, so the indices can be left out. Operators that look across an
//! axis in another way than through weights (softmax, mean, norms over it) freeze it.

mod blocks;
mod edit;
mod graph;
mod reason;
mod rules;
#[cfg(test)]
mod tests;

pub use blocks::reshape;
pub use edit::{Edit, Site, Size};
pub use reason::Reason;
pub use rules::{broadcast, elementwise, fixed, images, join_broadcast, product, sum, through, through_except};

use crate::graph::{Dim, Fact, Facts, Node};
use compresso_base::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The label of one index of an axis.
pub type Atom = u32;
/// One label per index of an axis; `None` for an axis from which nothing may be removed.
pub type AxisLabels = Option<Arc<[Atom]>>;

/// A weight whose slices along `axis` make the channels of a node's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Index of the node.
    pub node: usize,
    /// Name of the weight constant.
    pub weight: String,
    /// Position of that axis in the weight.
    pub axis: usize,
}

/// Labels of every axis of every value of a graph, with a union-find over the atoms.
#[derive(Debug, Default, Clone)]
pub struct Labels {
    parent: Vec<Atom>,
    frozen: Vec<bool>,
    axes: HashMap<String, Vec<AxisLabels>>,
    /// Values that are zero at indices whose atoms are masked.
    zero: HashSet<String>,
    /// Constants that the mask leaves alone, such as divisors.
    unmasked: HashSet<String>,
    layers: Vec<Layer>,
    edits: Vec<Edit>,
    /// Why an atom's set is frozen, by its representative at that time.
    reasons: HashMap<Atom, Reason>,
    /// The reason of what is frozen now.
    cause: Reason,
    /// Atoms that stand for several channels each, which go together by the choice of a rule.
    blocks: Vec<Atom>,
    /// Axes of the output of the node at hand that one of its readers fixes.
    ahead: HashSet<usize>,
}

impl Labels {
    /// No labels, of no value.
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
    /// The sets of two atoms become one; if either was frozen, it is.
    pub fn join(&mut self, a: Atom, b: Atom) {
        let (a, b) = (self.compress(a), self.compress(b));
        if a != b {
            let (low, high) = (a.min(b), a.max(b));
            self.parent[high as usize] = low;
            if self.frozen[high as usize] && !self.frozen[low as usize] {
                self.frozen[low as usize] = true;
                if let Some(reason) = self.reasons.get(&high).cloned() {
                    self.reasons.insert(low, reason);
                }
            }
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
    /// Nothing of the set of an atom may be removed, for the reason that the rule at work has given.
    pub fn freeze(&mut self, a: Atom) {
        let root = self.compress(a);
        if !std::mem::replace(&mut self.frozen[root as usize], true) {
            self.reasons.insert(root, self.cause.clone());
        }
    }
    /// Why an index stays; `None` for one that may go.
    pub fn reason(&self, a: Atom) -> Option<&Reason> {
        self.reasons.get(&self.root(a)).filter(|_| self.is_frozen(a))
    }
    /// Nothing may be removed from a value, for this reason.
    pub fn keep(&mut self, value: &str, why: &'static str) {
        self.cause = Reason { node: None, why };
        self.freeze_value(value);
    }
    /// The sets that stand for several channels of a layer each.
    pub fn blocks(&self) -> HashSet<Atom> {
        self.blocks.iter().map(|&a| self.root(a)).collect()
    }
    /// True for an atom whose set must stay.
    pub fn is_frozen(&self, a: Atom) -> bool {
        self.frozen[self.root(a) as usize]
    }
    /// Nothing may be removed from any axis of this value.
    pub fn freeze_value(&mut self, value: &str) {
        for axis in self.of(value).to_vec().into_iter().flatten() {
            axis.iter().for_each(|&a| self.freeze(a));
        }
    }
    /// Labels of one axis of a value; `None` when it is fixed.
    pub fn axis(&self, value: &str, axis: usize) -> AxisLabels {
        self.axes.get(value).and_then(|v| v.get(axis)).cloned().flatten()
    }
    /// Labels of all axes of a value, empty when none are known.
    pub fn of(&self, value: &str) -> &[AxisLabels] {
        self.axes.get(value).map_or(&[], Vec::as_slice)
    }
    /// Sets the labels of a value, one entry per axis, in place of those it had.
    pub fn set(&mut self, value: &str, labels: Vec<AxisLabels>) {
        self.axes.insert(value.to_string(), labels);
    }
    /// All labelled values.
    pub fn values(&self) -> impl Iterator<Item = (&str, &[AxisLabels])> {
        self.axes.iter().map(|(k, v)| (k.as_str(), v.as_slice()))
    }
    /// The weights that make channels, in the order of the nodes.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
    /// Sizes and indices in nodes that follow from what is kept.
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }
    /// False for constants that the mask must not set to zero.
    pub fn is_masked(&self, constant: &str) -> bool {
        !self.unmasked.contains(constant)
    }
    /// True when masking the atoms of this value's indices makes it zero there.
    pub fn is_zero(&self, value: &str) -> bool {
        self.zero.contains(value)
    }
}

/// What a channel rule sees: a node, what is known of its values, and the labels so far.
#[derive(Debug)]
pub struct Channels<'a> {
    /// The node whose outputs get labels.
    pub node: &'a Node,
    /// Position of the node in the graph.
    pub index: usize,
    /// Version of the node's operator set.
    pub opset: i64,
    /// What is known of all values of the graph.
    pub facts: &'a Facts,
    /// Labels of the values made so far, which the rule reads, joins and adds to.
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
    /// What is known of output `i`; see [`Channels::fact`].
    pub fn out_fact(&self, i: usize) -> Result<&Fact> {
        let name = self.node.output(i).ok_or_else(|| Error::format(format!("output {i} is missing")))?;
        self.facts.get(name).ok_or_else(|| Error::internal(format!("no fact of '{name}'")))
    }
    /// Sizes of input `i`.
    ///
    /// # Errors
    /// `Unsupported` when its rank is not known.
    pub fn shape(&self, i: usize) -> Result<Vec<Dim>> {
        self.fact(i)?.shape.clone().ok_or_else(|| Error::unsupported("pruning needs a known rank here"))
    }
    /// Sizes of output `i`; see [`Channels::shape`].
    pub fn out_shape(&self, i: usize) -> Result<Vec<Dim>> {
        self.out_fact(i)?.shape.clone().ok_or_else(|| Error::unsupported("pruning needs a known rank here"))
    }
    /// Number of axes of input `i`; see [`Channels::shape`].
    pub fn rank(&self, i: usize) -> Result<usize> {
        Ok(self.shape(i)?.len())
    }
    /// The axis that `axis` names in input `i`; negative axes count from the end.
    pub fn normal_axis(&self, i: usize, axis: i64) -> Result<usize> {
        crate::graph::normalize_axis(axis, self.rank(i)?)
    }
    /// The integers of input `i`, when all are known before the graph runs.
    pub fn ints(&self, i: usize) -> Option<Vec<i64>> {
        let fact = self.node.input(i).and_then(|n| self.facts.get(n))?;
        match (&fact.constant, &fact.contents) {
            (Some(c), _) => c.to_i64s().ok(),
            (None, Some(v)) => v.iter().map(|d| i64::try_from(d.known()?).ok()).collect(),
            _ => None,
        }
    }
    /// True when input `i` is a float constant, whose slices the mask can set to zero.
    pub fn is_constant(&self, i: usize) -> bool {
        self.node.input(i).and_then(|n| self.facts.get(n)).is_some_and(|f| f.element.is_float() && f.constant.is_some())
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
    /// `n` new labels that stay.
    pub fn frozen(&mut self, n: usize) -> AxisLabels {
        let labels = Some(self.labels.fresh(n));
        self.freeze(&labels);
        labels
    }
    /// The two axes keep and lose the same indices. A fixed one fixes the other.
    ///
    /// # Errors
    /// `Shape` when they have different lengths.
    pub fn join(&mut self, a: &AxisLabels, b: &AxisLabels) -> Result<()> {
        match (a, b) {
            (Some(a), Some(b)) if a.len() == b.len() => a.iter().zip(b.iter()).for_each(|(&a, &b)| self.labels.join(a, b)),
            (Some(a), Some(b)) => return Err(Error::shape(format!("axes of {} and {} indices must match", a.len(), b.len()))),
            (Some(x), None) | (None, Some(x)) => self.freeze_beside(&Some(x.clone())),
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
    /// Nothing may be removed from this axis, for what it must match stays.
    pub fn freeze_beside(&mut self, axis: &AxisLabels) {
        let before = std::mem::replace(&mut self.labels.cause.why, reason::BESIDE);
        self.freeze(axis);
        self.labels.cause.why = before;
    }
    /// Says why what this rule freezes from here on stays: a clause about channels, `takes their mean`.
    pub fn because(&mut self, why: &'static str) {
        self.labels.cause.why = why;
    }
    /// All indices of each of `n` equal runs of an axis go together; the first of each run.
    pub fn whole_runs(&mut self, axis: &Arc<[Atom]>, n: usize) -> Arc<[Atom]> {
        let each = axis.len() / n.max(1);
        let runs = axis.chunks_exact(each.max(1));
        runs.map(|run| {
            run.iter().for_each(|&a| self.labels.join(run[0], a));
            self.labels.blocks.push(run[0]);
            run[0]
        })
        .collect()
    }
    /// Nothing may be removed from any axis of input `i`.
    pub fn freeze_input(&mut self, i: usize) {
        // Gives a constant its labels, so that a later reader finds them frozen.
        self.axis(i, 0);
        if let Some(name) = self.node.input(i) {
            self.labels.freeze_value(name);
        }
    }
    /// Sets the labels of output `i`, one entry per axis.
    pub fn set(&mut self, i: usize, axes: Vec<AxisLabels>) {
        if let Some(name) = self.node.output(i) {
            self.labels.set(name, axes);
        }
    }
    /// Says that output `i` is zero wherever its atoms are masked.
    pub fn set_zero(&mut self, i: usize, zero: bool) {
        if let Some(name) = self.node.output(i).filter(|_| zero) {
            self.labels.zero.insert(name.to_string());
        }
    }
    /// True when input `i` is zero wherever its atoms are masked.
    pub fn zero(&self, i: usize) -> bool {
        let Some(name) = self.node.input(i) else { return false };
        self.labels.is_zero(name) || (self.is_constant(i) && self.labels.is_masked(name))
    }
    /// The mask must not set the constant input `i` to zero (it divides, or stands under a root).
    pub fn unmasked(&mut self, i: usize) {
        if let Some(name) = self.node.input(i) {
            self.labels.unmasked.insert(name.to_string());
        }
    }
    /// Notes that the weight at input `i` makes the output's channels along its `axis`.
    pub fn layer(&mut self, i: usize, axis: usize) {
        if let Some(weight) = self.node.input(i).filter(|_| self.is_constant(i)) {
            self.labels.layers.push(Layer { node: self.index, weight: weight.to_string(), axis });
        }
    }
    /// Integers at `place` of this node follow from what is kept.
    pub fn sizes(&mut self, place: Site, sizes: Vec<Size>) {
        if sizes.iter().any(|s| matches!(s, Size::Count(_))) {
            self.labels.edits.push(Edit::Sizes { node: self.index, place, sizes });
        }
    }
    /// Input `i` holds indices into an axis with these labels.
    pub fn indices(&mut self, i: usize, axis: &AxisLabels, indices: Vec<usize>) {
        if let Some(labels) = axis.clone() {
            self.labels.edits.push(Edit::Indices { node: self.index, input: i, labels, indices });
        }
    }
}
