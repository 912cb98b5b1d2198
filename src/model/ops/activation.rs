//! Elementwise activations and Dropout.
//!
//! Each operator's page is `https://onnx.ai/onnx/operators/onnx__<Name>.html`.

use super::backward::{Back, BackwardRule, Flow};
use super::channels::{self, Channels};
use super::cost::{self, CostInput};
use super::def::{OpDef, ParamKind, QuantRule, operators};
use super::facts::infer_same;
use super::roles::{Float16Rule, Span};
use super::run::Exec;
use crate::constant::Constant;
use crate::element::Element;
use crate::graph::{Cost, Fact, Infer, Node, broadcast};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::activation::Activation;
use compresso_kernels::ops;
use rand::{RngExt, SeedableRng};

operators! {
    pub const SIGMOID: &str = "Sigmoid";
    pub const SWISH: &str = "Swish";
    pub const CLIP: &str = "Clip";
    pub const DROPOUT: &str = "Dropout";
    pub const HARD_SIGMOID: &str = "HardSigmoid";
    pub const HARD_SWISH: &str = "HardSwish";
    pub const GELU: &str = "Gelu";
    pub const MISH: &str = "Mish";
    pub const SOFTPLUS: &str = "Softplus";
    pub const TANH: &str = "Tanh";
    pub const ERF: &str = "Erf";
}

/// Activations, element by element, and Dropout.
pub const OPS: &[OpDef] = &[
    unary("Relu", &[1, 6, 13, 14]).quant(QuantRule::Elementwise).homogeneous().channels(channels::through),
    unary("LeakyRelu", &[1, 6, 16]).quant(QuantRule::Elementwise).homogeneous().channels(channels::through),
    unary("ThresholdedRelu", &[10, 22]).channels(channels::through),
    unary("Elu", &[1, 6, 22]).channels(channels::through),
    unary("Selu", &[1, 6, 22]).channels(channels::through),
    unary("Celu", &[12]).channels(channels::through),
    unary(SIGMOID, &[1, 6, 13]).span(Span::Bounded).quant(QuantRule::Elementwise).channels(channels::elementwise),
    unary(SWISH, &[24]).channels(channels::through),
    unary(HARD_SIGMOID, &[1, 6, 22]).span(Span::Bounded).channels(channels::elementwise),
    unary(HARD_SWISH, &[14, 22]).channels(channels::through),
    unary(SOFTPLUS, &[1, 22]).float16(Float16Rule::Float32).channels(channels::elementwise),
    unary("Softsign", &[1, 22]).span(Span::Bounded).channels(channels::through),
    unary(TANH, &[1, 6, 13]).span(Span::Bounded).channels(channels::through),
    unary(ERF, &[9, 13]).span(Span::Bounded).channels(channels::through),
    unary(GELU, &[20]).channels(channels::through),
    unary(MISH, &[18, 22]).channels(channels::through),
    OpDef::new(CLIP, &[1, 6, 11, 12, 13], infer_same, clip)
        .cost(cost::per_output)
        .quant(QuantRule::Elementwise)
        .backward(clip_rule)
        .channels(clip_channels),
    OpDef::new("PRelu", &[1, 6, 7, 9, 16], infer_prelu, prelu)
        .cost(cost::per_output)
        .params(&[(1, ParamKind::Scale)])
        .homogeneous()
        .channels(prelu_channels),
    OpDef::new(DROPOUT, &[1, 6, 7, 10, 12, 13, 22], infer_dropout, dropout).cost(no_cost).not_foldable().channels(dropout_channels),
];

const fn unary(name: &'static str, since: &'static [i64]) -> OpDef {
    OpDef::new(name, since, infer_same, run_unary).cost(cost::per_output).backward(unary_rule)
}

