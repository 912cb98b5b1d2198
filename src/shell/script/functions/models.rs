//! Models: opening, running, looking at them.

use super::signature;
use crate::error::{Error, Result};
use crate::exec::{self, Run};
use crate::model::zoo::{self, ZooOptions};
use crate::model::{Model, Value};
use crate::operation::{Arg, Options as _, Signature};
use crate::shell::script::binding::{Binding, Call, describe};
use crate::shell::script::value::{ModelValue, Report};
use rhai::{Dynamic, Map};
use std::collections::HashMap;

crate::options! {
    /// Options of `model`.
    pub struct ModelOptions {
        /// What to detect or tell apart: a list of names, their number, or the path of a file with a name per line.
        pub classes: Option<serde_json::Value> = None,
        /// Input size in pixels, one number or [height, width].
        pub image_size: Option<serde_json::Value> = None,
        /// Factor on the channel counts of a zoo model.
        pub width: Option<f64> = None,
        /// Factor on the repeats of a zoo model.
        pub depth: Option<f64> = None,
        /// Seed of a zoo model's initial weights; the session's when left out.
        pub seed: Option<u64> = None,
    }
}

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: Signature {
            name: "model",
            summary: "Opens a model: an .onnx or .safetensors file, an architecture .yaml, or a name of the zoo",
            group: "models",
            args: &[Arg::new("source", "text")],
            returns: "model",
            fields: ModelOptions::FIELDS,
            examples: &[
                "model(\"yolov8n\", #{ classes: [\"cat\", \"dog\"], image_size: 320 })",
                "model(\"classifier\", #{ classes: 3, image_size: 32 }).params",
            ],
            keywords: &["open", "load", "yolo", "onnx", "network", "zoo"],
        },
        call: model,
    },
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
    let zoo = ZooOptions {
        classes: options.classes.as_ref().map(class_names).transpose()?,
        image_size: options.image_size.as_ref().map(|v| crate::learn::data::size_of("image_size", v)).transpose()?,
        width: options.width,
        depth: options.depth,
        seed: options.seed.unwrap_or(c.ctx.seed),
    };
    Ok(Dynamic::from(ModelValue::from(zoo::build(&source, &zoo)?)))
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
    let run = Run { wanted: &wanted, cancel: Some(&c.ctx.cancel), device: Some(c.ctx.device.clone()), ..Run::default() };
    let outputs = exec::run(model.graph(), &feeds, run)?;
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
