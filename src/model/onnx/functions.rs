//! Operators that a model defines itself ([functions](https://github.com/onnx/onnx/blob/main/docs/IR.md#functions)), replaced by the
//! nodes that they are made of.
//!
//! A call's nodes get its inputs, outputs and attributes; all other names of the function are made anew for each call. Functions may
//! name other versions of the ONNX operator set than the model: all of it is raised to the newest of them.

mod inline;

use super::proto::{AttributeProto, NodeProto};
use super::scan::decode;
use crate::graph::Names;
use crate::passes::Raise;
use crate::{Attr, Constant, Graph, Node};
use compresso_base::error::{At, Error, Result};
use indexmap::IndexMap;
use inline::Inliner;
use std::collections::{HashMap, HashSet};

/// An operator that a model defines by nodes.
#[derive(Debug)]
pub(super) struct Function {
    /// Domain, name and overload.
    pub id: [String; 3],
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// Attributes with their defaults.
    pub defaults: IndexMap<String, Attr>,
    pub nodes: Vec<Node>,
    /// What raising its operator set has added.
    pub constants: IndexMap<String, Constant>,
    pub opsets: IndexMap<String, i64>,
}

impl Function {
    fn label(&self) -> String {
        format!("function '{}'", self.id[1])
    }
}

/// The functions of a model.
#[derive(Debug)]
pub(super) struct Functions {
    list: Vec<Function>,
    by_id: HashMap<[String; 3], usize>,
    /// True when the name does not tell all of them apart.
    overloaded: bool,
}

impl Functions {
    /// # Errors
    /// `Check` for two of the same domain, name and overload.
    pub fn new(list: Vec<Function>) -> Result<Self> {
        let mut by_id = HashMap::new();
        for (i, f) in list.iter().enumerate() {
            if by_id.insert(f.id.clone(), i).is_some() {
                return Err(Error::check(format!("the {} is there twice", f.label())));
            }
        }
        let overloaded = list.iter().any(|f| !f.id[2].is_empty());
        Ok(Self { list, by_id, overloaded })
    }

    /// True when the graph, or one inside it, calls one of them.
    pub fn are_called(&self, graph: &Graph) -> bool {
        !self.list.is_empty() && graph.nodes.iter().any(|n| self.called(n).is_some() || n.inner().any(|g| self.are_called(g)))
    }

    /// The function that a node calls.
    fn called(&self, node: &Node) -> Option<usize> {
        let mut id = [node.domain.clone(), node.op.clone(), String::new()];
        if !self.overloaded && !self.by_id.contains_key(&id) {
            return None;
        }
        // Overloads are rare, and only the encoded node names them.
        let overload = || decode::<NodeProto>(node.wire.0.as_ref()?, "a node").ok()?.overload;
        id[2] = overload().unwrap_or_default();
        self.by_id.get(&id).copied()
    }

    /// Replaces all calls in the graph.
    ///
    /// # Errors
    /// `Check` for a function that calls itself, and calls with too many inputs or outputs; `Unsupported` for more nodes than can
    /// reasonably be meant, and operator sets that do not go together.
    pub fn inline(mut self, graph: &mut Graph) -> Result<()> {
        let used = self.used_by(graph)?;
        let newest = used.iter().filter_map(|&i| onnx_set(&self.list[i].opsets)).max();
        let own = onnx_set(&graph.opsets);
        if let Some(to) = newest.max(own) {
            for &i in &used {
                let f = &mut self.list[i];
                let from = onnx_set(&f.opsets).unwrap_or(to);
                f.raise(from, to).at(|| f.label())?;
            }
            raise_graph(graph, own.unwrap_or(to), to)?;
        }
        let domains: HashSet<&str> = self.list.iter().map(|f| f.id[0].as_str()).collect();
        for i in used {
            for (domain, &version) in &self.list[i].opsets {
                let before = graph.opsets.get(domain).copied();
                if is_onnx(domain) || domains.contains(domain.as_str()) || before == Some(version) {
                    continue;
                }
                if let Some(before) = before {
                    let e = Error::unsupported(format!("it is written for version {version} of '{domain}', and the model for {before}"));
                    return Err(e.at(self.list[i].label()));
                }
                graph.opsets.insert(domain.clone(), version);
            }
        }
        Inliner::new(&self, graph).graph(graph)?;
        graph.opsets.retain(|domain, _| is_onnx(domain) || !domains.contains(domain.as_str()) || uses(&graph.nodes, domain));
        let opsets = graph.opsets.clone();
        share(&mut graph.nodes, &opsets);
        graph.sort()
    }