/// The function of a node's operator and attributes.
fn activation(node: &Node) -> Result<Activation> {
    Ok(match node.op.as_str() {
        "Relu" => Activation::Relu,
        "LeakyRelu" => Activation::LeakyRelu { alpha: node.get_float("alpha", 0.01)? },
        "ThresholdedRelu" => Activation::ThresholdedRelu { alpha: node.get_float("alpha", 1.0)? },
        "Elu" => Activation::Elu { alpha: node.get_float("alpha", 1.0)? },
        "Selu" => Activation::Selu { alpha: node.get_float("alpha", 1.673_263_2)?, gamma: node.get_float("gamma", 1.050_701)? },
        "Celu" => match node.get_float("alpha", 1.0)? {
            0.0 => return Err(Error::format("attribute 'alpha' must not be 0")),
            alpha => Activation::Celu { alpha },
        },
        "Sigmoid" => Activation::Sigmoid,
        "Swish" => Activation::Swish { alpha: node.get_float("alpha", 1.0)? },
        "HardSigmoid" => Activation::HardSigmoid { alpha: node.get_float("alpha", 0.2)?, beta: node.get_float("beta", 0.5)? },
        "HardSwish" => Activation::HardSwish,
        SOFTPLUS => Activation::Softplus,
        "Softsign" => Activation::Softsign,
        TANH => Activation::Tanh,
        ERF => Activation::Erf,
        GELU => match node.get_str("approximate", "none")? {
            "none" => Activation::Gelu,
            "tanh" => Activation::GeluTanh,
            other => return Err(Error::format(format!("attribute 'approximate' has the unknown value '{other}'"))),
        },
        MISH => Activation::Mish,
        other => return Err(Error::internal(format!("{other} is not an activation"))),
    })
}

/// The function of one value that a node computes, when it is one. `constant` finds the constants that bounds may be.
///
/// # Errors
/// `Format` for wrong attributes.
pub fn of_node<'c>(node: &Node, opset: i64, constant: &dyn Fn(&str) -> Option<&'c Constant>) -> Result<Option<Activation>> {
    if !matches!(node.domain.as_str(), "" | "ai.onnx") || !OPS.iter().any(|op| op.name == node.op) {
        return Ok(None);
    }
    match node.op.as_str() {
        "PRelu" | "Dropout" => Ok(None),
        "Clip" if opset < 11 => Ok(Some(Activation::Clip { min: node.get_float("min", f32::MIN)?, max: node.get_float("max", f32::MAX)? })),
        "Clip" => {
            let bound = |i: usize, open: f32| -> Result<Option<f32>> {
                match node.input(i) {
                    None => Ok(Some(open)),
                    Some(name) => constant(name).filter(|c| c.count() == 1).map(|c| Ok(c.to_f32s()?[0])).transpose(),
                }
            };
            let (min, max) = (bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?);
            Ok(min.zip(max).map(|(min, max)| Activation::Clip { min, max }))
        }
        _ => activation(node).map(Some),
    }
}

fn run_unary(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    if x.dtype().is_float() {
        return cx.one(ops::activate(x, activation(cx.node)?)?);
    }
    match cx.node.op.as_str() {
        "Relu" => cx.one(x.maximum(&x.zeros_like()?)?),
        // Integers: erf of all but 0 and ±1 rounds towards the sign.
        ERF => cx.one(x.to_dtype(DType::F64)?.erf()?.to_dtype(x.dtype())?),
        _ => Err(Error::dtype(format!("expected floating point, got {}", cx.input(0)?.element))),
    }
}

fn unary_rule(cx: &Exec<'_>) -> Option<BackwardRule> {
    let rule: BackwardRule = |back| Ok(vec![(0, back_through(back, activation(back.cx.node)?)?)]);
    cx.get(0)?.element.is_float().then_some(rule)
}

fn back_through(back: &Back<'_>, f: Activation) -> Result<Flow> {
    Ok(Flow::Own(ops::activate_backward(back.cx.tensor(0)?, &back.made[0].tensor, back.gradient()?, f)?))
}

