//! Replacing calls by the nodes of the functions.

use super::{Function, Functions, reference};
use crate::graph::{Names, ValueInfo};
use crate::onnx::proto::NodeProto;
use crate::onnx::scan::decode;
use crate::wire::Wire;
use crate::{Attr, Constant, Graph, Node};
use compresso_base::error::{Error, Result};
use indexmap::IndexMap;
use prost::Message;
use std::collections::{BTreeSet, HashMap};

/// Calls and nodes that all calls together may become.
const MOST_NODES: usize = 500_000;
/// Memory that they may take beside the tensors, which are shared.
const MOST_BYTES: usize = 1 << 28;
/// Calls in calls in calls.
const MOST_DEPTH: usize = 64;

/// A graph's functions being put in.
#[derive(Debug)]
pub(super) struct Inliner<'f> {
    functions: &'f Functions,
    names: Names<'static>,
    nodes: usize,
    bytes: usize,
}

/// What one call makes of the names of its function.
struct Call<'c> {
    /// Inner name → outer name, empty for what is left out.
    values: HashMap<String, String>,
    attrs: &'c IndexMap<String, Attr>,
    defaults: &'c IndexMap<String, Attr>,
    /// Before each new name.
    prefix: String,
}

impl<'f> Inliner<'f> {
    pub fn new(functions: &'f Functions, graph: &Graph) -> Self {
        Self { functions, names: Names::of(graph).owned(), nodes: 0, bytes: 0 }
    }

    /// Replaces the calls in a graph and in those inside it.
    ///
    /// # Errors
    /// As [`Functions::inline`].
    pub fn graph(&mut self, graph: &mut Graph) -> Result<()> {
        let nodes = std::mem::take(&mut graph.nodes);
        graph.nodes = Vec::with_capacity(nodes.len());
        for node in nodes {
            let label = node.label();
            self.expand(node, &mut graph.nodes, &mut graph.constants, 0).map_err(|e| e.at(label))?;
        }
        Ok(())
    }

    fn expand(&mut self, mut node: Node, out: &mut Vec<Node>, constants: &mut IndexMap<String, Constant>, depth: usize) -> Result<()> {
        let Some(called) = self.functions.called(&node) else {
            let functions = self.functions;
            for g in node.inner_mut().filter(|g| functions.are_called(g)) {
                self.inner(g, depth)?;
            }
            out.push(node);
            return Ok(());
        };
        let function = &self.functions.list[called];
        if depth >= MOST_DEPTH {
            return Err(Error::unsupported(format!("functions call each other more than {MOST_DEPTH} deep")).at(function.label()));
        }
        let mut call = self.call(&node, function)?;
        self.spend(function.nodes.len() + 1, 0)?;
        for (name, value) in &function.constants {
            let name = self.local(&mut call, name)?;
            constants.insert(name, value.clone());
        }
        for inner in &function.nodes {
            let made = self.node(inner, &mut call)?;
            self.expand(made, out, constants, depth + 1)?;
        }
        // An output that is an input of the function itself.
        for (name, to) in function.outputs.iter().zip(&node.outputs).filter(|(_, to)| !to.is_empty()) {
            let from = call.values.get(name).cloned().unwrap_or_default();
            if from != *to {
                let name = self.fresh(&format!("{}Identity", call.prefix))?;
                out.push(Node::new("Identity", name, [from.as_str()], [to.as_str()]));
            }
        }
        Ok(())
    }

    fn inner(&mut self, g: &mut Graph, depth: usize) -> Result<()> {
        let nodes = std::mem::take(&mut g.nodes);
        for node in nodes {
            self.expand(node, &mut g.nodes, &mut g.constants, depth + 1)?;
        }
        g.sort()
    }

    /// The names that a call gives to its function's inputs and outputs.
    fn call<'c>(&mut self, node: &'c Node, function: &'c Function) -> Result<Call<'c>> {
        for (what, given, known) in [("inputs", &node.inputs, &function.inputs), ("outputs", &node.outputs, &function.outputs)] {
            if given.len() > known.len() {
                let e = format!("has {} {what}, and the {} at most {}", given.len(), function.label(), known.len());
                return Err(Error::check(e));
            }
        }
        let mut values = HashMap::new();
        for (i, name) in function.inputs.iter().enumerate() {
            values.insert(name.clone(), node.input(i).unwrap_or_default().to_string());
        }
        for (name, to) in function.outputs.iter().zip(&node.outputs).filter(|(_, to)| !to.is_empty()) {
            // What is an input, or stands twice among the outputs, is copied at the end.
            values.entry(name.clone()).or_insert_with(|| to.clone());
        }
        let stem = if node.name.is_empty() { &function.id[1] } else { &node.name };
        Ok(Call { values, attrs: &node.attrs, defaults: &function.defaults, prefix: format!("{stem}/") })
    }

