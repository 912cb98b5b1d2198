//! Convolutions, matrix products, pools.
//!
//! <https://docs.openvino.ai/2026/documentation/openvino-ir-format/operation-sets/operation-specs/convolution/convolution-1.html>

use super::elementwise::simple;
use super::lower::{Attrs, Entry, Form, Lower, flag, lacks, listed, open};
use super::net::Port;
use super::quantized;
use compresso_base::error::{Error, Result};
use compresso_model::Element;
use compresso_model::ops::window::{AutoPad, WindowAttrs};

pub(super) const OPS: &[Entry] = &[
    ("Conv", Form::With(conv)),
    ("ConvTranspose", Form::With(conv_transpose)),
    ("DeformConv", Form::With(deform_conv)),
    ("MatMul", Form::With(|cx| simple(cx, "MatMul", 1, transposed(false, false)))),
    ("Gemm", Form::With(gemm)),
    ("MaxPool", Form::With(max_pool)),
    ("AveragePool", Form::With(average_pool)),
    ("GlobalAveragePool", Form::With(|cx| global(cx, "ReduceMean"))),
    ("GlobalMaxPool", Form::With(|cx| global(cx, "ReduceMax"))),
    ("Einsum", Form::With(einsum)),
];

fn auto_pad(pad: AutoPad) -> &'static str {
    match pad {
        AutoPad::Explicit | AutoPad::Valid => "explicit",
        AutoPad::SameUpper => "same_upper",
        AutoPad::SameLower => "same_lower",
    }
}

fn window(w: &WindowAttrs) -> Attrs {
    vec![
        ("strides", listed(&w.stride)),
        ("dilations", listed(&w.dilation)),
        ("pads_begin", listed(&w.pad_begin)),
        ("pads_end", listed(&w.pad_end)),
        ("auto_pad", auto_pad(w.auto_pad).into()),
    ]
}

/// Sizes of a convolution's weight.
fn weight_dims(cx: &Lower<'_>) -> Result<Vec<usize>> {
    let dims = cx.fact(1).and_then(compresso_model::Fact::dims).ok_or_else(|| open("the sizes of the weight"))?;
    if dims.len() < 3 {
        return Err(Error::shape(format!("expected a weight [channels, channels, window…], got {dims:?}")));
    }
    Ok(dims)
}

/// The weight with its first axis cut into groups, as grouped layers want it.
fn grouped_weight(cx: &mut Lower<'_>, dims: &[usize], group: usize) -> Result<Port> {
    if group == 1 {
        return cx.input(1);
    }
    if group == 0 || !dims[0].is_multiple_of(group) {
        return Err(Error::shape(format!("{} channels cannot be cut into {group} groups", dims[0])));
    }
    let cut: Vec<usize> = [group, dims[0] / group].into_iter().chain(dims[1..].iter().copied()).collect();
    if let Some(port) = quantized::grouped(cx, 1, &cut)? {
        return Ok(port);
    }
    let node = cx.node;
    if let Some((name, c)) = node.input(1).and_then(|name| Some((name, cx.graph.constant(name)?))) {
        return cx.net.stored(name, c, &cut);
    }
    let (w, shape) = (cx.input(1)?, cut.iter().map(|&d| d as i64).collect::<Vec<_>>());
    Ok(cx.reshape(w, &shape))
}

/// Plus input `i`, a number for each channel, where it is given.
fn with_bias(cx: &mut Lower<'_>, y: Port, i: usize, rank: usize) -> Result<()> {
    if cx.node.input(i).is_none() {
        return cx.one(y);
    }
    let bias = cx.per_channel(i, rank)?;
    let y = cx.binary("Add", y, bias);
    cx.one(y)
}

fn groups(cx: &Lower<'_>) -> Result<usize> {
    let group = cx.node.get_int("group", 1)?;
    usize::try_from(group).map_err(|_| Error::format(format!("attribute 'group' must be at least 1, got {group}")))
}

fn conv(cx: &mut Lower<'_>) -> Result<()> {
    let (dims, group) = (weight_dims(cx)?, groups(cx)?);
    let w = WindowAttrs::of(cx.node, Some(&dims[2..]), dims.len() - 2)?;
    let (x, weight) = (cx.input(0)?, grouped_weight(cx, &dims, group)?);
    let kind = if group == 1 { "Convolution" } else { "GroupConvolution" };
    let y = cx.layer(kind, 1, window(&w), &[x, weight]);
    with_bias(cx, y, 2, dims.len())
}

