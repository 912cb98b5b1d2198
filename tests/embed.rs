//! What is put into a graph does there what this library does around it.

mod common;

use compresso::Context;
use compresso::deploy::{EmbedNms, EmbedPreprocessing, ImageLayout, OnnxExport, Remade, Replay};
use compresso::exec::{self, Outputs, Run};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::learn::eval::{Detection, Evaluate, InputForm, Predict, decode, nms};
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{
    AnchorLayout, BoxDecode, BoxFormat, Constant, Decode, Detect, Dim, Element, Fact, GraphBuilder, Model, Preprocess, ScoreActivation,
    Task, Value,
};
use compresso::operation::Operation;
use compresso_test_support::noise;
use std::collections::HashMap;

fn shapes(images: usize) -> Dataset {
    dataset("shapes", &DataOptions { images: Some(images), size: Some(96.into()), ..DataOptions::default() }, &Context::new()).unwrap()
}

fn zoo(name: &str) -> Model {
    let classes = vec!["circle".into(), "square".into(), "triangle".into()];
    let options = ZooOptions { classes: Some(classes), image_size: Some([96, 96]), width: Some(0.125), ..ZooOptions::default() };
    common::lively(&build(name, &options).unwrap())
}

fn floats(dims: &[usize], values: &[f32]) -> Value {
    Value::plain(Constant::floats(dims, values).unwrap().tensor(&candle_core::Device::Cpu).unwrap()).unwrap()
}

/// A detector whose outputs are its inputs: boxes with scores in one, or apart.
fn echo(d: BoxDecode, dims: &[&[usize]], open: bool, classes: usize) -> Model {
    let mut b = GraphBuilder::new("echo", 13);
    for (i, dims) in dims.iter().enumerate() {
        let shape = dims.iter().enumerate().map(|(at, n)| if open && at == 0 { Dim::symbol("n") } else { Dim::Known(*n) }).collect();
        let x = b.input(&format!("x{i}"), Fact::new(Element::F32, shape));
        b.output_as(&x, &format!("y{i}"));
    }
    let task = Detect {
        classes: (0..classes).map(|i| format!("c{i}")).collect(),
        image_size: [64, 96],
        decode: Decode::described(d),
        head: None,
        anchors: None,
    };
    Model::new(b.finish().unwrap(), Task::Detect(task))
}

fn rows(value: &Value) -> Vec<Vec<[f64; 6]>> {
    let [batch, count, 6] = value.dims() else { panic!("{:?}", value.dims()) };
    let all = value.to_f64s().unwrap();
    let row = |i: usize| -> [f64; 6] { all[i * 6..][..6].try_into().unwrap() };
    (0..*batch).map(|b| (0..*count).map(|r| row(b * count + r)).filter(|r| r[4] > 0.0).collect()).collect()
}

fn same(what: &str, got: &[[f64; 6]], expected: &[Detection]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (g, e) in got.iter().zip(expected) {
        let b = e.bbox;
        let place = [b.x1, b.y1, b.x2, b.y2].map(f64::from);
        let near = g[..4].iter().zip(place).all(|(a, b)| (a - b).abs() <= 1e-3);
        assert!(near && (g[4] - f64::from(e.score)).abs() < 1e-6 && g[5] as usize == e.class, "{what}: {g:?} {e:?}");
    }
}

