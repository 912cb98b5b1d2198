//! Classifiers and detectors from elsewhere, fed as their option `preprocess` says.

use super::{Evaluate, Predict, image_files_dataset};
use crate::data::{DataOptions, dataset};
use compresso_base::context::Context;
use compresso_base::error::{ErrorKind, Result};
use compresso_base::operation::{Operation, decode};
use compresso_model::{Decode, Element, Fact, Graph, GraphBuilder, LoadOptions, Model, Node};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

/// A classifier whose logits are the means of its input's channels.
fn means(input: &[usize]) -> Graph {
    let mut b = GraphBuilder::new("means", 17);
    let images = b.input("images", Fact::known(Element::F32, input));
    b.node(Node::new("ReduceMean", "mean", [images.as_str()], ["logits"]).ints("axes", &[2, 3]).int("keepdims", 0));
    b.output("logits");
    b.finish().unwrap()
}

fn open(graph: &Graph, options: Value) -> Result<Model> {
    Model::of_graph(graph.clone(), &decode::<LoadOptions>(options)?)
}

/// The logits less the first one, by the scores of all classes, of an image in a file.
fn seen(model: &Model, image: &RgbImage) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    image.save(&path).unwrap();
    let data = image_files_dataset(&[path.display().to_string()], &Context::new()).unwrap();
    let found = Predict::default().run((model, &data), &Context::new()).unwrap();
    let mut classes = found.images[0].classes.clone();
    classes.sort_by_key(|c| c.class);
    classes.iter().map(|c| (c.score / classes[0].score).ln()).collect()
}

fn close(got: &[f32], logits: [f64; 3]) {
    let wanted = logits.map(|l| (l - logits[0]) as f32);
    assert!(got.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.01), "{got:?} {wanted:?}");
}

/// A square of one colour in the middle half of each side, in a frame of another.
fn framed() -> RgbImage {
    RgbImage::from_fn(64, 64, |x, y| if (16..48).contains(&x) && (16..48).contains(&y) { Rgb([200, 100, 50]) } else { Rgb([0, 0, 255]) })
}

#[test]
fn a_classifier_sees_what_the_option_says() {
    let graph = means(&[1, 3, 32, 32]);
    let [r, g, b] = [200.0, 100.0, 50.0].map(|v: f64| v / 255.0);
    let inner = |options: Value| seen(&open(&graph, json!({ "preprocess": options })).unwrap(), &framed());
    // The whole image: a quarter of it is the square.
    let whole = [r / 4.0, g / 4.0, b / 4.0 + 0.75];
    close(&seen(&open(&graph, json!({})).unwrap(), &framed()), whole);
    close(
        &inner(json!({ "mean": [0.5, 0.25, 0.1], "std": [0.5, 2.0, 0.25] })),
        [(whole[0] - 0.5) / 0.5, (whole[1] - 0.25) / 2.0, (whole[2] - 0.1) / 0.25],
    );
    // Scaled to twice the input, the middle is the square.
    close(&inner(json!({ "resize": 64 })), [r, g, b]);
    close(&inner(json!({ "resize": 64, "crop": 32, "bgr": true })), [b, g, r]);
    close(&inner(json!({ "crop": 0.5, "mean": [0.5], "std": [0.25] })), [r, g, b].map(|v| (v - 0.5) / 0.25));
    close(
        &inner(json!({ "resize": 64, "scale": 255, "mean": [120, 110, 100], "std": [60] })),
        [(200.0 - 120.0) / 60.0, (100.0 - 110.0) / 60.0, (50.0 - 100.0) / 60.0],
    );
    let plain = RgbImage::from_pixel(50, 40, Rgb([200, 100, 50]));
    let imagenet = seen(&open(&graph, json!({ "preprocess": "imagenet" })).unwrap(), &plain);
    close(&imagenet, [(r - 0.485) / 0.229, (g - 0.456) / 0.224, (b - 0.406) / 0.225]);
}

