//! The script that builds an engine with trtexec, TensorRT's own command.

use super::sparsity::has_two_in_four;
use crate::{Artefact, ExportPrecision};
use compresso_base::error::{Error, Result};
use compresso_model::Fact;
use compresso_model::graph::specialize;

/// The setting that says how much memory the builder may use, in MiB.
pub const WORKSPACE: &str = "workspace";

/// Lets the builder try sparse tensor cores.
pub(super) const SPARSE: &str = "--sparsity=enable";

/// trtexec's arguments, without the one that depends on its version. `onnx` and `engine` are file names.
///
/// # Errors
/// `Argument` when sizes other than the batch are left open.
pub(super) fn arguments(artefact: &Artefact<'_>, onnx: &str, engine: &str) -> Result<Vec<String>> {
    let mut args = vec![format!("--onnx={onnx}"), format!("--saveEngine={engine}")];
    let profile = profile(artefact)?;
    for (at, option) in ["minShapes", "optShapes", "maxShapes"].into_iter().enumerate().filter(|_| !profile.is_empty()) {
        let of = |p: &Profile| format!("{}:{}", p.input, p.sizes[at].iter().map(ToString::to_string).collect::<Vec<_>>().join("x"));
        args.push(format!("--{option}={}", profile.iter().map(of).collect::<Vec<_>>().join(",")));
    }
    if has_two_in_four(artefact.model.graph())? {
        args.push(SPARSE.into());
    }
    args.extend(artefact.settings.get(WORKSPACE).map(|mib| format!("--memPoolSize=workspace:{mib}")));
    Ok(args)
}

/// The sizes that an engine is built for, of an input that leaves some open.
pub(super) struct Profile {
    pub input: String,
    /// At the smallest batch, the one that is tuned for, and the largest.
    pub sizes: [Vec<usize>; 3],
}

/// The optimization profile of the inputs with open sizes.
///
/// # Errors
/// `Argument` when sizes other than the batch are left open.
pub(super) fn profile(artefact: &Artefact<'_>) -> Result<Vec<Profile>> {
    let open = artefact.model.graph().feeds().filter(|i| i.fact.dims().is_none());
    let [batch, largest] = artefact.batch;
    open.map(|input| {
        let sizes = |batch| {
            let fact: Fact = specialize(&input.fact, batch, artefact.image_size);
            fact.dims().ok_or_else(|| {
                Error::argument(format!("the input '{}' is {}, with sizes left open", input.name, input.fact))
                    .hint("load the model with image_size: [height, width]")
            })
        };
        Ok(Profile { input: input.name.clone(), sizes: [sizes(1)?, sizes(batch)?, sizes(largest)?] })
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
