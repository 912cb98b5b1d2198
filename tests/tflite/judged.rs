//! Files that are written, run by LiteRT and compared with what our executor gives: one run of Python for all of them.

use super::common;
use candle_core::{Device, Tensor};
use compresso::Context;
use compresso::deploy::{ExportPrecision, TfliteExport};
use compresso::exec::{self, Run};
use compresso::model::graph::specialize;
use compresso::model::{Element, Model, Value, weights};
use compresso_test_support::Draw;
use indexmap::IndexMap;
use serde::Deserialize;
use std::collections::HashMap;

/// What LiteRT says of a file.
#[derive(Debug, Deserialize)]
pub struct Judged {
    #[serde(default)]
    pub metadata: serde_json::Value,
    #[serde(default)]
    pub operators: Vec<String>,
    /// Of each operator its name and the types that it reads, its activation first: `CONV_2D float32 int8 float32`.
    #[serde(default)]
    pub types: Vec<String>,
    /// Types of the inputs, then of the outputs.
    #[serde(default)]
    pub ends: Vec<String>,
    /// Of each way to run it, for each output the largest error relative to the largest number and the cosine, or what is wrong with its
    /// shape.
    #[serde(default)]
    runs: Vec<Vec<serde_json::Value>>,
    error: Option<String>,
}

/// Images of [0, 1), other numbers of [-2, 2).
fn noise(name: &str, model: &Model) -> HashMap<String, Value> {
    let mut draw = Draw(name.len() as u64 + 17);
    let mut feeds = HashMap::new();
    for input in model.graph().feeds() {
        let dims = specialize(&input.fact, 1, model.image_size()).dims().unwrap();
        let count: usize = dims.iter().product();
        let value = match input.fact.element {
            Element::F32 => {
                let images = dims.len() == 4 && dims[1] == 3;
                let values: Vec<f32> = (0..count).map(|_| if images { draw.unit() } else { 2.0 * draw.signed() }).collect();
                Value::plain(Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap()
            }
            Element::Bool => {
                let values: Vec<u8> = (0..count).map(|_| u8::from(draw.signed() > 0.0)).collect();
                Value::bool(Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap()
            }
            _ => {
                let values: Vec<i64> = (0..count).map(|_| (draw.unit() * 4.0) as i64).collect();
                Value::plain(Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap()
            }
        };
        feeds.insert(input.name.clone(), value);
    }
    feeds
}

/// Files that are to be judged.
pub struct Judge {
    dir: tempfile::TempDir,
    /// Largest error allowed, or for integers the least cosine.
    limits: IndexMap<String, (ExportPrecision, f64)>,
}

impl Judge {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), limits: IndexMap::new() }
    }

    /// A file of the model, fed with numbers that follow from its name.
    pub fn add(&mut self, name: &str, model: &Model, precision: ExportPrecision, limit: f64) {
        self.add_fed(name, model, &noise(name, model), precision, limit);
    }

    pub fn add_fed(&mut self, name: &str, model: &Model, feeds: &HashMap<String, Value>, precision: ExportPrecision, limit: f64) {
        // An int16 model is quantized already.
        let export = TfliteExport { precision: (precision != ExportPrecision::Int16).then_some(precision), ..TfliteExport::default() };
        self.add_export(name, model, feeds, &export, precision, limit);
    }

    /// A file written with these options.
    pub fn add_export(
        &mut self,
        name: &str,
        model: &Model,
        feeds: &HashMap<String, Value>,
        export: &TfliteExport,
        precision: ExportPrecision,
        limit: f64,
    ) {
        let path = self.dir.path().join(format!("{name}.tflite"));
        export.apply(model, &path, None, &Context::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let fed = model.graph().feeds().enumerate().map(|(i, input)| (format!("in_{i}"), feeds[&input.name].clone()));
        let mut arrays: IndexMap<String, Value> = fed.collect();
        let outputs = exec::run(model.graph(), feeds, Run::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (i, (_, value)) in outputs.iter().enumerate() {
            arrays.insert(format!("out_{i}"), value.clone());
        }
        weights::save_tensors(&arrays, self.dir.path().join(format!("{name}.npz"))).unwrap();
        self.limits.insert(name.into(), (precision, limit));
    }

    /// Bytes of a file.
    pub fn size(&self, name: &str) -> u64 {
        std::fs::metadata(self.dir.path().join(format!("{name}.tflite"))).unwrap().len()
    }

    /// Every file within its limit, or a panic that lists those that are not.
    pub fn run(self) -> HashMap<String, Judged> {
        let said = common::python(&["tests/python/tflite.py", self.dir.path().to_str().unwrap()]);
        let judged: HashMap<String, Judged> = serde_json::from_str(&said).unwrap();
        assert_eq!(judged.len(), self.limits.len());
        let mut wrong = Vec::new();
        for (name, &(precision, limit)) in &self.limits {
            let found = &judged[name];
            wrong.extend(found.error.iter().map(|e| format!("{name}: {e}")));
            for (way, outputs) in ["XNNPACK", "plain"].iter().zip(&found.runs) {
                for (i, output) in outputs.iter().enumerate() {
                    let good = match (output[0].as_f64(), output[1].as_f64()) {
                        (Some(_), Some(cosine)) if matches!(precision, ExportPrecision::Int8 | ExportPrecision::Dynamic) => cosine >= limit,
                        (Some(error), Some(_)) => error <= limit,
                        _ => false,
                    };
                    println!("{name} {way} output {i}: {output}");
                    if !good {
                        wrong.push(format!("{name} {way} output {i}: {output}, allowed {limit}"));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
        judged
    }
}
