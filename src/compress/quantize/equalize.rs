//! Cross-layer equalization: factors moved between two convolutions so that their channels' weights are alike.
//!
//! Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", 4.1. Between the two may stand what
//! keeps positive factors (Relu, LeakyRelu, PRelu, pools). Channel `c` of the first is divided by, and of the second multiplied with,
//! `√(r₁ / r₂)`, where `r₁` and `r₂` are the largest magnitudes of the channel's weights in the two, until nothing changes.

use compresso_base::error::Result;
use compresso_model::ops::conv::CONV;
use compresso_model::{Constant, Element, Graph, Node, Patch, ops};
use std::collections::{BTreeMap, HashMap};

/// Most rounds over all pairs.
const ROUNDS: usize = 20;
/// A factor this near to one is one.
const SETTLED: f32 = 1e-3;

/// Two convolutions, the second reading what the first makes.
struct Pair {
    first: usize,
    second: usize,
}

/// The graph with equalized weights, which computes the same, and the number of pairs.
///
/// # Errors
/// Whatever the patch reports.
pub(super) fn equalize(graph: &Graph) -> Result<(Graph, usize)> {
    let pairs = pairs(graph)?;
    let mut values: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for node in pairs.iter().flat_map(|p| [p.first, p.second]).map(|i| &graph.nodes()[i]) {
        for name in [node.input(1), node.input(2)].into_iter().flatten() {
            if let (false, Some(c)) = (values.contains_key(name), graph.constant(name)) {
                values.insert(name.to_string(), c.to_f32s()?);
            }
        }
    }
    for _ in 0..ROUNDS {
        let mut settled = true;
        for pair in &pairs {
            let (first, second) = (&graph.nodes()[pair.first], &graph.nodes()[pair.second]);
            let (rows, columns) = (Channels::made(graph, first), Channels::read(graph, second));
            let (r1, r2) = (rows.largest(&values[&first.inputs[1]]), columns.largest(&values[&second.inputs[1]]));
            let factor = |(a, b): (f32, f32)| {
                let s = (a / b).sqrt();
                if a > 0.0 && b > 0.0 && s.is_normal() { s.clamp(1e-4, 1e4) } else { 1.0 }
            };
            let factors: Vec<f32> = r1.into_iter().zip(r2).map(factor).collect();
            settled &= factors.iter().all(|s| (s - 1.0).abs() < SETTLED);
            rows.scale(values.get_mut(&first.inputs[1]), |c| 1.0 / factors[c]);
            if let Some(bias) = first.input(2).and_then(|b| values.get_mut(b)) {
                bias.iter_mut().zip(&factors).for_each(|(b, s)| *b /= s);
            }
            columns.scale(values.get_mut(&second.inputs[1]), |c| factors[c]);
        }
        if settled {
            break;
        }
    }
    let mut patch = Patch::new(graph);
    for (name, values) in values {
        if let Some(c) = graph.constant(&name) {
            patch.set_constant(name, Constant::floats(c.dims(), &values)?);
        }
    }
    Ok((patch.apply()?, pairs.len()))
}

/// Which channel each weight of a convolution belongs to: runs of `run` weights take turns over `channels`.
struct Channels {
    channels: usize,
    run: usize,
}

impl Channels {
    /// Of what it makes.
    fn made(graph: &Graph, node: &Node) -> Self {
        let dims = dims(graph, node);
        Self { channels: dims[0], run: dims[1..].iter().product() }
    }
    /// Of what it reads; a depthwise convolution reads each channel by weights of its own.
    fn read(graph: &Graph, node: &Node) -> Self {
        let dims = dims(graph, node);
        let groups = groups(node);
        if groups == 1 {
            return Self { channels: dims[1], run: dims[2..].iter().product() };
        }
        Self { channels: groups, run: dims[0] / groups * dims[1..].iter().product::<usize>() }
    }
    fn largest(&self, values: &[f32]) -> Vec<f32> {
        let mut found = vec![0f32; self.channels];
        for (i, run) in values.chunks(self.run.max(1)).enumerate() {
            let c = i % self.channels;
            found[c] = run.iter().fold(found[c], |m, v| m.max(v.abs()));
        }
        found
    }
    fn scale(&self, values: Option<&mut Vec<f32>>, factor: impl Fn(usize) -> f32) {
        for (i, run) in values.into_iter().flat_map(|v| v.chunks_mut(self.run.max(1))).enumerate() {
            let s = factor(i % self.channels);
            run.iter_mut().for_each(|v| *v *= s);
        }
    }
}

fn dims<'g>(graph: &'g Graph, node: &Node) -> &'g [usize] {
    graph.constant(&node.inputs[1]).map_or(&[], Constant::dims)
}

fn groups(node: &Node) -> usize {
    node.get_int("group", 1).ok().and_then(|g| usize::try_from(g).ok()).unwrap_or(1).max(1)
}

