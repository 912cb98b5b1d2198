//! Class names permuted, cut and replaced, for every operation that takes a model and a dataset, in YOLO, VOC and COCO form and
//! as image folders; and new heads, which keep all other weights.

mod common;

use common::noted;
use compresso::compress::distill::{Distill, Method};
use compresso::compress::prune::{Importance, Prune};
use compresso::compress::quantize::Quantize;
use compresso::exec::{Run, run};
use compresso::learn::data::{DataKind, DataOptions, DataTask, Dataset, dataset};
use compresso::learn::eval::{Evaluate, Evaluation};
use compresso::learn::train::Train;
use compresso::measure::benchmark::{Benchmark, benchmark};
use compresso::measure::compare::Compare;
use compresso::model::classes::ClassMatch;
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Classes, LoadOptions, Model, ModelOptions, Value};
use compresso::operation::Operation;
use compresso::report::Show;
use compresso::{Context, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The classes of the models of this file, in their order, which no form gives by itself.
const OWN: [&str; 3] = ["square", "triangle", "circle"];
/// The order of drawn shapes, and of VOC, which sorts.
const SORTED: [&str; 3] = ["circle", "square", "triangle"];
const SIDE: u32 = 64;
const FORMS: [&str; 3] = ["yolo", "voc", "coco"];

fn drawn(task: DataTask) -> Dataset {
    let options = DataOptions { images: Some(8), size: Some(SIDE.into()), task, ..DataOptions::default() };
    dataset("shapes", &options, &Context::new()).unwrap().for_training()
}

/// Writes the drawn objects of the classes in `order`, of SORTED by these names, in a form; opens it again.
fn written(form: &str, order: &[(&str, &str)], folder: &Path, options: &DataOptions) -> Result<Dataset> {
    let data = drawn(DataTask::Detect);
    let put = |name: String, text: String| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    let pictures = if form == "voc" { "JPEGImages" } else { "images" };
    std::fs::create_dir_all(folder.join(pictures)).unwrap();
    for i in 0..data.len() {
        let sample = data.get(i).unwrap();
        sample.image.save(folder.join(format!("{pictures}/{i}.png"))).unwrap();
        let objects: Vec<(usize, &str, [f64; 4])> = sample
            .targets
            .iter()
            .filter_map(|t| {
                let class = order.iter().position(|(shape, _)| *shape == SORTED[t.class])?;
                Some((class, order[class].1, [t.bbox.x1, t.bbox.y1, t.bbox.x2, t.bbox.y2].map(f64::from)))
            })
            .collect();
        let size = f64::from(SIDE);
        let lines = objects.iter().map(|(class, _, [x1, y1, x2, y2])| {
            format!("{class} {} {} {} {}\n", (x1 + x2) / 2.0 / size, (y1 + y2) / 2.0 / size, (x2 - x1) / size, (y2 - y1) / size)
        });
        put(format!("labels/{i}.txt"), lines.collect());
        let entries = objects.iter().map(|(_, name, [x1, y1, x2, y2])| {
            // Counted from 1.
            let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(|v| v + 1.0);
            format!(
                "<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            )
        });
        let entries: String = entries.collect();
        put(format!("Annotations/{i}.xml"), format!("<annotation><filename>{i}.png</filename>{entries}</annotation>"));
        images.push(serde_json::json!({ "id": i, "file_name": format!("{i}.png"), "width": SIDE, "height": SIDE }));
        for (class, _, [x1, y1, x2, y2]) in objects {
            annotations.push(serde_json::json!({
                "id": annotations.len() + 1, "image_id": i, "category_id": class + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
            }));
        }
    }
    let names: Vec<&str> = order.iter().map(|o| o.1).collect();
    let ctx = Context::new();
    let open = |path: PathBuf| dataset(path.to_str().unwrap(), options, &ctx);
    match form {
        "yolo" => {
            put("data.yaml".into(), format!("train: images\nval: images\nnames: {}\n", serde_json::json!(names)));
            open(folder.join("data.yaml"))
        }
        "coco" => {
            let categories: Vec<_> = names.iter().enumerate().map(|(i, n)| serde_json::json!({ "id": i + 1, "name": n })).collect();
            let all = serde_json::json!({ "images": images, "annotations": annotations, "categories": categories });
            put("all.json".into(), all.to_string());
            open(folder.join("all.json"))
        }
        "voc" => {
            std::fs::remove_dir_all(folder.join("labels")).unwrap();
            open(folder.to_path_buf())
        }
        other => panic!("{other}"),
    }
}

/// A dataset in a folder that lives as long.
struct Written {
    data: Dataset,
    _folder: tempfile::TempDir,
}

fn of(form: &str, order: &[(&str, &str)], options: &DataOptions) -> Written {
    let folder = tempfile::tempdir().unwrap();
    Written { data: written(form, order, folder.path(), options).unwrap(), _folder: folder }
}

fn same<'a>(names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    names.iter().map(|n| (*n, *n)).collect()
}

/// The dataset in the order of the models.
fn right(form: &str) -> Written {
    let options = DataOptions { classes: (form == "voc").then(|| serde_json::json!(OWN)), ..DataOptions::default() };
    let written = of(form, &same(&OWN), &options);
    assert_eq!(*written.data.classes, OWN.map(String::from));
    written
}

/// The same objects with another order of classes.
fn permuted(form: &str) -> Written {
    let written = of(form, &same(&SORTED), &DataOptions::default());
    assert_eq!(*written.data.classes, SORTED.map(String::from));
    written
}

/// The same objects under names that no model has.
fn replaced(form: &str) -> Written {
    of(form, &[("square", "box"), ("triangle", "tent"), ("circle", "ball")], &DataOptions::default())
}

/// Without the circles, in another order.
fn cut(form: &str) -> Written {
    of(form, &same(&["triangle", "square"]), &DataOptions::default())
}

fn named(names: &[&str], width: f64) -> Model {
    let options = ZooOptions {
        classes: Some(names.iter().map(|n| (*n).to_string()).collect()),
        image_size: Some([SIDE as usize; 2]),
        width: Some(width),
        depth: Some(0.33),
        seed: 1,
        ..ZooOptions::default()
    };
    build("yolov8n", &options).unwrap()
}

/// A model that has learnt the images by heart, so that figures depend on the classes.
fn learnt() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let options = Train { epochs: 100, batch: 4, augment: false, ema: false, learning_rate: Some(0.01), ..Train::default() };
        let data = right("yolo");
        options.run((&named(&OWN, 0.125), &data.data.split("train").unwrap(), None), &Context::new()).unwrap().model
    })
}

