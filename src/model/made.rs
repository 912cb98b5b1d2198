//! A model as an operation leaves it.

use super::Model;
use compresso_base::report::{Picture, Plot, Show, Table};
use std::ops::Deref;
use std::path::Path;

/// A model, and how the operation that made it went. It stands for the model wherever one is read.
#[derive(Debug, Clone)]
pub struct Made<R> {
    /// The model that came out.
    pub model: Model,
    /// How the operation went; `None` of a model that comes without, such as one that was opened.
    pub report: Option<R>,
}

impl<R> From<Model> for Made<R> {
    fn from(model: Model) -> Self {
        Self { model, report: None }
    }
}

impl<R> Deref for Made<R> {
    type Target = Model;
    fn deref(&self) -> &Model {
        &self.model
    }
}

impl<R> Made<R> {
    /// A model with the report of its making; `From<Model>` is for one without.
    pub fn new(model: Model, report: R) -> Self {
        Self { model, report: Some(report) }
    }
    /// The same with another form of the report.
    pub fn map<S>(self, f: impl FnOnce(R) -> S) -> Made<S> {
        Made { model: self.model, report: self.report.map(f) }
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
