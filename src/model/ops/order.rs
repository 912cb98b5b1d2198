//! Order along an axis: ArgMax, ArgMin, TopK, CumSum.
//!
//! <https://onnx.ai/onnx/operators/onnx__TopK.html> and siblings.

use super::channels::{self, Channels};
use super::cost;
use super::def::{OpDef, operators};
use super::facts::{axis_of, fact, infer_same, items, size};
use super::gather::pick;
use super::ints::Ints;
use super::reduce::reduced;
use super::roles::Span;
use super::run::Exec;
use crate::element::Element;
use crate::graph::{Dim, Fact, Infer, Node, normalize_axis};
use crate::value::Value;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result as CandleResult, Shape, Tensor};
use compresso_base::error::{Error, Result};
use std::cmp::Ordering;

operators! {
    pub const ARG_MAX: &str = "ArgMax";
    pub const TOP_K: &str = "TopK";
}

/// Operators that go by the order of elements along an axis: largest ones and running sums.
pub const OPS: &[OpDef] = &[
    OpDef::new(ARG_MAX, &[1, 11, 12, 13], infer_arg, |cx| arg(cx, true)).cost(cost::per_input).channels(arg_channels),
    OpDef::new("ArgMin", &[1, 11, 12, 13], infer_arg, |cx| arg(cx, false)).cost(cost::per_input).channels(arg_channels),
    OpDef::new(TOP_K, &[1, 10, 11, 24], infer_topk, topk).cost(cost::per_input).channels(topk_channels),
    OpDef::new("CumSum", &[11, 14], infer_same, cumsum).sums().cost(cost::per_input).span(Span::Wide).channels(cumsum_channels),
];

/// A tensor cut along an axis: sizes before, of and after it.
fn cut(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}

/// The elements, comparable exactly: floats as they are, integers whole.
enum Keys {
    Floats(Vec<f64>),
    Ints(Vec<i64>),
}

impl Keys {
    fn of(v: &Value) -> Result<Self> {
        Ok(if v.element.is_float() { Self::Floats(v.to_f64s()?) } else { Self::Ints(v.to_i64s()?) })
    }
    fn compare(&self, a: usize, b: usize) -> Ordering {
        match self {
            // NaN stands above all numbers, so that the order is total.
            Self::Floats(v) => v[a].partial_cmp(&v[b]).unwrap_or_else(|| v[a].is_nan().cmp(&v[b].is_nan())),
            Self::Ints(v) => v[a].cmp(&v[b]),
        }
    }
}

/// The axis of ArgMax and ArgMin; a scalar is taken for a list of one.
fn arg_axis(node: &Node, rank: usize) -> Result<usize> {
    normalize_axis(node.get_int("axis", 0)?, rank.max(1))
}

fn infer_arg(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(Element::I64, None)]) };
    let axis = arg_axis(cx.node, shape.len())?;
    let keep = cx.node.get_int("keepdims", 1)? != 0;
    Ok(vec![fact(Element::I64, Some(reduced(shape, &[axis], keep, &Dim::Known(1))))])
}

fn arg(cx: &Exec<'_>, largest: bool) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let axis = arg_axis(cx.node, x.dims().len())?;
    let last = cx.node.get_int("select_last_index", 0)? != 0;
    let (outer, n, inner) = if x.dims().is_empty() { (1, 1, 1) } else { cut(x.dims(), axis) };
    let dims = reduced(x.dims(), &[axis], cx.node.get_int("keepdims", 1)? != 0, &1);
    if n == 0 && !dims.contains(&0) {
        return Err(Error::shape(format!("{:?} has no elements along axis {axis}", x.dims())));
    }
    let keys = Keys::of(x)?;
    let wins = if largest { Ordering::Greater } else { Ordering::Less };
    let mut data = Vec::with_capacity(outer * inner);
    for o in 0..outer {
        for i in 0..inner {
            let at = |k: usize| (o * n + k) * inner + i;
            let better = |k: usize, best: usize| match keys.compare(at(k), at(best)) {
                Ordering::Equal => last,
                order => order == wins,
            };
            data.push((1..n).fold(0, |best, k| if better(k, best) { k } else { best }) as i64);
        }
    }
    Ok(vec![Ints { dims, data }.into_value(Element::I64, x.tensor.device())?])
}

fn infer_topk(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None), fact(Element::I64, None)]) };
    let axis = axis_of(cx.node.get_int("axis", -1)?, shape.len())?;
    let k = match cx.node.find_int("k")? {
        Some(k) => Dim::Known(size(k, "k")?),
        None => cx.get(1).and_then(items).and_then(|v| v.first().map(super::facts::Item::to_dim)).unwrap_or(Dim::Unknown),
    };
    let mut out = shape.clone();
    out[axis] = k;
    Ok(vec![fact(x.element, Some(out.clone())), fact(Element::I64, Some(out))])
}

