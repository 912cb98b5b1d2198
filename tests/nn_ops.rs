//! Outputs and gradients of neural-network operators against PyTorch's (tests/fixtures/nn/generate.py).

use candle_core::{Device, Tensor, Var};
use compresso::model::ops::{Exec, RunMode, find};
use compresso::model::{Attr, Node, Value};
use serde_json::Value as Json;

const CASES: &str = include_str!("fixtures/nn/cases.json");

fn tensor(j: &Json) -> Tensor {
    let shape: Vec<usize> = j["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
    let data: Vec<f32> = j["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

fn attr(j: &Json) -> Attr {
    match j {
        Json::String(s) => Attr::text(s),
        Json::Number(n) if n.is_i64() => Attr::Int(n.as_i64().unwrap()),
        Json::Number(n) => Attr::Float(n.as_f64().unwrap() as f32),
        Json::Array(v) => Attr::Ints(v.iter().map(|x| x.as_i64().unwrap()).collect()),
        other => panic!("{other}"),
    }
}

/// The largest difference in units of what is tolerated: 2e-5 of the value plus 2e-5 of the largest value.
fn distance(got: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(got.dims(), expected.dims());
    let (got, expected) = (got.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    let largest = expected.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    got.iter()
        .zip(&expected)
        .map(|(g, e)| (g - e).abs() / (2e-5 * (e.abs() + largest)))
        .fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

#[test]
fn outputs_and_gradients_are_those_of_pytorch() {
    let cases: Vec<Json> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() > 60);
    let mut failures = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let inputs: Vec<Tensor> = case["inputs"].as_array().unwrap().iter().map(tensor).collect();
        let names: Vec<String> = (0..inputs.len()).map(|i| format!("in{i}")).collect();
        let op = case["op"].as_str().unwrap();
        let (domain, op) = op.split_once('.').unwrap_or(("", op));
        let mut node = Node::new(op, name, names, ["y"]);
        node.domain = domain.to_string();
        for (key, value) in case["attrs"].as_object().unwrap() {
            node = node.attr(key, attr(value));
        }
        let grads = case["grads"].as_array().unwrap();
        let vars: Vec<Option<Var>> = inputs.iter().zip(grads).map(|(t, g)| (!g.is_null()).then(|| Var::from_tensor(t).unwrap())).collect();
        let values: Vec<Option<Value>> = vars
            .iter()
            .zip(&inputs)
            .map(|(v, t)| Some(Value::plain(v.as_ref().map_or(t.clone(), |v| v.as_tensor().clone())).unwrap()))
            .collect();
        let mode = RunMode { training: case["training"].as_bool().unwrap(), ..RunMode::default() };
        let exec = Exec::new(&node, case["opset"].as_i64().unwrap(), &values, &mode);
        let y = match (find(&node).unwrap().forward)(&exec) {
            Ok(out) => out[0].tensor.clone(),
            Err(e) => {
                failures.push(format!("{name}: {e}"));
                continue;
            }
        };
        let mut compare = |what: String, got: &Tensor, expected: &Json| {
            let d = distance(got, &tensor(expected));
            if d.is_nan() || d > 1.0 {
                failures.push(format!("{name}: {what} is {d:.1} times the tolerance away"));
            }
        };
        compare("output".into(), &y, &case["output"]);
        let loss = (&y * tensor(&case["loss"])).unwrap().sum_all().unwrap();
        let store = loss.backward().unwrap();
        for (i, (var, grad)) in vars.iter().zip(grads).enumerate() {
            if let Some(var) = var {
                compare(format!("gradient of input {i}"), store.get(var).unwrap(), grad);
            }
        }
        if let Some(running) = case.get("running") {
            let updates = mode.updates.into_inner().unwrap();
            assert_eq!(updates.iter().map(|u| u.0.as_str()).collect::<Vec<_>>(), ["in3", "in4"]);
            for (update, expected) in updates.iter().zip(running.as_array().unwrap()) {
                compare(format!("running {}", update.0), &update.1, expected);
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
