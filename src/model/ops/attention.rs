//! Attention as one node: Attention.
//!
//! <https://onnx.ai/onnx/operators/onnx__Attention.html>. Version 24 brought `nonpad_kv_seqlen`, version 25 windows. Computed in
//! float32 at least, whatever `softmax_precision` says. Differentiable.
//!
//! # Shapes
//! With b images, n heads of queries, m of keys and values (n is a multiple of m), s queries, t keys and sizes d and e of a head:
//! queries `[b, n, s, d]`, keys `[b, m, t, d]`, values `[b, m, t, e]`, result `[b, n, s, e]`; or with heads side by side, `[b, s, n·d]`,
//! `[b, t, m·d]`, `[b, t, m·e]`, result `[b, s, n·e]`.

mod mask;

use super::cost::{self, CostInput};
use super::def::OpDef;
use super::elementwise::{Binary, binary};
use super::facts::fact;
use super::ints::count;
use super::matmul::matmul;
use super::roles::Data;
use super::run::Exec;
use crate::graph::{Cost, Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_kernels::activation::Activation;
use compresso_kernels::ops::{activate, softmax};

/// Scaled dot-product attention as one operator.
pub const OPS: &[OpDef] = &[OpDef::new("Attention", &[23, 24, 25], infer, attention).cost(attention_cost).data(Data::At(&[0, 1, 2]))];

/// The number of heads that an attribute says, for inputs with heads side by side.
fn heads(node: &Node, name: &str) -> Result<usize> {
    let n =
        node.find_int(name)?.ok_or_else(|| Error::format(format!("attribute '{name}' is missing, which inputs with three axes need")))?;
    usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| Error::format(format!("attribute '{name}' must be positive, got {n}")))
}

/// `[b, heads, positions, size]` of a shape, for `side` of the heads.
fn spread(shape: &[Dim], node: &Node, side: &str) -> Result<[Dim; 4]> {
    match shape {
        [b, n, s, d] => Ok([b.clone(), n.clone(), s.clone(), d.clone()]),
        [b, s, all] => {
            let n = heads(node, side)?;
            let d = all.map(&format!("({{}}/{n})"), |a| a.is_multiple_of(n).then_some(a / n));
            Ok([b.clone(), Dim::Known(n), s.clone(), d])
        }
        _ => Err(Error::shape(format!("queries, keys and values have three or four axes, got {}", shape.len()))),
    }
}

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let element = cx.input(0)?.element;
    let mut out = vec![fact(element, None), fact(cx.input(1)?.element, None), fact(cx.input(2)?.element, None), fact(element, None)];
    let (Some(q), Some(k), Some(v)) = (cx.shape(0)?, cx.shape(1)?, cx.shape(2)?) else { return Ok(out) };
    if q.len() != k.len() || q.len() != v.len() {
        return Err(Error::shape(format!("queries, keys and values must have as many axes, got {}, {} and {}", q.len(), k.len(), v.len())));
    }
    let packed = q.len() == 3;
    let [b, n, s, _] = spread(q, cx.node, "q_num_heads")?;
    let [_, m, t, d] = spread(k, cx.node, "kv_num_heads")?;
    let [.., e] = spread(v, cx.node, "kv_num_heads")?;
    let past = match cx.get(4) {
        None => Dim::Known(0),
        Some(f) => f.shape.as_ref().and_then(|s| s.get(2).cloned()).unwrap_or(Dim::Unknown),
    };
    let total = past.plus(&t);
    out[0].shape = Some(if packed { vec![b.clone(), s.clone(), n.times(&e)] } else { vec![b.clone(), n.clone(), s.clone(), e.clone()] });
    out[1].shape = Some(vec![b.clone(), m.clone(), total.clone(), d]);
    out[2].shape = Some(vec![b.clone(), m, total.clone(), e]);
    out[3].shape = Some(vec![b, n, s, total]);
    Ok(out)
}

