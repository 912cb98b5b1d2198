//! Activations, arithmetic, comparison and choice, element by element.
//!
//! <https://docs.openvino.ai/2026/documentation/openvino-ir-format/operation-sets/operation-specs.html>

use super::element::attribute;
use super::lower::{Attrs, Entry, Form, Lower, broadcast, flag, lacks};
use super::net::Port;
use compresso_base::error::{Error, Result};
use compresso_model::Element;

pub(super) const OPS: &[Entry] = &[
    ("Relu", Form::Same("ReLU", 1)),
    ("Sigmoid", Form::Same("Sigmoid", 1)),
    ("Tanh", Form::Same("Tanh", 1)),
    ("Exp", Form::Same("Exp", 1)),
    ("Log", Form::Same("Log", 1)),
    ("Sqrt", Form::Same("Sqrt", 1)),
    ("Abs", Form::Same("Abs", 1)),
    ("Neg", Form::Same("Negative", 1)),
    ("Floor", Form::Same("Floor", 1)),
    ("Ceil", Form::Same("Ceiling", 1)),
    ("Sign", Form::Same("Sign", 1)),
    ("Erf", Form::Same("Erf", 1)),
    ("Sin", Form::Same("Sin", 1)),
    ("Cos", Form::Same("Cos", 1)),
    ("Tan", Form::Same("Tan", 1)),
    ("Asin", Form::Same("Asin", 1)),
    ("Acos", Form::Same("Acos", 1)),
    ("Atan", Form::Same("Atan", 1)),
    ("Sinh", Form::Same("Sinh", 1)),
    ("Cosh", Form::Same("Cosh", 1)),
    ("Asinh", Form::Same("Asinh", 4)),
    ("Acosh", Form::Same("Acosh", 4)),
    ("Atanh", Form::Same("Atanh", 4)),
    ("Softplus", Form::Same("SoftPlus", 4)),
    ("Softsign", Form::Same("SoftSign", 9)),
    ("Mish", Form::Same("Mish", 4)),
    ("HardSwish", Form::Same("HSwish", 4)),
    ("Not", Form::Same("LogicalNot", 1)),
    ("BitwiseNot", Form::Same("BitwiseNot", 13)),
    ("IsNaN", Form::Test("IsNaN", 10)),
    ("IsInf", Form::With(is_inf)),
    ("Round", Form::With(|cx| simple(cx, "Round", 5, vec![("mode", "half_to_even".into())]))),
    ("Gelu", Form::With(gelu)),
    ("Elu", Form::With(elu)),
    ("Celu", Form::With(celu)),
    ("Selu", Form::With(|cx| with_numbers(cx, "Selu", [("alpha", 1.673_263_2), ("gamma", 1.050_701)]))),
    ("HardSigmoid", Form::With(|cx| with_numbers(cx, "HardSigmoid", [("alpha", 0.2), ("beta", 0.5)]))),
    ("LeakyRelu", Form::With(leaky_relu)),
    ("ThresholdedRelu", Form::With(thresholded_relu)),
    ("PRelu", Form::With(prelu)),
    ("Swish", Form::With(swish)),
    ("Clip", Form::With(clip)),
    ("Reciprocal", Form::With(reciprocal)),
    ("Add", Form::With(|cx| arithmetic(cx, "Add"))),
    ("Sub", Form::With(|cx| arithmetic(cx, "Subtract"))),
    ("Mul", Form::With(|cx| arithmetic(cx, "Multiply"))),
    ("Div", Form::With(div)),
    ("Pow", Form::With(pow)),
    ("Mod", Form::With(modulo)),
    ("Min", Form::Chain("Minimum")),
    ("Max", Form::Chain("Maximum")),
    ("Sum", Form::Chain("Add")),
    ("Mean", Form::With(mean)),
    ("Equal", Form::Test("Equal", 1)),
    ("Greater", Form::Test("Greater", 1)),
    ("GreaterOrEqual", Form::Test("GreaterEqual", 1)),
    ("Less", Form::Test("Less", 1)),
    ("LessOrEqual", Form::Test("LessEqual", 1)),
    ("And", Form::Test("LogicalAnd", 1)),
    ("Or", Form::Test("LogicalOr", 1)),
    ("Xor", Form::Test("LogicalXor", 1)),
    ("BitwiseAnd", Form::Same("BitwiseAnd", 13)),
    ("BitwiseOr", Form::Same("BitwiseOr", 13)),
    ("BitwiseXor", Form::Same("BitwiseXor", 13)),
    ("Where", Form::With(choose)),
    ("Cast", Form::With(cast)),
    ("CastLike", Form::With(cast)),
    ("Identity", Form::With(identity)),
    ("Dropout", Form::With(identity)),
];

/// A layer of all inputs with these attributes.
pub(super) fn simple(cx: &mut Lower<'_>, kind: &'static str, set: u8, attrs: Attrs) -> Result<()> {
    let inputs = cx.inputs()?;
    let out = cx.layer(kind, set, attrs, &inputs);
    cx.one(out)
}

