//! Placement and rewriting on small nets; tests/quantize.rs runs what comes out in onnxruntime.

use super::*;
use candle_core::{Device, Tensor};
use compresso_exec::{self as exec, Run};
use compresso_learn::data::{DataOptions, dataset};
use compresso_model::{Constant, Element, Fact, Graph, GraphBuilder, Node, Patch, Task, Value, onnx};
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

pub(super) fn noise(seed: u64, dims: &[usize], low: f32, high: f32) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..dims.iter().product()).map(|_| rng.random_range(low..high)).collect()
}

pub(super) fn weight(b: &mut GraphBuilder, name: &str, dims: &[usize]) -> String {
    let seed = name.bytes().fold(3u64, |s, c| s.wrapping_mul(31).wrapping_add(u64::from(c)));
    let fan: usize = dims[1..].iter().product();
    let limit = 1.5 / (fan.max(1) as f32).sqrt();
    b.constant(name, Constant::floats(dims, &noise(seed, dims, -limit, limit)).unwrap())
}

pub(super) fn conv(b: &mut GraphBuilder, name: &str, x: &str, out: usize, input: usize, k: usize) -> String {
    let w = weight(b, &format!("{name}.weight"), &[out, input, k, k]);
    let bias = weight(b, &format!("{name}.bias"), &[out]);
    let pad = i64::try_from(k / 2).unwrap();
    b.node(Node::new("Conv", name, [x, &w, &bias], [""]).ints("pads", &[pad; 4]))
}

pub(super) fn silu(b: &mut GraphBuilder, x: &str) -> String {
    let s = b.op("Sigmoid", &[x]);
    b.op("Mul", &[x, &s])
}

/// A small detector: SiLU convolutions, a residual, a concat with pools, and a head whose boxes (hundreds of pixels,
/// through a Softmax expectation) and scores (below 1) meet in one concat.
pub(super) fn detector() -> Model {
    let mut b = GraphBuilder::new("tiny", 17);
    let x = b.input("images", Fact::known(Element::F32, &[1, 3, 32, 32]));
    let a = conv(&mut b, "stem", &x, 16, 3, 3);
    let a = silu(&mut b, &a);
    let c = conv(&mut b, "inner", &a, 16, 16, 3);
    let c = silu(&mut b, &c);
    let sum = b.op("Add", &[&a, &c]);
    let pool = b.node(
        Node::new("MaxPool", "pool", [sum.as_str()], [""])
            .ints("kernel_shape", &[5, 5])
            .ints("pads", &[2, 2, 2, 2])
            .ints("strides", &[1, 1]),
    );
    let cat = b.node(Node::new("Concat", "cat", [sum.as_str(), &pool], [""]).int("axis", 1));
    let f = conv(&mut b, "neck", &cat, 16, 32, 1);
    let f = silu(&mut b, &f);
    let boxes = conv(&mut b, "boxes", &f, 16, 16, 1);
    let scores = conv(&mut b, "scores", &f, 3, 16, 1);
    let shape = b.constant("shape", Constant::ints(&[1, 4, 4, 1024]));
    let d = b.op("Reshape", &[&boxes, &shape]);
    let d = b.node(Node::new("Transpose", "", [d.as_str()], [""]).ints("perm", &[0, 2, 1, 3]));
    let d = b.node(Node::new("Softmax", "", [d.as_str()], [""]).int("axis", 1));
    let ramp = b.constant("dfl.weight", Constant::floats(&[1, 4, 1, 1], &[0.0, 1.0, 2.0, 3.0]).unwrap());
    let d = b.node(Node::new("Conv", "dfl", [d.as_str(), &ramp], [""]));
    let flat = b.constant("flat", Constant::ints(&[1, -1, 1024]));
    let d = b.op("Reshape", &[&d, &flat]);
    let stride = b.constant("stride", Constant::scalar(200.0));
    let d = b.op("Mul", &[&d, &stride]);
    let s = b.op("Reshape", &[&scores, &flat]);
    let s = b.op("Sigmoid", &[&s]);
    let y = b.node(Node::new("Concat", "", [d.as_str(), &s], ["output0"]).int("axis", 1));
    b.output(&y);
    Model::new(b.finish().unwrap(), Task::Unknown)
}

