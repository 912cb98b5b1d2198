//! Scores are those of torch-pruning 1.6.1 (tests/python/prune_scores.py).

use super::*;
use compresso_learn::data::{DataKind, Dataset, Sample, Source};
use serde_json::Value as Json;

/// What torch-pruning computes in float64 from the same numbers.
fn fixture() -> Json {
    serde_json::from_str(include_str!("../../../../tests/fixtures/prune/scores.json")).unwrap()
}

fn numbers(list: &Json) -> Vec<f64> {
    match list {
        Json::Array(all) => all.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

struct Pixels(Vec<image::RgbImage>);

impl Source for Pixels {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, i: usize) -> compresso_base::Result<Sample> {
        Ok(Sample { name: i.to_string(), image: self.0[i].clone(), targets: Vec::new(), label: None })
    }
}

/// The images, `[image][channel][row][column]` in the fixture.
fn pixels(fixture: &Json) -> Dataset {
    let of = |image: &Json| {
        image::RgbImage::from_fn(8, 8, |x, y| {
            image::Rgb(std::array::from_fn(|c| u8::try_from(image[c][y as usize][x as usize].as_u64().unwrap()).unwrap()))
        })
    };
    let images = fixture["pixels"].as_array().unwrap().iter().map(of).collect();
    Dataset::new("pixels", DataKind::Unlabelled, Vec::new(), Arc::new(Pixels(images)))
}

fn net(state: &Json, norms: bool) -> Model {
    let mut n = Net::new(17);
    let mut x = n.image(3, 8);
    let constant = |n: &mut Net, name: &str| {
        let dims: Vec<usize> = numbers(&state[name]["shape"]).into_iter().map(|d| d as usize).collect();
        let values: Vec<f32> = numbers(&state[name]["values"]).into_iter().map(|v| v as f32).collect();
        n.b.constant(name, Constant::floats(&dims, &values).unwrap())
    };
    for layer in ["a", "b"] {
        let mut inputs = vec![x.clone(), constant(&mut n, &format!("{layer}.weight"))];
        if !norms {
            inputs.push(constant(&mut n, &format!("{layer}.bias")));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        x = n.b.node(Node::new("Conv", layer, inputs, [""]).ints("pads", &[1; 4]));
        if norms {
            let [w, b, m, v] = ["weight", "bias", "running_mean", "running_var"].map(|p| constant(&mut n, &format!("n{layer}.{p}")));
            x = n.b.node(Node::new("BatchNormalization", "", [&x, &w, &b, &m, &v], [""]));
        }
        x = n.op("Relu", &[&x]);
    }
    let x = n.op("GlobalAveragePool", &[&x]);
    let x = n.op("Flatten", &[&x]);
    let (w, b) = (constant(&mut n, "c.weight"), constant(&mut n, "c.bias"));
    let y = n.b.node(Node::new("Gemm", "c", [&x, &w, &b], [""]).int("transB", 1));
    n.b.output(&y);
    n.model()
}

#[test]
fn scores_are_those_of_torch_pruning() {
    let fixture = fixture();
    let data = pixels(&fixture);
    let mut compared = 0;
    for (at, norms) in [true, false].into_iter().enumerate() {
        let case = &fixture["nets"][at];
        let model = net(&case["state"], norms);
        let found = Analysis::new(model.graph(), &[]).unwrap();
        for (name, expected) in case["scores"].as_object().unwrap() {
            let plain = Some(Normalization::None);
            let with = |importance, normalization| Prune { importance: Some(importance), normalization, images: 4, ..half() };
            let (options, change): (Prune, fn(f64) -> f64) = match name.as_str() {
                "group_l1" => (with(Importance::GROUP_L1, plain), |s| s),
                "group_l2" => (with(Importance::GROUP_L2, plain), |s| s),
                "group_l2 mean" => (with(Importance::GROUP_L2, Some(Normalization::Mean)), |s| s),
                "group_l2 max" => (with(Importance::GROUP_L2, Some(Normalization::Max)), |s| s),
                "batchnorm" => (with(Importance::BATCHNORM, plain), |s| s),
                "l1" => (with(Importance::L1, plain), |s| s),
                "l2 squared" => (with(Importance::L2, plain), |s| s * s),
                "lamp" => (with(Importance::LAMP, None), |s| s),
                "group_taylor" => (with(Importance::GROUP_TAYLOR, plain), |s| s),
                "group_hessian" => (with(Importance::GROUP_HESSIAN, plain), |s| s),
                "fpgm of sizes" => continue,
                other => panic!("{other}"),
            };
            let got = scores(&options, &found, Some(&data)).unwrap();
            for (group, expected) in got.iter().zip(expected.as_array().unwrap()) {
                let got: Vec<f64> = group.iter().map(|&s| change(s)).collect();
                close(&got, &numbers(expected));
                compared += 1;
            }
        }
        if let Some(expected) = case["scores"].get("fpgm of sizes") {
            let mut sizes = case["state"].clone();
            for (name, constant) in sizes.as_object_mut().unwrap().iter_mut().filter(|(n, _)| n.ends_with("weight")) {
                assert!(name.ends_with("weight"));
                constant["values"] = numbers(&constant["values"]).into_iter().map(f64::abs).collect::<Vec<_>>().into();
            }
            let model = net(&sizes, norms);
            let found = Analysis::new(model.graph(), &[]).unwrap();
            for (got, expected) in scores(&raw(Importance::FPGM), &found, None).unwrap().iter().zip(expected.as_array().unwrap()) {
                close(got, &numbers(expected));
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 2 * (5 + 4 + 4 + 2));
}
