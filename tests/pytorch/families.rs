//! Families and tasks of the ultralytics package; their checkpoints are made by fixtures/pytorch/families.py.

use super::*;
use compresso::model::{Decode, DecodeAs, InstanceKind};

const SIZE: [usize; 2] = [64, 96];

fn results() -> indexmap::IndexMap<String, Value> {
    load_tensors(fixture("families.npz")).unwrap()
}

/// How far a value is from what is expected, as a part of it where it is above 1.
fn off((a, b): (&f64, &f64)) -> f64 {
    (a - b).abs() / b.abs().max(1.0)
}

/// Rows of finished detections: those of equal scores may stand in any order, and the last may be another of its score.
fn worst_row(got: &Value, expected: &Value) -> f64 {
    let rows = |v: &Value| -> Vec<Vec<f64>> { v.to_f64s().unwrap().chunks(v.dims()[2]).map(<[f64]>::to_vec).collect() };
    let (mut got, expected) = (rows(got), rows(expected));
    assert!(got.windows(2).all(|w| w[0][4] >= w[1][4]), "not best first");
    let last = expected.last().unwrap()[4] + 1e-5;
    let mut worst = 0f64;
    for row in expected.iter().filter(|r| r[4] > last) {
        let far = |g: &Vec<f64>| g.iter().zip(row).map(off).fold(0f64, f64::max);
        let (i, d) = got.iter().map(far).enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        got.remove(i);
        worst = worst.max(d);
    }
    worst
}

fn worst(got: &Value, expected: &Value) -> f64 {
    assert_eq!(got.dims(), expected.dims());
    if got.dims().len() == 3 && got.dims()[2] < got.dims()[1] {
        return worst_row(got, expected);
    }
    let differences = got.to_f64s().unwrap().into_iter().zip(expected.to_f64s().unwrap()).map(|(a, b)| off((&a, &b)));
    differences.fold(0f64, |m, d| if d.is_nan() { f64::NAN } else { m.max(d) })
}

/// The outputs of a model equal those that the reference gave under `name`, output by output.
fn equals(m: &Model, name: &str) {
    let expected = results();
    let out = run(m.graph(), &images(SIZE[0], SIZE[1]), Run::default()).unwrap();
    let all = expected.keys().filter(|k| k.rsplit_once('.').unwrap().0 == name).count();
    assert_eq!(m.graph().outputs().len(), all, "{name}");
    for (i, o) in m.graph().outputs().iter().enumerate() {
        let worst = worst(&out[&o.name], &expected[&format!("{name}.{i}")]);
        assert!(worst <= 1e-4, "{name}, output {i}: {worst}");
    }
}

fn opens(name: &str) -> Model {
    let m = load(&format!("{name}.pt"), Some(SIZE));
    equals(&m, name);
    m
}

#[test]
fn yolov9_and_12_equal_pytorch_and_know_their_heads() {
    for name in ["yolov9", "yolo12"] {
        let d = opens(name).task().detect().unwrap().clone();
        assert_eq!(d.decode, Decode::Yolo { output: "output0".into() }, "{name}");
        assert_eq!(d.head.unwrap().reg_max, 4);
    }
}

#[test]
fn heads_for_one_box_per_object_suppress_nothing() {
    for name in ["yolov10", "yolo26", "fused_one_to_one"] {
        let d = opens(name).task().detect().unwrap().clone();
        assert!(!d.decode.suppresses() && d.decode.is_ragged(), "{name}");
        assert_eq!(d.classes, ["red", "green", "blue"]);
        // Training reads it.
        assert_eq!(d.head.unwrap().reg_max, if name == "yolo26" { 1 } else { 16 }, "{name}");
    }
    // Without its choice in the file, and both heads: the one that finishes.
    let old = load("end_to_end.pt", Some([32, 48]));
    assert_eq!(output(&old, 32, 48).dims()[2], 6);
}

#[test]
fn an_option_chooses_the_other_head() {
    let open = |word: DecodeAs| {
        let options = LoadOptions { decode: Some(word.into()), image_size: Some(ImageSize::HeightWidth(SIZE)), ..LoadOptions::default() };
        Model::load(fixture("yolov10.pt"), &options)
    };
    let many = open(DecodeAs::Yolo).unwrap();
    equals(&many, "yolov10.many");
    assert_eq!(many.task().detect().unwrap().head.as_ref().unwrap().reg_max, 16);
    equals(&open(DecodeAs::EndToEnd).unwrap(), "yolov10");
    assert_eq!(open(DecodeAs::FastestDet).unwrap_err().kind(), ErrorKind::Argument);
}

#[test]
fn rtdetr_equals_pytorch() {
    let d = opens("rtdetr").task().detect().unwrap().clone();
    let Decode::Described(d) = d.decode else { panic!("{:?}", d.decode) };
    assert!(d.normalized && d.is_finished() && !d.suppresses());
}

#[test]
fn masks_key_points_and_turned_boxes_equal_pytorch() {
    let points = InstanceKind::KeyPoints { points: 2, numbers: 3 };
    for (name, kind, finished) in [
        ("segment", InstanceKind::Masks { prototypes: 4 }, false),
        ("pose", points, false),
        ("obb", InstanceKind::Turned, false),
        ("segment26", InstanceKind::Masks { prototypes: 4 }, true),
        ("pose26", points, true),
        ("obb26", InstanceKind::Turned, true),
    ] {
        let m = opens(name);
        let Task::Instances(i) = m.task() else { panic!("{name}: {:?}", m.task()) };
        assert_eq!((i.kind, i.finished, i.image_size), (kind, finished, SIZE), "{name}");
        assert_eq!(m.task().classes(), ["red", "green", "blue"]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        m.save(&path).unwrap();
        assert_eq!(Model::load(&path, &LoadOptions::default()).unwrap().task(), m.task(), "{name}");
    }
}

#[test]
fn a_pruned_network_is_as_wide_as_its_weights_or_names_the_way() {
    let m = opens("pruned");
    let inner = m.graph().constant("model.2.m.0.cv1.conv.weight").unwrap();
    assert_eq!(inner.dims(), [4, 8, 3, 3], "half of the 8 channels that the architecture says");
    let e = error(fixture("pruned_unevenly.pt"));
    assert_eq!(e.kind(), ErrorKind::Shape, "{e}");
    assert!(e.suggestion().unwrap().contains("export"), "{e}");
}
