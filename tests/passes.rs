//! Every pass and pipeline leaves outputs as they were, settles, and infers shapes once for each state of the graph.

#[path = "passes/adding.rs"]
mod adding;
mod common;
#[path = "passes/each.rs"]
mod each;
#[path = "passes/graphs.rs"]
mod graphs;
#[path = "passes/parallel.rs"]
mod parallel;

use candle_core::{Device, Tensor};
use compresso::deploy::half;
use compresso::exec::{Outputs, Run, run};
use compresso::model::passes::{self, Outcome, Pass, PassContext, Pipeline, RaiseOpset, Rewrite, pipelines};
use compresso::model::zoo::{ZooOptions, build};
use compresso::model::{Constant, Element, Fact, Graph, GraphBuilder, Node, Patch, Value};
use compresso_test_support::Draw;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

/// The pipelines of all rooms.
fn all_pipelines() -> impl Iterator<Item = &'static Pipeline> {
    pipelines::PIPELINES.iter().chain([&half::PIPELINE])
}

/// Random inputs of the graph: floats of [-1, 1), small integers, and truth values.
fn feeds(g: &Graph, seed: u64) -> HashMap<String, Value> {
    let mut draw = Draw(seed.wrapping_mul(2).wrapping_add(1));
    let mut next = move || draw.unit();
    let feed = |i: &compresso::model::ValueInfo| {
        let dims: Vec<usize> = i.fact.shape.as_ref().unwrap().iter().map(|d| d.known().unwrap_or(1)).collect();
        let numbers: Vec<f32> = (0..dims.iter().product()).map(|_| next()).collect();
        let t = Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap();
        let t = match i.fact.element {
            Element::F32 => ((t * 2.0).unwrap() - 1.0).unwrap(),
            e => (t * 2.0).unwrap().floor().unwrap().to_dtype(e.storage().unwrap()).unwrap(),
        };
        (i.name.clone(), Value::new(i.fact.element, t).unwrap())
    };
    g.feeds().map(feed).collect()
}

/// A graph before passes, and what it gives.
struct Before<'a> {
    graph: &'a Graph,
    keep: &'a [String],
    outputs: Outputs,
}

