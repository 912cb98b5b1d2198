//! MaxPool, AveragePool, LpPool and their global forms.
//!
//! <https://onnx.ai/onnx/operators/onnx__MaxPool.html>,
//! <https://onnx.ai/onnx/operators/onnx__AveragePool.html>

use super::backward::{Back, Flow};
use super::channels::{self, Channels};
use super::cost::{self, CostInput};
use super::def::{OpDef, QuantRule, operators};
use super::roles::Float16Rule;
use super::run::Exec;
use super::window::WindowAttrs;
use crate::element::Element;
use crate::graph::{Cost, Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::{Window, ops};

operators! {
    pub const MAX_POOL: &str = "MaxPool";
    pub const AVERAGE_POOL: &str = "AveragePool";
    pub const GLOBAL_AVERAGE_POOL: &str = "GlobalAveragePool";
}

/// Pools over windows and over whole images.
pub const OPS: &[OpDef] = &[
    OpDef::new(MAX_POOL, &[1, 8, 10, 11, 12, 22], infer_pool, max_pool)
        .homogeneous()
        .cost(pool_cost)
        .quant(QuantRule::SameScale)
        .backward(|_| Some(max_pool_backward))
        .channels(pool_channels),
    OpDef::new(AVERAGE_POOL, &[1, 7, 10, 11, 19, 22], infer_pool, average_pool)
        .homogeneous()
        .cost(pool_cost)
        .quant(QuantRule::Elementwise)
        .channels(pool_channels),
    OpDef::new("LpPool", &[1, 2, 11, 18, 22], infer_pool, lp_pool)
        .sums()
        .cost(pool_cost)
        .float16(Float16Rule::Float32)
        .channels(pool_channels),
    OpDef::new(GLOBAL_AVERAGE_POOL, &[1, 22], infer_global, global_average)
        .homogeneous()
        .sums()
        .cost(cost::per_input)
        .quant(QuantRule::Elementwise)
        .backward(|_| Some(global_average_backward))
        .channels(pool_channels),
    OpDef::new("GlobalMaxPool", &[1, 22], infer_global, global_max)
        .homogeneous()
        .cost(cost::per_input)
        .quant(QuantRule::SameScale)
        .channels(pool_channels),
    OpDef::new("GlobalLpPool", &[1, 2, 22], infer_global, global_lp)
        .sums()
        .cost(cost::per_input)
        .float16(Float16Rule::Float32)
        .channels(pool_channels),
];

fn infer_pool(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let indices = |shape: Option<Vec<Dim>>| Fact { element: Element::I64, shape, contents: None, constant: None };
    let Some(shape) = &x.shape else { return Ok(vec![Fact::unranked(x.element), indices(None)]) };
    check_rank(shape.len())?;
    let attrs = WindowAttrs::of(cx.node, None, shape.len() - 2)?;
    let mut out = shape[..2].to_vec();
    for (d, n) in shape[2..].iter().enumerate() {
        check_size(n.known())?;
        out.push(attrs.output(d, n)?);
    }
    Ok(vec![Fact::new(x.element, out.clone()), indices(Some(out))])
}

fn infer_global(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![Fact::unranked(x.element)]) };
    check_rank(shape.len())?;
    let out = shape.iter().enumerate().map(|(i, d)| if i < 2 { d.clone() } else { Dim::Known(1) }).collect();
    Ok(vec![Fact::new(x.element, out)])
}

fn check_rank(rank: usize) -> Result<()> {
    if rank < 3 {
        return Err(Error::shape(format!("expected [batch, channels, spatial…], got rank {rank}")));
    }
    Ok(())
}

/// Padding alone has no largest number and no mean.
fn check_size(size: Option<usize>) -> Result<()> {
    if size == Some(0) { Err(Error::shape("an axis without elements cannot be pooled")) } else { Ok(()) }
}

fn window(node: &Node, x: &Tensor) -> Result<Window> {
    check_rank(x.rank())?;
    x.dims()[2..].iter().try_for_each(|&n| check_size(Some(n)))?;
    WindowAttrs::of(node, None, x.rank() - 2)?.resolve(&x.dims()[2..])
}

fn max_pool(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let value = cx.input(0)?;
    let w = window(cx.node, &value.tensor)?;
    // Quantized values are exact in float32.
    let storage = value.tensor.dtype();
    let x = if storage.is_float() { value.tensor.clone() } else { value.tensor.to_dtype(DType::F32)? };
    let mut out = vec![value.with(ops::max_pool(&w, &x)?.to_dtype(storage)?)?];
    if cx.node.output(1).is_some() {
        out.push(max_indices(cx.node, &w, &x)?);
    }
    Ok(out)
}

