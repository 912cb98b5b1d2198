//! Against what the ultralytics package sees: tests/fixtures/instances/generate.py.

use super::points::PERSON_BONES;
use super::*;
use crate::data::{BBox, Letterbox, Sample};
use crate::eval::{Found, Predict, Prediction, Predictions, class_color, samples_dataset};
use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{ErrorKind, Result};
use compresso_base::operation::Operation;
use compresso_base::report::Show;
use compresso_exec::Outputs;
use compresso_model::{Constant, ImageSize, InstanceKind, Instances, LoadOptions, Model, Patch, Value};
use compresso_test_support::fixture;
use image::{Rgb, RgbImage};
use serde_json::{Value as Json, json};

fn expected() -> Json {
    serde_json::from_str(&std::fs::read_to_string(fixture("instances/expected.json")).unwrap()).unwrap()
}

fn floats(v: &Json) -> Vec<f32> {
    v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

/// The generator's image.
fn image(width: u32, height: u32) -> RgbImage {
    let pixel = |x: u32, y: u32| std::array::from_fn(|c| (16 * ((7 * x + 13 * y + x * y + 5 * c as u32) % 16)) as u8);
    RgbImage::from_fn(width, height, |x, y| Rgb(pixel(x / 2, y / 2)))
}

fn model(name: &str) -> Model {
    let options = LoadOptions { image_size: Some(ImageSize::HeightWidth([64, 96])), ..LoadOptions::default() };
    let model = Model::load(fixture(format!("pytorch/{name}.pt")), &options).unwrap();
    let mut patch = Patch::new(model.graph());
    // As the generator does: boxes of heads for one box per object, and masks, get an area.
    let added = |constant: &str| match constant {
        _ if !constant.ends_with(".2.bias") => None,
        _ if constant.contains(".one2one_cv2.") => Some(2.0),
        _ if constant.contains(".cv4.") && name == "segment" => Some(1.0),
        _ => None,
    };
    for (constant, value) in model.graph().constants() {
        if let Some(added) = added(constant) {
            let moved: Vec<f32> = value.to_f64s().unwrap().into_iter().map(|v| v as f32 + added).collect();
            patch.set_constant(constant.clone(), Constant::floats(value.dims(), &moved).unwrap());
        }
    }
    Model::new(patch.apply().unwrap(), model.task().clone())
}

fn see(model: &Model, image: RgbImage, confidence: f64) -> Prediction {
    let data = samples_dataset(vec![Sample { name: "7.png".into(), image, targets: Vec::new(), label: None }]);
    let options = Predict { confidence, ..Predict::default() };
    options.run((model, &data), &Context::new()).unwrap().images.remove(0)
}

/// Pixels of a mask, down the columns.
fn pixels(runs: &[u32]) -> Vec<bool> {
    runs.iter().enumerate().flat_map(|(i, &n)| std::iter::repeat_n(i % 2 == 1, n as usize)).collect()
}

fn iou(a: &[u32], b: &[u32]) -> f64 {
    let (a, b) = (pixels(a), pixels(b));
    assert_eq!(a.len(), b.len());
    let both = a.iter().zip(&b).filter(|(a, b)| **a && **b).count();
    let any = a.iter().zip(&b).filter(|(a, b)| **a || **b).count();
    both as f64 / any.max(1) as f64
}

fn near(got: &[f32], wanted: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    assert!(got.iter().zip(wanted).all(|(a, b)| (a - b).abs() <= tolerance), "{what}: {got:?}, expected {wanted:?}");
}

fn place_of(d: &Found) -> [f32; 4] {
    match d.part {
        Some(Part::Turned(b)) => [b.cx, b.cy, b.width, b.height],
        _ => [d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2],
    }
}

/// Whether an image has the same pixels as the package's once it is in the input.
fn is_exact(size: &Json) -> bool {
    size != &json!([101, 77])
}

#[test]
fn objects_equal_those_of_ultralytics() {
    let mut seen = 0;
    for (name, images) in expected()["models"].as_object().unwrap() {
        let model = model(name);
        for case in images.as_array().unwrap() {
            let (w, h) = (case["size"][0].as_u64().unwrap() as u32, case["size"][1].as_u64().unwrap() as u32);
            let exact = is_exact(&case["size"]);
            let confidence = case["confidence"].as_f64().unwrap() - if exact { 0.0 } else { 0.01 };
            let got = see(&model, image(w, h), confidence).detections;
            let (wanted, mut missed) = (case["objects"].as_array().unwrap(), 0);
            if exact {
                assert_eq!(got.len(), wanted.len(), "{name} {}", case["size"]);
            }
            let places = if exact { 0.01 } else { 0.2 };
            for wanted in wanted {
                let class = wanted["class"].as_u64().unwrap() as usize;
                let score = wanted["score"].as_f64().unwrap() as f32;
                // Equal objects at several places have equal scores.
                let place = wanted.get("turned").unwrap_or(&wanted["box"]);
                let off = |d: &&Found| place_of(d).iter().zip(floats(place)).map(|(a, b)| (a - b).abs()).sum::<f32>();
                let like = |d: &&Found| d.class == class && (d.score - score).abs() < 1e-2;
                let found = got.iter().filter(like).min_by(|a, b| off(a).total_cmp(&off(b)));
                let Some(d) = found.filter(|d| off(d) < 4.0) else {
                    missed += 1;
                    continue;
                };
                let what = format!("{name} {}, score {score}", case["size"]);
                near(&[d.score], &[score], if exact { 1e-4 } else { 1e-2 }, &what);
                match d.part.as_ref().unwrap() {
                    Part::Mask(mask) => {
                        let runs: Vec<u32> = floats(&wanted["mask"]).into_iter().map(|v| v as u32).collect();
                        assert_eq!(mask.size(), (w, h));
                        let iou = iou(mask.runs(), &runs);
                        assert!(iou >= if exact { 0.99 } else { 0.9 }, "{what}: {iou}");
                    }
                    Part::KeyPoints(points) => {
                        for (p, wanted) in points.iter().zip(wanted["points"].as_array().unwrap()) {
                            let wanted = floats(wanted);
                            near(&[p.x, p.y], &wanted[..2], places, &what);
                            near(&[p.visibility.unwrap()], &wanted[2..], places, &what);
                        }
                    }
                    Part::Turned(b) => {
                        let wanted = floats(&wanted["turned"]);
                        near(&[b.cx, b.cy, b.width, b.height], &wanted[..4], places, &what);
                        near(&[b.angle], &wanted[4..], places / 10.0, &what);
                    }
                }
                near(&place_of(d), &floats(place)[..4], places, &what);
                seen += 1;
            }
            // Pixels that are rounded otherwise may change which of two boxes is the better one.
            assert!(
                missed <= if exact { 0 } else { wanted.len() / 5 },
                "{name} {}: {missed} of {} are missing",
                case["size"],
                wanted.len()
            );
        }
    }
    assert!(seen > 250, "{seen}");
}

/// Outputs by name, each `[1, …]`.
fn outputs(all: &[(&str, &[usize], &[f32])]) -> Outputs {
    let one = |&(name, dims, values): &(&str, &[usize], &[f32])| {
        (name.to_string(), Value::plain(Tensor::from_slice(values, dims, &Device::Cpu).unwrap()).unwrap())
    };
    all.iter().map(one).collect()
}

fn task(kind: InstanceKind, classes: usize, finished: bool) -> Instances {
    let classes = (0..classes).map(|c| format!("c{c}")).collect();
    Instances { kind, classes, image_size: [64, 64], outputs: vec!["o".into(), "p".into()], finished }
}

fn limits(iou: f32, agnostic: bool) -> Limits {
    Limits { confidence: 0.04, iou, agnostic, max: 300 }
}

/// An image of 64 × 64 pixels as it is.
const WHOLE: Letterbox = Letterbox { scale: 1.0, pad_x: 0.0, pad_y: 0.0, original: (64, 64) };

fn read(task: &Instances, all: &Outputs, limits: Limits) -> Result<Vec<Instance>> {
    instances(task, all, [64, 64], &WHOLE, limits, &Context::new())
}

#[test]
fn turned_boxes_are_suppressed_as_by_ultralytics() {
    let mut dropped = 0;
    for case in expected()["suppressed"].as_array().unwrap() {
        let rows: Vec<Vec<f32>> = case["rows"].as_array().unwrap().iter().map(floats).collect();
        let classes = case["classes"].as_u64().unwrap() as usize;
        let (n, width) = (rows.len(), rows[0].len());
        let turned: Vec<f32> = (0..width).flat_map(|r| rows.iter().map(move |row| row[r])).collect();
        let all = outputs(&[("o", &[1, width, n], &turned)]);
        for (setting, kept) in case["kept"].as_object().unwrap() {
            let (iou, competing) = setting.split_once(' ').unwrap();
            let found =
                read(&task(InstanceKind::Turned, classes, false), &all, limits(iou.parse().unwrap(), competing == "agnostic")).unwrap();
            let score = |row: usize| rows[row][4..4 + classes].iter().copied().fold(0f32, f32::max);
            let wanted: Vec<f32> = floats(kept).into_iter().map(|row| score(row as usize)).collect();
            assert_eq!(found.iter().map(|i| i.detection.score).collect::<Vec<_>>(), wanted, "{setting}");
            dropped += n - wanted.len();
        }
    }
    assert!(dropped > 100, "{dropped}");
}

#[test]
fn run_lengths_are_packed_as_by_pycocotools() {
    let case = &expected()["counts"];
    let runs: Vec<u32> = floats(&case["runs"]).into_iter().map(|v| v as u32).collect();
    let mask = Mask::from_runs(30, 40, runs.clone()).unwrap();
    assert_eq!(mask.counts(), case["text"].as_str().unwrap());
    assert_eq!(json!(mask), json!({ "size": [40, 30], "counts": case["text"] }));
    // Columns hold the same pixels as runs.
    let mut own = vec![false; 1200];
    for (x, rows) in mask.columns() {
        rows.for_each(|y| own[(x * 40 + y) as usize] = true);
    }
    assert_eq!(own, pixels(&runs));
    assert_eq!(mask.area(), own.iter().filter(|v| **v).count() as u64);
    assert!(Mask::from_runs(30, 40, vec![3]).unwrap_err().to_string().contains("3 pixels"));
}

#[test]
fn masks_end_at_their_boxes_and_empty_ones_are_dropped() {
    let masks = InstanceKind::Masks { prototypes: 2 };
    // The first prototype is high in the left half, the second low everywhere.
    let mut prototypes = vec![-1.0; 2 * 16 * 16];
    (0..256).filter(|i| i % 16 < 8).for_each(|i| prototypes[i] = 1.0);
    let rows = [[8.0, 16.0, 56.0, 40.0, 0.9, 0.0, 1.0, 0.0], [8.0, 16.0, 56.0, 40.0, 0.8, 1.0, 0.0, 1.0], [0.0; 8]];
    let all = outputs(&[("o", &[1, 3, 8], &rows.concat()), ("p", &[1, 2, 16, 16], &prototypes)]);
    let found = read(&task(masks, 2, true), &all, limits(0.7, false)).unwrap();
    assert_eq!(found.len(), 1);
    let Part::Mask(mask) = &found[0].part else { panic!() };
    let columns: Vec<_> = mask.columns().collect();
    assert_eq!(columns, (8..32).map(|x| (x, 16..40)).collect::<Vec<_>>());
    assert_eq!(mask.runs()[..3], [8 * 64 + 16, 24, 40]);
    // A whole image inside, and a box without a pixel.
    let whole = Mask::from_runs(64, 64, vec![0, 4096]).unwrap();
    assert_eq!((whole.area(), whole.columns().count()), (4096, 64));
    prototypes.fill(1.0);
    let rows = [[-9.0, -9.0, 99.0, 99.0, 0.9, 0.0, 1.0, 1.0], [5.2, 5.2, 5.3, 5.3, 0.8, 1.0, 1.0, 1.0]];
    let all = outputs(&[("o", &[1, 2, 8], &rows.concat()), ("p", &[1, 2, 16, 16], &prototypes)]);
    let found = read(&task(masks, 2, true), &all, limits(0.7, false)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].part, Part::Mask(whole));
}

