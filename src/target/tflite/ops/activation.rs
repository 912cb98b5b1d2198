//! Activations and other functions of one number.

use super::spread::{binary, unary};
use crate::tflite::builder::{Builder, Form};
use crate::tflite::codes::{self, Fused};
use crate::tflite::model::{Call, Kind, Type};
use crate::tflite::rounding::own_steps;
use compresso_base::error::{Error, Result};
use compresso_model::Node;

/// Functions that the runtime has itself, of real numbers.
pub(super) fn function(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    if on_integers(b, node)? {
        return Ok(());
    }
    let perm = b.order(x)?;
    let t = b.read(x, &perm, Form::Real)?;
    let t = apply(b, node, t)?;
    b.hold(y, perm, t, Form::Real);
    Ok(())
}

/// Functions whose kernels compute on integers, where they are rounded before and after; false where they are not.
fn on_integers(b: &mut Builder<'_>, node: &Node) -> Result<bool> {
    let call = match node.op.as_str() {
        "Sigmoid" => codes::logistic(),
        "Tanh" => codes::tanh(),
        "HardSwish" => codes::hard_swish(),
        "LeakyRelu" => codes::leaky_relu(node.get_float("alpha", 0.01)?),
        "Relu" => codes::relu(),
        _ => return Ok(false),
    };
    let x = &node.inputs[0];
    let Some(kind) = b.grid(x).map(|g| g.kind) else { return Ok(false) };
    if kind == Kind::I16 && node.is("HardSwish") {
        return Ok(false);
    }
    let own = own_steps(node, kind);
    let rounding = b.integers(node, &[0])?.filter(|r| r.fused == Fused::Nothing);
    // x · Sigmoid(x) that is rounded again: so is the Sigmoid.
    let gates = node.is("Sigmoid") && rounding.is_none() && is_gate(b, node)?;
    let grid = match (&rounding, gates) {
        (Some(r), _) => own.unwrap_or_else(|| r.grid.clone()),
        (None, true) => own.ok_or_else(|| Error::internal("a Sigmoid has steps of its own"))?,
        (None, false) => return Ok(false),
    };
    let perm = b.order(x)?;
    let t = b.read(x, &perm, Form::Rounded)?;
    let made = Type { grid: Some(grid), ..b.of(t).clone() };
    let t = b.op(call, &[t], made);
    match rounding {
        Some(r) => b.hold_rounded(r, perm, t),
        None => b.hold(&node.outputs[0], perm, t, Form::Rounded),
    }
    Ok(true)
}

/// True for a Sigmoid that a product with a rounded value alone reads, which is rounded in turn.
fn is_gate(b: &Builder<'_>, node: &Node) -> Result<bool> {
    let Some((_, reader)) = b.sole_reader(&node.outputs[0]).filter(|(_, r)| r.is("Mul")) else { return Ok(false) };
    let other = reader.inputs.iter().find(|i| **i != node.outputs[0]);
    Ok(other.is_some_and(|o| b.is_rounded(o)) && b.rounding(reader)?.is_some())
}

/// The function of a tensor.
fn apply(b: &mut Builder<'_>, node: &Node, x: usize) -> Result<usize> {
    let number = |name: &str, default: f32| node.get_float(name, default);
    let call = match node.op.as_str() {
        "Relu" => codes::relu(),
        "Sigmoid" => codes::logistic(),
        "Tanh" => codes::tanh(),
        "Exp" => codes::exp(),
        "Log" => codes::log(),
        "Sqrt" => codes::sqrt(),
        "Abs" => codes::abs(),
        "Neg" => codes::neg(),
        "Floor" => codes::floor(),
        "Ceil" => codes::ceil(),
        "Round" => codes::round(),
        "Sin" => codes::sin(),
        "Cos" => codes::cos(),
        "Sign" => codes::sign(),
        "HardSwish" => codes::hard_swish(),
        "Not" => codes::logical_not(),
        "LeakyRelu" => codes::leaky_relu(number("alpha", 0.01)?),
        "Gelu" => codes::gelu(node.get_str("approximate", "none")? == "tanh"),
        "Elu" if number("alpha", 1.0)? == 1.0 => codes::elu(),
        _ => return composed(b, node, x),
    };
    Ok(unary(b, call, x))
}

