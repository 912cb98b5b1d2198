//! Where quantization goes: which layers, which values, which reads.
//!
//! Nothing here knows a model by name; placement follows from the operators' [`QuantRule`]s and from the graph:
//!
//! - *Layers* are nodes that multiply with constant weights (Conv, ConvTranspose, Gemm, MatMul).
//! - A value is *inner* when some layer comes after it. What comes after the last layers, such as a detector's decoding
//!   of boxes and scores, stays in float: one scale for boxes of hundreds of pixels and scores below 1 would round all
//!   scores to zero.
//! - A layer that reads a Softmax through nothing but moves of data takes an expectation over a distribution (the box
//!   decoding of distribution focal heads). It is part of the decoding and stays in float.
//! - What the last layers make is rounded where the target's kernels would compute them in float otherwise. An output of the graph
//!   keeps its name: it is what the integers stand for.
//! - A layer that stays in float reads floats. Between a DequantizeLinear and a QuantizeLinear, onnxruntime would round its
//!   weight by itself, with one scale for all channels.
//! - What layers read is quantized. An addition or an average between integers that makes such a value, is on integers too: whoever
//!   else reads the value, such as the next addition, reads what the layer reads. The target says what else is ([`Quantization`]): what layers make, where its kernels write
//!   integers; what operators that only move values join, and whether it shares one scale; the skip input of a sum.

mod groups;

use compresso_base::error::Result;
use compresso_model::names::{Choice, Patterns};
use compresso_model::ops::{self, LayerWeight, QuantRule};
use compresso_model::{Element, Graph, Node};
use compresso_target::{Elementwise, Joining, Op, Quantization, TargetSpec};
use groups::Groups;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A node that multiplies with constant weights.
#[derive(Debug, Clone)]
pub struct WeightedNode {
    /// Index of the node.
    pub node: usize,
    /// Its weight, a float32 constant.
    pub weight: String,
    /// The weight's output-channel axis.
    pub axis: usize,
    /// Whether its weight may have a scale per output channel.
    pub channel_scales: bool,
    /// The scales of its weight, one per channel or one for all. Empty until they are chosen.
    pub scales: Vec<f32>,
}

/// What is to be quantized.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Layers whose weights become integers.
    pub layers: Vec<WeightedNode>,
    /// Values that get a QuantizeLinear and a DequantizeLinear. Each names its group: values of one group share a scale.
    pub values: BTreeMap<String, usize>,
    /// Reads (node, input) that go through the quantized value.
    pub reads: BTreeSet<(usize, usize)>,
    /// Layers that stay in float: label and reason.
    pub skipped: Vec<(String, String)>,
}

impl Plan {
    /// The plan with these layers, given by their nodes and with the reason, in float: what stands around them reads floats too.
    ///
    /// # Errors
    /// `Unsupported` for operators that the registry does not know.
    pub fn without(self, graph: &Graph, left: Vec<(usize, String)>, rules: &Quantization, elementwise: bool) -> Result<Self> {
        let Self { mut layers, mut skipped, .. } = self;
        layers.retain(|l| left.iter().all(|(node, _)| *node != l.node));
        skipped.extend(left.into_iter().map(|(node, reason)| (label(&graph.nodes()[node]), reason)));
        placed(graph, layers, skipped, rules, elementwise)
    }
    /// Notes what stays in float, once.
    pub fn skip(&mut self, names: impl IntoIterator<Item = String>, reason: &str) {
        for name in names {
            let entry = (name, reason.to_string());
            if !self.skipped.contains(&entry) {
                self.skipped.push(entry);
            }
        }
    }
    /// Leaves values in float, which no layer of the plan reads.
    pub fn leave_values(&mut self, graph: &Graph, left: &[String]) {
        self.values.retain(|name, _| !left.contains(name));
        self.reads.retain(|&(node, input)| !left.contains(&graph.nodes()[node].inputs[input]));
    }
}

