//! Running a model on batches of images.

use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_exec::{Engine, Outputs, Run, run};
use compresso_model::{Classify, Decode, Detect, Fact, IMAGE_CHANNELS, Model, Task, Value};
use std::collections::HashMap;

/// Runs one model on batches of images: planned on the CPU, else by the eager executor.
#[derive(Debug)]
pub struct ImageRunner<'a> {
    model: &'a Model,
    engine: Option<Engine>,
    ctx: &'a Context,
}

impl<'a> ImageRunner<'a> {
    pub fn new(model: &'a Model, ctx: &'a Context) -> Self {
        Self { model, engine: None, ctx }
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
    let fixed = if form == InputForm::One { Some(1) } else { input.fact.dim(0).filter(|&d| d > 0) };
    let step = fixed.unwrap_or(n.min(most)).max(1);
    let storage = input.fact.element.storage().ok_or_else(|| Error::dtype(format!("a {} input cannot be fed", input.fact.element)))?;
    let images = form.laid_out(&model_input(model.task(), images)?)?.to_dtype(storage)?;
    let mut parts: Vec<Outputs> = Vec::new();
    for at in (0..n).step_by(step) {
        let count = step.min(n - at);
        let mut part = images.narrow(0, at, count)?;
        let missing = if fixed.is_some() { step - count } else { 0 };
        if missing > 0 {
            part = part.pad_with_zeros(0, 0, missing)?;
        }
        if form == InputForm::One {
            part = part.squeeze(0)?;
        }
        let feed = HashMap::from([(input.name.clone(), Value::new(input.fact.element, part)?)]);
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

/// The axes of an image input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InputForm {
    /// `[batch, channels, height, width]`.
    ChannelsFirst,
    /// `[batch, height, width, channels]`.
    ChannelsLast,
    /// `[channels, height, width]`, an image at a time.
    One,
}

impl InputForm {
    fn of(fact: &Fact) -> Self {
        let colours = |axis| fact.dim(axis).is_some_and(|c| IMAGE_CHANNELS.contains(&c));
        match fact.rank() {
            Some(3) => Self::One,
            Some(4) if colours(3) && !colours(1) => Self::ChannelsLast,
            _ => Self::ChannelsFirst,
        }
    }
    fn laid_out(self, images: &Tensor) -> Result<Tensor> {
        if self == Self::ChannelsLast { Ok(images.permute((0, 2, 3, 1))?.contiguous()?) } else { Ok(images.clone()) }
    }
}

/// Images `[n, channels, height, width]`, 0 to 1, as the model was trained on: its task says order, range and
/// normalization.
///
/// # Errors
/// `Shape` when the task has numbers for another number of channels.
pub fn model_input(task: &Task, images: &Tensor) -> Result<Tensor> {
    let (bgr, scale, mean, std) = match task {
        Task::Classify(Classify { preprocess: p, .. }) => (p.bgr, p.scale, &p.mean, &p.std),
        Task::Detect(Detect { decode: Decode::Described(d), .. }) => (d.bgr, d.scale, &d.mean, &d.std),
        _ => return Ok(images.clone()),
    };
    let channels = images.dim(1)?;
    let mut images = images.clone();
    if bgr && channels >= 3 {
        let order: Vec<Tensor> = [2, 1, 0].into_iter().chain(3..channels).map(|c| images.narrow(1, c, 1)).collect::<Result<_, _>>()?;
        images = Tensor::cat(&order, 1)?;
    }
    if scale != 1.0 {
        images = (images * scale)?;
    }
    let each = |name: &str, v: &[f64]| -> Result<Option<Tensor>> {
        match v.len() {
            0 => return Ok(None),
            n if n == 1 || n == channels => {}
            n => return Err(Error::shape(format!("'{name}' has {n} numbers, the images have {channels} channels"))),
        }
        let tensor = Tensor::new(v, &Device::Cpu)?.to_dtype(images.dtype())?.to_device(images.device())?;
        Ok(Some(tensor.reshape((1, v.len(), 1, 1))?))
    };
    let (mean, std) = (each("mean", mean)?, each("std", std)?);
    if let Some(mean) = mean {
        images = images.broadcast_sub(&mean)?;
    }
    if let Some(std) = std {
        images = images.broadcast_div(&std)?;
    }
    Ok(images)
}
