//! Static and dynamic INT8 of random graphs: all operators with weights, weights and biases of all sizes and shared, pools of all kinds, inner
//! values as outputs, names that clash with those inside If and Loop. The quantized graph must stay within what the grids allow
//! (`bound`), in both executors and in onnxruntime, optimized and not.
//!
//! `COMPRESSO_CASES=10000` runs so many graphs instead of the few hundred of the suite, `COMPRESSO_CASES=2500..5000` a part of them;
//! `COMPRESSO_CASE=17` runs one and prints it.

#[path = "quantize_random/bound.rs"]
mod bound;
#[path = "quantize_random/graphs.rs"]
mod graphs;
#[path = "quantize_random/names.rs"]
mod names;

use bound::{Rules, Tracked, beyond, bounds, measured_bounds};
use compresso::Context;
use compresso::compress::quantize::affine::{Affine, Range};
use compresso::compress::quantize::calibrate::Images;
use compresso::compress::quantize::{Quantize, QuantizeMode};
use compresso::exec::{self, Engine, Outputs};
use compresso::learn::data::{DataOptions, Dataset, dataset};
use compresso::measure::runtimes::onnxruntime::Session;
use compresso::model::{Element, Graph, Model, Task, Value, ops, passes};
use compresso::operation::Operation;
use compresso::target::{Grid, Target, tensorrt};
use rand::prelude::*;
use std::collections::HashMap;

/// What was met, so that the test is known to test something.
#[derive(Debug, Default)]
struct Seen {
    quantized: usize,
    layers: usize,
    float: usize,
    /// Graphs in which nothing can be quantized, or whose values leave float32.
    refused: usize,
}

#[test]
fn random_graphs_stay_within_what_the_grids_allow() {
    all(300, case);
}

#[test]
fn random_graphs_with_measured_scales_stay_within_what_these_allow() {
    all(150, measured);
}

type Run = fn(u64, &Dataset, bool) -> Result<Seen, String>;

/// The seeds that are asked for, else the first `few`.
fn seeds(few: u64) -> std::ops::Range<u64> {
    let asked = |name: &str| std::env::var(name).ok();
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("'{text}' is no number of a case"));
    match (asked("COMPRESSO_CASE"), asked("COMPRESSO_CASES")) {
        (Some(one), _) => number(&one)..number(&one) + 1,
        (None, Some(many)) => many.split_once("..").map_or_else(|| 0..number(&many), |(a, b)| number(a)..number(b)),
        (None, None) => 0..few,
    }
}

fn all(few: u64, run: Run) {
    let cases = seeds(few);
    let total = cases.end - cases.start;
    let alone = total == 1;
    let data = dataset("random", &DataOptions { images: Some(8), ..DataOptions::default() }, &Context::new()).unwrap();
    let mut seen = Seen::default();
    let mut wrong: Vec<String> = Vec::new();
    for seed in cases {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &data, alone))) {
            Ok(Ok(one)) => {
                seen.quantized += usize::from(one.layers > 0);
                seen.layers += one.layers;
                seen.float += one.float;
                seen.refused += one.refused;
            }
            Ok(Err(what)) => wrong.push(format!("case {seed}: {what}")),
            Err(_) => wrong.push(format!("case {seed} panicked")),
        }
    }
    println!("{total} graphs: {seen:?}, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "COMPRESSO_CASE=… runs one of these:\n{}", wrong.join("\n"));
    assert!(alone || seen.quantized as u64 > total / 2 && seen.layers as u64 > total, "{seen:?}");
}

/// The graph before quantization as it is quantized, with all its values for one image.
fn exactly(model: &Model, data: &Dataset) -> (Graph, HashMap<String, Value>, HashMap<String, Value>) {
    let float = passes::pipelines::QUANTIZE.run(model.graph()).unwrap().graph;
    let feeds = Images::new(&float, model.task(), data, 1, &Context::new()).unwrap().next().unwrap().unwrap().1;
    let mut exact: HashMap<String, Value> = HashMap::new();
    let mut take = |name: &str, value: &Value| {
        exact.insert(name.to_string(), value.clone());
        Ok(())
    };
    exec::run(&float, &feeds, exec::Run { observer: Some(&mut take), ..exec::Run::default() }).unwrap();
    (float, feeds, exact)
}

/// What cannot be quantized is no finding.
fn refused(e: &compresso::error::Error) -> Result<Seen, String> {
    let text = e.to_string();
    let fair = ["no layer of the model can be quantized", "the float model itself is broken", "matches no layer"];
    if fair.iter().any(|f| text.contains(f)) { Ok(Seen { refused: 1, ..Seen::default() }) } else { Err(text) }
}

