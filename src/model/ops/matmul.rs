//! Matrix products: MatMul, Gemm, MatMulInteger.
//!
//! <https://onnx.ai/onnx/operators/onnx__MatMul.html>, <https://onnx.ai/onnx/operators/onnx__Gemm.html>.

use super::channels::{self, AxisLabels, Channels};
use super::cost::{self, CostInput};
use super::def::{OpDef, ParamKind, operators};
use super::elementwise::{Binary, binary};
use super::facts::{fact, same_elements};
use super::ints::{Ints, broadcast_dims, broadcast_offsets};
use super::roles::Data;
use super::run::Exec;
use super::weight::{ChannelAxis, WeightAxes, WeightRule};
use crate::element::Element;
use crate::graph::{Cost, Dim, Fact, Infer, Node, broadcast};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};

operators! {
    pub const MATMUL: &str = "MatMul";
    pub const GEMM: &str = "Gemm";
    pub const MATMUL_INTEGER: &str = "MatMulInteger";
}

/// Products of matrices, on floats and on integers.
pub const OPS: &[OpDef] = &[
    OpDef::new(MATMUL, &[1, 9, 13], infer_matmul, matmul_op)
        .sums()
        .cost(matmul_cost)
        .data(Data::All)
        .layer(WeightRule::new(1, matmul_axes).integer(MATMUL_INTEGER))
        .params(&[(0, ParamKind::Weight), (1, ParamKind::Weight)])
        .channels(matmul_channels),
    OpDef::new(GEMM, &[7, 9, 11, 13], infer_gemm, gemm)
        .sums()
        .cost(gemm_cost)
        .layer(WeightRule::new(1, gemm_axes).integer(MATMUL_INTEGER))
        .params(&[(1, ParamKind::Weight), (2, ParamKind::Bias)])
        .channels(gemm_channels),
    OpDef::new(MATMUL_INTEGER, &[10], infer_matmul_integer, matmul_integer)
        .cost(matmul_cost)
        .quantized(Some(WeightRule::new(1, matmul_axes))),
];

/// `[…, in, out]`; a vector has no output channels.
pub(super) fn matmul_axes(_: &Node, rank: usize) -> Result<Option<WeightAxes>> {
    let axes = |last: usize| WeightAxes { output: ChannelAxis::whole(last), input: ChannelAxis::whole(last - 1) };
    Ok((rank >= 2).then(|| axes(rank - 1)))
}

/// `[in, out]`, or `[out, in]` where `transB` says so.
pub(super) fn gemm_axes(node: &Node, rank: usize) -> Result<Option<WeightAxes>> {
    let output = usize::from(node.get_int("transB", 0)? == 0);
    let axes = WeightAxes { output: ChannelAxis::whole(output), input: ChannelAxis::whole(1 - output) };
    Ok((rank == 2).then_some(axes))
}

/// The shape of a product: batch axes broadcast, vectors lose the axis that was added for them.
pub fn product_shape(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>> {
    if a.is_empty() || b.is_empty() {
        return Err(Error::shape("a matrix product needs operands of rank 1 or more"));
    }
    let (ka, kb) = (&a[a.len() - 1], &b[b.len().saturating_sub(2)]);
    if !ka.compatible(kb) {
        return Err(Error::shape(format!("the last axis of the first operand ({ka}) and the second last of the second ({kb}) differ")));
    }
    let (batch_a, batch_b) = (&a[..a.len().saturating_sub(2)], &b[..b.len().saturating_sub(2)]);
    let mut shape = broadcast(batch_a, batch_b)?;
    if a.len() > 1 {
        shape.push(a[a.len() - 2].clone());
    }
    if b.len() > 1 {
        shape.push(b[b.len() - 1].clone());
    }
    Ok(shape)
}

fn infer_matmul(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    same_elements(cx, 0)?;
    let shape = match (cx.shape(0)?, cx.shape(1)?) {
        (Some(a), Some(b)) => Some(product_shape(a, b)?),
        _ => None,
    };
    Ok(vec![fact(cx.input(0)?.element, shape)])
}

fn infer_matmul_integer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let shape = match (cx.shape(0)?, cx.shape(1)?) {
        (Some(a), Some(b)) => Some(product_shape(a, b)?),
        _ => None,
    };
    Ok(vec![fact(Element::I32, shape)])
}

