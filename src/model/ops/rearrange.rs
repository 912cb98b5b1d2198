//! Rearranging and masking: DepthToSpace, SpaceToDepth, OneHot, NonZero, Compress, Trilu, EyeLike, ReverseSequence.
//!
//! <https://onnx.ai/onnx/operators/onnx__DepthToSpace.html> and siblings.

use super::channels::{self, Channels};
use super::def::OpDef;
use super::facts::{axis_of, fact, infer_same, size};
use super::gather::pick;
use super::ints::{Ints, count};
use super::roles::Data;
use super::run::Exec;
use super::slice::{select, unless_empty};
use crate::element::Element;
use crate::graph::{Dim, Fact, Infer, Node, normalize_axis};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

/// Operators that move, select, reverse, mask or mark elements.
pub const OPS: &[OpDef] = &[
    OpDef::new("DepthToSpace", &[1, 11, 13], infer_depth_to_space, depth_to_space).moves().channels(depth_to_space_channels),
    OpDef::new("SpaceToDepth", &[1, 13, 28], infer_space_to_depth, space_to_depth).moves().channels(space_to_depth_channels),
    OpDef::new("OneHot", &[9, 11], infer_one_hot, one_hot).data(Data::At(&[0, 2])),
    OpDef::new("NonZero", &[9, 13], infer_non_zero, non_zero),
    OpDef::new("Compress", &[9, 11], infer_compress, compress),
    OpDef::new("Trilu", &[14], infer_same, trilu).channels(trilu_channels),
    OpDef::new("EyeLike", &[9, 22], infer_eye_like, eye_like).data(Data::At(&[])),
    OpDef::new("ReverseSequence", &[10], infer_same, reverse_sequence),
];

fn block(node: &Node) -> Result<usize> {
    usize::try_from(node.get_int("blocksize", 0)?)
        .ok()
        .filter(|&b| (1..=1 << 15).contains(&b))
        .ok_or_else(|| Error::format("attribute 'blocksize' must be positive and at most 32768"))
}

fn four<D>(dims: &[D]) -> Result<&[D; 4]> {
    dims.try_into().map_err(|_| Error::shape(format!("expected rank 4, got rank {}", dims.len())))
}

fn divide(d: &Dim, by: usize, what: &str) -> Result<Dim> {
    match d {
        Dim::Known(n) if n % by != 0 => Err(Error::shape(format!("{what} ({n}) must be a multiple of {by}"))),
        d => Ok(d.map(&format!("({{}}/{by})"), |n| Some(n / by))),
    }
}

fn infer_depth_to_space(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let (x, b) = (cx.input(0)?, block(cx.node)?);
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    let [n, c, h, w] = four(shape)?;
    let (c, times) = (divide(c, b * b, "the number of channels")?, Dim::Known(b));
    Ok(vec![fact(x.element, Some(vec![n.clone(), c, h.times(&times), w.times(&times)]))])
}

/// `[n, b·b·c, h, w]` (mode DCR) or `[n, c·b·b, h, w]` (CRD) to `[n, c, h·b, w·b]`.
fn depth_to_space(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, b) = (cx.tensor(0)?, block(cx.node)?);
    let &[n, c, h, w] = four(x.dims())?;
    if c % (b * b) != 0 {
        return Err(Error::shape(format!("the number of channels ({c}) must be a multiple of {}", b * b)));
    }
    let out = c / (b * b);
    let blocks = match cx.node.get_str("mode", "DCR")? {
        "DCR" => x.reshape(vec![n, b, b, out, h, w])?.permute(vec![0, 3, 4, 1, 5, 2])?,
        "CRD" => x.reshape(vec![n, out, b, b, h, w])?.permute(vec![0, 1, 4, 2, 5, 3])?,
        other => return Err(Error::format(format!("attribute 'mode' must be DCR or CRD, got '{other}'"))),
    };
    cx.one(blocks.reshape((n, out, h * b, w * b))?)
}

fn infer_space_to_depth(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let (x, b) = (cx.input(0)?, block(cx.node)?);
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    let [n, c, h, w] = four(shape)?;
    let (h, w) = (divide(h, b, "the height")?, divide(w, b, "the width")?);
    Ok(vec![fact(x.element, Some(vec![n.clone(), c.times(&Dim::Known(b * b)), h, w]))])
}

