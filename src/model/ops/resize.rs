//! Resize and Upsample.
//!
//! <https://onnx.ai/onnx/operators/onnx__Resize.html>. Every mode is a table of weights per axis, applied axis by axis.

mod labels;

use super::backward::{Back, BackwardRule, Flow};
use super::cost::{self, CostInput};
use super::def::{OpDef, QuantRule, operators};
use super::facts::axes_of;
use super::roles::Float16Rule;
use super::run::Exec;
use crate::graph::{Cost, Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use compresso_kernels::ops;
use compresso_kernels::resize::AxisMap;

operators! {
    pub const RESIZE: &str = "Resize";
    pub const UPSAMPLE: &str = "Upsample";
}

/// Resizing of images and other tensors.
pub const OPS: &[OpDef] = &[
    OpDef::new(RESIZE, &[10, 11, 13, 18, 19], infer, forward)
        .sums()
        .cost(resize_cost)
        .quant(QuantRule::SameScale)
        // Regions of interest and scales.
        .float16(Float16Rule::Except(&[1, 2]))
        .backward(resize_rule)
        .channels(labels::resize),
    OpDef::new(UPSAMPLE, &[1, 7, 9, 10], infer, forward)
        .sums()
        .cost(resize_cost)
        .quant(QuantRule::SameScale)
        .float16(Float16Rule::Except(&[1]))
        .channels(labels::resize),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    /// `tf_half_pixel_for_nn`, of operator set 11 only.
    HalfPixelForNearest,
    CropAndResize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

/// What the attributes say.
struct Settings {
    filter: Filter,
    coordinates: Coordinates,
    rounding: Rounding,
    cubic: f64,
    exclude_outside: bool,
    extrapolation: f32,
    antialias: bool,
    policy: Policy,
    axes: Option<Vec<i64>>,
}

/// `keep_aspect_ratio_policy`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Stretch,
    NotLarger,
    NotSmaller,
}

impl Settings {
    fn of(node: &Node, opset: i64) -> Result<Self> {
        let unknown = |name: &str, v: &str| Error::format(format!("attribute '{name}' has the unknown value '{v}'"));
        let old = node.op == "Upsample" || opset < 11;
        let filter = match node.get_str("mode", "nearest")? {
            "nearest" => Filter::Nearest,
            "linear" | "bilinear" => Filter::Linear,
            "cubic" if !old => Filter::Cubic,
            v => return Err(unknown("mode", v)),
        };
        let coordinates = match node.get_str("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })? {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_half_pixel_for_nn" => Coordinates::HalfPixelForNearest,
            "tf_crop_and_resize" => Coordinates::CropAndResize,
            v => return Err(unknown("coordinate_transformation_mode", v)),
        };
        let rounding = match node.get_str("nearest_mode", if old { "floor" } else { "round_prefer_floor" })? {
            "round_prefer_floor" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            v => return Err(unknown("nearest_mode", v)),
        };
        let policy = match node.get_str("keep_aspect_ratio_policy", "stretch")? {
            "stretch" => Policy::Stretch,
            "not_larger" => Policy::NotLarger,
            "not_smaller" => Policy::NotSmaller,
            v => return Err(unknown("keep_aspect_ratio_policy", v)),
        };
        Ok(Self {
            filter,
            coordinates,
            rounding,
            cubic: f64::from(node.get_float("cubic_coeff_a", -0.75)?),
            exclude_outside: node.get_int("exclude_outside", 0)? != 0,
            extrapolation: node.get_float("extrapolation_value", 0.0)?,
            antialias: node.get_int("antialias", 0)? != 0,
            policy,
            axes: node.find_ints("axes")?.map(<[i64]>::to_vec),
        })
    }

    fn axes(&self, rank: usize) -> Result<Vec<usize>> {
        match &self.axes {
            Some(v) => axes_of(v, rank),
            None => Ok((0..rank).collect()),
        }
    }
}

/// Index of the input with scales, where there is one.
pub fn scales_input(node: &Node, opset: i64) -> Option<usize> {
    match (node.op.as_str(), opset) {
        ("Upsample", ..9) => None,
        ("Upsample", _) | (_, ..11) => Some(1),
        _ => Some(2),
    }
}

/// Size and scale of one resized axis.
#[derive(Debug, Clone, Copy, PartialEq)]
struct OutputSize {
    size: usize,
    /// Output size over input size, as the node states it (sizes round, scales do not).
    scale: f64,
}

/// What an axis becomes: `scales` or `sizes` are those of `axes`.
fn targets(s: &Settings, axes: &[usize], dims: &[usize], scales: Option<&[f32]>, sizes: Option<&[i64]>) -> Result<Vec<OutputSize>> {
    let mut out: Vec<OutputSize> = dims.iter().map(|&size| OutputSize { size, scale: 1.0 }).collect();
    let wrong = |what: &str, n: usize| Error::shape(format!("expected {} {what}, one per axis, got {n}", axes.len()));
    match (scales, sizes) {
        (Some(v), None) => {
            if v.len() != axes.len() {
                return Err(wrong("scales", v.len()));
            }
            for (&axis, &scale) in axes.iter().zip(v) {
                if !(scale > 0.0 && scale.is_finite()) {
                    return Err(Error::argument(format!("scales must be positive, got {scale}")));
                }
                let scale = f64::from(scale);
                out[axis] = OutputSize { size: (dims[axis] as f64 * scale).floor() as usize, scale };
            }
        }
        (None, Some(v)) => {
            if v.len() != axes.len() {
                return Err(wrong("sizes", v.len()));
            }
            let sizes: Vec<usize> = v
                .iter()
                .map(|&n| usize::try_from(n).map_err(|_| Error::argument(format!("sizes must not be negative, got {v:?}"))))
                .collect::<Result<_>>()?;
            let ratio = |(&axis, &size): (&usize, &usize)| size as f64 / dims[axis].max(1) as f64;
            let ratios = axes.iter().zip(&sizes).map(ratio);
            let common = match s.policy {
                Policy::Stretch => None,
                Policy::NotLarger => ratios.reduce(f64::min),
                Policy::NotSmaller => ratios.reduce(f64::max),
            };
            for (axis, size) in axes.iter().zip(&sizes) {
                out[*axis] = match common {
                    Some(scale) => OutputSize { size: (scale * dims[*axis] as f64).round() as usize, scale },
                    None => OutputSize { size: *size, scale: ratio((axis, size)) },
                };
            }
        }
        _ => return Err(Error::format("exactly one of scales and sizes must be given")),
    }
    Ok(out)
}

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![Fact::unranked(x.element)]) };
    let s = Settings::of(cx.node, cx.opset)?;
    let axes = s.axes(shape.len())?;
    let unknown = || {
        Ok(vec![Fact::new(
            x.element,
            shape.iter().enumerate().map(|(i, d)| if axes.contains(&i) { Dim::Unknown } else { d.clone() }).collect(),
        )])
    };
    let scales = match scales_input(cx.node, cx.opset) {
        None => cx.node.find_floats("scales")?.map(<[f32]>::to_vec),
        Some(i) => match cx.get(i) {
            Some(f) => match &f.constant {
                Some(c) => Some(Value::of_constant(c, &candle_core::Device::Cpu)?.to_f32s()?),
                None => return unknown(),
            },
            None => None,
        },
    };
    if let Some(scales) = scales.filter(|v| !v.is_empty()) {
        if scales.len() != axes.len() {
            return Err(Error::shape(format!("expected {} scales, one per axis, got {}", axes.len(), scales.len())));
        }
        let mut out = shape.clone();
        for (&axis, &scale) in axes.iter().zip(&scales) {
            let d = &shape[axis];
            out[axis] = match d {
                _ if scale == 1.0 => d.clone(),
                Dim::Known(n) => Dim::Known((*n as f64 * f64::from(scale)).floor() as usize),
                _ if scale.fract() == 0.0 && scale > 0.0 => d.times(&Dim::Known(scale as usize)),
                _ => d.map(&format!("floor({{}}*{scale})"), |_| None),
            };
        }
        return Ok(vec![Fact::new(x.element, out)]);
    }
    let Some(sizes) = cx.get(3).filter(|_| cx.opset >= 11) else { return Err(Error::format("neither scales nor sizes are given")) };
    let mut out = shape.clone();
    match (cx.ints(3)?, x.dims()) {
        (Some(v), Some(dims)) => {
            for (d, t) in out.iter_mut().zip(targets(&s, &axes, &dims, None, Some(&v))?) {
                *d = Dim::Known(t.size);
            }
        }
        _ if s.policy != Policy::Stretch => return unknown(),
        _ => match &sizes.contents {
            Some(v) if v.len() == axes.len() => axes.iter().zip(v).for_each(|(&a, d)| out[a] = d.clone()),
            _ => return unknown(),
        },
    }
    Ok(vec![Fact::new(x.element, out)])
}