fn max_pool_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let x = back.cx.tensor(0)?;
    let gx = ops::max_pool_backward(&window(back.cx.node, x)?, x, &back.made[0].tensor, back.gradient()?)?;
    Ok(vec![(0, Flow::Own(gx))])
}

/// Output `Indices`: flat indices in the whole input; with `storage_order` 1 each plane counts column by column.
fn max_indices(node: &Node, w: &Window, x: &Tensor) -> Result<Value> {
    let at = ops::max_pool_indices(w, x)?;
    let columns = node.get_int("storage_order", 0)? != 0;
    let (plane, outs) = (w.input_len(), w.output_len());
    let flat: Vec<i64> = at
        .iter()
        .enumerate()
        .map(|(i, &a)| {
            let a = a as usize;
            let inside = if columns { column_major(a, &w.input) } else { a };
            (i / outs * plane + inside) as i64
        })
        .collect();
    let dims: Vec<usize> = x.dims()[..2].iter().chain(&w.output).copied().collect();
    Value::new(Element::I64, Tensor::from_vec(flat, dims, x.device())?)
}

/// The index, counted with the first axis fastest, of the element with row-major index `index`.
fn column_major(mut index: usize, dims: &[usize]) -> usize {
    let mut at = 0;
    for (d, &n) in dims.iter().enumerate().rev() {
        at += index % n * dims[..d].iter().product::<usize>();
        index /= n;
    }
    at
}

fn average_pool(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let count_padding = cx.node.get_int("count_include_pad", 0)? != 0;
    cx.one(ops::average_pool(&window(cx.node, x)?, x, count_padding)?)
}

fn lp_pool(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let w = window(cx.node, x)?;
    let p = f64::from(i32::try_from(cx.node.get_int("p", 2)?).unwrap_or(2));
    // The mean that counts padding, times the window's size, is the sum; sizes at the edge differ only in ceil mode.
    let powers = x.abs()?.powf(p)?;
    let counts: Vec<f32> = (0..w.output_len()).map(|o| compresso_kernels::reference::average_divisor(&w, o, true) as f32).collect();
    let dims: Vec<usize> = [1, 1].into_iter().chain(w.output.iter().copied()).collect();
    let counts = Tensor::from_vec(counts, dims, x.device())?.to_dtype(x.dtype())?;
    let sums = ops::average_pool(&w, &powers, true)?.broadcast_mul(&counts)?;
    cx.one(sums.powf(1.0 / p)?)
}

fn spatial(x: &Tensor) -> Result<(Tensor, Vec<usize>)> {
    check_rank(x.rank())?;
    let dims = (0..x.rank()).map(|i| if i < 2 { x.dims()[i] } else { 1 }).collect();
    Ok((x.flatten_from(2)?, dims))
}

fn global_average(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, dims) = spatial(cx.tensor(0)?)?;
    cx.one(x.mean_keepdim(2)?.reshape(dims)?)
}

/// Each element of a plane receives its share.
fn global_average_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let (x, gy) = (back.cx.tensor(0)?, back.gradient()?);
    let plane: usize = x.dims()[2..].iter().product();
    let share = gy.affine(1.0 / plane.max(1) as f64, 0.0)?;
    Ok(vec![(0, Flow::Own(ops::spread(&share, x.dims())?))])
}

fn global_max(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, dims) = spatial(cx.tensor(0)?)?;
    cx.one(x.max_keepdim(2)?.reshape(dims)?)
}

fn global_lp(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, dims) = spatial(cx.tensor(0)?)?;
    let p = f64::from(i32::try_from(cx.node.get_int("p", 2)?).unwrap_or(2));
    cx.one(x.abs()?.powf(p)?.sum_keepdim(2)?.powf(1.0 / p)?.reshape(dims)?)
}

fn pool_cost(cx: &CostInput<'_>) -> Cost {
    let taps = match cx.node.find_ints("kernel_shape") {
        Ok(Some(k)) => k.iter().fold(1, |n, &v| cost::times(n, u64::try_from(v).unwrap_or(1))),
        _ => 1,
    };
    Cost { macs: 0, other: cost::times(cx.outputs.first().and_then(|f| cost::elements(f)).unwrap_or(0), taps) }
}

/// Channels through pooling: each keeps to itself.
fn pool_channels(cx: &mut Channels<'_>) -> Result<()> {
    // Indices of MaxPool count over all channels.
    if cx.node.output(1).is_some() {
        return channels::fixed(cx);
    }
    channels::through_except(cx, |axis| axis >= 2)?;
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    Ok(())
}
