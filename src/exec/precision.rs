//! Mixed precision: short numbers around convolutions and matrix products.
//!
//! On the CPU, whose kernels are float32, they are imitated by rounding what goes in and what comes out, forward and
//! backward; other devices compute in them.

use candle_core::{DType, Tensor};
use compresso_base::error::Result;
use compresso_model::ops::{self, MixedPrecision, QuantRule};
use compresso_model::{Element, Node, Value};

/// The type in which a node reads and gives its numbers, where it is one of those that are shortened: layers.
pub(super) fn short_of(precision: MixedPrecision, node: &Node) -> Option<DType> {
    precision.short().filter(|_| ops::find(node).is_ok_and(|op| op.quant == QuantRule::Weighted))
}

/// The float32 values among `inputs` in short numbers.
///
/// # Errors
/// Whatever a conversion reports.
pub(super) fn shortened(inputs: &[Option<Value>], short: DType) -> Result<Vec<Option<Value>>> {
    let element = if short == DType::F16 { Element::F16 } else { Element::BF16 };
    let one = |v: &Option<Value>| match v {
        Some(v) if v.tensor.dtype() == DType::F32 => Ok(Some(Value::new(element, v.tensor.to_dtype(short)?)?)),
        other => Ok(other.clone()),
    };
    inputs.iter().map(one).collect()
}

/// Short values as float32.
///
/// # Errors
/// Whatever a conversion reports.
pub(super) fn widened(values: Vec<Value>) -> Result<Vec<Value>> {
    let one = |v: Value| match v.tensor.dtype() {
        DType::F16 | DType::BF16 => Value::new(Element::F32, v.tensor.to_dtype(DType::F32)?),
        _ => Ok(v),
    };
    values.into_iter().map(one).collect()
}

/// The float32 values rounded to what short numbers can hold.
///
/// # Errors
/// Whatever a conversion reports.
pub(super) fn rounded(values: &[Option<Value>], short: DType) -> Result<Vec<Option<Value>>> {
    values.iter().map(|v| v.as_ref().map(|v| rounded_value(v, short)).transpose()).collect()
}

/// # Errors
/// Whatever a conversion reports.
pub(super) fn rounded_values(values: Vec<Value>, short: DType) -> Result<Vec<Value>> {
    values.iter().map(|v| rounded_value(v, short)).collect()
}

fn rounded_value(v: &Value, short: DType) -> Result<Value> {
    if v.tensor.dtype() == DType::F32 { v.with(round(&v.tensor, short)?) } else { Ok(v.clone()) }
}

/// # Errors
/// Whatever a conversion reports.
pub(super) fn round(t: &Tensor, short: DType) -> Result<Tensor> {
    Ok(t.to_dtype(short)?.to_dtype(DType::F32)?)
}

#[cfg(test)]
mod tests {
    use crate::{Params, Run, run, run_with_tape};
    use candle_core::{DType, Device, Tensor, Var};
    use compresso_model::ops::{MixedPrecision, RunMode};
    use compresso_model::{Constant, Dim, Element, Fact, Graph, GraphBuilder, Node, Value};
    use std::collections::HashMap;