fn identity(cx: &mut Lower<'_>) -> Result<()> {
    // A Dropout that is told to drop draws numbers.
    let drops = cx.node.is("Dropout") && cx.node.input(2).is_some();
    if drops && !cx.constant(2).is_some_and(|c| c.to_i64s().is_ok_and(|v| v == [0])) {
        return Err(lacks("Dropout of a training"));
    }
    if cx.node.output(1).is_some() {
        return Err(lacks("output of this operator besides the first"));
    }
    let x = cx.input(0)?;
    cx.alias(x)
}

fn is_inf(cx: &mut Lower<'_>) -> Result<()> {
    let side = |name: &str| cx.node.get_int(name, 1).map(|v| flag(v != 0));
    let attrs = vec![("detect_negative", side("detect_negative")?), ("detect_positive", side("detect_positive")?)];
    let x = cx.input(0)?;
    let out = cx.typed("IsInf", 10, attrs, &[x], Element::Bool);
    cx.one(out)
}

fn gelu(cx: &mut Lower<'_>) -> Result<()> {
    let mode = if cx.node.get_str("approximate", "none")? == "tanh" { "TANH" } else { "ERF" };
    simple(cx, "Gelu", 7, vec![("approximation_mode", mode.into())])
}

fn elu(cx: &mut Lower<'_>) -> Result<()> {
    let alpha = cx.node.get_float("alpha", 1.0)?;
    simple(cx, "Elu", 1, vec![("alpha", alpha.to_string())])
}

/// `alpha · elu(x / alpha)`
fn celu(cx: &mut Lower<'_>) -> Result<()> {
    let (x, alpha) = (cx.input(0)?, cx.node.get_float("alpha", 1.0)?);
    let alpha = cx.scalar(f64::from(alpha), cx.net.element(x))?;
    let y = cx.binary("Divide", x, alpha);
    let y = cx.layer("Elu", 1, vec![("alpha", "1".into())], &[y]);
    let y = cx.binary("Multiply", y, alpha);
    cx.one(y)
}

/// A layer whose settings are scalar inputs.
fn with_numbers(cx: &mut Lower<'_>, kind: &'static str, settings: [(&str, f32); 2]) -> Result<()> {
    let x = cx.input(0)?;
    let element = cx.net.element(x);
    let mut inputs = vec![x];
    for (name, default) in settings {
        let value = cx.node.get_float(name, default)?;
        inputs.push(cx.scalar(f64::from(value), element)?);
    }
    let out = cx.layer(kind, 1, Vec::new(), &inputs);
    cx.one(out)
}

fn leaky_relu(cx: &mut Lower<'_>) -> Result<()> {
    let (x, alpha) = (cx.input(0)?, cx.node.get_float("alpha", 0.01)?);
    let slope = number_of_one(cx, f64::from(alpha), cx.net.element(x))?;
    let y = cx.layer("PReLU", 1, Vec::new(), &[x, slope]);
    cx.one(y)
}

/// A list of one number.
fn number_of_one(cx: &mut Lower<'_>, value: f64, element: Element) -> Result<Port> {
    let bytes = super::net::number(value, element)?;
    Ok(cx.numbers(element, &[1], bytes))
}

fn thresholded_relu(cx: &mut Lower<'_>) -> Result<()> {
    let (x, alpha) = (cx.input(0)?, cx.node.get_float("alpha", 1.0)?);
    let element = cx.net.element(x);
    let (alpha, zero) = (cx.scalar(f64::from(alpha), element)?, cx.scalar(0.0, element)?);
    let above = cx.typed("Greater", 1, broadcast(), &[x, alpha], Element::Bool);
    let y = cx.typed("Select", 1, broadcast(), &[above, x, zero], element);
    cx.one(y)
}

/// A slope of one axis is that of the last; before operator set 7, that of the channels. PReLU takes it for the channels, so it is
/// given in the rank of the data.
fn prelu(cx: &mut Lower<'_>) -> Result<()> {
    let (x, rank, slope) = (cx.input(0)?, cx.rank(0)?, cx.rank(1)?);
    let slope = if cx.opset < 7 && slope == 1 && rank > 1 {
        cx.per_channel(1, rank)?
    } else {
        let (s, ones) = (cx.input(1)?, rank.saturating_sub(slope));
        let axes: Vec<i64> = (0..ones as i64).collect();
        if ones == 0 {
            s
        } else {
            let axes = cx.of_ints(&axes);
            cx.layer("Unsqueeze", 1, Vec::new(), &[s, axes])
        }
    };
    let y = cx.layer("PReLU", 1, Vec::new(), &[x, slope]);
    cx.one(y)
}

fn swish(cx: &mut Lower<'_>) -> Result<()> {
    let (x, alpha) = (cx.input(0)?, cx.node.get_float("alpha", 1.0)?);
    let beta = cx.scalar(f64::from(alpha), cx.net.element(x))?;
    let y = cx.layer("Swish", 4, Vec::new(), &[x, beta]);
    cx.one(y)
}

