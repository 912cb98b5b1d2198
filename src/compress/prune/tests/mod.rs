//! Small nets and what all tests of pruning need.

mod criteria;
mod data_criteria;
mod grouped;
mod norms;
mod options;
mod plans;
mod random_nets;
mod recipe;
mod recovery;
mod registry;
mod rounds;
mod sizes;
mod stored;
mod topology;
mod torch_pruning;
mod weights;

use super::*;
use candle_core::{Device, Tensor};
use compresso_base::context::Notes;
use compresso_exec::{Run, run};
use compresso_model::{Constant, Dim, Element, Fact, Graph, GraphBuilder, Node, Value};
use compresso_test_support::Draw;
use std::collections::HashMap;
use std::sync::Arc;

/// A builder of nets with seeded weights.
struct Net {
    b: GraphBuilder,
    draw: Draw,
}

impl Net {
    fn new(opset: i64) -> Self {
        Self { b: GraphBuilder::new("net", opset), draw: Draw(1) }
    }
    fn random(&mut self) -> f32 {
        self.draw.unit()
    }
    fn weight(&mut self, name: &str, dims: &[usize]) -> String {
        let fan_in = dims[1..].iter().product::<usize>().max(1) as f32;
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| (self.random() * 2.0 - 1.0) / fan_in.sqrt()).collect();
        self.b.constant(name, Constant::floats(dims, &values).unwrap())
    }
    fn positive(&mut self, name: &str, n: usize) -> String {
        let values: Vec<f32> = (0..n).map(|_| 0.5 + self.random()).collect();
        self.b.constant(name, Constant::floats(&[n], &values).unwrap())
    }
    fn ints(&mut self, values: &[i64]) -> String {
        self.b.constant("ints", Constant::ints(values))
    }
    fn image(&mut self, c: usize, size: usize) -> String {
        self.b.input("x", Fact::known(Element::F32, &[1, c, size, size]))
    }
    /// A convolution that keeps the size, with bias.
    fn conv(&mut self, name: &str, x: &str, from: usize, to: usize, k: usize, groups: usize) -> String {
        let w = self.weight(&format!("{name}.weight"), &[to, from / groups, k, k]);
        let b = self.weight(&format!("{name}.bias"), &[to]);
        let pad = [k as i64 / 2; 4];
        self.b.node(Node::new("Conv", name, [x, &w, &b], [""]).int("group", groups as i64).ints("pads", &pad))
    }
    fn batch_norm(&mut self, name: &str, x: &str, c: usize) -> String {
        let scale = self.positive(&format!("{name}.weight"), c);
        let bias = self.weight(&format!("{name}.bias"), &[c]);
        let mean = self.weight(&format!("{name}.running_mean"), &[c]);
        let var = self.positive(&format!("{name}.running_var"), c);
        self.b.node(Node::new("BatchNormalization", name, [x, &scale, &bias, &mean, &var], [""]))
    }
    fn silu(&mut self, x: &str) -> String {
        let s = self.b.op("Sigmoid", &[x]);
        self.b.op("Mul", &[x, &s])
    }
    fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.b.op(op, inputs)
    }
    /// One more convolution to `out` channels, and the net ends.
    fn end(mut self, x: &str, c: usize) -> Model {
        let y = self.conv("last", x, c, 3, 1, 1);
        self.b.output(&y);
        self.model()
    }
    fn model(self) -> Model {
        Model::new(self.b.finish().unwrap(), Task::Unknown)
    }
}

fn feeds(graph: &Graph, seed: u64) -> HashMap<String, Value> {
    let mut net = Net::new(17);
    net.draw = Draw(seed);
    let mut out = HashMap::new();
    for input in graph.feeds() {
        let dims: Vec<usize> = input.fact.shape.as_ref().unwrap().iter().map(|d| d.known().unwrap_or(2)).collect();
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| net.random()).collect();
        out.insert(input.name.clone(), Value::plain(Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap());
    }
    out
}

fn outputs(graph: &Graph, seed: u64) -> Vec<f32> {
    let made = run(graph, &feeds(graph, seed), Run::default()).unwrap();
    made.values().flat_map(|v| v.to_f32s().unwrap()).collect()
}

/// The channels of each group, by the name of its first layer.
fn group_sizes(model: &Model) -> Vec<(String, usize)> {
    groups(model.graph(), &[]).unwrap().0.into_iter().map(|g| (g.layers[0].clone(), g.channels)).collect()
}

fn half() -> Prune {
    Prune { ratio: 0.5, scope: Ranking::Layer, align: 1, min_channels: 1, ..Prune::default() }
}

/// Prunes half of each group and shows, apart from the check within `apply`, that the result equals the masked graph
/// and that the mask changed something.
fn prove(model: &Model) -> Model {
    prove_with(model, &half())
}