fn floats(model: &Model) -> Vec<(String, Vec<f32>)> {
    let floats = model.graph().constants().iter().filter(|(_, c)| c.element().is_float());
    floats.map(|(n, c)| (n.clone(), c.to_f32s().unwrap())).collect()
}

fn train(model: &Model, data: &Dataset, classes: ClassMatch, ctx: &Context) -> Result<Model> {
    let options = Train { epochs: 1, batch: 4, classes, workers: Some(1), ..Train::default() };
    Ok(options.run((model, data, None), ctx)?.model)
}

fn distill(model: &Model, teacher: &Model, data: &Dataset, classes: ClassMatch, ctx: &Context) -> Result<Model> {
    let train = Train { epochs: 1, batch: 4, classes, workers: Some(1), ..Train::default() };
    Ok(Distill { method: Method::Both, train, ..Distill::default() }.run((model, teacher, data, None), ctx)?.model)
}

fn evaluate(model: &Model, data: &Dataset, classes: ClassMatch, ctx: &Context) -> Result<Evaluation> {
    Evaluate { classes, ..Evaluate::default() }.run((model, data), ctx)
}

fn prune(model: &Model, data: &Dataset, classes: ClassMatch, ctx: &Context) -> Result<Model> {
    let options =
        Prune { ratio: 0.3, align: 1, min_channels: 2, importance: Some(Importance::TAYLOR), images: 8, classes, ..Prune::default() };
    options.apply(model, Some(data), ctx)
}

fn bench(
    models: &[(&str, &Model)],
    data: &Dataset,
    classes: ClassMatch,
    ctx: &Context,
) -> Result<compresso::measure::benchmark::BenchmarkReport> {
    let models: Vec<(String, Model)> = models.iter().map(|(n, m)| ((*n).to_string(), (*m).clone())).collect();
    let options = Benchmark {
        runs: 1,
        warmup: 0,
        power: false,
        isolate: false,
        classes,
        runtimes: Some(vec!["native".into()]),
        ..Benchmark::default()
    };
    benchmark(&models, Some(data), &options, ctx)
}

/// mAP50, mAP50-95, class by class its name, objects and mAP50-95, and the confusion.
type Figures = (Option<f64>, Option<f64>, Vec<(String, usize, Option<f64>)>, Vec<Vec<usize>>);

/// The figures of an evaluation.
fn figures(e: &Evaluation) -> Figures {
    let classes = e.per_class.iter().map(|c| (c.class.clone(), c.objects, c.map)).collect();
    (e.map50, e.map, classes, e.confusion.as_ref().unwrap().counts.clone())
}

const BY_NAME: &str = "matched by name: circle 0 → 2, square 1 → 0, triangle 2 → 1";

#[test]
fn forms_hold_the_same_objects_by_name() {
    let by_name = |data: &Dataset| -> Vec<Vec<String>> {
        let of = |i: usize| {
            let mut all: Vec<String> = data.get(i).unwrap().targets.iter().map(|t| data.classes[t.class].clone()).collect();
            all.sort();
            all
        };
        (0..data.len()).map(of).collect()
    };
    let expected = by_name(&drawn(DataTask::Detect));
    assert!(SORTED.iter().all(|n| expected.iter().flatten().any(|o| o == n)));
    for form in FORMS {
        assert_eq!(by_name(&right(form).data.for_training()), expected, "{form}");
        assert_eq!(by_name(&permuted(form).data.for_training()), expected, "{form}");
    }
}

