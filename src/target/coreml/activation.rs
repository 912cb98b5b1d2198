//! Activations and other functions of one tensor.

use super::lower::{Entry, Form, Lower, lacks, open};
use super::program::{Kind, Ref};
use compresso_base::error::Result;

pub(super) const OPS: &[Entry] = &[
    ("Relu", Form::Same("relu")),
    ("Sigmoid", Form::Same("sigmoid")),
    ("Tanh", Form::Same("tanh")),
    ("Softplus", Form::Same("softplus")),
    ("Softsign", Form::Same("softsign")),
    ("Exp", Form::Same("exp")),
    ("Sqrt", Form::Same("sqrt")),
    ("Floor", Form::With(|cx| of_floats(cx, "floor"))),
    ("Ceil", Form::With(|cx| of_floats(cx, "ceil"))),
    ("Round", Form::With(|cx| of_floats(cx, "round"))),
    ("Erf", Form::Same("erf")),
    ("Sin", Form::Same("sin")),
    ("Cos", Form::Same("cos")),
    ("Tan", Form::Same("tan")),
    ("Asin", Form::Same("asin")),
    ("Acos", Form::Same("acos")),
    ("Atan", Form::Same("atan")),
    ("Sinh", Form::Same("sinh")),
    ("Cosh", Form::Same("cosh")),
    ("Atanh", Form::Same("atanh")),
    ("Abs", Form::With(|cx| with_integers(cx, "abs"))),
    ("Sign", Form::With(|cx| with_integers(cx, "sign"))),
    ("Log", Form::With(log)),
    ("Neg", Form::With(neg)),
    ("Reciprocal", Form::With(reciprocal)),
    ("Gelu", Form::With(gelu)),
    ("Elu", Form::With(|cx| with_alpha(cx, "elu", 1.0))),
    ("LeakyRelu", Form::With(|cx| with_alpha(cx, "leaky_relu", 0.01))),
    ("ThresholdedRelu", Form::With(thresholded_relu)),
    ("Celu", Form::With(celu)),
    ("Selu", Form::With(selu)),
    ("Mish", Form::With(mish)),
    ("HardSigmoid", Form::With(hard_sigmoid)),
    ("HardSwish", Form::With(hard_swish)),
    ("Swish", Form::With(swish)),
    ("PRelu", Form::With(prelu)),
    ("Clip", Form::With(clip)),
    ("Identity", Form::With(identity)),
    ("Dropout", Form::With(identity)),
];

fn identity(cx: &mut Lower<'_>) -> Result<()> {
    // A Dropout that is told to drop draws numbers.
    let drops = cx.node.is("Dropout") && cx.node.input(2).is_some();
    if drops && !cx.constant(2).is_some_and(|c| c.to_i64s().is_ok_and(|v| v == [0])) {
        return Err(lacks("Dropout of a training"));
    }
    match cx.raw(0)? {
        Some(x) => cx.one(x),
        None => Err(open("what is to be copied")),
    }
}

/// Whole numbers stay as they are.
fn of_floats(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let x = cx.input(0)?;
    let y = if cx.kind(x).is_float() { cx.like(kind, x, &[]) } else { x };
    cx.one(y)
}

fn with_integers(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let x = cx.input(0)?;
    if cx.kind(x) == Kind::Bool {
        return Err(lacks(format!("{kind} of booleans")));
    }
    let y = cx.like(kind, x, &[]);
    cx.one(y)
}

fn log(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let epsilon = cx.number(0.0, cx.kind(x));
    let y = cx.like("log", x, &[("epsilon", epsilon)]);
    cx.one(y)
}

fn neg(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let minus = cx.number(-1.0, cx.kind(x));
    let y = cx.binary("mul", x, minus)?;
    cx.one(y)
}

fn reciprocal(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let one = cx.number(1.0, cx.kind(x));
    let y = cx.binary("real_div", one, x)?;
    cx.one(y)
}

fn gelu(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let tanh = cx.node.get_str("approximate", "none")? == "tanh";
    let mode = cx.text(if tanh { "TANH_APPROXIMATION" } else { "EXACT" });
    let y = cx.like("gelu", x, &[("mode", mode)]);
    cx.one(y)
}

fn with_alpha(cx: &mut Lower<'_>, kind: &'static str, default: f32) -> Result<()> {
    let (x, alpha) = (cx.float(0)?, cx.node.get_float("alpha", default)?);
    let alpha = cx.number(alpha, cx.kind(x));
    let y = cx.like(kind, x, &[("alpha", alpha)]);
    cx.one(y)
}

/// Core ML's own keeps what equals the threshold, too.
fn thresholded_relu(cx: &mut Lower<'_>) -> Result<()> {
    let (x, alpha) = (cx.float(0)?, cx.node.get_float("alpha", 1.0)?);
    let kind = cx.kind(x);
    let (alpha, zero) = (cx.number(alpha, kind), cx.number(0.0, kind));
    let above = cx.test("greater", x, alpha)?;
    let kept = cx.select(above, x, zero)?;
    cx.one(kept)
}

