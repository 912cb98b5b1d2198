//! Running a model on batches of images.

use super::InputForm;
use candle_core::Tensor;
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_exec::{Engine, Outputs, Run, run};
use compresso_model::{Model, Task, Value};
use std::collections::HashMap;

/// Runs one model on batches of images: planned on the CPU, else by the eager executor.
#[derive(Debug)]
pub struct ImageRunner<'a> {
    model: &'a Model,
    engine: Option<Engine>,
    ctx: &'a Context,
}

impl<'a> ImageRunner<'a> {
    /// Of a model; a plan is made at the first run.
    pub fn new(model: &'a Model, ctx: &'a Context) -> Self {
        Self { model, engine: None, ctx }
    }

    /// Whether it has run before, so that the next run plans nothing.
    pub fn is_planned(&self) -> bool {
        self.engine.is_some()
    }

    /// Runs a model with one image input on `[n, channels, height, width]` images, 0 to 1, and gives the output that its task
    /// reads (all of them when the task is not known). A graph of fixed batch size is run as often as needed, filled up
    /// with zeros.
    ///
    /// # Errors
    /// `Argument` for a model that has other inputs; whatever running reports.
    pub fn run(&mut self, images: &Tensor) -> Result<Outputs> {
        let Self { model, engine, ctx } = self;
        let wanted = output_name(model.task());
        // On the CPU, as many images at a time as stay in its caches. Outputs that nothing is known of stay whole.
        let pixels: usize = images.dims().iter().skip(2).product();
        let most = if ctx.device.is_cpu() && !wanted.is_empty() { (CACHED_PIXELS / pixels.max(1)).max(1) } else { usize::MAX };
        run_parts(model, images, most, &mut |feeds| {
            if !ctx.device.is_cpu() {
                let options =
                    Run { wanted: wanted.as_slice(), cancel: Some(&ctx.cancel), device: Some(ctx.device.clone()), ..Run::default() };
                return run(model.graph(), feeds, options);
            }
            let engine = match engine {
                Some(engine) => engine,
                None => engine.insert(Engine::new(model.graph(), &wanted, ctx.threads)?),
            };
            engine.run(feeds, Some(&ctx.cancel))
        })
    }
}

/// As [`ImageRunner::run`], with the graph run by `run`, such as another runtime.
///
/// # Errors
/// As [`ImageRunner::run`].
pub fn run_images_with(model: &Model, images: &Tensor, run: &mut dyn FnMut(&HashMap<String, Value>) -> Result<Outputs>) -> Result<Outputs> {
    run_parts(model, images, usize::MAX, run)
}

/// As [`run_images_with`], of a graph of any batch size at most `most` images at a time.
fn run_parts(
    model: &Model,
    images: &Tensor,
    most: usize,
    run: &mut dyn FnMut(&HashMap<String, Value>) -> Result<Outputs>,
) -> Result<Outputs> {
    let graph = model.graph();
    let mut feeds = graph.feeds();
    let (Some(input), None) = (feeds.next(), feeds.next()) else {
        return Err(Error::argument(format!("expected a model with one input, this one has {}", graph.feeds().count())));
    };
    let wanted = output_name(model.task());
    let n = images.dim(0)?;
    let form = InputForm::of(&input.fact);
    let fixed = form.batch(&input.fact);
    let step = fixed.unwrap_or(n.min(most)).max(1);
    let mut parts: Vec<Outputs> = Vec::new();
    for at in (0..n).step_by(step) {
        let count = step.min(n - at);
        let mut part = images.narrow(0, at, count)?;
        let missing = if fixed.is_some() { step - count } else { 0 };
        if missing > 0 {
            part = part.pad_with_zeros(0, 0, missing)?;
        }
        let feed = HashMap::from([(input.name.clone(), form.feed(model.task(), &input.fact, &part)?)]);
        let mut outputs = run(&feed)?;
        if !wanted.is_empty() {
            outputs.retain(|name, _| wanted.contains(&name.as_str()));
        }
        if missing > 0 {
            for (name, v) in &mut outputs {
                *v = v.with(v.tensor.narrow(0, 0, count)?).at(|| format!("output '{name}'"))?;
            }
        }
        parts.push(outputs);
    }
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else { return Err(Error::argument("there are no images to run on")) };
    let rest: Vec<Outputs> = parts.collect();
    if rest.is_empty() {
        return Ok(first);
    }
    first
        .into_iter()
        .map(|(name, v)| {
            let mut all = vec![v.tensor.clone()];
            all.extend(rest.iter().filter_map(|o| o.get(&name)).map(|o| o.tensor.clone()));
            let joined = v.with(Tensor::cat(&all, 0)?)?;
            Ok((name, joined))
        })
        .collect()
}

/// Pixels of a batch whose values the caches hold: an image of 640 × 640.
const CACHED_PIXELS: usize = 640 * 640;

/// Name of the output that the task reads, in a list; empty for all.
fn output_name(task: &Task) -> Vec<&str> {
    match task {
        Task::Unknown => Vec::new(),
        Task::Classify(c) => vec![c.output.as_str()],
        Task::Detect(d) => d.decode.outputs(),
        Task::Instances(i) => i.outputs.iter().map(String::as_str).collect(),
    }
}
