//! The executor that runs node by node, as training does, as a runtime.

use super::{Found, ONNX, Opening, Runtime, RuntimeSpec};
use compresso_base::error::Result;
use compresso_exec::{Outputs, Run, run};
use compresso_model::{Graph, Value, onnx};
use std::collections::HashMap;

pub(super) const SPEC: RuntimeSpec = RuntimeSpec {
    name: "eager",
    summary: "This library's executor without a plan",
    get: "",
    find: || Ok(Found { version: env!("CARGO_PKG_VERSION").into(), place: None }),
    artefact: ONNX,
    open,
    worker: None,
    usual: true,
    train: None,
    profiles: false,
};

/// A graph, and what its steps run on.
struct Eager {
    graph: Graph,
    fed: HashMap<String, Value>,
}

fn open<'a>(opening: &Opening<'a>) -> Result<Box<dyn Runtime + 'a>> {
    Ok(Box::new(Eager { graph: onnx::load(&opening.file)?, fed: HashMap::new() }))
}

impl Runtime for Eager {
    fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs> {
        run(&self.graph, feeds, Run::default())
    }
    fn feed(&mut self, feeds: &HashMap<String, Value>) -> Result<()> {
        self.fed.clone_from(feeds);
        Ok(())
    }
    fn step(&mut self) -> Result<()> {
        run(&self.graph, &self.fed, Run::default()).map(drop)
    }
}
