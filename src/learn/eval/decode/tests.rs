//! Small graphs whose outputs hold two known objects in each form that a description can name.

use crate::data::BBox;
use crate::eval::{Detection, ImageRunner, decode, model_input};
use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{ErrorKind, Result};
use compresso_model::{Constant, DecodeOption, Element, Fact, Graph, GraphBuilder, LoadOptions, Model, Node};
use serde_json::{Value as Json, json};

/// The input: 32 high, 64 wide.
const SIZE: [usize; 2] = [32, 64];

struct Out<'a> {
    name: &'a str,
    dims: &'a [usize],
    values: Vec<f32>,
    whole: bool,
}

fn out<'a>(name: &'a str, dims: &'a [usize], values: &[f32]) -> Out<'a> {
    Out { name, dims, values: values.to_vec(), whole: false }
}

/// A graph that gives these values whatever the image.
fn net(input: &[usize], element: Element, outputs: &[Out<'_>]) -> Graph {
    let mut b = GraphBuilder::new("net", 17);
    let images = b.input("images", Fact::known(element, input));
    let images = b.node(Node::new("Cast", "float", [images.as_str()], ["float"]).int("to", 1));
    let axes: Vec<i64> = (0..input.len() as i64).collect();
    let mean = b.node(Node::new("ReduceMean", "mean", [images.as_str()], ["mean"]).ints("axes", &axes).int("keepdims", 0));
    let none = b.constant("none", Constant::floats(&[1], &[0.0]).unwrap());
    let zero = b.op("Mul", &[&mean, &none]);
    for o in outputs {
        let held = b.constant(&format!("{}_held", o.name), Constant::floats(o.dims, &o.values).unwrap());
        let mut value = b.op("Add", &[&held, &zero]);
        if o.whole {
            value = b.node(Node::new("Cast", "whole", [value.as_str()], ["whole"]).int("to", 7));
        }
        b.output_as(&value, o.name);
    }
    b.finish().unwrap()
}

fn floats(outputs: &[Out<'_>]) -> Graph {
    net(&[1, 3, 32, 64], Element::F32, outputs)
}

fn load(graph: &Graph, decode: &Json, classes: &[&str]) -> Result<Model> {
    let classes = if classes.is_empty() { Json::Null } else { json!(classes) };
    Model::of_graph(graph.clone(), &compresso_base::operation::decode::<LoadOptions>(json!({ "decode": decode, "classes": classes }))?)
}

fn found(model: &Model) -> Result<Vec<Detection>> {
    let images = Tensor::zeros((1, 3, SIZE[0], SIZE[1]), candle_core::DType::F32, &Device::Cpu)?;
    let outputs = ImageRunner::new(model, &Context::new()).run(&images)?;
    let mut all = decode(model.task().detect().unwrap(), &outputs, 0.25, false)?;
    assert_eq!(all.len(), 1);
    Ok(all.remove(0))
}

/// A `b` of score 0.9 at (8, 4) to (24, 20) and an `a` of score 0.6 at (32, 8) to (48, 24).
fn assert_the_two(found: &[Detection], what: &str) {
    let expected = [(1, 0.9, [8.0, 4.0, 24.0, 20.0]), (0, 0.6, [32.0, 8.0, 48.0, 24.0])];
    assert_eq!(found.len(), 2, "{what}: {found:?}");
    for (d, (class, score, [x1, y1, x2, y2])) in found.iter().zip(expected) {
        let e = BBox { x1, y1, x2, y2 };
        let b = d.bbox;
        let apart = [b.x1 - e.x1, b.y1 - e.y1, b.x2 - e.x2, b.y2 - e.y2, d.score - score].into_iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(d.class == class && apart < 1e-4, "{what}: {d:?}");
    }
}

#[test]
fn every_form_gives_the_same_objects() {
    let ln = f32::ln;
    let logit = |p: f32| (p / (1.0 - p)).ln();
    let xyxy = [8.0, 4.0, 24.0, 20.0, 32.0, 8.0, 48.0, 24.0, 0.0, 0.0, 1.0, 1.0];
    let unit: Vec<f32> = xyxy.iter().zip([64.0, 32.0].iter().cycle()).map(|(v, s)| v / s).collect();
    let top_first: Vec<f32> = unit.chunks(2).flat_map(|p| [p[1], p[0]]).collect();
    let probabilities = [0.05, 0.05, 0.9, 0.3, 0.6, 0.1, 0.98, 0.01, 0.01];
    // What SSD exports give: class 0 is the background.
    let ssd = floats(&[out("boxes", &[1, 3, 4], &unit), out("scores", &[1, 3, 3], &probabilities)]);
    let d = json!({ "boxes": "boxes", "scores": "scores", "normalized": true, "background": 0 });
    assert_the_two(&found(&load(&ssd, &d, &["a", "b"]).unwrap()).unwrap(), "SSD");
    assert_eq!(load(&ssd, &d, &[]).unwrap().task().classes(), ["class0", "class1"]);

    // DETR: logits with the background last, centres and sizes.
    let centres = [0.25, 0.375, 0.25, 0.5, 0.625, 0.5, 0.25, 0.5, 0.0, 0.0, 0.1, 0.1];
    let logits = [0.05, 0.9, 0.05, 0.6, 0.1, 0.3, 0.01, 0.01, 0.98].map(ln);
    let detr = floats(&[out("logits", &[1, 3, 3], &logits), out("pred_boxes", &[1, 3, 4], &centres)]);
    let d = json!({ "boxes": "pred_boxes", "scores": "logits", "format": "cxcywh", "normalized": true, "activation": "softmax",
                    "background": 2, "nms": false });
    let model = load(&detr, &d, &["a", "b"]).unwrap();
    assert_the_two(&found(&model).unwrap(), "DETR");
    assert!(!model.task().detect().unwrap().decode.suppresses());

    // YOLOv5: one output of boxes, objectness and classes.
    let row = |b: [f32; 4], o: f32, a: f32, c: f32| [b[0], b[1], b[2], b[3], o, a, c];
    let v5: Vec<f32> = [row([16.0, 12.0, 16.0, 16.0], 0.9, 0.1, 1.0), row([40.0, 16.0, 16.0, 16.0], 0.75, 0.8, 0.2)].concat();
    let v5 = [v5, vec![0.0; 14 * 7]].concat();
    let joint = json!({ "format": "cxcywh", "objectness": true });
    assert_the_two(&found(&load(&floats(&[out("o", &[1, 16, 7], &v5)]), &joint, &["a", "b"]).unwrap()).unwrap(), "YOLOv5");
    // The same with anchors last and raw scores.
    let mut turned = vec![0f32; v5.len()];
    for (i, v) in v5.iter().enumerate() {
        turned[(i % 7) * 16 + i / 7] = if i % 7 < 4 { *v } else { logit(v.clamp(1e-6, 1.0 - 1e-6)) };
    }
    let joint = json!({ "format": "cxcywh", "objectness": true, "activation": "sigmoid", "layout": "anchors_last" });
    assert_the_two(&found(&load(&floats(&[out("o", &[1, 7, 16], &turned)]), &joint, &["a", "b"]).unwrap()).unwrap(), "anchors last");

    // YOLOX: offsets from the cells of two levels, 2 × 4 and 1 × 2; sizes as logarithms.
    let mut raw = vec![0f32; 10 * 7];
    raw[7..14].copy_from_slice(&row([0.0, 0.75, 0.0, 0.0], 0.9, 0.1, 1.0));
    raw[6 * 7..7 * 7].copy_from_slice(&row([0.5, 0.0, 0.0, 0.0], 0.75, 0.8, 0.2));
    let d = json!({ "format": "cxcywh", "objectness": true, "strides": [16, 32], "bgr": true, "scale": 255 });
    assert_the_two(&found(&load(&floats(&[out("o", &[1, 10, 7], &raw)]), &d, &["a", "b"]).unwrap()).unwrap(), "YOLOX");

    // NanoDet: probabilities, then the distances of the sides as logits of bins, from the corners of 2 × 4 and 1 × 2 cells.
    let bin = |i: usize| (0..3).map(move |b| if b == i { 40.0 } else { 0.0 });
    let cell = |scores: [f32; 2], sides: [usize; 4]| -> Vec<f32> { scores.into_iter().chain(sides.into_iter().flat_map(bin)).collect() };
    let mut raw: Vec<Vec<f32>> = vec![cell([0.0, 0.0], [0; 4]); 10];
    // From (16, 16) with 16 pixels per cell, and from (32, 0) with 32: the sides stand half way between bins.
    raw[5] = cell([0.1, 0.9], [0; 4]);
    raw[5][2..].copy_from_slice(&[[9.0, 9.0, -30.0], [-90.0, 0.0, -(3f32.ln())], [9.0, 9.0, -30.0], [3f32.ln(), 0.0, -90.0]].concat());
    raw[9] = cell([0.6, 0.1], [0, 0, 0, 0]);
    raw[9][2..].copy_from_slice(&[[40.0, 0.0, 0.0], [0.0; 3], [0.0, 0.0, -90.0], [0.0; 3]].concat());
    let d = json!({ "format": "ltrb", "bins": 3, "strides": [16, 32], "scores_first": true });
    assert_eq!(load(&floats(&[out("o", &[1, 10, 14], &raw.concat())]), &d, &[]).unwrap().task().classes(), ["class0", "class1"]);
    let nano = found(&load(&floats(&[out("o", &[1, 10, 14], &raw.concat())]), &d, &["a", "b"]).unwrap()).unwrap();
    let at = |d: &Detection| [d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2].map(|v| (v * 100.0).round() / 100.0);
    let seen: Vec<_> = nano.iter().map(|d| (d.class, at(d))).collect();
    assert_eq!(seen, [(1, [8.0, -4.0, 24.0, 20.0]), (0, [32.0, -32.0, 48.0, 32.0])]);

    // SSD: offsets from two priors in each cell, scaled; the first of a cell is 16 × 16, or 32 × 8.
    let mut offsets = vec![[0f32; 4]; 20];
    let mut scores = vec![[0.98f32, 0.01, 0.01]; 20];
    // About (24, 8), and about (48, 16).
    offsets[3] = [-4.0, 2.5, 5.0 * ln(0.5), 5.0 * ln(2.0)];
    scores[3] = [0.05, 0.05, 0.9];
    offsets[18] = [-2.5, 0.0, 5.0 * ln(0.5), 5.0 * ln(2.0)];
    scores[18] = [0.3, 0.6, 0.1];
    let graph = floats(&[out("loc", &[1, 20, 4], offsets.as_flattened()), out("conf", &[1, 20, 3], scores.as_flattened())]);
    let d = json!({ "boxes": "loc", "scores": "conf", "background": 0, "format": "cxcywh", "strides": [16, 32],
                    "shapes": [[[16, 16], [32, 8]], [[32, 8], [8, 8]]], "variances": [0.1, 0.1, 0.2, 0.2] });
    // The second prior of cell (1, 0) is 32 × 8: its centre moves by 0.4 of 32 to the left, by a quarter of 8 down.
    let moved = found(&load(&graph, &d, &["a", "b"]).unwrap()).unwrap();
    let seen: Vec<_> = moved.iter().map(|d| (d.class, at(d))).collect();
    assert_eq!(seen, [(1, [3.2, 2.0, 19.2, 18.0]), (0, [32.0, 8.0, 48.0, 24.0])]);

    // End to end: rows of finished detections, here with the class first and padding.
    let rows = [8.0, 4.0, 24.0, 20.0, 0.9, 1.0, 32.0, 8.0, 48.0, 24.0, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let rows_graph = floats(&[out("o", &[1, 3, 6], &rows)]);
    assert_the_two(&found(&load(&rows_graph, &json!("end2end"), &["a", "b"]).unwrap()).unwrap(), "end to end");
    let mixed = [[0.0, 1.0, 0.9, 0.125, 0.125, 0.375, 0.625], [0.0, 0.0, 0.6, 0.5, 0.25, 0.75, 0.75], [-1.0, 1.0, 0.9, 0.0, 0.0, 1.0, 1.0]];
    let d = json!({ "columns": ["batch", "class", "score", "box"], "normalized": true });
    assert_the_two(&found(&load(&floats(&[out("o", &[1, 1, 3, 7], &mixed.concat())]), &d, &["a", "b"]).unwrap()).unwrap(), "rows");

    // torchvision: three outputs without a batch axis, labels from 1, an image without a batch axis.
    let labels = Out { whole: true, ..out("labels", &[3], &[2.0, 1.0, 1.0]) };
    let outputs = [out("boxes", &[3, 4], &xyxy), labels, out("scores", &[3], &[0.9, 0.6, 0.01])];
    let d = json!({ "boxes": "boxes", "scores": "scores", "labels": "labels", "background": 0 });
    let tv = load(&net(&[3, 32, 64], Element::F32, &outputs), &d, &["a", "b"]).unwrap();
    assert_the_two(&found(&tv).unwrap(), "torchvision");
    assert!(tv.task().detect().unwrap().decode.is_ragged());
    // TensorFlow: bytes, channels last, top before left.
    let outputs =
        [out("boxes", &[1, 3, 4], &top_first), out("classes", &[1, 3], &[2.0, 1.0, 1.0]), out("scores", &[1, 3], &[0.9, 0.6, 0.0])];
    let d = json!({ "boxes": "boxes", "scores": "scores", "labels": "classes", "background": 0, "format": "yxyx", "normalized": true,
                    "scale": 255 });
    let tf = load(&net(&[1, 32, 64, 3], Element::U8, &outputs), &d, &["a", "b"]).unwrap();
    assert_the_two(&found(&tf).unwrap(), "TensorFlow");
    assert_eq!(tf.task().image_size(), Some(SIZE));
}

#[test]
fn a_description_is_saved_with_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let graph = floats(&[out("boxes", &[1, 3, 4], &[0.0; 12]), out("scores", &[1, 3, 2], &[0.5; 6])]);
    let d = json!({ "boxes": "boxes", "scores": "scores", "format": "xywh", "mean": [0.5, 0.5, 0.5] });
    let model = load(&graph, &d, &["a", "b"]).unwrap();
    model.save(dir.path().join("m.onnx")).unwrap();
    let again = Model::load(dir.path().join("m.onnx"), &LoadOptions::default()).unwrap();
    assert_eq!(again.task(), model.task());
    // Without the description, the model has no task.
    assert!(Model::of_graph(graph, &LoadOptions::default()).unwrap().task().detect().is_none());
}

#[test]
fn ultralytics_end_to_end_exports_are_recognised() {
    let graph = floats(&[out("output0", &[1, 5, 6], &[0.0; 30])]);
    let say = |pairs: &[(&str, &str)]| pairs.iter().fold(graph.clone(), |g, (k, v)| g.with_metadata(*k, *v));
    let names = ("names", "{0: 'cat', 1: 'dog'}");
    for more in [("end2end", "True"), ("args", "{'batch': 1, 'nms': True}")] {
        let model = Model::of_graph(say(&[("task", "detect"), ("stride", "32"), names, more]), &LoadOptions::default()).unwrap();
        assert_eq!(model.task().classes(), ["cat", "dog"]);
        assert_eq!(model.task().detect().unwrap().decode.outputs(), ["output0"]);
        assert!(found(&model).unwrap().is_empty());
    }
}

#[test]
fn descriptions_that_do_not_fit_say_why() {
    let two = floats(&[out("boxes", &[1, 3, 4], &[0.5; 12]), out("scores", &[1, 3, 3], &[0.5; 9])]);
    let fails = |graph: &Graph, d: Json, kind: ErrorKind, parts: &[&str]| {
        let e = load(graph, &d, &["a", "b"]).and_then(|m| found(&m)).unwrap_err();
        let text = e.to_string();
        assert!(e.kind() == kind && parts.iter().all(|p| text.contains(p)), "{d}: {text}");
    };
    let argument = ErrorKind::Argument;
    fails(&two, json!({ "boxes": "box" }), ErrorKind::Missing, &["no output 'box'", "the outputs are boxes, scores"]);
    fails(&two, json!({}), argument, &["'boxes' must name", "the outputs are boxes, scores"]);
    fails(&two, json!({ "boxes": "boxes", "scores": "scores" }), ErrorKind::Unsupported, &["3 classes", "names 2"]);
    fails(&two, json!({ "boxes": "scores", "scores": "boxes" }), ErrorKind::Shape, &["'scores' does not fit", "[batch, boxes, 4]"]);
    fails(&two, json!({ "boxes": "boxes", "columns": ["box", "score", "class"] }), ErrorKind::Shape, &["[batch, detections, 6]"]);
    fails(&two, json!({ "boxes": "boxes", "columns": ["box", "score"] }), argument, &["'columns' must name"]);
    fails(&two, json!({ "boxes": "boxes", "labels": "scores" }), argument, &["'labels' need 'scores'"]);
    fails(&two, json!({ "boxes": "boxes", "scores": "scores", "background": 3 }), argument, &["no class 3 among 3"]);
    fails(
        &two,
        json!({ "boxes": "boxes", "scores": "scores", "background": 0, "strides": [32], "format": "cxcywh" }),
        ErrorKind::Shape,
        &["[32] give 2 cells", "got 3 boxes"],
    );
    let cells = |more: Json| {
        let mut d = json!({ "boxes": "boxes", "scores": "scores", "background": 0, "format": "cxcywh", "strides": [32] });
        d.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        d
    };
    fails(&two, cells(json!({ "shapes": [[[8, 8]]] })), ErrorKind::Shape, &["[32] give 2 priors", "got 3 boxes"]);
    fails(&two, cells(json!({ "shapes": [[[8]]] })), argument, &["'shapes'", "[width, height]"]);
    fails(&two, cells(json!({ "shapes": [[[8, 8]], [[8, 8]]] })), argument, &["for each of the 'strides'"]);
    fails(&two, cells(json!({ "shapes": [[[8, 8]]], "centre": "tanh" })), argument, &["without 'shapes'"]);
    fails(&two, cells(json!({ "variances": [0.1, 0.2] })), argument, &["'variances' must be four"]);
    fails(&two, cells(json!({ "bins": 1 })), argument, &["'bins' must be from 2"]);
    fails(&two, cells(json!({ "point": 2 })), argument, &["'point' must be from 0"]);
    fails(&two, cells(json!({ "scores_first": true })), argument, &["one output of boxes and scores"]);
    fails(&two, json!({ "boxes": "boxes", "scores": "scores", "format": "ltrb" }), argument, &["need 'strides'"]);
    fails(&two, json!({ "boxes": "boxes", "scores": "scores", "std": [1.0] }), argument, &["'std' must be three numbers"]);
    fails(&two, json!({ "boxs": "boxes" }), argument, &["option 'decode': unknown option 'boxs'\n  help: did you mean 'boxes'?"]);
    fails(&two, json!({ "format": "xxyy" }), argument, &["option 'format' expects", "\"xyxy\""]);
    fails(&two, json!("yolp"), argument, &["expects \"yolo\"", "or map", "did you mean \"yolo\"?"]);
    let rows = floats(&[out("o", &[1, 1, 6], &[0.0, 0.0, 9.0, 9.0, 0.9, 2.0])]);
    fails(&rows, json!("end2end"), ErrorKind::Check, &["class 2", "names of 2 classes", "background: 0"]);
    let nan = floats(&[out("o", &[1, 1, 6], &[0.0, 0.0, 9.0, 9.0, f32::NAN, 0.0])]);
    fails(&nan, json!("end2end"), ErrorKind::Check, &["output 'o'", "NaN"]);
    let batches = net(&[2, 3, 32, 64], Element::F32, &[out("o", &[3, 7], &[0.0; 21])]);
    fails(&batches, json!({ "columns": ["batch", "class", "score", "box"] }), ErrorKind::Unsupported, &["batches of 2"]);
}

#[test]
fn images_are_normalized_as_described() {
    let graph = floats(&[out("o", &[1, 1, 6], &[0.0; 6])]);
    let d = json!({ "columns": ["box", "score", "class"], "bgr": true, "scale": 10, "mean": [1, 2, 3], "std": [1, 2, 4] });
    let model = load(&graph, &d, &["a"]).unwrap();
    let rgb = Tensor::new(&[[[[0.1f32]], [[0.6]], [[0.5]]]], &Device::Cpu).unwrap();
    let got = model_input(model.task(), &rgb).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(got, [4.0, 2.0, -0.5]);
}

#[test]
fn a_description_is_an_option_like_others() {
    let option: DecodeOption = serde_json::from_value(json!({ "format": "yxyx" })).unwrap();
    let again: DecodeOption = serde_json::from_value(serde_json::to_value(&option).unwrap()).unwrap();
    assert_eq!(option, again);
}
