//! What the files say of the model besides its layers.
//!
//! The network's `rt_info` has the model's own metadata, as OpenVINO's reader of ONNX files keeps it, and the class names as
//! OpenVINO's model API reads them. `metadata.yaml` beside it has the fields that Ultralytics' loader reads.

use super::xml::{Info, element_name};
use crate::Artefact;
use crate::reader::{quoted, stride, word};
use compresso_model::{Decode, InstanceKind, Task};

/// Groups of names and values for the network.
pub(super) fn info(artefact: &Artefact<'_>) -> Info {
    let version = env!("CARGO_PKG_VERSION").to_string();
    let made = vec![("version".to_string(), version), ("precision".to_string(), artefact.precision.to_string())];
    let mut info = vec![("compresso".to_string(), made)];
    let task = artefact.model.task();
    if !task.classes().is_empty() {
        // Names are parted by spaces.
        let labels: Vec<String> = task.classes().iter().map(|c| c.split_whitespace().collect::<Vec<_>>().join("_")).collect();
        info.push(("model_info".into(), vec![("labels".into(), labels.join(" "))]));
    }
    let kept: Vec<(String, String)> =
        artefact.model.graph().metadata().iter().filter(|(k, _)| element_name(k)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if !kept.is_empty() {
        info.push(("framework".into(), kept));
    }
    info
}

/// The text of `metadata.yaml`; `None` of a model whose task is not known.
pub(super) fn yaml(artefact: &Artefact<'_>) -> Option<String> {
    let model = artefact.model;
    let task = model.task();
    let word = word(task)?;
    let size = artefact.image_size.or(task.image_size())?;
    let batch = model.graph().feeds().next().and_then(|f| f.fact.dim(0));
    let mut lines = vec![
        format!("description: {}", quoted(&format!("{} for OpenVINO, {}", model.graph().name(), artefact.precision))),
        format!("author: {}", quoted("Compresso")),
        format!("version: {}", quoted(env!("CARGO_PKG_VERSION"))),
        format!("stride: {}", stride(model)),
        format!("task: {word}"),
        format!("batch: {}", batch.unwrap_or(artefact.batch[0])),
        format!("imgsz: [{}, {}]", size[0], size[1]),
        format!("dynamic: {}", model.graph().feeds().any(|f| f.fact.dims().is_none())),
    ];
    if let Task::Instances(i) = task
        && let InstanceKind::KeyPoints { points, numbers } = i.kind
    {
        lines.push(format!("kpt_shape: [{points}, {numbers}]"));
    }
    if is_finished(task) {
        lines.push("end2end: true".into());
    }
    lines.push("names:".into());
    lines.extend(task.classes().iter().enumerate().map(|(i, name)| format!("  {i}: {}", quoted(name))));
    Some(lines.join("\n") + "\n")
}

/// Whether rows are objects, of which none is to be suppressed.
fn is_finished(task: &Task) -> bool {
    match task {
        Task::Detect(d) => matches!(&d.decode, Decode::Described(b) if b.is_finished()),
        Task::Instances(i) => i.finished,
        _ => false,
    }
}
