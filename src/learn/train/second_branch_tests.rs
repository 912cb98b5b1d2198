//! The head beside the head: what is copied, where gradients go, what is left of it.

use super::super::test_support::cancelled_at;
use super::super::tests::{constants, narrow, quick, shapes};
use super::super::{Objective, ParamSet, TaskLoss, Train, trainable};
use super::*;
use crate::data::{Batch, Dataset, Loader, LoaderOptions};
use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::operation::Operation;
use compresso_exec as exec;
use compresso_model::ops::RunMode;
use compresso_model::{Model, Value};

fn second(model: &Model) -> SecondBranch {
    SecondBranch::new(model.graph(), model.task().detect().unwrap().head.as_ref().unwrap())
}

fn batch(data: &Dataset) -> Batch {
    let options = LoaderOptions { batch: 4, size: [64, 64], ..LoaderOptions::default() };
    Loader::new(data, options, &Context::new()).unwrap().next().unwrap().unwrap()
}

#[test]
fn both_heads_begin_alike_and_the_model_gives_what_it_gave() {
    let data = shapes(4);
    let images = Value::plain(batch(&data).images).unwrap();
    for name in ["yolov10n", "yolo26n"] {
        let model = narrow(name, &data, 64);
        let branch = second(&model);
        let beside = branch.build(model.graph()).unwrap();
        let (own, other) = (model.task().detect().unwrap().head.clone().unwrap(), branch.head());
        let wanted: Vec<&str> =
            own.boxes.iter().chain(&own.scores).chain(&other.boxes).chain(&other.scores).map(String::as_str).chain(["output0"]).collect();
        let feeds = HashMap::from([("images".to_string(), images.clone())]);
        let out = exec::run(&beside.graph, &feeds, exec::Run { wanted: &wanted, ..exec::Run::default() }).unwrap();
        let same = |a: &str, b: &Value| {
            let difference = compresso_test_support::relative(&out[a].tensor, &b.tensor);
            assert!(difference == 0.0, "{name} {a}: {difference}");
        };
        for (a, b) in own.boxes.iter().chain(&own.scores).zip(other.boxes.iter().chain(&other.scores)) {
            same(a, &out[b]);
        }
        let before = exec::run(model.graph(), &feeds, exec::Run::default()).unwrap();
        same("output0", &before["output0"]);
        // What is copied is the head, and nothing else.
        let head = |n: &String| n.starts_with("model.23.one2one_cv");
        let floats = model.graph().constants().iter().filter(|(n, c)| head(n) && c.element().is_float());
        let copied: HashSet<String> = floats.map(|(n, _)| format!("{n}.many")).collect();
        assert!(copied.len() > 40, "{name}: {}", copied.len());
        assert_eq!(beside.constants, copied, "{name}");
        assert_eq!(beside.stops.len(), 3, "{:?}", beside.stops);
    }
}

/// Names of the parameters that get a gradient other than zero from one part of the loss.
fn reached(model: &Model, branch: &SecondBranch, read: &DetectHead, data: &Dataset) -> HashSet<String> {
    let Beside { graph, stops, .. } = branch.build(model.graph()).unwrap();
    let wanted: Vec<String> = read.boxes.iter().chain(&read.scores).cloned().collect();
    let params = ParamSet::of(&graph, &wanted, &Device::Cpu).unwrap();
    let (bound, mode) = (params.bind(), RunMode { training: true, ..RunMode::default() });
    let wanted_names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
    let run = exec::Run { wanted: &wanted_names, params: Some(&bound), stops: &stops, mode: Some(&mode), ..exec::Run::default() };
    let feeds = HashMap::from([("images".to_string(), Value::plain(batch(data).images).unwrap())]);
    let (outputs, tape) = exec::run_with_tape(&graph, &feeds, run).unwrap();
    let sums = outputs.values().map(|v| v.tensor.sqr().unwrap().sum_all().unwrap());
    let total = sums.reduce(|a, b| (a + b).unwrap()).unwrap();
    let mut store = total.backward().unwrap();
    let grads = tape.backward(&mut store, None).unwrap();
    let size = |t: &Tensor| t.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    params.params.iter().filter(|p| grads.get(&p.name).is_some_and(|g| size(g) > 0.0)).map(|p| p.name.clone()).collect()
}

