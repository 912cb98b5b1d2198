//! BatchNormalization, InstanceNormalization, LayerNormalization, GroupNormalization, RMSNormalization,
//! LpNormalization, MeanVarianceNormalization, LRN.
//!
//! Each operator's page is `https://onnx.ai/onnx/operators/onnx__<Name>.html`.

use super::backward::{Back, BackwardRule, Flow};
use super::channels::{self, Channels, Site, Size};
use super::cost::{self, CostInput};
use super::def::{OWN_DOMAIN, OpDef, ParamKind, operators};
use super::facts::{axes_of, infer_same};
use super::roles::{Float16Rule, Span};
use super::run::Exec;
use crate::element::Element;
use crate::graph::{Attr, Cost, Dim, Fact, Infer, Node, normalize_axis};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::norm::Then;
use compresso_kernels::ops;
use indexmap::IndexMap;

/// Why norms keep what they take statistics over.
const STATISTICS: &str = "takes their mean and variance together";

/// What training changes of a batch normalization.
const BATCH_NORM: &[(usize, ParamKind)] =
    &[(1, ParamKind::Scale), (2, ParamKind::Bias), (3, ParamKind::Statistic), (4, ParamKind::Statistic)];

operators! {
    pub const BATCH_NORMALIZATION: &str = "BatchNormalization";
    pub const GROUP_NORMALIZATION: &str = "GroupNormalization";
    pub const INSTANCE_NORMALIZATION: &str = "InstanceNormalization";
    pub const LAYER_NORMALIZATION: &str = "LayerNormalization";
    pub const RMS_NORMALIZATION: &str = "RMSNormalization";
}

/// BatchNormalization and the activation after it as one, which training makes of them, in the domain of this library.
pub const BATCH_NORM_ACTIVATION: &str = "BatchNormActivation";

/// A normalization: its sums of squares, and epsilons near zero, need float32; what it makes is a few units large.
const fn norm(op: OpDef) -> OpDef {
    op.cost(norm_cost).float16(Float16Rule::Float32).span(Span::Bounded)
}

/// Normalizations, by statistics that are stored or taken from the data.
pub const OPS: &[OpDef] = &[
    // Its statistics are constants, so what it computes is a product and a sum.
    OpDef::new(BATCH_NORMALIZATION, &[1, 6, 7, 9, 14, 15], infer_batch, batch_norm)
        .cost(norm_cost)
        .params(BATCH_NORM)
        .backward(batch_norm_rule)
        .channels(batch_norm_channels),
    // What training makes of BatchNormalization and the activation after it; no file has it.
    OpDef::new(BATCH_NORM_ACTIVATION, &[1], infer_same, batch_norm_activation)
        .domain(OWN_DOMAIN)
        .not_foldable()
        .params(BATCH_NORM)
        .backward(batch_norm_rule),
    norm(OpDef::new(INSTANCE_NORMALIZATION, &[1, 6, 22], infer_instance, instance_norm))
        .params(&[(1, ParamKind::Scale), (2, ParamKind::Bias)])
        .channels(instance_norm_channels),
    norm(OpDef::new(LAYER_NORMALIZATION, &[17], infer_layer, layer_norm))
        .params(&[(1, ParamKind::Scale), (2, ParamKind::Bias)])
        .channels(layer_norm_channels),
    norm(OpDef::new(GROUP_NORMALIZATION, &[18, 21], infer_group, group_norm))
        .params(&[(1, ParamKind::Scale), (2, ParamKind::Bias)])
        .channels(group_norm_channels),
    norm(OpDef::new(RMS_NORMALIZATION, &[23], infer_same, rms_norm)).params(&[(1, ParamKind::Scale)]).channels(layer_norm_channels),
    norm(OpDef::new("LpNormalization", &[1, 22], infer_same, lp_norm)).sums().channels(lp_norm_channels),
    norm(OpDef::new("MeanVarianceNormalization", &[9, 13], infer_mean_variance, mean_variance)).sums().channels(mean_variance_channels),
    OpDef::new("LRN", &[1, 13], infer_same, lrn).sums().cost(norm_cost).float16(Float16Rule::Float32).channels(lrn_channels),
];