#[test]
fn permuted_classes_train_and_distil_to_the_same_bits() {
    let (model, teacher) = (named(&OWN, 0.0625), learnt());
    for form in FORMS {
        let (right, permuted) = (right(form), permuted(form));
        let (expected, quiet) = noted(|ctx| train(&model, &right.data, ClassMatch::Same, ctx).unwrap());
        assert!(!quiet.contains("matched"), "{quiet}");
        let (got, notes) = noted(|ctx| train(&model, &permuted.data, ClassMatch::Same, ctx).unwrap());
        assert!(floats(&got) == floats(&expected), "{form}");
        assert!(notes.contains(BY_NAME), "{notes}");
        assert_eq!(got.task().classes(), OWN);
        // The order matters: as numbers, the same labels train to other weights.
        let mistaken = model.clone().with_task(model.task().clone().with_classes(SORTED.map(String::from).to_vec()));
        assert!(floats(&train(&mistaken, &permuted.data, ClassMatch::Same, &Context::new()).unwrap()) != floats(&expected));
        // Of a teacher, too, whose own order is another.
        let turned = teacher.clone().with_classes(&SORTED.map(String::from)).unwrap().model;
        let expected = distill(&model, teacher, &right.data, ClassMatch::Same, &Context::new()).unwrap();
        let (got, notes) = noted(|ctx| distill(&model, &turned, &permuted.data, ClassMatch::Same, ctx).unwrap());
        assert!(floats(&got) == floats(&expected), "{form}");
        assert!(
            notes.contains(BY_NAME) && notes.contains("distill: the student numbers the classes otherwise than the teacher"),
            "{notes}"
        );
    }
}

#[test]
fn permuted_classes_are_judged_and_ranked_alike() {
    let model = learnt();
    for form in FORMS {
        let (right, permuted) = (right(form), permuted(form));
        let ctx = Context::new();
        let expected = evaluate(model, &right.data, ClassMatch::Same, &ctx).unwrap();
        assert!(expected.map50.unwrap() > 0.5 && expected.warnings.is_empty(), "{form}: {:?} {:?}", expected.map50, expected.warnings);
        let (got, notes) = noted(|ctx| evaluate(model, &permuted.data, ClassMatch::Same, ctx).unwrap());
        assert_eq!(figures(&got), figures(&expected), "{form}");
        assert!(notes.contains(BY_NAME) && got.warnings[0].contains(BY_NAME), "{notes}");
        // By number it would be another figure.
        let mistaken = model.clone().with_task(model.task().clone().with_classes(SORTED.map(String::from).to_vec()));
        let wrong = evaluate(&mistaken, &permuted.data, ClassMatch::Same, &ctx).unwrap();
        assert!(wrong.map50.unwrap() < 0.8 * expected.map50.unwrap(), "{form}: {:?}", wrong.map50);
        let (expected_graph, (got_graph, notes)) = (
            prune(model, &right.data, ClassMatch::Same, &ctx).unwrap(),
            noted(|ctx| prune(model, &permuted.data, ClassMatch::Same, ctx).unwrap()),
        );
        assert!(floats(&got_graph) == floats(&expected_graph), "{form}");
        assert!(notes.contains(BY_NAME), "{notes}");
        // Two models of one table, each by its own order.
        let turned = model.clone().with_classes(&SORTED.map(String::from)).unwrap().model;
        let report = bench(&[("own", model), ("turned", &turned)], &permuted.data, ClassMatch::Same, &ctx).unwrap();
        // Means over the classes are summed in another order.
        let near = |a: Option<f64>, b: Option<f64>| (a.unwrap() - b.unwrap()).abs() < 1e-9;
        assert!(report.rows.iter().all(|r| near(r.map50, expected.map50) && near(r.map, expected.map)), "{form}: {:?}", report.rows);
        let told: Vec<&String> = report.warnings.iter().filter(|w| w.contains("matched by name")).collect();
        assert!(matches!(told[..], [one] if one.contains("'own'") && one.contains(BY_NAME)), "{told:?}");
        // Calibration reads no labels.
        let [a, b] = [&right, &permuted].map(|d| Quantize { images: 4, ..Quantize::default() }.apply(model, Some(&d.data), &ctx).unwrap());
        assert!(floats(&a) == floats(&b), "{form}");
    }
}

fn refused(what: &str, e: &Error, parts: &[&str]) {
    let text = e.to_string();
    assert_eq!(e.kind(), ErrorKind::Argument, "{what}: {text}");
    assert!(parts.iter().all(|p| text.contains(p)), "{what}: {text}");
}

