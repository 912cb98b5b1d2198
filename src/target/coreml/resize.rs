//! Resize and Upsample.
//!
//! Where an operation of the format samples the same points, it is that one; otherwise elements are gathered and weighed, which any
//! way of resizing along one axis after the other can be written as.

use super::lower::{Entry, Form, Lower, lacks, open};
use super::program::{Ref, Type};
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;

pub(super) const OPS: &[Entry] = &[("Resize", Form::With(resize)), ("Upsample", Form::With(resize))];

/// How the node reads an axis.
struct Axis<'n> {
    axis: usize,
    from: usize,
    to: usize,
    scale: f64,
    coordinates: &'n str,
}

impl Axis<'_> {
    /// The place of element `i` of the output in the input.
    fn place(&self, i: usize) -> Result<f64> {
        let (x, from, to) = (i as f64, self.from as f64, self.to as f64);
        Ok(match self.coordinates {
            "half_pixel" => (x + 0.5) / self.scale - 0.5,
            "half_pixel_symmetric" => {
                let adjusted = to / (self.scale * from);
                from / 2.0 * (1.0 - adjusted) + (x + 0.5) / self.scale - 0.5
            }
            "pytorch_half_pixel" if self.to > 1 => (x + 0.5) / self.scale - 0.5,
            "align_corners" if self.to > 1 => x * (from - 1.0) / (to - 1.0),
            "pytorch_half_pixel" | "align_corners" => 0.0,
            "asymmetric" => x / self.scale,
            "tf_half_pixel_for_nn" => (x + 0.5) / self.scale,
            other => return Err(lacks(format!("resize with the coordinates \"{other}\""))),
        })
    }
    fn places(&self) -> Result<Vec<f64>> {
        (0..self.to).map(|i| self.place(i)).collect()
    }
    /// Whether the format's bilinear operation samples the same points in this mode.
    fn samples(&self, mode: &str, places: &[f64]) -> bool {
        let (from, to) = (self.from as f64, self.to as f64);
        if self.to == 1 && mode != "UNALIGN_CORNERS" {
            return false;
        }
        let point = |i: f64| match mode {
            "STRICT_ALIGN_CORNERS" => i * (from - 1.0) / (to - 1.0),
            "DEFAULT" => i * (from - from / to) / (to - 1.0),
            _ => (i + 0.5) * from / to - 0.5,
        };
        let within = |p: f64| p.clamp(0.0, from - 1.0);
        places.iter().enumerate().all(|(i, p)| (within(*p) - within(point(i as f64))).abs() < 1e-5)
    }
}

fn resize(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let made = cx.out_dims(0)?;
    let node = cx.node;
    let old = node.op == "Upsample" || cx.opset < 11;
    let mode = node.get_str("mode", "nearest")?;
    let coordinates = node.get_str("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })?;
    let rounding = node.get_str("nearest_mode", if old { "floor" } else { "round_prefer_floor" })?;
    let axes = changed(cx, &made, coordinates)?;
    let smaller = axes.iter().any(|a| a.scale < 1.0);
    if node.get_int("antialias", 0)? != 0 && smaller && mode != "nearest" {
        return Err(lacks("resize with antialias"));
    }
    if node.get_int("exclude_outside", 0)? != 0 && mode == "cubic" {
        return Err(lacks("cubic resize that leaves out what lies outside"));
    }
    if !cx.kind(x).is_float() && mode != "nearest" {
        return Err(lacks("interpolation of integers"));
    }
    if axes.is_empty() {
        return cx.one(x);
    }
    let y = match mode {
        "nearest" => nearest(cx, x, &axes, rounding)?,
        "linear" | "bilinear" => linear(cx, x, &axes)?,
        "cubic" => {
            let coefficient = f64::from(node.get_float("cubic_coeff_a", -0.75)?);
            weighed(cx, x, &axes, |place| cubic(place, coefficient))?
        }
        other => return Err(Error::format(format!("attribute 'mode' has the unknown value '{other}'"))),
    };
    cx.one(y)
}

/// The axes whose elements are others afterwards.
fn changed<'n>(cx: &Lower<'n>, made: &[usize], coordinates: &'n str) -> Result<Vec<Axis<'n>>> {
    let own = cx.dims(0)?;
    let named: Vec<usize> = match cx.node.find_ints("axes")? {
        Some(axes) => axes.iter().map(|&a| normalize_axis(a, own.len())).collect::<Result<_>>()?,
        None => (0..own.len()).collect(),
    };
    let slot = if cx.node.op == "Upsample" || cx.opset < 11 { 1 } else { 2 };
    let said = match cx.node.find_floats("scales")? {
        Some(scales) => Some(scales.to_vec()),
        None if cx.fact(slot).is_some_and(|f| f.dim(0) == Some(0)) || cx.node.input(slot).is_none() => None,
        None => Some(cx.numbers(slot).map_err(|_| open("the scales of a resize"))?),
    };
    let mut axes = Vec::new();
    for (i, axis) in named.into_iter().enumerate() {
        let (from, to) = (own[axis], made[axis]);
        let scale = match said.as_ref().and_then(|s| s.get(i)) {
            Some(&scale) => f64::from(scale),
            None => to as f64 / from as f64,
        };
        if from != to || scale != 1.0 {
            axes.push(Axis { axis, from, to, scale, coordinates });
        }
    }
    Ok(axes)
}

/// Whether images are resized, in height and width.
fn of_images(cx: &Lower<'_>, x: Ref, axes: &[Axis<'_>]) -> bool {
    let rank = cx.sizes(x).len();
    (3..=4).contains(&rank) && cx.kind(x).is_float() && axes.iter().all(|a| a.axis + 2 >= rank)
}