impl<'a> Before<'a> {
    fn of(graph: &'a Graph, keep: &'a [String]) -> Self {
        let mut before = Self { graph, keep, outputs: Outputs::new() };
        before.outputs = before.run(graph);
        before
    }
    /// The outputs and kept values of a graph.
    fn run(&self, g: &Graph) -> Outputs {
        let outputs = self.graph.outputs().iter().map(|o| o.name.as_str());
        let names: Vec<&str> = outputs.chain(self.keep.iter().map(String::as_str)).collect();
        run(g, &feeds(self.graph, 3), Run { wanted: &names, ..Run::default() }).unwrap()
    }
    /// The largest difference of an output, as a part of its largest number.
    fn moved(&self, after: &Graph) -> f64 {
        let names = |g: &Graph| g.outputs().iter().map(|o| o.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(self.graph), names(after));
        let mut worst = 0f64;
        for ((name, a), b) in self.outputs.iter().zip(self.run(after).into_values()) {
            assert_eq!((a.element, a.dims()), (b.element, b.dims()), "'{name}'");
            let (a, b) = (a.to_f64s().unwrap(), b.to_f64s().unwrap());
            let scale = a.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
            worst =
                a.iter().zip(&b).map(|(x, y)| (x - y).abs() / scale).fold(worst, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
        }
        worst
    }
    /// Outputs are as they were to within `tolerance`, each state of the graph was inferred once, and there is nothing more to do.
    fn hold(&self, what: &str, passes: &[&dyn Pass], tolerance: f64) -> Outcome {
        let out = passes::run(self.graph, passes, self.keep).unwrap_or_else(|e| panic!("{what}: {e}"));
        out.graph.check().unwrap();
        let difference = self.moved(&out.graph);
        assert!(difference <= tolerance, "{what}: outputs moved by {difference:e}");
        assert!(out.inferences <= out.changes + 1, "{what}: {} inferences for {} changes", out.inferences, out.changes);
        assert_eq!(out.changes == 0, out.changes().next().is_none());
        assert_eq!(out.changes == 0, out.graph == *self.graph, "{what}");
        for report in &out.reports {
            for lines in [&report.done, &report.refused, &report.warnings] {
                assert_eq!(lines.iter().collect::<HashSet<_>>().len(), lines.len(), "{what}: '{}' says a line twice", report.pass);
            }
        }
        let again = passes::run(&out.graph, passes, self.keep).unwrap();
        assert_eq!(again.changes, 0, "{what}: {:?}", again.changes().collect::<Vec<_>>());
        out
    }
}

fn hold(what: &str, g: &Graph, passes: &[&dyn Pass], tolerance: f64) -> Outcome {
    Before::of(g, &[]).hold(what, passes, tolerance)
}

/// Rounding of sums in another order; float16 has eleven bits.
fn tolerance(name: &str) -> f64 {
    if name.contains("float16") { 2e-2 } else { 2e-5 }
}

fn zoo(name: &str) -> Graph {
    let options =
        ZooOptions { classes: Some(vec!["a".into(), "b".into()]), image_size: Some([64, 64]), width: Some(0.125), ..ZooOptions::default() };
    common::lively(&build(name, &options).unwrap()).graph().clone()
}

#[test]
fn outputs_of_zoo_models_stay_through_every_pass_and_pipeline() {
    for name in ["yolov8n", "yolo11n", "yolov5n", "mobilenet_v2", "yolov8n-cls"] {
        let g = zoo(name);
        let before = Before::of(&g, &[]);
        for pass in pipelines::passes() {
            before.hold(&format!("{name}, pass {}", pass.name()), &[pass], tolerance(pass.name()));
        }
        for p in all_pipelines() {
            let out = before.hold(&format!("{name}, pipeline {}", p.name), &p.passes(), tolerance(p.name));
            assert_eq!(out.reports.len(), p.passes().len());
        }
    }
}

#[test]
fn wanted_values_stay_through_every_pipeline() {
    let g = zoo("yolov8n");
    let keep: Vec<String> = g.nodes().iter().step_by(7).map(|n| n.outputs[0].clone()).collect();
    let before = Before::of(&g, &keep);
    for p in all_pipelines() {
        before.hold(p.name, &p.passes(), tolerance(p.name));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn outputs_of_random_graphs_stay_through_every_pass_and_pipeline(g in graphs::graphs()) {
        let before = Before::of(&g, &[]);
        for pass in pipelines::passes() {
            before.hold(pass.name(), &[pass], 1e-4);
        }
        for p in pipelines::PIPELINES {
            before.hold(p.name, &p.passes(), 1e-4);
        }
    }
}

/// A layer's weight, its bias and a scale of the batch norm after it that graphs inside an If read too.
#[test]
fn constants_that_inner_graphs_read_stay_as_they_are() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/functions/captured.onnx");
    let g = compresso::model::onnx::load(path).unwrap();
    let before = Before::of(&g, &[]);
    for pass in pipelines::passes() {
        before.hold(pass.name(), &[pass], 1e-5);
    }
    for p in all_pipelines() {
        before.hold(p.name, &p.passes(), if p.name.contains("float16") { 1e-2 } else { 1e-5 });
    }
}

#[test]
fn names_of_passes_and_pipelines_are_unique_and_found() {
    let mut seen = HashSet::new();
    for p in all_pipelines() {
        assert!(seen.insert(p.name) && !p.summary.is_empty() && !p.summary.ends_with('.'), "{}", p.name);
    }
    for p in pipelines::PIPELINES {
        assert_eq!(pipelines::find(p.name).unwrap().name, p.name);
    }
    for pass in pipelines::passes() {
        assert_eq!(pipelines::pass(pass.name()).unwrap().name(), pass.name());
        assert!(!pass.summary().is_empty() && !pass.summary().ends_with('.'), "{}", pass.name());
    }
    let e = pipelines::find("inferense").unwrap_err();
    assert!(e.to_string().contains("there is no pipeline 'inferense'") && e.to_string().contains("did you mean 'inference'?"), "{e}");
}

#[test]
fn shapes_are_inferred_once_for_each_state_of_the_graph() {
    /// Asks for facts `0` times, and changes nothing.
    #[derive(Debug)]
    struct Ask(usize);
    impl Pass for Ask {
        fn name(&self) -> &'static str {
            "ask"
        }
        fn summary(&self) -> &'static str {
            "Asks for facts"
        }
        fn rewrite<'g>(&self, cx: &PassContext<'g>) -> compresso::Result<Rewrite<'g>> {
            for _ in 0..self.0 {
                assert!(!cx.facts()?.is_empty());
            }
            Ok(cx.rewrite())
        }
    }
    let g = zoo("yolov8n");
    let out = passes::run(&g, &[&Ask(3), &Ask(2), &Ask(1)], &[]).unwrap();
    assert_eq!((out.changes, out.inferences), (0, 1));
    assert_eq!(passes::run(&g, &[&Ask(0)], &[]).unwrap().inferences, 0);
    let passes: Vec<&dyn Pass> = pipelines::CLEAN.iter().copied().flat_map(|p| [&Ask(1) as &dyn Pass, p]).collect();
    let out = passes::run(&g, &passes, &[]).unwrap();
    assert!((2..=out.changes + 1).contains(&out.inferences), "{} inferences for {} changes", out.inferences, out.changes);
    // What comes out keeps what was found out about it.
    let again = passes::run(&out.graph, &[&Ask(1)], &[]).unwrap();
    assert_eq!((again.changes, again.inferences), (0, 0));
}

