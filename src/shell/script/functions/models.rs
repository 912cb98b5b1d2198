//! Models: opening, running, looking at them.

use super::signature;
use crate::error::{At, Error, Result};
use crate::exec::{self, Engine, Run};
use crate::learn;
use crate::learn::data::Dataset;
use crate::learn::eval::{self, Predict};
use crate::learn::train::{Train, Trained};
use crate::model::zoo::{self, ZooOptions};
use crate::model::{DecodeOption, LoadOptions, Model, Step, Value, weights};
use crate::operation::{Arg, Options as _, Signature, decode as decode_options};
use crate::shell::script::binding::{Binding, Call, describe};
use crate::shell::script::value::{ModelValue, Report, from_json};
use rhai::{Dynamic, Map};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

crate::options! {
    /// Options of `model`.
    pub struct ModelOptions {
        /// Class names: a list, the path of a file with a name per line, or, for a zoo model, their number.
        pub classes: Option<serde_json::Value> = None,
        /// Input size in pixels, one number or [height, width].
        pub image_size: Option<serde_json::Value> = None,
        /// What a file's outputs mean: a word, or a map that describes them (`help("decode")`). Found out by default.
        pub decode: Option<DecodeOption> = None,
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

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: Signature {
            name: "model",
            summary: "Opens a model: an .onnx, .safetensors or Ultralytics .pt file, an architecture .yaml, or a name of the zoo",
            group: "models",
            args: &[Arg::new("source", "text")],
            returns: "model",
            fields: ModelOptions::FIELDS,
            examples: &[
                "model(\"yolov8n\", #{ classes: [\"cat\", \"dog\"], image_size: 320 })",
                "model(\"classifier\", #{ classes: 3, image_size: 32 }).params",
            ],
            keywords: &["open", "load", "yolo", "onnx", "network", "zoo", "pytorch", "checkpoint", "pretrained"],
        },
        call: model,
    },
    Binding {
        signature: signature(
            ("models", "load"),
            "Reads a file: a model (.onnx), tensors (.npy, .npz, .pb, .safetensors, .pt, .pth) or data (.json)",
            &[Arg::new("path", "text")],
            "model, tensor or map",
            &[],
            &["open", "read", "import", "npy", "npz"],
        ),
        call: load,
    },
    Binding { signature: Train::SIGNATURE, call: train },
    Binding { signature: eval::PREDICT, call: predict },
    Binding {
        signature: signature(
            ("models", "summary"),
            "What a model is made of: inputs, outputs, layers with parameters and multiply-accumulates",
            &[Arg::new("m", "model")],
            "report",
            &["summary(model(\"classifier\", #{ classes: 3, image_size: 32 })).params"],
            &["layers", "describe", "info", "shape", "flops", "parameters"],
        ),
        call: |c| Ok(Dynamic::from(Report::new(c.model(0)?.summary()?))),
    },
    Binding {
        signature: signature(
            ("models", "forward"),
            "Runs a model and gives its outputs by name, and any inner values asked for",
            &[Arg::new("m", "model"), Arg::new("x", "tensor or map"), Arg::optional("wanted", "list or text")],
            "map of tensors",
            &["forward(model(\"classifier\", #{ classes: 3, image_size: 32 }), random([1, 3, 32, 32]))"],
            &["run", "infer", "inference", "outputs", "activations"],
        ),
        call: forward,
    },
];

fn model(c: &Call<'_>) -> Result<Dynamic> {
    let source = c.text(0)?;
    let options: ModelOptions = c.options()?;
    let step = Step { operation: "model".into(), args: vec![format!("{source:?}")], options: c.given()? };
    let ending = Path::new(&source).extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    if !zoo::is_name(&source) && !matches!(ending.as_str(), "" | "yaml" | "yml") {
        return Ok(Dynamic::from(ModelValue::opened(open(&source, &options)?, step)));
    }
    if options.decode.is_some() {
        return Err(Error::argument("option 'decode' is for model files; a zoo model's outputs are known"));
    }
    let zoo = ZooOptions {
        classes: options.classes.as_ref().map(class_names).transpose()?,
        image_size: options.image_size.as_ref().map(|v| crate::learn::data::size_of("image_size", v)).transpose()?,
        width: options.width,
        depth: options.depth,
        attention: options.attention.unwrap_or_default(),
        seed: options.seed.unwrap_or(c.ctx.seed),
    };
    let mut built = zoo::build(&source, &zoo)?;
    if let Some(path) = &options.weights {
        let (graph, report) = weights::apply_state_dict(built.graph(), weights::load_tensors(path)?).in_file(path)?;
        c.ctx.note(format!("{}: {}", path.display(), report.summary()));
        built = Model::new(graph, built.task().clone());
    }
    Ok(Dynamic::from(ModelValue::from(built.with_steps(vec![step]))))
}

fn open(path: &str, options: &ModelOptions) -> Result<Model> {
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
    let decode = options.decode.as_ref().map(|d| serde_json::to_value(d).unwrap_or_default());
    for (name, value) in [("decode", decode), ("classes", options.classes.clone()), ("image_size", options.image_size.clone())] {
        given.extend(value.map(|v| (name.to_string(), v)));
    }
    Model::load(path, &decode_options::<LoadOptions>(given.into())?)
}

