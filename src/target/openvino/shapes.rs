//! Operators that move, cut, join and repeat, and those on shapes.

use super::elementwise::simple;
use super::lower::{Attrs, Entry, Form, Lower, broadcast, flag, lacks, open};
use super::net::Port;
use compresso_base::error::{Error, Result};
use compresso_model::{Dim, Element, Node};

pub(super) const OPS: &[Entry] = &[
    ("Reshape", Form::With(reshape)),
    ("Flatten", Form::With(flatten)),
    ("Transpose", Form::With(transpose)),
    ("Squeeze", Form::With(|cx| with_axes(cx, "Squeeze"))),
    ("Unsqueeze", Form::With(|cx| with_axes(cx, "Unsqueeze"))),
    ("Concat", Form::With(concat)),
    ("Split", Form::With(split)),
    ("Slice", Form::With(slice)),
    ("Expand", Form::With(|cx| simple(cx, "Broadcast", 3, vec![("mode", "bidirectional".into())]))),
    ("Tile", Form::With(tile)),
    ("Pad", Form::With(pad)),
    ("DepthToSpace", Form::With(depth_to_space)),
    ("SpaceToDepth", Form::With(space_to_depth)),
    ("Shape", Form::With(shape)),
    ("Size", Form::With(size)),
    ("ConstantOfShape", Form::With(constant_of_shape)),
    ("Range", Form::With(range)),
    ("Trilu", Form::With(trilu)),
];

fn reshape(cx: &mut Lower<'_>) -> Result<()> {
    let zero = cx.node.get_int("allowzero", 0)? == 0;
    let (x, shape) = (cx.input(0)?, cx.list("shape", 1)?.ok_or_else(|| Error::format("the shape is missing"))?);
    let y = cx.layer("Reshape", 1, vec![("special_zero", flag(zero))], &[x, shape]);
    cx.one(y)
}

/// The axes before the given one become one, and so do the others.
fn flatten(cx: &mut Lower<'_>) -> Result<()> {
    let (x, shape) = (cx.input(0)?, cx.shape(0)?);
    let rank = shape.len();
    let axis = cx.node.get_int("axis", 1)?;
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    let axis = usize::try_from(axis).ok().filter(|&a| a <= rank).ok_or_else(|| Error::shape(format!("axis {axis} is out of range")))?;
    let product = |dims: &[Dim]| dims.iter().try_fold(1i64, |n, d| n.checked_mul(i64::try_from(d.known()?).ok()?));
    let pattern = match (axis, product(&shape[..axis]), product(&shape[axis..])) {
        (1, ..) => [0, -1],
        (_, Some(rows), _) => [rows, -1],
        (_, None, Some(columns)) => [-1, columns],
        _ => return Err(open("the sizes before or after the axis of a Flatten")),
    };
    let y = cx.reshape(x, &pattern);
    cx.one(y)
}

fn transpose(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let order = match cx.node.find_ints("perm")? {
        Some(order) => order.to_vec(),
        None => (0..cx.rank(0)? as i64).rev().collect(),
    };
    let order = cx.of_ints(&order);
    let y = cx.layer("Transpose", 1, Vec::new(), &[x, order]);
    cx.one(y)
}

fn with_axes(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let mut inputs = vec![cx.input(0)?];
    inputs.extend(cx.list("axes", 1)?);
    let y = cx.layer(kind, 1, Vec::new(), &inputs);
    cx.one(y)
}

fn concat(cx: &mut Lower<'_>) -> Result<()> {
    let inputs = cx.inputs()?;
    if inputs.len() == 1 {
        return cx.alias(inputs[0]);
    }
    let axis = cx.node.get_int("axis", 1)?;
    let y = cx.layer("Concat", 1, vec![("axis", axis.to_string())], &inputs);
    cx.one(y)
}

/// With sizes that are stated, else in equal parts, of which the last may be smaller.
fn split(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let (element, parts) = (cx.net.element(x), cx.node.outputs.len());
    let axis_number = cx.node.get_int("axis", 0)?;
    let axis = cx.of_int(axis_number);
    let mut lengths = cx.list("split", 1)?;
    if lengths.is_none()
        && let Some(n) = cx.fact(0).and_then(|f| f.dim(axis_number as isize)).filter(|n| !n.is_multiple_of(parts))
    {
        let each = n.div_ceil(parts);
        let list: Vec<i64> = (0..parts).map(|i| n.saturating_sub(i * each).min(each) as i64).collect();
        lengths = Some(cx.of_ints(&list));
    }
    let elements = vec![element; parts];
    let out = match lengths {
        Some(lengths) => cx.several("VariadicSplit", 1, Vec::new(), &[x, axis, lengths], &elements),
        None => cx.several("Split", 1, vec![("num_splits", parts.to_string())], &[x, axis], &elements),
    };
    out.into_iter().enumerate().for_each(|(i, port)| cx.set(i, port));
    Ok(())
}

