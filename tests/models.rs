//! Real networks, exported by PyTorch and Ultralytics, give what onnxruntime gives.

mod common;

use compresso::Error;
use compresso::exec::{self, Engine, Outputs, Run};
use compresso::model::graph::{infer, infer_at, stats};
use compresso::model::{Dim, Graph, LoadOptions, Model, Value, onnx, weights};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Largest difference that is accepted, relative to the largest magnitude of an output.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Index {
    models: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    dynamic: bool,
    /// Weights and biases with batch norms folded, as PyTorch counts them.
    parameters: u64,
}

/// The folder of the exported models, made once, and what is in it.
fn exported() -> (PathBuf, Vec<Entry>) {
    static MADE: Once = Once::new();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
    MADE.call_once(|| drop(common::python(&["tests/python/export_models.py", dir.to_str().unwrap()])));
    let index: Index = serde_json::from_str(&std::fs::read_to_string(dir.join("models.json")).unwrap()).unwrap();
    (dir, index.models)
}

/// The largest relative difference to the stored outputs when `run` is given the stored inputs, or what went wrong.
fn difference(graph: &Graph, data: &Path, run: &mut dyn FnMut(&HashMap<String, Value>) -> Result<Outputs, Error>) -> Result<f64, String> {
    let stored = weights::load_tensors(data).map_err(|e| e.to_string())?;
    let feeds: HashMap<_, _> = graph.feeds().enumerate().map(|(i, f)| (f.name.clone(), stored[&format!("input_{i}")].clone())).collect();
    let outputs = run(&feeds).map_err(|e| e.to_string())?;
    let mut largest = 0f64;
    for (i, (name, got)) in outputs.iter().enumerate() {
        let expected = &stored[&format!("output_{i}")];
        if got.element != expected.element || got.dims() != expected.dims() {
            return Err(format!("output '{name}': expected {:?}, got {:?}", expected.dims(), got.dims()));
        }
        let (got, expected) = (got.to_f64s().unwrap(), expected.to_f64s().unwrap());
        let scale = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
        let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f64, |m, d| if d > m || d.is_nan() { d } else { m });
        largest = if worst.is_nan() { f64::NAN } else { largest.max(worst / scale) };
    }
    Ok(largest)
}

#[test]
fn outputs_are_those_of_onnxruntime() {
    let (dir, models) = exported();
    let mut failures = Vec::new();
    for model in &models {
        let graph = onnx::load(dir.join(format!("{}.onnx", model.name))).unwrap();
        let runs: &[&str] = if model.dynamic { &["npz", "batch3.npz"] } else { &["npz"] };
        // One engine for all: each shape has a plan of its own.
        let mut engine = Engine::new(&graph, &[], 2).unwrap();
        for run in runs {
            let data = dir.join(format!("{}.{run}", model.name));
            let eager = difference(&graph, &data, &mut |feeds| exec::run(&graph, feeds, Run::default()));
            let planned = difference(&graph, &data, &mut |feeds| engine.run(feeds, None));
            for (how, result) in [("eager", eager), ("planned", planned)] {
                println!("{:32} {run:10} {how:8} {}", model.name, result.as_ref().map_or_else(Clone::clone, |d| format!("{d:.1e}")));
                if !result.as_ref().is_ok_and(|d| *d <= TOLERANCE) {
                    failures.push(format!("{} ({run}, {how}): {result:?}", model.name));
                }
            }
        }
        assert_eq!(engine.refused(), None, "{}", model.name);
    }
    assert!(models.len() >= 13);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Ultralytics' detectors come with the raw head that training needs, whatever the version of the blocks and the operators.
#[test]
fn ultralytics_detectors_are_recognised_with_their_head() {
    let (dir, models) = exported();
    let detectors: Vec<&Entry> = models.iter().filter(|m| m.name.starts_with("yolo")).collect();
    assert!(detectors.len() >= 5);
    for entry in detectors {
        let m = Model::load(dir.join(format!("{}.onnx", entry.name)), &LoadOptions::default()).unwrap();
        let d = m.task().detect().unwrap_or_else(|| panic!("{} is no detector", entry.name));
        assert_eq!((d.classes.len(), d.image_size), (80, [96, 96]), "{}", entry.name);
        let head = d.head.as_ref().unwrap_or_else(|| panic!("{} has no head", entry.name));
        assert_eq!((head.strides.as_slice(), head.reg_max, head.scores.len()), ([8, 16, 32].as_slice(), 16, 3), "{}", entry.name);
    }
}

#[test]
fn every_shape_is_inferred_and_parameters_are_counted() {
    let (dir, models) = exported();
    let mut failures = Vec::new();
    for model in &models {
        let graph = onnx::load(dir.join(format!("{}.onnx", model.name))).unwrap();
        let facts = infer(&graph).unwrap();
        for node in graph.nodes() {
            for name in &node.outputs {
                let fact = &facts[name];
                let open =
                    fact.shape.as_ref().is_none_or(|s| s.iter().any(|d| *d == Dim::Unknown || (!model.dynamic && d.known().is_none())));
                if open {
                    failures.push(format!("{}: {} makes '{name}' of {fact}", model.name, node.label()));
                }
            }
        }
        // At a batch of one every size is a number, and the work can be counted.
        let facts = infer_at(&graph, 1, None).unwrap();
        let open = graph.nodes().iter().flat_map(|n| &n.outputs).filter(|n| facts[*n].dims().is_none()).count();
        if open > 0 {
            failures.push(format!("{}: {open} values have unknown sizes at batch 1", model.name));
        }
        let all = stats(&graph, &facts).unwrap();
        if all.params != model.parameters {
            failures.push(format!("{}: {} parameters, PyTorch counts {}", model.name, all.params, model.parameters));
        }
        println!(
            "{:32} {:>9} parameters {:>12} MACs",
            model.name,
            all.params,
            all.macs.map_or_else(|| "unknown".to_string(), |n| n.to_string())
        );
    }
    assert!(failures.is_empty(), "{} values\n{}", failures.len(), failures[..failures.len().min(40)].join("\n"));
}
