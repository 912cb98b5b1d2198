//! What runtimes load: files, written by the program that measures and read by the process that runs the model.

use compresso_base::error::Result;
use compresso_base::files::Scratch;
use compresso_model::{Graph, Model};
use compresso_target::Names;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A form of a model that runtimes load.
#[derive(Debug, Clone, Copy)]
pub struct Artefact {
    /// Name of its file, another one for each form.
    pub file: &'static str,
    /// Writes it, and whatever it needs beside it, and says what is to be opened. Memory that this takes is not the runtime's.
    pub write: fn(&Model, &Path) -> Result<PathBuf>,
    /// It can leave sizes open, where those of a run are not known; otherwise it is refused then.
    pub open_sizes: bool,
    /// What it calls inputs and outputs.
    pub names: fn(&Graph) -> Names,
}

/// An ONNX file, with the model's task in its metadata.
pub const ONNX: Artefact = Artefact { file: "model.onnx", write: onnx, open_sizes: true, names: Names::same };

fn onnx(model: &Model, path: &Path) -> Result<PathBuf> {
    model.save(path)?;
    Ok(path.to_path_buf())
}

/// The artefacts of one model in a folder of their own, which goes when this is dropped.
#[derive(Debug)]
pub struct Files<'a> {
    model: &'a Model,
    folder: Scratch,
    /// What is to be opened of each artefact, by its file.
    written: RefCell<HashMap<&'static str, PathBuf>>,
}

impl<'a> Files<'a> {
    /// # Errors
    /// `Io` when no folder can be made.
    pub fn new(model: &'a Model) -> Result<Self> {
        Ok(Self { model, folder: Scratch::new()?, written: RefCell::default() })
    }
    /// The model whose artefacts these are.
    pub fn model(&self) -> &'a Model {
        self.model
    }
    /// The file of an artefact, which is written when it is first asked for, and the model as it is in the file: with open sizes filled in, by the
    /// batch and image size given, so that no runtime keeps open what it could plan; as it is where they may stay `open`.
    ///
    /// # Errors
    /// What writing it reports.
    pub fn of(&self, artefact: &Artefact, batch: usize, image: Option<[usize; 2]>, open: bool) -> Result<(PathBuf, Model)> {
        let model = match self.model.with_fixed_sizes(batch, image.or_else(|| self.model.image_size())) {
            _ if open && artefact.open_sizes => self.model.clone(),
            Err(_) if artefact.open_sizes => self.model.clone(),
            fixed => fixed?,
        };
        let mut written = self.written.borrow_mut();
        let path = match written.get(artefact.file) {
            Some(path) => path.clone(),
            None => {
                let path = (artefact.write)(&model, &self.folder.path().join(artefact.file))?;
                written.insert(artefact.file, path.clone());
                path
            }
        };
        Ok((path, model))
    }
}
