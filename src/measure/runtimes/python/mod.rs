//! Runtimes that are Python packages: OpenVINO, LiteRT, ncnn.
//!
//! Each model has a Python process of its own, which speaks the [protocol](crate::worker::protocol) of this library's workers
//! (`worker.py`) and takes the times around the runtime's own call. The package is looked for in the interpreter that
//! [`VARIABLE`] names, and in the Python environments in reach.

use super::{Absent, Artefact, Found, Opening, Runtime, RuntimeSpec, locate};
use crate::worker::{Carrier, Order, Process};
use compresso_base::error::{Error, Result};
use compresso_exec::Outputs;
use compresso_model::Value;
use compresso_target::{ncnn, openvino, tflite, write_model};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

/// Names the interpreter whose packages are used.
pub const VARIABLE: &str = "COMPRESSO_PYTHON";

const PROGRAM: &str = include_str!("worker.py");

/// A runtime, from its package and its target.
macro_rules! runtime {
    ($name:ident, $package:ident, $target:ident, $file:literal, $of:expr, $summary:literal, $get:literal) => {
        const $package: Package = $of;

        pub(super) const $name: RuntimeSpec = RuntimeSpec {
            name: $package.runtime,
            summary: $summary,
            get: $get,
            find: || $package.find(),
            artefact: Artefact {
                file: $file,
                write: |model, path| write_model(&$target::SPEC, model, path).and_then(first),
                open_sizes: $target::SPEC.open_sizes,
                names: $target::SPEC.names,
            },
            open: |o| $package.open(o),
            worker: Some(|| $package.worker()),
            usual: false,
            train: None,
            profiles: false,
        };
    };
}

/// The file that a runtime opens, of those that were written.
fn first(files: Vec<PathBuf>) -> Result<PathBuf> {
    files.into_iter().next().ok_or_else(|| Error::internal("nothing was written"))
}

runtime! {
    OPENVINO, OPENVINO_PACKAGE, openvino, "model.xml",
    Package { runtime: "openvino", module: "openvino", distribution: "openvino" },
    "OpenVINO's CPU plugin", "pip install openvino, or set COMPRESSO_PYTHON to an interpreter that has it"
}

runtime! {
    TFLITE, TFLITE_PACKAGE, tflite, "model.tflite",
    Package { runtime: "tflite", module: "ai_edge_litert", distribution: "ai_edge_litert" },
    "LiteRT, the interpreter of TensorFlow Lite", "pip install ai-edge-litert, or set COMPRESSO_PYTHON to an interpreter that has it"
}

runtime! {
    NCNN, NCNN_PACKAGE, ncnn, "model_ncnn_model",
    Package { runtime: "ncnn", module: "ncnn", distribution: "ncnn" },
    "ncnn's CPU layers", "pip install ncnn, or set COMPRESSO_PYTHON to an interpreter that has it"
}

/// An interpreter in reach that has a package: the one that [`VARIABLE`] names, else one of the Python environments.
pub fn python_with(module: &str) -> Option<PathBuf> {
    locate::interpreters(VARIABLE).into_iter().find(|(_, site)| site.join(module).is_dir()).map(|(interpreter, _)| interpreter)
}

/// A package of Python.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package {
    /// Name of the runtime.
    pub runtime: &'static str,
    /// As it is imported: a folder of `site-packages`.
    pub module: &'static str,
    /// As its `dist-info` has it.
    pub distribution: &'static str,
}

impl Package {
    fn search(&self) -> std::result::Result<(PathBuf, Found), Absent> {
        let mut searched = Vec::new();
        for (interpreter, site) in locate::interpreters(VARIABLE) {
            let place = site.join(self.module);
            if place.is_dir() {
                let version = locate::version(&site, self.distribution).unwrap_or_else(|| "unknown".into());
                return Ok((interpreter, Found { version, place: Some(place) }));
            }
            searched.push(site);
        }
        Err(Absent { reason: format!("no Python package {} in reach", self.distribution.replace('_', "-")), searched })
    }

    pub fn find(&self) -> std::result::Result<Found, Absent> {
        self.search().map(|(_, found)| found)
    }

    /// What carries one model.
    pub fn worker(&self) -> Result<Command> {
        let (interpreter, _) = self.search().map_err(|absent| Error::unavailable(absent.reason))?;
        let mut command = Command::new(interpreter);
        let hello = serde_json::to_string(&crate::worker::protocol::Hello::ours());
        let hello = hello.map_err(|e| Error::internal("a greeting is no JSON").because(e))?;
        // Nothing is written beside the packages, and numpy's own threads stay out of the way.
        command.args(["-B", "-c", PROGRAM, self.runtime, &hello]).env("OPENBLAS_NUM_THREADS", "1");
        Ok(command)
    }

    pub fn open<'a>(&self, opening: &Opening<'a>) -> Result<Box<dyn Runtime + 'a>> {
        let order = Order {
            runtime: self.runtime.into(),
            file: opening.file.clone(),
            threads: opening.threads,
            cores: Vec::new(),
            training: false,
            gpu: None,
            seed: opening.ctx.seed,
            memory: None,
            names: opening.names.clone(),
            inputs: Vec::new(),
        };
        let process = Process::open(self.worker()?, &order, &opening.ctx.cancel).map_err(|f| f.error())?;
        Ok(Box::new(Apart { process, fed: HashMap::new() }))
    }
}

/// A model in another process, as if it were in this one.
struct Apart {
    process: Process,
    fed: HashMap<String, Value>,
}

impl Runtime for Apart {
    fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs> {
        self.process.run(feeds).map_err(|f| f.error())
    }
    fn feed(&mut self, feeds: &HashMap<String, Value>) -> Result<()> {
        self.fed.clone_from(feeds);
        Ok(())
    }
    fn step(&mut self) -> Result<()> {
        self.process.run(&self.fed).map(drop).map_err(|f| f.error())
    }
}
