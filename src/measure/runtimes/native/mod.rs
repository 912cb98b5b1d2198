//! This library's own executor as a runtime.

mod training;

use super::{Found, ONNX, Runtime, RuntimeSpec};
use compresso_base::context::Cancel;
use compresso_base::error::{Error, Result};
use compresso_exec::{Engine, Outputs, StepTime};
use compresso_model::{Graph, Value, onnx};
use std::collections::HashMap;

pub(super) const SPEC: RuntimeSpec = RuntimeSpec {
    name: "native",
    summary: "This library's own executor, on the CPU",
    get: "",
    find: || Ok(Found { version: env!("CARGO_PKG_VERSION").into(), place: None }),
    artefact: ONNX,
    open: |o| Ok(Box::new(Native::new(&onnx::load(&o.file)?, o.threads, &o.ctx.cancel)?)),
    worker: None,
    usual: true,
    train: Some(training::open),
    profiles: true,
};

/// A graph run by [`Engine`].
#[derive(Debug)]
struct Native {
    engine: Engine,
    fed: HashMap<String, Value>,
    /// For operators that candle runs.
    pool: rayon::ThreadPool,
    cancel: Cancel,
}

/// Threads of a runtime's own.
fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
    built.map_err(|e| Error::unavailable("threads cannot be started").because(e))
}

impl Native {
    /// # Errors
    /// `Unavailable` when the threads cannot be started.
    fn new(graph: &Graph, threads: usize, cancel: &Cancel) -> Result<Self> {
        let engine = Engine::new(graph, &[], threads.max(1))?;
        Ok(Self { engine, fed: HashMap::new(), pool: pool(threads)?, cancel: cancel.clone() })
    }
}

impl Runtime for Native {
    fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs> {
        self.pool.install(|| self.engine.run(feeds, None))
    }
    fn feed(&mut self, feeds: &HashMap<String, Value>) -> Result<()> {
        self.fed.clone_from(feeds);
        Ok(())
    }
    fn step(&mut self) -> Result<()> {
        self.pool.install(|| self.engine.run(&self.fed, None)).map(drop)
    }
    fn profile(&mut self, runs: usize) -> Result<Vec<StepTime>> {
        let steps = self.pool.install(|| self.engine.profile(&self.fed, runs, Some(&self.cancel)))?;
        steps.ok_or_else(|| Error::unsupported(self.engine.refused().unwrap_or("it cannot be planned")))
    }
}
