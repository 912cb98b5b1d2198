//! Operators that work element by element: activations, functions, and pairs of operands that are broadcast.

use super::build::{Build, Held, input, output};
use super::net::{Blob, Layer, Weight};
use super::shape::{broadcast, with_axes};
use compresso_base::error::{Error, Result};
use compresso_model::Node;

/// A BinaryOp's number, and the number of it with its operands in the other order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub op: usize,
    pub turned: usize,
}

pub(super) const ADD: Pair = Pair { op: 0, turned: 0 };
pub(super) const SUB: Pair = Pair { op: 1, turned: 7 };
pub(super) const MUL: Pair = Pair { op: 2, turned: 2 };
pub(super) const DIV: Pair = Pair { op: 3, turned: 8 };
pub(super) const MAX: Pair = Pair { op: 4, turned: 4 };
pub(super) const MIN: Pair = Pair { op: 5, turned: 5 };
pub(super) const POW: Pair = Pair { op: POWER, turned: 9 };
const POWER: usize = 6;

pub(super) const EXP: usize = 7;
pub(super) const LOG: usize = 8;
const SQUARE: usize = 4;
const SQRT: usize = 5;
const RECIPROCAL: usize = 15;

/// UnaryOp's numbers by ONNX's names.
const FUNCTIONS: &[(&str, usize)] = &[
    ("Abs", 0),
    ("Neg", 1),
    ("Floor", 2),
    ("Ceil", 3),
    ("Sqrt", SQRT),
    ("Exp", EXP),
    ("Log", LOG),
    ("Sin", 9),
    ("Cos", 10),
    ("Tan", 11),
    ("Asin", 12),
    ("Acos", 13),
    ("Atan", 14),
    ("Reciprocal", RECIPROCAL),
    ("Round", 18),
];

/// A UnaryOp by ONNX's name.
fn function(name: &str) -> Option<Layer> {
    FUNCTIONS.iter().find(|(n, _)| *n == name).map(|&(_, op)| Layer::new("UnaryOp").int(0, op))
}

/// The layer of an operator with one operand; `None` for another operator.
///
/// # Errors
/// `Unsupported` for a form that NCNN lacks.
pub(super) fn activation(cx: &Build<'_>, node: &Node) -> Result<Option<Layer>> {
    let float = |name: &str, default: f32| node.get_float(name, default);
    Ok(Some(match node.op.as_str() {
        "Relu" => Layer::new("ReLU"),
        "LeakyRelu" => Layer::new("ReLU").float(0, float("alpha", 0.01)?),
        "Sigmoid" => Layer::new("Sigmoid"),
        "Tanh" => Layer::new("TanH"),
        "Erf" => Layer::new("Erf"),
        "Mish" => Layer::new("Mish"),
        "Softplus" => Layer::new("Softplus"),
        "Elu" => Layer::new("ELU").float(0, float("alpha", 1.0)?),
        "Celu" => Layer::new("CELU").float(0, float("alpha", 1.0)?),
        "Selu" => {
            let (alpha, gamma) = (float("alpha", 1.673_263_2)?, float("gamma", 1.050_701)?);
            Layer::new("SELU").float(0, alpha).float(1, gamma)
        }
        "HardSigmoid" => Layer::new("HardSigmoid").float(0, float("alpha", 0.2)?).float(1, float("beta", 0.5)?),
        "HardSwish" => Layer::new("HardSwish").float(0, 1.0 / 6.0).float(1, 0.5),
        "Swish" if float("alpha", 1.0)? == 1.0 => Layer::new("Swish"),
        "Gelu" => Layer::new("GELU").int(0, usize::from(node.get_str("approximate", "none")? == "tanh")),
        "Clip" => {
            let bound = |i: usize, name: &str, none: f32| -> Result<f32> {
                let value = match node.input(i) {
                    Some(_) => cx.floats(node, i, "the bound")?.first().copied().unwrap_or(none),
                    None => node.get_float(name, none)?,
                };
                Ok(value.clamp(f32::MIN, f32::MAX))
            };
            Layer::new("Clip").float(0, bound(1, "min", f32::MIN)?).float(1, bound(2, "max", f32::MAX)?)
        }
        name => match function(name) {
            Some(layer) => layer,
            None => return Ok(None),
        },
    }))
}

/// A scalar that is known.
fn scalar(cx: &Build<'_>, name: &str) -> Result<Option<f32>> {
    match cx.constant(name).filter(|c| c.count() == 1 && c.element().is_float()) {
        Some(c) => Ok(c.to_f32s()?.first().copied().filter(|v| v.is_finite())),
        None => Ok(None),
    }
}

/// Operators with several operands, taken two at a time.
pub(super) fn chain(cx: &mut Build<'_>, node: &Node, pair: Pair) -> Result<()> {
    let out = cx.output_dims(node)?;
    let first = input(node, 0)?;
    if node.inputs.len() == 1 {
        return cx.same(node);
    }
    let (mut so_far, mut dims) = (first.to_string(), cx.dims(first)?);
    for (i, name) in node.inputs.iter().enumerate().skip(1) {
        let next = cx.dims(name)?;
        let dims_out = if i + 1 == node.inputs.len() { out.clone() } else { joint(&dims, &next) };
        let held = combine(cx, pair, (&so_far, &dims), (name, &next), &dims_out)?;
        // A name that no value has: those of the graph have no line breaks in front.
        so_far = format!("\n{i}{}", output(node)?);
        cx.set(&so_far, held.blob, held.shape);
        dims = dims_out;
    }
    let held = cx.held(&so_far)?;
    if node.op == "Mean" {
        let layer = Layer::new("BinaryOp").int(0, MUL.op).int(1, 1).float(2, 1.0 / node.inputs.len() as f32);
        let blob = cx.layer(layer, &[held.blob]);
        return cx.made(node, blob, held.shape);
    }
    cx.made(node, held.blob, held.shape)
}