#[test]
fn passes_that_help_each_other_go_round_until_nothing_changes() {
    // Dead code removes the second reader of the convolution, and then the batch norm folds.
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 2, 3, 3]));
    let w = b.constant("w", Constant::floats(&[2, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0]).unwrap());
    let y = b.op("Conv", &[&x, &w]);
    b.op("Relu", &[&y]);
    let stats: Vec<String> = ["s", "b", "m", "v"].iter().map(|n| b.constant(n, Constant::floats(&[2], &[1.0, 2.0]).unwrap())).collect();
    let z = b.op("BatchNormalization", &[&y, &stats[0], &stats[1], &stats[2], &stats[3]]);
    b.output(&z);
    let g = b.finish().unwrap();
    let out = pipelines::INFERENCE.run(&g).unwrap();
    assert_eq!(out.graph.nodes().iter().map(|n| n.op.as_str()).collect::<Vec<_>>(), ["Conv"]);
    // Why it stayed in the first round is no longer true, and not said.
    assert!(out.reports.iter().all(|r| r.refused.is_empty()), "{:?}", out.reports);
    assert!(Before::of(&g, &[]).moved(&out.graph) < 1e-6);
}

#[test]
fn passes_that_undo_each_other_are_an_error_that_names_them() {
    /// Turns one operator into another.
    #[derive(Debug)]
    struct Turn(&'static str, &'static str, &'static str);
    impl Pass for Turn {
        fn name(&self) -> &'static str {
            self.0
        }
        fn summary(&self) -> &'static str {
            "Turns one operator into another"
        }
        fn rewrite<'g>(&self, cx: &PassContext<'g>) -> compresso::Result<Rewrite<'g>> {
            let mut out = cx.rewrite();
            for (i, node) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(self.1)) {
                out.patch.edit(i).op = self.2.into();
                out.done.push(format!("{} becomes {}", node.label(), self.2));
            }
            Ok(out)
        }
    }
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[2]));
    let y = b.op("Relu", &[&x]);
    b.output(&y);
    let g = b.finish().unwrap();
    let e = passes::run(&g, &[&Turn("there", "Relu", "Elu"), &Turn("back", "Elu", "Relu")], &[]).unwrap_err().to_string();
    assert!(
        e.contains("do not come to an end") && e.contains("pass 'there' (node 'Relu' (Relu) becomes Elu)") && e.contains("pass 'back'"),
        "{e}"
    );
}

#[test]
fn words_without_edits_and_edits_without_words_are_bugs() {
    #[derive(Debug)]
    struct Wrong(bool);
    impl Pass for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }
        fn summary(&self) -> &'static str {
            "Breaks its promise"
        }
        fn rewrite<'g>(&self, cx: &PassContext<'g>) -> compresso::Result<Rewrite<'g>> {
            let mut out = cx.rewrite();
            if self.0 {
                out.done.push("nothing".into());
            } else {
                out.patch.remove(0);
            }
            Ok(out)
        }
    }
    let g = zoo("resnet18");
    for (wrong, says) in [(true, "it says \"nothing\" and edits nothing"), (false, "does not say what it did")] {
        let e = passes::run(&g, &[&Wrong(wrong)], &[]).unwrap_err().to_string();
        assert!(e.contains("pass 'wrong'") && e.contains(says), "{e}");
    }
}

#[test]
fn a_weight_that_is_also_an_output_is_folded_into_a_copy() {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &[1, 2, 3, 3]));
    let w = b.constant("w", Constant::floats(&[2, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0]).unwrap());
    let y = b.op("Conv", &[&x, &w]);
    let stats: Vec<String> = ["s", "b", "m", "v"].iter().map(|n| b.constant(n, Constant::floats(&[2], &[3.0, 2.0]).unwrap())).collect();
    let z = b.op("BatchNormalization", &[&y, &stats[0], &stats[1], &stats[2], &stats[3]]);
    b.output(&z);
    b.output(&w);
    let g = b.finish().unwrap();
    let out = hold("inference", &g, &pipelines::INFERENCE.passes(), 1e-6);
    assert_eq!(out.graph.nodes().len(), 1);
    assert_eq!(out.graph.constant("w"), g.constant("w"));
}

