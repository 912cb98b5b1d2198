//! Reductions over axes: ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd, ReduceL1, ReduceL2, ReduceSumSquare,
//! ReduceLogSum, ReduceLogSumExp.
//!
//! <https://onnx.ai/onnx/operators/onnx__ReduceSum.html> and siblings. The axes are an attribute up to operator set 17
//! (12 for ReduceSum), an input from then on.

use super::channels::{self, Channels};
use super::cost;
use super::def::{OpDef, QuantRule, operators};
use super::elementwise::{Binary, binary, sum_keepdim};
use super::facts::{axes_of, fact};
use super::ints::{Ints, count, offsets, strides};
use super::roles::Span;
use super::run::Exec;
use super::shape::{given_axes, known_axes};
use crate::element::Element;
use crate::graph::{Dim, Fact, Infer, Node, normalize_axis};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

const SINCE: &[i64] = &[1, 11, 13, 18];

operators! {
    pub const REDUCE_SUM: &str = "ReduceSum";
    pub const REDUCE_MEAN: &str = "ReduceMean";
    pub const REDUCE_MAX: &str = "ReduceMax";
    pub const REDUCE_L2: &str = "ReduceL2";
}

/// Reductions of tensors along axes.
pub const OPS: &[OpDef] = &[
    OpDef::new(REDUCE_SUM, &[1, 11, 13], infer, |cx| reduce(cx, Kind::Sum))
        .sums()
        .cost(cost::per_input)
        .span(Span::Wide)
        .channels(reduce_channels),
    OpDef::new(REDUCE_MEAN, SINCE, infer, |cx| reduce(cx, Kind::Mean))
        .sums()
        .cost(cost::per_input)
        .quant(QuantRule::Elementwise)
        .channels(reduce_channels),
    OpDef::new(REDUCE_MAX, &[1, 11, 12, 13, 18, 20], infer, |cx| reduce(cx, Kind::Max)).cost(cost::per_input).channels(reduce_channels),
    OpDef::new("ReduceMin", &[1, 11, 12, 13, 18, 20], infer, |cx| reduce(cx, Kind::Min)).cost(cost::per_input).channels(reduce_channels),
    OpDef::new("ReduceProd", SINCE, infer, |cx| reduce(cx, Kind::Prod))
        .sums()
        .cost(cost::per_input)
        .span(Span::Wide)
        .channels(reduce_channels),
    OpDef::new("ReduceL1", SINCE, infer, |cx| reduce(cx, Kind::L1)).sums().cost(cost::per_input).span(Span::Wide).channels(reduce_channels),
    OpDef::new(REDUCE_L2, SINCE, infer, |cx| reduce(cx, Kind::L2)).sums().cost(cost::per_input).span(Span::Wide).channels(reduce_channels),
    OpDef::new("ReduceSumSquare", SINCE, infer, |cx| reduce(cx, Kind::SumSquare))
        .sums()
        .cost(cost::per_input)
        .span(Span::Wide)
        .channels(reduce_channels),
    OpDef::new("ReduceLogSum", SINCE, infer, |cx| reduce(cx, Kind::LogSum))
        .sums()
        .cost(cost::per_input)
        .span(Span::Fine)
        .channels(reduce_channels),
    OpDef::new("ReduceLogSumExp", SINCE, infer, |cx| reduce(cx, Kind::LogSumExp))
        .sums()
        .cost(cost::per_input)
        .span(Span::Fine)
        .channels(reduce_channels),
];

/// True for a reduction over axes, which may keep them with size 1.
pub fn is_reduction(node: &Node) -> bool {
    OPS.iter().any(|op| node.is(op.name))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
}

/// A shape with axes reduced: to size 1 when kept, else gone.
pub fn reduced<D: Clone>(dims: &[D], axes: &[usize], keep: bool, one: &D) -> Vec<D> {
    let each = dims.iter().enumerate();
    each.filter_map(|(i, d)| {
        if !axes.contains(&i) {
            Some(d.clone())
        } else if keep {
            Some(one.clone())
        } else {
            None
        }
    })
    .collect()
}