#[test]
fn evaluation_and_files_keep_it() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["a", "b", "c"] {
        std::fs::create_dir(dir.path().join(class)).unwrap();
        framed().save(dir.path().join(class).join("1.png")).unwrap();
    }
    let data = dataset(&dir.path().display().to_string(), &DataOptions::default(), &Context::new()).unwrap();
    let judged = |model: &Model| Evaluate::default().run((model, &data), &Context::new()).unwrap().top1.unwrap();
    let classes = json!(["a", "b", "c"]);
    // The frame is blue: the whole image is of class c, the middle of class a; a third of the images either way.
    let model = open(&means(&[1, 3, 32, 32]), json!({ "classes": classes, "preprocess": { "resize": 64 } })).unwrap();
    assert!((judged(&model) - 1.0 / 3.0).abs() < 1e-9);
    let path = dir.path().join("m.onnx");
    model.save(&path).unwrap();
    let again = Model::load(&path, &LoadOptions::default()).unwrap();
    assert_eq!(again.task(), model.task());
    close(&seen(&again, &framed()), [200.0 / 255.0, 100.0 / 255.0, 50.0 / 255.0]);
    // The file's own may be overruled.
    let plain = Model::load(&path, &decode::<LoadOptions>(json!({ "preprocess": {} })).unwrap()).unwrap();
    assert!(plain.task().classify().unwrap().preprocess.is_plain());
}

#[test]
fn open_sizes_follow_the_crop_and_contradictions_are_refused() {
    let mut b = GraphBuilder::new("open", 17);
    use compresso_model::Dim;
    let shape = vec![Dim::symbol("n"), Dim::Known(3), Dim::symbol("h"), Dim::symbol("w")];
    let images = b.input("images", Fact::new(Element::F32, shape));
    b.node(Node::new("ReduceMean", "mean", [images.as_str()], ["logits"]).ints("axes", &[2, 3]).int("keepdims", 0));
    b.output("logits");
    let graph = b.finish().unwrap();
    let size = |options| open(&graph, options).map(|m| m.task().image_size().unwrap());
    assert_eq!(size(json!({ "preprocess": { "crop": 96 } })).unwrap(), [96, 96]);
    assert_eq!(size(json!({ "preprocess": "imagenet" })).unwrap(), [224, 224]);
    let fails = |graph: &Graph, options: Value, part: &str| {
        let e = open(graph, options).unwrap_err();
        assert!(e.kind() == ErrorKind::Argument && e.to_string().contains(part), "{e}");
    };
    fails(&graph, json!({ "image_size": 64, "preprocess": { "crop": 96 } }), "'crop' is 96 pixels, the model takes 64×64");
    fails(&means(&[1, 3, 32, 32]), json!({ "preprocess": { "mean": [1, 2] } }), "one for each of 3 channels");
    fails(&means(&[1, 3, 32, 32]), json!({ "preprocess": { "men": [1] } }), "did you mean 'mean'");
    fails(&means(&[1, 3, 32, 32]), json!({ "decode": "none", "preprocess": "imagenet" }), "it is not known what the outputs mean");
    fails(&means(&[1, 3, 32, 32]), json!({ "preprocess": "imagnet" }), "imagenet");
}

#[test]
fn a_detector_takes_the_numbers_without_a_description_but_no_crop() {
    let mut b = GraphBuilder::new("boxes", 17);
    b.metadata("names", "{0: 'a', 1: 'b'}");
    b.metadata("stride", "32");
    b.metadata("task", "detect");
    let images = b.input("images", Fact::known(Element::F32, &[1, 3, 32, 32]));
    let held = b.constant("held", compresso_model::Constant::floats(&[1, 6, 1], &[0.0; 6]).unwrap());
    let mean = b.node(Node::new("ReduceMean", "mean", [images.as_str()], ["mean"]).ints("axes", &[0, 1, 2, 3]).int("keepdims", 0));
    let value = b.op("Add", &[&held, &mean]);
    b.output_as(&value, "output0");
    let graph = b.finish().unwrap();
    let plain = open(&graph, json!({})).unwrap();
    assert!(matches!(plain.task().detect().unwrap().decode, Decode::Yolo { .. }));
    let model = open(&graph, json!({ "preprocess": { "mean": [0.5], "std": [0.1, 0.2, 0.4] } })).unwrap();
    let images = candle_core::Tensor::full(0.9f32, (1, 3, 32, 32), &candle_core::Device::Cpu).unwrap();
    let outputs = super::ImageRunner::new(&model, &Context::new()).run(&images).unwrap();
    assert!((outputs["output0"].to_f32s().unwrap()[0] - 0.4 * (10.0 + 5.0 + 2.5) / 3.0).abs() < 1e-5);
    let e = open(&graph, json!({ "preprocess": "imagenet" })).unwrap_err().to_string();
    assert!(e.contains("'resize' and 'crop' are for classifiers"), "{e}");
}
