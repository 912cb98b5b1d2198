//! Quantization: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, QLinearMatMul, QLinearConv.
//!
//! <https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html>: `y = saturate(round(x / scale) + zero_point)`, rounding halves
//! to even, with one scale per tensor, per index of an axis, or per block of an axis.
//!
//! In training, gradients pass QuantizeLinear straight through where the rounded value lies inside the integers' range, and
//! stop where it was clipped. A scale that is trained gets the gradient of LSQ (Esser et al. 2020, "Learned Step Size
//! Quantization"): of `x / scale` from QuantizeLinear, with rounding taken for the identity, and of `(q - zero) * scale` from
//! DequantizeLinear, which add up to `round(x / scale) - x / scale` inside and to the limit outside.

use super::backward::{Back, Flow};
use super::conv::{CONV_INTEGER, INTEGER, conv_axes};
use super::cost::{self, CostInput};
use super::def::{OWN_DOMAIN, OpDef, operators};
use super::facts::{fact, infer_same};
use super::ints::{Ints, broadcast_offsets, count, offsets, strides};
use super::matmul::{centered, int_matmul, matmul_axes, product_shape};
use super::roles::Data;
use super::run::Exec;
use super::weight::WeightRule;
use crate::element::Element;
use crate::graph::{Cost, Fact, Infer, Node, normalize_axis};
use crate::value::Value;
use candle_core::{Device, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::fake_quant::Steps;
use compresso_kernels::ops::{self as kernels, round_to, round_to_backward};

operators! {
    pub const QUANTIZE_LINEAR: &str = "QuantizeLinear";
    pub const DEQUANTIZE_LINEAR: &str = "DequantizeLinear";
    pub const DYNAMIC_QUANTIZE_LINEAR: &str = "DynamicQuantizeLinear";
}

/// QuantizeLinear and the DequantizeLinear behind it as one, with the inputs and attributes of the former, in the domain of this library. Its
/// integers have at most 16 bits.
pub const FAKE_QUANTIZE: &str = "FakeQuantize";

/// Quantization of values and back, and ONNX's quantized layers.
pub const OPS: &[OpDef] = &[
    OpDef::new(QUANTIZE_LINEAR, &[10, 13, 19, 21, 23, 24, 25], infer_quantize, quantize)
        .cost(cost::per_output)
        .backward_anywhere(|_| Some(quantize_backward))
        .quantized(None),
    // What training makes of both; no file has it.
    OpDef::new(FAKE_QUANTIZE, &[1], infer_same, fake_quantize)
        .domain(OWN_DOMAIN)
        .not_foldable()
        .cost(cost::per_output)
        .backward(|_| Some(fake_quantize_backward))
        .quantized(None),
    OpDef::new(DEQUANTIZE_LINEAR, &[10, 13, 19, 21, 23, 24, 25], infer_dequantize, dequantize)
        .cost(cost::per_output)
        .backward_anywhere(|_| Some(dequantize_backward))
        .quantized(None),
    OpDef::new(DYNAMIC_QUANTIZE_LINEAR, &[11], infer_dynamic, dynamic).cost(cost::per_input).quantized(None),
    OpDef::new("QLinearMatMul", &[10, 21], infer_qlinear_matmul, qlinear_matmul)
        .cost(qlinear_matmul_cost)
        .data(Data::At(&[0, 3]))
        .quantized(Some(WeightRule::new(3, matmul_axes))),
    OpDef::new("QLinearConv", &[10], infer_qlinear_conv, qlinear_conv)
        .cost(qlinear_conv_cost)
        .quantized(Some(WeightRule::new(3, conv_axes))),
];

/// The integer type of QuantizeLinear's result.
fn target(node: &Node, zero: Option<Element>) -> Result<Element> {
    if let Some(e) = zero {
        return Ok(e);
    }
    match node.get_int("output_dtype", 0)? {
        0 => Ok(Element::U8),
        code => {
            let e = i32::try_from(code).ok().and_then(Element::from_code);
            e.ok_or_else(|| Error::unsupported(format!("quantization to ONNX type {code} is not supported")))
        }
    }
}

fn infer_quantize(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![fact(target(cx.node, cx.get(2).map(|z| z.element))?, cx.input(0)?.shape.clone())])
}

/// Which scale each element of a tensor has.
#[derive(Debug)]
enum Scales {
    /// One for all.
    One,
    /// One per index of an axis: the product of the sizes behind the axis, and the axis's size.
    Axis { inner: usize, size: usize },
    /// By element.
    Blocks(Vec<usize>),
}

