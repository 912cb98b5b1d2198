//! What a model is: the graph, its operators, files, zoo and rewriting passes.

mod box_decode;
mod card;
mod constant;
mod element;
mod file;
pub mod graph;
mod literal;
mod made;
pub mod names;
pub mod onnx;
mod open;
pub mod ops;
pub mod passes;
mod pytorch;
mod recognize;
mod show;
mod summary;
mod task;
mod value;
pub mod weights;
mod wire;
pub mod zoo;

pub use box_decode::{AnchorLayout, BoxDecode, BoxFormat, CellCentre, CellExtent, RowPart, ScoreActivation};
pub use constant::{Constant, Payload};
pub use element::Element;
pub use graph::{Attr, Cost, Dim, Fact, Facts, Graph, GraphBuilder, Infer, Node, Patch, Stats, ValueInfo, infer, stats};
pub use made::Made;
pub use open::{Loaded, ModelOptions, load, size_of};
pub use recognize::{Classes, DecodeAs, DecodeOption, ImageSize, LoadOptions};
pub use summary::Summary;
pub use task::{AnchorHead, Classify, Decode, Detect, DetectHead, InstanceKind, Instances, Task};
pub use value::{Value, count_of, uniform};

use compresso_base::error::Result;
use compresso_base::operation::{Argument, Call, Recipe};
use std::sync::{Arc, OnceLock};

/// A model: a graph, what it is for, and how it came to be. A value: operations return new models; clones are cheap.
#[derive(Debug, Clone)]
pub struct Model {
    graph: Arc<Graph>,
    task: Arc<Task>,
    recipe: Option<Recipe>,
    /// It is as its file has it, and the recipe only opens that.
    as_opened: bool,
    stats: OnceLock<Arc<Stats>>,
}

impl Model {
    pub fn new(graph: Graph, task: Task) -> Self {
        Self { graph: Arc::new(graph), task: Arc::new(task), recipe: None, as_opened: false, stats: OnceLock::new() }
    }
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
    /// The graph alone, with what is known of its values.
    pub fn into_graph(self) -> Graph {
        Arc::unwrap_or_clone(self.graph)
    }
    pub fn task(&self) -> &Task {
        &self.task
    }
    /// How it was made; `None` of a model that was built in Rust.
    pub fn recipe(&self) -> Option<&Recipe> {
        self.recipe.as_ref()
    }
    /// The calls that made it step by step, oldest first: see [`Recipe::steps`]. None of a model that is as its file has it.
    pub fn steps(&self) -> Vec<&Call> {
        self.recipe.as_ref().filter(|_| !self.as_opened).map(Recipe::steps).unwrap_or_default()
    }
    /// The model of another graph for the same task, made from this one by `call`.
    #[must_use]
    pub fn derive(&self, graph: Graph, call: Call<Recipe>) -> Self {
        Self { graph: Arc::new(graph), task: self.task.clone(), recipe: Some(Recipe::of(call)), as_opened: false, stats: OnceLock::new() }
    }
    #[must_use]
    pub fn with_task(mut self, task: Task) -> Self {
        self.task = Arc::new(task);
        // Open sizes are counted at the task's.
        self.stats = OnceLock::new();
        self
    }
    /// The model, made by this recipe, which its file keeps.
    #[must_use]
    pub fn with_recipe(self, recipe: Recipe) -> Self {
        Self { recipe: Some(recipe), as_opened: false, ..self }
    }
    /// The model as its file has it. The recipe, which opens the file, becomes part of models that are made from it, not of this
    /// one, so that it can be saved unchanged.
    #[must_use]
    pub(crate) fn opened(self, recipe: Recipe) -> Self {
        Self { recipe: Some(recipe), as_opened: true, ..self }
    }
    pub(crate) fn is_as_opened(&self) -> bool {
        self.as_opened
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

/// A model as an argument of a call.
impl From<&Model> for Argument<Recipe> {
    fn from(model: &Model) -> Self {
        Self::Call(model.recipe.clone().unwrap_or_else(|| card::named(model.graph.name())))
    }
}
