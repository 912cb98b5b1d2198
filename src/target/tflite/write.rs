//! From a graph to a file.

use super::builder::{Builder, Form, kind_of};
use super::ends::{self, EndType, Ends};
use super::layout::{channels_last, permuted, plain};
use super::model::{File, Kind, Type};
use super::{ops, prune, serialize};
use crate::{Artefact, ExportPrecision, Names};
use compresso_base::error::{At, Error, Result};
use compresso_base::files::write_file;
use compresso_model::graph::fix_sizes;
use compresso_model::passes::pipelines;
use compresso_model::{Graph, ValueInfo, has_channels_last};
use std::path::{Path, PathBuf};

pub(super) fn write(artefact: &Artefact<'_>, file: &Path) -> Result<Vec<PathBuf>> {
    let graph = fixed(artefact)?;
    let mut made = build(&graph, artefact)?;
    let task = artefact.model.task();
    if !task.classes().is_empty() {
        made.metadata.push(("labels".into(), task.classes().join("\n")));
    }
    made.metadata.push(("compresso".into(), description(artefact, &graph)?));
    write_file(file, &serialize::serialize(&made)?)?;
    Ok(vec![file.to_path_buf()])
}

/// The graph with all sizes of its inputs given, and what follows from them computed.
fn fixed(artefact: &Artefact<'_>) -> Result<Graph> {
    Ok(pipelines::INFERENCE.run(&fix_sizes(artefact.model.graph(), artefact.batch[0], artefact.image_size)?)?.graph)
}

/// Images are fed with their channels last, as the runtime's users have them; what looks like that already stays.
fn fed_as(dims: &[usize], kind: Kind) -> Vec<usize> {
    if dims.len() == 4 && kind == Kind::F32 && !has_channels_last(|axis| dims.get(axis).copied()) {
        channels_last(4)
    } else {
        plain(dims.len())
    }
}

/// Inputs and outputs have the graph's names.
pub(super) fn names(graph: &Graph) -> Names {
    let last = |i: &&ValueInfo| {
        let dims = i.fact.dims().unwrap_or_default();
        kind_of(i.fact.element).is_ok_and(|k| dims.len() == 4 && fed_as(&dims, k) != plain(4))
    };
    let float = |i: &&ValueInfo| kind_of(i.fact.element).is_ok_and(|k| k == Kind::F32);
    Names {
        channels_last: graph.feeds().filter(last).map(|i| i.name.clone()).collect(),
        floats: graph.feeds().chain(graph.outputs()).filter(float).map(|i| i.name.clone()).collect(),
        ..Names::default()
    }
}

/// What the integers at the file's ends stand for, where these are asked for.
pub(super) fn told(artefact: &Artefact<'_>) -> Result<Vec<String>> {
    if Ends::of(artefact)?.are_integers() { Ok(ends::described(&build(&fixed(artefact)?, artefact)?)) } else { Ok(Vec::new()) }
}

fn build(graph: &Graph, artefact: &Artefact<'_>) -> Result<File> {
    let facts = graph.facts()?;
    let ends = Ends::of(artefact)?;
    let mut b = Builder::new(graph, &facts);
    b.half = artefact.precision == ExportPrecision::Fp16;
    // An export that asks for it; of a model whose weights alone are quantized, what layers read stays as exact as it is.
    b.hybrid = artefact.precision == ExportPrecision::Dynamic;
    b.integer_outputs = ends.outputs != EndType::Float32;
    for input in graph.feeds() {
        let dims = b.dims(&input.name)?;
        if dims.contains(&0) {
            return Err(Error::unsupported("it has no elements").at(format!("input '{}'", input.name)));
        }
        let kind = kind_of(input.fact.element).at(|| format!("input '{}'", input.name))?;
        let perm = fed_as(&dims, kind);
        let shape = permuted(&dims, &perm);
        if kind == Kind::F32 && ends.inputs != EndType::Float32 {
            ends::feed(&mut b, &input.name, ends.inputs, &shape, perm)?;
        } else {
            let t = b.input(&input.name, Type::new(kind, &shape));
            b.hold(&input.name, perm, t, Form::Real);
        }
    }
    for (i, node) in graph.nodes().iter().enumerate() {
        if !b.done.contains(&i) {
            ops::write(&mut b, node)?;
        }
    }
    for output in graph.outputs() {
        let place = || format!("output '{}'", output.name);
        if b.integer_outputs && b.kind(&output.name)? == Kind::F32 {
            ends::give(&mut b, &output.name, ends.outputs).at(place)?;
            continue;
        }
        let rank = b.dims(&output.name).at(place)?.len();
        let whole = matches!(b.kind(&output.name)?, Kind::I8 | Kind::U8) && b.is_rounded(&output.name);
        let t = b.read(&output.name, &plain(rank), if whole { Form::Rounded } else { Form::Real }).at(place)?;
        b.output(&output.name, t)?;
    }
    Ok(prune::prune(b.file))
}

/// What there is to know of the model, as JSON: its task with classes, strides and image size, and how inputs lie.
fn description(artefact: &Artefact<'_>, graph: &Graph) -> Result<String> {
    let names = names(graph);
    let layout = |i: &ValueInfo| {
        let last = names.channels_last.contains(&i.name);
        serde_json::json!({ "name": i.name, "layout": if last { "NHWC" } else { "as in ONNX" } })
    };
    let text = serde_json::json!({
        "made_by": format!("compresso {}", env!("CARGO_PKG_VERSION")),
        "precision": artefact.precision,
        "task": artefact.model.task(),
        "image_size": artefact.image_size,
        "inputs": graph.feeds().map(layout).collect::<Vec<_>>(),
        "outputs": graph.outputs().iter().map(|o| &o.name).collect::<Vec<_>>(),
    });
    serde_json::to_string(&text).map_err(|e| Error::internal("the model's description cannot be written").because(e))
}