/// Bounds that are known go into a Clamp, whose bounds are attributes.
fn clip(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let element = cx.net.element(x);
    let attribute = |cx: &Lower<'_>, name: &str| -> Result<Option<f32>> {
        Ok(if cx.node.attrs.contains_key(name) { Some(cx.node.get_float(name, 0.0)?) } else { None })
    };
    let known = |cx: &Lower<'_>, i: usize, name: &str, open: f32| -> Result<Option<f32>> {
        match cx.node.input(i) {
            None => Ok(Some(attribute(cx, name)?.unwrap_or(open))),
            Some(_) => cx.constant(i).filter(|c| c.count() == 1).map(|c| Ok(c.to_f32s()?[0])).transpose(),
        }
    };
    let (low, high) = (known(cx, 1, "min", f32::MIN)?, known(cx, 2, "max", f32::MAX)?);
    if let (Some(low), Some(high), true) = (low, high, element == Element::F32)
        && low <= high
    {
        let y = cx.layer("Clamp", 1, vec![("min", exact(low)), ("max", exact(high))], &[x]);
        return cx.one(y);
    }
    let mut y = x;
    for (i, name, kind) in [(1, "min", "Maximum"), (2, "max", "Minimum")] {
        let bound = match (cx.get(i)?, attribute(cx, name)?) {
            (Some(port), _) => Some(port),
            (None, Some(value)) => Some(cx.scalar(f64::from(value), element)?),
            (None, None) => None,
        };
        if let Some(bound) = bound {
            y = cx.binary(kind, y, bound);
        }
    }
    if y == x { cx.alias(x) } else { cx.one(y) }
}

/// A float32 as a reader of double precision takes it back.
fn exact(value: f32) -> String {
    if value.is_finite() { format!("{value:e}") } else { format!("{:e}", f32::MAX.copysign(value)) }
}

fn reciprocal(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let one = cx.scalar(1.0, cx.net.element(x))?;
    let y = cx.layer("Divide", 1, division(), &[one, x]);
    cx.one(y)
}

/// Quotients of integers are cut off, not rounded down.
fn division() -> Attrs {
    vec![("auto_broadcast", "numpy".into()), ("m_pythondiv", "false".into())]
}

/// Operators that had a `broadcast` of their own before operator set 7.
fn check_broadcast(cx: &Lower<'_>) -> Result<()> {
    if cx.opset < 7 && cx.node.get_int("broadcast", 0)? != 0 && cx.node.attrs.contains_key("axis") {
        return Err(lacks("broadcast along an axis of the first input").hint("raise the model's operator set to 7 or newer"));
    }
    Ok(())
}

fn arithmetic(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    check_broadcast(cx)?;
    simple(cx, kind, 1, broadcast())
}

fn div(cx: &mut Lower<'_>) -> Result<()> {
    check_broadcast(cx)?;
    simple(cx, "Divide", 1, division())
}

/// Base and exponent may differ in type; the result has the base's.
fn pow(cx: &mut Lower<'_>) -> Result<()> {
    check_broadcast(cx)?;
    let (x, exponent) = (cx.input(0)?, cx.input(1)?);
    let (own, other) = (cx.net.element(x), cx.net.element(exponent));
    let common = if own.is_float() || !other.is_float() { own } else { other };
    let (a, b) = (cx.convert(x, common)?, cx.convert(exponent, common)?);
    let y = cx.binary("Power", a, b);
    let y = cx.convert(y, own)?;
    cx.one(y)
}

fn modulo(cx: &mut Lower<'_>) -> Result<()> {
    let kind = if cx.node.get_int("fmod", 0)? == 0 { "FloorMod" } else { "Mod" };
    simple(cx, kind, 1, broadcast())
}

fn mean(cx: &mut Lower<'_>) -> Result<()> {
    let inputs = cx.inputs()?;
    let sum = chained(cx, "Add", &inputs)?;
    let count = cx.scalar(inputs.len() as f64, cx.net.element(sum))?;
    let y = cx.layer("Divide", 1, division(), &[sum, count]);
    cx.one(y)
}

/// One layer after the other.
pub(super) fn chained(cx: &mut Lower<'_>, kind: &'static str, inputs: &[Port]) -> Result<Port> {
    let (first, rest) = inputs.split_first().ok_or_else(|| Error::format("expected at least one input"))?;
    Ok(rest.iter().fold(*first, |sum, x| cx.binary(kind, sum, *x)))
}

fn choose(cx: &mut Lower<'_>) -> Result<()> {
    let (condition, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let y = cx.typed("Select", 1, broadcast(), &[condition, a, b], cx.net.element(a));
    cx.one(y)
}

fn cast(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let to = cx.output_element(0).ok_or_else(|| Error::internal("a Cast whose type was not inferred"))?;
    attribute(to)?;
    if cx.net.element(x) == to {
        return cx.alias(x);
    }
    let y = cx.convert(x, to)?;
    cx.one(y)
}
