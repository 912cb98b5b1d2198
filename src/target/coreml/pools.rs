//! Pools.

use super::layers::interleaved;
use super::lower::{Entry, Form, Lower, lacks};
use super::program::{Ref, Type};
use compresso_base::error::Result;
use compresso_model::ops::window::WindowAttrs;

pub(super) const OPS: &[Entry] = &[
    ("MaxPool", Form::With(max_pool)),
    ("AveragePool", Form::With(average_pool)),
    ("GlobalAveragePool", Form::With(|cx| global(cx, "reduce_mean"))),
    ("GlobalMaxPool", Form::With(|cx| global(cx, "reduce_max"))),
];

/// A window whose size is known everywhere.
struct Pool {
    kernel: Vec<usize>,
    stride: Vec<usize>,
    begin: Vec<usize>,
    /// So much padding after the data that the windows fit exactly, whether sizes are rounded up or down.
    end: Vec<usize>,
    /// Padding after the data as the node says it.
    said: Vec<usize>,
}

fn pool(cx: &Lower<'_>) -> Result<Pool> {
    let dims = cx.dims(0)?;
    if !(3..=5).contains(&dims.len()) {
        return Err(lacks(format!("pool over {dims:?}: one to three axes after batch and channels")));
    }
    let attrs = WindowAttrs::of(cx.node, None, dims.len() - 2)?;
    if attrs.dilation.iter().any(|&d| d != 1) {
        return Err(lacks("dilated pool"));
    }
    let window = attrs.resolve(&dims[2..])?;
    let reach = |d: usize| (window.output[d] - 1) * attrs.stride[d] + attrs.kernel[d];
    let end = (0..attrs.kernel.len()).map(|d| reach(d).saturating_sub(dims[d + 2] + window.pad_begin[d])).collect();
    Ok(Pool { kernel: attrs.kernel, stride: attrs.stride, begin: window.pad_begin, end, said: window.pad_end })
}

fn write(cx: &mut Lower<'_>, kind: &'static str, x: Ref, p: &Pool, excludes: Option<bool>) -> Result<()> {
    let made = Type::new(cx.kind(x), &cx.out_dims(0)?);
    let (kernel, strides) = (cx.list_of(&p.kernel), cx.list_of(&p.stride));
    let (pad_type, pad, ceil) = (cx.text("custom"), cx.list_of(&interleaved(&p.begin, &p.end)), cx.flag(false));
    let mut inputs =
        vec![("x", x), ("kernel_sizes", kernel), ("strides", strides), ("pad_type", pad_type), ("pad", pad), ("ceil_mode", ceil)];
    if let Some(excludes) = excludes {
        inputs.push(("exclude_padding_from_average", cx.flag(excludes)));
    }
    let y = cx.op(kind, &inputs, made);
    cx.one(y)
}

fn max_pool(cx: &mut Lower<'_>) -> Result<()> {
    let (x, p) = (cx.float(0)?, pool(cx)?);
    write(cx, "max_pool", x, &p, None)
}

fn average_pool(cx: &mut Lower<'_>) -> Result<()> {
    let (mut x, mut p) = (cx.float(0)?, pool(cx)?);
    let counts = cx.node.get_int("count_include_pad", 0)? != 0;
    let rounded_up = p.end.iter().zip(&p.said).any(|(end, said)| end > said);
    if counts && rounded_up {
        // The padding that counts becomes part of the data; what the last window reaches beyond it does not count.
        let kept: Vec<usize> = p.end.iter().zip(&p.said).map(|(end, said)| *end.min(said)).collect();
        let mut dims = cx.sizes(x);
        (0..kept.len()).for_each(|d| dims[d + 2] += p.begin[d] + kept[d]);
        let pad: Vec<usize> = [0; 4].into_iter().chain(interleaved(&p.begin, &kept)).collect();
        let kind = cx.kind(x);
        let (pad, mode, value) = (cx.list_of(&pad), cx.text("constant"), cx.number(0.0, kind));
        x = cx.op("pad", &[("x", x), ("pad", pad), ("mode", mode), ("constant_val", value)], Type::new(kind, &dims));
        p.end = p.end.iter().zip(&kept).map(|(end, kept)| end - kept).collect();
        p.begin.fill(0);
        return write(cx, "avg_pool", x, &p, Some(true));
    }
    write(cx, "avg_pool", x, &p, Some(!counts))
}

fn global(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let (x, rank) = (cx.float(0)?, cx.rank(0)?);
    let axes: Vec<usize> = (2..rank).collect();
    let y = cx.reduce(kind, x, &axes, true);
    cx.one(y)
}
