//! Distillation losses against PyTorch's numbers, and whole runs.

use super::*;
use crate::teach::{ClassPart, Comparing, FeaturePair, Gains, LevelPair, class_divergence, head_divergence, pairs, resize};
use candle_core::{DType, Device, Tensor, Var};
use compresso_learn::data::{DataOptions, dataset};
use compresso_learn::train::{Param, cross_entropy};
use compresso_model::DetectHead;
use compresso_model::ops::ParamKind;
use compresso_model::zoo::{ZooOptions, build};
use compresso_test_support::{arrays, relative, values};

fn detector(data: &Dataset, width: f64, seed: u64) -> Model {
    named("yolov8n", data, width, seed)
}

fn named(name: &str, data: &Dataset, width: f64, seed: u64) -> Model {
    let options = ZooOptions {
        classes: Some(data.classes.to_vec()),
        image_size: Some([64, 64]),
        width: Some(width),
        depth: Some(0.33),
        seed,
        ..ZooOptions::default()
    };
    build(name, &options).unwrap()
}

fn shapes(images: usize) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(images), ..DataOptions::default() }, &Context::new()).unwrap().for_training()
}

fn quick(method: Method) -> Distill {
    let train = Train { epochs: 6, batch: 8, augment: false, validate_every: 0, learning_rate: Some(5e-3), ema: false, ..Train::default() };
    Distill { method, train, ..Distill::default() }
}

#[test]
fn classifier_loss_equals_pytorch() {
    let f = arrays("train/distillation.npz");
    let student = Var::from_tensor(&f["student"]).unwrap();
    let soft = class_divergence(student.as_tensor(), &f["teacher"], 4.0).unwrap();
    assert!((soft.value as f32 - values(&f["soft"])[0]).abs() < 1e-5);
    let labels: Vec<usize> = values(&f["labels"]).iter().map(|&v| v as usize).collect();
    let (hard, gradient) = cross_entropy(student.as_tensor(), &labels, 0.0).unwrap();
    let total = 0.7 * soft.value + 0.3 * hard;
    assert!((total as f32 - values(&f["total"])[0]).abs() < 1e-5);
    let of_soft = (soft.total * 0.7).unwrap().backward().unwrap();
    let of_hard = Tensor::from_vec(gradient, student.shape(), &Device::Cpu).unwrap();
    let all = (of_soft.get(student.as_tensor()).unwrap() + (of_hard * 0.3).unwrap()).unwrap();
    assert!(relative(&all, &f["grad"]) < 1e-5);
}

#[test]
fn feature_loss_equals_pytorch() {
    let f = arrays("train/distillation.npz");
    let adapter = Param::new("a", &f["feature.weight"], ParamKind::Weight).unwrap();
    let student = Var::from_tensor(&f["feature.student"]).unwrap();
    let pair = FeaturePair { student: "s".into(), teacher: "t".into(), adapter: Some(adapter.clone()), variables: Vec::new(), weight: 1.0 };
    let mse = Chosen::named("mse").unwrap();
    let loss =
        |balance: bool| pair.loss(student.as_tensor(), &f["feature.teacher"], None, Comparing { loss: &mse, balance, seed: 0 }).unwrap();
    let size = f["feature.teacher"].sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    assert!((loss(true).to_scalar::<f32>().unwrap() * size - values(&f["feature.loss"])[0]).abs() < 1e-5);
    let loss = loss(false);
    assert!((loss.to_scalar::<f32>().unwrap() - values(&f["feature.loss"])[0]).abs() < 1e-5);
    let grads = loss.backward().unwrap();
    assert!(relative(grads.get(student.as_tensor()).unwrap(), &f["feature.grad"]) < 1e-5);
    assert!(relative(grads.get(adapter.var.as_tensor()).unwrap(), &f["feature.weight_grad"]) < 1e-5);
    assert!(relative(&resize(&f["feature.teacher"], [5, 3]).unwrap(), &f["feature.small"]) < 1e-5);
}

#[test]
fn a_head_equal_to_its_teachers_has_no_loss_and_slopes_equal_finite_differences() {
    let cpu = &Device::Cpu;
    // Of distributions, and of plain distances.
    for reg_max in [4, 1] {
        slopes_of(&DetectHead { boxes: vec!["b".into()], scores: vec!["s".into()], strides: vec![8], reg_max }, cpu);
    }
}

fn slopes_of(head: &DetectHead, cpu: &Device) {
    let gains = Gains { class: 0.5, boxes: 1.5 };
    let random = |dims: &[usize], seed: usize| {
        let n: usize = dims.iter().product();
        let v: Vec<f32> = (0..n).map(|i| ((i * 37 + seed * 101) % 89) as f32 / 20.0 - 2.0).collect();
        Tensor::from_vec(v, dims, cpu).unwrap()
    };
    let (b, s) = ([2usize, 4 * head.reg_max, 2, 3], [2usize, 3, 2, 3]);
    let (tb, ts) = (random(&b, 1), random(&s, 2));
    let value = |sb: &Tensor, ss: &Tensor| {
        head_divergence(&[LevelPair { boxes: [sb, &tb], scores: [ss, &ts] }], head, 2.0, gains, ClassPart::Everywhere).unwrap()
    };
    assert!(value(&tb, &ts).value.abs() < 1e-6);
    let (sb, ss) = (Var::from_tensor(&random(&b, 3)).unwrap(), Var::from_tensor(&random(&s, 4)).unwrap());
    let grads = value(sb.as_tensor(), ss.as_tensor()).total.backward().unwrap();
    for (var, is_box) in [(&sb, true), (&ss, false)] {
        let gradient = values(grads.get(var.as_tensor()).unwrap());
        for i in [0, 7, 17] {
            let moved = |h: f32| {
                let mut v = values(var.as_tensor());
                v[i] += h;
                let t = Tensor::from_vec(v, var.shape(), cpu).unwrap();
                // The total is the value times the two images.
                2.0 * if is_box { value(&t, ss.as_tensor()).value } else { value(sb.as_tensor(), &t).value }
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 2e-3 * slope.abs().max(0.1), "{is_box} {i}: {slope} {}", gradient[i]);
        }
    }
}

