//! What static INT8 must keep: biases whatever the weights are, files that onnxruntime runs, floats where a layer stays in float.
//! `quantize_random.rs` looks for more of the kind; these are the ones that were found.

mod common;

use compresso::Context;
use compresso::compress::quantize::calibrate::Images;
use compresso::compress::quantize::{Quantize, QuantizeReport};
use compresso::exec::{self, Engine, Outputs, Run};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::{Constant, Element, Fact, Graph, GraphBuilder, Model, Node, Task, onnx};
use compresso::operation::Operation;
use compresso::target::{Target, tensorrt};

fn noise(n: usize, seed: u32, size: f32) -> Vec<f32> {
    compresso_test_support::noise(n, seed).into_iter().map(|v| v * size).collect()
}

/// A graph of images `[1, 3, 16, 16]`.
struct Net(GraphBuilder, u32);

impl Net {
    fn new(opset: i64) -> Self {
        let mut b = GraphBuilder::new("net", opset);
        b.input("x", Fact::known(Element::F32, &[1, 3, 16, 16]));
        Self(b, 0)
    }
    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.0.constant(name, Constant::floats(dims, values).unwrap())
    }
    fn random(&mut self, dims: &[usize], size: f32) -> String {
        self.1 += 1;
        let values = noise(dims.iter().product(), self.1, size);
        self.floats("w", dims, &values)
    }
    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attrs: impl FnOnce(Node) -> Node) -> String {
        self.0.node(attrs(Node::new(op, name, inputs.iter().copied(), [""])))
    }
    fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.node(op, "", inputs, |n| n)
    }
    fn reshape(&mut self, x: &str, to: &[i64]) -> String {
        let shape = self.0.constant("shape", Constant::ints(to));
        self.op("Reshape", &[x, &shape])
    }
    fn finish(mut self, outputs: &[&str]) -> Model {
        outputs.iter().for_each(|o| self.0.output(o));
        Model::new(self.0.finish().unwrap(), Task::Unknown)
    }
}

fn images() -> Dataset {
    dataset("random", &DataOptions { images: Some(8), ..DataOptions::default() }, &Context::new()).unwrap()
}

/// Largest difference of the outputs, relative to each one's range.
fn apart(exact: &Outputs, got: &Outputs) -> f32 {
    let of = |(name, e): (&String, &compresso::model::Value)| {
        let (e, g) = (e.to_f32s().unwrap(), got[name].to_f32s().unwrap());
        assert_eq!(e.len(), g.len(), "{name}");
        let range = e.iter().fold(f32::MIN, |m, v| m.max(*v)) - e.iter().fold(f32::MAX, |m, v| m.min(*v));
        let most = e.iter().zip(&g).map(|(e, g)| if g.is_nan() { f32::INFINITY } else { (e - g).abs() }).fold(0f32, f32::max);
        if most == 0.0 { 0.0 } else { most / range }
    };
    exact.iter().map(of).fold(0.0, f32::max)
}

/// Quantizes and runs in both executors and in onnxruntime, as it stands and, where the weights have seven bits, optimized.
fn hold(what: &str, model: &Model, options: &Quantize, tolerance: f32) -> (Graph, QuantizeReport) {
    let (data, ctx) = (images(), Context::new());
    let made = options.run((model, Some(&data)), &ctx).unwrap();
    let (q, report) = (made.model.graph().clone(), made.report.unwrap());
    let feeds = Images::new(model.graph(), model.task(), &data, 1, &Context::new().with_seed(9)).unwrap().next().unwrap().unwrap().1;
    let exact = exec::run(model.graph(), &feeds, Run::default()).unwrap();
    let mut found = vec![
        ("eager", exec::run(&q, &feeds, Run::default()).unwrap()),
        ("planned", Engine::new(&q, &[], 2).unwrap().run(&feeds, None).unwrap()),
        ("plain onnxruntime", Session::plain(&q, 1).unwrap().run(&feeds).unwrap()),
    ];
    if options.target.name != tensorrt::SPEC.name {
        found.push(("onnxruntime", Session::from_graph(&q, 1).unwrap().run(&feeds).unwrap()));
    }
    for (runtime, outputs) in found {
        let d = apart(&exact, &outputs);
        assert!(d <= tolerance, "{what}, {runtime}: {d:.4} of the range from the float model");
    }
    (q, report)
}

