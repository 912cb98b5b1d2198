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
//! - For onnxruntime, whose int8 kernels write int8, each inner output of a layer is quantized, after a Relu where there
//!   is one. For TensorRT, whose kernels fuse what follows, only inputs are, and all inputs and the output of a Concat
//!   (and of other operators that only move values) share one scale.

use super::Target;
use compresso_base::error::{Error, Result, nearest};
use compresso_kernels::activation::Activation;
use compresso_model::ops::arithmetic::ADD;
use compresso_model::ops::conv::CONV_TRANSPOSE;
use compresso_model::ops::{self, LayerWeight, QuantRule, activation};
use compresso_model::{Element, Graph, Node};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A node that multiplies with constant weights.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Index of the node.
    pub node: usize,
    /// Its weight, a float32 constant.
    pub weight: String,
    /// The weight's output-channel axis.
    pub axis: usize,
}

/// What is to be quantized.
#[derive(Debug, Default)]
pub struct Plan {
    pub layers: Vec<Layer>,
    /// Values that get a QuantizeLinear and a DequantizeLinear. Each names its group: values of one group share a scale.
    pub values: BTreeMap<String, usize>,
    /// Reads (node, input) that go through the quantized value.
    pub reads: BTreeSet<(usize, usize)>,
    /// Layers that stay in float: label and reason.
    pub skipped: Vec<(String, String)>,
}

/// The layers that can be quantized, and those that cannot with the reason.
///
/// # Errors
/// `Unsupported` for operators that the registry does not know.
pub fn layers(graph: &Graph) -> Result<(Vec<Layer>, Vec<(String, String)>)> {
    let makers = graph.producers();
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for (i, node) in graph.nodes().iter().enumerate() {
        let Some(LayerWeight { name, constant, axes }) = ops::layer_weight(graph, node)? else { continue };
        let Some(axes) = axes else {
            skipped.push((label(node), "its weight has no output-channel axis".into()));
            continue;
        };
        let reason = if constant.element() != Element::F32 {
            Some(format!("its weight is {}, not float32", constant.element()))
        } else if node.input(0).is_none_or(|x| graph.constant(x).is_some()) {
            Some("its input is a constant".into())
        } else if ops::is_expectation(graph, &makers, node) {
            Some("it takes an expectation over a Softmax, which is part of decoding the outputs".into())
        } else {
            None
        };
        match reason {
            Some(reason) => skipped.push((label(node), reason)),
            None => found.push(Layer { node: i, weight: name.to_string(), axis: axes.output.axis }),
        }
    }
    Ok((found, skipped))
}

/// Values from which some of these layers can be reached: everything but the outputs' own computation.
pub fn inner_values<'g>(graph: &'g Graph, layers: &[Layer]) -> HashSet<&'g str> {
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

/// Decides what to quantize. `exclude` names layers (node, output or weight names; `*` stands for any text).
///
/// # Errors
/// `Missing` for a pattern that matches no layer.
pub fn plan(graph: &Graph, exclude: &[String], target: Target, elementwise: bool) -> Result<Plan> {
    let (mut found, mut skipped) = layers(graph)?;
    exclude_layers(graph, &mut found, &mut skipped, exclude)?;
    if target == Target::Tensorrt {
        found.retain(|l| {
            let node = &graph.nodes()[l.node];
            let reason = narrow(graph, l);
            if let Some(reason) = &reason {
                skipped.push((label(node), reason.clone()));
            }
            reason.is_none()
        });
    }
    let inner: HashSet<String> = inner_values(graph, &found).into_iter().map(str::to_string).collect();
    let mut p = Placement { graph, inner, readers: graph.consumers(), groups: Groups::default(), reads: BTreeSet::new() };
    for l in &found {
        let x = graph.nodes()[l.node].inputs[0].clone();
        p.groups.add(&x);
        p.reads.insert((l.node, 0));
    }
    match target {
        Target::Onnxruntime => p.outputs_too(&found, elementwise)?,
        Target::Tensorrt => p.inputs_only()?,
    }
    let values = p.groups.finish();
    Ok(Plan { layers: found, values, reads: p.reads, skipped })
}

fn exclude_layers(graph: &Graph, found: &mut Vec<Layer>, skipped: &mut Vec<(String, String)>, exclude: &[String]) -> Result<()> {
    for pattern in exclude {
        let before = found.len();
        found.retain(|l| {
            let node = &graph.nodes()[l.node];
            let hit = std::iter::once(&node.name).chain(&node.outputs).chain([&l.weight]).any(|n| matches(pattern, n));
            if hit {
                skipped.push((label(node), "it is excluded".into()));
            }
            !hit
        });
        if found.len() == before && !skipped.iter().any(|(name, _)| matches(pattern, name)) {
            let e = Error::missing(format!("option 'exclude': no layer with weights matches '{pattern}'"));
            let names: Vec<String> = found.iter().map(|l| label(&graph.nodes()[l.node])).collect();
            return Err(match nearest(pattern, names.iter().map(String::as_str)) {
                Some(near) => e.hint(format!("did you mean '{near}'?")),
                None => e.hint("summary(m) lists the layers; * stands for any text"),
            });
        }
    }
    Ok(())
}

/// True when `pattern`, in which `*` stands for any text, is `name`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// TensorRT runs convolutions of fewer than 16 channels faster in float.
fn narrow(graph: &Graph, layer: &Layer) -> Option<String> {
    let weight = ops::layer_weight(graph, &graph.nodes()[layer.node]).ok()??;
    // Weights of convolutions have axes of their windows.
    if weight.constant.dims().len() < 3 {
        return None;
    }
    let (out, input) = (weight.output_channels(), weight.input_channels());
    (out < 16 || input < 16).then(|| format!("it has {input} input and {out} output channels; TensorRT is faster in float below 16"))
}