/// Boxes of all forms, in noise that has many overlaps.
#[test]
fn suppression_inside_is_suppression_outside() {
    let (classes, anchors) = (3, 40);
    let all = |format, objectness, layout, apart: bool| {
        let scores = apart.then(|| "y1".to_string());
        BoxDecode { boxes: Some("y0".into()), scores, format, objectness, layout: Some(layout), ..BoxDecode::default() }
    };
    let (first, last) = (AnchorLayout::AnchorsLast, AnchorLayout::ChannelsLast);
    let sigmoid = ScoreActivation::Sigmoid;
    let forms = [
        BoxDecode::yolo("y0"),
        BoxDecode::yolov5("y0"),
        all(BoxFormat::Xyxy, false, first, true),
        all(BoxFormat::Yxyx, true, last, true),
        all(BoxFormat::Xywh, false, last, false),
        BoxDecode { scores_first: true, ..all(BoxFormat::Cxcywh, false, last, false) },
        BoxDecode { objectness_first: true, activation: sigmoid, ..all(BoxFormat::Xyxy, true, first, false) },
        BoxDecode { layout: None, activation: sigmoid, ..all(BoxFormat::Cxcywh, false, last, false) },
        BoxDecode { layout: None, ..all(BoxFormat::Xyxy, true, last, true) },
        BoxDecode { normalized: true, ..all(BoxFormat::Yxyx, false, last, true) },
    ];
    for (form, d) in forms.into_iter().enumerate() {
        for (case, agnostic) in [(0, false), (1, true), (2, false)] {
            let (batch, open) = (1 + case, case == 2);
            let what = format!("form {form}, case {case}");
            let extra = usize::from(d.objectness);
            let apart = d.scores.is_some();
            let channels = if apart { [4, classes + extra].to_vec() } else { vec![4 + extra + classes] };
            let anchors_last = d.layout == Some(AnchorLayout::AnchorsLast);
            let dims: Vec<[usize; 3]> =
                channels.iter().map(|&c| if anchors_last { [batch, c, anchors] } else { [batch, anchors, c] }).collect();
            let borrowed: Vec<&[usize]> = dims.iter().map(|d| &d[..]).collect();
            let model = echo(d.clone(), &borrowed, open, classes);
            let options = EmbedNms { confidence: 0.3, iou: 0.5, max_detections: 12, agnostic };
            let (inside, said) = common::noted(|ctx| options.run(&model, ctx).unwrap());
            assert!(said.contains("'detections'"), "{said}");
            let feeds: HashMap<String, Value> = dims
                .iter()
                .enumerate()
                .map(|(i, dims)| {
                    let scores_at = |c: usize| match (apart, i) {
                        (true, 0) => false,
                        (true, _) => true,
                        _ if d.scores_first => c < classes,
                        _ if d.objectness_first => c == 0 || c > 4,
                        _ => c >= 4,
                    };
                    let numbers = noise(dims.iter().product(), (form * 7 + case * 3 + i) as u32);
                    let values: Vec<f32> = numbers
                        .iter()
                        .enumerate()
                        .map(|(at, v)| {
                            let c = if anchors_last { at / anchors % dims[1] } else { at % dims[2] };
                            let unit = v.abs().min(1.0);
                            match (scores_at(c), d.activation) {
                                (true, ScoreActivation::Sigmoid) => v * 4.0,
                                (true, _) => unit,
                                // Corners come in order.
                                (false, _) => {
                                    let first = usize::from(d.objectness_first) + if d.scores_first { classes } else { 0 };
                                    let second = c - first >= 2 && matches!(d.format, BoxFormat::Xyxy | BoxFormat::Yxyx);
                                    let place = 10.0 + 30.0 * (unit + f32::from(second));
                                    if d.normalized { place / 80.0 } else { place }
                                }
                            }
                        })
                        .collect();
                    (format!("x{i}"), floats(dims, &values))
                })
                .collect();
            let Task::Detect(task) = model.task() else { panic!() };
            let outside: Outputs = exec::run(model.graph(), &feeds, Run::default()).unwrap();
            let candidates = decode(task, &outside, 0.3, false).unwrap();
            let Task::Detect(finished) = inside.task() else { panic!() };
            let ours = exec::run(inside.graph(), &feeds, Run::default()).unwrap();
            let theirs = Session::from_graph(inside.graph(), 1).unwrap().run(&feeds).unwrap();
            let read = decode(finished, &ours, 0.3, false).unwrap();
            for got in [&ours[0], &theirs[0]] {
                assert_eq!(got.dims(), [batch, 12, 6], "{what}");
                for (image, rows) in rows(got).iter().enumerate() {
                    let kept = nms(candidates[image].clone(), 0.5, agnostic, 12);
                    assert!(kept.len() > 2, "{what}: {}", kept.len());
                    if d.normalized {
                        assert_eq!((rows.len(), read[image].len()), (kept.len(), kept.len()), "{what}");
                    } else {
                        same(&what, rows, &kept);
                    }
                    for (a, b) in read[image].iter().zip(&kept) {
                        assert!(a.class == b.class && a.bbox.iou(&b.bbox) > 0.9999, "{what}: {a:?} {b:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_detector_with_suppression_inside_predicts_and_is_judged_as_before() {
    let ctx = Context::new();
    let data = shapes(8);
    for name in ["yolov8n", "yolo11n"] {
        let model = zoo(name);
        let inside = EmbedNms { confidence: 0.01, ..EmbedNms::default() }.run(&model, &ctx).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inside.onnx");
        inside.save(&file).unwrap();
        let again = Model::load(&file, &compresso::model::LoadOptions::default()).unwrap();
        let predict = |m: &Model| Predict { confidence: 0.01, ..Predict::default() }.run((m, &data), &ctx).unwrap();
        let (before, after) = (predict(&model), predict(&again));
        assert!(before.images.iter().any(|i| i.detections.len() > 3), "{name} sees nothing");
        for (a, b) in before.images.iter().zip(&after.images) {
            assert_eq!(a.detections.len(), b.detections.len(), "{name}, {}", a.name);
            for (a, b) in a.detections.iter().zip(&b.detections) {
                assert!(a.class == b.class && (a.score - b.score).abs() < 1e-4 && a.bbox.iou(&b.bbox) > 0.999, "{name}: {a:?} {b:?}");
            }
        }
        let judge = |m: &Model| {
            let options = Evaluate { confidence: 0.01, multi_label: false, ..Evaluate::default() };
            serde_json::to_value(options.run((m, &data), &ctx).unwrap()).unwrap()
        };
        let (a, b) = (judge(&model), judge(&again));
        assert_eq!(a["map50"], b["map50"], "{name}");
    }
}

#[test]
fn bytes_become_the_input_inside() {
    let ctx = Context::new();
    let classifier = build("classifier", &ZooOptions { image_size: Some([32, 48]), ..ZooOptions::default() }).unwrap();
    let Task::Classify(task) = classifier.task().clone() else { panic!() };
    let normal = Preprocess { bgr: true, mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225], ..Preprocess::default() };
    let of = |preprocess| classifier.clone().with_task(Task::Classify(compresso::model::Classify { preprocess, ..task.clone() }));
    let bytes: Vec<f32> = (0..2 * 3 * 32 * 48).map(|i| ((i * 37 + i / 7) % 256) as f32).collect();
    let images = floats(&[2, 3, 32, 48], &bytes.iter().map(|b| b / 255.0).collect::<Vec<_>>());
    for model in
        [of(Preprocess::default()), of(normal), of(Preprocess { scale: 255.0, mean: vec![127.5], ..Preprocess::default() }), zoo("yolov8n")]
    {
        let detector = matches!(model.task(), Task::Detect(_));
        let images = if detector {
            floats(&[1, 3, 96, 96], &bytes.iter().cycle().take(3 * 96 * 96).map(|b| b / 255.0).collect::<Vec<_>>())
        } else {
            images.clone()
        };
        let images = images.tensor.clone();
        let feed = |m: &Model| {
            let input = m.graph().inputs()[0].clone();
            let form = InputForm::of_images(&input.fact).unwrap();
            HashMap::from([(input.name.clone(), form.feed(m.task(), &input.fact, &images).unwrap())])
        };
        let expected = exec::run(model.graph(), &feed(&model), Run::default()).unwrap();
        for layout in [ImageLayout::Nhwc, ImageLayout::Nchw] {
            let inside = EmbedPreprocessing { layout }.run(&model, &ctx).unwrap();
            let input = &inside.graph().inputs()[0];
            assert_eq!((input.fact.element, input.name.as_str()), (Element::U8, "image"));
            let channels = if layout == ImageLayout::Nhwc { 3 } else { 1 };
            assert_eq!(input.fact.dim(channels), Some(3));
            let feeds = feed(&inside);
            let first: Vec<f64> = feeds["image"].to_f64s().unwrap();
            assert!(first.iter().all(|v| v.fract() == 0.0) && first.contains(&255.0));
            common::assert_close(&exec::run(inside.graph(), &feeds, Run::default()).unwrap()[0], &expected[0], 1e-5);
            common::assert_close(&Session::from_graph(inside.graph(), 1).unwrap().run(&feeds).unwrap()[0], &expected[0], 1e-4);
            let e = EmbedPreprocessing { layout }.run(&inside, &ctx).unwrap_err().to_string();
            assert!(e.contains("takes uint8 already"), "{e}");
        }
    }
}

#[test]
fn an_exported_file_takes_bytes_and_gives_rows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("whole.onnx");
    let options = OnnxExport { nms: true, preprocessing: Some(ImageLayout::Nhwc), opset: Some(12), ..OnnxExport::default() };
    let (said, notes) = common::noted(|ctx| options.apply(&zoo("yolov8n"), &file, ctx).unwrap());
    assert!(notes.contains("embed_nms") && notes.contains("takes bytes") && said.opset == 12, "{notes}");
    common::python(&["tests/python/check_onnx.py", file.to_str().unwrap()]);
    let model = Model::load(&file, &compresso::model::LoadOptions::default()).unwrap();
    let sizes = |fact: &Fact| (1..fact.rank().unwrap() as isize).map(|i| fact.dim(i)).collect::<Vec<_>>();
    assert_eq!(sizes(&model.graph().inputs()[0].fact), [Some(96), Some(96), Some(3)]);
    assert_eq!(sizes(&model.graph().outputs()[0].fact), [Some(189), Some(6)]);
    // It is a detector as any other.
    Predict::default().run((&model, &shapes(2)), &Context::new()).unwrap();
}

#[test]
fn what_cannot_be_put_inside_is_refused_with_the_reason() {
    let ctx = Context::new();
    let nms = |m: &Model| EmbedNms::default().run(m, &ctx).unwrap_err().to_string();
    assert!(nms(&build("classifier", &ZooOptions::default()).unwrap()).contains("a classifier has no boxes"));
    assert!(nms(&zoo("yolov10n")).contains("nothing to suppress"));
    let cells = echo(BoxDecode { strides: vec![16], ..BoxDecode::yolo("y0") }, &[&[1, 7, 24]], false, 3);
    assert!(nms(&cells).contains("grid cells"));
    let columns = compresso::model::BoxDecode { nms: Some(true), ..BoxDecode::end_to_end("y0") };
    assert!(nms(&echo(columns, &[&[1, 24, 6]], false, 3)).contains("have a class each already"));
    let inside = EmbedNms::default().run(&zoo("yolov8n"), &ctx).unwrap();
    assert!(nms(&inside).contains("nothing to suppress"));
    let e = EmbedNms { iou: 1.5, ..EmbedNms::default() }.run(&zoo("yolov8n"), &ctx).unwrap_err().to_string();
    assert!(e.contains("'iou'"), "{e}");
}

/// Bytes of a model whose outputs nothing is known of are bytes, too.
#[test]
fn unknown_models_with_bytes_are_calibrated_on_bytes() {
    let classifier = build("classifier", &ZooOptions { image_size: Some([32, 32]), ..ZooOptions::default() }).unwrap();
    let unknown = Model::new(classifier.graph().clone(), Task::Unknown);
    let inside = EmbedPreprocessing::default().run(&unknown, &Context::new()).unwrap();
    let input = &inside.graph().inputs()[0].fact;
    let images =
        Constant::floats(&[1, 3, 1, 2], &[0.0, 1.0, 0.5, 1.0 / 255.0, 0.2, 0.7]).unwrap().tensor(&candle_core::Device::Cpu).unwrap();
    let fed = InputForm::of_images(input).unwrap().feed(inside.task(), input, &images).unwrap();
    assert_eq!(fed.to_f64s().unwrap(), [0.0, 128.0, 51.0, 255.0, 1.0, 179.0]);
}

#[test]
fn recipes_make_what_was_put_inside_again() {
    let ctx = Context::new();
    let options = serde_json::json!({ "width": 0.125, "image_size": 64, "classes": 3 });
    let model = compresso::operation::decode::<compresso::model::ModelOptions>(options).unwrap().run("yolov8n", &ctx).unwrap();
    let inside = EmbedPreprocessing::default().run(&EmbedNms::default().run(&model, &ctx).unwrap(), &ctx).unwrap();
    let Remade::Model(again) = inside.recipe().unwrap().replay(&ctx).unwrap() else { panic!("a model") };
    assert_eq!(again.graph(), inside.graph());
    assert_eq!(again.task(), inside.task());
}