/// Each operation that reads labels, on a dataset.
fn operations(model: &Model, data: &Dataset, classes: ClassMatch) -> Vec<(&'static str, Result<()>)> {
    let ctx = Context::new();
    vec![
        ("train", train(model, data, classes, &ctx).map(drop)),
        ("distill", distill(model, model, data, classes, &ctx).map(drop)),
        ("evaluate", evaluate(model, data, classes, &ctx).map(drop)),
        ("prune", prune(model, data, classes, &ctx).map(drop)),
        ("benchmark", bench(&[("m", model)], data, classes, &ctx).map(drop)),
    ]
}

#[test]
fn strangers_are_refused_with_both_lists_and_the_remedies() {
    let model = named(&OWN, 0.0625);
    for form in FORMS {
        let data = replaced(form);
        let theirs = if form == "voc" { "(ball, box, tent)" } else { "(box, tent, ball)" };
        let remedies = ["(square, triangle, circle)", theirs, "model(file, #{ classes: [...] })", "model(file, #{ classes: d.classes })"];
        for wanted in [ClassMatch::Same, ClassMatch::Shared] {
            for (name, result) in operations(&model, &data.data, wanted) {
                refused(&format!("{form} {name}"), &result.unwrap_err(), &remedies);
            }
        }
    }
    // In a table of several models, one that cannot be judged is told of, and the others are.
    let data = right("yolo");
    let other = named(&["box", "tent", "ball"], 0.0625);
    let report = bench(&[("own", &model), ("other", &other)], &data.data, ClassMatch::Same, &Context::new()).unwrap();
    assert!(report.rows[0].map50.is_some() && report.rows[1].map50.is_none());
    let warning = report.warnings.iter().find(|w| w.starts_with("no accuracy of 'other'")).unwrap();
    assert!(warning.contains("(box, tent, ball)") && warning.contains("(square, triangle, circle)"), "{warning}");
    // A teacher of other classes teaches features only.
    let e = distill(&model, &other, &data.data, ClassMatch::Same, &Context::new()).unwrap_err();
    refused("teacher", &e, &["the teacher has 3 classes (box, tent, ball)", "method \"features\""]);
}

#[test]
fn a_part_of_the_classes_needs_the_option_and_says_what_is_left_out() {
    let model = learnt();
    for form in FORMS {
        let data = cut(form);
        for (name, result) in operations(&named(&OWN, 0.0625), &data.data, ClassMatch::Same) {
            refused(&format!("{form} {name}"), &result.unwrap_err(), &["lacks circle of the model", "classes: \"shared\"", "new head"]);
        }
        for (name, result) in operations(&named(&OWN, 0.0625), &data.data, ClassMatch::Shared) {
            result.unwrap_or_else(|e| panic!("{form} {name}: {e}"));
        }
        let (_, notes) = noted(|ctx| train(model, &data.data, ClassMatch::Shared, ctx).unwrap());
        assert!(notes.contains("share 2 classes; the model alone has circle"), "{notes}");
        assert!(notes.contains("the model learns that there are none of circle"), "{notes}");
        // Circles that the dataset does not tell of are no mistakes: the other classes have the same figures.
        let whole = evaluate(model, &right(form).data, ClassMatch::Same, &Context::new()).unwrap();
        let (part, notes) = noted(|ctx| evaluate(model, &data.data, ClassMatch::Shared, ctx).unwrap());
        assert!(notes.contains("what the model finds of circle is left out"), "{notes}");
        let of = |e: &Evaluation| {
            let all = e.per_class.iter().filter(|c| c.class != "circle");
            all.map(|c| (c.class.clone(), c.objects, c.map50)).collect::<Vec<_>>()
        };
        assert_eq!(of(&part), of(&whole), "{form}");
        assert_eq!(part.per_class.len(), 2);
        // Labels that the model lacks are left out, and counted.
        let narrow = named(&["triangle", "square"], 0.0625);
        let all = right(form);
        let e = train(&narrow, &all.data, ClassMatch::Same, &Context::new()).unwrap_err();
        refused(form, &e, &["does not know circle of dataset", "classes: \"shared\""]);
        let circles: usize = {
            let d = all.data.for_training();
            (0..d.len()).map(|i| d.get(i).unwrap().targets.iter().filter(|t| t.class == 2).count()).sum()
        };
        let (trained, notes) = noted(|ctx| train(&narrow, &all.data, ClassMatch::Shared, ctx).unwrap());
        assert!(notes.contains(&format!("{circles} objects are left out, as the model lacks circle")), "{notes}");
        // As if they had never been there.
        let without = train(&narrow, &data.data, ClassMatch::Same, &Context::new()).unwrap();
        assert!(floats(&trained) == floats(&without), "{form}");
    }
}

