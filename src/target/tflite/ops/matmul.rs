//! Matrix products: MatMul and Gemm.

use super::conv::int_bias;
use super::spread::binary;
use crate::tflite::builder::{Builder, Form};
use crate::tflite::codes;
use crate::tflite::layout::{permuted, plain};
use crate::tflite::model::{Grid, Kind, Type};
use crate::tflite::rounding::Numbers;
use crate::tflite::tensors::permute;
use compresso_base::error::{Error, Result};
use compresso_model::Node;

/// A layer on the last axis: the weight is a constant of [outputs, inputs] when `turned`, else [inputs, outputs], with a factor.
struct Layer<'n> {
    weight: &'n str,
    turned: bool,
    factor: f32,
    bias: Option<(&'n str, f32)>,
}

/// Writes a layer whose input has its features last. `t` is read in `form` by the caller.
fn layer(b: &mut Builder<'_>, node: &Node, layer: &Layer<'_>, perm: Vec<usize>) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let dims = b.dims(layer.weight)?;
    let (outputs, inputs) = if layer.turned { (dims[0], dims[1]) } else { (dims[1], dims[0]) };
    let order: &[usize] = if layer.turned { &[0, 1] } else { &[1, 0] };
    let numbers = b.layer(node, layer.weight, |s| layer.factor == 1.0 && (s.scales.len() == 1 || s.axis == order[0]))?;
    let t = b.read(x, &perm, numbers.read())?;
    let bias = match layer.bias {
        Some((name, factor)) => b.floats(name)?.iter().map(|v| v * factor).collect(),
        None => vec![0.0],
    };
    // One number for all outputs, or one for each.
    let bias: Vec<f32> = if bias.len() == 1 { vec![bias[0]; outputs] } else { bias };
    let name = layer.bias.map_or("bias", |(name, _)| name).to_string();
    let mut shape = b.of(t).shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let weight = match &numbers {
        Numbers::Integers(s, _) | Numbers::Hybrid(s) => {
            let data = permute(&s.values, &s.dims, order).iter().map(|&v| v as u8).collect();
            b.store(layer.weight, Type::rounded(&[outputs, inputs], Grid::around_zero(Kind::I8, s.scales.clone(), 0)), data)
        }
        Numbers::Real => {
            let values: Vec<f32> = permute(&b.floats(layer.weight)?, &dims, order).iter().map(|v| v * layer.factor).collect();
            b.weight(layer.weight, &[outputs, inputs], &values)?
        }
    };
    let bias = match &numbers {
        Numbers::Integers(s, _) => int_bias(b, &name, &bias, &s.scales, t)?,
        _ => b.f32s(&name, &[outputs], &bias),
    };
    let call =
        if matches!(numbers, Numbers::Hybrid(_)) { codes::hybrid_fully_connected() } else { codes::fully_connected(numbers.fused()) };
    let t = b.op(call, &[t, weight, bias], numbers.made(&shape));
    b.hold_layer(y, numbers, perm, t);
    Ok(())
}

pub(super) fn matmul(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let [x, w] = node.inputs.as_slice() else { return Err(Error::unsupported("two inputs are expected")) };
    let y = &node.outputs[0];
    let (left, right, made) = (b.dims(x)?, b.dims(w)?, b.dims(y)?);
    if b.constant(w).is_some() && right.len() == 2 && left.len() >= 2 {
        // Rows may stand in any order, as long as features are last.
        let held = b.order(x)?;
        let perm = if held.last() == Some(&(left.len() - 1)) { held } else { plain(left.len()) };
        let product = Layer { weight: w, turned: false, factor: 1.0, bias: None };
        return layer(b, node, &product, perm);
    }
    // Vectors are matrices of one row or column.
    let (mut a, mut c) = (matrix(b, x)?, matrix(b, w)?);
    if left.len() == 1 {
        a = (b.reshape(a.0, &[1, left[0]])?, false);
    }
    if right.len() == 1 {
        c = (b.reshape(c.0, &[right[0], 1])?, false);
    }
    let t = product(b, a, c)?;
    let t = if b.of(t).shape == made { t } else { b.reshape(t, &made)? };
    b.hold(y, plain(made.len()), t, Form::Real);
    Ok(())
}

