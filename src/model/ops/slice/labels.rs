//! Channel rules of operators that cut and join tensors.

use super::listed_axes;
use crate::graph::normalize_axis;
use crate::ops::channels::{self, Atom, AxisLabels, Channels, Site, Size};
use compresso_base::error::{Error, Result};
use std::sync::Arc;

/// Channels of Concat: the labels of its inputs one after the other.
pub(in crate::ops) fn concat(cx: &mut Channels<'_>) -> Result<()> {
    let axis = cx.normal_axis(0, cx.node.get_int("axis", 1)?)?;
    let n = cx.node.inputs.len();
    let mut out = cx.axes(0)?;
    let mut whole: Option<Vec<Atom>> = Some(Vec::new());
    let mut labelled = false;
    for i in 0..n {
        let axes = cx.axes(i)?;
        for (a, labels) in axes.iter().enumerate() {
            if a != axis {
                cx.join(&out[a], labels)?;
                if labels.is_none() {
                    out[a] = None;
                }
            }
        }
        labelled |= axes[axis].is_some();
        let part = match (&axes[axis], cx.shape(i)?[axis].known()) {
            (Some(l), _) => Some(l.clone()),
            (None, Some(size)) => cx.frozen(size),
            (None, None) => None,
        };
        match (&mut whole, part) {
            (Some(w), Some(p)) => w.extend(p.iter()),
            (w, p) => {
                cx.freeze(&w.take().map(Into::into));
                cx.freeze(&p);
            }
        }
    }
    out[axis] = whole.filter(|_| labelled).map(Into::into);
    cx.set(0, out);
    let zero = (0..n).all(|i| cx.zero(i));
    cx.set_zero(0, zero);
    Ok(())
}

/// Channels of Split: each output has its part of the labels; sizes follow.
pub(in crate::ops) fn split(cx: &mut Channels<'_>) -> Result<()> {
    let axis = cx.normal_axis(0, cx.node.get_int("axis", 0)?)?;
    let axes = cx.axes(0)?;
    let zero = cx.zero(0);
    let mut sizes = Vec::new();
    let mut start = 0;
    for i in 0..cx.node.outputs.len() {
        let mut part = axes.clone();
        let size = if cx.node.output(i).is_some() { cx.out_shape(i)?[axis].known() } else { None };
        match (&axes[axis], size) {
            (Some(labels), Some(size)) if start + size <= labels.len() => {
                let own: Arc<[Atom]> = labels[start..start + size].into();
                sizes.push(Size::Count(own.clone()));
                part[axis] = Some(own);
                start += size;
            }
            (Some(_), _) => return Err(Error::unsupported("pruning needs the sizes of all parts here")),
            (None, _) => {}
        }
        cx.set(i, part);
        cx.set_zero(i, zero);
    }
    // Equal parts need not stay equal, so sizes are written down where there were none.
    let place = if cx.opset >= 13 { Site::Input(1) } else { Site::Attr("split") };
    cx.sizes(place, sizes);
    Ok(())
}

