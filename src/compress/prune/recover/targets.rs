//! Which layers of a pruned graph can be solved, and what each is to give.

use super::super::groups::name_of;
use super::super::linear::Linear;
use super::Pruned;
use candle_core::Tensor;
use compresso_base::error::Result;
use compresso_model::ops::arithmetic::ADD;
use compresso_model::ops::conv::CONV;
use compresso_model::ops::matmul::{GEMM, MATMUL};
use compresso_model::ops::norm::BATCH_NORMALIZATION;
use compresso_model::ops::shape::RESHAPE;
use compresso_model::ops::softmax::SOFTMAX;
use compresso_model::ops::transpose::TRANSPOSE;
use compresso_model::ops::{self, ParamKind};
use compresso_model::{Constant, Graph, Node, Patch, Value};
use std::collections::{HashMap, HashSet};

/// A layer with more inputs is left as it was cut: its matrices would take more than half a gigabyte.
const MOST_INPUTS: usize = 4608;

/// Where what is added to a layer's output is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bias {
    /// In a constant that the layer reads.
    Own(String),
    /// In the mean that the batch norm behind it takes away.
    Mean(String),
    /// In a constant that is added to it.
    Added(String),
    /// Nowhere.
    Nowhere,
}

/// What a layer is to give.
#[derive(Debug)]
pub(super) struct Goal {
    /// A value of the unpruned graph, there once the nodes before `after` have run.
    pub value: String,
    pub after: usize,
    axis: usize,
    /// Indices of its channels that are left; `None` for all.
    kept: Option<Vec<u32>>,
    /// Where the value is a sum: what the layer's output is added to, in the pruned graph. So the layer makes up for what its shortcut lost.
    beside: Option<String>,
}

/// A layer to be solved.
#[derive(Debug)]
pub(super) struct Target {
    pub layer: String,
    /// Its place in the pruned graph.
    pub node: usize,
    pub input: String,
    output: String,
    pub linear: Linear,
    pub bias: Bias,
    pub goal: Goal,
}

impl Target {
    /// What the layer is to give, of what both graphs hold; `None` where it is not there.
    ///
    /// # Errors
    /// `Shape` where the graphs do not fit each other.
    pub fn goal(&self, dense: &HashMap<String, Value>, pruned: &HashMap<String, Value>) -> Result<Option<Value>> {
        let Goal { value, axis, kept, beside, .. } = &self.goal;
        let Some(value) = dense.get(value) else { return Ok(None) };
        let mut left = value.tensor.clone();
        if let Some(kept) = kept {
            left = left.contiguous()?.index_select(&Tensor::new(kept.as_slice(), left.device())?, *axis)?;
        }
        if let Some(beside) = beside {
            let Some(other) = pruned.get(beside) else { return Ok(None) };
            left = (left - &other.tensor)?;
        }
        value.with(left).map(Some)
    }
}

