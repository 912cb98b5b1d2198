//! Recovery without training.

use super::random_nets::build;
use super::*;
use crate::prune::judge::{Judge, feeds as images_of};
use compresso_learn::data::{DataOptions, dataset};
use proptest::prelude::*;

fn shapes(images: usize, size: usize) -> Dataset {
    let options = serde_json::json!({ "images": images, "size": size, "classes": 3, "task": "detect" });
    dataset("shapes", &compresso_base::operation::decode::<DataOptions>(options).unwrap(), &Context::new()).unwrap()
}

fn with(recover: Recover) -> Prune {
    Prune { importance: Some(Importance::L2), recover: Some(recover), images: 20, score: false, ..half() }
}

/// Output error on all images that a pruning may look at.
fn error(before: &Model, after: &Model, data: &Dataset) -> f64 {
    let ctx = Context::new();
    let feeds = images_of(before.graph(), before.task(), data, 20, &ctx).unwrap();
    Judge::new(before.graph(), &feeds, &ctx).unwrap().error(after.graph(), &ctx).unwrap()
}

fn errors(model: &Model, data: &Dataset) -> [f64; 3] {
    [Recover::None, Recover::Bias, Recover::Weights]
        .map(|how| error(model, &with(how).apply(model, Some(data), &Context::new()).unwrap(), data))
}

/// Where half of the channels are sums of the others, none is missed once their readers are solved.
fn redundant(n: &mut Net, name: &str, x: &str, from: usize, k: usize) -> String {
    let half: Vec<f32> = (0..4 * from * k * k).map(|_| n.random() - 0.5).collect();
    let part = from * k * k;
    let mut all = half.clone();
    for i in 0..4 {
        let other = (i + 1) % 4;
        all.extend((0..part).map(|j| 0.5 * half[i * part + j] - 0.25 * half[other * part + j]));
    }
    let w = n.b.constant(&format!("{name}.weight"), Constant::floats(&[8, from, k, k], &all).unwrap());
    let pad = [k as i64 / 2; 4];
    n.b.node(Node::new("Conv", name, [x, &w], [""]).ints("pads", &pad))
}

#[test]
fn what_others_can_make_up_for_is_not_missed() {
    let data = shapes(24, 16);
    let mut n = Net::new(17);
    let x = n.image(3, 16);
    let y = redundant(&mut n, "a", &x, 3, 3);
    let m = n.end(&y, 8);
    let [none, bias, weights] = errors(&m, &data);
    assert!(none > 0.01 && bias <= none, "{none} {bias}");
    assert!(weights < 1e-6, "{weights}");
}

/// Each kind of layer that can be solved, and each place that a bias may have.
#[test]
fn layers_of_all_kinds_are_solved() {
    let data = shapes(24, 16);
    let nets: [(&str, fn(&mut Net, &str) -> String); 6] = [
        ("strides and dilations", |n, x| {
            let w = n.weight("c.weight", &[6, 8, 3, 3]);
            n.b.node(Node::new("Conv", "c", [x, &w], [""]).ints("strides", &[2, 1]).ints("dilations", &[1, 2]).ints("pads", &[1, 0, 2, 1]))
        }),
        ("groups", |n, x| n.conv("c", x, 8, 8, 3, 2)),
        ("depthwise", |n, x| {
            let y = n.conv("c", x, 8, 8, 3, 8);
            n.conv("d", &y, 8, 4, 1, 1)
        }),
        ("norm", |n, x| {
            let w = n.weight("c.weight", &[6, 8, 1, 1]);
            let y = n.b.node(Node::new("Conv", "c", [x, &w], [""]));
            n.batch_norm("bn", &y, 6)
        }),
        ("matmul", |n, x| {
            let y = n.b.node(Node::new("Transpose", "", [x], [""]).ints("perm", &[0, 2, 3, 1]));
            let (w, b) = (n.weight("c.weight", &[8, 6]), n.weight("c.bias", &[6]));
            let y = n.op("MatMul", &[&y, &w]);
            n.op("Add", &[&y, &b])
        }),
        ("gemm", |n, x| {
            let y = n.op("GlobalAveragePool", &[x]);
            let y = n.op("Flatten", &[&y]);
            let (w, b) = (n.weight("c.weight", &[6, 8]), n.weight("c.bias", &[6]));
            n.b.node(Node::new("Gemm", "c", [&y, &w, &b], [""]).int("transB", 1))
        }),
    ];
    for (name, end) in nets {
        let mut n = Net::new(17);
        let x = n.image(3, 16);
        let y = redundant(&mut n, "a", &x, 3, 3);
        let y = n.op("LeakyRelu", &[&y]);
        let y = end(&mut n, &y);
        n.b.output(&y);
        let m = n.model();
        let [none, _, weights] = errors(&m, &data);
        // Depthwise layers have no other channels to go by.
        let part = if name == "depthwise" { 1.0 } else { 0.5 };
        assert!(weights <= part * none && weights.is_finite(), "{name}: {none} → {weights}");
        let out = |m: &Model| m.graph().facts().unwrap()[&m.graph().outputs()[0].name].shape.clone();
        assert_eq!(out(&m).is_some(), out(&with(Recover::Weights).apply(&m, Some(&data), &Context::new()).unwrap()).is_some(), "{name}");
    }
}

