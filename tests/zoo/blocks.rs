//! The blocks of mobile networks against PyTorch: outputs in both modes, and gradients of input and weights.

use super::feed;
use candle_core::{Device, Tensor, Var};
use compresso::exec::{self, Params, Run};
use compresso::model::ops::RunMode;
use compresso::model::weights::{self, apply_weights};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Graph, Value};
use indexmap::IndexMap;

fn built(layers: &str) -> Graph {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("blocks.yaml");
    std::fs::write(&file, format!("nc: 2\nbackbone:\n{layers}head:\n  - [-1, 1, Linear, [nc]]\n")).unwrap();
    let options = ZooOptions { image_size: Some([8, 10]), ..ZooOptions::default() };
    build(file.to_str().unwrap(), &options).unwrap().graph().clone()
}

/// The architecture with the fixture's weights gives the fixture's numbers; `value` is the output of the blocks.
fn equals_pytorch(case: &str, layers: &str, value: &str) {
    let f = weights::load_tensors(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/zoo/blocks.npz")).unwrap();
    let given = f.iter().filter_map(|(n, v)| Some((format!("model.{}", n.strip_prefix(&format!("{case}.weight."))?), v.clone())));
    let (graph, report) = apply_weights(&built(layers), &given.collect::<IndexMap<_, _>>()).unwrap();
    assert!(report.matched >= 12 && report.unexpected.is_empty() && report.mismatched.is_empty(), "{report:?}");
    let of = |name: &str| -> &Value { &f[&format!("{case}.{name}")] };
    let feeds = feed(of("x"));
    let ours = exec::run(&graph, &feeds, Run { wanted: &[value], ..Run::default() }).unwrap();
    close(&ours[0].tensor, &of("eval.output").tensor);

    let mut params = Params::new();
    for (name, c) in graph.constants().iter().filter(|(n, _)| n.ends_with(".weight") || n.ends_with(".bias")) {
        params.insert(name.clone(), Var::from_tensor(&c.tensor(&Device::Cpu).unwrap()).unwrap().into_inner());
    }
    params.insert("images".into(), Var::from_tensor(&of("x").tensor).unwrap().into_inner());
    let mode = RunMode { training: true, ..RunMode::default() };
    let run = Run { wanted: &[value], params: Some(&params), mode: Some(&mode), ..Run::default() };
    let (outputs, tape) = exec::run_with_tape(&graph, &feeds, run).unwrap();
    close(&outputs[0].tensor, &of("train.output").tensor);
    let loss = (&outputs[0].tensor * &of("weighting").tensor).unwrap().sum_all().unwrap();
    drop(outputs);
    let found = tape.backward(&mut loss.backward().unwrap(), None).unwrap();
    close(&found["images"], &of("grad.x").tensor);
    let mut checked = 0;
    for (name, expected) in f.iter().filter_map(|(n, v)| Some((n.strip_prefix(&format!("{case}.grad."))?, v))).filter(|(n, _)| *n != "x") {
        let ours = &found[&format!("model.{name}")];
        checked += 1;
        // Batch norm takes a shift by a convolution's bias out again: nothing but rounding is left of its gradient.
        if name.ends_with("wise.bias") {
            assert!(ours.to_vec1::<f32>().unwrap().iter().all(|g| g.abs() < 1e-3), "{name}: {ours}");
        } else {
            close(ours, &expected.tensor);
        }
    }
    assert!(checked >= 8, "{checked}");
}

/// Differences up to 1e-4 of the largest magnitude.
fn close(got: &Tensor, expected: &Tensor) {
    assert_eq!(got.dims(), expected.dims());
    let (got, expected): (Vec<f32>, Vec<f32>) =
        (got.flatten_all().unwrap().to_vec1().unwrap(), expected.flatten_all().unwrap().to_vec1().unwrap());
    let size = expected.iter().fold(0.1f32, |m, v| m.max(v.abs()));
    for (g, e) in got.iter().zip(&expected) {
        assert!((g - e).abs() <= 1e-4 * size, "{g} {e}");
    }
}

#[test]
fn depthwise_separable_equals_pytorch() {
    equals_pytorch("separable", "  - [-1, 1, DepthwiseSeparable, [16, 2]]\n", "model.0.relu.Clip_1_output_0");
}

#[test]
fn lightweight_attention_equals_pytorch() {
    let layers = "  - [-1, 1, DepthwiseSeparable, [32]]\n  - [-1, 1, LightweightAttention, [16]]\n";
    equals_pytorch("attention", layers, "model.1.Mul_output_0");
}