impl Scales {
    /// # Errors
    /// `Shape` when the scale is neither one element, nor one per index of the axis, nor one per block.
    fn of(node: &Node, dims: &[usize], scale: &[usize]) -> Result<Self> {
        let (axis, block) = (node.get_int("axis", 1)?, node.get_int("block_size", 0)?);
        if scale.iter().product::<usize>() == 1 && scale.len() <= 1 {
            return Ok(Self::One);
        }
        let axis = normalize_axis(axis, dims.len())?;
        let wrong = || Error::shape(format!("the scale {scale:?} does not fit data {dims:?} on axis {axis} with blocks of {block}"));
        if block == 0 {
            if scale.len() != 1 || dims.get(axis) != scale.first() {
                return Err(wrong());
            }
            return Ok(Self::Axis { inner: dims[axis + 1..].iter().product(), size: dims[axis] });
        }
        let block = usize::try_from(block).map_err(|_| wrong())?;
        let fits = scale.len() == dims.len()
            && (0..dims.len()).all(|i| if i == axis { dims[i].div_ceil(block) == scale[i] } else { dims[i] == scale[i] });
        if !fits {
            return Err(wrong());
        }
        count(dims)?;
        let (own, outer) = (strides(scale), strides(dims));
        let steps: Vec<usize> = (0..dims.len()).map(|i| if i == axis { 0 } else { own[i] }).collect();
        let base = offsets(dims, &steps).into_iter().enumerate();
        Ok(Self::Blocks(base.map(|(p, b)| b + p / outer[axis] % dims[axis] / block * own[axis]).collect()))
    }
    /// Calls `f` on each run of elements with one scale: the scale's position, the elements, the results.
    fn runs<A, B>(&self, x: &[A], y: &mut [B], f: impl Fn(usize, &[A], &mut [B])) {
        match self {
            Self::One => f(0, x, y),
            Self::Axis { inner, size } => {
                let run = (*inner).max(1);
                x.chunks(run).zip(y.chunks_mut(run)).enumerate().for_each(|(i, (x, y))| f(i % size, x, y));
            }
            Self::Blocks(at) => x.chunks(1).zip(y.chunks_mut(1)).zip(at).for_each(|((x, y), &s)| f(s, x, y)),
        }
    }
}

fn zero_points(zero: Option<&Value>, scales: usize) -> Result<Vec<i64>> {
    let Some(zero) = zero else { return Ok(vec![0; scales]) };
    let z = zero.to_i64s()?;
    if z.len() == scales { Ok(z) } else { Err(Error::shape(format!("expected {scales} zero points as there are scales, got {}", z.len()))) }
}

fn range_of(element: Element) -> Result<(i64, i64)> {
    element.int_range().ok_or_else(|| Error::unsupported(format!("quantization to {element} is not supported")))
}

fn quantize(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let element = target(cx.node, cx.get(2).map(|z| z.element))?;
    let (low, high) = range_of(element)?;
    let which = Scales::of(cx.node, x.dims(), scale.dims())?;
    let scales = scale.to_f32s()?;
    let zeros = zero_points(cx.get(2), scales.len())?;
    // Numbers of at most 16 bits, exact in float32.
    let (low, high) = (low as f32, high as f32);
    let x_data = x.to_f32s()?;
    let mut data = vec![0f32; x_data.len()];
    which.runs(&x_data, &mut data, |s, x, y| {
        let (scale, zero) = (scales[s], zeros[s] as f32);
        // What is no number becomes the lowest, as in the planned executor.
        y.iter_mut().zip(x).for_each(|(y, v)| *y = ((v / scale).round_ties_even() + zero).max(low).min(high));
    });
    let storage = element.storage().ok_or_else(|| Error::unsupported(format!("quantization to {element} is not supported")))?;
    let t = Tensor::from_vec(data, x.dims(), &Device::Cpu)?.to_dtype(storage)?;
    Ok(vec![Value::new(element, t.to_device(x.tensor.device())?)?])
}

