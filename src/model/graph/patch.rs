//! The one way to change a graph: collect edits, then apply them all, with the result checked.

use super::{Attr, Dim, Fact, Graph, Node, ValueInfo};
use crate::constant::Constant;
use compresso_base::error::{Error, Result};
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};

/// Edits to a graph. Node indices are those of the graph that the patch was made for and stay valid until `apply`.
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
    metadata: IndexMap<String, Option<String>>,
    opsets: IndexMap<String, i64>,
    shapes: HashMap<String, Vec<Dim>>,
    fresh: HashSet<String>,
}

impl<'g> Patch<'g> {
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
            fresh: HashSet::new(),
        }
    }
    /// The graph being patched, as it was.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }
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
    }
    pub fn remove(&mut self, node: usize) {
        self.removed.insert(node);
    }
    /// The node, to be edited in place.
    pub fn edit(&mut self, node: usize) -> &mut Node {
        let graph = self.graph;
        self.changed.entry(node).or_insert_with(|| graph.nodes[node].clone())
    }
    /// Adds a node. Where it stands follows from what it reads and who reads it.
    pub fn add(&mut self, node: Node) {
        self.added.push(node);
    }
    /// Every reader of `from` in the old graph reads `to` instead; nodes added by this patch read what they say. When
    /// `from` is a graph output, the output keeps its name and `to`'s producer is renamed.
    pub fn redirect(&mut self, from: &str, to: &str) {
        self.redirects.insert(from.into(), to.into());
    }
    /// Sets or replaces a constant.
    pub fn set_constant(&mut self, name: impl Into<String>, value: Constant) {
        self.constants.insert(name.into(), Some(value));
    }
    pub fn remove_constant(&mut self, name: impl Into<String>) {
        self.constants.insert(name.into(), None);
    }
    pub fn set_outputs(&mut self, outputs: Vec<ValueInfo>) {
        self.outputs = Some(outputs);
    }
    pub fn set_inputs(&mut self, inputs: Vec<ValueInfo>) {
        self.inputs = Some(inputs);
    }
    pub fn set_metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.metadata.insert(key.into(), Some(value.into()));
    }
    pub fn set_opset(&mut self, domain: impl Into<String>, version: i64) {
        self.opsets.insert(domain.into(), version);
    }
    /// Inner value `name` now has this shape. Matters only where the file states its type.
    pub fn reshape_value(&mut self, name: impl Into<String>, shape: Vec<Dim>) {
        self.shapes.insert(name.into(), shape);
    }
    /// A value name that neither the graph nor this patch uses, starting with `stem`.
    pub fn fresh(&mut self, stem: &str) -> String {
        let used = |n: &str, s: &Self| {
            s.fresh.contains(n)
                || s.graph.constants.contains_key(n)
                || s.constants.contains_key(n)
                || s.graph.inputs.iter().any(|i| i.name == n)
                || s.graph.nodes.iter().chain(&s.added).any(|node| node.outputs.iter().any(|o| o == n) || node.name == n)
        };
        let mut name = stem.to_string();
        let mut i = 1;
        while used(&name, self) {
            name = format!("{stem}_{i}");
            i += 1;
        }
        self.fresh.insert(name.clone());
        name
    }

    /// The new graph: edits made, nodes put in an order in which they can run, nodes and constants that nothing reads
    /// any more dropped where this patch cut them off, and the whole checked.
    ///
    /// # Errors
    /// `Check` when the result reads a value nobody makes, makes one twice, or has a cycle.
    pub fn apply(self) -> Result<Graph> {
        let old = self.graph;
        let mut g = old.clone();
        g.nodes = Vec::with_capacity(old.nodes.len() + self.added.len());
        // Keep the old place of each node: (position, node).
        let mut nodes: Vec<Node> = Vec::new();
        for (i, node) in old.nodes.iter().enumerate() {
            if self.removed.contains(&i) {
                continue;
            }
            let mut node = self.changed.get(&i).unwrap_or(node).clone();
            for input in &mut node.inputs {
                if let Some(to) = resolve(&self.redirects, input) {
                    *input = to;
                }
            }
            rename_captured(&mut node, &self.redirects);
            nodes.push(node);
        }
        nodes.extend(self.added);
        for (name, value) in self.constants {
            match value {
                Some(c) => {
                    if let Some(info) = g.inputs.iter_mut().find(|i| i.name == name) {
                        info.fact = Fact::known(c.element(), c.dims());
                    }
                    g.constants.insert(name, c);
                }
                None => {
                    g.constants.shift_remove(&name);
                    g.inputs.retain(|i| i.name != name);
                }
            }
        }
        for (name, shape) in self.shapes {
            if let Some(info) = g.value_info.get_mut(&name) {
                info.fact.shape = Some(shape);
            }
        }
        if let Some(inputs) = self.inputs {
            g.inputs = inputs;
        }
        if let Some(outputs) = self.outputs {
            g.outputs = outputs;
        }
        for (k, v) in self.metadata {
            match v {
                Some(v) => {
                    g.metadata.insert(k, v);
                }
                None => {
                    g.metadata.shift_remove(&k);
                }
            }
        }
        g.opsets.extend(self.opsets);
        // Redirected graph outputs: give the new producer the output's name.
        for out in 0..g.outputs.len() {
            let name = g.outputs[out].name.clone();
            let Some(to) = resolve(&self.redirects, &name) else { continue };
            let made_by_node = nodes.iter().any(|n| n.outputs.contains(&to));
            if made_by_node && !g.outputs.iter().any(|o| o.name == to) {
                for node in &mut nodes {
                    for n in node.inputs.iter_mut().chain(&mut node.outputs) {
                        if *n == to {
                            n.clone_from(&name);
                        }
                    }
                    rename_captured(node, &IndexMap::from([(to.clone(), name.clone())]));
                }
            } else {
                nodes.push(Node::new("Identity", "", [to], [name]));
            }
        }
        g.nodes = nodes;
        g.value_info.retain(|name, _| !self.redirects.contains_key(name));
        g.drop_unread(old);
        g.sort()?;
        g.check()?;
        Ok(g)
    }
}

