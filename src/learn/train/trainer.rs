//! The training loop.

use super::ema::Ema;
use super::history::{Epoch, History};
use super::objective::{Objective, TaskLoss};
use super::options::{OptimizerKind, Train};
use super::params::write_back;
use super::schedule::Schedule;
use super::step::{Done, Stepper};
use crate::context::Context;
use crate::error::{At, Error, Result};
use crate::learn::data::{DataKind, Dataset, Loader, LoaderOptions};
use crate::model::{Model, Step, Task};
use candle_core::Tensor;
use indexmap::IndexMap;
use std::time::Instant;

use super::optimizer::Rule;

/// A trained model, and how it went.
#[derive(Debug, Clone)]
pub struct Trained {
    pub model: Model,
    pub history: History,
}

/// Trains `model` on `data` (its training split, where it has one). With `val`, or a split `val` in the data, the weights of the epoch with the best score are kept, else the last ones.
///
/// Cancelling ends it within a layer's time: once an epoch is complete, with what was reached and
/// [`History::cancelled`] set.
///
/// # Errors
/// `Argument` for options and data that do not fit; `Unsupported` for models that cannot be trained; `Check`, naming the
/// first value that is not finite, when the loss is not; `Cancelled` before the end of the first epoch.
pub fn train(model: &Model, data: &Dataset, val: Option<&Dataset>, options: &Train, ctx: &Context) -> Result<Trained> {
    let mut objective = TaskLoss::of(model.task(), options.label_smoothing)?;
    let step = Step { operation: "train".to_string(), args: vec![data.name.clone()], options: crate::operation::changed(options) };
    let trained = fit(model, data, val, options, &mut objective, step, ctx)?;
    ctx.note(format!("train: {}", trained.history.summary()));
    Ok(trained)
}

/// Trains `model` towards any [`Objective`]; `step` is what the model's provenance says of it.
///
/// # Errors
/// As [`train`].
pub fn fit(
    model: &Model,
    data: &Dataset,
    val: Option<&Dataset>,
    options: &Train,
    objective: &mut dyn Objective,
    step: Step,
    ctx: &Context,
) -> Result<Trained> {
    options.validate()?;
    check_data(model, data)?;
    let data = &data.for_training();
    // Without a validation set of its own, the data's validation split serves.
    let val = match val {
        Some(val) => Some(val.for_evaluation()),
        None => data.split("val").ok().filter(|v| v.split != data.split),
    };
    if let Some(val) = &val {
        check_data(model, val).at(|| "validation data".to_string())?;
    }
    let plan = Plan::new(model, data, options, ctx)?;
    let mut stepper = Stepper::new(model, Box::new(objective), plan.rule, ctx)?;
    let mut run = Run {
        model,
        data,
        val: val.as_ref(),
        options,
        ctx,
        ema: options.ema.then(|| Ema::new(&stepper.params, options.ema_decay, options.ema_ramp)).transpose()?,
        history: History { optimizer: plan.to_string(), parameters: stepper.params.count(), ..History::default() },
        best: None,
        plan,
    };
    match run.epochs(&mut stepper) {
        Err(e) if e.is_cancelled() && !run.history.epochs.is_empty() => run.history.cancelled = true,
        result => result?,
    }
    let tensors = match run.best.take() {
        Some(best) => {
            run.history.best_epoch = best.epoch;
            best.tensors
        }
        None => {
            run.history.best_epoch = run.history.epochs.len();
            run.tensors(&stepper)?
        }
    };
    Ok(Trained { model: model.derive(write_back(model.graph(), &tensors)?, step), history: run.history })
}

/// The data fits the model's task and classes.
fn check_data(model: &Model, data: &Dataset) -> Result<()> {
    let (wanted, word) = match model.task() {
        Task::Detect(_) => (DataKind::Detection, "boxes"),
        Task::Classify(_) => (DataKind::Classification, "a class per image"),
        Task::Unknown => return Ok(()),
    };
    let place = || format!("dataset '{}'", data.name);
    if data.kind != wanted {
        return Err(Error::argument(format!("training this model needs {word}, the dataset has other labels")).at(place()));
    }
    let (has, takes) = (data.classes.len(), model.task().classes().len());
    if has > takes {
        let e = Error::argument(format!("the dataset has {has} classes, the model has {takes}"));
        return Err(e.hint("build the model with the dataset's classes").at(place()));
    }
    Ok(())
}