/// Channels of Slice with step 1: a range of the labels; its bounds follow.
pub(in crate::ops) fn slice(cx: &mut Channels<'_>) -> Result<()> {
    let (shape, to, mut axes) = (cx.shape(0)?, cx.out_shape(0)?, cx.axes(0)?);
    let attrs = cx.opset < 10;
    let read = |cx: &Channels<'_>, i: usize, name: &str| -> Result<Option<Vec<i64>>> {
        if attrs { Ok(cx.node.find_ints(name)?.map(<[i64]>::to_vec)) } else { Ok(cx.ints(i)) }
    };
    let given_axes = read(cx, 3, "axes")?;
    if given_axes.is_none() && !attrs && cx.node.input(3).is_some() {
        return channels::fixed(cx);
    }
    let (starts, ends, steps) = (read(cx, 1, "starts")?, read(cx, 2, "ends")?, if attrs { None } else { cx.ints(4) });
    let count = starts.as_ref().or(ends.as_ref()).map_or(shape.len(), Vec::len);
    let which = listed_axes(given_axes, count, shape.len())?;
    let (mut new_starts, mut new_ends) = (Vec::new(), Vec::new());
    for (k, &axis) in which.iter().enumerate() {
        let at = |v: &Option<Vec<i64>>| v.as_ref().and_then(|v| v.get(k)).copied();
        let (start, end) = (at(&starts), at(&ends));
        let fixed = |v: Option<i64>| v.map_or(Size::Open, Size::Fixed);
        let unit_step = attrs || cx.node.input(4).is_none() || at(&steps) == Some(1);
        match (axes[axis].take(), start, end, to[axis].known()) {
            (Some(labels), Some(start), Some(_), Some(size)) if unit_step => {
                let n = labels.len() as i64;
                let from = (if start < 0 { start + n } else { start }).clamp(0, n) as usize;
                let end = from + size;
                new_starts.push(Size::before(&labels, from));
                new_ends.push(Size::before(&labels, end));
                axes[axis] = Some(labels[from..end.min(labels.len())].into());
            }
            (labels, ..) => {
                cx.freeze(&labels);
                new_starts.push(fixed(start));
                new_ends.push(fixed(end));
            }
        }
    }
    cx.set(0, axes);
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    cx.sizes(if attrs { Site::Attr("starts") } else { Site::Input(1) }, new_starts);
    cx.sizes(if attrs { Site::Attr("ends") } else { Site::Input(2) }, new_ends);
    Ok(())
}

/// Channels of Tile with known repeats: labels repeat likewise.
pub(in crate::ops) fn tile(cx: &mut Channels<'_>) -> Result<()> {
    let axes = cx.axes(0)?;
    let Some(repeats) = cx.ints(1).filter(|r| cx.opset >= 6 && r.len() == axes.len()) else { return channels::fixed(cx) };
    let tile = |(l, &n): (AxisLabels, &i64)| l.map(|l| (0..n.max(0)).flat_map(|_| l.iter().copied()).collect());
    let out = axes.into_iter().zip(&repeats).map(tile).collect();
    cx.set(0, out);
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    Ok(())
}

/// Channels of Pad: added indices stay; axes with padding that is not constant are fixed.
pub(in crate::ops) fn pad(cx: &mut Channels<'_>) -> Result<()> {
    let rank = cx.rank(0)?;
    let attrs = cx.opset < 11;
    let pads = if attrs { cx.node.find_ints(if cx.opset < 2 { "paddings" } else { "pads" })?.map(<[i64]>::to_vec) } else { cx.ints(1) };
    let which: Option<Vec<usize>> = match (attrs, cx.node.input(3)) {
        (false, Some(_)) => cx.ints(3).and_then(|v| v.iter().map(|&a| normalize_axis(a, rank).ok()).collect()),
        _ => Some((0..rank).collect()),
    };
    let (Some(pads), Some(which)) = (pads, which) else { return channels::fixed(cx) };
    let constant = cx.node.get_str("mode", "constant")? == "constant";
    let fill_is_zero = if attrs {
        cx.node.get_float("value", 0.0)? == 0.0
    } else {
        cx.node.input(2).is_none() || cx.fact(2)?.constant.as_ref().is_some_and(|c| c.to_f64s().is_ok_and(|v| v.iter().all(|&v| v == 0.0)))
    };
    let mut axes = cx.axes(0)?;
    for (k, &axis) in which.iter().enumerate() {
        let (Some(&before), Some(&after)) = (pads.get(k), pads.get(k + which.len())) else { return channels::fixed(cx) };
        if (before, after) == (0, 0) {
            continue;
        }
        let Some(labels) = axes[axis].take() else { continue };
        match (usize::try_from(before), usize::try_from(after)) {
            (Ok(before), Ok(after)) if constant => {
                let (b, a) = (cx.frozen(before), cx.frozen(after));
                axes[axis] =
                    Some(b.iter().flat_map(|l| l.iter()).chain(labels.iter()).chain(a.iter().flat_map(|l| l.iter())).copied().collect());
            }
            _ => cx.freeze(&Some(labels)),
        }
    }
    cx.set(0, axes);
    let zero = cx.zero(0) && constant && fill_is_zero;
    cx.set_zero(0, zero);
    Ok(())
}