/// A tensor of matrices in the order of the value's axes, or with the last two turned (true).
fn matrix(b: &mut Builder<'_>, name: &str) -> Result<(usize, bool)> {
    let rank = b.dims(name)?.len();
    let own = plain(rank);
    if rank < 2 || b.constant(name).is_some() {
        return Ok((b.read(name, &own, Form::Real)?, false));
    }
    let mut turned = own.clone();
    turned.swap(rank - 2, rank - 1);
    let views: Vec<Vec<usize>> = b.views(name, Form::Real).into_iter().map(|(p, _)| p).collect();
    let is_turned = !views.contains(&own) && (views.contains(&turned) || b.order(name)? == turned);
    Ok((b.read(name, if is_turned { &turned } else { &own }, Form::Real)?, is_turned))
}

/// The product of tensors of matrices, of which some may be turned.
fn product(b: &mut Builder<'_>, (x, turned_x): (usize, bool), (y, turned_y): (usize, bool)) -> Result<usize> {
    let (left, right) = (b.of(x).shape.clone(), b.of(y).shape.clone());
    let size = |s: &[usize], back: usize, turned: bool| s[s.len() - if turned { 3 - back } else { back }];
    let (rows, columns) = (size(&left, 2, turned_x), size(&right, 1, turned_y));
    let rank = left.len().max(right.len());
    let batch = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    let mut shape: Vec<usize> = (0..rank - 2).map(|i| batch(&left, i).max(batch(&right, i))).collect();
    // Up to three axes of matrices: more are one, where both have the same.
    if rank > 5 {
        if left.len() != rank || right.len() != rank || left[..rank - 2] != right[..rank - 2] {
            return Err(Error::unsupported(format!("products of matrices with more than three axes before them, {left:?} and {right:?}")));
        }
        let count = shape.iter().product();
        let flat = |s: &[usize]| [&[count], &s[rank - 2..]].concat();
        let (x, y) = (b.reshape(x, &flat(&left))?, b.reshape(y, &flat(&right))?);
        let t = b.op(codes::batch_matmul([turned_x, turned_y]), &[x, y], Type::f32(&[count, rows, columns]));
        shape.extend([rows, columns]);
        return b.reshape(t, &shape);
    }
    shape.extend([rows, columns]);
    Ok(b.op(codes::batch_matmul([turned_x, turned_y]), &[x, y], Type::f32(&shape)))
}

pub(super) fn gemm(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, w, y) = (&node.inputs[0], &node.inputs[1], &node.outputs[0]);
    let (alpha, beta) = (node.get_float("alpha", 1.0)?, node.get_float("beta", 1.0)?);
    let (turned_x, turned_w) = (node.get_int("transA", 0)? != 0, node.get_int("transB", 0)? != 0);
    let outputs = b.dims(y)?[1];
    let row = |name: &str| -> Result<bool> {
        let dims = b.dims(name)?;
        Ok(b.constant(name).is_some()
            && (dims.iter().product::<usize>() == 1 || dims.last() == Some(&outputs) && dims.iter().product::<usize>() == outputs))
    };
    let bias = node.input(2);
    if b.constant(w).is_some() && !turned_x && bias.map_or(Ok(true), row)? {
        let gemm = Layer { weight: w, turned: turned_w, factor: alpha, bias: bias.map(|n| (n, beta)) };
        return layer(b, node, &gemm, vec![0, 1]);
    }
    let flip = |(t, turned): (usize, bool), by: bool| (t, turned != by);
    let (a, c) = (matrix(b, x)?, matrix(b, w)?);
    let mut t = product(b, flip(a, turned_x), flip(c, turned_w))?;
    if alpha != 1.0 {
        let alpha = b.number(alpha);
        t = binary(b, codes::mul(), t, alpha)?;
    }
    if let Some(bias) = bias {
        let mut plus = b.read_ranked(bias, &[0, 1], Form::Real)?;
        if beta != 1.0 {
            let beta = b.number(beta);
            plus = binary(b, codes::mul(), plus, beta)?;
        }
        t = binary(b, codes::add(), t, plus)?;
    }
    debug_assert_eq!(b.of(t).shape, permuted(&b.dims(y)?, &[0, 1]));
    b.hold(y, vec![0, 1], t, Form::Real);
    Ok(())
}