fn matmul_cost(cx: &CostInput<'_>) -> Cost {
    let inner = cx.inputs.first().copied().flatten().and_then(|f| f.dim(-1)).unwrap_or(0) as u64;
    Cost { macs: cost::times(cx.outputs.first().and_then(|f| cost::elements(f)).unwrap_or(0), inner), other: 0 }
}

/// The product of float matrices with broadcast batch axes, as `numpy.matmul`.
///
/// # Errors
/// `Shape` when the operands do not fit.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dims = |t: &Tensor| t.dims().iter().map(|&d| Dim::Known(d)).collect::<Vec<_>>();
    let out: Vec<usize> = product_shape(&dims(a), &dims(b))?.iter().filter_map(Dim::known).collect();
    if a.elem_count() == 0 || b.elem_count() == 0 {
        return Ok(Tensor::zeros(out, a.dtype(), a.device())?);
    }
    let a2 = if a.rank() == 1 { a.unsqueeze(0)? } else { a.clone() };
    let b2 = if b.rank() == 1 { b.unsqueeze(1)? } else { b.clone() };
    let product = if b2.rank() == 2 {
        let k = a2.dim(a2.rank() - 1)?;
        a2.reshape(((), k))?.matmul(&b2)?
    } else {
        let batch = broadcast_dims(&a2.dims()[..a2.rank() - 2], &b2.dims()[..b2.rank() - 2])?;
        let whole = |t: &Tensor| -> Result<Tensor> {
            let matrix = &t.dims()[t.rank() - 2..];
            let full: Vec<usize> = batch.iter().chain(matrix).copied().collect();
            let t = if t.dims() == full { t.clone() } else { t.broadcast_as(full)? };
            // One batch axis whatever their number; a transposed matrix stays a view where its batches are evenly spaced.
            let count = batch.iter().product::<usize>();
            Ok(if batch.len() == 1 && t.stride()[0] == matrix[0] * matrix[1] && even(&t) {
                t
            } else {
                t.contiguous()?.reshape((count, matrix[0], matrix[1]))?
            })
        };
        whole(&a2)?.matmul(&whole(&b2)?)?
    };
    Ok(product.reshape(out)?)
}

/// True when the last two axes are a matrix or its transpose without gaps.
fn even(t: &Tensor) -> bool {
    let (rank, dims, stride) = (t.rank(), t.dims(), t.stride());
    let (rows, cols) = (dims[rank - 2], dims[rank - 1]);
    (stride[rank - 1] == 1 && stride[rank - 2] == cols) || (stride[rank - 2] == 1 && stride[rank - 1] == rows)
}

fn matmul_op(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    if a.element != b.element {
        return Err(Error::dtype(format!("expected operands of one type, got {} and {}", a.element, b.element)));
    }
    if a.element.is_float() {
        return cx.one(matmul(&a.tensor, &b.tensor)?);
    }
    Ok(vec![int_matmul(&Ints::of(a)?, &Ints::of(b)?)?.into_value(a.element, a.tensor.device())?])
}

/// The product of integer matrices with broadcast batch axes.
pub fn int_matmul(a: &Ints, b: &Ints) -> Result<Ints> {
    let dims = |t: &Ints| t.dims.iter().map(|&d| Dim::Known(d)).collect::<Vec<_>>();
    let out: Vec<usize> = product_shape(&dims(a), &dims(b))?.iter().filter_map(Dim::known).collect();
    let (m, k) = (if a.dims.len() > 1 { a.dims[a.dims.len() - 2] } else { 1 }, a.dims[a.dims.len() - 1]);
    let n = if b.dims.len() > 1 { b.dims[b.dims.len() - 1] } else { 1 };
    let (batch_a, batch_b) = (&a.dims[..a.dims.len().saturating_sub(2)], &b.dims[..b.dims.len().saturating_sub(2)]);
    let batch = broadcast_dims(batch_a, batch_b)?;
    let mut data = vec![0i64; out.iter().product()];
    let pairs = broadcast_offsets(batch_a, &batch).into_iter().zip(broadcast_offsets(batch_b, &batch));
    for (i, (at_a, at_b)) in pairs.enumerate() {
        let (left, right) = (&a.data[at_a * m * k..], &b.data[at_b * k * n..]);
        for row in 0..m {
            let target = &mut data[(i * m + row) * n..(i * m + row + 1) * n];
            for inner in 0..k {
                let x = left[row * k + inner];
                for (t, &y) in target.iter_mut().zip(&right[inner * n..(inner + 1) * n]) {
                    *t = t.wrapping_add(x.wrapping_mul(y));
                }
            }
        }
    }
    Ok(Ints { dims: out, data })
}