#[test]
fn turned_boxes_have_corners() {
    let b = TurnedBox { cx: 10.0, cy: 20.0, width: 8.0, height: 4.0, angle: std::f32::consts::FRAC_PI_2 };
    assert!(b.corners().iter().flatten().zip([12.0, 16.0, 12.0, 24.0, 8.0, 24.0, 8.0, 16.0]).all(|(a, b)| (a - b).abs() < 1e-5));
    let upright = b.upright();
    near(&[upright.x1, upright.y1, upright.x2, upright.y2], &[8.0, 16.0, 12.0, 24.0], 1e-5, "upright");
}

#[test]
fn outputs_of_another_form_are_named() {
    let fails = |task: &Instances, all: &Outputs, kind: ErrorKind, part: &str| {
        let e = read(task, all, limits(0.7, false)).unwrap_err();
        assert!(e.kind() == kind && e.to_string().contains(part), "{e}");
    };
    let (points, masks) = (InstanceKind::KeyPoints { points: 2, numbers: 2 }, InstanceKind::Masks { prototypes: 2 });
    let row = [1.0, 1.0, 9.0, 9.0, 0.9, 0.0, 2.0, 3.0];
    let o = |values: &[f32]| outputs(&[("o", &[1, 1, values.len()], values), ("p", &[1, 3, 4, 4], &[0.0; 48])]);
    fails(&task(points, 2, true), &o(&row), ErrorKind::Shape, "[1, detections, 10], got [1, 1, 8]");
    fails(&task(points, 2, false), &o(&row), ErrorKind::Shape, "[1, 4 + 2 classes + 4, anchors]");
    fails(&task(masks, 2, true), &o(&row), ErrorKind::Shape, "output 'p'");
    fails(&task(InstanceKind::Turned, 2, true), &outputs(&[]), ErrorKind::Missing, "no output 'o'");
    let wrong = InstanceKind::KeyPoints { points: 2, numbers: 1 };
    fails(&task(wrong, 2, true), &o(&row), ErrorKind::Unsupported, "key points of 1 numbers");
    let turned = task(InstanceKind::Turned, 2, true);
    fails(&turned, &o(&[1.0, 1.0, 9.0, 9.0, 0.9, 2.0, 0.5]), ErrorKind::Check, "class 2, but there are names of 2");
    fails(&turned, &o(&[1.0, f32::NAN, 9.0, 9.0, 0.9, 1.0, 0.5]), ErrorKind::Check, "NaN");
    let infinite = o(&[1.0, 1.0, 9.0, f32::INFINITY, 0.9, 1.0, 0.5]);
    assert!(read(&turned, &infinite, limits(0.7, false)).unwrap().is_empty());
    // Points of two numbers are seen.
    let found = read(&task(points, 2, true), &o(&[row.as_slice(), &[4.0, 5.0]].concat()), limits(0.7, false)).unwrap();
    let point = |x, y| KeyPoint { x, y, visibility: None };
    assert_eq!(found[0].part, Part::KeyPoints(vec![point(2.0, 3.0), point(4.0, 5.0)]));
}