/// The layers that can be quantized, and those that cannot with the reason.
///
/// # Errors
/// `Unsupported` for operators that the registry does not know.
pub fn layers(graph: &Graph) -> Result<(Vec<WeightedNode>, Vec<(String, String)>)> {
    let makers = graph.producers();
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for (i, node) in graph.nodes().iter().enumerate() {
        node.inner().try_for_each(|inner| inside(inner, &mut skipped))?;
        let Some(LayerWeight { name, constant, axes }) = ops::layer_weight(graph, node)? else { continue };
        let Some(axes) = axes else {
            skipped.push((label(node), "its weight has no output-channel axis".into()));
            continue;
        };
        let reason = if constant.element() != Element::F32 {
            Some(format!("its weight is {}, not float32", constant.element()))
        } else if constant.count() == 0 {
            Some("its weight has no elements".into())
        } else if node.input(0).is_none_or(|x| graph.constant(x).is_some()) {
            Some("its input is a constant".into())
        } else if ops::is_expectation(graph, &makers, node) {
            Some("it takes an expectation over a Softmax, which is part of decoding the outputs".into())
        } else {
            None
        };
        match reason {
            Some(reason) => skipped.push((label(node), reason)),
            None => {
                let (weight, axis) = (name.to_string(), axes.output.axis);
                found.push(WeightedNode { node: i, weight, axis, channel_scales: true, scales: Vec::new() });
            }
        }
    }
    Ok((found, skipped))
}

/// The layers of an inner graph, which stay in float.
fn inside(graph: &Graph, skipped: &mut Vec<(String, String)>) -> Result<()> {
    for node in graph.nodes() {
        if ops::layer_weight(graph, node)?.is_some() {
            skipped.push((label(node), "it stands in a branch or in the body of a loop".into()));
        }
        node.inner().try_for_each(|inner| inside(inner, skipped))?;
    }
    Ok(())
}

/// Values from which some of these layers can be reached: everything but the outputs' own computation.
pub fn inner_values<'g>(graph: &'g Graph, layers: &[WeightedNode]) -> HashSet<&'g str> {
    let makers = graph.producers();
    let mut inner: HashSet<&str> = HashSet::new();
    let mut stack: Vec<&str> = layers.iter().filter_map(|l| graph.nodes()[l.node].input(0)).collect();
    while let Some(name) = stack.pop() {
        if inner.insert(name)
            && let Some(&i) = makers.get(name)
        {
            let node = &graph.nodes()[i];
            stack.extend(node.inputs.iter().map(String::as_str).chain(node.captured()).filter(|n| !n.is_empty()));
        }
    }
    inner
}

/// What reports and errors call a layer: its name, else its first output.
pub fn label(node: &Node) -> String {
    if node.name.is_empty() { node.outputs.first().cloned().unwrap_or_default() } else { node.name.clone() }
}

/// Decides what to quantize: of the layers that the patterns choose, what the target's rules say.
///
/// # Errors
/// `Missing` for a pattern that matches no layer.
pub fn plan(graph: &Graph, patterns: Patterns<'_>, target: &TargetSpec, rules: &Quantization, elementwise: bool) -> Result<Plan> {
    let (found, mut skipped) = layers(graph)?;
    let names = found.iter().map(|l| names_of(&graph.nodes()[l.node], &l.weight));
    // Naming what stays in float anyway is no mistake.
    let all: Vec<Vec<&str>> = names.chain(skipped.iter().map(|(label, _)| vec![label.as_str()])).collect();
    let choices = patterns.choose(&all, "layer with weights", "summary(m) lists the layers")?;
    let (mut kept, mut left) = (Vec::new(), Vec::new());
    for (mut layer, choice) in found.into_iter().zip(choices) {
        let node = &graph.nodes()[layer.node];
        let reason = match choice {
            Choice::Excluded => Some("it is excluded".into()),
            Choice::NotIncluded => Some("it is not among those to include".into()),
            Choice::Chosen if !is_any(rules.layers, graph, node) => Some(format!("{} multiplies no integers in {}", target.title, node.op)),
            Choice::Chosen => narrow(graph, &layer, target, rules.min_channels),
        };
        match reason {
            Some(reason) => left.push((label(node), reason)),
            None => {
                layer.channel_scales = is_any(rules.channel_scales, graph, node);
                kept.push(layer);
            }
        }
    }
    skipped.extend(left);
    placed(graph, kept, skipped, rules, elementwise)
}

