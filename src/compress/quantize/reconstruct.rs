//! Weights and biases chosen by what layers make of calibration images: adaptive rounding and bias correction.
//!
//! Layers are gone through in the order of the graph, some at a time. The input that a layer's rounding is chosen for is the one
//! that it will read: of a graph in which the layers before it, and the activations, are rounded already. What comes out is a float
//! graph whose weights lie on the grid, so that rounding to the nearest integer gives the chosen ones.

use super::Settings;
use super::adaround::{Problem, STEPS};
use super::affine::Affine;
use super::bias;
use super::calibrate::Images;
use super::fit;
use super::layer::Matrix;
use super::placement::{Plan, WeightedNode};
use super::static_int8;
use crate::probe::Probe;
use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_exec::compiled::Seen;
use compresso_learn::data::Dataset;
use compresso_model::ops::conv::CONV;
use compresso_model::ops::matmul::GEMM;
use compresso_model::{Constant, Graph, Node, Patch, Task, Value};
use compresso_target::Grid;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Layers that are chosen at once: those after them read what they make.
const TOGETHER: usize = 4;
/// Rows of a layer's input that are looked at, for each number of a row; at least and at most so many.
const ROWS_PER_NUMBER: usize = 4;
const ROWS: (usize, usize) = (4096, 32_768);

/// What is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choices {
    /// Weights by adaptive rounding; else to the nearest.
    pub rounding: bool,
    /// Biases that keep the mean of each output channel (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
    /// Bias Correction", 4.2, with means that were measured).
    pub bias: bool,
}

impl Choices {
    /// False where all is rounded to the nearest.
    pub fn any(self) -> bool {
        self.rounding || self.bias
    }
}

/// A float graph with weights and biases in place of `graph`'s. `scales` are those of the plan's values; empty where
/// activations stay in float. Layers that share a weight, and those that are no product of matrices ([`Matrix`]), keep theirs.
///
/// # Errors
/// As [`Images::new`]; whatever running the graph reports; `Cancelled`.
pub(super) fn reconstruct(
    graph: &Graph,
    plan: &Plan,
    scales: &HashMap<String, Affine>,
    settings: &Settings,
    (task, dataset, images): (&Task, &Dataset, usize),
    choices: Choices,
    ctx: &Context,
) -> Result<Graph> {
    let readers = graph.consumers();
    let mut layers = Vec::new();
    let alone = |l: &&WeightedNode| !l.scales.is_empty() && readers.get(l.weight.as_str()).is_none_or(|r| r.len() == 1);
    for layer in plan.layers.iter().filter(alone) {
        let node = &graph.nodes()[layer.node];
        if let Some(matrix) = Matrix::of(graph, node).at(|| node.label())? {
            let weights = matrix.pack(&fit::values_of(graph, layer).at(|| node.label())?);
            layers.push(Layer { layer, node, matrix, weights });
        }
    }
    let feeds = Images::new(graph, task, dataset, images, ctx)?.map(|b| Ok(b?.1)).collect::<Result<Vec<_>>>()?;
    let mut progress = ctx.progress("reconstruct", layers.len() as u64);
    let activations = Plan { values: plan.values.clone(), reads: plan.reads.clone(), ..Plan::default() };
    let mut current = graph.clone();
    for some in layers.chunks(TOGETHER) {
        let rounded = if scales.is_empty() { current.clone() } else { static_int8::insert(&current, &activations, scales, settings)? };
        let seen = look(graph, &rounded, some, &feeds, ctx)?;
        let mut patch = Patch::new(&current);
        for (layer, seen) in some.iter().zip(seen) {
            layer.choose(&mut patch, graph, &seen, settings, choices, ctx).at(|| layer.node.label())?;
            progress.step("")?;
        }
        current = patch.apply()?;
        if layers.iter().any(|l| current.nodes().get(l.layer.node).is_none_or(|n| n.outputs != l.node.outputs)) {
            return Err(Error::internal("other constants have changed the order of the nodes"));
        }
    }
    Ok(current)
}