#[test]
fn spelling_does_not_matter_and_generated_names_go_by_number() {
    let model = named(&["Square", "TRIANGLE", "circle"], 0.0625);
    let (data, plain) = (right("yolo"), named(&OWN, 0.0625));
    let expected = floats(&train(&plain, &data.data, ClassMatch::Same, &Context::new()).unwrap());
    let (trained, notes) = noted(|ctx| train(&model, &data.data, ClassMatch::Same, ctx).unwrap());
    assert!(floats(&trained) == expected && notes.contains("'square' is 'Square'"), "{notes}");
    // A model without names learns them with the labels, so that the next dataset may have another order.
    let bare = named(&["class0", "class1", "class2"], 0.0625);
    let (trained, notes) = noted(|ctx| train(&bare, &data.data, ClassMatch::Same, ctx).unwrap());
    assert!(floats(&trained) == expected);
    assert_eq!(trained.task().classes(), OWN);
    assert!(notes.contains("they are called as those of dataset"), "{notes}");
    let student = distill(&bare, learnt(), &permuted("yolo").data, ClassMatch::Same, &Context::new()).unwrap();
    assert_eq!(student.task().classes(), SORTED);
    // A dataset without names, too, and neither knows less classes than the other unsaid.
    let numbers = of("yolo", &[("square", "0"), ("triangle", "1"), ("circle", "2")], &DataOptions::default());
    let (by_number, notes) = noted(|ctx| evaluate(learnt(), &numbers.data, ClassMatch::Same, ctx).unwrap());
    assert_eq!(by_number.map50, evaluate(learnt(), &data.data, ClassMatch::Same, &Context::new()).unwrap().map50);
    assert!(notes.contains("matched by number"), "{notes}");
    let wide = named(&["class0", "class1", "class2", "class3"], 0.0625);
    for (name, result) in operations(&wide, &data.data, ClassMatch::Shared) {
        refused(name, &result.unwrap_err(), &["the model has no names for its classes, and their number differs", "new head"]);
    }
}

fn saved(model: &Model, name: &str, folder: &Path) -> PathBuf {
    let path = folder.join(name);
    model.save(&path).unwrap();
    path
}

fn outputs(model: &Model) -> Vec<Vec<f32>> {
    let image = drawn(DataTask::Detect).get(0).unwrap().image;
    let mut pixels = Vec::new();
    compresso::learn::data::to_chw(&image, &mut pixels);
    let side = SIDE as usize;
    let x = candle_core::Tensor::from_vec(pixels, (1, 3, side, side), &candle_core::Device::Cpu).unwrap();
    let input = model.graph().feeds().next().unwrap().name.clone();
    let name = model.graph().outputs()[0].name.clone();
    let all = run(model.graph(), &HashMap::from([(input, Value::plain(x).unwrap())]), Run::default()).unwrap();
    let t = &all[&name].tensor;
    if t.rank() == 2 { t.squeeze(0).unwrap().unsqueeze(1).unwrap().to_vec2().unwrap() } else { t.squeeze(0).unwrap().to_vec2().unwrap() }
}

/// Equal but for the rounding of sums in another order.
fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + a.abs()))
}

fn boxes_near(a: &[Vec<f32>], b: &[Vec<f32>]) -> bool {
    (0..4).all(|i| near(&a[i], &b[i]))
}

#[test]
fn a_new_head_keeps_everything_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = learnt();
    let before: HashMap<String, Vec<f32>> = floats(model).into_iter().collect();
    for file in ["m.onnx", "m.safetensors"] {
        let path = saved(model, file, folder.path());
        let open = |names: &[&str]| {
            let classes = serde_json::json!(names);
            noted(|ctx| ModelOptions { classes: Some(classes), ..ModelOptions::default() }.run(path.to_str().unwrap(), ctx))
        };
        // More classes, some of them its own, in another order.
        let wide = ["star", "circle", "cross", "square", "heart"];
        let (m, notes) = open(&wide);
        let m = m.unwrap();
        assert_eq!(m.task().classes(), wide);
        assert!(notes.contains("circle, square keep their weights, star, cross, heart begin untrained"), "{notes}");
        let (own, new) = (outputs(model), outputs(&m));
        assert_eq!(new.len(), 4 + 5);
        // Boxes, then circle and square: the same numbers as before.
        assert!(boxes_near(&own, &new) && near(&own[4 + 2], &new[4 + 1]) && near(&own[4], &new[4 + 3]));
        let changed: Vec<String> = floats(&m).into_iter().filter(|(n, v)| before.get(n) != Some(v)).map(|(n, _)| n).collect();
        assert_eq!(changed.len(), 6, "weights and biases of the last layers of three levels: {changed:?}");
        assert!(changed.iter().all(|n| n.contains(".cv3.")), "{changed:?}");
        // It trains, and is saved and opened as it is; its recipe makes it again.
        let again = Model::load(saved(&m, "wide.onnx", folder.path()), &LoadOptions::default()).unwrap();
        assert!(floats(&again) == floats(&m) && again.task() == m.task());
        assert_eq!(again.steps().last().unwrap().options["classes"], serde_json::json!(wide));
        let data = right("yolo");
        train(&m, &data.data, ClassMatch::Shared, &Context::new()).unwrap();
        // Fewer classes, and strangers of another number.
        let (few, _) = open(&["circle"]);
        let few = outputs(&few.unwrap());
        assert!(boxes_near(&few, &own) && near(&few[4], &own[4 + 2]) && few.len() == 5);
        let (strangers, notes) = open(&["cat", "dog"]);
        assert!(notes.contains("cat, dog begin untrained") && !notes.contains("keep their weights,"), "{notes}");
        assert_eq!(outputs(&strangers.unwrap()).len(), 6);
        // Another order is the same model: all figures stay.
        let (turned, notes) = open(&SORTED);
        assert!(notes.contains("keep their weights"), "{notes}");
        let score = |m: &Model| evaluate(m, &data.data, ClassMatch::Same, &Context::new()).unwrap().map.unwrap();
        assert!((score(&turned.unwrap()) - score(model)).abs() < 1e-6);
        // As many names, all new, are names.
        let (renamed, notes) = open(&["box", "tent", "ball"]);
        assert!(floats(&renamed.unwrap()) == floats(model) && notes.contains("are now called box, tent, ball"), "{notes}");
    }
}

