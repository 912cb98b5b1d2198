//! Values and gradients of all losses against PyTorch's.

use super::super::{Chosen, Entry};
use super::*;
use candle_core::Var;
use compresso_model::ops::ParamKind;
use compresso_test_support::{arrays, relative, values};
use indexmap::IndexMap;

type Fixture = IndexMap<String, Tensor>;

fn fixture() -> Fixture {
    arrays("distill/losses.npz").into_iter().collect()
}

/// `total` must have this value, and these gradients by the variables.
fn holds(f: &Fixture, name: &str, total: &Tensor, variables: &[&Var]) {
    let (value, wanted) = (total.to_scalar::<f32>().unwrap(), values(&f[&format!("{name}.value")])[0]);
    assert!((value - wanted).abs() < 1e-4 * wanted.abs().max(1.0), "{name}: {value} {wanted}");
    let grads = total.backward().unwrap();
    for (i, var) in variables.iter().enumerate() {
        let off = relative(grads.get(var.as_tensor()).unwrap(), &f[&format!("{name}.grad.{i}")]);
        assert!(off < 1e-4, "{name}: gradient {i} is off by {off}");
    }
}

#[test]
fn losses_of_classes_equal_pytorch() {
    let f = fixture();
    let labels: Vec<usize> = values(&f["classes.labels"]).iter().map(|&v| v as usize).collect();
    for &entry in LogitLoss::ALL {
        let Some(loss) = entry.classes else { continue };
        let student = Var::from_tensor(&f["classes.student"]).unwrap();
        let temperature = if entry.name == "dist" { 2.0 } else { entry.temperature[0] };
        let classes = Classes { student: student.as_tensor(), teacher: &f["classes.teacher"], labels: &labels, temperature };
        let soft = loss(&classes, Chosen::of(entry).values()).unwrap();
        assert!((soft.value - f64::from(soft.total.to_scalar::<f32>().unwrap())).abs() < 1e-5);
        holds(&f, &format!("classes.{}", entry.name), &soft.total, &[&student]);
    }
}

#[test]
fn losses_of_heads_equal_pytorch() {
    let f = fixture();
    for bins in [4, 1] {
        let of = |kind: &str| -> [Tensor; 2] { [0, 1].map(|i| f[&format!("heads{bins}.{kind}{i}")].clone()) };
        let (tb, ts) = (of("tb"), of("ts"));
        let head = DetectHead { boxes: vec![String::new(); 2], scores: vec![String::new(); 2], strides: vec![8, 16], reg_max: bins };
        for &entry in LogitLoss::ALL {
            let Some(loss) = entry.head else { continue };
            let [sb, ss] = ["sb", "ss"].map(|kind| of(kind).map(|t| Var::from_tensor(&t).unwrap()));
            let level = |i: usize| LevelPair { boxes: [sb[i].as_tensor(), &tb[i]], scores: [ss[i].as_tensor(), &ts[i]] };
            let levels = [level(0), level(1)];
            let temperature = if entry.name == "bce" { 1.0 } else { 2.0 };
            let heads = Heads { levels: &levels, head: &head, gains: Gains { class: 0.5, boxes: 1.5 }, temperature };
            let soft = loss(&heads, Chosen::of(entry).values()).unwrap();
            let vars: Vec<&Var> = if entry.name == "ld" { sb.iter().collect() } else { ss.iter().chain(&sb).collect() };
            holds(&f, &format!("heads{bins}.{}", entry.name), &soft.total, &vars);
            assert!((2.0 * soft.value - f64::from(soft.total.to_scalar::<f32>().unwrap())).abs() < 1e-4, "the total is that of two images");
        }
    }
}

