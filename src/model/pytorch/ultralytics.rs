//! Networks that the ultralytics package trained: the architecture that a checkpoint names, built with its weights.

use super::archive::Checkpoint;
use super::object::{Id, Object};
use super::settings;
use super::state::{Content, Module};
use crate::recognize::{DecodeAs, DecodeOption, LoadOptions};
use crate::zoo::{self, ZooOptions};
use crate::{Classes, Constant, Element, ImageSize, Model};
use compresso_base::error::{At, Error, ErrorKind, Result};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Bounds of the architecture's description.
const MOST_DEPTH: usize = 8;
const MOST_VALUES: usize = 50_000;

/// Reads a checkpoint of a YOLO or RT-DETR network, for any of its tasks.
///
/// # Errors
/// `Unsupported` for other networks and tasks, naming the module; `Format` for damaged files; `Argument` for options that
/// do not fit.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Model> {
    let checkpoint = Checkpoint::open(path)?;
    let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or("model");
    checkpoint
        .content()
        .and_then(|c| match c {
            Content::Module(network) => build(&checkpoint, network, name, options),
            Content::Tensors(_) => Err(Error::unsupported("the file holds weights without a model").hint(format!(
                "build the model they belong to: model(\"yolov8n\", #{{ weights: \"{}\" }})",
                path.file_name().and_then(|n| n.to_str()).unwrap_or("weights.pth")
            ))),
        })
        .in_file(path)
}

fn build(checkpoint: &Checkpoint, network: Id, name: &str, options: &LoadOptions) -> Result<Model> {
    let asked = branches(options)?;
    let described = description(checkpoint, network)?;
    let classes = class_names(checkpoint, network, &described, options)?;
    let modules = checkpoint.modules(network)?;
    let head = modules.iter().rfind(|m| checkpoint.heap.attribute(m.id, "f").is_some());
    let strides = match head.as_ref().and_then(|h| checkpoint.heap.attribute(h.id, "stride")) {
        Some(s) => strides(checkpoint, s)?,
        None => Vec::new(),
    };
    let bins = head.as_ref().and_then(|h| checkpoint.heap.attribute(h.id, "reg_max")).and_then(|r| checkpoint.heap.size(r));
    let state = checkpoint.state_dict(network)?;
    if state.keys().any(|n| n.ends_with(".anchors")) {
        let e = Error::unsupported("checkpoints of YOLOv5 with anchor boxes are not rebuilt");
        return Err(e.hint(format!(
            "put the weights onto the zoo's model: model(\"yolov5n\", #{{ classes: {}, weights: \"{name}.pt\" }})",
            classes.len()
        )));
    }
    // A head with branches of both kinds says which are in use, if it was told.
    let stated = head.as_ref().and_then(|h| checkpoint.heap.attribute(h.id, "_end2end")).and_then(|v| checkpoint.heap.int(v));
    let has = state.keys().any(|n| n.contains(".one2one_"));
    if asked.is_some() && !has {
        let e = Error::argument("option 'decode' is for .onnx files; a checkpoint says what its outputs mean");
        return Err(e.hint("\"yolo\" and \"end2end\" choose between the two heads of YOLOv10 and YOLO26, of which this network has one"));
    }
    let finished = has.then(|| asked.or(stated.map(|v| v != 0)).unwrap_or(true));
    let text = architecture(&described, classes.len(), &strides, bins, finished);
    let place = || "the checkpoint's architecture, a layer per line".to_string();
    let arch = zoo::parse(&text).at(place)?;
    let wanted = described.get("scale").and_then(Value::as_str).unwrap_or_default();
    let scale = arch.scales.iter().find(|s| s.0 == wanted).or_else(|| arch.scales.first()).cloned();
    let image = image_size(checkpoint, network, options, strides.iter().copied().max().unwrap_or(1));
    let zoo = ZooOptions { classes: Some(classes), image_size: image, ..ZooOptions::default() };
    let plain = plain_convolutions(checkpoint, &modules);
    let weights = weights(state, bins, &plain)?;
    let model = zoo::assemble(&arch, scale, name, &zoo, Some(weights)).at(place).map_err(|e| match e.kind() {
        ErrorKind::Shape | ErrorKind::Missing => e.hint(
            "the weights do not fit the architecture that the file names, as after pruning; \
             export the network where it runs, model.export(format=\"onnx\"), and open the .onnx",
        ),
        _ => e,
    })?;
    settings::apply(checkpoint, network, model)
}

/// Which branches of a head option 'decode' asks for: those that finish detections, or those whose boxes are suppressed.
fn branches(options: &LoadOptions) -> Result<Option<bool>> {
    match &options.decode {
        None => Ok(None),
        Some(DecodeOption::As(DecodeAs::EndToEnd)) => Ok(Some(true)),
        Some(DecodeOption::As(DecodeAs::Yolo)) => Ok(Some(false)),
        Some(_) => {
            let e = Error::argument("option 'decode' is for .onnx files; a checkpoint says what its outputs mean");
            Err(e.hint("\"yolo\" and \"end2end\" choose between the two heads of YOLOv10 and YOLO26"))
        }
    }
}