#[test]
fn new_heads_of_other_models() {
    let folder = tempfile::tempdir().unwrap();
    let classes = |names: &[&str]| Some(Classes::Names(names.iter().map(|n| (*n).to_string()).collect()));
    let zoo = |name: &str, classes: &[&str], width| {
        let names = Some(classes.iter().map(|n| (*n).to_string()).collect());
        build(name, &ZooOptions { classes: names, image_size: Some([64, 64]), width, ..ZooOptions::default() }).unwrap()
    };
    for (name, width) in [
        ("yolo11n", Some(0.125)),
        ("yolov5n", Some(0.125)),
        ("yolov5nu", Some(0.125)),
        ("mobile_yolo-n", None),
        ("classifier", Some(0.125)),
        ("yolov8n-cls", Some(0.125)),
        ("resnet18", Some(0.125)),
        ("mobilenet_v2", Some(0.25)),
    ] {
        let model = zoo(name, &OWN, width);
        let path = saved(&model, "m.onnx", folder.path());
        let m = Model::load(&path, &LoadOptions { classes: classes(&["circle", "star", "square", "cross"]), ..LoadOptions::default() });
        let m = m.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(m.task().classes().len(), 4, "{name}");
        let (own, new) = (outputs(&model), outputs(&m));
        if model.task().detect().is_none() {
            assert!(near(&own[2], &new[0]) && near(&own[0], &new[2]) && new.len() == 4, "{name}");
        } else if name == "yolov5n" {
            // Rows of boxes: four sides, objectness, classes.
            assert!(
                own.iter().zip(&new).all(|(o, n)| near(&o[..5], &n[..5]) && near(&[o[7], o[5]], &[n[5], n[7]]) && n.len() == 9),
                "{name}"
            );
        } else {
            assert!(boxes_near(&own, &new) && near(&own[6], &new[4]) && near(&own[4], &new[6]) && new.len() == 8, "{name}");
        }
    }
    // Of one class, and to it.
    let one = zoo("yolov8n", &["thing"], Some(0.125));
    let path = saved(&one, "one.onnx", folder.path());
    let m = Model::load(&path, &LoadOptions { classes: classes(&["star", "thing", "cross"]), ..LoadOptions::default() }).unwrap();
    let (own, new) = (outputs(&one), outputs(&m));
    assert!(boxes_near(&own, &new) && near(&own[4], &new[5]) && new.len() == 7);
    // A pruned one.
    let pruned = Prune { ratio: 0.4, ..Prune::default() }.apply(learnt(), None, &Context::new()).unwrap();
    let path = saved(&pruned, "p.onnx", folder.path());
    let m = Model::load(&path, &LoadOptions { classes: classes(&["circle", "star"]), ..LoadOptions::default() }).unwrap();
    assert!(near(&outputs(&m)[4], &outputs(&pruned)[4 + 2]));
    // A quantized one says what to do instead.
    let quantized = Quantize { images: 2, ..Quantize::default() }.apply(learnt(), Some(&drawn(DataTask::Detect)), &Context::new()).unwrap();
    let path = saved(&quantized, "q.onnx", folder.path());
    let e = Model::load(&path, &LoadOptions { classes: classes(&["circle", "star"]), ..LoadOptions::default() }).unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("then quantize"), "{e}");
}