fn ways() -> [(&'static str, Quantize); 4] {
    let base = || Quantize { images: 8, ..Quantize::default() };
    [
        ("default", base()),
        ("per tensor", Quantize { per_channel: false, ..base() }),
        ("symmetric", Quantize { symmetric: true, ..base() }),
        ("elementwise", Quantize { elementwise: Some(true), ..base() }),
    ]
}

fn reason<'r>(report: &'r QuantizeReport, layer: &str) -> &'r str {
    report.float.iter().find(|(name, _)| name == layer).map_or("it is quantized", |(_, reason)| reason)
}

#[test]
fn channels_without_weights_keep_their_bias() {
    // Weights of a channel, and of a whole layer, that pruning or training has left at zero, behind values in the hundreds.
    for (zero, what) in [(2, "two channels"), (8, "all channels")] {
        for transposed in [false, true] {
            let mut n = Net::new(13);
            let w = n.random(&[8, 3, 3, 3], 80.0);
            let a = n.node("Conv", "first", &["x", &w], |n| n.ints("pads", &[1; 4]));
            let a = n.op("Relu", &[&a]);
            let values: Vec<f32> = noise(64, 7, 1e-3)
                .iter()
                .enumerate()
                .map(|(i, v)| if (if transposed { i % 8 } else { i / 8 }) < zero { 0.0 } else { *v })
                .collect();
            let w = n.floats("w", &[8, 8, 1, 1], &values);
            let b = n.floats("b", &[8], &[0.7, 0.1, -0.2, -0.45, 0.3, 0.6, -0.7, 0.0]);
            let c = n.node(if transposed { "ConvTranspose" } else { "Conv" }, "second", &[&a, &w, &b], |n| n);
            let w = n.random(&[8, 8, 1, 1], 1.0);
            let y = n.node("Conv", "third", &[&c, &w], |n| n);
            let m = n.finish(&[&y]);
            for (way, options) in ways() {
                hold(&format!("{what}, {way}, transposed {transposed}"), &m, &options, 0.05);
            }
        }
    }
}

#[test]
fn biases_of_layers_that_share_a_weight_do_not_saturate() {
    let mut n = Net::new(13);
    let w = n.random(&[3, 3, 1, 1], 3e-4);
    let (none, large) = (n.floats("b", &[3], &[0.0; 3]), n.floats("b", &[3], &[5.0, -4.5, 0.3]));
    let a = n.node("Conv", "first", &["x", &w, &none], |n| n);
    let c = n.node("Conv", "second", &[&a, &w, &large], |n| n);
    let v = n.random(&[3, 3, 1, 1], 1.0);
    let y = n.node("Conv", "third", &[&c, &v], |n| n);
    let m = n.finish(&[&y, &a]);
    for (way, options) in ways() {
        let (q, report) = hold(way, &m, &options, 0.1);
        let weights = q.constants().values().filter(|c| c.element() == Element::I8 && c.dims() == [3, 3, 1, 1]).count();
        if options.per_channel {
            // The second reader's bias needs coarser scales, so that it has a copy of the weight.
            assert_eq!((weights, report.layers.len()), (3, 3), "{way}");
        } else {
            assert_eq!((weights, reason(&report, "second")), (2, "int32 has no room for its bias beside the scale of its weight"));
        }
    }
    // Readers that can share integers do.
    let mut n = Net::new(13);
    let (w, b) = (n.random(&[3, 3, 1, 1], 1.0), n.floats("b", &[3], &[0.5, 0.0, -0.5]));
    let a = n.node("Conv", "first", &["x", &w, &b], |n| n);
    let y = n.node("Conv", "second", &[&a, &w], |n| n);
    let (q, _) = hold("one copy", &n.finish(&[&y]), &Quantize { images: 8, ..Quantize::default() }, 0.05);
    assert_eq!(q.constants().values().filter(|c| c.element() == Element::I8 && c.dims() == [3, 3, 1, 1]).count(), 1);
}