/// Sizes of the result, and the table of each axis that changes, in the order in which they are resized; none when the input
/// or the result is empty.
fn plan(cx: &Exec<'_>, s: &Settings) -> Result<(Vec<usize>, Vec<(usize, Table)>)> {
    let dims = cx.input(0)?.dims().to_vec();
    let axes = s.axes(dims.len())?;
    let scales = match scales_input(cx.node, cx.opset) {
        None => cx.node.find_floats("scales")?.map(<[f32]>::to_vec),
        Some(i) => cx.get(i).map(Value::to_f32s).transpose()?,
    };
    let scales = scales.filter(|v| !v.is_empty());
    let sizes = if cx.opset >= 11 { cx.ints(3)?.filter(|v| !v.is_empty()) } else { None };
    let targets = targets(s, &axes, &dims, scales.as_deref(), sizes.as_deref())?;
    let roi = regions(cx, s, &axes, dims.len())?;
    let sizes: Vec<usize> = targets.iter().map(|t| t.size).collect();
    if sizes.contains(&0) || dims.contains(&0) {
        return Ok((sizes, Vec::new()));
    }
    // What the axes become one after the other, and the tables that say from what.
    let mut now = dims.clone();
    for &axis in &axes {
        now[axis] = targets[axis].size;
        let taps = if s.antialias { dims[axis].max(targets[axis].size) } else { targets[axis].size };
        let table = (taps as u64).saturating_mul(160);
        memory::claim(table, || format!("positions of an axis of {taps} that is resized"))?;
        memory::claim_tensor(&now, size_of::<f32>(), 1, || format!("a result of shape {now:?}"))?;
    }
    let table = |&axis: &usize| (axis, Axis { input: dims[axis], target: targets[axis], roi: roi[axis] }.table(s));
    Ok((sizes, axes.iter().map(table).collect()))
}