/// Convolutions with Relu and Relu6, a depthwise one, a global pool and a fully connected layer with transposed weight.
pub(super) fn classifier() -> Model {
    let mut b = GraphBuilder::new("tiny", 13);
    let x = b.input("images", Fact::known(Element::F32, &[2, 3, 16, 16]));
    let y = conv(&mut b, "one", &x, 16, 3, 3);
    let y = b.op("Relu", &[&y]);
    let w = weight(&mut b, "depth.weight", &[16, 1, 3, 3]);
    let y = b.node(Node::new("Conv", "depth", [y.as_str(), &w], [""]).int("group", 16).ints("pads", &[1, 1, 1, 1]));
    let (zero, six) = (b.constant("zero", Constant::scalar(0.0)), b.constant("six", Constant::scalar(6.0)));
    let y = b.op("Clip", &[&y, &zero, &six]);
    let y = b.op("GlobalAveragePool", &[&y]);
    let y = b.node(Node::new("Flatten", "", [y.as_str()], [""]).int("axis", 1));
    let w = weight(&mut b, "fc.weight", &[10, 16]);
    let bias = weight(&mut b, "fc.bias", &[10]);
    let y = b.node(Node::new("Gemm", "fc", [y.as_str(), &w, &bias], [""]).int("transB", 1));
    let w = weight(&mut b, "last.weight", &[10, 5]);
    let y = b.node(Node::new("MatMul", "last", [y.as_str(), &w], ["logits"]));
    b.output(&y);
    Model::new(b.finish().unwrap(), Task::Unknown)
}

pub(super) fn images(n: usize) -> Dataset {
    dataset("random", &DataOptions { images: Some(n), ..DataOptions::default() }, &Context::new()).unwrap()
}

fn quantize(m: &Model, options: &Quantize) -> Model {
    options.apply(m, Some(&images(16)), &Context::new()).unwrap()
}

fn count(g: &Graph, op: &str) -> usize {
    g.nodes().iter().filter(|n| n.is(op)).count()
}

/// The operator that makes what input `at` of the node reads.
fn maker<'g>(g: &'g Graph, node: &str, at: usize) -> &'g str {
    let node = &g.nodes()[g.find(node).unwrap()];
    g.producers().get(node.inputs[at].as_str()).map_or("", |&i| g.nodes()[i].op.as_str())
}

pub(super) fn feeds(m: &Model) -> HashMap<String, Value> {
    let input = m.graph().feeds().next().unwrap();
    let dims = input.fact.dims().unwrap();
    let t = Tensor::from_vec(noise(5, &dims, 0.0, 1.0), dims, &Device::Cpu).unwrap();
    HashMap::from([(input.name.clone(), Value::plain(t).unwrap())])
}

pub(super) fn run(g: &Graph, feeds: &HashMap<String, Value>) -> Vec<f32> {
    exec::run(g, feeds, Run::default()).unwrap()[0].to_f32s().unwrap()
}

/// Outputs stay within `db` of the float model's, and a saved file gives the same.
fn assert_close(float: &Model, quantized: &Model, db: f64) {
    let feeds = feeds(float);
    let (exact, ours) = (run(float.graph(), &feeds), run(quantized.graph(), &feeds));
    let found = weights::sqnr(&exact, &ours);
    assert!(found >= db, "{found:.1} dB, expected {db}");
    // The file keeps everything.
    let again = onnx::decode(onnx::encode(quantized.graph()).unwrap()).unwrap();
    assert_eq!(run(&again, &feeds), ours);
}

