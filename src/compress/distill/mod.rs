//! Distillation: a student learns from a teacher's logits, its feature maps, or both.

#[cfg(test)]
mod outputs_tests;
#[cfg(test)]
mod tests;

use crate::teach::{Chosen, FeatureLoss, Features, Imitation, Lesson, LogitLoss, Named};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_learn::data::{Dataset, named_after};
use compresso_learn::train::{Train, Trained, fit};
use compresso_model::{Model, Task};

compresso_base::choice! {
    /// What the student learns from.
    pub enum Method {
        /// Softened class logits (and box distributions of detectors); of models for masks, key points and turned boxes the
        /// outputs.
        Logits = "logits",
        /// Feature maps.
        Features = "features",
        /// Both at once.
        Both = "both",
    }
}

compresso_base::options! {
    /// Options of `distill`.
    pub struct Distill {
        /// What the student learns from.
        pub method: Method = Method::Logits,
        /// How logits are compared; left out: "kd". docs/distillation.md says what each loss does and which tasks it is for. A map sets a
        /// number of it too, such as #{ name: "dkd", beta: 2 }.
        pub loss: Option<Chosen<LogitLoss>> = None,
        /// Softens the logits of both; 1 leaves them as they are. Left out: the loss's own, 4 for "kd" of classifiers, 1 of detectors.
        pub temperature: Option<f64> = None,
        /// Share of the teacher's logits in the loss; the rest is the loss from labels. Models for masks, key points and turned
        /// boxes learn from the teacher alone. Left out: 0.7 for classifiers, 0.5 for detectors.
        pub alpha: Option<f64> = None,
        /// How feature maps are compared; left out: "confident" for detectors, "mse" for others.
        pub feature_loss: Option<Chosen<FeatureLoss>> = None,
        /// Values of the student whose feature maps are compared; empty: what the head reads.
        pub features: Vec<String> = Vec::new(),
        /// The teacher's values, in the same order; empty: those of the same names.
        pub teacher_features: Vec<String> = Vec::new(),
        /// A factor for each of the feature maps; empty: 1.
        pub feature_weights: Vec<f64> = Vec::new(),
        /// Factor on the difference of all feature maps.
        pub feature_weight: f64 = 1.0,
        /// Divide squared differences of a feature map by its mean square, so that maps of larger numbers do not count more.
        pub balance: bool = false,
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
            "let teacher = model(\"yolov8n\", #{ classes: 3, image_size: 64, width: 0.125 });\nlet student = model(\"yolov8n\", #{ classes: 3, image_size: 64, width: 0.0625 });\nlet d = dataset(\"shapes\", #{ images: 8 });\nlet s = distill(student, teacher, d, #{ epochs: 1, batch: 4, method: \"both\", feature_loss: \"pkd\" });",
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
            "localization distillation",
            "attention transfer",
        ],
    };
    type Inputs<'a> = (&'a Model, &'a Model, &'a Dataset, Option<&'a Dataset>);
    type Output = Trained;

    fn run(&self, (student, teacher, data, val): Self::Inputs<'_>, ctx: &Context) -> Result<Trained> {
        self.validate(student)?;
        // The teacher's classes are matched with those that the student has when it is trained.
        let (named, _) = named_after(student, data);
        let detects = matches!(student.task(), Task::Detect(_));
        let loss = self.loss.clone().map_or_else(|| Chosen::named("kd"), Ok)?;
        let feature_loss = self.feature_loss.clone().map_or_else(|| Chosen::named(if detects { "confident" } else { "mse" }), Ok)?;
        let alpha = self.alpha.unwrap_or(if detects { 0.5 } else { 0.7 });
        let logits = self.method != Method::Features;
        let alone = matches!(student.task(), Task::Instances(_));
        let lesson = Lesson {
            labels: Some(self.train.label_smoothing),
            logits: logits.then_some(&loss),
            temperature: self.temperature,
            features: (self.method != Method::Logits).then(|| Features {
                loss: &feature_loss,
                names: Named { student: &self.features, teacher: &self.teacher_features, weights: &self.feature_weights },
                weight: self.feature_weight,
                balance: self.balance,
            }),
            soft: if alone { 1.0 } else { alpha },
            hard: if logits { 1.0 - alpha } else { 1.0 },
            classes: self.train.classes,
        };
        let mut objective = Imitation::new(&named, teacher, lesson, ctx)?;
        let args = [student.into(), teacher.into(), data.into()].into_iter().chain(val.map(Into::into));
        let call = self.call(args).seeded(ctx.seed);
        let trained = fit(student, data, val, &self.train, &mut objective, Vec::new(), call, ctx)?;
        ctx.note(format!("distill: {}", trained.history.summary()));
        Ok(trained)
    }
}

impl Distill {
    fn validate(&self, student: &Model) -> Result<()> {
        let above_zero = (std::ops::Bound::Excluded(0.0), std::ops::Bound::Excluded(f64::INFINITY));
        self.temperature.map_or(Ok(()), |t| in_range("temperature", t, above_zero))?;
        self.alpha.map_or(Ok(()), |a| in_range("alpha", a, 0.0..=1.0))?;
        in_range("feature_weight", self.feature_weight, 0.0..f64::INFINITY)?;
        self.feature_weights.iter().try_for_each(|&w| in_range("feature_weights", w, 0.0..f64::INFINITY))?;
        let unused = |given: bool, option: &str, method: &str, others: &str| -> Result<()> {
            if !given {
                return Ok(());
            }
            let e = Error::argument(format!("option '{option}' has no effect with method \"{method}\""));
            Err(e.hint(format!("use method {others} or \"both\"")))
        };
        if self.method == Method::Logits {
            let named = !(self.features.is_empty() && self.teacher_features.is_empty());
            unused(named, "features", "logits", "\"features\"")?;
            unused(self.feature_loss.is_some(), "feature_loss", "logits", "\"features\"")?;
            unused(!self.feature_weights.is_empty(), "feature_weights", "logits", "\"features\"")?;
        }
        if self.method == Method::Features {
            unused(self.loss.is_some(), "loss", "features", "\"logits\"")?;
            unused(self.alpha.is_some(), "alpha", "features", "\"logits\"")?;
        }
        // Options that speak of a loss from labels or of logits say nothing of models that have neither.
        if let Task::Instances(i) = student.task() {
            let given = [("alpha", self.alpha.is_some()), ("temperature", self.temperature.is_some()), ("loss", self.loss.is_some())];
            if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
                let e = Error::argument(format!("option '{name}' has no effect on models of {}", i.kind.what()));
                return Err(e.hint("they learn from their teacher's outputs alone, without labels"));
            }
        }
        Ok(())
    }
}