    /// Indices of the functions that the graph calls, through others too.
    ///
    /// # Errors
    /// `Check` for one that calls itself.
    fn used_by(&self, graph: &Graph) -> Result<Vec<usize>> {
        let calls: Vec<Vec<usize>> = self.list.iter().map(|f| self.calls(&f.nodes)).collect();
        let mut order: Vec<usize> = Vec::new();
        // Functions on the way from the graph to the one looked at, each with how many of its calls have been followed.
        let mut way: Vec<(usize, usize)> = Vec::new();
        let (mut open, mut done): (HashSet<usize>, HashSet<usize>) = (HashSet::new(), HashSet::new());
        for root in self.calls(&graph.nodes) {
            if done.contains(&root) {
                continue;
            }
            way.push((root, 0));
            open.insert(root);
            while let Some(&mut (f, ref mut at)) = way.last_mut() {
                let next = calls[f].get(*at).copied();
                *at += 1;
                match next {
                    None => {
                        way.pop();
                        open.remove(&f);
                        done.insert(f);
                        order.push(f);
                    }
                    Some(n) if open.contains(&n) => {
                        let way: Vec<&str> = way.iter().map(|w| self.list[w.0].id[1].as_str()).collect();
                        let e = Error::check(format!("it calls itself: {} → {}", way.join(" → "), self.list[n].id[1]));
                        return Err(e.at(self.list[n].label()));
                    }
                    Some(n) if done.contains(&n) => {}
                    Some(n) => {
                        way.push((n, 0));
                        open.insert(n);
                    }
                }
            }
        }
        Ok(order)
    }

    /// Indices of the functions that nodes call, those of inner graphs too, each once.
    fn calls(&self, nodes: &[Node]) -> Vec<usize> {
        let mut found = Vec::new();
        for node in nodes {
            found.extend(self.called(node));
            node.inner().for_each(|g| found.extend(self.calls(&g.nodes)));
        }
        let mut seen = HashSet::new();
        found.retain(|f| seen.insert(*f));
        found
    }
}

fn is_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Version of the ONNX operator set.
fn onnx_set(opsets: &IndexMap<String, i64>) -> Option<i64> {
    opsets.get("").or_else(|| opsets.get("ai.onnx")).copied()
}

/// Gives inner graphs the operator sets of the one around them.
fn share(nodes: &mut [Node], opsets: &IndexMap<String, i64>) {
    for g in nodes.iter_mut().flat_map(Node::inner_mut) {
        g.opsets.clone_from(opsets);
        share(&mut g.nodes, opsets);
    }
}

fn uses(nodes: &[Node], domain: &str) -> bool {
    nodes.iter().any(|n| n.domain == domain || n.inner().any(|g| uses(&g.nodes, domain)))
}

/// The attribute of the call that an attribute of a function's node stands for.
fn reference(attr: &Attr) -> Option<String> {
    let Attr::Opaque(bytes) = attr else { return None };
    let p: AttributeProto = decode(bytes, "an attribute").ok()?;
    p.ref_attr_name.filter(|name| !name.is_empty())
}

impl Function {
    /// Raises its nodes to a newer ONNX operator set.
    fn raise(&mut self, from: i64, to: i64) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let mut names = Names::of_nodes(&self.nodes);
        self.inputs.iter().chain(&self.outputs).for_each(|n| names.take(n));
        let outputs = self.outputs.clone();
        let is_read = reads(&self.nodes, outputs);
        let constants = &self.constants;
        let raise =
            Raise { from, to, about: &|_| None, constant: &|name| constants.get(name).cloned(), is_read: &|name| is_read.contains(name) };
        let (nodes, made) = raise.nodes(&self.nodes, &mut |stem| names.fresh(stem))?;
        self.nodes = nodes;
        self.constants.extend(made);
        Ok(())
    }
}

/// Raises what of the graph is not in functions.
fn raise_graph(graph: &mut Graph, from: i64, to: i64) -> Result<()> {
    if from < to {
        let mut names = Names::of(graph);
        let is_read = reads(&graph.nodes, graph.outputs.iter().map(|o| o.name.clone()));
        let told = |name: &str| {
            let declared = graph.inputs.iter().find(|i| i.name == name).map(|i| &i.fact).or_else(|| graph.declared(name))?;
            Some((declared.element, declared.shape.clone()))
        };
        let raise =
            Raise { from, to, about: &told, constant: &|name| graph.constants.get(name).cloned(), is_read: &|name| is_read.contains(name) };
        let (nodes, made) = raise.nodes(&graph.nodes, &mut |stem| names.fresh(stem))?;
        graph.nodes = nodes;
        graph.constants.extend(made);
    }
    let domain = if graph.opsets.contains_key("ai.onnx") { "ai.onnx" } else { "" };
    graph.opsets.insert(domain.into(), to);
    Ok(())
}

fn reads(nodes: &[Node], outputs: impl IntoIterator<Item = String>) -> HashSet<String> {
    nodes.iter().flat_map(Node::reads).map(str::to_string).chain(outputs).collect()
}