#[test]
fn the_head_stays_in_float_and_layers_do_not() {
    let m = detector();
    let q = quantize(&m, &Quantize::default());
    let g = q.graph();
    for layer in ["stem", "inner", "neck", "boxes", "scores"] {
        assert_eq!(maker(g, layer, 0), "DequantizeLinear", "{layer}");
        assert_eq!(maker(g, layer, 1), "DequantizeLinear", "{layer}");
        assert_eq!(maker(g, layer, 2), "DequantizeLinear", "{layer}");
    }
    assert_eq!(maker(g, "dfl", 0), "Softmax");
    // The outputs' concat reads plain values.
    assert_eq!((maker(g, "output0", 0), maker(g, "output0", 1)), ("Mul", "Sigmoid"));
    // Layers before the head write int8, the last ones do not.
    let reads = |layer: &str| {
        let out = g.nodes()[g.find(layer).unwrap()].outputs[0].clone();
        g.consumers()[out.as_str()].iter().map(|&i| g.nodes()[i].op.clone()).collect::<Vec<_>>()
    };
    assert_eq!(reads("neck"), ["QuantizeLinear"]);
    assert_eq!(reads("boxes"), ["Reshape"]);
    assert_close(&m, &q, 20.0);
}

#[test]
fn the_report_names_what_stays_in_float_and_the_error_of_each_layer() {
    let report = Quantize::default().run((&detector(), Some(&images(4))), &Context::new()).unwrap().report.unwrap();
    assert_eq!(report.layers.len(), 5);
    assert!(report.layers.iter().all(|l| l.weight_sqnr_db.unwrap() > 30.0 && l.output_sqnr_db.unwrap() > 20.0), "{report:?}");
    assert_eq!(report.float[0].0, "dfl");
    assert!(report.float[0].1.contains("Softmax"));
    assert_eq!(report.images, 4);
    use compresso_base::report::Show;
    assert_eq!(report.tables()[0].rows.len(), 5);
    // The stem reads the images, whose values are 0 to 1.
    let stem = &report.layers[0];
    let range = stem.range.unwrap();
    assert!(range.min >= 0.0 && range.max <= 1.0 && range.max > 0.5, "{stem:?}");
    assert!(report.layers.iter().all(|l| l.range.is_some() && l.spread.unwrap() >= 1.0), "{report:?}");
    assert_eq!(report.plots().iter().map(|p| p.series.len()).collect::<Vec<_>>(), [1, 2]);
    let dynamic = Quantize { mode: QuantizeMode::Dynamic, ..Quantize::default() };
    let dynamic = dynamic.run((&detector(), None), &Context::new()).unwrap().report.unwrap();
    assert!(dynamic.layers.iter().all(|l| l.range.is_none()) && dynamic.plots().is_empty());
}

#[test]
fn elementwise_placement_also_covers_sums_and_activations() {
    let m = detector();
    let q = quantize(&m, &Quantize { elementwise: Some(true), ..Quantize::default() });
    let g = q.graph();
    for (node, at) in [("pool", 0), ("cat", 0), ("cat", 1)] {
        assert_eq!(maker(g, node, at), "DequantizeLinear", "{node}");
    }
    assert_eq!(maker(g, "output0", 0), "Mul");
    assert_close(&m, &q, 20.0);
}

#[test]
fn a_relu_is_left_to_the_quantization_after_it() {
    let m = classifier();
    let q = quantize(&m, &Quantize::default());
    let g = q.graph();
    for op in ["Relu", "Clip"] {
        let node = g.nodes().iter().find(|n| n.is(op)).unwrap();
        let before = g.nodes().iter().find(|n| n.outputs[0] == node.inputs[0]).unwrap();
        assert_eq!(before.op, "Conv", "nothing stands between the layer and {op}");
        let after = g.consumers()[node.outputs[0].as_str()].iter().map(|&i| g.nodes()[i].op.clone()).collect::<Vec<_>>();
        assert_eq!(after, ["QuantizeLinear"]);
    }
    // Gemm with a transposed weight has its channels on axis 0, a matrix product on the last axis.
    let axis = |name: &str| g.nodes()[g.find(&format!("{name}_DequantizeLinear")).unwrap()].get_int("axis", 1).unwrap();
    assert_eq!((axis("fc.weight"), axis("last.weight"), axis("depth.weight")), (0, 1, 0));
    assert_eq!(g.constant("fc.weight_scale").unwrap().dims(), [10]);
    assert_close(&m, &q, 20.0);
}