/// What follows from options, model and data.
struct Plan {
    size: [usize; 2],
    batch: usize,
    drop_last: bool,
    steps_per_epoch: usize,
    rule: Rule,
    momentum: f64,
    schedule: Schedule,
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.rule {
            Rule::Sgd { .. } => "SGD",
            Rule::Adam { .. } => "Adam",
            Rule::AdamW { .. } => "AdamW",
        };
        write!(f, "{name}, learning rate {}, momentum {}", self.schedule.rate, self.momentum)
    }
}

impl Plan {
    fn new(model: &Model, data: &Dataset, options: &Train, ctx: &Context) -> Result<Self> {
        let input = super::step::image_input(model.graph())?;
        let shape = input.fact.shape.as_deref().unwrap_or(&[]);
        let known = |axis: usize| shape.get(axis).and_then(crate::model::Dim::known);
        let fixed = match (known(2), known(3)) {
            (Some(h), Some(w)) => Some([h, w]),
            _ => None,
        };
        let size = match (options.image_size.map(|s| [s, s]), fixed) {
            (Some(asked), Some(fixed)) if asked != fixed => {
                let e = Error::argument(format!("option 'image_size' is {}, the model takes {}×{} images", asked[0], fixed[0], fixed[1]));
                return Err(e.hint("build the model at the size it is to be trained at"));
            }
            (Some(asked), _) => asked,
            (None, Some(fixed)) => fixed,
            (None, None) => {
                model.task().image_size().ok_or_else(|| Error::argument("the model's image size is not known; give option 'image_size'"))?
            }
        };
        let n = data.len();
        let mut batch = options.batch.min(n.max(1));
        if let Some(fixed) = known(0) {
            if fixed != options.batch {
                ctx.note(format!("train: the model takes batches of {fixed}, not {}", options.batch));
            }
            batch = fixed;
        }
        // A small rest would weigh as much as a full batch in the statistics of batch norms.
        let rest = n % batch;
        let drop_last = n > batch && (known(0).is_some() || rest * 2 < batch);
        let steps_per_epoch = if drop_last { n / batch } else { n.div_ceil(batch) };
        let total_steps = steps_per_epoch * options.epochs;
        let kind = match options.optimizer {
            OptimizerKind::Auto if total_steps > 10_000 => OptimizerKind::Sgd,
            OptimizerKind::Auto => OptimizerKind::AdamW,
            given => given,
        };
        let (rule, momentum, rate) = match kind {
            OptimizerKind::Sgd => (Rule::Sgd { nesterov: true }, 0.937, 0.01),
            OptimizerKind::Adam => (Rule::Adam { beta2: 0.999, epsilon: 1e-8 }, 0.9, 1e-3),
            OptimizerKind::AdamW | OptimizerKind::Auto => (Rule::AdamW { beta2: 0.999, epsilon: 1e-8 }, 0.9, 2e-3),
        };
        let warmup = (options.warmup * steps_per_epoch as f64).round().min(total_steps as f64 / 5.0) as usize;
        let schedule = Schedule {
            kind: options.schedule,
            rate: options.learning_rate.unwrap_or(rate),
            final_share: options.final_rate,
            warmup_steps: warmup,
            total_steps,
        };
        Ok(Self { size, batch, drop_last, steps_per_epoch, rule, momentum: options.momentum.unwrap_or(momentum), schedule })
    }
}

/// The weights of the epoch with the best score.
struct Best {
    epoch: usize,
    score: f64,
    tensors: IndexMap<String, Tensor>,
}

struct Run<'a> {
    model: &'a Model,
    data: &'a Dataset,
    val: Option<&'a Dataset>,
    options: &'a Train,
    ctx: &'a Context,
    plan: Plan,
    ema: Option<Ema>,
    history: History,
    best: Option<Best>,
}

