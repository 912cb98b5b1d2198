//! Against pycocotools, torchvision and the formulas; whole evaluations with made-up models.

use super::*;
use crate::data::{BBox, DataKind, DataOptions, DataTask, Dataset, GroundTruth, Letterbox, Sample, Source, dataset};
use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{ErrorKind, Result};
use compresso_base::report::Show;
use compresso_exec::Outputs;
use compresso_model::{BoxDecode, Classify, Decode, Detect, Task, Value};
use serde_json::{Value as Json, json};

fn fixture(name: &str) -> Json {
    let path = compresso_test_support::fixture("eval").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(v: &Json) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn bbox(v: &[f64]) -> BBox {
    BBox { x1: v[0] as f32, y1: v[1] as f32, x2: v[2] as f32, y2: v[3] as f32 }
}

fn near(a: f64, b: f64, by: f64, what: &str) {
    assert!((a - b).abs() <= by, "{what}: {a} instead of {b}");
}

#[test]
fn average_precision_equals_pycocotools() {
    for (name, case) in fixture("map.json").as_object().unwrap() {
        let classes = case["classes"].as_u64().unwrap() as usize;
        let rows = |v: &Json| v.as_array().unwrap().iter().map(numbers).collect::<Vec<_>>();
        let truths: Vec<Vec<Truth>> = case["truths"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| rows(image).iter().map(|r| GroundTruth { class: r[0] as usize, bbox: bbox(&r[1..]) }.into()).collect())
            .collect();
        let found: Vec<Vec<Detection>> = case["detections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| rows(image).iter().map(|r| Detection { class: r[0] as usize, score: r[1] as f32, bbox: bbox(&r[2..]) }).collect())
            .collect();
        let m = mean_average_precision(&found, &truths, classes);
        let expected = &case["expected"];
        near(m.map50.unwrap(), expected["map50"].as_f64().unwrap(), 1e-9, name);
        near(m.map.unwrap(), expected["map"].as_f64().unwrap(), 1e-9, name);
        for (c, row) in expected["ap"].as_array().unwrap().iter().enumerate() {
            assert_eq!(m.classes[c].ap.is_none(), row[0].is_null(), "{name} class {c}");
            for (t, ap) in m.classes[c].ap.iter().flatten().enumerate() {
                near(*ap, row[t].as_f64().unwrap(), 1e-9, &format!("{name} class {c} threshold {t}"));
            }
        }
        for (i, (a, b)) in m.classes[0].curve.iter().zip(numbers(&expected["curve50"])).enumerate() {
            near(*a, b, 1e-8, &format!("{name} curve at {i}"));
        }
        if let Some(f1) = case.get("best_f1") {
            near(m.confidence, f1["confidence"].as_f64().unwrap(), 1e-12, name);
            for (c, pr) in f1["per_class"].as_object().unwrap() {
                let r = &m.classes[c.parse::<usize>().unwrap()];
                near(r.precision, pr[0].as_f64().unwrap(), 1e-12, name);
                near(r.recall, pr[1].as_f64().unwrap(), 1e-12, name);
            }
        }
    }
}

/// Images' lists of rows of numbers.
fn rows(v: &Json) -> Vec<Vec<Vec<f64>>> {
    v.as_array().unwrap().iter().map(|image| image.as_array().unwrap().iter().map(numbers).collect()).collect()
}

#[test]
fn all_of_coco_equals_pycocotools() {
    for (name, case) in fixture("coco.json").as_object().unwrap() {
        let classes = case["classes"].as_u64().unwrap() as usize;
        let truth = |r: &Vec<f64>| Truth { crowd: r[5] == 1.0, ..GroundTruth { class: r[0] as usize, bbox: bbox(&r[1..]) }.into() };
        let truths: Vec<Vec<Truth>> = rows(&case["truths"]).iter().map(|image| image.iter().map(truth).collect()).collect();
        let detection = |r: &Vec<f64>| Detection { class: r[0] as usize, score: r[1] as f32, bbox: bbox(&r[2..]) };
        let found: Vec<Vec<Detection>> = rows(&case["detections"]).iter().map(|image| image.iter().map(detection).collect()).collect();
        let expected = &case["expected"];
        let coco = Coco::new(&found, &truths, classes);
        let s = coco.summary();
        let mine =
            [s.map, s.map50, s.map75, s.map_small, s.map_medium, s.map_large, s.ar1, s.ar10, s.ar100, s.ar_small, s.ar_medium, s.ar_large];
        // pycocotools says -1 where there is no object.
        for (i, (a, b)) in mine.iter().zip(numbers(&expected["stats"])).enumerate() {
            near(a.unwrap_or(-1.0), b, 1e-12, &format!("{name}: number {i}"));
        }
        assert_eq!(mean_average_precision(&found, &truths, classes).coco, s);
        let recalls = numbers(&expected["recall"]);
        let mut runs = expected["precision"].as_array().unwrap().iter();
        let mut at = 0;
        let areas = [AreaRange::All, AreaRange::Small, AreaRange::Medium, AreaRange::Large];
        for class in 0..classes {
            for area in areas {
                for limit in LIMITS {
                    for threshold in 0..THRESHOLDS {
                        let place = format!("{name}: class {class}, {area:?}, {limit} detections, threshold {threshold}");
                        near(coco.recall(class, area, threshold, limit).unwrap_or(-1.0), recalls[at], 1e-12, &place);
                        at += 1;
                        let runs = runs.next().unwrap().as_array().unwrap().iter().map(numbers);
                        let curve: Vec<f64> = runs.flat_map(|r| std::iter::repeat_n(r[0], r[1] as usize)).collect();
                        let mine = coco.precision(class, area, threshold, limit).unwrap_or([-1.0; RECALLS]);
                        assert_eq!(curve.len(), RECALLS);
                        for (a, b) in mine.iter().zip(curve) {
                            near(*a, b, 1e-12, &place);
                        }
                    }
                }
            }
        }
    }
}

/// The detections of a fixture; and for each overlap, class-wise and across classes, those that stay.
fn suppressions(name: &str) -> (Vec<Detection>, Vec<(f32, bool, Vec<Detection>)>) {
    let f = fixture(name);
    let (scores, classes) = (numbers(&f["scores"]), numbers(&f["classes"]));
    let all: Vec<Detection> = (0..scores.len())
        .map(|i| Detection { class: classes[i] as usize, score: scores[i] as f32, bbox: bbox(&numbers(&f["boxes"][i])) })
        .collect();
    let mut cases = Vec::new();
    for (key, agnostic) in [("kept", false), ("agnostic", true)] {
        for (iou, kept) in f[key].as_object().unwrap() {
            cases.push((iou.parse().unwrap(), agnostic, numbers(kept).iter().map(|&i| all[i as usize]).collect()));
        }
    }
    (all, cases)
}

#[test]
fn ties_and_boxes_without_area_are_suppressed_by_the_definition() {
    let (all, cases) = suppressions("nms_ties.json");
    for (iou, agnostic, expected) in cases {
        assert_eq!(nms(all.clone(), iou, agnostic, usize::MAX), expected, "{iou}, agnostic: {agnostic}");
    }
    // Of more candidates than are looked at, the best stay, the first of equal ones.
    let spread = |i: usize| Detection {
        class: 0,
        score: if i.is_multiple_of(2) { 0.5 } else { 0.25 },
        bbox: BBox { x1: i as f32 * 2.0, y1: 0.0, x2: i as f32 * 2.0 + 1.0, y2: 1.0 },
    };
    let kept = nms((0..2 * MAX_CANDIDATES + 10).map(spread).collect(), 0.5, false, usize::MAX);
    assert_eq!(kept.len(), MAX_CANDIDATES);
    assert!(kept.iter().enumerate().all(|(k, d)| *d == spread(2 * k)));
}

#[test]
fn confusion_counts_each_box_and_object_once() {
    let at = |x: f32, class, score| Detection { class, score, bbox: BBox { x1: x, y1: 0.0, x2: x + 10.0, y2: 10.0 } };
    let truth = |x: f32, class| Truth::from(GroundTruth { class, bbox: at(x, 0, 0.0).bbox });
    // One right, one taken for another class (which also counts for a third, with less confidence), one missed; two where
    // there is nothing, one of them hardly sure; one inside a crowd; one object met twice.
    let found = vec![
        vec![at(0.0, 0, 0.9), at(101.0, 2, 0.6), at(101.0, 1, 0.5), at(300.0, 1, 0.8), at(400.0, 1, 0.2)],
        vec![at(0.0, 0, 0.4), at(1.0, 0, 0.9), at(203.0, 2, 0.9)],
    ];
    let crowd = Truth { crowd: true, bbox: BBox { x1: 200.0, y1: 0.0, x2: 260.0, y2: 60.0 }, ..truth(200.0, 2) };
    let truths = vec![vec![truth(0.0, 0), truth(100.0, 0), truth(200.0, 1)], vec![truth(0.0, 0), crowd]];
    let labels = ["a", "b", "c"].map(String::from).to_vec();
    let c = Confusion::of_detections(&found, &truths, labels.clone());
    assert_eq!(c.counts, [[2, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]]);
    assert_eq!(c.labels.last().unwrap(), "background");
    let plot = c.plot("d");
    assert!(plot.title.starts_with("d: confusion at confidence 0.25, IoU 0.5"));
    let heat = plot.heat.unwrap();
    assert_eq!((heat.cell(0, 0), heat.cell(1, 0)), ((2.0 / 3.0, "2"), (0.0, "")));
    let plain = Confusion::of_answers([(0, 0), (0, 2), (1, 1)], labels);
    assert_eq!(plain.counts, [[1, 0, 1], [0, 1, 0], [0, 0, 0]]);
}

#[test]
fn without_objects_there_is_no_average_precision() {
    let box_ = BBox { x1: 0.0, y1: 0.0, x2: 9.0, y2: 9.0 };
    let m = mean_average_precision(&[vec![Detection { class: 0, score: 0.5, bbox: box_ }]], &[vec![]], 1);
    assert_eq!((m.map50, m.map, m.precision), (None, None, None));
}

#[test]
fn suppression_equals_torchvision() {
    let (all, cases) = suppressions("nms.json");
    for (iou, agnostic, expected) in cases {
        assert_eq!(nms(all.clone(), iou, agnostic, 300), expected, "{iou}, agnostic: {agnostic}");
        assert_eq!(nms(all.clone(), iou, agnostic, 3), expected[..3], "at most three");
    }
}

fn outputs(name: &str, tensor: Tensor) -> Outputs {
    Outputs::from([(name.to_string(), Value::plain(tensor).unwrap())])
}

fn detector(classes: &[&str], size: usize, decode: Decode) -> Detect {
    Detect { classes: classes.iter().map(|c| c.to_string()).collect(), image_size: [size, size], decode, head: None, anchors: None }
}

#[test]
fn fastestdet_is_decoded_by_its_formula() {
    let f = fixture("fastestdet.json");
    let raw: Vec<f32> = numbers(&f["raw"]).iter().map(|&v| v as f32).collect();
    let tensor = Tensor::from_vec(raw, (1, 8, 2, 3), &Device::Cpu).unwrap();
    let mut task = detector(&["a", "b", "c"], 64, Decode::described(BoxDecode { strides: vec![32], ..BoxDecode::fastest_det("o") }));
    task.image_size = [64, 96];
    let found = decode(&task, &outputs("o", tensor.clone()), 0.0, false).unwrap();
    let expected = f["found"].as_array().unwrap();
    assert_eq!(found[0].len(), expected.len());
    for (d, e) in found[0].iter().zip(expected) {
        let e = numbers(e);
        assert_eq!(d.class, e[0] as usize);
        for (a, b) in [d.score, d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2].into_iter().zip(&e[1..]) {
            near(f64::from(a), *b, 1e-4, "cell");
        }
    }
    let bgr = model_input(&Task::Detect(task), &Tensor::new(&[[[[1f32]], [[2.0]], [[3.0]]]], &Device::Cpu).unwrap()).unwrap();
    assert_eq!(bgr.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [3.0, 2.0, 1.0]);
}

#[test]
fn yolo_candidates_and_outputs_that_do_not_fit() {
    let task = detector(&["a", "b"], 32, Decode::Yolo { output: "o".into() });
    // Two anchors: one with both classes above the threshold, one with none.
    let rows = [[10f32, 20.0], [12.0, 20.0], [4.0, 2.0], [6.0, 2.0], [0.6, 0.1], [0.7, 0.2]];
    let tensor = Tensor::new(&[rows], &Device::Cpu).unwrap();
    let single = decode(&task, &outputs("o", tensor.clone()), 0.5, false).unwrap();
    let b = BBox { x1: 8.0, y1: 9.0, x2: 12.0, y2: 15.0 };
    assert_eq!(single, [[Detection { class: 1, score: 0.7, bbox: b }]]);
    let multi = decode(&task, &outputs("o", tensor.clone()), 0.5, true).unwrap();
    assert_eq!(multi[0].iter().map(|d| (d.class, d.score)).collect::<Vec<_>>(), [(0, 0.6), (1, 0.7)]);
    let fails = |o: Outputs, kind, part: &str| {
        let e = decode(&task, &o, 0.5, false).unwrap_err();
        assert!(e.kind() == kind && e.to_string().contains(part), "{e}");
    };
    fails(outputs("p", tensor.clone()), ErrorKind::Missing, "no output 'o', but p");
    fails(outputs("o", tensor.narrow(1, 0, 5).unwrap()), ErrorKind::Shape, "expected [batch, 4 + 2 classes, anchors], got [1, 5, 2]");
    fails(outputs("o", (tensor * f64::NAN).unwrap()), ErrorKind::Check, "output 'o': the detector's output holds NaN");
}

fn shapes(options: DataOptions) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(12), size: Some(json!([48, 64])), ..options }, &Context::new()).unwrap()
}