#[test]
fn a_dataset_is_enough_to_recover_and_the_report_says_so() {
    let data = shapes(24, 8);
    let m = two_layers();
    let options = Prune { images: 20, ..half() };
    let notes = Arc::new(Notes::default());
    let made = options.run((&m, Some(&data)), &Context::new().with_progress(notes.clone())).unwrap();
    let recovery = made.report.unwrap().recovery.unwrap();
    assert!(recovery.solved > 0 && recovery.solved <= recovery.layers && recovery.images == 20, "{recovery:?}");
    assert!(recovery.error_after < recovery.error_before, "{recovery:?}");
    assert!(notes.take().iter().any(|l| *l == format!("prune: {}", recovery.headline())));
    // No images, no recovery; nor where it is not wanted.
    assert_eq!(options.run((&m, None), &Context::new()).unwrap().report.unwrap().recovery, None);
    let off = Prune { recover: Some(Recover::None), ..options };
    assert_eq!(off.run((&m, Some(&data)), &Context::new()).unwrap().report.unwrap().recovery, None);
}

/// What the parts of a softmax stand for is not a weight.
#[test]
fn numbers_that_are_expected_stay_what_they_are() {
    let data = shapes(24, 16);
    for moved in [false, true] {
        let mut n = Net::new(5);
        let x = n.image(3, 16);
        let y = n.conv("a", &x, 3, 8, 3, 1);
        let y = n.conv("b", &y, 8, 4, 1, 1);
        let y = n.b.node(Node::new("Softmax", "parts", [&y], [""]).int("axis", 1));
        let y = if moved { n.b.node(Node::new("Transpose", "turned", [&y], [""]).ints("perm", &[0, 1, 3, 2])) } else { y };
        let ramp = Constant::floats(&[1, 4, 1, 1], &[0.0, 1.0, 2.0, 3.0]).unwrap();
        let w = n.b.constant("ramp", ramp.clone());
        let y = n.b.node(Node::new("Conv", "expected", [&y, &w], [""]));
        n.b.output(&y);
        let m = n.model();
        let made = with(Recover::Weights).run((&m, Some(&data)), &Context::new()).unwrap();
        assert!(made.report.unwrap().recovery.unwrap().solved > 0);
        assert_eq!(made.model.graph().constant("ramp"), Some(&ramp));
        let expected = made.model.graph().nodes().iter().find(|n| n.name == "expected").unwrap();
        assert_eq!(expected.inputs.len(), 2, "no bias is added");
    }
}

#[test]
fn recovery_stops_when_it_is_told_to() {
    let ctx = Context::new();
    ctx.cancel.cancel();
    let e = with(Recover::Weights).apply(&two_layers(), Some(&shapes(24, 8)), &ctx).unwrap_err();
    assert!(e.is_cancelled());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever the net, the held-out images are served no worse than without recovery.
    #[test]
    fn recovery_never_makes_outputs_worse(choices in prop::collection::vec(any::<u8>(), 0..7), ratio in 0.2f64..0.8) {
        let (m, data, ctx) = (build(&choices), shapes(24, 8), Context::new());
        let cut = Prune { ratio, ..with(Recover::None) }.apply(&m, Some(&data), &ctx).unwrap();
        let recovered = Prune { ratio, ..with(Recover::Weights) }.run((&m, Some(&data)), &ctx).unwrap();
        let Some(recovery) = recovered.report.and_then(|r| r.recovery) else { return Ok(()) };
        let feeds = images_of(m.graph(), m.task(), &data, 20, &ctx).unwrap();
        let held: Vec<_> = feeds.iter().skip(4).step_by(5).collect();
        let judge = Judge::new(m.graph(), held, &ctx).unwrap();
        let (before, after) = (judge.error(cut.graph(), &ctx).unwrap(), judge.error(recovered.model.graph(), &ctx).unwrap());
        prop_assert!(after <= before * (1.0 + 1e-4) + 1e-9, "{} → {}", before, after);
        prop_assert!((after - recovery.error_after).abs() <= 1e-3 * before + 1e-9, "{:?} {}", recovery, after);
    }
}
