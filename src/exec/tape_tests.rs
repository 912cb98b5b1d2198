//! Gradients by rules against those of candle, on graphs as they are written and as training runs them.

use crate::{Params, Run, run, run_with_tape};
use candle_core::{Device, Tensor, Var};
use compresso_model::ops::RunMode;
use compresso_model::passes::pipelines;
use compresso_model::{Attr, Constant, Element, Fact, Graph, GraphBuilder, Node, Value};
use std::collections::HashMap;

const SIZE: [usize; 4] = [3, 4, 6, 5];

fn values(dims: &[usize], seed: usize) -> Tensor {
    let n: usize = dims.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((i * 37 + seed * 101) % 97) as f32 / 48.0 - 1.0).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// `x · w + BatchNormalization`, whose output is given; a graph of what `rest` makes of it.
fn graph(rest: impl Fn(&mut GraphBuilder, &str) -> String) -> Graph {
    let mut b = GraphBuilder::new("g", 17);
    let x = b.input("x", Fact::known(Element::F32, &SIZE));
    let mut constant = |name: &str, dims: &[usize], seed: usize| b.constant(name, Constant::from_tensor(&values(dims, seed)).unwrap());
    let inputs: Vec<String> = ["gamma", "beta", "mean", "var"].iter().enumerate().map(|(i, n)| constant(n, &[4], i)).collect();
    let w = constant("w", &SIZE, 9);
    let y = b.op("Mul", &[&x, &w]);
    let inputs = std::iter::once(y.as_str()).chain(inputs.iter().map(String::as_str));
    let y = b.node(Node::new("BatchNormalization", "", inputs, [""]));
    let z = rest(&mut b, &y);
    b.output(&z);
    b.finish().unwrap()
}

fn assert_gradients(what: &str, g: &Graph) {
    let names = ["w", "gamma", "beta", "own"];
    let vars: Params = names
        .iter()
        .filter_map(|n| Some((n.to_string(), Var::from_tensor(&g.constant(n)?.tensor(&Device::Cpu).unwrap()).unwrap().into_inner())))
        .collect();
    let feeds = HashMap::from([("x".to_string(), Value::plain(values(&SIZE, 5)).unwrap())]);
    let loss = |outputs: &crate::Outputs| {
        let parts = outputs.values().map(|v| (&v.tensor * values(v.dims(), 7)).unwrap().sum_all().unwrap());
        parts.reduce(|a, b| (a + b).unwrap()).unwrap()
    };
    let mode = || RunMode { training: true, ..RunMode::default() };
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let candle = run(g, &feeds, Run { params: Some(&vars), mode: Some(&mode()), ..Run::default() }).unwrap();
    let expected = loss(&candle).backward().unwrap();
    for g in [g, &pipelines::TRAINING.run(g).unwrap().graph] {
        let mode = mode();
        let (outputs, tape) = run_with_tape(g, &feeds, Run { params: Some(&vars), mode: Some(&mode), ..Run::default() }).unwrap();
        for (a, b) in outputs.values().zip(candle.values()) {
            assert_eq!(flat(&a.tensor), flat(&b.tensor), "{what}");
        }
        let mut store = loss(&outputs).backward().unwrap();
        let found = tape.backward(&mut store, None).unwrap();
        for (name, var) in &vars {
            let Some(found) = found.get(name) else {
                // The pipeline has made it part of a node.
                assert!(g.constant(name).is_none(), "{what}: {name} has no gradient");
                continue;
            };
            let (a, b) = (flat(found), flat(expected.get(var).unwrap()));
            let largest = b.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() <= 1e-4 * largest, "{what}: {name} {a} {b}");
            }
        }
    }
}

fn joined(g: &Graph) -> usize {
    let prepared = pipelines::TRAINING.run(g).unwrap().graph;
    prepared.nodes().iter().filter(|n| n.op == "BatchNormActivation").count()
}