/// The layers in running order whose input is not what it was, and the pruned graph with a bias of zeros for those that have none and
/// take one.
///
/// # Errors
/// `Unsupported` for operators that the library does not know.
pub(super) fn of(pruned: Pruned<'_>) -> Result<(Graph, Vec<Target>)> {
    let (dense, graph) = (&pruned.found.graph, pruned.graph);
    let facts = graph.facts()?;
    let readers = graph.consumers();
    let (places, makers) = (dense.producers(), graph.producers());
    let mut patch = Patch::new(graph);
    let mut changed: HashSet<&str> = HashSet::new();
    let mut targets = Vec::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        let is_changed = node.reads().any(|name| changed.contains(name));
        for out in node.outputs.iter().filter(|o| !o.is_empty()) {
            let resized = facts.get(out).map(|f| &f.shape) != pruned.found.facts.get(out).map(|f| &f.shape);
            if is_changed || resized {
                changed.insert(out);
            }
        }
        let (Some(input), Some(output)) = (node.input(0), node.output(0)) else { continue };
        let (Some(linear), Some(&place)) = (Linear::of(graph, node)?, places.get(output)) else { continue };
        let alone = readers.get(linear.weight.as_str()).is_some_and(|r| r.len() == 1) && linear.inputs <= MOST_INPUTS;
        let floats = facts.get(output).is_some_and(|f| f.element.is_float());
        let meant = linear.groups * linear.outputs == 1 && is_softmax(graph, &makers, input);
        if !changed.contains(input) || !alone || !floats || meant {
            continue;
        }
        let Some(rank) = pruned.found.facts.get(output).and_then(|f| f.shape.as_ref()).map(Vec::len) else { continue };
        let axis = linear.axis(rank);
        let alone = readers.get(output).filter(|r| r.len() == 1 && !graph.is_output(output)).map(|r| &graph.nodes()[r[0]]);
        let sum = alone.filter(|add| add.is(ADD)).and_then(|add| {
            let other = add.inputs.iter().find(|o| *o != output)?;
            let made = makers.get(other.as_str()).is_some_and(|&at| at < i);
            let like = facts.get(other).map(|f| &f.shape) == facts.get(output).map(|f| &f.shape);
            Some((other.clone(), add.output(0)?)).filter(|_| made && like)
        });
        let (value, place) = match &sum {
            Some((_, value)) => (*value, places.get(value).copied().unwrap_or(place)),
            None => (output, place),
        };
        let kept = pruned.found.labels.axis(value, axis).map(|labels| {
            let stays = (0u32..).zip(labels.iter()).filter(|(_, a)| pruned.removal.stays(**a));
            stays.map(|(i, _)| i).collect()
        });
        let Some(mut bias) = bias_of(graph, &readers, node, linear.groups * linear.outputs)? else { continue };
        if bias == Bias::Nowhere && Linear::takes_bias(node) && node.input(2).is_none() {
            let name = patch.fresh(&format!("{}_bias", linear.weight));
            let element = graph.constant(&linear.weight).map_or(compresso_model::Element::F32, Constant::element);
            let channels = linear.groups * linear.outputs;
            patch.set_constant(&name, Constant::rounded(element, &[channels], vec![0.0; channels])?);
            let edited = patch.edit(i);
            edited.inputs.resize(3, String::new());
            edited.inputs[2].clone_from(&name);
            bias = Bias::Own(name);
        }
        let goal = Goal { value: value.to_string(), after: place + 1, axis, kept, beside: sum.map(|s| s.0) };
        targets.push(Target {
            output: output.to_string(),
            layer: name_of(node).to_string(),
            node: i,
            input: input.to_string(),
            linear,
            bias,
            goal,
        });
    }
    let start = if patch.is_empty() { graph.clone() } else { patch.apply()? };
    // A patch may put nodes in another order.
    let at: HashMap<&str, usize> = start.producers();
    let outputs: Vec<Option<usize>> = targets.iter().map(|t| at.get(t.output.as_str()).copied()).collect();
    targets.iter_mut().zip(outputs).for_each(|(t, at)| t.node = at.unwrap_or(t.node));
    targets.sort_by_key(|t| t.node);
    // Runs only go on.
    let mut after = 0;
    for target in &mut targets {
        after = target.goal.after.max(after);
        target.goal.after = after;
    }
    Ok((start, targets))
}

/// True for the parts that a softmax makes. The numbers whose expectation is taken by them say what each part stands for, such as distances
/// in a detector's boxes, which training and other tools go by: they were never learned.
fn is_softmax(graph: &Graph, makers: &HashMap<&str, usize>, value: &str) -> bool {
    let maker = |name: &str| makers.get(name).map(|&at| &graph.nodes()[at]);
    let mut node = maker(value);
    while let Some(moved) = node.filter(|n| n.is(TRANSPOSE) || n.is(RESHAPE)) {
        node = moved.input(0).and_then(maker);
    }
    node.is_some_and(|n| n.is(SOFTMAX))
}

/// Where the bias of a layer of `channels` outputs is stored, for it alone; `None` where others read it.
fn bias_of(graph: &Graph, readers: &HashMap<&str, Vec<usize>>, node: &Node, channels: usize) -> Result<Option<Bias>> {
    let own = |name: Option<&str>| -> Option<String> {
        let name = name?;
        let dims = graph.constant(name)?.dims();
        let fits = dims.last() == Some(&channels) && dims.iter().product::<usize>() == channels;
        (fits && readers.get(name).is_some_and(|r| r.len() == 1)).then(|| name.to_string())
    };
    if let Some(name) = node.input(2).filter(|_| node.is(CONV) || node.is(GEMM)) {
        return Ok(own(Some(name)).map(Bias::Own));
    }
    let Some(out) = node.output(0).filter(|o| !graph.is_output(o)) else { return Ok(Some(Bias::Nowhere)) };
    let Some(&[reader]) = readers.get(out).map(Vec::as_slice) else { return Ok(Some(Bias::Nowhere)) };
    let reader = &graph.nodes()[reader];
    if node.is(CONV) && reader.is(BATCH_NORMALIZATION) && reader.input(0) == Some(out) {
        let mean = ops::find(reader)?.params.iter().find(|p| p.1 == ParamKind::Statistic).and_then(|p| reader.input(p.0));
        return Ok(Some(own(mean).map_or(Bias::Nowhere, Bias::Mean)));
    }
    if node.is(MATMUL) && reader.is(ADD) {
        let other = reader.inputs.iter().map(String::as_str).find(|name| *name != out);
        return Ok(Some(own(other).map_or(Bias::Nowhere, Bias::Added)));
    }
    Ok(Some(Bias::Nowhere))
}
