//! Models in files.

use super::card::{Card, KEY};
use super::new_head::Reclassified;
use super::recognize::{self, Classes, LoadOptions};
use super::weights::safetensors;
use super::{Constant, Graph, Model, ModelOptions, onnx, pytorch};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use compresso_base::error::{At, Error, Result};
use compresso_base::operation::{Argument, Call, Digest, Operation, Recipe, changed};
use indexmap::IndexMap;
use std::path::Path;

/// Key of the graph in a .safetensors file: an encoded ONNX model whose constants stand beside it, in base64.
const GRAPH_KEY: &str = "graph";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Onnx,
    Safetensors,
    /// Read only.
    PyTorch,
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase()
}

fn format(path: &Path) -> Result<Format> {
    let supported = "models load and save as .onnx and .safetensors; .pt is read only";
    match extension(path).as_str() {
        "onnx" => Ok(Format::Onnx),
        "safetensors" => Ok(Format::Safetensors),
        ending if pytorch::EXTENSIONS.contains(&ending) => Ok(Format::PyTorch),
        "yaml" | "yml" => Err(Error::argument("an architecture is not a model file").hint("build it by its name or .yaml path").file(path)),
        "" => Err(Error::argument("the file name has no extension").hint(supported).file(path)),
        other => Err(Error::unsupported(format!("'.{other}' models are not supported")).hint(supported).file(path)),
    }
}

impl Model {
    /// Reads a model from an .onnx or .safetensors file, or from a .pt checkpoint of the ultralytics package.
    ///
    /// What it is for is read from the metadata of this library or of Ultralytics, or recognised by its outputs; the
    /// options overrule that. A model that is not recognised has [`Task::Unknown`](super::Task::Unknown). A checkpoint's model is built from the
    /// architecture in it, for images of any size; nothing in it is run.
    ///
    /// # Errors
    /// `Io`, `Format`, `Check`, `Unsupported`, naming the file; `Argument` for options that do not fit the model.
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        Ok(Self::load_saying(path, options)?.0)
    }

    /// As [`Model::load`], with what is to be said of the classes that the options ask for: see [`Model::with_classes`].
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_saying(path: impl AsRef<Path>, options: &LoadOptions) -> Result<(Self, Option<String>)> {
        let path = path.as_ref();
        let Reclassified { model, note, new_head } = match format(path)? {
            Format::Onnx => of_graph(onnx::load(path)?, options).in_file(path)?,
            Format::Safetensors => of_graph(load_safetensors(path).in_file(path)?, options).in_file(path)?,
            Format::PyTorch => for_classes(options, |o| pytorch::load(path, o)).in_file(path)?,
        };
        if model.recipe().is_some() && !new_head {
            return Ok((model, note));
        }
        let file = Argument::File { path: path.to_string_lossy().into(), sha256: Some(Digest::of_file(path)?) };
        let mut call = Call::new(ModelOptions::SIGNATURE.name, [file], changed(options));
        if let Some(Classes::File(names)) = &options.classes {
            call = call.reading("classes", Digest::of_file(names)?);
        }
        let recipe = Recipe::of(call);
        Ok((if new_head { model.with_recipe(recipe) } else { model.opened(recipe) }, note))
    }

    /// The model of a graph, with its task read from the metadata or recognised, as [`Model::load`] does.
    ///
    /// # Errors
    /// `Format` for unreadable metadata; `Argument` for options that do not fit the model.
    pub fn of_graph(graph: Graph, options: &LoadOptions) -> Result<Self> {
        Ok(of_graph(graph, options)?.model)
    }

    fn told_by_graph(graph: Graph, options: &LoadOptions) -> Result<Self> {
        let card = if options.decode.is_some() { None } else { Card::of(&graph)? };
        let (task, recipe) = match card {
            Some(card) => (recognize::overrule(card.task, &graph, options)?, card.recipe),
            None => (recognize::task(&graph, options)?, None),
        };
        let stated = recognize::stated_size(&graph, options)?;
        let mut model = Self::new(graph, task);
        model.image = stated;
        Ok(match recipe {
            Some(recipe) => model.with_recipe(recipe),
            None => model,
        })
    }

    /// Writes the model, with its task and recipe, whole or not at all. The extension says the format: .onnx, or
    /// .safetensors, whose tensors other tools can read by name.
    ///
    /// # Errors
    /// `Io`, `Unsupported`, naming the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let format = format(path)?;
        let graph = self.carded()?;
        match format {
            Format::Onnx => onnx::save(&graph, path),
            Format::Safetensors => save_safetensors(&graph, path),
            Format::PyTorch => Err(Error::unsupported("models are not saved as PyTorch files")
                .hint("save it as .safetensors, which PyTorch reads by name, or as .onnx")
                .file(path)),
        }
    }

    /// Writes an .onnx file whose tensors of 1 KiB or more stand in a second file beside it, named like it with `.data` added.
    ///
    /// # Errors
    /// `Io`; `Unsupported` for another format; both naming the file.
    pub fn save_external(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match format(path)? {
            Format::Onnx => onnx::save_external(&self.carded()?, path),
            _ => Err(Error::unsupported("only ONNX files have their tensors in a second file").file(path)),
        }
    }

    /// What [`Model::save`] writes into an .onnx file: the same of a model in memory and of the one read back.
    ///
    /// # Errors
    /// `Unsupported`, `Format`.
    pub fn encoded(&self) -> Result<Vec<u8>> {
        onnx::encode(&self.carded()?)
    }

    /// The graph with the metadata that tells [`Model::load`] all of this model. A graph that tells it without stays as
    /// it is, so that a foreign model is saved as it was.
    fn carded(&self) -> Result<Graph> {
        let graph = self.graph().clone();
        let card = Card { task: self.task().clone(), recipe: self.recipe().filter(|_| !self.is_as_opened()).cloned() };
        let has_card = graph.metadata().contains_key(KEY);
        let told = if has_card {
            Card::of(&graph).is_ok_and(|c| c.as_ref() == Some(&card))
        } else {
            card.recipe.is_none() && recognize::task(&graph, &LoadOptions::default()).is_ok_and(|t| t == card.task)
        };
        if told {
            return Ok(graph);
        }
        let text = serde_json::to_string(&card).map_err(|e| Error::internal("the task does not serialize").because(e))?;
        Ok(graph.with_metadata(KEY, text))
    }
}

