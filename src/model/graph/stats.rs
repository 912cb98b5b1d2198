//! What a graph costs: parameters, multiply-accumulates, bytes, per layer and in all.

use super::{Dim, Fact, Facts, Graph, Node, infer_with, stored};
use crate::ops::{self, ParamKind};
use compresso_base::error::Result;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// Cost of one node for one run at the inferred shapes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Multiply-accumulate operations.
    pub macs: u64,
    /// Elementary operations that are not multiply-accumulates (activations, pooling, resizing).
    pub other: u64,
}

/// Statistics of one node.
#[derive(Debug, Clone, Serialize)]
pub struct LayerStats {
    /// Node name, or its first output where it has none.
    pub name: String,
    /// The operator's type, such as `Conv`.
    pub op: String,
    /// Shapes of the outputs, as text with symbols.
    pub output: String,
    /// Parameters: elements of the trainable constants (weights, biases, scales) that this node is the first to compute with, wherever they
    /// are stored.
    pub params: u64,
    /// Bytes of all constants that this node is the first to compute with (running statistics included), as they are stored.
    pub weight_bytes: u64,
    /// Bytes read and written as activations, when the shapes are known.
    pub activation_bytes: u64,
    /// What one run costs, by the sizes that are known: see `exact`.
    pub cost: Cost,
    /// False when its cost is known only at run time: it multiplies and some size is open, or an inner graph (of If, Loop, Scan) does.
    pub exact: bool,
}

impl LayerStats {
    /// Multiply-accumulates; `None` when they are known only at run time.
    pub fn macs(&self) -> Option<u64> {
        self.exact.then_some(self.cost.macs)
    }
}

/// Statistics of a whole graph.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// One entry for each node, in the graph's order.
    pub layers: Vec<LayerStats>,
    /// Elements of all parameters, each stored one once.
    pub params: u64,
    /// Multiply-accumulates; `None` when those of a layer are known only at run time.
    pub macs: Option<u64>,
    /// Bytes of all constants, each stored one once.
    pub weight_bytes: u64,
}

/// Per-layer statistics at the shapes in `facts` (from [`infer`](super::infer)). Unknown batch sizes count as 1.
///
/// # Errors
/// `Unsupported` for operators that the library does not know.
pub fn stats(graph: &Graph, facts: &Facts) -> Result<Stats> {
    let mut layers = Vec::with_capacity(graph.nodes().len());
    let constants = stored(graph)?;
    let held: HashSet<&str> = constants.iter().map(|s| s.name).collect();
    for node in graph.nodes() {
        let op = ops::find(node)?;
        let inputs: Vec<_> = node.inputs.iter().map(|n| facts.get(n)).collect();
        let outputs: Vec<_> = node.outputs.iter().filter_map(|n| facts.get(n)).collect();
        let read = node.inputs.iter().filter(|n| !held.contains(n.as_str())).filter_map(|n| facts.get(n)).filter_map(ops::cost::bytes);
        let inner = Inside::of(node, facts)?;
        let cost = (op.cost)(&ops::CostInput { node, inputs: &inputs, outputs: &outputs });
        layers.push(LayerStats {
            name: if node.name.is_empty() { node.outputs.first().cloned().unwrap_or_default() } else { node.name.clone() },
            op: node.op.clone(),
            output: outputs.iter().map(|f| f.to_string()).collect::<Vec<_>>().join(", "),
            params: inner.params,
            weight_bytes: inner.bytes,
            activation_bytes: read.chain(outputs.iter().filter_map(|f| ops::cost::bytes(f))).sum(),
            exact: inner.macs.is_some() && !is_open(node, op, &inputs, &outputs),
            cost: Cost { macs: ops::cost::times(cost.macs, 1) + inner.macs.unwrap_or(0), ..cost },
        });
    }
    let mut unread = (0, 0);
    for s in &constants {
        let params = if s.is_parameter() { s.constant.count() as u64 } else { 0 };
        let bytes = s.constant.byte_size() as u64;
        match s.user {
            Some(i) => {
                layers[i].params += params;
                layers[i].weight_bytes += bytes;
            }
            None => unread = (unread.0 + params, unread.1 + bytes),
        }
    }
    Ok(Stats {
        params: unread.0 + layers.iter().map(|l| l.params).sum::<u64>(),
        macs: layers.iter().map(LayerStats::macs).sum(),
        weight_bytes: unread.1 + layers.iter().map(|l| l.weight_bytes).sum::<u64>(),
        layers,
    })
}

