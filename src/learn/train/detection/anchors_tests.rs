//! The loss of anchor-based detectors against PyTorch's numbers, and its gradient against finite differences.

use super::super::super::test_support::targets;
use super::*;
use candle_core::{Device, Var};
use compresso_test_support::{arrays, relative, values};

fn head() -> AnchorHead {
    AnchorHead {
        outputs: (0..3).map(|i| format!("output.{i}")).collect(),
        anchors: vec![
            vec![[6.0, 8.0], [12.0, 10.0], [16.0, 22.0]],
            vec![[20.0, 18.0], [34.0, 30.0], [28.0, 48.0]],
            vec![[50.0, 40.0], [60.0, 72.0], [96.0, 64.0]],
        ],
        strides: vec![8, 16, 32],
    }
}

fn equals_pytorch(name: &str, classes: usize) {
    let f = arrays(format!("train/{name}"));
    let outputs: Vec<Var> = head().outputs.iter().map(|n| Var::from_tensor(&f[n]).unwrap()).collect();
    let tensors: Vec<Tensor> = outputs.iter().map(|v| v.as_tensor().clone()).collect();
    let images = tensors[0].dims()[0];
    let got = AnchorLoss::new(head(), classes).unwrap().forward(&tensors, &targets(&f["targets"], images)).unwrap();
    let expected = values(&f["parts"]);
    for (part, expected) in got.parts.iter().zip(&expected) {
        assert!((part.1 as f32 - expected).abs() <= 1e-4 * expected, "{part:?} {expected}");
    }
    let total = expected.iter().sum::<f32>() * images as f32;
    assert!((got.total.to_scalar::<f32>().unwrap() - total).abs() <= 1e-4 * total);
    let grads = got.total.backward().unwrap();
    for (i, v) in outputs.iter().enumerate() {
        let difference = relative(grads.get(v.as_tensor()).unwrap(), &f[&format!("grad.{i}")]);
        assert!(difference < 1e-4, "level {i}: {difference}");
    }
}

#[test]
fn crowded_images_equal_pytorch() {
    equals_pytorch("anchors_crowded.npz", 3);
}

#[test]
fn one_object_of_one_class_and_an_empty_image_equal_pytorch() {
    equals_pytorch("anchors_sparse.npz", 1);
}

#[test]
fn gradients_equal_finite_differences_where_targets_stay() {
    let f = arrays("train/anchors_crowded.npz");
    // Without objectness and aspect ratios, whose targets and weights are constants in the gradient.
    let loss = AnchorLoss { object_gain: 0.0, ..AnchorLoss::new(head(), 3).unwrap() };
    let level = f["output.1"].clone();
    let objects = targets(&f["targets"], 2);
    let value = |x: &Tensor| -> f64 {
        let all = [f["output.0"].clone(), x.clone(), f["output.2"].clone()];
        loss.forward(&all, &objects).unwrap().value() * 2.0
    };
    let var = Var::from_tensor(&level).unwrap();
    let all = [f["output.0"].clone(), var.as_tensor().clone(), f["output.2"].clone()];
    let gradient = values(loss.forward(&all, &objects).unwrap().total.backward().unwrap().get(var.as_tensor()).unwrap());
    let size = gradient.iter().fold(0f32, |m, v| m.max(v.abs()));
    let plain = values(&level);
    // Logits of classes one by one.
    let (mut checked, cells) = (0, 4 * 6);
    let of_classes = |i: &usize| (i / cells) % 8 >= 5;
    let largest = (0..plain.len()).filter(of_classes).fold(0f32, |m, i| m.max(gradient[i].abs()));
    for i in (0..plain.len()).filter(of_classes).filter(|&i| gradient[i].abs() > 0.5 * largest) {
        let moved = |h: f32| {
            let mut v = plain.clone();
            v[i] += h;
            value(&Tensor::from_vec(v, level.dims(), &Device::Cpu).unwrap())
        };
        let slope = (moved(5e-2) - moved(-5e-2)) / 1e-1;
        assert!((slope - f64::from(gradient[i])).abs() < 1e-2 * f64::from(largest), "{i}: {slope} {}", gradient[i]);
        checked += 1;
    }
    assert!(checked > 5, "{checked}");
    // Along the gradient of the boxes, the loss falls as the gradient says, up to the aspect term's weight.
    let step = 1e-2 / size;
    let down: Vec<f32> = plain.iter().zip(&gradient).map(|(x, g)| x - step * g).collect();
    let fall = value(&level) - value(&Tensor::from_vec(down, level.dims(), &Device::Cpu).unwrap());
    let expected: f64 = gradient.iter().map(|g| f64::from(*g * *g * step)).sum();
    assert!((fall / expected - 1.0).abs() < 0.1, "{fall} {expected}");
}

#[test]
fn cells_next_to_a_centre_answer_too() {
    let cells = Cells { height: 4, width: 6, stride: 8.0 };
    assert_eq!(places(2.3, 1.8, cells), [(2, 1), (1, 1), (2, 2)]);
    // At the border there is no neighbour outside.
    assert_eq!(places(0.2, 3.9, cells), [(0, 3)]);
    assert_eq!(places(6.0, 4.0, cells), [(5, 3), (5, 3), (5, 3)]);
}

#[test]
fn misfits_are_errors() {
    let make = |c: usize| -> Vec<Tensor> {
        [4, 2, 1].map(|n| Tensor::zeros((1, c, n, n), candle_core::DType::F32, &Device::Cpu).unwrap()).to_vec()
    };
    let loss = AnchorLoss::new(head(), 2).unwrap();
    let stray = GroundTruth { class: 2, bbox: crate::data::BBox::default() };
    let e = loss.forward(&make(21), &[vec![stray]]).unwrap_err();
    assert!(e.to_string().starts_with("an object has class 2, the model has 2 classes"), "{e}");
    assert!(loss.forward(&make(20), &[vec![]]).is_err());
    assert!(loss.forward(&make(21)[..2], &[vec![]]).is_err());
    assert!(AnchorLoss::new(AnchorHead { strides: vec![8, 16], ..head() }, 2).is_err());
    // A box without area matches nothing.
    let flat = GroundTruth { class: 0, bbox: crate::data::BBox { x1: 3.0, y1: 3.0, x2: 3.0, y2: 9.0 } };
    let got = loss.forward(&make(21), &[vec![flat]]).unwrap();
    assert_eq!(got.parts[0], ("box", 0.0));
}
