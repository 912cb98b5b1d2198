//! What training promises beyond one plain run: going on from a checkpoint, sums of gradients, frozen layers, short numbers,
//! sizes that vary.

use super::plan::Plan;
use super::step::{Pacing, Stepper};
use super::test_support::cancelled_at;
use super::tests::{constants, quick, shapes, small};
use super::*;
use crate::data::{Batch, Dataset, Loader, LoaderOptions};
use compresso_base::context::Context;
use compresso_base::operation::Operation;
use compresso_model::Model;
use compresso_model::ops::MixedPrecision;
use std::path::Path;

fn interrupted(model: &Model, data: &Dataset, val: &Dataset, options: &Train, epoch: &'static str) -> Trained {
    options.run((model, data, Some(val)), &cancelled_at(epoch, 0)).unwrap()
}

fn without_times(h: &History) -> History {
    let mut h = h.clone();
    for e in &mut h.epochs {
        (e.seconds, e.images_per_second) = (0.0, 0.0);
    }
    h
}

#[test]
fn an_interrupted_training_that_goes_on_equals_one_that_was_not() {
    let (data, val) = (shapes(12), shapes(4));
    let model = small(&data);
    let folder = tempfile::tempdir().unwrap();
    for (i, options) in [
        Train { augment: true, accumulate: 2, batch: 3, validate_every: 1, warmup: 2.0, ..quick(4) },
        Train { optimizer: OptimizerKind::Sgd, ema: false, multi_scale: 0.5, batch: 5, validate_every: 2, ..quick(4) },
        Train { precision: MixedPrecision::Float16, optimizer: OptimizerKind::Adam, freeze: Some(Freeze::Layers(3)), ..quick(4) },
    ]
    .into_iter()
    .enumerate()
    {
        let whole = options.run((&model, &data, Some(&val)), &Context::new()).unwrap();
        let checkpoint = folder.path().join(format!("{i}.safetensors"));
        let options = Train { checkpoint: Some(checkpoint.clone()), resume: true, ..options };
        let first = interrupted(&model, &data, &val, &options, "epoch 3/4");
        assert!(first.history.cancelled && first.history.epochs.len() == 2, "{i}");
        let rest = Train { workers: Some(2), ..options.clone() }.run((&model, &data, Some(&val)), &Context::new()).unwrap();
        assert!(constants(&whole.model) == constants(&rest.model), "{i}: the weights differ");
        assert_ne!(constants(&first.model), constants(&rest.model));
        assert_eq!(format!("{:?}", without_times(&whole.history)), format!("{:?}", without_times(&rest.history)));
        // Once complete, there is nothing left to do.
        let again = options.run((&model, &data, Some(&val)), &Context::new()).unwrap();
        assert!(constants(&again.model) == constants(&whole.model));
    }
}

#[test]
fn checkpoints_of_other_trainings_and_damaged_ones_are_refused() {
    let data = shapes(4);
    let model = small(&data);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let options = Train { batch: 4, checkpoint: Some(path.clone()), resume: true, ..quick(2) };
    options.run((&model, &data, None), &Context::new()).unwrap();
    let text = |m: &Model, d: &Dataset, o: &Train, seed| o.run((m, d, None), &Context::new().with_seed(seed)).unwrap_err().to_string();
    let e = text(&model, &data, &Train { weight_decay: 0.1, ..options.clone() }, 0);
    assert!(e.contains("its 'weight_decay' was the default, not 0.1"), "{e}");
    assert!(text(&model, &data, &options, 7).contains("its seed was 0, not 7"));
    assert!(text(&model, &shapes(5), &options, 0).contains("of 4 images of shapes train, not 5"));
    let classes = data.classes.to_vec();
    let wide =
        compresso_model::zoo::ZooOptions { classes: Some(classes), image_size: Some([64, 64]), width: Some(0.125), ..Default::default() };
    let e = text(&compresso_model::zoo::build("yolov8n", &wide).unwrap(), &data, &options, 0);
    assert!(e.contains("tensor '") && e.contains("the model's is") && e.contains("state.safetensors"), "{e}");
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(text(&model, &data, &options, 0).contains("state.safetensors"));
    }
    compresso_model::weights::save_tensors(&indexmap::IndexMap::new(), &path).unwrap();
    assert!(text(&model, &data, &options, 0).contains("holds no state of a training"));
    // Without `resume` it is written anew.
    Train { resume: false, ..options.clone() }.run((&model, &data, None), &Context::new()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len());
    assert!(
        text(&model, &data, &Train { checkpoint: Some(Path::new("x.bin").into()), ..quick(1) }, 0).contains("must end in .safetensors")
    );
    assert!(text(&model, &data, &Train { resume: true, ..quick(1) }, 0).contains("'resume' needs the file"));
}

