//! Removes nodes and constants that no graph output needs.

use super::Rewrite;
use crate::graph::Graph;
use compresso_base::error::Result;
use std::collections::HashSet;

pub(super) fn rewrite(graph: &Graph) -> Result<Rewrite<'_>> {
    let mut out = Rewrite::new(graph);
    let makers = graph.producers();
    let mut live: HashSet<usize> = HashSet::new();
    let mut read: HashSet<&str> = HashSet::new();
    let mut stack: Vec<&str> = graph.outputs().iter().map(|o| o.name.as_str()).collect();
    while let Some(name) = stack.pop() {
        if read.insert(name)
            && let Some(&i) = makers.get(name)
            && live.insert(i)
        {
            let node = &graph.nodes()[i];
            stack.extend(node.inputs.iter().map(String::as_str).chain(node.captured()));
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
