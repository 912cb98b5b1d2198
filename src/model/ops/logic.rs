//! Comparison, choice and bits: Equal, Greater, Less, GreaterOrEqual, LessOrEqual, And, Or, Xor, Not, Where, BitShift,
//! BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot.
//!
//! <https://onnx.ai/onnx/operators/onnx__Where.html> and siblings.

use super::def::{OpDef, operators};
use super::facts::{Item, broadcast_inputs, fact, infer_same, items, of_items, same_elements};
use super::ints::{Ints, broadcast_dims, zip};
use super::roles::Data;
use super::run::Exec;
use super::{channels, cost};
use crate::element::Element;
use crate::graph::{Dim, Fact, Infer, broadcast};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};

type Test = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;

operators! {
    pub const EQUAL: &str = "Equal";
    pub const GREATER: &str = "Greater";
    pub const WHERE: &str = "Where";
}

/// Comparisons, logic, bits and choices, element by element.
pub const OPS: &[OpDef] = &[
    OpDef::new(EQUAL, &[7, 11, 13, 19], infer_equal, |cx| compare(cx, Tensor::broadcast_eq))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::broadcast),
    OpDef::new(GREATER, &[7, 9, 13], infer_compare, |cx| compare(cx, Tensor::broadcast_gt))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::broadcast),
    OpDef::new("Less", &[7, 9, 13], infer_compare, |cx| compare(cx, Tensor::broadcast_lt))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::broadcast),
    OpDef::new("GreaterOrEqual", &[12, 16], infer_compare, |cx| compare(cx, Tensor::broadcast_ge))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::broadcast),
    OpDef::new("LessOrEqual", &[12, 16], infer_compare, |cx| compare(cx, Tensor::broadcast_le))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::broadcast),
    OpDef::new("And", &[7], infer_bits, |cx| bits(cx, |a, b| a & b))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::broadcast),
    OpDef::new("Or", &[7], infer_bits, |cx| bits(cx, |a, b| a | b))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::broadcast),
    OpDef::new("Xor", &[7], infer_bits, |cx| bits(cx, |a, b| a ^ b))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::broadcast),
    OpDef::new("Not", &[1], infer_same, not).cost(cost::per_output).channels(channels::elementwise),
    OpDef::new("BitwiseAnd", &[18], infer_bits, |cx| bits(cx, |a, b| a & b)).cost(cost::per_output).data(Data::Broadcast),
    OpDef::new("BitwiseOr", &[18], infer_bits, |cx| bits(cx, |a, b| a | b)).cost(cost::per_output).data(Data::Broadcast),
    OpDef::new("BitwiseXor", &[18], infer_bits, |cx| bits(cx, |a, b| a ^ b)).cost(cost::per_output).data(Data::Broadcast),
    OpDef::new("BitwiseNot", &[18], infer_same, bitwise_not).cost(cost::per_output),
    OpDef::new("BitShift", &[11, 28], infer_bits, bit_shift).cost(cost::per_output).data(Data::Broadcast),
    OpDef::new(WHERE, &[9, 16], infer_where, choose).cost(cost::per_output).data(Data::Broadcast).channels(channels::broadcast),
];

fn infer_compare(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    same_elements(cx, 0)?;
    Ok(vec![broadcast_inputs(cx, Some(Element::Bool))?])
}

fn infer_bits(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    same_elements(cx, 0)?;
    Ok(vec![broadcast_inputs(cx, None)?])
}

/// The length that vectors and numbers broadcast to: 1 gives way to 0 as well.
fn length(lists: &[&[Item]]) -> usize {
    lists.iter().map(|v| v.len()).find(|&n| n != 1).unwrap_or(1)
}

/// One entry of a vector broadcast from length 1.
fn entry(v: &[Item], i: usize) -> Option<&Item> {
    if v.len() == 1 { v.first() } else { v.get(i) }
}

fn infer_equal(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let out = infer_compare(cx)?;
    let (Some(a), Some(b), Some(rank)) = (items(cx.input(0)?), items(cx.input(1)?), out[0].rank()) else { return Ok(out) };
    let n = length(&[&a, &b]);
    let known = (0..n).map(|i| {
        Some(Item::Int(i64::from(match (entry(&a, i)?, entry(&b, i)?) {
            (Item::Int(x), Item::Int(y)) => x == y,
            (Item::Size(d), Item::Size(e)) if d == e && *d != Dim::Unknown => true,
            // A size is never negative.
            (Item::Size(Dim::Symbol(_)), Item::Int(v)) | (Item::Int(v), Item::Size(Dim::Symbol(_))) if *v < 0 => false,
            _ => return None,
        })))
    });
    match known.collect::<Option<Vec<_>>>() {
        Some(v) if rank <= 1 => Ok(vec![of_items(Element::Bool, rank == 0, &v)]),
        _ => Ok(out),
    }
}