/// The axes to reduce: those given, or all, or none where the node asks for that.
fn chosen(axes: Option<Vec<i64>>, rank: usize, noop: bool) -> Result<Vec<usize>> {
    match axes {
        Some(a) if !a.is_empty() => axes_of(&a, rank),
        _ if noop => Ok(Vec::new()),
        _ => Ok((0..rank).collect()),
    }
}

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let (keep, noop) = (cx.node.get_int("keepdims", 1)? != 0, cx.node.get_int("noop_with_empty_axes", 0)? != 0);
    let (Some(shape), Some(axes)) = (&x.shape, known_axes(cx)?) else {
        let shape = x.shape.as_ref().filter(|_| keep).map(|s| vec![Dim::Unknown; s.len()]);
        return Ok(vec![fact(x.element, shape)]);
    };
    let axes = chosen(axes, shape.len(), noop)?;
    Ok(vec![fact(x.element, Some(reduced(shape, &axes, keep, &Dim::Known(1))))])
}

fn reduce(cx: &Exec<'_>, kind: Kind) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let (keep, noop) = (cx.node.get_int("keepdims", 1)? != 0, cx.node.get_int("noop_with_empty_axes", 0)? != 0);
    let axes = chosen(given_axes(cx)?, x.dims().len(), noop)?;
    let dims = reduced(x.dims(), &axes, keep, &1);
    if x.element.is_float() {
        return cx.one(float(&x.tensor, &axes, kind)?.reshape(dims)?);
    }
    Ok(vec![int(x, &axes, dims, kind)?])
}

/// The sum over axes, which stay with size 1; empty axes sum to 0.
fn sum(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    if axes.is_empty() {
        return Ok(x.clone());
    }
    if x.elem_count() == 0 {
        return Ok(Tensor::zeros(reduced(x.dims(), axes, true, &1), x.dtype(), x.device())?);
    }
    Ok(sum_keepdim(x, axes)?)
}

fn float(x: &Tensor, axes: &[usize], kind: Kind) -> Result<Tensor> {
    let count: usize = axes.iter().map(|&a| x.dims()[a]).product();
    Ok(match kind {
        Kind::Sum => sum(x, axes)?,
        Kind::Mean => (sum(x, axes)? / count as f64)?,
        Kind::Max => extreme(x, axes, true)?,
        Kind::Min => extreme(x, axes, false)?,
        Kind::Prod => product(x, axes)?,
        Kind::L1 => sum(&x.abs()?, axes)?,
        Kind::L2 => sum(&x.sqr()?, axes)?.sqrt()?,
        Kind::SumSquare => sum(&x.sqr()?, axes)?,
        Kind::LogSum => sum(x, axes)?.log()?,
        Kind::LogSumExp => {
            if x.elem_count() == 0 {
                return Ok(sum(x, axes)?.log()?);
            }
            // Shifted by the maximum, so that no exponential overflows; an infinite maximum is not subtracted.
            let top = extreme(&x.detach(), axes, true)?;
            let finite = top.abs()?.lt(f64::MAX)?.to_dtype(x.dtype())?;
            let top = finite.ne(0.0)?.where_cond(&top, &top.zeros_like()?)?;
            let shifted = binary(Binary::Sub, x, &top)?.exp()?;
            (sum(&shifted, axes)?.log()? + top)?
        }
    })
}

fn extreme(x: &Tensor, axes: &[usize], largest: bool) -> Result<Tensor> {
    if x.elem_count() == 0 {
        let start = if largest { f64::NEG_INFINITY } else { f64::INFINITY };
        return Ok(Tensor::full(start, reduced(x.dims(), axes, true, &1), x.device())?.to_dtype(x.dtype())?);
    }
    let mut out = x.clone();
    for &a in axes {
        out = if largest { out.max_keepdim(a)? } else { out.min_keepdim(a)? };
    }
    Ok(out)
}

