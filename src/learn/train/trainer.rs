//! The training loop.

use super::checkpoint;
use super::ema::Ema;
use super::history::{Epoch, History};
use super::objective::{Objective, TaskLoss};
use super::options::{ScaleKind, Train};
use super::parametrize::Parametrization;
use super::plan::Plan;
use super::run::{Best, Run};
use super::step::{Done, Stepper};
use crate::data::{DataKind, Dataset, ImageForm, Loader, LoaderOptions, named_after};
use crate::events::EventFile;
use compresso_base::context::{Context, Progress, device_name};
use compresso_base::error::{At, Error, ErrorKind, Result};
use compresso_base::operation::{Arg, ArgKind, Call, Operation, Options, Recipe, Signature};
use compresso_model::classes::listing;
use compresso_model::{Made, Model, Task};
use indexmap::IndexMap;
use std::time::Instant;

/// A trained model, and how it went.
#[derive(Debug, Clone)]
pub struct Trained {
    /// With the weights that were kept, and the call in its recipe.
    pub model: Model,
    /// Losses and scores, epoch by epoch.
    pub history: History,
}

impl From<Trained> for Made<History> {
    fn from(trained: Trained) -> Self {
        Self::new(trained.model, trained.history)
    }
}

/// Trains a model on a dataset (its training split, where it has one). With a third input, or a split `val` in the data, the weights
/// of the epoch with the best score are kept, else the last ones.
///
/// A sparse model keeps its zeros; a quantized one is trained as it is, through its rounding, and stays quantized (see
/// [`QuantizedWeights`](super::parametrize::QuantizedWeights)).
///
/// Cancelling ends it within a layer's time: once an epoch is complete, with what was reached and
/// [`History::cancelled`] set.
///
/// # Errors
/// `Argument` for options and data that do not fit; `Unsupported` for models that cannot be trained; `Check`, naming the
/// first value that is not finite, when the loss is not; `Cancelled` before the end of the first epoch.
impl Operation for Train {
    const SIGNATURE: Signature = Signature {
        name: "train",
        summary: "Trains a detector or classifier and returns it with the history of its losses and scores.",
        group: "models",
        args: &[Arg::new("model", ArgKind::Model), Arg::new("data", ArgKind::Dataset), Arg::optional("val", ArgKind::Dataset)],
        returns: "model, with its history",
        fields: Self::FIELDS,
        examples: &[
            "let m = model(\"yolov8n\", #{ classes: 3, image_size: 64, width: 0.0625, depth: 0.33 });\nlet d = dataset(\"shapes\", #{ images: 8 });\nlet t = train(m, d, #{ epochs: 1, batch: 4 });",
        ],
        keywords: &["fit", "fine-tune", "learn", "epochs", "sgd", "adamw", "loss"],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset, Option<&'a Dataset>);
    type Output = Trained;

    fn run(&self, (model, data, val): (&Model, &Dataset, Option<&Dataset>), ctx: &Context) -> Result<Trained> {
        let mut objective = TaskLoss::for_training(model, self.label_smoothing)?;
        if matches!(objective, TaskLoss::EndToEnd(_)) {
            ctx.note("train: a copy of the head learns beside it to give several boxes for an object, and is dropped at the end");
        }
        let call = self.call([model.into(), data.into()].into_iter().chain(val.map(Into::into))).seeded(ctx.seed);
        let trained = fit(model, data, val, self, &mut objective, Vec::new(), call, ctx)?;
        ctx.note(format!("train: {}", trained.history.summary()));
        Ok(trained)
    }
}

/// Trains `model` towards any [`Objective`], through `parametrizations`, the first of which is nearest to what is stored;
/// `call` is what the model's recipe says of it.
///
/// # Errors
/// As [`Train::run`].
pub fn fit(
    model: &Model,
    data: &Dataset,
    val: Option<&Dataset>,
    options: &Train,
    objective: &mut dyn Objective,
    parametrizations: Vec<Box<dyn Parametrization>>,
    call: Call<Recipe>,
    ctx: &Context,
) -> Result<Trained> {
    options.validate()?;
    let (model, note) = &named_after(model, data);
    if let Some(note) = note {
        ctx.note(format!("train: {note}"));
    }
    let train_split = data.for_training();
    // Without a validation set of its own, the data's validation split serves.
    let val = match val {
        Some(_) if DataKind::of_task(model.task()).is_none() => {
            let e = Error::argument("there is a validation set, but models of this task are not evaluated");
            return Err(e.hint("leave it out: the last weights are kept"));
        }
        None if DataKind::of_task(model.task()).is_none() || !objective.reads_labels() => None,
        Some(val) => Some(val.for_evaluation()),
        None => data.split("val").ok().filter(|v| v.split != train_split.split),
    };
    let data = &if objective.reads_labels() { in_the_models_classes(model, &train_split, options, TRAIN, ctx)? } else { train_split };
    let val =
        val.map(|val| in_the_models_classes(model, &val, options, "validation", ctx).at(|| "validation data".to_string())).transpose()?;
    let plan = Plan::new(model, data, options, ctx)?;
    let mut stepper = Stepper::new(model, Box::new(objective), parametrizations, (plan.rule, plan.open_batch), options, ctx)?;
    stepper.claim(plan.batch, plan.size)?;
    if let Some(note) = stepper.params.note() {
        ctx.note(format!("train: {note}"));
    }
    if options.scales == ScaleKind::Learned && stepper.params.variables.is_empty() {
        ctx.note("train: scales: \"learned\" changes nothing: the model has no scales of roundings that can be trained");
    }
    let mut run = Run {
        model,
        data,
        val: val.as_ref(),
        options,
        ctx,
        ema: options.ema.then(|| Ema::new(&stepper.params, options.ema_decay, options.ema_ramp)).transpose()?,
        history: History {
            optimizer: plan.to_string(),
            parameters: stepper.params.count(),
            device: device_name(&ctx.device),
            ..History::default()
        },
        best: None,
        plan,
    };
    if let Some(folder) = options.checkpoint.as_ref().and_then(|p| p.parent()).filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e)).at(|| "option 'checkpoint'".to_string())?;
    }
    let done = match &options.checkpoint {
        Some(path) if options.resume && path.exists() => checkpoint::load(path, &mut run, &mut stepper)?,
        _ => 0,
    };
    match run.epochs(&mut stepper, done) {
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
    Ok(Trained { model: model.derive(stepper.finish(tensors)?, call), history: run.history })
}