/// An operator with a number.
fn with(b: &mut Builder<'_>, call: Call, x: usize, by: f32) -> Result<usize> {
    let by = b.number(by);
    binary(b, call, x, by)
}

/// Functions made of others.
fn composed(b: &mut Builder<'_>, node: &Node, x: usize) -> Result<usize> {
    let number = |name: &str, default: f32| node.get_float(name, default);
    match node.op.as_str() {
        "Reciprocal" => {
            let one = b.number(1.0);
            binary(b, codes::div(), one, x)
        }
        "Clip" => {
            let bounds = b.bounds(node).ok_or_else(|| Error::unsupported("its bounds must be constants"))?;
            clip(b, x, bounds)
        }
        "HardSigmoid" => {
            let (alpha, beta) = (number("alpha", 0.2)?, number("beta", 0.5)?);
            let t = with(b, codes::mul(), x, alpha)?;
            let t = with(b, codes::add(), t, beta)?;
            clip(b, t, (0.0, 1.0))
        }
        "Elu" | "Selu" | "Celu" => {
            let (alpha, gamma) = match node.op.as_str() {
                "Selu" => (number("alpha", 1.673_263_2)?, number("gamma", 1.050_701)?),
                _ => (number("alpha", 1.0)?, 1.0),
            };
            let inner = if node.is("Celu") { 1.0 / alpha } else { 1.0 };
            let above = unary(b, codes::relu(), x);
            let below = with(b, codes::minimum(), x, 0.0)?;
            let below = with(b, codes::mul(), below, inner)?;
            let below = unary(b, codes::exp(), below);
            let below = with(b, codes::sub(), below, 1.0)?;
            let below = with(b, codes::mul(), below, alpha)?;
            let t = binary(b, codes::add(), above, below)?;
            with(b, codes::mul(), t, gamma)
        }
        "Softplus" => softplus(b, x),
        "Mish" => {
            let t = softplus(b, x)?;
            let t = unary(b, codes::tanh(), t);
            binary(b, codes::mul(), x, t)
        }
        "Softsign" => {
            let t = unary(b, codes::abs(), x);
            let t = with(b, codes::add(), t, 1.0)?;
            binary(b, codes::div(), x, t)
        }
        "Swish" => {
            let t = with(b, codes::mul(), x, number("alpha", 1.0)?)?;
            let t = unary(b, codes::logistic(), t);
            binary(b, codes::mul(), x, t)
        }
        "Erf" => erf(b, x),
        other => Err(Error::unsupported(format!("{other} is not written"))),
    }
}

fn clip(b: &mut Builder<'_>, x: usize, (low, high): (f32, f32)) -> Result<usize> {
    if b.of(x).kind == Kind::F32 {
        let call = match (low, high) {
            (0.0, 6.0) => Some(codes::relu6()),
            (-1.0, 1.0) => Some(codes::relu_n1()),
            (0.0, f32::INFINITY) => Some(codes::relu()),
            _ => None,
        };
        if let Some(call) = call {
            return Ok(unary(b, call, x));
        }
    }
    let mut t = x;
    for (call, bound, open) in [(codes::maximum as fn() -> Call, low, f32::NEG_INFINITY), (codes::minimum, high, f32::INFINITY)] {
        if bound != open {
            let kind = b.of(x).kind;
            let bound = if kind == Kind::I32 { b.i32s(&[], &[bound as i32]) } else { b.number(bound) };
            t = binary(b, call(), t, bound)?;
        }
    }
    Ok(t)
}

/// log(1 + exp x), which does not overflow: max(x, 0) + log(1 + exp(-|x|)).
fn softplus(b: &mut Builder<'_>, x: usize) -> Result<usize> {
    let t = unary(b, codes::abs(), x);
    let t = unary(b, codes::neg(), t);
    let t = unary(b, codes::exp(), t);
    let t = with(b, codes::add(), t, 1.0)?;
    let t = unary(b, codes::log(), t);
    let above = unary(b, codes::relu(), x);
    binary(b, codes::add(), above, t)
}

