//! Training against PyTorch's numbers, and what the loop promises.

use super::test_support::{cancelled_at, sparse, targets};
use super::*;
use crate::data::{DataOptions, DataTask, Dataset, dataset};
use candle_core::{DType, Device, Tensor};
use compresso_base::context::Context;
use compresso_base::operation::Operation;
use compresso_exec as exec;
use compresso_model::ops::{ParamKind, RunMode};
use compresso_model::passes::pipelines;
use compresso_model::zoo::{ZooOptions, build};
use compresso_model::{Constant, Model, Patch, Value};
use compresso_test_support::{arrays, relative, values};
use std::collections::HashMap;

pub(super) fn shapes(images: usize) -> Dataset {
    let options = DataOptions { images: Some(images), size: Some(serde_json::json!(128)), ..DataOptions::default() };
    dataset("shapes", &options, &Context::new()).unwrap().for_training()
}

/// A narrow YOLOv8 for `data`, at 64 pixels.
pub(super) fn small(data: &Dataset) -> Model {
    small_at(data, 64)
}

fn small_at(data: &Dataset, size: usize) -> Model {
    narrow("yolov8n", data, size)
}

/// A narrow detector of the zoo for `data`.
pub(super) fn narrow(name: &str, data: &Dataset, size: usize) -> Model {
    let options = ZooOptions {
        classes: Some(data.classes.to_vec()),
        image_size: Some([size, size]),
        width: Some(0.0625),
        depth: Some(0.33),
        seed: 1,
        ..ZooOptions::default()
    };
    build(name, &options).unwrap()
}

pub(super) fn quick(epochs: usize) -> Train {
    Train { epochs, batch: 8, augment: false, validate_every: 0, workers: Some(1), ..Train::default() }
}

pub(super) fn constants(model: &Model) -> Vec<(String, Vec<f32>)> {
    let floats = model.graph().constants().iter().filter(|(_, c)| c.element().is_float());
    floats.map(|(n, c)| (n.clone(), c.to_f32s().unwrap())).collect()
}

#[test]
fn cross_entropy_equals_pytorch() {
    let f = arrays("train/cross_entropy.npz");
    let labels: Vec<usize> = values(&f["labels"]).iter().map(|&v| v as usize).collect();
    for smoothing in ["0.0", "0.1"] {
        let (value, gradient) = cross_entropy(&f["logits"], &labels, smoothing.parse().unwrap()).unwrap();
        assert!((value as f32 - values(&f[&format!("loss.{smoothing}")])[0]).abs() < 1e-5);
        let gradient = Tensor::from_vec(gradient, f["logits"].shape(), &Device::Cpu).unwrap();
        assert!(relative(&gradient, &f[&format!("grad.{smoothing}")]) < 1e-5);
    }
    let e = cross_entropy(&f["logits"], &[9; 6], 0.0).unwrap_err();
    assert_eq!(e.to_string(), "label 9 is out of range: the model has 5 classes");
}

#[test]
fn optimizers_and_clipping_equal_pytorch() {
    let f = arrays("train/optimizers.npz");
    for (kind, rule) in [
        ("sgd", UpdateRule::Sgd { nesterov: false }),
        ("nesterov", UpdateRule::Sgd { nesterov: true }),
        ("adam", UpdateRule::Adam { beta2: 0.999, epsilon: 1e-8 }),
        ("adamw", UpdateRule::AdamW { beta2: 0.999, epsilon: 1e-8 }),
    ] {
        let params = [
            Param::new("weight", &f["start.weight"], ParamKind::Weight).unwrap(),
            Param::new("bias", &f["start.bias"], ParamKind::Bias).unwrap(),
        ];
        let mut optimizer = Optimizer::new(rule, &params).unwrap();
        let mut last_norm = 0.0;
        for i in 0..5 {
            let gradients: Vec<_> = params.iter().map(|p| Some(f[&format!("grad.{i}.{}", p.name)].clone())).collect();
            last_norm = gradient_norm(&params, &gradients).unwrap().unwrap();
            let gradient_scale = (4.0 / (last_norm + 1e-6)).min(1.0);
            let pace = Pace { learning_rate: 0.05, bias_rate: 0.05, momentum: 0.9, weight_decay: 0.1, gradient_scale };
            optimizer.step(&params, &gradients, &pace).unwrap();
        }
        assert!((last_norm as f32 - values(&f[&format!("norm.{kind}")])[0]).abs() < 1e-3);
        for p in &params {
            let difference = relative(p.var.as_tensor(), &f[&format!("{kind}.{}", p.name)]);
            assert!(difference < 1e-5, "{kind} {}: {difference}", p.name);
        }
    }
}

