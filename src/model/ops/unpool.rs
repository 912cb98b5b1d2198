//! Images from parts: MaxUnpool, Col2Im, CenterCropPad, AffineGrid.
//!
//! <https://onnx.ai/onnx/operators/onnx__MaxUnpool.html>, <https://onnx.ai/onnx/operators/onnx__Col2Im.html>,
//! <https://onnx.ai/onnx/operators/onnx__CenterCropPad.html>, <https://onnx.ai/onnx/operators/onnx__AffineGrid.html>. Differentiable.

use super::concat::pad_axis;
use super::cost;
use super::def::OpDef;
use super::facts::{Item, axes_of, fact, items, size};
use super::ints::{count, strides};
use super::run::Exec;
use super::slice::unless_empty;
use super::window::WindowAttrs;
use crate::graph::{Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

/// Operators that put images together from parts, crop them, or say where their pixels lie.
pub const OPS: &[OpDef] = &[
    OpDef::new("MaxUnpool", &[9, 11, 22], infer_unpool, max_unpool).cost(cost::per_output),
    OpDef::new("Col2Im", &[18], infer_col2im, col2im).sums().cost(cost::per_input),
    OpDef::new("CenterCropPad", &[18], infer_crop, center_crop_pad),
    OpDef::new("AffineGrid", &[20], infer_grid, affine_grid).cost(cost::per_output),
];

/// The image that windows of a pool came from, as small as it may have been.
fn unpooled(node: &Node, space: &[usize]) -> Result<Vec<usize>> {
    let w = WindowAttrs::of(node, None, space.len())?;
    (0..space.len())
        .map(|d| {
            let reach = space[d].saturating_sub(1).saturating_mul(w.stride[d]).saturating_add(w.kernel[d]);
            let pads = w.pad_begin[d] + w.pad_end[d];
            reach.checked_sub(pads).ok_or_else(|| Error::shape(format!("spatial axis {d} of {reach} positions has {pads} of padding")))
        })
        .collect()
}

fn infer_unpool(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    if cx.get(2).is_some() {
        let shape = match cx.get(2).and_then(items) {
            Some(v) => Some(v.iter().map(Item::to_dim).collect()),
            None => x.shape.as_ref().map(|s| vec![Dim::Unknown; s.len()]),
        };
        return Ok(vec![fact(x.element, shape)]);
    }
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    if shape.len() < 3 {
        return Err(Error::shape(format!("expected [n, c, spatial…], got {x}")));
    }
    let space = match shape[2..].iter().map(Dim::known).collect::<Option<Vec<_>>>() {
        Some(s) => unpooled(cx.node, &s)?.into_iter().map(Dim::Known).collect(),
        None => vec![Dim::Unknown; shape.len() - 2],
    };
    Ok(vec![fact(x.element, Some([&shape[..2], &space].concat()))])
}

fn max_unpool(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, at) = (cx.tensor(0)?, cx.input(1)?);
    if x.rank() < 3 || at.dims() != x.dims() {
        return Err(Error::shape(format!("expected [n, c, spatial…] and as many indices, got {:?} and {:?}", x.dims(), at.dims())));
    }
    let inner = [&x.dims()[..2], &unpooled(cx.node, &x.dims()[2..])?].concat();
    let outer = match cx.ints(2)? {
        Some(v) => v.iter().map(|&n| size(n, "a size")).collect::<Result<Vec<_>>>()?,
        None => inner.clone(),
    };
    if outer.len() != inner.len() || outer.iter().zip(&inner).any(|(o, i)| o < i) {
        return Err(Error::shape(format!("an image of {inner:?} does not fit into {outer:?}")));
    }
    let total = count(&inner)?;
    count(&outer)?;
    // For each pixel the last element written to it, or the zero behind all elements.
    let elements = u32::try_from(x.elem_count()).map_err(|_| Error::unsupported("tensors of more than 2^32 elements are not supported"))?;
    let mut from = vec![elements; total];
    for (i, &p) in at.to_i64s()?.iter().enumerate() {
        let place = usize::try_from(p).ok().filter(|&p| p < total);
        from[place.ok_or_else(|| Error::shape(format!("index {p} is out of range for an image of {total} pixels")))?] = i as u32;
    }
    let mut out = unless_empty(x, &inner, || {
        let all = Tensor::cat(&[&x.flatten_all()?, &Tensor::zeros(1, x.dtype(), x.device())?], 0)?;
        Ok(all.index_select(&Tensor::new(from, x.device())?, 0)?.reshape(inner.as_slice())?)
    })?;
    let zero = Tensor::zeros((), x.dtype(), x.device())?;
    for (axis, (&o, &i)) in outer.iter().zip(&inner).enumerate() {
        out = pad_axis(&out, axis, 0, (o - i) as i64, "constant", &zero)?;
    }
    cx.one(out)
}

