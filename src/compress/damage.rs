//! What a change of a model costs: its score on a dataset before and after, or its agreement with the unchanged model
//! where the dataset has no labels that fit.

use compresso_base::context::Context;
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_base::operation::Operation;
use compresso_learn::data::{DataKind, Dataset, GroundTruth, ImageForm, Sample, Source};
use compresso_learn::eval::{
    Detection, Evaluate, Evaluation, ImageRunner, Predict, Prediction, Truth, evaluate_as, mean_average_precision,
};
use compresso_model::{Model, Task};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// Images that both models are judged on.
const IMAGES: usize = 64;
/// A model that loses more than this part of its score is warned of.
const LOSS: f64 = 0.05;
/// A lower score says nothing: the model has not been trained, or not on such images.
const LEAST: f64 = 0.01;

/// Scores of a model before and after a change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Damage {
    /// `mAP50`, `top-1`, or either as agreement with the unchanged model, whose own score is then 1. Of models for masks, key
    /// points and turned boxes it is the agreement of the upright boxes.
    pub measure: String,
    pub before: f64,
    pub after: f64,
    /// Images that both were judged on.
    pub images: usize,
    /// Name and split of the dataset.
    pub dataset: String,
}

impl Damage {
    /// Judges both models, on the part of `data` that is for evaluation; `None` where nothing can be said.
    ///
    /// # Errors
    /// What reading the images and running the models report.
    pub fn of(before: &Model, after: &Model, data: &Dataset, ctx: &Context) -> Result<Option<Self>> {
        let data = data.for_evaluation().take(IMAGES);
        if matches!(before.task(), Task::Instances(_)) {
            return Self::of_boxes(before, after, &data, ctx);
        }
        let Some(expected) = DataKind::of_task(before.task()) else { return Ok(None) };
        if data.kind == expected {
            match judged(before, &data, ctx) {
                Ok(was) => return Ok(Self::between(&was, &judged(after, &data, ctx)?, &data, "")),
                // The labels are of other classes.
                Err(e) if matches!(e.kind(), ErrorKind::Argument | ErrorKind::Unsupported) => {}
                Err(e) => return Err(e),
            }
        }
        let Some(said) = said(before, &data, ctx)? else { return Ok(None) };
        let was = judged(before, &said, ctx)?;
        Ok(Self::between(&was, &judged(after, &said, ctx)?, &data, " with the unchanged model"))
    }

    /// How well the boxes of `after` agree with those of `before`; `None` where that finds nothing.
    fn of_boxes(before: &Model, after: &Model, data: &Dataset, ctx: &Context) -> Result<Option<Self>> {
        let found = |model: &Model, confidence: f64| -> Result<Vec<Prediction>> {
            let found = Predict { confidence, ..Predict::default() }.run((model, data), ctx)?;
            if found.cancelled { Err(Error::cancelled()) } else { Ok(found.images) }
        };
        let truth = |p: &Prediction| -> Vec<Truth> {
            p.detections.iter().map(|d| Truth::from(GroundTruth { class: d.class, bbox: d.bbox })).collect()
        };
        let truths: Vec<Vec<Truth>> = found(before, Predict::default().confidence)?.iter().map(truth).collect();
        let score = |model: &Model| -> Result<Option<f64>> {
            let detection = |p: &Prediction| -> Vec<Detection> {
                p.detections.iter().map(|d| Detection { class: d.class, score: d.score, bbox: d.bbox }).collect()
            };
            let detections: Vec<Vec<Detection>> = found(model, Evaluate::default().confidence)?.iter().map(detection).collect();
            Ok(mean_average_precision(&detections, &truths, before.task().classes().len()).map50)
        };
        let (Some(was), Some(is)) = (score(before)?, score(after)?) else { return Ok(None) };
        let measure = "mAP50 of boxes with the unchanged model".to_string();
        Ok(Some(Self { measure, before: was, after: is, images: truths.len(), dataset: data.label() }))
    }

    fn between(was: &Evaluation, is: &Evaluation, data: &Dataset, beside: &str) -> Option<Self> {
        let (measure, before, after) = match (was.map50, is.map50, was.top1, is.top1) {
            (Some(a), Some(b), ..) => ("mAP50", a, b),
            (_, _, Some(a), Some(b)) => ("top-1", a, b),
            _ => return None,
        };
        (before >= LEAST).then(|| Self { measure: format!("{measure}{beside}"), before, after, images: is.images, dataset: data.label() })
    }

