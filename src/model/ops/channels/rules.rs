//! Channel rules that several operators share.

use super::{AxisLabels, Channels};
use crate::graph::Dim;
use compresso_base::error::Result;

/// The rule of operators through which nothing may be pruned: all inputs are fixed, outputs have no labels.
pub fn fixed(cx: &mut Channels<'_>) -> Result<()> {
    cx.because("is not followed by pruning");
    for i in 0..cx.node.inputs.len() {
        cx.freeze_input(i);
    }
    for name in cx.node.captured() {
        cx.labels.freeze_value(name);
    }
    Ok(())
}

/// The rule of operators that treat each element of input 0 alone and keep its shape.
pub fn elementwise(cx: &mut Channels<'_>) -> Result<()> {
    let axes = cx.axes(0)?;
    cx.set(0, axes);
    Ok(())
}

/// As [`elementwise`], for functions with f(0) = 0.
pub fn through(cx: &mut Channels<'_>) -> Result<()> {
    elementwise(cx)?;
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    Ok(())
}

/// The rule of operators that keep the axes of input 0 apart, except those for which `mixed` is true: these are fixed
/// and unlabelled in the outputs. Sets the labels of output 0 only.
pub fn through_except(cx: &mut Channels<'_>, mixed: impl Fn(usize) -> bool) -> Result<Vec<AxisLabels>> {
    let mut axes = cx.axes(0)?;
    if cx.labels.cause.why == super::reason::WHOLE {
        cx.because("computes over all of them together");
    }
    for (a, labels) in axes.iter_mut().enumerate() {
        if mixed(a) {
            cx.freeze(&labels.take());
        }
    }
    cx.set(0, axes.clone());
    Ok(axes)
}

/// The rule of operators that read images `[n, c, spatial…]` at places which the other inputs say, each channel alike and zeros as
/// zeros: channels go through, all else is fixed.
pub fn images(cx: &mut Channels<'_>) -> Result<()> {
    through_except(cx, |axis| axis != 1)?;
    (1..cx.node.inputs.len()).for_each(|i| cx.freeze_input(i));
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    Ok(())
}

/// What broadcasting makes of the inputs' labels.
#[derive(Debug)]
pub struct Broadcast {
    /// Labels of the result.
    pub axes: Vec<AxisLabels>,
    /// For each axis of the result, the inputs that are not just repeated along it.
    pub carriers: Vec<Vec<usize>>,
}

/// Joins the axes of several inputs as broadcasting aligns them (the last axes together). `skip` is how many last axes
/// of each input do not take part.
pub fn join_broadcast(cx: &mut Channels<'_>, inputs: &[usize], skip: usize) -> Result<Broadcast> {
    let mut shapes = Vec::with_capacity(inputs.len());
    for &i in inputs {
        let (mut shape, mut axes) = (cx.shape(i)?, cx.axes(i)?);
        shape.truncate(shape.len().saturating_sub(skip));
        axes.truncate(shape.len());
        shapes.push((shape, axes));
    }
    let rank = shapes.iter().map(|(s, _)| s.len()).max().unwrap_or(0);
    let mut out = Broadcast { axes: vec![None; rank], carriers: vec![Vec::new(); rank] };
    for axis in 0..rank {
        let mut first: Option<AxisLabels> = None;
        for (&i, (shape, axes)) in inputs.iter().zip(&shapes) {
            let Some(a) = (axis + shape.len()).checked_sub(rank) else { continue };
            if shape[a] == Dim::Known(1) {
                cx.freeze(&axes[a]);
                continue;
            }
            out.carriers[axis].push(i);
            match &first {
                None => first = Some(axes[a].clone()),
                Some(f) => cx.join(f, &axes[a])?,
            }
            if axes[a].is_none() {
                first = Some(None);
            }
        }
        out.axes[axis] = first.flatten();
    }
    Ok(out)
}

/// The rule of operators that combine their (float) inputs element by element with broadcasting.
pub fn broadcast(cx: &mut Channels<'_>) -> Result<()> {
    let inputs: Vec<usize> = (0..cx.node.inputs.len()).filter(|&i| cx.node.input(i).is_some()).collect();
    let found = join_broadcast(cx, &inputs, 0)?;
    cx.set(0, found.axes);
    Ok(())
}

/// As [`broadcast`], for sums and their like: zero where all inputs are.
pub fn sum(cx: &mut Channels<'_>) -> Result<()> {
    let inputs: Vec<usize> = (0..cx.node.inputs.len()).collect();
    let found = join_broadcast(cx, &inputs, 0)?;
    let labelled = found.axes.iter().zip(&found.carriers).filter(|(l, _)| l.is_some());
    let zero = labelled.into_iter().all(|(_, c)| c.len() == inputs.len()) && inputs.iter().all(|&i| cx.zero(i));
    cx.set(0, found.axes);
    cx.set_zero(0, zero);
    Ok(())
}

/// As [`broadcast`], for products: zero along an axis where one of the inputs that vary along it is.
pub fn product(cx: &mut Channels<'_>) -> Result<()> {
    let inputs: Vec<usize> = (0..cx.node.inputs.len()).collect();
    let found = join_broadcast(cx, &inputs, 0)?;
    let labelled = found.axes.iter().zip(&found.carriers).filter(|(l, _)| l.is_some());
    let zero = labelled.into_iter().all(|(_, c)| c.iter().any(|&i| cx.zero(i)));
    cx.set(0, found.axes);
    cx.set_zero(0, zero);
    Ok(())
}