/// Follows redirects to the end; `None` when the name is not redirected.
fn resolve(redirects: &IndexMap<String, String>, name: &str) -> Option<String> {
    let mut at = redirects.get(name)?;
    for _ in 0..redirects.len() {
        match redirects.get(at) {
            Some(next) => at = next,
            None => break,
        }
    }
    Some(at.clone())
}

/// Applies renames to what inner graphs read from outside.
fn rename_captured(node: &mut Node, renames: &IndexMap<String, String>) {
    if renames.is_empty() || node.captured().is_empty() {
        return;
    }
    for attr in node.attrs.values_mut() {
        let graphs: &mut [Graph] = match attr {
            Attr::Graph(g) => std::slice::from_mut(g.as_mut()),
            Attr::Graphs(gs) => gs,
            _ => continue,
        };
        for g in graphs {
            let local: HashSet<String> = g
                .nodes
                .iter()
                .flat_map(|n| n.outputs.iter().cloned())
                .chain(g.constants.keys().cloned())
                .chain(g.inputs.iter().map(|i| i.name.clone()))
                .collect();
            let outer: IndexMap<String, String> =
                renames.iter().filter(|(k, _)| !local.contains(*k)).map(|(k, v)| (k.clone(), v.clone())).collect();
            for inner in &mut g.nodes {
                for input in &mut inner.inputs {
                    if let Some(to) = resolve(&outer, input) {
                        *input = to;
                    }
                }
                rename_captured(inner, &outer);
            }
        }
    }
}

impl Graph {
    /// Drops nodes and constants that nothing reads, unless `old` already had them unread.
    fn drop_unread(&mut self, old: &Self) {
        let read_in = |g: &Self| -> HashSet<String> {
            let consumers = g.consumers();
            consumers.keys().map(|s| (*s).to_string()).chain(g.outputs.iter().map(|o| o.name.clone())).collect()
        };
        let was_read = read_in(old);
        let was_made: HashSet<&str> = old.producers().into_keys().collect();
        loop {
            let read = read_in(self);
            let before = self.nodes.len();
            self.nodes.retain(|n| {
                n.outputs.iter().any(|o| read.contains(o))
                    || n.outputs.iter().all(|o| was_made.contains(o.as_str()) && !was_read.contains(o))
            });
            if self.nodes.len() == before {
                self.constants.retain(|name, _| read.contains(name) || (old.constants.contains_key(name) && !was_read.contains(name)));
                let constants = &self.constants;
                self.inputs.retain(|i| read.contains(&i.name) || !old.constants.contains_key(&i.name) || constants.contains_key(&i.name));
                return;
            }
        }
    }

    /// Puts the nodes in an order in which they can run, keeping their order where possible.
    ///
    /// # Errors
    /// `Check` naming a node that stands in a cycle.
    pub(crate) fn sort(&mut self) -> Result<()> {
        let order = {
            let makers = self.producers();
            let mut waits = vec![0usize; self.nodes.len()];
            let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
            for (i, node) in self.nodes.iter().enumerate() {
                for name in node.inputs.iter().map(String::as_str).chain(node.captured()) {
                    if let Some(&p) = makers.get(name) {
                        waits[i] += 1;
                        readers[p].push(i);
                    }
                }
            }
            // Smallest index first keeps the file's order.
            let mut ready: std::collections::BTreeSet<usize> = (0..self.nodes.len()).filter(|&i| waits[i] == 0).collect();
            let mut order = Vec::with_capacity(self.nodes.len());
            while let Some(i) = ready.pop_first() {
                order.push(i);
                for &r in &readers[i] {
                    waits[r] -= 1;
                    if waits[r] == 0 {
                        ready.insert(r);
                    }
                }
            }
            if let Some(i) = (0..self.nodes.len()).find(|&i| waits[i] > 0) {
                return Err(Error::check("the graph has a cycle through this node").at(self.nodes[i].label()));
            }
            order
        };
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
        Ok(())
    }
}