/// The logits of each class, all levels in one, and the finished rows.
fn logits_and_rows(model: &Model) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let head = model.task().detect().unwrap().head.as_ref().unwrap();
    let wanted: Vec<&str> = head.scores.iter().map(String::as_str).collect();
    let waves: Vec<f32> = (0..3 * 64 * 64).map(|i| 0.5 + 0.5 * (i as f32 * 0.37).sin()).collect();
    let x = candle_core::Tensor::from_vec(waves, (1, 3, 64, 64), &candle_core::Device::Cpu).unwrap();
    let feeds = HashMap::from([("images".to_string(), Value::plain(x).unwrap())]);
    let all = run(model.graph(), &feeds, Run { wanted: &wanted, ..Run::default() }).unwrap();
    let levels: Vec<_> = all.values().map(|v| v.tensor.flatten_from(2).unwrap()).collect();
    let logits = candle_core::Tensor::cat(&levels, 2).unwrap().squeeze(0).unwrap().to_vec2().unwrap();
    let rows = run(model.graph(), &feeds, Run::default()).unwrap()["output0"].tensor.squeeze(0).unwrap().to_vec2().unwrap();
    (logits, rows)
}

#[test]
fn heads_of_finished_rows_get_other_classes() {
    let folder = tempfile::tempdir().unwrap();
    let own: Vec<String> = OWN.map(String::from).to_vec();
    let wide = ["circle", "star", "square", "cross", "heart"];
    for name in ["yolov10n", "yolo26n"] {
        let zoo = ZooOptions { classes: Some(own.clone()), image_size: Some([64, 64]), width: Some(0.0625), ..ZooOptions::default() };
        let model = build(name, &zoo).unwrap();
        let path = saved(&model, "m.onnx", folder.path());
        let options = LoadOptions { classes: Some(Classes::Names(wide.map(String::from).to_vec())), ..LoadOptions::default() };
        let m = Model::load(&path, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let ((before, _), (after, rows)) = (logits_and_rows(&model), logits_and_rows(&m));
        let of = |class: &str| own.iter().position(|c| c == class).unwrap();
        assert!(near(&before[of("circle")], &after[0]) && near(&before[of("square")], &after[2]) && after.len() == 5, "{name}");
        // Each row tells the class that its score is of.
        assert_eq!(rows.len(), 84);
        for row in &rows {
            let class = row[5] as usize;
            let same = |x: &f32| (1.0 / (1.0 + (-x).exp()) - row[4]).abs() < 1e-6;
            assert!(class < 5 && after[class].iter().any(same), "{name}: {row:?}");
        }
        assert!(rows.iter().any(|r| r[5] > 2.5), "{name}: new classes are found too");
        let data = drawn(DataTask::Detect);
        train(&m, &data, ClassMatch::Shared, &Context::new()).unwrap();
    }
}

#[test]
fn weights_of_a_file_go_to_the_classes_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(learnt(), "w.safetensors", folder.path());
    let options = ModelOptions {
        classes: Some(serde_json::json!(SORTED)),
        image_size: Some(SIDE.into()),
        width: Some(0.125),
        depth: Some(0.33),
        weights: Some(path),
        ..ModelOptions::default()
    };
    let (m, notes) = noted(|ctx| options.run("yolov8n", ctx).unwrap());
    assert!(notes.contains("keep their weights"), "{notes}");
    let data = right("yolo");
    // The classes are averaged in another order.
    let score = |m: &Model| evaluate(m, &data.data, ClassMatch::Same, &Context::new()).unwrap().map50.unwrap();
    let (found, given) = (score(&m), score(learnt()));
    assert!((found - given).abs() < 1e-12, "{found}, not {given}");
}

#[test]
fn compared_models_are_laid_beside_each_other_by_name() {
    let model = learnt();
    let turned = model.clone().with_classes(&SORTED.map(String::from)).unwrap().model;
    let compare =
        |a: &Model, b: &Model| Compare { images: 2, ..Compare::default() }.run((a, b, Some(&drawn(DataTask::Detect))), &Context::new());
    let same = compare(model, &turned).unwrap();
    assert!(same.outputs.iter().all(|d| d.max_abs < 1e-5), "{:?}", same.outputs);
    assert!(same.notes().iter().any(|n| n.contains("matched by name")), "{:?}", same.notes());
    let mistaken = model.clone().with_task(turned.task().clone());
    // Boxes and scores are told apart: only the scores stand elsewhere.
    let wrong = compare(model, &mistaken).unwrap().outputs;
    let told = |name: &str| wrong.iter().find(|d| d.output == name).unwrap_or_else(|| panic!("{name} in {wrong:?}"));
    assert!(told("output0 boxes").max_abs == 0.0 && told("output0 scores").max_abs > 0.01 && wrong.len() == 2, "{wrong:?}");
    let e = compare(model, &named(&["box", "tent", "ball"], 0.125)).unwrap_err();
    refused("compare", &e, &["(square, triangle, circle)", "(box, tent, ball)"]);
}