/// Runs both graphs on all images and sums up what the layers read.
fn look(
    exact: &Graph,
    rounded: &Graph,
    layers: &[Layer<'_>],
    feeds: &[HashMap<String, Value>],
    ctx: &Context,
) -> Result<Vec<Vec<Moments>>> {
    let makers = rounded.producers();
    let reads = |l: &Layer<'_>| -> Result<[String; 2]> {
        let i = makers.get(l.node.outputs[0].as_str()).ok_or_else(|| Error::internal("rounding activations keeps the layers"))?;
        Ok([l.node.inputs[0].clone(), rounded.nodes()[*i].inputs[0].clone()])
    };
    let names = layers.iter().map(reads).collect::<Result<Vec<_>>>()?;
    let of = |side: usize| names.iter().map(|n| n[side].clone()).collect::<HashSet<_>>();
    let mut probes = [Probe::new(exact, of(0), ctx)?, Probe::new(rounded, of(1), ctx)?];
    let mut sums = layers.iter().map(Layer::nothing).collect::<Result<Vec<_>>>()?;
    for (image, fed) in feeds.iter().enumerate() {
        let mut rows: [BTreeMap<usize, Vec<Vec<f32>>>; 2] = Default::default();
        for (side, probe) in probes.iter_mut().enumerate() {
            probe.run(fed, &mut |seen: &Seen<'_>| {
                for (i, layer) in layers.iter().enumerate().filter(|(i, _)| names[*i][side] == seen.name) {
                    rows[side].insert(i, layer.rows(seen, image, feeds.len())?);
                }
                Ok(())
            })?;
        }
        let [exact, rounded] = &rows;
        for (i, layer) in layers.iter().enumerate() {
            let (Some(x), Some(r)) = (exact.get(&i), rounded.get(&i)) else { continue };
            for (g, (x, r)) in x.iter().zip(r).enumerate() {
                layer.add(&mut sums[i][g], g, x, r)?;
            }
        }
    }
    Ok(sums)
}

/// A layer whose weight or bias is chosen.
struct Layer<'a> {
    layer: &'a WeightedNode,
    node: &'a Node,
    matrix: Matrix,
    /// In the form of the matrix, `[groups · outputs, length]`.
    weights: Vec<f32>,
}

/// What was seen of a group of a layer's input: `x` of the exact graph, `x̂` of the rounded one. Sums over rows.
struct Moments {
    rows: f64,
    /// Of `x̂ᵀ x̂` and of `x̂ᵀ (x − x̂)`, `[length, length]`.
    second: Tensor,
    cross: Tensor,
    /// Of `x̂` and of `x − x̂`, `[1, length]`.
    first: Tensor,
    difference: Tensor,
    /// Of `((x − x̂) w)²`, the outputs together.
    constant: f64,
}

