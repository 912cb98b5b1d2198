//! Losses: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss.
//!
//! <https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html> and its sibling. Differentiable by the scores.
//!
//! # Shapes
//! Scores `[n, c, spatial…]`, classes `[n, spatial…]`, a weight for each class `[c]`; the loss has the shape of the classes, or is
//! a scalar where it is reduced.

use super::cost;
use super::def::OpDef;
use super::facts::fact;
use super::gather::pick;
use super::ints::Ints;
use super::roles::Float16Rule;
use super::run::Exec;
use crate::graph::{Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_kernels::ops::log_softmax;

/// Losses of classification.
pub const OPS: &[OpDef] = &[
    OpDef::new("NegativeLogLikelihoodLoss", &[12, 13, 22], infer, |cx| Ok(vec![loss(cx, cx.tensor(0)?)?]))
        .sums()
        .cost(cost::per_input)
        .float16(Float16Rule::Float32),
    OpDef::new("SoftmaxCrossEntropyLoss", &[12, 13], infer, cross_entropy).sums().cost(cost::per_input).float16(Float16Rule::Float32),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reduction {
    None,
    Sum,
    Mean,
}

fn reduction(node: &Node) -> Result<Reduction> {
    match node.get_str("reduction", "mean")? {
        "none" => Ok(Reduction::None),
        "sum" => Ok(Reduction::Sum),
        "mean" => Ok(Reduction::Mean),
        other => Err(Error::format(format!("attribute 'reduction' must be none, sum or mean, got '{other}'"))),
    }
}

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let (x, classes) = (cx.input(0)?, cx.input(1)?);
    let shape = match reduction(cx.node)? {
        Reduction::None => classes.shape.clone(),
        _ => Some(Vec::<Dim>::new()),
    };
    Ok(vec![fact(x.element, shape), fact(x.element, x.shape.clone())])
}

fn cross_entropy(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    if x.rank() < 2 || !x.dtype().is_float() {
        return Err(Error::shape(format!("expected floating-point scores [n, c, spatial…], got {:?}", x.dims())));
    }
    let logs = if x.elem_count() == 0 { x.clone() } else { log_softmax(x, 1)? };
    Ok(vec![loss(cx, &logs)?, cx.input(0)?.with(logs)?])
}

/// The loss of logarithms of probabilities.
fn loss(cx: &Exec<'_>, logs: &Tensor) -> Result<Value> {
    let classes = Ints::of(cx.input(1)?)?;
    let (&[n, c, ..], true) = (logs.dims(), logs.dtype().is_float() && logs.rank() == classes.dims.len() + 1) else {
        return Err(Error::shape(format!(
            "expected scores [n, c, spatial…] and classes [n, spatial…], got {:?} and {:?}",
            logs.dims(),
            classes.dims
        )));
    };
    let (space, own) = (&logs.dims()[2..], &classes.dims);
    if own[0] != n || own[1..] != *space {
        return Err(Error::shape(format!("expected scores [n, c, spatial…] and classes [n, spatial…], got {:?} and {own:?}", logs.dims())));
    }
    let weights = match cx.get(2) {
        None => vec![1.0; c],
        Some(w) if w.dims() == [c] => w.to_f64s()?,
        Some(w) => return Err(Error::shape(format!("expected a weight for each of {c} classes, got {:?}", w.dims()))),
    };
    let ignored = cx.node.find_int("ignore_index")?;
    let area: usize = space.iter().product();
    let (mut positions, mut factors) = (Vec::with_capacity(classes.data.len()), Vec::with_capacity(classes.data.len()));
    for (i, &class) in classes.data.iter().enumerate() {
        if Some(class) == ignored {
            positions.push(0);
            factors.push(0.0);
            continue;
        }
        let k = usize::try_from(class).ok().filter(|&k| k < c);
        let k = k.ok_or_else(|| Error::shape(format!("class {class} is out of range for {c} classes")))?;
        positions.push((i / area * c + k) * area + i % area);
        factors.push(weights[k]);
    }
    let total: f64 = factors.iter().sum();
    let wide = super::run::wide(logs.dtype());
    let open: Vec<u8> = factors.iter().map(|&f| u8::from(f != 0.0)).collect();
    let picked = pick(logs, &positions, own)?.to_dtype(wide)?;
    let device = logs.device();
    let factors = Tensor::from_vec(factors, own.as_slice(), device)?.to_dtype(wide)?;
    let open = Tensor::from_vec(open, own.as_slice(), device)?;
    // Where nothing counts, infinite logarithms do not either.
    let each = open.where_cond(&(picked * factors)?.neg()?, &Tensor::zeros(own.as_slice(), wide, device)?)?;
    let out = match reduction(cx.node)? {
        Reduction::None => each,
        Reduction::Sum => each.sum_all()?,
        Reduction::Mean => (each.sum_all()? / total)?,
    };
    cx.input(0)?.with(out.to_dtype(logs.dtype())?)
}
