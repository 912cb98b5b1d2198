//! Building a graph node by node, as the zoo and tests do.

use super::{Fact, Graph, Node, ValueInfo};
use crate::constant::Constant;
use crate::ops::transpose::IDENTITY;
use compresso_base::error::Result;
use std::collections::HashMap;

/// Builds a graph. Values are handled by name; each method returns the name of what it made.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
    scope: Vec<String>,
    counts: HashMap<String, usize>,
}

impl GraphBuilder {
    /// An empty graph that goes by version `opset` of the ONNX operator set.
    pub fn new(name: impl Into<String>, opset: i64) -> Self {
        let mut graph = Graph { name: name.into(), ..Graph::default() };
        graph.opsets.insert(String::new(), opset);
        Self { graph, scope: Vec::new(), counts: HashMap::new() }
    }
    /// Names made by `f` start with `name.`; scopes nest.
    pub fn scoped<T>(&mut self, name: impl Into<String>, f: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(name.into());
        let out = f(self);
        self.scope.pop();
        out
    }
    /// `name` under the current scope, such as `model.0.conv.weight`.
    pub fn path(&self, name: &str) -> String {
        let mut parts: Vec<&str> = self.scope.iter().map(String::as_str).collect();
        if !name.is_empty() {
            parts.push(name);
        }
        parts.join(".")
    }
    fn unique(&mut self, stem: String) -> String {
        let n = self.counts.entry(stem.clone()).or_insert(0);
        *n += 1;
        if *n == 1 { stem } else { format!("{stem}_{}", *n - 1) }
    }
    /// Declares a graph input; its name stands outside all scopes.
    pub fn input(&mut self, name: &str, fact: Fact) -> String {
        self.graph.inputs.push(ValueInfo::new(name, fact));
        name.to_string()
    }
    /// A constant named under the current scope.
    pub fn constant(&mut self, name: &str, value: Constant) -> String {
        let path = self.path(name);
        let name = self.unique(path);
        self.graph.constants.insert(name.clone(), value);
        name
    }
    /// Adds a node with one output, both named after the scope and the operator; returns the output.
    pub fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.node(Node::new(op, "", inputs.iter().copied(), [""]))
    }
    /// Adds a prepared node; empty names of the node and its outputs are filled in, and a node name that is taken gets a
    /// number. Returns the first output.
    pub fn node(&mut self, mut node: Node) -> String {
        let stem = if node.name.is_empty() { self.path(&node.op) } else { std::mem::take(&mut node.name) };
        node.name = self.unique(stem);
        for i in 0..node.outputs.len() {
            if node.outputs[i].is_empty() {
                node.outputs[i] = format!("{}_output_{i}", node.name);
            }
        }
        let out = node.outputs[0].clone();
        self.graph.nodes.push(node);
        out
    }
    /// Declares a graph output; its type is inferred by [`GraphBuilder::finish`].
    pub fn output(&mut self, name: &str) {
        self.graph.outputs.push(ValueInfo::new(name, Fact::unranked(crate::Element::F32)));
    }
    /// A graph output under a name of its own.
    pub fn output_as(&mut self, value: &str, name: &str) {
        self.node(Node::new(IDENTITY, "", [value], [name]));
        self.output(name);
    }
    /// Sets an entry of the text metadata.
    pub fn metadata(&mut self, key: &str, value: impl Into<String>) {
        self.graph.metadata.insert(key.into(), value.into());
    }
    /// The graph as the inner one of a node (If, Loop, Scan). It may read values of the graph around it, with which it is checked.
    pub fn finish_inner(self) -> Graph {
        self.graph
    }
    /// The graph, checked, with the types of its outputs inferred.
    pub fn finish(self) -> Result<Graph> {
        let mut graph = self.graph;
        graph.check()?;
        let facts = super::infer(&graph)?;
        for out in &mut graph.outputs {
            if let Some(f) = facts.get(&out.name) {
                out.fact = Fact { contents: None, constant: None, ..f.clone() };
            }
        }
        Ok(graph)
    }
}
