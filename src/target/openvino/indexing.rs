//! Operators that choose elements by their numbers, and those that read images at places.

use super::element::attribute;
use super::elementwise::simple;
use super::lower::{Entry, Form, Lower, broadcast, flag, lacks, open};
use super::net::Port;
use super::shapes::heads;
use compresso_base::error::{Error, Result};
use compresso_model::Element;

pub(super) const OPS: &[Entry] = &[
    ("Gather", Form::With(gather)),
    ("GatherElements", Form::With(gather_elements)),
    ("GatherND", Form::With(gather_nd)),
    ("ScatterND", Form::With(scatter_nd)),
    ("ScatterElements", Form::With(scatter_elements)),
    ("OneHot", Form::With(one_hot)),
    ("NonZero", Form::With(non_zero)),
    ("NonMaxSuppression", Form::With(suppression)),
    ("GridSample", Form::With(grid_sample)),
    ("RoiAlign", Form::With(roi_align)),
];

fn gather(cx: &mut Lower<'_>) -> Result<()> {
    let (x, at, axis) = (cx.input(0)?, cx.input(1)?, cx.node.get_int("axis", 0)?);
    let axis = cx.of_int(axis);
    let y = cx.layer("Gather", 8, vec![("batch_dims", "0".into())], &[x, at, axis]);
    cx.one(y)
}

/// Indices from the start: those below 0 count from the end of an axis with `size` elements.
fn from_start(cx: &mut Lower<'_>, at: Port, size: Port) -> Result<Port> {
    let element = cx.net.element(at);
    let (size, zero) = (cx.convert(size, element)?, cx.scalar(0.0, element)?);
    let counted = cx.binary("Add", at, size);
    let below = cx.typed("Less", 1, broadcast(), &[at, zero], Element::Bool);
    Ok(cx.typed("Select", 1, broadcast(), &[below, counted, at], element))
}

/// Indices of input `i` from the start, for an axis of the first input.
fn indices(cx: &mut Lower<'_>, i: usize, axis: usize) -> Result<Port> {
    let at = cx.input(i)?;
    let unsigned = cx.constant(i).is_some_and(|c| c.to_i64s().is_ok_and(|v| v.iter().all(|&i| i >= 0)));
    if unsigned {
        return Ok(at);
    }
    let size = match cx.fact(0).and_then(|f| f.dim(axis as isize)) {
        Some(n) => cx.of_int(n as i64),
        None => {
            let x = cx.input(0)?;
            let (shape, axis, first) = (cx.shape_of(x), cx.of_int(axis as i64), cx.of_int(0));
            cx.layer("Gather", 8, vec![("batch_dims", "0".into())], &[shape, axis, first])
        }
    };
    from_start(cx, at, size)
}

/// ONNX lets the indices leave out the ends of the other axes; the layer wants them cut off.
fn gather_elements(cx: &mut Lower<'_>) -> Result<()> {
    let (mut x, shape, places) = (cx.input(0)?, cx.shape(0)?, cx.shape(1)?);
    let axis = cx.axis(0, shape.len())?;
    let at = indices(cx, 1, axis)?;
    let cut: Vec<(i64, i64)> = (0..shape.len())
        .filter(|&d| d != axis && shape[d] != places[d])
        .map(|d| Some((d as i64, places[d].known()? as i64)))
        .collect::<Option<_>>()
        .ok_or_else(|| open("the sizes of the indices of GatherElements"))?;
    x = heads(cx, x, &cut);
    let y = cx.layer("GatherElements", 6, vec![("axis", axis.to_string())], &[x, at]);
    cx.one(y)
}

fn gather_nd(cx: &mut Lower<'_>) -> Result<()> {
    let batch = cx.node.get_int("batch_dims", 0)?;
    simple(cx, "GatherND", 8, vec![("batch_dims", batch.to_string())])
}

/// What is done with an element that is there, in words of the IR.
fn reduction(cx: &Lower<'_>) -> Result<String> {
    Ok(match cx.node.get_str("reduction", "none")? {
        "none" => "none",
        "add" => "sum",
        "mul" => "prod",
        "min" => "min",
        "max" => "max",
        other => return Err(lacks(format!("reduction \"{other}\""))),
    }
    .into())
}

fn scatter_nd(cx: &mut Lower<'_>) -> Result<()> {
    let reduction = reduction(cx)?;
    simple(cx, "ScatterNDUpdate", 15, vec![("reduction", reduction)])
}