/// Outputs of a detector that knows the truth of images `from..from + n` of `data`, for an input of 64 × 64.
fn oracle(data: &Dataset, from: usize, n: usize, class: impl Fn(usize) -> usize) -> Tensor {
    let (classes, anchors) = (3, 8);
    let mut values = vec![0f32; n * (4 + classes) * anchors];
    for i in 0..n {
        let s = data.get(from + i).unwrap();
        let fit = Letterbox::fit(s.image.dimensions(), [64, 64]);
        for (a, t) in s.targets.iter().enumerate() {
            let at = |row: usize| (i * (4 + classes) + row) * anchors + a;
            for (row, v) in fit.forward(t.bbox).to_centre().into_iter().enumerate() {
                values[at(row)] = v;
            }
            values[at(4 + class(t.class))] = 0.9;
        }
    }
    Tensor::from_vec(values, (n, 4 + classes, anchors), &Device::Cpu).unwrap()
}

fn judge(task: &Detect, data: &Dataset, options: &Evaluate, class: impl Fn(usize) -> usize) -> Result<Evaluation> {
    let judged = data.for_evaluation();
    let mut from = 0;
    let mut run = |images: &Tensor| {
        let n = images.dim(0)?;
        from += n;
        Ok(outputs("o", oracle(&judged, from - n, n, &class)))
    };
    evaluate_with(&mut run, &Task::Detect(task.clone()), data, options, &Context::new())
}

