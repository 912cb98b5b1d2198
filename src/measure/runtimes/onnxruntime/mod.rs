//! onnxruntime, loaded from a shared library found at run time.
//!
//! The library is looked for in `ORT_DYLIB_PATH` and `COMPRESSO_ONNXRUNTIME` (a file or a folder), in the `onnxruntime`
//! package of the Python environments in reach, and where systems keep libraries. Version 1.24 or newer is needed.

mod convert;

use super::{Absent, Found, ONNX, Runtime, RuntimeSpec, locate};
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_exec::Outputs;
use compresso_model::{Graph, Value, onnx};
use convert::{failed, from_ort, to_ort};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::DynTensor;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub(super) const SPEC: RuntimeSpec = RuntimeSpec {
    name: "onnxruntime",
    summary: "onnxruntime's CPU provider",
    get: "pip install onnxruntime, or set COMPRESSO_ONNXRUNTIME to libonnxruntime (1.24 or newer)",
    find: || library().map(|l| Found { version: l.version.clone(), place: Some(l.path.clone()) }),
    artefact: ONNX,
    open: |o| Ok(Box::new(Session::from_file(&o.file, o.threads)?)),
    worker: None,
    usual: true,
    train: None,
    profiles: false,
};

struct Library {
    environment: ort::environment::Environment,
    path: PathBuf,
    version: String,
}

/// A model loaded into onnxruntime's CPU provider.
pub struct Session {
    session: ort::session::Session,
    fed: Vec<(String, DynTensor)>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("inputs", &self.session.inputs().len()).finish_non_exhaustive()
    }
}

/// The library in use, or why there is none.
fn library() -> std::result::Result<&'static Library, Absent> {
    static LIBRARY: OnceLock<std::result::Result<Library, Absent>> = OnceLock::new();
    LIBRARY.get_or_init(load).as_ref().map_err(Clone::clone)
}

/// Names the library, or its folder.
pub const VARIABLE: &str = "COMPRESSO_ONNXRUNTIME";

fn search() -> locate::Search {
    locate::library("libonnxruntime", &["ORT_DYLIB_PATH", VARIABLE], "onnxruntime/capi")
}

/// Where the library is; it is not opened.
pub fn place() -> Option<std::path::PathBuf> {
    search().found
}

fn load() -> std::result::Result<Library, Absent> {
    let search = search();
    let absent = || Absent { reason: "no libonnxruntime on this machine".into(), searched: search.tried.clone() };
    let path = search.found.clone().ok_or_else(absent)?;
    let environment = ort::init_from(&path)
        .map_err(|e| e.to_string())
        .and_then(|b| b.with_telemetry(false).build().map_err(|e| e.to_string()))
        .map_err(|e| Absent { reason: format!("{} does not load ({})", path.display(), first_line(&e)), searched: Vec::new() })?;
    // Its warnings (unused initializers, shape merges) would mix with ours on the terminal.
    environment.set_log_level(ort::logging::LogLevel::Error);
    let version = version_in(&path).unwrap_or_else(|| "unknown".into());
    Ok(Library { environment, path, version })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The version in a library's file name, or that of the Python package around it.
fn version_in(path: &Path) -> Option<String> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = real.file_name()?.to_str()?;
    let digits = name.split(".so.").nth(1).filter(|v| v.starts_with(|c: char| c.is_ascii_digit()));
    digits.filter(|v| v.contains('.')).map(str::to_string)
}