fn batches(data: &Dataset, batch: usize) -> Vec<Batch> {
    let options = LoaderOptions { batch, size: [64, 64], ..LoaderOptions::default() };
    Loader::new(data, options, &Context::new()).unwrap().collect::<compresso_base::Result<_>>().unwrap()
}

const PLAIN: Pacing =
    Pacing { step: 0, total: 0, learning_rate: 0.1, bias_rate: 0.1, momentum: 0.0, weight_decay: 0.0, clip: 0.0, hold: false };

fn stepper<'a>(model: &Model, options: &Train, ctx: &'a Context) -> Stepper<'a> {
    let objective = Box::new(TaskLoss::of(model.task(), 0.0).unwrap());
    Stepper::new(model, objective, Vec::new(), (UpdateRule::Sgd { nesterov: false }, false), options, ctx).unwrap()
}

fn weights(s: &Stepper<'_>) -> Vec<f32> {
    s.params.params.iter().flat_map(|p| compresso_test_support::values(p.var.as_tensor())).collect()
}

#[test]
fn accumulated_gradients_are_the_sum() {
    let data = shapes(8);
    let (model, ctx) = (small(&data), Context::new());
    let batches = batches(&data, 4);
    let start = weights(&stepper(&model, &Train::default(), &ctx));
    let alone: Vec<Vec<f32>> = batches
        .iter()
        .map(|b| {
            let mut s = stepper(&model, &Train::default(), &ctx);
            s.step(b, &PLAIN).unwrap();
            weights(&s)
        })
        .collect();
    let mut both = stepper(&model, &Train::default(), &ctx);
    let held = both.step(&batches[0], &Pacing { hold: true, ..PLAIN }).unwrap();
    assert!(held.gradient_norm.is_none() && weights(&both) == start);
    assert!(both.step(&batches[1], &PLAIN).unwrap().gradient_norm.unwrap() > 0.0);
    let size = start.iter().zip(&alone[0]).map(|(s, a)| (s - a).abs()).fold(0.0, f32::max);
    for (i, got) in weights(&both).iter().enumerate() {
        let expected = alone[0][i] + alone[1][i] - start[i];
        assert!((got - expected).abs() < 1e-5 * size.max(1.0), "{got} {expected}");
    }
}

#[test]
fn the_warm_up_moves_rate_bias_rate_and_momentum() {
    let data = shapes(8);
    let options = Train { batch: 2, accumulate: 3, warmup: 1.0, warmup_momentum: Some(0.5), warmup_bias: 0.1, ..quick(5) };
    let options = Train { optimizer: OptimizerKind::Sgd, ..options };
    let plan = Plan::new(&small(&data), &data, &options, &Context::new()).unwrap();
    let at: Vec<Pacing> = (0..8).map(|s| plan.pacing(s, &options)).collect();
    assert_eq!(at.iter().map(|p| p.hold).collect::<Vec<_>>(), [true, true, false, false, true, true, false, false]);
    for (p, (rate, bias, momentum)) in at.iter().zip([(0.0025, 0.0775, 0.609_25), (0.005, 0.055, 0.7185)]) {
        assert!(
            (p.learning_rate - rate).abs() < 1e-9 && (p.bias_rate - bias).abs() < 1e-9 && (p.momentum - momentum).abs() < 1e-9,
            "{p:?}"
        );
    }
    assert_eq!((at[4].bias_rate, at[4].momentum), (at[4].learning_rate, 0.937));
}

