//! Type and shape inference over a whole graph.

use super::{Dim, Fact, Graph, Node};
use crate::constant::Constant;
use crate::image::has_channels_last;
use crate::ops;
use crate::value::Value;
use candle_core::Device;
use compresso_base::error::{At, Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// What is known of each value of a graph, by name.
pub type Facts = HashMap<String, Fact>;

/// What a shape rule sees: a node and what is known of its inputs.
#[derive(Debug)]
pub struct Infer<'a> {
    /// The node whose outputs are to be described.
    pub node: &'a Node,
    /// Version of the node's operator set.
    pub opset: i64,
    inputs: Vec<Option<&'a Fact>>,
    /// Facts of the enclosing graph, for the inner graphs of control flow.
    pub outer: &'a Facts,
}

impl<'a> Infer<'a> {
    /// Takes what is known of the node's inputs from `facts`, which are [`Infer::outer`] too.
    pub fn new(node: &'a Node, opset: i64, facts: &'a Facts) -> Self {
        let inputs = node.inputs.iter().map(|n| facts.get(n)).collect();
        Self { node, opset, inputs, outer: facts }
    }
    /// Input `i`, when it is given.
    pub fn get(&self, i: usize) -> Option<&'a Fact> {
        self.inputs.get(i).copied().flatten()
    }
    /// Input `i`.
    ///
    /// # Errors
    /// `Format` when it is left out.
    pub fn input(&self, i: usize) -> Result<&'a Fact> {
        self.get(i).ok_or_else(|| Error::format(format!("input {i} is missing")))
    }
    /// How many inputs the node lists, those left out by an empty name among them.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }
    /// The shape of input `i`, or `None` when its rank is unknown.
    pub fn shape(&self, i: usize) -> Result<Option<&'a [Dim]>> {
        Ok(self.input(i)?.shape.as_deref())
    }
    /// Integers from input `i` when it is a constant, else `None`.
    pub fn ints(&self, i: usize) -> Result<Option<Vec<i64>>> {
        match self.get(i) {
            None => Ok(None),
            Some(f) => match (&f.constant, &f.contents) {
                (Some(c), _) => c.to_i64s().map(Some),
                (None, Some(v)) => Ok(v.iter().map(|d| d.known().and_then(|n| i64::try_from(n).ok())).collect()),
                _ => Ok(None),
            },
        }
    }
}

/// The axis that `axis` names in a tensor of `rank` dimensions; negative axes count from the end.
///
/// # Errors
/// `Shape` when it is out of range.
pub fn normalize_axis(axis: i64, rank: usize) -> Result<usize> {
    let r = i64::try_from(rank).map_err(|_| Error::internal("rank"))?;
    let a = if axis < 0 { axis + r } else { axis };
    // A scalar has no axes.
    usize::try_from(a).ok().filter(|&a| a < rank).ok_or_else(|| Error::shape(format!("axis {axis} is out of range for rank {rank}")))
}

/// The shape two shapes broadcast to (ONNX multidirectional broadcasting).
///
/// # Errors
/// `Shape` when two known sizes differ and neither is 1.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at = |s: &[Dim], i: usize| (i + s.len()).checked_sub(rank).map_or(Dim::Known(1), |j| s[j].clone());
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (Dim::Known(1), y) => Ok(y),
            (x, Dim::Known(1)) => Ok(x),
            (Dim::Known(x), Dim::Known(y)) => Err(Error::shape(format!("sizes {x} and {y} do not broadcast (axis {i})"))),
            // A known size that is not 1 must be what the symbol is.
            (Dim::Known(x), _) | (_, Dim::Known(x)) => Ok(Dim::Known(x)),
            _ => Ok(Dim::Unknown),
        })
        .collect()
}

/// Values with more elements than this are not computed during inference.
const FOLD_LIMIT: usize = 1 << 16;

/// Infers the type and shape of every value. Declared types fill in where inference knows less.
///
/// # Errors
/// The first rule that fails, naming the node.
pub fn infer(graph: &Graph) -> Result<Facts> {
    infer_with(graph, &Facts::new())
}

