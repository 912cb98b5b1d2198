//! The objective against PyTorch's, and what it is minimised to.

use super::*;
use crate::probe::row_major;
use crate::quantize::Quantize;
use compresso_model::{Element, Fact, GraphBuilder};
use serde_json::Value as Json;

/// tests/fixtures/quantize/adaround.py
const CASES: &str = include_str!("../../../../tests/fixtures/quantize/adaround.json");

fn floats(case: &Json, name: &str) -> Vec<f32> {
    case[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn sizes(case: &Json, name: &str) -> Vec<usize> {
    case[name].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

/// The layer of a case as a graph.
fn graph(case: &Json) -> Graph {
    let mut b = GraphBuilder::new("g", 17);
    let dims = sizes(case, "x_dims");
    let x = b.input("x", Fact::known(Element::F32, &dims));
    let w = b.constant("w", Constant::floats(&sizes(case, "w_dims"), &floats(case, "weight")).unwrap());
    let node = if dims.len() == 2 {
        Node::new("Gemm", "layer", [x.as_str(), &w], ["y"]).int("transB", 1)
    } else {
        let ints = |name: &str| sizes(&case["attributes"], name).into_iter().map(|n| n as i64).collect::<Vec<_>>();
        let node = Node::new("Conv", "layer", [x.as_str(), &w], ["y"]).int("group", case["attributes"]["group"].as_i64().unwrap());
        ["pads", "strides", "dilations"].into_iter().fold(node, |n, name| n.ints(name, &ints(name)))
    };
    let y = b.node(node);
    b.output(&y);
    b.finish().unwrap()
}

/// The groups of a case's weight as problems of rounding.
fn problems(case: &Json) -> Vec<Problem> {
    let g = graph(case);
    let node = &g.nodes()[0];
    let matrix = Matrix::of(&g, node).unwrap().unwrap();
    let weights = matrix.pack(&floats(case, "weight"));
    let layer = WeightedNode { node: 0, weight: "w".into(), axis: 0, channel_scales: true, scales: floats(case, "scale") };
    let layer = Layer { layer: &layer, node, matrix, weights };
    let dims = sizes(case, "x_dims");
    let rows = |name: &str| {
        let values = floats(case, name);
        let seen = Seen { name: "x", dims: &dims, strides: &row_major(&dims), values: &values };
        layer.rows(&seen, 0, 1).unwrap()
    };
    let mut sums = layer.nothing().unwrap();
    for (i, (x, r)) in rows("exact").iter().zip(rows("rounded")).enumerate() {
        layer.add(&mut sums[i], i, x, &r).unwrap();
    }
    let grid = Grid::INT8.around_zero(4);
    sums.iter().enumerate().map(|(i, m)| layer.problem(i, m, grid).unwrap()).collect()
}

fn cases() -> Vec<Json> {
    serde_json::from_str(CASES).unwrap()
}

#[test]
fn the_objective_and_its_gradient_are_pytorchs() {
    for case in cases() {
        let (v, expected) = (floats(&case, "v"), floats(&case, "gradient"));
        let number = |name: &str| case[name].as_f64().unwrap();
        let (mut value, mut gradient) = (0.0, Vec::new());
        for (p, v) in problems(&case).iter().zip(v.chunks(v.len() / problems(&case).len())) {
            let found = p.objective(v, number("beta"), number("lam")).unwrap();
            value += found.value;
            gradient.extend(found.gradient);
        }
        let close = |a: f64, b: f64| (a - b).abs() <= 2e-5 * b.abs().max(1.0);
        let theirs = number("reconstruction") + number("lam") * number("regularizer");
        assert!(close(value, theirs), "{}: {value}, {theirs}", case["name"]);
        assert_eq!(gradient.len(), expected.len());
        for (a, b) in gradient.iter().zip(&expected) {
            assert!(close(f64::from(*a), f64::from(*b)), "{}: {a} is {b} in PyTorch", case["name"]);
        }
    }
}

#[test]
fn rounding_beats_the_nearest_and_is_nearly_the_best_there_is() {
    let ctx = Context::new();
    let (mut ours, mut nearest) = (0.0, 0.0);
    for case in cases() {
        for p in problems(&case) {
            let found = p.solve(STEPS, &ctx).unwrap();
            let (best, plain) = (p.error(&found).unwrap(), p.error(&p.nearest()).unwrap());
            assert!(best <= plain, "{}: {best} from {plain}", case["name"]);
            assert!(found.iter().all(|q| q.fract() == 0.0 && q.abs() <= 7.0));
            (ours, nearest) = (ours + best, nearest + plain);
        }
    }
    assert!(ours < 0.7 * nearest, "{ours} of {nearest}");
    // Nine weights, each up or down: all ways of rounding can be tried.
    let case = cases().into_iter().find(|c| c["name"] == "depthwise").unwrap();
    for p in problems(&case) {
        let floor: Vec<f32> = p.weights.iter().map(|w| (w / p.scales[0]).floor()).collect();
        let way =
            |bits: u32| -> Vec<f32> { floor.iter().enumerate().map(|(i, q)| (q + ((bits >> i) & 1) as f32).clamp(-7.0, 7.0)).collect() };
        let least = (0..1 << 9).map(|bits| p.error(&way(bits)).unwrap()).fold(f64::INFINITY, f64::min);
        let found = p.error(&p.solve(STEPS, &ctx).unwrap()).unwrap();
        assert!(found <= 1.1 * least, "{found}, the best way is {least}");
    }
}

#[test]
fn a_biased_input_is_taken_out_by_the_bias() {
    // A layer whose input comes out 0.1 too large everywhere.
    let case = cases().into_iter().find(|c| c["name"] == "product").unwrap();
    let g = graph(&case);
    let node = &g.nodes()[0];
    let matrix = Matrix::of(&g, node).unwrap().unwrap();
    let weights = matrix.pack(&floats(&case, "weight"));
    let weighted = WeightedNode { node: 0, weight: "w".into(), axis: 0, channel_scales: true, scales: vec![1e-4] };
    let layer = Layer { layer: &weighted, node, matrix, weights: weights.clone() };
    let exact = floats(&case, "exact");
    let moved: Vec<f32> = exact.iter().map(|x| x + 0.1).collect();
    let mut sums = layer.nothing().unwrap();
    layer.add(&mut sums[0], 0, &exact, &moved).unwrap();
    let settings = Quantize::default().settings(false).unwrap();
    let settings = Settings { weights: Grid::INT16, ..settings };
    let mut patch = Patch::new(&g);
    layer.choose(&mut patch, &g, &sums, &settings, Choices { rounding: false, bias: true }, &Context::new()).unwrap();
    let corrected = patch.apply().unwrap();
    let bias = corrected.constant(&corrected.nodes()[0].inputs[2]).unwrap().to_f32s().unwrap();
    for (o, b) in bias.iter().enumerate() {
        let expected = -0.1 * weights[o * 6..(o + 1) * 6].iter().sum::<f32>();
        assert!((b - expected).abs() < 2e-3, "{b} for {expected}");
    }
}