fn topk(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let k = match cx.node.find_int("k")? {
        Some(k) => k,
        None => cx.ints(1)?.and_then(|v| v.first().copied()).ok_or_else(|| Error::format("k is missing"))?,
    };
    let (k, axis) = (size(k, "k")?, axis_of(cx.node.get_int("axis", -1)?, x.dims().len())?);
    let largest = cx.node.get_int("largest", 1)? != 0;
    let mut dims = x.dims().to_vec();
    if k > dims[axis] {
        return Err(Error::shape(format!("k is {k}, but {:?} has fewer elements along axis {axis}", x.dims())));
    }
    let (outer, n, inner) = cut(&dims, axis);
    dims[axis] = k;
    let keys = Keys::of(x)?;
    let mut ids = vec![0i64; outer * k * inner];
    let mut positions = vec![0usize; ids.len()];
    for o in 0..outer {
        for i in 0..inner {
            let at = |j: usize| (o * n + j) * inner + i;
            let mut order: Vec<usize> = (0..n).collect();
            // Equal elements stay in the order of their indices.
            let by = |&a: &usize, &b: &usize| {
                let c = keys.compare(at(a), at(b));
                if largest { c.reverse() } else { c }.then(a.cmp(&b))
            };
            if k > 0 && k < n {
                order.select_nth_unstable_by(k - 1, by);
            }
            order.truncate(k);
            order.sort_unstable_by(by);
            for (j, &p) in order.iter().enumerate() {
                ids[(o * k + j) * inner + i] = p as i64;
                positions[(o * k + j) * inner + i] = at(p);
            }
        }
    }
    let values = x.with(pick(&x.tensor, &positions, &dims)?)?;
    Ok(vec![values, Ints { dims, data: ids }.into_value(Element::I64, x.tensor.device())?])
}

#[derive(Debug, Clone, Copy)]
struct CumSum {
    axis: usize,
    exclusive: bool,
    reverse: bool,
}

impl CumSum {
    fn run<T: Copy>(&self, data: &[T], dims: &[usize], zero: T, add: impl Fn(T, T) -> T) -> Vec<T> {
        let (outer, n, inner) = cut(dims, self.axis);
        let mut out = vec![zero; data.len()];
        for o in 0..outer {
            for i in 0..inner {
                let mut total = zero;
                for step in 0..n {
                    let at = (o * n + if self.reverse { n - 1 - step } else { step }) * inner + i;
                    if self.exclusive {
                        out[at] = total;
                    }
                    total = add(total, data[at]);
                    if !self.exclusive {
                        out[at] = total;
                    }
                }
            }
        }
        out
    }
}

impl CustomOp1 for CumSum {
    fn name(&self) -> &'static str {
        "cumsum"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let (from, to) = compresso_kernels::ops::place(l).ok_or_else(|| candle_core::Error::msg("cumsum needs a contiguous tensor"))?;
        let out = match s {
            CpuStorage::F32(v) => CpuStorage::F32(self.run(&v[from..to], l.dims(), 0.0, |a, b| a + b)),
            CpuStorage::F64(v) => CpuStorage::F64(self.run(&v[from..to], l.dims(), 0.0, |a, b| a + b)),
            CpuStorage::F16(v) => CpuStorage::F16(self.run(&v[from..to], l.dims(), half::f16::ZERO, |a, b| a + b)),
            CpuStorage::BF16(v) => CpuStorage::BF16(self.run(&v[from..to], l.dims(), half::bf16::ZERO, |a, b| a + b)),
            _ => return Err(candle_core::Error::UnsupportedDTypeForOp(s.dtype(), "cumsum")),
        };
        Ok((out, l.shape().clone()))
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> CandleResult<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&Self { reverse: !self.reverse, ..*self })?))
    }
}

fn cumsum(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let axis = cx.ints(1)?.and_then(|v| v.first().copied()).ok_or_else(|| Error::format("the axis is missing"))?;
    let op = CumSum {
        axis: axis_of(axis, x.dims().len())?,
        exclusive: cx.node.get_int("exclusive", 0)? != 0,
        reverse: cx.node.get_int("reverse", 0)? != 0,
    };
    if x.element.is_float() {
        let device = x.tensor.device().clone();
        let cpu = x.tensor.to_device(&candle_core::Device::Cpu)?.contiguous()?;
        return cx.one(cpu.apply_op1(op)?.to_device(&device)?);
    }
    let ints = Ints::of(x)?;
    let data = op.run(&ints.data, &ints.dims, 0, i64::wrapping_add);
    Ok(vec![Ints { dims: ints.dims, data }.into_value(x.element, x.tensor.device())?])
}

/// Channels through ArgMax and ArgMin: fixed along the axis.
fn arg_channels(cx: &mut Channels<'_>) -> Result<()> {
    if cx.rank(0)? == 0 {
        return channels::fixed(cx);
    }
    let axis = cx.normal_axis(0, cx.node.get_int("axis", 0)?)?;
    let mut axes = channels::through_except(cx, |a| a == axis)?;
    if cx.node.get_int("keepdims", 1)? == 0 {
        axes.remove(axis);
    }
    cx.set(0, axes);
    Ok(())
}

/// Channels through TopK: fixed along its axis.
fn topk_channels(cx: &mut Channels<'_>) -> Result<()> {
    let axis = cx.normal_axis(0, cx.node.get_int("axis", -1)?)?;
    let axes = channels::through_except(cx, |a| a == axis)?;
    cx.set(1, axes);
    Ok(())
}

/// Channels through CumSum: fixed along its axis.
fn cumsum_channels(cx: &mut Channels<'_>) -> Result<()> {
    let Some(&[axis]) = cx.ints(1).as_deref() else { return channels::fixed(cx) };
    let axis = cx.normal_axis(0, axis)?;
    channels::through_except(cx, |a| a == axis)?;
    Ok(())
}
