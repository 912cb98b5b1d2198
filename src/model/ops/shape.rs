//! Shapes: Shape, Size, Reshape, Flatten, Squeeze, Unsqueeze.
//!
//! <https://onnx.ai/onnx/operators/onnx__Reshape.html> and siblings. The rules here carry integer contents along, so that
//! a reshape computed from a symbolic batch size has a known shape.

pub(super) mod labels;

use super::backward::{Back, Flow};
use super::def::{OpDef, operators};
use super::facts::{Item, axes_of, fact, items, of_items, open_shape, size};
use super::roles::Data;
use super::run::Exec;
use crate::element::Element;
use crate::graph::{Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use compresso_kernels::ops;

operators! {
    pub const SHAPE: &str = "Shape";
    pub const RESHAPE: &str = "Reshape";
    pub const FLATTEN: &str = "Flatten";
    pub const SQUEEZE: &str = "Squeeze";
    pub const UNSQUEEZE: &str = "Unsqueeze";
}

/// Operators that read shapes, and those that change nothing but them.
pub const OPS: &[OpDef] = &[
    OpDef::new(SHAPE, &[1, 13, 15, 19, 21, 23, 24], infer_shape, shape).data(Data::At(&[])).channels(labels::shape),
    OpDef::new("Size", &[1, 13, 19, 21, 23, 24], infer_size, element_count).data(Data::At(&[])),
    OpDef::new(RESHAPE, &[5, 13, 14, 19, 21, 23, 24], infer_reshape, reshape)
        .moves()
        .backward(|_| Some(reshape_backward))
        .channels(labels::reshape),
    OpDef::new(FLATTEN, &[1, 9, 11, 13, 21, 23, 24], infer_flatten, flatten)
        .moves()
        .backward(|_| Some(reshape_backward))
        .channels(labels::reshape),
    OpDef::new(SQUEEZE, &[1, 11, 13, 21, 23, 24], infer_squeeze, squeeze)
        .moves()
        .backward(|_| Some(reshape_backward))
        .channels(labels::reshape),
    OpDef::new(UNSQUEEZE, &[1, 11, 13, 21, 23, 24], infer_unsqueeze, unsqueeze)
        .moves()
        .backward(|_| Some(reshape_backward))
        .channels(labels::reshape),
];

/// The gradient in the shape that the data had.
fn reshape_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    Ok(vec![(0, Flow::Shared(ops::contiguous(back.gradient()?)?.reshape(back.cx.tensor(0)?.dims())?))])
}

fn shape_slice(node: &Node, rank: usize) -> Result<std::ops::Range<usize>> {
    let r = i64::try_from(rank).unwrap_or(i64::MAX);
    let at = |v: i64| usize::try_from(if v < 0 { v + r } else { v }.clamp(0, r)).unwrap_or(0);
    let (start, end) = (at(node.get_int("start", 0)?), at(node.get_int("end", r)?));
    Ok(start..end.max(start))
}

fn infer_shape(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let Some(shape) = cx.shape(0)? else {
        return Ok(vec![fact(Element::I64, Some(vec![Dim::Unknown]))]);
    };
    let part: Vec<Item> = shape[shape_slice(cx.node, shape.len())?].iter().map(Item::of_dim).collect();
    Ok(vec![of_items(Element::I64, false, &part)])
}

fn shape(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let dims = cx.input(0)?.dims();
    let part: Vec<i64> = dims[shape_slice(cx.node, dims.len())?].iter().map(|&d| d as i64).collect();
    Ok(vec![Value::ints(&part, &cx.device())?])
}

fn infer_size(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let count = cx.shape(0)?.map_or(Dim::Unknown, |s| s.iter().fold(Dim::Known(1), |a, d| a.times(d)));
    Ok(vec![of_items(Element::I64, true, &[Item::of_dim(&count)])])
}

fn element_count(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let n = cx.tensor(0)?.elem_count() as i64;
    Ok(vec![Value::new(Element::I64, Tensor::new(n, &cx.device())?)?])
}

/// A product of sizes as a known factor and named ones, for division.
#[derive(Debug, Default)]
struct Product {
    known: usize,
    names: Vec<Dim>,
    unknown: bool,
}