fn of_graph(graph: Graph, options: &LoadOptions) -> Result<Reclassified> {
    if options.classes.is_none() {
        return Model::told_by_graph(graph, options).map(Reclassified::unchanged);
    }
    for_classes(options, |o| Model::told_by_graph(graph.clone(), o))
}

/// The model as `open` opens it without the option `classes`, then with these classes. Where it opens only with them, they alone say how
/// many there are.
fn for_classes(options: &LoadOptions, open: impl Fn(&LoadOptions) -> Result<Model>) -> Result<Reclassified> {
    let Some(classes) = &options.classes else { return open(options).map(Reclassified::unchanged) };
    let names = classes.names()?;
    match open(&LoadOptions { classes: None, ..options.clone() }) {
        Ok(model) if !model.task().classes().is_empty() => model.with_classes(&names),
        _ => open(options).map(Reclassified::unchanged),
    }
}

/// Whether a constant stands beside the graph in a .safetensors file. Small integers, such as shapes and axes, stay in
/// the graph.
fn beside(c: &Constant) -> bool {
    safetensors::holds(c.element()) && (c.element().is_float() || c.byte_size() > 256)
}

fn save_safetensors(graph: &Graph, path: &Path) -> Result<()> {
    let tensors: IndexMap<String, Constant> =
        graph.constants().iter().filter(|(_, c)| beside(c)).map(|(n, c)| (n.clone(), c.clone())).collect();
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let skeleton = onnx::encode_without(graph, &names).in_file(path)?;
    let metadata = IndexMap::from([
        // Loaders of PyTorch models look at this key.
        ("format".to_string(), "pt".to_string()),
        (GRAPH_KEY.to_string(), BASE64.encode(skeleton)),
    ]);
    safetensors::save(&tensors, &metadata, path)
}

fn load_safetensors(path: &Path) -> Result<Graph> {
    let bytes = compresso_base::files::read(path)?;
    let file = safetensors::File::parse(bytes.into())?;
    let Some(skeleton) = file.metadata.get(GRAPH_KEY) else {
        let e = Error::unsupported("the file holds weights without a model");
        return Err(e.hint("build the model they belong to, as model(\"yolov8n\", #{ weights: \"weights.safetensors\" })"));
    };
    let skeleton = BASE64.decode(skeleton).map_err(|e| Error::format(format!("the metadata '{GRAPH_KEY}' is damaged")).because(e))?;
    onnx::decode_with(skeleton, file.tensors).map_err(|e| e.at(format!("metadata '{GRAPH_KEY}'")))
}

#[cfg(test)]
mod tests;
