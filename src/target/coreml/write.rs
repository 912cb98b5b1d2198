//! Writing the package, and what lint says of a model.

use super::describe::describe;
use super::image::Pixels;
use super::names::Features;
use super::serialize::{serialize, version};
use super::translate::translate;
use super::weights::Weights;
use super::wire::Message;
use crate::lint::first_refusal;
use crate::{Artefact, Finding, Severity};
use compresso_base::error::{Error, Result};
use compresso_base::files::write_file;
use compresso_base::operation::Digest;
use compresso_model::Graph;
use compresso_model::graph::{fix_sizes, specialize};
use compresso_model::passes::pipelines;
use std::path::{Path, PathBuf};

/// Setting of an artefact: its only input is an image of bytes.
pub const IMAGE: &str = "image";

const MODEL: &str = "com.apple.CoreML/model.mlmodel";
const WEIGHTS: &str = "com.apple.CoreML/weights";

/// The graph that is translated: its sizes are fixed, and activations of several nodes are joined.
fn prepared(graph: &Graph, batch: usize, image: Option<[usize; 2]>) -> Result<Graph> {
    pipelines::NATIVE.run(&fix_sizes(graph, batch, image)?).map(|out| out.graph)
}

/// All nodes that cannot be written, with the reason: what the writer itself says of the graph that it would write; and names that change.
pub(super) fn unwritable(graph: &Graph) -> Result<Vec<Finding>> {
    let advice = |place: String, message: String| Finding { severity: Severity::Advice, place, message };
    let mut findings: Vec<Finding> = Features::of(graph)
        .changed()
        .map(|(what, own, made)| {
            advice(format!("{what} '{own}'"), format!("it is called '{made}' in the file, whose names are letters, digits and _"))
        })
        .collect();
    if let Some(input) = graph.feeds().find(|input| specialize(&input.fact, 1, None).dims().is_none()) {
        let message =
            format!("it is {}; the file has fixed sizes, and what of the graph Core ML lacks is told when they are known", input.fact);
        findings.push(advice(format!("input '{}'", input.name), message));
        return Ok(findings);
    }
    let refused = translate(&prepared(graph, 1, None)?, Weights::Kept, None)?.err().unwrap_or_default();
    findings.extend(refused.iter().map(|e| Finding::refusal(e, e.places().next())));
    Ok(findings)
}

/// The graph that a file of this one computes: what is known of sizes is filled in, and weights are those that the file stands for.
///
/// # Errors
/// As the passes.
pub fn computed(graph: &Graph, weights: Weights) -> Result<Graph> {
    super::weights::decoded(&prepared(graph, 1, None)?, weights)
}

/// Writes `Manifest.json`, the model and its weights into a folder.
pub(super) fn write(artefact: &Artefact<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let graph = prepared(artefact.model.graph(), artefact.batch[0], artefact.image_size)?;
    let weights = Weights::of(artefact.settings)?;
    let image = match artefact.settings.get(IMAGE).and_then(serde_json::Value::as_bool) {
        Some(true) => Some(Pixels::of(only_input(&graph)?, artefact.model.task())),
        _ => None,
    };
    let program = translate(&graph, weights, image.as_ref())?.map_err(|wrong| first_refusal(wrong, "coreml"))?;
    let (body, numbers) = serialize(&program);
    let about = describe(&program, artefact, image.as_ref());
    let (_, number) = version(&program);
    let model = Message::new().number(1, number).message(2, &about).message(502, &body).finish();
    let data = folder.join("Data");
    let files = [data.join(MODEL), data.join(WEIGHTS).join("weight.bin"), folder.join("Manifest.json")];
    for file in &files {
        compresso_base::files::make_parent(file)?;
    }
    write_file(&files[0], &model)?;
    write_file(&files[1], &numbers)?;
    write_file(&files[2], manifest(&model, &numbers).as_bytes())?;
    Ok(files.to_vec())
}

fn only_input(graph: &Graph) -> Result<&str> {
    let names: Vec<&str> = graph.feeds().map(|i| i.name.as_str()).collect();
    match names.as_slice() {
        [name] => Ok(name),
        _ => Err(Error::argument(format!("image: true needs a model with one input, this one has {}", names.join(", ")))),
    }
}

/// The package's list of what is in it; identifiers follow from the content.
fn manifest(model: &[u8], numbers: &[u8]) -> String {
    const AUTHOR: &str = "com.apple.CoreML";
    let entry =
        |name: &str, about: &str, path: &str| serde_json::json!({ "author": AUTHOR, "description": about, "name": name, "path": path });
    let (own, other) = (identifier(b"model", model), identifier(b"weights", numbers));
    let manifest = serde_json::json!({
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            own.clone(): entry("model.mlmodel", "CoreML Model Specification", MODEL),
            other: entry("weights", "CoreML Model Weights", WEIGHTS),
        },
        "rootModelIdentifier": own,
    });
    format!("{manifest:#}\n")
}

/// A UUID of version 8 (RFC 9562), made of a hash.
fn identifier(what: &[u8], content: &[u8]) -> String {
    let hash = Digest::of([what, content].concat()).to_string();
    format!("{}-{}-8{}-8{}-{}", &hash[..8], &hash[8..12], &hash[13..16], &hash[17..20], &hash[20..32])
}
