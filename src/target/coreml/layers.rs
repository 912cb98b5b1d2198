//! Convolutions and matrix products.
//!
//! <https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html>

use super::lower::{Entry, Form, Lower, broadcast, lacks, open};
use super::program::{Kind, Ref, Type};
use super::weights::Encoded;
use compresso_base::error::{Error, Result};
use compresso_model::ops::window::WindowAttrs;

pub(super) const OPS: &[Entry] = &[
    ("Conv", Form::With(conv)),
    ("ConvTranspose", Form::With(conv_transpose)),
    ("MatMul", Form::With(mat_mul)),
    ("Gemm", Form::With(gemm)),
];

/// Padding as operations have it: both ends of the first axis, then of the second.
pub(super) fn interleaved(begin: &[usize], end: &[usize]) -> Vec<usize> {
    begin.iter().zip(end).flat_map(|(b, e)| [*b, *e]).collect()
}

fn groups(cx: &Lower<'_>, channels: usize) -> Result<usize> {
    let group = cx.node.get_int("group", 1)?;
    let found = usize::try_from(group).ok().filter(|&g| g > 0 && channels.is_multiple_of(g));
    found.ok_or_else(|| Error::shape(format!("{channels} channels cannot be cut into {group} groups")))
}

/// The layer's bias, where it is a constant of the model; one that is computed is added afterwards.
fn stored_bias(cx: &mut Lower<'_>) -> Result<Option<Ref>> {
    let stored = cx.node.input(2).is_some_and(|name| cx.graph.constant(name).is_some()) || cx.constant(2).is_some();
    if stored { cx.get(2) } else { Ok(None) }
}

/// Plus input 2, a number for each channel, where it is given.
fn with_bias(cx: &mut Lower<'_>, y: Ref, rank: usize) -> Result<()> {
    if cx.node.input(2).is_none() {
        return cx.one(y);
    }
    let bias = cx.per_channel(2, rank)?;
    let y = cx.binary("add", y, bias)?;
    cx.one(y)
}

fn conv(cx: &mut Lower<'_>) -> Result<()> {
    let (dims, weight_dims, made) = (cx.dims(0)?, cx.dims(1)?, cx.out_dims(0)?);
    let rank = weight_dims.len();
    if !(3..=5).contains(&rank) || dims.len() != rank {
        return Err(lacks(format!("convolution of a weight {weight_dims:?} over {dims:?}")));
    }
    let group = groups(cx, weight_dims[0])?;
    let attrs = WindowAttrs::of(cx.node, Some(&weight_dims[2..]), rank - 2)?;
    let window = attrs.resolve(&dims[2..])?;
    let (x, weight) = (cx.float(0)?, cx.float(1)?);
    let made_by_constants = cx.net.is_constant(weight);
    if !made_by_constants && attrs.dilation.iter().any(|&d| d != 1) {
        return Err(lacks("dilated convolution with a weight that is computed"));
    }
    let encoded = cx.encoded;
    let scales = cx.node.input(1).and_then(|name| encoded.get(name)).and_then(Encoded::scales);
    let bias = if scales.is_none() { stored_bias(cx)? } else { None };
    let pad = interleaved(&window.pad_begin, &window.pad_end);
    let (strides, dilations, groups) = (cx.list_of(&attrs.stride), cx.list_of(&attrs.dilation), cx.int(group as i64));
    let (pad_type, pad) = (cx.text("custom"), cx.list_of(&pad));
    let mut inputs = vec![("x", x), ("weight", weight)];
    inputs.extend(bias.map(|b| ("bias", b)));
    inputs.extend([("strides", strides), ("pad_type", pad_type), ("pad", pad), ("dilations", dilations), ("groups", groups)]);
    let mut y = cx.op("conv", &inputs, Type::new(cx.kind(x), &made));
    if let Some(scales) = scales {
        let shape: Vec<usize> = (0..rank).map(|d| if d == 1 { scales.len() } else { 1 }).collect();
        let scales = cx.floats(cx.kind(y), &shape, scales);
        y = cx.binary("mul", y, scales)?;
    }
    if bias.is_some() { cx.one(y) } else { with_bias(cx, y, rank) }
}

