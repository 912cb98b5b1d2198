//! The error at a model's outputs when some of it is rounded.

use super::calibrate::Images;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_exec::{Engine, Outputs};
use compresso_learn::data::Dataset;
use compresso_learn::eval::output_parts;
use compresso_model::{Element, Graph, Task, Value};
use indexmap::IndexMap;
use serde::Serialize;
use std::collections::HashMap;

/// Runs graphs on the same images and holds what they give against what the float graph gives.
pub struct Judge<'a> {
    task: &'a Task,
    feeds: Vec<HashMap<String, Value>>,
    exact: Vec<Outputs>,
    ctx: &'a Context,
}

/// How far rounded outputs are from exact ones. Boxes and scores of a detector count as two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutputError {
    /// Squares of the differences over those of the exact values, the mean over the outputs; infinite where a value is not finite.
    pub noise: f64,
    /// The least cosine of the angle between an exact and a rounded output.
    pub cosine: f64,
}

impl OutputError {
    /// Signal over noise in decibels; infinite where nothing differs.
    pub fn sqnr_db(&self) -> f64 {
        -10.0 * self.noise.log10()
    }
}

/// Sums over the values of one output.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    signal: f64,
    rounded: f64,
    noise: f64,
    dot: f64,
}

impl Sums {
    fn add(&mut self, exact: &[f64], rounded: &[f64]) {
        for (&x, &y) in exact.iter().zip(rounded) {
            // The same infinity in both is no error.
            if x == y && !x.is_finite() {
                continue;
            }
            self.signal += x * x;
            self.rounded += y * y;
            self.noise += (x - y) * (x - y);
            self.dot += x * y;
        }
    }
    fn noise(&self) -> f64 {
        match (self.noise, self.signal) {
            (0.0, _) => 0.0,
            (noise, signal) if noise.is_finite() && signal > 0.0 => noise / signal,
            _ => f64::INFINITY,
        }
    }
    fn cosine(&self) -> f64 {
        let norms = (self.signal * self.rounded).sqrt();
        if norms > 0.0 { self.dot / norms } else { f64::from(u8::from(self.signal == self.rounded)) }
    }
}

impl<'a> Judge<'a> {
    /// Of a float graph, on `images` of the dataset's training images, drawn with the context's seed, from image `from` of the draw on.
    ///
    /// # Errors
    /// As [`Images::after`]; whatever running the graph reports.
    pub fn new(graph: &Graph, task: &'a Task, dataset: &Dataset, from: usize, images: usize, ctx: &'a Context) -> Result<Self> {
        let feeds = Images::after(from, graph, task, dataset, images, ctx)?.map(|batch| Ok(batch?.1)).collect::<Result<Vec<_>>>()?;
        let mut judge = Self { task, feeds, exact: Vec::new(), ctx };
        judge.exact = judge.run(graph)?;
        Ok(judge)
    }
    /// Images, or batches of them, that it judges by.
    pub fn len(&self) -> usize {
        self.feeds.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }
    fn run(&self, graph: &Graph) -> Result<Vec<Outputs>> {
        let mut engine = Engine::new(graph, &[], self.ctx.threads)?;
        self.feeds.iter().map(|feeds| engine.run(feeds, Some(&self.ctx.cancel))).collect()
    }
    /// The error of a graph with the inputs and outputs of the float one.
    ///
    /// # Errors
    /// Whatever running it reports; `Cancelled`.
    pub fn error(&self, graph: &Graph) -> Result<OutputError> {
        let mut sums: IndexMap<String, Sums> = IndexMap::new();
        for (exact, rounded) in self.exact.iter().zip(self.run(graph)?) {
            for (name, exact) in exact.iter().filter(|(_, v)| v.element == Element::F32 && !v.is_sequence()) {
                let Some(rounded) = rounded.get(name).filter(|r| r.dims() == exact.dims()) else { continue };
                let (dims, x, y) = (exact.dims(), exact.to_f64s()?, rounded.to_f64s()?);
                let parts = output_parts(self.task, name, dims);
                if parts.is_empty() {
                    sums.entry(name.clone()).or_default().add(&x, &y);
                }
                for part in parts {
                    sums.entry(format!("{name} {}", part.name)).or_default().add(&part.of(&x, dims), &part.of(&y, dims));
                }
            }
        }
        let count = sums.len().max(1) as f64;
        let noise = sums.values().map(Sums::noise).sum::<f64>() / count;
        Ok(OutputError { noise, cosine: sums.values().map(Sums::cosine).fold(1.0, f64::min) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_follow_their_definitions() {
        let mut sums = Sums::default();
        sums.add(&[3.0, 4.0], &[3.0, 3.0]);
        assert!((sums.noise() - 1.0 / 25.0).abs() < 1e-12);
        assert!((sums.cosine() - 21.0 / (5.0 * 18f64.sqrt())).abs() < 1e-12);
        assert!((OutputError { noise: 0.01, cosine: 1.0 }.sqnr_db() - 20.0).abs() < 1e-9);
        let mut none = Sums::default();
        none.add(&[0.0, f64::INFINITY], &[0.0, f64::INFINITY]);
        assert_eq!((none.noise(), none.cosine()), (0.0, 1.0));
        none.add(&[1.0], &[f64::NAN]);
        assert_eq!(none.noise(), f64::INFINITY);
    }
}
