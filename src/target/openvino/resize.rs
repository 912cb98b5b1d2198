//! Resize and Upsample.
//!
//! <https://docs.openvino.ai/2026/documentation/openvino-ir-format/operation-sets/operation-specs/image/interpolate-11.html>

use super::lower::{Attrs, Entry, Form, Lower, lacks, listed, open};
use super::net::Port;
use compresso_base::error::{Error, Result};
use compresso_model::{Dim, Element};

pub(super) const OPS: &[Entry] = &[("Resize", Form::With(resize)), ("Upsample", Form::With(resize))];

/// What the new sizes follow from.
enum Sizes {
    /// Factors of all axes that may change.
    Scales(Vec<f32>),
    /// Input 3, for the axes that may change; its numbers where they are known.
    Given(Option<Vec<i64>>),
}

fn resize(cx: &mut Lower<'_>) -> Result<()> {
    let (x, shape) = (cx.input(0)?, cx.shape(0)?);
    let (sizes, axes) = sizes(cx, shape.len())?;
    // Axes that keep their size are left alone.
    let keeps = |at: usize, axis: usize| match &sizes {
        Sizes::Scales(scales) => scales[at] == 1.0,
        Sizes::Given(Some(sizes)) => shape[axis].known().is_some_and(|n| n as i64 == sizes[at]),
        Sizes::Given(None) => kept(cx, at, &shape[axis]),
    };
    let changed: Vec<usize> = (0..axes.len()).filter(|&at| !keeps(at, axes[at])).collect();
    if changed.is_empty() {
        return cx.alias(x);
    }
    let numbers: Vec<i64> = changed.iter().map(|&at| axes[at] as i64).collect();
    let attrs = attributes(cx, &sizes, &shape, &changed, &axes)?;
    let to = match &sizes {
        Sizes::Scales(scales) => {
            let scales: Vec<f32> = changed.iter().map(|&at| scales[at]).collect();
            cx.of_floats(&[scales.len()], &scales)
        }
        Sizes::Given(Some(sizes)) => {
            let sizes: Vec<i64> = changed.iter().map(|&at| sizes[at]).collect();
            cx.of_ints(&sizes)
        }
        Sizes::Given(None) => picked(cx, &changed)?,
    };
    let numbers = cx.of_ints(&numbers);
    let y = cx.layer("Interpolate", 11, attrs, &[x, to, numbers]);
    cx.one(y)
}

/// True where a size that is computed is known to be that of the input.
fn kept(cx: &Lower<'_>, at: usize, size: &Dim) -> bool {
    let contents = cx.fact(3).and_then(|f| f.contents.as_ref());
    contents.and_then(|c| c.get(at)).is_some_and(|d| d == size && *d != Dim::Unknown)
}

/// Some elements of the sizes that are computed.
fn picked(cx: &mut Lower<'_>, at: &[usize]) -> Result<Port> {
    let (sizes, first) = (cx.input(3)?, cx.of_int(0));
    let at: Vec<i64> = at.iter().map(|&i| i as i64).collect();
    let at = cx.of_ints(&at);
    Ok(cx.typed("Gather", 8, vec![("batch_dims", "0".into())], &[sizes, at, first], Element::I64))
}

/// Sizes or scales, and the axes that they are of.
fn sizes(cx: &Lower<'_>, rank: usize) -> Result<(Sizes, Vec<usize>)> {
    let axes: Vec<usize> = match cx.node.find_ints("axes")? {
        Some(axes) => axes.iter().map(|&a| compresso_model::graph::normalize_axis(a, rank)).collect::<Result<_>>()?,
        None => (0..rank).collect(),
    };
    let counted = |n: usize| {
        let wrong = || Error::shape(format!("expected a size or scale for each of {} axes, got {n}", axes.len()));
        if n == axes.len() { Ok(()) } else { Err(wrong()) }
    };
    let slot = if cx.node.op == "Upsample" || cx.opset < 11 { 1 } else { 2 };
    let empty = |i: usize| cx.fact(i).is_some_and(|f| f.dim(0) == Some(0));
    if cx.node.input(3).is_some() && !empty(3) && slot == 2 {
        let sizes = cx.ints(3)?;
        counted(sizes.as_ref().map_or(axes.len(), Vec::len))?;
        return Ok((Sizes::Given(sizes), axes));
    }
    let scales = match (cx.node.find_floats("scales")?, cx.constant(slot)) {
        (Some(scales), _) => scales.to_vec(),
        (None, Some(c)) => c.to_f32s()?,
        (None, None) => return Err(open("the scales of a resize")),
    };
    counted(scales.len())?;
    Ok((Sizes::Scales(scales), axes))
}

fn attributes(cx: &Lower<'_>, sizes: &Sizes, shape: &[Dim], changed: &[usize], axes: &[usize]) -> Result<Attrs> {
    let old = cx.node.op == "Upsample" || cx.opset < 11;
    let mode = match cx.node.get_str("mode", "nearest")? {
        "nearest" => "nearest",
        "linear" | "bilinear" if changed.len() <= 3 => "linear_onnx",
        "cubic" => "cubic",
        other => return Err(lacks(format!("resize of {} axes with the mode \"{other}\"", changed.len()))),
    };
    let coordinates = cx.node.get_str("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })?;
    // The symmetric form differs only where sizes are rounded.
    let exact = match sizes {
        Sizes::Given(_) => true,
        Sizes::Scales(scales) => changed
            .iter()
            .all(|&at| scales[at].fract() == 0.0 || shape[axes[at]].known().is_some_and(|n| (n as f32 * scales[at]).fract() == 0.0)),
    };
    let coordinates = match coordinates {
        known @ ("half_pixel" | "pytorch_half_pixel" | "align_corners" | "asymmetric" | "tf_half_pixel_for_nn") => known,
        "half_pixel_symmetric" if exact => "half_pixel",
        other => return Err(lacks(format!("resize with the coordinates \"{other}\" at these sizes"))),
    };
    let on = |name: &str| cx.node.get_int(name, 0).map(|v| v != 0);
    if on("antialias")? && mode != "nearest" {
        return Err(lacks("resize with antialias as ONNX has it"));
    }
    if on("exclude_outside")? && mode == "cubic" {
        return Err(lacks("cubic resize that leaves out what lies outside"));
    }
    if matches!(sizes, Sizes::Given(_)) && cx.node.get_str("keep_aspect_ratio_policy", "stretch")? != "stretch" {
        return Err(lacks("resize that keeps the aspect ratio"));
    }
    let rounding = cx.node.get_str("nearest_mode", if old { "floor" } else { "round_prefer_floor" })?;
    let by = if matches!(sizes, Sizes::Scales(_)) { "scales" } else { "sizes" };
    let none = listed(&vec![0; shape.len()]);
    Ok(vec![
        ("mode", mode.into()),
        ("shape_calculation_mode", by.into()),
        ("coordinate_transformation_mode", coordinates.into()),
        ("nearest_mode", rounding.into()),
        ("antialias", "false".into()),
        ("pads_begin", none.clone()),
        ("pads_end", none),
        ("cube_coeff", format!("{:e}", cx.node.get_float("cubic_coeff_a", -0.75)?)),
    ])
}
