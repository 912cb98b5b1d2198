//! What runtimes load: files, written by the program that measures and read by the process that runs the model.

use compresso_base::error::Result;
use compresso_base::files::Scratch;
use compresso_model::Model;
use std::path::{Path, PathBuf};

/// A form of a model that runtimes load.
#[derive(Debug, Clone, Copy)]
pub struct Artefact {
    /// Name of its file, another one for each form.
    pub file: &'static str,
    /// Writes it, and whatever it needs beside it. Memory that this takes is not the runtime's.
    pub write: fn(&Model, &Path) -> Result<()>,
}

/// An ONNX file, with the model's task in its metadata.
pub const ONNX: Artefact = Artefact { file: "model.onnx", write: onnx };

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
    /// The file of an artefact, which is written when it is first asked for.
    ///
    /// # Errors
    /// What writing it reports.
    pub fn of(&self, artefact: &Artefact) -> Result<PathBuf> {
        let path = self.folder.path().join(artefact.file);
        if !path.exists() {
            (artefact.write)(self.model, &path)?;
        }
        Ok(path)
    }
}
