//! Gradients of a loss with respect to the constants of a graph.

use super::super::slices::Occurrence;
use crate::images::Images;
use candle_core::{DType, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::{Outputs, Run, run_with_tape};
use compresso_learn::data::{Batch, DataKind, Dataset};
use compresso_learn::train::{Objective, ParamSet, TaskLoss};
use compresso_model::{Graph, Task};
use std::collections::{HashMap, HashSet};

/// Images that are differentiated together.
const BATCH: usize = 8;

/// What is differentiated.
enum Differentiated {
    /// The task's loss, from labels.
    Labels(TaskLoss),
    /// Half the square of the outputs' norm, per image.
    Outputs(Vec<String>),
}

impl Differentiated {
    fn of(graph: &Graph, task: &Task, data: &Dataset) -> Self {
        match loss(task, data) {
            Some(loss) => Self::Labels(loss),
            None => Self::Outputs(graph.outputs().iter().map(|o| o.name.clone()).collect()),
        }
    }
    fn wanted(&self) -> Vec<String> {
        match self {
            Self::Labels(loss) => loss.wanted(),
            Self::Outputs(names) => names.clone(),
        }
    }
    /// What a progress bar says.
    fn title(&self) -> &'static str {
        match self {
            Self::Labels(_) => "gathering gradients of the loss",
            Self::Outputs(_) => "gathering gradients of the outputs",
        }
    }
    fn loss(&mut self, outputs: &Outputs, batch: &Batch, ctx: &Context) -> Result<Tensor> {
        let names = match self {
            Self::Labels(loss) => return Ok(loss.loss(outputs, batch, ctx)?.total),
            Self::Outputs(names) => names,
        };
        let mut total: Option<Tensor> = None;
        for value in names.iter().filter_map(|n| outputs.get(n)).filter(|v| v.element.is_float()) {
            let square = (value.tensor.to_dtype(DType::F32)?.sqr()?.sum_all()? * (0.5 / batch.indices.len().max(1) as f64))?;
            total = Some(match total {
                Some(t) => (t + square)?,
                None => square,
            });
        }
        total.ok_or_else(|| Error::unsupported("the model has no float output to differentiate"))
    }
}

/// The task's loss, where there is one and the data has labels for it. Their numbers must be those of the model.
pub(super) fn loss(task: &Task, data: &Dataset) -> Option<TaskLoss> {
    if DataKind::of_task(task) == Some(data.kind) { TaskLoss::of(task, 0.0).ok() } else { None }
}

/// The mean over batches of the gradient of each parameter that the loss depends on, by name. Norms use their running
/// statistics, as in inference.
///
/// # Errors
/// As [`Images::new`] and [`ParamSet::of`]; `Check` for gradients that are not finite; `Cancelled`.
pub(super) fn gather(graph: &Graph, task: &Task, data: &Dataset, images: usize, ctx: &Context) -> Result<HashMap<String, Vec<f32>>> {
    let mut sums: HashMap<String, Tensor> = HashMap::new();
    let batches = each((graph, task, data), [images, BATCH], ctx, &mut |name, gradient| {
        let sum = match sums.remove(&name) {
            Some(before) => (before + gradient)?,
            None => gradient,
        };
        sums.insert(name, sum);
        Ok(())
    })?;
    let mean = |(name, sum): (String, Tensor)| -> Result<(String, Vec<f32>)> {
        let mean = finite(&name, &(sum / batches.max(1) as f64)?)?;
        Ok((name, mean))
    };
    sums.into_iter().map(mean).collect()
}

/// What gradients of single images show of a constant.
#[derive(Debug, Default)]
pub(super) struct Curvature {
    /// Mean square of the gradient of each number: the diagonal of the empirical Fisher matrix.
    pub squares: Vec<f32>,
    /// By axis: mean square of what the loss changes by, to first order, without an index: of the sum of its weights times gradients.
    pub effects: HashMap<usize, Vec<f64>>,
}