fn product(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let mut out = x.clone();
    for &a in axes {
        let mut dims = out.dims().to_vec();
        let n = std::mem::replace(&mut dims[a], 1);
        if n == 0 || dims.contains(&0) {
            out = Tensor::ones(dims, x.dtype(), x.device())?;
            continue;
        }
        let mut p = out.narrow(a, 0, 1)?;
        for i in 1..n {
            p = (p * out.narrow(a, i, 1)?)?;
        }
        out = p;
    }
    Ok(out)
}

/// Reduces integers (and bools, for the extremes) in row-major order.
fn int(x: &Value, axes: &[usize], dims: Vec<usize>, kind: Kind) -> Result<Value> {
    let ints = Ints::of(x)?;
    let kept = reduced(&ints.dims, axes, true, &1);
    let own = strides(&kept);
    let steps: Vec<usize> = (0..kept.len()).map(|i| if axes.contains(&i) { 0 } else { own[i] }).collect();
    let (low, high) = if x.element == Element::Bool { (0, 1) } else { x.element.int_range().unwrap_or((i64::MIN, i64::MAX)) };
    let start = match kind {
        Kind::Max => low,
        Kind::Min => high,
        Kind::Prod => 1,
        _ => 0,
    };
    count(&ints.dims)?;
    let mut data = vec![start; kept.iter().product()];
    for (&v, at) in ints.data.iter().zip(offsets(&ints.dims, &steps)) {
        let out = &mut data[at];
        *out = match kind {
            Kind::Max => v.max(*out),
            Kind::Min => v.min(*out),
            Kind::Prod => out.wrapping_mul(v),
            Kind::L1 => out.wrapping_add(v.wrapping_abs()),
            Kind::L2 | Kind::SumSquare => out.wrapping_add(v.wrapping_mul(v)),
            _ => out.wrapping_add(v),
        };
    }
    let count: usize = axes.iter().map(|&a| ints.dims[a]).product();
    match kind {
        Kind::Mean if count == 0 => return Err(Error::shape("the mean of no integers has no value")),
        Kind::Mean => data.iter_mut().for_each(|v| *v /= count as i64),
        Kind::L2 => data.iter_mut().for_each(|v| *v = (*v as f64).sqrt() as i64),
        Kind::LogSum => data.iter_mut().for_each(|v| *v = (*v as f64).ln() as i64),
        Kind::LogSumExp => return Err(Error::unsupported("the logarithm of a sum of exponentials of integers is not supported")),
        _ => {}
    }
    Ints { dims, data }.into_value(x.element, x.tensor.device())
}

/// Channels through a reduction: fixed along the axes it reduces (sums may leave out what is zero), the others stay
/// apart.
fn reduce_channels(cx: &mut Channels<'_>) -> Result<()> {
    let labels = cx.axes(0)?;
    let rank = labels.len();
    let keep = cx.node.get_int("keepdims", 1)? != 0;
    let attr = cx.node.find_ints("axes")?.map(<[i64]>::to_vec);
    let given = match (attr, cx.node.input(1)) {
        (Some(v), _) => Some(v),
        (None, Some(_)) => match cx.ints(1) {
            Some(v) => Some(v),
            None => return channels::fixed(cx),
        },
        (None, None) => None,
    };
    let axes: Vec<usize> = match given {
        Some(v) if !v.is_empty() => v.iter().map(|&a| normalize_axis(a, rank)).collect::<Result<_>>()?,
        _ if cx.node.get_int("noop_with_empty_axes", 0)? != 0 => Vec::new(),
        _ => (0..rank).collect(),
    };
    let adds = ["ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"].contains(&cx.node.op.as_str());
    let mut out = Vec::new();
    for (a, l) in labels.iter().enumerate() {
        if !axes.contains(&a) {
            out.push(l.clone());
            continue;
        }
        if !(adds && cx.zero(0)) {
            cx.freeze(l);
        }
        if keep {
            out.push(None);
        }
    }
    cx.set(0, out);
    let zero = cx.zero(0) && (adds || ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"].contains(&cx.node.op.as_str()));
    cx.set_zero(0, zero);
    Ok(())
}