fn found(part: Part) -> Found {
    Found { label: "thing".into(), class: 2, score: 0.5, bbox: BBox { x1: 40.0, y1: 50.0, x2: 100.0, y2: 110.0 }, part: Some(part) }
}

/// What is shown and saved of one object.
fn shown(part: Part) -> (Predictions, Json) {
    let mut p = Prediction::held("photos/12.png", RgbImage::from_pixel(160, 160, Rgb([128; 3])));
    p.detections.push(found(part));
    let all = Predictions { images: vec![p], ..Predictions::default() };
    let coco = all.coco()[0].clone();
    (all, coco)
}

#[test]
fn each_part_is_drawn_listed_and_saved() {
    let color = class_color(2);
    // A mask of the columns 60 to 79, rows 60 to 99.
    let runs = [vec![60u32 * 160 + 60], (0..20).flat_map(|_| [40, 120]).collect::<Vec<u32>>()].concat();
    let rest = 160 * 160 - runs.iter().take(runs.len() - 1).sum::<u32>();
    let runs = [&runs[..runs.len() - 1], &[rest]].concat();
    let mask = Mask::from_runs(160, 160, runs).unwrap();
    let (all, coco) = shown(Part::Mask(mask.clone()));
    let drawn = all.images[0].draw().unwrap();
    let mixed = drawn.get_pixel(70, 80).0;
    assert!(mixed != [128; 3] && mixed != color && drawn.get_pixel(90, 80).0 == [128; 3] && drawn.get_pixel(40, 80).0 == color);
    assert_eq!(all.tables()[0].rows[0], ["thing", "0.500", "40.0", "50.0", "100.0", "110.0", "800"]);
    assert_eq!((&coco["category_id"], &coco["segmentation"]), (&json!(3), &json!(mask)));
    assert_eq!(all.data()["images"][0]["detections"][0]["mask"]["size"], json!([160, 160]));

    let turned = TurnedBox { cx: 70.0, cy: 80.0, width: 40.0, height: 20.0, angle: 0.5 };
    let (all, coco) = shown(Part::Turned(turned));
    let drawn = all.images[0].draw().unwrap();
    for c in turned.corners() {
        assert_eq!(drawn.get_pixel(c[0].round() as u32, c[1].round() as u32).0, color, "{c:?}");
    }
    assert_eq!(drawn.get_pixel(40, 100).0, [128; 3], "no upright frame");
    assert_eq!(all.tables()[0].rows[0], ["thing", "0.500", "70.0", "80.0", "40.0", "20.0", "28.6°"]);
    assert_eq!(coco["segmentation"][0].as_array().unwrap().len(), 8);
    assert_eq!(all.data()["images"][0]["detections"][0]["turned"]["cx"], json!(70.0));

    let points: Vec<KeyPoint> = (0..17)
        .map(|i| KeyPoint { x: 45.0 + 3.0 * i as f32, y: 60.0 + (i % 2) as f32 * 40.0, visibility: Some(if i == 9 { 0.1 } else { 0.9 }) })
        .collect();
    let (all, coco) = shown(Part::KeyPoints(points.clone()));
    let drawn = all.images[0].draw().unwrap();
    for (i, p) in points.iter().enumerate() {
        assert_eq!(drawn.get_pixel(p.x as u32, p.y as u32).0 == class_color(i), i != 9, "{i}");
    }
    let bone = PERSON_BONES.iter().find(|b| **b == [5, 6]).map(|[a, b]| [points[*a], points[*b]]).unwrap();
    assert_eq!(drawn.get_pixel(((bone[0].x + bone[1].x) / 2.0).round() as u32, 80).0, [235; 3], "left to right shoulder");
    let tables = all.tables();
    assert_eq!((tables.len(), tables[0].rows[0][6].as_str()), (2, "16 of 17"));
    assert_eq!(tables[1].rows[9], ["1 thing", "left wrist", "72.0", "100.0", "0.100"]);
    assert_eq!(coco["keypoints"].as_array().unwrap().len(), 51);
    assert_eq!(all.data()["images"][0]["detections"][0]["keypoints"][0]["x"], json!(45.0));
}
