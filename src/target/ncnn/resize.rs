//! Resizing, and sampling on a grid.

use super::build::{Build, Held, input};
use super::net::Layer;
use super::window::channels_of;
use compresso_base::error::{Error, Result};
use compresso_model::Node;

/// How a Resize or an Upsample reads its input.
struct Form<'n> {
    mode: &'n str,
    coordinates: &'n str,
    nearest: &'n str,
}

fn form<'n>(cx: &Build<'_>, node: &'n Node) -> Result<Form<'n>> {
    let mode = node.get_str("mode", "nearest")?;
    if node.is("Upsample") || cx.graph.opset_of(node) < 11 {
        return Ok(Form { mode, coordinates: "asymmetric", nearest: "floor" });
    }
    if node.get_int("antialias", 0)? != 0 {
        return Err(Error::unsupported("NCNN's Interp does not smooth before it shrinks (antialias)"));
    }
    let coordinates = node.get_str("coordinate_transformation_mode", "half_pixel")?;
    Ok(Form { mode, coordinates, nearest: node.get_str("nearest_mode", "round_prefer_floor")? })
}

/// Scales that the node states, of all axes or of those it names; `None` where it states sizes.
fn stated_scales(cx: &Build<'_>, node: &Node) -> Result<Option<Vec<f32>>> {
    if let Some(scales) = node.find_floats("scales")? {
        return Ok(Some(scales.to_vec()));
    }
    let at = if node.is("Upsample") || cx.graph.opset_of(node) < 11 { 1 } else { 2 };
    match node.input(at) {
        Some(_) => Ok(Some(cx.floats(node, at, "the scale")?).filter(|s| !s.is_empty())),
        None => Ok(None),
    }
}

/// The element of the input that a nearest one of the output is, by ONNX's formula.
fn nearest(form: &Form<'_>, i: usize, from: usize, to: usize) -> Option<usize> {
    let (scale, x) = (to as f64 / from as f64, i as f64);
    let at = match form.coordinates {
        "half_pixel" => (x + 0.5) / scale - 0.5,
        "pytorch_half_pixel" if to > 1 => (x + 0.5) / scale - 0.5,
        "pytorch_half_pixel" => 0.0,
        "asymmetric" => x / scale,
        "align_corners" if to > 1 => x * (from - 1) as f64 / (to - 1) as f64,
        "align_corners" => 0.0,
        _ => return None,
    };
    let rounded = match form.nearest {
        "floor" => at.floor(),
        "ceil" => at.ceil(),
        "round_prefer_floor" => (at - 0.5).ceil(),
        "round_prefer_ceil" => (at + 0.5).floor(),
        _ => return None,
    };
    Some(rounded.clamp(0.0, (from - 1) as f64) as usize)
}

/// The same by NCNN's, in the precision that it computes in.
fn ncnn_nearest(i: usize, from: usize, to: usize) -> usize {
    ((i as f32 * (from as f32 / to as f32)) as usize).min(from - 1)
}