fn made(cx: &Lower<'_>, x: Ref, axes: &[Axis<'_>]) -> Type {
    let mut made = cx.net.made(x).clone();
    axes.iter().for_each(|a| made.dims[a.axis] = a.to);
    made
}

fn nearest(cx: &mut Lower<'_>, x: Ref, axes: &[Axis<'_>], rounding: &str) -> Result<Ref> {
    let mut sources = Vec::new();
    for a in axes {
        let round = |p: f64| match rounding {
            "floor" => p.floor(),
            "ceil" => p.ceil(),
            "round_prefer_ceil" => (p + 0.5).floor(),
            _ => (p - 0.5).ceil(),
        };
        sources.push(a.places()?.into_iter().map(|p| round(p).clamp(0.0, (a.from - 1) as f64) as usize).collect::<Vec<_>>());
    }
    let repeats = |a: &Axis<'_>, s: &[usize]| a.to.is_multiple_of(a.from) && s.iter().enumerate().all(|(i, &s)| s == i / (a.to / a.from));
    if of_images(cx, x, axes) && axes.iter().zip(&sources).all(|(a, s)| repeats(a, s)) {
        let rank = cx.sizes(x).len();
        let factor = |axis: usize| axes.iter().find(|a| a.axis == axis).map_or(1, |a| (a.to / a.from) as i64);
        let made = made(cx, x, axes);
        let (height, width) = (cx.int(factor(rank - 2)), cx.int(factor(rank - 1)));
        return Ok(cx.op("upsample_nearest_neighbor", &[("x", x), ("scale_factor_height", height), ("scale_factor_width", width)], made));
    }
    let mut y = x;
    for (a, source) in axes.iter().zip(&sources) {
        let at = cx.list_of(source);
        y = cx.gather(y, at, a.axis);
    }
    Ok(y)
}

fn linear(cx: &mut Lower<'_>, x: Ref, axes: &[Axis<'_>]) -> Result<Ref> {
    let places: Vec<Vec<f64>> = axes.iter().map(Axis::places).collect::<Result<_>>()?;
    let fits = |mode: &&str| axes.iter().zip(&places).all(|(a, p)| a.samples(mode, p));
    // Along an axis that keeps its size, each of these samples the elements themselves.
    let mode = ["UNALIGN_CORNERS", "STRICT_ALIGN_CORNERS", "DEFAULT"].into_iter().find(fits);
    if let Some(mode) = mode.filter(|_| of_images(cx, x, axes)) {
        let made = made(cx, x, axes);
        let rank = made.dims.len();
        let (height, width) = (cx.int(made.dims[rank - 2] as i64), cx.int(made.dims[rank - 1] as i64));
        let mode = cx.text(mode);
        let inputs = [("x", x), ("target_size_height", height), ("target_size_width", width), ("sampling_mode", mode)];
        return Ok(cx.op("resize_bilinear", &inputs, made));
    }
    weighed(cx, x, axes, |place| {
        let first = place.floor();
        vec![(first, 1.0 - (place - first)), (first + 1.0, place - first)]
    })
}

/// The four elements around a place, with Keys' weights.
fn cubic(place: f64, a: f64) -> Vec<(f64, f64)> {
    let first = place.floor();
    let weight = |distance: f64| {
        let d = distance.abs();
        if d <= 1.0 { ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0 } else { ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a }
    };
    (-1..=2).map(|k| (first + f64::from(k), weight(place - first - f64::from(k)))).collect()
}

/// Sums of elements with weights, one axis after the other; elements beyond the ends are the last ones.
fn weighed(cx: &mut Lower<'_>, x: Ref, axes: &[Axis<'_>], taps: impl Fn(f64) -> Vec<(f64, f64)>) -> Result<Ref> {
    let mut y = x;
    for a in axes {
        let all: Vec<Vec<(f64, f64)>> = a.places()?.into_iter().map(&taps).collect();
        let rank = cx.sizes(y).len();
        let shape: Vec<usize> = (0..rank).map(|d| if d == a.axis { a.to } else { 1 }).collect();
        let mut sum = None;
        for tap in 0..all[0].len() {
            let at: Vec<usize> = all.iter().map(|taps| taps[tap].0.clamp(0.0, (a.from - 1) as f64) as usize).collect();
            let weights: Vec<f32> = all.iter().map(|taps| taps[tap].1 as f32).collect();
            if weights.iter().all(|&w| w == 0.0) {
                continue;
            }
            let at = cx.list_of(&at);
            let mut part = cx.gather(y, at, a.axis);
            if weights.iter().any(|&w| w != 1.0) {
                let weights = cx.floats(cx.kind(x), &shape, &weights);
                part = cx.binary("mul", part, weights)?;
            }
            sum = Some(match sum {
                None => part,
                Some(sum) => cx.binary("add", sum, part)?,
            });
        }
        y = sum.ok_or_else(|| Error::internal("a resize without elements"))?;
    }
    Ok(y)
}
