//! Operators that take elements away at the ends of axes, or add some.

use super::layers::interleaved;
use super::lower::{Entry, Form, Lower, lacks, open};
use super::program::{Kind, Ref, Type};
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;
use compresso_model::ops::slice::listed_axes;

pub(super) const OPS: &[Entry] = &[("Slice", Form::With(slice)), ("Pad", Form::With(pad)), ("Trilu", Form::With(trilu))];

fn slice(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let own = cx.sizes(x);
    let missing = |name: &str| Error::format(format!("'{name}' is missing"));
    let starts = cx.list("starts", 1)?.ok_or_else(|| missing("starts"))?;
    let ends = cx.list("ends", 2)?.ok_or_else(|| missing("ends"))?;
    let axes = listed_axes(cx.list("axes", 3)?, starts.len(), own.len())?;
    let steps = cx.ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), steps.len()].iter().any(|&n| n != starts.len()) {
        return Err(Error::shape("starts, ends, axes and steps differ in number"));
    }
    let made = cx.out_dims(0)?;
    if own.contains(&0) || made.contains(&0) {
        return Err(lacks("parts without elements"));
    }
    let (mut begin, mut end, mut step) = (vec![0; own.len()], own.clone(), vec![1; own.len()]);
    let mut reversed = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
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
    let pad = interleaved(&before[first..], &after[first..]);
    let made = Type::new(cx.kind(y), &cx.out_dims(0)?);
    let (pad, mode, value) = (cx.list_of(&pad), cx.text(mode), cx.number(value, cx.kind(y)));
    let y = cx.op("pad", &[("x", y), ("pad", pad), ("mode", mode), ("constant_val", value)], made);
    let y = cx.cast(y, kind);
    cx.one(y)
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
