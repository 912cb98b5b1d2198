//! The forms in which Ultralytics exports: what its metadata, and the shapes of the outputs, say of them.

use super::{LoadOptions, class_names, image_input, image_size, ultralytics};
use crate::graph::infer_at;
use crate::literal::Literal;
use crate::ops::cast::CAST;
use crate::ops::concat::CONCAT;
use crate::{BoxDecode, Fact, Graph, InstanceKind, Instances};
use compresso_base::error::{Error, Result};

/// What the one output of an exported detector is.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// `[batch, 4 + classes, anchors]`, still to be suppressed.
    Anchors,
    /// Rows that a description reads.
    Rows(Box<BoxDecode>),
}

/// Ultralytics' words for tasks of more than boxes.
const TASKS: [&str; 3] = ["segment", "pose", "obb"];

/// The form of a detector's output; `None` for a graph that Ultralytics did not export as a detector.
pub fn detector(graph: &Graph, options: &LoadOptions) -> Option<Form> {
    let meta = graph.metadata();
    let [out] = graph.outputs() else { return None };
    let plain = meta.get("task").is_none_or(|t| t == "detect");
    if !meta.contains_key("names") || !plain || image_input(graph).is_none() || out.fact.rank().is_some_and(|r| r != 3) {
        return None;
    }
    // Exports of detectors say their stride; those with finished rows, which need none, may lack it.
    let anchors = meta.contains_key("stride").then_some(Form::Anchors);
    let Ok(Some(names)) = ultralytics::names(graph) else { return anchors };
    let fact = sized(graph, &out.name, options);
    let (channels, width) = (fact.as_ref().and_then(|f| f.dim(1)), fact.as_ref().and_then(|f| f.dim(2)));
    let scored = Some(names.len() + 4);
    if of_transformer(graph) {
        let rows = width == Some(6) && (scored != width || ends_in_parts(graph, &out.name) == Some(3));
        return match (rows, width == scored) {
            (true, _) => Some(Form::Rows(BoxDecode::query_rows(&out.name).into())),
            (false, true) => Some(Form::Rows(BoxDecode::query_scores(&out.name).into())),
            _ => None,
        };
    }
    let rows = || Some(Form::Rows(BoxDecode::end_to_end(&out.name).into()));
    match (channels, width) {
        _ if says_finished(graph) => width.is_none_or(|w| w == 6).then(rows).flatten(),
        (None, _) => anchors,
        (c, _) if c == scored => anchors,
        (_, Some(6)) => rows(),
        (_, w) if w == scored => Some(Form::Rows(BoxDecode::query_scores(&out.name).into())),
        _ => None,
    }
}

/// Exports with non-maximum suppression inside say so in `args`, those of end-to-end heads in `end2end`.
fn says_finished(graph: &Graph) -> bool {
    let meta = graph.metadata();
    meta.get("end2end").is_some_and(|v| v == "True") || meta.get("args").is_some_and(|a| a.contains("'nms': True"))
}

/// Whether the head is RT-DETR's: newer files name it, older ones the model.
fn of_transformer(graph: &Graph) -> bool {
    let meta = graph.metadata();
    match meta.get("head") {
        Some(head) => head == "RTDETRDecoder",
        None => meta.get("description").is_some_and(|d| d.to_ascii_lowercase().contains("rtdetr")),
    }
}

/// How many values the last concatenation before an output joins.
fn ends_in_parts(graph: &Graph, output: &str) -> Option<usize> {
    let makers = graph.producers();
    let mut node = &graph.nodes()[*makers.get(output)?];
    if node.is(CAST) {
        node = &graph.nodes()[*makers.get(node.input(0)?)?];
    }
    node.is(CONCAT).then_some(node.inputs.len())
}

/// The declared type of an output, with the sizes at the model's image size where they are open.
fn sized(graph: &Graph, name: &str, options: &LoadOptions) -> Option<Fact> {
    let declared = graph.outputs().iter().find(|o| o.name == name).map(|o| &o.fact)?;
    let known = |axis| declared.dim(axis).is_some();
    if known(1) && known(2) {
        return Some(declared.clone());
    }
    let default = ultralytics::image_size_of(graph).ok().flatten().unwrap_or([640; 2]);
    let image = image_size(graph, options, default).ok()?;
    let inferred = infer_at(graph, 1, Some(image)).ok().and_then(|facts| facts.get(name).cloned());
    // What an export declares is not always what its nodes make.
    Some(inferred.filter(|f| f.rank() == Some(3)).unwrap_or_else(|| declared.clone()))
}

/// The model of an export whose objects have masks, key points or angles; `None` for others.
pub fn instances(graph: &Graph, options: &LoadOptions) -> Option<Result<Instances>> {
    let meta = graph.metadata();
    let task = meta.get("task").filter(|t| TASKS.contains(&t.as_str()))?;
    let first = graph.outputs().first()?;
    if !meta.contains_key("names") || image_input(graph).is_none() || first.fact.rank().is_some_and(|r| r != 3) {
        return None;
    }
    Some(read_instances(graph, options, task, &first.name))
}

fn read_instances(graph: &Graph, options: &LoadOptions, task: &str, first: &str) -> Result<Instances> {
    let named = ultralytics::names(graph)?.unwrap_or_default();
    let classes = if options.classes.is_some() { class_names(options, named.len())? } else { named };
    let image_size = image_size(graph, options, ultralytics::image_size_of(graph)?.unwrap_or([640; 2]))?;
    let fact = sized(graph, first, options);
    let (channels, width) = (fact.as_ref().and_then(|f| f.dim(1)), fact.as_ref().and_then(|f| f.dim(2)));
    let kind = match task {
        "segment" => {
            let second = graph.outputs().get(1).and_then(|o| o.fact.dim(1));
            let rest = channels.and_then(|c| c.checked_sub(4 + classes.len())).filter(|_| !says_finished(graph));
            let prototypes = second.or(rest).or_else(|| width.and_then(|w| w.checked_sub(6)));
            let unknown = || Error::argument("the number of prototypes of the masks is not known");
            InstanceKind::Masks { prototypes: prototypes.filter(|&n| n > 0).ok_or_else(unknown)? }
        }
        "pose" => {
            let bad = || Error::format("the metadata 'kpt_shape' is not a list of two numbers, such as [17, 3]");
            let text = graph.metadata().get("kpt_shape").ok_or_else(bad)?;
            let literal = Literal::parse(text).map_err(|e| e.at("metadata 'kpt_shape'"))?;
            let number = |l: &Literal| l.int().and_then(|i| usize::try_from(i).ok()).filter(|&n| n > 0);
            let Literal::List(items) = &literal else { return Err(bad()) };
            let [points, numbers] = items.as_slice() else { return Err(bad()) };
            InstanceKind::KeyPoints { points: number(points).ok_or_else(bad)?, numbers: number(numbers).ok_or_else(bad)? }
        }
        _ => InstanceKind::Turned,
    };
    let more = match kind {
        InstanceKind::Masks { prototypes } => prototypes,
        InstanceKind::KeyPoints { points, numbers } => points * numbers,
        InstanceKind::Turned => 1,
    };
    let finished = says_finished(graph) || (width == Some(6 + more) && channels != Some(4 + classes.len() + more));
    let outputs = graph.outputs().iter().map(|o| o.name.clone()).collect();
    Ok(Instances { kind, classes, image_size, outputs, finished })
}