    /// A node of a function, as a call makes it.
    fn node(&mut self, node: &Node, call: &mut Call<'_>) -> Result<Node> {
        let mut made = node.clone();
        for name in made.inputs.iter_mut().chain(&mut made.outputs) {
            *name = self.local(call, name)?;
        }
        if !made.name.is_empty() {
            made.name = self.fresh(&format!("{}{}", call.prefix, made.name))?;
        }
        let mut attrs = IndexMap::with_capacity(made.attrs.len());
        for (name, attr) in std::mem::take(&mut made.attrs) {
            let given = match (reference(&attr), attr) {
                (Some(outer), _) => {
                    // The encoded attribute refers to the call.
                    made.wire = without_attributes(&made)?;
                    call.attrs.get(&outer).or_else(|| call.defaults.get(&outer)).cloned()
                }
                (None, Attr::Graph(g)) => Some(Attr::Graph(Box::new(self.inner_graph(&g, call)?))),
                (None, Attr::Graphs(gs)) => Some(Attr::Graphs(gs.iter().map(|g| self.inner_graph(g, call)).collect::<Result<_>>()?)),
                (None, attr) => Some(attr),
            };
            if let Some(given) = given {
                self.spend(0, size(&given))?;
                attrs.insert(name, given);
            }
        }
        made.attrs = attrs;
        Ok(made)
    }

    /// An inner graph of a function's node: its own names are made anew, and those from outside are the call's.
    fn inner_graph(&mut self, g: &Graph, call: &mut Call<'_>) -> Result<Graph> {
        let mut made = g.clone();
        let own = g.inputs.iter().map(|i| &i.name).chain(g.constants.keys()).chain(g.nodes.iter().flat_map(|n| &n.outputs));
        let own: BTreeSet<&String> = own.filter(|n| !n.is_empty()).collect();
        let mut hidden: Vec<(String, Option<String>)> = Vec::with_capacity(own.len());
        for name in own {
            let new = self.fresh(&format!("{}{name}", call.prefix))?;
            hidden.push((name.clone(), call.values.insert(name.clone(), new)));
        }
        let rename = |info: &ValueInfo, to: String| ValueInfo { name: to, ..info.clone() };
        for info in made.inputs.iter_mut().chain(&mut made.outputs) {
            *info = rename(info, self.local(call, &info.name)?);
        }
        made.constants.clear();
        for (name, value) in &g.constants {
            made.constants.insert(self.local(call, name)?, value.clone());
        }
        made.value_info.clear();
        for (name, info) in &g.value_info {
            let name = self.local(call, name)?;
            made.value_info.insert(name.clone(), rename(info, name));
        }
        self.spend(g.nodes.len(), 0)?;
        made.nodes = g.nodes.iter().map(|n| self.node(n, call)).collect::<Result<_>>()?;
        for (name, before) in hidden {
            match before {
                Some(before) => call.values.insert(name, before),
                None => call.values.remove(&name),
            };
        }
        Ok(made)
    }

    /// The name that a value of the function has for this call.
    fn local(&mut self, call: &mut Call<'_>, name: &str) -> Result<String> {
        if name.is_empty() {
            return Ok(String::new());
        }
        if let Some(known) = call.values.get(name) {
            return Ok(known.clone());
        }
        let new = self.fresh(&format!("{}{name}", call.prefix))?;
        call.values.insert(name.to_string(), new.clone());
        Ok(new)
    }

    /// A name that nothing has.
    fn fresh(&mut self, stem: &str) -> Result<String> {
        self.spend(0, 4 * stem.len())?;
        Ok(self.names.fresh(stem))
    }

    fn spend(&mut self, nodes: usize, bytes: usize) -> Result<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.nodes <= MOST_NODES && self.bytes <= MOST_BYTES {
            return Ok(());
        }
        let e =
            Error::unsupported(format!("the model's functions become more than {MOST_NODES} nodes, or {MOST_BYTES} bytes beside tensors"));
        Err(e.hint("a file that calls functions in functions over and over is damaged, or made to fill memory"))
    }
}

/// The encoded node without its attributes: what else it says stays.
fn without_attributes(node: &Node) -> Result<Wire> {
    let Some(bytes) = &node.wire.0 else { return Ok(Wire(None)) };
    let p = NodeProto { attribute: Vec::new(), ..decode(bytes, "a node")? };
    Ok(Wire(Some(p.encode_to_vec().into())))
}

/// Bytes that a copy of an attribute takes. Tensors are shared.
fn size(attr: &Attr) -> usize {
    64 + match attr {
        Attr::Floats(v) => 4 * v.len(),
        Attr::Ints(v) => 8 * v.len(),
        Attr::Strs(v) => 32 * v.len(),
        Attr::Tensors(v) => 16 * v.len(),
        _ => 0,
    }
}