#[test]
fn the_moving_average_follows_its_formula() {
    let value = |v: f32| Tensor::full(v, 3, &Device::Cpu).unwrap();
    let param = Param::new("w", &value(1.0), ParamKind::Weight).unwrap();
    let statistics = indexmap::IndexMap::from([("mean".to_string(), value(0.0))]);
    let set = ParamSet { params: vec![param.clone()], statistics, variables: Vec::new(), unreached: Vec::new() };
    let mut ema = Ema::new(&set, 0.9, 2.0).unwrap();
    let (mut expected, mut mean) = (1.0f64, 0.0f64);
    for t in 1..=4 {
        param.var.set(&value(t as f32 * 2.0)).unwrap();
        let now = ParamSet { statistics: indexmap::IndexMap::from([("mean".to_string(), value(t as f32))]), ..set.clone() };
        ema.update(&now).unwrap();
        let decay = 0.9 * (1.0 - (-f64::from(t) / 2.0).exp());
        expected = decay * expected + (1.0 - decay) * f64::from(t) * 2.0;
        mean = decay * mean + (1.0 - decay) * f64::from(t);
    }
    let got = ema.tensors().unwrap();
    assert!((f64::from(values(&got["w"])[0]) - expected).abs() < 1e-5);
    assert!((f64::from(values(&got["mean"])[2]) - mean).abs() < 1e-5);
}

#[test]
fn parameters_are_what_the_raw_head_depends_on() {
    let model = small(&shapes(2));
    let wanted = TaskLoss::of(model.task(), 0.0).unwrap().wanted();
    let found = trainable(model.graph(), &wanted).unwrap();
    assert_eq!(found["model.0.conv.weight"], ParamKind::Weight);
    assert_eq!(found["model.0.bn.weight"], ParamKind::Scale);
    assert_eq!(found["model.0.bn.bias"], ParamKind::Bias);
    assert_eq!(found["model.0.bn.running_var"], ParamKind::Statistic);
    assert_eq!(found["model.22.cv3.0.2.bias"], ParamKind::Bias);
    assert!(found.keys().all(|n| !n.contains("dfl") && !n.contains("anchor") && !n.contains("stride")), "{:?}", found.keys());
    // The decoded output has a fixed kernel, of the mean of a distribution; it is no parameter.
    let decoded = trainable(model.graph(), &["output0".to_string()]).unwrap();
    assert_eq!(found, decoded);
}

#[test]
fn whole_model_gradients_equal_pytorch() {
    let f = arrays("train/yolov8.npz");
    let options = ZooOptions {
        classes: Some(vec!["a".into(), "b".into()]),
        image_size: Some([64, 64]),
        width: Some(0.03125),
        depth: Some(0.33),
        ..ZooOptions::default()
    };
    let model = build("yolov8n", &options).unwrap();
    let mut patch = Patch::new(model.graph());
    let mut given = 0;
    for (name, tensor) in f.iter().filter_map(|(n, t)| Some((n.strip_prefix("weight.")?, t))) {
        let own = model.graph().constant(name).unwrap_or_else(|| panic!("the zoo's model has no '{name}'"));
        assert_eq!(own.dims(), tensor.dims(), "{name}");
        patch.set_constant(name, Constant::from_tensor(tensor).unwrap());
        given += 1;
    }
    let given_graph = patch.apply().unwrap();
    let mut objective = TaskLoss::of(model.task(), 0.0).unwrap();
    let wanted = objective.wanted();
    // As written, and as training runs it.
    let prepared = pipelines::TRAINING.run_keeping(&given_graph, &wanted).unwrap().graph;
    let count = |g: &compresso_model::Graph, op: &str| g.nodes().iter().filter(|n| n.op.ends_with(op)).count();
    assert_eq!(count(&given_graph, "Swish"), 0);
    let swishes = count(&prepared, "Swish") + count(&prepared, "BatchNormActivation");
    assert_eq!(swishes, count(&given_graph, "Sigmoid") - count(&prepared, "Sigmoid"));
    assert!(swishes > 50);
    for graph in [given_graph, prepared] {
        gradients_equal(&f, &graph, &mut objective, given);
    }
}

