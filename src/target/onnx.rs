//! ONNX files for any runtime.

use super::{Artefact, Destination, Finding, Float16, Names, Severity, Takes, TargetSpec};
use crate::onnxruntime::integers;
use compresso_base::error::Result;
use compresso_model::Graph;
use compresso_model::passes::pipelines;
use std::path::{Path, PathBuf};

/// The format without a certain runtime in mind. All that ONNX has may stand in it; it is quantized as onnxruntime, the
/// runtime of the format's makers, wants it.
pub const SPEC: TargetSpec = TargetSpec {
    name: "onnx",
    title: "ONNX",
    summary: "An ONNX file for any runtime",
    operators: Takes::AllBut(&[]),
    elements: Takes::AllBut(&[]),
    advice: &[],
    rules: &[old_opset],
    quantization: Some(integers::QUANTIZATION),
    pipeline: pipelines::INFERENCE,
    open_sizes: true,
    empty: true,
    float16: Float16::Typed,
    destination: Destination::File("onnx"),
    calibration: false,
    names: Names::same,
    told: |_| Ok(Vec::new()),
    runtime: Some("onnxruntime"),
    write,
};

/// Quantization per channel came with operator set 13.
pub(super) fn old_opset(graph: &Graph) -> Result<Vec<Finding>> {
    let opset = graph.opset();
    let finding = || Finding {
        severity: Severity::Advice,
        place: String::new(),
        message: format!("operator set {opset} has no quantization per channel; opset: 13 raises it"),
    };
    Ok((opset < 13).then(finding).into_iter().collect())
}

fn write(artefact: &Artefact<'_>, file: &Path) -> Result<Vec<PathBuf>> {
    artefact.model.save(file)?;
    Ok(vec![file.to_path_buf()])
}
