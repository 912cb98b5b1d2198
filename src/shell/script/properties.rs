//! The fields of models, datasets, tensors and errors: one table for each type, for reading, completion and errors.

use super::raised::{Raised, raise};
use super::recipe;
use super::value::{ModelValue, Report, from_json, int, no_field};
use crate::error::Result;
use crate::learn::data::Dataset;
use crate::model::{Model, Task, Value};
use rhai::{Dynamic, Engine, ImmutableString, Map, Position};

/// A field of a type.
pub struct Property<T: 'static> {
    /// Its name in scripts.
    pub name: &'static str,
    /// What it holds, in some words.
    pub doc: &'static str,
    get: fn(&T) -> Result<Dynamic>,
}

const fn property<T>(name: &'static str, doc: &'static str, get: fn(&T) -> Result<Dynamic>) -> Property<T> {
    Property { name, doc, get }
}

/// Fields of a model.
pub const MODEL: &[Property<ModelValue>] = &[
    property("params", "number of parameters", |m| Ok(int(m.model.stats()?.params))),
    property("macs", "multiply-accumulates of one run at the model's own input size, or () where that is open", |m| {
        Ok(m.model.stats()?.macs.map_or(Dynamic::UNIT, int))
    }),
    property("weight_bytes", "bytes of the weights", |m| Ok(int(m.model.stats()?.weight_bytes))),
    property("inputs", "map from input name to type and shape", |m| Ok(values(m.model.graph().feeds()))),
    property("outputs", "map from output name to type and shape", |m| Ok(values(m.model.graph().outputs().iter()))),
    property("task", "\"detect\", \"classify\" or \"unknown\"", |m| Ok(task(&m.model).into())),
    property("classes", "list of class names", |m| {
        Ok(m.model.task().classes().iter().cloned().map(Dynamic::from).collect::<Vec<_>>().into())
    }),
    property("image_size", "[height, width] of the input image, or ()", |m| {
        Ok(m.model.image_size().map_or(Dynamic::UNIT, |[h, w]| vec![int(h), int(w)].into()))
    }),
    property("opset", "version of the ONNX operator set", |m| Ok(m.model.graph().opset().into())),
    property("nodes", "number of nodes of the graph", |m| Ok(int(m.model.graph().nodes().len()))),
    property("layers", "list of maps: name, op, output, params, macs of each node", |m| layers(&m.model)),
    property("metadata", "map of the file's texts", |m| {
        Ok(m.model.graph().metadata().iter().map(|(k, v)| (k.as_str().into(), v.clone().into())).collect::<Map>().into())
    }),
    property("steps", "list of the operations that made it, with their options", |m| {
        Ok(m.recipe().map_or_else(|| rhai::Array::new().into(), |r| from_json(&recipe::steps(r))))
    }),
    property("script", "the script that remakes it", |m| Ok(m.recipe().map(recipe::script).unwrap_or_default().into())),
    property("history", "losses and scores of the training that just made it, or ()", report),
    property("report", "how the operation that just made it went, or ()", report),
];

/// Fields of a dataset.
pub const DATASET: &[Property<Dataset>] = &[
    property("name", "how it was named", |d| Ok(d.name.clone().into())),
    property("kind", "\"detection\", \"classification\" or \"unlabelled\"", |d| {
        Ok(from_json(&serde_json::to_value(d.kind).unwrap_or_default()))
    }),
    property("count", "number of images", |d| Ok(int(d.len()))),
    property("len", "number of images", |d| Ok(int(d.len()))),
    property("classes", "list of class names", |d| Ok(d.classes.iter().cloned().map(Dynamic::from).collect::<Vec<_>>().into())),
    property("split", "\"train\", \"val\", \"test\" or \"\"", |d| Ok(d.split.clone().into())),
    property("splits", "names of the splits", |d| Ok(d.splits.iter().map(|s| s.0.clone().into()).collect::<Vec<Dynamic>>().into())),
    property("warnings", "what was skipped or repaired on loading", |d| {
        Ok(d.warnings.iter().cloned().map(Dynamic::from).collect::<Vec<_>>().into())
    }),
];

/// Fields of a tensor.
pub const TENSOR: &[Property<Value>] = &[
    property("shape", "list of sizes", |t| Ok(t.dims().iter().map(|d| int(*d)).collect::<Vec<_>>().into())),
    property("dtype", "element type, such as \"float32\"", |t| Ok(t.element.to_string().into())),
    property("count", "number of elements", |t| Ok(int(t.dims().iter().product::<usize>()))),
];