fn gradients_equal(f: &HashMap<String, Tensor>, graph: &compresso_model::Graph, objective: &mut TaskLoss, given: usize) {
    let wanted = objective.wanted();
    let mut params = ParamSet::of(graph, &wanted, &Device::Cpu).unwrap();
    assert_eq!(params.params.len(), given, "every parameter is trained and given");
    let images = (&f["images"] / 255.0).unwrap();
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mode = RunMode { training: true, ..RunMode::default() };
    let ctx = Context::new();
    let bound = params.bind();
    let run = exec::Run { wanted: &names, params: Some(&bound), mode: Some(&mode), ..exec::Run::default() };
    let (outputs, tape) =
        exec::run_with_tape(graph, &HashMap::from([("images".to_string(), Value::plain(images.clone()).unwrap())]), run).unwrap();
    let batch =
        crate::data::Batch { images, targets: targets(&f["targets"], 3), labels: vec![], indices: vec![0, 1, 2], letterboxes: vec![] };
    let loss = objective.loss(&outputs, &batch, &ctx).unwrap();
    let total: f32 = values(&f["loss"]).iter().sum();
    let got = loss.total.to_scalar::<f32>().unwrap();
    assert!((got - total).abs() < 1e-3 * total, "{got} {total}");
    let mut store = loss.total.backward().unwrap();
    let grads = tape.backward(&mut store, None).unwrap();
    for (name, expected) in f.iter().filter_map(|(n, t)| Some((n.strip_prefix("grad.")?, t))) {
        let p = params.params.iter().find(|p| p.name == name).unwrap();
        let difference = relative(&grads[&p.name], expected);
        assert!(difference < 1e-3, "{name}: {difference}");
    }
    params.update_statistics(mode.updates.into_inner().unwrap()).unwrap();
    for name in ["model.0.bn.running_mean", "model.0.bn.running_var"] {
        assert!(relative(&params.statistics[name], &f[&format!("after.{name}")]) < 1e-4, "{name}");
    }
}

#[test]
fn overfitting_a_few_images_makes_the_loss_fall_and_training_goes_on_from_there() {
    let data = shapes(8);
    let model = small_at(&data, 128);
    let options = Train { learning_rate: Some(0.01), ema: false, ..quick(50) };
    let trained = options.run((&model, &data, None), &Context::new()).unwrap();
    let losses: Vec<f64> = trained.history.epochs.iter().map(|e| e.loss).collect();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < 0.2 * first, "{losses:?}");
    let steps = trained.model.steps();
    let step = steps.last().unwrap();
    assert_eq!((step.operation.as_str(), &step.options["learning_rate"]), ("train", &serde_json::json!(0.01)));
    // The given model is untouched, and the trained one is another.
    assert_ne!(constants(&model), constants(&trained.model));
    assert_eq!(constants(&model), constants(&small_at(&data, 128)));
    // Statistics of norms included, it goes on where it was.
    let options = Train { learning_rate: Some(1e-4), ..quick(1) };
    let again = options.run((&trained.model, &data, None), &Context::new()).unwrap();
    assert!(again.history.epochs[0].loss < 1.2 * last, "{} {last}", again.history.epochs[0].loss);
    assert_eq!(again.model.steps().len(), 2);
}

#[test]
fn a_classifier_learns_and_its_best_epoch_is_kept() {
    let options = DataOptions { images: Some(24), size: Some(serde_json::json!(32)), task: DataTask::Classify, ..DataOptions::default() };
    let data = dataset("shapes", &options, &Context::new()).unwrap();
    let zoo = ZooOptions {
        classes: Some(data.classes.to_vec()),
        image_size: Some([32, 32]),
        width: Some(0.125),
        depth: Some(0.33),
        seed: 1,
        ..ZooOptions::default()
    };
    let model = build("classifier", &zoo).unwrap();
    let train_split = data.for_training();
    let options = Train { learning_rate: Some(5e-3), validate_every: 5, ..quick(20) };
    // Judged on what it learned, so that a score of one is possible.
    let trained = options.run((&model, &train_split, Some(&train_split)), &Context::new()).unwrap();
    let epochs = &trained.history.epochs;
    assert!(epochs[19].loss < 0.3 * epochs[0].loss, "{:?}", epochs.iter().map(|e| e.loss).collect::<Vec<_>>());
    let validated: Vec<(usize, f64)> = epochs.iter().filter_map(|e| Some((e.epoch, *e.scores.get("top1")?))).collect();
    assert_eq!(validated.iter().map(|v| v.0).collect::<Vec<_>>(), [5, 10, 15, 20]);
    let best = validated.iter().map(|v| v.1).fold(0.0, f64::max);
    let kept = validated.iter().find(|v| v.0 == trained.history.best_epoch).unwrap();
    assert_eq!(kept.1, best);
    let (scores, fitness) = validate::scores(&trained.model, &train_split, [32, 32], 8, &Context::new()).unwrap();
    assert!((fitness - best).abs() < 1e-9 && (scores["top1"] - best).abs() < 1e-9, "the weights kept are those that scored");
}

