//! Removes nodes and constants that no graph output needs.

use super::{Pass, PassContext, Rewrite};
use compresso_base::error::Result;
use std::collections::HashSet;

/// Removes nodes and constants that no output needs.
#[derive(Debug, Clone, Copy)]
pub struct DeadCode;

impl Pass for DeadCode {
    fn name(&self) -> &'static str {
        "dead_code"
    }
    fn summary(&self) -> &'static str {
        "Removes nodes and constants that no output needs"
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
            if !live.contains(&i) {
                out.patch.remove(i);
                out.done.push(format!("{} is removed: no output needs it", node.label()));
            }
        }
        for name in graph.constants().keys() {
            if !read.contains(name.as_str()) {
                out.patch.remove_constant(name);
                out.done.push(format!("constant '{name}' is removed: no output needs it"));
            }
        }
        Ok(out)
    }
}