/// A multiply and an add per element.
fn norm_cost(cx: &CostInput<'_>) -> Cost {
    Cost { other: 2 * cost::per_input(cx).other, macs: 0 }
}

/// `[batch, channels, spatial…]`
fn infer_instance(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    at_least(cx, 3)
}

/// `[batch, channels, …]`
fn infer_group(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    at_least(cx, 2)
}

fn at_least(cx: &Infer<'_>, axes: usize) -> Result<Vec<Fact>> {
    match cx.shape(0)?.map(|s| s.len()) {
        Some(rank) if rank < axes => Err(Error::shape(format!("expected at least {axes} axes, got {rank}"))),
        _ => infer_same(cx),
    }
}

fn infer_batch(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let channels = match &x.shape {
        Some(s) if s.is_empty() => return Err(Error::shape("a batch norm of a single number")),
        Some(s) => s.get(1).cloned().unwrap_or(Dim::Known(1)),
        None => Dim::Unknown,
    };
    for i in 1..5 {
        let f = cx.input(i)?;
        if let (Some(n), Some(c)) = (f.count(), channels.known())
            && n != c
        {
            return Err(Error::shape(format!("input {i} must have one entry for each of {c} channels, got {f}")));
        }
    }
    let stats = |i: usize| -> Result<Fact> { Ok(Fact::new(cx.input(i)?.element, vec![channels.clone()])) };
    let mut facts = infer_same(cx)?;
    // Running mean and variance, then (before operator set 14) those of the batch.
    for i in [3, 4, 3, 4] {
        facts.push(stats(i)?);
    }
    Ok(facts)
}

/// `running · momentum + new · (1 - momentum)`, in the type of `running`.
fn blend(running: &Tensor, new: &Tensor, momentum: f64) -> Result<Tensor> {
    let running = running.detach();
    Ok(((running.to_dtype(DType::F32)? * momentum)? + (new * (1.0 - momentum))?)?.to_dtype(running.dtype())?)
}

/// The channels of input 0, with the other inputs checked against them.
fn channels(cx: &Exec<'_>) -> Result<usize> {
    let channels = cx.tensor(0)?.dims().get(1).copied().unwrap_or(1);
    for i in 1..5 {
        if cx.tensor(i)?.dims() != [channels] {
            return Err(Error::shape(format!("input {i} must be [{channels}], got {:?}", cx.tensor(i)?.dims())));
        }
    }
    Ok(channels)
}

/// Normalizes with the statistics of the batch and, in training, reports the new running ones. Returns the result, mean
/// and population variance.
fn batch_statistics(cx: &Exec<'_>, momentum: f64, then: Then) -> Result<(Tensor, Tensor, Tensor)> {
    let x = cx.tensor(0)?;
    let epsilon = f64::from(cx.node.get_float("epsilon", 1e-5)?);
    let (y, mean, var) = ops::batch_norm(x, cx.tensor(1)?, cx.tensor(2)?, epsilon, then)?;
    if cx.mode.training {
        // The standard keeps the population variance; training keeps the unbiased one, as PyTorch does.
        let count = x.elem_count() as f64 / mean.elem_count().max(1) as f64;
        let unbiased = (&var * (count / (count - 1.0).max(1.0)))?;
        let new = [(3, blend(cx.tensor(3)?, &mean, momentum)?), (4, blend(cx.tensor(4)?, &unbiased, momentum)?)];
        let mut updates = cx.mode.updates.lock().map_err(|_| Error::internal("a thread panicked while training"))?;
        updates.extend(new.map(|(i, t)| (cx.node.inputs[i].clone(), t)));
    }
    Ok((y, mean, var))
}