/// Gradients of floating-point inputs flow back axis by axis.
fn resize_rule(cx: &Exec<'_>) -> Option<BackwardRule> {
    let s = Settings::of(cx.node, cx.opset).ok()?;
    let (sizes, tables) = plan(cx, &s).ok()?;
    let inside = tables.iter().all(|(_, t)| !t.outside.contains(&true)) && !cx.get(0)?.dims().contains(&0);
    (cx.get(0)?.element.is_float() && inside && !sizes.contains(&0)).then_some(resize_backward)
}

fn resize_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let s = Settings::of(back.cx.node, back.cx.opset)?;
    let mut gradient = back.gradient()?.clone();
    let mut own = false;
    for (axis, table) in plan(back.cx, &s)?.1.iter().rev().filter(|(_, t)| !t.map.is_identity()) {
        gradient = ops::resize_axis_backward(&table.map, &gradient, *axis)?;
        own = true;
    }
    Ok(vec![(0, if own { Flow::Own(gradient) } else { Flow::Shared(gradient) })])
}

fn forward(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let value = cx.input(0)?;
    let s = Settings::of(cx.node, cx.opset)?;
    let (sizes, tables) = plan(cx, &s)?;
    let storage = value.tensor.dtype();
    // Integers of up to 24 bits are exact in float32.
    let mut y = if storage.is_float() { value.tensor.clone() } else { value.tensor.to_dtype(DType::F32)? };
    if sizes.contains(&0) || value.dims().contains(&0) {
        return Ok(vec![value.with(Tensor::zeros(sizes, storage, y.device())?)?]);
    }
    let mut outside: Vec<(usize, Vec<bool>)> = Vec::new();
    for (axis, table) in tables {
        y = ops::resize_axis(&table.map, &y, axis)?;
        if table.outside.contains(&true) {
            outside.push((axis, table.outside));
        }
    }
    for (axis, mask) in outside {
        let mut shape = vec![1; y.rank()];
        shape[axis] = mask.len();
        let mask: Vec<u8> = mask.into_iter().map(u8::from).collect();
        let mask = Tensor::from_vec(mask, shape, y.device())?.broadcast_as(y.shape())?;
        let fill = Tensor::full(s.extrapolation, y.shape(), y.device())?.to_dtype(y.dtype())?;
        y = mask.where_cond(&fill, &y)?;
    }
    let y = if storage.is_float() { y } else { y.round()?.to_dtype(storage)? };
    Ok(vec![value.with(y)?])
}

