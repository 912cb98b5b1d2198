//! Made tensors: Constant, ConstantOfShape, Range.
//!
//! <https://onnx.ai/onnx/operators/onnx__Constant.html> and siblings.

use super::def::{OpDef, operators};
use super::facts::{Item, fact, items, open_shape, size};
use super::ints::{Ints, count};
use super::roles::{Data, Float16Rule};
use super::run::Exec;
use crate::constant::Constant;
use crate::graph::{Attr, Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

operators! {
    pub const CONSTANT_OF_SHAPE: &str = "ConstantOfShape";
    pub const CONSTANT: &str = "Constant";
}

/// Operators that make tensors from attributes, shapes or bounds.
pub const OPS: &[OpDef] = &[
    OpDef::new(CONSTANT_OF_SHAPE, &[9, 20, 21, 23, 24, 25], infer_constant_of_shape, constant_of_shape).data(Data::At(&[])),
    OpDef::new(CONSTANT, &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25], infer_constant, constant),
    OpDef::new("Range", &[11, 27], infer_range, range).data(Data::At(&[])).float16(Float16Rule::Float32),
];

fn fill_value(node: &Node) -> Result<Constant> {
    let c = node.find_tensor("value")?.cloned().unwrap_or_else(|| Constant::scalar(0.0));
    if c.count() == 1 { Ok(c) } else { Err(Error::format(format!("attribute 'value' must have one element, got {:?}", c.dims()))) }
}

fn infer_constant_of_shape(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let value = fill_value(cx.node)?;
    let shape = match items(cx.input(0)?) {
        Some(v) => Some(v.iter().map(Item::to_dim).collect()),
        None => open_shape(cx.shape(0)?.and_then(|s| s.first().and_then(Dim::known)))?,
    };
    Ok(vec![fact(value.element(), shape)])
}

fn constant_of_shape(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let dims = cx.ints(0)?.ok_or_else(|| Error::format("the shape is missing"))?;
    let dims = dims.iter().map(|&v| size(v, "a size")).collect::<Result<Vec<_>>>()?;
    count(&dims)?;
    let value = fill_value(cx.node)?;
    let t = value.tensor(&cx.device())?.reshape(())?;
    Ok(vec![Value::new(value.element(), t.broadcast_as(dims)?.contiguous()?)?])
}

/// The value of a Constant; `None` for other nodes, and for forms that are not supported.
pub fn literal(node: &Node) -> Option<Constant> {
    if node.is(CONSTANT) { constant_value(node).ok() } else { None }
}

fn constant_value(node: &Node) -> Result<Constant> {
    let cpu = &candle_core::Device::Cpu;
    for (name, attr) in &node.attrs {
        return match (name.as_str(), attr) {
            ("value", Attr::Tensor(c)) => Ok(c.clone()),
            ("value_float", Attr::Float(v)) => Ok(Constant::scalar(*v)),
            ("value_floats", Attr::Floats(v)) => Constant::floats(&[v.len()], v),
            ("value_int", Attr::Int(v)) => Constant::from_tensor(&Tensor::new(*v, cpu)?),
            ("value_ints", Attr::Ints(v)) => Ok(Constant::ints(v)),
            ("value_string" | "value_strings" | "sparse_value", _) => {
                Err(Error::unsupported(format!("constants given as '{name}' are not supported")))
            }
            _ => continue,
        };
    }
    Err(Error::format("no attribute gives the value"))
}

fn infer_constant(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![Fact::of(&constant_value(cx.node)?)])
}

fn constant(cx: &Exec<'_>) -> Result<Vec<Value>> {
    Ok(vec![Value::of_constant(&constant_value(cx.node)?, &cx.device())?])
}

fn infer_range(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let entry = |i: usize| -> Result<Option<Item>> { Ok(items(cx.input(i)?).and_then(|v| v.into_iter().next())) };
    // From zero in steps of one there are as many entries as the limit says.
    let count = match (entry(0)?, entry(1)?, entry(2)?) {
        (Some(Item::Int(0)), Some(limit), Some(Item::Int(1))) => limit.to_dim(),
        (Some(Item::Int(a)), Some(Item::Int(b)), Some(Item::Int(step))) => Dim::Known(int_count(a, b, step)?),
        _ => match (0..3).map(|i| cx.get(i)?.constant.as_ref()?.to_f64s().ok()?.first().copied()).collect::<Option<Vec<f64>>>() {
            Some(v) => Dim::Known(float_count(v[0], v[1], v[2])?),
            None => Dim::Unknown,
        },
    };
    Ok(vec![fact(x.element, Some(vec![count]))])
}

fn int_count(start: i64, limit: i64, step: i64) -> Result<usize> {
    if step == 0 {
        return Err(Error::argument("the step is 0"));
    }
    let (span, step) = (i128::from(limit) - i128::from(start), i128::from(step));
    let n = if (span > 0) == (step > 0) { (span.abs() + step.abs() - 1) / step.abs() } else { 0 };
    count(&[usize::try_from(n).unwrap_or(usize::MAX)])
}

fn float_count(start: f64, limit: f64, step: f64) -> Result<usize> {
    if step == 0.0 {
        return Err(Error::argument("the step is 0"));
    }
    count(&[((limit - start) / step).ceil().max(0.0) as usize])
}

fn range(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let first = cx.input(0)?;
    if first.element.is_float() {
        let one = |i: usize| -> Result<f64> {
            cx.input(i)?.to_f64s()?.first().copied().ok_or_else(|| Error::shape(format!("input {i} is empty, expected a scalar")))
        };
        let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
        let data: Vec<f64> = (0..float_count(start, limit, step)?).map(|i| start + i as f64 * step).collect();
        let t = Tensor::from_vec(data, float_count(start, limit, step)?, &cx.device())?;
        return cx.one(t.to_dtype(first.tensor.dtype())?);
    }
    let one = |i: usize| -> Result<i64> {
        let v = cx.ints(i)?.and_then(|v| v.first().copied());
        v.ok_or_else(|| Error::shape(format!("input {i} is empty, expected a scalar")))
    };
    let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
    let n = int_count(start, limit, step)? as i64;
    let data: Vec<i64> = (0..n).map(|i| start.wrapping_add(i.wrapping_mul(step))).collect();
    Ok(vec![Ints { dims: vec![data.len()], data }.into_value(first.element, &cx.device())?])
}
