//! Channel rules of operators that rearrange axes.

use crate::graph::{Dim, normalize_axis};
use crate::ops::channels::{self, AxisLabels, Channels, Site, Size};
use compresso_base::error::Result;

/// Channels of Transpose: axes change places.
pub(in crate::ops) fn transpose(cx: &mut Channels<'_>) -> Result<()> {
    let axes = cx.axes(0)?;
    let out = match cx.node.find_ints("perm")? {
        Some(perm) => perm.iter().map(|&p| normalize_axis(p, axes.len()).map(|p| axes[p].clone())).collect::<Result<Vec<_>>>()?,
        None => axes.into_iter().rev().collect(),
    };
    cx.set(0, out);
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    Ok(())
}

/// Channels of Reshape, Flatten, Squeeze and Unsqueeze, whose data is the same in row-major order.
pub(in crate::ops) fn reshape(cx: &mut Channels<'_>) -> Result<()> {
    let (from, to, labels) = (cx.shape(0)?, cx.out_shape(0)?, cx.axes(0)?);
    let out = channels::reshape(cx, &from, &labels, &to);
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    cx.set(0, out.clone());
    if !cx.node.is("Reshape") {
        return Ok(());
    }
    let given = if cx.opset >= 5 { cx.ints(1) } else { cx.node.find_ints("shape")?.map(<[i64]>::to_vec) };
    let open = to.iter().filter(|d| d.known().is_none()).count();
    let size = |(axis, labels): (usize, &AxisLabels)| match (given.as_ref().and_then(|g| g.get(axis)), labels, to[axis].known()) {
        (Some(-1), _, _) => Size::Fixed(-1),
        (_, Some(l), _) => Size::Count(l.clone()),
        (Some(&n), None, _) => Size::Fixed(n),
        (None, None, Some(n)) => Size::Fixed(n as i64),
        (None, None, None) if open == 1 => Size::Fixed(-1),
        (None, None, None) => Size::Open,
    };
    let sizes = out.iter().enumerate().map(size).collect();
    cx.sizes(if cx.opset >= 5 { Site::Input(1) } else { Site::Attr("shape") }, sizes);
    Ok(())
}

/// Channels of Expand: axes that are repeated get labels of their own, and the target follows.
pub(in crate::ops) fn expand(cx: &mut Channels<'_>) -> Result<()> {
    let (from, to, axes) = (cx.shape(0)?, cx.out_shape(0)?, cx.axes(0)?);
    let lead = to.len() - from.len();
    let float = cx.fact(0)?.element.is_float();
    let (mut out, mut grown): (Vec<AxisLabels>, bool) = (Vec::new(), false);
    for (a, size) in to.iter().enumerate() {
        let own = a.checked_sub(lead);
        let repeated = own.is_none_or(|a| from[a] == Dim::Known(1)) && *size != Dim::Known(1);
        out.push(match (own, size.known()) {
            (_, Some(n)) if repeated && float => {
                grown = true;
                own.into_iter().for_each(|a| cx.freeze(&axes[a]));
                Some(cx.labels.fresh(n))
            }
            (Some(a), _) if !repeated => axes[a].clone(),
            (Some(a), _) => {
                cx.freeze(&axes[a]);
                None
            }
            (None, _) => None,
        });
    }
    let zero = cx.zero(0) && !grown;
    cx.set_zero(0, zero);
    let given = cx.ints(1);
    let skip = to.len() - cx.shape(1)?.first().and_then(Dim::known).unwrap_or(to.len()).min(to.len());
    let size = |(a, labels): (usize, &AxisLabels)| match (given.as_ref().and_then(|g| g.get(a - skip)), labels, to[a].known()) {
        (Some(1), _, _) => Size::Fixed(1),
        (_, Some(l), _) => Size::Count(l.clone()),
        (_, None, Some(n)) => Size::Fixed(n as i64),
        (_, None, None) => Size::Open,
    };
    let sizes = out.iter().enumerate().skip(skip).map(size).collect();
    cx.sizes(Site::Input(1), sizes);
    cx.set(0, out);
    Ok(())
}

/// Channels of Cast: floats stay what they are.
pub(in crate::ops) fn cast(cx: &mut Channels<'_>) -> Result<()> {
    if cx.out_fact(0)?.element.is_float() { channels::through(cx) } else { channels::fixed(cx) }
}

/// Channels of Identity.
pub(in crate::ops) fn identity(cx: &mut Channels<'_>) -> Result<()> {
    if cx.fact(0)?.rank().is_some() { channels::through(cx) } else { channels::fixed(cx) }
}

/// Shape reads sizes only: what follows from them is rewritten where it is used.
#[expect(clippy::unnecessary_wraps, reason = "the type of a channel rule")]
pub(in crate::ops) fn shape(_: &mut Channels<'_>) -> Result<()> {
    Ok(())
}