fn compare(cx: &Exec<'_>, test: Test) -> Result<Vec<Value>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    if a.element != b.element {
        return Err(Error::dtype(format!("expected operands of one type, got {} and {}", a.element, b.element)));
    }
    let dims = broadcast_dims(a.dims(), b.dims())?;
    if dims.contains(&0) {
        return Ok(vec![Value::bool(Tensor::zeros(dims, DType::U8, a.tensor.device())?)?]);
    }
    Ok(vec![Value::bool(test(&a.tensor, &b.tensor)?)?])
}

fn bits(cx: &Exec<'_>, f: fn(i64, i64) -> i64) -> Result<Vec<Value>> {
    let a = cx.input(0)?;
    let out = zip(&Ints::of(a)?, &Ints::of(cx.input(1)?)?, |x, y| Ok(f(x, y)))?;
    Ok(vec![out.into_value(a.element, a.tensor.device())?])
}

fn not(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let zero = Tensor::zeros((), x.dtype(), x.device())?;
    Ok(vec![Value::bool(x.broadcast_eq(&zero)?)?])
}

fn bitwise_not(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    if x.element == Element::U64 {
        return Err(Error::unsupported("bitwise negation of uint64 is not supported"));
    }
    let mut ints = Ints::of(x)?;
    ints.data.iter_mut().for_each(|v| *v = !*v);
    Ok(vec![ints.into_value(x.element, x.tensor.device())?])
}

fn bit_shift(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let left = match cx.node.get_str("direction", "")? {
        "LEFT" => true,
        "RIGHT" => false,
        other => return Err(Error::format(format!("attribute 'direction' must be LEFT or RIGHT, got '{other}'"))),
    };
    let bits = x.element.bits() as i64;
    let out = zip(&Ints::of(x)?, &Ints::of(cx.input(1)?)?, |v, by| {
        // Shifting by a negative number, or by all bits, leaves copies of the sign.
        Ok(match (left, (0..bits).contains(&by)) {
            (true, true) => v.wrapping_shl(by as u32),
            (false, true) => v >> by,
            (true, false) => 0,
            (false, false) => {
                if v < 0 {
                    -1
                } else {
                    0
                }
            }
        })
    })?;
    Ok(vec![out.into_value(x.element, x.tensor.device())?])
}

fn infer_where(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    same_elements(cx, 1)?;
    let (cond, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let shape = match (&cond.shape, &a.shape, &b.shape) {
        (Some(c), Some(a), Some(b)) => Some(broadcast(&broadcast(c, a)?, b)?),
        _ => None,
    };
    let out = fact(a.element, shape);
    if let (Some(c), Some(x), Some(y), Some(rank)) = (items(cond), items(a), items(b), out.rank())
        && a.element.is_int()
        && rank <= 1
    {
        let n = length(&[&c, &x, &y]);
        let chosen = (0..n).map(|i| match entry(&c, i)? {
            Item::Int(0) => entry(&y, i).cloned(),
            Item::Int(_) => entry(&x, i).cloned(),
            Item::Size(_) => {
                let (x, y) = (entry(&x, i)?, entry(&y, i)?);
                Some(if x == y { x.clone() } else { Item::unknown() })
            }
        });
        if let Some(v) = chosen.collect::<Option<Vec<_>>>() {
            return Ok(vec![of_items(a.element, rank == 0, &v)]);
        }
    }
    Ok(vec![out])
}

fn choose(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (cond, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    if cond.element != Element::Bool || a.element != b.element {
        return Err(Error::dtype(format!("expected bool and operands of one type, got {}, {} and {}", cond.element, a.element, b.element)));
    }
    let dims = broadcast_dims(&broadcast_dims(cond.dims(), a.dims())?, b.dims())?;
    if dims.contains(&0) {
        return Ok(vec![a.with(Tensor::zeros(dims, a.tensor.dtype(), a.tensor.device())?)?]);
    }
    let whole = |t: &Tensor| -> Result<Tensor> { Ok(if t.dims() == dims { t.clone() } else { t.broadcast_as(dims.as_slice())? }) };
    Ok(vec![a.with(whole(&cond.tensor)?.where_cond(&whole(&a.tensor)?, &whole(&b.tensor)?)?)?])
}