/// The error function by formula 7.1.26 of Abramowitz and Stegun, at most 1.5e-7 off: the runtime has it only inside of GELU.
fn erf(b: &mut Builder<'_>, x: usize) -> Result<usize> {
    let size = unary(b, codes::abs(), x);
    let t = with(b, codes::mul(), size, 0.327_591_1)?;
    let t = with(b, codes::add(), t, 1.0)?;
    let one = b.number(1.0);
    let t = binary(b, codes::div(), one, t)?;
    let mut sum = with(b, codes::mul(), t, 1.061_405_4)?;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        sum = with(b, codes::add(), sum, c)?;
        sum = binary(b, codes::mul(), sum, t)?;
    }
    let square = binary(b, codes::mul(), x, x)?;
    let square = unary(b, codes::neg(), square);
    let tail = unary(b, codes::exp(), square);
    let tail = binary(b, codes::mul(), sum, tail)?;
    let size = binary(b, codes::sub(), one, tail)?;
    let sign = unary(b, codes::sign(), x);
    binary(b, codes::mul(), sign, size)
}

/// x/2 · (1 + erf(x/√2)) as exporters write it: its input, and the nodes between.
pub(super) fn erf_or_gelu(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let Some((x, y, nodes)) = gelu(b, node) else { return function(b, node) };
    let perm = b.order(&x)?;
    let t = b.read(&x, &perm, Form::Real)?;
    let t = unary(b, codes::gelu(false), t);
    b.hold(&y, perm, t, Form::Real);
    b.done.extend(nodes);
    Ok(())
}

/// The input and the output of a GELU around this Erf, and the nodes after it that are part of it.
fn gelu(b: &Builder<'_>, node: &Node) -> Option<(String, String, Vec<usize>)> {
    let constant = |name: &str| b.constant(name).filter(|c| c.count() == 1).and_then(|c| c.to_f32s().ok()?.first().copied());
    // A node's input that is no constant, and the number that it is combined with.
    let pair = |n: &Node| -> Option<(String, f32)> {
        let [p, q] = n.inputs.as_slice() else { return None };
        match (constant(p), constant(q)) {
            (Some(c), None) => Some((q.clone(), c)),
            (None, Some(c)) => Some((p.clone(), c)),
            _ => None,
        }
    };
    let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
    let scaled = b.maker(node.input(0)?)?;
    let (x, by) = pair(scaled)?;
    let root = std::f32::consts::SQRT_2;
    if !(scaled.is("Div") && near(by, root) || scaled.is("Mul") && near(by, 1.0 / root)) {
        return None;
    }
    let (i, plus) = b.sole_reader(node.output(0)?).filter(|(_, n)| n.is("Add"))?;
    if pair(plus)?.1 != 1.0 {
        return None;
    }
    let (j, product) = b.sole_reader(plus.output(0)?).filter(|(_, n)| n.is("Mul"))?;
    let other = product.inputs.iter().find(|n| *n != &plus.outputs[0])?;
    if constant(other).is_some_and(|c| near(c, 0.5)) {
        let (k, last) = b.sole_reader(product.output(0)?).filter(|(_, n)| n.is("Mul"))?;
        return last.inputs.contains(&x).then(|| (x, last.outputs[0].clone(), vec![i, j, k]));
    }
    if *other == x {
        let (k, last) = b.sole_reader(product.output(0)?).filter(|(_, n)| n.is("Mul"))?;
        return near(pair(last)?.1, 0.5).then(|| (x, last.outputs[0].clone(), vec![i, j, k]));
    }
    let half = b.maker(other).filter(|n| n.is("Mul"))?;
    let (same, c) = pair(half)?;
    (same == x && near(c, 0.5)).then(|| (x, product.outputs[0].clone(), vec![i, j]))
}
