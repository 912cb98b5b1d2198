//! Operators that move elements: transposes, slices, joins, gathers, copies, padding.

use super::build::{Build, Held, axis, input, output, too_many};
use super::net::{Blob, Layer};
use super::shape::{MOST, permutation, with_axes};
use compresso_base::error::{Error, Result};
use compresso_model::Node;
use compresso_model::graph::normalize_axis;
use compresso_model::ops::slice::listed_axes;

/// Permute's order types by rank: letters of the axes that the result has from width on.
const ORDERS: [&[&str]; 2] = [
    &["WHC", "HWC", "WCH", "CWH", "HCW", "CHW"],
    &[
        "WHDC", "HWDC", "WDHC", "DWHC", "HDWC", "DHWC", "WHCD", "HWCD", "WCHD", "CWHD", "HCWD", "CHWD", "WDCH", "DWCH", "WCDH", "CWDH",
        "DCWH", "CDWH", "HDCW", "DHCW", "HCDW", "CHDW", "DCHW", "CDHW",
    ],
];

/// Puts the axes of a blob in another order.
pub(super) fn permute(cx: &mut Build<'_>, blob: Blob, shape: &[usize], perm: &[usize]) -> Result<Held> {
    let to: Vec<usize> = perm.iter().map(|&a| shape[a]).collect();
    let order = match shape.len() {
        2 => usize::from(perm[0] == 1),
        n @ (3 | 4) => {
            let letters = if n == 3 { "CHW" } else { "CDHW" };
            let word: String = perm.iter().rev().filter_map(|&a| letters.chars().nth(a)).collect();
            let found = ORDERS[n - 3].iter().position(|o| *o == word);
            found.ok_or_else(|| Error::internal(format!("the axes {perm:?} are in no order")))?
        }
        _ => return Err(too_many(shape)),
    };
    Ok(Held { blob: cx.layer(Layer::new("Permute").int(0, order), &[blob]), shape: to })
}

/// A value with its axes in another order.
pub(super) fn transposed(cx: &mut Build<'_>, name: &str, dims: &[usize], perm: &[usize]) -> Result<Held> {
    let (shape, order) = permutation(dims, perm);
    if order.iter().enumerate().all(|(i, &a)| i == a) {
        return cx.held(name);
    }
    if shape.len() > MOST {
        return one_at_a_time(cx, name, &shape, &order);
    }
    let blob = cx.view(name, &shape)?;
    permute(cx, blob, &shape, &order)
}

/// More axes than a blob has in another order: each that is not in its place goes there, past those before it.
fn one_at_a_time(cx: &mut Build<'_>, name: &str, dims: &[usize], perm: &[usize]) -> Result<Held> {
    let mut now: Vec<usize> = (0..dims.len()).collect();
    let mut held = cx.held(name)?;
    for (place, &axis) in perm.iter().enumerate() {
        let Some(at) = now.iter().position(|&a| a == axis).filter(|&at| at > place) else { continue };
        let size = |axes: &[usize]| axes.iter().map(|&a| dims[a]).product::<usize>();
        let view = [size(&now[..place]), size(&now[place..at]), dims[axis], size(&now[at + 1..])];
        let blob = cx.reshaped(&held, &view)?;
        held = permute(cx, blob, &view, &[0, 2, 1, 3])?;
        now.remove(at);
        now.insert(place, axis);
    }
    Ok(held)
}

pub(super) fn transpose(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let dims = cx.input_dims(node, 0)?;
    let perm: Vec<usize> = match node.find_ints("perm")? {
        Some(p) if !p.is_empty() => p.iter().map(|&a| normalize_axis(a, dims.len())).collect::<Result<_>>()?,
        _ => (0..dims.len()).rev().collect(),
    };
    if perm.len() != dims.len() {
        return Err(Error::shape(format!("perm {perm:?} for {dims:?}")));
    }
    let held = transposed(cx, input(node, 0)?, &dims, &perm)?;
    cx.made(node, held.blob, held.shape)
}

/// What is cut out of a blob along its axes.
fn crop(cx: &mut Build<'_>, from: &Held, cuts: &[(usize, usize, usize)]) -> Held {
    let mut shape = from.shape.clone();
    cuts.iter().for_each(|&(axis, start, end)| shape[axis] = end - start);
    if shape == from.shape {
        return from.clone();
    }
    let layer = Layer::new("Crop").ints(9, cuts.iter().map(|c| c.1)).ints(10, cuts.iter().map(|c| c.2)).ints(11, cuts.iter().map(|c| c.0));
    Held { blob: cx.layer(layer, &[from.blob]), shape }
}

