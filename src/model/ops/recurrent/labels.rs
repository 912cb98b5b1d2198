//! Channel rule of recurrent layers.
//!
//! Inputs follow the weights' last axis, so what makes the data is pruned through. A hidden unit goes with its rows in all
//! gates and directions, its column of the recurrent weights and its initial state; it is fixed where that is computed.

use super::{Kind, STATES, batch_first, cell};
use crate::ops::channels::{self, AxisLabels, Channels, Site, Size};
use compresso_base::error::Result;

fn times(units: &AxisLabels, n: usize) -> AxisLabels {
    units.as_ref().map(|u| (0..n).flat_map(|_| u.iter().copied()).collect())
}

pub(super) fn label(cx: &mut Channels<'_>, kind: Kind) -> Result<()> {
    if !cx.is_constant(1) || !cx.is_constant(2) {
        return channels::fixed(cx);
    }
    let (x, w, r) = (cx.axes(0)?, cx.axes(1)?, cx.axes(2)?);
    let ([steps, batch, data], [w_direction, w_rows, w_inputs], [r_direction, r_rows, units]) = (&x[..], &w[..], &r[..]) else {
        return channels::fixed(cx);
    };
    [steps, batch, w_direction, r_direction].into_iter().for_each(|l| cx.freeze(l));
    cx.join(data, w_inputs)?;
    let gates = kind.gates();
    let rows = times(units, gates);
    cx.join(w_rows, &rows)?;
    cx.join(r_rows, &rows)?;
    let lists = if kind == Kind::Lstm { &[(3, 2 * gates), (5, 1), (6, 1), (7, 3)][..] } else { &[(3, 2 * gates), (5, 1)][..] };
    for &(input, n) in lists {
        if cx.node.input(input).is_none() {
            continue;
        }
        let axes = cx.axes(input)?;
        if let Some((last, others)) = axes.split_last() {
            others.iter().for_each(|l| cx.freeze(l));
            cx.join(last, &times(units, n))?;
        }
    }
    if cx.node.input(4).is_some() {
        cx.freeze_input(4);
    }
    if cx.node.attrs.contains_key("hidden_size")
        && let Some(units) = units
    {
        cx.sizes(Site::Attr("hidden_size"), vec![Size::Count(units.clone())]);
    }
    cx.layer(1, 1);
    // A masked unit's gates see 0, and its state stays 0 where it starts at 0.
    let starts = STATES.into_iter().all(|i| cx.node.input(i).is_none() || cx.is_constant(i));
    let zero = starts && cell::has_defaults(cx.node);
    let first = batch_first(cx.node)?;
    let batch = batch.clone();
    let state = if first { vec![batch, None, units.clone()] } else { vec![None, batch, units.clone()] };
    cx.set(0, vec![None, None, None, units.clone()]);
    cx.set(1, state.clone());
    cx.set(2, state);
    (0..3).for_each(|i| cx.set_zero(i, zero));
    Ok(())
}