/// As [`infer`], with some facts given: input shapes to specialise to, or the values that an inner graph reads.
pub fn infer_with(graph: &Graph, given: &Facts) -> Result<Facts> {
    let mut facts = given.clone();
    for (name, c) in &graph.constants {
        facts.insert(name.clone(), Fact::of(c));
    }
    for input in graph.feeds() {
        let fact = facts.entry(input.name.clone()).or_insert_with(|| input.fact.clone());
        fact.countable().at(|| format!("input '{}'", input.name))?;
    }
    let declared: HashMap<&str, &Fact> = graph.value_info.values().chain(&graph.outputs).map(|v| (v.name.as_str(), &v.fact)).collect();
    for node in &graph.nodes {
        let found = infer_node(graph, node, &facts).at(|| node.label())?;
        if found.len() < node.outputs.len() {
            let e = Error::format(format!("has {} outputs, expected at most {}", node.outputs.len(), found.len()));
            return Err(e.at(node.label()));
        }
        for (name, mut fact) in node.outputs.iter().zip(found) {
            if name.is_empty() {
                continue;
            }
            // A declared shape adds to an inferred one only where that one is unknown.
            if let Some(d) = declared.get(name.as_str()).filter(|d| d.element == fact.element) {
                match (&mut fact.shape, &d.shape) {
                    (shape @ None, Some(_)) => shape.clone_from(&d.shape),
                    (Some(shape), Some(said)) if shape.len() == said.len() => {
                        for (s, d) in shape.iter_mut().zip(said) {
                            if *s == Dim::Unknown {
                                s.clone_from(d);
                            }
                        }
                    }
                    _ => {}
                }
            }
            fact.countable().at(|| node.label())?;
            facts.insert(name.clone(), fact);
        }
    }
    Ok(facts)
}

fn infer_node(graph: &Graph, node: &Node, facts: &Facts) -> Result<Vec<Fact>> {
    let op = ops::find(node)?;
    let opset = graph.opset_of(node);
    let mut found = op.facts(&Infer::new(node, opset, facts))?;
    // Small nodes whose inputs are all constant are computed.
    if op.foldable && found.iter().all(|f| f.constant.is_none() && f.count().is_some_and(|n| n <= FOLD_LIMIT)) {
        let inputs: Option<Vec<Option<Value>>> = node
            .inputs
            .iter()
            .map(|n| {
                if n.is_empty() {
                    return Some(None);
                }
                let c = facts.get(n)?.constant.as_ref().filter(|c| c.count() <= FOLD_LIMIT)?;
                Some(Some(Value::of_constant(c, &Device::Cpu).ok()?))
            })
            .collect();
        if let Some(inputs) = inputs {
            let values = op.run(&ops::Exec::new(node, opset, &inputs, &ops::RunMode::default()))?;
            for (fact, value) in found.iter_mut().zip(values) {
                *fact = Fact::of(&Constant::from_storage(value.element, &value.tensor)?);
            }
        }
    }
    Ok(found)
}

impl Graph {
    /// Version of the operator set that a node belongs to.
    pub fn opset_of(&self, node: &Node) -> i64 {
        if node.domain.is_empty() || node.domain == "ai.onnx" { self.opset() } else { self.opsets.get(&node.domain).copied().unwrap_or(1) }
    }
}

/// Infers with unknown batch sizes of the image inputs set to `batch` and unknown heights and widths to `image`.
///
/// # Errors
/// As [`infer`].
pub fn infer_at(graph: &Graph, batch: usize, image: Option<[usize; 2]>) -> Result<Arc<Facts>> {
    let mut given = Facts::new();
    for input in graph.feeds() {
        given.insert(input.name.clone(), specialize(&input.fact, batch, image));
    }
    // Where no size is open, these are the graph's own.
    if graph.feeds().all(|input| given[&input.name] == input.fact) {
        return graph.facts();
    }
    graph.facts_of(given)
}

/// A fact with its unknown sizes filled in: the first by `batch`, the height and width of four by `image`. They are the last two, or stand
/// before the channels of an image whose channels come last.
pub fn specialize(fact: &Fact, batch: usize, image: Option<[usize; 2]>) -> Fact {
    let mut fact = fact.clone();
    let Some(shape) = &mut fact.shape else { return fact };
    let rank = shape.len();
    let height = if has_channels_last(|axis| shape.get(axis).and_then(Dim::known)) { 1 } else { 2 };
    for (i, d) in shape.iter_mut().enumerate() {
        if d.known().is_none() {
            match (i, image) {
                (0, _) => *d = Dim::Known(batch),
                (_, Some(size)) if rank == 4 && (height..height + 2).contains(&i) => *d = Dim::Known(size[i - height]),
                _ => {}
            }
        }
    }
    fact
}