/// The dict that the network was built from.
fn description(checkpoint: &Checkpoint, network: Id) -> Result<Map<String, Value>> {
    let heap = &checkpoint.heap;
    let class = heap.class(network).map(ToString::to_string).unwrap_or_default();
    let last = class.rsplit('.').next().unwrap_or_default();
    let known = matches!(
        last,
        "DetectionModel"
            | "ClassificationModel"
            | "SegmentationModel"
            | "PoseModel"
            | "OBBModel"
            | "RTDETRDetectionModel"
            | "YOLOv10DetectionModel"
            | "Model"
    );
    let yaml = heap.attribute(network, "yaml").filter(|_| known);
    let yaml = yaml.ok_or_else(|| {
        let e = Error::unsupported(format!("networks of the class {class} are not supported"));
        e.hint("YOLO and RT-DETR networks of the ultralytics package are; any other network can be exported as .onnx")
    })?;
    let mut budget = MOST_VALUES;
    let value = to_json(checkpoint, yaml, MOST_DEPTH, &mut budget);
    let Some(Value::Object(described)) = value else {
        return Err(Error::unsupported("the checkpoint does not describe its architecture"));
    };
    let channels = ["channels", "ch"].iter().find_map(|k| described.get(*k)).and_then(Value::as_u64).unwrap_or(3);
    if channels != 3 {
        return Err(Error::unsupported(format!("the network takes images of {channels} channels, 3 are supported")));
    }
    Ok(described)
}

/// A plain object as JSON; `None` for what is too deep, too large or not plain.
fn to_json(checkpoint: &Checkpoint, id: Id, depth: usize, budget: &mut usize) -> Option<Value> {
    *budget = budget.checked_sub(1)?;
    let heap = &checkpoint.heap;
    Some(match heap.get(id) {
        Object::None => Value::Null,
        Object::Bool(b) => json!(b),
        Object::Int(i) => json!(i),
        Object::Float(f) => json!(f),
        Object::Text(t) if t.len() <= 1000 => json!(t),
        _ if depth == 0 => return None,
        _ => match (heap.sequence(id), heap.entries(id)) {
            (Some(items), _) => items.iter().map(|&i| to_json(checkpoint, i, depth - 1, budget)).collect::<Option<Vec<_>>>()?.into(),
            (None, Some(entries)) => {
                let mut map = Map::new();
                for (k, v) in entries.iter() {
                    let key = heap.text(*k).map(String::from).or_else(|| heap.int(*k).map(|i| i.to_string()))?;
                    map.insert(key, to_json(checkpoint, *v, depth - 1, budget)?);
                }
                map.into()
            }
            _ => return None,
        },
    })
}

/// The text of an architecture file; JSON is YAML. ArchitectureLayer `n` stands in line `n + 1`, for errors.
fn architecture(described: &Map<String, Value>, classes: usize, strides: &[usize], bins: Option<usize>, finished: Option<bool>) -> String {
    let list = |part: &str| -> Vec<String> {
        described.get(part).and_then(Value::as_array).into_iter().flatten().map(ToString::to_string).collect()
    };
    let mut text = format!("{{\"backbone\": [{}]", list("backbone").join(",\n"));
    text += &format!(",\n\"head\": [{}]", list("head").join(",\n"));
    let mut rest = Map::new();
    for key in ["ch", "channels", "scales", "depth_multiple", "width_multiple", "activation", "anchors", "kpt_shape"] {
        rest.extend(described.get(key).filter(|v| !v.is_null()).map(|v| (key.to_string(), v.clone())));
    }
    rest.insert("nc".into(), json!(classes));
    if !strides.is_empty() {
        rest.insert("strides".into(), json!(strides));
    }
    rest.extend(finished.map(|f| ("end2end".to_string(), json!(f))));
    rest.extend(bins.map(|b| ("reg_max".to_string(), json!(b))));
    for (key, value) in rest {
        text += &format!(",\n{}: {value}", json!(key));
    }
    text + "}\n"
}