impl Run<'_> {
    fn epochs(&mut self, stepper: &mut Stepper<'_>) -> Result<()> {
        let options = self.options;
        let total = (self.plan.steps_per_epoch * options.epochs) as u64;
        let mut progress = self.ctx.progress("train", total);
        for number in 0..options.epochs {
            let started = Instant::now();
            let mut sums = Sums::default();
            let loader_options = LoaderOptions {
                batch: self.plan.batch,
                size: self.plan.size,
                augment: options.augmentation(number),
                shuffle: true,
                seed: self.ctx.seed,
                epoch: number as u64,
                workers: options.workers.unwrap_or(0),
                drop_last: self.plan.drop_last,
            };
            for (i, batch) in Loader::new(self.data, loader_options, self.ctx)?.enumerate() {
                let batch = batch?;
                let step = number * self.plan.steps_per_epoch + i;
                let pace = super::step::Pacing {
                    step,
                    learning_rate: self.plan.schedule.at(step),
                    momentum: self.plan.momentum,
                    weight_decay: options.weight_decay,
                    clip: options.clip,
                };
                let done = stepper.step(&batch, &pace).at(|| format!("epoch {}, step {}", number + 1, i + 1))?;
                if let Some(ema) = &mut self.ema {
                    ema.update(&stepper.params)?;
                }
                sums.add(&done, batch.indices.len(), pace.learning_rate);
                let rate = sums.images as f64 / started.elapsed().as_secs_f64();
                progress.step(format!("epoch {}/{}, loss {:.3}, {rate:.1} img/s", number + 1, options.epochs, sums.mean_loss()))?;
            }
            let mut epoch = sums.epoch(number + 1, started.elapsed().as_secs_f64());
            // A complete epoch counts, even when its validation is cancelled.
            self.history.epochs.push(epoch.clone());
            let last = number + 1 == options.epochs;
            let due = last || (options.validate_every > 0 && (number + 1) % options.validate_every == 0);
            if let Some(val) = self.val.filter(|_| due) {
                let tensors = self.tensors(stepper)?;
                let model = Model::new(write_back(self.model.graph(), &tensors)?, self.model.task().clone());
                let (scores, score) = super::validate::scores(&model, val, self.plan.size, self.plan.batch, self.ctx)?;
                epoch.scores = scores;
                if self.best.as_ref().is_none_or(|b| score >= b.score) {
                    self.best = Some(Best { epoch: number + 1, score, tensors });
                }
                if let Some(place) = self.history.epochs.last_mut() {
                    *place = epoch;
                }
                let since = self.best.as_ref().map_or(0, |b| number + 1 - b.epoch);
                if options.patience > 0 && since >= options.patience && !last {
                    self.history.stopped_early = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The weights that are judged and kept.
    fn tensors(&self, stepper: &Stepper<'_>) -> Result<IndexMap<String, Tensor>> {
        match &self.ema {
            Some(ema) => ema.tensors(),
            None => stepper.params.tensors().into_iter().map(|(n, t)| Ok((n, t.copy()?))).collect(),
        }
    }
}

/// Sums over the steps of an epoch.
#[derive(Default)]
struct Sums {
    steps: usize,
    images: usize,
    loss: f64,
    parts: IndexMap<String, f64>,
    norm: f64,
    learning_rate: f64,
}

impl Sums {
    fn add(&mut self, done: &Done, images: usize, learning_rate: f64) {
        self.steps += 1;
        self.images += images;
        self.loss += done.parts.iter().map(|(_, v)| v).sum::<f64>();
        for (name, v) in &done.parts {
            *self.parts.entry((*name).to_string()).or_default() += v;
        }
        self.norm += done.gradient_norm;
        self.learning_rate = learning_rate;
    }
    fn mean_loss(&self) -> f64 {
        self.loss / self.steps.max(1) as f64
    }
    fn epoch(self, epoch: usize, seconds: f64) -> Epoch {
        let n = self.steps.max(1) as f64;
        Epoch {
            epoch,
            loss: self.mean_loss(),
            parts: self.parts.into_iter().map(|(k, v)| (k, v / n)).collect(),
            learning_rate: self.learning_rate,
            gradient_norm: self.norm / n,
            scores: IndexMap::new(),
            seconds,
            images_per_second: self.images as f64 / seconds.max(1e-9),
        }
    }
}