/// In training, and where the standard's `training_mode` says so, the statistics are those of the batch.
fn batch_norm(cx: &Exec<'_>) -> Result<Vec<Value>> {
    channels(cx)?;
    let momentum = f64::from(cx.node.get_float("momentum", 0.9)?);
    let standard = cx.opset >= 14 && cx.node.get_int("training_mode", 0)? != 0;
    if cx.opset < 14 && !cx.mode.training && cx.node.outputs.iter().skip(1).any(|o| !o.is_empty()) {
        return Err(Error::unsupported("training outputs of BatchNormalization before operator set 14"));
    }
    let (mean, var) = (cx.tensor(3)?, cx.tensor(4)?);
    if !standard && !cx.mode.training {
        let epsilon = f64::from(cx.node.get_float("epsilon", 1e-5)?);
        let single = |t: &Tensor| t.to_dtype(DType::F32);
        let a = (single(cx.tensor(1)?)? / (single(var)? + epsilon)?.sqrt()?)?;
        let b = (single(cx.tensor(2)?)? - (single(mean)? * &a)?)?;
        return cx.one(ops::channel_affine(cx.tensor(0)?, &a, &b)?);
    }
    let (y, batch_mean, batch_var) = batch_statistics(cx, momentum, Then::Nothing)?;
    let running = [cx.input(3)?.with(blend(mean, &batch_mean, momentum)?)?, cx.input(4)?.with(blend(var, &batch_var, momentum)?)?];
    let [mean, var] = running;
    // The last two are for the backward rule.
    Ok(vec![cx.input(0)?.with(y)?, mean, var, Value::plain(batch_mean)?, Value::plain(batch_var)?])
}

/// The rule for batch statistics.
fn batch_norm_rule(cx: &Exec<'_>) -> Option<BackwardRule> {
    cx.mode.training.then_some(batch_norm_backward)
}

fn batch_norm_backward(back: &Back<'_>) -> Result<Vec<(usize, Flow)>> {
    let (cx, [.., mean, var]) = (back.cx, back.made) else {
        return Err(Error::internal("a batch normalization without statistics"));
    };
    let epsilon = f64::from(cx.node.get_float("epsilon", 1e-5)?);
    let then = if cx.node.op == BATCH_NORM_ACTIVATION { then(cx.node)? } else { Then::Nothing };
    let statistics = (&mean.tensor, &var.tensor);
    let gradients = ops::batch_norm_backward(cx.tensor(0)?, cx.tensor(1)?, cx.tensor(2)?, statistics, epsilon, then, back.gradient()?)?;
    Ok(gradients.into_iter().enumerate().map(|(i, g)| (i, Flow::Own(g))).collect())
}

/// The activation after a batch normalization, as attributes of the joined node.
pub fn with_then(attrs: &mut IndexMap<String, Attr>, then: Then) {
    let mut set = |name: &str, value: Attr| attrs.insert(name.to_string(), value);
    let name: &'static str = match then {
        Then::Nothing => "Identity",
        Then::Relu => "Relu",
        Then::Silu => "Swish",
        Then::HardSwish => "HardSwish",
        Then::Clip { min, max } => {
            set("min", Attr::Float(min));
            set("max", Attr::Float(max));
            "Clip"
        }
    };
    set("activation", Attr::Str(name.into()));
}

fn then(node: &Node) -> Result<Then> {
    Ok(match node.get_str("activation", "Swish")? {
        "Identity" => Then::Nothing,
        "Relu" => Then::Relu,
        "Swish" => Then::Silu,
        "HardSwish" => Then::HardSwish,
        "Clip" => Then::Clip { min: node.get_float("min", f32::NEG_INFINITY)?, max: node.get_float("max", f32::INFINITY)? },
        other => return Err(Error::format(format!("attribute 'activation' has the unknown value '{other}'"))),
    })
}

/// BatchNormalization, then an activation.
fn batch_norm_activation(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let then = then(cx.node)?;
    if !cx.mode.training {
        let y = &batch_norm(cx)?[0].tensor;
        return cx.one(then.activation().map_or(Ok(y.clone()), |f| ops::activate(y, f))?);
    }
    channels(cx)?;
    let momentum = f64::from(cx.node.get_float("momentum", 0.9)?);
    let (y, mean, var) = batch_statistics(cx, momentum, then)?;
    Ok(vec![cx.input(0)?.with(y)?, Value::plain(mean)?, Value::plain(var)?])
}