fn conv_transpose(cx: &mut Lower<'_>) -> Result<()> {
    let (dims, group) = (weight_dims(cx)?, groups(cx)?);
    let rank = dims.len() - 2;
    let mut w = WindowAttrs::of(cx.node, Some(&dims[2..]), rank)?;
    let list = |name: &str| -> Result<Option<Vec<usize>>> {
        let Some(v) = cx.node.find_ints(name)? else { return Ok(None) };
        let wrong = || Error::format(format!("attribute '{name}' must have {rank} numbers from 0 on, got {v:?}"));
        let v: Vec<usize> = v.iter().map(|&n| usize::try_from(n)).collect::<std::result::Result<_, _>>().map_err(|_| wrong())?;
        if v.len() == rank { Ok(Some(v)) } else { Err(wrong()) }
    };
    let (padding, wanted) = (list("output_padding")?.unwrap_or_else(|| vec![0; rank]), list("output_shape")?);
    let same = matches!(w.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
    if wanted.is_some() || same {
        let shape = cx.shape(0)?;
        for d in 0..rank {
            let reach = |n: usize| (n.saturating_sub(1)) * w.stride[d] + padding[d] + w.extent(d);
            let (full, out) = match (&wanted, shape.get(d + 2).and_then(compresso_model::Dim::known)) {
                (Some(wanted), Some(n)) => (reach(n), wanted[d]),
                (Some(_), None) => return Err(open("the size of an input with an output_shape")),
                // The output has stride times the input's size, whatever that is.
                (None, _) => (reach(1), w.stride[d]),
            };
            let total = full.checked_sub(out).ok_or_else(|| lacks("negative padding of a ConvTranspose"))?;
            let upper = w.auto_pad == AutoPad::SameUpper;
            (w.pad_begin[d], w.pad_end[d]) = if upper { (total / 2, total - total / 2) } else { (total - total / 2, total / 2) };
        }
        w.auto_pad = AutoPad::Explicit;
    }
    let (x, weight) = (cx.input(0)?, grouped_weight(cx, &dims, group)?);
    let kind = if group == 1 { "ConvolutionBackpropData" } else { "GroupConvolutionBackpropData" };
    let mut attrs = window(&w);
    attrs.push(("output_padding", listed(&padding)));
    let y = cx.layer(kind, 1, attrs, &[x, weight]);
    with_bias(cx, y, 2, dims.len())
}

fn deform_conv(cx: &mut Lower<'_>) -> Result<()> {
    let dims = weight_dims(cx)?;
    if dims.len() != 4 {
        return Err(lacks(format!("DeformConv of {} axes", dims.len() - 2)));
    }
    let mut attrs = window(&WindowAttrs::of(cx.node, Some(&dims[2..]), 2)?);
    attrs.extend([
        ("group", groups(cx)?.to_string()),
        ("deformable_group", cx.node.get_int("offset_group", 1)?.to_string()),
        ("bilinear_interpolation_pad", flag(true)),
    ]);
    let mut inputs = vec![cx.input(0)?, cx.input(2)?, cx.input(1)?];
    inputs.extend(cx.get(4)?);
    let y = cx.layer("DeformableConvolution", 8, attrs, &inputs);
    with_bias(cx, y, 3, dims.len())
}

fn transposed(a: bool, b: bool) -> Attrs {
    vec![("transpose_a", flag(a)), ("transpose_b", flag(b))]
}

/// `alpha · A · B + beta · C`
fn gemm(cx: &mut Lower<'_>) -> Result<()> {
    let on = |name: &str| cx.node.get_int(name, 0).map(|v| v != 0);
    let attrs = transposed(on("transA")?, on("transB")?);
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let scaled = |cx: &mut Lower<'_>, x: Port, name: &str| -> Result<Port> {
        let factor = cx.node.get_float(name, 1.0)?;
        if factor == 1.0 {
            return Ok(x);
        }
        let factor = cx.scalar(f64::from(factor), cx.net.element(x))?;
        Ok(cx.binary("Multiply", x, factor))
    };
    let y = cx.layer("MatMul", 1, attrs, &[a, b]);
    let mut y = scaled(cx, y, "alpha")?;
    if let Some(c) = cx.get(2)? {
        let c = scaled(cx, c, "beta")?;
        y = cx.binary("Add", y, c);
    }
    cx.one(y)
}

