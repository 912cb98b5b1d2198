//! What a model consists of, as a report.

use super::{Model, Stats, Task};
use compresso_base::error::Result;
use compresso_base::report::{Show, Table, bytes, count, printable};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// The summary of a model: what it is, its inputs and outputs, its layers and their cost.
pub struct Summary {
    model: Model,
    stats: Arc<Stats>,
}

impl Model {
    /// Inputs, outputs and layers with their parameters and multiply-accumulates.
    ///
    /// # Errors
    /// What shape inference reports, with its node.
    pub fn summary(&self) -> Result<Summary> {
        Ok(Summary { model: self.clone(), stats: self.stats()? })
    }
}

/// All of a [`Summary`]; in passing, one line:
/// `Model: detector of 80 classes, 640 x 640, 3.16 M parameters, 4.37 GMACs (yolov8n > prune)`.
impl Show for Model {
    fn tables(&self) -> Vec<Table> {
        self.summary().map(|s| s.tables()).unwrap_or_default()
    }
    fn notes(&self) -> Vec<String> {
        self.summary().map_or_else(|e| vec![e.to_string()], |s| s.notes())
    }
    fn data(&self) -> Value {
        self.summary().map(|s| s.data()).unwrap_or_default()
    }
    fn line(&self) -> Option<String> {
        let plural = |n: usize| if n == 1 { "1 class".to_string() } else { format!("{n} classes") };
        let what = match self.task() {
            Task::Unknown => "network".to_string(),
            Task::Classify(c) => format!("classifier of {}", plural(c.classes.len())),
            Task::Detect(d) => format!("detector of {}", plural(d.classes.len())),
            Task::Instances(i) => format!("detector of {} with {}", plural(i.classes.len()), i.kind.what()),
        };
        let size = self.task().image_size().map(|[h, w]| format!(", {w} x {h}")).unwrap_or_default();
        let cost = match self.stats() {
            Ok(s) => format!(", {} parameters, {}MACs", count(s.params), spaced(&count(s.macs))),
            Err(e) => format!(", {} nodes (its cost is unknown: {e})", self.graph().nodes().len()),
        };
        let steps: Vec<&str> = self.steps().iter().map(|s| s.operation.as_str()).collect();
        let steps = if steps.is_empty() { String::new() } else { format!(" ({})", steps.join(" > ")) };
        Some(printable(&format!("Model: {what}{size}{cost}{steps}")))
    }
    fn save_as(&self, path: &Path) -> Result<()> {
        self.save(path)
    }
}

/// `4.37 G` before a unit, `512 ` without a prefix.
fn spaced(count: &str) -> String {
    if count.contains(' ') { count.to_string() } else { format!("{count} ") }
}

impl Summary {
    fn task(&self) -> String {
        match self.model.task() {
            Task::Unknown => "unknown".into(),
            Task::Classify(c) => format!("classifier of {} classes", c.classes.len()),
            Task::Detect(d) => format!("detector of {} classes", d.classes.len()),
            Task::Instances(i) => format!("detector of {} classes with {}", i.classes.len(), i.kind.what()),
        }
    }
}

impl Show for Summary {
    fn tables(&self) -> Vec<Table> {
        let (graph, stats) = (self.model.graph(), &self.stats);
        let mut head = Table::new("Model", &["", ""]);
        head.row(["task", &self.task()]);
        if let Some([h, w]) = self.model.task().image_size() {
            head.row(["image size", &format!("{w} x {h} (width x height)")]);
        }
        for input in graph.feeds() {
            head.row([format!("input {}", input.name), input.fact.to_string()]);
        }
        for output in graph.outputs() {
            head.row([format!("output {}", output.name), output.fact.to_string()]);
        }
        head.row(["opset", &graph.opset().to_string()]);
        head.row(["parameters", &format!("{} ({})", count(stats.params), bytes(stats.weight_bytes))]);
        head.row(["MACs", &count(stats.macs)]);
        if !self.model.steps().is_empty() {
            let steps: Vec<&str> = self.model.steps().iter().map(|s| s.operation.as_str()).collect();
            head.row(["made by", &steps.join(" > ")]);
        }
        let mut layers = Table::new("Layers", &["layer", "op", "output", ">params", ">MACs"]);
        for l in &stats.layers {
            let dash = |n: u64| if n == 0 { String::new() } else { count(n) };
            layers.row([l.name.clone(), l.op.clone(), l.output.clone(), dash(l.params), dash(l.cost.macs)]);
        }
        vec![head, layers]
    }
    fn notes(&self) -> Vec<String> {
        let unknown = self.stats.layers.iter().filter(|l| !l.exact).count();
        if unknown == 0 {
            return Vec::new();
        }
        vec![format!("the shapes of {unknown} layers are known only at run time; their cost is not counted")]
    }
    fn data(&self) -> Value {
        let graph = self.model.graph();
        let info = |v: &super::ValueInfo| (v.name.clone(), Value::from(v.fact.to_string()));
        json!({
            "task": self.task(),
            "classes": self.model.task().classes(),
            "image_size": self.model.task().image_size(),
            "inputs": graph.feeds().map(info).collect::<serde_json::Map<_, _>>(),
            "outputs": graph.outputs().iter().map(info).collect::<serde_json::Map<_, _>>(),
            "opset": graph.opset(),
            "params": self.stats.params,
            "macs": self.stats.macs,
            "weight_bytes": self.stats.weight_bytes,
            "layers": self.stats.layers,
        })
    }
}
