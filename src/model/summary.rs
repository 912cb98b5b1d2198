//! What a model consists of, as a report.

use super::graph::LayerStats;
use super::{ImageSize, Model, Stats, Task};
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_base::report::{Cell, Show, Table, bytes, count, counted, printable};
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// The summary of a model: what it is, its inputs and outputs, its layers and their cost.
pub struct Summary {
    model: Model,
    stats: Arc<Stats>,
    /// Height and width at which open sizes are counted.
    size: Option<[usize; 2]>,
    /// A row for each layer, not for each block.
    layers: bool,
}

compresso_base::options! {
    /// Options of `summary`.
    pub struct Summarize {
        /// Height and width at which multiply-accumulates are counted where the model leaves them open: one number for a square, or
        /// [height, width].
        pub image_size: Option<ImageSize> = None,
        /// A row for each layer instead of one for each block, the layers whose names begin alike.
        pub layers: bool = false,
    }
}

/// What a model consists of.
///
/// # Errors
/// What shape inference reports, with its node.
impl Operation for Summarize {
    const SIGNATURE: Signature = Signature {
        name: "summary",
        summary: "What a model is made of: inputs, outputs, blocks or layers with parameters and multiply-accumulates",
        group: "models",
        args: &[Arg::new("m", ArgKind::Model)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &["summary(model(\"classifier\", #{ classes: 3, image_size: 32 })).params"],
        keywords: &["layers", "describe", "info", "shape", "flops", "parameters"],
    };
    type Inputs<'a> = &'a Model;
    type Output = Summary;

    fn run(&self, model: &Model, _: &Context) -> Result<Summary> {
        match self.image_size.map(ImageSize::height_width) {
            Some(size) => Ok(Summary { model: model.clone(), stats: model.stats_at(Some(size))?, size: Some(size), layers: self.layers }),
            None => Ok(Summary { layers: self.layers, ..model.summary()? }),
        }
    }
}

impl Model {
    /// `Model: detector of 80 classes, 640 x 640`
    fn headline(&self) -> String {
        let plural = |n: usize| counted(n, "class");
        let what = match self.task() {
            Task::Unknown => "network".to_string(),
            Task::Classify(c) => format!("classifier of {}", plural(c.classes.len())),
            Task::Detect(d) => format!("detector of {}", plural(d.classes.len())),
            Task::Instances(i) => format!("detector of {} with {}", plural(i.classes.len()), i.kind.what()),
        };
        let size = self.image_size().map(|[h, w]| format!(", {w} x {h}")).unwrap_or_default();
        format!("Model: {what}{size}")
    }

    /// The model at a glance: what it is for, what goes in and comes out, what it costs, how it was made.
    ///
    /// # Errors
    /// What shape inference reports, with its node.
    pub fn card(&self) -> Result<Table> {
        const NAMES: usize = 6;
        let (graph, stats) = (self.graph(), self.stats()?);
        let mut card = Table::new(printable(&self.headline()), &["", ""]);
        let classes = self.task().classes();
        if !classes.is_empty() {
            let more = if classes.len() > NAMES { format!(" and {} more", classes.len() - NAMES) } else { String::new() };
            card.row(["classes", &format!("{}{more}", classes[..classes.len().min(NAMES)].join(", "))]);
        }
        for input in graph.feeds() {
            card.row([format!("input {}", input.name), input.fact.to_string()]);
        }
        for output in graph.outputs() {
            card.row([format!("output {}", output.name), output.fact.to_string()]);
        }
        let with = stats.layers.iter().filter(|l| l.params > 0).count();
        card.row([Cell::from("layers"), Cell::shown(format!("{}, {with} with parameters", stats.layers.len()), stats.layers.len() as f64)]);
        let parameters = format!("{} ({})", count(stats.params), bytes(stats.weight_bytes));
        card.row([Cell::from("parameters"), Cell::shown(parameters, stats.params as f64)]);
        card.row([Cell::from("MACs"), stats.macs.map_or_else(Cell::unknown, Cell::count)]);
        let steps: Vec<&str> = self.steps().iter().map(|s| s.operation.as_str()).collect();
        if !steps.is_empty() {
            card.row(["made by", &steps.join(" > ")]);
        }
        Ok(card)
    }

