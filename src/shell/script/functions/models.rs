//! Models: opening, running, looking at them.

use super::{report, signature, trained};
use crate::error::{Error, Result};
use crate::exec;
use crate::learn::eval::Predict;
use crate::learn::train::Train;
use crate::model::{self, Loaded, ModelOptions, Summarize, Value};
use crate::operation::{Arg, ArgKind, Operation};
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::value::{ModelValue, from_json};
use crate::shell::script::words::describe;
use rhai::{Dynamic, Map};
use std::collections::HashMap;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: ModelOptions::SIGNATURE, call: |c| Ok(Dynamic::from(ModelValue::from(c.run::<ModelOptions>()?))) },
    Binding {
        signature: signature(
            ("models", "load"),
            "Reads a file: a model (.onnx), tensors (.npy, .npz, .pb, .safetensors, .pt, .pth) or data (.json)",
            &[Arg::new("path", ArgKind::Text)],
            "model, tensor or map",
            &[],
            &["open", "read", "import", "npy", "npz"],
        ),
        call: load,
    },
    Binding { signature: Train::SIGNATURE, call: |c| Ok(trained(c, c.run::<Train>()?)) },
    Binding { signature: Predict::SIGNATURE, call: predict },
    Binding { signature: Summarize::SIGNATURE, call: |c| Ok(report(c.run::<Summarize>()?)) },
    Binding {
        signature: signature(
            ("models", "forward"),
            "Runs a model and gives its outputs by name, and any inner values asked for",
            &[
                Arg::new("m", ArgKind::Model),
                Arg::new("x", ArgKind::OneOf(&[ArgKind::Tensor, ArgKind::Map])),
                Arg::optional("wanted", ArgKind::OneOf(&[ArgKind::List, ArgKind::Text])),
            ],
            "map of tensors",
            &["forward(model(\"classifier\", #{ classes: 3, image_size: 32 }), random([1, 3, 32, 32]))"],
            &["run", "infer", "inference", "outputs", "activations"],
        ),
        call: forward,
    },
];

fn load(c: &Call<'_>) -> Result<Dynamic> {
    Ok(match model::load(&c.text(0)?)? {
        Loaded::Model(m) => Dynamic::from(ModelValue::from(m)),
        Loaded::Tensor(t) => Dynamic::from(t),
        Loaded::Tensors(all) => all.into_iter().map(|(k, v)| (k.into(), Dynamic::from(v))).collect::<Map>().into(),
        Loaded::Data(json) => from_json(&json),
    })
}

/// What was seen. When the user stopped it, the session keeps that too, for the script ends here.
fn predict(c: &Call<'_>) -> Result<Dynamic> {
    let found = c.run::<Predict>()?;
    let cancelled = found.cancelled;
    let value = report(found);
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