#[test]
fn same_seed_same_weights() {
    let data = shapes(8);
    let model = small(&data);
    let options = Train { augment: true, ..quick(2) };
    let go = |seed| options.run((&model, &data, None), &Context::new().with_seed(seed)).unwrap();
    let (a, b, c) = (go(5), go(5), go(6));
    assert_eq!(constants(&a.model), constants(&b.model));
    assert_ne!(constants(&a.model), constants(&c.model));
    assert_eq!(a.history.epochs[1].loss, b.history.epochs[1].loss);
}

#[test]
fn frozen_zeros_stay_zero() {
    let data = shapes(8);
    let model = small(&data);
    let name = "model.2.cv1.conv.weight";
    let (sparse, pruned) = sparse(&model, name, true);
    for optimizer in [OptimizerKind::AdamW, OptimizerKind::Sgd] {
        let trained = Train { optimizer, ..quick(2) }.run((&sparse, &data, None), &Context::new()).unwrap().model;
        let after = trained.graph().constant(name).unwrap().to_f32s().unwrap();
        assert!(after.iter().step_by(3).all(|&v| v == 0.0));
        assert!(after.iter().zip(&pruned).any(|(a, b)| a != b));
        assert_eq!(trained.graph().metadata()[MASKS_KEY], format!("[\"{name}\"]"));
    }
}

#[test]
fn a_loss_that_is_not_finite_names_the_first_bad_value() {
    let data = shapes(8);
    let model = small(&data);
    let break_it = |name: &str, value: f32| {
        let c = model.graph().constant(name).unwrap();
        let mut v = c.to_f32s().unwrap();
        v[0] = value;
        let mut patch = Patch::new(model.graph());
        patch.set_constant(name, Constant::floats(c.dims(), &v).unwrap());
        let broken = Model::new(patch.apply().unwrap(), model.task().clone());
        quick(1).run((&broken, &data, None), &Context::new()).unwrap_err()
    };
    let e = break_it("model.4.cv1.conv.weight", f32::NAN);
    assert_eq!(e.kind(), compresso_base::ErrorKind::Check);
    assert!(e.to_string().contains("the weights 'model.4.cv1.conv.weight' are not"), "{e}");
    assert!(e.to_string().contains("epoch 1, step 1"), "{e}");
    // Finite, but its products are not: the value is named with its layer.
    let e = break_it("model.22.cv3.0.2.weight", 3e38);
    assert!(e.to_string().contains("the first such value is") && e.to_string().contains("(Conv)"), "{e}");
}

#[test]
fn cancelling_before_the_first_epoch_is_an_error_and_later_keeps_what_there_is() {
    let data = shapes(16);
    let model = small(&data);
    let go = |step| quick(50).run((&model, &data, None), &cancelled_at("epoch", step));
    assert!(go(1).unwrap_err().is_cancelled());
    let kept = go(3).unwrap();
    assert!(kept.history.cancelled);
    assert_eq!((kept.history.epochs.len(), kept.history.best_epoch), (1, 1));
    assert_ne!(constants(&model), constants(&kept.model));
}

#[test]
fn data_and_options_that_do_not_fit_are_named() {
    let data = shapes(4);
    let model = small(&data);
    let text = |m: &Model, d: &Dataset, o: Train| o.run((m, d, None), &Context::new()).unwrap_err().to_string();
    let e = text(&model, &data, Train { image_size: Some(96), ..quick(1) });
    assert!(e.contains("option 'image_size' is 96, the model takes 64×64 images"), "{e}");
    let narrow = build(
        "yolov8n",
        &ZooOptions { classes: Some(vec!["x".into()]), image_size: Some([64, 64]), width: Some(0.0625), ..ZooOptions::default() },
    );
    let e = text(&narrow.unwrap(), &data, quick(1));
    assert!(e.contains("the model has 1"), "{e}");
    let unknown = model.clone().with_task(compresso_model::Task::Unknown);
    assert!(text(&unknown, &data, quick(1)).contains("task is not known"));
    let mut patch = Patch::new(model.graph());
    let c = model.graph().constant("model.0.conv.weight").unwrap();
    let half = c.tensor(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    patch.set_constant("model.0.conv.weight", Constant::from_tensor(&half).unwrap());
    let wide = Model::new(patch.apply().unwrap(), model.task().clone());
    let e = text(&wide, &data, quick(1));
    assert!(e.contains("'model.0.conv.weight' is float64, training needs float32"), "{e}");
}