#[test]
fn a_detector_that_knows_the_truth_scores_one() {
    let data = shapes(DataOptions::default());
    let options = Evaluate { batch: 3, ..Evaluate::default() };
    let yolo = || Decode::Yolo { output: "o".into() };
    let e = judge(&detector(&["circle", "square", "triangle"], 64, yolo()), &data, &options, |c| c).unwrap();
    assert_eq!((e.dataset.as_str(), e.images, e.top1), ("shapes val", 8, None));
    near(e.map.unwrap(), 1.0, 1e-9, "map");
    near(e.precision.unwrap() + e.recall.unwrap(), 2.0, 1e-12, "precision and recall");
    assert!(e.warnings.is_empty() && e.per_class.len() == 3 && e.plots().len() == 3);
    assert_eq!((&e.data()["map50"], &e.data()["map75"]), (&json!(e.map50), &json!(1.0)));
    let notes = e.notes().join("\n");
    assert!(notes.contains("confidence 0.001, IoU 0.7, at most 300 per image; 64×64 pixels, batch 3, cpu"), "{notes}");
    let confusion = e.confusion.as_ref().unwrap();
    assert!((0..3).all(|c| confusion.counts[c][c] == e.per_class[c].objects), "{confusion:?}");
    // The oracle's confidence is 0.9 for every object.
    let c = &e.by_confidence;
    assert_eq!((c.precision[89], c.recall[89], c.f1[89]), (Some(1.0), 1.0, 1.0));
    assert_eq!((c.precision[91], c.recall[91], c.f1[91]), (None, 0.0, 0.0));
    // Classes are matched by name: this detector has them in another order.
    let turned = detector(&["triangle", "circle", "square"], 64, yolo());
    near(judge(&turned, &data, &options, |c| (c + 1) % 3).unwrap().map.unwrap(), 1.0, 1e-9, "by name");
    near(judge(&turned, &data, &options, |c| c).unwrap().map.unwrap(), 0.0, 1e-9, "wrong classes");
    let other = judge(&detector(&["class0", "class1", "class2"], 64, yolo()), &data, &options, |c| c).unwrap();
    near(other.map.unwrap(), 1.0, 1e-9, "by number");
    assert!(other.warnings[0].contains("matched by number"), "{:?}", other.warnings);
    // Of two classes that only one side has, neither counts.
    let part = Evaluate { classes: compresso_model::classes::ClassMatch::Shared, ..options };
    let part = judge(&detector(&["circle", "square", "star"], 64, yolo()), &data, &part, |c| c).unwrap();
    near(part.map.unwrap(), 1.0, 1e-9, "shared");
    assert_eq!(part.per_class.iter().map(|c| c.class.as_str()).collect::<Vec<_>>(), ["circle", "square"]);
    assert!(part.confusion.unwrap().counts.iter().flatten().sum::<usize>() == part.per_class.iter().map(|c| c.objects).sum::<usize>());
    let text: Vec<String> = e.tables()[0].rows[0].clone();
    assert_eq!(text[0], "all");
}