#[test]
fn the_option_of_datasets_goes_by_name() {
    let ask = |names: &[&str]| DataOptions { classes: Some(serde_json::json!(names)), ..DataOptions::default() };
    for form in FORMS {
        // Chosen and in order.
        let chosen = of(form, &same(&SORTED), &ask(&["triangle", "circle"]));
        let d = chosen.data.for_training();
        assert_eq!(*d.classes, ["triangle".to_string(), "circle".to_string()]);
        let whole = drawn(DataTask::Detect);
        for i in 0..d.len() {
            let names = |d: &Dataset| d.get(i).unwrap().targets.iter().map(|t| d.classes[t.class].clone()).collect::<Vec<_>>();
            let expected: Vec<String> = names(&whole).into_iter().filter(|n| n != "square").collect();
            assert_eq!(names(&d), expected, "{form} {i}");
        }
        assert!(
            d.warnings.iter().any(|w| w.contains("object of class 'square', which is not asked for, left out")),
            "{form}: {:?}",
            d.warnings
        );
        let folder = tempfile::tempdir().unwrap();
        let e = written(form, &same(&SORTED), folder.path(), &ask(&["cat", "dog"])).unwrap_err();
        refused(form, &e, &["names cat, dog, the data has circle, square, triangle"]);
    }
    // Numbers of YOLO files may get other names.
    let renamed = of("yolo", &same(&OWN), &ask(&["box", "tent", "ball"]));
    assert_eq!(*renamed.data.classes, ["box", "tent", "ball"].map(String::from));
    assert!(renamed.data.warnings.iter().any(|w| w.contains("classes renamed by number")), "{:?}", renamed.data.warnings);
}

#[test]
fn classifiers_and_image_folders() {
    let folder = tempfile::tempdir().unwrap();
    let data = drawn(DataTask::Classify);
    for i in 0..data.len() {
        let s = data.get(i).unwrap();
        let dir = folder.path().join(SORTED[s.label.unwrap()]);
        std::fs::create_dir_all(&dir).unwrap();
        s.image.save(dir.join(format!("{i}.png"))).unwrap();
    }
    for shape in SORTED {
        assert!(folder.path().join(shape).is_dir(), "each class is drawn");
    }
    let open = |options: DataOptions| dataset(folder.path().to_str().unwrap(), &options, &Context::new()).unwrap();
    let right = open(DataOptions { classes: Some(serde_json::json!(OWN)), ..DataOptions::default() });
    let sorted = open(DataOptions::default());
    assert_eq!((sorted.kind, &*sorted.classes), (DataKind::Classification, &SORTED.map(String::from)[..]));
    let of = |names: &[&str]| {
        let names = Some(names.iter().map(|n| (*n).to_string()).collect());
        build(
            "classifier",
            &ZooOptions { classes: names, image_size: Some([32, 32]), width: Some(0.125), seed: 1, ..ZooOptions::default() },
        )
        .unwrap()
    };
    let model = of(&OWN);
    let quick = |classes| Train { epochs: 2, batch: 4, augment: false, classes, workers: Some(1), ..Train::default() };
    let trained = |m: &Model, d: &Dataset, classes| quick(classes).run((m, d, None), &Context::new()).map(|t| t.model);
    // The files come in another order: the drawn order of one is that of the other.
    let (a, b) = (trained(&model, &right, ClassMatch::Same).unwrap(), trained(&model, &sorted, ClassMatch::Same).unwrap());
    assert!(floats(&a) == floats(&b));
    let score = |m: &Model, d: &Dataset, classes| evaluate(m, d, classes, &Context::new());
    let expected = score(&a, &right, ClassMatch::Same).unwrap();
    assert_eq!(figures(&score(&a, &sorted, ClassMatch::Same).unwrap()), figures(&expected));
    // One folder less.
    let part = open(DataOptions { classes: Some(serde_json::json!(["triangle", "square"])), ..DataOptions::default() });
    refused("cut", &score(&a, &part, ClassMatch::Same).unwrap_err(), &["lacks circle"]);
    let shared = score(&a, &part, ClassMatch::Shared).unwrap();
    assert!(shared.images == part.len() && shared.warnings.iter().any(|w| w.contains("an answer of circle counts as wrong")));
    // One class of the model less: its images are left out.
    let narrow = of(&["triangle", "square"]);
    refused("narrow", &trained(&narrow, &sorted, ClassMatch::Same).unwrap_err(), &["does not know circle"]);
    let (_, notes) = noted(|ctx| quick(ClassMatch::Shared).run((&narrow, &sorted, None), ctx).unwrap());
    let circles = sorted.len() - part.len();
    assert!(notes.contains(&format!("{circles} of {} images are left out, as the model lacks circle", sorted.len())), "{notes}");
    let strangers = of(&["cat", "dog", "fox"]);
    for result in [trained(&strangers, &sorted, ClassMatch::Shared).map(drop), score(&strangers, &sorted, ClassMatch::Shared).map(drop)] {
        refused("strangers", &result.unwrap_err(), &["(cat, dog, fox)", "(circle, square, triangle)"]);
    }
    let by_number = trained(&of(&["0", "1", "2"]), &right, ClassMatch::Same).unwrap();
    assert!(floats(&by_number) == floats(&a) && by_number.task().classes() == OWN);
}
