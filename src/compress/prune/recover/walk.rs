//! A run that stops between nodes and goes on with other weights.

use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_exec::{Params, Run, resume};
use compresso_model::{Graph, Value};
use std::collections::HashMap;

/// Where the values of a graph are made and read last.
#[derive(Debug)]
pub(super) struct Walk<'g> {
    pub graph: &'g Graph,
    /// Values in the order of the graph: name, how many nodes have run when it is there, the last node that reads it (0 for none).
    values: Vec<(&'g str, usize, usize)>,
}

impl<'g> Walk<'g> {
    pub fn new(graph: &'g Graph) -> Self {
        let mut last: HashMap<&str, usize> = HashMap::new();
        for (i, node) in graph.nodes().iter().enumerate() {
            last.extend(node.reads().map(|name| (name, i)));
        }
        let inputs = graph.feeds().map(|f| (f.name.as_str(), 0));
        let made = graph.nodes().iter().enumerate().flat_map(|(i, n)| n.outputs.iter().map(move |o| (o.as_str(), i + 1)));
        let values = inputs.chain(made).map(|(name, from)| (name, from, last.get(name).copied().unwrap_or(0)));
        Self { graph, values: values.filter(|v| !v.0.is_empty()).collect() }
    }

    /// Runs the nodes before `node` on what is held, and then holds what the nodes from there on read, and those of `beside` that are made.
    ///
    /// # Errors
    /// Whatever an operator reports; `Cancelled`.
    pub fn advance(
        &self,
        held: &mut HashMap<String, Value>,
        node: usize,
        beside: &[&str],
        params: Option<&Params>,
        ctx: &Context,
    ) -> Result<()> {
        let read_on = |&(name, from, to): &(&'g str, usize, usize)| from <= node && (to >= node || beside.contains(&name));
        let wanted: Vec<&str> = self.values.iter().filter(|v| read_on(v)).map(|v| v.0).collect();
        if wanted.iter().all(|name| held.contains_key(*name)) && held.len() == wanted.len() {
            return Ok(());
        }
        let run = Run { wanted: &wanted, params, cancel: Some(&ctx.cancel), ..Run::default() };
        *held = resume(self.graph, std::mem::take(held), run)?.into_iter().collect();
        Ok(())
    }
}