pub(super) fn slice(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (name, dims, out) = (input(node, 0)?, cx.input_dims(node, 0)?, cx.output_dims(node)?);
    let attr = |name: &str| node.find_ints(name).map(|v| v.map(<[i64]>::to_vec));
    let old = node.inputs.len() == 1;
    let starts = if old { attr("starts")? } else { cx.ints(node, 1, "the start")? };
    let starts = starts.ok_or_else(|| Error::format("it has no starts"))?;
    let axes = if old { attr("axes")? } else { cx.ints(node, 3, "the axes")? };
    let axes = listed_axes(axes, starts.len(), dims.len())?;
    let steps = cx.ints(node, 4, "the step")?.unwrap_or_else(|| vec![1; axes.len()]);
    let (mut held, mut now) = (None, dims.clone());
    for ((&axis, &start), &step) in axes.iter().zip(&starts).zip(&steps) {
        let step = usize::try_from(step).ok().filter(|&s| s > 0);
        let step = step.ok_or_else(|| Error::unsupported("it goes backwards; NCNN's Crop goes forwards"))?;
        let size = dims[axis];
        let start = if start < 0 { size.saturating_sub(start.unsigned_abs() as usize) } else { start as usize };
        if (start, step, out[axis]) == (0, 1, size) {
            continue;
        }
        let from = match held.take() {
            Some(held) => held,
            None => cx.held(name)?,
        };
        held = Some(strided(cx, &from, &now, axis, (start, step, out[axis]))?);
        now[axis] = out[axis];
    }
    match held {
        Some(held) => cx.made(node, held.blob, held.shape),
        None => cx.same(node),
    }
}

/// Every `step`-th of the elements of an axis, `count` of them.
fn strided(cx: &mut Build<'_>, from: &Held, dims: &[usize], axis: usize, (start, step, count): (usize, usize, usize)) -> Result<Held> {
    let (shape, at) = with_axes(dims, &[axis]).ok_or_else(|| too_many(dims))?;
    let view = Held { blob: cx.reshaped(from, &shape)?, shape };
    let at = at[0];
    if step == 1 || count == 1 {
        return Ok(crop(cx, &view, &[(at, start, start + count)]));
    }
    // In rows of `step` elements, the first of each.
    let (outer, inner) = (view.shape[..at].iter().product::<usize>(), view.shape[at + 1..].iter().product::<usize>());
    let size = view.shape[at];
    let line = Held { blob: cx.reshaped(&view, &[outer, size, inner])?, shape: vec![outer, size, inner] };
    let mut cut = crop(cx, &line, &[(1, start, size.min(start + count * step))]);
    let missing = count * step - cut.shape[1];
    if missing > 0 {
        cut.blob = cx.layer(Layer::new("Padding").int(0, 0).int(1, missing).int(2, 0).int(3, 0), &[cut.blob]);
        cut.shape[1] += missing;
    }
    let rows = Held { blob: cx.reshaped(&cut, &[outer, count, step, inner])?, shape: vec![outer, count, step, inner] };
    Ok(crop(cx, &rows, &[(2, 0, 1)]))
}

pub(super) fn concat(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let out = cx.output_dims(node)?;
    let axis = axis(node, 1, out.len())?;
    let (shape, at) = with_axes(&out, &[axis]).ok_or_else(|| too_many(&out))?;
    let mut blobs = Vec::with_capacity(node.inputs.len());
    for name in &node.inputs {
        let mut view = shape.clone();
        view[at[0]] = cx.dims(name)?[axis];
        blobs.push(cx.view(name, &view)?);
    }
    let blob = match blobs[..] {
        [one] => one,
        _ => cx.layer(Layer::new("Concat").int(0, at[0]), &blobs),
    };
    cx.made(node, blob, shape)
}