#[test]
fn biases_are_int32_with_the_product_of_scales() {
    let q = quantize(&detector(), &Quantize::default());
    let g = q.graph();
    let floats = |n: &str| g.constant(n).unwrap().to_f32s().unwrap();
    assert_eq!(g.constant("stem.bias_quantized").unwrap().element(), Element::I32);
    let expected: Vec<f32> = floats("stem.weight_scale").iter().map(|s| s * floats("images_scale")[0]).collect();
    assert_eq!(floats("stem.bias_scale"), expected);
    assert_eq!(g.constant("images_zero_point").unwrap().element(), Element::U8);
    assert!(g.constant("stem.weight_zero_point").unwrap().to_i64s().unwrap().iter().all(|&z| z == 0));
}

#[test]
fn tensorrt_rules_hold() {
    let m = detector();
    let q = quantize(&m, &Quantize { target: Target(&compresso_target::tensorrt::SPEC), ..Quantize::default() });
    let g = q.graph();
    // Fewer than 16 channels: float.
    assert_eq!(maker(g, "stem", 0), "");
    assert_eq!(maker(g, "scores", 1), "");
    for layer in ["inner", "neck", "boxes"] {
        assert_eq!((maker(g, layer, 0), maker(g, layer, 1)), ("DequantizeLinear", "DequantizeLinear"), "{layer}");
        // Bias in float, output not quantized.
        let node = &g.nodes()[g.find(layer).unwrap()];
        assert_eq!(g.constant(&node.inputs[2]).unwrap().element(), Element::F32);
        assert!(g.consumers()[node.outputs[0].as_str()].iter().all(|&i| !g.nodes()[i].is("QuantizeLinear")));
    }
    for (name, c) in g.constants() {
        if name.ends_with("_zero_point") {
            assert_eq!(c.element(), Element::I8, "{name}");
            assert!(c.to_i64s().unwrap().iter().all(|&z| z == 0), "{name}");
        }
    }
    // The concat's inputs, its output and the pool before it share one scale.
    let scale_of = |node: &str, at: usize| {
        let node = &g.nodes()[g.find(node).unwrap()];
        let dq = &g.nodes()[g.producers()[node.inputs[at].as_str()]];
        assert_eq!(dq.op, "DequantizeLinear");
        g.constant(&dq.inputs[1]).unwrap().to_f32s().unwrap()[0]
    };
    let shared = scale_of("cat", 0);
    assert_eq!([scale_of("cat", 1), scale_of("pool", 0), scale_of("neck", 0)], [shared; 3]);
    // Of a sum, only the skip input is quantized.
    let add = g.nodes().iter().find(|n| n.is("Add")).unwrap().outputs[0].clone();
    assert_eq!((maker(g, &add, 0), maker(g, &add, 1)), ("DequantizeLinear", "Mul"));
    assert_close(&m, &q, 20.0);
}

#[test]
fn dynamic_needs_no_data_and_computes_on_integers() {
    for (m, convs, products) in [(detector(), 5, 0), (classifier(), 2, 2)] {
        let q = Quantize { mode: QuantizeMode::Dynamic, ..Quantize::default() }.apply(&m, None, &Context::new()).unwrap();
        let g = q.graph();
        assert_eq!((count(g, "ConvInteger"), count(g, "MatMulInteger")), (convs, products));
        assert_eq!(count(g, "Gemm"), 0);
        assert!(g.constants().iter().all(|(n, c)| !n.ends_with("weight_quantized") || c.element() == Element::U8));
        assert_close(&m, &q, 20.0);
    }
}

