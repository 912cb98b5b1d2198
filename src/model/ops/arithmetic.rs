//! Arithmetic with broadcasting: Add, Sub, Mul, Div, Pow, Mod, Min, Max, Mean, Sum.
//!
//! <https://onnx.ai/onnx/operators/onnx__Add.html> and siblings. Operator sets 7 and later broadcast as numpy does.
//! Integer results wrap; integer division truncates towards zero.

use super::backward::{BackwardRule, Flow};
use super::channels::{self, Channels};
use super::cost;
use super::def::{OpDef, ParamKind, QuantRule, operators};
use super::elementwise::{Binary, Map2, binary, map2};
use super::facts::{Item, broadcast_inputs, items, of_items, same_elements};
use super::ints::{Ints, zip};
use super::roles::{Data, Span};
use super::run::Exec;
use crate::graph::{Dim, Fact, Infer};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_kernels::ops;
use std::sync::Arc;

operators! {
    pub const ADD: &str = "Add";
    pub const SUB: &str = "Sub";
    pub const MUL: &str = "Mul";
    pub const DIV: &str = "Div";
    pub const MOD: &str = "Mod";
    pub const POW: &str = "Pow";
    pub const MIN: &str = "Min";
    pub const MAX: &str = "Max";
}

/// Arithmetic on two or more tensors that broadcast.
pub const OPS: &[OpDef] = &[
    OpDef::new(ADD, &[7, 13, 14], infer, |cx| forward(cx, Binary::Add))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .quant(QuantRule::Elementwise)
        .params(&[(0, ParamKind::Bias), (1, ParamKind::Bias)])
        .backward(add_backward)
        .channels(channels::sum),
    OpDef::new(SUB, &[7, 13, 14], infer, |cx| forward(cx, Binary::Sub))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::sum),
    OpDef::new(MUL, &[7, 13, 14], infer, |cx| forward(cx, Binary::Mul))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .quant(QuantRule::Elementwise)
        .backward(mul_backward)
        .channels(channels::product),
    OpDef::new(DIV, &[7, 13, 14], infer, |cx| forward(cx, Binary::Div)).cost(cost::per_output).data(Data::Broadcast).channels(div_channels),
    OpDef::new(POW, &[7, 12, 13, 15], infer_pow, pow).cost(cost::per_output).span(Span::Wide).data(Data::Broadcast).channels(pow_channels),
    OpDef::new(MOD, &[10, 13, 28], infer, modulo).cost(cost::per_output).data(Data::Broadcast),
    OpDef::new(MIN, &[8, 12, 13], infer, |cx| forward(cx, Binary::Min))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::sum),
    OpDef::new(MAX, &[8, 12, 13], infer, |cx| forward(cx, Binary::Max))
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .channels(channels::sum),
    OpDef::new("Sum", &[8, 13], infer, |cx| forward(cx, Binary::Add))
        .sums()
        .cost(cost::per_output)
        .data(Data::Broadcast)
        .quant(QuantRule::Elementwise)
        .channels(channels::sum),
    OpDef::new("Mean", &[8, 13], infer, mean).sums().cost(cost::per_output).data(Data::Broadcast).channels(channels::sum),
];

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    same_elements(cx, 0)?;
    let fact = broadcast_inputs(cx, None)?;
    Ok(vec![follow(cx, &fact).unwrap_or(fact)])
}

fn infer_pow(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![broadcast_inputs(cx, None)?])
}

/// The result's contents, when both operands are integers with partly known contents.
fn follow(cx: &Infer<'_>, fact: &Fact) -> Option<Fact> {
    if !fact.element.is_int() || cx.input_count() != 2 || fact.rank()? > 1 {
        return None;
    }
    let (a, b) = (items(cx.get(0)?)?, items(cx.get(1)?)?);
    let n = a.len().max(b.len());
    if (a.len() != n && a.len() != 1) || (b.len() != n && b.len() != 1) {
        return None;
    }
    let at = |v: &[Item], i: usize| if v.len() == 1 { v[0].clone() } else { v[i].clone() };
    let out: Vec<Item> = (0..n).map(|i| combine(&cx.node.op, &at(&a, i), &at(&b, i))).collect();
    let (low, high) = fact.element.int_range().unwrap_or((i64::MIN, i64::MAX));
    // What wraps is worked out when all is known.
    if out.iter().filter_map(Item::int).any(|v| !(low..=high).contains(&v)) {
        return None;
    }
    Some(of_items(fact.element, fact.rank()? == 0, &out))
}

