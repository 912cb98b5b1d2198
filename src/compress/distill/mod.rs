//! Distillation: a student learns from a teacher's logits, its feature maps, or both.

mod features;
mod logits;
mod objective;
mod outputs;
#[cfg(test)]
mod outputs_tests;
#[cfg(test)]
mod tests;

pub use features::{FeaturePair, pairs, resize};
pub use logits::{Gains, LevelPair, Soft, class_divergence, head_divergence};
pub use objective::DistillObjective;
pub use outputs::output_difference;

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_learn::data::{Dataset, named_after};
use compresso_learn::train::{Train, Trained, fit};
use compresso_model::Model;

compresso_base::choice! {
    /// What the student learns from.
    pub enum Method {
        /// Softened class logits (and box distributions of detectors); of models for masks, key points and turned boxes the
        /// outputs.
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
        /// Share of the teacher's logits in the loss; the rest is the loss from labels. Models for masks, key points and turned
        /// boxes learn from the teacher alone.
        pub alpha: f64 = 0.7,
        /// Values of the student whose feature maps are compared; empty: what feeds the head.
        pub features: Vec<String> = Vec::new(),
        /// The teacher's values, in the same order; empty: those of the same names.
        pub teacher_features: Vec<String> = Vec::new(),
        /// Factor on the difference of the feature maps.
        pub feature_weight: f64 = 1.0,
        ..train: Train = Train::default(),
    }
}

/// Trains a student with the help of a teacher, on data, and keeps the weights that do best on the fourth input, where there is one.
/// Models for masks, key points and turned boxes ([`Task::Instances`](compresso_model::Task)) need no labels: they learn from the
/// teacher alone, and their last weights are kept.
///
/// # Errors
/// `Argument` for options out of range; `Shape` and `Unsupported` when the two models cannot be compared; as [`Train::run`] otherwise.
impl Operation for Distill {
    const SIGNATURE: Signature = Signature {
        name: "distill",
        summary: "Trains a student model with the help of a larger teacher.",
        group: "compress",
        args: &[
            Arg::new("student", ArgKind::Model),
            Arg::new("teacher", ArgKind::Model),
            Arg::new("data", ArgKind::Dataset),
            Arg::optional("val", ArgKind::Dataset),
        ],
        returns: "model, with its history",
        fields: Self::FIELDS,
        examples: &[
            "let teacher = model(\"yolov8n\", #{ classes: 3, image_size: 64, width: 0.125 });\nlet student = model(\"yolov8n\", #{ classes: 3, image_size: 64, width: 0.0625 });\nlet d = dataset(\"shapes\", #{ images: 8 });\nlet s = distill(student, teacher, d, #{ epochs: 1, batch: 4, method: \"both\" });",
        ],
        keywords: &[
            "knowledge distillation",
            "KD",
            "teacher",
            "student",
            "temperature",
            "soft labels",
            "features",
            "hint",
            "without labels",
        ],
    };
    type Inputs<'a> = (&'a Model, &'a Model, &'a Dataset, Option<&'a Dataset>);
    type Output = Trained;

    fn run(&self, (student, teacher, data, val): Self::Inputs<'_>, ctx: &Context) -> Result<Trained> {
        self.validate()?;
        // The teacher's classes are matched with those that the student has when it is trained.
        let (named, _) = named_after(student, data);
        let mut objective = DistillObjective::new(&named, teacher, self, ctx)?;
        let args = [student.into(), teacher.into(), data.into()].into_iter().chain(val.map(Into::into));
        let call = self.call(args).seeded(ctx.seed);
        let trained = fit(student, data, val, &self.train, &mut objective, Vec::new(), call, ctx)?;
        ctx.note(format!("distill: {}", trained.history.summary()));
        Ok(trained)
    }
}

impl Distill {
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
}