pub(super) fn split(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (name, dims) = (input(node, 0)?, cx.input_dims(node, 0)?);
    let axis = axis(node, 0, dims.len())?;
    let (shape, at) = with_axes(&dims, &[axis]).ok_or_else(|| too_many(&dims))?;
    let at = at[0];
    let sizes: Vec<usize> = node.outputs.iter().map(|o| Ok(cx.dims(o)?[axis])).collect::<Result<_>>()?;
    let parts: Vec<Vec<usize>> =
        sizes.iter().map(|&s| shape.iter().enumerate().map(|(i, &d)| if i == at { s } else { d }).collect()).collect();
    let view = Held { blob: cx.view(name, &shape)?, shape };
    if node.outputs.iter().all(|o| cx.is_read(o)) {
        let blobs = cx.layers(Layer::new("Slice").ints(0, sizes).int(1, at), &[view.blob], node.outputs.len());
        for ((name, blob), shape) in node.outputs.iter().zip(blobs).zip(parts) {
            cx.set(name, blob, shape);
        }
        return Ok(());
    }
    // What nothing reads would be an output of the network.
    let mut start = 0;
    for (name, size) in node.outputs.iter().zip(sizes) {
        if cx.is_read(name) {
            let part = crop(cx, &view, &[(at, start, start + size)]);
            cx.set(name, part.blob, part.shape);
        }
        start += size;
    }
    Ok(())
}

/// At most so many runs of indices are joined.
const RUNS: usize = 256;

/// Elements of an axis by constant indices: runs of neighbours, joined.
pub(super) fn gather(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (name, dims) = (input(node, 0)?, cx.input_dims(node, 0)?);
    let axis = axis(node, 0, dims.len())?;
    let indices = cx.ints(node, 1, "the list of indices")?.ok_or_else(|| Error::format("it has no indices"))?;
    let indices = indices.iter().map(|&i| normalize_axis(i, dims[axis])).collect::<Result<Vec<_>>>()?;
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for i in indices {
        match runs.last_mut() {
            Some(run) if run.1 == i => run.1 += 1,
            _ => runs.push((i, i + 1)),
        }
    }
    if runs.len() > RUNS {
        return Err(Error::unsupported(format!(
            "it picks {} separate parts; NCNN has no Gather, and at most {RUNS} crops stand for one",
            runs.len()
        )));
    }
    let (mut shape, at) = with_axes(&dims, &[axis]).ok_or_else(|| too_many(&dims))?;
    let at = at[0];
    let view = Held { blob: cx.view(name, &shape)?, shape: shape.clone() };
    shape[at] = runs.iter().map(|r| r.1 - r.0).sum();
    let parts: Vec<Blob> = runs.iter().map(|&(start, end)| crop(cx, &view, &[(at, start, end)]).blob).collect();
    let blob = match parts[..] {
        [one] => one,
        _ => cx.layer(Layer::new("Concat").int(0, at), &parts),
    };
    cx.made(node, blob, shape)
}

/// Copies along axes, as Expand and Tile make them: `dims`, of the output's rank, each so many times as `out` has more of it.
pub(super) fn tile(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (name, dims, out) = (input(node, 0)?, cx.input_dims(node, 0)?, cx.output_dims(node)?);
    let mut now: Vec<usize> = std::iter::repeat_n(1, out.len() - dims.len()).chain(dims).collect();
    let mut held = cx.held(name)?;
    for axis in 0..out.len() {
        let times = out[axis] / now[axis];
        if times == 1 {
            continue;
        }
        let (mut shape, at) = with_axes(&now, &[axis]).ok_or_else(|| too_many(&now))?;
        let blob = cx.reshaped(&held, &shape)?;
        let blob = cx.layer(Layer::new("Tile").int(0, at[0]).int(1, times), &[blob]);
        now[axis] = out[axis];
        shape[at[0]] = out[axis];
        held = Held { blob, shape };
    }
    cx.made(node, held.blob, held.shape)
}