/// Curvatures of the constants at `occurrences` by their gradients on single images, by name.
///
/// # Errors
/// As [`gather`].
pub(super) fn curvatures(
    graph: &Graph,
    occurrences: &[Occurrence],
    (task, data, images): (&Task, &Dataset, usize),
    ctx: &Context,
) -> Result<HashMap<String, Curvature>> {
    let mut axes: HashMap<&str, HashSet<usize>> = HashMap::new();
    for o in occurrences.iter().filter(|o| graph.constant(&o.name).is_some()) {
        axes.entry(&o.name).or_default().insert(o.axis);
    }
    let mut found: HashMap<String, Curvature> = HashMap::new();
    let count = each((graph, task, data), [images, 1], ctx, &mut |name, gradient| {
        let (Some(axes), Some(constant)) = (axes.get(name.as_str()), graph.constant(&name)) else { return Ok(()) };
        let (gradient, weights, dims) = (finite(&name, &gradient)?, constant.to_f32s()?, constant.dims());
        let own = found.entry(name).or_default();
        own.squares.resize(gradient.len(), 0.0);
        own.squares.iter_mut().zip(&gradient).for_each(|(s, g)| *s += g * g);
        for &axis in axes {
            let inner: usize = dims[axis + 1..].iter().product();
            let mut effects = vec![0f64; dims[axis]];
            for (i, (w, g)) in weights.iter().zip(&gradient).enumerate() {
                effects[i / inner % dims[axis]] += f64::from(*w) * f64::from(*g);
            }
            let sums = own.effects.entry(axis).or_insert_with(|| vec![0.0; dims[axis]]);
            sums.iter_mut().zip(&effects).for_each(|(s, e)| *s += e * e);
        }
        Ok(())
    })?;
    for own in found.values_mut() {
        own.squares.iter_mut().for_each(|s| *s /= count.max(1) as f32);
        own.effects.values_mut().flatten().for_each(|s| *s /= count.max(1) as f64);
    }
    Ok(found)
}

/// A gradient's numbers.
fn finite(name: &str, gradient: &Tensor) -> Result<Vec<f32>> {
    let values = gradient.flatten_all()?.to_vec1::<f32>()?;
    if values.iter().all(|g| g.is_finite()) {
        return Ok(values);
    }
    Err(Error::check(format!("the gradient of '{name}' is not finite")).hint("evaluate the model first"))
}

/// Shows the gradient of each parameter on each batch; gives the number of batches.
fn each(
    (graph, task, data): (&Graph, &Task, &Dataset),
    [images, batch]: [usize; 2],
    ctx: &Context,
    see: &mut dyn FnMut(String, Tensor) -> Result<()>,
) -> Result<usize> {
    let mut what = Differentiated::of(graph, task, data);
    let wanted = what.wanted();
    let wanted_names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let params = ParamSet::of(graph, &wanted, &ctx.device)?;
    let bound = params.bind();
    let mut batches = Images::new(graph, task, data, images, batch, ctx)?;
    let mut progress = ctx.progress(what.title(), images.min(data.for_training().len()) as u64);
    let mut count = 0usize;
    while let Some(batch) = batches.next() {
        let batch = batch?;
        let feeds = batches.feeds(&batch)?;
        let device = Some(ctx.device.clone());
        let run = Run { wanted: &wanted_names, params: Some(&bound), cancel: Some(&ctx.cancel), device, ..Run::default() };
        let (outputs, tape) = run_with_tape(graph, &feeds, run)?;
        let loss = what.loss(&outputs, &batch, ctx)?;
        drop(outputs);
        let mut store = loss.backward()?;
        for (name, gradient) in tape.backward(&mut store, Some(&ctx.cancel))? {
            see(name, gradient)?;
        }
        count += 1;
        for _ in &batch.indices {
            progress.step("")?;
        }
    }
    Ok(count)
}
