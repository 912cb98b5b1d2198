//! Files for OpenVINO, run in OpenVINO (tests/python/openvino_judge.py) and held against our executor.

use super::common;
use candle_core::{Device, Tensor};
use compresso::deploy::{Deploy, ExportPrecision};
use compresso::exec::{self, Run};
use compresso::model::{Element, Fact, Graph, Model, Value, weights};
use compresso::operation::Operation;
use compresso::target::{Target, openvino};
use compresso::{Context, Error};
use compresso_test_support::Draw;
use indexmap::IndexMap;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// What OpenVINO made of a file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Verdict {
    pub error: Option<String>,
    pub outputs: BTreeMap<String, Compared>,
    /// The outputs of a quantized network whose rounding is computed in float32.
    pub exact: BTreeMap<String, Compared>,
    /// Convolutions and products that run on integers, and all.
    pub integers: usize,
    pub layers: usize,
    pub names: Vec<Vec<String>>,
    pub labels: Option<String>,
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
        self.error.iter().cloned().chain(beyond(&self.outputs, worst, cosine)).collect()
    }
    /// As [`Verdict::wrong`] of what a quantized network gives in float32.
    pub fn inexact(&self, worst: f64) -> Vec<String> {
        let missing = self.exact.is_empty().then(|| "nothing is rounded".to_string());
        missing.into_iter().chain(beyond(&self.exact, worst, 0.999)).collect()
    }
    /// The largest difference of its outputs and the smallest cosine.
    pub fn extremes(&self) -> (f64, f64) {
        self.outputs.values().fold((0.0, 1.0), |(w, c), o| (f64::max(w, o.worst), f64::min(c, o.cosine)))
    }
}

fn beyond(outputs: &BTreeMap<String, Compared>, worst: f64, cosine: f64) -> Vec<String> {
    let told = |(name, c): (&String, &Compared)| match &c.error {
        Some(e) => Some(format!("{name} {e}")),
        None if c.worst <= worst && c.cosine >= cosine => None,
        None => Some(format!("{name}: {:.2e} apart, cosine {:.6}", c.worst, c.cosine)),
    };
    outputs.iter().filter_map(told).collect()
}

/// A folder of files that OpenVINO is to run, in one process.
pub struct Judge {
    pub folder: tempfile::TempDir,
}

impl Judge {
    pub fn new() -> Self {
        Self { folder: tempfile::Builder::new().suffix("_openvino_model").tempdir().unwrap() }
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.xml"))
    }
    pub fn write(&self, name: &str, model: &Model, precision: ExportPrecision) -> Result<(), Error> {
        let deploy = Deploy { target: Target(&openvino::SPEC), precision, ..Deploy::default() };
        deploy.run((model, &self.path(name), None), &Context::new()).map(drop)
    }
    /// Writes a model, and what our executor makes of `reference` for these inputs.
    pub fn add(
        &self,
        name: &str,
        model: &Model,
        precision: ExportPrecision,
        reference: &Graph,
        feeds: &HashMap<String, Value>,
    ) -> Result<(), Error> {
        self.write(name, model, precision)?;
        let outputs = exec::run(reference, feeds, Run::default())?;
        let mut stored = IndexMap::new();
        for (i, feed) in reference.feeds().enumerate() {
            stored.insert(format!("input_{i}"), feeds[&feed.name].clone());
        }
        for (i, output) in reference.outputs().iter().enumerate() {
            stored.insert(format!("output_{i}"), outputs[output.name.as_str()].clone());
        }
        weights::save_tensors(&stored, self.folder.path().join(format!("{name}.npz")))
    }
    /// What OpenVINO makes of all files.
    pub fn verdicts(&self) -> BTreeMap<String, Verdict> {
        let out = common::python(&["tests/python/openvino_judge.py", self.folder.path().to_str().unwrap()]);
        serde_json::from_str(out.trim()).unwrap()
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