fn slice(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let missing = |name: &str| Error::format(format!("'{name}' is missing"));
    let starts = cx.list("starts", 1)?.ok_or_else(|| missing("starts"))?;
    let ends = cx.list("ends", 2)?.ok_or_else(|| missing("ends"))?;
    let (axes, steps) = (cx.list("axes", 3)?, cx.get(4)?);
    let count = match cx.node.find_ints("starts")? {
        Some(starts) => starts.len(),
        None => cx.fact(1).and_then(|f| f.dim(0)).ok_or_else(|| open("how many axes are sliced"))?,
    };
    if let Some(cut) = heads_alone(cx)? {
        let y = heads(cx, x, &cut);
        return if y == x { cx.alias(x) } else { cx.one(y) };
    }
    let element = cx.net.element(starts);
    let mut inputs = vec![x, starts, ends];
    inputs.push(match steps {
        Some(steps) => steps,
        None => {
            let ones = cx.of_ints(&vec![1; count]);
            cx.convert(ones, element)?
        }
    });
    inputs.extend(axes);
    let y = cx.layer("Slice", 8, Vec::new(), &inputs);
    cx.one(y)
}

/// The first elements along axes, each with how many.
pub(super) fn heads(cx: &mut Lower<'_>, x: Port, cut: &[(i64, i64)]) -> Port {
    cut.iter().fold(x, |x, &(axis, count)| {
        let (axis, lengths) = (cx.of_int(axis), cx.of_ints(&[count, -1]));
        let element = cx.net.element(x);
        cx.several("VariadicSplit", 1, Vec::new(), &[x, axis, lengths], &[element; 2])[0]
    })
}

/// Axes and sizes of a Slice from the start that GatherElements reads: the runtime takes such a Slice away, and then refuses the sizes.
fn heads_alone(cx: &Lower<'_>) -> Result<Option<Vec<(i64, i64)>>> {
    let out = cx.node.output(0);
    let gathers = |n: &Node| n.is("GatherElements") && n.input(0) == out;
    if !cx.graph.nodes().iter().any(gathers) {
        return Ok(None);
    }
    let (Some(starts), Some(ends)) = (cx.known_list("starts", 1)?, cx.known_list("ends", 2)?) else { return Ok(None) };
    let axes = cx.known_list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = cx.ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if starts.iter().any(|&s| s != 0) || steps.iter().any(|&s| s != 1) || axes.len() != ends.len() {
        return Ok(None);
    }
    let rank = cx.rank(0)?;
    let shape = cx.shape(0)?;
    let mut cut = Vec::new();
    for (axis, end) in axes.into_iter().zip(ends) {
        let axis = compresso_model::graph::normalize_axis(axis, rank)?;
        let Some(size) = shape[axis].known().and_then(|n| i64::try_from(n).ok()) else { return Ok(None) };
        let end = if end < 0 { end + size } else { end };
        if end <= 0 {
            return Ok(None);
        }
        if end < size {
            cut.push((axis as i64, end));
        }
    }
    Ok(Some(cut))
}

fn tile(cx: &mut Lower<'_>) -> Result<()> {
    if cx.opset < 6 {
        return Err(lacks("Tile in the form of operator sets before 6").hint("raise the model's operator set"));
    }
    // Repeats that are computed give wrong numbers in the CPU plugin.
    if cx.ints(1)?.is_none() {
        return Err(open("the repeats of a Tile"));
    }
    simple(cx, "Tile", 1, Vec::new())
}

fn pad(cx: &mut Lower<'_>) -> Result<()> {
    let mode = match cx.node.get_str("mode", "constant")? {
        known @ ("constant" | "edge" | "reflect") => known.to_string(),
        other => return Err(lacks(format!("Pad with the mode \"{other}\""))),
    };
    let (x, rank) = (cx.input(0)?, cx.rank(0)?);
    let axes: Vec<usize> = match cx.node.input(3) {
        None => (0..rank).collect(),
        Some(_) => {
            let axes = cx.ints(3)?.ok_or_else(|| open("the axes of a Pad"))?;
            axes.iter().map(|&a| compresso_model::graph::normalize_axis(a, rank)).collect::<Result<_>>()?
        }
    };
    let (begin, end) = match cx.known_list("pads", 1)? {
        Some(pads) if pads.len() == 2 * axes.len() => {
            let spread = |given: &[i64]| {
                let mut all = vec![0; rank];
                axes.iter().zip(given).for_each(|(&a, &p)| all[a] = p);
                all
            };
            let (begin, end) = pads.split_at(axes.len());
            (cx.of_ints(&spread(begin)), cx.of_ints(&spread(end)))
        }
        Some(pads) => return Err(Error::shape(format!("expected {} pads, got {}", 2 * axes.len(), pads.len()))),
        None if axes.len() == rank => {
            let (pads, axis) = (cx.input(1)?, cx.of_int(0));
            let halves = cx.several("Split", 1, vec![("num_splits", "2".into())], &[pads, axis], &[Element::I64; 2]);
            (halves[0], halves[1])
        }
        None => return Err(open("the pads of some axes")),
    };
    let mut inputs = vec![x, begin, end];
    if mode == "constant" {
        let element = cx.net.element(x);
        inputs.push(match (cx.get(2)?, cx.node.get_float("value", 0.0)?) {
            (Some(value), _) => cx.as_scalar(value),
            (None, value) => cx.scalar(f64::from(value), element)?,
        });
    }
    let y = cx.layer("Pad", 12, vec![("pad_mode", mode)], &inputs);
    cx.one(y)
}

