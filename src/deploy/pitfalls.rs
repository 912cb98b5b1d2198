//! What a graph shows of the usual mistakes of making models small and fast: things that look like a gain, and are none where the model runs.

use compresso_base::error::Result;
use compresso_base::report::percent;
use compresso_model::graph::stored;
use compresso_model::ops::conv::{CONV, CONV_TRANSPOSE};
use compresso_model::ops::matmul::{GEMM, MATMUL};
use compresso_model::ops::{is_quantized, quantized_node};
use compresso_model::{Attr, Graph, Model, Node, Stats};
use compresso_target::{Finding, Severity};
use std::collections::HashSet;

/// Models with fewer parameters are toys, of which none of this matters.
const SMALL: u64 = 10_000;
/// Vectors of the processors that models run on hold a multiple of so many channels.
const VECTOR: usize = 8;
/// Zeros among the weights by chance, and through rounding to integers.
const ZEROS: f64 = 0.3;
/// A part that is worth a word.
const PART: f64 = 0.25;
/// A layer that holds more of the parameters than all others.
const MOST: f64 = 0.6;

/// Findings for the whole model, each with what to do.
///
/// # Errors
/// What counting the model's costs reports.
pub fn pitfalls(model: &Model) -> Result<Vec<Finding>> {
    let stats = model.stats()?;
    if stats.params < SMALL {
        return Ok(Vec::new());
    }
    let graph = model.graph();
    let weights = Weights::of(graph)?;
    let all = [weights.zeros(), ragged(graph, &stats), depthwise(graph), floats_between(graph, &stats), one_layer(&stats)];
    Ok(all.into_iter().flatten().map(|message| Finding { severity: Severity::Advice, place: String::new(), message }).collect())
}

/// The weights of all layers.
struct Weights {
    count: usize,
    zero: usize,
}

impl Weights {
    fn of(graph: &Graph) -> Result<Self> {
        let mut all = Self { count: 0, zero: 0 };
        for s in stored(graph)? {
            if s.is_parameter() && s.constant.dims().len() > 1 && s.constant.element().is_float() {
                let values = s.constant.to_f32s()?;
                all.count += values.len();
                all.zero += values.iter().filter(|v| **v == 0.0).count();
            }
        }
        Ok(all)
    }
    fn zeros(&self) -> Option<String> {
        let share = self.zero as f64 / self.count.max(1) as f64;
        (share > ZEROS).then(|| {
            format!(
                "{} of the weights are zero, and are stored and multiplied like any other: prune(m, d, #{{ method: \"channels\" }}) makes layers \
                 smaller",
                percent(share)
            )
        })
    }
}

fn is_layer(node: &Node) -> bool {
    matches!(node.op.as_str(), CONV | CONV_TRANSPOSE | GEMM | MATMUL)
}

fn groups(node: &Node) -> i64 {
    match node.attrs.get("group") {
        Some(Attr::Int(n)) => *n,
        _ => 1,
    }
}

/// Channels of a layer's result.
fn channels(graph: &Graph, node: &Node) -> Option<usize> {
    let shape = graph.facts().ok()?.get(node.outputs.first()?)?.shape.clone()?;
    shape.get(1)?.known()
}

/// Layers whose channels fill vectors in part, as they are after pruning.
fn ragged(graph: &Graph, stats: &Stats) -> Option<String> {
    let (mut part, mut all, mut example) = (0, 0, None);
    for (node, layer) in graph.nodes().iter().zip(&stats.layers).filter(|(n, _)| n.op == CONV) {
        all += layer.cost.macs;
        // Few channels are the head's: as many as there are classes, or sides of a box.
        if let Some(n) = channels(graph, node).filter(|n| n % VECTOR != 0 && *n > 2 * VECTOR) {
            part += layer.cost.macs;
            example = example.or(Some(n));
        }
    }
    let share = part as f64 / all.max(1) as f64;
    example.filter(|_| share > PART).map(|n| {
        format!(
            "layers with {} of the multiply-accumulates make channels, such as {n}, that are no multiple of {VECTOR}: vectors are filled in part. \
             prune(m, d, #{{ align: {VECTOR} }}) takes no longer for more channels",
            percent(share)
        )
    })
}

/// Depthwise layers, which wait for memory.
fn depthwise(graph: &Graph) -> Option<String> {
    let layers: Vec<&Node> = graph.nodes().iter().filter(|n| n.op == CONV).collect();
    let count = layers.iter().filter(|n| groups(n) > 1 && channels(graph, n) == usize::try_from(groups(n)).ok()).count();
    (count as f64 > PART * layers.len() as f64).then(|| {
        format!(
            "{count} of {} convolutions are depthwise: they wait for memory, so that fewer multiplications are not as much less time. \
             benchmark(m) says what they take",
            layers.len()
        )
    })
}