#[test]
fn an_activation_joins_the_norm_before_it_where_nothing_else_reads_that() {
    let bound = |b: &mut GraphBuilder, v: f32| {
        b.node(Node::new("Constant", "", Vec::<String>::new(), [""]).attr("value", Attr::Tensor(Constant::scalar(v))))
    };
    let clip = graph(|b, y| {
        let (low, high) = (bound(b, -0.5), bound(b, 0.75));
        b.op("Clip", &[y, &low, &high])
    });
    let swish = graph(|b, y| {
        let s = b.op("Sigmoid", &[y]);
        b.op("Mul", &[y, &s])
    });
    for (what, g) in
        [("Relu", graph(|b, y| b.op("Relu", &[y]))), ("HardSwish", graph(|b, y| b.op("HardSwish", &[y]))), ("Clip", clip), ("Swish", swish)]
    {
        assert_eq!(joined(&g), 1, "{what}");
        assert_gradients(what, &g);
    }
    let read_twice = graph(|b, y| {
        let z = b.op("Relu", &[y]);
        b.op("Add", &[&z, y])
    });
    let given = graph(|b, y| {
        b.output(y);
        b.op("Relu", &[y])
    });
    let as_bound = graph(|b, y| {
        let x = b.constant("own", Constant::from_tensor(&values(&SIZE, 3)).unwrap());
        b.op("Max", &[&x, y])
    });
    for (what, g) in
        [("read twice", read_twice), ("an output", given), ("another operator", as_bound), ("Tanh", graph(|b, y| b.op("Tanh", &[y])))]
    {
        assert_eq!(joined(&g), 0, "{what}");
        assert_gradients(what, &g);
    }
}

#[test]
fn rules_give_the_gradients_of_candle() {
    for op in ["Relu", "Sigmoid", "HardSigmoid", "Softplus", "Erf", "Elu", "Selu", "LeakyRelu", "GlobalAveragePool"] {
        assert_gradients(op, &graph(|b, y| b.op(op, &[y])));
    }
    for dims in [[3, 4, 1, 1], [3, 1, 1, 1], [3, 4, 6, 5], [1, 4, 1, 1], [3, 4, 6, 1], [1, 1, 1, 1]] {
        for own_first in [true, false] {
            let g = graph(|b, y| {
                let own = b.constant("own", Constant::from_tensor(&values(&dims, 3)).unwrap());
                if own_first { b.op("Mul", &[&own, y]) } else { b.op("Mul", &[y, &own]) }
            });
            assert_gradients(&format!("Mul {dims:?}"), &g);
        }
    }
    assert_gradients("squares", &graph(|b, y| b.op("Mul", &[y, y])));
    let gate = graph(|b, y| {
        let s = b.op("GlobalAveragePool", &[y]);
        let s = b.op("Sigmoid", &[&s]);
        let z = b.op("Mul", &[y, &s]);
        b.op("Add", &[&z, y])
    });
    assert_gradients("a gate", &gate);
    let turned = graph(|b, y| {
        let t = b.node(Node::new("Transpose", "", [y], [""]).ints("perm", &[0, 2, 3, 1]));
        let f = b.node(Node::new("Flatten", "", [t.as_str()], [""]).int("axis", 2));
        let shape = b.constant("shape", Constant::from_tensor(&Tensor::new(&[3i64, 6, 5, 4], &Device::Cpu).unwrap()).unwrap());
        let r = b.op("Reshape", &[&f, &shape]);
        let back = b.node(Node::new("Transpose", "", [r.as_str()], [""]).ints("perm", &[0, 3, 1, 2]));
        let z = b.op("Relu", &[&back]);
        b.op("Add", &[&z, y])
    });
    assert_gradients("turned", &turned);
    let trained_bound = graph(|b, y| {
        let own = b.constant("own", Constant::scalar(0.25));
        b.op("Clip", &[y, "", &own])
    });
    assert_gradients("a trained bound", &trained_bound);
    let pool = graph(|b, y| {
        b.node(Node::new("MaxPool", "", [y], [""]).ints("kernel_shape", &[3, 3]).ints("strides", &[2, 2]).ints("pads", &[1, 1, 1, 1]))
    });
    assert_gradients("MaxPool", &pool);
}
