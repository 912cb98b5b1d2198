//! Raises a graph to a newer ONNX operator set, where every operator's meaning can be kept.
//!
//! Sets 7 to 13 are covered. Between them most operators only gained types and defaults; those whose attributes became
//! inputs or whose defaults changed are converted here, from ONNX's
//! [changelog](https://github.com/onnx/onnx/blob/main/docs/Changelog.md).

use super::{Pass, PassContext, Rewrite};
use crate::constant::Constant;
use crate::graph::{Attr, Node, Patch, normalize_axis};
use crate::ops::activation::{CLIP, DROPOUT};
use crate::ops::concat::PAD;
use crate::ops::norm::BATCH_NORMALIZATION;
use crate::ops::order::TOP_K;
use crate::ops::reduce::REDUCE_SUM;
use crate::ops::resize::{RESIZE, UPSAMPLE};
use crate::ops::scatter::{SCATTER, SCATTER_ELEMENTS};
use crate::ops::shape::{SQUEEZE, UNSQUEEZE};
use crate::ops::slice::{SLICE, SPLIT};
use crate::ops::softmax::{HARDMAX, LOG_SOFTMAX, SOFTMAX};
use compresso_base::error::{Error, Result};

/// Raises the ONNX operator set where it is older.
#[derive(Debug, Clone, Copy)]
pub struct RaiseOpset {
    to: i64,
}

impl RaiseOpset {
    /// To set 13, the first in which quantization has scales per channel.
    pub const PER_CHANNEL: Self = Self { to: 13 };

    /// To the set `to`, 11 to 13.
    ///
    /// # Errors
    /// `Argument` for another set.
    pub fn to(to: i64) -> Result<Self> {
        if (11..=13).contains(&to) {
            Ok(Self { to })
        } else {
            Err(Error::argument(format!("graphs are raised to operator sets 11 to 13, not {to}")))
        }
    }
}

impl Pass for RaiseOpset {
    fn name(&self) -> &'static str {
        "raise_opset"
    }
    fn summary(&self) -> &'static str {
        "Raises an older operator set, where every operator's meaning can be kept"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let graph = cx.graph();
        let from = graph.opset();
        if from >= self.to {
            return Ok(out);
        }
        if from < 7 {
            return Err(Error::unsupported(format!("operator set {from} cannot be raised to {}", self.to))
                .hint("export the model again with operator set 7 or newer"));
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            if matches!(node.domain.as_str(), "" | "ai.onnx") {
                convert(&mut out.patch, i, node, [from, self.to], cx).map_err(|e| e.at(node.label()))?;
            }
        }
        let domain = if graph.opsets().contains_key("") { "" } else { "ai.onnx" };
        out.patch.set_opset(domain, self.to);
        out.done.push(format!("the operator set is raised from {from} to {}", self.to));
        Ok(out)
    }
}