/// `(x - mean) / sqrt(var + epsilon)` over the axes from `first` on, in float32; also mean and `1 / sqrt(…)`.
fn standardize(x: &Tensor, first: usize, epsilon: f64) -> Result<(Tensor, Tensor, Tensor)> {
    let x32 = if x.dtype() == DType::F64 { x.clone() } else { x.to_dtype(DType::F32)? };
    let rows = x32.flatten_from(first)?;
    let mean = rows.mean_keepdim(first)?;
    let centered = rows.broadcast_sub(&mean)?;
    let inv = (centered.sqr()?.mean_keepdim(first)? + epsilon)?.sqrt()?.recip()?;
    let y = centered.broadcast_mul(&inv)?.reshape(x.shape())?;
    Ok((y, mean, inv))
}

/// `y · scale + bias` with operands of the shape `dims`, in the type of `x`.
fn scaled(x: &Tensor, y: &Tensor, scale: &Tensor, bias: Option<&Tensor>, dims: &[usize]) -> Result<Tensor> {
    let wide = |t: &Tensor| -> Result<Tensor> {
        let lead = y.rank().checked_sub(dims.len());
        let fits = lead.is_some_and(|lead| dims.iter().zip(&y.dims()[lead..]).all(|(&n, &of)| n == of || n == 1));
        if !fits || t.elem_count() != dims.iter().product::<usize>() {
            return Err(Error::shape(format!("a scale or bias of {:?} does not fit {:?}", t.dims(), x.dims())));
        }
        Ok(t.to_dtype(y.dtype())?.reshape(dims)?)
    };
    let scaled = y.broadcast_mul(&wide(scale)?)?;
    let y = match bias {
        Some(b) => scaled.broadcast_add(&wide(b)?)?,
        None => scaled,
    };
    Ok(y.to_dtype(x.dtype())?)
}

fn per_channel(x: &Tensor) -> Vec<usize> {
    x.dims().iter().enumerate().map(|(i, &n)| if i == 1 { n } else { 1 }).collect()
}

fn instance_norm(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    if x.rank() < 3 {
        return Err(Error::shape(format!("expected [batch, channels, spatial…], got {:?}", x.dims())));
    }
    let (y, _, _) = standardize(x, 2, f64::from(cx.node.get_float("epsilon", 1e-5)?))?;
    cx.one(scaled(x, &y, cx.tensor(1)?, Some(cx.tensor(2)?), &per_channel(x))?)
}

fn infer_layer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let stash = if x.element == Element::F64 { Element::F64 } else { Element::F32 };
    let stats = match &x.shape {
        Some(shape) => {
            let axis = normalize_axis(cx.node.get_int("axis", -1)?, shape.len())?;
            Fact::new(stash, shape.iter().enumerate().map(|(i, d)| if i < axis { d.clone() } else { Dim::Known(1) }).collect())
        }
        None => Fact::unranked(stash),
    };
    let mut facts = infer_same(cx)?;
    facts.extend([stats.clone(), stats]);
    Ok(facts)
}

fn layer_norm(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let axis = normalize_axis(cx.node.get_int("axis", -1)?, x.rank())?;
    let dims: Vec<usize> = x.dims().iter().enumerate().map(|(i, &n)| if i < axis { n } else { 1 }).collect();
    let epsilon = f64::from(cx.node.get_float("epsilon", 1e-5)?);
    let (scale, bias) = (cx.tensor(1)?, cx.get(2).map(|v| &v.tensor));
    if scale.rank() == x.rank() - axis
        && let Some((y, mean, inv)) = ops::layer_norm(x, scale, bias, epsilon)?
    {
        return Ok(vec![cx.input(0)?.with(y)?, Value::plain(mean.reshape(dims.clone())?)?, Value::plain(inv.reshape(dims)?)?]);
    }
    let (y, mean, inv) = standardize(x, axis, epsilon)?;
    let y = scaled(x, &y, scale, bias, scale.dims())?;
    Ok(vec![cx.input(0)?.with(y)?, Value::plain(mean.reshape(dims.clone())?)?, Value::plain(inv.reshape(dims)?)?])
}