    /// Inputs, outputs and blocks of layers with their parameters and multiply-accumulates.
    ///
    /// # Errors
    /// What shape inference reports, with its node.
    pub fn summary(&self) -> Result<Summary> {
        Ok(Summary { model: self.clone(), stats: self.stats()?, size: self.image_size(), layers: false })
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
        let cost = match self.stats() {
            Ok(s) => match s.macs {
                Some(macs) => format!(", {} parameters, {}MACs", count(s.params), spaced(&count(macs))),
                None => format!(", {} parameters, MACs unknown (sizes or branches are open)", count(s.params)),
            },
            Err(e) => format!(", {} nodes (its cost is unknown: {e})", self.graph().nodes().len()),
        };
        let steps: Vec<&str> = self.steps().iter().map(|s| s.operation.as_str()).collect();
        let steps = if steps.is_empty() { String::new() } else { format!(" ({})", steps.join(" > ")) };
        Some(printable(&format!("{}{cost}{steps}", self.headline())))
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
        if let Some([h, w]) = self.size {
            head.row(["image size", &format!("{w} x {h} (width x height)")]);
        }
        for input in graph.feeds() {
            head.row([format!("input {}", input.name), input.fact.to_string()]);
        }
        for output in graph.outputs() {
            head.row([format!("output {}", output.name), output.fact.to_string()]);
        }
        head.row(["opset", &graph.opset().to_string()]);
        let parameters = format!("{} ({})", count(stats.params), bytes(stats.weight_bytes));
        head.row([Cell::from("parameters"), Cell::shown(parameters, stats.params as f64)]);
        head.row([Cell::from("MACs"), stats.macs.map_or_else(Cell::unknown, Cell::count)]);
        if !self.model.steps().is_empty() {
            let steps: Vec<&str> = self.model.steps().iter().map(|s| s.operation.as_str()).collect();
            head.row(["made by", &steps.join(" > ")]);
        }
        let blocks = blocks(&stats.layers);
        let table = if self.layers || blocks.len() == stats.layers.len() { layer_table(&stats.layers) } else { block_table(&blocks) };
        vec![head, table]
    }
    fn notes(&self) -> Vec<String> {
        let nodes = self.model.graph().nodes().iter().zip(&self.stats.layers);
        let (inner, open): (Vec<_>, Vec<_>) = nodes.filter(|(_, l)| !l.exact).partition(|(n, _)| n.inner().next().is_some());
        let mut notes = Vec::new();
        if !self.layers && blocks(&self.stats.layers).len() < self.stats.layers.len() {
            notes.push(format!("summary(m, #{{ layers: true }}) has all {} layers", self.stats.layers.len()));
        }
        if !open.is_empty() {
            notes.push(format!(
                "the MACs of {} layers depend on sizes that are known only at run time: summary(m, #{{ image_size: 640 }}) counts them at a size, \
                 model(file, #{{ image_size: 640 }}) in all that is made of the model",
                open.len()
            ));
        }
        if !inner.is_empty() {
            let names: Vec<String> = inner.iter().take(3).map(|(n, _)| n.label()).collect();
            let more = if inner.len() > 3 { format!(" and {} more", inner.len() - 3) } else { String::new() };
            notes.push(format!(
                "the MACs inside {}{more} are unknown: only a run tells which branch is taken, and how often. Parameters inside are counted",
                names.join(", ")
            ));
        }
        notes
    }
    fn data(&self) -> Value {
        let graph = self.model.graph();
        let info = |v: &super::ValueInfo| (v.name.clone(), Value::from(v.fact.to_string()));
        json!({
            "task": self.task(),
            "classes": self.model.task().classes(),
            "image_size": self.size,
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

fn shown(n: u64) -> Cell {
    if n == 0 { Cell::shown("", 0.0) } else { Cell::count(n) }
}

fn layer_table(layers: &[LayerStats]) -> Table {
    let mut table = Table::new("Layers", &["layer", "op", "output", ">params", ">MACs"]);
    for l in layers {
        let macs = l.macs().map_or_else(Cell::unknown, shown);
        table.row([Cell::from(&l.name), Cell::from(&l.op), Cell::from(&l.output), shown(l.params), macs]);
    }
    table
}

fn block_table(blocks: &IndexMap<String, Vec<&LayerStats>>) -> Table {
    let mut table = Table::new("Blocks", &["block", ">layers", "operators", "output", ">params", ">MACs"]);
    for (name, layers) in blocks {
        let macs: Option<u64> = layers.iter().map(|l| l.macs()).sum();
        let output = layers.last().map_or("", |l| l.output.as_str());
        let cells = [Cell::from(name), Cell::shown(layers.len().to_string(), layers.len() as f64), operators(layers).into(), output.into()];
        let costs = [shown(layers.iter().map(|l| l.params).sum()), macs.map_or_else(Cell::unknown, shown)];
        table.row(cells.into_iter().chain(costs));
    }
    table
}

/// Layers whose names begin with the same block, `model.4`, `layer1.0` or `fc`, in the order in which the blocks begin.
fn blocks(layers: &[LayerStats]) -> IndexMap<String, Vec<&LayerStats>> {
    let mut blocks: IndexMap<String, Vec<&LayerStats>> = IndexMap::new();
    for layer in layers {
        blocks.entry(block(&layer.name)).or_default().push(layer);
    }
    blocks
}

/// The first part of a name, with the second where that is a number.
fn block(name: &str) -> String {
    let mut parts = name.split(['.', '/']).filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or(name);
    match parts.next() {
        Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => format!("{first}.{number}"),
        _ => first.to_string(),
    }
}

/// The operators that hold parameters, or all where none does, with how often each is there: `Conv × 4`.
fn operators(layers: &[&LayerStats]) -> String {
    let any = layers.iter().any(|l| l.params > 0);
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for l in layers.iter().filter(|l| !any || l.params > 0) {
        match counts.iter_mut().find(|(op, _)| *op == l.op) {
            Some((_, n)) => *n += 1,
            None => counts.push((&l.op, 1)),
        }
    }
    let said = |(op, n): &(&str, usize)| if *n == 1 { op.to_string() } else { format!("{op} × {n}") };
    counts.iter().map(said).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_named_by_what_their_layers_share() {
        for (name, wanted) in [
            ("model.4.m.0.cv1.conv.Conv", "model.4"),
            ("/model.22/dfl/conv/Conv", "model.22"),
            ("layer1.0.conv1.Conv", "layer1.0"),
            ("/layer1/layer1.0/conv1/Conv", "layer1"),
            ("fc.Gemm", "fc"),
            ("Conv_3", "Conv_3"),
            ("", ""),
        ] {
            assert_eq!(block(name), wanted);
        }
    }

    #[test]
    fn blocks_add_up_to_the_layers() {
        let model = crate::zoo::build("yolov8n", &crate::zoo::ZooOptions::default()).unwrap();
        let [all, few] = [true, false].map(|layers| Summary { layers, ..model.summary().unwrap() });
        let sums = |s: &Summary| -> (usize, f64) {
            let (headers, rows) = s.tables()[1].plain();
            let column = headers.iter().position(|h| h == "params").unwrap();
            (rows.len(), rows.iter().filter_map(|r| r[column].as_f64()).sum())
        };
        assert_eq!(sums(&all).0, model.graph().nodes().len());
        assert_eq!(sums(&few).1, sums(&all).1);
        assert!(sums(&few).0 < 40 && few.notes().join("").contains("layers: true"), "{:?}", sums(&few));
    }
}
