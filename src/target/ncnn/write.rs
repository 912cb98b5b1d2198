//! The files for NCNN.

use super::encode::{bin, param};
use super::fixed::fixed;
use super::metadata::metadata;
use super::translate::translate;
use crate::{Artefact, ExportPrecision, Names, write_text};
use compresso_base::error::{Error, Result};
use compresso_base::files::write_file;
use compresso_model::Graph;
use std::path::{Path, PathBuf};

pub(super) fn write(artefact: &Artefact<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    if let Some(batch) = artefact.batch.iter().find(|&&b| b != 1) {
        return Err(Error::argument(format!("NCNN runs one image at a time: its blobs have no batch, and batch is {batch}"))
            .hint("leave out batch and max_batch"));
    }
    let graph = fixed(artefact.model.graph(), artefact.image_size.or_else(|| artefact.model.image_size()))?;
    let (translated, refused) = translate(&graph)?;
    if let Some(first) = refused.into_iter().next() {
        return Err(first);
    }
    let [layers, weights] = ["param", "bin"].map(|ending| folder.join(format!("{}.ncnn.{ending}", artefact.name)));
    let about = folder.join("metadata.yaml");
    write_text(&layers, &param(&translated.net)?)?;
    write_file(&weights, &bin(&translated.net, artefact.precision == ExportPrecision::Fp16))?;
    write_text(&about, &metadata(artefact, &graph, &translated))?;
    Ok(vec![layers, weights, about])
}

/// Blobs are numbered as inputs and outputs stand in the graph.
pub(super) fn names(graph: &Graph) -> Names {
    let inputs = graph.feeds().enumerate().map(|(i, x)| (x.name.clone(), format!("in{i}")));
    let outputs = graph.outputs().iter().enumerate().map(|(i, y)| (y.name.clone(), format!("out{i}")));
    Names { inputs: inputs.collect(), outputs: outputs.collect(), ..Names::default() }
}
