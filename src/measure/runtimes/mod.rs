//! Runtimes that can run a model: this library's own executor, and others found on the machine.
//!
//! A runtime is one file with a [`RuntimeSpec`], and one line in [`RUNTIMES`]. Help, completion, `doctor`, errors and
//! `benchmark` read the table; see docs/adding-a-runtime.md.

mod artefact;
mod cuda;
mod locate;
mod name;
pub mod native;
pub mod onnxruntime;
pub mod python;

#[cfg(test)]
mod eager;
#[cfg(test)]
mod tests;

pub use artefact::{Artefact, Files, ONNX};
pub use name::RuntimeName;

use compresso_base::context::Context;
use compresso_base::error::{Error, Result, nearest};
use compresso_exec::{Outputs, StepTime};
use compresso_model::{Model, Value};
use compresso_target::Names;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

/// The runtimes that there are, in the order of reports.
pub const RUNTIMES: &[&RuntimeSpec] = &[
    &native::SPEC,
    &cuda::SPEC,
    &onnxruntime::SPEC,
    &python::OPENVINO,
    &python::TFLITE,
    &python::NCNN,
    #[cfg(test)]
    &eager::SPEC,
];

/// Names of [`RUNTIMES`].
pub const NAMES: [&str; RUNTIMES.len()] = {
    let mut names = [""; RUNTIMES.len()];
    let mut i = 0;
    while i < RUNTIMES.len() {
        names[i] = RUNTIMES[i].name;
        i += 1;
    }
    names
};

/// What is to be known of a runtime.
pub struct RuntimeSpec {
    /// As users call it.
    pub name: &'static str,
    /// One sentence, without a full stop.
    pub summary: &'static str,
    /// How to get it: one clause. Empty for what every build has.
    pub get: &'static str,
    /// Looks for it on this machine, and loads its library. Called often: what takes time is kept.
    pub find: fn() -> std::result::Result<Found, Absent>,
    /// What it loads.
    pub artefact: Artefact,
    /// Loads a model for inference.
    pub open: Open,
    /// The program that carries a model, speaking the [protocol](crate::worker::protocol) of workers; `None` for a runtime that is
    /// a library, which this program loads.
    pub worker: Option<fn() -> Result<Command>>,
    /// Measured when no runtime is named.
    pub usual: bool,
    /// Loads a model for training: its step is forward, backward and update. `None` for runtimes that do not train.
    pub train: Option<Open>,
    /// [`Runtime::profile`] tells the times of a plan's steps.
    pub profiles: bool,
}

/// Loads the artefact of a model.
///
/// # Errors
/// `Unavailable` for a runtime that is not on this machine; `Unsupported` when it refuses the model.
pub type Open = for<'a> fn(&Opening<'a>) -> Result<Box<dyn Runtime + 'a>>;

/// What a runtime opens.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The artefact. It may be gone once the model is open.
    pub file: PathBuf,
    /// What the artefact calls inputs and outputs.
    pub names: Names,
    /// Threads that it may use.
    pub threads: usize,
    /// Device and seed of training, cancellation.
    pub ctx: &'a Context,
}

/// A runtime that is on this machine.
#[derive(Debug, Clone)]
pub struct Found {
    /// As its library or package says.
    pub version: String,
    /// Its library; `None` where it is part of this program.
    pub place: Option<PathBuf>,
}

/// Why a runtime cannot be used.
#[derive(Debug, Clone, Default)]
pub struct Absent {
    /// A short clause.
    pub reason: String,
    /// Files and folders that were looked at, where none of them had it.
    pub searched: Vec<PathBuf>,
}

/// Something that runs one loaded model.
pub trait Runtime: Send {
    /// Runs the model on values by input name.
    ///
    /// # Errors
    /// `Argument`, `DType` or `Shape` for inputs that do not fit; whatever the runtime reports.
    fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs>;
    /// Converts inputs once, for repeated [`Runtime::step`]s. Timing leaves this out.
    fn feed(&mut self, feeds: &HashMap<String, Value>) -> Result<()>;
    /// Runs once on the inputs of the last [`Runtime::feed`] and drops the outputs.
    fn step(&mut self) -> Result<()>;
    /// The least time of each step of the plan in `runs` runs on the inputs of the last [`Runtime::feed`].
    ///
    /// # Errors
    /// `Unsupported` where there is no plan, saying why.
    fn profile(&mut self, _runs: usize) -> Result<Vec<StepTime>> {
        Err(Error::unsupported("this runtime does not tell the times of its steps"))
    }
}

impl std::fmt::Debug for RuntimeSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuntimeSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RuntimeSpec {
    /// The runtime, if it is on this machine.
    ///
    /// # Errors
    /// `Unavailable`, saying what was looked for, where, and how to get it.
    pub fn require(&self) -> Result<Found> {
        (self.find)().map_err(|absent| self.missing(&absent))
    }

    /// The error of a runtime that is not there.
    fn missing(&self, absent: &Absent) -> Error {
        let tried: Vec<String> = absent.searched.iter().map(|p| p.display().to_string()).collect();
        let places = if tried.is_empty() { String::new() } else { format!("; looked in {}", tried.join(", ")) };
        Error::unavailable(format!("{} cannot be used: {}{places}", self.name, absent.reason)).hint(self.get)
    }

    /// Loads a model into this process.
    ///
    /// # Errors
    /// As [`Open`]; `Io` when the artefact cannot be written.
    pub fn open_model<'a>(&self, model: &Model, threads: usize, ctx: &'a Context) -> Result<Box<dyn Runtime + 'a>> {
        self.require()?;
        let files = Files::new(model)?;
        let (file, model) = files.of(&self.artefact, 1, None, true)?;
        let names = (self.artefact.names)(model.graph());
        (self.open)(&Opening { file, names, threads, ctx })
    }
}

/// The runtime of this name.
///
/// # Errors
/// `Argument` for an unknown name, with the nearest one.
pub fn named(name: &str) -> Result<&'static RuntimeSpec> {
    RUNTIMES.iter().copied().find(|r| r.name == name).ok_or_else(|| {
        let e = Error::argument(format!("there is no runtime '{name}'"));
        match nearest(name, NAMES) {
            Some(near) => e.hint(format!("did you mean '{near}'?")),
            None => e.hint(format!("the runtimes are {}", NAMES.join(", "))),
        }
    })
}

/// The shared library whose file name starts with `stem`: in the files and folders that `variables` name, in `package`
/// of the Python environments in reach, or where systems keep libraries.
pub fn find_library(stem: &str, variables: &[&str], package: &str) -> Option<PathBuf> {
    locate::library(stem, variables, package).found
}