/// Scale and bias have one entry per group before operator set 21, one per channel since.
fn group_norm(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let groups = cx.node.find_int("num_groups")?.ok_or_else(|| Error::format("attribute 'num_groups' is missing"))?;
    let groups = usize::try_from(groups).unwrap_or(0);
    if x.rank() < 3 || groups == 0 || x.dim(1)? % groups != 0 {
        return Err(Error::shape(format!("{:?} does not divide into {groups} groups of channels", x.dims())));
    }
    if x.elem_count() == 0 {
        return cx.one(x.clone());
    }
    let (batch, per_group) = (x.dim(0)?, x.dim(1)? / groups);
    let (y, _, _) = standardize(&x.reshape((batch, groups, ()))?, 2, f64::from(cx.node.get_float("epsilon", 1e-5)?))?;
    let y = y.reshape(x.shape())?;
    let wide = |i: usize| -> Result<Tensor> {
        let t = cx.tensor(i)?;
        if cx.opset >= 21 || per_group == 1 {
            return Ok(t.clone());
        }
        if t.elem_count() != groups {
            return Err(Error::shape(format!("input {i} has {:?}, expected an entry for each of {groups} groups", t.dims())));
        }
        Ok(t.reshape((groups, 1))?.broadcast_as((groups, per_group))?.flatten_all()?)
    };
    cx.one(scaled(x, &y, &wide(1)?, Some(&wide(2)?), &per_channel(x))?)
}

fn rms_norm(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let axis = normalize_axis(cx.node.get_int("axis", -1)?, x.rank())?;
    let epsilon = f64::from(cx.node.get_float("epsilon", 1e-5)?);
    let x32 = if x.dtype() == DType::F64 { x.clone() } else { x.to_dtype(DType::F32)? };
    let rows = x32.flatten_from(axis)?;
    let y = rows.broadcast_div(&(rows.sqr()?.mean_keepdim(axis)? + epsilon)?.sqrt()?)?.reshape(x.shape())?;
    cx.one(scaled(x, &y, cx.tensor(1)?, None, cx.tensor(1)?.dims())?)
}

fn lp_norm(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let axis = normalize_axis(cx.node.get_int("axis", -1)?, x.rank())?;
    let norm = match cx.node.get_int("p", 2)? {
        1 => x.abs()?.sum_keepdim(axis)?,
        2 => x.sqr()?.sum_keepdim(axis)?.sqrt()?,
        p => return Err(Error::format(format!("attribute 'p' must be 1 or 2, got {p}"))),
    };
    // The standard: a norm of 0 gives 0.
    let zero = norm.zeros_like()?;
    let safe = norm.eq(&zero)?.where_cond(&norm.ones_like()?, &norm)?;
    cx.one(x.broadcast_div(&safe)?)
}

/// The axes that a MeanVarianceNormalization normalizes over.
fn mean_variance_axes(node: &Node, rank: usize) -> Result<Vec<usize>> {
    axes_of(node.find_ints("axes")?.unwrap_or(&[0, 2, 3]), rank)
}

fn infer_mean_variance(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    if let Some(shape) = cx.shape(0)? {
        mean_variance_axes(cx.node, shape.len())?;
    }
    infer_same(cx)
}

fn mean_variance(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let axes = mean_variance_axes(cx.node, x.rank())?;
    let count = axes.iter().map(|&a| x.dims()[a]).product::<usize>() as f64;
    let mean = |t: &Tensor| -> Result<Tensor> { Ok((t.sum_keepdim(axes.as_slice())? / count)?) };
    let centered = x.broadcast_sub(&mean(x)?)?;
    let deviation = (mean(&centered.sqr()?)?.sqrt()? + 1e-9)?;
    cx.one(centered.broadcast_div(&deviation)?)
}

/// `x / (bias + alpha / size · Σ x²)^beta` over `size` neighbouring channels.
fn lrn(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let size = cx.node.find_int("size")?.and_then(|s| usize::try_from(s).ok()).filter(|&s| s > 0);
    let size = size.ok_or_else(|| Error::format("attribute 'size' must be at least 1"))?;
    let (alpha, beta) = (f64::from(cx.node.get_float("alpha", 1e-4)?), f64::from(cx.node.get_float("beta", 0.75)?));
    let bias = f64::from(cx.node.get_float("bias", 1.0)?);
    let channels = x.dim(1)?;
    // Beyond the channels there are zeros, however far it looks.
    let before = ((size - 1) / 2).min(channels);
    let after = (size - 1 - (size - 1) / 2).min(channels);
    let squares = x.sqr()?.pad_with_zeros(1, before, after)?;
    let mut sum = squares.narrow(1, 0, channels)?;
    for i in 1..=before + after {
        sum = (sum + squares.narrow(1, i, channels)?)?;
    }
    cx.one((x / sum.affine(alpha / size as f64, bias)?.powf(beta)?)?)
}