#[test]
fn operator_sets_are_raised_to_the_one_that_is_asked_for() {
    let mut b = GraphBuilder::new("g", 9);
    let x = b.input("x", Fact::known(Element::F32, &[1, 4, 6]));
    let y = b.node(Node::new("Clip", "", [x.as_str()], [""]).float("min", -0.5).float("max", 0.5));
    let y = b.node(Node::new("Unsqueeze", "", [y.as_str()], [""]).ints("axes", &[0]));
    b.output(&y);
    let g = b.finish().unwrap();
    for to in [11, 12, 13, 17, 21] {
        let out = hold("raise_opset", &g, &[&RaiseOpset::to(to).unwrap()], 0.0);
        assert_eq!(out.graph.opset(), to);
        // Axes are an input since operator set 13.
        assert_eq!(out.graph.nodes()[1].inputs.len(), 1 + usize::from(to >= 13));
    }
    for to in [10, 22] {
        assert!(RaiseOpset::to(to).unwrap_err().to_string().contains("11 to 21"));
    }
}

#[test]
fn new_names_do_not_clash_with_those_inside_an_if() {
    let branch = |own: &str| {
        let mut b = GraphBuilder::new(own, 17);
        let one = b.constant(&format!("{own}_one"), Constant::scalar(1.0));
        b.node(Node::new("Identity", format!("{own}_node"), [one.as_str()], [own]));
        b.output(own);
        Box::new(b.finish().unwrap())
    };
    let mut b = GraphBuilder::new("g", 17);
    b.input("c", Fact::known(Element::Bool, &[]));
    let x = b.input("x", Fact::known(Element::F32, &[1, 2, 3, 3]));
    let w = b.constant("w", Constant::floats(&[2, 2, 1, 1], &[1.0, 2.0, 3.0, 4.0]).unwrap());
    let shared = b.op("Conv", &[&x, &w]);
    let y = b.op("Conv", &[&shared, &w]);
    let stats: Vec<String> = ["s", "b", "m", "v"].iter().map(|n| b.constant(n, Constant::floats(&[2], &[1.0, 2.0]).unwrap())).collect();
    let y = b.op("BatchNormalization", &[&y, &stats[0], &stats[1], &stats[2], &stats[3]]);
    // A folded batch norm would call the copy of a shared weight so.
    let node = Node::new("If", "choice", ["c"], [""])
        .attr("then_branch", compresso::model::Attr::Graph(branch("w_folded")))
        .attr("else_branch", compresso::model::Attr::Graph(branch("w_folded_bias")));
    let k = b.node(node);
    let z = b.op("Add", &[&y, &k]);
    b.output(&z);
    let g = b.finish().unwrap();
    let out = hold("fold_batch_norm", &g, &[pipelines::pass("fold_batch_norm").unwrap()], 1e-5);
    let folded = out.graph.nodes().iter().filter(|n| n.is("Conv")).nth(1).unwrap();
    assert_eq!(folded.inputs[1..], ["w_folded_1", "w_folded_1_bias"]);
}

/// Prints what the passes cost; `cargo test --test passes -- --ignored --nocapture`.
#[test]
#[ignore = "prints times"]
fn what_passes_cost() {
    let g = build("yolov8n", &ZooOptions::default()).unwrap().graph().clone();
    let time = |what: &str, f: &dyn Fn()| {
        let best = (0..5).map(|_| {
            let start = std::time::Instant::now();
            f();
            start.elapsed().as_secs_f64()
        });
        println!("{what}: {:.1} ms", 1e3 * best.fold(f64::INFINITY, f64::min));
    };
    println!("{} nodes, {} constants", g.nodes().len(), g.constants().len());
    time("infer", &|| drop(compresso::model::infer(&g).unwrap()));
    time("an empty patch", &|| drop(Patch::new(&g).apply().unwrap()));
    time("1000 fresh names", &|| {
        let mut patch = Patch::new(&g);
        (0..1000).for_each(|_| drop(patch.fresh("images")));
    });
    for p in pipelines::PIPELINES {
        time(p.name, &|| drop(p.run(&g).unwrap()));
    }
}