impl Session {
    /// Loads an encoded ONNX model.
    ///
    /// # Errors
    /// `Unavailable` without a library; `Unsupported` with onnxruntime's own message when it refuses the model.
    pub fn from_bytes(bytes: &[u8], threads: usize) -> Result<Self> {
        Self::load(GraphOptimizationLevel::All, threads, |builder| builder.commit_from_memory(bytes))
    }
    /// Loads an ONNX file, and what stands beside it.
    ///
    /// # Errors
    /// `Io` when there is none; as [`Session::from_bytes`].
    pub fn from_file(path: impl AsRef<Path>, threads: usize) -> Result<Self> {
        let path = path.as_ref();
        std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        Self::load(GraphOptimizationLevel::All, threads, |builder| builder.commit_from_file(path)).map_err(|e| e.file(path))
    }
    /// Encodes a graph and loads it.
    ///
    /// # Errors
    /// As [`Session::from_bytes`].
    pub fn from_graph(graph: &Graph, threads: usize) -> Result<Self> {
        Self::from_bytes(&onnx::encode(graph)?, threads)
    }
    /// As [`Session::from_graph`], with every node run as it stands in the graph: no kernel does the work of several.
    ///
    /// # Errors
    /// As [`Session::from_bytes`].
    pub fn plain(graph: &Graph, threads: usize) -> Result<Self> {
        let bytes = onnx::encode(graph)?;
        Self::load(GraphOptimizationLevel::Disable, threads, |builder| builder.commit_from_memory(&bytes))
    }
    fn load(
        level: GraphOptimizationLevel,
        threads: usize,
        commit: impl FnOnce(&mut SessionBuilder) -> ort::Result<ort::session::Session>,
    ) -> Result<Self> {
        let library = library().map_err(|absent| SPEC.missing(&absent))?;
        let build = || -> ort::Result<ort::session::Session> {
            let mut builder = ort::session::Session::builder(&library.environment)?
                .with_optimization_level(level)?
                .with_intra_threads(threads.max(1))?
                .with_inter_threads(1)?
                // Its threads would go on looking for work after a run, on cores that others are measured on.
                .with_config_entry("session.force_spinning_stop", "1")?;
            commit(&mut builder)
        };
        let session = build()
            .map_err(|e| Error::new(ErrorKind::Unsupported, format!("onnxruntime refuses the model: {}", first_line(&e.to_string()))))?;
        Ok(Self { session, fed: Vec::new() })
    }
    /// Names of the inputs that must be fed.
    pub fn inputs(&self) -> Vec<String> {
        self.session.inputs().iter().map(|i| i.name().to_string()).collect()
    }
    /// Names of the outputs, in the model's order.
    pub fn outputs(&self) -> Vec<String> {
        self.session.outputs().iter().map(|o| o.name().to_string()).collect()
    }
    /// Runs the model on values by input name; outputs in the model's order.
    ///
    /// # Errors
    /// `Unsupported` for values that onnxruntime cannot take; `Internal` with its message when the run fails.
    pub fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs> {
        let names = self.outputs();
        let inputs = feeds.iter().map(|(name, v)| Ok((name.clone(), to_ort(v)?))).collect::<Result<Vec<_>>>()?;
        let found = self.session.run(inputs).map_err(failed)?;
        names
            .into_iter()
            .map(|name| {
                let value = found.get(&name).ok_or_else(|| Error::internal(format!("onnxruntime returned no '{name}'")))?;
                let value = from_ort(value).map_err(|e| e.at(format!("output '{name}'")))?;
                Ok((name, value))
            })
            .collect()
    }
}

impl Runtime for Session {
    fn run(&mut self, feeds: &HashMap<String, Value>) -> Result<Outputs> {
        Session::run(self, feeds)
    }
    fn feed(&mut self, feeds: &HashMap<String, Value>) -> Result<()> {
        self.fed = feeds.iter().map(|(name, v)| Ok((name.clone(), to_ort(v)?))).collect::<Result<_>>()?;
        Ok(())
    }
    fn step(&mut self) -> Result<()> {
        let views: Vec<(&str, ort::session::SessionInputValue<'_>)> =
            self.fed.iter().map(|(n, t)| (n.as_str(), ort::session::SessionInputValue::from(t))).collect();
        self.session.run(views).map(drop).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::tests::present;
    use candle_core::{Device, Tensor};
    use compresso_model::Element;

    #[test]
    fn versions_are_read_from_file_names() {
        assert_eq!(version_in(Path::new("/x/libonnxruntime.so.1.24.1")).as_deref(), Some("1.24.1"));
        assert_eq!(version_in(Path::new("/x/libonnxruntime.so")), None);
    }

    #[test]
    fn every_element_survives_the_way_there_and_back() {
        if !present(&SPEC) {
            return;
        }
        for (element, values) in [
            (Element::F32, vec![-1i64, 0, 3]),
            (Element::F16, vec![-1, 0, 3]),
            (Element::BF16, vec![-1, 0, 3]),
            (Element::F64, vec![-1, 0, 3]),
            (Element::I8, vec![-128, -1, 127]),
            (Element::U8, vec![0, 128, 255]),
            (Element::I16, vec![-32768, 0, 32767]),
            (Element::U16, vec![0, 1, 65535]),
            (Element::I32, vec![i64::from(i32::MIN), 0, 7]),
            (Element::I64, vec![i64::MIN, 0, i64::MAX]),
            (Element::Bool, vec![0, 1, 1]),
        ] {
            let t = Tensor::new(values.as_slice(), &Device::Cpu).unwrap().to_dtype(element.storage().unwrap()).unwrap();
            let value = Value::new(element, t.reshape((1, 3)).unwrap()).unwrap();
            let back = from_ort(&to_ort(&value).unwrap().into_dyn()).unwrap();
            assert_eq!((back.element, back.dims()), (element, &[1usize, 3][..]));
            assert_eq!(back.to_f64s().unwrap(), value.to_f64s().unwrap(), "{element}");
        }
    }

    #[test]
    fn a_broken_model_is_refused_with_the_runtimes_words() {
        if !present(&SPEC) {
            return;
        }
        let e = Session::from_bytes(&[1, 2, 3], 1).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().starts_with("onnxruntime refuses the model"), "{e}");
    }
}
