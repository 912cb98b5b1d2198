//! Names that are taken, so that new ones never clash.

use super::{Graph, Node};
use std::collections::{HashMap, HashSet};

/// Every name of a graph, and what was made up beside it.
#[derive(Debug)]
pub(crate) struct Names<'g> {
    graph: HashSet<&'g str>,
    made: HashSet<String>,
    /// The number to try next for each stem.
    next: HashMap<String, usize>,
}

impl<'g> Names<'g> {
    pub fn of(graph: &'g Graph) -> Self {
        let mut names = HashSet::new();
        collect(graph, &mut names);
        Self { graph: names, made: HashSet::new(), next: HashMap::new() }
    }
    /// Those of nodes and of what they read, make and have inside.
    pub fn of_nodes(nodes: &'g [Node]) -> Self {
        let mut names = HashSet::new();
        collect_nodes(nodes, &mut names);
        Self { graph: names, made: HashSet::new(), next: HashMap::new() }
    }
    /// The same for a graph that changes meanwhile.
    pub fn owned(self) -> Names<'static> {
        let made = self.graph.into_iter().map(String::from).chain(self.made).collect();
        Names { graph: HashSet::new(), made, next: self.next }
    }
    pub fn take(&mut self, name: &str) {
        if !self.graph.contains(name) {
            self.made.insert(name.to_string());
        }
    }
    /// `stem`, or `stem_1`, `stem_2`, …: the first that is free. It is taken then.
    pub fn fresh(&mut self, stem: &str) -> String {
        let next = self.next.entry(stem.to_string()).or_insert(0);
        loop {
            let name = if *next == 0 { stem.to_string() } else { format!("{stem}_{next}") };
            *next += 1;
            // A name is never given back, so numbers below `next` stay taken.
            if !self.graph.contains(name.as_str()) && self.made.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// The names of values and nodes, those of inner graphs too: one that stands in an inner graph alone would hide an outer
/// value of the same name, which ONNX forbids.
fn collect<'g>(graph: &'g Graph, names: &mut HashSet<&'g str>) {
    names.extend(graph.inputs.iter().chain(&graph.outputs).map(|i| i.name.as_str()));
    names.extend(graph.constants.keys().chain(graph.value_info.keys()).map(String::as_str));
    collect_nodes(&graph.nodes, names);
}

fn collect_nodes<'g>(nodes: &'g [Node], names: &mut HashSet<&'g str>) {
    for node in nodes {
        names.extend(node.inputs.iter().chain(&node.outputs).chain([&node.name]).map(String::as_str));
        for inner in node.inner() {
            collect(inner, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attr, Constant, Element, Fact, GraphBuilder, Node, Patch};

    /// A graph whose If makes `x_1` and `deep` in its branches; `deep` stands two levels down.
    fn nested() -> Graph {
        let leaf = |made: &str| {
            let mut b = GraphBuilder::new("leaf", 17);
            let k = b.constant(&format!("{made}_k"), Constant::scalar(1.0));
            b.node(Node::new("Identity", format!("{made}_node"), [k.as_str()], [made]));
            b.output(made);
            b.finish().unwrap()
        };
        let choice = |then: Graph, other: Graph, out: &str| {
            Node::new("If", format!("{out}_if"), ["c"], [out])
                .attr("then_branch", Attr::Graph(Box::new(then)))
                .attr("else_branch", Attr::Graph(Box::new(other)))
        };
        let middle = Graph {
            nodes: vec![choice(leaf("deep"), leaf("deeper"), "x_1")],
            outputs: vec![crate::graph::ValueInfo::new("x_1", Fact::known(Element::F32, &[]))],
            ..Graph::default()
        };
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[]));
        b.input("c", Fact::known(Element::Bool, &[]));
        let y = b.node(choice(middle, leaf("other"), "y"));
        let z = b.op("Add", &[&x, &y]);
        b.output(&z);
        b.finish().unwrap()
    }

    #[test]
    fn names_inside_inner_graphs_are_taken() {
        let g = nested();
        let mut patch = Patch::new(&g);
        for (stem, name) in [
            ("x", "x_2"),
            ("x", "x_3"),
            ("x_1", "x_1_1"),
            ("deep", "deep_1"),
            ("deep_k", "deep_k_1"),
            ("deeper_node", "deeper_node_1"),
            ("free", "free"),
            ("free", "free_1"),
        ] {
            assert_eq!(patch.fresh(stem), name);
        }
    }

    #[test]
    fn names_that_the_patch_gave_are_taken() {
        let g = nested();
        let mut patch = Patch::new(&g);
        patch.set_constant("mine", Constant::scalar(1.0));
        patch.add(Node::new("Identity", "node", ["x"], ["out"]));
        assert_eq!(["mine", "node", "out"].map(|n| patch.fresh(n)), ["mine_1", "node_1", "out_1"]);
    }
}
