//! Weights are trained wherever a file keeps them, to the same bits.

use super::tests::quick;
use super::*;
use crate::data::{DataOptions, DataTask, Dataset, dataset};
use candle_core::{DType, Device};
use compresso_base::context::{Context, ProgressSink};
use compresso_base::operation::Operation;
use compresso_model::{Attr, Classify, Constant, Element, Fact, Graph, GraphBuilder, Model, Node, Preprocess, Task};
use std::sync::{Arc, Mutex};

/// How the weight of a linear layer, stored as `[out, in]`, stands in the graph: what the layer reads, `[in, out]`.
type Place = fn(&mut GraphBuilder, Constant) -> String;

fn transposed(b: &mut GraphBuilder, w: &str) -> String {
    b.node(Node::new("Transpose", "", [w], [""]).ints("perm", &[1, 0]))
}

fn half(c: &Constant) -> Constant {
    Constant::from_storage(Element::F16, &c.tensor(&Device::Cpu).unwrap().to_dtype(DType::F16).unwrap()).unwrap()
}

fn held(b: &mut GraphBuilder, c: Constant) -> String {
    b.node(Node::new("Constant", "held", Vec::<String>::new(), ["linear"]).attr("value", Attr::Tensor(c)))
}

fn cast(b: &mut GraphBuilder, w: &str) -> String {
    b.node(Node::new("Cast", "", [w], [""]).int("to", 1))
}

const PLACES: [(&str, Place); 5] = [
    ("behind Transpose", |b, c| {
        let w = b.constant("linear", c);
        transposed(b, &w)
    }),
    ("behind Identity", |b, c| {
        let w = b.constant("linear", c);
        let w = b.op("Identity", &[&w]);
        transposed(b, &w)
    }),
    ("in a node", |b, c| {
        let w = held(b, c);
        transposed(b, &w)
    }),
    ("in float16, cast", |b, c| {
        let w = b.constant("linear", half(&c));
        let w = transposed(b, &w);
        cast(b, &w)
    }),
    ("in a node in float16, cast", |b, c| {
        let w = held(b, half(&c));
        let w = cast(b, &w);
        transposed(b, &w)
    }),
];

/// A classifier whose linear layer reads what `place` makes of its weight.
fn classifier(classes: &[String], place: Place) -> Model {
    ending_in(classes, &|b, y, w| {
        let w = place(b, w);
        b.node(Node::new("MatMul", "fc", [y, &w], [""]))
    })
}

/// A classifier: a convolution, a batch norm, the mean, a linear layer of a weight `[classes, 8]` with some zeros.
fn ending_in(classes: &[String], linear: &dyn Fn(&mut GraphBuilder, &str, Constant) -> String) -> Model {
    let numbers = |dims: &[usize], seed: usize| {
        let n: usize = dims.iter().product();
        let values: Vec<f32> = (0..n).map(|i| if i % 5 == 4 { 0.0 } else { ((i * 37 + seed) % 101) as f32 / 101.0 - 0.5 }).collect();
        let c = Constant::floats(dims, &values).unwrap();
        // What float16 holds, so that all places begin with the same numbers.
        Constant::floats(dims, &half(&c).to_f32s().unwrap()).unwrap()
    };
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[8, 3, 32, 32]));
    let w = b.constant("conv", numbers(&[8, 3, 3, 3], 3));
    let y = b.node(Node::new("Conv", "conv", [x.as_str(), &w], [""]).ints("strides", &[2, 2]));
    let ones = Constant::floats(&[8], &[1.0; 8]).unwrap();
    let zeros = Constant::floats(&[8], &[0.0; 8]).unwrap();
    let norm = [("scale", ones.clone()), ("shift", zeros.clone()), ("mean", zeros), ("variance", ones)].map(|(n, c)| b.constant(n, c));
    // Exporters write one of equal constants once.
    let variance = b.op("Identity", &[&norm[3]]);
    let y = b.op("BatchNormalization", &[&y, &norm[0], &norm[1], &norm[2], &variance]);
    let y = b.op("Relu", &[&y]);
    let y = b.op("GlobalAveragePool", &[&y]);
    let y = b.op("Flatten", &[&y]);
    let y = linear(&mut b, &y, numbers(&[classes.len(), 8], 5));
    b.output_as(&y, "logits");
    let task = Classify { classes: classes.to_vec(), image_size: [32, 32], output: "logits".into(), preprocess: Preprocess::default() };
    Model::new(b.finish().unwrap(), Task::Classify(task))
}