/// `[n, c, h·b, w·b]` to `[n, b·b·c, h, w]` (mode DCR) or `[n, c·b·b, h, w]` (CRD).
fn space_to_depth(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, b) = (cx.tensor(0)?, block(cx.node)?);
    let &[n, c, h, w] = four(x.dims())?;
    if h % b != 0 || w % b != 0 {
        return Err(Error::shape(format!("height and width ({h}, {w}) must be multiples of {b}")));
    }
    let order = match cx.node.get_str("mode", "DCR")? {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        other => return Err(Error::format(format!("attribute 'mode' must be DCR or CRD, got '{other}'"))),
    };
    let blocks = x.reshape(vec![n, c, h / b, b, w / b, b])?.permute(order)?;
    cx.one(blocks.reshape((n, c * b * b, h / b, w / b))?)
}

fn infer_one_hot(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let (ids, values) = (cx.input(0)?, cx.input(2)?);
    let Some(shape) = &ids.shape else { return Ok(vec![fact(values.element, None)]) };
    let axis = normalize_axis(cx.node.get_int("axis", -1)?, shape.len() + 1)?;
    let depth = match &cx.input(1)?.constant {
        Some(c) => c.to_f64s()?.first().map_or(Dim::Unknown, |&d| Dim::Known(d.max(0.0) as usize)),
        None => Dim::Unknown,
    };
    let mut out = shape.clone();
    out.insert(axis, depth);
    Ok(vec![fact(values.element, Some(out))])
}

fn one_hot(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (ids, values) = (cx.input(0)?, cx.input(2)?);
    let depth = cx.input(1)?.to_f64s()?.first().copied().ok_or_else(|| Error::shape("the depth is empty, expected a scalar"))? as i64;
    let n = size(depth, "the depth")?;
    if values.tensor.elem_count() != 2 {
        return Err(Error::shape(format!("expected two values (off, on), got {:?}", values.dims())));
    }
    let axis = normalize_axis(cx.node.get_int("axis", -1)?, ids.dims().len() + 1)?;
    let mut dims = ids.dims().to_vec();
    dims.insert(axis, n);
    let inner: usize = dims[axis + 1..].iter().product();
    let mut hot = vec![0usize; count(&dims)?];
    for (i, &v) in ids.to_f64s()?.iter().enumerate() {
        let v = v as i64;
        let k = if v < 0 { v + depth } else { v };
        // An index out of range leaves its row off.
        if let Some(k) = usize::try_from(k).ok().filter(|&k| k < n) {
            hot[(i / inner * n + k) * inner + i % inner] = 1;
        }
    }
    Ok(vec![values.with(pick(&values.tensor, &hot, &dims)?)?])
}

fn infer_non_zero(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let rank = cx.input(0)?.rank().map_or(Dim::Unknown, Dim::Known);
    Ok(vec![fact(Element::I64, Some(vec![rank, Dim::Unknown]))])
}

fn non_zero(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let dims = x.dims();
    let found: Vec<usize> = x.to_f64s()?.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i).collect();
    let steps = super::ints::strides(dims);
    let data = (0..dims.len()).flat_map(|a| found.iter().map(|&p| (p / steps[a] % dims[a]) as i64).collect::<Vec<_>>()).collect();
    Ok(vec![Ints { dims: vec![dims.len(), found.len()], data }.into_value(Element::I64, x.tensor.device())?])
}

fn infer_compress(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let shape = match (cx.node.find_int("axis")?, &x.shape) {
        (None, _) => Some(vec![Dim::Unknown]),
        (Some(_), None) => None,
        (Some(a), Some(shape)) => {
            let mut out = shape.clone();
            let axis = axis_of(a, out.len())?;
            out[axis] = Dim::Unknown;
            Some(out)
        }
    };
    Ok(vec![fact(x.element, shape)])
}

fn compress(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, keep) = (cx.tensor(0)?, Ints::of(cx.input(1)?)?);
    let (x, axis) = match cx.node.find_int("axis")? {
        Some(a) => (x.clone(), axis_of(a, x.rank())?),
        None => (x.flatten_all()?, 0),
    };
    let kept: Vec<usize> = keep.data.iter().enumerate().filter(|(_, v)| **v != 0).map(|(i, _)| i).collect();
    if kept.last().is_some_and(|&k| k >= x.dims()[axis]) {
        return Err(Error::shape(format!("the condition {:?} is longer than axis {axis} of {:?}", keep.dims, x.dims())));
    }
    cx.one(select(&x, axis, &kept)?)
}

