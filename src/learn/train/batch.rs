//! Models that were written for batches of one size.

use candle_core::{DType, Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_exec::{Run, run};
use compresso_model::graph::open_batch;
use compresso_model::{Element, Fact, Graph, Model, Value};
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

/// What rounding makes of the order in which sums are added, as part of the largest number.
const TOLERANCE: f64 = 1e-4;

/// Whether the model's graph also takes twice as many images, and makes of each what it makes of it alone.
///
/// # Errors
/// Whatever a run of the model reports.
pub(super) fn takes_any_batch(model: &Model, ctx: &Context) -> Result<bool> {
    let Some(open) = open_batch(model.graph())? else { return Ok(false) };
    let sizes: Option<Vec<(String, Vec<usize>)>> = model
        .graph()
        .feeds()
        .filter(|i| i.fact.element == Element::F32)
        .map(|i| Some((i.name.clone(), i.fact.dims().or_else(|| at_the_task_s_size(&i.fact, model))?)))
        .collect();
    let Some(sizes) = sizes.filter(|s| s.len() == model.graph().feeds().count()) else { return Ok(false) };
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(ctx.seed);
    let (mut halves, mut whole) = ([HashMap::new(), HashMap::new()], HashMap::new());
    for (name, dims) in sizes {
        compresso_base::memory::claim_tensor(&dims, size_of::<f32>(), 4, || format!("input '{name}' of shape {dims:?}"))?;
        let parts: Vec<Tensor> = (0..2)
            .map(|_| {
                let values: Vec<f32> = (0..dims.iter().product()).map(|_| rng.random()).collect();
                Tensor::from_vec(values, dims.as_slice(), &Device::Cpu)
            })
            .collect::<candle_core::Result<_>>()?;
        whole.insert(name.clone(), Value::new(Element::F32, Tensor::cat(&parts, 0)?)?);
        for (feeds, part) in halves.iter_mut().zip(parts) {
            feeds.insert(name.clone(), Value::new(Element::F32, part)?);
        }
    }
    let outputs = |graph: &Graph, feeds| run(graph, feeds, Run { cancel: Some(&ctx.cancel), ..Run::default() });
    let together = match outputs(&open, &whole) {
        Err(e) if e.is_cancelled() => return Err(e),
        Err(_) => return Ok(false),
        Ok(made) => made,
    };
    for (i, feeds) in halves.iter().enumerate() {
        for (name, alone) in &outputs(model.graph(), feeds)? {
            let n = alone.dims().first().copied().unwrap_or(1);
            let Some(part) = together.get(name).and_then(|t| t.tensor.narrow(0, i * n, n).ok()) else { return Ok(false) };
            let [a, b] = [&part, &alone.tensor].map(|t| t.to_dtype(DType::F64).and_then(|t| t.flatten_all()?.to_vec1::<f64>()));
            let (a, b) = (a?, b?);
            let largest = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            if a.iter().zip(&b).any(|(a, b)| (a - b).abs() > TOLERANCE * largest) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The sizes of an input that leaves height and width open.
fn at_the_task_s_size(fact: &Fact, model: &Model) -> Option<Vec<usize>> {
    compresso_model::graph::specialize(fact, 1, model.image_size()).dims()
}
