//! What a model is: the graph, its operators, files, zoo and rewriting passes.

mod box_decode;
mod constant;
mod element;
mod file;
pub mod graph;
mod literal;
mod made;
pub mod onnx;
mod open;
pub mod ops;
pub mod passes;
mod pytorch;
mod recognize;
pub mod step;
mod summary;
mod task;
mod value;
pub mod weights;
pub mod zoo;

pub use box_decode::{AnchorLayout, BoxDecode, BoxFormat, CellCentre, CellExtent, RowPart, ScoreActivation};
pub use constant::{Constant, Payload};
pub use element::Element;
pub use file::LoadOptions;
pub use graph::{Attr, Cost, Dim, Fact, Facts, Graph, GraphBuilder, Infer, Node, Patch, Stats, ValueInfo, infer, stats};
pub use made::Made;
pub use open::{Loaded, ModelOptions, load, open, size_of};
pub use recognize::{Classes, DecodeAs, DecodeOption, ImageSize};
pub use step::Step;
pub use summary::Summary;
pub use task::{AnchorHead, Classify, Decode, Detect, DetectHead, Task};
pub use value::{Value, count_of, uniform};

use compresso_base::error::Result;
use std::sync::{Arc, OnceLock};

/// A model: a graph, what it is for, and how it came to be. A value: operations return new models; clones are cheap.
#[derive(Debug, Clone)]
pub struct Model {
    graph: Arc<Graph>,
    task: Arc<Task>,
    steps: Arc<[Step]>,
    stats: OnceLock<Arc<Stats>>,
}

impl Model {
    pub fn new(graph: Graph, task: Task) -> Self {
        Self { graph: Arc::new(graph), task: Arc::new(task), steps: Arc::from([]), stats: OnceLock::new() }
    }
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
    pub fn task(&self) -> &Task {
        &self.task
    }
    /// The operations that made this model, oldest first.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
    /// The model of another graph for the same task, made from this one by `step`.
    #[must_use]
    pub fn derive(&self, graph: Graph, step: Step) -> Self {
        Self { graph: Arc::new(graph), task: self.task.clone(), steps: step::followed(&self.steps, step), stats: OnceLock::new() }
    }
    /// The expression of the script language that remakes it: `model("yolov8n").prune(#{ ratio: 0.4 })`. Where its beginning
    /// is not known, the graph's name stands for it.
    pub fn expression(&self) -> String {
        let opened = self.steps.first().is_some_and(|s| s.operation == ModelOptions::SIGNATURE.name);
        let named = (!opened).then(|| Step::opening(self.graph.name()));
        step::expression(&named.into_iter().chain(self.steps.iter().cloned()).collect::<Vec<_>>())
    }
    #[must_use]
    pub fn with_task(mut self, task: Task) -> Self {
        self.task = Arc::new(task);
        self
    }
    #[must_use]
    pub fn with_steps(mut self, steps: Vec<Step>) -> Self {
        self.steps = steps.into();
        self
    }
    /// Parameters, multiply-accumulates and bytes per layer, at the graph's own input shapes (unknown batch: 1) and, for
    /// unknown image sizes, the task's. Computed once.
    pub fn stats(&self) -> Result<Arc<Stats>> {
        if let Some(s) = self.stats.get() {
            return Ok(s.clone());
        }
        let facts = graph::infer_at(&self.graph, 1, self.task.image_size())?;
        let s = Arc::new(stats(&self.graph, &facts)?);
        Ok(self.stats.get_or_init(|| s).clone())
    }
    /// Number of parameters.
    ///
    /// # Errors
    /// As [`Model::stats`].
    pub fn params(&self) -> Result<u64> {
        Ok(self.stats()?.params)
    }
    /// Multiply-accumulates of one run at the model's own input size.
    ///
    /// # Errors
    /// As [`Model::stats`].
    pub fn macs(&self) -> Result<u64> {
        Ok(self.stats()?.macs)
    }
}
