//! What a change of a model costs: its score on a dataset before and after, or its agreement with the unchanged model
//! where the dataset has no labels that fit.

use crate::score::{Figure, Scorer};
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::report::counted;
use compresso_learn::data::Dataset;
use compresso_model::Model;
use serde::Serialize;

/// Images that both models are judged on.
const IMAGES: usize = 64;
/// A model that loses more than this part of its score is warned of.
const LOSS: f64 = 0.05;

/// Scores of a model before and after a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Damage {
    /// `mAP50`, `top-1`, or either as agreement with the unchanged model, whose own score is then 1. Of models for masks, key
    /// points and turned boxes it is the agreement of the upright boxes.
    pub measure: String,
    /// The score before the change, 0 to 1.
    pub before: f64,
    /// The score after the change, 0 to 1.
    pub after: f64,
    /// Standard error of the difference, by leaving out parts of the images; `None` for a single one.
    pub deviation: Option<f64>,
    /// What one image is worth, of a classifier.
    pub grain: Option<f64>,
    /// Images that both were judged on.
    pub images: usize,
    /// Name and split of the dataset.
    pub dataset: String,
    /// Why the score now may say nothing, where it is no better than always answering the commonest class.
    pub idle: Option<String>,
}

impl Damage {
    /// Judges both models, on the part of `data` that is for evaluation; where nothing can be said, the reason.
    ///
    /// # Errors
    /// What reading the images and running the models report.
    pub fn of(before: &Model, after: &Model, data: &Dataset, ctx: &Context) -> Result<Result<Self, String>> {
        let scorer = match Scorer::of(before, data, IMAGES, Figure::Map50, ctx)? {
            Ok(scorer) => scorer,
            Err(reason) => return Ok(Err(reason)),
        };
        let now = scorer.score(after, ctx)?;
        Ok(Ok(Self {
            before: scorer.first.value,
            after: now.value,
            deviation: scorer.deviation(&now),
            grain: scorer.grain(),
            images: scorer.images(),
            dataset: scorer.dataset(),
            idle: scorer.is_idle(now.value),
            measure: scorer.measure,
        }))
    }

