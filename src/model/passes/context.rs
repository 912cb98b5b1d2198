//! What passes know of the graph they look at, worked out once for all of them.

use super::Rewrite;
use crate::graph::{Facts, Graph, Node, Patch};
use compresso_base::error::Result;
use std::cell::{Cell, OnceCell};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// One state of a graph, with what can be asked of it. Each answer is worked out when it is first asked for, and all passes
/// that look at this state share it.
#[derive(Debug)]
pub struct PassContext<'g> {
    graph: &'g Graph,
    keep: &'g HashSet<String>,
    facts: OnceCell<Arc<Facts>>,
    producers: OnceCell<HashMap<&'g str, usize>>,
    consumers: OnceCell<HashMap<&'g str, Vec<usize>>>,
    /// How often shape inference has run.
    inferences: Cell<usize>,
}

impl<'g> PassContext<'g> {
    /// The values named in `keep` must stay, as graph outputs do.
    pub fn new(graph: &'g Graph, keep: &'g HashSet<String>) -> Self {
        Self { graph, keep, facts: OnceCell::new(), producers: OnceCell::new(), consumers: OnceCell::new(), inferences: Cell::new(0) }
    }
    /// The graph in this state.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }
    /// Types and shapes of all values.
    ///
    /// # Errors
    /// As [`infer`](crate::graph::infer()).
    pub fn facts(&self) -> Result<&Facts> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts);
        }
        if !self.graph.is_inferred() {
            self.inferences.set(self.inferences.get() + 1);
        }
        let facts = self.graph.facts()?;
        Ok(self.facts.get_or_init(|| facts))
    }
    /// Index of the node that makes each value.
    pub fn producers(&self) -> &HashMap<&'g str, usize> {
        self.producers.get_or_init(|| self.graph.producers())
    }
    /// The node that makes a value, with its index.
    pub fn producer(&self, value: &str) -> Option<(usize, &'g Node)> {
        self.producers().get(value).map(|&i| (i, &self.graph.nodes()[i]))
    }
    /// Indices of the nodes that read a value, as in [`Graph::consumers`].
    pub fn readers(&self, value: &str) -> &[usize] {
        self.consumers.get_or_init(|| self.graph.consumers()).get(value).map_or(&[], Vec::as_slice)
    }
    /// True for a value that must still be there under its name: a graph output, or one that the caller wants.
    pub fn stays(&self, value: &str) -> bool {
        self.keep.contains(value) || self.graph.is_output(value)
    }
    /// True for a value that something reads or that [`PassContext::stays`].
    pub fn is_used(&self, value: &str) -> bool {
        !self.readers(value).is_empty() || self.stays(value)
    }
    /// The node that alone reads a value, once, unless the value stays.
    pub fn sole_reader(&self, value: &str) -> Option<(usize, &'g Node)> {
        match self.readers(value) {
            [i] if !self.stays(value) => Some((*i, &self.graph.nodes()[*i])),
            _ => None,
        }
    }
    /// The number of a constant that is one number.
    ///
    /// # Errors
    /// As [`PassContext::facts`].
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        let constant = match self.graph.constant(name) {
            Some(c) => Some(c),
            None => self.facts()?.get(name).and_then(|f| f.constant.as_ref()),
        };
        match constant {
            Some(c) if c.count() == 1 => Ok(c.to_f32s()?.first().map(|v| f64::from(*v))),
            _ => Ok(None),
        }
    }
    /// The integers of a node's input, where they are constant.
    ///
    /// # Errors
    /// As [`PassContext::facts`].
    pub fn ints(&self, node: &Node, input: usize) -> Result<Option<Vec<i64>>> {
        let Some(name) = node.input(input) else { return Ok(None) };
        let constant = match self.graph.constant(name) {
            Some(c) => Some(c),
            None => self.facts()?.get(name).and_then(|f| f.constant.as_ref()),
        };
        constant.map(crate::constant::Constant::to_i64s).transpose()
    }
    /// The integers of an attribute of old operator sets, else of the input that came in its place; `None` where they are left out or not
    /// constant.
    ///
    /// # Errors
    /// As [`PassContext::ints`].
    pub fn listed(&self, node: &Node, attribute: &str, input: usize) -> Result<Option<Vec<i64>>> {
        match node.find_ints(attribute)? {
            Some(values) => Ok(Some(values.to_vec())),
            None => self.ints(node, input),
        }
    }
    /// The number of axes of a value.
    ///
    /// # Errors
    /// As [`PassContext::facts`].
    pub fn rank(&self, value: &str) -> Result<Option<usize>> {
        Ok(self.facts()?.get(value).and_then(crate::graph::Fact::rank))
    }
    /// A rewrite that does nothing yet.
    pub fn rewrite(&self) -> Rewrite<'g> {
        let mut patch = Patch::new(self.graph);
        patch.keep(self.keep);
        Rewrite { patch, done: Vec::new(), refused: Vec::new(), warnings: Vec::new(), copies: Vec::new() }
    }
    /// How often shape inference has run.
    pub(super) fn inferences(&self) -> usize {
        self.inferences.get()
    }
}
