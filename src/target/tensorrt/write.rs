//! The files for TensorRT: typed graph, float graph with calibration cache, build script, manifest.

use super::cache::calibration_cache;
use super::script::{SPARSE, WORKSPACE, arguments, profile, script};
use crate::{Artefact, ExportPrecision, file_name, make_executable, write_text};
use compresso_base::error::{Error, Result};
use compresso_model::ValueInfo;
use std::path::{Path, PathBuf};

/// File name of the engine that the build script makes.
pub fn engine_file(name: &str, precision: ExportPrecision) -> String {
    file_name(name, precision, "engine")
}

/// Ending of a plan of TensorRT for RTX, which TensorRT itself does not load.
pub const RTX_ENDING: &str = "rtx.plan";

/// File name of the plan for TensorRT for RTX.
pub fn plan_file(name: &str, precision: ExportPrecision) -> String {
    file_name(name, precision, RTX_ENDING)
}

pub(super) fn write(artefact: &Artefact<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let onnx = file_name(artefact.name, artefact.precision, "onnx");
    let engine = engine_file(artefact.name, artefact.precision);
    let arguments = arguments(artefact, &onnx, &engine)?;
    let mut files = vec![folder.join(&onnx)];
    if let Some(calibration) = &artefact.calibration {
        let float = folder.join(file_name(artefact.name, ExportPrecision::Fp32, "onnx"));
        calibration.model.save(&float)?;
        let cache = folder.join("calibration.cache");
        write_text(&cache, &calibration_cache(calibration.ranges))?;
        files.extend([float, cache]);
    }
    artefact.model.save(&files[0])?;
    let build = folder.join("build.sh");
    write_text(&build, &script(artefact.precision, &arguments, &onnx, &engine))?;
    make_executable(&build)?;
    files.push(build);
    let path = folder.join("manifest.json");
    files.push(path.clone());
    write_text(&path, &manifest(artefact, &files, &arguments, &engine)?)?;
    Ok(files)
}

fn manifest(artefact: &Artefact<'_>, files: &[PathBuf], arguments: &[String], engine: &str) -> Result<String> {
    let names: Vec<String> = files.iter().filter_map(|f| Some(f.file_name()?.to_string_lossy().into_owned())).collect();
    let values =
        |infos: &mut dyn Iterator<Item = &ValueInfo>| -> Vec<String> { infos.map(|i| format!("{}: {}", i.name, i.fact)).collect() };
    let graph = artefact.model.graph();
    let profile: serde_json::Map<_, _> = profile(artefact)?
        .into_iter()
        .map(|p| (p.input, serde_json::json!({ "min": p.sizes[0], "opt": p.sizes[1], "max": p.sizes[2] })))
        .collect();
    let manifest = serde_json::json!({
        "made_by": format!("compresso {}", env!("CARGO_PKG_VERSION")),
        "precision": artefact.precision,
        "files": names,
        "inputs": values(&mut graph.feeds()),
        "outputs": values(&mut graph.outputs().iter()),
        "profile": profile,
        "sparse": arguments.iter().any(|a| a == SPARSE),
        "workspace_mib": artefact.settings.get(WORKSPACE),
        "trtexec": arguments,
        "engine": engine,
        "calibration_cache": (artefact.precision == ExportPrecision::Int8).then_some(
            "for TensorRT 8 to 10 without explicit quantization: trtexec --onnx=<fp32 graph> --int8 --calib=calibration.cache"
        ),
        "recipe": artefact.model.recipe(),
        "notes": artefact.notes,
    });
    serde_json::to_string_pretty(&manifest).map_err(|e| Error::internal("the manifest cannot be written").because(e))
}
