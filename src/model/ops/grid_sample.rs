//! GridSample: reads an image at fractional positions.
//!
//! <https://onnx.ai/onnx/operators/onnx__GridSample.html>. Differentiable by the input and, for linear and cubic
//! interpolation, by the grid.

use super::channels;
use super::cost;
use super::def::{OpDef, operators};
use super::elementwise::{Binary, binary};
use super::facts::fact;
use super::gather::pick;
use super::ints::strides;
use super::roles::Float16Rule;
use super::run::Exec;
use crate::graph::{Dim, Fact, Infer};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

operators! {
    pub const GRID_SAMPLE: &str = "GridSample";
}

/// Sampling of images at places that a grid says.
pub const OPS: &[OpDef] = &[OpDef::new(GRID_SAMPLE, &[16, 20, 22], infer, grid_sample)
    .sums()
    .cost(cost::per_output)
    .channels(channels::images)
    .float16(Float16Rule::Float32)];

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let (Some(shape), Some(grid)) = (&x.shape, cx.shape(1)?) else { return Ok(vec![fact(x.element, None)]) };
    if shape.len() < 3 || grid.len() != shape.len() || !grid[grid.len() - 1].compatible(&Dim::Known(shape.len() - 2)) {
        return Err(Error::shape(format!("expected [n, c, spatial…] and a grid [n, spatial…, axes], got {x} and {}", cx.input(1)?)));
    }
    let out = shape[..2].iter().chain(&grid[1..grid.len() - 1]).cloned().collect();
    Ok(vec![fact(x.element, Some(out))])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Border {
    Zeros,
    Edge,
    Reflection,
}

/// The index that stands for `i` of an axis of size `d`, or none where zeros are read.
fn inside(i: i64, d: i64, border: Border, align: bool) -> Option<i64> {
    if (0..d).contains(&i) {
        return Some(i);
    }
    match border {
        Border::Zeros => None,
        Border::Edge => Some(i.clamp(0, d - 1)),
        // About the centres of the outer pixels, or about their outer edges.
        Border::Reflection if align && d == 1 => Some(0),
        Border::Reflection if align => {
            let p = i.rem_euclid(2 * (d - 1));
            Some(p.min(2 * (d - 1) - p))
        }
        Border::Reflection => {
            let p = i.rem_euclid(2 * d);
            Some(p.min(2 * d - 1 - p))
        }
    }
}

/// One axis of all positions: for each tap, its index per position and its weight.
struct Taps {
    index: Vec<Vec<i64>>,
    weight: Vec<Option<Tensor>>,
}

/// Cubic convolution with a = -0.75 at distance `t` from the tap: within 1, or between 1 and 2.
fn cubic(t: &Tensor, near: bool) -> candle_core::Result<Tensor> {
    const A: f64 = -0.75;
    if near {
        t.affine(A + 2.0, -(A + 3.0))?.mul(t)?.mul(t)?.affine(1.0, 1.0)
    } else {
        t.affine(A, -5.0 * A)?.mul(t)?.affine(1.0, 8.0 * A)?.mul(t)?.affine(1.0, -4.0 * A)
    }
}

fn taps(grid: &Tensor, d: usize, mode: &str, align: bool) -> Result<Taps> {
    // From -1…1 to pixels: of the centres of the outer pixels, or of their outer edges.
    let d = d as f64;
    let at = if align { grid.affine((d - 1.0) / 2.0, (d - 1.0) / 2.0)? } else { grid.affine(d / 2.0, (d - 1.0) / 2.0)? };
    let values: Vec<f64> = at.flatten_all()?.to_dtype(candle_core::DType::F64)?.to_vec1()?;
    if mode == "nearest" {
        return Ok(Taps { index: vec![values.iter().map(|v| v.round_ties_even() as i64).collect()], weight: vec![None] });
    }
    let low: Vec<i64> = values.iter().map(|v| v.floor() as i64).collect();
    let part = (&at - at.detach().floor()?)?;
    let shifted = |by: i64| low.iter().map(|i| i.saturating_add(by)).collect::<Vec<_>>();
    if mode == "linear" {
        let rest = part.affine(-1.0, 1.0)?;
        return Ok(Taps { index: vec![shifted(0), shifted(1)], weight: vec![Some(rest), Some(part)] });
    }
    let rest = part.affine(-1.0, 1.0)?;
    let weight = [cubic(&part.affine(1.0, 1.0)?, false)?, cubic(&part, true)?, cubic(&rest, true)?, cubic(&rest.affine(1.0, 1.0)?, false)?];
    Ok(Taps { index: (-1..=2).map(shifted).collect(), weight: weight.into_iter().map(Some).collect() })
}