fn infer_col2im(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let (Some(image), Some(block)) = (items(cx.input(1)?), cx.ints(2)?) else { return Ok(vec![fact(x.element, None)]) };
    let n = match &x.shape {
        None => [Dim::Unknown, Dim::Unknown],
        Some(s) if s.len() == 3 => {
            let each: Option<usize> = block.iter().try_fold(1usize, |n, &b| n.checked_mul(usize::try_from(b).ok()?));
            let each = each.filter(|&e| e > 0).ok_or_else(|| Error::shape(format!("a block of {block:?} is empty")))?;
            [s[0].clone(), s[1].map(&format!("({{}}/{each})"), |c| c.is_multiple_of(each).then_some(c / each))]
        }
        Some(s) => return Err(Error::shape(format!("expected columns [n, c · block, blocks], got {} axes", s.len()))),
    };
    Ok(vec![fact(x.element, Some(n.into_iter().chain(image.iter().map(Item::to_dim)).collect()))])
}

fn col2im(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let list = |i: usize| -> Result<Vec<usize>> {
        let v = cx.ints(i)?.ok_or_else(|| Error::format(format!("input {i} is missing")))?;
        v.iter().map(|&n| size(n, "a size")).collect()
    };
    let (image, block) = (list(1)?, list(2)?);
    let w = WindowAttrs::of(cx.node, Some(&block), block.len())?;
    let (&[n, rows, blocks], true) = (x.dims(), image.len() == block.len() && !block.is_empty()) else {
        return Err(Error::shape(format!(
            "expected columns [n, c · block, blocks] and sizes alike, got {:?}, {image:?} and {block:?}",
            x.dims()
        )));
    };
    let each = count(&block)?;
    if each == 0 || !rows.is_multiple_of(each) {
        return Err(Error::shape(format!("{rows} rows do not divide into blocks of {block:?}")));
    }
    let c = rows / each;
    let positions = w.resolve(&image)?.output;
    let expected = count(&positions)?;
    if expected != blocks {
        return Err(Error::shape(format!("an image of {image:?} has {expected} blocks of {block:?}, got {blocks}")));
    }
    let pixels = count(&image)?;
    let dims: Vec<usize> = [n, c].into_iter().chain(image.iter().copied()).collect();
    count(&dims)?;
    count(&[n, c, each, blocks])?;
    let (steps, in_block, in_grid) = (strides(&image), strides(&block), strides(&positions));
    let mut ids = Vec::with_capacity(each * blocks);
    for tap in 0..each {
        for place in 0..blocks {
            let at = (0..image.len()).try_fold(0usize, |sum, d| {
                let (t, p) = (tap / in_block[d] % block[d], place / in_grid[d] % positions[d]);
                let i = (p * w.stride[d] + t * w.dilation[d]).checked_sub(w.pad_begin[d]).filter(|&i| i < image[d])?;
                Some(sum + i * steps[d])
            });
            // What lies in the padding is added up behind the image and cut off.
            ids.push(at.unwrap_or(pixels) as u32);
        }
    }
    u32::try_from(pixels).map_err(|_| Error::unsupported("images of more than 2^32 pixels are not supported"))?;
    cx.one(unless_empty(x, &dims, || {
        let flat = x.contiguous()?.reshape((n * c, each * blocks))?;
        let sums = Tensor::zeros((n * c, pixels + 1), x.dtype(), x.device())?.index_add(&Tensor::new(ids, x.device())?, &flat, 1)?;
        Ok(sums.narrow(1, 0, pixels)?.contiguous()?.reshape(dims.as_slice())?)
    })?)
}

/// The size that each axis is to have, where one is given.
fn targets(node: &Node, sizes: &[Dim], rank: usize) -> Result<Vec<Option<Dim>>> {
    let axes = match node.find_ints("axes")? {
        Some(a) => axes_of(a, rank)?,
        None => (0..rank).collect(),
    };
    if axes.len() != sizes.len() {
        return Err(Error::shape(format!("{} sizes are given for {} axes", sizes.len(), axes.len())));
    }
    let mut out = vec![None; rank];
    for (a, s) in axes.into_iter().zip(sizes) {
        out[a] = Some(s.clone());
    }
    Ok(out)
}

