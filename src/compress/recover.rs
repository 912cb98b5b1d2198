//! Recovery without labels: a pruned or quantized model learns to give again what the model that it was made from gives.

use crate::teach::{Chosen, Imitation, Lesson, LogitLoss};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_exec::Engine;
use compresso_learn::data::{Dataset, ImageForm, Loader, LoaderOptions};
use compresso_learn::eval::model_input;
use compresso_learn::train::{Freeze, Objective, OptimizerKind, ScaleKind, Train, Trained, fit};
use compresso_model::classes::ClassMatch;
use compresso_model::ops::MixedPrecision;
use compresso_model::{Graph, Model, Value};
use std::collections::HashMap;
use std::path::PathBuf;

compresso_base::options! {
    /// Options of `recover`.
    pub struct Recover {
        /// Passes over the images.
        pub epochs: usize = 10,
        /// Images per step.
        pub batch: usize = 16,
        /// Highest learning rate; it falls along a cosine.
        pub learning_rate: f64 = 1e-3,
        /// Update rule.
        pub optimizer: OptimizerKind = OptimizerKind::AdamW,
        /// How a classifier's or a detector's logits are compared with the teacher's; left out: "kd". Other models' outputs are compared as
        /// they are.
        pub loss: Option<Chosen<LogitLoss>> = None,
        /// Softens logits; left out: the loss's own.
        pub temperature: Option<f64> = None,
        /// What stays as it is: the number of first layers (of the YOLO family), or a list of names such as "model.4".
        pub freeze: Option<Freeze> = None,
        /// Batches whose gradients are added up for one step.
        pub accumulate: usize = 1,
        /// Judge and keep a moving average of the weights.
        pub ema: bool = true,
        /// Of a quantized model: "fixed" leaves the scales of weights and activations as they are, "learned" trains them too (LSQ, Esser et al.
        /// 2020).
        pub scales: ScaleKind = ScaleKind::Fixed,
        /// Numbers of convolutions and matrix products: "float32", "bfloat16" or "float16".
        pub precision: MixedPrecision = MixedPrecision::Float32,
        /// Vary images at random (scale, shift, mirroring, colours, four together), as `train` does: the teacher sees the same.
        pub augment: bool = true,
        /// Images held back from neither, on which the difference is judged before and after.
        pub images: usize = 64,
        /// Threads that prepare images; left out: those of the session.
        #[replayed = null]
        pub workers: Option<usize> = None,
        /// File (.safetensors) that holds the whole state, written after each epoch.
        #[replayed = null]
        pub checkpoint: Option<PathBuf> = None,
        /// Go on from the checkpoint where there is one.
        #[replayed = false]
        pub resume: bool = false,
    }
}

/// Trains a compressed model on images alone, with the model that it was made from as its teacher: the task of both, and the values that
/// are compared, are the same. A sparse model keeps its zeros, a quantized one stays quantized. Where the difference from the teacher does not
/// fall on the images that it is judged by, the model comes back as it was.
///
/// Interrupted, it gives what was reached once a pass is complete; before that the call fails and the model is what it was.
///
/// # Errors
/// `Argument` for options out of range and models that do not belong together; as [`fit`].
impl Operation for Recover {
    const SIGNATURE: Signature = Signature {
        name: "recover",
        summary: "Brings a pruned or quantized model back without labels: it learns to give what the model it was made from gives.",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("teacher", ArgKind::Model), Arg::new("data", ArgKind::Dataset)],
        returns: "model, with its history",
        fields: Self::FIELDS,
        examples: &[
            "let d = dataset(\"shapes\", #{ images: 8, size: 64 });\nlet m = model(\"yolov8n\", #{ classes: 3, image_size: 64, width: 0.125 });\nlet p = prune(m, #{ ratio: 0.3 });\nlet r = recover(p, m, d, #{ epochs: 1, batch: 4 });",
        ],
        keywords: &["fine-tune", "without labels", "unlabelled", "self-distillation", "heal", "QAT", "teacher"],
    };
    type Inputs<'a> = (&'a Model, &'a Model, &'a Dataset);
    type Output = Trained;

    fn run(&self, (model, teacher, data): Self::Inputs<'_>, ctx: &Context) -> Result<Trained> {
        in_range("images", self.images as f64, 1.0..)?;
        self.temperature.map_or(Ok(()), |t| in_range("temperature", t, f64::MIN_POSITIVE..f64::INFINITY))?;
        let loss = self.loss.clone().map_or_else(|| Chosen::named("kd"), Ok)?;
        let lesson = Lesson {
            labels: None,
            logits: Some(&loss),
            temperature: self.temperature,
            features: None,
            soft: 1.0,
            hard: 0.0,
            classes: ClassMatch::Same,
        };
        let mut objective = Imitation::new(model, teacher, lesson, ctx)?;
        let held = Held::new(model, data, self.images, self.batch, ctx)?;
        let before = held.loss(model.graph(), &mut objective, ctx)?;
        let call = self.call([model.into(), teacher.into(), data.into()]).seeded(ctx.seed);
        let mut trained = fit(model, data, None, &self.train(), &mut objective, Vec::new(), call.clone(), ctx)?;
        let after = held.loss(trained.model.graph(), &mut objective, ctx)?;
        let end = if trained.history.cancelled { ", cancelled" } else { "" };
        let [was, is] = [before, after].map(|d| if d.abs() < 0.001 { format!("{d:.0e}") } else { format!("{d:.3}") });
        ctx.note(format!("recover: difference from the teacher {was} → {is} on {} images of {}{end}", held.images, held.label));
        if after.is_nan() || after >= before {
            ctx.note("recover: warning: it did not fall, so the model stays as it was; try a lower learning_rate or more images");
            trained.model = model.derive(model.graph().clone(), call);
        }
        Ok(trained)
    }
}

