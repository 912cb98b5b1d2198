//! Operators that move, cut, join and repeat.

use super::lower::{Entry, Form, Lower, RANK, held, lacks, open};
use super::program::{Kind, Ref, Type};
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;

pub(super) const OPS: &[Entry] = &[
    ("Reshape", Form::With(reshape)),
    ("Flatten", Form::With(reshape)),
    ("Squeeze", Form::With(reshape)),
    ("Unsqueeze", Form::With(reshape)),
    ("Transpose", Form::With(transpose)),
    ("Concat", Form::With(concat)),
    ("Split", Form::With(split)),
    ("Slice", Form::With(slice)),
    ("Expand", Form::With(expand)),
    ("Tile", Form::With(tile)),
    ("Pad", Form::With(pad)),
    ("DepthToSpace", Form::With(depth_to_space)),
    ("SpaceToDepth", Form::With(space_to_depth)),
    ("Shape", Form::With(known)),
    ("Size", Form::With(known)),
    ("Range", Form::With(known)),
    ("ConstantOfShape", Form::With(known)),
    ("Constant", Form::With(known)),
    ("Trilu", Form::With(trilu)),
];

/// The same elements in the sizes of the output.
fn reshape(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.raw(0)?.ok_or_else(|| Error::format("input 0 is missing"))?;
    let made = held(&cx.out_dims(0)?);
    let y = cx.reshape(x, &made);
    cx.one(y)
}

/// Axes that stay beside each other move as one, so that more of them than tensors have can be moved.
fn transpose(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.raw(0)?.ok_or_else(|| Error::format("input 0 is missing"))?;
    let dims = cx.dims(0)?;
    let order: Vec<usize> = match cx.node.find_ints("perm")? {
        Some(order) => order.iter().map(|&a| normalize_axis(a, dims.len())).collect::<Result<_>>()?,
        None => (0..dims.len()).rev().collect(),
    };
    if dims.len() <= RANK {
        let y = cx.transpose(x, &order);
        return cx.one(y);
    }
    // Runs of axes as they stand in the output; those of size 1 go anywhere.
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for axis in order.into_iter().filter(|&a| dims[a] != 1) {
        let between = |last: usize| last < axis && (last + 1..axis).all(|a| dims[a] == 1);
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|&last| between(last)) => run.push(axis),
            _ => runs.push(vec![axis]),
        }
    }
    let mut sorted: Vec<usize> = (0..runs.len()).collect();
    sorted.sort_by_key(|&r| runs[r][0]);
    let size = |run: usize| runs[run].iter().map(|&a| dims[a]).product::<usize>();
    let y = if runs.len() <= RANK {
        let from: Vec<usize> = sorted.iter().map(|&r| size(r)).collect();
        let order: Vec<usize> = (0..runs.len()).filter_map(|r| sorted.iter().position(|&s| s == r)).collect();
        let x = cx.reshape(x, &from);
        cx.transpose(x, &order)
    } else {
        one_by_one(cx, x, sorted, size)
    };
    let made = held(&cx.out_dims(0)?);
    let y = cx.reshape(y, &made);
    cx.one(y)
}

/// Brings the groups of axes that stand as in `now` into the order 0, 1, 2, …, each past those before it.
fn one_by_one(cx: &mut Lower<'_>, x: Ref, mut now: Vec<usize>, size: impl Fn(usize) -> usize) -> Ref {
    let mut y = x;
    for to in 0..now.len() {
        let Some(from) = now.iter().position(|&g| g == to).filter(|&from| from != to) else { continue };
        let product = |groups: &[usize]| groups.iter().map(|&g| size(g)).product::<usize>();
        y = cx.reshape(y, &[product(&now[..to]), product(&now[to..from]), size(to), product(&now[from + 1..])]);
        y = cx.transpose(y, &[0, 2, 1, 3]);
        let group = now.remove(from);
        now.insert(to, group);
    }
    y
}

fn concat(cx: &mut Lower<'_>) -> Result<()> {
    let (inputs, rank) = (cx.inputs()?, cx.rank(0)?);
    let axis = cx.axis(1, rank)?;
    let y = if inputs.len() == 1 { inputs[0] } else { cx.join(inputs, axis) };
    cx.one(y)
}

fn split(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let own = cx.sizes(x);
    let axis = cx.axis(0, own.len())?;
    let made: Vec<Type> = (0..cx.node.outputs.len())
        .map(|i| {
            // The sizes of an output that nothing reads are those of the others'.
            let size = if cx.node.output(i).is_some() { cx.out_dims(i)?[axis] } else { part(cx, i, own[axis])? };
            let mut dims = own.clone();
            dims[axis] = size;
            Ok(Type { kind: cx.kind(x), dims })
        })
        .collect::<Result<_>>()?;
    if made.len() == 1 {
        return cx.set(0, x);
    }
    let sizes: Vec<usize> = made.iter().map(|m| m.dims[axis]).collect();
    let (sizes, axis) = (cx.list_of(&sizes), cx.int(axis as i64));
    let parts = cx.several("split", &[("x", x), ("split_sizes", sizes), ("axis", axis)], made);
    parts.into_iter().enumerate().try_for_each(|(i, part)| cx.set(i, part))
}

