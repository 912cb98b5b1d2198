//! A graph in float16, typed node by node, as strongly typed builders want it.
//!
//! Layers with weights and what comes before them run in float16, but for what float16 would lose (`stays`). Inputs and outputs stay
//! float32, with Casts between, and so does what comes after the last layers: box coordinates of hundreds of pixels have steps of
//! half a pixel in float16.

mod numbers;
mod stays;

use candle_core::{DType, Device};
use compresso_base::error::{Error, Result};
use compresso_compress::quantize::placement;
use compresso_model::ops::{self, cast::CAST};
use compresso_model::passes::{Pass, PassContext, Pipeline, Rewrite, pipelines};
use compresso_model::{Attr, Constant, Element, Graph, Node};
use numbers::LARGEST;
use stays::{is_excepted, is_float};
use std::collections::{HashMap, HashSet};

/// For TensorRT with layers in float16.
pub const PIPELINE: Pipeline =
    Pipeline { name: "tensorrt_float16", summary: "As tensorrt, with layers in float16", lists: &[pipelines::CLEAN, &[&Float16]] };

/// Converts layers with float32 weights, and what comes before them, to float16, where it can stand for their numbers.
#[derive(Debug, Clone, Copy)]
pub struct Float16;

impl Pass for Float16 {
    fn name(&self) -> &'static str {
        "float16"
    }
    fn summary(&self) -> &'static str {
        "Converts layers, and what comes before them, to float16 where it can stand for their numbers"
    }
    /// # Errors
    /// `Argument` for a quantized graph.
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        rewrite(cx)
    }
}

/// The simplified graph with its layers in float16, and what a user should know of it: what stays in float32, and why.
///
/// # Errors
/// `Argument` for a quantized graph; `Unsupported` when there is no layer.
pub fn to_float16(graph: &Graph) -> Result<(Graph, Vec<String>)> {
    let out = PIPELINE.run(graph)?;
    match out.reports.into_iter().find(|r| r.pass == Float16.name()) {
        Some(report) if !report.done.is_empty() => Ok((out.graph, report.warnings)),
        // Every layer stays in float32.
        Some(report) if !report.refused.is_empty() => Ok((out.graph, report.refused)),
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
    let split = stays::split(cx, &layers)?;
    if split.layers == 0 {
        let mut out = cx.rewrite();
        out.refused = split.stay;
        return Ok(out);
    }
    let region = split.converted;
    let made: HashSet<&str> = region.iter().flat_map(|&i| graph.nodes()[i].outputs.iter()).map(String::as_str).collect();
    let mut c = Converter { graph, made, cx, out: cx.rewrite(), names: HashMap::new() };
    for (i, node) in graph.nodes().iter().enumerate().filter(|(i, _)| region.contains(i)) {
        c.node(i, node, &region).map_err(|e| e.at(node.label()))?;
    }
    c.out.warnings = split.stay;
    c.out.done.push(format!("{} layers and what comes before them are converted to float16", split.layers));
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
        let rule = ops::find(node)?.float16;
        for at in 0..node.inputs.len() {
            if is_excepted(rule, at) || !is_float(self.cx, &node.inputs[at])? {
                continue;
            }
            let name = self.half(&node.inputs[at])?;
            self.out.patch.edit(i).inputs[at] = name;
        }
        for at in 0..node.outputs.len() {
            let out = node.outputs[at].clone();
            if !is_float(self.cx, &out)? {
                continue;
            }
            let name = self.half_name(&out);
            self.out.patch.edit(i).outputs[at].clone_from(&name);
            if self.is_read_in_float32(&out, region)? {
                self.cast(&name, &out, Element::F32);
            }
        }
        // What says the type of the output: of Cast, and of those that make values from nothing.
        for name in ["to", "dtype"] {
            if let Some(Attr::Int(to)) = node.attrs.get(name)
                && i32::try_from(*to).ok() == Some(Element::F32.code())
            {
                self.out.patch.edit(i).attrs.insert(name.into(), Attr::Int(i64::from(Element::F16.code())));
            }
        }
        if let Some(Attr::Tensor(value)) = node.attrs.get("value")
            && value.element() == Element::F32
        {
            let value = constant(value)?;
            self.out.patch.edit(i).attrs.insert("value".into(), Attr::Tensor(value));
        }
        Ok(())
    }

    /// True for a value that stays, or that something reads in float32.
    fn is_read_in_float32(&self, name: &str, region: &HashSet<usize>) -> Result<bool> {
        for &reader in self.cx.readers(name) {
            let node = &self.graph.nodes()[reader];
            let rule = ops::find(node)?.float16;
            if !region.contains(&reader) || node.inputs.iter().enumerate().any(|(at, n)| n == name && is_excepted(rule, at)) {
                return Ok(true);
            }
        }
        Ok(self.cx.stays(name))
    }

    /// The float16 form of a value: of a constant a converted one, of what a converted node makes that, of others a cast one.
    fn half(&mut self, name: &str) -> Result<String> {
        if let Some(made) = self.names.get(name) {
            return Ok(made.clone());
        }
        let half = self.half_name(name);
        if let Some(c) = self.graph.constant(name) {
            self.out.patch.set_constant(&half, constant(c)?);
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
}

/// The constant in float16. What of it lies beyond the largest float16, as a bound of Clip may, becomes that one.
fn constant(c: &Constant) -> Result<Constant> {
    let bound = f64::from(LARGEST);
    let infinite = c.to_f32s()?.iter().any(|v| v.is_infinite());
    let t = c.tensor(&Device::Cpu)?;
    let t = if infinite { t } else { t.clamp(-bound, bound)? };
    Constant::from_tensor(&t.to_dtype(DType::F16)?)
}
