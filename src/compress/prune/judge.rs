//! How far the outputs of changed graphs are from those of the graph they were made from.

use crate::images::Images;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_exec::{Engine, Outputs};
use compresso_learn::data::Dataset;
use compresso_model::{Graph, Task, Value};
use indexmap::IndexMap;
use std::collections::HashMap;

/// What a graph is fed with, one image after the other.
///
/// # Errors
/// As [`Images::new`]; `Cancelled`.
pub(super) fn feeds(graph: &Graph, task: &Task, data: &Dataset, images: usize, ctx: &Context) -> Result<Vec<HashMap<String, Value>>> {
    let mut batches = Images::new(graph, task, data, images, 1, ctx)?;
    let mut feeds = Vec::new();
    while let Some(batch) = batches.next() {
        feeds.push(batches.feeds(&batch?)?);
        ctx.check()?;
    }
    Ok(feeds)
}

/// The outputs of a graph on some images.
#[derive(Debug)]
pub(super) struct Judge<'f> {
    feeds: Vec<&'f HashMap<String, Value>>,
    expected: Vec<Outputs>,
}

impl<'f> Judge<'f> {
    /// # Errors
    /// Whatever running reports; `Cancelled`.
    pub fn new(graph: &Graph, feeds: impl IntoIterator<Item = &'f HashMap<String, Value>>, ctx: &Context) -> Result<Self> {
        let feeds: Vec<_> = feeds.into_iter().collect();
        let expected = outputs(graph, &feeds, ctx)?;
        Ok(Self { feeds, expected })
    }

    /// The squared difference of a graph's outputs from the expected ones, as a share of their variance: the mean over outputs, and for maps
    /// over their channels, which may have different units.
    ///
    /// # Errors
    /// Whatever running reports; `Cancelled`.
    pub fn error(&self, graph: &Graph, ctx: &Context) -> Result<f64> {
        let mut all: IndexMap<&str, Vec<Spread>> = IndexMap::new();
        for (expected, got) in self.expected.iter().zip(outputs(graph, &self.feeds, ctx)?) {
            for (name, value) in expected.iter().filter(|(_, v)| v.element.is_float()) {
                let dims = value.dims();
                let (channels, inner) = if dims.len() >= 3 { (dims[1], dims[2..].iter().product::<usize>()) } else { (1, 1) };
                let spreads = all.entry(name).or_default();
                spreads.resize(channels, Spread::default());
                let got = got[name].to_f32s()?;
                for (i, e) in value.to_f32s()?.into_iter().enumerate() {
                    spreads[i / inner % channels].see(f64::from(e), f64::from(got.get(i).copied().unwrap_or(f32::NAN)));
                }
            }
        }
        let seen: Vec<Spread> = all.into_values().flatten().filter(|s| s.count > 0.0).collect();
        Ok(seen.iter().map(Spread::error).sum::<f64>() / seen.len().max(1) as f64)
    }
}

fn outputs(graph: &Graph, feeds: &[&HashMap<String, Value>], ctx: &Context) -> Result<Vec<Outputs>> {
    let mut engine = Engine::new(graph, &[], ctx.threads)?;
    feeds.iter().map(|feed| engine.run(feed, Some(&ctx.cancel))).collect()
}

/// Sums over the numbers of one channel of an output.
#[derive(Debug, Clone, Default)]
struct Spread {
    count: f64,
    sum: f64,
    squares: f64,
    error: f64,
}

impl Spread {
    fn see(&mut self, expected: f64, got: f64) {
        self.count += 1.0;
        self.sum += expected;
        self.squares += expected * expected;
        self.error += (got - expected) * (got - expected);
    }
    /// Of a channel that hardly varies, the difference counts beside its size.
    fn error(&self) -> f64 {
        let variance = self.squares - self.sum * self.sum / self.count;
        if self.error == 0.0 { 0.0 } else { self.error / variance.max(1e-6 * self.squares).max(f64::MIN_POSITIVE) }
    }
}
