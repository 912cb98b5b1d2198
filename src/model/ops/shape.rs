//! Shapes and types: Shape, Size, Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Expand, Identity, Cast, CastLike,
//! ConstantOfShape, Constant, Range.
//!
//! <https://onnx.ai/onnx/operators/onnx__Reshape.html> and siblings. The rules here carry integer contents along, so that
//! a reshape computed from a symbolic batch size has a known shape.

mod labels;

use super::elementwise::{Binary, binary};
use super::facts::{Item, axes_of, fact, items, of_items, size};
use super::ints::{Ints, broadcast_dims, to_storage};
use super::{Exec, OpDef, QuantRule};
use crate::error::{Error, Result};
use crate::model::constant::Constant;
use crate::model::element::Element;
use crate::model::graph::{Attr, Dim, Fact, Infer, broadcast};
use crate::model::value::Value;
use candle_core::{DType, Tensor};

pub const OPS: &[OpDef] = &[
    OpDef::new("Shape", &[1, 13, 15, 19, 21, 23, 24], infer_shape, shape).channels(labels::shape),
    OpDef::new("Size", &[1, 13, 19, 21, 23, 24], infer_size, element_count),
    OpDef::new("Reshape", &[5, 13, 14, 19, 21, 23, 24], infer_reshape, reshape).quant(QuantRule::SameScale).channels(labels::reshape),
    OpDef::new("Flatten", &[1, 9, 11, 13, 21, 23, 24], infer_flatten, flatten).quant(QuantRule::SameScale).channels(labels::reshape),
    OpDef::new("Squeeze", &[1, 11, 13, 21, 23, 24], infer_squeeze, squeeze).quant(QuantRule::SameScale).channels(labels::reshape),
    OpDef::new("Unsqueeze", &[1, 11, 13, 21, 23, 24], infer_unsqueeze, unsqueeze).quant(QuantRule::SameScale).channels(labels::reshape),
    OpDef::new("Transpose", &[1, 13, 21, 23, 24], infer_transpose, transpose).quant(QuantRule::SameScale).channels(labels::transpose),
    OpDef::new("Expand", &[8, 13], infer_expand, expand).quant(QuantRule::SameScale).channels(labels::expand),
    OpDef::new("Identity", &[1, 13, 14, 16, 19, 21, 23, 24], infer_identity, identity)
        .quant(QuantRule::SameScale)
        .channels(labels::identity),
    OpDef::new("Cast", &[6, 9, 13, 19, 21, 23, 24, 25], infer_cast, cast_op).channels(labels::cast),
    OpDef::new("CastLike", &[15, 19, 21, 23, 24, 25], infer_cast_like, cast_like).channels(labels::cast),
    OpDef::new("ConstantOfShape", &[9, 20, 21, 23, 24, 25], infer_constant_of_shape, constant_of_shape),
    OpDef::new("Constant", &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25], infer_constant, constant),
    OpDef::new("Range", &[11, 27], infer_range, range),
];

fn shape_slice(node: &crate::model::Node, rank: usize) -> Result<std::ops::Range<usize>> {
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
        return Ok(vec![fact(x.element, rank.map(|n| vec![Dim::Unknown; n]))]);
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
        let rest: usize = dims.iter().product();
        if rest == 0 || !total.is_multiple_of(rest) || target.iter().filter(|&&t| t == -1).count() > 1 {
            return Err(wrong());
        }
        dims[open] = total / rest;
    }
    if dims.iter().product::<usize>() == total { Ok(dims) } else { Err(wrong()) }
}