/// The size of part `i` of `n` elements.
fn part(cx: &Lower<'_>, i: usize, n: usize) -> Result<usize> {
    let parts = cx.node.outputs.len();
    match cx.list("split", 1)? {
        Some(sizes) => sizes.get(i).and_then(|&s| usize::try_from(s).ok()).ok_or_else(|| open("the sizes of the parts")),
        None => {
            let each = n.div_ceil(parts);
            Ok(n.saturating_sub(i * each).min(each))
        }
    }
}

fn slice(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let own = cx.sizes(x);
    let missing = |name: &str| Error::format(format!("'{name}' is missing"));
    let starts = cx.list("starts", 1)?.ok_or_else(|| missing("starts"))?;
    let ends = cx.list("ends", 2)?.ok_or_else(|| missing("ends"))?;
    let axes = cx.list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = cx.ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&n| n != starts.len()) {
        return Err(Error::shape("starts, ends, axes and steps differ in number"));
    }
    let made = cx.out_dims(0)?;
    let (mut begin, mut end, mut step) = (vec![0; own.len()], own.clone(), vec![1; own.len()]);
    let mut reversed = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = normalize_axis(axis, own.len())?;
        let n = own[axis] as i64;
        let first = if starts[i] < 0 { starts[i].saturating_add(n) } else { starts[i] };
        let by = usize::try_from(steps[i].unsigned_abs()).map_err(|_| lacks("step as large as that"))?;
        if steps[i] == 0 {
            return Err(Error::format("a step of 0"));
        }
        // Backwards is forwards in what is turned round.
        let first = if steps[i] > 0 { first.clamp(0, n) } else { n - 1 - first.clamp(0, n - 1) };
        if steps[i] < 0 {
            reversed.push(axis);
        }
        begin[axis] = first as usize;
        step[axis] = by.min(own[axis].max(1));
        end[axis] = begin[axis] + (made[axis] - 1) * step[axis] + 1;
    }
    let mut y = x;
    if !reversed.is_empty() {
        let axes = cx.list_of(&reversed);
        y = cx.like("reverse", y, &[("axes", axes)]);
    }
    let y = cx.cut(y, &begin, &end, &step);
    cx.one(y)
}

fn expand(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let made = cx.out_dims(0)?;
    if made.len() > RANK {
        return Err(lacks(format!("tensors of {} axes; it has up to {RANK}", made.len())));
    }
    let y = cx.spread(x, &made)?;
    cx.one(y)
}

fn tile(cx: &mut Lower<'_>) -> Result<()> {
    if cx.opset < 6 {
        return Err(lacks("Tile in the form of operator sets before 6").hint("raise the model's operator set"));
    }
    let x = cx.input(0)?;
    let (own, made) = (cx.sizes(x), cx.out_dims(0)?);
    let repeats: Vec<usize> = own.iter().zip(&made).map(|(d, m)| m / d).collect();
    let y = cx.repeat(x, &repeats)?;
    cx.one(y)
}

