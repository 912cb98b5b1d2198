//! Runtimes that can run a model: this library's own executor, and others found on the machine.

mod convert;
mod locate;
pub mod native;
pub mod onnxruntime;

use crate::error::Result;
use crate::exec::Outputs;
use crate::model::Value;
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
