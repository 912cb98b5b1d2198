//! Random tensors: RandomNormal, RandomUniform, RandomNormalLike, RandomUniformLike, Bernoulli, Multinomial.
//!
//! Seeded by the run's seed, the node's `seed` attribute and its first output's name, so that a run can be repeated.

use super::def::OpDef;
use super::facts::{fact, size};
use super::ints::count;
use super::roles::Data;
use super::run::Exec;
use crate::element::Element;
use crate::graph::{Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::{Device, Tensor};
use compresso_base::error::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Operators that draw random numbers.
pub const OPS: &[OpDef] = &[
    OpDef::new("RandomNormal", &[1, 22], infer_new, |cx| new(cx, normal)).not_foldable(),
    OpDef::new("RandomUniform", &[1, 22], infer_new, |cx| new(cx, uniform)).not_foldable(),
    OpDef::new("RandomNormalLike", &[1, 22], infer_like, |cx| like(cx, normal)).data(Data::At(&[])).not_foldable(),
    OpDef::new("RandomUniformLike", &[1, 22], infer_like, |cx| like(cx, uniform)).data(Data::At(&[])).not_foldable(),
    OpDef::new("Bernoulli", &[15, 22], infer_like, bernoulli).not_foldable(),
    OpDef::new("Multinomial", &[7, 22], infer_multinomial, multinomial).not_foldable(),
];

/// Draws numbers as a node's attributes say.
type Draw = fn(&Node, &mut ChaCha8Rng, usize) -> Result<Vec<f64>>;

pub(super) fn element(node: &Node, default: Element) -> Result<Element> {
    match node.find_int("dtype")? {
        None => Ok(default),
        Some(code) => {
            let e = i32::try_from(code).ok().and_then(Element::from_code);
            e.ok_or_else(|| Error::unsupported(format!("ONNX type {code} is not supported")))
        }
    }
}

fn shape(node: &Node) -> Result<Vec<usize>> {
    let dims = node.find_ints("shape")?.ok_or_else(|| Error::format("attribute 'shape' is missing"))?;
    let dims = dims.iter().map(|&d| size(d, "a size")).collect::<Result<Vec<_>>>()?;
    count(&dims)?;
    Ok(dims)
}

fn infer_new(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let dims = shape(cx.node)?.into_iter().map(Dim::Known).collect();
    Ok(vec![fact(element(cx.node, Element::F32)?, Some(dims))])
}

fn infer_like(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    Ok(vec![fact(element(cx.node, x.element)?, x.shape.clone())])
}

fn generator(cx: &Exec<'_>) -> Result<ChaCha8Rng> {
    let mut hash = DefaultHasher::new();
    cx.mode.seed.hash(&mut hash);
    cx.node.get_float("seed", 0.0)?.to_bits().hash(&mut hash);
    cx.node.outputs.first().hash(&mut hash);
    Ok(ChaCha8Rng::seed_from_u64(hash.finish()))
}

fn uniform(node: &Node, rng: &mut ChaCha8Rng, n: usize) -> Result<Vec<f64>> {
    let (low, high) = (f64::from(node.get_float("low", 0.0)?), f64::from(node.get_float("high", 1.0)?));
    Ok((0..n).map(|_| low + (high - low) * rng.random::<f64>()).collect())
}

/// Normal numbers by the Box-Muller transform.
fn normal(node: &Node, rng: &mut ChaCha8Rng, n: usize) -> Result<Vec<f64>> {
    let (mean, scale) = (f64::from(node.get_float("mean", 0.0)?), f64::from(node.get_float("scale", 1.0)?));
    let mut draw = || {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
    };
    Ok((0..n).map(|_| mean + scale * draw()).collect())
}

fn value(data: Vec<f64>, dims: Vec<usize>, element: Element, device: &Device) -> Result<Vec<Value>> {
    let storage = element.storage().ok_or_else(|| Error::unsupported(format!("{element} values cannot be computed with")))?;
    let t = Tensor::from_vec(data, dims, &Device::Cpu)?.to_dtype(storage)?;
    Ok(vec![Value::new(element, t.to_device(device)?)?])
}

fn new(cx: &Exec<'_>, draw: Draw) -> Result<Vec<Value>> {
    let dims = shape(cx.node)?;
    let data = draw(cx.node, &mut generator(cx)?, dims.iter().product())?;
    value(data, dims, element(cx.node, Element::F32)?, &cx.device())
}

fn like(cx: &Exec<'_>, draw: Draw) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let data = draw(cx.node, &mut generator(cx)?, x.tensor.elem_count())?;
    value(data, x.dims().to_vec(), element(cx.node, x.element)?, x.tensor.device())
}

fn bernoulli(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let mut rng = generator(cx)?;
    let data = x.to_f64s()?.into_iter().map(|p| f64::from(u8::from(rng.random::<f64>() < p))).collect();
    value(data, x.dims().to_vec(), element(cx.node, x.element)?, x.tensor.device())
}

fn samples(node: &Node) -> Result<usize> {
    size(node.get_int("sample_size", 1)?, "the number of samples")
}

fn infer_multinomial(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let rows = match cx.shape(0)? {
        None => Dim::Unknown,
        Some([rows, _]) => rows.clone(),
        Some(s) => return Err(Error::shape(format!("expected logarithms of probabilities [rows, classes], got {} axes", s.len()))),
    };
    Ok(vec![fact(element(cx.node, Element::I32)?, Some(vec![rows, Dim::Known(samples(cx.node)?)]))])
}

/// Classes drawn by logarithms of probabilities that need not sum to 1.
fn multinomial(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let (&[rows, classes], n) = (x.dims(), samples(cx.node)?) else {
        return Err(Error::shape(format!("expected logarithms of probabilities [rows, classes], got {:?}", x.dims())));
    };
    let total = count(&[rows, n])?;
    if classes == 0 && total > 0 {
        return Err(Error::shape("there are no classes to draw from"));
    }
    let mut rng = generator(cx)?;
    let mut data = Vec::with_capacity(total);
    for row in x.to_f64s()?.chunks(classes.max(1)) {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sums: Vec<f64> = row
            .iter()
            .scan(0.0, |sum, v| {
                *sum += (v - most).exp();
                Some(*sum)
            })
            .collect();
        let all = sums.last().copied().unwrap_or(0.0);
        data.extend((0..n).map(|_| {
            let at = all * rng.random::<f64>();
            sums.partition_point(|&s| s <= at).min(classes - 1) as f64
        }));
    }
    value(data, vec![rows, n], element(cx.node, Element::I32)?, x.tensor.device())
}