#[test]
fn losses_of_feature_maps_equal_pytorch() {
    let f = fixture();
    for &entry in FeatureLoss::ALL {
        let student = Var::from_tensor(&f["features.student"]).unwrap();
        let params = (entry.variables)(4).into_iter().zip(["first", "second"]).map(|((name, shape), key)| {
            let weight = &f[&format!("features.{key}")];
            assert_eq!(weight.dims(), shape);
            Param::new(name, weight, ParamKind::Weight).unwrap()
        });
        let params: Vec<Param> = params.collect();
        let maps = Maps {
            student: student.as_tensor(),
            teacher: &f["features.teacher"],
            confidence: Some(&f["features.confidence"]),
            variables: &params,
            seed: 1,
        };
        let chosen = Chosen::of(entry);
        let chosen = if entry.name == "cwd" { chosen.with("temperature", 2.0).unwrap() } else { chosen };
        let loss = match entry.name {
            "mgd" => mgd::generated(&maps, &f["features.kept"]).unwrap(),
            _ => (entry.loss)(&maps, chosen.values()).unwrap(),
        };
        let vars: Vec<&Var> = std::iter::once(&student).chain(params.iter().map(|p| &p.var)).collect();
        holds(&f, &format!("features.{}", entry.name), &loss, &vars);
    }
}

#[test]
fn a_student_like_its_teacher_has_nothing_to_learn_from_feature_maps() {
    let f = fixture();
    let teacher = &f["features.teacher"];
    for &entry in FeatureLoss::ALL.iter().filter(|e| e.name != "mgd") {
        let student = Var::from_tensor(teacher).unwrap();
        for confidence in [None, Some(&f["features.confidence"])] {
            let maps = Maps { student: student.as_tensor(), teacher, confidence, variables: &[], seed: 0 };
            let loss = (entry.loss)(&maps, Chosen::of(entry).values()).unwrap();
            assert!(loss.to_scalar::<f32>().unwrap().abs() < 1e-5, "{}", entry.name);
        }
    }
}

/// The example of docs/adding-a-loss.md.
#[test]
fn the_recipes_loss_is_that_of_the_angle() {
    let turned = Tensor::from_vec(vec![3f32, 0.0, 0.0, 2.0], (1, 2, 1, 2), &candle_core::Device::Cpu).unwrap();
    let along = Tensor::from_vec(vec![1f32, 1.0, 0.0, 0.0], (1, 2, 1, 2), &candle_core::Device::Cpu).unwrap();
    let maps = Maps { student: &turned, teacher: &along, confidence: None, variables: &[], seed: 0 };
    // Of two places one agrees and one is at a right angle.
    let loss = (cosine::COSINE.loss)(&maps, Chosen::of(&cosine::COSINE).values()).unwrap();
    assert!((loss.to_scalar::<f32>().unwrap() - 0.5).abs() < 1e-6);
}

#[test]
fn masks_hide_their_share_and_follow_the_seed() {
    let f = fixture();
    let params: Vec<Param> =
        ["first", "second"].map(|key| Param::new(key, &f[&format!("features.{key}")], ParamKind::Weight).unwrap()).into_iter().collect();
    let loss = |seed: u64, mask: f64| {
        let (student, teacher) = (&f["features.student"], &f["features.teacher"]);
        let maps = Maps { student, teacher, confidence: None, variables: &params, seed };
        (mgd::MGD.loss)(&maps, &[mask]).unwrap().to_scalar::<f32>().unwrap()
    };
    assert_eq!(loss(1, 0.65), loss(1, 0.65));
    assert_ne!(loss(1, 0.65), loss(2, 0.65));
    assert_eq!(loss(1, 0.0), loss(2, 0.0));
}

#[test]
fn what_a_loss_needs_is_named() {
    let f = fixture();
    let classes = Classes { student: &f["classes.student"], teacher: &f["classes.teacher"], labels: &[], temperature: 4.0 };
    let e = dkd::DKD.classes.unwrap()(&classes, &[1.0, 8.0]).unwrap_err();
    assert!(e.to_string().contains("needs a label for each image"), "{e}");
}
