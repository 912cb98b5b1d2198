//! Regions of interest: RoiAlign, MaxRoiPool.
//!
//! <https://onnx.ai/onnx/operators/onnx__RoiAlign.html>: before version 16 positions count from pixel edges
//! (`output_half_pixel`). <https://onnx.ai/onnx/operators/onnx__MaxRoiPool.html>. Differentiable by the data, except the mode `max`
//! of RoiAlign, which passes no gradient.
//!
//! # Shapes
//! Data `[n, c, h, w]`, regions `[r, 4]` with the image of each in `[r]`, or `[r, 5]` with the image first, result `[r, c, oh, ow]`.

use super::channels;
use super::cost;
use super::def::{OpDef, operators};
use super::facts::{at_least_one, fact};
use super::gather::pick;
use super::ints::count;
use super::roles::Float16Rule;
use super::run::Exec;
use crate::graph::{Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};

operators! {
    pub const ROI_ALIGN: &str = "RoiAlign";
}

/// Pools over regions of interest.
pub const OPS: &[OpDef] = &[
    OpDef::new(ROI_ALIGN, &[10, 16, 22], infer_align, roi_align)
        .sums()
        .cost(cost::per_output)
        .float16(Float16Rule::Float32)
        .channels(channels::images),
    OpDef::new("MaxRoiPool", &[1, 22], infer_pool, max_roi_pool)
        .cost(cost::per_output)
        .float16(Float16Rule::Float32)
        .channels(channels::images),
];

/// Sample points that are taken along one axis of a region.
const MOST_SAMPLES: f64 = 1_048_576.0;

fn infer_regions(cx: &Infer<'_>, [h, w]: [usize; 2]) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let at = |input: usize, rank: usize, axis: usize| -> Result<Dim> {
        match cx.shape(input)? {
            None => Ok(Dim::Unknown),
            Some(s) if s.len() == rank => Ok(s[axis].clone()),
            Some(s) => Err(Error::shape(format!("expected input {input} with {rank} axes, got {}", s.len()))),
        }
    };
    Ok(vec![fact(x.element, Some(vec![at(1, 2, 0)?, at(0, 4, 1)?, Dim::Known(h), Dim::Known(w)]))])
}

fn infer_align(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    infer_regions(cx, [at_least_one(cx.node, "output_height")?, at_least_one(cx.node, "output_width")?])
}

fn infer_pool(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    infer_regions(cx, pooled(cx.node)?)
}

fn pooled(node: &Node) -> Result<[usize; 2]> {
    let shape = node.find_ints("pooled_shape")?.unwrap_or_default();
    let sizes: Vec<usize> = shape.iter().filter_map(|&n| usize::try_from(n).ok()).filter(|&n| n > 0).collect();
    sizes.try_into().map_err(|_| Error::format(format!("attribute 'pooled_shape' must be two positive sizes, got {shape:?}")))
}

/// One axis of a region: how much each of its pixels counts for each bin, or the points at which it is read.
struct Axis {
    /// Coordinates of the sample points, bin by bin, none for a bin without.
    points: Vec<Option<f64>>,
    bins: usize,
}

impl Axis {
    /// Points of a region from `start` to `end` along an axis of `n` pixels. In float32, as elsewhere: a length that is a whole
    /// number but for rounding decides how many points there are.
    fn new([start, end]: [f32; 2], bins: usize, samples: i64, n: usize, at_least_one: bool) -> Result<Self> {
        let length = if at_least_one { (end - start).max(1.0) } else { end - start };
        let bin = length / bins as f32;
        let each = if samples > 0 { samples as f64 } else { f64::from(bin.ceil().max(0.0)) };
        if each * bins as f64 > MOST_SAMPLES {
            return Err(Error::unsupported(format!("a region of {length} pixels is read at more than {MOST_SAMPLES} points")));
        }
        // A region that is no number has no points.
        let each = if bin.is_nan() { 0 } else { each as usize };
        let inside = |p: f32| (p >= -1.0 && p <= n as f32).then(|| f64::from(p.clamp(0.0, n as f32 - 1.0)));
        let point = |b: usize, i: usize| inside(start + b as f32 * bin + (i as f32 + 0.5) * bin / each as f32);
        Ok(Self { points: (0..bins).flat_map(|b| (0..each).map(move |i| (b, i))).map(|(b, i)| point(b, i)).collect(), bins })
    }
    fn each(&self) -> usize {
        self.points.len() / self.bins
    }
    /// The pixels that are read: the first, and one after the last.
    fn span(&self) -> Option<(usize, usize)> {
        let pixels = || self.points.iter().flatten();
        let low = pixels().fold(f64::INFINITY, |a, &p| a.min(p));
        let high = pixels().fold(f64::NEG_INFINITY, |a, &p| a.max(p));
        low.is_finite().then_some((low as usize, high.ceil() as usize + 1))
    }
    /// `[bins, pixels]`: the mean over a bin's points of linear interpolation.
    fn means(&self, (first, end): (usize, usize)) -> Vec<f32> {
        let (width, each) = (end - first, self.each());
        let mut out = vec![0f64; self.bins * width];
        for (i, &p) in self.points.iter().enumerate().filter_map(|(i, p)| p.as_ref().map(|p| (i, p))) {
            let row = &mut out[i / each * width..][..width];
            let part = p.fract();
            row[p as usize - first] += (1.0 - part) / each as f64;
            if part > 0.0 {
                row[p as usize + 1 - first] += part / each as f64;
            }
        }
        out.into_iter().map(|v| v as f32).collect()
    }
}