#[test]
fn weights_alone_can_be_stored_in_int8() {
    for mode in [QuantizeMode::Static, QuantizeMode::Dynamic] {
        let m = classifier();
        let q = Quantize { mode, activations: false, ..Quantize::default() }.apply(&m, None, &Context::new()).unwrap();
        assert_eq!((count(q.graph(), "QuantizeLinear"), count(q.graph(), "DequantizeLinear")), (0, 4));
        assert_close(&m, &q, 30.0);
    }
}

#[test]
fn parameters_stored_as_integers_still_count() {
    let m = detector();
    assert_eq!(quantize(&m, &Quantize::default()).stats().unwrap().params, m.stats().unwrap().params);
    assert_eq!(quantize(&m, &Quantize::default()).stats().unwrap().macs, m.stats().unwrap().macs);
}

#[test]
fn weights_have_seven_bits_unless_asked_otherwise() {
    let m = classifier();
    let largest = |options: Quantize| {
        let q = quantize(&m, &options);
        q.graph().constant("one.weight_quantized").unwrap().to_i64s().unwrap().into_iter().map(i64::abs).max().unwrap()
    };
    assert_eq!(largest(Quantize::default()), 64);
    assert_eq!(largest(Quantize { reduce_range: false, ..Quantize::default() }), 127);
}

/// With channels of very different weights, one scale for all of them loses the small ones.
#[test]
fn one_scale_per_weight_is_coarser() {
    let m = classifier();
    let weight = m.graph().constant("one.weight").unwrap();
    let per_channel = weight.count() / weight.dims()[0];
    let uneven: Vec<f32> = weight.to_f32s().unwrap().iter().enumerate().map(|(i, w)| w * [1.0, 0.02][i / per_channel % 2]).collect();
    let mut patch = Patch::new(m.graph());
    patch.set_constant("one.weight", Constant::floats(weight.dims(), &uneven).unwrap());
    let m = Model::new(patch.apply().unwrap(), Task::Unknown);
    // The layer's own error, before what follows blurs it.
    let error = |per_channel| {
        let q = quantize(&m, &Quantize { per_channel, ..Quantize::default() });
        let read = |g: &Graph, name: &str| g.constant(name).unwrap().to_f32s().unwrap();
        let (codes, scales) = (read(q.graph(), "one.weight_quantized"), read(q.graph(), "one.weight_scale"));
        assert_eq!(scales.len(), if per_channel { weight.dims()[0] } else { 1 });
        let scale = |i: usize| scales[if scales.len() == 1 { 0 } else { i / (codes.len() / scales.len()) }];
        let back: Vec<f32> = codes.iter().enumerate().map(|(i, c)| c * scale(i)).collect();
        let small = |v: &[f32]| v.chunks(v.len() / weight.dims()[0]).skip(1).step_by(2).flatten().copied().collect::<Vec<_>>();
        weights::sqnr(&small(&uneven), &small(&back))
    };
    let (fine, coarse) = (error(true), error(false));
    assert!(fine > coarse + 20.0, "{fine:.1} dB with a scale per channel, {coarse:.1} with one");
    let q = quantize(&m, &Quantize { per_channel: false, ..Quantize::default() });
    assert_eq!(q.graph().constant("one.weight_scale").unwrap().dims(), [0usize; 0]);
}

