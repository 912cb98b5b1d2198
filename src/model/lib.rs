//! What a model is: the graph, its operators, files, zoo and rewriting passes.

#![warn(missing_docs)]

mod box_decode;
mod card;
pub mod classes;
mod constant;
mod element;
mod file;
pub mod graph;
mod image;
mod literal;
mod made;
pub mod names;
mod new_head;
pub mod onnx;
mod open;
pub mod ops;
pub mod passes;
mod preprocess;
mod pytorch;
mod recognize;
mod recut;
mod resize;
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
pub use image::{IMAGE_CHANNELS, has_channels_last, image_channels};
pub use made::Made;
pub use new_head::Reclassified;
pub use open::{Load, Loaded, ModelOptions, size_of};
pub use preprocess::{Preprocess, PreprocessOption};
pub use recognize::{Classes, DecodeAs, DecodeOption, ImageSize, LoadOptions};
pub use recut::Recut;
pub use resize::Resize;
pub use summary::{Summarize, Summary};
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
    /// Height and width of images where neither the graph nor the task says them.
    image: Option<[usize; 2]>,
    stats: OnceLock<Arc<Stats>>,
}

impl Model {
    /// A model without a recipe, as programs build one.
    pub fn new(graph: Graph, task: Task) -> Self {
        Self { graph: Arc::new(graph), task: Arc::new(task), recipe: None, as_opened: false, image: None, stats: OnceLock::new() }
    }
    /// What it computes.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
    /// The graph alone, with what is known of its values.
    pub fn into_graph(self) -> Graph {
        Arc::unwrap_or_clone(self.graph)
    }
    /// What it is for, and how its outputs are read.
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
        Self {
            graph: Arc::new(graph),
            task: self.task.clone(),
            recipe: Some(Recipe::of(call)),
            as_opened: false,
            image: self.image,
            stats: OnceLock::new(),
        }
    }
    /// The model for another task, of the same recipe.
    #[must_use]
    pub fn with_task(mut self, task: Task) -> Self {
        self.task = Arc::new(task);
        // Open sizes are counted at the task's.
        self.stats = OnceLock::new();
        self
    }
    /// Height and width of the images that it takes: its task's, else those that were stated when it was opened.
    pub fn image_size(&self) -> Option<[usize; 2]> {
        self.task.image_size().or(self.image)
    }
    /// The model with a height and width at which it is counted where neither its graph nor its task says them.
    #[must_use]
    pub fn with_image_size(mut self, size: [usize; 2]) -> Self {
        self.image = Some(size);
        self.stats = OnceLock::new();
        self
    }
    /// The model with open sizes filled in, of the same recipe; see [`graph::fix_sizes`].
    ///
    /// # Errors
    /// As there.
    pub fn with_fixed_sizes(&self, batch: usize, image: Option<[usize; 2]>) -> Result<Self> {
        let graph = Arc::new(graph::fix_sizes(&self.graph, batch, image)?);
        Ok(Self { graph, as_opened: false, stats: OnceLock::new(), ..self.clone() })
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
    /// unknown image sizes, [`Model::image_size`]. Computed once.
    pub fn stats(&self) -> Result<Arc<Stats>> {
        if let Some(s) = self.stats.get() {
            return Ok(s.clone());
        }
        let s = self.stats_at(self.image_size())?;
        Ok(self.stats.get_or_init(|| s).clone())
    }
    /// As [`Model::stats`], with this height and width where the graph leaves them open.
    pub fn stats_at(&self, image: Option<[usize; 2]>) -> Result<Arc<Stats>> {
        let facts = graph::infer_at(&self.graph, 1, image)?;
        Ok(Arc::new(stats(&self.graph, &facts)?))
    }
    /// Number of parameters.
    ///
    /// # Errors
    /// As [`Model::stats`].
    pub fn params(&self) -> Result<u64> {
        Ok(self.stats()?.params)
    }
    /// Multiply-accumulates of one run at the model's own input size; `None` where that is open.
    ///
    /// # Errors
    /// As [`Model::stats`].
    pub fn macs(&self) -> Result<Option<u64>> {
        Ok(self.stats()?.macs)
    }
}

/// A model as an argument of a call.
impl From<&Model> for Argument<Recipe> {
    fn from(model: &Model) -> Self {
        Self::Call(model.recipe.clone().unwrap_or_else(|| card::named(model.graph.name())))
    }
}