#[test]
fn matrix_products_of_every_rank_run() {
    for (weight, x) in [
        (&[16][..], &[1, 48, 16][..]),
        (&[16, 16], &[1, 48, 16]),
        (&[1, 16, 16], &[1, 48, 16]),
        (&[3, 16, 16], &[3, 16, 16]),
        (&[3, 16, 1], &[3, 16, 16]),
        (&[2, 1, 16, 16], &[3, 16, 16]),
        (&[16, 16], &[768 / 16, 16]),
        (&[768, 16], &[768]),
        (&[1, 768, 16], &[768]),
    ] {
        for after in [false, true] {
            let mut n = Net::new(13);
            let to: Vec<i64> = x.iter().map(|&d| d as i64).collect();
            let a = n.reshape("x", &to);
            let w = n.random(weight, 0.3);
            let mut y = n.node("MatMul", "product", &[&a, &w], |n| n);
            if after {
                y = n.reshape(&y, &[-1, 16]);
                let w = n.random(&[16, 16], 0.5);
                y = n.node("MatMul", "after", &[&y, &w], |n| n);
            }
            let m = n.finish(&[&y]);
            for target in [Quantize::default().target, Target(&tensorrt::SPEC)] {
                // TensorRT is not given layers of few channels.
                if target.name == tensorrt::SPEC.name && weight.last() == Some(&1) {
                    continue;
                }
                let options = Quantize { images: 8, target, ..Quantize::default() };
                let what = format!("{x:?} times {weight:?}, {target:?}");
                if weight.len() == 1 && !after {
                    let e = options.run((&m, Some(&images())), &Context::new()).unwrap_err();
                    assert!(e.to_string().contains("'product' is left out because its weight has no output-channel axis"), "{e}");
                    continue;
                }
                // Sums of 768 products of numbers around 0.5 are small beside them.
                let (q, report) = hold(&what, &m, &options, if x.len() == 1 { 0.3 } else { 0.05 });
                if weight.len() == 1 {
                    assert_eq!(reason(&report, "product"), "its weight has no output-channel axis");
                    continue;
                }
                let scale = q.constants().iter().find(|(name, _)| name.starts_with("w_scale")).unwrap().1;
                let expected = if weight.len() == 2 { vec![weight[1]] } else { vec![] };
                assert_eq!(scale.dims(), expected, "{what}");
            }
        }
    }
}

#[test]
fn factors_and_biases_of_gemm_are_folded() {
    for (attrs, bias) in [
        ((0.5, 2.0, 0, 0), Some(&[8][..])),
        ((-3.0, 0.5, 0, 1), Some(&[1, 8])),
        ((1.0, 3.0, 0, 1), Some(&[1])),
        ((0.25, 1.0, 1, 0), Some(&[8])),
        ((2.0, 2.0, 1, 1), None),
        ((0.5, 2.0, 0, 0), Some(&[48, 1])),
        ((1.0, 1.0, 0, 1), Some(&[48, 8])),
    ] {
        let (alpha, beta, ta, tb) = attrs;
        let mut n = Net::new(13);
        let a = n.reshape("x", if ta == 1 { &[16, 48] } else { &[48, 16] });
        let w = n.random(if tb == 1 { &[8, 16] } else { &[16, 8] }, 0.4);
        let mut inputs = vec![a, w];
        inputs.extend(bias.map(|dims| n.random(dims, 1.0)));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let set = |n: Node| n.float("alpha", alpha).float("beta", beta).int("transA", ta).int("transB", tb);
        let g = n.node("Gemm", "gemm", &inputs, set);
        let w = n.random(&[8, 4], 0.5);
        let y = n.node("MatMul", "after", &[&g, &w], |n| n);
        let m = n.finish(&[&y]);
        for (way, options) in ways() {
            let (q, _) = hold(&format!("{attrs:?} {bias:?} {way}"), &m, &options, 0.05);
            let gemm = &q.nodes()[q.find("gemm").unwrap()];
            let bias = gemm.input(2).map(|b| q.constant(b).is_some());
            assert_eq!(bias == Some(true), inputs.get(2).is_some_and(|b| m.graph().constant(b).unwrap().dims()[0] == 48));
            assert!(!gemm.attrs.contains_key("alpha") || alpha == 1.0);
        }
    }
}

#[test]
fn pools_that_byte_kernels_lack_read_floats() {
    for (opset, attrs) in [
        (19, &[("dilations", &[2, 2][..]), ("pads", &[2; 4])][..]),
        (22, &[("dilations", &[1, 2]), ("pads", &[1; 4]), ("count_include_pad", &[1])]),
        (13, &[("ceil_mode", &[1]), ("count_include_pad", &[1]), ("strides", &[2, 2]), ("pads", &[1; 4])]),
        (22, &[("ceil_mode", &[1]), ("count_include_pad", &[1]), ("strides", &[2, 2]), ("pads", &[0, 0, 1, 1])]),
        (19, &[("ceil_mode", &[1]), ("strides", &[2, 2]), ("pads", &[1; 4])]),
    ] {
        for moved in [false, true] {
            let mut n = Net::new(opset);
            let (w, b) = (n.random(&[8, 3, 3, 3], 0.4), n.random(&[8], 3.0));
            let mut a = n.node("Conv", "first", &["x", &w, &b], |n| n.ints("pads", &[1; 4]));
            if moved {
                a = n.node("Transpose", "", &[&a], |n| n.ints("perm", &[0, 1, 3, 2]));
            }
            let set = |mut n: Node| {
                for (name, values) in attrs {
                    n = if values.len() == 1 { n.int(name, values[0]) } else { n.ints(name, values) };
                }
                n.ints("kernel_shape", &[3, 3])
            };
            let p = n.node("AveragePool", "pool", &[&a], set);
            let w = n.random(&[4, 8, 1, 1], 0.5);
            let y = n.node("Conv", "second", &[&p, &w], |n| n);
            let m = n.finish(&[&y]);
            for (way, options) in ways() {
                hold(&format!("{attrs:?} {way}"), &m, &options, 0.05);
            }
        }
    }
}