/// Of `clamp(x / scale + zero)`: straight through where nothing is clipped.
fn quantize_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let cx = back.cx;
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let (low, high) = range_of(target(cx.node, cx.get(2).map(|z| z.element))?)?;
    let (low, high) = (low as f32, high as f32);
    let which = Scales::of(cx.node, x.dims(), scale.dims())?;
    let scales = scale.to_f32s()?;
    let zeros = zero_points(cx.get(2), scales.len())?;
    let gradient = back.gradient()?.flatten_all()?.to_vec1::<f32>()?;
    let pairs: Vec<(f32, f32)> = x.to_f32s()?.into_iter().zip(gradient).collect();
    let mut by_x = vec![0f32; pairs.len()];
    which.runs(&pairs, &mut by_x, |s, pairs, by_x| {
        let (scale, zero) = (scales[s], zeros[s] as f32);
        for (by, (x, g)) in by_x.iter_mut().zip(pairs) {
            let q = (x / scale).round_ties_even() + zero;
            *by = if (low..=high).contains(&q) { g / scale } else { 0.0 };
        }
    });
    let mut flows = Vec::new();
    if back.needs[1] {
        // d(x / scale) = -x / scale²
        let terms: Vec<(f32, f32)> = pairs.iter().zip(&by_x).map(|((x, _), by)| (*x, *by)).collect();
        flows.push((1, scale_gradient(&which, &terms, scale, |s, x, by| -f64::from(by) * f64::from(x) / f64::from(scales[s]))?));
    }
    flows.push((0, Flow::Own(Tensor::from_vec(by_x, x.dims(), x.tensor.device())?)));
    Ok(flows)
}

/// Of `(x - zero) * scale`.
fn dequantize_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let cx = back.cx;
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let which = Scales::of(cx.node, x.dims(), scale.dims())?;
    let scales = scale.to_f32s()?;
    let zeros = zero_points(cx.get(2), scales.len())?;
    let gradient = back.gradient()?.flatten_all()?.to_vec1::<f32>()?;
    let mut flows = Vec::new();
    if back.needs[0] {
        let mut by_x = vec![0f32; gradient.len()];
        which.runs(&gradient, &mut by_x, |s, g, by| by.iter_mut().zip(g).for_each(|(by, g)| *by = g * scales[s]));
        flows.push((0, Flow::Own(Tensor::from_vec(by_x, x.dims(), x.tensor.device())?)));
    }
    if back.needs[1] {
        let terms: Vec<(f32, f32)> = x.to_f32s()?.into_iter().zip(gradient).collect();
        flows.push((1, scale_gradient(&which, &terms, scale, |s, x, g| (f64::from(x) - zeros[s] as f64) * f64::from(g))?));
    }
    Ok(flows)
}

/// The sum of `f` over the elements of each scale.
fn scale_gradient(which: &Scales, terms: &[(f32, f32)], scale: &Value, f: impl Fn(usize, f32, f32) -> f64) -> Result<Flow> {
    let mut each = vec![(0usize, 0f64); terms.len()];
    which.runs(terms, &mut each, |s, terms, each| each.iter_mut().zip(terms).for_each(|(e, &(a, b))| *e = (s, f(s, a, b))));
    let mut sums = vec![0f64; scale.tensor.elem_count()];
    each.into_iter().for_each(|(s, v)| sums[s] += v);
    let sums: Vec<f32> = sums.into_iter().map(|v| v as f32).collect();
    Ok(Flow::Own(Tensor::from_vec(sums, scale.dims(), scale.tensor.device())?))
}

fn real(node: &Node, scale: Element) -> Result<Element> {
    match node.get_int("output_dtype", 0)? {
        0 => Ok(scale),
        code => {
            let e = i32::try_from(code).ok().and_then(Element::from_code).filter(|e| e.is_float());
            e.ok_or_else(|| Error::unsupported(format!("dequantization to ONNX type {code} is not supported")))
        }
    }
}

/// The numbers that a FakeQuantize rounds to: scales, zero points, elements behind each other that have one scale, limits.
fn grid(cx: &Exec<'_>) -> Result<(Vec<f32>, Vec<f32>, usize, [f32; 2])> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let (low, high) = range_of(target(cx.node, cx.get(2).map(|z| z.element))?)?;
    let inner = match Scales::of(cx.node, x.dims(), scale.dims())? {
        Scales::One => 1,
        Scales::Axis { inner, .. } => inner.max(1),
        Scales::Blocks(_) => return Err(Error::unsupported("one node that rounds by blocks")),
    };
    let scales = scale.to_f32s()?;
    let zeros = zero_points(cx.get(2), scales.len())?.into_iter().map(|z| z as f32).collect();
    Ok((scales, zeros, inner, [low as f32, high as f32]))
}

