//! Functions of one number: Neg, Abs, Sqrt, Exp, Log, Reciprocal, rounding, trigonometry, IsNaN, IsInf.
//!
//! <https://onnx.ai/onnx/operators/onnx__Neg.html> and siblings.

use super::def::{OpDef, operators};
use super::elementwise::{Map1, map1};
use super::facts::{fact, infer_same};
use super::ints::Ints;
use super::roles::Span;
use super::run::Exec;
use super::{channels, cost};
use crate::element::Element;
use crate::graph::{Fact, Infer};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::Result;

operators! {
    pub const SQRT: &str = "Sqrt";
    pub const EXP: &str = "Exp";
    pub const LOG: &str = "Log";
}

type Forward = fn(&Exec<'_>) -> Result<Vec<Value>>;

const fn unary(name: &'static str, since: &'static [i64], forward: Forward) -> OpDef {
    OpDef::new(name, since, infer_same, forward).cost(cost::per_output)
}

/// Functions of one number, element by element.
pub const OPS: &[OpDef] = &[
    unary("Neg", &[6, 13], |cx| int_or(cx, i64::wrapping_neg, |x| Ok(x.neg()?))).channels(channels::through),
    unary("Abs", &[6, 13], |cx| int_or(cx, i64::wrapping_abs, |x| Ok(x.abs()?))).channels(channels::through),
    unary("Sign", &[9, 13], |cx| int_or(cx, i64::signum, |x| Ok(x.detach().sign()?))).span(Span::Bounded).channels(channels::through),
    unary(SQRT, &[6, 13], |cx| cx.one(cx.tensor(0)?.sqrt()?)).span(Span::Fine).channels(channels::through),
    unary(EXP, &[6, 13], |cx| cx.one(cx.tensor(0)?.exp()?)).span(Span::Wide).channels(channels::elementwise),
    unary(LOG, &[6, 13], |cx| cx.one(cx.tensor(0)?.log()?)).span(Span::Fine),
    unary("Reciprocal", &[6, 13], |cx| cx.one(cx.tensor(0)?.recip()?)).span(Span::Fine),
    unary("Sin", &[7, 22], |cx| cx.one(cx.tensor(0)?.sin()?)).span(Span::Bounded).channels(channels::through),
    unary("Cos", &[7, 22], |cx| cx.one(cx.tensor(0)?.cos()?)).span(Span::Bounded).channels(channels::elementwise),
    // Rounding has the slope 0 wherever it has one, so it passes no gradient.
    unary("Floor", &[6, 13], |cx| cx.one(cx.tensor(0)?.detach().floor()?)).channels(channels::through),
    unary("Ceil", &[6, 13], |cx| cx.one(cx.tensor(0)?.detach().ceil()?)).channels(channels::through),
    unary("Round", &[11, 22], |cx| cx.one(map1(&cx.tensor(0)?.detach(), &ROUND)?)).channels(channels::through),
    unary("Tan", &[7, 22], |cx| cx.one(map1(cx.tensor(0)?, &TAN)?)).span(Span::Wide).channels(channels::through),
    unary("Asin", &[7, 22], |cx| cx.one(map1(cx.tensor(0)?, &ASIN)?)).span(Span::Bounded).channels(channels::through),
    unary("Acos", &[7, 22], |cx| cx.one(map1(cx.tensor(0)?, &ACOS)?)).span(Span::Bounded).channels(channels::elementwise),
    unary("Atan", &[7, 22], |cx| cx.one(map1(cx.tensor(0)?, &ATAN)?)).span(Span::Bounded).channels(channels::through),
    unary("Sinh", &[9, 22], |cx| cx.one(map1(cx.tensor(0)?, &SINH)?)).span(Span::Wide).channels(channels::through),
    unary("Cosh", &[9, 22], |cx| cx.one(map1(cx.tensor(0)?, &COSH)?)).span(Span::Wide).channels(channels::elementwise),
    unary("Asinh", &[9, 22], |cx| cx.one(map1(cx.tensor(0)?, &ASINH)?)).channels(channels::through),
    unary("Acosh", &[9, 22], |cx| cx.one(map1(cx.tensor(0)?, &ACOSH)?)),
    unary("Atanh", &[9, 22], |cx| cx.one(map1(cx.tensor(0)?, &ATANH)?)).channels(channels::through),
    OpDef::new("IsNaN", &[9, 13, 20], infer_bool, is_nan).cost(cost::per_output).channels(channels::elementwise),
    OpDef::new("IsInf", &[10, 20], infer_bool, is_inf).cost(cost::per_output).channels(channels::elementwise),
];

/// Rounds halves to even.
static ROUND: Map1 = Map1 { name: "round", f: f64::round_ties_even, slope: |_, _| 0.0 };
static TAN: Map1 = Map1 { name: "tan", f: f64::tan, slope: |_, y| 1.0 + y * y };
static ASIN: Map1 = Map1 { name: "asin", f: f64::asin, slope: |x, _| 1.0 / (1.0 - x * x).sqrt() };
static ACOS: Map1 = Map1 { name: "acos", f: f64::acos, slope: |x, _| -1.0 / (1.0 - x * x).sqrt() };
static ATAN: Map1 = Map1 { name: "atan", f: f64::atan, slope: |x, _| 1.0 / (1.0 + x * x) };
static SINH: Map1 = Map1 { name: "sinh", f: f64::sinh, slope: |x, _| x.cosh() };
static COSH: Map1 = Map1 { name: "cosh", f: f64::cosh, slope: |x, _| x.sinh() };
static ASINH: Map1 = Map1 { name: "asinh", f: f64::asinh, slope: |x, _| 1.0 / (x * x + 1.0).sqrt() };
static ACOSH: Map1 = Map1 { name: "acosh", f: f64::acosh, slope: |x, _| 1.0 / (x * x - 1.0).sqrt() };
static ATANH: Map1 = Map1 { name: "atanh", f: f64::atanh, slope: |x, _| 1.0 / (1.0 - x * x) };

fn int_or(cx: &Exec<'_>, f: fn(i64) -> i64, float: fn(&Tensor) -> Result<Tensor>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    if x.element.is_float() {
        return cx.one(float(&x.tensor)?);
    }
    let mut ints = Ints::of(x)?;
    ints.data.iter_mut().for_each(|v| *v = f(*v));
    Ok(vec![ints.into_value(x.element, x.tensor.device())?])
}

fn infer_bool(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![fact(Element::Bool, cx.input(0)?.shape.clone())])
}

fn is_nan(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    Ok(vec![Value::bool(x.ne(x)?)?])
}

fn is_inf(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let (negative, positive) = (cx.node.get_int("detect_negative", 1)? != 0, cx.node.get_int("detect_positive", 1)? != 0);
    let is = |limit: f64| -> Result<Tensor> { Ok(x.broadcast_eq(&Tensor::new(limit, x.device())?.to_dtype(x.dtype())?)?) };
    let none = || -> Result<Tensor> { Ok(Tensor::zeros(x.shape(), candle_core::DType::U8, x.device())?) };
    let up = if positive { is(f64::INFINITY)? } else { none()? };
    let down = if negative { is(f64::NEG_INFINITY)? } else { none()? };
    Ok(vec![Value::bool(up.maximum(&down)?)?])
}
