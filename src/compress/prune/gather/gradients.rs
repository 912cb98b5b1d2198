//! Gradients of a loss with respect to the constants of a graph.

use crate::images::Images;
use candle_core::{DType, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_exec::{Outputs, Run, run_with_tape};
use compresso_learn::data::{Batch, DataKind, Dataset};
use compresso_learn::train::{Objective, ParamSet, TaskLoss};
use compresso_model::{Graph, Task};
use std::collections::HashMap;

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
    let mut what = Differentiated::of(graph, task, data);
    let wanted = what.wanted();
    let wanted_names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let params = ParamSet::of(graph, &wanted, &ctx.device)?;
    let bound = params.bind();
    let mut batches = Images::new(graph, task, data, images, BATCH, ctx)?;
    let mut progress = ctx.progress(what.title(), images.min(data.for_training().len()) as u64);
    let mut sums: HashMap<String, Tensor> = HashMap::new();
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
            let sum = match sums.remove(&name) {
                Some(before) => (before + gradient)?,
                None => gradient,
            };
            sums.insert(name, sum);
        }
        count += 1;
        for _ in &batch.indices {
            progress.step("")?;
        }
    }
    let mean = |(name, sum): (String, Tensor)| -> Result<(String, Vec<f32>)> {
        let mean = (sum / count.max(1) as f64)?.flatten_all()?.to_vec1::<f32>()?;
        if mean.iter().any(|g| !g.is_finite()) {
            return Err(Error::check(format!("the gradient of '{name}' is not finite")).hint("evaluate the model first"));
        }
        Ok((name, mean))
    };
    sums.into_iter().map(mean).collect()
}