    /// As [`Damage::of`], and tells it. What keeps it from being measured is told and no error. `operation` is the name of the
    /// change, `advice` what may be done where much is lost.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn told(operation: &str, advice: &str, [before, after]: [&Model; 2], data: &Dataset, ctx: &Context) -> Result<Option<Self>> {
        match Self::of(before, after, data, ctx) {
            Ok(damage) => {
                damage.iter().for_each(|d| d.tell(operation, advice, ctx));
                Ok(damage)
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
        let Self { measure, before, after, images, dataset } = self;
        ctx.note(format!("{operation}: {measure} {before:.3} → {after:.3} on {images} images of {dataset}"));
        let lost = 1.0 - after / before;
        if lost > LOSS {
            ctx.note(format!("{operation}: warning: the model has lost {:.0} % of its {measure}; {advice}", 100.0 * lost));
        }
    }
}

/// Scores models by one figure on the same images: mAP50-95 or top-1, where the labels fit, else with what the first model says of
/// the images as labels.
pub struct Scorer {
    data: Dataset,
    /// What the figure is called.
    pub measure: String,
    /// That of the first model.
    pub first: f64,
}

impl Scorer {
    /// On up to `images` images of the part of `data` that is for evaluation; `None` where nothing can be said.
    ///
    /// # Errors
    /// What reading the images and running the model report.
    pub fn of(model: &Model, data: &Dataset, images: usize, ctx: &Context) -> Result<Option<Self>> {
        let data = data.for_evaluation().take(images);
        let measure = match DataKind::of_task(model.task()) {
            Some(DataKind::Detection) => "mAP50-95",
            Some(DataKind::Classification) => "top-1",
            _ => return Ok(None),
        };
        if DataKind::of_task(model.task()) == Some(data.kind) {
            match judged(model, &data, ctx) {
                Ok(was) if was.fitness() < LEAST => return Ok(None),
                Ok(was) => return Ok(Some(Self { first: was.fitness(), data, measure: measure.into() })),
                Err(e) if matches!(e.kind(), ErrorKind::Argument | ErrorKind::Unsupported) => {}
                Err(e) => return Err(e),
            }
        }
        let Some(data) = said(model, &data, ctx)? else { return Ok(None) };
        let first = judged(model, &data, ctx)?.fitness();
        Ok(Some(Self { first, data, measure: format!("{measure} with the unchanged model") }))
    }
    /// # Errors
    /// As [`Scorer::of`].
    pub fn score(&self, model: &Model, ctx: &Context) -> Result<f64> {
        Ok(judged(model, &self.data, ctx)?.fitness())
    }
    pub fn images(&self) -> usize {
        self.data.len()
    }
}

fn judged(model: &Model, data: &Dataset, ctx: &Context) -> Result<Evaluation> {
    let mut runner = ImageRunner::new(model, ctx);
    let form = ImageForm::of(model.graph(), model.task());
    evaluate_as(&form, &mut |images| runner.run(images), model.task(), data, &Evaluate::default(), ctx)
}

/// The images of a dataset, labelled by what a model says of them; `None` where it says nothing.
fn said(model: &Model, data: &Dataset, ctx: &Context) -> Result<Option<Dataset>> {
    let found = Predict { top: 1, ..Predict::default() }.run((model, data), ctx)?;
    if found.cancelled {
        return Err(Error::cancelled());
    }
    let classes = match model.task().classes() {
        [] => return Ok(None),
        names => names.to_vec(),
    };
    let any = found.images.iter().any(|p| !(p.detections.is_empty() && p.classes.is_empty()));
    let labels = found.images.into_iter().map(|p| (p.name.clone(), p)).collect();
    let kind = if model.task().detect().is_some() { DataKind::Detection } else { DataKind::Classification };
    let source = Said { images: data.source.clone(), labels };
    Ok(any.then(|| Dataset::new(data.label(), kind, classes, Arc::new(source))))
}

struct Said {
    images: Arc<dyn Source>,
    labels: HashMap<String, Prediction>,
}

impl Source for Said {
    fn len(&self) -> usize {
        self.images.len()
    }
    fn get(&self, i: usize) -> Result<Sample> {
        self.images.get(i).map(|s| self.labelled(s))
    }
    fn get_at(&self, i: usize, size: [usize; 2]) -> Result<Sample> {
        self.images.get_at(i, size).map(|s| self.labelled(s))
    }
    fn opacity_of(&self, i: usize) -> Result<Option<image::GrayImage>> {
        self.images.opacity_of(i)
    }
}

impl Said {
    fn labelled(&self, sample: Sample) -> Sample {
        let said = self.labels.get(&sample.name);
        let targets = said.into_iter().flat_map(|p| &p.detections).map(|d| GroundTruth { class: d.class, bbox: d.bbox }).collect();
        let label = said.and_then(|p| p.classes.first()).map(|c| c.class);
        Sample { targets, label, ..sample }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_learn::data::{DataOptions, DataTask, dataset};
    use compresso_learn::train::Train;
    use compresso_model::{Constant, ModelOptions, Patch};

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
        assert_eq!(Damage::of(&detector, &detector, &data, &Context::new()).unwrap(), None);
        assert_eq!(Damage::of(&detector, &detector, &bare(&data), &Context::new()).unwrap(), None);
    }
}
