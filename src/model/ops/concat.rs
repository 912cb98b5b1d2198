//! Joins and borders: Concat, Pad, Tile.
//!
//! <https://onnx.ai/onnx/operators/onnx__Concat.html> and siblings.

use super::backward::{Back, Flow};
use super::cat::cat;
use super::def::{OpDef, QuantRule, operators};
use super::facts::{Item, axis_of, fact, items, of_items, same_elements, size};
use super::ints::count;
use super::roles::Data;
use super::run::Exec;
use super::slice::{labels, listed_axes, select, unless_empty};
use crate::graph::{Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
operators! {
    pub const CONCAT: &str = "Concat";
    pub const PAD: &str = "Pad";
}

/// Operators that join, border and repeat tensors.
pub const OPS: &[OpDef] = &[
    OpDef::new(CONCAT, &[4, 11, 13], infer_concat, concat)
        .data(Data::All)
        .moves()
        .backward(|_| Some(concat_backward))
        .channels(labels::concat),
    OpDef::new(PAD, &[2, 11, 13, 18, 19, 21, 23, 24, 25], infer_pad, pad).quant(QuantRule::SameScale).channels(labels::pad),
    OpDef::new("Tile", &[6, 13], infer_tile, tile).moves().channels(labels::tile),
];

fn concat_axis(node: &Node, rank: usize) -> Result<usize> {
    let axis = node.find_int("axis")?.ok_or_else(|| Error::format("attribute 'axis' is missing"))?;
    axis_of(axis, rank)
}

fn infer_concat(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    same_elements(cx, 0)?;
    let element = cx.input(0)?.element;
    let mut shapes = Vec::new();
    for i in 0..cx.input_count() {
        if let Some(s) = cx.shape(i)? {
            shapes.push((i, s));
        }
    }
    let Some(&(first, shape)) = shapes.first() else { return Ok(vec![fact(element, None)]) };
    let rank = shape.len();
    let axis = concat_axis(cx.node, rank)?;
    let mut out = shape.to_vec();
    for &(i, s) in shapes.iter().skip(1) {
        let fits = s.len() == rank && (0..rank).all(|a| a == axis || s[a].compatible(&out[a]));
        if !fits {
            let (this, other) = (cx.input(i)?, cx.input(first)?);
            return Err(Error::shape(format!("input {i} ({this}) does not fit input {first} ({other}) on axis {axis}")));
        }
        for a in 0..rank {
            if a == axis {
                out[a] = out[a].plus(&s[a]);
            } else if out[a].known().is_none() && (s[a].known().is_some() || out[a] == Dim::Unknown) {
                out[a] = s[a].clone();
            }
        }
    }
    if shapes.len() < cx.input_count() {
        return Ok(vec![fact(element, None)]);
    }
    if element.is_int() && rank == 1 {
        // An input with unknown contents but a known length still leaves the others' entries known.
        let parts: Option<Vec<Vec<Item>>> = (0..cx.input_count())
            .map(|i| {
                let f = cx.get(i)?;
                items(f).or_else(|| Some(vec![Item::unknown(); f.dim(0).filter(|&n| n <= 64)?]))
            })
            .collect();
        if let Some(parts) = parts {
            return Ok(vec![of_items(element, false, &parts.concat())]);
        }
    }
    Ok(vec![fact(element, Some(out))])
}

fn concat(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let first = cx.input(0)?;
    let axis = concat_axis(cx.node, first.dims().len())?;
    let mut total = first.dims().to_vec();
    let mut parts = Vec::with_capacity(cx.input_count());
    for i in 0..cx.input_count() {
        let v = cx.input(i)?;
        if v.element != first.element {
            return Err(Error::dtype(format!("expected {} as input 0 has, got {} for input {i}", first.element, v.element)));
        }
        let fits = v.dims().len() == total.len() && (0..total.len()).all(|a| a == axis || v.dims()[a] == total[a]);
        if !fits {
            return Err(Error::shape(format!("input {i} {:?} does not fit input 0 {:?} on axis {axis}", v.dims(), first.dims())));
        }
        if i > 0 {
            total[axis] += v.dims()[axis];
        }
        if v.dims()[axis] > 0 {
            parts.push(&v.tensor);
        }
    }
    cx.one(unless_empty(&first.tensor, &total, || cat(&parts, axis))?)
}

fn concat_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let gy = back.gradient()?;
    let axis = concat_axis(back.cx.node, gy.rank())?;
    let mut start = 0;
    let part = |i: usize| {
        let len = back.cx.tensor(i)?.dims()[axis];
        start += len;
        Ok((i, Flow::Shared(gy.narrow(axis, start - len, len)?)))
    };
    (0..back.cx.input_count()).map(part).collect()
}

/// Padding per axis as (before, after); negative numbers cut off.
fn pad_amounts(pads: &[i64], axes: Option<Vec<i64>>, rank: usize) -> Result<Vec<(i64, i64)>> {
    if !pads.len().is_multiple_of(2) {
        return Err(Error::shape(format!("expected two paddings per axis, got {}", pads.len())));
    }
    let n = pads.len() / 2;
    let axes = listed_axes(axes, n, rank)?;
    if axes.len() != n {
        return Err(Error::shape(format!("{n} paddings are given for {} axes", axes.len())));
    }
    let mut out = vec![(0, 0); rank];
    for (i, a) in axes.into_iter().enumerate() {
        out[a] = (pads[i], pads[n + i]);
    }
    Ok(out)
}

/// A size with its padding.
fn padded(d: usize, before: i64, after: i64) -> Result<usize> {
    size((d as i64).saturating_add(before).saturating_add(after), "a padded size")
}