/// Keeps the upper or lower triangle of the last two axes, with the diagonal shifted by `k`.
fn trilu(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let &[.., rows, cols] = x.dims() else { return Err(Error::shape(format!("expected rank 2 or more, got {:?}", x.dims()))) };
    let k = cx.ints(1)?.and_then(|v| v.first().copied()).unwrap_or(0);
    let upper = cx.node.get_int("upper", 1)? != 0;
    let inside = |i: usize, j: usize| {
        let offset = j as i64 - i as i64;
        if upper { offset >= k } else { offset <= k }
    };
    let out = unless_empty(&x.tensor, x.dims(), || {
        let mask: Vec<u8> = (0..rows * cols).map(|p| u8::from(inside(p / cols, p % cols))).collect();
        let mask = Tensor::from_vec(mask, (rows, cols), x.tensor.device())?.broadcast_as(x.dims())?;
        Ok(mask.where_cond(&x.tensor, &x.tensor.zeros_like()?)?)
    })?;
    cx.one(out)
}

fn eye_element(node: &Node, input: Element) -> Result<Element> {
    match node.find_int("dtype")? {
        None => Ok(input),
        Some(code) => {
            let e = i32::try_from(code).ok().and_then(Element::from_code);
            e.ok_or_else(|| Error::unsupported(format!("ONNX type {code} is not supported")))
        }
    }
}

fn infer_eye_like(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    Ok(vec![fact(eye_element(cx.node, x.element)?, x.shape.clone())])
}

fn eye_like(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let &[rows, cols] = x.dims() else { return Err(Error::shape(format!("expected a matrix, got {:?}", x.dims()))) };
    let (element, k) = (eye_element(cx.node, x.element)?, cx.node.get_int("k", 0)?);
    let storage = element.storage().ok_or_else(|| Error::unsupported(format!("{element} values cannot be computed with")))?;
    let data: Vec<i64> = (0..rows * cols).map(|p| i64::from((p % cols) as i64 - (p / cols) as i64 == k)).collect();
    let t = Tensor::from_vec(data, (rows, cols), &candle_core::Device::Cpu)?.to_dtype(storage)?;
    Ok(vec![Value::new(element, t.to_device(x.tensor.device())?)?])
}

fn reverse_sequence(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, lengths) = (cx.tensor(0)?, Ints::of(cx.input(1)?)?);
    let (time, batch) = (cx.node.get_int("time_axis", 0)?, cx.node.get_int("batch_axis", 1)?);
    let (time, batch) = (axis_of(time, x.rank())?, axis_of(batch, x.rank())?);
    if time == batch || lengths.data.len() != x.dims()[batch] {
        return Err(Error::shape(format!(
            "lengths {:?} do not fit data {:?} with batch axis {batch} and time axis {time}",
            lengths.dims,
            x.dims()
        )));
    }
    let (dims, steps) = (x.dims(), super::ints::strides(x.dims()));
    let positions: Vec<usize> = (0..x.elem_count())
        .map(|p| {
            let (t, b) = (p / steps[time] % dims[time], p / steps[batch] % dims[batch]);
            let len = usize::try_from(lengths.data[b]).unwrap_or(0).min(dims[time]);
            if t < len { p - t * steps[time] + (len - 1 - t) * steps[time] } else { p }
        })
        .collect();
    cx.one(pick(x, &positions, dims)?)
}

/// Channels of DepthToSpace: the block positions of a channel go together.
fn depth_to_space_channels(cx: &mut Channels<'_>) -> Result<()> {
    let cells = block(cx.node)?.pow(2);
    let depth_first = cx.node.get_str("mode", "DCR")? == "DCR";
    let axes = channels::through_except(cx, |a| a >= 2)?;
    let out = axes[1].as_ref().map(|l| {
        let n = l.len() / cells;
        let at = |c: usize, cell: usize| if depth_first { l[cell * n + c] } else { l[c * cells + cell] };
        for c in 0..n {
            (1..cells).for_each(|cell| cx.labels.join(at(c, 0), at(c, cell)));
        }
        (0..n).map(|c| at(c, 0)).collect()
    });
    cx.set(0, vec![axes[0].clone(), out, None, None]);
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    Ok(())
}

/// Channels of SpaceToDepth: the labels repeat for each block position.
fn space_to_depth_channels(cx: &mut Channels<'_>) -> Result<()> {
    let cells = block(cx.node)?.pow(2);
    let depth_first = cx.node.get_str("mode", "DCR")? == "DCR";
    let axes = channels::through_except(cx, |a| a >= 2)?;
    let out = axes[1].as_ref().map(|l| (0..l.len() * cells).map(|i| l[if depth_first { i % l.len() } else { i / cells }]).collect());
    cx.set(0, vec![axes[0].clone(), out, None, None]);
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    Ok(())
}

/// Channels through Trilu, which tells the last two axes' indices apart.
fn trilu_channels(cx: &mut Channels<'_>) -> Result<()> {
    let rank = cx.rank(0)?;
    channels::through_except(cx, |a| a + 2 >= rank)?;
    Ok(())
}