fn prove_with(model: &Model, options: &Prune) -> Model {
    let pruned = options.apply(model, None, &Context::new()).unwrap();
    let found = Analysis::new(model.graph(), &head_values(model.task())).unwrap();
    let chosen = found.groups.chosen(&options.include, &options.exclude).unwrap();
    let scores = scores(options, &found, None).unwrap();
    let (all, weights) = select::axes(&found, &chosen);
    let removal = Removal::new(&found, select::select(options, &chosen, &scores, &all, &weights, None).unwrap().atoms);
    let masked = removal.masked().unwrap();
    same_inside(&found, &removal, &masked, pruned.graph());
    for seed in [5, 77] {
        let (before, expected, got) = (outputs(model.graph(), seed), outputs(&masked, seed), outputs(pruned.graph(), seed));
        let scale = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert_eq!(expected.len(), got.len());
        let worst = expected.iter().zip(&got).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= 1e-5 * scale, "differs by {worst} of {scale}");
        let moved = before.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(moved > 1e-4 * scale, "the mask changed nothing");
    }
    assert!(pruned.stats().unwrap().params < model.stats().unwrap().params);
    pruned
}

/// One score per channel of each group.
fn scores(options: &Prune, found: &Analysis, data: Option<&Dataset>) -> Result<Vec<Vec<f64>>> {
    let ctx = Context::new();
    let chosen = found.groups.chosen(&options.include, &options.exclude)?;
    let scoring = score::Scoring::new(options, options.importance.unwrap_or(Importance::L2).criterion());
    let gathered = gather::Gathered::new(scoring.criterion, found, gather::Evidence::new(options, &Task::Unknown, data), &ctx)?;
    scoring.scores(&gathered, &chosen, &ctx)
}

/// The scores of a criterion as they are, not normalized.
fn raw(importance: Importance) -> Prune {
    Prune { importance: Some(importance), normalization: Some(Normalization::None), ..half() }
}

fn close(got: &[f64], expected: &[f64]) {
    let scale = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().zip(expected).all(|(g, e)| (g - e).abs() <= 1e-5 * scale), "{got:?} is not {expected:?}");
}

/// The numbers of a constant with index `i` on an axis, by plain loops.
fn slice(constant: &Constant, axis: usize, i: usize) -> Vec<f64> {
    let dims = constant.dims();
    let inner: usize = dims[axis + 1..].iter().product();
    let all = constant.to_f64s().unwrap();
    all.into_iter().enumerate().filter(|(at, _)| at / inner % dims[axis] == i).map(|(_, w)| w).collect()
}

/// Every inner value of the pruned graph is that of the masked one without the removed indices.
fn same_inside(found: &Analysis, removal: &Removal<'_>, masked: &Graph, pruned: &Graph) {
    let made: Vec<&str> = pruned.nodes().iter().flat_map(|n| &n.outputs).map(String::as_str).collect();
    let floats = |n: &&str| found.facts.get(*n).is_some_and(|f| f.element.is_float() && f.constant.is_none());
    let wanted: Vec<&str> = made.into_iter().filter(floats).collect();
    let of = |g: &Graph| run(g, &feeds(g, 3), Run { wanted: &wanted, ..Run::default() }).unwrap();
    for ((name, m), p) in of(masked).iter().zip(of(pruned).values()) {
        let mut expected = m.tensor.clone();
        for (axis, labels) in found.labels.of(name).iter().enumerate() {
            let Some(labels) = labels else { continue };
            let keep: Vec<u32> = (0u32..).zip(labels.iter()).filter(|(_, a)| removal.stays(**a)).map(|(i, _)| i).collect();
            expected = expected.contiguous().unwrap().index_select(&Tensor::new(keep, &Device::Cpu).unwrap(), axis).unwrap();
        }
        assert_eq!(expected.dims(), p.dims(), "{name}");
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (e, g) = (flat(&expected), flat(&p.tensor));
        let scale = e.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        assert!(e.iter().zip(&g).all(|(a, b)| (a - b).abs() <= 1e-5 * scale), "{name} differs");
    }
}

fn dims<'a>(model: &'a Model, constant: &str) -> &'a [usize] {
    model.graph().constant(constant).unwrap_or_else(|| panic!("no constant {constant}")).dims()
}

fn attr_int(model: &Model, node: &str, name: &str) -> i64 {
    let g = model.graph();
    g.nodes()[g.find(node).unwrap()].get_int(name, -99).unwrap()
}

fn two_layers() -> Model {
    let mut n = Net::new(17);
    let x = n.image(3, 4);
    let y = n.conv("a", &x, 3, 16, 1, 1);
    let y = n.batch_norm("bn", &y, 16);
    let y = n.op("Relu", &[&y]);
    let y = n.conv("b", &y, 16, 16, 1, 1);
    let y = n.op("Relu", &[&y]);
    n.end(&y, 16)
}

fn shuffle(n: &mut Net, x: &str, c: usize, g: usize, size: usize) -> String {
    let target = n.ints(&[1, g as i64, (c / g) as i64, size as i64, size as i64]);
    let y = n.op("Reshape", &[x, &target]);
    let y = n.b.node(Node::new("Transpose", "", [&y], [""]).ints("perm", &[0, 2, 1, 3, 4]));
    let back = n.ints(&[1, -1, size as i64, size as i64]);
    n.op("Reshape", &[&y, &back])
}