fn block(cx: &Lower<'_>, mode: &str) -> Result<Attrs> {
    let size = cx.node.find_int("blocksize")?.ok_or_else(|| Error::format("attribute 'blocksize' is missing"))?;
    Ok(vec![("block_size", size.to_string()), ("mode", mode.into())])
}

fn depth_to_space(cx: &mut Lower<'_>) -> Result<()> {
    let mode = if cx.node.get_str("mode", "DCR")? == "CRD" { "depth_first" } else { "blocks_first" };
    let attrs = block(cx, mode)?;
    simple(cx, "DepthToSpace", 1, attrs)
}

fn space_to_depth(cx: &mut Lower<'_>) -> Result<()> {
    let mode = if cx.node.get_str("mode", "DCR")? == "CRD" { "depth_first" } else { "blocks_first" };
    let attrs = block(cx, mode)?;
    simple(cx, "SpaceToDepth", 1, attrs)
}

/// The sizes, or those of some axes.
fn shape(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let mut y = cx.shape_of(x);
    let (start, end) = (cx.node.get_int("start", 0)?, cx.node.get_int("end", i64::MAX)?);
    if start != 0 || end != i64::MAX {
        let (start, end, step) = (cx.of_ints(&[start]), cx.of_ints(&[end]), cx.of_ints(&[1]));
        y = cx.layer("Slice", 8, Vec::new(), &[y, start, end, step]);
    }
    cx.one(y)
}

fn size(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let (shape, axis) = (cx.shape_of(x), cx.of_ints(&[0]));
    let y = cx.layer("ReduceProd", 1, vec![("keep_dims", "false".into())], &[shape, axis]);
    cx.one(y)
}

fn constant_of_shape(cx: &mut Lower<'_>) -> Result<()> {
    let shape = cx.input(0)?;
    let value: Port = match cx.node.find_tensor("value")? {
        Some(c) => {
            super::element::attribute(c.element())?;
            cx.numbers(c.element(), &[], c.to_raw()?.to_vec())
        }
        None => cx.scalar(0.0, Element::F32)?,
    };
    let y = cx.layer("Broadcast", 3, vec![("mode", "numpy".into())], &[value, shape]);
    cx.one(y)
}

fn range(cx: &mut Lower<'_>) -> Result<()> {
    let mut inputs = Vec::new();
    for i in 0..3 {
        let x = cx.input(i)?;
        inputs.push(if cx.rank(i)? == 0 { x } else { cx.as_scalar(x) });
    }
    let element = cx.net.element(inputs[0]);
    let attrs = vec![("output_type", super::element::attribute(element)?.to_string())];
    let y = cx.layer("Range", 4, attrs, &inputs);
    cx.one(y)
}

/// The elements on one side of a diagonal; the others are zero.
fn trilu(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let fact = cx.fact(0);
    let (rows, columns) = fact.and_then(|f| f.dim(-2).zip(f.dim(-1))).ok_or_else(|| open("the sizes of a Trilu's matrices"))?;
    let k = match cx.node.input(1) {
        None => 0,
        Some(_) => cx.ints(1)?.and_then(|k| k.first().copied()).ok_or_else(|| open("the diagonal of a Trilu"))?,
    };
    if compresso_base::memory::elements([rows, columns]).is_none_or(|n| n > 1 << 28) {
        return Err(lacks(format!("mask of {rows} x {columns} elements")));
    }
    let upper = cx.node.get_int("upper", 1)? != 0;
    let mut mask = Vec::with_capacity(rows * columns);
    for row in 0..rows as i64 {
        mask.extend((0..columns as i64).map(|column| u8::from(if upper { column - row >= k } else { column - row <= k })));
    }
    let element = cx.net.element(x);
    let (mask, zero) = (cx.numbers(Element::Bool, &[rows, columns], mask), cx.scalar(0.0, element)?);
    let y = cx.typed("Select", 1, broadcast(), &[mask, x, zero], element);
    cx.one(y)
}