/// Data, regions (four numbers each) and their images.
fn regions(cx: &Exec<'_>, rows: usize) -> Result<([usize; 4], Vec<f32>)> {
    let (x, rois) = (cx.input(0)?, cx.input(1)?);
    let (&[n, c, h, w], &[r, columns]) = (x.dims(), rois.dims()) else {
        return Err(Error::shape(format!("expected data [n, c, h, w] and regions [r, {rows}], got {:?} and {:?}", x.dims(), rois.dims())));
    };
    if columns != rows || (r > 0 && (h == 0 || w == 0)) {
        return Err(Error::shape(format!("expected data [n, c, h, w] and regions [r, {rows}], got {:?} and {:?}", x.dims(), rois.dims())));
    }
    if !x.tensor.dtype().is_float() {
        return Err(Error::dtype(format!("expected floating point, got {}", x.element)));
    }
    Ok(([n, c, h, w], rois.to_f32s()?))
}

fn image(index: i64, n: usize) -> Result<usize> {
    usize::try_from(index).ok().filter(|&i| i < n).ok_or_else(|| Error::shape(format!("a region is in image {index} of {n}")))
}

fn roi_align(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let ([n, c, h, w], rois) = regions(cx, 4)?;
    let of = cx.ints(2)?.ok_or_else(|| Error::format("the images of the regions are missing"))?;
    if of.len() * 4 != rois.len() {
        return Err(Error::shape(format!("{} images are given for {} regions", of.len(), rois.len() / 4)));
    }
    let (oh, ow) = (at_least_one(cx.node, "output_height")?, at_least_one(cx.node, "output_width")?);
    let scale = cx.node.get_float("spatial_scale", 1.0)?;
    let samples = cx.node.get_int("sampling_ratio", 0)?;
    let default = if cx.opset >= 16 { "half_pixel" } else { "output_half_pixel" };
    let half = match cx.node.get_str("coordinate_transformation_mode", default)? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => {
            return Err(Error::format(format!(
                "attribute 'coordinate_transformation_mode' must be half_pixel or output_half_pixel, got '{other}'"
            )));
        }
    };
    let largest = match cx.node.get_str("mode", "avg")? {
        "avg" => false,
        "max" => true,
        other => return Err(Error::format(format!("attribute 'mode' must be avg or max, got '{other}'"))),
    };
    let dims = [of.len(), c, oh, ow];
    count(&dims)?;
    let x = cx.tensor(0)?.to_dtype(DType::F32)?;
    let mut out = Vec::with_capacity(of.len());
    for (&index, roi) in of.iter().zip(rois.chunks(4)) {
        let map = x.get(image(index, n)?)?;
        let shift = if half { 0.5 } else { 0.0 };
        let side = |a: usize| [roi[a] * scale - shift, roi[a + 2] * scale - shift];
        let (rows, columns) = (Axis::new(side(1), oh, samples, h, !half)?, Axis::new(side(0), ow, samples, w, !half)?);
        out.push(match (rows.span(), columns.span()) {
            (Some(_), Some(_)) if largest => maxima(&map, &rows, &columns)?,
            (Some(y), Some(x)) if c > 0 => {
                let part = map.narrow(1, y.0, y.1 - y.0)?.narrow(2, x.0, x.1 - x.0)?.contiguous()?;
                let (height, width) = (y.1 - y.0, x.1 - x.0);
                let down = Tensor::from_vec(rows.means(y), (oh, height), map.device())?;
                let across = Tensor::from_vec(columns.means(x), (ow, width), map.device())?.t()?;
                let wide = part.reshape((c * height, width))?.matmul(&across)?.reshape((c, height, ow))?;
                down.broadcast_as((c, oh, height))?.contiguous()?.matmul(&wide)?
            }
            _ => Tensor::zeros((c, oh, ow), DType::F32, map.device())?,
        });
    }
    let out = if out.is_empty() { Tensor::zeros(&dims, DType::F32, x.device())? } else { Tensor::stack(&out, 0)? };
    cx.one(out.to_dtype(cx.tensor(0)?.dtype())?)
}

