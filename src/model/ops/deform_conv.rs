//! DeformConv: a convolution that reads its input at positions moved by learnt offsets.
//!
//! <https://onnx.ai/onnx/operators/onnx__DeformConv.html>. Two spatial axes. Differentiable by all inputs.
//!
//! # Shapes
//! Data `[n, c, h, w]`, weight `[o, c / group, kh, kw]`, offsets `[n, offset_group · kh · kw · 2, oh, ow]` (down, then to the right),
//! bias `[o]`, mask `[n, offset_group · kh · kw, oh, ow]`, result `[n, o, oh, ow]`.

use super::channels::{self, Channels};
use super::cost::{self, CostInput};
use super::def::{OpDef, ParamKind};
use super::elementwise::{Binary, binary};
use super::facts::{at_least_one, fact};
use super::ints::count;
use super::run::Exec;
use super::window::WindowAttrs;
use crate::graph::{Cost, Fact, Infer};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::Window;

/// Deformable convolution (Zhu et al. 2019, "Deformable ConvNets v2").
pub const OPS: &[OpDef] = &[OpDef::new("DeformConv", &[19, 22], infer, deform_conv)
    .cost(macs)
    .params(&[(1, ParamKind::Weight), (3, ParamKind::Bias)])
    .channels(label)];

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let element = cx.input(0)?.element;
    let (Some(x), Some(w), Some(offset)) = (cx.shape(0)?, cx.shape(1)?, cx.shape(2)?) else { return Ok(vec![fact(element, None)]) };
    let ([n, ..], [o, ..], [_, _, h, w]) = (x, w, offset) else {
        return Err(Error::shape(format!(
            "expected data, weight and offsets with four axes, got {}, {} and {}",
            x.len(),
            w.len(),
            offset.len()
        )));
    };
    if x.len() != 4 || cx.shape(1)?.is_some_and(|w| w.len() != 4) {
        return Err(Error::unsupported(format!("a deformable convolution with {} axes: two spatial axes are supported", x.len())));
    }
    Ok(vec![fact(element, Some(vec![n.clone(), o.clone(), h.clone(), w.clone()]))])
}

fn macs(cx: &CostInput<'_>) -> Cost {
    let weight = cx.inputs.get(1).copied().flatten();
    let per_output = weight.and_then(|w| (1..4).try_fold(1u64, |n, i| n.checked_mul(w.dim(i)? as u64))).unwrap_or(0);
    let out = cx.outputs.first().and_then(|f| cost::elements(f)).unwrap_or(0);
    Cost { macs: cost::times(out, per_output), other: out }
}

/// Inputs follow the weight's second axis and outputs its first, where there is one group of each kind.
fn label(cx: &mut Channels<'_>) -> Result<()> {
    if !cx.is_constant(1) || at_least_one(cx.node, "group")? != 1 || at_least_one(cx.node, "offset_group")? != 1 {
        return channels::fixed(cx);
    }
    let (x, w) = (cx.axes(0)?, cx.axes(1)?);
    if [x.len(), w.len()] != [4, 4] {
        return channels::fixed(cx);
    }
    x[2..].iter().chain(&w[2..]).for_each(|l| cx.freeze(l));
    cx.join(&x[1], &w[1])?;
    cx.freeze_input(2);
    if cx.node.input(4).is_some() {
        cx.freeze_input(4);
    }
    let biased = cx.node.input(3).is_some();
    if biased {
        let bias = cx.axis(3, 0);
        cx.join(&bias, &w[0])?;
    }
    cx.layer(1, 0);
    cx.set_zero(0, !biased || cx.is_constant(3));
    cx.set(0, vec![x[0].clone(), w[0].clone(), None, None]);
    Ok(())
}

/// Sizes that the inputs agree on.
struct Plan {
    window: Window,
    groups: usize,
    offset_groups: usize,
}

fn plan(cx: &Exec<'_>) -> Result<Plan> {
    let (x, w, offset) = (cx.tensor(0)?.dims(), cx.tensor(1)?.dims(), cx.tensor(2)?.dims());
    let (&[n, c, height, width], &[o, per_group, kh, kw]) = (x, w) else {
        return Err(Error::unsupported(format!("a deformable convolution of {x:?} with {w:?}: two spatial axes are supported")));
    };
    let window = WindowAttrs::of(cx.node, Some(&[kh, kw]), 2)?.resolve(&[height, width])?;
    let (groups, offset_groups) = (at_least_one(cx.node, "group")?, at_least_one(cx.node, "offset_group")?);
    if per_group.checked_mul(groups) != Some(c) || !o.is_multiple_of(groups) || !c.is_multiple_of(offset_groups) {
        let e =
            format!("{c} input and {o} output channels do not fit the weight {w:?}, {groups} groups and {offset_groups} groups of offsets");
        return Err(Error::shape(e));
    }
    let taps = offset_groups.saturating_mul(kh * kw);
    let expected = [n, taps.saturating_mul(2), window.output[0], window.output[1]];
    if offset != expected {
        return Err(Error::shape(format!("expected offsets of shape {expected:?}, got {offset:?}")));
    }
    if let Some(mask) = cx.get(4).filter(|m| m.dims() != [n, taps, expected[2], expected[3]]) {
        return Err(Error::shape(format!("expected a mask of shape {:?}, got {:?}", [n, taps, expected[2], expected[3]], mask.dims())));
    }
    if let Some(bias) = cx.get(3).filter(|b| b.dims() != [o]) {
        return Err(Error::shape(format!("expected a bias of {o} numbers, got {:?}", bias.dims())));
    }
    count(&[n, o, expected[2], expected[3]])?;
    count(&[c, expected[2], expected[3]])?;
    Ok(Plan { window, groups, offset_groups })
}