/// onnxruntime rounds the weight of a float layer between integers by itself.
#[test]
fn layers_that_stay_in_float_read_floats() {
    for moved in [false, true] {
        let mut n = Net::new(13);
        // A faint first channel, which large weights read: one scale for these and the others would take the others.
        let faint: Vec<f32> = noise(216, 3, 0.4).iter().enumerate().map(|(i, v)| if i < 27 { v * 1e-3 } else { *v }).collect();
        let w = n.floats("w", &[8, 3, 3, 3], &faint);
        let a = n.node("Conv", "first", &["x", &w], |n| n.ints("pads", &[1; 4]));
        let a = if moved { n.node("Transpose", "", &[&a], |n| n.ints("perm", &[0, 1, 3, 2])) } else { a };
        let values: Vec<f32> = noise(64, 5, 0.5).iter().enumerate().map(|(i, v)| if i % 8 == 0 { v * 800.0 } else { *v }).collect();
        let (w, b) = (n.floats("w", &[8, 8, 1, 1], &values), n.random(&[8], 0.1));
        let c = n.node("Conv", "float", &[&a, &w, &b], |n| n);
        let w = n.random(&[4, 8, 1, 1], 0.5);
        let y = n.node("Conv", "last", &[&c, &w], |n| n);
        let m = n.finish(&[&y]);
        let options = Quantize { images: 8, exclude: vec!["float".into()], ..Quantize::default() };
        let (_, report) = hold("excluded", &m, &options, 0.05);
        assert_eq!(reason(&report, "float"), "it is excluded");
    }
}

/// That a layer has no scale is seen only after calibration; what moves values to it reads floats then, too.
#[test]
fn layers_that_turn_out_to_have_no_scale_read_floats() {
    for moved in [false, true] {
        let mut n = Net::new(13);
        let w = n.random(&[8, 3, 3, 3], 0.4);
        let a = n.node("Conv", "first", &["x", &w], |n| n.ints("pads", &[1; 4]));
        let p = if moved { n.node("MaxPool", "", &[&a], |n| n.ints("kernel_shape", &[1, 1])) } else { a.clone() };
        // One scale serves a channel of each group: with weights so small it leaves no room for the bias.
        let (w, b) = (n.random(&[8, 2, 1, 1], 1e-6), n.floats("b", &[4], &[3.0, -2.0, 2.5, -3.0]));
        let c = n.node("ConvTranspose", "float", &[&p, &w, &b], |n| n.int("group", 2));
        let w = n.random(&[4, 4, 1, 1], 0.5);
        let y = n.node("Conv", "last", &[&c, &w], |n| n);
        let w = n.random(&[4, 8, 1, 1], 0.5);
        let z = n.node("Conv", "beside", &[&a, &w], |n| n);
        let y = n.op("Add", &[&y, &z]);
        let m = n.finish(&[&y]);
        let (q, report) = hold("no room", &m, &Quantize { images: 8, ..Quantize::default() }, 0.05);
        assert!(reason(&report, "float").starts_with("int32 has no room"), "{:?}", report.float);
        let makers = q.producers();
        let mut read = q.nodes().iter().find(|n| n.name == "float").unwrap().inputs[0].as_str();
        while let Some(mover) = makers.get(read).map(|&i| &q.nodes()[i]).filter(|n| n.is("MaxPool")) {
            read = mover.inputs[0].as_str();
        }
        assert!(q.nodes()[makers[read]].is("Conv"), "it reads {}", q.nodes()[makers[read]].label());
    }
}

