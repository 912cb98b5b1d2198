//! This library's own executor as a runtime.

use super::Runtime;
use crate::error::Result;
use crate::exec::{self, Outputs, Run};
use crate::model::{Graph, Value};
use std::collections::HashMap;

/// A graph run by [`exec::run`].
#[derive(Debug, Clone)]
pub struct Native {
    graph: Graph,
    fed: HashMap<String, Value>,
}

impl Native {
    pub fn new(graph: &Graph) -> Self {
        Self { graph: graph.clone(), fed: HashMap::new() }
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
        exec::run(&self.graph, feeds, Run::default())
    }
    fn feed(&mut self, feeds: &HashMap<String, Value>) -> Result<()> {
        self.fed.clone_from(feeds);
        Ok(())
    }
    fn step(&mut self) -> Result<()> {
        exec::run(&self.graph, &self.fed, Run::default()).map(drop)
    }
}