/// Fields of an error that `catch (e)` sees.
pub const ERROR: &[Property<Raised>] = &[
    property("message", "what went wrong", |e| {
        let places: String = e.0.places().map(|p| format!("{p}: ")).collect();
        Ok(format!("{places}{}", e.0.message()).into())
    }),
    property("kind", "such as \"argument\" or \"shape\"", |e| Ok(format!("{:?}", e.0.kind()).to_lowercase().into())),
    property("hint", "what to do about it, or ()", |e| Ok(e.0.suggestion().map_or(Dynamic::UNIT, |h| h.to_string().into()))),
];

pub(super) fn register(engine: &mut Engine) {
    table(engine, "a model", MODEL);
    table(engine, "a dataset", DATASET);
    table(engine, "a tensor", TENSOR);
    table(engine, "an error", ERROR);
}

fn table<T: Clone + Send + Sync + 'static>(engine: &mut Engine, of: &'static str, properties: &'static [Property<T>]) {
    engine.register_indexer_get(move |value: &mut T, name: ImmutableString| {
        let found = properties.iter().find(|p| p.name == name.as_str());
        let result = match found {
            Some(p) => (p.get)(value),
            None => Err(no_field(of, &name, &properties.iter().map(|p| p.name).collect::<Vec<_>>())),
        };
        result.map_err(|e| raise(e, Position::NONE))
    });
}

/// Names and texts of the fields of a value, for completion.
pub fn fields_of(value: &Dynamic) -> Vec<(String, String)> {
    fn of<T>(properties: &[Property<T>]) -> Vec<(String, String)> {
        properties.iter().map(|p| (p.name.to_string(), p.doc.to_string())).collect()
    }
    if value.is::<ModelValue>() {
        of(MODEL)
    } else if value.is::<Dataset>() {
        of(DATASET)
    } else if value.is::<Value>() {
        of(TENSOR)
    } else if let Some(r) = value.read_lock::<Report>() {
        r.data().as_object().map(|o| o.iter().map(|(k, v)| (k.clone(), short(v))).collect()).unwrap_or_default()
    } else if let Ok(map) = value.as_map_ref() {
        map.iter().map(|(k, v)| (k.to_string(), super::value::kind_of(v).to_string())).collect()
    } else {
        Vec::new()
    }
}

/// Names and values of the fields of a model, a dataset or a tensor; without those that cannot be worked out.
pub fn values_of(value: &Dynamic) -> Vec<(String, Dynamic)> {
    fn of<T: Clone + Send + Sync>(value: &Dynamic, properties: &[Property<T>]) -> Option<Vec<(String, Dynamic)>> {
        let inner = value.read_lock::<T>()?;
        Some(properties.iter().filter_map(|p| Some((p.name.to_string(), (p.get)(&inner).ok()?))).collect())
    }
    of(value, MODEL).or_else(|| of(value, DATASET)).or_else(|| of(value, TENSOR)).unwrap_or_default()
}

fn report(m: &ModelValue) -> Result<Dynamic> {
    Ok(m.report.clone().map_or(Dynamic::UNIT, Dynamic::from))
}

fn short(json: &serde_json::Value) -> String {
    match json {
        serde_json::Value::Array(a) => format!("list of {}", a.len()),
        serde_json::Value::Object(_) => "map".into(),
        other => other.to_string(),
    }
}

fn task(m: &Model) -> &'static str {
    match m.task() {
        Task::Unknown => "unknown",
        Task::Classify(_) => "classify",
        Task::Detect(_) => "detect",
        Task::Instances(i) => i.kind.word(),
    }
}

fn values<'a>(infos: impl Iterator<Item = &'a crate::model::ValueInfo>) -> Dynamic {
    infos.map(|v| (v.name.as_str().into(), v.fact.to_string().into())).collect::<Map>().into()
}

fn layers(m: &Model) -> Result<Dynamic> {
    let stats = m.stats()?;
    let layer = |l: &crate::model::graph::LayerStats| {
        let entries: [(&str, Dynamic); 5] = [
            ("name", l.name.clone().into()),
            ("op", l.op.clone().into()),
            ("output", l.output.clone().into()),
            ("params", int(l.params)),
            ("macs", l.macs().map_or(Dynamic::UNIT, int)),
        ];
        Dynamic::from_map(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
    };
    Ok(stats.layers.iter().map(layer).collect::<Vec<_>>().into())
}
