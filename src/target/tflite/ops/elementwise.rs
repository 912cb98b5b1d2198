//! What is computed for each element by itself: arithmetic, comparisons, activations.

use super::spread::{binary, spread_op, unary};
use crate::tflite::builder::{Builder, Form, kind_of};
use crate::tflite::codes::{self, Fused};
use crate::tflite::layout::{permuted, plain};
use crate::tflite::model::{Call, Kind, Scalar, Type};
use compresso_base::error::{Error, Result};
use compresso_model::{Element, Graph, Node};

/// The order of axes in which a node with several inputs is computed: that of its largest input, which is no constant.
pub(super) fn common(b: &Builder<'_>, node: &Node, rank: usize) -> Result<Vec<usize>> {
    let mut best = (0, plain(rank));
    for x in node.inputs.iter().filter(|x| !x.is_empty() && b.constant(x).is_none()) {
        let dims = b.dims(x)?;
        let count: usize = dims.iter().product();
        if dims.len() == rank && count > best.0 {
            best = (count, b.order(x)?);
        }
    }
    Ok(best.1)
}

/// Reads the inputs of a node in one order of axes.
fn read_all(b: &mut Builder<'_>, node: &Node, form: Form) -> Result<(Vec<usize>, Vec<usize>)> {
    let rank = b.dims(&node.outputs[0])?.len();
    let perm = common(b, node, rank)?;
    let inputs = node.inputs.iter().map(|x| b.read_ranked(x, &perm, form)).collect::<Result<_>>()?;
    Ok((perm, inputs))
}

/// Operators of two or more inputs of one kind.
pub(super) fn arithmetic(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let call: fn() -> Call = match node.op.as_str() {
        "Add" | "Sum" | "Mean" => codes::add,
        "Sub" => codes::sub,
        "Mul" => codes::mul,
        "Div" => codes::div,
        "Min" => codes::minimum,
        "Max" => codes::maximum,
        _ => codes::floor_mod,
    };
    let on_integers = matches!(node.op.as_str(), "Add" | "Mul" | "Sub") && node.inputs.len() == 2;
    if on_integers && let Some(rounding) = b.integers(node, &[0, 1])? {
        let (perm, inputs) = read_all(b, node, Form::Rounded)?;
        let mut call = call();
        if rounding.fused != Fused::Nothing {
            call.options.push((0, Scalar::Byte(rounding.fused as u8)));
        }
        if rounding.grid.kind == Kind::I16 && !node.is("Mul") {
            // Scales of sums are any, not powers of two.
            call.options.push((1, false.into()));
        }
        let t = spread_op(b, call, &inputs, rounding.grid.kind, Some(rounding.grid.clone()))?;
        b.hold_rounded(rounding, perm, t);
        return Ok(());
    }
    let (perm, inputs) = read_all(b, node, Form::Real)?;
    let mut t = inputs[0];
    for &next in &inputs[1..] {
        t = binary(b, call(), t, next)?;
    }
    if node.is("Mean") {
        let share = b.number(1.0 / inputs.len() as f32);
        t = binary(b, codes::mul(), t, share)?;
    }
    hold_spread(b, node, perm, t)
}

/// Holds a result that has the rank of the output: inputs of fewer axes may have made one of fewer.
fn hold_spread(b: &mut Builder<'_>, node: &Node, perm: Vec<usize>, t: usize) -> Result<()> {
    let y = &node.outputs[0];
    let shape = permuted(&b.dims(y)?, &perm);
    let t = if b.of(t).shape == shape { t } else { b.reshape(t, &shape)? };
    b.hold(y, perm, t, Form::Real);
    Ok(())
}

/// Remainders of integers, with the divisor's sign.
pub(super) fn takes_mod(_: &Graph, node: &Node) -> bool {
    node.get_int("fmod", 0).is_ok_and(|f| f == 0)
}

pub(super) fn power(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let exponent = b.constant(&node.inputs[1]).filter(|c| c.count() == 1).and_then(|c| c.to_f32s().ok()?.first().copied());
    if b.kind(&node.inputs[0])? != Kind::F32 {
        return Err(Error::unsupported("powers of integers are not written"));
    }
    let (perm, inputs) = match exponent {
        Some(_) => {
            let perm = b.order(&node.inputs[0])?;
            let t = b.read(&node.inputs[0], &perm, Form::Real)?;
            (perm, vec![t])
        }
        None => read_all(b, node, Form::Real)?,
    };
    let x = inputs[0];
    let t = match exponent {
        Some(2.0) => binary(b, codes::mul(), x, x)?,
        Some(0.5) => unary(b, codes::sqrt(), x),
        Some(-0.5) => unary(b, codes::rsqrt(), x),
        Some(e) => {
            let e = b.number(e);
            binary(b, codes::pow(), x, e)?
        }
        None => binary(b, codes::pow(), x, inputs[1])?,
    };
    hold_spread(b, node, perm, t)
}

/// Comparisons and logic, whose result is true or false.
pub(super) fn logic(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let call = match node.op.as_str() {
        "Less" => codes::less(),
        "LessOrEqual" => codes::less_equal(),
        "Greater" => codes::greater(),
        "GreaterOrEqual" => codes::greater_equal(),
        "Equal" => codes::equal(),
        "And" => codes::logical_and(),
        "Or" => codes::logical_or(),
        _ => codes::not_equal(),
    };
    let (perm, inputs) = read_all(b, node, Form::Real)?;
    let t = spread_op(b, call, &inputs, Kind::Bool, None)?;
    hold_spread(b, node, perm, t)
}

pub(super) fn choose(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (perm, inputs) = read_all(b, node, Form::Real)?;
    let kind = b.of(inputs[1]).kind;
    let t = spread_op(b, codes::select_v2(), &inputs, kind, None)?;
    hold_spread(b, node, perm, t)
}

/// The slope of a PRelu, one number or one for each channel.
pub(super) fn prelu(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let rank = b.dims(&node.inputs[0])?.len();
    let perm = b.order(&node.inputs[0])?;
    let x = b.read(&node.inputs[0], &perm, Form::Real)?;
    // Slopes belong to the last axes, or to channels of their own shape.
    let slope = b.read_ranked(&node.inputs[1], &perm, Form::Real)?;
    let zero = b.number(0.0);
    let above = unary(b, codes::relu(), x);
    let below = binary(b, codes::minimum(), x, zero)?;
    let below = binary(b, codes::mul(), below, slope)?;
    let t = binary(b, codes::add(), above, below)?;
    debug_assert_eq!(rank, perm.len());
    b.hold(&node.outputs[0], perm, t, Form::Real);
    Ok(())
}

pub(super) fn takes_cast(_: &Graph, node: &Node) -> bool {
    let to = node.get_int("to", 1).ok().and_then(|t| Element::from_code(i32::try_from(t).ok()?));
    to.is_some_and(|e| kind_of(e).is_ok())
}

/// Types that the file has alike are one: int64 is int32 there, all floats are float32.
pub(super) fn cast(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let (from, to) = (b.kind(x)?, b.kind(y)?);
    let perm = b.order(x)?;
    let mut t = b.read(x, &perm, Form::Real)?;
    if from != to {
        let made = Type::new(to, &b.of(t).shape);
        t = b.op(codes::cast(from, to), &[t], made);
    }
    b.hold(y, perm, t, Form::Real);
    Ok(())
}
