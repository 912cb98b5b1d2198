//! metadata.yaml: what a reader of the model has to know, in the form in which Ultralytics' readers expect it, and which blob is
//! which value.

use super::translate::Translated;
use crate::Artefact;
use crate::reader::{quoted, stride, word};
use compresso_model::{Graph, InstanceKind, Task};
use std::fmt::Write;

pub(super) fn metadata(artefact: &Artefact<'_>, graph: &Graph, translated: &Translated) -> String {
    let task = artefact.model.task();
    let mut text = String::new();
    let title = if graph.name().is_empty() { "model" } else { graph.name() };
    let _ = writeln!(text, "description: {}", quoted(&format!("{title}, made by Compresso")));
    let _ = writeln!(text, "version: {}", quoted(env!("CARGO_PKG_VERSION")));
    if let Some(word) = word(task) {
        let _ = writeln!(text, "stride: {}", stride(artefact.model));
        let _ = writeln!(text, "task: {word}");
    }
    let _ = writeln!(text, "batch: 1");
    let sizes = graph.feeds().find_map(|f| f.fact.dims().filter(|d| d.len() == 4));
    if let Some([_, channels, height, width]) = sizes.as_deref() {
        let _ = writeln!(text, "imgsz:\n- {height}\n- {width}\nchannels: {channels}");
    }
    let _ = writeln!(text, "precision: {}", artefact.precision);
    if let Task::Instances(i) = task
        && let InstanceKind::KeyPoints { points, numbers } = i.kind
    {
        let _ = writeln!(text, "kpt_shape:\n- {points}\n- {numbers}");
    }
    if !task.classes().is_empty() {
        let _ = writeln!(text, "names:");
        for (i, name) in task.classes().iter().enumerate() {
            let _ = writeln!(text, "  {i}: {}", quoted(name));
        }
    }
    let inputs: Vec<&str> = graph.feeds().map(|f| f.name.as_str()).collect();
    let outputs: Vec<&str> = graph.outputs().iter().map(|o| o.name.as_str()).collect();
    for (title, blob, names, shapes) in [("inputs", "in", inputs, &translated.inputs), ("outputs", "out", outputs, &translated.outputs)] {
        let _ = writeln!(text, "{title}:");
        for (i, (name, shape)) in names.into_iter().zip(shapes).enumerate() {
            let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "- blob: {blob}{i}\n  name: {}\n  shape: [{}]", quoted(name), sizes.join(", "));
        }
    }
    text
}
