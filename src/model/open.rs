//! Opening a model by what people call it: a file, an architecture, a name of the zoo.

use super::classes::{are_generated, distinct, listing};
use super::new_head::Reclassified;
use super::zoo::{self, ZooOptions};
use super::{DecodeOption, LoadOptions, Model, PreprocessOption, Value, weights};
use candle_core::Device;
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_base::files;
use compresso_base::operation::{Arg, ArgKind, Argument, Digest, Operation, Options, Recipe, Signature, decode};
use compresso_base::report::{CsvValue, read_csv};
use indexmap::IndexMap;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

compresso_base::options! {
    /// Options of `model`.
    pub struct ModelOptions {
        /// Class names: a list, the path of a file with a name per line, or, for a zoo model, their number. Classes of a file are matched
        /// by name: others give the model a new head that keeps all other weights; equally many names, all new, rename its classes.
        pub classes: Option<serde_json::Value> = None,
        /// Input size in pixels, one number or [height, width].
        pub image_size: Option<serde_json::Value> = None,
        /// What a file's outputs mean: a word, or a map that describes them (`help("decode")`). Found out by default.
        pub decode: Option<DecodeOption> = None,
        /// How images become the input of a file's model: "imagenet", or a map of mean, std, scale, bgr, and, of a classifier,
        /// resize and crop. By default pixels from 0 to 1 of the whole image, padded.
        pub preprocess: Option<PreprocessOption> = None,
        /// Factor on the channel counts of a zoo model.
        pub width: Option<f64> = None,
        /// Factor on the repeats of a zoo model.
        pub depth: Option<f64> = None,
        /// Numbers of the layers of a zoo model after which channel attention (squeeze-and-excitation) is put in.
        pub attention: Option<Vec<usize>> = None,
        /// Seed of a zoo model's initial weights; the session's when left out.
        pub seed: Option<u64> = None,
        /// File whose tensors replace a zoo model's initial weights where name and shape fit: .pt, .pth, .safetensors or .npz.
        pub weights: Option<PathBuf> = None,
    }
}

/// Opens a model file, or builds the architecture of a .yaml file or of a name of the zoo.
///
/// # Errors
/// `Argument` for an option that the source does not have; those of reading files and of building.
impl Operation for ModelOptions {
    const SIGNATURE: Signature = Signature {
        name: "model",
        summary: "Opens a model: an .onnx, .safetensors or Ultralytics .pt file, an architecture .yaml, or a name of the zoo",
        group: "models",
        args: &[Arg::new("source", ArgKind::Text)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[
            "model(\"yolov8n\", #{ classes: [\"cat\", \"dog\"], image_size: 320 })",
            "model(\"classifier\", #{ classes: 3, image_size: 32 }).params",
        ],
        keywords: &["open", "load", "yolo", "onnx", "network", "zoo", "pytorch", "checkpoint", "pretrained"],
    };
    type Inputs<'a> = &'a str;
    type Output = Model;

    fn run(&self, source: &str, ctx: &Context) -> Result<Model> {
        let is_name = zoo::is_name(source);
        if !is_name && !matches!(ending(source).as_str(), "" | "yaml" | "yml") {
            let (model, note) = read(source, self)?;
            if let Some(note) = note {
                ctx.note(format!("{source}: {note}"));
            }
            return Ok(model);
        }
        if self.decode.is_some() {
            return Err(Error::argument("option 'decode' is for model files; a zoo model's outputs are known"));
        }
        if self.preprocess.is_some() {
            return Err(Error::argument("option 'preprocess' is for model files; a zoo model takes pixels from 0 to 1"));
        }
        let zoo = ZooOptions {
            classes: self.classes.as_ref().map(class_names).transpose()?,
            image_size: self.image_size.as_ref().map(|v| size_of("image_size", v)).transpose()?,
            width: self.width,
            depth: self.depth,
            attention: self.attention.clone().unwrap_or_default(),
            seed: self.seed.unwrap_or(ctx.seed),
        };
        let mut built = zoo::build(source, &zoo)?;
        // `yolov8n.yaml` without such a file means the zoo's own.
        let source = if is_name || !Path::new(source).is_file() {
            Argument::Value(source.into())
        } else {
            Argument::File { path: source.into(), sha256: Some(Digest::of_file(source)?) }
        };
        let mut call = self.call([source]);
        if self.seed.is_none() {
            call = call.seeded(ctx.seed);
        }
        if let Some(Json::String(names)) = &self.classes {
            call = call.reading("classes", Digest::of_file(names)?);
        }
        if let Some(path) = &self.weights {
            let (tensors, note) = weights_for(path, built.task().classes())?;
            let (graph, report) = weights::apply_state_dict(built.graph(), tensors).in_file(path)?;
            if let Some(note) = note {
                ctx.note(format!("{}: {note}", path.display()));
            }
            ctx.note(format!("{}: {}", path.display(), report.summary()));
            built = Model::new(graph, built.task().clone());
            call = call.reading("weights", Digest::of_file(path)?);
        }
        Ok(built.with_recipe(Recipe::of(call)))
    }
}

/// The tensors of a file of weights, and what is to be said of them. Where it is a model that names its classes, and `classes` have names
/// too, the rows of its head are those of `classes`.
fn weights_for(path: &Path, classes: &[String]) -> Result<(IndexMap<String, Value>, Option<String>)> {
    let plain = || weights::load_tensors(path);
    if are_generated(classes) {
        return Ok((plain()?, None));
    }
    // Most files of weights are no models.
    let Ok(model) = Model::load(path, &LoadOptions::default()) else { return Ok((plain()?, None)) };
    let own = model.task().classes().to_vec();
    if own.is_empty() || own == classes || are_generated(&own) {
        return Ok((plain()?, None));
    }
    match model.with_classes(classes) {
        Ok(Reclassified { model, note, new_head: true }) => {
            let floats = model.graph().constants().iter().filter(|(_, c)| c.element().is_float());
            let tensors = floats.map(|(name, c)| Ok((name.clone(), Value::of_constant(c, &Device::Cpu)?))).collect::<Result<_>>()?;
            Ok((tensors, note))
        }
        _ => {
            let note = format!("its weights are of the classes {}, and are taken by number for {}", listing(&own), listing(classes));
            Ok((plain()?, Some(note)))
        }
    }
}

fn ending(path: &str) -> String {
    Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase()
}

fn read(path: &str, options: &ModelOptions) -> Result<(Model, Option<String>)> {
    for (name, given) in [
        ("width", options.width.is_some()),
        ("depth", options.depth.is_some()),
        ("attention", options.attention.is_some()),
        ("seed", options.seed.is_some()),
        ("weights", options.weights.is_some()),
    ] {
        if given {
            return Err(Error::argument(format!("option '{name}' is for zoo models, not for files")));
        }
    }
    let mut given = serde_json::Map::new();
    let meaning = options.decode.as_ref().map(|d| serde_json::to_value(d).unwrap_or_default());
    let preprocess = options.preprocess.as_ref().map(|p| serde_json::to_value(p).unwrap_or_default());
    for (name, value) in
        [("decode", meaning), ("preprocess", preprocess), ("classes", options.classes.clone()), ("image_size", options.image_size.clone())]
    {
        given.extend(value.map(|v| (name.to_string(), v)));
    }
    Model::load_saying(path, &decode::<LoadOptions>(given.into())?)
}

/// What a file holds.
#[derive(Debug, Clone)]
pub enum Loaded {
    /// Of an .onnx file.
    Model(Model),
    /// The one tensor of a .npy or .pb file.
    Tensor(Value),
    /// The tensors of a .npz, .safetensors, .pt or .pth file, by name.
    Tensors(IndexMap<String, Value>),
    /// Of a .json file.
    Data(Json),
    /// The rows of a CSV file, as pairs of column and cell.
    Rows(Vec<Vec<(String, CsvValue)>>),
}

compresso_base::options! {
    /// Reads a file.
    pub struct Load {}
}

/// Reads a file by its ending: a model, or tensors by name (one alone for .npy and .pb), or data of a JSON or CSV file.
///
/// # Errors
/// `Io`; `Format`; those of loading models and tensors.
impl Operation for Load {
    const SIGNATURE: Signature = Signature {
        name: "load",
        summary: "Reads a file: a model (.onnx), tensors (.npy, .npz, .pb, .safetensors, .pt, .pth) or data (.json, .csv: a list of maps)",
        group: "models",
        args: &[Arg::new("path", ArgKind::Text)],
        returns: "model, tensor, map or list",
        fields: Self::FIELDS,
        examples: &[],
        keywords: &["open", "read", "import", "npy", "npz"],
    };
    type Inputs<'a> = &'a str;
    type Output = Loaded;