impl Layer<'_> {
    fn nothing(&self) -> Result<Vec<Moments>> {
        let n = self.matrix.length;
        let zeros = |rows: usize| Tensor::zeros((rows, n), candle_core::DType::F32, &Device::Cpu);
        let one = |_| -> Result<Moments> {
            Ok(Moments { rows: 0.0, second: zeros(n)?, cross: zeros(n)?, first: zeros(1)?, difference: zeros(1)?, constant: 0.0 })
        };
        (0..self.matrix.groups).map(one).collect()
    }
    /// Rows at places that depend on the image's number alone: the same of the exact and of the rounded graph.
    fn rows(&self, seen: &Seen<'_>, image: usize, images: usize) -> Result<Vec<Vec<f32>>> {
        let all = self.matrix.positions(seen.dims)?;
        let wanted = (ROWS_PER_NUMBER * self.matrix.length).clamp(ROWS.0, ROWS.1).div_ceil(images.max(1));
        let positions: Vec<usize> = if all <= wanted {
            (0..all).collect()
        } else {
            // One of each stretch, anywhere in it.
            let place = |i: usize| {
                let (from, to) = (i * all / wanted, (i + 1) * all / wanted);
                from + (image * 7919 + i * 104_729) % (to - from).max(1)
            };
            (0..wanted).map(place).collect()
        };
        self.matrix.rows(seen, &positions)
    }
    fn add(&self, sums: &mut Moments, group: usize, exact: &[f32], rounded: &[f32]) -> Result<()> {
        let n = self.matrix.length;
        if exact.len() != rounded.len() || exact.is_empty() {
            return Ok(());
        }
        let rows = exact.len() / n;
        let tensor = |v: &[f32]| Tensor::from_slice(v, (rows, n), &Device::Cpu);
        let r = tensor(rounded)?;
        let difference = (tensor(exact)? - &r)?;
        let turned = r.t()?.contiguous()?;
        sums.rows += rows as f64;
        sums.second = (&sums.second + turned.matmul(&r)?)?;
        sums.cross = (&sums.cross + turned.matmul(&difference)?)?;
        sums.first = (&sums.first + r.sum_keepdim(0)?)?;
        sums.difference = (&sums.difference + difference.sum_keepdim(0)?)?;
        sums.constant += f64::from(difference.matmul(&self.exact(group)?.t()?)?.sqr()?.sum_all()?.to_scalar::<f32>()?);
        Ok(())
    }
    fn of_group<'v>(&self, values: &'v [f32], group: usize) -> &'v [f32] {
        let each = self.matrix.outputs * self.matrix.length;
        &values[group * each..(group + 1) * each]
    }
    /// Scale of an output channel.
    fn scale(&self, channel: usize) -> f32 {
        self.layer.scales[channel % self.layer.scales.len()]
    }

    /// A group's weights, `[outputs, length]`.
    fn exact(&self, group: usize) -> Result<Tensor> {
        let shape = (self.matrix.outputs, self.matrix.length);
        Ok(Tensor::from_slice(self.of_group(&self.weights, group), shape, &Device::Cpu)?)
    }
    /// How to round a group's weights.
    fn problem(&self, group: usize, moments: &Moments, grid: Grid) -> Result<Problem> {
        let rows = moments.rows.max(1.0);
        let outputs = self.matrix.outputs;
        Ok(Problem {
            weights: self.of_group(&self.weights, group).to_vec(),
            scales: (0..outputs).map(|o| self.scale(group * outputs + o)).collect(),
            grid,
            length: self.matrix.length,
            second_moment: (&moments.second / rows)?,
            pull: self.exact(group)?.matmul(&(moments.cross.t()? / rows)?)?.flatten_all()?.to_vec1()?,
            constant: moments.constant / rows,
        })
    }

    /// Sets the weight and the bias in the patch.
    fn choose(
        &self,
        patch: &mut Patch<'_>,
        graph: &Graph,
        seen: &[Moments],
        settings: &Settings,
        choices: Choices,
        ctx: &Context,
    ) -> Result<()> {
        let (outputs, length) = (self.matrix.outputs, self.matrix.length);
        let mut rounded = Vec::with_capacity(self.weights.len());
        let mut shift = Vec::with_capacity(outputs * self.matrix.groups);
        for (g, moments) in seen.iter().enumerate() {
            let problem = self.problem(g, moments, settings.weights)?;
            let exact = self.exact(g)?;
            let integers = if choices.rounding { problem.solve(STEPS, ctx)? } else { problem.nearest() };
            let on_grid: Vec<f32> = integers.iter().enumerate().map(|(i, q)| q * problem.scales[i / length]).collect();
            let delta = (Tensor::from_slice(&on_grid, (outputs, length), &Device::Cpu)? - &exact)?;
            // The mean of `x w − x̂ (w + δ)`.
            let lost = (moments.difference.matmul(&exact.t()?)? - moments.first.matmul(&delta.t()?)?)?;
            shift.extend((lost / moments.rows.max(1.0))?.flatten_all()?.to_vec1::<f32>()?);
            rounded.extend(on_grid);
        }
        if choices.rounding {
            let alpha = if self.node.is(GEMM) { self.node.get_float("alpha", 1.0)? } else { 1.0 };
            let values: Vec<f32> = self.matrix.unpack(&rounded).into_iter().map(|v| v / alpha).collect();
            patch.set_constant(&self.layer.weight, Constant::floats(fit::constant(graph, self.layer)?.dims(), &values)?);
        }
        if choices.bias { self.correct(patch, graph, &shift) } else { Ok(()) }
    }

    /// Adds to the bias of each output channel; layers that take none, and those that compute theirs, are left alone.
    fn correct(&self, patch: &mut Patch<'_>, graph: &Graph, shift: &[f32]) -> Result<()> {
        if !(self.node.is(CONV) || self.node.is(GEMM)) || shift.iter().any(|s| !s.is_finite()) {
            return Ok(());
        }
        let beta = if self.node.is(GEMM) { self.node.get_float("beta", 1.0)? } else { 1.0 };
        let before = match (self.node.input(2), bias::of_layer(graph, self.node, shift.len())?) {
            (None, _) => vec![0.0; shift.len()],
            (Some(_), Some((_, values))) if beta != 0.0 => values,
            _ => return Ok(()),
        };
        let beta = if self.node.input(2).is_none() { 1.0 } else { beta };
        let values: Vec<f32> = before.iter().zip(shift).map(|(b, s)| (b + s) / beta).collect();
        let name = patch.fresh(&format!("{}_corrected", self.node.input(2).unwrap_or(&format!("{}_bias", self.layer.weight))));
        patch.set_constant(&name, Constant::floats(&[values.len()], &values)?);
        let edited = patch.edit(self.layer.node);
        edited.inputs.resize(3, String::new());
        edited.inputs[2] = name;
        if self.node.input(2).is_none() {
            edited.attrs.shift_remove("beta");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