fn conv_transpose(cx: &mut Lower<'_>) -> Result<()> {
    let (dims, weight_dims, made) = (cx.dims(0)?, cx.dims(1)?, cx.out_dims(0)?);
    let rank = weight_dims.len();
    if !(3..=4).contains(&rank) || dims.len() != rank {
        return Err(lacks(format!("transposed convolution of a weight {weight_dims:?} over {dims:?}: one and two axes are written")));
    }
    let group = groups(cx, weight_dims[0])?;
    let (x, weight) = (cx.float(0)?, cx.float(1)?);
    if !cx.net.is_constant(weight) {
        return Err(lacks("transposed convolution with a weight that is computed"));
    }
    let attrs = WindowAttrs::of(cx.node, Some(&weight_dims[2..]), rank - 2)?;
    let list = |name: &str| cx.node.find_ints(name).map(|v| v.map(<[i64]>::to_vec));
    let (extra, wanted) = (list("output_padding")?, list("output_shape")?);
    // What the output has of the full one, and what beyond it.
    let (mut begin, mut end, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    for d in 0..rank - 2 {
        let full = (dims[d + 2] - 1) * attrs.stride[d] + attrs.extent(d);
        let more =
            extra.as_ref().and_then(|v| v.get(d)).map_or(Ok(0), |&v| usize::try_from(v)).map_err(|_| lacks("negative output_padding"))?;
        let automatic = wanted.is_some() || !matches!(attrs.auto_pad, compresso_model::ops::window::AutoPad::Explicit);
        let first = if automatic {
            let total = (full + more).checked_sub(made[d + 2]).ok_or_else(|| lacks("negative padding of a transposed convolution"))?;
            let upper = matches!(attrs.auto_pad, compresso_model::ops::window::AutoPad::SameUpper);
            if upper { total / 2 } else { total - total / 2 }
        } else {
            attrs.pad_begin[d]
        };
        begin.push(first);
        let last = first + made[d + 2];
        end.push(full.saturating_sub(last));
        beyond.push(last.saturating_sub(full));
    }
    let whole = beyond.iter().all(|&b| b == 0);
    let bias = if whole { stored_bias(cx)? } else { None };
    let inner: Vec<usize> = (0..rank).map(|d| if d < 2 { made[d] } else { made[d] - beyond[d - 2] }).collect();
    let (strides, dilations, groups) = (cx.list_of(&attrs.stride), cx.list_of(&attrs.dilation), cx.int(group as i64));
    let (pad_type, pad) = (cx.text("custom"), cx.list_of(&interleaved(&begin, &end)));
    let mut inputs = vec![("x", x), ("weight", weight)];
    inputs.extend(bias.map(|b| ("bias", b)));
    inputs.extend([("strides", strides), ("pad_type", pad_type), ("pad", pad), ("dilations", dilations), ("groups", groups)]);
    let kind = cx.kind(x);
    let mut y = cx.op("conv_transpose", &inputs, Type::new(kind, &inner));
    if !whole {
        let none = vec![0; rank - 2];
        let pad: Vec<usize> = vec![0; 4].into_iter().chain(interleaved(&none, &beyond)).collect();
        let (pad, mode, value) = (cx.list_of(&pad), cx.text("constant"), cx.number(0.0, kind));
        y = cx.op("pad", &[("x", y), ("pad", pad), ("mode", mode), ("constant_val", value)], Type::new(kind, &made));
    }
    if bias.is_some() { cx.one(y) } else { with_bias(cx, y, rank) }
}

/// The product of the last two axes.
pub(super) fn product(cx: &mut Lower<'_>, a: Ref, b: Ref, transposed: [bool; 2]) -> Result<Ref> {
    let (mut left, mut right) = (cx.sizes(a), cx.sizes(b));
    for (dims, _) in [&mut left, &mut right].into_iter().zip(transposed).filter(|(_, t)| *t) {
        let n = dims.len();
        dims.swap(n - 1, n - 2);
    }
    let (m, n) = (left.len(), right.len());
    let mut dims = broadcast(&left[..m - 2], &right[..n - 2])?;
    dims.extend([left[m - 2], right[n - 1]]);
    let [x, y] = transposed.map(|t| cx.flag(t));
    let made = Type { kind: cx.kind(a), dims };
    Ok(cx.op("matmul", &[("x", a), ("y", b), ("transpose_x", x), ("transpose_y", y)], made))
}

fn mat_mul(cx: &mut Lower<'_>) -> Result<()> {
    let (a, b) = (cx.float(0)?, cx.float(1)?);
    let (left, right) = (cx.sizes(a), cx.sizes(b));
    if left.is_empty() || right.is_empty() {
        return Err(Error::shape("expected factors with axes"));
    }
    // A vector on the left is a row, on the right a column.
    let a = if left.len() == 1 { cx.reshape(a, &[1, left[0]]) } else { a };
    let b = if right.len() == 1 { cx.reshape(b, &[right[0], 1]) } else { b };
    let y = product(cx, a, b, [false, false])?;
    let made = cx.out_dims(0)?;
    let y = cx.reshape(y, &made);
    cx.one(y)
}

/// `alpha · A · B + beta · C`
fn gemm(cx: &mut Lower<'_>) -> Result<()> {
    let on = |name: &str| cx.node.get_int(name, 0).map(|v| v != 0);
    let transposed = [on("transA")?, on("transB")?];
    let (alpha, beta) = (cx.node.get_float("alpha", 1.0)?, cx.node.get_float("beta", 1.0)?);
    let (a, b) = (cx.float(0)?, cx.float(1)?);
    let kind = cx.kind(a);
    let made = cx.out_dims(0)?;
    let weights = cx.net.is_constant(b) && transposed == [false, true] && alpha == 1.0;
    // A constant for each column of the result is the layer's own bias.
    let own_bias = cx.constant(2).is_some() && beta == 1.0 && cx.dims(2)? == [made[1]];
    if weights {
        let mut inputs = vec![("x", a), ("weight", b)];
        if own_bias {
            inputs.push(("bias", cx.input(2)?));
        }
        let y = cx.op("linear", &inputs, Type::new(kind, &made));
        if own_bias {
            return cx.one(y);
        }
        return plus(cx, y, kind, beta);
    }
    let mut y = product(cx, a, b, transposed)?;
    if alpha != 1.0 {
        let factor = cx.number(alpha, kind);
        y = cx.binary("mul", y, factor)?;
    }
    plus(cx, y, kind, beta)
}

/// Plus `beta` times input 2, where it is given.
fn plus(cx: &mut Lower<'_>, y: Ref, kind: Kind, beta: f32) -> Result<()> {
    let Some(mut c) = cx.get(2)? else { return cx.one(y) };
    if beta != 1.0 {
        let factor = cx.number(beta, kind);
        c = cx.binary("mul", c, factor)?;
    }
    let y = cx.binary("add", y, c)?;
    if cx.sizes(y) != cx.out_dims(0)? {
        return Err(open("the shape of C"));
    }
    cx.one(y)
}
