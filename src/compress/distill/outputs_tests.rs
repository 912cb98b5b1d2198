//! Distillation of models for masks, key points and turned boxes.

use super::*;
use crate::teach::output_difference;
use candle_core::{Device, Tensor, Var};
use compresso_learn::data::{DataKind, DataOptions, dataset};
use compresso_model::zoo::{ZooOptions, build};
use compresso_model::{Constant, InstanceKind, Instances, Patch};
use compresso_test_support::values;

const KINDS: [&str; 3] = ["seg", "pose", "obb"];

fn net(family: &str, kind: &str, width: f64, seed: u64) -> Model {
    let options = ZooOptions {
        classes: Some(["a", "b"].map(String::from).to_vec()),
        image_size: Some([64, 64]),
        width: Some(width),
        depth: Some(0.33),
        seed,
        ..ZooOptions::default()
    };
    build(&format!("{family}-{kind}"), &options).unwrap()
}

/// The model with other numbers in the last layers of its classes, which `change` gives for their names and numbers.
fn with_classes(m: &Model, change: impl Fn(&str, Vec<f32>) -> Vec<f32>) -> Model {
    let mut patch = Patch::new(m.graph());
    let parts = ["weight", "bias"].into_iter().flat_map(|part| (0..3).map(move |level| format!("model.22.cv3.{level}.2.{part}")));
    for name in parts {
        let constant = m.graph().constant(&name).unwrap();
        let values = constant.to_f64s().unwrap().into_iter().map(|v| v as f32).collect();
        patch.set_constant(name.clone(), Constant::floats(constant.dims(), &change(&name, values)).unwrap());
    }
    Model::new(patch.apply().unwrap(), m.task().clone())
}

/// A model that has seen something.
fn confident(m: &Model) -> Model {
    with_classes(m, |name, values| if name.ends_with("bias") { vec![-1.0, -2.0] } else { values })
}

/// Images without labels.
fn bare(images: usize) -> Dataset {
    let options = DataOptions { images: Some(images), ..DataOptions::default() };
    let data = dataset("shapes", &options, &Context::new()).unwrap().for_training();
    Dataset::new("bare", DataKind::Unlabelled, Vec::new(), data.source)
}

fn quick(method: Method) -> Distill {
    let train = Train { epochs: 5, batch: 8, augment: false, learning_rate: Some(5e-3), ema: false, ..Train::default() };
    Distill { method, train, ..Distill::default() }
}

#[test]
fn students_learn_from_outputs_without_labels() {
    let data = bare(8);
    for kind in KINDS {
        let (student, teacher) = (net("yolov8n", kind, 0.0625, 1), confident(&net("yolov8n", kind, 0.125, 2)));
        let trained = quick(Method::Logits).run((&student, &teacher, &data, None), &Context::new()).unwrap();
        let epochs = &trained.history.epochs;
        assert_eq!(epochs[0].parts.keys().collect::<Vec<_>>(), ["soft"], "{kind}");
        assert!(
            epochs[4].parts["soft"] < 0.99 * epochs[0].parts["soft"],
            "{kind}: {:?}",
            epochs.iter().map(|e| e.parts["soft"]).collect::<Vec<_>>()
        );
        // What only decodes boxes is no weight.
        let kernel = |m: &Model| m.graph().constant("model.22.dfl.conv.weight").unwrap().to_f64s().unwrap();
        assert_eq!(kernel(&trained.model), (0..16).map(f64::from).collect::<Vec<_>>(), "{kind}");
        assert_eq!(trained.model.task(), student.task());
    }
}

#[test]
fn features_need_no_labels_either() {
    let data = bare(4);
    let (student, teacher) = (net("yolo26n", "seg", 0.0625, 1), net("yolo26n", "seg", 0.125, 2));
    let named = |m: &Model| m.graph().nodes().iter().flat_map(|n| &n.outputs).find(|v| v.starts_with("model.9.")).unwrap().clone();
    let with = |names: &[String], of_teacher: &[String]| {
        let options = Distill { features: names.to_vec(), teacher_features: of_teacher.to_vec(), ..quick(Method::Features) };
        options.run((&student, &teacher, &data, None), &Context::new())
    };
    // Those that are named, and those that are found.
    for (own, other) in [(vec![named(&student)], vec![named(&teacher)]), (Vec::new(), Vec::new())] {
        let trained = with(&own, &other).unwrap();
        let epochs = &trained.history.epochs;
        assert!(epochs[4].parts["feature"] < epochs[0].parts["feature"], "{own:?}");
    }
    let e = with(&[named(&student)], &[named(&teacher), named(&teacher)]).err().unwrap();
    assert!(e.to_string().contains("1 feature maps of the student, 2 of the teacher"), "{e}");
}

fn tensor(dims: &[usize], value: impl Fn(usize) -> f32) -> Tensor {
    Tensor::from_vec((0..dims.iter().product()).map(value).collect::<Vec<f32>>(), dims, &Device::Cpu).unwrap()
}