    /// As [`Damage::of`], and tells it. What keeps it from being measured is told and no error. `operation` is the name of the
    /// change, `advice` what may be done where much is lost.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn told(operation: &str, advice: &str, [before, after]: [&Model; 2], data: &Dataset, ctx: &Context) -> Result<Option<Self>> {
        match Self::of(before, after, data, ctx) {
            Ok(Ok(damage)) => {
                damage.tell(operation, advice, ctx);
                Ok(Some(damage))
            }
            Ok(Err(reason)) => {
                ctx.note(format!("{operation}: the model has no score: {reason}"));
                Ok(None)
            }
            Err(e) if e.is_cancelled() => Err(e),
            Err(e) => {
                let why = e.to_string().replace('\n', " ");
                ctx.note(format!("{operation}: warning: what it costs could not be measured: {why}"));
                Ok(None)
            }
        }
    }

    fn tell(&self, operation: &str, advice: &str, ctx: &Context) {
        let Self { measure, before, after, dataset, .. } = self;
        let images = counted(self.images, "image");
        let sure = match (self.grain, self.deviation) {
            (Some(grain), _) => format!(" (one image is {grain:.3})"),
            (None, Some(e)) => format!(" (difference ±{e:.3})"),
            (None, None) => String::new(),
        };
        ctx.note(format!("{operation}: {measure} {before:.3} → {after:.3} on {images} of {dataset}{sure}"));
        if let Some(why) = &self.idle {
            ctx.note(format!("{operation}: warning: {why}"));
        }
        let lost = before - after;
        if lost / before > LOSS {
            // Two standard errors: what chance alone brings about once in twenty times.
            let least = self.grain.unwrap_or(0.0).max(2.0 * self.deviation.unwrap_or(f64::INFINITY));
            let chance = if lost > least { String::new() } else { format!(", which may be chance: {images} tell no less apart") };
            ctx.note(format!("{operation}: warning: the model has lost {:.0} % of its {measure}{chance}; {advice}", 100.0 * lost / before));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_base::context::Notes;
    use compresso_base::operation::Operation;
    use compresso_learn::data::{DataKind, DataOptions, DataTask, dataset};
    use compresso_learn::train::Train;
    use compresso_model::{Constant, ModelOptions, Patch};
    use std::sync::Arc;

    fn shapes(task: DataTask) -> Dataset {
        let options = DataOptions { images: Some(32), size: Some(32.into()), classes: Some(2.into()), task, ..DataOptions::default() };
        dataset("shapes", &options, &Context::new()).unwrap()
    }

    /// The same images without labels.
    fn bare(data: &Dataset) -> Dataset {
        Dataset::new("bare", DataKind::Unlabelled, Vec::new(), data.for_evaluation().source)
    }

    fn trained(data: &Dataset) -> Model {
        let options =
            ModelOptions { classes: Some(serde_json::json!(&*data.classes)), image_size: Some(32.into()), ..ModelOptions::default() };
        let model = options.run("classifier", &Context::new()).unwrap();
        let train =
            Train { epochs: 8, batch: 8, augment: false, validate_every: 0, learning_rate: Some(0.01), ema: false, ..Train::default() };
        train.run((&model, data, None), &Context::new()).unwrap().model
    }

    #[test]
    fn lost_scores_and_lost_agreement_are_told() {
        let (ctx, data) = (Context::new(), shapes(DataTask::Classify));
        let model = trained(&data);
        let same = Damage::of(&model, &model, &data, &ctx).unwrap().unwrap();
        assert_eq!((same.measure.as_str(), same.before, same.after), ("top-1", same.after, same.before));
        assert!(same.before > 0.6 && same.images == 8, "{same:?}");
        assert_eq!((same.grain, same.deviation), (Some(0.125), Some(0.0)));
        let agreed = Damage::of(&model, &model, &bare(&data), &ctx).unwrap().unwrap();
        assert_eq!((agreed.measure.as_str(), agreed.before, agreed.after), ("top-1 with the unchanged model", 1.0, 1.0));
        // Another model of the same classes, which has learnt nothing.
        let options =
            ModelOptions { classes: Some(serde_json::json!(&*data.classes)), image_size: Some(32.into()), ..ModelOptions::default() };
        let other = options.run("classifier", &ctx).unwrap();
        assert!(Damage::of(&model, &other, &data, &ctx).unwrap().unwrap().after < same.before);
        let forgotten = Damage::of(&model, &other, &bare(&data), &ctx).unwrap().unwrap();
        assert!(forgotten.after < 1.0 && forgotten.before == 1.0);
    }

    #[test]
    fn boxes_of_models_for_more_agree() {
        let data = shapes(DataTask::Detect);
        let net = |biases: [f32; 2]| {
            let options = ModelOptions {
                classes: Some(serde_json::json!(2)),
                image_size: Some(32.into()),
                width: Some(0.0625),
                ..ModelOptions::default()
            };
            let model = options.run("yolov8n-obb", &Context::new()).unwrap();
            // A model that finds one of its classes everywhere.
            let mut patch = Patch::new(model.graph());
            for level in 0..3 {
                patch.set_constant(format!("model.22.cv3.{level}.2.bias"), Constant::floats(&[2], &biases).unwrap());
            }
            Model::new(patch.apply().unwrap(), model.task().clone())
        };
        let (one, two) = (net([1.0, -3.0]), net([-3.0, 1.0]));
        let of = |after: &Model| Damage::of(&one, after, &data, &Context::new()).unwrap().unwrap();
        let same = of(&one);
        assert_eq!((same.before, same.after, same.images), (1.0, 1.0, 8));
        assert!(same.measure.starts_with("mAP50 of boxes"));
        assert_eq!(of(&two).after, 0.0, "boxes of another class are no agreement");
    }

    /// Boxes of several classes at one place, some of them equally likely, with and without labels: what a model finds is what it finds.
    #[test]
    fn a_model_agrees_with_itself() {
        let data = shapes(DataTask::Detect);
        let options = ModelOptions {
            classes: Some(serde_json::json!(2)),
            image_size: Some(32.into()),
            width: Some(0.0625),
            ..ModelOptions::default()
        };
        let model = options.run("yolov8n", &Context::new()).unwrap();
        let mut patch = Patch::new(model.graph());
        for (level, biases) in [[0.3, 0.3], [-0.9, 0.1], [2.0, -1.2]].iter().enumerate() {
            patch.set_constant(format!("model.22.cv3.{level}.2.bias"), Constant::floats(&[2], biases).unwrap());
        }
        let model = Model::new(patch.apply().unwrap(), model.task().clone());
        let same = Damage::of(&model, &model, &bare(&data), &Context::new()).unwrap().unwrap();
        assert_eq!((same.before, same.after, same.deviation), (1.0, 1.0, Some(0.0)), "{same:?}");
    }

    #[test]
    fn nothing_is_said_of_models_that_say_nothing() {
        let data = shapes(DataTask::Detect);
        let options = ModelOptions {
            classes: Some(serde_json::json!(2)),
            image_size: Some(32.into()),
            width: Some(0.0625),
            ..ModelOptions::default()
        };
        let detector = options.run("yolov8n", &Context::new()).unwrap();
        let silent = Damage::of(&detector, &detector, &data, &Context::new()).unwrap().unwrap_err();
        assert!(silent.starts_with("its mAP50 is 0.00") && silent.contains("on 8 images of shapes"), "{silent}");
        let silent = Damage::of(&detector, &detector, &bare(&data), &Context::new()).unwrap().unwrap_err();
        assert_eq!(silent, "it finds nothing on 8 images of bare");
        let notes = Arc::new(Notes::default());
        let ctx = Context::new().with_progress(notes.clone());
        assert_eq!(Damage::told("prune", "train it", [&detector; 2], &bare(&data), &ctx).unwrap(), None);
        assert!(notes.take().contains(&"prune: the model has no score: it finds nothing on 8 images of bare".to_string()));
    }
}