/// Values to quantize, in groups that share a scale (union-find).
#[derive(Default)]
struct Groups {
    index: HashMap<String, usize>,
    parent: Vec<usize>,
}

impl Groups {
    fn add(&mut self, value: &str) -> usize {
        let next = self.parent.len();
        let i = *self.index.entry(value.to_string()).or_insert(next);
        if i == next {
            self.parent.push(next);
        }
        i
    }
    fn has(&self, value: &str) -> bool {
        self.index.contains_key(value)
    }
    fn root(&self, mut i: usize) -> usize {
        while self.parent[i] != i {
            i = self.parent[i];
        }
        i
    }
    fn join(&mut self, a: &str, b: &str) {
        let (a, b) = (self.add(a), self.add(b));
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }
    fn finish(&self) -> BTreeMap<String, usize> {
        self.index.iter().map(|(name, &i)| (name.clone(), self.root(i))).collect()
    }
}

struct Placement<'g> {
    graph: &'g Graph,
    inner: HashSet<String>,
    readers: HashMap<&'g str, Vec<usize>>,
    groups: Groups,
    reads: BTreeSet<(usize, usize)>,
}

impl Placement<'_> {
    /// Layers write int8; what can run on int8 between them does.
    fn outputs_too(&mut self, layers: &[Layer], elementwise: bool) -> Result<()> {
        let graph = self.graph;
        let layer_nodes: HashSet<usize> = layers.iter().map(|l| l.node).collect();
        // Values that an int8 kernel makes: whoever reads them reads the quantized value.
        let mut made: Vec<String> = Vec::new();
        for (i, node) in graph.nodes().iter().enumerate() {
            if layer_nodes.contains(&i) {
                // onnxruntime has no int8 ConvTranspose: its output stays in float.
                if !node.is(CONV_TRANSPOSE) {
                    made.extend(self.quantize_output(&node.outputs[0])?);
                }
                continue;
            }
            let Some(out) = node.output(0) else { continue };
            if node.outputs.len() != 1 && !ops::moves(node) || self.groups.has(out) && made.iter().any(|m| m == out) {
                continue;
            }
            let rule = ops::find(node)?.quant;
            let data = self.data_inputs(node)?;
            let ready = !data.is_empty() && data.iter().all(|&(_, name)| self.groups.has(name) && made.iter().any(|m| m == name));
            if !ready || !self.inner.contains(out) {
                continue;
            }
            match rule {
                QuantRule::SameScale if data.len() == 1 => {
                    for out in node.outputs.iter().filter(|o| self.inner.contains(o.as_str())) {
                        self.groups.join(data[0].1, out);
                        made.push(out.clone());
                    }
                }
                // The int8 Concat rescales its inputs, so each keeps its own scale.
                QuantRule::SameScale => made.extend(self.quantize_output(out)?),
                QuantRule::Elementwise if elementwise && data.len() == node.inputs.len() => made.extend(self.quantize_output(out)?),
                _ => {}
            }
        }
        for value in &made {
            for &n in self.readers.get(value.as_str()).into_iter().flatten() {
                for (at, name) in graph.nodes()[n].inputs.iter().enumerate() {
                    if name == value {
                        self.reads.insert((n, at));
                    }
                }
            }
        }
        Ok(())
    }

    /// Marks a node's output, or that of the Relu that alone reads it, and returns what was marked.
    fn quantize_output(&mut self, out: &str) -> Result<Option<String>> {
        let mut value = out.to_string();
        if let Some([reader]) = self.readers.get(out).map(Vec::as_slice)
            && is_relu(self.graph, &self.graph.nodes()[*reader])?
            && !self.graph.is_output(out)
        {
            value.clone_from(&self.graph.nodes()[*reader].outputs[0]);
        }
        if !self.inner.contains(&value) || self.graph.is_output(&value) {
            return Ok(None);
        }
        self.groups.add(&value);
        Ok(Some(value))
    }

    /// Only inputs of layers are quantized, the skip input of a sum, and what shares a scale with them.
    fn inputs_only(&mut self) -> Result<()> {
        let graph = self.graph;
        // Later nodes first, so that scales reach all the way back.
        for (i, node) in graph.nodes().iter().enumerate().rev() {
            let Some(out) = node.output(0) else { continue };
            if ops::find(node)?.quant != QuantRule::SameScale || !node.outputs.iter().any(|o| self.groups.has(o)) {
                continue;
            }
            for (at, name) in self.data_inputs(node)?.into_iter().map(|(at, n)| (at, n.to_string())).collect::<Vec<_>>() {
                for o in node.outputs.iter().filter(|o| self.groups.has(o)).cloned().collect::<Vec<_>>() {
                    self.groups.join(&name, &o);
                }
                self.reads.insert((i, at));
            }
            debug_assert!(!out.is_empty());
        }
        for (i, node) in graph.nodes().iter().enumerate().filter(|(_, n)| n.is(ADD)) {
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

/// A Relu, or a Clip from zero on (Relu6): onnxruntime lets the quantization after it do its work.
fn is_relu(graph: &Graph, node: &Node) -> Result<bool> {
    let act = activation::of_node(node, graph.opset_of(node), &|n| graph.constant(n))?;
    Ok(matches!(act, Some(Activation::Relu)) || matches!(act, Some(Activation::Clip { min: 0.0, .. })))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, hit) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("/model.22/*", "/model.22/cv2/conv", true),
            ("/model.22/*", "/model.21/conv", false),
            ("*cv2*Conv", "/model.22/cv2.0/Conv", true),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), hit, "{pattern} on {name}");
        }
    }
}