/// A file by its ending: a model, or tensors by name (one alone for .npy and .pb), or JSON data.
fn load(c: &Call<'_>) -> Result<Dynamic> {
    let path = c.text(0)?;
    let ending = Path::new(&path).extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    match ending.as_str() {
        "onnx" => {
            let step = Step { operation: "model".into(), args: vec![format!("{path:?}")], options: serde_json::Map::new() };
            Ok(Dynamic::from(ModelValue::opened(Model::load(&path, &LoadOptions::default())?, step)))
        }
        "json" => {
            let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
            let json = serde_json::from_str(&text).map_err(|e| Error::format("this is no JSON").because(e).file(&path))?;
            Ok(from_json(&json))
        }
        _ => {
            let mut tensors = weights::load_tensors(&path)?;
            match tensors.pop() {
                Some((_, only)) if matches!(ending.as_str(), "npy" | "pb") => Ok(Dynamic::from(only)),
                last => Ok(tensors.into_iter().chain(last).map(|(k, v)| (k.into(), Dynamic::from(v))).collect::<Map>().into()),
            }
        }
    }
}

fn train(c: &Call<'_>) -> Result<Dynamic> {
    let options: Train = c.options()?;
    let before = c.model_value(0)?;
    let trained = learn::train::train(&before.model, &c.dataset(1)?, c.maybe_dataset(2)?.as_ref(), &options, &c.ctx)?;
    Ok(after_training(c, &before, trained))
}

/// The trained model. When the user stopped the training, the session keeps it too, for the script ends here.
pub(super) fn after_training(c: &Call<'_>, before: &ModelValue, trained: Trained) -> Dynamic {
    let cancelled = trained.history.cancelled;
    let value = Dynamic::from(before.derive(trained.model, Some(Report::new(trained.history))));
    if cancelled {
        c.shared.keep_partial(value.clone());
    }
    value
}

fn predict(c: &Call<'_>) -> Result<Dynamic> {
    let options: Predict = c.options()?;
    let images = match c.arg(1).read_lock::<Dataset>() {
        Some(d) => d.for_evaluation(),
        None => eval::image_files_dataset(&c.texts(1)?)?,
    };
    let found = eval::predict(&c.model(0)?, &images, &options, &c.ctx)?;
    let cancelled = found.cancelled;
    let value = Dynamic::from(Report::with_images(found, |p, path| p.save(path)));
    // When the user stopped it, the session keeps what was seen, for the script ends here.
    if cancelled {
        c.shared.keep_partial(value.clone());
    }
    Ok(value)
}

/// Class names from a list of names, a number (unnamed classes) or a file with a name per line.
fn class_names(value: &serde_json::Value) -> Result<Vec<String>> {
    use serde_json::Value as Json;
    let bad = || Error::argument(format!("option 'classes' expects a list of names, a number or a file of names, got {value}"));
    match value {
        Json::Array(names) if !names.is_empty() => names.iter().map(|n| n.as_str().map(str::to_string).ok_or_else(bad)).collect(),
        Json::Number(n) => {
            let n = n.as_u64().filter(|n| (1..=100_000).contains(n)).ok_or_else(bad)?;
            Ok((0..n).map(|i| format!("class{i}")).collect())
        }
        Json::String(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
            let names: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_string).collect();
            if names.is_empty() { Err(Error::format("there are no names in it").file(path)) } else { Ok(names) }
        }
        _ => Err(bad()),
    }
}

fn forward(c: &Call<'_>) -> Result<Dynamic> {
    let model = c.model(0)?;
    let feeds = feeds(c, &model)?;
    let wanted = if c.has(2) { c.texts(2)? } else { Vec::new() };
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let outputs = if c.ctx.device.is_cpu() {
        Engine::new(model.graph(), &wanted, c.ctx.threads)?.run(&feeds, Some(&c.ctx.cancel))?
    } else {
        let run = Run { wanted: &wanted, cancel: Some(&c.ctx.cancel), device: Some(c.ctx.device.clone()), ..Run::default() };
        exec::run(model.graph(), &feeds, run)?
    };
    Ok(outputs.into_iter().map(|(name, v)| (name.into(), Dynamic::from(v))).collect::<Map>().into())
}

/// The inputs: a map from names to tensors, or one tensor for a model of one input.
fn feeds(c: &Call<'_>, model: &Model) -> Result<HashMap<String, Value>> {
    let on_device = |v: &Value| v.with(v.tensor.to_device(&c.ctx.device)?);
    if let Some(x) = c.arg(1).read_lock::<Value>() {
        let names: Vec<&str> = model.graph().feeds().map(|f| f.name.as_str()).collect();
        let [name] = names.as_slice() else {
            let entries = names.iter().map(|n| format!("{n}: tensor")).collect::<Vec<_>>().join(", ");
            return Err(Error::argument(format!("the model has {} inputs", names.len())).hint(format!("give a map: #{{ {entries} }}")));
        };
        return Ok(HashMap::from([((*name).to_string(), on_device(&x)?)]));
    }
    let map = c.arg(1).as_map_ref().map_err(|_| Error::argument(format!("the input must be a tensor, got {}", describe(c.arg(1)))))?;
    map.iter()
        .map(|(name, v)| match v.read_lock::<Value>() {
            Some(x) => Ok((name.to_string(), on_device(&x)?)),
            None => Err(Error::argument(format!("input '{name}' must be a tensor, got {}", describe(v)))),
        })
        .collect()
}
