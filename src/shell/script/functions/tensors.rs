//! Tensors in scripts: making them, reading them, arithmetic.

use crate::error::{Error, Result};
use crate::memory;
use crate::model::{Element, Value, count_of, uniform};
use crate::operation::{Arg, ArgKind, Signature};
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::raised::raise;
use crate::shell::script::value::{from_json, int, to_f64};
use crate::shell::script::words::describe;
use candle_core::{DType, Device, Tensor};
use rhai::{Dynamic, Engine, EvalAltResult, Position};

/// Bytes that a number takes on its way into a list.
const LISTED: u64 = 96;

const X: Arg = Arg::new("x", ArgKind::Tensor);
const SHAPE: Arg = Arg::new("shape", ArgKind::List);

const fn signature(
    name: &'static str,
    summary: &'static str,
    args: &'static [Arg],
    returns: &'static str,
    examples: &'static [&'static str],
) -> Signature {
    super::signature(("tensors", name), summary, args, returns, examples, &["array", "values", "numbers"])
}

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: signature(
            "tensor",
            "A float32 tensor of nested lists of numbers, or of a flat list and a shape",
            &[Arg::new("values", ArgKind::OneOf(&[ArgKind::List, ArgKind::Number])), Arg::optional("shape", ArgKind::List)],
            "tensor",
            &["tensor([[1, 2], [3, 4]]).shape", "tensor([1, 2, 3, 4], [2, 2])[1]"],
        ),
        call: tensor,
    },
    Binding { signature: signature("zeros", "A float32 tensor of zeros", &[SHAPE], "tensor", &["zeros([1, 3, 8, 8]).count"]), call: zeros },
    Binding {
        signature: signature(
            "random",
            "A float32 tensor of seeded uniform numbers from 0 to 1",
            &[SHAPE, Arg::optional("seed", ArgKind::Int)],
            "tensor",
            &["random([1, 3, 8, 8]).mean()", "random([4], 7)"],
        ),
        call: random,
    },
    Binding {
        signature: signature(
            "reshape",
            "The same values in another shape",
            &[X, SHAPE],
            "tensor",
            &["random([2, 3]).reshape([3, 2]).shape"],
        ),
        call: reshape,
    },
    Binding {
        signature: signature("to_list", "The values as nested lists", &[X], "list", &["tensor([[1, 2], [3, 4]]).to_list()"]),
        call: |c| {
            let x = c.tensor(0)?;
            memory::claim((x.tensor.elem_count() as u64).saturating_mul(LISTED), || "a list of its values".to_string())?;
            Ok(from_json(&nested(&x.to_f64s()?, x.dims(), is_whole(&x))))
        },
    },
    Binding {
        signature: signature(
            "slice",
            "The part of a tensor along an axis from a place on, up to another one or the end; negative places count from the end",
            &[X, Arg::new("axis", ArgKind::Int), Arg::new("from", ArgKind::Int), Arg::optional("to", ArgKind::Int)],
            "tensor",
            &["random([1, 3, 8, 8]).slice(1, 0, 2).shape", "tensor([1, 2, 3]).slice(0, -1).to_list()"],
        ),
        call: slice,
    },
    Binding {
        signature: signature(
            "argmax",
            "The place of the greatest value, counted in row-major order from 0",
            &[X],
            "whole number",
            &["tensor([3, 9, 2]).argmax()"],
        ),
        call: |c| {
            let v = some(c)?;
            Ok(int(v.iter().enumerate().fold(0, |best, (i, x)| if *x > v[best] { i } else { best })))
        },
    },
    Binding {
        signature: signature("abs", "Absolute values", &[X], "tensor", &["tensor([-1, 2]).abs().sum()"]),
        call: |c| {
            let x = c.tensor(0)?;
            Ok(Dynamic::from(x.with(x.tensor.abs()?)?))
        },
    },
];

fn plain(t: Tensor) -> Result<Dynamic> {
    Ok(Dynamic::from(Value::plain(t)?))
}

fn is_whole(x: &Value) -> bool {
    x.element.is_int() || x.element == Element::Bool
}

/// The values of a tensor that has some.
fn some(c: &Call<'_>) -> Result<Vec<f64>> {
    let v = c.tensor(0)?.to_f64s()?;
    if v.is_empty() { Err(Error::argument("the tensor is empty")) } else { Ok(v) }
}

fn slice(c: &Call<'_>) -> Result<Dynamic> {
    let (x, axis) = (c.tensor(0)?, c.int(1)?);
    let rank = x.dims().len();
    let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|a| *a < rank);
    let axis = axis.ok_or_else(|| Error::argument(format!("a tensor of rank {rank} has no axis {}", describe(c.arg(1)))))?;
    let size = x.dims()[axis];
    let place = |n: i64| usize::try_from(if n < 0 { n + size as i64 } else { n }).ok().filter(|p| *p <= size);
    let (from, to) = (place(c.int(2)?), if c.has(3) { place(c.int(3)?) } else { Some(size) });
    match from.zip(to).filter(|(from, to)| from < to) {
        Some((from, to)) => Ok(Dynamic::from(x.with(x.tensor.narrow(axis, from, to - from)?)?)),
        None => {
            Err(Error::argument(format!("axis {axis} has {size} parts, of which none lie there"))
                .hint("places are from 0 up to that number"))
        }
    }
}

fn reshape(c: &Call<'_>) -> Result<Dynamic> {
    let (x, shape) = (c.tensor(0)?, c.sizes(1)?);
    let (has, needs) = (count_of(x.dims())?, count_of(&shape)?);
    if has != needs {
        return Err(Error::shape(format!("the shape {shape:?} needs {needs} values, got {has} in {:?}", x.dims())));
    }
    Ok(Dynamic::from(x.with(x.tensor.reshape(shape)?)?))
}