/// An integer operand with its zero point taken off. A vector of zero points runs along the rows of the first operand
/// (`axis` -2) or the columns of the second (-1).
pub fn centered(value: &Value, zero: Option<&Value>, axis: usize) -> Result<Ints> {
    let mut x = Ints::of(value)?;
    let Some(zero) = zero else { return Ok(x) };
    let z = Ints::of(zero)?;
    let rank = x.dims.len();
    let shape = match (z.data.len(), z.dims.len()) {
        (1, _) => vec![1; rank],
        (_, 1) if rank >= axis => {
            let mut s = vec![1; rank];
            s[rank - axis] = z.data.len();
            s
        }
        _ => z.dims.clone(),
    };
    if broadcast_dims(&shape, &x.dims)? != x.dims {
        return Err(Error::shape(format!("zero points {:?} do not fit the operand {:?}", z.dims, x.dims)));
    }
    let at = broadcast_offsets(&shape, &x.dims);
    x.data.iter_mut().zip(at).for_each(|(v, i)| *v -= z.data[i]);
    Ok(x)
}

fn matmul_integer(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let a = centered(cx.input(0)?, cx.get(2), 2)?;
    let b = centered(cx.input(1)?, cx.get(3), 1)?;
    Ok(vec![int_matmul(&a, &b)?.into_value(Element::I32, &cx.device())?])
}

/// Gemm's sizes (rows, columns) from the operand shapes and transposition flags.
fn gemm_shape(cx: &Infer<'_>) -> Result<Option<Vec<Dim>>> {
    let (Some(a), Some(b)) = (cx.shape(0)?, cx.shape(1)?) else { return Ok(None) };
    if a.len() != 2 || b.len() != 2 {
        return Err(Error::shape(format!("expected matrices, got operands of rank {} and {}", a.len(), b.len())));
    }
    let (ta, tb) = (cx.node.get_int("transA", 0)? != 0, cx.node.get_int("transB", 0)? != 0);
    let (m, ka) = if ta { (&a[1], &a[0]) } else { (&a[0], &a[1]) };
    let (kb, n) = if tb { (&b[1], &b[0]) } else { (&b[0], &b[1]) };
    if !ka.compatible(kb) {
        return Err(Error::shape(format!("inner sizes {ka} and {kb} differ")));
    }
    Ok(Some(vec![m.clone(), n.clone()]))
}

fn infer_gemm(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let shape = gemm_shape(cx)?;
    if let (Some(out), Some(c)) = (&shape, cx.get(2).and_then(|c| c.shape.as_deref())) {
        broadcast(out, c)?;
    }
    Ok(vec![fact(cx.input(0)?.element, shape)])
}

fn gemm_cost(cx: &CostInput<'_>) -> Cost {
    let inner_axis = if cx.node.get_int("transA", 0).unwrap_or(0) != 0 { 0 } else { 1 };
    let inner = cx.inputs.first().copied().flatten().and_then(|f| f.dim(inner_axis)).unwrap_or(0) as u64;
    let out = cx.outputs.first().and_then(|f| cost::elements(f)).unwrap_or(0);
    Cost { macs: cost::times(out, inner), other: if cx.inputs.len() > 2 { out } else { 0 } }
}