/// One image with an object of exactly 32 × 32 pixels.
struct Exact;

impl Source for Exact {
    fn len(&self) -> usize {
        1
    }
    fn get(&self, _: usize) -> Result<Sample> {
        let bbox = BBox { x1: 10.0, y1: 10.0, x2: 42.0, y2: 42.0 };
        let image = image::RgbImage::new(100, 75);
        Ok(Sample { name: "x.png".into(), image, targets: vec![GroundTruth { class: 0, bbox }], label: None })
    }
    fn file_of(&self, _: usize) -> Option<&std::path::Path> {
        Some(std::path::Path::new("x.png"))
    }
}

#[test]
fn an_area_on_the_end_of_a_range_is_in_both() {
    let names = ["circle", "square", "triangle"];
    let data = Dataset::new("exact", DataKind::Detection, names.map(String::from).to_vec(), std::sync::Arc::new(Exact));
    let yolo = Decode::Yolo { output: "o".into() };
    let e = judge(&detector(&names, 64, yolo), &data, &Evaluate::default(), |c| c).unwrap();
    let c = e.coco.unwrap();
    near(c.map_small.unwrap(), 1.0, 1e-9, "small");
    near(c.map_medium.unwrap(), 1.0, 1e-9, "medium");
    assert_eq!((c.map_large, c.ar1), (None, Some(1.0)));
}