impl Recover {
    /// The recovered model's graph, for operations that recover what they have made.
    ///
    /// # Errors
    /// As [`Recover::run`].
    pub fn graph(&self, model: &Model, teacher: &Model, data: &Dataset, ctx: &Context) -> Result<Graph> {
        Ok(self.run((model, teacher, data), ctx)?.model.into_graph())
    }

    fn train(&self) -> Train {
        Train {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: Some(self.learning_rate),
            optimizer: self.optimizer,
            freeze: self.freeze.clone(),
            accumulate: self.accumulate,
            ema: self.ema,
            scales: self.scales,
            precision: self.precision,
            augment: self.augment,
            workers: self.workers,
            checkpoint: self.checkpoint.clone(),
            resume: self.resume,
            ..Train::default()
        }
    }
}

/// Images on which the difference is judged, of the part of the dataset that is for evaluation.
struct Held<'a> {
    model: &'a Model,
    input: String,
    data: Dataset,
    label: String,
    images: usize,
    options: LoaderOptions,
}

impl<'a> Held<'a> {
    fn new(model: &'a Model, data: &Dataset, images: usize, batch: usize, ctx: &Context) -> Result<Self> {
        let Some(input) = model.graph().feeds().next() else { return Err(Error::unsupported("the model has no input")) };
        let fixed = input.fact.shape.as_ref().and_then(|s| s.first()?.known());
        let data = data.for_evaluation().take(images);
        let size = crate::images::image_size(model.graph(), model.task())?;
        let form = ImageForm::of(model.graph(), model.task());
        let batch = fixed.unwrap_or(batch).min(data.len().max(1));
        let options = LoaderOptions { batch, size, seed: ctx.seed, drop_last: fixed.is_some(), form, ..LoaderOptions::default() };
        Ok(Self { model, input: input.name.clone(), label: data.label(), images: data.len(), data, options })
    }

    /// The mean over batches.
    fn loss(&self, graph: &Graph, objective: &mut Imitation<'_>, ctx: &Context) -> Result<f64> {
        let wanted = objective.wanted();
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let mut engine = Engine::new(graph, &names, ctx.threads)?;
        let (mut sum, mut batches) = (0.0, 0.0);
        for batch in Loader::new(&self.data, self.options.clone(), ctx)? {
            let batch = batch?;
            let images = model_input(self.model.task(), &batch.images)?;
            let outputs = engine.run(&HashMap::from([(self.input.clone(), Value::plain(images)?)]), Some(&ctx.cancel))?;
            sum += objective.loss(&outputs, &batch, ctx)?.value();
            batches += 1.0;
            ctx.check()?;
        }
        Ok(sum / f64::max(batches, 1.0))
    }
}

#[cfg(test)]
mod tests;