/// Quantizes one graph so that it measures the ranges of its inputs, or with its weights alone rounded.
fn measured(seed: u64, data: &Dataset, verbose: bool) -> Result<Seen, String> {
    let (graph, mut rng) = graphs::Random::graph(seed);
    let options = Quantize {
        mode: QuantizeMode::Dynamic,
        per_channel: rng.random_bool(0.7),
        activations: rng.random_bool(0.8),
        ..Quantize::default()
    };
    if verbose {
        println!("{}\n{options:?}", graph.dump(None));
    }
    let model = Model::new(graph, Task::Unknown);
    let made = match options.run((&model, None), &Context::new()) {
        Ok(made) => made,
        Err(e) => return refused(&e),
    };
    let (quantized, report) = (made.model.graph(), made.report.unwrap());
    if verbose {
        println!("{}\n{:?}", quantized.dump(None), report.float);
        keep(&made.model, &model, seed);
    }
    let (float, feeds, exact) = exactly(&model, data);
    let known = measured_bounds(&float, quantized, &exact, Rules { top: 127.0, per_channel: options.per_channel, clip: 0.0 });
    let eager = exec::run(quantized, &feeds, exec::Run::default()).map_err(|e| format!("eager: {e}"))?;
    within("eager", &eager, &known, 1.0)?;
    let planned = Engine::new(quantized, &[], 1).unwrap().run(&feeds, None).map_err(|e| format!("planned: {e}"))?;
    within("planned", &planned, &known, 1.0)?;
    let plain = Session::plain(quantized, 1).and_then(|mut s| s.run(&feeds)).map_err(|e| format!("onnxruntime, plain: {e}"))?;
    within("onnxruntime, plain", &plain, &known, 1.0)?;
    let outputs = Session::from_graph(quantized, 1).and_then(|mut s| s.run(&feeds)).map_err(|e| format!("onnxruntime: {e}"))?;
    within("onnxruntime", &outputs, &known, 1.0)?;
    Ok(Seen { layers: report.layers.len(), float: report.float.len(), ..Seen::default() })
}

/// Quantizes one graph in one way.
fn case(seed: u64, data: &Dataset, verbose: bool) -> Result<Seen, String> {
    let (graph, mut rng) = graphs::Random::graph(seed);
    let task = Task::Unknown;
    let mut options = Quantize { images: 1, ..Quantize::default() };
    match rng.random_range(0..10) {
        0 => options.per_channel = false,
        // From operator set 21 on, onnxruntime 1.32 gives int8 QuantizeLinear that it adds a type which a later pass of its own
        // contradicts, and refuses the graph.
        1 => options.symmetric = graph.opset() < 21,
        2 => options.elementwise = Some(true),
        3 => (options.elementwise, options.per_channel) = (Some(true), false),
        4 => options.reduce_range = false,
        5 => options.target = Target(&tensorrt::SPEC),
        6 => {
            // A layer in the middle stays in float.
            let layers: Vec<&str> = graph.nodes().iter().filter(|n| n.is("Conv") || n.is("Gemm")).map(|n| n.outputs[0].as_str()).collect();
            options.exclude.extend(layers.choose(&mut rng).map(ToString::to_string));
        }
        _ => {}
    }
    if verbose {
        println!("{}\n{options:?}", graph.dump(None));
    }
    let ctx = Context::new();
    let model = Model::new(graph, task);
    let made = match options.run((&model, Some(data)), &ctx) {
        Ok(made) => made,
        Err(e) => return refused(&e),
    };
    let (quantized, report) = (made.model.graph(), made.report.unwrap());
    if verbose {
        println!("{}\n{:?}", quantized.dump(None), report.float);
        keep(&made.model, &model, seed);
    }
    let (float, feeds, exact) = exactly(&model, data);
    let rules = options.target.quantization.unwrap();
    let reduced = options.reduce_range && rules.reduced_weights;
    let top = if reduced { rules.weights.reduced().high } else { rules.weights.high };
    scales_fit(quantized, &exact, if options.symmetric { Grid::INT8 } else { rules.activations })?;
    let allowed = Rules { top: top as f32, per_channel: options.per_channel, clip: 0.0 };
    let known = bounds(&float, quantized, &exact, allowed);

    let eager = exec::run(quantized, &feeds, exec::Run::default()).map_err(|e| format!("eager: {e}"))?;
    within("eager", &eager, &known, 1.0)?;
    let planned = Engine::new(quantized, &[], 1).unwrap().run(&feeds, None).map_err(|e| format!("planned: {e}"))?;
    within("planned", &planned, &known, 1.0)?;
    let plain = Session::plain(quantized, 1).and_then(|mut s| s.run(&feeds)).map_err(|e| format!("onnxruntime, plain: {e}"))?;
    within("onnxruntime, plain", &plain, &known, 1.0)?;
    // Weights of 8 bits overflow its kernels for processors without VNNI.
    if reduced {
        // It takes a Clip for done by the rounding after it where both end within this of each other, be all values as small.
        let known = bounds(&float, quantized, &exact, Rules { clip: 2.0 * f32::EPSILON, ..allowed });
        let known = rounded_early(quantized, known);
        let outputs = Session::from_graph(quantized, 1).and_then(|mut s| s.run(&feeds)).map_err(|e| format!("onnxruntime: {e}"))?;
        within("onnxruntime", &outputs, &known, 1.0)?;
        // Integer kernels round as the float graph between the integers does, but for ties.
        apart(&eager, &outputs, &known)?;
    }
    Ok(Seen { layers: report.layers.len(), float: report.float.len(), ..Seen::default() })
}

