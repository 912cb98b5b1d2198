//! Order and repetition of axes: Transpose, Expand, Identity.
//!
//! <https://onnx.ai/onnx/operators/onnx__Transpose.html> and siblings.

use super::backward::{Back, Flow};
use super::def::{OpDef, operators};
use super::elementwise::{Binary, binary};
use super::facts::{Item, axes_of, fact, items, open_shape, size};
use super::ints::broadcast_dims;
use super::run::Exec;
use super::shape::labels;
use crate::graph::{Dim, Fact, Infer, Node, broadcast};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
operators! {
    pub const TRANSPOSE: &str = "Transpose";
    pub const IDENTITY: &str = "Identity";
    pub const EXPAND: &str = "Expand";
}

/// Operators that reorder axes, repeat values along them, or pass values on as they are.
pub const OPS: &[OpDef] = &[
    OpDef::new(TRANSPOSE, &[1, 13, 21, 23, 24], infer_transpose, transpose)
        .moves()
        .backward(|_| Some(transpose_backward))
        .channels(labels::transpose),
    OpDef::new(EXPAND, &[8, 13], infer_expand, expand).moves().channels(labels::expand),
    OpDef::new(IDENTITY, &[1, 13, 14, 16, 19, 21, 23, 24], infer_identity, identity)
        .moves()
        .homogeneous()
        .channels(labels::identity)
        .sequences(),
];

/// The gradient with its axes in the order that the data had.
fn transpose_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let gy = back.gradient()?;
    let perm = permutation(back.cx.node, gy.rank())?;
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
    Ok(vec![(0, Flow::Shared(gy.permute(inverse)?))])
}

fn permutation(node: &Node, rank: usize) -> Result<Vec<usize>> {
    let Some(perm) = node.find_ints("perm")? else { return Ok((0..rank).rev().collect()) };
    if perm.len() != rank {
        return Err(Error::shape(format!("the permutation {perm:?} does not fit rank {rank}")));
    }
    axes_of(perm, rank)
}

fn infer_transpose(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    let perm = permutation(cx.node, shape.len())?;
    Ok(vec![fact(x.element, Some(perm.iter().map(|&i| shape[i].clone()).collect()))])
}

fn transpose(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let perm = permutation(cx.node, x.rank())?;
    cx.one(if perm.len() < 2 { x.clone() } else { x.permute(perm)? })
}

fn infer_expand(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(target) = items(cx.input(1)?) else {
        let rank = cx.shape(1)?.and_then(|s| s.first().and_then(Dim::known)).zip(x.rank()).map(|(a, b)| a.max(b));
        return Ok(vec![fact(x.element, open_shape(rank)?)]);
    };
    let target: Vec<Dim> = target.iter().map(Item::to_dim).collect();
    let shape = x.shape.as_ref().map(|s| broadcast(s, &target)).transpose()?;
    Ok(vec![fact(x.element, shape)])
}

fn expand(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let target = cx.ints(1)?.ok_or_else(|| Error::format("the target shape is missing"))?;
    let target = target.iter().map(|&v| size(v, "a target size")).collect::<Result<Vec<_>>>()?;
    let dims = broadcast_dims(x.dims(), &target)?;
    if dims == x.dims() {
        return cx.one(x.tensor.clone());
    }
    if x.element.is_float() && !dims.contains(&0) {
        // By way of an addition, whose gradient sums quickly.
        let zeros = Tensor::zeros(dims, x.tensor.dtype(), x.tensor.device())?;
        return cx.one(binary(Binary::Add, &x.tensor, &zeros)?);
    }
    cx.one(x.tensor.broadcast_as(dims)?.contiguous()?)
}

fn infer_identity(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![cx.input(0)?.clone()])
}

fn identity(cx: &Exec<'_>) -> Result<Vec<Value>> {
    Ok(vec![cx.input(0)?.clone()])
}