/// Bounds as attributes, before operator set 11.
fn fixed_bounds(cx: &Exec<'_>) -> Result<Activation> {
    let bound = |name: &str, default: f32| cx.node.get_float(name, default);
    Ok(Activation::Clip { min: bound("min", f32::MIN)?, max: bound("max", f32::MAX)? })
}

/// Bounds that are inputs, or open.
fn given_bounds(cx: &Exec<'_>) -> Result<Activation> {
    let read = |i: usize, open: f32| -> Result<f32> {
        cx.get(i).map_or(Ok(open), |v| Ok(v.tensor.flatten_all()?.to_dtype(DType::F32)?.get(0)?.to_scalar()?))
    };
    Ok(Activation::Clip { min: read(1, f32::NEG_INFINITY)?, max: read(2, f32::INFINITY)? })
}

fn clip_rule(cx: &Exec<'_>) -> Option<BackwardRule> {
    let rule: BackwardRule = |back| {
        let cx = back.cx;
        let f = if cx.opset < 11 { fixed_bounds(cx)? } else { given_bounds(cx)? };
        let mut flows = vec![(0, back_through(back, f)?)];
        // A bound receives the gradients of the results that it is.
        for i in (1..3).filter(|&i| back.needs.get(i) == Some(&true)) {
            let (x, y) = (cx.input(0)?.to_f32s()?, back.made[0].to_f32s()?);
            let gy = back.gradient()?.flatten_all()?.to_vec1::<f32>()?;
            let bound = cx.tensor(i)?;
            let at = bound.flatten_all()?.get(0)?.to_scalar::<f32>()?;
            let sum: f32 = x.iter().zip(&y).zip(gy).filter(|((x, y), _)| x != y && **y == at).map(|(_, g)| g).sum();
            flows.push((i, Flow::Own(Tensor::full(sum, bound.shape(), bound.device())?)));
        }
        Ok(flows)
    };
    cx.get(0)?.element.is_float().then_some(rule)
}

/// Bounds are attributes before operator set 11 and inputs since.
fn clip(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    if cx.opset < 11 {
        return cx.one(ops::activate(x, fixed_bounds(cx)?)?);
    }
    let bound = |i: usize| match cx.get(i) {
        Some(v) if v.tensor.elem_count() != 1 => Err(Error::shape(format!("expected a scalar bound, got {:?}", v.dims()))),
        v => Ok(v.map(|v| &v.tensor)),
    };
    let (min, max) = (bound(1)?, bound(2)?);
    let free = |t: Option<&Tensor>| t.is_none_or(|t| !t.track_op());
    if matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16) && free(min) && free(max) {
        return cx.one(ops::activate(x, given_bounds(cx)?)?);
    }
    let mut y = x.clone();
    let wide = |t: &Tensor| t.reshape(vec![1; x.rank()])?.broadcast_as(x.shape());
    if let Some(min) = min {
        y = y.maximum(&wide(min)?)?;
    }
    if let Some(max) = max {
        y = y.minimum(&wide(max)?)?;
    }
    cx.one(y)
}

/// PRelu's slope is broadcast to the input; before operator set 7 a slope of `[C]` belongs to axis 1.
fn prelu(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, slope) = (cx.tensor(0)?, cx.tensor(1)?);
    let slope = if cx.opset < 7 && slope.rank() == 1 && x.rank() > 1 {
        let mut dims = vec![1; x.rank()];
        dims[1] = slope.elem_count();
        slope.reshape(dims)?
    } else {
        slope.clone()
    };
    let zero = x.zeros_like()?;
    cx.one((x.maximum(&zero)? + x.minimum(&zero)?.broadcast_mul(&slope)?)?)
}

