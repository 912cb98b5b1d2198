//! Raises a graph to a newer ONNX operator set, or lowers it to an older one, where every operator's meaning can be kept.

mod convert;
mod lower;

use super::{Pass, PassContext, Rewrite};
use crate::element::Element;
use crate::graph::{Dim, Graph};
use compresso_base::error::{Error, Result};
pub(crate) use convert::Raise;
pub use lower::LowerOpset;

/// Raises the ONNX operator set where it is older.
#[derive(Debug, Clone, Copy)]
pub struct RaiseOpset {
    to: i64,
}

impl RaiseOpset {
    /// To set 13, the first in which quantization has scales per channel.
    pub const PER_CHANNEL: Self = Self { to: 13 };
    /// To set 21, the first that has integers of 4 bits.
    pub const FOUR_BITS: Self = Self { to: 21 };

    /// To the set `to`, 11 to 21.
    ///
    /// # Errors
    /// `Argument` for another set.
    pub fn to(to: i64) -> Result<Self> {
        if (11..=21).contains(&to) {
            Ok(Self { to })
        } else {
            Err(Error::argument(format!("graphs are raised to operator sets 11 to 21, not {to}")))
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
        let raise = Raise {
            from,
            to: self.to,
            about: &|name| about(cx, name),
            constant: &|name| graph.constant(name).cloned(),
            is_read: &|name| cx.is_used(name),
        };
        for (i, node) in graph.nodes().iter().enumerate() {
            let found = raise.node(node, &mut |stem| out.patch.fresh(stem)).map_err(|e| e.at(node.label()))?;
            let Some(made) = found else { continue };
            for (name, value) in made.constants {
                out.patch.set_constant(name, value);
            }
            *out.patch.edit(i) = made.node;
            made.before.into_iter().for_each(|n| out.patch.add(n));
        }
        let domain = if graph.opsets().contains_key("") { "" } else { "ai.onnx" };
        out.patch.set_opset(domain, self.to);
        out.done.push(format!("the operator set is raised from {from} to {}", self.to));
        Ok(out)
    }
}

/// Type and shape of a value, as far as inference knows them.
fn about(cx: &PassContext<'_>, name: &str) -> Option<(Element, Option<Vec<Dim>>)> {
    let fact = cx.facts().ok()?.get(name)?;
    Some((fact.element, fact.shape.clone()))
}

impl Graph {
    /// The nodes and constants of an inner graph, raised; see [`Raise`].
    ///
    /// # Errors
    /// `Unsupported`, naming the node whose meaning the newer set cannot say.
    pub(crate) fn raised(&self, raise: &Raise<'_>, fresh: &mut dyn FnMut(&str) -> String) -> Result<Self> {
        let mut out = self.clone();
        let constant = |name: &str| self.constant(name).cloned().or_else(|| (raise.constant)(name));
        // Inference of the graph around this one does not reach into it.
        let is_read = |name: &str| self.is_output(name) || self.nodes.iter().any(|n| n.reads().any(|r| r == name));
        let own = Raise { constant: &constant, about: &|_| None, is_read: &is_read, ..*raise };
        let (nodes, constants) = own.nodes(&self.nodes, fresh)?;
        out.nodes = nodes;
        out.constants.extend(constants);
        for (domain, version) in &mut out.opsets {
            if matches!(domain.as_str(), "" | "ai.onnx") {
                *version = raise.to;
            }
        }
        Ok(out)
    }
}
