//! Plans of [TensorRT for RTX](https://docs.nvidia.com/deeplearning/tensorrt-rtx/), which its Python package builds without a GPU.
//!
//! They are no engines of TensorRT: only TensorRT for RTX loads them, and compiles the kernels there for the card that it finds.

use super::builder::logged;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_measure::runtimes::python::python_with;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = include_str!("rtx.py");

/// The interpreter that has the package, or what to do to have one.
pub(super) fn find() -> std::result::Result<PathBuf, String> {
    let get = "pip install tensorrt-rtx, or set COMPRESSO_PYTHON to an interpreter that has it";
    python_with("tensorrt_rtx_bindings").ok_or_else(|| format!("no TensorRT for RTX on this machine: {get}"))
}

/// Makes the file `plan` of the graph `onnx` in the folder. The inner error is the builder's last words.
pub(super) fn run(
    interpreter: &Path,
    folder: &Path,
    [onnx, plan]: [&str; 2],
    ctx: &Context,
) -> Result<std::result::Result<PathBuf, String>> {
    // One of a model before is not taken for this one.
    let made = folder.join(plan);
    match std::fs::remove_file(&made) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&made, e)),
        _ => {}
    }
    let mut command = Command::new(interpreter);
    command.args(["-B", "-c", PROGRAM]).arg(folder).args([onnx, plan]);
    let told = |line: &str| Some(serde_json::from_str::<serde_json::Value>(line).ok()?["error"].as_str()?.to_string());
    logged(command, folder, plan, "build plan", |log| log.lines().rev().find_map(told), ctx)
}