fn infer_prelu(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let (Some(x), Some(slope)) = (cx.shape(0)?, cx.shape(1)?) else { return infer_same(cx) };
    if cx.opset >= 7 {
        let wide = broadcast(x, slope)?;
        if wide.len() != x.len() || wide.iter().zip(x).any(|(a, b)| !a.compatible(b)) {
            return Err(Error::shape("the slope does not broadcast to the input's shape"));
        }
    }
    infer_same(cx)
}

fn infer_dropout(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    // Before operator set 10 the mask had the type of the data.
    let element = if cx.opset < 10 { x.element } else { Element::Bool };
    Ok(vec![
        Fact { element: x.element, shape: x.shape.clone(), contents: None, constant: None },
        Fact { element, shape: x.shape.clone(), contents: None, constant: None },
    ])
}

/// Drops when the graph is trained or, as the standard says, when the input `training_mode` is true.
fn dropout(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let value = cx.input(0)?;
    let x = &value.tensor;
    let ratio = match cx.get(1) {
        Some(r) if cx.opset >= 12 => r.to_f64s()?.first().copied().unwrap_or(0.5),
        _ => f64::from(cx.node.get_float("ratio", 0.5)?),
    };
    if !(0.0..1.0).contains(&ratio) {
        return Err(Error::argument(format!("the dropout ratio must be in 0..1, got {ratio}")));
    }
    let asked = cx.opset >= 12 && cx.ints(2)?.is_some_and(|v| v.first() == Some(&1));
    let mask_of = |mask: &Tensor| -> Result<Value> {
        if cx.opset < 10 { value.with(mask.to_dtype(x.dtype())?) } else { Value::bool(mask.to_dtype(DType::U8)?) }
    };
    if ratio == 0.0 || !(asked || cx.mode.training) {
        return Ok(vec![value.clone(), mask_of(&Tensor::ones(x.shape(), DType::U8, x.device())?)?]);
    }
    // Each node draws its own numbers from the run's seed.
    let name = cx.node.outputs.first().map_or("", String::as_str);
    let node_seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(cx.mode.seed ^ node_seed);
    let kept: Vec<u8> = (0..x.elem_count()).map(|_| u8::from(rng.random::<f64>() >= ratio)).collect();
    let mask = Tensor::from_vec(kept, x.shape(), x.device())?;
    let y = (x * mask.to_dtype(x.dtype())?.affine(1.0 / (1.0 - ratio), 0.0)?)?;
    Ok(vec![value.with(y)?, mask_of(&mask)?])
}

fn no_cost(_: &CostInput<'_>) -> Cost {
    Cost::default()
}

/// Channels of PRelu: the slope is broadcast to the input and goes with it.
fn prelu_channels(cx: &mut Channels<'_>) -> Result<()> {
    let found = channels::join_broadcast(cx, &[0, 1], 0)?;
    cx.set(0, found.axes);
    let zero = cx.zero(0);
    cx.set_zero(0, zero);
    Ok(())
}

/// Channels of Clip: zero stays zero when it lies within the bounds.
fn clip_channels(cx: &mut Channels<'_>) -> Result<()> {
    let bound = |i: usize, name: &str, default: f64| -> Result<Option<f64>> {
        match cx.node.input(i) {
            None => Ok(Some(f64::from(cx.node.get_float(name, default as f32)?))),
            Some(_) => Ok(cx.fact(i)?.constant.as_ref().map(|c| c.to_f64s()).transpose()?.and_then(|v| v.first().copied())),
        }
    };
    let (low, high) = (bound(1, "min", f64::NEG_INFINITY)?, bound(2, "max", f64::INFINITY)?);
    if matches!((low, high), (Some(l), Some(h)) if l <= 0.0 && 0.0 <= h) { channels::through(cx) } else { channels::elementwise(cx) }
}

/// Channels of Dropout: those of its input, in the mask too.
fn dropout_channels(cx: &mut Channels<'_>) -> Result<()> {
    channels::through(cx)?;
    let axes = cx.axes(0)?;
    cx.set(1, axes);
    Ok(())
}
