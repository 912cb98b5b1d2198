//! Writing the files, and what lint says of a model.

use super::translate::translate;
use super::{PIPELINE, metadata, xml};
use crate::lint::first_refusal;
use crate::{Artefact, ExportPrecision, Finding};
use compresso_base::error::{Error, Result};
use compresso_base::files::Stage;
use compresso_model::Graph;
use std::path::{Path, PathBuf};

/// File beside the network with what Ultralytics' loader reads, in folders of the name that it expects. Other folders may hold several
/// networks, and this name can be had once.
const METADATA: &str = "metadata.yaml";
const FOLDER: &str = "_openvino_model";

/// All nodes that cannot be written, with the reason: what the writer itself says of the graph that it would write.
pub(super) fn unwritable(graph: &Graph) -> Result<Vec<Finding>> {
    let prepared = PIPELINE.run(graph)?.graph;
    let refused = translate(&prepared, false)?.err().unwrap_or_default();
    Ok(refused.iter().map(|e| Finding::refusal(e, e.places().next())).collect())
}

/// Writes `model.xml`, `model.bin` and, of a model whose task is known, in a folder `…_openvino_model`, `metadata.yaml` beside them.
pub(super) fn write(artefact: &Artefact<'_>, file: &Path) -> Result<Vec<PathBuf>> {
    let prepared = PIPELINE.run(artefact.model.graph())?.graph;
    let net = translate(&prepared, artefact.precision == ExportPrecision::Fp16)?.map_err(|wrong| first_refusal(wrong, "openvino"))?;
    let (text, numbers) = xml::render(&net, prepared.name(), &metadata::info(artefact))?;
    let named = |path: &Path| path.file_name().map(PathBuf::from).ok_or_else(|| Error::argument("names no file").file(path));
    let binary = file.with_extension("bin");
    let stage = Stage::new(file.parent().unwrap_or(Path::new("")))?;
    stage.write(named(&binary)?, &numbers)?;
    let mut files = vec![file.to_path_buf(), binary];
    let whole = file.parent().and_then(Path::file_name).is_some_and(|n| n.to_string_lossy().ends_with(FOLDER));
    if let Some(text) = metadata::yaml(artefact).filter(|_| whole) {
        stage.write(METADATA, text.as_bytes())?;
        files.push(file.with_file_name(METADATA));
    }
    stage.write(named(file)?, text.as_bytes())?;
    stage.commit()?;
    Ok(files)
}