fn data() -> Dataset {
    let options = DataOptions { images: Some(16), size: Some(serde_json::json!(32)), task: DataTask::Classify, ..DataOptions::default() };
    dataset("shapes", &options, &Context::new()).unwrap().for_training()
}

#[test]
fn weights_are_trained_to_the_same_bits_wherever_they_are_stored() {
    let data = data();
    let mut trained = Vec::new();
    for (name, place) in PLACES {
        let model = classifier(&data.classes, place);
        let made = quick(2).run((&model, &data, None), &Context::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let linear = made.model.graph().constant("linear").unwrap_or_else(|| panic!("{name}: the weight is no constant"));
        assert_eq!(linear.element(), Element::F32, "{name}");
        assert_eq!(made.history.parameters, 8 * 27 + 16 + 8 * data.classes.len(), "{name}");
        trained.push((name, linear.to_f32s().unwrap()));
        assert_ne!(made.model.graph().constant("mean"), model.graph().constant("mean"), "{name}: running statistics move");
    }
    let before = classifier(&data.classes, PLACES[0].1).graph().constant("linear").unwrap().to_f32s().unwrap();
    for (name, weight) in &trained {
        assert_ne!(weight, &before, "{name}");
        assert_eq!(weight, &trained[0].1, "{name}");
    }
}

/// Zeros of a sparse model stay, wherever they are stored.
#[test]
fn kept_zeros_are_those_of_stored_weights() {
    let data = data();
    for (name, place) in PLACES {
        let model = classifier(&data.classes, place);
        let trained = Train { keep_zeros: true, ..quick(1) }.run((&model, &data, None), &Context::new()).unwrap().model;
        let zeros = |m: &Model| {
            let g: &Graph = m.graph();
            let stored = compresso_model::graph::stored(g).unwrap();
            let values = stored.iter().find(|s| s.name == "linear").unwrap().constant.to_f32s().unwrap();
            values.iter().map(|v| *v == 0.0).collect::<Vec<_>>()
        };
        assert!(zeros(&model).contains(&true));
        assert_eq!(zeros(&trained), zeros(&model), "{name}");
    }
}

/// What is said while it is trained.
#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl ProgressSink for Said {
    fn start(&self, _: u64, _: &str, _: u64) {}
    fn update(&self, _: u64, _: u64, _: &str) {}
    fn finish(&self, _: u64) {}
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_string());
    }
}

#[test]
fn weights_out_of_reach_are_told_with_their_number() {
    let data = data();
    // Inside a branch, whose condition depends on the image.
    let model = ending_in(&data.classes, &|b, y, c| {
        let branch = |name: &str| {
            let mut inner = GraphBuilder::new(name, 17);
            let w = inner.constant(&format!("{name}_w"), c.clone());
            let w = transposed(&mut inner, &w);
            let y = inner.node(Node::new("MatMul", name, [y, &w], [""]));
            inner.output(&y);
            Attr::Graph(Box::new(inner.finish_inner()))
        };
        let (then, other) = (branch("then"), branch("else"));
        let most = b.node(Node::new("ReduceMax", "", ["x"], [""]).int("keepdims", 0));
        let zero = b.constant("zero", Constant::scalar(0.0));
        let c = b.op("Greater", &[&most, &zero]);
        b.node(Node::new("If", "choose", [c.as_str()], [""]).attr("then_branch", then).attr("else_branch", other))
    });
    let said = Arc::new(Said::default());
    quick(1).run((&model, &data, None), &Context::new().with_progress(said.clone())).unwrap();
    let said = said.0.lock().unwrap().join("\n");
    let n = 8 * data.classes.len();
    assert!(said.contains(&format!("2 weights ({} of {} numbers) stay as they are", 2 * n, 2 * n + 8 * 27 + 16)), "{said}");
    assert!(said.contains("'then_w'") && said.contains("'else_w'"), "{said}");
}
