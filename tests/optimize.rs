//! `optimize`, and its passes beside those of onnxoptimizer.

mod common;

use compresso::Context;
use compresso::deploy::Optimize;
use compresso::exec::{Run, run};
use compresso::measure::compare::compare_tensors;
use compresso::measure::worker::{Input, noise};
use compresso::model::graph::specialize;
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{LoadOptions, Model};
use compresso::operation::Operation;
use compresso::target::Target;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Case {
    pass: String,
    before: usize,
    after: usize,
}

/// Graphs that a pass must not touch, whatever onnxoptimizer does.
const UNTOUCHED: &[&str] = &[
    "dropout_trains",
    "argmax_other_axis",
    "pad_something",
    "transpose_something",
    "bias_per_column",
    "bias_read_elsewhere",
    "bn_read_elsewhere",
    "concats_other_axis",
    "log_softmax_read_elsewhere",
    "reduce_unsqueeze_other_axes",
    "gemm_three_axes",
    "gemm_wide_bias",
    "gemm_read_elsewhere",
    "pad_channels",
    "pad_by_one",
    "pad_by_edges",
    "pad_negative",
    "pad_auto",
];

/// The largest difference of an output over its largest number.
fn moved(before: &Model, after: &Model) -> f64 {
    let input = |i: &compresso::model::ValueInfo| {
        let dims = specialize(&i.fact, 1, None).dims().unwrap();
        Input { name: i.name.clone(), element: i.fact.element.code(), dims }
    };
    let inputs: Vec<Input> = before.graph().feeds().map(input).collect();
    let feeds = noise(&inputs, 1).unwrap();
    let (a, b) = (run(before.graph(), &feeds, Run::default()).unwrap(), run(after.graph(), &feeds, Run::default()).unwrap());
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    a.values().zip(b.values()).flat_map(|(a, b)| compare_tensors(a, b).unwrap().outputs).map(|d| d.max_rel).fold(0.0, f64::max)
}

#[test]
fn passes_leave_as_few_nodes_as_onnxoptimizer_and_the_same_outputs() {
    let dir = tempfile::tempdir().unwrap();
    common::python(&["tests/python/optimizer_counts.py", dir.path().to_str().unwrap()]);
    let counts: BTreeMap<String, Case> = serde_json::from_str(&std::fs::read_to_string(dir.path().join("counts.json")).unwrap()).unwrap();
    let passes: std::collections::BTreeSet<&String> = counts.values().map(|c| &c.pass).collect();
    assert_eq!(passes.len(), 18, "{passes:?}");
    for (name, Case { pass, before, after }) in &counts {
        let m = Model::load(dir.path().join(format!("{name}.onnx")), &LoadOptions::default()).unwrap();
        let optimize = Optimize { passes: Some(vec![pass.clone(), "eliminate_deadend".into()]), ..Optimize::default() };
        let made = optimize.apply(&m, &Context::new()).unwrap();
        let nodes = made.model.graph().nodes().len();
        assert_eq!(m.graph().nodes().len(), *before, "{name}");
        assert!(nodes <= *after, "{name}: {nodes} nodes, onnxoptimizer leaves {after}");
        assert!(moved(&m, &made.model) < 1e-5, "{name}");
        let report = made.report.unwrap();
        if UNTOUCHED.contains(&name.as_str()) {
            assert_eq!(nodes, *before, "{name}");
            assert!(report.passes.iter().all(|p| p.done.is_empty()), "{name}");
        } else {
            assert!(report.passes.iter().any(|p| !p.done.is_empty()), "{name}");
        }
    }
    assert!(UNTOUCHED.iter().all(|n| counts.contains_key(*n)));
}

#[test]
fn a_detector_has_fewer_nodes_and_the_same_outputs() {
    let options = ZooOptions { image_size: Some([64, 64]), width: Some(0.125), ..ZooOptions::default() };
    let m = common::lively(&build("yolov8n", &options).unwrap());
    let ctx = Context::new();
    let made = Optimize::default().apply(&m, &ctx).unwrap();
    let report = made.report.unwrap();
    assert!(report.nodes_after < report.nodes_before && report.difference.unwrap() < 1e-4, "{report:?}");
    assert!(moved(&m, &made.model) < 1e-4);
    assert_eq!(made.model.task(), m.task());
    assert_eq!(made.model.steps().last().unwrap().operation, "optimize");
    // A second time there is nothing to do, and nothing becomes part of the recipe.
    let again = Optimize::default().apply(&made.model, &ctx).unwrap();
    assert_eq!(again.model.steps().len(), made.model.steps().len());
    // A target has its own list.
    let target = Some(Target::find("onnxruntime").unwrap());
    let for_target = Optimize { target, ..Optimize::default() }.apply(&m, &ctx).unwrap();
    assert!(for_target.model.graph().nodes().len() >= report.nodes_after);
}

#[test]
fn wrong_options_say_what_there_is() {
    let m = build("classifier", &ZooOptions { image_size: Some([32, 32]), width: Some(0.25), ..ZooOptions::default() }).unwrap();
    let e = |o: Optimize| o.run(&m, &Context::new()).unwrap_err().to_string();
    let passes = Some(vec!["fuse_bn_in_conv".to_string()]);
    let text = e(Optimize { passes: passes.clone(), ..Optimize::default() });
    assert!(text.contains("no pass 'fuse_bn_in_conv'") && text.contains("did you mean"), "{text}");
    let text = e(Optimize { passes, target: Some(Target::find("onnx").unwrap()), ..Optimize::default() });
    assert!(text.contains("both given"), "{text}");
}
