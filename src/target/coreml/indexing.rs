//! Operators that choose elements by their numbers, and sampling of images at places.

use super::lower::{Entry, Form, Lower, lacks};
use super::program::{Kind, Ref, Type};
use compresso_base::error::{Error, Result};

pub(super) const OPS: &[Entry] = &[
    ("Gather", Form::With(gather)),
    ("GatherElements", Form::With(gather_elements)),
    ("GatherND", Form::With(gather_nd)),
    ("GridSample", Form::With(grid_sample)),
];

/// Indices from the start: those below 0 count from the end of an axis with `size` elements, which iOS 17's
/// operations leave undefined.
fn indices(cx: &mut Lower<'_>, i: usize, size: usize) -> Result<Ref> {
    if let Some(c) = cx.constant(i) {
        let (dims, from_start) = (c.dims().to_vec(), |v: i64| if v < 0 { v + size as i64 } else { v });
        let values: Vec<i64> = c.to_i64s()?.into_iter().map(from_start).collect();
        if let Some(v) = values.iter().find(|&&v| !(0..size as i64).contains(&v)) {
            return Err(Error::shape(format!("index {v} is out of range for an axis of {size}")));
        }
        return Ok(cx.int_tensor(&dims, &values));
    }
    let at = cx.input(i)?;
    let (zero, size) = (cx.int(0), cx.int(size as i64));
    let below = cx.test("less", at, zero)?;
    let counted = cx.binary("add", at, size)?;
    cx.select(below, counted, at)
}

/// Booleans are chosen as integers.
fn chosen(cx: &mut Lower<'_>, choose: impl FnOnce(&mut Lower<'_>, Ref) -> Result<Ref>) -> Result<()> {
    let x = cx.input(0)?;
    let kind = cx.kind(x);
    let numbers = if kind == Kind::Bool { cx.cast(x, Kind::I32) } else { x };
    let y = choose(cx, numbers)?;
    let y = cx.cast(y, kind);
    cx.one(y)
}

fn gather(cx: &mut Lower<'_>) -> Result<()> {
    let own = cx.dims(0)?;
    let axis = cx.axis(0, own.len())?;
    let single = cx.constant(1).filter(|c| c.count() == 1).map(|c| c.to_i64s()).transpose()?;
    chosen(cx, |cx, x| {
        let Some(&[at]) = single.as_deref() else {
            let at = indices(cx, 1, own[axis])?;
            return Ok(cx.gather(x, at, axis));
        };
        // One element is a slice.
        let at = if at < 0 { at + own[axis] as i64 } else { at };
        let at = usize::try_from(at).ok().filter(|&a| a < own[axis]);
        let at = at.ok_or_else(|| Error::shape(format!("an index is out of range for an axis of {}", own[axis])))?;
        let (mut begin, mut end) = (vec![0; own.len()], own.clone());
        (begin[axis], end[axis]) = (at, at + 1);
        let y = cx.cut(x, &begin, &end, &vec![1; own.len()]);
        let made = cx.out_dims(0)?;
        Ok(cx.reshape(y, &made))
    })
}

/// ONNX lets the indices leave out the ends of the other axes; the operation wants them cut off.
fn gather_elements(cx: &mut Lower<'_>) -> Result<()> {
    let (own, places) = (cx.dims(0)?, cx.dims(1)?);
    let axis = cx.axis(0, own.len())?;
    chosen(cx, |cx, x| {
        let end: Vec<usize> = (0..own.len()).map(|d| if d == axis { own[d] } else { places[d] }).collect();
        let x = cx.cut(x, &vec![0; own.len()], &end, &vec![1; own.len()]);
        let at = indices(cx, 1, own[axis])?;
        let (made, axis) = (Type { kind: cx.kind(x), dims: places }, cx.int(axis as i64));
        Ok(cx.op("gather_along_axis", &[("x", x), ("indices", at), ("axis", axis)], made))
    })
}

fn gather_nd(cx: &mut Lower<'_>) -> Result<()> {
    let batch = cx.node.get_int("batch_dims", 0)?;
    let known = cx.constant(1).map(|c| c.to_i64s()).transpose()?;
    if known.is_none_or(|v| v.iter().any(|&v| v < 0)) {
        return Err(lacks("GatherND with indices that are computed or count from the end"));
    }
    let made = cx.out_dims(0)?;
    chosen(cx, |cx, x| {
        let (at, batch) = (cx.input(1)?, cx.int(batch));
        let made = Type { kind: cx.kind(x), dims: made };
        Ok(cx.op("gather_nd", &[("x", x), ("indices", at), ("batch_dims", batch)], made))
    })
}

fn grid_sample(cx: &mut Lower<'_>) -> Result<()> {
    let mode = cx.node.get_str("mode", "linear")?;
    let padding = cx.node.get_str("padding_mode", "zeros")?;
    let fill = match padding {
        "zeros" => "constant",
        "border" => "border",
        other => return Err(lacks(format!("GridSample with the padding \"{other}\" as ONNX has it"))),
    };
    if cx.rank(0)? != 4 || !matches!(mode, "linear" | "bilinear") {
        return Err(lacks(format!("GridSample of {} axes with the mode \"{mode}\" as ONNX has it", cx.rank(0)?)));
    }
    let corners = cx.node.get_int("align_corners", 0)? != 0;
    let (x, at) = (cx.float(0)?, cx.float(1)?);
    let made = Type::new(cx.kind(x), &cx.out_dims(0)?);
    let (sampling, padding) = (cx.text("bilinear"), cx.text(fill));
    let (value, coordinates, corners) = (cx.number(0.0, cx.kind(x)), cx.text("normalized_minus_one_to_one"), cx.flag(corners));
    let inputs = [
        ("x", x),
        ("coordinates", at),
        ("sampling_mode", sampling),
        ("padding_mode", padding),
        ("padding_value", value),
        ("coordinates_mode", coordinates),
        ("align_corners", corners),
    ];
    let y = cx.op("resample", &inputs, made);
    cx.one(y)
}