#[test]
fn tasks_and_datasets_that_do_not_fit_are_errors() {
    let data = shapes(DataOptions::default());
    let yolo = Decode::Yolo { output: "o".into() };
    let fails = |task: Task, data: &Dataset, options: Evaluate, kind, part: &str| {
        let e = evaluate_with(&mut |_| panic!("must not run"), &task, data, &options, &Context::new()).unwrap_err();
        assert!(e.kind() == kind && e.to_string().contains(part), "{e}");
    };
    let task = |classes: &[&str]| Task::Detect(detector(classes, 64, yolo.clone()));
    let three = task(&["circle", "square", "triangle"]);
    fails(Task::Unknown, &data, Evaluate::default(), ErrorKind::Unsupported, "task is not known");
    fails(task(&["circle", "dog"]), &data, Evaluate::default(), ErrorKind::Argument, "does not know square, triangle");
    fails(task(&["x", "y", "z"]), &data, Evaluate::default(), ErrorKind::Argument, "3 classes (x, y, z)");
    let one = shapes(DataOptions { task: DataTask::Classify, ..DataOptions::default() });
    fails(three.clone(), &one, Evaluate::default(), ErrorKind::Argument, "expected a dataset with detection labels");
    fails(three.clone(), &data, Evaluate { confidence: f64::NAN, ..Evaluate::default() }, ErrorKind::Argument, "confidence");
    fails(three.clone(), &data, Evaluate { batch: 0, ..Evaluate::default() }, ErrorKind::Argument, "batch");
    fails(three, &data, Evaluate { size: Some(json!("big")), ..Evaluate::default() }, ErrorKind::Argument, "option 'size' expects");
}