/// What the inner graphs of a node hold.
#[derive(Debug)]
struct Inside {
    /// Elements of the parameters that they store themselves, and bytes of all that they store.
    params: u64,
    bytes: u64,
    /// Multiply-accumulates of a run: those of the branch that is taken, where that is known; `None` where only a run tells.
    macs: Option<u64>,
}

impl Inside {
    /// `facts` are those of the graph that the node stands in.
    fn of(node: &Node, facts: &Facts) -> Result<Self> {
        let taken = ops::control::taken(node, facts)?;
        let mut all = Self { params: 0, bytes: 0, macs: Some(0) };
        for graph in node.inner() {
            // A body whose shapes say themselves only in a run is counted without them.
            let inferred = infer_with(graph, facts);
            let Stats { params, macs, weight_bytes, .. } = stats(graph, inferred.as_ref().unwrap_or(facts))?;
            let macs = macs.filter(|_| inferred.is_ok());
            all.params += params;
            all.bytes += weight_bytes;
            match taken {
                Some(branch) if std::ptr::eq(branch, graph) => all.macs = macs,
                Some(_) => {}
                // Whatever runs, and however often, costs nothing.
                None => all.macs = all.macs.filter(|_| macs == Some(0)),
            }
        }
        Ok(all)
    }
}

/// True for a node that multiplies, with sizes that are known only at run time: one that would cost something if they were 1.
fn is_open(node: &Node, op: &ops::OpDef, inputs: &[Option<&Fact>], outputs: &[&Fact]) -> bool {
    let mut facts = inputs.iter().flatten().chain(outputs);
    if facts.clone().all(|f| ops::cost::elements(f).is_some()) {
        return false;
    }
    if facts.any(|f| f.shape.is_none()) && op.weight.is_some() {
        return true;
    }
    let one = |f: &Fact| {
        let mut f = f.clone();
        f.shape.iter_mut().flatten().filter(|d| d.known().is_none()).for_each(|d| *d = Dim::Known(1));
        f
    };
    let inputs: Vec<Option<Fact>> = inputs.iter().map(|f| f.map(one)).collect();
    let inputs: Vec<Option<&Fact>> = inputs.iter().map(Option::as_ref).collect();
    let outputs: Vec<Fact> = outputs.iter().map(|f| one(f)).collect();
    let outputs: Vec<&Fact> = outputs.iter().collect();
    (op.cost)(&ops::CostInput { node, inputs: &inputs, outputs: &outputs }).macs > 0
}

/// What the constant at an input slot of a node is to training; `None` for constants that are no parameters (settings,
/// anchors, shapes). A separate addition is a bias only behind an operator with a constant weight.
pub fn parameter_kind(graph: &Graph, producers: &HashMap<&str, usize>, node: &Node, slot: usize) -> Option<ParamKind> {
    let slots = |node: &Node| ops::find(node).map_or(&[][..], |op| op.params);
    let (_, kind) = *slots(node).iter().find(|(s, _)| *s == slot)?;
    let constant = graph.constant(node.input(slot)?)?;
    let stray_bias = kind == ParamKind::Bias && slots(node).iter().all(|(_, k)| *k == ParamKind::Bias);
    let follows_weight = || {
        node.inputs.iter().filter_map(|n| producers.get(n.as_str())).any(|&i| {
            let maker = &graph.nodes()[i];
            let is_weight =
                |&(s, k): &(usize, ParamKind)| k == ParamKind::Weight && maker.input(s).is_some_and(|n| graph.constant(n).is_some());
            slots(maker).iter().any(is_weight)
        })
    };
    (!stray_bias || (constant.count() > 1 && follows_weight())).then_some(kind)
}
