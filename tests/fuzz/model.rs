//! What can be done with a graph, whatever it is.

use super::files;
use super::graphs;
use super::judge::{self, Way, checked};
use super::source::Source;
use super::watch;
use compresso::compress::prune::Prune;
use compresso::compress::quantize::{Quantize, QuantizeMode};
use compresso::deploy::EmbedPreprocessing;
use compresso::exec::{self, Engine, Outputs, Run};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::model::ops::{self, QuantRule, RunMode};
use compresso::model::{Dim, Fact, Graph, LoadOptions, Model, Node, Value, onnx, passes};
use compresso::operation::Operation;
use compresso::report::{self, Style};
use compresso::target::{Destination, TARGETS, lint, write_model};
use compresso::{Context, Result};
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

/// Numbers of all inputs together, up to which a graph is run.
const MOST: usize = 1 << 14;

/// Opens, shows, runs in both executors, prunes, quantizes and writes a graph.
pub fn exercise(graph: Graph, source: &mut Source<'_>) {
    let Some(model) = checked(Model::of_graph(graph, &LoadOptions::default())) else { return };
    if let Some(summary) = checked(model.summary()) {
        judge::text(&report::text(&summary, &Style::plain()));
    }
    let graph = model.graph();
    if let Some(feeds) = feeds(graph, source) {
        both(graph, &feeds);
    }
    let ctx = watch::context();
    if let Some((simple, _)) = checked(passes::simplify(graph)) {
        checked(onnx::encode(&simple));
    }
    if let Some(pruned) = checked(Prune::default().run((&model, None), &ctx)) {
        checked(onnx::encode(pruned.model.graph()));
    }
    let dynamic = Quantize { mode: QuantizeMode::Dynamic, ..Quantize::default() };
    if let Some(made) = checked(dynamic.run((&model, None), &ctx)) {
        checked(onnx::encode(made.model.graph()));
    }
    if source.chance(64) {
        let fixed = Quantize { images: 1, elementwise: Some(source.chance(128)), ..Quantize::default() };
        if let Some(made) = checked(fixed.run((&model, Some(noise())), &ctx)) {
            checked(onnx::encode(made.model.graph()));
        }
    }
    if source.chance(96) {
        leave(&model, source);
    }
}

/// Writes a graph for one of the targets, in another operator set, and with what stands around a model inside.
fn leave(model: &Model, source: &mut Source<'_>) {
    let ctx = watch::context();
    let target = source.pick(TARGETS);
    let name = match target.destination {
        Destination::File(ending) | Destination::Package(ending) => format!("out.{ending}"),
        Destination::Folder => "out".into(),
    };
    checked(lint(target, model.graph()));
    if let Some(fixed) = checked(model.with_fixed_sizes(1, Some([8, 8]))) {
        checked(write_model(target, &fixed, &files::folder().join(name)));
    }
    let to = 11 + i64::try_from(source.below(11)).unwrap_or(0);
    let convert: Box<dyn passes::Pass> = if to < model.graph().opset() {
        Box::new(passes::LowerOpset::to(to).expect("it is one"))
    } else {
        Box::new(passes::RaiseOpset::to(to).expect("it is one"))
    };
    if let Some(converted) = checked(passes::run(model.graph(), &[convert.as_ref()], &[])) {
        checked(onnx::encode(&converted.graph));
    }
    checked(EmbedPreprocessing::default().run(model, &ctx));
}

fn noise() -> &'static Dataset {
    static DATA: OnceLock<Dataset> = OnceLock::new();
    DATA.get_or_init(|| {
        dataset("random", &DataOptions { images: Some(1), ..DataOptions::default() }, &Context::new()).expect("it needs no files")
    })
}

/// Values that may follow from more than the inputs.
fn drawn(graph: &Graph) -> HashSet<&str> {
    fn draws(n: &Node) -> bool {
        let trains = n.op == "Dropout" && (n.input(2).is_some() || n.attrs.contains_key("is_test"));
        trains || ops::find(n).is_ok_and(|op| !op.foldable) || n.inner().flat_map(Graph::nodes).any(draws)
    }
    let mut drawn = HashSet::new();
    for node in graph.nodes() {
        // Inner graphs read what stands around them.
        let reads = node.inputs.iter().any(|i| drawn.contains(i.as_str())) || node.inner().next().is_some() && !drawn.is_empty();
        if reads || draws(node) {
            drawn.extend(node.outputs.iter().map(String::as_str));
        }
    }
    drawn
}

/// Both executors give the same, where both give something.
pub fn both(graph: &Graph, feeds: &HashMap<String, Value>) {
    let ctx = watch::context();
    let mut way =
        Way { rounds: graph.nodes().iter().any(|n| ops::find(n).is_ok_and(|op| op.quant == QuantRule::Quantized)), ..Way::default() };
    let mut observe = |_: &str, value: &Value| {
        way.pass(value);
        Ok(())
    };
    let modes = [0, 1].map(|seed| RunMode { seed, ..RunMode::default() });
    let eager = |run: Run<'_>| -> Result<Outputs> { exec::run(graph, feeds, run) };
    let watched = Run { mode: Some(&modes[0]), cancel: Some(&ctx.cancel), observer: Some(&mut observe), ..Run::default() };
    let first = checked(eager(watched));
    let engine = checked(Engine::new(graph, &[], 2));
    let planned = engine.and_then(|mut engine| {
        let outputs = checked(engine.run(feeds, Some(&ctx.cancel)));
        engine.refused().inspect(|why| judge::text(why));
        outputs
    });
    let (Some(first), Some(planned)) = (first, planned) else { return };
    let Some(second) = checked(eager(Run { mode: Some(&modes[1]), cancel: Some(&ctx.cancel), ..Run::default() })) else { return };
    let drawn = drawn(graph);
    judge::through();
    judge::reached(graph);
    for (name, value) in &first {
        let (Some(again), Some(other)) = (second.get(name), planned.get(name)) else { panic!("'{name}' is not there") };
        // Numbers that are drawn differ. The same may be drawn twice, if they are few.
        if !drawn.contains(name.as_str()) && judge::different(value, again, Way::default()).is_none() {
            let why = judge::different(value, other, way);
            assert!(why.is_none(), "the executors differ in '{name}': {}", why.unwrap_or_default());
        }
    }
}

/// Inputs of the shapes that a graph asks for, unless they are large.
pub fn feeds(graph: &Graph, source: &mut Source<'_>) -> Option<HashMap<String, Value>> {
    let mut made = HashMap::new();
    for input in graph.feeds() {
        let dims = sizes(&input.fact, source);
        let count = compresso::memory::elements(dims.iter().copied()).filter(|&n| n <= MOST)?;
        let value = graphs::tensor(input.fact.element, dims, count, source)?;
        made.insert(input.name.clone(), Value::of_constant(&value, &candle_core::Device::Cpu).ok()?);
    }
    Some(made)
}

fn sizes(fact: &Fact, source: &mut Source<'_>) -> Vec<usize> {
    match &fact.shape {
        Some(shape) => shape.iter().map(|d: &Dim| d.known().unwrap_or_else(|| 1 + source.below(3))).collect(),
        None => (0..source.below(5)).map(|_| 1 + source.below(3)).collect(),
    }
}
