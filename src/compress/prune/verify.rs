//! The proof of a pruning: the pruned graph computes what the masked one does.

use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::{Engine, Outputs, Run, run};
use compresso_learn::data::{Dataset, ImageForm, Loader, LoaderOptions};
use compresso_model::graph::specialize;
use compresso_model::{Element, Graph, IMAGE_CHANNELS, Task, Value};
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

/// Largest difference allowed, as a share of the largest magnitude of the output (of its channel, for maps).
const TOLERANCE: f32 = 1e-4;
/// Size of images for graphs that take any.
const ANY_SIZE: usize = 64;
/// How many inputs are tried.
const ROUNDS: u64 = 2;

/// Runs both graphs on the same inputs: two images of the dataset, else seeded noise.
///
/// # Errors
/// `Check`, naming the output and the difference, when they differ or are not finite.
pub(super) fn equal(masked: &Graph, pruned: &Graph, task: &Task, data: Option<&Dataset>, ctx: &Context) -> Result<()> {
    let mut wanted: Vec<String> = masked.outputs().iter().map(|o| o.name.clone()).collect();
    wanted.extend(super::head_values(task));
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mut progress = ctx.progress("checking the pruned model", ROUNDS);
    let mut images = images(masked, task, data, ctx)?.into_iter();
    let mut engines = [Engine::new(masked, &wanted, ctx.threads)?, Engine::new(pruned, &wanted, ctx.threads)?];
    for round in 0..ROUNDS {
        let mut feeds = noise(masked, task, ctx.seed.wrapping_add(round))?;
        feeds.extend(images.next());
        let cancel = Some(&ctx.cancel);
        let planned = (engines[0].run(&feeds, cancel)?, engines[1].run(&feeds, cancel)?);
        // Planned, the two may sum in different orders; only what the reference finds is an error.
        if all_same(&planned.0, &planned.1).is_err() {
            let go = |g: &Graph| run(g, &feeds, Run { wanted: &wanted, cancel, ..Run::default() });
            all_same(&go(masked)?, &go(pruned)?)?;
        }
        progress.step("")?;
    }
    Ok(())
}

fn all_same(expected: &Outputs, got: &Outputs) -> Result<()> {
    expected.iter().zip(got).try_for_each(|((name, e), (_, g))| same(e, g).map_err(|e| e.at(format!("output '{name}'"))))
}

fn same(expected: &Value, got: &Value) -> Result<()> {
    let differ = |why: String| Error::check(format!("the pruned model does not equal the masked one: {why}"));
    if expected.dims() != got.dims() {
        return Err(differ(format!("expected the shape {:?}, got {:?}", expected.dims(), got.dims())));
    }
    let (a, b) = (expected.to_f32s()?, got.to_f32s()?);
    // Channels of a map may have different units (pixels, probabilities), so each has its own measure.
    let dims = expected.dims();
    let (slices, inner) = if dims.len() >= 3 { (dims[1], dims[2..].iter().product()) } else { (1, a.len()) };
    let mut largest = vec![0f32; slices];
    for (i, v) in a.iter().enumerate() {
        let slice = &mut largest[(i / inner.max(1)) % slices.max(1)];
        *slice = slice.max(v.abs());
    }
    let overall = largest.iter().copied().fold(0f32, f32::max);
    for (i, (x, y)) in a.iter().zip(&b).enumerate() {
        let scale = largest[(i / inner.max(1)) % slices.max(1)];
        let allowed = TOLERANCE * scale + f32::EPSILON * overall;
        let ok = (x - y).abs() <= allowed || x == y || (x.is_nan() && y.is_nan());
        if !ok {
            return Err(differ(format!("expected {x}, got {y} at element {i} (allowed difference {allowed:.1e})")));
        }
    }
    if a.iter().all(|v| !v.is_finite()) && !a.is_empty() {
        return Err(differ("all values are infinite or not numbers, so equality cannot be shown".into()));
    }
    Ok(())
}

/// The first images of the dataset as values of the graph's image input; none when it has no such input.
fn images(graph: &Graph, task: &Task, data: Option<&Dataset>, ctx: &Context) -> Result<Vec<(String, Value)>> {
    let Some(data) = data else { return Ok(Vec::new()) };
    let feeds: Vec<_> = graph.feeds().collect();
    let [input] = feeds.as_slice() else { return Ok(Vec::new()) };
    let image = task.image_size().unwrap_or([ANY_SIZE; 2]);
    match specialize(&input.fact, 1, Some(image)).dims().as_deref() {
        Some(&[1, channels, h, w]) if IMAGE_CHANNELS.contains(&channels) && input.fact.element == Element::F32 => {
            let options = LoaderOptions { batch: 1, size: [h, w], form: ImageForm::of(graph, task), ..LoaderOptions::default() };
            let batches = Loader::new(&data.take(ROUNDS as usize), options, ctx)?;
            batches.map(|b| Ok((input.name.clone(), Value::plain(b?.images)?))).collect()
        }
        _ => Ok(Vec::new()),
    }
}

/// Seeded inputs: floats uniform in [0, 1), as images are; zeros for other types.
fn noise(graph: &Graph, task: &Task, seed: u64) -> Result<HashMap<String, Value>> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let image = task.image_size().unwrap_or([ANY_SIZE; 2]);
    let mut feeds = HashMap::new();
    for input in graph.feeds() {
        let fact = specialize(&input.fact, 1, Some(image));
        let shape = fact.shape.as_ref().ok_or_else(|| Error::unsupported(format!("input '{}' has no known rank", input.name)))?;
        let dims: Vec<usize> = shape.iter().map(|d| d.known().unwrap_or(ANY_SIZE)).collect();
        let count = dims.iter().product::<usize>();
        let storage = fact.element.storage().ok_or_else(|| Error::unsupported(format!("{} inputs", fact.element)))?;
        let values: Vec<f32> = if fact.element.is_float() { (0..count).map(|_| rng.random::<f32>()).collect() } else { vec![0.0; count] };
        let element: Element = fact.element;
        let tensor = Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(storage)?;
        feeds.insert(input.name.clone(), Value::new(element, tensor)?);
    }
    Ok(feeds)
}