/// The largest weighted pixel of each bin, as the specification's reference has it; 0 for bins without points.
fn maxima(map: &Tensor, rows: &Axis, columns: &Axis) -> Result<Tensor> {
    let (c, h, w) = map.dims3()?;
    let data: Vec<f32> = map.flatten_all()?.to_vec1()?;
    let corners = |p: f64, n: usize| [(p as usize, 1.0 - p.fract()), ((p as usize + 1).min(n - 1), p.fract())];
    let (ey, ex) = (rows.each(), columns.each());
    let mut out = Vec::with_capacity(c * rows.bins * columns.bins);
    for plane in data.chunks(h * w) {
        for (by, bx) in (0..rows.bins).flat_map(|y| (0..columns.bins).map(move |x| (y, x))) {
            let mut best: Option<f32> = None;
            for y in &rows.points[by * ey..(by + 1) * ey] {
                for x in &columns.points[bx * ex..(bx + 1) * ex] {
                    let value = match (y, x) {
                        (Some(y), Some(x)) => corners(*y, h)
                            .iter()
                            .flat_map(|&(r, wy)| corners(*x, w).map(|(k, wx)| (wy * wx) as f32 * plane[r * w + k]))
                            .fold(f32::NEG_INFINITY, f32::max),
                        _ => 0.0,
                    };
                    best = Some(best.map_or(value, |b| b.max(value)));
                }
            }
            out.push(best.unwrap_or(0.0));
        }
    }
    Ok(Tensor::from_vec(out, (c, rows.bins, columns.bins), map.device())?)
}

/// The largest pixel of each bin; bins begin and end at whole pixels.
fn max_roi_pool(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let ([n, c, h, w], rois) = regions(cx, 5)?;
    let [oh, ow] = pooled(cx.node)?;
    let scale = cx.node.get_float("spatial_scale", 1.0)?;
    let dims = [rois.len() / 5, c, oh, ow];
    let total = count(&dims)?;
    let data = cx.input(0)?.to_f32s()?;
    let (mut positions, mut seen) = (Vec::with_capacity(total), Vec::with_capacity(total));
    for roi in rois.chunks(5) {
        let image = image(roi[0] as i64, n)?;
        let bins = |start: f32, end: f32, bins: usize, n: usize| -> Vec<(usize, usize)> {
            let (start, end) = ((start * scale).round(), (end * scale).round());
            let bin = (end - start + 1.0).max(1.0) / bins as f32;
            let pixel = |p: f32| (p + start).clamp(0.0, n as f32) as usize;
            (0..bins).map(|b| (pixel((b as f32 * bin).floor()), pixel(((b + 1) as f32 * bin).ceil()))).collect()
        };
        let (rows, columns) = (bins(roi[2], roi[4], oh, h), bins(roi[1], roi[3], ow, w));
        for channel in 0..c {
            let base = (image * c + channel) * h * w;
            for &(top, bottom) in &rows {
                for &(left, right) in &columns {
                    let pixels = (top..bottom).flat_map(|y| (left..right).map(move |x| base + y * w + x));
                    let best = pixels.reduce(|a, b| if data[b] > data[a] { b } else { a });
                    positions.push(best.unwrap_or(0));
                    seen.push(f32::from(u8::from(best.is_some())));
                }
            }
        }
    }
    let x = cx.tensor(0)?;
    let picked = pick(x, &positions, &dims)?;
    if seen.contains(&0.0) {
        let seen = Tensor::from_vec(seen, &dims, x.device())?.to_dtype(x.dtype())?;
        return cx.one((picked * seen)?);
    }
    cx.one(picked)
}