    fn numbers(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin()).collect()
    }

    /// A convolution with bias, an activation, a linear layer.
    fn graph() -> Graph {
        let mut g = GraphBuilder::new("short", 17);
        let shape = [2, 3, 8, 8].map(Dim::Known).to_vec();
        let x = g.input("x", Fact::new(Element::F32, shape));
        let w = g.constant("w", Constant::floats(&[4, 3, 3, 3], &numbers(108, 0.7)).unwrap());
        let b = g.constant("b", Constant::floats(&[4], &numbers(4, 1.3)).unwrap());
        let y = g.node(Node::new("Conv", "conv", [x, w, b], [""]).ints("pads", &[1; 4]));
        let y = g.node(Node::new("Relu", "relu", [y], [""]));
        let y = g.node(Node::new("Flatten", "flat", [y], [""]));
        let m = g.constant("m", Constant::floats(&[256, 5], &numbers(1280, 0.31)).unwrap());
        let y = g.node(Node::new("MatMul", "linear", [y, m], ["y"]));
        g.output(&y);
        g.finish().unwrap()
    }

    /// The method of mixed precision by candle's gradients: with its own short types, or with float32 sums between short
    /// numbers, as hardware has them.
    fn by_candle(x: &Tensor, v: &[Var], dtype: DType, real: bool) -> Tensor {
        let short = |t: &Tensor| {
            let t = t.to_dtype(dtype).unwrap();
            if real { t } else { t.to_dtype(DType::F32).unwrap() }
        };
        let long = |t: Tensor| t.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
        let [w, b, m] = [&v[0], &v[1], &v[2]].map(|t| short(t.as_tensor()));
        let y = short(x).conv2d(&w, 1, 1, 1, 1).unwrap();
        let y = long(y.broadcast_add(&b.reshape((1, 4, 1, 1)).unwrap()).unwrap());
        let y = y.relu().unwrap().flatten_from(1).unwrap();
        long(short(&y).matmul(&m).unwrap())
    }

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (a, b) = (flat(a), flat(b));
        let size = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size
    }

    #[test]
    fn imitated_short_numbers_are_those_of_short_types() {
        let graph = graph();
        let x = Tensor::from_vec(numbers(384, 0.17), (2, 3, 8, 8), &Device::Cpu).unwrap();
        let upstream = Tensor::from_vec(numbers(10, 2.1), (2, 5), &Device::Cpu).unwrap();
        let names = ["w", "b", "m"];
        let vars: Vec<Var> =
            names.iter().map(|n| Var::from_tensor(&graph.constant(n).unwrap().tensor(&Device::Cpu).unwrap()).unwrap()).collect();
        let params: Params = names.iter().zip(&vars).map(|(n, v)| ((*n).to_string(), v.as_tensor().clone())).collect();
        let feeds = HashMap::from([("x".to_string(), Value::plain(x.clone()).unwrap())]);
        let exact = run(&graph, &feeds, Run::default()).unwrap()["y"].tensor.clone();
        for (precision, dtype, step) in [(MixedPrecision::Float16, DType::F16, 1e-3), (MixedPrecision::Bfloat16, DType::BF16, 8e-3)] {
            let mode = RunMode { training: true, precision, ..RunMode::default() };
            let options = Run { params: Some(&params), mode: Some(&mode), ..Run::default() };
            let (outputs, tape) = run_with_tape(&graph, &feeds, options).unwrap();
            let mut store = (&outputs["y"].tensor * &upstream).unwrap().sum_all().unwrap().backward().unwrap();
            let gradients = tape.backward(&mut store, None).unwrap();
            // Candle multiplies matrices of bfloat16 on other devices only.
            let real = (dtype == DType::F16).then_some((true, 20.0 * step));
            for (real, most) in [(false, step)].into_iter().chain(real) {
                let theirs = by_candle(&x, &vars, dtype, real);
                let d = difference(&outputs["y"].tensor, &theirs);
                assert!(d < most, "{precision}: {d}");
                let store = (&theirs * &upstream).unwrap().sum_all().unwrap().backward().unwrap();
                for (name, var) in names.iter().zip(&vars) {
                    let d = difference(&gradients[*name], store.get(var.as_tensor()).unwrap());
                    assert!(d < most, "{precision} {name}: {d}");
                }
            }
            // Short numbers they are: the exact result is further away than rounding once would be.
            assert!(difference(&outputs["y"].tensor, &exact) > 0.1 * step);
            let plain = run(&graph, &feeds, Run { mode: Some(&mode), ..Run::default() }).unwrap()["y"].tensor.clone();
            assert!(difference(&plain, &outputs["y"].tensor) < 1e-6, "with and without gradients");
        }
    }
}
