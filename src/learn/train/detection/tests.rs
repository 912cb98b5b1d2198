//! The detection loss against PyTorch's numbers.

use super::super::test_support::targets;
use super::*;
use candle_core::Var;
use compresso_test_support::{arrays, relative, values};

fn head() -> DetectHead {
    let names = |kind: &str| (0..3).map(|i| format!("{kind}.{i}")).collect();
    DetectHead { boxes: names("boxes"), scores: names("scores"), strides: vec![8, 16, 32], reg_max: 16 }
}

fn equals_pytorch(name: &str) {
    let f = arrays(format!("train/{name}"));
    let var = |n: &String| Var::from_tensor(&f[n]).unwrap();
    let (boxes, scores): (Vec<Var>, Vec<Var>) = (head().boxes.iter().map(var).collect(), head().scores.iter().map(var).collect());
    let tensors = |v: &[Var]| v.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
    let (images, classes) = (scores[0].dims()[0], scores[0].dims()[1]);
    let loss = DetectionLoss::new(head(), classes).unwrap();
    let got = loss.forward(&tensors(&boxes), &tensors(&scores), &targets(&f["targets"], images)).unwrap();
    for (part, expected) in got.parts.iter().zip(values(&f["parts"])) {
        assert!((part.1 as f32 - expected).abs() < 1e-3 * expected, "{part:?} {expected}");
    }
    let total: f32 = values(&f["loss"]).iter().sum();
    assert!((got.total.to_scalar::<f32>().unwrap() - total).abs() < 1e-3 * total);
    let grads = got.total.backward().unwrap();
    for (vars, names) in [(&boxes, head().boxes), (&scores, head().scores)] {
        for (v, n) in vars.iter().zip(names) {
            let difference = relative(grads.get(v.as_tensor()).unwrap(), &f[&format!("grad.{n}")]);
            assert!(difference < 1e-3, "{n}: {difference}");
        }
    }
}

#[test]
fn crowded_images_equal_pytorch() {
    equals_pytorch("detection_crowded.npz");
}

#[test]
fn one_object_and_an_empty_image_equal_pytorch() {
    equals_pytorch("detection_sparse.npz");
}

#[test]
fn images_without_objects_only_lower_the_scores() {
    let cpu = &candle_core::Device::Cpu;
    let make = |c: usize| -> Vec<Tensor> { [4, 2, 1].map(|n| Tensor::zeros((1, c, n, n), candle_core::DType::F32, cpu).unwrap()).to_vec() };
    let got = DetectionLoss::new(head(), 2).unwrap().forward(&make(64), &make(2), &[vec![]]).unwrap();
    // 21 cells of 2 classes at logit 0, no scores to divide by: 42 ln 2, times the gain.
    let expected = [("box", 0.0), ("cls", 0.5 * 42.0 * std::f64::consts::LN_2), ("dfl", 0.0)];
    for (got, expected) in got.parts.iter().zip(expected) {
        assert_eq!(got.0, expected.0);
        assert!((got.1 - expected.1).abs() < 1e-5);
    }
}

#[test]
fn classes_out_of_range_and_wrong_shapes_are_errors() {
    let cpu = &candle_core::Device::Cpu;
    let make = |c: usize| -> Vec<Tensor> { [4, 2, 1].map(|n| Tensor::zeros((1, c, n, n), candle_core::DType::F32, cpu).unwrap()).to_vec() };
    let loss = DetectionLoss::new(head(), 2).unwrap();
    let stray = GroundTruth { class: 2, bbox: crate::data::BBox::default() };
    let e = loss.forward(&make(64), &make(2), &[vec![stray]]).unwrap_err();
    assert!(e.to_string().starts_with("an object has class 2, the model has 2 classes"), "{e}");
    assert!(loss.forward(&make(60), &make(2), &[vec![]]).is_err());
    assert!(DetectionLoss::new(DetectHead { reg_max: 0, ..head() }, 2).is_err());
}