fn combine(op: &str, a: &Item, b: &Item) -> Item {
    if let (Item::Int(x), Item::Int(y)) = (a, b) {
        let kind = match op {
            "Add" | "Sum" => Binary::Add,
            "Sub" => Binary::Sub,
            "Mul" => Binary::Mul,
            "Div" => Binary::Div,
            MIN => Binary::Min,
            MAX => Binary::Max,
            _ => return Item::unknown(),
        };
        return int_op(kind, *x, *y).map_or_else(|_| Item::unknown(), Item::Int);
    }
    let negative = |i: &Item| i.int().is_some_and(|v| v < 0);
    let (x, y) = (a.to_dim(), b.to_dim());
    let named = |formula: String| if x == Dim::Unknown || y == Dim::Unknown { Item::unknown() } else { Item::Size(Dim::symbol(formula)) };
    match op {
        "Add" | "Sum" | "Mul" if negative(a) || negative(b) => match (op, a, b) {
            ("Add" | "Sum", Item::Size(d), Item::Int(v)) | ("Add" | "Sum", Item::Int(v), Item::Size(d)) if *d != Dim::Unknown => {
                Item::Size(Dim::symbol(format!("({d}-{})", v.unsigned_abs())))
            }
            _ => Item::unknown(),
        },
        "Add" | "Sum" => Item::of_dim(&x.plus(&y)),
        "Mul" => Item::of_dim(&x.times(&y)),
        "Sub" if b.int() == Some(0) => a.clone(),
        "Sub" if x == y && x != Dim::Unknown => Item::Int(0),
        "Sub" if !negative(a) && !negative(b) => named(format!("({x}-{y})")),
        "Div" if b.int() == Some(1) => a.clone(),
        "Div" if x == y && x != Dim::Unknown => Item::Int(1),
        "Div" if !negative(a) && !negative(b) => named(format!("({x}/{y})")),
        MIN | MAX if x == y && x != Dim::Unknown => a.clone(),
        _ => Item::unknown(),
    }
}

