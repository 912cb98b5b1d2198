//! Puts the nodes of the branch that is taken in the place of an [If](https://onnx.ai/onnx/operators/onnx__If.html) whose condition is
//! known. Exporters write such where a condition follows from shapes.

use super::{Pass, PassContext, Rewrite};
use crate::graph::Attr;
use crate::ops::control::IF;
use compresso_base::error::{At, Result};
use indexmap::IndexMap;
use std::collections::HashSet;

/// Replaces an If whose condition is known by its branch.
#[derive(Debug, Clone, Copy)]
pub struct InlineBranches;

impl Pass for InlineBranches {
    fn name(&self) -> &'static str {
        "inline_branches"
    }
    fn summary(&self) -> &'static str {
        "Replaces an If whose condition is known by the branch that is taken"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut replaced: HashSet<&str> = HashSet::new();
        for (i, node) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(IF)) {
            let Some(condition) = cx.facts()?.get(&node.inputs[0]).and_then(|f| f.constant.as_ref()) else { continue };
            let branch = if condition.to_i64s()?.first().is_some_and(|&v| v != 0) { "then_branch" } else { "else_branch" };
            let Some(Attr::Graph(inner)) = node.attrs.get(branch) else { continue };
            // The turn of one that reads another's results comes when these have another name.
            let waits = node.reads().any(|name| replaced.contains(name));
            if waits || inner.outputs().len() < node.outputs.len() || !inner.inputs().is_empty() {
                continue;
            }
            let made = out.patch.inline(inner, &[], &mut IndexMap::new()).at(|| node.label())?;
            out.patch.remove(i);
            for (name, own) in node.outputs.iter().zip(&made).filter(|(name, _)| !name.is_empty()) {
                out.patch.redirect(name, own);
                replaced.insert(name);
            }
            out.done.push(format!("{} is its {branch}: the condition is known", node.label()));
        }
        Ok(out)
    }
}