/// A float32 tensor of nested lists.
pub(super) fn tensor_of(list: &Dynamic) -> Result<Value> {
    let (mut values, mut shape) = (Vec::new(), Vec::new());
    flatten(list, 0, &mut shape, &mut values)?;
    Value::plain(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn tensor(c: &Call<'_>) -> Result<Dynamic> {
    let mut values = Vec::new();
    let mut shape = Vec::new();
    flatten(c.arg(0), 0, &mut shape, &mut values)?;
    if c.has(1) {
        shape = c.sizes(1)?;
        let needs = count_of(&shape)?;
        if needs != values.len() {
            return Err(Error::shape(format!("the shape {shape:?} needs {needs} values, got {}", values.len())));
        }
    }
    plain(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn flatten(v: &Dynamic, depth: usize, shape: &mut Vec<usize>, out: &mut Vec<f32>) -> Result<()> {
    if let Some(x) = to_f64(v) {
        if depth < shape.len() {
            return Err(Error::shape("the lists are not equally deep"));
        }
        out.push(x as f32);
        return Ok(());
    }
    let list = v.as_array_ref().map_err(|_| Error::argument(format!("a tensor is made of numbers, got {}", describe(v))))?;
    match shape.get(depth) {
        None if out.is_empty() => shape.push(list.len()),
        Some(n) if *n == list.len() => {}
        _ => return Err(Error::shape("the lists are not equally long")),
    }
    list.iter().try_for_each(|item| flatten(item, depth + 1, shape, out))
}

fn nested(values: &[f64], dims: &[usize], whole: bool) -> serde_json::Value {
    match dims {
        [] => match values.first() {
            Some(v) if whole => serde_json::Value::from(*v as i64),
            Some(v) => serde_json::Number::from_f64(*v).map_or(serde_json::Value::Null, serde_json::Value::Number),
            None => serde_json::Value::Null,
        },
        [n, rest @ ..] => {
            let size = rest.iter().product::<usize>();
            (0..*n).map(|i| nested(&values[i * size..(i + 1) * size], rest, whole)).collect()
        }
    }
}

fn zeros(c: &Call<'_>) -> Result<Dynamic> {
    let shape = c.sizes(0)?;
    count_of(&shape)?;
    memory::claim_tensor(&shape, 4, 1, || format!("a tensor of shape {shape:?}"))?;
    plain(Tensor::zeros(shape, DType::F32, &Device::Cpu)?)
}

fn random(c: &Call<'_>) -> Result<Dynamic> {
    let shape = c.sizes(0)?;
    let seed = if c.has(1) { c.int(1)?.cast_unsigned() } else { c.ctx.seed };
    Ok(Dynamic::from(uniform(&shape, seed)?))
}

type Raised<T> = std::result::Result<T, Box<EvalAltResult>>;
type Arithmetic = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;

fn lift<T>(r: Result<T>) -> Raised<T> {
    r.map_err(|e| raise(e, Position::NONE))
}

/// `t[i]`, and `+ - * /` between tensors and numbers.
pub(in crate::shell::script) fn register_operators(engine: &mut Engine) {
    engine.register_indexer_get(|x: &mut Value, i: i64| lift(item(x, i)));
    let all: [(&str, Arithmetic); 4] = [
        ("+", |a, b| a.broadcast_add(b)),
        ("-", |a, b| a.broadcast_sub(b)),
        ("*", |a, b| a.broadcast_mul(b)),
        ("/", |a, b| a.broadcast_div(b)),
    ];
    for (name, op) in all {
        engine.register_fn(name, move |a: Value, b: Value| lift(apply(op, &a, &b)));
        engine.register_fn(name, move |a: Value, b: f64| lift(number(&a, b).and_then(|b| apply(op, &a, &b))));
        engine.register_fn(name, move |a: Value, b: i64| lift(number(&a, b as f64).and_then(|b| apply(op, &a, &b))));
        engine.register_fn(name, move |a: f64, b: Value| lift(number(&b, a).and_then(|a| apply(op, &a, &b))));
        engine.register_fn(name, move |a: i64, b: Value| lift(number(&b, a as f64).and_then(|a| apply(op, &a, &b))));
    }
}

/// A scalar of the same type as `like`.
fn number(like: &Value, x: f64) -> Result<Value> {
    like.with(Tensor::new(x, like.tensor.device())?.to_dtype(like.tensor.dtype())?)
}

fn apply(op: Arithmetic, a: &Value, b: &Value) -> Result<Value> {
    if a.element != b.element {
        return Err(Error::dtype(format!("the tensors are of different types, {} and {}", a.element, b.element)));
    }
    let t = op(&a.tensor, &b.tensor);
    a.with(t.map_err(|_| Error::shape(format!("the shapes {:?} and {:?} do not fit together", a.dims(), b.dims())))?)
}

/// The number at place `i` of a list-like tensor, or the `i`-th part along the first axis. Negative places count from
/// the end.
fn item(x: &Value, i: i64) -> Result<Dynamic> {
    let Some(&n) = x.dims().first() else { return Err(Error::shape("a tensor of rank 0 has no parts")) };
    let place = if i < 0 { i + n as i64 } else { i };
    let place = usize::try_from(place).ok().filter(|p| *p < n);
    let place = place.ok_or_else(|| Error::argument(format!("place {i} is outside the tensor's {n} parts")))?;
    let part = x.with(x.tensor.get(place)?)?;
    if x.dims().len() > 1 {
        return Ok(Dynamic::from(part));
    }
    let number = part.to_f64s()?[0];
    Ok(if is_whole(x) { (number as i64).into() } else { number.into() })
}
