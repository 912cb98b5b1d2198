//! Removes nodes and constants that no graph output needs.

use super::{Pass, PassContext, Rewrite};
use compresso_base::error::Result;
use std::collections::HashSet;

/// Removes what no output needs.
#[derive(Debug, Clone, Copy)]
pub struct DeadCode {
    name: &'static str,
    summary: &'static str,
    nodes: bool,
    constants: bool,
}

/// Removes nodes and constants.
pub const DEAD_CODE: DeadCode =
    DeadCode { name: "dead_code", summary: "Removes nodes and constants that no output needs", nodes: true, constants: true };

/// Removes nodes alone, as onnxoptimizer's pass of this name.
pub const ELIMINATE_DEADEND: DeadCode =
    DeadCode { name: "eliminate_deadend", summary: "Removes nodes that no output needs", nodes: true, constants: false };

/// Removes constants alone, as onnxoptimizer's pass of this name.
pub const ELIMINATE_UNUSED_INITIALIZER: DeadCode =
    DeadCode { name: "eliminate_unused_initializer", summary: "Removes constants that no output needs", nodes: false, constants: true };

impl Pass for DeadCode {
    fn name(&self) -> &'static str {
        self.name
    }
    fn summary(&self) -> &'static str {
        self.summary
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let graph = cx.graph();
        let mut live: HashSet<usize> = HashSet::new();
        let mut read: HashSet<&str> = HashSet::new();
        let made = graph.nodes().iter().flat_map(|n| n.outputs.iter().map(String::as_str));
        let mut stack: Vec<&str> = made.chain(graph.constants().keys().map(String::as_str)).filter(|n| cx.stays(n)).collect();
        while let Some(name) = stack.pop() {
            if read.insert(name)
                && let Some((i, node)) = cx.producer(name)
                && live.insert(i)
            {
                stack.extend(node.reads());
            }
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            if self.nodes && !live.contains(&i) {
                out.patch.remove(i);
                out.done.push(format!("{} is removed: no output needs it", node.label()));
            }
        }
        for name in graph.constants().keys() {
            // A node that stays, though no output needs it, reads what it reads.
            let unread = if self.nodes { !read.contains(name.as_str()) } else { !cx.is_used(name) };
            if self.constants && unread {
                out.patch.remove_constant(name);
                out.done.push(format!("constant '{name}' is removed: no output needs it"));
            }
        }
        Ok(out)
    }
}