/// Class names: the options', else the checkpoint's, else `class0`, ….
fn class_names(checkpoint: &Checkpoint, network: Id, described: &Map<String, Value>, options: &LoadOptions) -> Result<Vec<String>> {
    let heap = &checkpoint.heap;
    let own = heap.attribute(network, "names").map(|names| -> Result<Vec<String>> {
        let bad = || Error::format("the class names are not numbered from 0").hint("give the names with option 'classes'");
        if let Some(list) = heap.sequence(names) {
            return list.iter().map(|&n| heap.text(n).map(String::from).ok_or_else(bad)).collect();
        }
        let mut named = IndexMap::new();
        for (k, v) in heap.entries(names).ok_or_else(bad)?.iter() {
            named.insert(heap.size(*k).ok_or_else(bad)?, heap.text(*v).ok_or_else(bad)?.to_string());
        }
        named.sort_keys();
        if named.keys().copied().eq(0..named.len()) { Ok(named.into_values().collect()) } else { Err(bad()) }
    });
    let stated = described.get("nc").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let given = options.classes.as_ref().map(Classes::names).transpose()?;
    match (given, own, stated) {
        (Some(given), _, Some(n)) if given.len() != n => {
            Err(Error::argument(format!("the model has {n} classes, option 'classes' names {}", given.len())))
        }
        (Some(given), _, _) => Ok(given),
        (None, Some(own), stated) => {
            let own = own?;
            if own.is_empty() || stated.is_some_and(|n| n != own.len()) {
                let e = Error::format(format!("the checkpoint names {} classes, its architecture has {}", own.len(), stated.unwrap_or(0)));
                return Err(e.hint("give the names with option 'classes'"));
            }
            Ok(own)
        }
        (None, None, Some(n @ 1..=100_000)) => Ok((0..n).map(|i| format!("class{i}")).collect()),
        (None, None, _) => Err(Error::format("the number of classes is not known").hint("give option 'classes'")),
    }
}

fn strides(checkpoint: &Checkpoint, id: Id) -> Result<Vec<usize>> {
    let numbers = checkpoint.numbers(id).ok_or_else(|| Error::format("the strides of the head are no numbers"))?;
    let whole = |v: f64| ((1.0..=1024.0).contains(&v) && v.fract() == 0.0).then_some(v as usize);
    numbers.into_iter().map(|v| whole(v).ok_or_else(|| Error::unsupported(format!("a stride of {v} is not supported")))).collect()
}

/// The options' image size, else the one of the training, rounded up to what the head needs.
fn image_size(checkpoint: &Checkpoint, network: Id, options: &LoadOptions, multiple: usize) -> Option<[usize; 2]> {
    if let Some(size) = options.image_size {
        return Some(ImageSize::height_width(size));
    }
    let heap = &checkpoint.heap;
    let trained = [heap.attribute(network, "args"), heap.entry(checkpoint.root, "train_args")];
    let sizes = trained.into_iter().flatten().find_map(|args| {
        let size = heap.entry(args, "imgsz").or_else(|| heap.attribute(args, "imgsz"))?;
        heap.sizes(size).filter(|s| s.iter().all(|n| (1..=8192).contains(n)))
    })?;
    let round = |n: usize| n.next_multiple_of(multiple);
    match *sizes.as_slice() {
        [n] => Some([round(n); 2]),
        [h, w] => Some([round(h), round(w)]),
        _ => None,
    }
}

/// Modules that have a convolution `conv` without a batch norm by design.
fn plain_convolutions(checkpoint: &Checkpoint, modules: &[Module]) -> Vec<String> {
    let named = modules.iter().filter(|m| checkpoint.heap.class(m.id).is_some_and(|c| c.name == "CBLinear"));
    named.map(|m| m.path.clone()).collect()
}

/// The weights as the builder names them, in float32.
fn weights(state: IndexMap<String, Constant>, bins: Option<usize>, plain: &[String]) -> Result<IndexMap<String, Constant>> {
    let mut weights = IndexMap::with_capacity(state.len());
    for (name, value) in &state {
        let place = |e: Error| e.at(format!("tensor '{name}'"));
        // Counts of batches, and the numbers of bins, which are no weights.
        if name.ends_with(".num_batches_tracked") {
            continue;
        }
        if name.ends_with(".dfl.conv.weight") {
            let values = value.to_f64s().map_err(place)?;
            if !values.iter().copied().eq((0..bins.unwrap_or(0)).map(|i| i as f64)) {
                return Err(place(Error::unsupported("the bins of box sides are not 0, 1, 2, …")));
            }
            continue;
        }
        // A convolution that its batch norm was folded into gets one back that changes nothing.
        let fused = name.strip_suffix(".conv.bias").filter(|m| !state.contains_key(&format!("{m}.bn.weight")));
        let fused = fused.filter(|m| !plain.iter().any(|p| p == m));
        if let Some(module) = fused {
            let bias = float(value).map_err(place)?;
            let all = |v: f32| Constant::floats(value.dims(), &vec![v; value.count()]);
            weights.insert(format!("{module}.bn.weight"), all(1.0)?);
            weights.insert(format!("{module}.bn.running_mean"), all(0.0)?);
            weights.insert(format!("{module}.bn.running_var"), all(1.0 - settings::FOLDED_EPSILON)?);
            weights.insert(format!("{module}.bn.bias"), bias);
            continue;
        }
        weights.insert(name.clone(), float(value).map_err(place)?);
    }
    Ok(weights)
}

fn float(value: &Constant) -> Result<Constant> {
    match value.element() {
        Element::F32 => Ok(value.clone()),
        e if e.is_float() => Constant::floats(value.dims(), &value.to_f32s()?),
        e => Err(Error::dtype(format!("expected a float type, got {e}"))),
    }
}