/// On the CPU without a gradient, for which there is a rule; elsewhere with one.
fn fake_quantize(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (scales, zeros, inner, [low, high]) = grid(cx)?;
    let (x, scale) = (cx.tensor(0)?, cx.tensor(1)?);
    if x.device().is_cpu() {
        return cx.one(round_to(x, &Steps { scales: &scales, zeros: &zeros, inner, low, high })?);
    }
    let mut spread = vec![1; if scales.len() == 1 { 0 } else { x.rank() }];
    if scales.len() > 1 {
        spread[normalize_axis(cx.node.get_int("axis", 1)?, x.rank())?] = scales.len();
    }
    let zero = Tensor::from_vec(zeros, spread.as_slice(), x.device())?;
    let rounded = kernels::fake_quantize(x, &scale.reshape(spread)?, Some(&zero), [low, high])?;
    cx.one(rounded.ok_or_else(|| Error::unsupported("training of quantized models needs the kernels of the feature cuda there"))?)
}

fn fake_quantize_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let cx = back.cx;
    let (scales, zeros, inner, [low, high]) = grid(cx)?;
    let steps = Steps { scales: &scales, zeros: &zeros, inner, low, high };
    let (by_x, by_scale) = round_to_backward(cx.tensor(0)?, back.gradient()?, &steps, back.needs[1])?;
    let mut flows = vec![(0, Flow::Own(by_x))];
    if let Some(g) = by_scale {
        flows.push((1, Flow::Own(Tensor::from_vec(g, cx.tensor(1)?.dims(), &Device::Cpu)?)));
    }
    Ok(flows)
}

fn infer_dequantize(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![fact(real(cx.node, cx.input(1)?.element)?, cx.input(0)?.shape.clone())])
}

fn dequantize(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let element = real(cx.node, scale.element)?;
    let which = Scales::of(cx.node, x.dims(), scale.dims())?;
    let scales = scale.to_f32s()?;
    let zeros = zero_points(cx.get(2), scales.len())?;
    let mut data = vec![0f32; x.tensor.elem_count()];
    if x.element.bits() <= 16 {
        // Exact in float32.
        which.runs(&x.to_f32s()?, &mut data, |s, x, y| {
            let (scale, zero) = (scales[s], zeros[s] as f32);
            y.iter_mut().zip(x).for_each(|(y, v)| *y = (v - zero) * scale);
        });
    } else {
        which.runs(&x.to_i64s()?, &mut data, |s, x, y| {
            y.iter_mut().zip(x).for_each(|(y, v)| *y = (v - zeros[s]) as f32 * scales[s]);
        });
    }
    let storage = element.storage().ok_or_else(|| Error::unsupported(format!("{element} values cannot be computed with")))?;
    Ok(vec![Value::new(element, Tensor::from_vec(data, x.dims(), x.tensor.device())?.to_dtype(storage)?)?])
}

fn infer_dynamic(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    Ok(vec![fact(Element::U8, cx.input(0)?.shape.clone()), Fact::known(Element::F32, &[]), Fact::known(Element::U8, &[])])
}

fn dynamic(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, device) = (cx.input(0)?, cx.device());
    let v = x.to_f32s()?;
    let (low, high) = v.iter().fold((0.0f32, 0.0f32), |(a, b), &x| (a.min(x), b.max(x)));
    let scale = (high - low) / 255.0;
    // A tensor of zeros keeps its values under any scale.
    let divisor = if scale == 0.0 { 1.0 } else { scale };
    let zero = (-low / divisor).clamp(0.0, 255.0).round_ties_even();
    let data = v.iter().map(|x| ((x / divisor).round_ties_even() + zero).clamp(0.0, 255.0) as u8).collect::<Vec<_>>();
    Ok(vec![
        Value::new(Element::U8, Tensor::from_vec(data, x.dims(), &device)?)?,
        Value::new(Element::F32, Tensor::new(scale, &device)?)?,
        Value::new(Element::U8, Tensor::new(zero as u8, &device)?)?,
    ])
}

fn infer_qlinear_matmul(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let shape = match (cx.shape(0)?, cx.shape(3)?) {
        (Some(a), Some(b)) => Some(product_shape(a, b)?),
        _ => None,
    };
    Ok(vec![fact(cx.input(7)?.element, shape)])
}

fn qlinear_matmul_cost(cx: &CostInput<'_>) -> Cost {
    let inner = cx.inputs.first().copied().flatten().and_then(|f| f.dim(-1)).unwrap_or(0) as u64;
    Cost { macs: cost::times(cx.outputs.first().and_then(|f| cost::elements(f)).unwrap_or(0), inner), other: 0 }
}

