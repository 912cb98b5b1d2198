//! Packages, read and run by tests/python/coreml_judge.py and held against our executor. Prediction itself needs macOS.

use super::common;
use candle_core::{Device, Tensor};
use compresso::exec::{self, Run};
use compresso::model::{Element, Fact, Graph, Value, weights};
use compresso_test_support::Draw;
use indexmap::IndexMap;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// What became of a package.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Verdict {
    pub error: Option<String>,
    pub outputs: BTreeMap<String, Compared>,
    /// The inputs' descriptions.
    pub inputs: Vec<String>,
    /// Of the specification.
    pub version: u32,
    /// How many of each kind.
    pub operations: BTreeMap<String, usize>,
    /// The metadata.
    pub about: BTreeMap<String, String>,
}

/// An output, held against ours.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Compared {
    pub error: Option<String>,
    /// The largest difference over the largest magnitude.
    pub worst: f64,
    pub cosine: f64,
}

impl Verdict {
    /// What is wrong beyond these bounds, a line for each output.
    pub fn wrong(&self, worst: f64, cosine: f64) -> Vec<String> {
        let told = |(name, c): (&String, &Compared)| match &c.error {
            Some(e) => Some(format!("{name} {e}")),
            None if c.worst <= worst && c.cosine >= cosine => None,
            None => Some(format!("{name}: {:.2e} apart, cosine {:.6}", c.worst, c.cosine)),
        };
        let nothing = (self.error.is_none() && self.outputs.is_empty()).then(|| "no output was compared".to_string());
        self.error.iter().cloned().chain(nothing).chain(self.outputs.iter().filter_map(told)).collect()
    }
    /// The largest difference of its outputs and the smallest cosine.
    pub fn extremes(&self) -> (f64, f64) {
        self.outputs.values().fold((0.0, 1.0), |(w, c), o| (f64::max(w, o.worst), f64::min(c, o.cosine)))
    }
}

/// A folder of packages that are read in one process.
pub struct Judge {
    pub folder: tempfile::TempDir,
}

impl Judge {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }
    /// Where a package of this name is to be written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.mlpackage"))
    }
    /// Says what our executor makes of `reference` for these inputs.
    pub fn expect(&self, name: &str, reference: &Graph, feeds: &HashMap<String, Value>) {
        let outputs = exec::run(reference, feeds, Run::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut stored = IndexMap::new();
        for (i, feed) in reference.feeds().enumerate() {
            stored.insert(format!("input_{i}"), feeds[&feed.name].clone());
        }
        for (i, output) in reference.outputs().iter().enumerate() {
            stored.insert(format!("output_{i}"), outputs[output.name.as_str()].clone());
        }
        weights::save_tensors(&stored, self.folder.path().join(format!("{name}.npz"))).unwrap();
    }
    /// What becomes of all packages.
    pub fn verdicts(&self) -> BTreeMap<String, Verdict> {
        let out = common::python(&["tests/python/coreml_judge.py", self.folder.path().to_str().unwrap()]);
        serde_json::from_str(out.lines().last().unwrap()).unwrap()
    }
}

/// Random inputs of a graph: floats of [0, 1), integers 0 and 1. Open sizes are 1.
pub fn feeds(graph: &Graph, seed: u64) -> HashMap<String, Value> {
    let mut draw = Draw(seed);
    let mut feed = |fact: &Fact| {
        let dims: Vec<usize> = fact.shape.iter().flatten().map(|d| d.known().unwrap_or(1)).collect();
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| draw.unit()).collect();
        let floats = Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
        match fact.element {
            Element::F32 => Value::plain(floats).unwrap(),
            other => {
                let rounded = floats.round().unwrap().to_dtype(other.storage().unwrap()).unwrap();
                Value::new(other, rounded).unwrap()
            }
        }
    };
    graph.feeds().map(|f| (f.name.clone(), feed(&f.fact))).collect()
}