#[test]
fn classifiers_are_judged_by_their_best_classes() {
    let data = shapes(DataOptions { task: DataTask::Classify, classes: Some(json!(6)), ..DataOptions::default() });
    let val = data.split("val").unwrap();
    let labels: Vec<usize> = (0..val.len()).map(|i| val.get(i).unwrap().label.unwrap()).collect();
    let names = data.classes.to_vec();
    let task = Task::Classify(Classify { classes: names, image_size: [32, 32], output: "logits".into(), preprocess: Default::default() });
    let judge = |score: &dyn Fn(usize, usize) -> f32| {
        let mut from = 0;
        let mut run = |images: &Tensor| {
            let n = images.dim(0)?;
            let rows: Vec<f32> = (from..from + n).flat_map(|i| (0..6).map(move |c| (i, c))).map(|(i, c)| score(i, c)).collect();
            from += n;
            Ok(outputs("logits", Tensor::from_vec(rows, (n, 6), &Device::Cpu)?))
        };
        evaluate_with(&mut run, &task, &data, &Evaluate { batch: 5, ..Evaluate::default() }, &Context::new()).unwrap()
    };
    let e = judge(&|i, c| if c == labels[i] { 2.0 } else { 0.0 });
    assert_eq!((e.top1, e.top5, e.map50), (Some(1.0), Some(1.0), None));
    let e = judge(&|i, c| if c == labels[i] { -1.0 } else { 0.0 });
    assert_eq!((e.top1, e.top5), (Some(0.0), Some(0.0)));
    // Equal logits: the lower class is taken, so only images of class 0 are right.
    let zero = labels.iter().filter(|&&l| l == 0).count() as f64 / labels.len() as f64;
    let e = judge(&|_, _| 0.0);
    assert_eq!(e.top1, Some(zero));
    let most = (0..6).map(|c| labels.iter().filter(|&&l| l == c).count()).max().unwrap();
    let (_, share) = e.commonest().unwrap();
    assert_eq!(share, most as f64 / labels.len() as f64);
    let warned = e.notes().iter().any(|n| n.starts_with("warning: the model does no better: always answering"));
    assert_eq!(warned, zero <= share, "{:?}", e.notes());
    assert_eq!(e.top5, Some(labels.iter().filter(|&&l| l < 5).count() as f64 / labels.len() as f64));
}

#[test]
fn evaluation_stops_when_cancelled() {
    let data = shapes(DataOptions::default());
    let ctx = Context::new();
    let task = Task::Detect(detector(&["circle", "square", "triangle"], 64, Decode::Yolo { output: "o".into() }));
    let mut runs = 0;
    let mut run = |images: &Tensor| {
        runs += 1;
        ctx.cancel.cancel();
        Ok(outputs("o", oracle(&data, 0, images.dim(0)?, |c| c)))
    };
    let e = evaluate_with(&mut run, &task, &data, &Evaluate { batch: 1, ..Evaluate::default() }, &ctx).unwrap_err();
    assert!(e.is_cancelled() && runs == 1);
}

