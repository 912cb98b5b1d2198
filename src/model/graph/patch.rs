//! The one way to change a graph: collect edits, then apply them all, with the result checked.

mod apply;
mod inline;
#[cfg(test)]
mod tests;

use super::{Dim, Graph, Names, Node, ValueInfo};
use crate::constant::Constant;
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};

/// Edits to a graph. Node indices are those of the graph that the patch was made for and stay valid until `apply`.
///
/// Edits that contradict each other (a node removed and edited, a value redirected twice, a constant set to two values) and
/// edits of what does not exist are no errors of the call that adds them: `apply` reports the first, naming both edits.
///
/// ```
/// use compresso_model::{Constant, GraphBuilder, Element, Fact, Node, Patch};
/// let mut b = GraphBuilder::new("g", 17);
/// let x = b.input("x", Fact::known(Element::F32, &[1, 4]));
/// let y = b.op("Identity", &[&x]);
/// let z = b.op("Relu", &[&y]);
/// b.output(&z);
/// let g = b.finish().unwrap();
/// let mut patch = Patch::new(&g);
/// patch.remove(0);
/// patch.redirect(&y, &x);
/// let g = patch.apply().unwrap();
/// assert_eq!(g.nodes().len(), 1);
/// ```
#[derive(Debug)]
pub struct Patch<'g> {
    graph: &'g Graph,
    removed: HashSet<usize>,
    changed: HashMap<usize, Node>,
    added: Vec<Node>,
    redirects: IndexMap<String, String>,
    constants: IndexMap<String, Option<Constant>>,
    outputs: Option<Vec<ValueInfo>>,
    inputs: Option<Vec<ValueInfo>>,
    metadata: IndexMap<String, String>,
    opsets: IndexMap<String, i64>,
    shapes: HashMap<String, Vec<Dim>>,
    kept: HashSet<String>,
    /// Made when the first fresh name is asked for.
    names: Option<Names<'g>>,
    /// The first two edits that contradict each other, or the first of what does not exist.
    conflict: Option<String>,
}