#[test]
fn gradients_of_the_first_head_end_at_the_features() {
    let data = shapes(4);
    let model = narrow("yolov10n", &data, 64);
    let mut branch = second(&model);
    let own = model.task().detect().unwrap().head.clone().unwrap();
    let of_head = |n: &String| n.contains(".one2one_cv");
    let one = reached(&model, &branch, &own, &data);
    assert!(one.len() > 30 && one.iter().all(|n| of_head(n) && !n.ends_with(".many")), "{one:?}");
    let many = reached(&model, &branch, &branch.head(), &data);
    assert!(many.contains("model.0.conv.weight") && many.contains("model.22.cv1.conv.weight"), "{many:?}");
    assert!(many.iter().all(|n| !of_head(n) || n.ends_with(".many")), "{many:?}");
    // Each weight of the model learns from one of the two.
    let wanted = TaskLoss::of(model.task(), 0.0).unwrap().wanted();
    let missing: Vec<_> = trainable(model.graph(), &wanted)
        .unwrap()
        .into_iter()
        .filter(|(_, k)| *k != compresso_model::ops::ParamKind::Statistic)
        .map(|(n, _)| n)
        .filter(|n| !one.contains(n) && !many.contains(n))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Undivided, the first head shapes its features too.
    branch.detached = false;
    let joined = reached(&model, &branch, &own, &data);
    assert!(joined.contains("model.0.conv.weight") && joined.iter().all(|n| !n.ends_with(".many")));
}

#[test]
fn a_trained_model_is_the_graph_that_it_was() {
    let data = shapes(8);
    for name in ["yolov10n", "yolo26n"] {
        let model = narrow(name, &data, 64);
        let trained = quick(2).run((&model, &data, None), &Context::new()).unwrap();
        let parts: Vec<&str> = trained.history.epochs[0].parts.keys().map(String::as_str).collect();
        assert_eq!(parts.len(), 6, "{parts:?}");
        assert!(parts.contains(&"one_box") && parts.contains(&if name == "yolo26n" { "one_l1" } else { "one_dfl" }), "{parts:?}");
        assert_eq!(trained.model.task(), model.task());
        assert_eq!(trained.model.graph().nodes(), model.graph().nodes());
        let (before, after) = (constants(&model), constants(&trained.model));
        let names = |c: &[(String, Vec<f32>)]| c.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after));
        let changed = |part: &str| before.iter().zip(&after).any(|(b, a)| b.0.contains(part) && b.1 != a.1);
        assert!(changed("one2one_cv2") && changed("one2one_cv3") && changed("model.0.conv.weight"), "{name}");
        // And goes on from there, pruned or not.
        let again = Train { epochs: 1, ..quick(1) }.run((&trained.model, &data, None), &Context::new()).unwrap();
        assert_eq!(again.model.graph().nodes(), model.graph().nodes());
    }
}

#[test]
fn two_heads_learn_to_find_each_shape_once() {
    let data = shapes(8);
    for (name, least) in [("yolov10n", 0.85), ("yolo26n", 0.65)] {
        let model = narrow(name, &data, 64);
        let options = Train { batch: 4, learning_rate: Some(0.01), ema: false, ..quick(100) };
        let trained = options.run((&model, &data, Some(&data)), &Context::new()).unwrap();
        let scores = &trained.history.epochs.last().unwrap().scores;
        assert!(scores["map50"] > least, "{name}: {scores:?}");
    }
}

#[test]
fn an_interrupted_training_of_two_heads_goes_on() {
    let data = shapes(8);
    let model = narrow("yolo26n", &data, 64);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let whole = quick(3).run((&model, &data, None), &Context::new()).unwrap();
    let options = Train { checkpoint: Some(path), resume: true, ..quick(3) };
    let first = options.run((&model, &data, None), &cancelled_at("epoch 2/3", 0)).unwrap();
    assert!(first.history.cancelled && first.history.epochs.len() == 1);
    let rest = options.run((&model, &data, None), &Context::new()).unwrap();
    assert!(constants(&whole.model) == constants(&rest.model), "the weights differ");
    assert_ne!(constants(&first.model), constants(&rest.model));
}

#[test]
fn names_that_are_taken_are_not_taken_twice() {
    let data = shapes(2);
    let model = narrow("yolo26n", &data, 64);
    let once = second(&model).build(model.graph()).unwrap();
    let again = SecondBranch::new(&once.graph, model.task().detect().unwrap().head.as_ref().unwrap());
    assert!(again.head().boxes[0].ends_with(".many1"), "{}", again.head().boxes[0]);
    let twice = again.build(&once.graph).unwrap();
    assert!(twice.constants.is_disjoint(&once.constants) && !twice.constants.is_empty());
    let stray = DetectHead { boxes: vec!["nothing".into()], ..again.head.clone() };
    let e = SecondBranch::new(model.graph(), &stray).build(model.graph()).unwrap_err();
    assert!(e.to_string().contains("no value 'nothing'"), "{e}");
}