/// Writes a case and the graph it was made from to files, for a look at it in other runtimes.
fn keep(quantized: &Model, float: &Model, seed: u64) {
    for (model, what) in [(quantized, "quantized"), (float, "float")] {
        let path = std::env::temp_dir().join(format!("compresso_case_{seed}_{what}.onnx"));
        model.save(&path).unwrap();
        println!("{}", path.display());
    }
}

/// onnxruntime rounds a value before it is moved instead of after, also where it is an output as well. A Relu or Clip that the rounding does
/// as well is gone by then.
fn rounded_early(quantized: &Graph, mut known: HashMap<String, Tracked>) -> HashMap<String, Tracked> {
    let mut later: HashMap<&str, f32> = HashMap::new();
    for node in quantized.nodes().iter().rev() {
        let step = if node.is("QuantizeLinear") {
            quantized.constant(&node.inputs[1]).unwrap().to_f32s().unwrap()[0]
        } else if ops::moves(node) || node.is("Relu") || node.is("Clip") {
            node.outputs.iter().filter_map(|o| later.get(o.as_str())).fold(0.0, |a: f32, &b| a.max(b))
        } else {
            continue;
        };
        let most = later.entry(node.inputs[0].as_str()).or_insert(0.0);
        *most = most.max(step);
    }
    for output in quantized.outputs() {
        if let (Some(step), Some(tracked)) = (later.get(output.name.as_str()), known.get_mut(&output.name)) {
            let errors: Vec<f32> = tracked.error.to_f32s().unwrap().iter().map(|e| e + 1.0001 * step).collect();
            tracked.error = bound::value(tracked.exact.dims(), errors);
        }
    }
    known
}

fn within(name: &str, outputs: &Outputs, known: &HashMap<String, Tracked>, times: f32) -> Result<(), String> {
    outputs.iter().try_for_each(|(output, got)| match known.get(output).and_then(|k| beyond(got, k, times)) {
        Some(what) => Err(format!("{name}: '{output}': {what}")),
        None => Ok(()),
    })
}

/// Results of the same integers, whose roundings differ in single steps.
fn apart(ours: &Outputs, theirs: &Outputs, known: &HashMap<String, Tracked>) -> Result<(), String> {
    let around: HashMap<String, Tracked> = ours
        .iter()
        .filter_map(|(name, v)| Some((name.clone(), Tracked { exact: v.clone(), error: known.get(name)?.error.clone() })))
        .collect();
    within("onnxruntime beside our executor", theirs, &around, 0.5)
}

/// Every scale of an activation is the finest that holds what calibration saw of the values that share it.
fn scales_fit(quantized: &Graph, exact: &HashMap<String, Value>, grid: Grid) -> Result<(), String> {
    let mut shared: HashMap<(u32, i64), (Range, &str)> = HashMap::new();
    for node in quantized.nodes().iter().filter(|n| n.is("QuantizeLinear")) {
        let constant = |i: usize| quantized.constant(&node.inputs[i]).unwrap();
        let (scale, zero) = (constant(1).to_f32s().unwrap()[0], constant(2).to_i64s().unwrap()[0]);
        assert!(constant(2).element() == grid.element && matches!(grid.element, Element::U8 | Element::I8));
        let seen = Range::of(&exact[&node.inputs[0]].to_f32s().unwrap());
        let (range, _) = shared.entry((scale.to_bits(), zero)).or_insert((Range { min: 0.0, max: 0.0 }, &node.inputs[0]));
        *range = range.join(seen);
    }
    for ((scale, zero), (range, name)) in shared {
        let (scale, fit) = (f32::from_bits(scale), Affine::fit(range, grid));
        let near = (scale - fit.scale).abs() <= 1e-3 * fit.scale && (zero - i64::from(fit.zero_point)).abs() <= 1;
        if !near {
            return Err(format!("'{name}' is in {range:?}, and has scale {scale:e} and zero point {zero}, expected {fit:?}"));
        }
    }
    Ok(())
}
