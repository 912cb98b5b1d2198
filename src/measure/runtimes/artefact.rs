//! What runtimes load: files, written by the program that measures and read by the process that runs the model.

use compresso_base::error::Result;
use compresso_base::files::Scratch;
use compresso_model::graph::fix_sizes;
use compresso_model::{Graph, Model};
use compresso_target::Names;
use std::path::{Path, PathBuf};

/// A form of a model that runtimes load.
#[derive(Debug, Clone, Copy)]
pub struct Artefact {
    /// Name of its file, another one for each form.
    pub file: &'static str,
    /// Writes it, and whatever it needs beside it. Memory that this takes is not the runtime's.
    pub write: fn(&Model, &Path) -> Result<()>,
    /// It can leave sizes open; otherwise those of the benchmark are filled in before it is written.
    pub open_sizes: bool,
    /// What it calls inputs and outputs.
    pub names: fn(&Graph) -> Names,
}

/// An ONNX file, with the model's task in its metadata.
pub const ONNX: Artefact = Artefact { file: "model.onnx", write: onnx, open_sizes: true, names: Names::same };

fn onnx(model: &Model, path: &Path) -> Result<()> {
    model.save(path)
}

/// The artefacts of one model in a folder of their own, which goes when this is dropped.
#[derive(Debug)]
pub struct Files<'a> {
    model: &'a Model,
    folder: Scratch,
}

impl<'a> Files<'a> {
    /// # Errors
    /// `Io` when no folder can be made.
    pub fn new(model: &'a Model) -> Result<Self> {
        Ok(Self { model, folder: Scratch::new()? })
    }
    pub fn model(&self) -> &'a Model {
        self.model
    }
    /// The file of an artefact, which is written when it is first asked for, and the model as it is in the file: where sizes must be fixed,
    /// with the batch and image size given.
    ///
    /// # Errors
    /// What writing it reports.
    pub fn of(&self, artefact: &Artefact, batch: usize, image: Option<[usize; 2]>) -> Result<(PathBuf, Model)> {
        let model = if artefact.open_sizes {
            self.model.clone()
        } else {
            let image = image.or_else(|| self.model.image_size());
            Model::new(fix_sizes(self.model.graph(), batch, image)?, self.model.task().clone())
        };
        let path = self.folder.path().join(artefact.file);
        if !path.exists() {
            (artefact.write)(&model, &path)?;
        }
        Ok((path, model))
    }
}