fn gemm(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    if a.dims().len() != 2 || b.dims().len() != 2 {
        return Err(Error::shape(format!("expected matrices, got {:?} and {:?}", a.dims(), b.dims())));
    }
    let (alpha, beta) = (cx.node.get_float("alpha", 1.0)?, cx.node.get_float("beta", 1.0)?);
    let (ta, tb) = (cx.node.get_int("transA", 0)? != 0, cx.node.get_int("transB", 0)? != 0);
    // Integer matrices are small where they occur; float64 holds their products exactly up to 2^53.
    let exact = |v: &Value| -> Result<Tensor> { Ok(if v.element.is_float() { v.tensor.clone() } else { v.tensor.to_dtype(DType::F64)? }) };
    let turn = |t: Tensor, by: bool| -> Result<Tensor> { Ok(if by { t.t()? } else { t }) };
    let mut out = matmul(&turn(exact(a)?, ta)?, &turn(exact(b)?, tb)?)?;
    if alpha != 1.0 {
        out = (out * f64::from(alpha))?;
    }
    if let Some(c) = cx.get(2) {
        let c = exact(c)?;
        let c = if beta == 1.0 { c } else { (c * f64::from(beta))? };
        let dims = out.dims().to_vec();
        out = binary(Binary::Add, &out, &c)?;
        if out.dims() != dims {
            return Err(Error::shape(format!("the addend {:?} does not broadcast to {dims:?}", c.dims())));
        }
    }
    if a.element.is_float() {
        return cx.one(out);
    }
    let data = out.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    Ok(vec![Ints { dims: out.dims().to_vec(), data }.into_value(a.element, a.tensor.device())?])
}

/// The two axes over which a product sums: they go together. Leaving an index out needs that one factor is zero there.
fn contract(cx: &mut Channels<'_>, a: &AxisLabels, b: &AxisLabels) -> Result<()> {
    cx.join(a, b)?;
    if !cx.zero(0) && !cx.zero(1) {
        cx.because("sums over them, and they are not zero in either factor when their weights are");
        cx.freeze(a);
        cx.freeze(b);
    }
    Ok(())
}

/// Channels of MatMul: `[…, m, k] × […, k, n]`.
fn matmul_channels(cx: &mut Channels<'_>) -> Result<()> {
    let (a, b) = (cx.axes(0)?, cx.axes(1)?);
    let (ra, rb) = (a.len(), b.len());
    if ra == 0 || rb == 0 {
        return channels::fixed(cx);
    }
    let batch = channels::join_broadcast(cx, &[0, 1], 2)?;
    contract(cx, &a[ra - 1], &b[rb.saturating_sub(2)])?;
    let (zero_a, zero_b) = (cx.zero(0), cx.zero(1));
    let mut zero = batch.axes.iter().all(Option::is_none) || zero_a || zero_b;
    let mut axes = batch.axes;
    if ra >= 2 {
        zero &= a[ra - 2].is_none() || zero_a;
        axes.push(a[ra - 2].clone());
        cx.layer(0, ra - 2);
    }
    if rb >= 2 {
        zero &= b[rb - 1].is_none() || zero_b;
        axes.push(b[rb - 1].clone());
        cx.layer(1, rb - 1);
    }
    cx.set(0, axes);
    cx.set_zero(0, zero);
    Ok(())
}

/// Channels of Gemm: `[m, k] × [k, n] + c`, each factor possibly transposed.
fn gemm_channels(cx: &mut Channels<'_>) -> Result<()> {
    let (ta, tb) = (cx.node.get_int("transA", 0)? != 0, cx.node.get_int("transB", 0)? != 0);
    let (a, b) = (cx.axes(0)?, cx.axes(1)?);
    let ([a0, a1], [b0, b1]) = (a.as_slice(), b.as_slice()) else { return channels::fixed(cx) };
    let (m, ka) = if ta { (a1, a0) } else { (a0, a1) };
    let (kb, n) = if tb { (b1, b0) } else { (b0, b1) };
    contract(cx, ka, kb)?;
    let mut zero = (m.is_none() || cx.zero(0)) && (n.is_none() || cx.zero(1));
    if cx.node.input(2).is_some() {
        let sizes = cx.out_shape(0)?;
        let c = cx.axes(2)?;
        let shape = cx.shape(2)?;
        zero &= cx.zero(2);
        for (k, (out, labels)) in [m, n].into_iter().zip(&sizes).enumerate().map(|(k, (l, d))| (k, (d, l))) {
            // The axis of `c` that is aligned with axis `k` of the output.
            match (k + c.len()).checked_sub(2).filter(|&i| shape[i] == *out) {
                Some(i) => cx.join(labels, &c[i])?,
                None => zero &= labels.is_none(),
            }
        }
        for (labels, size) in c.iter().zip(&shape) {
            if *size == Dim::Known(1) {
                cx.freeze(labels);
            }
        }
    }
    cx.layer(1, usize::from(!tb));
    cx.set(0, vec![m.clone(), n.clone()]);
    cx.set_zero(0, zero);
    Ok(())
}
