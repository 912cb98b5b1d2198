//! Pruned and quantized models that learn from the model they were made from.

use super::*;
use crate::prune::Prune;
use crate::quantize::Quantize;
use compresso_learn::data::{DataKind, DataOptions, dataset};
use compresso_model::Task;
use compresso_model::zoo::{ZooOptions, build};
use std::sync::OnceLock;

fn shapes() -> Dataset {
    let options = DataOptions { images: Some(24), size: Some(64.into()), classes: Some(3.into()), ..DataOptions::default() };
    dataset("shapes", &options, &Context::new()).unwrap().for_training()
}

/// The same without labels.
fn images() -> Dataset {
    Dataset::new("bare", DataKind::Unlabelled, Vec::new(), shapes().source)
}

/// A detector that has learnt something: one with random weights says the same of all images.
fn net() -> Model {
    static NET: OnceLock<Model> = OnceLock::new();
    let made = || {
        let options = ZooOptions {
            classes: Some(shapes().classes.to_vec()),
            image_size: Some([64, 64]),
            width: Some(0.125),
            depth: Some(0.33),
            seed: 3,
            ..ZooOptions::default()
        };
        let train = Train { epochs: 20, batch: 8, learning_rate: Some(5e-3), augment: false, ema: false, ..Train::default() };
        train.run((&build("yolov8n", &options).unwrap(), &shapes(), None), &Context::new()).unwrap().model
    };
    NET.get_or_init(made).clone()
}

fn quick() -> Recover {
    Recover { epochs: 6, batch: 8, augment: false, ema: false, learning_rate: 2e-3, ..Recover::default() }
}

/// The difference from the teacher before and after, as the note says it.
fn differences(model: &Model, teacher: &Model, options: &Recover) -> (f64, f64, Model) {
    let (ctx, data) = (Context::new(), images());
    let loss = Chosen::named("kd").unwrap();
    let lesson =
        Lesson { labels: None, logits: Some(&loss), temperature: None, features: None, soft: 1.0, hard: 0.0, classes: ClassMatch::Same };
    let mut objective = Imitation::new(model, teacher, lesson, &ctx).unwrap();
    let held = Held::new(model, &data, 24, 8, &ctx).unwrap();
    let recovered = options.run((model, teacher, &data), &ctx).unwrap().model;
    let mut of = |m: &Model| held.loss(m.graph(), &mut objective, &ctx).unwrap();
    (of(model), of(&recovered), recovered)
}

#[test]
fn pruned_models_come_nearer_to_what_they_were_without_labels() {
    let teacher = net();
    let pruned = Prune { ratio: 0.5, ..Prune::default() }.apply(&teacher, None, &Context::new()).unwrap();
    let (before, after, recovered) = differences(&pruned, &teacher, &quick());
    assert!(after < 0.9 * before, "{before} → {after}");
    assert_eq!(recovered.steps().last().unwrap().operation, "recover");
    assert_eq!(recovered.graph().nodes(), pruned.graph().nodes());
    // The same, where what the model is for is not known: the outputs are compared as they are.
    let [teacher, pruned] = [teacher, pruned].map(|m| Model::new(m.graph().clone(), Task::Unknown).with_image_size([64, 64]));
    let (before, after, _) = differences(&pruned, &teacher, &quick());
    assert!(after < before, "{before} → {after}");
}

#[test]
fn quantized_models_stay_quantized() {
    let teacher = net();
    let options = Quantize { weight_bits: 3, score: false, images: 8, ..Quantize::default() };
    let quantized = options.apply(&teacher, Some(&images()), &Context::new()).unwrap();
    let (before, after, recovered) = differences(&quantized, &teacher, &quick());
    assert!(after < before, "{before} → {after}");
    let integers = |m: &Model| m.graph().constants().values().filter(|c| c.element().int_range().is_some()).count();
    assert_eq!(integers(&recovered), integers(&quantized));
}

#[test]
fn a_model_that_does_not_come_nearer_stays_as_it_was() {
    let teacher = net();
    let pruned = Prune { ratio: 0.3, ..Prune::default() }.apply(&teacher, None, &Context::new()).unwrap();
    let wild = Recover { learning_rate: 0.3, epochs: 1, ..quick() };
    let (before, after, recovered) = differences(&pruned, &teacher, &wild);
    assert_eq!(before, after);
    assert_eq!(recovered.graph().constants(), pruned.graph().constants());
}

#[test]
fn cancelling_at_once_leaves_nothing_behind() {
    let teacher = net();
    let ctx = Context::new();
    ctx.cancel.cancel();
    let e = quick().run((&teacher, &teacher, &images()), &ctx).unwrap_err();
    assert!(e.is_cancelled(), "{e}");
}

#[test]
fn models_that_do_not_belong_together_are_named() {
    let other = build("classifier", &ZooOptions { image_size: Some([64, 64]), ..ZooOptions::default() }).unwrap();
    let e = quick().run((&net(), &other, &images()), &Context::new()).unwrap_err();
    assert!(e.to_string().contains("the teacher has no value"), "{e}");
    let unfit = Recover { loss: Some(Chosen::named("dist").unwrap()), ..quick() };
    let e = unfit.run((&net(), &net(), &images()), &Context::new()).unwrap_err();
    assert!(e.to_string().contains("loss \"dist\" is not for detectors"), "{e}");
}
