//! The loss of end-to-end detectors against PyTorch's numbers.

use super::super::test_support::targets;
use super::*;
use candle_core::{Device, Var};
use compresso_test_support::{arrays, relative, values};

fn head(which: &str, reg_max: usize) -> DetectHead {
    let names = |kind: &str| (0..3).map(|i| format!("{which}.{kind}.{i}")).collect();
    DetectHead { boxes: names("boxes"), scores: names("scores"), strides: vec![8, 16, 32], reg_max }
}

fn equals_pytorch(name: &str, reg_max: usize, share: Share, part: f64, expected_parts: [&str; 6]) {
    let f = arrays(format!("train/{name}"));
    let loss = DualLoss::new(head("many", reg_max), head("one", reg_max), 3).unwrap();
    assert_eq!(loss.share, share);
    let of = |names: &[String]| -> Vec<Var> { names.iter().map(|n| Var::from_tensor(&f[n]).unwrap()).collect() };
    let heads = [&loss.many.head, &loss.one.head];
    let vars = heads.map(|h| [of(&h.boxes), of(&h.scores)]);
    let [many, one] = vars.each_ref().map(|h| h.each_ref().map(|v| v.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>()));
    let images = many[0][0].dims()[0];
    let got = loss.forward([&many[0], &many[1]], [&one[0], &one[1]], &targets(&f["targets"], images), part).unwrap();
    let expected = values(&f["parts"]);
    for ((part, name), expected) in got.parts.iter().zip(expected_parts).zip(&expected) {
        assert_eq!(part.0, name);
        assert!((part.1 as f32 - expected).abs() < 1e-3 * expected, "{part:?} {expected}");
    }
    let total = expected.iter().sum::<f32>() * images as f32;
    assert!((got.total.to_scalar::<f32>().unwrap() - total).abs() < 1e-3 * total);
    let grads = got.total.backward().unwrap();
    for (head, [boxes, scores]) in heads.iter().zip(&vars) {
        for (v, n) in boxes.iter().zip(&head.boxes).chain(scores.iter().zip(&head.scores)) {
            let difference = relative(grads.get(v.as_tensor()).unwrap(), &f[&format!("grad.{n}")]);
            assert!(difference < 1e-3, "{n}: {difference}");
        }
    }
}

#[test]
fn heads_of_distributions_equal_pytorch() {
    let parts = ["box", "cls", "dfl", "one_box", "one_cls", "one_dfl"];
    // However far the training is.
    equals_pytorch("end_to_end_distributions.npz", 8, Share::Full, 0.25, parts);
}

#[test]
fn heads_of_plain_distances_equal_pytorch_a_quarter_through() {
    let parts = ["box", "cls", "l1", "one_box", "one_cls", "one_l1"];
    equals_pytorch("end_to_end_distances.npz", 1, Share::Progressive, 0.25, parts);
}

#[test]
fn the_progressive_share_goes_from_many_to_one() {
    let near = |a: [f64; 2], b: [f64; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(near(Share::Progressive.at(0.0), [0.8, 0.2]));
    assert!(near(Share::Progressive.at(0.5), [0.45, 0.55]));
    assert!(near(Share::Progressive.at(1.0), [0.1, 0.9]) && near(Share::Progressive.at(7.0), [0.1, 0.9]));
    assert_eq!(Share::Full.at(0.9), [1.0, 1.0]);
}

#[test]
fn one_cell_answers_for_an_object_and_each_head_chooses_its_own() {
    let cpu = &Device::Cpu;
    // One level of 4 × 4 cells of 8 pixels. Every cell gives a box of 16 pixels about its centre.
    let plain =
        |which: &str| DetectHead { boxes: vec![format!("{which}.b")], scores: vec![format!("{which}.s")], strides: vec![8], reg_max: 1 };
    let loss = DualLoss::new(plain("many"), plain("one"), 1).unwrap();
    let boxes = Tensor::ones((1, 4, 4, 4), candle_core::DType::F32, cpu).unwrap();
    let logits = |peak: usize| {
        let v: Vec<f32> = (0..16).map(|i| if i == peak { 2.0 } else { -2.0 }).collect();
        Var::from_tensor(&Tensor::from_vec(v, (1, 1, 4, 4), cpu).unwrap()).unwrap()
    };
    // Of the four cells around the middle of the object, all alike but for the score, the first head prefers 5, the second 10.
    let object = crate::data::BBox { x1: 8.0, y1: 8.0, x2: 24.0, y2: 24.0 };
    let (many, one) = (logits(5), logits(10));
    let (b, sm, so) = ([boxes], [many.as_tensor().clone()], [one.as_tensor().clone()]);
    let got = loss.forward([&b, &sm], [&b, &so], &[vec![GroundTruth { class: 0, bbox: object }]], 0.0).unwrap();
    let grads = got.total.backward().unwrap();
    // Where a cell answers, its logit is drawn up towards the overlap: its gradient is below that of a cell that does not.
    let drawn = |v: &Var, value: f32| -> Vec<usize> {
        let g = values(grads.get(v.as_tensor()).unwrap());
        let p = |i: usize, peak: usize| 1.0 / (1.0 + if i == peak { (-2f32).exp() } else { 2f32.exp() });
        (0..16).filter(|&i| g[i] < 0.5 * value * p(i, if value > 0.5 { 5 } else { 10 }) - 1e-4).collect()
    };
    assert_eq!(drawn(&many, 0.8), [5, 6, 9, 10]);
    assert_eq!(drawn(&one, 0.2), [10]);
}
