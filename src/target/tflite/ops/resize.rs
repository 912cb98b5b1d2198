//! [Resize](https://onnx.ai/onnx/operators/onnx__Resize.html) and Upsample.
//!
//! Where the runtime's kernels look at the places that the node asks for, they are written. Otherwise nearest neighbours are
//! gathered along each axis.

use crate::tflite::builder::{Builder, Form};
use crate::tflite::codes;
use crate::tflite::layout::{channels_last, permuted, places};
use compresso_base::error::{Error, Result};
use compresso_model::{Graph, Node};

/// Nearest and linear, without a region of interest; linear over height and width.
pub(super) fn takes(graph: &Graph, node: &Node) -> bool {
    let mode = node.get_str("mode", "nearest").unwrap_or_default();
    let at = node.get_str("coordinate_transformation_mode", "half_pixel").unwrap_or_default();
    let rank = graph.facts().ok().and_then(|f| f.get(node.input(0)?)?.rank());
    let linear = mode == "linear" && rank.is_none_or(|r| r == 4) && node.get_int("antialias", 0).is_ok_and(|a| a == 0);
    let known = matches!(at, "half_pixel" | "pytorch_half_pixel" | "align_corners" | "asymmetric");
    let whole = node.find_ints("axes").is_ok_and(|a| a.is_none())
        && node.get_str("keep_aspect_ratio_policy", "stretch").is_ok_and(|p| p == "stretch");
    known && whole && (mode == "nearest" || linear)
}

/// How places of the result lie over those of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    HalfPixel,
    TorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

/// Along one axis: size before and after, and the factor.
#[derive(Debug, Clone, Copy)]
struct Axis {
    old: usize,
    new: usize,
    factor: f32,
}

fn place(at: Places, axis: Axis, o: usize) -> f32 {
    let o = o as f32;
    match at {
        Places::TorchHalfPixel if axis.new <= 1 => 0.0,
        Places::HalfPixel | Places::TorchHalfPixel => (o + 0.5) / axis.factor - 0.5,
        Places::AlignCorners if axis.new <= 1 => 0.0,
        Places::AlignCorners => o * (axis.old as f32 - 1.0) / (axis.new as f32 - 1.0),
        Places::Asymmetric => o / axis.factor,
    }
}

/// The neighbour that a node takes for each place of an axis.
fn neighbours(axis: Axis, at: Places, rounding: &str) -> Vec<usize> {
    let pick = |o: usize| {
        let x = place(at, axis, o);
        let x = match rounding {
            "floor" => x.floor(),
            "ceil" => x.ceil(),
            "round_prefer_ceil" => (x + 0.5).floor(),
            _ => (x - 0.5).ceil(),
        };
        (x.max(0.0) as usize).min(axis.old.saturating_sub(1))
    };
    (0..axis.new).map(pick).collect()
}

/// The neighbour that the runtime's kernel takes.
fn kernel_neighbours(axis: Axis, align: bool, half: bool) -> Vec<usize> {
    let scale = if align && axis.new > 1 { (axis.old as f32 - 1.0) / (axis.new as f32 - 1.0) } else { axis.old as f32 / axis.new as f32 };
    let pick = |o: usize| {
        let x = (o as f32 + if half { 0.5 } else { 0.0 }) * scale;
        let x = if align { x.round() } else { x.floor() };
        (x.max(0.0) as usize).min(axis.old.saturating_sub(1))
    };
    (0..axis.new).map(pick).collect()
}

pub(super) fn resize(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, y) = (&node.inputs[0], &node.outputs[0]);
    let (dims, made) = (b.dims(x)?, b.dims(y)?);
    let axes = axes(b, node, &dims, &made)?;
    let old = node.is("Upsample") || b.graph.opset_of(node) < 11;
    let at = match node.get_str("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })? {
        "pytorch_half_pixel" => Places::TorchHalfPixel,
        "align_corners" => Places::AlignCorners,
        "asymmetric" => Places::Asymmetric,
        _ => Places::HalfPixel,
    };
    let form = if b.is_rounded(x) { Form::Rounded } else { Form::Real };
    let spatial = dims.len() == 4 && dims[..2] == made[..2];
    if node.get_str("mode", "nearest")? == "linear" {
        if !spatial {
            return Err(Error::unsupported("linear resizing of the batch or of channels is not written"));
        }
        // A mean is rounded anew, which is left to whom it may concern.
        let form = if form == Form::Rounded && b.rounding(node)?.is_some_and(|r| Some(r.grid) == b.grid(x)) { form } else { Form::Real };
        for axis in &axes[2..] {
            let exact = (axis.new as f32 / axis.old as f32 - axis.factor).abs() <= 1e-6 * axis.factor;
            if !exact && at != Places::AlignCorners || at == Places::TorchHalfPixel && axis.new == 1 && axis.old > 1 {
                return Err(Error::unsupported(format!(
                    "linear resizing from {} to {} by the factor {} is not written",
                    axis.old, axis.new, axis.factor
                )));
            }
        }
        let call = codes::resize_bilinear(at == Places::AlignCorners, matches!(at, Places::HalfPixel | Places::TorchHalfPixel));
        return spatially(b, node, call, form);
    }
    let default = if old { "floor" } else { "round_prefer_floor" };
    let rounding = node.get_str("nearest_mode", default)?;
    let wanted: Vec<Vec<usize>> = axes.iter().map(|&a| neighbours(a, at, rounding)).collect();
    if spatial {
        for (align, half) in [(false, false), (false, true), (true, false)] {
            if [2, 3].iter().all(|&i| kernel_neighbours(axes[i], align, half) == wanted[i]) {
                return spatially(b, node, codes::resize_nearest(align, half), form);
            }
        }
    }
    let perm = b.order(x)?;
    let mut t = b.read(x, &perm, form)?;
    for (i, &place) in places(&perm).iter().enumerate() {
        if wanted[i].iter().copied().eq(0..dims[i]) {
            continue;
        }
        let mut shape = b.of(t).shape.clone();
        shape[place] = made[i];
        let of = b.of(t).shaped(&shape);
        let indices = b.ints_tensor(&wanted[i])?;
        t = b.op(codes::gather(place), &[t, indices], of);
    }
    b.hold(y, perm, t, form);
    Ok(())
}

fn spatially(b: &mut Builder<'_>, node: &Node, call: crate::tflite::model::Call, form: Form) -> Result<()> {
    let made = b.dims(&node.outputs[0])?;
    let perm = channels_last(4);
    let t = b.read(&node.inputs[0], &perm, form)?;
    let size = b.ints_tensor(&made[2..])?;
    let of = b.of(t).shaped(&permuted(&made, &perm));
    let t = b.op(call, &[t, size], of);
    b.hold(&node.outputs[0], perm, t, form);
    Ok(())
}

/// Sizes and factors: those given, or those that the sizes make.
fn axes(b: &Builder<'_>, node: &Node, dims: &[usize], made: &[usize]) -> Result<Vec<Axis>> {
    let input = if node.is("Upsample") || b.graph.opset_of(node) < 11 { 1 } else { 2 };
    let given = match node.find_floats("scales")? {
        Some(s) => s.to_vec(),
        None => node.input(input).and_then(|s| b.constant(s)).map(|c| c.to_f32s()).transpose()?.unwrap_or_default(),
    };
    let factor = |i: usize| given.get(i).copied().filter(|_| given.len() == dims.len()).unwrap_or(made[i] as f32 / dims[i].max(1) as f32);
    Ok((0..dims.len()).map(|i| Axis { old: dims[i], new: made[i], factor: factor(i) }).collect())
}
