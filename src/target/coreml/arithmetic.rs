//! Arithmetic, comparison and choice of several tensors, and changes of type.

use super::lower::{Entry, Form, Lower, lacks};
use super::program::{Kind, Ref};
use compresso_base::error::{Error, Result};
use compresso_model::Element;

pub(super) const OPS: &[Entry] = &[
    ("Add", Form::With(|cx| arithmetic(cx, "add"))),
    ("Sub", Form::With(|cx| arithmetic(cx, "sub"))),
    ("Mul", Form::With(|cx| arithmetic(cx, "mul"))),
    ("Div", Form::With(div)),
    ("Pow", Form::With(pow)),
    ("Mod", Form::With(modulo)),
    ("Min", Form::With(|cx| chain(cx, "minimum"))),
    ("Max", Form::With(|cx| chain(cx, "maximum"))),
    ("Sum", Form::With(|cx| chain(cx, "add"))),
    ("Mean", Form::With(mean)),
    ("Equal", Form::With(|cx| compare(cx, "equal"))),
    ("Greater", Form::With(|cx| compare(cx, "greater"))),
    ("GreaterOrEqual", Form::With(|cx| compare(cx, "greater_equal"))),
    ("Less", Form::With(|cx| compare(cx, "less"))),
    ("LessOrEqual", Form::With(|cx| compare(cx, "less_equal"))),
    ("And", Form::With(|cx| logic(cx, "logical_and"))),
    ("Or", Form::With(|cx| logic(cx, "logical_or"))),
    ("Xor", Form::With(|cx| logic(cx, "logical_xor"))),
    ("Not", Form::With(not)),
    ("IsNaN", Form::With(is_nan)),
    ("Where", Form::With(choose)),
    ("Cast", Form::With(cast)),
    ("CastLike", Form::With(cast)),
];

/// Operators that had a `broadcast` of their own before operator set 7.
fn check_broadcast(cx: &Lower<'_>) -> Result<()> {
    if cx.opset < 7 && cx.node.get_int("broadcast", 0)? != 0 && cx.node.attrs.contains_key("axis") {
        return Err(lacks("broadcast along an axis of the first input").hint("raise the model's operator set to 7 or newer"));
    }
    Ok(())
}

fn pair(cx: &mut Lower<'_>) -> Result<(Ref, Ref)> {
    check_broadcast(cx)?;
    Ok((cx.input(0)?, cx.input(1)?))
}

fn arithmetic(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let (a, b) = pair(cx)?;
    let y = cx.binary(kind, a, b)?;
    cx.one(y)
}

fn is_positive(cx: &Lower<'_>, i: usize) -> bool {
    cx.constant(i).is_some_and(|c| c.to_i64s().is_ok_and(|v| v.iter().all(|&v| v > 0)))
}

/// Quotients of integers are cut off; `floor_div` rounds down, which is the same for what is not negative.
fn div(cx: &mut Lower<'_>) -> Result<()> {
    let (a, b) = pair(cx)?;
    if cx.kind(a).is_float() {
        let y = cx.binary("real_div", a, b)?;
        return cx.one(y);
    }
    let mut signs = cx.like("sign", a, &[]);
    let (size, mut by) = (cx.like("abs", a, &[]), b);
    if !is_positive(cx, 1) {
        let sign = cx.like("sign", b, &[]);
        signs = cx.binary("mul", signs, sign)?;
        by = cx.like("abs", b, &[]);
    }
    let y = cx.binary("floor_div", size, by)?;
    let y = cx.binary("mul", y, signs)?;
    cx.one(y)
}

/// Base and exponent may differ in type; the result has the base's.
fn pow(cx: &mut Lower<'_>) -> Result<()> {
    let (x, exponent) = pair(cx)?;
    let (own, other) = (cx.kind(x), cx.kind(exponent));
    let common = if own.is_float() || !other.is_float() { own } else { other };
    let (a, b) = (cx.cast(x, common), cx.cast(exponent, common));
    let y = cx.binary("pow", a, b)?;
    let y = cx.cast(y, own);
    cx.one(y)
}

/// The remainder has the divisor's sign, or with `fmod` the dividend's.
fn modulo(cx: &mut Lower<'_>) -> Result<()> {
    let (a, b) = pair(cx)?;
    if cx.node.get_int("fmod", 0)? == 0 {
        let y = cx.binary("mod", a, b)?;
        return cx.one(y);
    }
    let (sign, size, by) = (cx.like("sign", a, &[]), cx.like("abs", a, &[]), cx.like("abs", b, &[]));
    let y = cx.binary("mod", size, by)?;
    let y = cx.binary("mul", y, sign)?;
    cx.one(y)
}

fn chained(cx: &mut Lower<'_>, kind: &'static str) -> Result<(Ref, usize)> {
    let inputs = cx.inputs()?;
    let (first, rest) = inputs.split_first().ok_or_else(|| Error::format("expected at least one input"))?;
    let y = rest.iter().try_fold(*first, |y, x| cx.binary(kind, y, *x))?;
    Ok((y, inputs.len()))
}

fn chain(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let (y, _) = chained(cx, kind)?;
    cx.one(y)
}

fn mean(cx: &mut Lower<'_>) -> Result<()> {
    let (sum, count) = chained(cx, "add")?;
    let count = cx.number(count as f32, cx.kind(sum));
    let y = cx.binary("real_div", sum, count)?;
    cx.one(y)
}

/// Booleans are compared as integers.
fn compare(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let (mut a, mut b) = pair(cx)?;
    if cx.kind(a) == Kind::Bool {
        (a, b) = (cx.cast(a, Kind::I32), cx.cast(b, Kind::I32));
    }
    let y = cx.test(kind, a, b)?;
    cx.one(y)
}

fn logic(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let (a, b) = pair(cx)?;
    let y = cx.test(kind, a, b)?;
    cx.one(y)
}

fn not(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let y = cx.like("logical_not", x, &[]);
    cx.one(y)
}

fn is_nan(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let y = cx.test("not_equal", x, x)?;
    cx.one(y)
}

fn choose(cx: &mut Lower<'_>) -> Result<()> {
    let (on, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let y = cx.select(on, a, b)?;
    cx.one(y)
}

fn cast(cx: &mut Lower<'_>) -> Result<()> {
    let to = cx.node.output(0).and_then(|name| cx.facts.get(name)).map(|f| f.element);
    let to = to.ok_or_else(|| Error::internal("a Cast whose type was not inferred"))?;
    let x = cx.input(0)?;
    let from = cx.kind(x);
    // Integers have 32 bits here: narrower ones would wrap around.
    let narrow = matches!(to, Element::I8 | Element::U8 | Element::I16 | Element::U16);
    if narrow && cx.fact(0).is_some_and(|f| f.element != to) && from != Kind::Bool {
        return Err(lacks(format!("integers of the type {to}")));
    }
    let kind = Kind::of(to)?;
    let y = cx.cast(x, kind);
    cx.one(y)
}