#[test]
fn excluded_layers_stay_in_float_and_wrong_names_are_told() {
    let m = detector();
    let q = quantize(&m, &Quantize { exclude: vec!["ste*".into(), "scores".into()], ..Quantize::default() });
    assert_eq!((maker(q.graph(), "stem", 1), maker(q.graph(), "scores", 1)), ("", ""));
    assert_eq!(maker(q.graph(), "inner", 1), "DequantizeLinear");
    let e = Quantize { exclude: vec!["nek".into()], ..Quantize::default() }.apply(&m, Some(&images(2)), &Context::new()).unwrap_err();
    assert!(e.to_string().contains("did you mean 'neck'?"), "{e}");
}

#[test]
fn steps_keep_the_changed_options_and_mistakes_are_errors() {
    let m = classifier();
    let q = quantize(&m, &Quantize { images: 4, ..Quantize::default() });
    assert_eq!(q.steps()[0].operation, "quantize");
    assert_eq!(serde_json::to_value(&q.steps()[0].options).unwrap(), serde_json::json!({ "images": 4 }));
    let text = |r: Result<Model>| r.unwrap_err().to_string();
    assert!(text(Quantize::default().apply(&m, None, &Context::new())).contains("pass a dataset"));
    assert!(text(Quantize::default().apply(&q, Some(&images(2)), &Context::new())).contains("quantized already"));
    assert!(text(Quantize { images: 0, ..Quantize::default() }.apply(&m, Some(&images(2)), &Context::new())).contains("'images'"));
    let mut b = GraphBuilder::new("none", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 3, 8, 8]));
    let y = b.op("Relu", &[&x]);
    b.output(&y);
    let none = Model::new(b.finish().unwrap(), Task::Unknown);
    assert!(text(Quantize::default().apply(&none, Some(&images(2)), &Context::new())).contains("no layer of the model"));
}

#[test]
fn a_broken_model_is_not_calibrated() {
    let mut b = GraphBuilder::new("nan", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 3, 8, 8]));
    let y = b.op("Log", &[&x]);
    let y = conv(&mut b, "c", &y, 4, 3, 1);
    b.output(&y);
    let m = Model::new(b.finish().unwrap(), Task::Unknown);
    let e = Quantize::default().apply(&m, Some(&images(2)), &Context::new()).unwrap_err();
    assert!(e.kind() == compresso_base::ErrorKind::Check && e.to_string().contains("infinite or not a number"), "{e}");
}

/// What the eager executor sees of every float32 value.
fn eager_ranges(g: &Graph, data: &Dataset, images: usize, ctx: &Context) -> HashMap<String, extremes::MinMax> {
    let mut seen: HashMap<String, extremes::MinMax> = HashMap::new();
    for feeds in calibrate::Images::new(g, &Task::Unknown, data, images, ctx).unwrap() {
        let mut observe = |name: &str, value: &Value| {
            if value.element == Element::F32 {
                seen.entry(name.to_string()).or_default().see(&value.to_f32s()?, value.dims());
            }
            Ok(())
        };
        exec::run(g, &feeds.unwrap().1, Run { observer: Some(&mut observe), ..Run::default() }).unwrap();
    }
    seen
}

#[test]
fn calibration_sees_what_the_eager_executor_sees() {
    let ctx = Context::new();
    let zoo = compresso_model::zoo::ZooOptions { image_size: Some([64, 64]), width: Some(0.125), ..Default::default() };
    for m in [detector(), classifier(), compresso_model::zoo::build("yolov8n", &zoo).unwrap()] {
        let (g, _) = passes::simplify(m.graph()).unwrap();
        let expected = eager_ranges(&g, &images(6), 6, &ctx);
        let found = calibrate::calibrate(&g, m.task(), &images(6), |_| true, 6, &ctx).unwrap();
        assert_eq!((found.images, found.iter().count()), (6, expected.len()));
        for (name, e) in &expected {
            let f = found.get(name).unwrap();
            let within = 1e-4 * e.range().magnitude();
            assert_eq!(e.channels().len(), f.channels().len(), "{name}");
            for (e, f) in e.channels().iter().zip(f.channels()) {
                assert!((e.min - f.min).abs() <= within && (e.max - f.max).abs() <= within, "{name}: {e:?} became {f:?}");
            }
        }
    }
}

