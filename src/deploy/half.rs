//! A graph in float16, typed node by node, as strongly typed builders want it.
//!
//! Layers with weights and all that comes before them run in float16. Inputs and outputs stay float32, with Casts
//! between, and so does what comes after the last layers: box coordinates of hundreds of pixels have steps of half a
//! pixel in float16.

use candle_core::{DType, Device};
use compresso_base::error::{Error, Result};
use compresso_compress::quantize::placement;
use compresso_model::ops::cast::CAST;
use compresso_model::ops::{self, Float16Rule};
use compresso_model::passes::{Pass, PassContext, Pipeline, Rewrite, pipelines};
use compresso_model::{Attr, Constant, Element, Fact, Graph, Node};
use std::collections::{HashMap, HashSet};

/// Largest finite float16.
const LARGEST: f32 = 65504.0;

/// For TensorRT with layers in float16.
pub const PIPELINE: Pipeline =
    Pipeline { name: "tensorrt_float16", summary: "As tensorrt, with layers in float16", lists: &[pipelines::CLEAN, &[&Float16]] };

/// Converts layers with float32 weights, and all that comes before them, to float16.
#[derive(Debug, Clone, Copy)]
pub struct Float16;

impl Pass for Float16 {
    fn name(&self) -> &'static str {
        "float16"
    }
    fn summary(&self) -> &'static str {
        "Converts layers, and all that comes before them, to float16"
    }
    /// # Errors
    /// `Argument` for a quantized graph; `Unsupported` for control flow before a layer.
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        rewrite(cx)
    }
}

/// The simplified graph with its layers in float16, and what a user should know of it.
///
/// # Errors
/// `Argument` for a quantized graph; `Unsupported` when there is no layer, or control flow before one.
pub fn to_float16(graph: &Graph) -> Result<(Graph, Vec<String>)> {
    let out = PIPELINE.run(graph)?;
    match out.reports.into_iter().find(|r| r.pass == Float16.name()) {
        Some(report) if !report.done.is_empty() => Ok((out.graph, report.warnings)),
        _ => Err(Error::unsupported("the model has no layer with float32 weights to convert to float16")),
    }
}

fn rewrite<'g>(cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
    let graph = cx.graph();
    if let Some(node) = ops::quantized_node(graph) {
        return Err(Error::argument("a quantized model is not converted to float16").at(node.label()));
    }
    let (layers, _) = placement::layers(graph)?;
    if layers.is_empty() {
        return Ok(cx.rewrite());
    }
    let inner = placement::inner_values(graph, &layers);
    let mut region: HashSet<usize> = layers.iter().map(|l| l.node).collect();
    region.extend(graph.nodes().iter().enumerate().filter(|(_, n)| n.outputs.iter().any(|o| inner.contains(o.as_str()))).map(|(i, _)| i));
    for (i, node) in graph.nodes().iter().enumerate() {
        if ops::find(node)?.float16 == Float16Rule::Float32 {
            region.remove(&i);
        }
    }
    let made: HashSet<&str> = region.iter().flat_map(|&i| graph.nodes()[i].outputs.iter()).map(String::as_str).collect();
    let mut c = Converter { graph, made, cx, out: cx.rewrite(), names: HashMap::new() };
    for (i, node) in graph.nodes().iter().enumerate().filter(|(i, _)| region.contains(i)) {
        c.node(i, node, &region).map_err(|e| e.at(node.label()))?;
    }
    c.out.done.push(format!("{} layers and what comes before them are converted to float16", layers.len()));
    Ok(c.out)
}

struct Converter<'g, 'c> {
    graph: &'g Graph,
    /// Values that the converted nodes make.
    made: HashSet<&'g str>,
    cx: &'c PassContext<'g>,
    out: Rewrite<'g>,
    /// float16 name of each float32 value.
    names: HashMap<String, String>,
}

impl Converter<'_, '_> {
    fn node(&mut self, i: usize, node: &Node, region: &HashSet<usize>) -> Result<()> {
        if node.attrs.values().any(|a| matches!(a, Attr::Graph(_) | Attr::Graphs(_))) {
            return Err(Error::unsupported("control flow before a layer is not converted to float16"));
        }
        let rule = ops::find(node)?.float16;
        for at in 0..node.inputs.len() {
            if matches!(rule, Float16Rule::Except(stay) if stay.contains(&at)) || !self.is_float(&node.inputs[at])? {
                continue;
            }
            let name = self.half(&node.inputs[at])?;
            self.out.patch.edit(i).inputs[at] = name;
        }
        for at in 0..node.outputs.len() {
            let out = node.outputs[at].clone();
            if !self.is_float(&out)? {
                continue;
            }
            let name = self.half_name(&out);
            self.out.patch.edit(i).outputs[at].clone_from(&name);
            let leaves = self.cx.stays(&out) || self.cx.readers(&out).iter().any(|r| !region.contains(r));
            if leaves {
                self.cast(&name, &out, Element::F32);
            }
        }
        if let Some(Attr::Int(to)) = node.attrs.get("to")
            && i32::try_from(*to).ok() == Some(Element::F32.code())
        {
            self.out.patch.edit(i).attrs.insert("to".into(), Attr::Int(i64::from(Element::F16.code())));
        }
        if let Some(Attr::Tensor(value)) = node.attrs.get("value")
            && value.element() == Element::F32
        {
            let value = self.constant(value, "value")?;
            self.out.patch.edit(i).attrs.insert("value".into(), Attr::Tensor(value));
        }
        Ok(())
    }

    fn is_float(&self, name: &str) -> Result<bool> {
        Ok(self.cx.facts()?.get(name).map(|f: &Fact| f.element) == Some(Element::F32))
    }

    /// The float16 form of a value: of a constant a converted one, of what a converted node makes that, of others a cast one.
    fn half(&mut self, name: &str) -> Result<String> {
        if let Some(made) = self.names.get(name) {
            return Ok(made.clone());
        }
        let half = self.half_name(name);
        if let Some(c) = self.graph.constant(name) {
            let c = self.constant(&c.clone(), name)?;
            self.out.patch.set_constant(&half, c);
        } else if !self.made.contains(name) {
            self.cast(name, &half, Element::F16);
        }
        Ok(half)
    }

    fn half_name(&mut self, name: &str) -> String {
        if let Some(made) = self.names.get(name) {
            return made.clone();
        }
        let half = self.out.patch.fresh(&format!("{name}_float16"));
        self.names.insert(name.into(), half.clone());
        half
    }

    fn cast(&mut self, from: &str, to: &str, element: Element) {
        let name = self.out.patch.fresh(&format!("{to}_Cast"));
        self.out.patch.add(Node::new(CAST, name, [from], [to]).int("to", i64::from(element.code())));
    }

    fn constant(&mut self, c: &Constant, name: &str) -> Result<Constant> {
        let t = c.tensor(&Device::Cpu)?;
        let largest = c.to_f32s()?.iter().filter(|v| v.is_finite()).fold(0f32, |m, v| m.max(v.abs()));
        let t = if largest > LARGEST {
            self.out.warnings.push(format!("constant '{name}' reaches {largest:e} and is cut off at {LARGEST}, the largest float16"));
            t.clamp(-LARGEST, LARGEST)?
        } else {
            t
        };
        Constant::from_tensor(&t.to_dtype(DType::F16)?)
    }
}