impl Product {
    fn of<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Self {
        let mut p = Self { known: 1, ..Self::default() };
        for d in dims {
            match d {
                Dim::Known(n) => p.known = p.known.saturating_mul(*n),
                // A plain product such as `4*batch` is taken apart.
                Dim::Symbol(s) if !s.contains(['(', '+', '-', '/']) => {
                    for part in s.split('*') {
                        match part.parse::<usize>() {
                            Ok(n) => p.known = p.known.saturating_mul(n),
                            Err(_) => p.names.push(Dim::symbol(part)),
                        }
                    }
                }
                Dim::Symbol(_) => p.names.push(d.clone()),
                Dim::Unknown => p.unknown = true,
            }
        }
        p
    }
    /// The quotient, when it can be told.
    fn over(mut self, other: Self) -> Dim {
        if self.unknown || other.unknown || other.known == 0 {
            return Dim::Unknown;
        }
        for name in &other.names {
            match self.names.iter().position(|n| n == name) {
                Some(i) => drop(self.names.swap_remove(i)),
                None => return Dim::Unknown,
            }
        }
        if !self.known.is_multiple_of(other.known) {
            return if self.names.len() == 1 {
                let (name, above, below) = (&self.names[0], self.known, other.known);
                Dim::symbol(if above == 1 { format!("({name}/{below})") } else { format!("({above}*{name}/{below})") })
            } else {
                Dim::Unknown
            };
        }
        let known = Dim::Known(self.known / other.known);
        self.names.iter().fold(known, |a, d| a.times(d))
    }
}

fn infer_reshape(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let target = items(cx.input(1)?);
    let keep_zero = cx.node.get_int("allowzero", 0)? != 0;
    let Some(target) = target else {
        let rank = cx.shape(1)?.and_then(|s| s.first().and_then(Dim::known));
        return Ok(vec![fact(x.element, open_shape(rank)?)]);
    };
    let mut open = None;
    let mut shape = Vec::with_capacity(target.len());
    for (i, item) in target.iter().enumerate() {
        shape.push(match item {
            Item::Int(0) if !keep_zero => match x.shape.as_ref() {
                Some(s) => s
                    .get(i)
                    .cloned()
                    .ok_or_else(|| Error::shape(format!("the target copies axis {i}, which the input of rank {} lacks", s.len())))?,
                None => Dim::Unknown,
            },
            Item::Int(-1) => {
                if open.replace(i).is_some() {
                    return Err(Error::shape("the target has more than one -1"));
                }
                Dim::Unknown
            }
            Item::Int(v) => Dim::Known(size(*v, "a target size")?),
            Item::Size(d) => d.clone(),
        });
    }
    // An entry that is not known is either -1 or what the element count asks for: both give the same size.
    let unknown: Vec<usize> = (0..shape.len()).filter(|&i| shape[i] == Dim::Unknown).collect();
    if let ([i], Some(from)) = (unknown.as_slice(), &x.shape) {
        let rest = Product::of(shape.iter().enumerate().filter(|(j, _)| j != i).map(|(_, d)| d));
        shape[*i] = Product::of(from).over(rest);
    }
    if let (Some(n), Some(have)) = (fact(x.element, Some(shape.clone())).count(), x.count())
        && n != have
    {
        return Err(Error::shape(format!("cannot reshape {have} elements ({x}) to {n} ({})", fact(x.element, Some(shape)))));
    }
    Ok(vec![carry(x, fact(x.element, Some(shape)))])
}

fn reshape(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let target = cx.ints(1)?.ok_or_else(|| Error::format("the target shape is missing"))?;
    let keep_zero = cx.node.get_int("allowzero", 0)? != 0;
    let dims = reshape_dims(x.dims(), &target, keep_zero)?;
    cx.one(x.tensor.reshape(dims)?)
}

/// The target of a reshape with its 0 and -1 entries resolved.
fn reshape_dims(from: &[usize], target: &[i64], keep_zero: bool) -> Result<Vec<usize>> {
    let wrong = || Error::shape(format!("cannot reshape {from:?} to {target:?}"));
    let mut dims = Vec::with_capacity(target.len());
    for (i, &t) in target.iter().enumerate() {
        dims.push(match t {
            0 if !keep_zero => *from.get(i).ok_or_else(wrong)?,
            -1 => 1,
            t => usize::try_from(t).map_err(|_| wrong())?,
        });
    }
    let total: usize = from.iter().product();
    if let Some(open) = target.iter().position(|&t| t == -1) {
        let rest = memory::elements(dims.iter().copied()).ok_or_else(wrong)?;
        if rest == 0 || !total.is_multiple_of(rest) || target.iter().filter(|&&t| t == -1).count() > 1 {
            return Err(wrong());
        }
        dims[open] = total / rest;
    }
    if memory::elements(dims.iter().copied()) == Some(total) { Ok(dims) } else { Err(wrong()) }
}

