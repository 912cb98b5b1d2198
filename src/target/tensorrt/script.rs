//! The script that builds an engine with trtexec, TensorRT's own command.

use crate::{Artefact, ExportPrecision};
use compresso_base::error::{Error, Result};
use compresso_model::Fact;
use compresso_model::graph::specialize;

/// The setting that says how much memory the builder may use, in MiB.
pub const WORKSPACE: &str = "workspace";

/// trtexec's arguments, without the one that depends on its version. `onnx` and `engine` are file names.
///
/// # Errors
/// `Argument` when sizes other than the batch are left open.
pub(super) fn arguments(artefact: &Artefact<'_>, onnx: &str, engine: &str) -> Result<Vec<String>> {
    let mut args = vec![format!("--onnx={onnx}"), format!("--saveEngine={engine}")];
    let [batch, largest] = artefact.batch;
    for (option, batch) in [("minShapes", 1), ("optShapes", batch), ("maxShapes", largest)] {
        let shapes = shapes(artefact, batch)?;
        if !shapes.is_empty() {
            args.push(format!("--{option}={}", shapes.join(",")));
        }
    }
    args.extend(artefact.settings.get(WORKSPACE).map(|mib| format!("--memPoolSize=workspace:{mib}")));
    Ok(args)
}

/// `name:1x3x640x640` of each input with open sizes.
fn shapes(artefact: &Artefact<'_>, batch: usize) -> Result<Vec<String>> {
    let open = artefact.model.graph().feeds().filter(|i| i.fact.dims().is_none());
    open.map(|input| {
        let fact: Fact = specialize(&input.fact, batch, artefact.image_size);
        let dims = fact.dims().ok_or_else(|| {
            Error::argument(format!("the input '{}' is {}, with sizes left open", input.name, input.fact))
                .hint("load the model with image_size: [height, width]")
        })?;
        let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
        Ok(format!("{}:{}", input.name, dims.join("x")))
    })
    .collect()
}

/// A shell script that builds the engine beside itself.
pub(super) fn script(precision: ExportPrecision, arguments: &[String], onnx: &str, engine: &str) -> String {
    let older = match precision {
        // The others it does not have, which `deploy` says.
        ExportPrecision::Fp32 | ExportPrecision::Dynamic | ExportPrecision::Int16 => "",
        ExportPrecision::Fp16 => "--fp16",
        ExportPrecision::Int8 => "--int8",
    };
    let quoted: Vec<String> = arguments.iter().map(|a| format!("  '{}'", a.replace('\'', r"'\''"))).collect();
    format!(
        "#!/bin/sh\n\
         # Builds {engine} from {onnx}. Needs TensorRT's trtexec (on the PATH, or named by TRTEXEC) and an NVIDIA GPU.\n\
         set -eu\n\
         cd \"$(dirname \"$0\")\"\n\
         trtexec=\"${{TRTEXEC:-trtexec}}\"\n\
         # TensorRT 10 and newer take the precision from the graph; older ones are told.\n\
         if \"$trtexec\" --help 2>&1 | grep -q -e --stronglyTyped; then typed=--stronglyTyped; else typed='{older}'; fi\n\
         exec \"$trtexec\" $typed \\\n{args}\n",
        args = quoted.join(" \\\n")
    )
}
