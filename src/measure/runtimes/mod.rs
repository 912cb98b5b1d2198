//! Runtimes that can run a model: this library's own executor, and others found on the machine.

mod convert;
mod locate;
pub mod native;
pub mod onnxruntime;
pub mod training;

use compresso_base::error::{Error, Result, nearest};
use compresso_exec::Outputs;
use compresso_model::{Graph, Value};
use std::collections::HashMap;

/// Something that runs one loaded model.
pub trait Runtime: Send {
    /// As users call it: `native`, `onnxruntime`.
    fn name(&self) -> &'static str;
    /// Version of the runtime's library.
    fn version(&self) -> String;
    /// Runs the model on values by input name.
    ///
    /// # Errors
    /// `Argument`, `DType` or `Shape` for inputs that do not fit; whatever the runtime reports.
    fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs>;
    /// Converts inputs once, for repeated [`Runtime::step`]s. Timing leaves this out.
    fn feed(&mut self, feeds: &HashMap<String, Value>) -> Result<()>;
    /// Runs once on the inputs of the last [`Runtime::feed`] and drops the outputs.
    fn step(&mut self) -> Result<()>;
}

/// The shared library whose file name starts with `stem`: in the files and folders that `variables` name, in `package`
/// of the Python environments in reach, or where systems keep libraries.
pub fn find_library(stem: &str, variables: &[&str], package: &str) -> Option<std::path::PathBuf> {
    locate::library(stem, variables, package).found
}

/// Names of the runtimes that [`open`] knows.
pub const NAMES: &[&str] = &["native", "onnxruntime"];

/// The runtimes that this machine has.
pub fn found() -> Vec<&'static str> {
    NAMES.iter().copied().filter(|&n| n != "onnxruntime" || onnxruntime::find().is_ok()).collect()
}

/// Loads a graph into a runtime.
///
/// # Errors
/// `Argument` for an unknown name; `Unavailable` for a runtime that is not on this machine; `Unsupported` when it refuses
/// the model.
pub fn open(name: &str, graph: &Graph, threads: usize) -> Result<Box<dyn Runtime>> {
    match name {
        "native" => Ok(Box::new(native::Native::new(graph, threads)?)),
        "onnxruntime" => Ok(Box::new(onnxruntime::Session::from_graph(graph, threads)?)),
        _ => {
            let e = Error::argument(format!("there is no runtime '{name}'"));
            Err(match nearest(name, NAMES.iter().copied()) {
                Some(near) => e.hint(format!("did you mean '{near}'?")),
                None => e.hint(format!("the runtimes are {}", NAMES.join(", "))),
            })
        }
    }
}