fn pairs(graph: &Graph) -> Result<Vec<Pair>> {
    let readers = graph.consumers();
    let alone = |name: &str| !graph.is_output(name) && readers.get(name).is_some_and(|r| r.len() == 1);
    let mut found = Vec::new();
    for (first, node) in graph.nodes().iter().enumerate().filter(|(_, n)| is_plain(graph, n, &readers)) {
        let mut value = node.outputs[0].as_str();
        while alone(value) {
            let next = readers[value][0];
            let reader = &graph.nodes()[next];
            if ops::find(reader)?.homogeneous && reader.input(0) == Some(value) {
                value = reader.outputs[0].as_str();
                continue;
            }
            let whole = Channels::made(graph, node).channels;
            if is_plain(graph, reader, &readers) && reader.input(0) == Some(value) && Channels::read(graph, reader).channels == whole {
                found.push(Pair { first, second: next });
            }
            break;
        }
    }
    Ok(found)
}

/// Whether a node is a convolution with finite weights and bias of its own, and one group or as many as channels.
fn is_plain(graph: &Graph, node: &Node, readers: &HashMap<&str, Vec<usize>>) -> bool {
    let own = |name: &str| {
        let floats = |c: &Constant| c.element() == Element::F32 && c.to_f32s().is_ok_and(|v| v.iter().all(|v| v.is_finite()));
        readers.get(name).is_some_and(|r| r.len() == 1) && graph.constant(name).is_some_and(floats)
    };
    if !node.is(CONV) || !node.input(1).is_some_and(own) || node.input(2).is_some_and(|b| !own(b)) {
        return false;
    }
    let dims = dims(graph, node);
    dims.len() >= 3 && (groups(node) == 1 || dims[1] == 1 && dims[0].is_multiple_of(groups(node)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use compresso_exec::{Run, run};
    use compresso_model::{Fact, GraphBuilder, Value};

    /// A convolution, Relu, a depthwise convolution, LeakyRelu and a pool, a last convolution; channels a thousandfold apart.
    fn net() -> Graph {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 3, 8, 8]));
        let mut weights = |name: &str, dims: &[usize]| {
            let each = dims[1..].iter().product::<usize>().max(1);
            let size = |i: usize| 10f32.powi((i / each % 4) as i32 - 2);
            let value = |i: usize| ((i * 37 + 11) % 23) as f32 / 23.0 - 0.4;
            let values: Vec<f32> = (0..dims.iter().product()).map(|i| value(i) * size(i)).collect();
            b.constant(name, Constant::floats(dims, &values).unwrap())
        };
        let names = [weights("w1", &[8, 3, 3, 3]), weights("b1", &[8]), weights("w2", &[8, 1, 3, 3]), weights("w3", &[4, 8, 1, 1])];
        let y = b.node(Node::new("Conv", "one", [x.as_str(), &names[0], &names[1]], [""]).ints("pads", &[1; 4]));
        let y = b.op("Relu", &[&y]);
        let y = b.node(Node::new("Conv", "two", [y.as_str(), &names[2]], [""]).ints("pads", &[1; 4]).int("group", 8));
        let y = b.op("LeakyRelu", &[&y]);
        let y = b.op("GlobalAveragePool", &[&y]);
        let y = b.node(Node::new("Conv", "three", [y.as_str(), &names[3]], ["y"]));
        b.output(&y);
        b.finish().unwrap()
    }

    #[test]
    fn channels_become_alike_and_the_outputs_stay() {
        let g = net();
        let (even, pairs) = equalize(&g).unwrap();
        assert_eq!(pairs, 2);
        let x: Vec<f32> = (0..192u8).map(|i| f32::from(i) / 99.0 - 0.9).collect();
        let x = Value::plain(Tensor::from_vec(x, (1, 3, 8, 8), &Device::Cpu).unwrap()).unwrap();
        let of = |g: &Graph| run(g, &HashMap::from([("x".to_string(), x.clone())]), Run::default()).unwrap()["y"].to_f32s().unwrap();
        let (a, b) = (of(&g), of(&even));
        let top = a.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * top), "{a:?} {b:?}");
        // Each channel is as large where it is made as where it is read.
        let sides = |g: &Graph, first: &str, second: &str| {
            let weight = |n: &Node| g.constant(&n.inputs[1]).unwrap().to_f32s().unwrap();
            let [first, second] = [first, second].map(|n| &g.nodes()[g.find(n).unwrap()]);
            let made = Channels::made(g, first).largest(&weight(first));
            made.into_iter().zip(Channels::read(g, second).largest(&weight(second)))
        };
        assert!(sides(&g, "two", "three").any(|(a, b)| !(0.1..10.0).contains(&(a / b))));
        for (first, second) in [("one", "two"), ("two", "three")] {
            for (a, b) in sides(&even, first, second) {
                assert!((a / b - 1.0).abs() < 0.05, "{first} {a}, {second} {b}");
            }
        }
    }
}