/// The plan in which these layers are quantized.
fn placed(
    graph: &Graph,
    layers: Vec<WeightedNode>,
    skipped: Vec<(String, String)>,
    rules: &Quantization,
    elementwise: bool,
) -> Result<Plan> {
    let inner: HashSet<String> = inner_values(graph, &layers).into_iter().map(str::to_string).collect();
    let readers = graph.consumers();
    let float = floating(graph, rules, &layers, &readers)?;
    let mut p = Placement { graph, rules, inner, readers, groups: Groups::default(), reads: BTreeSet::new(), float };
    for l in &layers {
        let x = graph.nodes()[l.node].inputs[0].clone();
        p.groups.add(&x);
        p.reads.insert((l.node, 0));
    }
    p.outputs(&layers, elementwise)?;
    if rules.joining == Joining::Share {
        p.share()?;
    }
    p.residuals()?;
    let values = p.groups.finish();
    Ok(Plan { values, reads: p.reads, layers, skipped })
}

/// All names of a layer: its own, those of what it makes, its weight's.
fn names_of<'g>(node: &'g Node, weight: &'g str) -> Vec<&'g str> {
    std::iter::once(&node.name).chain(&node.outputs).map(String::as_str).filter(|n| !n.is_empty()).chain([weight]).collect()
}

fn is_any(ops: &[Op], graph: &Graph, node: &Node) -> bool {
    ops.iter().any(|op| op.is(graph, node))
}

/// Why a convolution has too few channels for the target's integer kernels.
fn narrow(graph: &Graph, layer: &WeightedNode, target: &TargetSpec, least: usize) -> Option<String> {
    let weight = ops::layer_weight(graph, &graph.nodes()[layer.node]).ok()??;
    // Weights of convolutions have axes of their windows.
    if weight.constant.dims().len() < 3 {
        return None;
    }
    let (out, input) = (weight.output_channels(), weight.input_channels());
    let reason = || format!("it has {input} input and {out} output channels; {} is faster in float below {least}", target.title);
    (out < least || input < least).then(reason)
}

/// Nodes that read floats whatever stands around them: layers that are not to be quantized, what the target's integer kernels
/// lack, and, where kernels write integers, what moves values to one of these: runtimes move a DequantizeLinear past it.
fn floating(graph: &Graph, rules: &Quantization, layers: &[WeightedNode], readers: &HashMap<&str, Vec<usize>>) -> Result<HashSet<usize>> {
    let integer: HashSet<usize> = layers.iter().map(|l| l.node).collect();
    let mut float = HashSet::new();
    for (i, node) in graph.nodes().iter().enumerate().filter(|(i, _)| !integer.contains(i)) {
        if is_any(rules.float, graph, node) || ops::layer_weight(graph, node)?.is_some() {
            float.insert(i);
        }
    }
    if rules.writes.is_empty() {
        return Ok(float);
    }
    for (i, node) in graph.nodes().iter().enumerate().rev() {
        let mut reading = node.outputs.iter().filter_map(|o| readers.get(o.as_str())).flatten();
        if ops::find(node)?.quant == QuantRule::SameScale && reading.any(|r| float.contains(r)) {
            float.insert(i);
        }
    }
    Ok(float)
}

struct Placement<'g> {
    graph: &'g Graph,
    rules: &'g Quantization,
    inner: HashSet<String>,
    readers: HashMap<&'g str, Vec<usize>>,
    groups: Groups,
    reads: BTreeSet<(usize, usize)>,
    /// Nodes that read floats.
    float: HashSet<usize>,
}