/// Values of images `[c, h · w]` at fractional positions, `[c, positions]`, zeros around them. Positions are differentiable.
fn sample(image: &Tensor, [height, width]: [usize; 2], y: &Tensor, x: &Tensor) -> Result<Tensor> {
    let axis = |t: &Tensor| -> Result<(Vec<i64>, [Tensor; 2])> {
        let low: Vec<f64> = t.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().map(|v| v.floor()).collect();
        let floor = Tensor::from_slice(&low, t.shape(), t.device())?.to_dtype(t.dtype())?;
        let part = (t - floor)?;
        Ok((low.iter().map(|&v| v as i64).collect(), [part.affine(-1.0, 1.0)?, part]))
    };
    let ((rows, wy), (columns, wx)) = (axis(y)?, axis(x)?);
    let mut total: Option<Tensor> = None;
    for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let inside = |i: i64, by: usize, n: usize| usize::try_from(i.saturating_add(by as i64)).ok().filter(|&i| i < n);
        let places = rows.iter().zip(&columns).map(|(&r, &c)| Some(inside(r, down, height)? * width + inside(c, right, width)?));
        let places: Vec<Option<usize>> = places.collect();
        if places.iter().all(Option::is_none) {
            continue;
        }
        let ids = places.iter().map(|p| u32::try_from(p.unwrap_or(0))).collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|_| Error::unsupported("images of more than 2^32 pixels are not supported"))?;
        let seen: Vec<f32> = places.iter().map(|p| f32::from(u8::from(p.is_some()))).collect();
        let seen = Tensor::from_vec(seen, y.shape(), y.device())?.to_dtype(y.dtype())?;
        let weight = ((&wy[down] * &wx[right])? * seen)?.unsqueeze(0)?;
        let part = binary(Binary::Mul, &image.index_select(&Tensor::new(ids, image.device())?, 1)?, &weight)?;
        total = Some(match total {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    match total {
        Some(t) => Ok(t),
        None => Ok(Tensor::zeros((image.dims()[0], rows.len()), image.dtype(), image.device())?),
    }
}

fn deform_conv(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let Plan { window, groups, offset_groups } = plan(cx)?;
    let wide = |t: &Tensor| t.to_dtype(super::run::wide(t.dtype()));
    let element = cx.input(0)?;
    if !element.tensor.dtype().is_float() {
        return Err(Error::dtype(format!("expected floating point, got {}", element.element)));
    }
    let (x, w, offset) = (wide(cx.tensor(0)?)?, wide(cx.tensor(1)?)?, wide(cx.tensor(2)?)?);
    let mask = cx.get(4).map(|m| wide(&m.tensor)).transpose()?;
    let ((n, c, height, width), (o, per_group, kh, kw)) = (x.dims4()?, w.dims4()?);
    let (oh, ow) = (window.output[0], window.output[1]);
    let points = oh * ow;
    let each = c / offset_groups;
    let device = x.device();
    let mut images = Vec::with_capacity(n);
    for b in 0..if points == 0 || o == 0 || c == 0 { 0 } else { n } {
        let image = x.get(b)?.reshape((c, height * width))?;
        let offsets = offset.get(b)?.reshape(((), points))?;
        let masks = mask.as_ref().map(|m| m.get(b)?.reshape(((), points))).transpose()?;
        let mut sum: Option<Tensor> = None;
        for tap in 0..kh * kw {
            let place = |i: usize, axis: usize, t: usize| {
                (i * window.stride[axis] + t * window.dilation[axis]) as f64 - window.pad_begin[axis] as f64
            };
            let grid = |f: &dyn Fn(usize) -> f64| -> Result<Tensor> {
                Ok(Tensor::from_vec((0..points).map(f).collect::<Vec<_>>(), points, device)?.to_dtype(x.dtype())?)
            };
            let (rows, columns) = (grid(&|p| place(p / ow, 0, tap / kw))?, grid(&|p| place(p % ow, 1, tap % kw))?);
            let parts = (0..offset_groups)
                .map(|g| {
                    let k = g * kh * kw + tap;
                    let (y, x) = ((&rows + offsets.get(2 * k)?)?, (&columns + offsets.get(2 * k + 1)?)?);
                    let part = sample(&image.narrow(0, g * each, each)?.contiguous()?, [height, width], &y, &x)?;
                    match &masks {
                        Some(m) => binary(Binary::Mul, &part, &m.get(k)?.unsqueeze(0)?),
                        None => Ok(part),
                    }
                })
                .collect::<Result<Vec<_>>>()?;
            let read = Tensor::cat(&parts, 0)?;
            let weight = w.narrow(2, tap / kw, 1)?.narrow(3, tap % kw, 1)?.contiguous()?.reshape((o, per_group))?;
            let products = (0..groups)
                .map(|g| weight.narrow(0, g * (o / groups), o / groups)?.matmul(&read.narrow(0, g * per_group, per_group)?))
                .collect::<candle_core::Result<Vec<_>>>()?;
            let product = Tensor::cat(&products, 0)?;
            sum = Some(match sum {
                Some(s) => (s + product)?,
                None => product,
            });
        }
        images.push(sum.ok_or_else(|| Error::internal("a window without taps"))?);
    }
    let out = if images.is_empty() {
        Tensor::zeros((n, o, oh, ow), x.dtype(), device)?
    } else {
        Tensor::stack(&images, 0)?.reshape((n, o, oh, ow))?
    };
    let out = match cx.get(3) {
        Some(b) => binary(Binary::Add, &out, &wide(&b.tensor)?.reshape((1, o, 1, 1))?)?,
        None => out,
    };
    cx.one(out.to_dtype(element.tensor.dtype())?)
}
