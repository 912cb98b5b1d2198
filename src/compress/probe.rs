//! Looking at inner values of a graph while it runs.

use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_exec::compiled::{Seen, Watch};
use compresso_exec::{self as exec, Engine, Run};
use compresso_model::{Element, Graph, Value};
use std::collections::{HashMap, HashSet};

/// Runs a graph and shows chosen float32 values, each as it is made: planned on the CPU, else by the eager executor.
pub(crate) struct Probe<'a> {
    graph: &'a Graph,
    names: HashSet<String>,
    engine: Option<Engine>,
    ctx: &'a Context,
}

impl<'a> Probe<'a> {
    /// For a graph as [`simplify`](compresso_model::passes::simplify) leaves it.
    ///
    /// # Errors
    /// As [`Engine::watching`].
    pub fn new(graph: &'a Graph, names: HashSet<String>, ctx: &'a Context) -> Result<Self> {
        let engine = if ctx.device.is_cpu() { Some(engine(graph, &names, ctx)?) } else { None };
        Ok(Self { graph, names, engine, ctx })
    }

    /// Runs on `feeds`; `see` is shown the chosen values, those among the inputs too.
    ///
    /// # Errors
    /// Whatever running and `see` report; `Cancelled`.
    pub fn run(&mut self, feeds: &HashMap<String, Value>, see: Watch<'_>) -> Result<()> {
        if let Some(engine) = &mut self.engine {
            if engine.run_watched(feeds, Some(&self.ctx.cancel), see)? {
                return Ok(());
            }
            self.engine = None;
        }
        let wanted: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let mut observe = |name: &str, value: &Value| -> Result<()> {
            if !self.names.contains(name) || value.element != Element::F32 {
                return Ok(());
            }
            let values = value.tensor.flatten_all()?.to_vec1::<f32>()?;
            see(&Seen { name, dims: value.dims(), strides: &row_major(value.dims()), values: &values })
        };
        let device = Some(self.ctx.device.clone());
        let run = Run { wanted: &wanted, cancel: Some(&self.ctx.cancel), observer: Some(&mut observe), device, ..Run::default() };
        exec::run(self.graph, feeds, run).map(drop)
    }
}

/// Strides of a tensor in row-major order.
pub(crate) fn row_major(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}

/// An engine that runs no more than the values need: its outputs are those that no other of them needs.
fn engine(graph: &Graph, names: &HashSet<String>, ctx: &Context) -> Result<Engine> {
    let mut read: HashSet<&str> = HashSet::new();
    let mut last: Vec<&str> = Vec::new();
    for node in graph.nodes().iter().rev() {
        let made = || node.outputs.iter().map(String::as_str);
        last.extend(made().filter(|n| names.contains(*n) && !read.contains(n)));
        if made().any(|n| names.contains(n) || read.contains(n)) {
            read.extend(node.inputs.iter().map(String::as_str).chain(node.captured()));
        }
    }
    Engine::watching(graph, &last, names.clone(), ctx.threads)
}