/// Two products, one as long as the heads of keys, one as those of values.
fn attention_cost(cx: &CostInput<'_>) -> Cost {
    let sizes = || -> Option<u64> {
        let shape = |i: usize| cx.inputs.get(i).copied().flatten().and_then(|f| f.shape.as_deref());
        let known = |d: &Dim| d.known().map(|n| n as u64);
        let [b, n, s, d] = spread(shape(0)?, cx.node, "q_num_heads").ok()?;
        let [_, _, t, _] = spread(shape(1)?, cx.node, "kv_num_heads").ok()?;
        let [.., e] = spread(shape(2)?, cx.node, "kv_num_heads").ok()?;
        let past = match shape(4) {
            Some(p) => known(p.get(2)?)?,
            None => 0,
        };
        let pairs = known(&b).unwrap_or(1).checked_mul(known(&n)?)?.checked_mul(known(&s)?)?.checked_mul(known(&t)?.checked_add(past)?)?;
        pairs.checked_mul(known(&d)?.checked_add(known(&e)?)?)
    };
    Cost { macs: sizes().unwrap_or(0), other: cx.outputs.first().and_then(|f| cost::elements(f)).unwrap_or(0) }
}

/// As `[b, heads, positions, size]`, in the type that is computed in.
fn split(cx: &Exec<'_>, input: usize, side: &str) -> Result<Tensor> {
    let t = cx.tensor(input)?;
    if !t.dtype().is_float() {
        return Err(Error::dtype(format!("expected floating point, got {} for input {input}", cx.input(input)?.element)));
    }
    let t = t.to_dtype(super::run::wide(cx.tensor(0)?.dtype()))?;
    match *t.dims() {
        [_, _, _, _] => Ok(t),
        [b, s, all] => {
            let n = heads(cx.node, side)?;
            if !all.is_multiple_of(n) {
                return Err(Error::shape(format!("{all} columns of input {input} do not split into {n} heads")));
            }
            Ok(t.reshape((b, s, n, all / n))?.transpose(1, 2)?)
        }
        _ => Err(Error::shape(format!("queries, keys and values have three or four axes, got {:?} for input {input}", t.dims()))),
    }
}

/// Keys or values with those of earlier calls before them.
fn with_past(cx: &Exec<'_>, input: usize, past: usize) -> Result<Tensor> {
    let new = split(cx, input, "kv_num_heads")?;
    let Some(old) = cx.get(past) else { return Ok(new) };
    let (a, b) = (old.dims(), new.dims());
    if a.len() != 4 || (0..4).any(|i| i != 2 && a[i] != b[i]) {
        return Err(Error::shape(format!("input {past} {a:?} does not fit input {input} {b:?}")));
    }
    if a[2] == 0 {
        return Ok(new);
    }
    Ok(Tensor::cat(&[&old.tensor.to_dtype(new.dtype())?, &new], 2)?)
}

/// Each head of keys or values `repeats` times in a row.
fn repeated(x: &Tensor, repeats: usize) -> Result<Tensor> {
    if repeats == 1 {
        return Ok(x.contiguous()?);
    }
    let (b, m, t, d) = x.dims4()?;
    count(&[b, m, repeats, t, d])?;
    Ok(x.unsqueeze(2)?.broadcast_as((b, m, repeats, t, d))?.contiguous()?.reshape((b, m * repeats, t, d))?)
}