impl Placement<'_> {
    /// Where layers write integers, what can run on integers between them does.
    fn outputs(&mut self, layers: &[WeightedNode], elementwise: bool) -> Result<()> {
        let graph = self.graph;
        let layer_nodes: HashSet<usize> = layers.iter().map(|l| l.node).collect();
        // Values that an integer kernel makes: whoever reads them reads the quantized value.
        let mut made: Vec<String> = Vec::new();
        for (i, node) in graph.nodes().iter().enumerate() {
            if layer_nodes.contains(&i) {
                if is_any(self.rules.writes, graph, node) {
                    made.extend(self.quantize_output(&node.outputs[0], self.rules.ends));
                }
                continue;
            }
            let Some(out) = node.output(0) else { continue };
            if self.float.contains(&i)
                || node.outputs.len() != 1 && !ops::moves(node)
                || self.groups.has(out) && made.iter().any(|m| m == out)
            {
                continue;
            }
            let rule = ops::find(node)?.quant;
            let data = self.data_inputs(node)?;
            let ready = !data.is_empty() && data.iter().all(|&(_, name)| self.groups.has(name) && made.iter().any(|m| m == name));
            if !ready || !self.inner.contains(out) {
                continue;
            }
            match rule {
                QuantRule::SameScale if data.len() == 1 || self.rules.joining == Joining::Share => {
                    for out in node.outputs.iter().filter(|o| self.inner.contains(o.as_str())) {
                        data.iter().for_each(|(_, name)| self.groups.join(name, out));
                        made.push(out.clone());
                    }
                }
                QuantRule::SameScale => made.extend(self.quantize_output(out, false)),
                QuantRule::Elementwise if (elementwise || self.is_rounded(out)) && data.len() == node.inputs.len() => {
                    made.extend(self.quantize_output(out, false));
                }
                _ => {}
            }
        }
        for value in &made {
            for &n in self.readers.get(value.as_str()).into_iter().flatten().filter(|n| !self.float.contains(n)) {
                for (at, name) in graph.nodes()[n].inputs.iter().enumerate() {
                    if name == value {
                        self.reads.insert((n, at));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a layer reads what a node makes, or what the fused operator that alone reads it makes, of a target that has kernels for
    /// operators between layers.
    fn is_rounded(&self, out: &str) -> bool {
        if self.rules.elementwise != Elementwise::Asked {
            return false;
        }
        let next = match self.readers.get(out).map(Vec::as_slice) {
            Some([reader]) if is_any(self.rules.fused, self.graph, &self.graph.nodes()[*reader]) => self.graph.nodes()[*reader].output(0),
            _ => None,
        };
        self.groups.has(next.unwrap_or(out))
    }

    /// Marks a node's output, or that of the fused operator that alone reads it, and returns what was marked. Of what no layer comes after,
    /// only `ends` are marked.
    fn quantize_output(&mut self, out: &str, ends: bool) -> Option<String> {
        let mut value = out.to_string();
        if let Some([reader]) = self.readers.get(out).map(Vec::as_slice)
            && is_any(self.rules.fused, self.graph, &self.graph.nodes()[*reader])
            && !self.graph.is_output(out)
        {
            value.clone_from(&self.graph.nodes()[*reader].outputs[0]);
        }
        if !ends && (!self.inner.contains(&value) || self.graph.is_output(&value)) {
            return None;
        }
        self.groups.add(&value);
        Some(value)
    }

    /// What operators that move values join shares one scale, where some of it is quantized.
    fn share(&mut self) -> Result<()> {
        let graph = self.graph;
        // Later nodes first, so that scales reach all the way back.
        for (i, node) in graph.nodes().iter().enumerate().rev() {
            if self.float.contains(&i) || ops::find(node)?.quant != QuantRule::SameScale || !node.outputs.iter().any(|o| self.groups.has(o))
            {
                continue;
            }
            for (at, name) in self.data_inputs(node)?.into_iter().map(|(at, n)| (at, n.to_string())).collect::<Vec<_>>() {
                for o in node.outputs.iter().filter(|o| self.groups.has(o)).cloned().collect::<Vec<_>>() {
                    self.groups.join(&name, &o);
                }
                self.reads.insert((i, at));
            }
        }
        Ok(())
    }

    /// Of what a sum adds, one input is quantized, when it is quantized for others already.
    fn residuals(&mut self) -> Result<()> {
        let graph = self.graph;
        for (i, node) in graph.nodes().iter().enumerate().filter(|(_, n)| is_any(self.rules.residual, graph, n)) {
            if let Some((at, _)) = self.data_inputs(node)?.into_iter().find(|(_, name)| self.groups.has(name))
                && node.output(0).is_some_and(|o| self.inner.contains(o))
            {
                self.reads.insert((i, at));
            }
        }
        Ok(())
    }

    /// Inputs that are neither constants nor settings (shapes, axes): position and name.
    fn data_inputs<'n>(&self, node: &'n Node) -> Result<Vec<(usize, &'n str)>> {
        Ok(ops::find(node)?.data_inputs(node).filter(|(_, n)| self.graph.constant(n).is_none()).collect())
    }
}