fn infer_pad(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    let unknown = || Ok(vec![fact(x.element, Some(vec![Dim::Unknown; shape.len()]))]);
    let pads = match cx.node.find_ints("pads")? {
        Some(p) => p.to_vec(),
        None => match cx.ints(1)? {
            Some(p) => p,
            None => return unknown(),
        },
    };
    let axes = match cx.get(3) {
        None => None,
        Some(_) => match cx.ints(3)? {
            Some(a) => Some(a),
            None => return unknown(),
        },
    };
    let amounts = pad_amounts(&pads, axes, shape.len())?;
    let out = shape
        .iter()
        .zip(amounts)
        .map(|(d, (before, after))| match (d, before.saturating_add(after)) {
            (d, 0) => Ok(d.clone()),
            (Dim::Known(n), _) => Ok(Dim::Known(padded(*n, before, after)?)),
            (d, total) => Ok(d.map(&format!("({{}}{total:+})"), |_| None)),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(vec![fact(x.element, Some(out))])
}

fn pad(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let pads = match cx.node.find_ints("pads")? {
        Some(p) => p.to_vec(),
        None => cx.ints(1)?.ok_or_else(|| Error::format("the paddings are missing"))?,
    };
    let amounts = pad_amounts(&pads, cx.ints(3)?, x.dims().len())?;
    let fill = match cx.get(2) {
        Some(v) if v.tensor.elem_count() > 0 => v.tensor.flatten_all()?.narrow(0, 0, 1)?.reshape(())?,
        _ => Tensor::new(cx.node.get_float("value", 0.0)?, x.tensor.device())?,
    };
    let fill = fill.to_dtype(x.tensor.dtype())?;
    let mode = cx.node.get_str("mode", "constant")?;
    let mut out = x.tensor.clone();
    for (axis, (before, after)) in amounts.into_iter().enumerate() {
        out = pad_axis(&out, axis, before, after, mode, &fill)?;
    }
    cx.one(out)
}

pub(super) fn pad_axis(x: &Tensor, axis: usize, before: i64, after: i64, mode: &str, fill: &Tensor) -> Result<Tensor> {
    if before == 0 && after == 0 {
        return Ok(x.clone());
    }
    let d = x.dims()[axis] as i64;
    let mut dims = x.dims().to_vec();
    dims[axis] = padded(x.dims()[axis], before, after)?;
    count(&dims)?;
    if mode == "constant" {
        return unless_empty(x, &dims, || {
            let border = |n: i64| -> Result<Option<Tensor>> {
                let mut dims = x.dims().to_vec();
                dims[axis] = usize::try_from(n).unwrap_or(0);
                Ok(if n > 0 { Some(fill.broadcast_as(dims)?.contiguous()?) } else { None })
            };
            // A border may be cut off as well, by a negative one on the other side.
            let made = dims[axis] as i64;
            let lead = before.clamp(0, made);
            let cut = before.saturating_neg().clamp(0, d);
            let kept = made.saturating_sub(before).clamp(cut, d) - cut;
            let place = |n: i64| usize::try_from(n).unwrap_or(0);
            let middle = if kept == 0 { None } else { Some(x.narrow(axis, place(cut), place(kept))?) };
            let (first, last) = (border(lead)?, border(made - lead - kept)?);
            let parts: Vec<&Tensor> = [&first, &middle, &last].into_iter().flatten().collect();
            cat(&parts, axis)
        });
    }
    if d == 0 {
        return Err(Error::shape(format!("an empty axis cannot be padded in mode '{mode}'")));
    }
    let source = |i: i64| -> Result<i64> {
        Ok(match mode {
            "edge" => i.clamp(0, d - 1),
            "wrap" => i.rem_euclid(d),
            "reflect" if d == 1 => 0,
            "reflect" => {
                let p = i.rem_euclid(2 * (d - 1));
                p.min(2 * (d - 1) - p)
            }
            _ => {
                return Err(
                    Error::unsupported(format!("padding mode '{mode}' is not supported")).hint("constant, reflect, edge and wrap are")
                );
            }
        })
    };
    let ids = (0..dims[axis] as i64).map(|i| source(i - before).map(|v| usize::try_from(v).unwrap_or(0))).collect::<Result<Vec<_>>>()?;
    select(x, axis, &ids)
}

fn infer_tile(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    let Some(repeats) = items(cx.input(1)?) else { return Ok(vec![fact(x.element, Some(vec![Dim::Unknown; shape.len()]))]) };
    if repeats.len() != shape.len() {
        return Err(Error::shape(format!("{} repeats are given for rank {}", repeats.len(), shape.len())));
    }
    let out = shape.iter().zip(&repeats).map(|(d, r)| d.times(&r.to_dim())).collect();
    Ok(vec![fact(x.element, Some(out))])
}

fn tile(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let repeats = cx.ints(1)?.ok_or_else(|| Error::format("the repeats are missing"))?;
    if repeats.len() != x.rank() {
        return Err(Error::shape(format!("{} repeats are given for rank {}", repeats.len(), x.rank())));
    }
    let repeats = repeats.iter().map(|&r| size(r, "a repeat")).collect::<Result<Vec<_>>>()?;
    let dims: Vec<usize> = x.dims().iter().zip(&repeats).map(|(d, r)| d.saturating_mul(*r)).collect();
    count(&dims)?;
    let out = unless_empty(x, &dims, || {
        let mut out = x.clone();
        for (axis, &n) in repeats.iter().enumerate().filter(|(_, n)| **n > 1) {
            let copies = vec![&out; n];
            out = cat(&copies, axis)?;
        }
        Ok(out)
    })?;
    cx.one(out)
}