fn attention(cx: &Exec<'_>) -> Result<Vec<Value>> {
    if cx.get(4).is_some() != cx.get(5).is_some() || (cx.get(4).is_some() && cx.get(6).is_some()) {
        return Err(Error::format("earlier keys and values go together, and without counts of keys"));
    }
    let q = split(cx, 0, "q_num_heads")?;
    let (key, value) = (with_past(cx, 1, 4)?, with_past(cx, 2, 5)?);
    let ((b, n, s, d), (kb, m, t, kd), (vb, vm, vt, e)) = (q.dims4()?, key.dims4()?, value.dims4()?);
    if cx.tensor(1)?.rank() != cx.tensor(0)?.rank() || [kb, vb] != [b, b] || kd != d || (vm, vt) != (m, t) {
        let (q, k, v) = (cx.tensor(0)?.dims(), cx.tensor(1)?.dims(), cx.tensor(2)?.dims());
        return Err(Error::shape(format!("queries {q:?}, keys {k:?} and values {v:?} do not fit each other")));
    }
    if m == 0 || !n.is_multiple_of(m) {
        return Err(Error::shape(format!("{n} heads of queries cannot share {m} heads of keys")));
    }
    let dims = [b, n, s, t];
    count(&dims)?;
    let element = cx.input(0)?;
    let back = |like: &Value, x: &Tensor| like.with(x.to_dtype(like.tensor.dtype())?.contiguous()?);
    let natural = 1.0 / (d.max(1) as f64).sqrt();
    let scale = if cx.node.attrs.contains_key("scale") { f64::from(cx.node.get_float("scale", 1.0)?) } else { natural };
    let (shown, scores) = if dims.contains(&0) || d == 0 {
        let none = Tensor::zeros(&dims, q.dtype(), q.device())?;
        (none.clone(), none)
    } else {
        weights(cx, &q, &key, scale)?
    };
    let y = if dims.contains(&0) || e == 0 {
        Tensor::zeros((b, n, s, e), q.dtype(), q.device())?
    } else {
        matmul(&scores, &repeated(&value, n / m)?)?
    };
    let y = if element.dims().len() == 3 { y.transpose(1, 2)?.contiguous()?.reshape((b, s, n * e))? } else { y };
    Ok(vec![back(element, &y)?, back(cx.input(1)?, &key)?, back(cx.input(2)?, &value)?, back(element, &shown)?])
}

/// What the fourth output shows, and how much each query takes of each value.
fn weights(cx: &Exec<'_>, q: &Tensor, key: &Tensor, scale: f64) -> Result<(Tensor, Tensor)> {
    let ((b, n, s, _), (_, m, t, _)) = (q.dims4()?, key.dims4()?);
    let raw = matmul(&(q.contiguous()? * scale)?, &repeated(key, n / m)?.transpose(2, 3)?)?;
    let cap = f64::from(cx.node.get_float("softcap", 0.0)?);
    let capped = if cap > 0.0 { (activate(&(&raw / cap)?, Activation::Tanh)? * cap)? } else { raw.clone() };
    let mask = mask::Mask::of(cx, [b, n, s, t])?;
    let mut scores = capped.clone();
    if let Some(added) = &mask.added {
        scores = binary(Binary::Add, &scores, &added.to_dtype(q.dtype())?)?;
    }
    let all = |t: &Tensor| -> Result<Tensor> { Ok(t.broadcast_as(scores.shape())?.contiguous()?) };
    let with_bias = match &mask.blocked {
        Some(blocked) => {
            all(blocked)?.where_cond(&Tensor::full(f32::NEG_INFINITY, scores.shape(), q.device())?.to_dtype(q.dtype())?, &scores)?
        }
        None => scores.clone(),
    };
    // A query that no key is open to takes nothing of any value.
    let taken = match &mask.dead {
        Some(dead) => {
            let dead = all(dead)?;
            let zeros = scores.zeros_like()?;
            dead.where_cond(&zeros, &softmax(&dead.where_cond(&zeros, &with_bias)?, 3)?)?
        }
        None => softmax(&with_bias, 3)?,
    };
    let shown = match cx.node.get_int("qk_matmul_output_mode", 0)? {
        0 => raw,
        1 => capped,
        2 => with_bias,
        3 => taken.clone(),
        other => return Err(Error::format(format!("attribute 'qk_matmul_output_mode' must be 0 to 3, got {other}"))),
    };
    Ok((shown, taken))
}
