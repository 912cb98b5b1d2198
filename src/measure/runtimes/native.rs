//! This library's own executor as a runtime.

use super::Runtime;
use compresso_base::error::{Error, Result};
use compresso_exec::{Engine, Outputs};
use compresso_model::{Graph, Value};
use std::collections::HashMap;

/// A graph run by [`Engine`].
#[derive(Debug)]
pub struct Native {
    engine: Engine,
    fed: HashMap<String, Value>,
    /// For operators that candle runs.
    pool: rayon::ThreadPool,
}

/// Threads of a runtime's own.
pub(super) fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
    built.map_err(|e| Error::unavailable("threads cannot be started").because(e))
}

impl Native {
    /// # Errors
    /// `Unavailable` when the threads cannot be started.
    pub fn new(graph: &Graph, threads: usize) -> Result<Self> {
        Ok(Self { engine: Engine::new(graph, &[], threads.max(1))?, fed: HashMap::new(), pool: pool(threads)? })
    }
}

impl Runtime for Native {
    fn name(&self) -> &'static str {
        "native"
    }
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }
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
}
