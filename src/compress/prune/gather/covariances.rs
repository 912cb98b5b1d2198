//! How the channels that layers read vary together on images.

use super::super::moments::Moments;
use crate::images::Images;
use crate::probe::Probe;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::compiled::Seen;
use compresso_learn::data::Dataset;
use compresso_model::{Graph, Task};
use rand::{RngExt, SeedableRng};
use std::collections::{HashMap, HashSet};

/// Positions of a value that are looked at on each image.
const POSITIONS: usize = 256;
/// A value with more channels is left out: its covariance would take more than 128 MB.
const MOST_CHANNELS: usize = 4096;

/// Runs images through the graph; gives the covariances, `[channels, channels]`, along one axis of each of `values` (name and axis).
///
/// # Errors
/// As [`Images::new`]; `Check` for values that are not finite; `Cancelled`.
pub(super) fn gather(
    graph: &Graph,
    values: &HashMap<String, usize>,
    task: &Task,
    data: &Dataset,
    images: usize,
    ctx: &Context,
) -> Result<HashMap<String, Vec<f64>>> {
    let names: HashSet<String> = values.keys().cloned().collect();
    let mut batches = Images::new(graph, task, data, images, 1, ctx)?;
    let mut probe = Probe::new(graph, names, ctx)?;
    let mut progress = ctx.progress("gathering covariances", images.min(data.for_training().len()) as u64);
    let mut moments: HashMap<String, Moments> = HashMap::new();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(ctx.seed);
    let mut see = |seen: &Seen<'_>| -> Result<()> {
        let Some((&axis, channels)) = values.get(seen.name).and_then(|a| Some((a, *seen.dims.get(*a)?))) else { return Ok(()) };
        if channels > MOST_CHANNELS {
            return Ok(());
        }
        let moments = moments.entry(seen.name.to_string()).or_insert_with(|| Moments::new(channels));
        if moments.size() != channels {
            return Err(Error::internal(format!(
                "'{}' has the shape {:?}, its axis {axis} was to have {}",
                seen.name,
                seen.dims,
                moments.size()
            )));
        }
        moments.add(&rows(seen, axis, &mut rng))
    };
    while let Some(batch) = batches.next() {
        let batch = batch?;
        let feeds = batches.feeds(&batch)?;
        probe.run(&feeds, &mut see)?;
        for _ in &batch.indices {
            progress.step("")?;
        }
    }
    let covariance = |(name, mut m): (String, Moments)| {
        m.finish()?;
        Ok((name, m.covariance()))
    };
    moments.into_iter().map(covariance).collect()
}

/// The numbers along `axis` at drawn positions of the other axes.
fn rows(seen: &Seen<'_>, axis: usize, rng: &mut impl RngExt) -> Vec<f32> {
    let mut others: Vec<(usize, usize)> = seen.dims.iter().copied().zip(seen.strides.iter().copied()).collect();
    let (channels, step) = others.remove(axis);
    let count: usize = others.iter().map(|o| o.0).product();
    let most = count.min(POSITIONS);
    let mut rows = Vec::with_capacity(most * channels);
    for i in 0..most {
        let mut rest = rng.random_range(i * count / most..(i + 1) * count / most);
        let mut start = 0;
        for &(size, stride) in others.iter().rev() {
            start += rest % size * stride;
            rest /= size;
        }
        rows.extend((0..channels).map(|c| seen.values[start + c * step]));
    }
    rows
}
