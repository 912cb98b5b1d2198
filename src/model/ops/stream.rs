//! Layers of models that read sequences piece by piece: CausalConvWithState, LinearAttention, SwiGLU.
//!
//! <https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html> and siblings. Differentiable.

use super::channels;
use super::cost::{self, CostInput};
use super::def::{OpDef, ParamKind};
use super::elementwise::{Binary, binary};
use super::facts::{fact, infer_same};
use super::ints::count;
use super::roles::Data;
use super::run::Exec;
use crate::graph::{Cost, Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::activation::Activation;
use compresso_kernels::ops::activate;

/// Layers of models that read sequences piece by piece.
pub const OPS: &[OpDef] = &[
    OpDef::new("CausalConvWithState", &[27], infer_conv, causal_conv)
        .sums()
        .cost(conv_cost)
        .params(&[(1, ParamKind::Weight), (2, ParamKind::Bias)]),
    OpDef::new("LinearAttention", &[27], infer_attention, linear_attention).cost(cost::per_output).data(Data::At(&[0, 1, 2])),
    OpDef::new("SwiGLU", &[28], infer_same, swiglu).sums().cost(cost::per_output).data(Data::At(&[0, 1])).channels(channels::product),
];

fn swiglu(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    if a.dims() != b.dims() || a.element != b.element {
        return Err(Error::shape(format!("expected two inputs alike, got {}{:?} and {}{:?}", a.element, a.dims(), b.element, b.dims())));
    }
    let alpha = cx.node.get_float("alpha", 1.0)?;
    cx.one((activate(&a.tensor, Activation::Swish { alpha })? * &b.tensor)?)
}

fn infer_conv(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let state = match (x.shape.as_deref(), cx.shape(1)?) {
        (Some([n, c, _]), Some([_, _, k])) => Some(vec![n.clone(), c.clone(), k.map("({}-1)", |k| k.checked_sub(1))]),
        (Some([_, _, _]) | None, Some([_, _, _]) | None) => None,
        _ => return Err(Error::shape(format!("expected data [n, c, length] and a weight [c, 1, k], got {x} and {}", cx.input(1)?))),
    };
    Ok(vec![fact(x.element, x.shape.clone()), fact(x.element, state)])
}

fn conv_cost(cx: &CostInput<'_>) -> Cost {
    let taps = cx.inputs.get(1).copied().flatten().and_then(|w| w.dim(2)).unwrap_or(0) as u64;
    let out = cx.outputs.first().and_then(|f| cost::elements(f)).unwrap_or(0);
    Cost { macs: cost::times(out, taps), other: 0 }
}

/// A depthwise convolution over what came before and what comes.
fn causal_conv(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let (x, w) = (cx.tensor(0)?, cx.tensor(1)?);
    let (&[n, c, length], &[wc, 1, k]) = (x.dims(), w.dims()) else {
        return Err(Error::shape(format!("expected data [n, c, length] and a weight [c, 1, k], got {:?} and {:?}", x.dims(), w.dims())));
    };
    let state = [n, c, k.saturating_sub(1)];
    if wc != c || k == 0 || cx.get(2).is_some_and(|b| b.dims() != [c]) || cx.get(3).is_some_and(|s| s.dims() != state) {
        return Err(Error::shape(format!(
            "the weight {:?}, the bias and the state do not fit {c} channels; the state must be {state:?}",
            w.dims()
        )));
    }
    let act = match cx.node.get_str("activation", "none")? {
        "none" => None,
        "silu" | "swish" => Some(Activation::Swish { alpha: 1.0 }),
        other => return Err(Error::unsupported(format!("the activation '{other}' is not supported")).hint("none, silu and swish are")),
    };
    count(&[n, c, length.saturating_add(k)])?;
    let before = match cx.get(3) {
        Some(s) => s.tensor.clone(),
        None => Tensor::zeros(&state, x.dtype(), x.device())?,
    };
    let all = Tensor::cat(&[&before, x], 2)?;
    let mut sum = match cx.get(2) {
        Some(b) => b.tensor.reshape((1, c, 1))?.broadcast_as(x.shape())?.contiguous()?,
        None => x.zeros_like()?,
    };
    for tap in 0..if x.elem_count() == 0 { 0 } else { k } {
        sum = (sum
            + binary(Binary::Mul, &all.narrow(2, tap, length)?.contiguous()?, &w.narrow(2, tap, 1)?.contiguous()?.reshape((1, c, 1))?)?)?;
    }
    let out = match act {
        Some(f) => activate(&sum, f)?,
        None => sum,
    };
    let kept = all.narrow(2, length, state[2])?.contiguous()?;
    Ok(vec![cx.input(0)?.with(out)?, cx.input(0)?.with(kept)?])
}

fn heads(node: &Node) -> Result<[usize; 2]> {
    let one = |name: &str| {
        let n = node.find_int(name)?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        n.ok_or_else(|| Error::format(format!("attribute '{name}' must be a positive number")))
    };
    let (q, kv) = (one("q_num_heads")?, one("kv_num_heads")?);
    if q.is_multiple_of(kv) { Ok([q, kv]) } else { Err(Error::shape(format!("{q} heads of queries cannot share {kv} heads of keys"))) }
}

fn infer_attention(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let state = cx.get(3).map_or(x.element, |s| s.element);
    let [q, kv] = heads(cx.node)?;
    let per = |d: &Dim, n: usize| d.map(&format!("({{}}/{n})"), |d| d.is_multiple_of(n).then_some(d / n));
    let (Some([b, t, _]), Some([_, _, k]), Some([_, _, v])) = (x.shape.as_deref(), cx.shape(1)?, cx.shape(2)?) else {
        return Ok(vec![fact(x.element, None), fact(state, None)]);
    };
    let (k, v) = (per(k, kv), per(v, kv));
    Ok(vec![
        fact(x.element, Some(vec![b.clone(), t.clone(), Dim::Known(q).times(&v)])),
        fact(state, Some(vec![b.clone(), Dim::Known(kv), k, v])),
    ])
}

/// Keys and values written into a state, step by step, from which queries read.
fn linear_attention(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let [q_heads, heads] = heads(cx.node)?;
    let rule = cx.node.get_str("update_rule", "gated_delta")?;
    let (gated, delta) = match rule {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => {
            return Err(
                Error::unsupported(format!("the update rule '{other}' is not supported")).hint("linear, gated, delta and gated_delta are")
            );
        }
    };
    if gated != cx.get(4).is_some() || delta != cx.get(5).is_some() {
        return Err(Error::format(format!(
            "the update rule '{rule}' takes {}decay and {}rate",
            if gated { "a " } else { "no " },
            if delta { "a " } else { "no " }
        )));
    }
    let wide = |i: usize| -> Result<Tensor> { Ok(cx.tensor(i)?.to_dtype(DType::F32)?) };
    let dims = |i: usize| cx.tensor(i).map(|t| t.dims().to_vec());
    let wrong = || -> Error {
        let all: Vec<String> = (0..6).filter_map(|i| cx.get(i)).map(|v| format!("{:?}", v.dims())).collect();
        Error::shape(format!("inputs {} do not fit {q_heads} heads of queries and {heads} of keys", all.join(", ")))
    };
    let &[b, t, query] = dims(0)?.as_slice() else { return Err(wrong()) };
    // [b, t, heads · d] as [b, heads, t, d].
    let split = |i: usize, n: usize| -> Result<Tensor> {
        match *dims(i)?.as_slice() {
            [x, y, all] if (x, y) == (b, t) && all.is_multiple_of(n) => Ok(wide(i)?.reshape((b, t, n, all / n))?.transpose(1, 2)?),
            _ => Err(wrong()),
        }
    };
    let (q, k, v) = (split(0, q_heads)?, split(1, heads)?, split(2, heads)?);
    let (dk, dv) = (k.dims()[3], v.dims()[3]);
    count(&[b, q_heads, t.max(dk), dv])?;
    let decay = if gated { Some(split(4, heads)?) } else { None };
    let rate = if delta { Some(split(5, if dims(5)?.last() == Some(&1) { 1 } else { heads })?) } else { None };
    let fits = q.dims()[3] == dk
        && decay.as_ref().is_none_or(|d| [1, dk].contains(&d.dims()[3]))
        && rate.as_ref().is_none_or(|r| r.dims()[3] == 1)
        && cx.get(3).is_none_or(|s| s.dims() == [b, heads, dk, dv]);
    if !fits || [b, t, dk, dv].contains(&0) {
        return Err(wrong());
    }
    let given = f64::from(cx.node.get_float("scale", 0.0)?);
    let scale = if given == 0.0 { 1.0 / ((query / q_heads) as f64).sqrt() } else { given };
    let mut state = if cx.get(3).is_some() { wide(3)? } else { Tensor::zeros((b, heads, dk, dv), DType::F32, q.device())? };
    let mut out = Vec::with_capacity(t);
    let step = |x: &Tensor, i: usize| -> Result<Tensor> { Ok(x.narrow(2, i, 1)?.squeeze(2)?.contiguous()?) };
    for i in 0..t {
        if let Some(d) = &decay {
            state = binary(Binary::Mul, &state, &step(d, i)?.exp()?.unsqueeze(3)?)?;
        }
        let key = step(&k, i)?.unsqueeze(3)?;
        let mut value = step(&v, i)?;
        if let Some(r) = &rate {
            let read = binary(Binary::Mul, &state, &key)?.sum(2)?;
            value = binary(Binary::Mul, &(value - read)?, &step(r, i)?)?;
        }
        state = (state + binary(Binary::Mul, &key, &value.unsqueeze(2)?)?)?;
        // Queries that share a state, [b, heads, shares, dk].
        let queries = step(&q, i)?.reshape((b, heads, q_heads / heads, dk))?;
        out.push((queries.matmul(&state)? * scale)?.reshape((b, q_heads * dv))?);
    }
    let element = cx.input(0)?;
    let state_of = cx.get(3).unwrap_or(element);
    Ok(vec![
        element.with(Tensor::stack(&out, 1)?.to_dtype(element.tensor.dtype())?)?,
        state_of.with(state.to_dtype(state_of.tensor.dtype())?)?,
    ])
}
