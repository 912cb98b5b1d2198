//! A model as an operation leaves it.

use super::{Model, Step};
use compresso_base::report::{Picture, Plot, Show, Table};
use std::ops::Deref;
use std::path::Path;

/// A model, where it came from, and how the operation that made it went. It stands for the model wherever one is read.
#[derive(Debug, Clone)]
pub struct Made<R> {
    pub model: Model,
    /// The call that opened the file it comes from, when the model does not say it itself.
    source: Option<Step>,
    pub report: Option<R>,
}

impl<R> From<Model> for Made<R> {
    fn from(model: Model) -> Self {
        Self { model, source: None, report: None }
    }
}

impl<R> Deref for Made<R> {
    type Target = Model;
    fn deref(&self) -> &Model {
        &self.model
    }
}

impl<R> Made<R> {
    /// A model from a file. The file's name becomes part of models that are made from it, not of this one, so that it can
    /// be saved unchanged.
    pub fn opened(model: Model, step: Step) -> Self {
        let source = model.steps().is_empty().then_some(step);
        Self { model, source, report: None }
    }
    /// The model that an operation made from this one.
    pub fn derive<S>(&self, model: Model, report: Option<S>) -> Made<S> {
        let model = match &self.source {
            Some(source) if model.steps().first() != Some(source) && !model.steps().is_empty() => {
                let steps = std::iter::once(source).chain(model.steps()).cloned().collect();
                model.with_steps(steps)
            }
            _ => model,
        };
        let source = if model.steps().is_empty() { self.source.clone() } else { None };
        Made { model, source, report }
    }
    /// The model with the call that opened its file among its steps.
    pub fn with_source(&self) -> Model {
        self.model.clone().with_steps(self.steps())
    }
    /// The calls that made it, oldest first.
    pub fn steps(&self) -> Vec<Step> {
        self.source.iter().chain(self.model.steps()).cloned().collect()
    }
}

impl<R: Send + Sync> Show for Made<R> {
    fn tables(&self) -> Vec<Table> {
        self.model.tables()
    }
    fn plots(&self) -> Vec<Plot> {
        self.model.plots()
    }
    fn pictures(&self) -> Vec<Picture> {
        self.model.pictures()
    }
    fn notes(&self) -> Vec<String> {
        self.model.notes()
    }
    fn data(&self) -> serde_json::Value {
        self.model.data()
    }
    fn line(&self) -> Option<String> {
        self.model.line()
    }
    fn save_as(&self, path: &Path) -> compresso_base::error::Result<()> {
        self.model.save(path)
    }
}