#[test]
fn drawing_frames_the_object_and_saves_whole_files() {
    let image = image::RgbImage::from_pixel(120, 90, image::Rgb([128; 3]));
    let found = |class: usize, b: [f32; 4]| Found {
        label: format!("class {class}"),
        class,
        score: 0.5,
        bbox: BBox { x1: b[0], y1: b[1], x2: b[2], y2: b[3] },
        part: None,
    };
    let inside = found(0, [30.0, 40.0, 80.0, 70.0]);
    let drawn = draw_detections(&image, &[inside.clone(), found(1, [-50.0, -50.0, 500.0, 500.0])], &["caption".into()]).unwrap();
    for (x, y) in [(30, 55), (80, 55), (50, 40), (50, 70)] {
        assert_eq!(drawn.get_pixel(x, y).0, class_color(0), "{x},{y}");
    }
    assert_eq!(drawn.get_pixel(55, 55).0, [128; 3], "the object itself is not painted");
    assert_eq!(drawn.get_pixel(1, 60).0, [128; 3], "nothing of a frame that lies outside");
    let of = |name: &str| {
        let mut p = Prediction::held(name, image.clone());
        p.detections.push(inside.clone());
        p
    };
    let dir = tempfile::tempdir().unwrap();
    let many = Predictions { images: vec![of("a/b.png"), of("c/b.png")], ..Predictions::default() };
    many.save(dir.path().join("out")).unwrap();
    Predictions { images: vec![of("a/b.png")], ..Predictions::default() }.save(dir.path().join("one.png")).unwrap();
    assert_eq!(image::open(dir.path().join("one.png")).unwrap().into_rgb8(), of("a/b.png").draw().unwrap());
    for file in ["out/b.jpg", "out/b_1.jpg"] {
        assert_eq!(image::image_dimensions(dir.path().join(file)).unwrap(), (120, 90));
    }
    let e = of("x").save(dir.path().join("x.tiff")).unwrap_err();
    assert!(e.to_string().contains("saved as .jpg or .png, got '.tiff'"));
    assert!(many.save(dir.path().join("two.png")).unwrap_err().to_string().contains("2 images do not go into one file"));
    let tiny = draw_detections(&image::RgbImage::new(1, 1), &[found(2, [0.0, 0.0, 1.0, 1.0])], &[]).unwrap();
    assert_eq!(tiny.dimensions(), (1, 1));
    assert_eq!((many.tables().len(), many.pictures().len()), (2, 2));
    // In COCO's form: left, top, width, height; the file's number where it has one.
    let numbered = Predictions { images: vec![of("photos/000042.jpg"), of("a.png")], ..Predictions::default() };
    numbered.save(dir.path().join("d.coco.json")).unwrap();
    let read: Json = serde_json::from_str(&std::fs::read_to_string(dir.path().join("d.coco.json")).unwrap()).unwrap();
    assert_eq!(read[0], json!({ "image_id": 42, "category_id": 1, "bbox": [30.0, 40.0, 50.0, 30.0], "score": 0.5 }));
    assert_eq!(read[1]["image_id"], "a");
}

#[test]
fn predictions_in_cocos_form_name_images_and_classes_as_a_saved_dataset_does() {
    let (dir, ctx) = (tempfile::tempdir().unwrap(), Context::new());
    let options = DataOptions { images: Some(6), size: Some(json!(64)), ..DataOptions::default() };
    let drawn = dataset("shapes", &options, &ctx).unwrap().split("train").unwrap();
    let file = drawn.export(dir.path().join("d.json"), &ctx).unwrap().remove(0);
    let saved: Json = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let data = dataset(&file.display().to_string(), &DataOptions::default(), &ctx).unwrap();
    let seen = |i: usize| {
        let s = data.get(i).unwrap();
        let mut p = Prediction::held(s.name, s.image);
        let found = |t: GroundTruth| Found { label: String::new(), class: t.class, score: 1.0, bbox: t.bbox, part: None };
        p.detections = s.targets.into_iter().map(found).collect();
        p
    };
    let all = Predictions { images: (0..data.len()).map(seen).collect(), ..Predictions::default() };
    let named = |list: &Json| -> Vec<String> {
        list.as_array().unwrap().iter().map(|a| format!("{} {}", a["image_id"], a["category_id"])).collect()
    };
    assert!(named(&saved["annotations"]).len() > 6);
    assert_eq!(named(&all.coco()), named(&saved["annotations"]));
}