/// Start and end of the region of interest of each axis, as fractions of its size.
fn regions(cx: &Exec<'_>, s: &Settings, axes: &[usize], rank: usize) -> Result<Vec<(f64, f64)>> {
    let mut roi = vec![(0.0, 1.0); rank];
    if s.coordinates == Coordinates::CropAndResize {
        let v = cx.input(1)?.to_f64s()?;
        if v.len() != 2 * axes.len() {
            return Err(Error::shape(format!("expected a roi of {} numbers, got {}", 2 * axes.len(), v.len())));
        }
        for (i, &axis) in axes.iter().enumerate() {
            roi[axis] = (v[i], v[i + axes.len()]);
        }
    }
    Ok(roi)
}

/// One axis to be resized.
struct Axis {
    input: usize,
    target: OutputSize,
    roi: (f64, f64),
}

struct Table {
    map: AxisMap,
    /// Output positions whose coordinate is outside the input, in mode `tf_crop_and_resize`.
    outside: Vec<bool>,
}

impl Axis {
    /// The input coordinate of output position `o`.
    fn coordinate(&self, mode: Coordinates, o: usize) -> f64 {
        let (x, scale, n) = (o as f64, self.target.scale, self.input as f64);
        let out = self.target.size as f64;
        match mode {
            Coordinates::HalfPixel => (x + 0.5) / scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                // The output size without rounding, against the real one.
                let adjustment = out / (n * scale);
                let offset = n / 2.0 * (1.0 - adjustment);
                offset + (x + 0.5) / scale - 0.5
            }
            Coordinates::PytorchHalfPixel => {
                if out > 1.0 {
                    (x + 0.5) / scale - 0.5
                } else {
                    0.0
                }
            }
            Coordinates::AlignCorners => {
                let full = n * scale;
                if full <= 1.0 || out <= 1.0 { 0.0 } else { x * (n - 1.0) / (full - 1.0) }
            }
            Coordinates::Asymmetric => x / scale,
            Coordinates::HalfPixelForNearest => (x + 0.5) / scale,
            Coordinates::CropAndResize => {
                let (start, end) = self.roi;
                if out > 1.0 { start * (n - 1.0) + x * (end - start) * (n - 1.0) / (out - 1.0) } else { 0.5 * (start + end) * (n - 1.0) }
            }
        }
    }

    fn table(&self, s: &Settings) -> Table {
        let positions: Vec<f64> = (0..self.target.size).map(|o| self.coordinate(s.coordinates, o)).collect();
        let last = self.input as i64 - 1;
        let crop = s.coordinates == Coordinates::CropAndResize;
        let outside = positions.iter().map(|&p| crop && (p < 0.0 || p > last as f64)).collect();
        let unchanged = self.target.size == self.input && self.target.scale == 1.0 && !crop;
        let rows: Vec<Vec<(i64, f64)>> = positions
            .iter()
            .enumerate()
            .map(|(o, &p)| if unchanged { vec![(o as i64, 1.0)] } else { s.weights(p, self.target.scale) })
            .map(|row| settle(row, last, s.exclude_outside && s.filter != Filter::Nearest))
            .collect();
        let taps = rows.iter().map(Vec::len).max().unwrap_or(1);
        let (mut index, mut weight) = (Vec::new(), Vec::new());
        for row in rows {
            let missing = taps - row.len();
            for (i, w) in row.into_iter().chain(std::iter::repeat_n((0, 0.0), missing)) {
                index.push(i as u32);
                weight.push(w as f32);
            }
        }
        Table { map: AxisMap { input: self.input, output: self.target.size, taps, index, weight }, outside }
    }
}