/// A blob to a power. NCNN takes powers by logarithms, which negative numbers have none of: whole powers are products.
fn power(cx: &mut Build<'_>, x: Blob, exponent: f32) -> Blob {
    if exponent == 0.5 {
        return cx.layer(Layer::new("UnaryOp").int(0, SQRT), &[x]);
    }
    if exponent.fract() != 0.0 || !(1.0..=64.0).contains(&exponent.abs()) {
        return cx.layer(Layer::new("BinaryOp").int(0, POWER).int(1, 1).float(2, exponent), &[x]);
    }
    let (mut left, mut square, mut product) = (exponent.abs() as u32, x, None);
    loop {
        if left % 2 == 1 {
            product = Some(match product {
                None => square,
                Some(so_far) => cx.layer(Layer::new("BinaryOp").int(0, MUL.op), &[so_far, square]),
            });
        }
        left /= 2;
        match product {
            Some(product) if left == 0 && exponent > 0.0 => return product,
            Some(product) if left == 0 => return cx.layer(Layer::new("UnaryOp").int(0, RECIPROCAL), &[product]),
            _ => square = cx.layer(Layer::new("UnaryOp").int(0, SQUARE), &[square]),
        }
    }
}

/// The sizes that two tensors broadcast to, which inference has checked.
fn joint(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank).map(|i| at(a, i).max(at(b, i))).collect()
}

/// An operator with two operands.
pub(super) fn binary(cx: &mut Build<'_>, node: &Node, pair: Pair) -> Result<()> {
    let (a, b) = (input(node, 0)?, input(node, 1)?);
    let (dims_a, dims_b, out) = (cx.dims(a)?, cx.dims(b)?, cx.output_dims(node)?);
    let held = combine(cx, pair, (a, &dims_a), (b, &dims_b), &out)?;
    cx.made(node, held.blob, held.shape)
}

fn combine(cx: &mut Build<'_>, pair: Pair, a: (&str, &[usize]), b: (&str, &[usize]), out: &[usize]) -> Result<Held> {
    let count = |dims: &[usize]| dims.iter().product::<usize>();
    for (scalar_of, other, op) in [(b, a, pair.op), (a, b, pair.turned)] {
        if count(other.1) == count(out)
            && let Some(value) = scalar(cx, scalar_of.0)?
        {
            let held = cx.held(other.0)?;
            let blob = match op {
                POWER => power(cx, held.blob, value),
                _ => cx.layer(Layer::new("BinaryOp").int(0, op).int(1, 1).float(2, value), &[held.blob]),
            };
            return Ok(Held { blob, shape: held.shape });
        }
    }
    let layer = Layer::new("BinaryOp").int(0, pair.op);
    if count(a.1) == count(out) && count(b.1) == count(out) {
        // In the shape of the one that is computed.
        let (shape, view_a, view_b);
        if cx.constant(a.0).is_some() {
            let held = cx.held(b.0)?;
            (shape, view_b) = (held.shape, held.blob);
            view_a = cx.view(a.0, &shape)?;
        } else {
            let held = cx.held(a.0)?;
            (shape, view_a) = (held.shape, held.blob);
            view_b = cx.view(b.0, &shape)?;
        }
        return Ok(Held { blob: cx.layer(layer, &[view_a, view_b]), shape });
    }
    let [shape_a, shape_b, shape] = broadcast(a.1, b.1, out)
        .ok_or_else(|| Error::unsupported(format!("{:?} and {:?} are broadcast along more than NCNN's four axes", a.1, b.1)))?;
    let views = [cx.view(a.0, &shape_a)?, cx.view(b.0, &shape_b)?];
    Ok(Held { blob: cx.layer(layer, &views), shape })
}

/// A slope for all, or for each index of an axis with nothing but the batch before it.
pub(super) fn prelu(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let dims = cx.input_dims(node, 0)?;
    let slopes = cx.floats(node, 1, "the slope")?;
    let of = cx.input_dims(node, 1)?;
    let layer = |n: usize| Layer::new("PReLU").int(0, n).weight(Weight::Plain(slopes.clone()));
    if slopes.len() == 1 {
        return cx.elementwise(node, layer(1));
    }
    let long: Vec<usize> = (0..of.len()).filter(|&i| of[i] != 1).map(|i| i + dims.len() - of.len()).collect();
    let refused = || Error::unsupported(format!("slopes {of:?} for {dims:?}: NCNN has one for all, or one for each channel"));
    let [channel] = long[..] else { return Err(refused()) };
    if dims[..channel].iter().any(|&d| d != 1) {
        return Err(refused());
    }
    let (shape, _) = with_axes(&dims[channel..], &[0]).ok_or_else(refused)?;
    let blob = cx.view(input(node, 0)?, &shape)?;
    let blob = cx.layer(layer(slopes.len()), &[blob]);
    cx.made(node, blob, shape)
}