fn scatter_elements(cx: &mut Lower<'_>) -> Result<()> {
    let attrs = vec![("reduction", reduction(cx)?), ("use_init_val", "true".into())];
    let (x, updates, axis) = (cx.input(0)?, cx.input(2)?, cx.axis(0, cx.rank(0)?)?);
    let (at, axis) = (indices(cx, 1, axis)?, cx.of_int(axis as i64));
    let y = cx.layer("ScatterElementsUpdate", 12, attrs, &[x, at, updates, axis]);
    cx.one(y)
}

fn one_hot(cx: &mut Lower<'_>) -> Result<()> {
    let (at, depth) = (cx.input(0)?, cx.input(1)?);
    let at = cx.convert(at, Element::I64)?;
    let depth = cx.convert(depth, Element::I64)?;
    let depth = cx.as_scalar(depth);
    let at = from_start(cx, at, depth)?;
    let (values, first) = (cx.input(2)?, cx.of_int(0));
    let element = cx.net.element(values);
    let mut picked = Vec::new();
    for i in [1, 0] {
        let i = cx.of_int(i);
        picked.push(cx.layer("Gather", 8, vec![("batch_dims", "0".into())], &[values, i, first]));
    }
    let axis = cx.node.get_int("axis", -1)?;
    let y = cx.typed("OneHot", 1, vec![("axis", axis.to_string())], &[at, depth, picked[0], picked[1]], element);
    cx.one(y)
}

fn non_zero(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let y = cx.typed("NonZero", 3, vec![("output_type", "i64".into())], &[x], Element::I64);
    cx.one(y)
}

fn suppression(cx: &mut Lower<'_>) -> Result<()> {
    let encoding = if cx.node.get_int("center_point_box", 0)? == 0 { "corner" } else { "center" };
    let mut inputs = vec![cx.input(0)?, cx.input(1)?];
    let element = cx.net.element(inputs[1]);
    // Without a threshold, no score is too low.
    for (i, default) in [(2, 0.0), (3, 0.0), (4, f64::from(f32::MIN))] {
        inputs.push(match cx.get(i)? {
            Some(x) => cx.as_scalar(x),
            None if i == 2 => cx.of_int(0),
            None => cx.scalar(default, element)?,
        });
    }
    let attrs = vec![
        ("box_encoding", encoding.into()),
        ("sort_result_descending", "false".into()),
        ("output_type", attribute(Element::I64)?.into()),
    ];
    let out = cx.several("NonMaxSuppression", 9, attrs, &inputs, &[Element::I64, element, Element::I64]);
    cx.one(out[0])
}

fn grid_sample(cx: &mut Lower<'_>) -> Result<()> {
    if cx.rank(0)? != 4 {
        return Err(lacks(format!("GridSample of rank {}", cx.rank(0)?)));
    }
    let mode = match cx.node.get_str("mode", "linear")? {
        "linear" | "bilinear" => "bilinear",
        "cubic" | "bicubic" => "bicubic",
        "nearest" => "nearest",
        other => return Err(lacks(format!("GridSample with the mode \"{other}\""))),
    };
    let padding = cx.node.get_str("padding_mode", "zeros")?.to_string();
    let corners = flag(cx.node.get_int("align_corners", 0)? != 0);
    simple(cx, "GridSample", 9, vec![("align_corners", corners), ("mode", mode.into()), ("padding_mode", padding)])
}

fn roi_align(cx: &mut Lower<'_>) -> Result<()> {
    if cx.node.get_str("mode", "avg")? != "avg" {
        return Err(lacks("RoiAlign with the largest of weighed samples, as ONNX has it"));
    }
    let number = |name: &str, default: i64| cx.node.get_int(name, default).map(|v| v.to_string());
    let modern = if cx.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let aligned = match cx.node.get_str("coordinate_transformation_mode", modern)? {
        "output_half_pixel" => "asymmetric",
        "half_pixel" => "half_pixel_for_nn",
        other => return Err(Error::format(format!("attribute 'coordinate_transformation_mode' has the unknown value '{other}'"))),
    };
    let attrs = vec![
        ("pooled_h", number("output_height", 1)?),
        ("pooled_w", number("output_width", 1)?),
        ("sampling_ratio", number("sampling_ratio", 0)?),
        ("spatial_scale", format!("{:e}", cx.node.get_float("spatial_scale", 1.0)?)),
        ("mode", "avg".into()),
        ("aligned_mode", aligned.into()),
    ];
    simple(cx, "ROIAlign", 9, attrs)
}
