//! Stock exports lose channels without a list of layers: the pruned model equals the masked one (checked by `apply`), and
//! its saved file gives the same outputs in onnxruntime.

mod common;

use candle_core::{Device, Tensor};
use compresso::compress::prune::{Importance, Prune, Ranking, prune_report};
use compresso::exec::{Run, run};
use compresso::learn::train::trainable;
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::graph::specialize;
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{LoadOptions, Model, Value};
use compresso::{Context, ErrorKind};
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The exported models, made once for this test and tests/models.rs.
fn exported() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
    static MADE: Once = Once::new();
    MADE.call_once(|| drop(common::python(&["tests/python/export_models.py", dir.to_str().unwrap()])));
    let index: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(dir.join("models.json")).unwrap()).unwrap();
    let models = index["models"].as_array().unwrap();
    models.iter().map(|m| dir.join(format!("{}.onnx", m["name"].as_str().unwrap()))).collect()
}

/// Seeded noise, with `batch` images where a model takes any number.
fn noise(model: &Model, batch: usize) -> HashMap<String, Value> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let image = model.task().image_size();
    let feed = |input: &compresso::model::ValueInfo| {
        let dims = specialize(&input.fact, batch, image).dims().unwrap();
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| rng.random::<f32>()).collect();
        (input.name.clone(), Value::plain(Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap())
    };
    model.graph().feeds().map(feed).collect()
}

/// Saves the model, runs the file in onnxruntime and the reloaded model here; gives the largest relative difference.
fn against_onnxruntime(model: &Model, file: &Path) -> f64 {
    model.save(file).unwrap();
    let again = Model::load(file, &LoadOptions::default()).unwrap();
    let feeds = noise(&again, 2);
    let expected = Session::from_bytes(&std::fs::read(file).unwrap(), 2).unwrap().run(&feeds).unwrap();
    let got = run(again.graph(), &feeds, Run::default()).unwrap();
    let mut worst = 0f64;
    for (name, e) in &expected {
        let (e, g) = (e.to_f64s().unwrap(), got[name].to_f64s().unwrap());
        assert_eq!(e.len(), g.len(), "{name}");
        let scale = e.iter().fold(0f64, |m, v| m.max(v.abs()));
        let largest = e.iter().zip(&g).fold(0f64, |m, (a, b)| if (a - b).abs() <= m { m } else { (a - b).abs() });
        worst = worst.max(largest / scale);
    }
    worst
}

/// Prunes at three ratios; prints a row for each and returns what does not hold.
fn check(name: &str, model: &Model) -> Vec<String> {
    let mut failures = Vec::new();
    let mut last = u64::MAX;
    for ratio in [0.25, 0.5, 0.75] {
        let options = Prune { ratio, scope: if ratio == 0.5 { Ranking::Layer } else { Ranking::Global }, ..Prune::default() };
        let pruned = match options.apply(model, None, &Context::new()) {
            Ok(p) => p,
            Err(e) => {
                failures.push(format!("{name} at {ratio}: {e}"));
                continue;
            }
        };
        let report = prune_report(model, &pruned).unwrap();
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pruned_{name}_{ratio}.onnx"));
        let difference = against_onnxruntime(&pruned, &file);
        println!("{name:32} {ratio} {:6} difference {difference:.1e}  {}", options.scope, report.headline());
        if difference.is_nan() || difference > 1e-4 {
            failures.push(format!("{name} at {ratio}: differs from onnxruntime by {difference:.1e}"));
        }
        // Work falls with the product of two kept shares in dense layers, with one in depthwise ones.
        let (Some(before), Some(after)) = (report.macs_before, report.macs_after) else { panic!("{name}: its MACs are unknown") };
        let share = after as f64 / before as f64;
        if share > 1.05 - ratio || after >= last {
            failures.push(format!("{name} at {ratio}: {:.0} % of the MACs are left", 100.0 * share));
        }
        last = after;
    }
    failures
}

#[test]
fn exported_models_prune_at_any_ratio() {
    let mut failures = Vec::new();
    let files = exported();
    assert!(files.len() >= 13);
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_string();
        failures.extend(check(&name, &Model::load(&file, &LoadOptions::default()).unwrap()));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The zoo's detector keeps its raw head, with which it is trained on.
#[test]
fn zoo_models_keep_their_heads() {
    let classes = (0..4).map(|i| format!("class{i}")).collect();
    let options = ZooOptions { classes: Some(classes), image_size: Some([64, 64]), ..ZooOptions::default() };
    let model = build("yolov8n", &options).unwrap();
    let failures = check("zoo_yolov8n", &model);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let pruned = Prune::default().apply(&model, None, &Context::new()).unwrap();
    let head = pruned.task().detect().and_then(|d| d.head.clone()).unwrap();
    let feeds = noise(&pruned, 1);
    for (values, channels) in [(&head.boxes, 4 * head.reg_max), (&head.scores, 4)] {
        let wanted: Vec<&str> = values.iter().map(String::as_str).collect();
        let made = run(pruned.graph(), &feeds, Run { wanted: &wanted, ..Run::default() }).unwrap();
        assert!(made.values().all(|v| v.dims()[1] == channels));
    }
    assert_eq!(pruned.steps().last().unwrap().operation, "prune");
    // What training changes is the same, by name and kind, and batch norms are still there.
    let wanted: Vec<String> = head.boxes.iter().chain(&head.scores).cloned().collect();
    let before = trainable(model.graph(), &wanted).unwrap();
    assert!(before.keys().any(|k| k.ends_with("bn.weight")));
    assert_eq!(trainable(pruned.graph(), &wanted).unwrap(), before);
}

#[test]
fn batch_norm_importance_works_unfused_and_is_refused_fused() {
    let options = ZooOptions { image_size: Some([64, 64]), ..ZooOptions::default() };
    let by_scale = Prune { importance: Some(Importance::BATCHNORM), ..Prune::default() };
    let model = build("yolov8n", &options).unwrap();
    let pruned = by_scale.apply(&model, None, &Context::new()).unwrap();
    assert!(pruned.stats().unwrap().macs < model.stats().unwrap().macs);
    let fused = exported().into_iter().find(|f| f.to_str().unwrap().contains("resnet18")).unwrap();
    let e = by_scale.apply(&Model::load(&fused, &LoadOptions::default()).unwrap(), None, &Context::new()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}