fn flatten_axis(cx: &crate::model::Node, rank: usize) -> Result<usize> {
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

fn permutation(node: &crate::model::Node, rank: usize) -> Result<Vec<usize>> {
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
        return Ok(vec![fact(x.element, rank.map(|n| vec![Dim::Unknown; n]))]);
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

/// The value converted to another element type: floats to integers by truncation, anything to bool by "is not zero".
///
/// # Errors
/// `Unsupported` for types that cannot be computed with.
pub fn cast(value: &Value, element: Element) -> Result<Value> {
    let storage = element.storage().ok_or_else(|| Error::unsupported(format!("a cast to {element} is not supported")))?;
    if value.element == element {
        return Ok(value.clone());
    }
    let x = &value.tensor;
    if element.is_float() {
        return Value::new(element, to_storage(x, storage)?);
    }
    if element == Element::Bool {
        let zero = Tensor::zeros((), x.dtype(), x.device())?;
        return Value::bool(x.broadcast_ne(&zero)?);
    }
    let data = if value.element.is_float() {
        x.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?.into_iter().map(|v| v as i64).collect()
    } else {
        value.to_i64s()?
    };
    Ints { dims: value.dims().to_vec(), data }.into_value(element, x.device())
}

fn cast_target(node: &crate::model::Node) -> Result<Element> {
    let code = node.find_int("to")?.ok_or_else(|| Error::format("attribute 'to' is missing"))?;
    let known = i32::try_from(code).ok().and_then(Element::from_code);
    known.ok_or_else(|| Error::unsupported(format!("a cast to ONNX type {code} is not supported")))
}

fn infer_cast(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    recast(cx, cast_target(cx.node)?)
}

fn recast(cx: &Infer<'_>, to: Element) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let mut out = fact(to, x.shape.clone());
    // Sizes fit both types; what narrower types cut off is left to folding.
    if matches!((x.element, to), (Element::I64 | Element::I32, Element::I64 | Element::I32)) && x.constant.is_none() {
        out.contents.clone_from(&x.contents);
    }
    Ok(vec![out])
}

fn cast_op(cx: &Exec<'_>) -> Result<Vec<Value>> {
    Ok(vec![cast(cx.input(0)?, cast_target(cx.node)?)?])
}

fn infer_cast_like(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    recast(cx, cx.input(1)?.element)
}

fn cast_like(cx: &Exec<'_>) -> Result<Vec<Value>> {
    Ok(vec![cast(cx.input(0)?, cx.input(1)?.element)?])
}

fn fill_value(node: &crate::model::Node) -> Result<Constant> {
    let c = node.find_tensor("value")?.cloned().unwrap_or_else(|| Constant::scalar(0.0));
    if c.count() == 1 { Ok(c) } else { Err(Error::format(format!("attribute 'value' must have one element, got {:?}", c.dims()))) }
}

fn infer_constant_of_shape(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let value = fill_value(cx.node)?;
    let shape = match items(cx.input(0)?) {
        Some(v) => Some(v.iter().map(Item::to_dim).collect()),
        None => cx.shape(0)?.and_then(|s| s.first().and_then(Dim::known)).map(|n| vec![Dim::Unknown; n]),
    };
    Ok(vec![fact(value.element(), shape)])
}

fn constant_of_shape(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let dims = cx.ints(0)?.ok_or_else(|| Error::format("the shape is missing"))?;
    let dims = dims.iter().map(|&v| size(v, "a size")).collect::<Result<Vec<_>>>()?;
    let value = fill_value(cx.node)?;
    let t = value.tensor(&cx.device())?.reshape(())?;
    Ok(vec![Value::new(value.element(), t.broadcast_as(dims)?.contiguous()?)?])
}

fn constant_value(node: &crate::model::Node) -> Result<Constant> {
    let cpu = &candle_core::Device::Cpu;
    for (name, attr) in &node.attrs {
        return match (name.as_str(), attr) {
            ("value", Attr::Tensor(c)) => Ok(c.clone()),
            ("value_float", Attr::Float(v)) => Ok(Constant::scalar(*v)),
            ("value_floats", Attr::Floats(v)) => Constant::floats(&[v.len()], v),
            ("value_int", Attr::Int(v)) => Constant::from_tensor(&Tensor::new(*v, cpu)?),
            ("value_ints", Attr::Ints(v)) => Ok(Constant::ints(v)),
            ("value_string" | "value_strings" | "sparse_value", _) => {
                Err(Error::unsupported(format!("constants given as '{name}' are not supported")))
            }
            _ => continue,
        };
    }
    Err(Error::format("no attribute gives the value"))
}

fn infer_constant(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![Fact::of(&constant_value(cx.node)?)])
}

fn constant(cx: &Exec<'_>) -> Result<Vec<Value>> {
    Ok(vec![Value::of_constant(&constant_value(cx.node)?, &cx.device())?])
}

fn infer_range(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let entry = |i: usize| -> Result<Option<Item>> { Ok(items(cx.input(i)?).and_then(|v| v.into_iter().next())) };
    // From zero in steps of one there are as many entries as the limit says.
    let count = match (entry(0)?, entry(1)?, entry(2)?) {
        (Some(Item::Int(0)), Some(limit), Some(Item::Int(1))) => limit.to_dim(),
        (Some(Item::Int(a)), Some(Item::Int(b)), Some(Item::Int(step))) => Dim::Known(int_range(a, b, step)?.len()),
        _ => match (0..3).map(|i| cx.get(i)?.constant.as_ref()?.to_f64s().ok()?.first().copied()).collect::<Option<Vec<f64>>>() {
            Some(v) => Dim::Known(float_count(v[0], v[1], v[2])?),
            None => Dim::Unknown,
        },
    };
    Ok(vec![fact(x.element, Some(vec![count]))])
}

fn int_range(start: i64, limit: i64, step: i64) -> Result<Vec<i64>> {
    if step == 0 {
        return Err(Error::argument("the step is 0"));
    }
    let span = i128::from(limit) - i128::from(start);
    let step_wide = i128::from(step);
    let count = if (span > 0) == (step > 0) { (span.abs() + step_wide.abs() - 1) / step_wide.abs() } else { 0 };
    Ok((0..i64::try_from(count).map_err(|_| Error::shape("the range is too long"))?)
        .map(|i| start.wrapping_add(i.wrapping_mul(step)))
        .collect())
}

fn float_count(start: f64, limit: f64, step: f64) -> Result<usize> {
    if step == 0.0 {
        return Err(Error::argument("the step is 0"));
    }
    Ok(((limit - start) / step).ceil().max(0.0) as usize)
}

fn range(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let first = cx.input(0)?;
    if first.element.is_float() {
        let one = |i: usize| -> Result<f64> {
            cx.input(i)?.to_f64s()?.first().copied().ok_or_else(|| Error::shape(format!("input {i} is empty, expected a scalar")))
        };
        let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
        let data: Vec<f64> = (0..float_count(start, limit, step)?).map(|i| start + i as f64 * step).collect();
        let t = Tensor::from_vec(data, float_count(start, limit, step)?, &cx.device())?;
        return cx.one(t.to_dtype(first.tensor.dtype())?);
    }
    let one = |i: usize| -> Result<i64> {
        let v = cx.ints(i)?.and_then(|v| v.first().copied());
        v.ok_or_else(|| Error::shape(format!("input {i} is empty, expected a scalar")))
    };
    let data = int_range(one(0)?, one(1)?, one(2)?)?;
    Ok(vec![Ints { dims: vec![data.len()], data }.into_value(first.element, &cx.device())?])
}