pub(super) fn pad(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (name, dims, out) = (input(node, 0)?, cx.input_dims(node, 0)?, cx.output_dims(node)?);
    let pads = match node.find_ints("pads")? {
        Some(pads) => pads.to_vec(),
        None => cx.ints(node, 1, "the padding")?.ok_or_else(|| Error::format("it has no pads"))?,
    };
    let axes = match cx.ints(node, 3, "the axes")? {
        Some(axes) => axes.iter().map(|&a| normalize_axis(a, dims.len())).collect::<Result<Vec<_>>>()?,
        None => (0..dims.len()).collect(),
    };
    let value = match node.input(2) {
        Some(_) => cx.floats(node, 2, "the value")?.first().copied().unwrap_or(0.0),
        None => node.get_float("value", 0.0)?,
    };
    let kind = match node.get_str("mode", "constant")? {
        "constant" => 0,
        "edge" => 1,
        "reflect" => 2,
        mode => return Err(Error::unsupported(format!("NCNN does not pad in the mode \"{mode}\""))),
    };
    if pads.len() != 2 * axes.len() {
        return Err(Error::shape(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let amount = |p: i64| usize::try_from(p).unwrap_or(0);
    let mut held = cx.held(name)?;
    let mut now = dims.clone();
    // Negative ones cut off.
    for (i, &axis) in axes.iter().enumerate() {
        let (before, after) = (pads[i], pads[i + axes.len()]);
        let (start, cut) = (amount(before.saturating_neg()), amount(after.saturating_neg()));
        if start + cut > 0 {
            let count = now[axis].checked_sub(start + cut).filter(|&n| n > 0);
            let count = count.ok_or_else(|| Error::unsupported("it cuts an axis off whole, and NCNN has no empty blobs"))?;
            held = strided(cx, &held, &now, axis, (start, 1, count))?;
            now[axis] = count;
        }
    }
    let both = |axis: usize| axes.iter().position(|&a| a == axis).map_or([0; 2], |i| [amount(pads[i]), amount(pads[i + axes.len()])]);
    let rank = dims.len();
    // Rows and columns of images at once.
    let image =
        rank >= 3 && axes.iter().all(|&a| a + 2 >= rank || both(a) == [0; 2]) && axes.iter().any(|&a| a + 2 == rank && both(a) != [0; 2]);
    if image && kind != 2 {
        let (outer, [top, bottom], [left, right]) = (now[..rank - 2].iter().product::<usize>(), both(rank - 2), both(rank - 1));
        let blob = cx.reshaped(&held, &[outer, now[rank - 2], now[rank - 1]])?;
        let layer = Layer::new("Padding").int(0, top).int(1, bottom).int(2, left).int(3, right).int(4, kind).float(5, value);
        let blob = cx.layer(layer, &[blob]);
        return cx.made(node, blob, vec![outer, out[rank - 2], out[rank - 1]]);
    }
    for &axis in &axes {
        let [before, after] = both(axis);
        if before + after == 0 {
            continue;
        }
        if kind == 2 && before.max(after) >= now[axis] {
            return Err(Error::unsupported(format!("it reflects more than the {} elements of an axis", now[axis])));
        }
        // Along the height of rows: what comes before and after stays as it is.
        let (outer, inner) = (now[..axis].iter().product::<usize>(), now[axis + 1..].iter().product::<usize>());
        let (shape, ids) = if inner == 1 { (vec![outer, now[axis]], [2, 3]) } else { (vec![outer, now[axis], inner], [0, 1]) };
        let blob = cx.reshaped(&held, &shape)?;
        let blob = cx.layer(Layer::new("Padding").int(ids[0], before).int(ids[1], after).int(4, kind).float(5, value), &[blob]);
        now[axis] = out[axis];
        let mut shape = shape;
        shape[1] = out[axis];
        held = Held { blob, shape };
    }
    cx.made(node, held.blob, held.shape)
}

/// Depth to space and back, as transposes of axes that are taken apart.
pub(super) fn depth_to_space(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (name, dims) = (input(node, 0)?, cx.input_dims(node, 0)?);
    let block = block(node)?;
    let [n, c, h, w] = dims[..] else { return Err(Error::shape(format!("it works on four axes, not {dims:?}"))) };
    let inner = c / (block * block);
    if n != 1 {
        return Err(Error::unsupported(format!("it works on a batch of {n}, and NCNN's blobs have no batch")));
    }
    let columns = node.get_str("mode", "DCR")? == "CRD";
    let x = cx.view(name, &[c, h, w])?;
    let blob = cx.layer(Layer::new("PixelShuffle").int(0, block).int(1, usize::from(!columns)), &[x]);
    cx.made(node, blob, vec![inner, h * block, w * block])
}

pub(super) fn space_to_depth(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (name, dims) = (input(node, 0)?, cx.input_dims(node, 0)?);
    let block = block(node)?;
    let [n, c, h, w] = dims[..] else { return Err(Error::shape(format!("it works on four axes, not {dims:?}"))) };
    let apart = [n, c, h / block, block, w / block, block];
    let held = transposed(cx, name, &apart, &[0, 3, 5, 1, 2, 4])?;
    cx.set(output(node)?, held.blob, held.shape);
    Ok(())
}

fn block(node: &Node) -> Result<usize> {
    let size = usize::try_from(node.get_int("blocksize", 0)?).ok().filter(|&b| b > 0);
    size.ok_or_else(|| Error::format("attribute 'blocksize' must be at least 1"))
}