#[test]
fn frozen_parameters_stay() {
    let data = shapes(8);
    let model = small(&data);
    for (freeze, frozen) in [
        (Freeze::Layers(10), (0..10).map(|i| format!("model.{i}.")).collect::<Vec<_>>()),
        (Freeze::Names(vec!["model.22.cv2".into()]), vec!["model.22.cv2.".to_string()]),
    ] {
        let trained = Train { freeze: Some(freeze), ..quick(1) }.run((&model, &data, None), &Context::new()).unwrap().model;
        for ((name, before), (_, after)) in constants(&model).iter().zip(&constants(&trained)) {
            let parameter = name.ends_with(".weight") || name.ends_with(".bias");
            if parameter && !name.contains("dfl") {
                assert_eq!(before == after, frozen.iter().any(|f| name.starts_with(f.as_str())), "{name}");
            }
        }
    }
    let text = |freeze| Train { freeze: Some(freeze), ..quick(1) }.run((&model, &data, None), &Context::new()).unwrap_err().to_string();
    assert!(text(Freeze::Layers(99)).contains("leaves nothing to train"));
    assert!(text(Freeze::Names(vec!["modle.3".into()])).contains("no parameter's name begins with 'modle.3'"));
}

#[test]
fn short_numbers_learn_like_float32_and_float16_leaves_overflowing_steps_out() {
    let data = shapes(8);
    let model = small(&data);
    let go = |precision| {
        let options = Train { precision, learning_rate: Some(0.005), ..quick(25) };
        let history = options.run((&model, &data, None), &Context::new()).unwrap().history;
        let losses: Vec<f64> = history.epochs.iter().filter(|e| !e.parts.is_empty()).map(|e| e.loss).collect();
        (losses[0], losses[losses.len() - 1], history.skipped_steps)
    };
    let (first, last, _) = go(MixedPrecision::Float32);
    let (bf_first, bf_last, skipped) = go(MixedPrecision::Bfloat16);
    assert!((bf_first - first).abs() < 0.02 * first && bf_first != first && skipped == 0, "{bf_first} {first}");
    assert!((bf_last - last).abs() < 0.2 * last, "{bf_last} {last}");
    let (_, half_last, skipped) = go(MixedPrecision::Float16);
    assert!((1..12).contains(&skipped), "{skipped}");
    // It had fewer steps.
    assert!(half_last < 0.7 * first && half_last < 2.0 * last, "{half_last} {last}");
}

#[test]
fn a_batch_that_overflows_changes_nothing() {
    let data = shapes(4);
    let (model, ctx) = (small(&data), Context::new());
    let mut batch = batches(&data, 4).remove(0);
    let mut s = stepper(&model, &Train { precision: MixedPrecision::Float16, ..Train::default() }, &ctx);
    let (start, scale) = (weights(&s), s.state().unwrap().scaler.unwrap().scale);
    batch.images = (batch.images * 1e30).unwrap();
    let done = s.step(&batch, &PLAIN).unwrap();
    assert!(done.overflowed && done.gradient_norm.is_none());
    assert!(weights(&s) == start);
    assert_eq!(s.state().unwrap().scaler.unwrap().scale, scale / 2.0);
    // It is no way out for ever: then the culprit is named.
    let e = (0..100).find_map(|_| s.step(&batch, &PLAIN).err()).unwrap().to_string();
    assert!(e.contains("the first such value is") && e.contains("model.0.conv"), "{e}");
}

#[test]
fn a_layer_for_one_image_size_says_that_sizes_cannot_vary() {
    let data = shapes(16);
    let zoo = compresso_model::zoo::ZooOptions {
        classes: Some(data.classes.to_vec()),
        image_size: Some([64, 64]),
        width: Some(0.0625),
        ..Default::default()
    };
    let model = compresso_model::zoo::build("yolo11n", &zoo).unwrap();
    let options = Train { multi_scale: 0.5, batch: 2, ..quick(1) };
    let e = options.run((&model, &data, None), &Context::new()).unwrap_err();
    assert!(e.to_string().contains("attn") && e.suggestion().unwrap().contains("'multi_scale'"), "{e}");
}