/// `alpha · elu(x / alpha)`
fn celu(cx: &mut Lower<'_>) -> Result<()> {
    let (x, alpha) = (cx.float(0)?, cx.node.get_float("alpha", 1.0)?);
    let (alpha, one) = (cx.number(alpha, cx.kind(x)), cx.number(1.0, cx.kind(x)));
    let y = cx.binary("real_div", x, alpha)?;
    let y = cx.like("elu", y, &[("alpha", one)]);
    let y = cx.binary("mul", y, alpha)?;
    cx.one(y)
}

fn selu(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let [alpha, gamma] = [cx.node.get_float("alpha", 1.673_263_2)?, cx.node.get_float("gamma", 1.050_701)?];
    let (alpha, gamma) = (cx.number(alpha, cx.kind(x)), cx.number(gamma, cx.kind(x)));
    let y = cx.like("elu", x, &[("alpha", alpha)]);
    let y = cx.binary("mul", y, gamma)?;
    cx.one(y)
}

/// `x · tanh(softplus(x))`
fn mish(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let y = cx.like("softplus", x, &[]);
    let y = cx.like("tanh", y, &[]);
    let y = cx.binary("mul", x, y)?;
    cx.one(y)
}

fn gate(cx: &mut Lower<'_>, x: Ref, alpha: f32, beta: f32) -> Ref {
    let (alpha, beta) = (cx.number(alpha, cx.kind(x)), cx.number(beta, cx.kind(x)));
    cx.like("sigmoid_hard", x, &[("alpha", alpha), ("beta", beta)])
}

fn hard_sigmoid(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let (alpha, beta) = (cx.node.get_float("alpha", 0.2)?, cx.node.get_float("beta", 0.5)?);
    let y = gate(cx, x, alpha, beta);
    cx.one(y)
}

fn hard_swish(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let y = gate(cx, x, 1.0 / 6.0, 0.5);
    let y = cx.binary("mul", x, y)?;
    cx.one(y)
}

/// `x · sigmoid(alpha · x)`
fn swish(cx: &mut Lower<'_>) -> Result<()> {
    let (x, alpha) = (cx.float(0)?, cx.node.get_float("alpha", 1.0)?);
    if alpha == 1.0 {
        let y = cx.like("silu", x, &[]);
        return cx.one(y);
    }
    let alpha = cx.number(alpha, cx.kind(x));
    let y = cx.binary("mul", x, alpha)?;
    let y = cx.like("sigmoid", y, &[]);
    let y = cx.binary("mul", x, y)?;
    cx.one(y)
}

/// `max(x, 0) + slope · min(x, 0)`, where it is not the channels of images that have a slope each.
fn prelu(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let (dims, slopes, kind) = (cx.dims(0)?, cx.dims(1)?, cx.kind(x));
    let rank = dims.len();
    let old = cx.opset < 7 && slopes.len() == 1 && rank > 1;
    let channels = rank == 4 && (old || slopes.len() == 3) && slopes[0] == dims[1] && slopes[1..].iter().all(|&n| n == 1);
    if channels && cx.constant(1).is_some() {
        let values = cx.numbers(1)?;
        let alpha = cx.floats(kind, &[dims[1]], &values);
        let y = cx.like("prelu", x, &[("alpha", alpha)]);
        return cx.one(y);
    }
    let slope = if old { cx.per_channel(1, rank)? } else { cx.float(1)? };
    let zero = cx.number(0.0, kind);
    let (above, below) = (cx.binary("maximum", x, zero)?, cx.binary("minimum", x, zero)?);
    let below = cx.binary("mul", below, slope)?;
    let y = cx.binary("add", above, below)?;
    cx.one(y)
}

fn clip(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let kind = cx.kind(x);
    let said = |cx: &Lower<'_>, i: usize, name: &str| -> Result<Option<f32>> {
        if cx.node.attrs.contains_key(name) {
            return cx.node.get_float(name, 0.0).map(Some);
        }
        Ok(match cx.constant(i).filter(|c| c.count() == 1) {
            Some(c) if kind.is_float() => c.to_f32s()?.first().copied(),
            _ => None,
        })
    };
    let (low, high) = (said(cx, 1, "min")?, said(cx, 2, "max")?);
    if let (Some(low), Some(high), true) = (low, high, kind.is_float())
        && low <= high
    {
        if (low, high) == (0.0, 6.0) {
            let y = cx.like("relu6", x, &[]);
            return cx.one(y);
        }
        let (low, high) = (cx.number(low, kind), cx.number(high, kind));
        let y = cx.like("clip", x, &[("alpha", low), ("beta", high)]);
        return cx.one(y);
    }
    let mut y = x;
    for (i, operation, said) in [(1, "maximum", low), (2, "minimum", high)] {
        let bound = match said {
            Some(value) => Some(cx.number(value, kind)),
            None => cx.get(i)?,
        };
        if let Some(bound) = bound {
            let bound = cx.reshape(bound, &[]);
            y = cx.binary(operation, y, bound)?;
        }
    }
    cx.one(y)
}