/// What notes on the training data begin with.
const TRAIN: &str = "train";

/// The data, which must fit the model's task, with the model's numbers of classes.
fn in_the_models_classes(model: &Model, data: &Dataset, options: &Train, what: &str, ctx: &Context) -> Result<Dataset> {
    let (wanted, word) = match model.task() {
        Task::Detect(_) => (DataKind::Detection, "boxes"),
        Task::Classify(_) => (DataKind::Classification, "a class per image"),
        Task::Unknown | Task::Instances(_) => return Ok(data.clone()),
    };
    if data.kind != wanted {
        let has = if data.kind == DataKind::Unlabelled { "no labels" } else { "other labels" };
        let e = Error::argument(format!("training this model needs {word}, the dataset has {has}"));
        return Err(e.at(format!("dataset '{}'", data.name)));
    }
    let matched = data.in_classes(model.task().classes(), options.classes)?;
    for line in &matched.notes {
        ctx.note(format!("{what}: {line}"));
    }
    let missing = matched.map.lacking(model.task().classes());
    if what == TRAIN && !missing.is_empty() {
        ctx.note(format!("train: the model learns that there are none of {}", listing(&missing)));
    }
    Ok(matched.data)
}

impl Run<'_> {
    /// The epochs after the first `done`.
    fn epochs(&mut self, stepper: &mut Stepper<'_>, done: usize) -> Result<()> {
        let options = self.options;
        let mut events = options.tensorboard.as_deref().map(EventFile::create).transpose().at(|| "option 'tensorboard'".to_string())?;
        let total = (self.plan.steps_per_epoch * options.epochs.saturating_sub(done)) as u64;
        let mut progress = self.ctx.progress("train", total);
        for number in done..options.epochs {
            if self.history.stopped_early {
                break;
            }
            let epoch = self.epoch(stepper, number, &mut progress)?;
            // A complete epoch counts, even when its validation is cancelled.
            self.history.epochs.push(epoch);
            self.validate(stepper, number)?;
            if let Some(path) = &options.checkpoint {
                checkpoint::save(path, self, stepper)?;
            }
            if let Some(epoch) = self.history.epochs.last() {
                if let Some(events) = &mut events {
                    let values = epoch.values();
                    events.scalars(epoch.epoch as u64, values.iter().map(|(tag, v)| (tag.as_str(), *v)))?;
                }
                self.ctx.note(format!("train: {}", epoch.line(options.epochs)));
            }
        }
        Ok(())
    }

    /// One pass over the training images.
    fn epoch(&mut self, stepper: &mut Stepper<'_>, number: usize, progress: &mut Progress) -> Result<Epoch> {
        let options = self.options;
        let started = Instant::now();
        let mut sums = Sums::default();
        let loader_options = LoaderOptions {
            batch: self.plan.batch,
            size: self.plan.size,
            scale: options.multi_scale,
            augment: options.augmentation(number),
            shuffle: true,
            seed: self.ctx.seed,
            epoch: number as u64,
            workers: options.workers.unwrap_or(0),
            skip: 0,
            drop_last: self.plan.drop_last,
            form: ImageForm::of(self.model.graph(), self.model.task()),
        };
        for (i, batch) in Loader::new(self.data, loader_options, self.ctx)?.enumerate() {
            let batch = batch?;
            let pacing = self.plan.pacing(number * self.plan.steps_per_epoch + i, options);
            let done = stepper.step(&batch, &pacing).at(|| format!("epoch {}, step {}", number + 1, i + 1));
            let done = done.map_err(|e| match e.kind() {
                ErrorKind::Shape if options.multi_scale > 0.0 => {
                    e.hint("this model has a layer for one image size; leave out 'multi_scale'")
                }
                _ => e,
            })?;
            if let (Some(ema), Some(_)) = (&mut self.ema, done.gradient_norm) {
                ema.update(&stepper.params)?;
            }
            self.history.skipped_steps += usize::from(done.overflowed);
            sums.add(&done, batch.indices.len(), pacing.learning_rate);
            let rate = sums.images as f64 / started.elapsed().as_secs_f64();
            progress.step(format!("epoch {}/{}, loss {:.3}, {rate:.1} img/s", number + 1, options.epochs, sums.mean_loss()))?;
        }
        Ok(sums.epoch(number + 1, started.elapsed().as_secs_f64()))
    }

    /// Judges the weights after an epoch (counted from 0), where that is due.
    fn validate(&mut self, stepper: &Stepper<'_>, number: usize) -> Result<()> {
        let options = self.options;
        let last = number + 1 == options.epochs;
        let due = last || (options.validate_every > 0 && (number + 1).is_multiple_of(options.validate_every));
        let Some(val) = self.val.filter(|_| due) else { return Ok(()) };
        let tensors = self.tensors(stepper)?;
        let model = Model::new(stepper.finish(tensors.clone())?, self.model.task().clone());
        let (scores, score) = super::validate::scores(&model, val, self.plan.size, self.plan.batch, self.ctx)?;
        if let Some(epoch) = self.history.epochs.last_mut() {
            epoch.scores = scores;
        }
        if self.best.as_ref().is_none_or(|b| score >= b.score) {
            self.best = Some(Best { epoch: number + 1, score, tensors });
        }
        let since = self.best.as_ref().map_or(0, |b| number + 1 - b.epoch);
        self.history.stopped_early = options.patience > 0 && since >= options.patience && !last;
        Ok(())
    }
}

/// Sums over the steps of an epoch.
#[derive(Default)]
struct Sums {
    /// Batches, without those that overflowed.
    steps: usize,
    updates: usize,
    images: usize,
    loss: f64,
    parts: IndexMap<String, f64>,
    norm: f64,
    learning_rate: f64,
}

impl Sums {
    fn add(&mut self, done: &Done, images: usize, learning_rate: f64) {
        self.images += images;
        self.learning_rate = learning_rate;
        if done.overflowed {
            return;
        }
        self.steps += 1;
        self.loss += done.parts.iter().map(|(_, v)| v).sum::<f64>();
        for (name, v) in &done.parts {
            *self.parts.entry((*name).to_string()).or_default() += v;
        }
        self.updates += usize::from(done.gradient_norm.is_some());
        self.norm += done.gradient_norm.unwrap_or_default();
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
            gradient_norm: self.norm / self.updates.max(1) as f64,
            scores: IndexMap::new(),
            seconds,
            images_per_second: self.images as f64 / seconds.max(1e-9),
        }
    }
}