#[test]
fn equal_outputs_have_no_loss_and_slopes_equal_finite_differences() {
    let (batch, anchors, classes) = (2, 5, 3);
    for (kind, more) in [
        (InstanceKind::Masks { prototypes: 4 }, 4),
        (InstanceKind::KeyPoints { points: 2, numbers: 3 }, 6),
        (InstanceKind::KeyPoints { points: 2, numbers: 2 }, 4),
        (InstanceKind::Turned, 1),
    ] {
        let task = Instances { kind, classes: vec!["x".into(); classes], image_size: [64, 64], outputs: Vec::new(), finished: false };
        let rows = 4 + classes + more;
        let numbers = |seed: usize| {
            tensor(&[batch, rows, anchors], |i| {
                let (row, part) = (i / anchors % rows, ((i * 37 + seed * 101) % 89) as f32 / 89.0);
                // Boxes and points in pixels, probabilities, visibilities.
                let visibility =
                    matches!(kind, InstanceKind::KeyPoints { numbers: 3, .. }) && row >= 4 + classes && (row - 4 - classes) % 3 == 2;
                if row < 4 {
                    5.0 + 20.0 * part
                } else if row < 4 + classes || visibility {
                    0.1 + 0.8 * part
                } else {
                    3.0 * part
                }
            })
        };
        let second = |seed: usize| tensor(&[batch, 4, 3, 3], |i| ((i * 31 + seed * 7) % 13) as f32 / 6.0 - 1.0);
        let has_prototypes = matches!(kind, InstanceKind::Masks { .. });
        let all = |seed: usize| if has_prototypes { vec![numbers(seed), second(seed)] } else { vec![numbers(seed)] };
        let teacher = all(1);
        let loss = |student: &[Tensor]| output_difference(&task, student, &teacher).unwrap();
        assert!(loss(&teacher).value.abs() < 1e-6, "{kind:?}");
        let vars: Vec<Var> = all(2).iter().map(|t| Var::from_tensor(t).unwrap()).collect();
        let student: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let grads = loss(&student).total.backward().unwrap();
        for (at, var) in vars.iter().enumerate() {
            let gradient = values(grads.get(var.as_tensor()).unwrap());
            assert!(gradient.iter().filter(|g| g.abs() > 1e-7).count() > gradient.len() / 2, "{kind:?}: something has no slope");
            for i in (0..gradient.len()).step_by(3) {
                let moved = |h: f32| {
                    let mut v = values(var.as_tensor());
                    v[i] += h;
                    let mut moved = student.clone();
                    moved[at] = Tensor::from_vec(v, var.shape(), &Device::Cpu).unwrap();
                    // The total is the value times the two images.
                    2.0 * loss(&moved).value
                };
                let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
                assert!(
                    (slope - f64::from(gradient[i])).abs() < 5e-3 * slope.abs().max(0.02),
                    "{kind:?} {at} {i}: {slope} {}",
                    gradient[i]
                );
            }
        }
    }
}

#[test]
fn the_teachers_classes_are_put_in_order() {
    let data = bare(4);
    let (student, teacher) = (net("yolov8n", "obb", 0.0625, 1), confident(&net("yolov8n", "obb", 0.0625, 2)));
    let reversed = |_: &str, values: Vec<f32>| [&values[values.len() / 2..], &values[..values.len() / 2]].concat();
    // The same teacher, which counts its classes from the other end.
    let turned = with_classes(&teacher, reversed).renamed(&["b".to_string(), "a".to_string()]);
    let losses = |teacher: &Model| {
        let trained = quick(Method::Logits).run((&student, teacher, &data, None), &Context::new()).unwrap();
        trained.history.epochs.iter().map(|e| e.parts["soft"]).collect::<Vec<f64>>()
    };
    let (own, other) = (losses(&teacher), losses(&turned));
    assert!(own.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-6 * a), "{own:?} {other:?}");
}

#[test]
fn what_cannot_be_compared_is_named() {
    let data = bare(4);
    let seg = net("yolov8n", "seg", 0.0625, 1);
    let fails = |d: Distill, teacher: &Model, val: Option<&Dataset>, part: &str| {
        let e = d.run((&seg, teacher, &data, val), &Context::new()).unwrap_err();
        assert!(e.to_string().contains(part), "{e}");
    };
    let logits = || quick(Method::Logits);
    fails(logits(), &net("yolov8n", "obb", 0.0625, 1), None, "the student finds masks, the teacher turned boxes");
    fails(logits(), &net("yolo26n", "seg", 0.0625, 1), None, "the teacher gives finished rows");
    fails(Distill { alpha: Some(0.5), ..logits() }, &seg, None, "option 'alpha' has no effect on models of masks");
    fails(logits(), &seg, Some(&data), "models of this task are not evaluated");
    let e = Train::default().run((&seg, &data, None), &Context::new()).unwrap_err();
    assert!(e.to_string().contains("they have no loss"), "{e}");
}