/// Negative padding takes away.
fn pad(cx: &mut Lower<'_>) -> Result<()> {
    let mode = match cx.node.get_str("mode", "constant")? {
        "constant" => "constant",
        "edge" => "replicate",
        "reflect" => "reflect",
        other => return Err(lacks(format!("Pad with the mode \"{other}\""))),
    };
    let x = cx.input(0)?;
    let own = cx.sizes(x);
    let rank = own.len();
    let axes: Vec<usize> = match cx.ints(3)? {
        None => (0..rank).collect(),
        Some(axes) => axes.iter().map(|&a| normalize_axis(a, rank)).collect::<Result<_>>()?,
    };
    let pads = cx.list(if cx.opset < 2 { "paddings" } else { "pads" }, 1)?.ok_or_else(|| open("how much is padded"))?;
    if pads.len() != 2 * axes.len() {
        return Err(Error::shape(format!("expected {} pads, got {}", 2 * axes.len(), pads.len())));
    }
    let (mut begin, mut end) = (vec![0i64; rank], vec![0i64; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        (begin[axis], end[axis]) = (pads[i], pads[axes.len() + i]);
    }
    let taken = |p: i64| usize::try_from(-p).unwrap_or(0);
    let from: Vec<usize> = begin.iter().map(|&p| taken(p)).collect();
    let to: Vec<usize> = (0..rank).map(|d| own[d].saturating_sub(taken(end[d]))).collect();
    if (0..rank).any(|d| from[d] >= to[d]) {
        return Err(lacks("tensors without elements"));
    }
    let y = cx.cut(x, &from, &to, &vec![1; rank]);
    let given = |p: &i64| usize::try_from(*p).unwrap_or(0);
    let (before, after): (Vec<usize>, Vec<usize>) = (begin.iter().map(given).collect(), end.iter().map(given).collect());
    if before.iter().chain(&after).all(|&p| p == 0) {
        return cx.one(y);
    }
    let first = (0..rank).find(|&d| before[d] + after[d] > 0).unwrap_or(0);
    if mode != "constant" && first + 2 < rank {
        return Err(lacks(format!("Pad with the mode \"{mode}\" of other axes than the last two")));
    }
    let kind = cx.kind(y);
    // Whole numbers and booleans are padded as floats.
    let y = if kind.is_float() { y } else { cx.cast(y, Kind::F32) };
    let value = match (cx.constant(2), cx.node.input(2)) {
        (Some(c), _) => c.to_f64s()?.first().copied().unwrap_or(0.0) as f32,
        (None, Some(_)) => return Err(open("the number that is padded with")),
        (None, None) => cx.node.get_float("value", 0.0)?,
    };
    if !kind.is_float() && value.abs() >= 16_777_216.0 {
        return Err(lacks(format!("Pad of integers with {value}")));
    }
    let pad = super::layers::interleaved(&before[first..], &after[first..]);
    let made = Type::new(cx.kind(y), &cx.out_dims(0)?);
    let (pad, mode, value) = (cx.list_of(&pad), cx.text(mode), cx.number(value, cx.kind(y)));
    let y = cx.op("pad", &[("x", y), ("pad", pad), ("mode", mode), ("constant_val", value)], made);
    let y = cx.cast(y, kind);
    cx.one(y)
}

fn block(cx: &Lower<'_>) -> Result<i64> {
    cx.node.find_int("blocksize")?.ok_or_else(|| Error::format("attribute 'blocksize' is missing"))
}

fn moved(cx: &mut Lower<'_>, kind: &'static str, setting: &'static str) -> Result<()> {
    let (x, size) = (cx.float(0)?, block(cx)?);
    let made = Type::new(cx.kind(x), &cx.out_dims(0)?);
    if size == 1 {
        return cx.one(x);
    }
    let size = cx.int(size);
    let y = cx.op(kind, &[("x", x), (setting, size)], made);
    cx.one(y)
}

fn depth_to_space(cx: &mut Lower<'_>) -> Result<()> {
    if cx.node.get_str("mode", "DCR")? == "CRD" {
        moved(cx, "pixel_shuffle", "upscale_factor")
    } else {
        moved(cx, "depth_to_space", "block_size")
    }
}

fn space_to_depth(cx: &mut Lower<'_>) -> Result<()> {
    moved(cx, "space_to_depth", "block_size")
}

/// What follows from sizes is computed here.
fn known(cx: &mut Lower<'_>) -> Result<()> {
    let name = cx.node.output(0).unwrap_or_default();
    let fact = cx.facts.get(name).ok_or_else(|| Error::internal("an output without a type"))?;
    if let Some(c) = &fact.constant {
        let y = super::lower::constant_value(cx.net, &std::collections::BTreeMap::new(), name, c)?;
        return cx.one(y);
    }
    let contents: Option<Vec<i64>> = fact.contents.iter().flatten().map(|d| i64::try_from(d.known()?).ok()).collect();
    let dims = fact.dims().unwrap_or_default();
    match contents.filter(|c| fact.contents.is_some() && c.len() == dims.iter().product::<usize>()) {
        Some(contents) => {
            let y = cx.int_tensor(&dims, &contents);
            cx.one(y)
        }
        None => Err(open("what this operator makes")),
    }
}

/// The elements on one side of a diagonal; the others are zero.
fn trilu(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let dims = cx.sizes(x);
    let [.., rows, columns] = *dims else { return Err(Error::shape("expected matrices")) };
    let k = cx.ints(1)?.and_then(|k| k.first().copied()).unwrap_or(0);
    if compresso_base::memory::elements([rows, columns]).is_none_or(|n| n > 1 << 24) {
        return Err(lacks(format!("mask of {rows} x {columns} elements")));
    }
    let upper = cx.node.get_int("upper", 1)? != 0;
    let kept = |i: usize| {
        let beside = (i % columns) as i64 - (i / columns) as i64;
        if upper { beside >= k } else { beside <= k }
    };
    let mask: Vec<bool> = (0..rows * columns).map(kept).collect();
    let y: Ref = match cx.kind(x) {
        Kind::Bool => {
            let mask = cx.flags(&[rows, columns], &mask);
            cx.binary("logical_and", x, mask)?
        }
        kind => {
            let numbers: Vec<f32> = mask.iter().map(|&on| f32::from(u8::from(on))).collect();
            let integers: Vec<i64> = mask.iter().map(|&on| i64::from(on)).collect();
            let mask =
                if kind.is_float() { cx.floats(kind, &[rows, columns], &numbers) } else { cx.int_tensor(&[rows, columns], &integers) };
            cx.binary("mul", x, mask)?
        }
    };
    cx.one(y)
}