    fn run(&self, path: &str, _: &Context) -> Result<Loaded> {
        let ending = ending(path);
        match ending.as_str() {
            "onnx" => Ok(Loaded::Model(Model::load(path, &LoadOptions::default())?)),
            "json" => {
                let text = files::read_text(path)?;
                serde_json::from_str(&text).map(Loaded::Data).map_err(|e| Error::format("this is no JSON").because(e).file(path))
            }
            "csv" => Ok(Loaded::Rows(read_csv(&files::read_text(path)?).map_err(|e| e.file(path))?)),
            _ => {
                let mut tensors = weights::load_tensors(path)?;
                match tensors.pop() {
                    Some((_, only)) if matches!(ending.as_str(), "npy" | "pb") => Ok(Loaded::Tensor(only)),
                    last => Ok(Loaded::Tensors(tensors.into_iter().chain(last).collect())),
                }
            }
        }
    }
}

/// Class names from a list of names, a number (unnamed classes) or a file with a name per line.
fn class_names(value: &Json) -> Result<Vec<String>> {
    let bad = || Error::argument(format!("option 'classes' expects a list of names, a number or a file of names, got {value}"));
    match value {
        Json::Array(names) if !names.is_empty() => {
            distinct(names.iter().map(|n| n.as_str().map(str::to_string).ok_or_else(bad)).collect::<Result<_>>()?)
        }
        Json::Number(n) => {
            let n = n.as_u64().filter(|n| (1..=100_000).contains(n)).ok_or_else(bad)?;
            Ok((0..n).map(|i| format!("class{i}")).collect())
        }
        Json::String(path) => {
            let text = files::read_text(path)?;
            let names: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_string).collect();
            if names.is_empty() { Err(Error::format("there are no names in it").file(path)) } else { distinct(names) }
        }
        _ => Err(bad()),
    }
}

/// Reads an image size option: one number, or `[height, width]`.
///
/// # Errors
/// `Argument`, with the option's name.
pub fn size_of(option: &str, value: &Json) -> Result<[usize; 2]> {
    let side = |v: &Json| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (8..=8192).contains(n));
    let size = match value {
        Json::Array(sides) if sides.len() == 2 => side(&sides[0]).zip(side(&sides[1])).map(|(h, w)| [h, w]),
        v => side(v).map(|s| [s, s]),
    };
    size.ok_or_else(|| {
        Error::argument(format!("option '{option}' expects a number of pixels from 8 to 8192, or [height, width], got {value}"))
    })
}