/// Channels of BatchNormalization: scale, bias and statistics go with their channel.
fn batch_norm_channels(cx: &mut Channels<'_>) -> Result<()> {
    join_vectors(cx, 4)?;
    cx.unmasked(4);
    let axes = cx.axes(0)?;
    let statistic = axes.get(1).cloned().flatten();
    cx.set(0, axes);
    for i in 1..cx.node.outputs.len() {
        cx.set(i, vec![statistic.clone()]);
    }
    Ok(())
}

/// Channels of InstanceNormalization, whose statistics are of single channels.
fn instance_norm_channels(cx: &mut Channels<'_>) -> Result<()> {
    join_vectors(cx, 2)?;
    cx.because(STATISTICS);
    channels::through_except(cx, |axis| axis >= 2)?;
    Ok(())
}

/// Inputs 1 to `n` are vectors with an entry per channel, of which 1 scales and 2 shifts.
fn join_vectors(cx: &mut Channels<'_>, n: usize) -> Result<()> {
    let channels = cx.axis(0, 1);
    for i in 1..=n {
        let entries = cx.axis(i, 0);
        cx.join(&channels, &entries)?;
    }
    cx.set_zero(0, cx.is_constant(1) && cx.is_constant(2));
    Ok(())
}

/// Norms over all axes from `axis` on (LayerNormalization): those are fixed.
fn layer_norm_channels(cx: &mut Channels<'_>) -> Result<()> {
    let axis = cx.normal_axis(0, cx.node.get_int("axis", -1)?)?;
    norm_from(cx, axis)
}

/// GroupNormalization: statistics are those of all channels of a group, so whole groups go. Of one group, nothing does.
fn group_norm_channels(cx: &mut Channels<'_>) -> Result<()> {
    let groups = usize::try_from(cx.node.get_int("num_groups", 1)?).unwrap_or(1);
    let channels = cx.axis(0, 1);
    let Some(labels) = channels.clone().filter(|l| groups > 1 && l.len() % groups == 0) else { return norm_from(cx, 1) };
    let firsts = cx.whole_runs(&labels, groups);
    // Scale and bias had one entry per group before operator set 21.
    let vector = if cx.opset >= 21 { channels } else { Some(firsts.clone()) };
    for i in 1..=2 {
        let entries = cx.axis(i, 0);
        cx.join(&vector, &entries)?;
    }
    cx.sizes(Site::Attr("num_groups"), vec![Size::Count(firsts)]);
    cx.set_zero(0, cx.is_constant(1) && cx.is_constant(2));
    cx.because(STATISTICS);
    channels::through_except(cx, |axis| axis >= 2)?;
    Ok(())
}

fn norm_from(cx: &mut Channels<'_>, axis: usize) -> Result<()> {
    cx.because(STATISTICS);
    for i in 1..cx.node.inputs.len() {
        cx.freeze_input(i);
    }
    channels::through_except(cx, |a| a >= axis)?;
    Ok(())
}

/// LpNormalization: fixed along its axis.
fn lp_norm_channels(cx: &mut Channels<'_>) -> Result<()> {
    let axis = cx.normal_axis(0, cx.node.get_int("axis", -1)?)?;
    channels::through_except(cx, |a| a == axis)?;
    Ok(())
}

/// LRN looks at neighbouring channels.
fn lrn_channels(cx: &mut Channels<'_>) -> Result<()> {
    channels::through_except(cx, |a| a == 1)?;
    Ok(())
}

/// MeanVarianceNormalization: fixed along its axes.
fn mean_variance_channels(cx: &mut Channels<'_>) -> Result<()> {
    let rank = cx.rank(0)?;
    let axes = mean_variance_axes(cx.node, rank)?;
    channels::through_except(cx, |a| axes.contains(&a))?;
    Ok(())
}