#[test]
fn quantizing_stops_when_cancelled() {
    let ctx = Context::new();
    let model = compresso_model::zoo::build("yolov8n", &Default::default()).unwrap();
    let data = dataset("random", &DataOptions { images: Some(500), ..DataOptions::default() }, &ctx).unwrap();
    let cancel = ctx.cancel.clone();
    let waiter = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(700));
        cancel.cancel();
    });
    let e = Quantize { images: 500, ..Quantize::default() }.apply(&model, Some(&data), &ctx).unwrap_err();
    assert!(e.is_cancelled(), "{e}");
    waiter.join().unwrap();
}

/// A quantized model is trained as it is: through its rounding, to other integers under the same scales.
#[test]
fn a_quantized_model_learns_and_stays_quantized() {
    use compresso_learn::train::{MASKS_KEY, Train};
    let ctx = Context::new();
    let data = DataOptions { images: Some(8), size: Some(serde_json::json!(64)), ..DataOptions::default() };
    let data = dataset("shapes", &data, &ctx).unwrap().for_training();
    let zoo = compresso_model::zoo::ZooOptions {
        classes: Some(data.classes.to_vec()),
        image_size: Some([64, 64]),
        width: Some(0.125),
        depth: Some(0.33),
        seed: 1,
        ..Default::default()
    };
    let float = compresso_model::zoo::build("yolov8n", &zoo).unwrap();
    let quick =
        |epochs| Train { epochs, batch: 8, augment: false, workers: Some(1), learning_rate: Some(0.005), ema: false, ..Train::default() };
    let float = quick(15).run((&float, &data, None), &ctx).unwrap().model;
    // A sparse layer, as pruning leaves it.
    let (graph, _) = passes::simplify(float.graph()).unwrap();
    let name = "model.2.cv1.conv.weight";
    let weight = graph.constant(name).unwrap();
    let mut sparse = weight.to_f32s().unwrap();
    sparse.iter_mut().step_by(2).for_each(|v| *v = 0.0);
    let mut patch = compresso_model::Patch::new(&graph);
    patch.set_constant(name, Constant::floats(weight.dims(), &sparse).unwrap());
    patch.set_metadata(MASKS_KEY, format!("[\"{name}\"]"));
    let float = Model::new(patch.apply().unwrap(), float.task().clone());
    for (options, largest) in [
        (Quantize { images: 8, ..Quantize::default() }, 64),
        (Quantize { images: 8, target: Target(&compresso_target::tensorrt::SPEC), elementwise: Some(true), ..Quantize::default() }, 127),
    ] {
        let before = options.apply(&float, Some(&data), &ctx).unwrap();
        let trained = quick(10).run((&before, &data, None), &ctx).unwrap();
        let losses: Vec<f64> = trained.history.epochs.iter().map(|e| e.loss).collect();
        assert!(losses[9] < 0.85 * losses[0], "{losses:?}");
        let (old, new) = (before.graph(), trained.model.graph());
        assert_eq!(old.nodes(), new.nodes());
        assert!(old.constants().keys().eq(new.constants().keys()));
        let mut changed = 0;
        for (name, c) in old.constants() {
            let now = new.constant(name).unwrap();
            assert_eq!((c.element(), c.dims()), (now.element(), now.dims()), "{name}");
            if name.ends_with("_scale") || name.ends_with("_zero_point") {
                assert_eq!(c, now, "{name}");
            }
            if c.element() == Element::I8 {
                changed += usize::from(c != now);
                assert!(now.to_i64s().unwrap().iter().all(|q| q.abs() <= largest), "{name}");
            }
        }
        assert!(changed > 20, "{changed} weights changed");
        let zeros = new.constant(&format!("{name}_quantized")).unwrap().to_i64s().unwrap();
        assert!(zeros.iter().step_by(2).all(|q| *q == 0) && zeros.iter().any(|q| *q != 0));
        // What was minimised is what the file computes: one more epoch begins where this one ended.
        let again = Train { learning_rate: Some(1e-5), ..quick(1) }.run((&trained.model, &data, None), &ctx).unwrap();
        assert!(again.history.epochs[0].loss < 1.15 * losses[9], "{} {losses:?}", again.history.epochs[0].loss);
        assert_eq!(onnx::encode(new).unwrap(), onnx::encode(&onnx::decode(onnx::encode(new).unwrap()).unwrap()).unwrap());
    }
    let dynamic = Quantize { mode: QuantizeMode::Dynamic, ..Quantize::default() }.apply(&float, None, &ctx).unwrap();
    let e = quick(1).run((&dynamic, &data, None), &ctx).unwrap_err();
    assert!(e.kind() == compresso_base::error::ErrorKind::Unsupported && e.to_string().contains("are stored as uint8"), "{e}");
}
#[test]
fn what_the_last_layers_make_is_rounded_for_kernels_that_write_integers() {
    // Two outputs: what the last layer makes, and what a Sigmoid makes of it.
    let mut b = GraphBuilder::new("ends", 17);
    let x = b.input("images", Fact::known(Element::F32, &[1, 3, 8, 8]));
    let y = conv(&mut b, "stem", &x, 8, 3, 3);
    let y = conv(&mut b, "last", &y, 4, 8, 1);
    let s = b.node(Node::new("Sigmoid", "scores", [y.as_str()], [""]));
    b.output(&y);
    b.output(&s);
    let m = Model::new(b.finish().unwrap(), Task::Unknown);
    let names = |m: &Model| m.graph().outputs().iter().map(|o| o.name.clone()).collect::<Vec<_>>();
    for (target, rounded) in [("tflite", true), ("onnxruntime", false)] {
        let q = quantize(&m, &Quantize { target: Target::find(target).unwrap(), ..Quantize::default() });
        assert_eq!(names(&q), names(&m), "{target}");
        let g = q.graph();
        let makers = g.producers();
        let makes = |name: &str| g.nodes()[makers[name]].op.as_str();
        assert_eq!(makes(&g.outputs()[0].name), if rounded { "DequantizeLinear" } else { "Conv" }, "{target}");
        assert_eq!(maker(g, "scores", 0), if rounded { "DequantizeLinear" } else { "Conv" }, "{target}");
        assert_close(&m, &q, 20.0);
    }
    // Sums and activations are on integers by the target's own choice, and are not when they are asked not to.
    let of = |elementwise| {
        let q = quantize(&detector(), &Quantize { target: Target::find("tflite").unwrap(), elementwise, ..Quantize::default() });
        q.graph().nodes().iter().filter(|n| n.is("QuantizeLinear")).count()
    };
    assert_eq!(of(None), of(Some(true)));
    assert!(of(Some(false)) < of(None), "{} and {}", of(Some(false)), of(None));
}

#[test]
fn an_output_that_a_layer_reads_stays_exact() {
    let mut b = GraphBuilder::new("features", 17);
    let x = b.input("images", Fact::known(Element::F32, &[1, 3, 8, 8]));
    let f = conv(&mut b, "stem", &x, 16, 3, 3);
    let y = conv(&mut b, "last", &f, 16, 16, 1);
    b.output(&f);
    b.output(&y);
    let m = Model::new(b.finish().unwrap(), Task::Unknown);
    for target in ["onnxruntime", "openvino", "tensorrt"] {
        let q = quantize(&m, &Quantize { target: Target::find(target).unwrap(), ..Quantize::default() });
        assert_eq!(maker(q.graph(), "last", 0), "DequantizeLinear", "{target}");
        let makers = q.graph().producers();
        assert_eq!(q.graph().nodes()[makers[f.as_str()]].op, "Conv", "{target}");
    }
}