/// Moves taps outside `0..=last` to the edge, or drops them and normalizes the rest.
fn settle(row: Vec<(i64, f64)>, last: i64, exclude: bool) -> Vec<(i64, f64)> {
    if exclude {
        let kept: Vec<(i64, f64)> = row.into_iter().filter(|(i, _)| (0..=last).contains(i)).collect();
        let sum: f64 = kept.iter().map(|(_, w)| w).sum();
        if kept.is_empty() || sum == 0.0 {
            return vec![(0, 0.0)];
        }
        return kept.into_iter().map(|(i, w)| (i, w / sum)).collect();
    }
    row.into_iter().map(|(i, w)| (i.clamp(0, last), w)).collect()
}

impl Settings {
    /// Input positions and weights that make the value at coordinate `p`.
    fn weights(&self, p: f64, scale: f64) -> Vec<(i64, f64)> {
        // When shrinking with antialiasing, the filter is stretched over the input.
        let stretch = if self.antialias && scale < 1.0 { 1.0 / scale } else { 1.0 };
        let kernel = |d: f64| match self.filter {
            Filter::Cubic => cubic(d / stretch, self.cubic),
            _ => (1.0 - (d / stretch).abs()).max(0.0),
        };
        let base = p.floor() as i64;
        match self.filter {
            Filter::Nearest => {
                let rounded = match self.rounding {
                    Rounding::PreferFloor => (p - 0.5).ceil(),
                    Rounding::PreferCeil => (p + 0.5).floor(),
                    Rounding::Floor => p.floor(),
                    Rounding::Ceil => p.ceil(),
                };
                vec![(rounded as i64, 1.0)]
            }
            Filter::Linear if stretch == 1.0 => {
                let t = p - p.floor();
                if t == 0.0 { vec![(base, 1.0)] } else { vec![(base, 1.0 - t), (base + 1, t)] }
            }
            Filter::Cubic if stretch == 1.0 => (base - 1..=base + 2).map(|i| (i, kernel(p - i as f64))).collect(),
            _ => {
                let radius = stretch * if self.filter == Filter::Cubic { 2.0 } else { 1.0 };
                let taps: Vec<(i64, f64)> =
                    ((p - radius).floor() as i64 + 1..=(p + radius).ceil() as i64 - 1).map(|i| (i, kernel(p - i as f64))).collect();
                let sum: f64 = taps.iter().map(|(_, w)| w).sum();
                taps.into_iter().map(|(i, w)| (i, w / sum)).collect()
            }
        }
    }
}

/// Keys' cubic convolution kernel with coefficient `a`.
fn cubic(d: f64, a: f64) -> f64 {
    let d = d.abs();
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        a * (((d - 5.0) * d + 8.0) * d - 4.0)
    } else {
        0.0
    }
}

fn resize_cost(cx: &CostInput<'_>) -> Cost {
    let taps = match cx.node.get_str("mode", "nearest") {
        Ok("linear") => 4,
        Ok("cubic") => 16,
        _ => 1,
    };
    Cost { macs: 0, other: cost::times(cx.outputs.first().and_then(|f| cost::elements(f)).unwrap_or(0), taps) }
}