fn flatten_axis(cx: &Node, rank: usize) -> Result<usize> {
    let axis = cx.get_int("axis", 1)?;
    let r = i64::try_from(rank).unwrap_or(i64::MAX);
    let a = if axis < 0 { axis + r } else { axis };
    usize::try_from(a).ok().filter(|&a| a <= rank).ok_or_else(|| Error::shape(format!("axis {axis} is out of range for rank {rank}")))
}

fn infer_flatten(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, Some(vec![Dim::Unknown; 2]))]) };
    let (rows, cols) = shape.split_at(flatten_axis(cx.node, shape.len())?);
    let product = |d: &[Dim]| d.iter().fold(Dim::Known(1), |a, d| a.times(d));
    Ok(vec![fact(x.element, Some(vec![product(rows), product(cols)]))])
}

fn flatten(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let (rows, cols) = x.dims().split_at(flatten_axis(cx.node, x.rank())?);
    cx.one(x.reshape((rows.iter().product::<usize>(), cols.iter().product::<usize>()))?)
}

/// The axes of Squeeze, Unsqueeze and the reductions: an attribute in old operator sets, input 1 in new ones.
/// The outer `None`: given, but not known yet.
pub fn known_axes(cx: &Infer<'_>) -> Result<Option<Option<Vec<i64>>>> {
    if let Some(a) = cx.node.find_ints("axes")? {
        return Ok(Some(Some(a.to_vec())));
    }
    match cx.get(1) {
        None => Ok(Some(None)),
        Some(_) => Ok(cx.ints(1)?.map(Some)),
    }
}

/// The axes at run time, from the attribute or input 1.
pub fn given_axes(cx: &Exec<'_>) -> Result<Option<Vec<i64>>> {
    match cx.node.find_ints("axes")? {
        Some(a) => Ok(Some(a.to_vec())),
        None => cx.ints(1),
    }
}

fn infer_squeeze(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let (Some(shape), Some(axes)) = (&x.shape, known_axes(cx)?) else { return Ok(vec![fact(x.element, None)]) };
    let axes = match axes {
        Some(a) => axes_of(&a, shape.len())?,
        None if shape.iter().all(|d| d.known().is_some()) => (0..shape.len()).filter(|&i| shape[i] == Dim::Known(1)).collect(),
        None => return Ok(vec![fact(x.element, None)]),
    };
    if let Some(&a) = axes.iter().find(|&&a| shape[a].known().is_some_and(|n| n != 1)) {
        return Err(Error::shape(format!("cannot squeeze axis {a} of {x}: its size is not 1")));
    }
    let kept = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i].clone()).collect();
    Ok(vec![carry(x, fact(x.element, Some(kept)))])
}

/// The contents of a scalar or vector survive a change between those ranks.
fn carry(x: &Fact, out: Fact) -> Fact {
    match (items(x), out.rank()) {
        (Some(v), Some(rank)) if x.element.is_int() && rank <= 1 => of_items(x.element, rank == 0, &v),
        _ => out,
    }
}

fn squeeze(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let dims = x.dims();
    let axes = match given_axes(cx)? {
        Some(a) => axes_of(&a, dims.len())?,
        None => (0..dims.len()).filter(|&i| dims[i] == 1).collect(),
    };
    if let Some(&a) = axes.iter().find(|&&a| dims[a] != 1) {
        return Err(Error::shape(format!("cannot squeeze axis {a} of {dims:?}: its size is not 1")));
    }
    let kept: Vec<usize> = (0..dims.len()).filter(|i| !axes.contains(i)).map(|i| dims[i]).collect();
    cx.one(x.reshape(kept)?)
}

fn unsqueezed<D: Clone>(dims: &[D], axes: &[i64], one: &D) -> Result<Vec<D>> {
    let rank = dims.len() + axes.len();
    let axes = axes_of(axes, rank)?;
    let mut rest = dims.iter().cloned();
    Ok((0..rank).filter_map(|i| if axes.contains(&i) { Some(one.clone()) } else { rest.next() }).collect())
}

fn infer_unsqueeze(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let (Some(shape), Some(Some(axes))) = (&x.shape, known_axes(cx)?) else { return Ok(vec![fact(x.element, None)]) };
    let out = fact(x.element, Some(unsqueezed(shape, &axes, &Dim::Known(1))?));
    Ok(vec![carry(x, out)])
}

fn unsqueeze(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let axes = given_axes(cx)?.ok_or_else(|| Error::format("the axes are missing"))?;
    cx.one(x.reshape(unsqueezed(x.dims(), &axes, &1)?)?)
}