/// Gemm adds to each row a number of its own where its third input is `[rows, 1]`, also where there are as many columns.
#[test]
fn numbers_of_rows_are_no_bias_of_columns() {
    for form in [vec![3i64, 1], vec![1, 3], vec![3], vec![3, 3], vec![1, 1], vec![1]] {
        let mut n = Net::new(13);
        let rows = n.reshape("x", &[3, 256]);
        let dims: Vec<usize> = form.iter().map(|&d| usize::try_from(d).unwrap()).collect();
        let (w, b) = (n.random(&[256, 3], 0.1), n.random(&dims, 5.0));
        let y = n.node("Gemm", "rows", &[&rows, &w, &b], |n| n);
        let w = n.random(&[3, 4], 1.0);
        let y = n.node("Gemm", "last", &[&y, &w], |n| n);
        let m = n.finish(&[&y]);
        let feeds = Images::new(m.graph(), m.task(), &images(), 1, &Context::new()).unwrap().next().unwrap().unwrap().1;
        let eager = exec::run(m.graph(), &feeds, Run::default()).unwrap();
        let planned = Engine::new(m.graph(), &[], 1).unwrap().run(&feeds, None).unwrap();
        assert!(apart(&eager, &planned) < 1e-5, "{form:?}");
        for (what, options) in ways() {
            hold(&format!("rows {form:?}, {what}"), &m, &options, 0.1);
        }
    }
}

#[test]
fn a_layer_whose_input_is_always_zero_stays_in_float() {
    let mut n = Net::new(13);
    let w = n.random(&[8, 3, 1, 1], 0.4);
    let below = n.floats("b", &[8], &[-100.0; 8]);
    let a = n.node("Conv", "first", &["x", &w, &below], |n| n);
    let dead = n.op("Relu", &[&a]);
    let (w, b) = (n.random(&[4, 8, 1, 1], 1.0), n.floats("b", &[4], &[0.004, 0.003, -0.005, 0.001]));
    let c = n.node("Conv", "second", &[&dead, &w, &b], |n| n);
    let w = n.random(&[4, 4, 1, 1], 1.0);
    let y = n.node("Conv", "third", &[&c, &w], |n| n);
    let m = n.finish(&[&y]);
    let (_, report) = hold("dead", &m, &Quantize { images: 8, ..Quantize::default() }, 0.1);
    assert!(reason(&report, "second").starts_with("calibration saw nothing but zeros in its input"), "{:?}", report.float);
    assert_eq!(report.layers.iter().map(|l| l.layer.as_str()).collect::<Vec<_>>(), ["first", "third"]);
}

/// tests/fixtures/quantize/generate.py: an If in an If and a Loop that read outer values, with names that quantization gives.
#[test]
fn names_inside_branches_and_loops_are_respected() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quantize/names.onnx");
    let m = Model::new(onnx::load(path).unwrap(), Task::Unknown);
    for (way, options) in ways() {
        let (q, _) = hold(way, &m, &options, 0.06);
        q.check().unwrap();
    }
}

#[test]
fn layers_inside_branches_are_said_to_stay_in_float() {
    let branch = |name: &str| {
        let mut b = GraphBuilder::new(name, 17);
        let x = b.constant(&format!("{name}_x"), Constant::floats(&[1, 2, 2, 2], &noise(8, 3, 1.0)).unwrap());
        let w = b.constant(&format!("{name}_w"), Constant::floats(&[8, 2, 1, 1], &noise(16, 4, 1.0)).unwrap());
        let y = b.node(Node::new("Conv", format!("{name}_conv"), [x.as_str(), w.as_str()], [""]));
        let y = b.node(Node::new("GlobalAveragePool", "", [y.as_str()], [format!("{name}_y")]));
        b.output(&y);
        compresso::model::Attr::Graph(Box::new(b.finish().unwrap()))
    };
    let mut n = Net::new(17);
    let w = n.random(&[8, 3, 1, 1], 1.0);
    let a = n.node("Conv", "first", &["x", &w], |n| n);
    let most = n.node("ReduceMax", "", &["x"], |n| n.int("keepdims", 0));
    let least = n.floats("least", &[], &[-1.0]);
    let go = n.op("Greater", &[&most, &least]);
    let k = n.node("If", "choice", &[&go], |n| n.attr("then_branch", branch("yes")).attr("else_branch", branch("no")));
    let y = n.op("Mul", &[&a, &k]);
    let (_, report) = hold("inner", &n.finish(&[&y]), &Quantize { images: 8, ..Quantize::default() }, 0.05);
    for layer in ["yes_conv", "no_conv"] {
        assert_eq!(reason(&report, layer), "it stands in a branch or in the body of a loop");
    }
}