/// A scale with one entry per tensor, row (`axis` 2 from the end) or column (1), spread over a product of shape `dims`.
fn spread(scale: &Value, dims: &[usize], axis: usize) -> Result<Vec<f64>> {
    let v = scale.to_f64s()?;
    count(dims)?;
    if v.len() == 1 {
        return Ok(vec![v[0]; dims.iter().product()]);
    }
    let mut shape = vec![1; dims.len()];
    let at = dims.len().checked_sub(axis).filter(|&a| dims[a] == v.len());
    let at = at.ok_or_else(|| Error::shape(format!("the scale {:?} does not fit a product {dims:?}", scale.dims())))?;
    shape[at] = v.len();
    Ok(broadcast_offsets(&shape, dims).into_iter().map(|i| v[i]).collect())
}

/// `saturate(round(sums · scale_a · scale_b / scale_y) + zero)`.
fn requantize(sums: Ints, a: &[f64], b: &[f64], y_scale: f64, zero: i64, element: Element, device: &Device) -> Result<Value> {
    let (low, high) = range_of(element)?;
    let data = sums.data.iter().enumerate();
    let data =
        data.map(|(i, &s)| ((s as f64 * a[i] * b[i] / y_scale).round_ties_even() as i64).saturating_add(zero).clamp(low, high)).collect();
    Ints { dims: sums.dims, data }.into_value(element, device)
}

fn scalar(v: &Value) -> Result<f64> {
    match v.to_f64s()?.as_slice() {
        [s] => Ok(*s),
        _ => Err(Error::unsupported(format!("output scales and zero points must have one element, got {:?}", v.dims()))),
    }
}

fn qlinear_matmul(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (a, b) = (centered(cx.input(0)?, cx.get(2), 2)?, centered(cx.input(3)?, cx.get(5), 1)?);
    let sums = int_matmul(&a, &b)?;
    let (sa, sb) = (spread(cx.input(1)?, &sums.dims, 2)?, spread(cx.input(4)?, &sums.dims, 1)?);
    let zero = cx.input(7)?;
    Ok(vec![requantize(sums, &sa, &sb, scalar(cx.input(6)?)?, scalar(zero)? as i64, zero.element, &cx.device())?])
}

/// The integer convolution inside a QLinearConv: the same attributes, on input, weight and their zero points.
fn integer_conv(node: &Node) -> Node {
    let pick = |i: usize| node.input(i).unwrap_or_default().to_string();
    let mut inner = Node::new(CONV_INTEGER, node.name.clone(), [pick(0), pick(3), pick(2), pick(5)], node.outputs.clone());
    inner.attrs.clone_from(&node.attrs);
    inner
}

fn infer_qlinear_conv(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let node = integer_conv(cx.node);
    let mut facts = (INTEGER.infer)(&Infer::new(&node, cx.opset, cx.outer))?;
    facts[0].element = cx.input(7)?.element;
    Ok(facts)
}

fn qlinear_conv_cost(cx: &CostInput<'_>) -> Cost {
    let node = integer_conv(cx.node);
    let at = |i: usize| cx.inputs.get(i).copied().flatten();
    let inputs = [at(0), at(3)];
    (INTEGER.cost)(&CostInput { node: &node, inputs: &inputs, outputs: cx.outputs })
}

fn qlinear_conv(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let node = integer_conv(cx.node);
    let inputs = [0, 3, 2, 5].map(|i| cx.get(i).cloned());
    let made = (INTEGER.forward)(&Exec::new(&node, cx.opset, &inputs, cx.mode))?;
    let mut sums = Ints::of(made.first().ok_or_else(|| Error::internal("a convolution made nothing"))?)?;
    // One entry per output channel: axis 1 of the result.
    let channel = |p: usize, dims: &[usize]| p / dims[2..].iter().product::<usize>() % dims[1];
    if let Some(bias) = cx.get(8) {
        let bias = bias.to_i64s()?;
        if bias.len() != sums.dims[1] {
            return Err(Error::shape(format!("expected {} biases, got {}", sums.dims[1], bias.len())));
        }
        let dims = sums.dims.clone();
        sums.data.iter_mut().enumerate().for_each(|(p, v)| *v += bias[channel(p, &dims)]);
    }
    let x_scale = vec![scalar(cx.input(1)?)?; sums.data.len()];
    let w_scale = spread(cx.input(4)?, &sums.dims, sums.dims.len() - 1)?;
    let zero = cx.input(7)?;
    Ok(vec![requantize(sums, &x_scale, &w_scale, scalar(cx.input(6)?)?, scalar(zero)? as i64, zero.element, &cx.device())?])
}
