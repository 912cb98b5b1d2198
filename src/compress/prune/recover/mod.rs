//! Recovery without training: the weights of layers whose input has changed are solved anew.
//!
//! Layer by layer in running order, weights and bias are found by least squares, such that the layer gives on images what it gave in the
//! unpruned model, from what the pruned and so far recovered layers before it give: He et al., "Channel pruning for accelerating very deep
//! neural networks" (2017); Luo et al., "ThiNet" (2017). The ridge draws towards the pruned weights, and held-out images choose it.

mod solve;
mod targets;
mod walk;

use super::judge::{Judge, feeds};
use super::{Analysis, Removal};
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::memory;
use compresso_base::report::counted;
use compresso_exec::Params;
use compresso_learn::data::Dataset;
use compresso_model::{Constant, Graph, Patch, Task, Value};
use rand::SeedableRng;
use rayon::prelude::*;
use serde::Serialize;
use solve::{Moved, Observed};
use std::collections::HashMap;
use targets::{Bias, Target};
use walk::Walk;

compresso_base::choice! {
    /// How a pruned model is brought back without training.
    pub enum Recover {
        /// Not at all.
        None = "none",
        /// The mean of each channel is made what it was, by the biases.
        Bias = "bias",
        /// Weights and biases are solved by least squares, layer by layer.
        Weights = "weights",
    }
}

/// Of so many images, one is held out.
const HELD_OUT: usize = 5;
/// Positions that are looked at, for each input of a layer and at least.
const PER_INPUT: usize = 8;
const LEAST_POSITIONS: usize = 6_144;
/// Images whose numbers are held together until they are summed up.
const SIDE_BY_SIDE: usize = 8;
/// Most bytes of values between layers, and the share of what is free that they may take.
const MOST_BYTES: u64 = 2 << 30;
const SHARE_OF_FREE: u64 = 4;

/// What a recovery did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recovery {
    /// Layers whose input changed and that could be solved.
    pub layers: usize,
    /// How many of them got other weights or biases.
    pub solved: usize,
    /// Images on which they were solved, held-out ones included.
    pub images: usize,
    /// Squared difference of the outputs from those of the unpruned model, as a share of their variance, on held-out images: of the pruned
    /// model as it was cut.
    pub error_before: f64,
    /// As [`Recovery::error_before`], of the recovered model.
    pub error_after: f64,
}

impl Recovery {
    /// `58 of 60 layers solved anew on 100 images: output error 0.412 → 0.031`
    pub fn headline(&self) -> String {
        let Self { layers, solved, images, error_before, error_after } = self;
        let [before, after] =
            [error_before, error_after].map(|&e| if e < 0.001 && e > 0.0 { format!("{e:.0e}") } else { format!("{e:.3}") });
        let few = if *images < HELD_OUT { ", on the images themselves: too few to hold one out" } else { "" };
        format!("{solved} of {layers} layers solved anew on {}: output error {before} → {after}{few}", counted(*images, "image"))
    }
}

/// What is recovered from what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pruned<'a> {
    pub found: &'a Analysis,
    pub removal: &'a Removal<'a>,
    pub graph: &'a Graph,
    pub task: &'a Task,
}

/// The pruned graph with recovered weights; never one whose outputs are further from the unpruned model's on the held-out images.
///
/// # Errors
/// As [`feeds`]; `Check` for values that are not finite; `Memory`; `Cancelled`.
pub(super) fn recover(pruned: Pruned<'_>, how: Recover, data: &Dataset, images: usize, ctx: &Context) -> Result<(Graph, Recovery)> {
    let dense = &pruned.found.graph;
    let (start, targets) = targets::of(pruned)?;
    let feeds = feeds(dense, pruned.task, data, images, ctx)?;
    let mut moved = Moved::default();
    if !targets.is_empty() && how != Recover::None {
        moved = Layers { dense: Walk::new(dense), pruned: Walk::new(&start), targets: &targets, how }.solve(&feeds, ctx)?;
    }
    let mut patch = Patch::new(&start);
    for (name, values) in &moved.constants {
        if let Some(old) = start.constant(name) {
            patch.set_constant(name, changed(old, values)?);
        }
    }
    let graph = patch.apply()?;
    let judge = Judge::new(dense, held_out(&feeds), ctx)?;
    let errors = [judge.error(pruned.graph, ctx)?, judge.error(&graph, ctx)?];
    let (graph, solved, error_after) =
        if errors[1] < errors[0] { (graph, moved.layers, errors[1]) } else { (pruned.graph.clone(), 0, errors[0]) };
    let recovery = Recovery { layers: targets.len(), solved, images: moved.images, error_before: errors[0], error_after };
    Ok((graph, recovery))
}