/// What a quantized model still computes in float.
fn floats_between(graph: &Graph, stats: &Stats) -> Option<String> {
    quantized_node(graph)?;
    // What a layer reads of computed values, not of stored ones.
    let constants: HashSet<&str> = stored(graph).ok()?.into_iter().map(|s| s.name).collect();
    let makers = graph.producers();
    let from_integers = |name: &str| makers.get(name).is_some_and(|&n| is_quantized(&graph.nodes()[n]));
    let (mut float, mut all) = (0, 0);
    for (node, layer) in graph.nodes().iter().zip(&stats.layers).filter(|(n, _)| is_layer(n)) {
        all += layer.cost.macs;
        let computed = node.inputs.iter().filter(|i| !i.is_empty() && !constants.contains(i.as_str()));
        if !computed.take(1).all(|i| from_integers(i)) {
            float += layer.cost.macs;
        }
    }
    // Integer layers of their own operators count as computed in integers.
    let integers: u64 =
        graph.nodes().iter().zip(&stats.layers).filter(|(n, _)| is_quantized(n) && !is_layer(n)).map(|(_, l)| l.cost.macs).sum();
    let share = float as f64 / (all + integers).max(1) as f64;
    (share > PART).then(|| {
        format!(
            "{} of the multiply-accumulates of this quantized model are computed in float: the file is smaller, a run is hardly faster. quantize with \
             calibration images and activations: true, for this target",
            percent(share)
        )
    })
}

/// One layer that holds most of the parameters.
fn one_layer(stats: &Stats) -> Option<String> {
    let largest = stats.layers.iter().max_by_key(|l| l.params)?;
    let share = largest.params as f64 / stats.params.max(1) as f64;
    let all: u64 = stats.layers.iter().map(|l| l.cost.macs).sum();
    let work = largest.cost.macs as f64 / all.max(1) as f64;
    (share > MOST && work < PART).then(|| {
        format!(
            "'{}' holds {} of the parameters and does {} of the work: making it smaller makes the file smaller, and no run faster",
            largest.name,
            percent(share),
            percent(work)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_base::context::Context;
    use compresso_base::operation::Operation;
    use compresso_compress::prune::{Granularity, Prune};
    use compresso_compress::quantize::Quantize;
    use compresso_learn::data::{DataOptions, dataset};
    use compresso_model::zoo::{ZooOptions, build};

    fn zoo(name: &str, width: f64) -> Model {
        build(name, &ZooOptions { width: Some(width), image_size: Some([64, 64]), ..ZooOptions::default() }).unwrap()
    }
    fn told(model: &Model) -> Vec<String> {
        pitfalls(model).unwrap().into_iter().map(|f| f.message).collect()
    }

    #[test]
    fn a_plain_model_has_none_and_each_mistake_is_told() {
        let ctx = Context::new();
        let model = zoo("yolov8n", 0.25);
        assert_eq!(told(&model), [""; 0]);
        let sparse = Prune { method: Granularity::Weights, ratio: 0.6, ..Prune::default() }.run((&model, None), &ctx).unwrap().model;
        let lines = told(&sparse);
        assert!(lines.len() == 1 && lines[0].contains("of the weights are zero"), "{lines:?}");
        let ragged = Prune { ratio: 0.3, align: 1, ..Prune::default() }.run((&model, None), &ctx).unwrap().model;
        let lines = told(&ragged);
        assert!(lines.iter().any(|l| l.contains("no multiple of 8")), "{lines:?}");
        let aligned = Prune { ratio: 0.3, ..Prune::default() }.run((&model, None), &ctx).unwrap().model;
        assert_eq!(told(&aligned), [""; 0]);
        let data = dataset("shapes", &DataOptions { images: Some(8), size: Some(64.into()), ..DataOptions::default() }, &ctx).unwrap();
        let quantize = |activations| {
            let options = Quantize { images: 4, score: false, activations, ..Quantize::default() };
            options.apply(&model, Some(&data), &ctx).unwrap()
        };
        assert_eq!(told(&quantize(true)), [""; 0]);
        let lines = told(&quantize(false));
        assert!(lines.len() == 1 && lines[0].contains("computed in float"), "{lines:?}");
        let lines = told(&zoo("mobilenet_v2", 0.5));
        assert!(lines.iter().any(|l| l.contains("are depthwise")), "{lines:?}");
    }
}
