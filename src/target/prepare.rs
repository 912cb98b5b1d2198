//! A model as a target's writer takes it.

use super::{Artefact, Destination, ExportPrecision, Finding, Severity, TargetSpec, lint};
use compresso_base::error::{Error, Result};
use compresso_model::{Graph, Model};
use std::path::{Path, PathBuf};

/// What the target has to say of a graph that it takes.
///
/// # Errors
/// `Unsupported`, naming the first node, when it would refuse the graph.
pub fn accepted(target: &TargetSpec, graph: &Graph) -> Result<Vec<String>> {
    let findings = lint(target, graph)?;
    let refused: Vec<&Finding> = findings.iter().filter(|f| f.severity == Severity::Error).collect();
    if let Some(first) = refused.first() {
        let e = Error::unsupported(format!("{} refuses {} of the model's nodes: {}", target.title, refused.len(), first.message));
        return Err(e.at(first.place.clone()).hint(format!("lint(m, \"{}\") lists them all", target.name)));
    }
    let told = |f: &Finding| if f.place.is_empty() { f.message.clone() } else { format!("{}: {}", f.place, f.message) };
    Ok(findings.iter().map(told).collect())
}

/// Writes a model as it is: in float32, or with the integers that it has. `path` names the file, whose folder is there; where the target
/// writes several, it is their folder.
///
/// # Errors
/// As [`accepted`]; what the passes and the writer report.
pub fn write_model(target: &TargetSpec, model: &Model, path: &Path) -> Result<Vec<PathBuf>> {
    let precision = ExportPrecision::of(model.graph());
    let made = if precision == ExportPrecision::Int8 {
        model.clone()
    } else {
        // The file is read once and thrown away: it needs no recipe.
        Model::new(target.pipeline.run(model.graph())?.graph, model.task().clone())
    };
    let notes = accepted(target, made.graph())?;
    if !matches!(target.destination, Destination::File(_)) {
        std::fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
    }
    let artefact = Artefact {
        model: &made,
        precision,
        name: "model",
        batch: [1, 1],
        image_size: made.image_size(),
        calibration: None,
        notes: &notes,
        settings: &serde_json::Map::new(),
    };
    (target.write)(&artefact, path)
}