/// A constant with other numbers.
fn changed(old: &Constant, values: &[f64]) -> Result<Constant> {
    Constant::rounded(old.element(), old.dims(), values.to_vec())
}

fn is_held_out(image: usize, images: usize) -> bool {
    images >= HELD_OUT && image % HELD_OUT == HELD_OUT - 1
}

/// Those that choose the ridge and judge the result: all, where there are few.
fn held_out<T>(images: &[T]) -> impl Iterator<Item = &T> {
    let few = images.len() < HELD_OUT;
    images.iter().enumerate().filter(move |(i, _)| few || is_held_out(*i, images.len())).map(|(_, f)| f)
}

struct Layers<'a> {
    dense: Walk<'a>,
    pruned: Walk<'a>,
    targets: &'a [Target],
    how: Recover,
}

impl Layers<'_> {
    fn solve(&self, feeds: &[HashMap<String, Value>], ctx: &Context) -> Result<Moved> {
        let start = self.pruned.graph;
        let feeds = &feeds[..self.that_fit(feeds, ctx)?];
        let mut at: Vec<[HashMap<String, Value>; 2]> = feeds.iter().map(|f| [f.clone(), f.clone()]).collect();
        let mut params = Params::new();
        let mut moved = Moved { images: feeds.len(), ..Moved::default() };
        let mut progress = ctx.progress("solving layers anew", self.targets.len() as u64);
        for (number, target) in self.targets.iter().enumerate() {
            let most = (PER_INPUT * target.linear.inputs).max(LEAST_POSITIONS).div_ceil(feeds.len());
            let mut observed = Observed::new(&target.linear)?;
            // Outputs that layers still to come are to give, and that nobody else waits for.
            let waiting: Vec<&str> = self.targets[number..].iter().map(|t| t.goal.value.as_str()).collect();
            let rows = |i: usize, [dense, pruned]: &mut [HashMap<String, Value>; 2]| -> Result<Option<Vec<Vec<f32>>>> {
                ctx.check()?;
                self.dense.advance(dense, target.goal.after, &waiting, None, ctx)?;
                self.pruned.advance(pruned, target.node, &[], Some(&params), ctx)?;
                let (Some(x), Some(y)) = (pruned.get(&target.input), target.goal(dense, pruned)?) else { return Ok(None) };
                let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(ctx.seed.wrapping_add((number * feeds.len() + i) as u64));
                target.linear.rows(x, &y, most, &mut rng).map(Some)
            };
            // Much of a run between two layers has one thread only, so images run side by side.
            for (part, chunk) in at.chunks_mut(SIDE_BY_SIDE).enumerate() {
                let first = part * SIDE_BY_SIDE;
                let found: Vec<_> = chunk.par_iter_mut().enumerate().map(|(i, held)| rows(first + i, held)).collect::<Result<_>>()?;
                for (i, rows) in found.iter().enumerate() {
                    rows.iter().try_for_each(|rows| observed.add(rows, is_held_out(first + i, feeds.len())))?;
                }
            }
            if let Some(solution) = solve::layer(start, target, &mut observed, self.how, ctx)? {
                for (name, values) in &solution {
                    if let Some(old) = start.constant(name) {
                        params.insert(name.clone(), changed(old, values)?.tensor(&ctx.device)?);
                    }
                }
                moved.layers += 1;
                moved.constants.extend(solution);
            }
            progress.step(&target.layer)?;
        }
        Ok(moved)
    }

    /// How many images fit, by what the first one takes between layers.
    fn that_fit(&self, feeds: &[HashMap<String, Value>], ctx: &Context) -> Result<usize> {
        let Some(first) = feeds.first() else { return Ok(0) };
        let (mut dense, mut pruned, mut most) = (first.clone(), first.clone(), 1u64);
        for target in self.targets {
            self.dense.advance(&mut dense, target.goal.after, &[], None, ctx)?;
            self.pruned.advance(&mut pruned, target.node, &[], None, ctx)?;
            let bytes = |held: &HashMap<String, Value>| held.values().map(|v| 4 * v.tensor.elem_count() as u64).sum::<u64>();
            most = most.max(bytes(&dense) + bytes(&pruned));
        }
        let budget = memory::free().map_or(MOST_BYTES, |free| MOST_BYTES.min(free / SHARE_OF_FREE));
        Ok(feeds.len().min(usize::try_from(budget / most).unwrap_or(usize::MAX)).max(1))
    }
}