fn convert(patch: &mut Patch<'_>, i: usize, node: &Node, [from, to]: [i64; 2], cx: &PassContext<'_>) -> Result<()> {
    if node.attrs.values().any(|a| matches!(a, Attr::Graph(_) | Attr::Graphs(_))) {
        return Err(Error::unsupported("its inner graph cannot be raised to a newer operator set"));
    }
    let crosses = |version| from < version && version <= to;
    match node.op.as_str() {
        SQUEEZE | UNSQUEEZE | REDUCE_SUM if crosses(13) => ints_to_input(patch, i, node, "axes", 1),
        SPLIT if crosses(13) => ints_to_input(patch, i, node, "split", 1),
        SLICE if crosses(10) => {
            ints_to_input(patch, i, node, "starts", 1)?;
            ints_to_input(patch, i, node, "ends", 2)?;
            ints_to_input(patch, i, node, "axes", 3)
        }
        TOP_K if crosses(10) => {
            let k = node.get_int("k", 1)?;
            add_input(patch, i, node, 1, Constant::ints(&[k]));
            patch.edit(i).attrs.shift_remove("k");
            Ok(())
        }
        CLIP if crosses(11) => {
            for (at, name) in [(1, "min"), (2, "max")] {
                if node.attrs.contains_key(name) {
                    add_input(patch, i, node, at, Constant::scalar(node.get_float(name, 0.0)?));
                    patch.edit(i).attrs.shift_remove(name);
                }
            }
            Ok(())
        }
        PAD if crosses(11) => {
            let value = node.get_float("value", 0.0)?;
            ints_to_input(patch, i, node, "pads", 1)?;
            add_input(patch, i, node, 2, Constant::scalar(value));
            patch.edit(i).attrs.shift_remove("value");
            Ok(())
        }
        DROPOUT if crosses(12) => {
            patch.edit(i).attrs.shift_remove("ratio");
            Ok(())
        }
        UPSAMPLE | RESIZE if crosses(11) => {
            resize(patch, i, node)?;
            Ok(())
        }
        BATCH_NORMALIZATION if crosses(9) => {
            if node.get_int("spatial", 1)? != 1 {
                return Err(Error::unsupported("spatial = 0 has no counterpart in newer operator sets"));
            }
            patch.edit(i).attrs.shift_remove("spatial");
            Ok(())
        }
        SOFTMAX | LOG_SOFTMAX | HARDMAX if crosses(13) => softmax(patch, i, node, cx),
        SCATTER if crosses(11) => {
            patch.edit(i).op = SCATTER_ELEMENTS.into();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Turns an attribute of integers into input `at`.
fn ints_to_input(patch: &mut Patch<'_>, i: usize, node: &Node, name: &str, at: usize) -> Result<()> {
    if let Some(values) = node.find_ints(name)? {
        add_input(patch, i, node, at, Constant::ints(values));
        patch.edit(i).attrs.shift_remove(name);
    }
    Ok(())
}

fn add_input(patch: &mut Patch<'_>, i: usize, node: &Node, at: usize, value: Constant) {
    let stem = node.outputs.first().map_or("value", String::as_str);
    let name = patch.fresh(&format!("{stem}_input_{at}"));
    patch.set_constant(&name, value);
    let inputs = &mut patch.edit(i).inputs;
    if inputs.len() <= at {
        inputs.resize(at + 1, String::new());
    }
    inputs[at] = name;
}

/// Upsample (7, 9) and Resize (10) scale from the corner and round down.
fn resize(patch: &mut Patch<'_>, i: usize, node: &Node) -> Result<()> {
    let mode = node.get_str("mode", "nearest")?.to_string();
    if let Some(scales) = node.find_floats("scales")? {
        add_input(patch, i, node, 1, Constant::floats(&[scales.len()], scales)?);
    }
    let edited = patch.edit(i);
    edited.op = RESIZE.into();
    edited.attrs.shift_remove("scales");
    edited.inputs.insert(1, String::new());
    edited.attrs.insert("mode".into(), Attr::text(mode));
    edited.attrs.insert("coordinate_transformation_mode".into(), Attr::text("asymmetric"));
    edited.attrs.insert("nearest_mode".into(), Attr::text("floor"));
    Ok(())
}

/// Before set 13, Softmax ran over all axes from `axis` (default 1) on; since then over `axis` (default -1) alone.
fn softmax(patch: &mut Patch<'_>, i: usize, node: &Node, cx: &PassContext<'_>) -> Result<()> {
    let facts = cx.facts()?;
    let shape = node.input(0).and_then(|n| facts.get(n)).and_then(|f| f.shape.clone());
    let shape = shape.ok_or_else(|| Error::unsupported("raising its operator set needs a known rank of its input"))?;
    let axis = normalize_axis(node.get_int("axis", 1)?, shape.len())?;
    let alone = shape.iter().skip(axis + 1).all(|d| d.known() == Some(1));
    if !alone {
        return Err(Error::unsupported(format!(
            "it runs over axes {axis} to {} together, which operator set 13 cannot say",
            shape.len() - 1
        )));
    }
    patch.edit(i).attrs.insert("axis".into(), Attr::Int(i64::try_from(axis).unwrap_or(1)));
    Ok(())
}
