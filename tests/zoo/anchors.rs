//! The anchor-based head: its decoding by definition, its file, and foreign files of the same form.

use super::feed;
use candle_core::{Device, Tensor};
use compresso::exec::{Run, run};
use compresso::learn::eval::decode;
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{LoadOptions, Model, Value};

const SIZE: [usize; 2] = [64, 96];

fn model() -> Model {
    let options = ZooOptions { image_size: Some(SIZE), width: Some(0.125), seed: 4, ..ZooOptions::default() };
    let classes = Some(["a", "b", "c"].map(String::from).to_vec());
    super::common::lively(&build("yolov5n", &ZooOptions { classes, ..options }).unwrap())
}

fn noise() -> Value {
    Value::plain(Tensor::rand(0f32, 1f32, (2, 3, SIZE[0], SIZE[1]), &Device::Cpu).unwrap()).unwrap()
}

#[test]
fn boxes_are_those_of_the_raw_values() {
    let m = model();
    let d = m.task().detect().unwrap();
    let head = d.anchors.clone().unwrap();
    assert_eq!(head.strides, [8, 16, 32]);
    assert_eq!(head.anchors[2], [[116.0, 90.0], [156.0, 198.0], [373.0, 326.0]]);
    let x = noise();
    let wanted: Vec<&str> = head.outputs.iter().map(String::as_str).chain(["output0"]).collect();
    let made = run(m.graph(), &feed(&x), Run { wanted: &wanted, ..Run::default() }).unwrap();
    let output = &made["output0"];
    assert_eq!(output.dims(), [2, 3 * (8 * 12 + 4 * 6 + 2 * 3), 8]);
    let rows = output.to_f32s().unwrap();
    let sigmoid = |v: f32| 1.0 / (1.0 + (-v).exp());
    let mut at = 0;
    for image in 0..2 {
        for (level, &stride) in head.strides.iter().enumerate() {
            let (raw, dims) = (made[level].to_f32s().unwrap(), made[level].dims().to_vec());
            let (height, width) = (dims[2], dims[3]);
            for anchor in 0..3 {
                for cell in 0..height * width {
                    let p = |k: usize| sigmoid(raw[((image * 3 + anchor) * 8 + k) * height * width + cell]);
                    let mut expected = vec![
                        (2.0 * p(0) - 0.5 + (cell % width) as f32) * stride as f32,
                        (2.0 * p(1) - 0.5 + (cell / width) as f32) * stride as f32,
                        (2.0 * p(2)).powi(2) * head.anchors[level][anchor][0] as f32,
                        (2.0 * p(3)).powi(2) * head.anchors[level][anchor][1] as f32,
                    ];
                    expected.extend((4..8).map(p));
                    for (got, expected) in rows[at..at + 8].iter().zip(&expected) {
                        assert!((got - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{got} {expected}");
                    }
                    at += 8;
                }
            }
        }
    }
    assert_eq!(at, rows.len());
    // Evaluation multiplies objectness and class probability.
    let found = decode(d, &made, 0.0, true).unwrap();
    assert_eq!((found.len(), found[0].len()), (2, 3 * rows.len() / 16));
    assert!((found[0][1].score - rows[4] * rows[6]).abs() < 1e-6 && found[0][1].class == 1);
}

#[test]
fn files_keep_the_head_and_foreign_ones_are_read_by_the_word() {
    let m = model();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("yolov5n.onnx");
    m.save(&file).unwrap();
    assert_eq!(Model::load(&file, &LoadOptions::default()).unwrap().task(), m.task());
    // The same graph without what we know of it.
    let mut patch = compresso::model::Patch::new(m.graph());
    patch.set_metadata("comment", "foreign");
    let foreign = Model::new(patch.apply().unwrap(), compresso::model::Task::Unknown);
    foreign.save(&file).unwrap();
    let options: LoadOptions = compresso::operation::decode(serde_json::json!({ "decode": "yolov5", "classes": ["a", "b", "c"] })).unwrap();
    let again = Model::load(&file, &options).unwrap();
    let (read, known) = (again.task().detect().unwrap(), m.task().detect().unwrap());
    assert_eq!((&read.decode, &read.classes, read.image_size), (&known.decode, &known.classes, known.image_size));
}
