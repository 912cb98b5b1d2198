//! Channel rules of convolutions.

use crate::ops::channels::{self, AxisLabels, Channels, Site, Size};
use compresso_base::error::Result;

/// Channels of a convolution: outputs follow the weight's first axis, inputs its second one.
///
/// Groups stay equal in size: where each group has several inputs and outputs, an index within the group goes from all
/// groups at once; else (depthwise) whole groups go.
pub(super) fn conv(cx: &mut Channels<'_>) -> Result<()> {
    if !cx.is_constant(1) {
        return channels::fixed(cx);
    }
    let (x, w) = (cx.axes(0)?, cx.axes(1)?);
    x[2..].iter().chain(&w[2..]).for_each(|l| cx.freeze(l));
    let groups = usize::try_from(cx.node.get_int("group", 1)?).unwrap_or(1).max(1);
    let out = w[0].clone();
    let (inner, outer) = (len(&w[1]), len(&out) / groups);
    if groups == 1 {
        cx.join(&x[1], &w[1])?;
    } else if inner == 1 || outer == 1 {
        cx.freeze(&w[1]);
        whole_groups(cx, groups, &x[1], &out);
    } else {
        within_groups(cx, groups, &x[1], &w[1])?;
        let first: AxisLabels = out.as_ref().map(|l| l[..outer].into());
        within_groups(cx, groups, &out, &first)?;
    }
    finish_conv(cx, x[0].clone(), out, x.len(), 0)
}

/// Channels of a transposed convolution: its weight is [in, out / groups, …].
pub(super) fn conv_transpose(cx: &mut Channels<'_>) -> Result<()> {
    if !cx.is_constant(1) {
        return channels::fixed(cx);
    }
    let (x, w) = (cx.axes(0)?, cx.axes(1)?);
    x[2..].iter().chain(&w[2..]).for_each(|l| cx.freeze(l));
    cx.join(&x[1], &w[0])?;
    let groups = usize::try_from(cx.node.get_int("group", 1)?).unwrap_or(1).max(1);
    let (inner, outer) = (len(&w[0]) / groups, len(&w[1]));
    if groups == 1 {
        return finish_conv(cx, x[0].clone(), w[1].clone(), x.len(), 1);
    }
    if inner == 1 || outer == 1 {
        cx.freeze(&w[1]);
        let out: AxisLabels = w[0].as_ref().map(|l| (0..groups * outer).map(|o| l[o / outer * inner]).collect());
        whole_groups(cx, groups, &w[0], &out);
        return finish_conv(cx, x[0].clone(), out, x.len(), 0);
    }
    let first: AxisLabels = w[0].as_ref().map(|l| l[..inner].into());
    within_groups(cx, groups, &w[0], &first)?;
    let out = w[1].as_ref().map(|l| (0..groups).flat_map(|_| l.iter().copied()).collect());
    finish_conv(cx, x[0].clone(), out, x.len(), 1)
}

fn len(labels: &AxisLabels) -> usize {
    labels.as_ref().map_or(0, |l| l.len())
}

/// All inputs and outputs of a group go together, and the group with them.
fn whole_groups(cx: &mut Channels<'_>, groups: usize, inputs: &AxisLabels, outputs: &AxisLabels) {
    let (Some(i), Some(o)) = (inputs, outputs) else {
        cx.freeze_beside(inputs);
        cx.freeze_beside(outputs);
        return;
    };
    let (inner, outer) = (i.len() / groups, o.len() / groups);
    for g in 0..groups {
        for &other in i[g * inner..(g + 1) * inner].iter().chain(&o[g * outer..(g + 1) * outer]) {
            cx.labels.join(i[g * inner], other);
        }
    }
    let firsts = (0..groups).map(|g| i[g * inner]).collect();
    cx.sizes(Site::Attr("group"), vec![Size::Count(firsts)]);
}

/// Each group's part of `all` goes like `one`.
fn within_groups(cx: &mut Channels<'_>, groups: usize, all: &AxisLabels, one: &AxisLabels) -> Result<()> {
    for g in 0..groups {
        let part = all.as_ref().map(|l| l[g * (l.len() / groups)..(g + 1) * (l.len() / groups)].into());
        cx.join(&part, one)?;
    }
    Ok(())
}

/// Joins the bias and labels the output `[batch, channels, …]`; `axis` is the weight's axis that makes the channels.
fn finish_conv(cx: &mut Channels<'_>, batch: AxisLabels, out: AxisLabels, rank: usize, axis: usize) -> Result<()> {
    let biased = cx.node.input(2).is_some();
    if biased {
        let bias = cx.axis(2, 0);
        cx.join(&bias, &out)?;
    }
    cx.layer(1, axis);
    cx.set_zero(0, !biased || cx.is_constant(2));
    let mut axes = vec![None; rank];
    axes[0] = batch;
    axes[1] = out;
    cx.set(0, axes);
    Ok(())
}