fn einsum(cx: &mut Lower<'_>) -> Result<()> {
    let equation = cx.node.get_str("equation", "")?.replace(' ', "");
    simple(cx, "Einsum", 7, vec![("equation", equation)])
}

fn pool(cx: &Lower<'_>) -> Result<(WindowAttrs, Attrs)> {
    let rank = cx.rank(0)?;
    if rank < 3 {
        return Err(Error::shape(format!("expected [batch, channels, spatial…], got rank {rank}")));
    }
    let w = WindowAttrs::of(cx.node, None, rank - 2)?;
    let mut attrs = window(&w);
    // A last, partial window counts only when it starts inside of the input or the padding before it.
    attrs.extend([("kernel", listed(&w.kernel)), ("rounding_type", if w.ceil { "ceil_torch" } else { "floor" }.into())]);
    Ok((w, attrs))
}

fn max_pool(cx: &mut Lower<'_>) -> Result<()> {
    let (_, mut attrs) = pool(cx)?;
    attrs.extend([("index_element_type", "i64".to_string()), ("axis", "0".into())]);
    let x = cx.input(0)?;
    let out = cx.several("MaxPool", 14, attrs, &[x], &[cx.net.element(x), Element::I64]);
    cx.one(out[0])
}

fn average_pool(cx: &mut Lower<'_>) -> Result<()> {
    let (mut w, mut attrs) = pool(cx)?;
    let mut x = cx.input(0)?;
    let padded = w.pad_begin.iter().chain(&w.pad_end).any(|&p| p > 0);
    let mut counts = cx.node.get_int("count_include_pad", 0)? != 0;
    if counts && padded && w.ceil {
        x = with_padding(cx, x, &mut w)?;
        counts = false;
        attrs = window(&w);
        attrs.extend([("kernel", listed(&w.kernel)), ("rounding_type", "floor".into())]);
    }
    attrs.push(("exclude-pad", flag(!counts)));
    let dilated = w.dilation.iter().any(|&d| d != 1);
    if !dilated {
        attrs.retain(|(name, _)| *name != "dilations");
    }
    let y = cx.layer("AvgPool", if dilated { 16 } else { 14 }, attrs, &[x]);
    cx.one(y)
}

/// The runtime counts what ceil_mode adds beyond the padding, where ONNX does not. So what counts is made part of the data, and what
/// does not is left as padding, until the window slides as it would.
fn with_padding(cx: &mut Lower<'_>, x: Port, w: &mut WindowAttrs) -> Result<Port> {
    let shape = cx.shape(0)?;
    let (mut begin, mut end) = (vec![0; shape.len()], vec![0; shape.len()]);
    for d in 0..w.kernel.len() {
        let size = &shape[d + 2];
        let (n, out) = size.known().zip(w.output(d, size)?.known()).ok_or_else(|| open("the size of what is averaged with its padding"))?;
        // What the windows reach beyond the start of the padding.
        let reach = (out - 1) * w.stride[d] + w.extent(d);
        let counted = w.pad_end[d].min(reach.saturating_sub(n + w.pad_begin[d]));
        (begin[d + 2], end[d + 2]) = (w.pad_begin[d] as i64, counted as i64);
        w.pad_end[d] = reach.saturating_sub(n + w.pad_begin[d] + counted);
        w.pad_begin[d] = 0;
    }
    w.ceil = false;
    let zero = cx.scalar(0.0, cx.net.element(x))?;
    let (begin, end) = (cx.of_ints(&begin), cx.of_ints(&end));
    Ok(cx.layer("Pad", 12, vec![("pad_mode", "constant".into())], &[x, begin, end, zero]))
}

fn global(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let (x, rank) = (cx.input(0)?, cx.rank(0)?);
    let axes: Vec<i64> = (2..rank as i64).collect();
    let axes = cx.of_ints(&axes);
    let y = cx.layer(kind, 1, vec![("keep_dims", "true".into())], &[x, axes]);
    cx.one(y)
}