fn grid_sample(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, grid) = (cx.tensor(0)?, cx.tensor(1)?);
    let rank = x.rank().saturating_sub(2);
    if rank == 0 || grid.rank() != x.rank() || grid.dims()[0] != x.dims()[0] || grid.dims()[rank + 1] != rank {
        return Err(Error::shape(format!(
            "expected [n, c, spatial…] and a grid [n, spatial…, axes], got {:?} and {:?}",
            x.dims(),
            grid.dims()
        )));
    }
    let mode = match cx.node.get_str("mode", "linear")? {
        "linear" | "bilinear" => "linear",
        "cubic" | "bicubic" if rank == 2 => "cubic",
        "nearest" => "nearest",
        other => return Err(Error::unsupported(format!("the mode '{other}' is not supported for {rank} spatial axes"))),
    };
    let border = match cx.node.get_str("padding_mode", "zeros")? {
        "zeros" => Border::Zeros,
        "border" => Border::Edge,
        "reflection" => Border::Reflection,
        other => return Err(Error::format(format!("attribute 'padding_mode' must be zeros, border or reflection, got '{other}'"))),
    };
    let align = cx.node.get_int("align_corners", 0)? != 0;
    let (n, c, space) = (x.dims()[0], x.dims()[1], &x.dims()[2..]);
    let dims: Vec<usize> = x.dims()[..2].iter().chain(&grid.dims()[1..=rank]).copied().collect();
    let points: usize = grid.dims()[1..=rank].iter().product();
    if dims.contains(&0) || space.contains(&0) {
        return Err(Error::shape(format!("cannot sample {:?} at {:?}", x.dims(), grid.dims())));
    }
    // The grid's last axis counts from the innermost spatial axis outwards.
    let flat = grid.to_dtype(x.dtype())?.reshape((n, points, rank))?;
    let axes = (0..rank)
        .map(|a| taps(&flat.narrow(2, rank - 1 - a, 1)?.contiguous()?.reshape((n, 1, points))?, space[a], mode, align))
        .collect::<Result<Vec<_>>>()?;
    let steps = strides(space);
    let area: usize = space.iter().product();
    let choices: usize = axes.iter().map(|t| t.index.len()).product();
    let mut total: Option<Tensor> = None;
    for choice in 0..choices {
        let mut left = choice;
        let picked: Vec<usize> = axes
            .iter()
            .map(|t| {
                let k = left % t.index.len();
                left /= t.index.len();
                k
            })
            .collect();
        let mut positions = Vec::with_capacity(n * c * points);
        let mut seen = vec![1f32; n * points];
        for b in 0..n {
            let at: Vec<usize> = (0..points)
                .map(|p| {
                    let place = axes.iter().zip(&picked).enumerate().try_fold(0usize, |sum, (a, (t, &k))| {
                        let i = inside(t.index[k][b * points + p], space[a] as i64, border, align)?;
                        Some(sum + usize::try_from(i).ok()? * steps[a])
                    });
                    place.unwrap_or_else(|| {
                        seen[b * points + p] = 0.0;
                        0
                    })
                })
                .collect();
            for channel in 0..c {
                positions.extend(at.iter().map(|p| (b * c + channel) * area + p));
            }
        }
        let mut part = pick(x, &positions, &[n, c, points])?;
        let mut weight: Option<Tensor> = None;
        for w in axes.iter().zip(&picked).filter_map(|(t, &k)| t.weight[k].as_ref()) {
            weight = Some(match weight {
                Some(all) => (all * w)?,
                None => w.clone(),
            });
        }
        if let Some(w) = weight {
            part = binary(Binary::Mul, &part, &w)?;
        }
        if seen.contains(&0.0) {
            let mask = Tensor::from_vec(seen, (n, 1, points), x.device())?.to_dtype(x.dtype())?;
            part = binary(Binary::Mul, &part, &mask)?;
        }
        total = Some(match total {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    let total = total.ok_or_else(|| Error::internal("no taps"))?;
    cx.one(total.reshape(dims)?)
}
