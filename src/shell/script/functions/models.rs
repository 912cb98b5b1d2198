//! Models: opening, running, looking at them.

use super::signature;
use crate::error::{Error, Result};
use crate::exec;
use crate::learn;
use crate::learn::data::Dataset;
use crate::learn::eval::{self, Predict};
use crate::learn::train::{Train, Trained};
use crate::model::{self, Loaded, ModelOptions, Value};
use crate::operation::Arg;
use crate::shell::script::binding::{Binding, Call, describe};
use crate::shell::script::value::{ModelValue, Report, from_json};
use rhai::{Dynamic, Map};
use std::collections::HashMap;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: ModelOptions::SIGNATURE, call: |c| Ok(Dynamic::from(model::open::<Report>(&c.text(0)?, &c.options()?, &c.ctx)?)) },
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

fn load(c: &Call<'_>) -> Result<Dynamic> {
    Ok(match model::load::<Report>(&c.text(0)?)? {
        Loaded::Model(m) => Dynamic::from(m),
        Loaded::Tensor(t) => Dynamic::from(t),
        Loaded::Tensors(all) => all.into_iter().map(|(k, v)| (k.into(), Dynamic::from(v))).collect::<Map>().into(),
        Loaded::Data(json) => from_json(&json),
    })
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
    let value = Dynamic::from(Report::new(found));
    // When the user stopped it, the session keeps what was seen, for the script ends here.
    if cancelled {
        c.shared.keep_partial(value.clone());
    }
    Ok(value)
}

fn forward(c: &Call<'_>) -> Result<Dynamic> {
    let model = c.model(0)?;
    let feeds = if let Some(x) = c.arg(1).read_lock::<Value>() { exec::only_feed(&model, &x)? } else { feeds(c)? };
    let wanted = if c.has(2) { c.texts(2)? } else { Vec::new() };
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let outputs = exec::forward(&model, &feeds, &wanted, &c.ctx)?;
    Ok(outputs.into_iter().map(|(name, v)| (name.into(), Dynamic::from(v))).collect::<Map>().into())
}

/// The inputs: a map from names to tensors.
fn feeds(c: &Call<'_>) -> Result<HashMap<String, Value>> {
    let map = c.arg(1).as_map_ref().map_err(|_| Error::argument(format!("the input must be a tensor, got {}", describe(c.arg(1)))))?;
    map.iter()
        .map(|(name, v)| match v.read_lock::<Value>() {
            Some(x) => Ok((name.to_string(), x.clone())),
            None => Err(Error::argument(format!("input '{name}' must be a tensor, got {}", describe(v)))),
        })
        .collect()
}
