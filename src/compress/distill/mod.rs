//! Distillation: a student learns from a teacher's logits, its feature maps, or both.

mod features;
mod logits;
mod objective;
#[cfg(test)]
mod tests;

pub use features::{FeaturePair, pairs, resize};
pub use logits::{Gains, LevelPair, Soft, class_divergence, head_divergence};
pub use objective::DistillObjective;

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, Options as _, Signature, changed, in_range};
use compresso_learn::data::{Augment, Dataset};
use compresso_learn::train::{OptimizerKind, ScheduleKind, Train, Trained, fit};
use compresso_model::{Model, Step};

compresso_base::choice! {
    /// What the student learns from.
    pub enum Method {
        /// Softened class logits (and box distributions of detectors).
        Logits = "logits",
        /// Feature maps.
        Features = "features",
        Both = "both",
    }
}

compresso_base::options! {
    /// Options of `distill`.
    pub struct Distill {
        /// What the student learns from.
        pub method: Method = Method::Logits,
        /// Softens the logits of both; 1 leaves them as they are.
        pub temperature: f64 = 4.0,
        /// Share of the teacher's logits in the loss; the rest is the loss from labels.
        pub alpha: f64 = 0.7,
        /// Values of the student whose feature maps are compared; empty: what feeds the head.
        pub features: Vec<String> = Vec::new(),
        /// The teacher's values, in the same order; empty: those of the same names.
        pub teacher_features: Vec<String> = Vec::new(),
        /// Factor on the difference of the feature maps.
        pub feature_weight: f64 = 1.0,
        /// Passes over the training images.
        pub epochs: usize = 20,
        /// Images per step.
        pub batch: usize = 16,
        /// Highest learning rate; left out: 0.01 for SGD, 0.001 for Adam, 0.002 for AdamW.
        pub learning_rate: Option<f64> = None,
        /// Update rule.
        pub optimizer: OptimizerKind = OptimizerKind::Auto,
        /// Decay of weights; biases and norms do not decay.
        pub weight_decay: f64 = Train::default().weight_decay,
        /// Epochs over which the learning rate rises (at most a fifth of all).
        pub warmup: f64 = Train::default().warmup,
        /// Fall of the learning rate.
        pub schedule: ScheduleKind = ScheduleKind::Cosine,
        /// Judge and keep a moving average of the weights.
        pub ema: bool = true,
        /// Largest norm of all gradients together; 0: no limit.
        pub clip: f64 = Train::default().clip,
        /// Share of the target that is spread over all classes (classification).
        pub label_smoothing: f64 = 0.0,
        /// Vary images at random.
        pub augment: bool = true,
        /// Chance of putting four images together (detection).
        pub mosaic: f64 = Augment::default().mosaic,
        /// Chance of mirroring left and right.
        pub hflip: f64 = Augment::default().hflip,
        /// Epochs at the end without mosaic.
        pub close_mosaic: usize = Train::default().close_mosaic,
        /// Threads that prepare images; left out: those of the session.
        pub workers: Option<usize> = None,
        /// Epochs between validations (where there is a validation set); 0: only after the last.
        pub validate_every: usize = 1,
    }
}

impl Distill {
    /// What `help("distill")` says.
    pub const SIGNATURE: Signature = Signature {
        name: "distill",
        summary: "Trains a student model with the help of a larger teacher.",
        group: "compress",
        args: &[Arg::new("student", "model"), Arg::new("teacher", "model"), Arg::new("data", "dataset"), Arg::optional("val", "dataset")],
        returns: "model, with its history",
        fields: Self::FIELDS,
        examples: &[
            "let teacher = model(\"yolov8n\", #{ classes: 3, image_size: 64, width: 0.125 });\nlet student = model(\"yolov8n\", #{ classes: 3, image_size: 64, width: 0.0625 });\nlet d = dataset(\"shapes\", #{ images: 8 });\nlet s = distill(student, teacher, d, #{ epochs: 1, batch: 4, method: \"both\" });",
        ],
        keywords: &["knowledge distillation", "KD", "teacher", "student", "temperature", "soft labels", "features", "hint"],
    };

    /// Trains `student` with `teacher`'s help.
    ///
    /// # Errors
    /// As [`Distill::train`].
    pub fn apply(&self, student: &Model, teacher: &Model, data: &Dataset, ctx: &Context) -> Result<Model> {
        Ok(self.train(student, teacher, data, None, ctx)?.model)
    }

    /// As [`Distill::apply`], keeping the weights that do best on `val`, and with the history.
    ///
    /// # Errors
    /// `Argument` for options out of range; `Shape` and `Unsupported` when the two models cannot be compared; as
    /// [`train`](compresso_learn::train::train) otherwise.
    pub fn train(&self, student: &Model, teacher: &Model, data: &Dataset, val: Option<&Dataset>, ctx: &Context) -> Result<Trained> {
        self.validate()?;
        let mut objective = DistillObjective::new(student, teacher, self, ctx)?;
        let args = [Some(data), val].into_iter().flatten().map(Dataset::expression);
        let args = std::iter::once(teacher.expression()).chain(args).collect();
        let step = Step::new(Self::SIGNATURE.name, args, changed(self));
        let trained = fit(student, data, val, &self.training(), &mut objective, Vec::new(), step, ctx)?;
        ctx.note(format!("distill: {}", trained.history.summary()));
        Ok(trained)
    }

    fn validate(&self) -> Result<()> {
        let above_zero = (std::ops::Bound::Excluded(0.0), std::ops::Bound::Excluded(f64::INFINITY));
        in_range("temperature", self.temperature, above_zero)?;
        in_range("alpha", self.alpha, 0.0..=1.0)?;
        in_range("feature_weight", self.feature_weight, 0.0..f64::INFINITY)?;
        if self.method == Method::Logits && !(self.features.is_empty() && self.teacher_features.is_empty()) {
            return Err(
                Error::argument("option 'features' has no effect with method \"logits\"").hint("use method \"features\" or \"both\"")
            );
        }
        Ok(())
    }

    /// The options that distillation shares with training.
    fn training(&self) -> Train {
        Train {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            optimizer: self.optimizer,
            weight_decay: self.weight_decay,
            warmup: self.warmup,
            schedule: self.schedule,
            ema: self.ema,
            clip: self.clip,
            label_smoothing: self.label_smoothing,
            augment: self.augment,
            mosaic: self.mosaic,
            hflip: self.hflip,
            close_mosaic: self.close_mosaic,
            workers: self.workers,
            validate_every: self.validate_every,
            ..Train::default()
        }
    }
}