pub(super) fn resize(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (name, dims, out) = (input(node, 0)?, cx.input_dims(node, 0)?, cx.output_dims(node)?);
    if dims == out {
        return cx.same(node);
    }
    let form = form(cx, node)?;
    let rank = dims.len();
    let spatial = rank.saturating_sub(2);
    if !(1..=2).contains(&spatial) || dims[..2] != out[..2] {
        return Err(Error::unsupported(format!(
            "it resizes {dims:?} to {out:?}; NCNN resizes the last one or two axes behind batch and channels"
        )));
    }
    if form.coordinates == "tf_crop_and_resize" || node.get_str("keep_aspect_ratio_policy", "stretch")? != "stretch" {
        return Err(Error::unsupported("it resizes by regions or keeps the aspect ratio, which NCNN's Interp does not"));
    }
    // NCNN's ratio is that of the sizes.
    if let Some(scales) = stated_scales(cx, node)?.filter(|s| s.len() == rank) {
        for axis in 2..rank {
            let ratio = out[axis] as f64 / dims[axis] as f64;
            if form.coordinates != "align_corners" && (f64::from(scales[axis]) - ratio).abs() > 1e-3 * ratio {
                return Err(Error::unsupported(format!(
                    "its scale {} is not {} / {}, the ratio of the sizes",
                    scales[axis], out[axis], dims[axis]
                )));
            }
        }
    }
    let images = dims[0] * dims[1];
    let mut view = vec![images];
    view.extend(&dims[2..]);
    // Out of one element, any way of resizing makes copies.
    if dims[2..].iter().zip(&out[2..]).all(|(&from, &to)| from == 1 || from == to) {
        let mut held = Held { blob: cx.view(name, &view)?, shape: view };
        for axis in (2..rank).filter(|&a| dims[a] != out[a]) {
            held.blob = cx.layer(Layer::new("Tile").int(0, axis - 1).int(1, out[axis]), &[held.blob]);
            held.shape[axis - 1] = out[axis];
        }
        return cx.made(node, held.blob, held.shape);
    }
    let changed = || (2..rank).filter(|&a| dims[a] != out[a]);
    let aligned = form.coordinates == "align_corners";
    let centred = form.coordinates == "half_pixel" || form.coordinates == "pytorch_half_pixel" && changed().all(|a| out[a] > 1);
    let kind = match form.mode {
        "nearest" => {
            let equal = |a: usize| (0..out[a]).all(|i| nearest(&form, i, dims[a], out[a]) == Some(ncnn_nearest(i, dims[a], out[a])));
            if !changed().all(equal) {
                return Err(Error::unsupported(format!(
                    "nearest elements by \"{}\" and \"{}\" are not those of NCNN's Interp from {:?} to {:?}",
                    form.coordinates,
                    form.nearest,
                    &dims[2..],
                    &out[2..]
                )));
            }
            1
        }
        "linear" | "bilinear" | "cubic" if !(centred || aligned && changed().all(|a| out[a] > 1)) => {
            return Err(Error::unsupported(format!(
                "it interpolates at \"{}\" coordinates; NCNN's Interp knows half_pixel and align_corners",
                form.coordinates
            )));
        }
        "linear" | "bilinear" if changed().all(|a| dims[a] > 1) => 2,
        "cubic"
            if node.get_float("cubic_coeff_a", -0.75)? == -0.75
                && node.get_int("exclude_outside", 0)? == 0
                && changed().all(|a| dims[a] > 3) =>
        {
            3
        }
        mode => {
            return Err(Error::unsupported(format!("NCNN's Interp does not do \"{mode}\" with these attributes from {:?}", &dims[2..])));
        }
    };
    // Nearest elements stand by themselves, but the other ways go over both axes at once.
    if spatial == 2 && kind != 1 && (dims[2] < 2 || dims[3] < 2 || kind == 3 && (dims[2] < 4 || dims[3] < 4)) {
        return Err(Error::unsupported(format!("NCNN's Interp needs more rows and columns than {:?}", &dims[2..])));
    }
    // Rows of their own have no height, but a size is taken only with both.
    let height = if spatial == 2 { out[2] } else { 1 };
    let layer = Layer::new("Interp").int(0, kind).int(3, height).int(4, out[rank - 1]).int(6, usize::from(aligned && kind != 1));
    let x = cx.view(name, &view)?;
    let blob = cx.layer(layer, &[x]);
    view[1..].copy_from_slice(&out[2..]);
    cx.made(node, blob, view)
}

pub(super) fn grid_sample(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let (dims, grid, out) = (cx.input_dims(node, 0)?, cx.input_dims(node, 1)?, cx.output_dims(node)?);
    let (_, spatial) = channels_of(&dims)?;
    if spatial.len() < 2 || spatial.len() > 2 {
        return Err(Error::unsupported(format!("NCNN samples images with two axes here, not {spatial:?}")));
    }
    let sample = match node.get_str("mode", "linear")? {
        "linear" | "bilinear" => 1,
        "nearest" => 2,
        "cubic" | "bicubic" => 3,
        mode => return Err(Error::unsupported(format!("NCNN does not sample by \"{mode}\""))),
    };
    let padding = match node.get_str("padding_mode", "zeros")? {
        "zeros" => 1,
        "border" => 2,
        _ => 3,
    };
    let layer = Layer::new("GridSample").int(0, sample).int(1, padding).int(2, usize::from(node.get_int("align_corners", 0)? != 0));
    let views = [cx.view(input(node, 0)?, &dims[1..])?, cx.view(input(node, 1)?, &grid[1..])?];
    let blob = cx.layer(layer, &views);
    cx.made(node, blob, out[1..].to_vec())
}