fn int_op(kind: Binary, a: i64, b: i64) -> Result<i64> {
    Ok(match kind {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div if b == 0 => return Err(Error::argument("integer division by zero")),
        Binary::Div => a.wrapping_div(b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
    })
}

/// Applies an operation to two values of one element type.
///
/// # Errors
/// `DType` for different element types; `Shape` when they do not broadcast; `Argument` for integer division by zero.
pub fn apply(kind: Binary, a: &Value, b: &Value) -> Result<Value> {
    if a.element != b.element {
        return Err(Error::dtype(format!("expected operands of one type, got {} and {}", a.element, b.element)));
    }
    if a.element.is_float() {
        return a.with(binary(kind, &a.tensor, &b.tensor)?);
    }
    let out = zip(&Ints::of(a)?, &Ints::of(b)?, |x, y| int_op(kind, x, y))?;
    out.into_value(a.element, a.tensor.device())
}

fn forward(cx: &Exec<'_>, kind: Binary) -> Result<Vec<Value>> {
    let mut out = cx.input(0)?.clone();
    for i in 1..cx.input_count() {
        out = apply(kind, &out, cx.input(i)?)?;
    }
    Ok(vec![out])
}

/// Terms of equal shapes all receive the gradient of the sum.
fn add_backward(cx: &Exec<'_>) -> Option<BackwardRule> {
    let first = cx.get(0)?;
    let equal = first.element.is_float() && cx.inputs().all(|v| v.dims() == first.dims());
    equal.then_some(|back| (0..back.cx.input_count()).map(|i| Ok((i, Flow::Shared(back.gradient()?.clone())))).collect())
}

/// Factors of equal shapes, or one that has an element for each plane of the other.
fn mul_backward(cx: &Exec<'_>) -> Option<BackwardRule> {
    let (a, b) = (cx.get(0)?, cx.get(1)?);
    let (x, y) = (&a.tensor, &b.tensor);
    let fits = x.dims() == y.dims() || ops::plane(x, y).is_some() || ops::plane(y, x).is_some();
    (a.element.is_float() && fits).then_some(|back| {
        let gy = ops::contiguous(back.gradient()?)?;
        let asked = (0..2).filter(|&i| back.needs[i]);
        asked
            .map(|i| {
                let (own, other) = (back.cx.tensor(i)?, back.cx.tensor(1 - i)?);
                let whole = own.dims() == gy.dims();
                Ok((i, Flow::Own(if whole { ops::multiply(&gy, other)? } else { ops::plane_products(&gy, other, own.dims())? })))
            })
            .collect()
    })
}

fn mean(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let sum = forward(cx, Binary::Add)?;
    let n = cx.input_count() as f64;
    sum.into_iter().map(|v| v.with((&v.tensor / n)?)).collect()
}

fn pow(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (base, exponent) = (cx.input(0)?, cx.input(1)?);
    if base.element.is_float() {
        // A constant exponent of one element needs no gradient of its own.
        if exponent.tensor.elem_count() == 1 && !exponent.tensor.track_op() && exponent.dims().len() <= base.dims().len() {
            let e = exponent.to_f64s()?[0];
            return cx.one(power(&base.tensor, e)?);
        }
        let e = exponent.tensor.to_dtype(base.tensor.dtype())?;
        let log_part: fn(f64, f64) -> f64 = |x, y| if x > 0.0 { x.powf(y) * x.ln() } else { 0.0 };
        let slopes: [fn(f64, f64) -> f64; 2] = [|x, y| if y == 0.0 { 0.0 } else { y * x.powf(y - 1.0) }, log_part];
        return cx.one(map2(&base.tensor, &e, Map2 { name: "pow", f: Arc::new(f64::powf), slopes: Some(slopes) })?);
    }
    let a = Ints::of(base)?;
    let out = if exponent.element.is_float() {
        let e = exponent.to_f64s()?;
        let positions = Ints { dims: exponent.dims().to_vec(), data: (0..e.len() as i64).collect() };
        zip(&a, &positions, |x, i| Ok((x as f64).powf(e[i as usize]) as i64))?
    } else {
        zip(&a, &Ints::of(exponent)?, int_pow)?
    };
    Ok(vec![out.into_value(base.element, base.tensor.device())?])
}

fn int_pow(x: i64, e: i64) -> Result<i64> {
    match u32::try_from(e) {
        Ok(e) => Ok(x.wrapping_pow(e)),
        Err(_) if e < 0 && x.abs() == 1 => Ok(if e % 2 == 0 { 1 } else { x }),
        Err(_) if e < 0 && x != 0 => Ok(0),
        Err(_) => Err(Error::argument(format!("the integer power {x}^{e} has no value"))),
    }
}

/// `x` to a constant power, differentiable by `x`.
pub fn power(x: &Tensor, e: f64) -> Result<Tensor> {
    Ok(if e == 2.0 {
        x.sqr()?
    } else if e == 0.5 {
        x.sqrt()?
    } else if e == 1.0 {
        x.clone()
    } else if e == 0.0 {
        x.detach().ones_like()?
    } else if e == -1.0 {
        x.recip()?
    } else {
        x.powf(e)?
    })
}

fn modulo(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let truncate = cx.node.get_int("fmod", 0)? != 0;
    if a.element.is_float() {
        // The slopes by the divisor are minus the truncated or floored quotient.
        let (f, by_b): (fn(f64, f64) -> f64, fn(f64, f64) -> f64) =
            if truncate { (|x, y| x % y, |x, y| -(x / y).trunc()) } else { (floor_mod, |x, y| -(x / y).floor()) };
        let slopes: [fn(f64, f64) -> f64; 2] = [|_, _| 1.0, by_b];
        return cx.one(map2(&a.tensor, &b.tensor, Map2 { name: "mod", f: Arc::new(f), slopes: Some(slopes) })?);
    }
    let out = zip(&Ints::of(a)?, &Ints::of(b)?, |x, y| {
        if y == 0 {
            return Err(Error::argument("integer modulo by zero"));
        }
        let r = x.wrapping_rem(y);
        Ok(if !truncate && r != 0 && (r < 0) != (y < 0) { r + y } else { r })
    })?;
    Ok(vec![out.into_value(a.element, a.tensor.device())?])
}

/// The remainder with the sign of the divisor, as Python's `%`; zeros take the divisor's sign too.
fn floor_mod(x: f64, y: f64) -> f64 {
    let r = x % y;
    if r == 0.0 {
        0.0_f64.copysign(y)
    } else if (r < 0.0) != (y < 0.0) {
        r + y
    } else {
        r
    }
}

/// Channels of Div: as products, but a divisor is never masked.
fn div_channels(cx: &mut Channels<'_>) -> Result<()> {
    if cx.is_constant(1) {
        cx.unmasked(1);
    } else if cx.zero(1) {
        cx.freeze_input(1);
    }
    channels::product(cx)
}

/// Channels of Pow with a constant, positive exponent.
fn pow_channels(cx: &mut Channels<'_>) -> Result<()> {
    let exponent = cx.fact(1)?.constant.as_ref().filter(|c| c.count() == 1).map(|c| c.to_f64s()).transpose()?;
    if exponent.is_some_and(|e| e.iter().all(|&e| e > 0.0)) { channels::through(cx) } else { channels::fixed(cx) }
}