fn infer_crop(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    let Some(sizes) = items(cx.input(1)?) else { return Ok(vec![fact(x.element, Some(vec![Dim::Unknown; shape.len()]))]) };
    let sizes: Vec<Dim> = sizes.iter().map(Item::to_dim).collect();
    let out = shape.iter().zip(targets(cx.node, &sizes, shape.len())?).map(|(d, t)| t.unwrap_or_else(|| d.clone())).collect();
    Ok(vec![fact(x.element, Some(out))])
}

/// The middle of an axis that is too long, zeros around one that is too short; the odd one goes to the end.
fn center_crop_pad(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let sizes = cx.ints(1)?.ok_or_else(|| Error::format("the sizes are missing"))?;
    let sizes = sizes.iter().map(|&n| Ok(Dim::Known(size(n, "a size")?))).collect::<Result<Vec<_>>>()?;
    let mut out = cx.tensor(0)?.clone();
    let wanted = targets(cx.node, &sizes, out.rank())?;
    let dims: Vec<usize> = out.dims().iter().zip(&wanted).map(|(&d, w)| w.as_ref().and_then(Dim::known).unwrap_or(d)).collect();
    count(&dims)?;
    // What is cut first is not padded.
    for (axis, &n) in dims.iter().enumerate().filter(|&(a, &n)| n < cx.tensor(0).map_or(0, |x| x.dims()[a])) {
        out = out.narrow(axis, (out.dims()[axis] - n) / 2, n)?;
    }
    let zero = Tensor::zeros((), out.dtype(), out.device())?;
    for (axis, &n) in dims.iter().enumerate() {
        let missing = n - out.dims()[axis];
        out = pad_axis(&out, axis, (missing / 2) as i64, (missing - missing / 2) as i64, "constant", &zero)?;
    }
    cx.one(out.contiguous()?)
}

fn infer_grid(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let theta = cx.input(0)?;
    let Some(sizes) = items(cx.input(1)?) else { return Ok(vec![fact(theta.element, None)]) };
    if !(4..=5).contains(&sizes.len()) {
        return Err(Error::shape(format!("expected sizes [n, c, spatial…] of two or three spatial axes, got {}", sizes.len())));
    }
    let space = sizes[2..].iter().map(Item::to_dim);
    let shape = [sizes[0].to_dim()].into_iter().chain(space).chain([Dim::Known(sizes.len() - 2)]).collect();
    Ok(vec![fact(theta.element, Some(shape))])
}

fn affine_grid(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let theta = cx.tensor(0)?;
    let sizes = cx.ints(1)?.ok_or_else(|| Error::format("the sizes are missing"))?;
    let sizes = sizes.iter().map(|&n| size(n, "a size")).collect::<Result<Vec<_>>>()?;
    let rank = sizes.len().saturating_sub(2);
    if !(2..=3).contains(&rank) || theta.dims() != [sizes[0], rank, rank + 1] {
        return Err(Error::shape(format!("matrices {:?} do not fit images of {sizes:?}", theta.dims())));
    }
    let space = &sizes[2..];
    let points = count(space)?;
    let dims: Vec<usize> = [sizes[0]].into_iter().chain(space.iter().copied()).chain([rank]).collect();
    count(&dims)?;
    let align = cx.node.get_int("align_corners", 0)? != 0;
    let coordinate = |i: usize, n: usize| match (align, n) {
        (true, 1) => 0.0,
        (true, n) => 2.0 * i as f64 / (n - 1) as f64 - 1.0,
        (false, n) => (2 * i + 1) as f64 / n as f64 - 1.0,
    };
    // The last spatial axis first, and a one.
    let steps = strides(space);
    let steps = steps.as_slice();
    let row = |p: usize| (0..rank).rev().map(move |d| coordinate(p / steps[d] % space[d], space[d])).chain([1.0]);
    let base: Vec<f64> = (0..points).flat_map(row).collect();
    cx.one(unless_empty(theta, &dims, || {
        let wide = super::run::wide(theta.dtype());
        let base = Tensor::from_vec(base, (points, rank + 1), theta.device())?.to_dtype(wide)?;
        let grid = super::matmul::matmul(&base.unsqueeze(0)?, &theta.to_dtype(wide)?.transpose(1, 2)?)?;
        Ok(grid.reshape(dims.as_slice())?.to_dtype(theta.dtype())?)
    })?)
}