impl<'g> Patch<'g> {
    /// No edits of `graph` yet.
    pub fn new(graph: &'g Graph) -> Self {
        Self {
            graph,
            removed: HashSet::new(),
            changed: HashMap::new(),
            added: Vec::new(),
            redirects: IndexMap::new(),
            constants: IndexMap::new(),
            outputs: None,
            inputs: None,
            metadata: IndexMap::new(),
            opsets: IndexMap::new(),
            shapes: HashMap::new(),
            kept: HashSet::new(),
            names: None,
            conflict: None,
        }
    }
    /// The graph being patched, as it was.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }
    /// True when nothing would change.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty()
            && self.changed.is_empty()
            && self.added.is_empty()
            && self.redirects.is_empty()
            && self.constants.is_empty()
            && self.outputs.is_none()
            && self.inputs.is_none()
            && self.metadata.is_empty()
            && self.opsets.is_empty()
            && self.shapes.is_empty()
            && self.conflict.is_none()
    }
    /// Removes a node. Whoever read its outputs must be redirected, removed or edited.
    pub fn remove(&mut self, node: usize) {
        match self.graph.nodes.get(node) {
            None => self.clash(|p| p.absent(node, "removed")),
            Some(n) if self.changed.contains_key(&node) => self.clash(|_| format!("{} is edited and removed", n.label())),
            Some(_) => {
                self.removed.insert(node);
            }
        }
    }
    /// The node, to be edited in place.
    pub fn edit(&mut self, node: usize) -> &mut Node {
        let graph = self.graph;
        match graph.nodes.get(node) {
            None => self.clash(|p| p.absent(node, "edited")),
            Some(n) if self.removed.contains(&node) => self.clash(|_| format!("{} is removed and edited", n.label())),
            Some(_) => {}
        }
        self.changed.entry(node).or_insert_with(|| graph.nodes.get(node).cloned().unwrap_or_default())
    }
    /// Adds a node. Where it stands follows from what it reads and who reads it.
    pub fn add(&mut self, node: Node) {
        if let Some(names) = &mut self.names {
            node.outputs.iter().chain([&node.name]).for_each(|n| names.take(n));
        }
        self.added.push(node);
    }
    /// Adds a node of one output, both named after `stem` and the operator; gives the output. `set` sets its attributes.
    pub fn op<'n>(&mut self, op: &str, stem: &str, inputs: impl IntoIterator<Item = &'n str>, set: impl FnOnce(Node) -> Node) -> String {
        let (name, output) = (self.fresh(&format!("{stem}_{op}")), self.fresh(&format!("{stem}_{op}_output")));
        self.add(set(Node::new(op, name, inputs, [output.as_str()])));
        output
    }
    /// Every reader of `from` in the old graph reads `to` instead; nodes added by this patch read what they say. When
    /// `from` is a graph output or kept, its name goes over to what `to`'s producer makes.
    pub fn redirect(&mut self, from: &str, to: &str) {
        match self.redirects.get(from) {
            Some(other) if other != to => {
                let other = other.clone();
                self.clash(|_| format!("'{from}' is redirected to '{other}' and to '{to}'"));
            }
            _ => {
                self.redirects.insert(from.into(), to.into());
            }
        }
    }
    /// Sets or replaces a constant.
    pub fn set_constant(&mut self, name: impl Into<String>, value: Constant) {
        let name = name.into();
        match self.constants.get(&name) {
            Some(None) => self.clash(|_| format!("constant '{name}' is removed and set")),
            Some(Some(other)) if *other != value => self.clash(|_| format!("constant '{name}' is set to two values")),
            Some(Some(_)) => {}
            None => {
                if let Some(names) = &mut self.names {
                    names.take(&name);
                }
                self.constants.insert(name, Some(value));
            }
        }
    }
    /// Adds a constant whose name starts with `stem`; gives the name.
    pub fn constant(&mut self, stem: &str, value: Constant) -> String {
        let name = self.fresh(stem);
        self.set_constant(&name, value);
        name
    }
    /// Removes a constant. Whoever read it must be redirected, removed or edited.
    pub fn remove_constant(&mut self, name: impl Into<String>) {
        let name = name.into();
        match self.constants.get(&name) {
            Some(Some(_)) => self.clash(|_| format!("constant '{name}' is set and removed")),
            _ if !self.graph.constants.contains_key(&name) => self.clash(|_| format!("constant '{name}' is removed, but there is none")),
            _ => {
                self.constants.insert(name, None);
            }
        }
    }
    /// Replaces the list of graph outputs.
    pub fn set_outputs(&mut self, outputs: Vec<ValueInfo>) {
        if self.outputs.as_ref().is_some_and(|o| *o != outputs) {
            self.clash(|_| "the graph's outputs are set twice".into());
        }
        self.outputs = Some(outputs);
    }
    /// Replaces the list of graph inputs.
    pub fn set_inputs(&mut self, inputs: Vec<ValueInfo>) {
        if self.inputs.as_ref().is_some_and(|i| *i != inputs) {
            self.clash(|_| "the graph's inputs are set twice".into());
        }
        self.inputs = Some(inputs);
    }
    /// Sets an entry of the text metadata, in place of any of that key.
    pub fn set_metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        if self.metadata.get(&key).is_some_and(|v| *v != value) {
            self.clash(|_| format!("metadata '{key}' is set to two values"));
        }
        self.metadata.insert(key, value);
    }
    /// Sets the version of a domain's operator set; ONNX's own domain is empty.
    pub fn set_opset(&mut self, domain: impl Into<String>, version: i64) {
        let domain = domain.into();
        if let Some(other) = self.opsets.get(&domain).copied().filter(|o| *o != version) {
            self.clash(|_| format!("operator set '{domain}' is set to {other} and to {version}"));
        }
        self.opsets.insert(domain, version);
    }
    /// Inner value `name` now has this shape. Matters only where the file states its type.
    pub fn reshape_value(&mut self, name: impl Into<String>, shape: Vec<Dim>) {
        let name = name.into();
        if self.shapes.get(&name).is_some_and(|s| *s != shape) {
            self.clash(|_| format!("'{name}' is given two shapes"));
        }
        self.shapes.insert(name, shape);
    }
    /// The values stay, as graph outputs do: under their names, whether something reads them or not. That alone is no edit.
    pub fn keep<'n>(&mut self, names: impl IntoIterator<Item = &'n String>) {
        self.kept.extend(names.into_iter().cloned());
    }
    /// A name starting with `stem` for a value or node, that neither the graph, nor one of its inner graphs, nor what this
    /// patch has added so far uses.
    pub fn fresh(&mut self, stem: &str) -> String {
        let names = self.names.get_or_insert_with(|| {
            let mut names = Names::of(self.graph);
            self.constants.keys().for_each(|n| names.take(n));
            self.added.iter().flat_map(|n| n.outputs.iter().chain([&n.name])).for_each(|n| names.take(n));
            names
        });
        names.fresh(stem)
    }

    fn absent(&self, node: usize, what: &str) -> String {
        format!("node number {node} is {what}, but the graph has {} nodes", self.graph.nodes.len())
    }
    fn clash(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.conflict.is_none() {
            self.conflict = Some(what(self));
        }
    }
}
