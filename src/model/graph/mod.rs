//! The graph: an ONNX-faithful description of a model.
//!
//! Values are named and assigned once. Nodes stand in an order in which they can run. A graph is a value: it is changed
//! by making a [`Patch`] and applying it, which gives a new graph that shares its constants with the old one.

mod batch;
mod builder;
mod check;
mod dump;
mod fixed;
mod infer;
mod inferred;
mod names;
mod node;
mod patch;
mod shape;
mod stats;
mod stored;

pub use batch::open_batch;
pub use builder::GraphBuilder;
pub use fixed::fix_sizes;
pub use infer::{Facts, Infer, broadcast, infer, infer_at, infer_with, normalize_axis, specialize};
pub(crate) use names::Names;
pub use node::{Attr, Node};
pub use patch::Patch;
pub use shape::{Dim, Fact};
pub use stats::{Cost, LayerStats, Stats, parameter_kind, stats};
pub use stored::{Stored, stored};

use super::constant::Constant;
use super::wire::Wire;
use compresso_base::error::{Error, Result, nearest};
use indexmap::IndexMap;
use inferred::Inferred;
use std::collections::HashMap;

/// Name, type and shape of a graph's input, output or inner value.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueInfo {
    /// The name by which nodes read it.
    pub name: String,
    /// Its element type and shape.
    pub fact: Fact,
    /// How the file had it.
    pub(crate) wire: Wire,
}

impl ValueInfo {
    /// A value that no file has stated yet.
    pub fn new(name: impl Into<String>, fact: Fact) -> Self {
        Self { name: name.into(), fact, wire: Wire::default() }
    }
}

/// An ONNX-faithful model graph. See the module's text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    pub(crate) name: String,
    /// Operator set versions by domain; the ONNX set has the empty domain.
    pub(crate) opsets: IndexMap<String, i64>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) inputs: Vec<ValueInfo>,
    pub(crate) outputs: Vec<ValueInfo>,
    pub(crate) constants: IndexMap<String, Constant>,
    /// Types of inner values that the file states.
    pub(crate) value_info: IndexMap<String, ValueInfo>,
    pub(crate) metadata: IndexMap<String, String>,
    pub(crate) inferred: Inferred,
    /// How the file had the model around the nodes, constants and values.
    pub(crate) wire: Wire,
}

/// Newest ONNX operator set that the registry knows.
pub const NEWEST_OPSET: i64 = 28;

impl Graph {
    /// What its file calls it; may be empty.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Version of the ONNX operator set.
    pub fn opset(&self) -> i64 {
        self.opsets.get("").or_else(|| self.opsets.get("ai.onnx")).copied().unwrap_or(1)
    }
    /// Versions of the operator sets by domain. ONNX's own has the empty domain, in some files `ai.onnx`.
    pub fn opsets(&self) -> &IndexMap<String, i64> {
        &self.opsets
    }
    /// Nodes in an order in which they can run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    /// All declared inputs. Files of old IR versions also list constants here; see [`Graph::feeds`].
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }
    /// The inputs that a caller must give: those without a constant of the same name.
    pub fn feeds(&self) -> impl Iterator<Item = &ValueInfo> {
        self.inputs.iter().filter(|v| !self.constants.contains_key(&v.name))
    }
    /// The values that a run gives, in order.
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }
    /// Constants (ONNX initializers) by value name.
    pub fn constants(&self) -> &IndexMap<String, Constant> {
        &self.constants
    }
    /// The constant of this name; `None` for a value that is none.
    pub fn constant(&self, name: &str) -> Option<&Constant> {
        self.constants.get(name)
    }
    /// Text metadata of the model file.
    pub fn metadata(&self) -> &IndexMap<String, String> {
        &self.metadata
    }
    /// A graph with a metadata entry set.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }
    /// The type that the file states of an inner value or output.
    pub fn declared(&self, name: &str) -> Option<&Fact> {
        self.value_info.get(name).or_else(|| self.outputs.iter().find(|o| o.name == name)).map(|v| &v.fact)
    }
    /// Index of the node that makes each value.
    pub fn producers(&self) -> HashMap<&str, usize> {
        let mut map = HashMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for out in node.outputs.iter().filter(|o| !o.is_empty()) {
                map.insert(out.as_str(), i);
            }
        }
        map
    }
    /// Indices of the nodes that read each value (a node that reads it twice stands twice). Reads by inner graphs of
    /// control-flow nodes count.
    pub fn consumers(&self) -> HashMap<&str, Vec<usize>> {
        let mut map: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for name in node.reads() {
                map.entry(name).or_default().push(i);
            }
        }
        map
    }
    /// True for a graph output of this name.
    pub fn is_output(&self, name: &str) -> bool {
        self.outputs.iter().any(|o| o.name == name)
    }
    /// The node with this name, or that makes the value of this name.
    ///
    /// # Errors
    /// `Missing`, with the nearest name.
    pub fn find(&self, name: &str) -> Result<usize> {
        let found = self.nodes.iter().position(|n| n.name == name).or_else(|| self.producers().get(name).copied());
        found.ok_or_else(|| {
            let e = Error::missing(format!("the model has no node or value '{name}'"));
            let names = self.nodes.iter().flat_map(|n| std::iter::once(n.name.as_str()).chain(n.outputs.iter().map(String::as_str)));
            match nearest(name, names) {
                Some(near) => e.hint(format!("did you mean '{near}'?")),
                None => e.hint("summary(m) lists the layers"),
            }
        })
    }
}

impl Node {
    /// The inner graphs of a control-flow node (If, Loop, Scan).
    pub fn inner(&self) -> impl Iterator<Item = &Graph> {
        self.attrs.values().flat_map(|attr| match attr {
            Attr::Graph(g) => std::slice::from_ref(g.as_ref()),
            Attr::Graphs(gs) => gs,
            _ => &[],
        })
    }
    /// As [`Node::inner`], to be changed.
    pub(crate) fn inner_mut(&mut self) -> impl Iterator<Item = &mut Graph> {
        self.attrs.values_mut().flat_map(|attr| match attr {
            Attr::Graph(g) => std::slice::from_mut(g.as_mut()),
            Attr::Graphs(gs) => gs.as_mut_slice(),
            _ => &mut [],
        })
    }
    /// Names of the values that the node reads, once for each time: its inputs, and what its inner graphs read from outside.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(String::as_str).filter(|n| !n.is_empty()).chain(self.captured())
    }
    /// Names that inner graphs (of If, Loop, Scan) read from outside.
    pub fn captured(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for g in self.inner() {
            let made = g.producers();
            let local = |n: &str| made.contains_key(n) || g.constants.contains_key(n) || g.inputs.iter().any(|i| i.name == n);
            for node in &g.nodes {
                names.extend(node.inputs.iter().map(String::as_str).chain(node.captured()).filter(|n| !n.is_empty() && !local(n)));
            }
            names.extend(g.outputs.iter().map(|o| o.name.as_str()).filter(|n| !local(n)));
        }
        names
    }
}