#[test]
fn detectors_learn_from_a_wider_teacher_by_each_method() {
    let data = shapes(8);
    let (student, teacher) = (detector(&data, 0.0625, 1), detector(&data, 0.125, 2));
    for (method, part) in [(Method::Logits, "soft"), (Method::Features, "feature"), (Method::Both, "feature")] {
        let trained = quick(method).run((&student, &teacher, &data, None), &Context::new()).unwrap();
        let epochs = &trained.history.epochs;
        assert!(epochs[5].parts[part] < epochs[0].parts[part], "{method}: {:?}", epochs.iter().map(|e| e.parts[part]).collect::<Vec<_>>());
        let steps = trained.model.steps();
        assert_eq!(steps.last().unwrap().operation, "distill");
        assert!(trained.model.graph().constants().keys().all(|n| !n.contains("adapter")), "adapters are not the student's");
    }
}

#[test]
fn heads_that_give_one_box_learn_from_one_that_does() {
    let data = shapes(8);
    for name in ["yolov10n", "yolo26n"] {
        let (student, teacher) = (named(name, &data, 0.0625, 1), named(name, &data, 0.125, 2));
        for (method, part) in [(Method::Logits, "soft"), (Method::Features, "feature")] {
            let trained = quick(method).run((&student, &teacher, &data, None), &Context::new()).unwrap();
            let epochs = &trained.history.epochs;
            assert!(epochs[5].parts[part] < epochs[0].parts[part], "{name} {method}");
            assert_eq!(trained.model.graph().nodes(), student.graph().nodes(), "{name} {method}");
        }
        // What a head says that gives several boxes means something else.
        let many = detector(&data, 0.125, 2);
        let e = quick(Method::Logits).run((&student, &many, &data, None), &Context::new()).unwrap_err();
        assert!(e.suggestion().unwrap().contains("\"features\""), "{e}");
    }
}

#[test]
fn features_are_found_at_the_inputs_of_the_head() {
    let data = shapes(2);
    let (student, teacher) = (detector(&data, 0.0625, 1), detector(&data, 0.125, 2));
    let mse = Chosen::named("mse").unwrap();
    let found = pairs(&student, &teacher, Named::default(), &mse, 0, &Device::Cpu).unwrap();
    let facts = compresso_model::graph::infer_at(student.graph(), 1, Some([64, 64])).unwrap();
    let sizes: Vec<_> = found.iter().map(|p| facts[&p.student].dims().unwrap()[2]).collect();
    assert_eq!(sizes, [8, 4, 2]);
    assert!(found.iter().all(|p| p.student.starts_with("model.") && p.adapter.is_some()), "channels differ at every level");
    let own: Vec<String> = found.iter().map(|p| p.student.clone()).collect();
    assert!(own.iter().zip(["model.15.", "model.18.", "model.21."]).all(|(n, stem)| n.starts_with(stem)), "{own:?}");
    let e = {
        let names = ["model.15.cv2.nothing".to_string()];
        pairs(&student, &teacher, Named { student: &names, ..Named::default() }, &mse, 0, &Device::Cpu).err()
    }
    .unwrap();
    assert!(e.to_string().contains("student: the model has no node or value"), "{e}");
}

#[test]
fn models_and_options_that_do_not_fit_are_named() {
    let data = shapes(4);
    let student = detector(&data, 0.0625, 1);
    let other = build(
        "yolov8n",
        &ZooOptions { classes: Some(vec!["x".into()]), image_size: Some([64, 64]), width: Some(0.0625), ..ZooOptions::default() },
    );
    let text = |d: Distill, teacher: &Model| d.run((&student, teacher, &data, None), &Context::new()).unwrap_err().to_string();
    let e = text(quick(Method::Logits), &other.unwrap());
    assert!(e.contains("the teacher has 1 class (x)") && e.contains("method \"features\""), "{e}");
    let e = text(Distill { temperature: Some(0.0), ..quick(Method::Logits) }, &student);
    assert!(e.contains("option 'temperature' must be above 0"), "{e}");
    let e = text(Distill { alpha: Some(f64::NAN), ..quick(Method::Logits) }, &student);
    assert!(e.contains("option 'alpha'"), "{e}");
    let t = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap();
    let e = class_divergence(&t, &Tensor::zeros((1, 4), DType::F32, &Device::Cpu).unwrap(), 4.0).unwrap_err();
    assert!(e.to_string().starts_with("the student's logits are [1, 3], the teacher's [1, 4]"), "{e}");
}
