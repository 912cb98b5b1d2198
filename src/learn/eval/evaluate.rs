//! `evaluate`: how well a model does on a dataset.

use super::confusion::Confusion;
use super::evaluation::{ClassResult, Conditions, Evaluation};
use super::map::{MeanPrecision, mean_average_precision};
use super::{Detection, ImageRunner, Truth, decode, nms};
use crate::data::{Batch, DataKind, Dataset, GroundTruth, ImageForm, Loader, LoaderOptions, Matched};
use candle_core::Tensor;
use compresso_base::context::{Context, device_name};
use compresso_base::error::{At, Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_base::report::counted;
use compresso_exec::Outputs;
use compresso_model::classes::{ClassMatch, listing};
use compresso_model::size_of;
use compresso_model::{Classify, Detect, InstanceKind, Model, Task};
use std::time::Instant;

compresso_base::options! {
    /// Options of `evaluate`.
    pub struct Evaluate {
        /// Images per run of the model.
        pub batch: usize = 16,
        /// Input size in pixels, one number or [height, width]; the model's own when left out.
        pub size: Option<serde_json::Value> = None,
        /// Boxes of lower confidence are dropped.
        pub confidence: f64 = 0.001,
        /// Non-maximum suppression drops a box that overlaps a better one by more than this (intersection over union).
        pub iou: f64 = 0.7,
        /// Most boxes per image, of all classes together. Of each class, COCO's figures take the best 100 of an image.
        pub max_detections: usize = 300,
        /// A box may count for several classes (as usual when measuring), not only for its best.
        pub multi_label: bool = true,
        /// Boxes of different classes suppress each other.
        pub agnostic: bool = false,
        /// "same": model and dataset must have the same classes, by name, in any order. "shared": only those that both have are
        /// judged: objects of others, and what a detector finds of others, are left out; a classifier's answers of others are wrong.
        pub classes: ClassMatch = ClassMatch::Same,
        /// Only the first images.
        pub images: Option<usize> = None,
    }
}

/// Evaluates a model. A dataset of several splits is judged by its `val` split, else `test`.
///
/// # Errors
/// `Unsupported` for a model whose task is not known; `Argument` when the dataset's labels do not fit the task.
impl Operation for Evaluate {
    const SIGNATURE: Signature = Signature {
        name: "evaluate",
        summary: "Measures a model on a dataset: COCO mAP by IoU and object size, precision, recall, confusion; top-1 and top-5 for a classifier.",
        group: "measure",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("d", ArgKind::Dataset)],
        returns: "evaluation",
        fields: Self::FIELDS,
        examples: &[
            "let m = model(\"yolov8n\", #{ classes: 3, width: 0.125, image_size: 64 }); let d = dataset(\"shapes\", #{ images: 16, size: 64 }); \
             evaluate(m, d).map50",
        ],
        keywords: &[
            "accuracy",
            "mAP",
            "coco",
            "confusion matrix",
            "PR curve",
            "F1",
            "average precision",
            "validate",
            "validation",
            "test",
            "top-1",
            "recall",
            "score",
        ],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset);
    type Output = Evaluation;

    fn run(&self, (model, data): (&Model, &Dataset), ctx: &Context) -> Result<Evaluation> {
        let mut runner = ImageRunner::new(model, ctx);
        let form = ImageForm::of(model.graph(), model.task());
        let (result, matching, _) = measure(&form, &mut |images| runner.run(images), model.task(), data, self, ctx)?;
        for line in matching {
            ctx.note(format!("evaluate: {line}"));
        }
        ctx.note(format!("evaluate: {}, {}: {}", result.dataset, counted(result.images, "image"), result.summary()));
        Ok(result)
    }
}

/// Evaluates whatever `run` runs: it is given `[n, 3, height, width]` RGB images, 0 to 1, with n at most
/// `options.batch`, and returns the outputs by name.
///
/// # Errors
/// As [`Evaluate::run`]; and whatever `run` reports.
pub fn evaluate_with(
    run: &mut dyn FnMut(&Tensor) -> Result<Outputs>,
    task: &Task,
    data: &Dataset,
    options: &Evaluate,
    ctx: &Context,
) -> Result<Evaluation> {
    evaluate_as(&ImageForm::of_task(task), run, task, data, options, ctx)
}

/// As [`evaluate_with`], with images of any form.
///
/// # Errors
/// As there.
pub fn evaluate_as(
    form: &ImageForm,
    run: &mut dyn FnMut(&Tensor) -> Result<Outputs>,
    task: &Task,
    data: &Dataset,
    options: &Evaluate,
    ctx: &Context,
) -> Result<Evaluation> {
    Ok(measure(form, run, task, data, options, ctx)?.0)
}

/// What a model got right of each image of a dataset, so that figures can be had of some of them.
#[derive(Debug, Clone)]
pub enum PerImage {
    /// Of a detector.
    Boxes {
        /// What it found in each image, in pixels of the original.
        found: Vec<Vec<Detection>>,
        /// What there is in each image, in the same order and pixels.
        truths: Vec<Vec<Truth>>,
        /// Number of classes.
        classes: usize,
    },
    /// Of a classifier: whether its best class is the right one.
    Answers(Vec<bool>),
}

/// As [`evaluate_as`], with what it is made of.
///
/// # Errors
/// As there.
pub fn evaluate_images(
    form: &ImageForm,
    run: &mut dyn FnMut(&Tensor) -> Result<Outputs>,
    task: &Task,
    data: &Dataset,
    options: &Evaluate,
    ctx: &Context,
) -> Result<(Evaluation, PerImage)> {
    let (evaluation, _, images) = measure(form, run, task, data, options, ctx)?;
    Ok((evaluation, images))
}

/// The evaluation, those of its warnings that say how classes were matched, and what it is made of.
fn measure(
    form: &ImageForm,
    run: &mut dyn FnMut(&Tensor) -> Result<Outputs>,
    task: &Task,
    data: &Dataset,
    options: &Evaluate,
    ctx: &Context,
) -> Result<(Evaluation, Vec<String>, PerImage)> {
    in_range("confidence", options.confidence, 0.0..=1.0)?;
    in_range("iou", options.iou, 0.0..=1.0)?;
    in_range("max_detections", options.max_detections as f64, 1.0..)?;
    in_range("batch", options.batch as f64, 1.0..)?;
    let size = match (&options.size, task.image_size()) {
        (Some(v), _) => size_of("size", v)?,
        (None, Some(size)) => size,
        (None, None) => return Err(unknown_task()),
    };
    let Matched { mut data, map, notes: matching } = judged(task, data, options)?;
    if let Some(n) = options.images {
        data = data.take(n);
    }
    let start = Instant::now();
    let ragged = task.detect().is_some_and(|d| d.decode.is_ragged());
    let batch = if ragged { 1 } else { options.batch };
    let loader = Loader::new(&data, LoaderOptions { batch, size, form: form.clone(), ..LoaderOptions::default() }, ctx)?;
    let pass = Pass { run, data: &data, loader, missing: map.missing(), options, ctx };
    let (mut result, images) = match task {
        Task::Unknown | Task::Instances(_) => return Err(unknown_task()),
        // With the size that the boxes are relative to.
        Task::Detect(task) => pass.detect(&Detect { image_size: size, ..task.clone() })?,
        Task::Classify(task) => pass.classify(task)?,
    };
    result.warnings.clone_from(&matching);
    if result.images < data.len() {
        result.warnings.push(format!("{} images could not be read and are left out", data.len() - result.images));
    }
    result.dataset = data.label();
    result.seconds = start.elapsed().as_secs_f64();
    result.conditions = Conditions {
        image_size: size,
        batch,
        confidence: options.confidence,
        iou: options.iou,
        max_detections: options.max_detections,
        multi_label: options.multi_label,
        agnostic: options.agnostic,
        suppressed: task.detect().is_none_or(|d| d.decode.suppresses()),
        device: device_name(&ctx.device),
        threads: ctx.threads,
    };
    Ok((result, matching, images))
}

/// The images and labels that a model with this task is judged by, in the model's classes.
///
/// # Errors
/// `Unsupported` for a task that is not known; `Argument` for labels of another kind, and as [`Dataset::in_classes`].
pub fn judged(task: &Task, data: &Dataset, options: &Evaluate) -> Result<Matched> {
    let expected = match task {
        Task::Unknown => return Err(unknown_task()),
        Task::Instances(i) => {
            let e = Error::unsupported(format!("evaluating {} is not supported: datasets have no labels of them here", i.kind.what()));
            let read = if i.kind == InstanceKind::Turned { "" } else { ", which pycocotools evaluates" };
            return Err(e.hint(format!(
                "save(predict(m, images, #{{ confidence: 0.001 }}), \"found.coco.json\") writes what it finds{read}; compare(a, b, images) says how far \
                 a changed model is from the original"
            )));
        }
        Task::Detect(_) => DataKind::Detection,
        Task::Classify(_) => DataKind::Classification,
    };
    let data = data.for_evaluation();
    if data.kind != expected {
        let e = Error::argument(format!("expected a dataset with {expected} labels, dataset '{}' has {} labels", data.name, data.kind));
        return Err(e.hint("a detector is judged by boxes, a classifier by image classes"));
    }
    let mut matched = data.in_classes(task.classes(), options.classes)?;
    let missing = matched.map.lacking(task.classes());
    if !missing.is_empty() {
        let names = listing(&missing);
        matched.notes.push(match task {
            Task::Classify(_) => format!("an answer of {names} counts as wrong"),
            _ => format!("what the model finds of {names} is left out"),
        });
    }
    Ok(matched)
}

fn unknown_task() -> Error {
    Error::unsupported("the model's task is not known, so its outputs cannot be judged")
        .hint("say how its outputs are read when loading it: model(path, #{ decode: \"yolo\", classes: [...] })")
}

struct Pass<'a> {
    run: &'a mut dyn FnMut(&Tensor) -> Result<Outputs>,
    data: &'a Dataset,
    loader: Loader,
    /// The model's classes that the dataset lacks.
    missing: &'a [usize],
    options: &'a Evaluate,
    ctx: &'a Context,
}

impl Pass<'_> {
    /// Runs the model over all batches.
    fn each(self, mut read: impl FnMut(&Batch, &Outputs) -> Result<()>) -> Result<usize> {
        let mut progress = self.ctx.progress("evaluate", self.loader.batches() as u64);
        let mut images = 0;
        for batch in self.loader {
            let batch = batch?;
            self.ctx.check()?;
            let outputs = (self.run)(&batch.images)?;
            read(&batch, &outputs)?;
            images += batch.indices.len();
            progress.step(format!("{images} images"))?;
        }
        Ok(images)
    }

    fn detect(self, task: &Detect) -> Result<(Evaluation, PerImage)> {
        let (mut detections, mut truths): (Vec<Vec<Detection>>, Vec<Vec<Truth>>) = (Vec::new(), Vec::new());
        let (o, missing, source) = (self.options, self.missing, self.data.source.clone());
        let count = task.classes.len().max(self.data.classes.len());
        // No overlap is above this where the model has suppressed already.
        let iou = if task.decode.suppresses() { o.iou as f32 } else { f32::INFINITY };
        // As the files have them: on the way to the input's pixels and back, areas may cross the end of a range.
        let exact = |i: usize| source.file_of(i).and_then(|_| source.boxes_of(i).ok()).map(|(targets, _)| targets);
        let images = self.each(|batch, outputs| {
            let found = decode(task, outputs, o.confidence as f32, o.multi_label)?;
            if found.len() != batch.indices.len() {
                return Err(Error::shape(format!("{} images gave outputs for {}", batch.indices.len(), found.len())));
            }
            for (n, (mut found, fit)) in found.into_iter().zip(&batch.letterboxes).enumerate() {
                // The dataset does not say where such objects are.
                found.retain(|d| !missing.contains(&d.class));
                let kept = nms(found, iou, o.agnostic, o.max_detections);
                detections.push(kept.into_iter().map(|d| Detection { bbox: fit.inverse(d.bbox), ..d }).collect());
                let back = || batch.targets[n].iter().map(|t| GroundTruth { bbox: fit.inverse(t.bbox), ..*t }).collect();
                truths.push(match source.regions_of(batch.indices[n], fit.original) {
                    Some(all) => all.into_iter().map(Truth::from).collect(),
                    None => exact(batch.indices[n]).unwrap_or_else(back).into_iter().map(Truth::from).collect(),
                });
            }
            Ok(())
        })?;
        let m: MeanPrecision = mean_average_precision(&detections, &truths, count);
        let labels = (0..count).map(|c| task.classes.get(c).cloned().unwrap_or_else(|| c.to_string())).collect();
        let confusion = m.map50.map(|_| Confusion::of_detections(&detections, &truths, labels));
        let per_class = m.classes.iter().enumerate().filter(|(_, c)| c.objects > 0).map(|(i, c)| ClassResult {
            class: task.classes.get(i).cloned().unwrap_or_else(|| i.to_string()),
            objects: c.objects,
            map50: c.ap50(),
            map: c.mean(),
            precision: c.precision,
            recall: c.recall,
            curve: c.curve.to_vec(),
        });
        let evaluation = Evaluation {
            map50: m.map50,
            map: m.map,
            precision: m.precision,
            recall: m.recall,
            confidence: m.map50.map(|_| m.confidence),
            coco: Some(m.coco),
            by_confidence: m.by_confidence,
            confusion,
            per_class: per_class.collect(),
            ..Evaluation::empty(images)
        };
        Ok((evaluation, PerImage::Boxes { found: detections, truths, classes: count }))
    }

    fn classify(self, task: &Classify) -> Result<(Evaluation, PerImage)> {
        // Pairs of the true class and the ranks: best class, and place of the true one.
        let mut answers: Vec<(usize, usize, usize)> = Vec::new();
        let place = || format!("output '{}'", task.output);
        let mut width = task.classes.len();
        let images = self.each(|batch, outputs| {
            let logits = outputs.get(&task.output).ok_or_else(|| Error::missing("the model did not give it").at(place()))?;
            let n = batch.labels.len();
            let values = logits.to_f32s().at(place)?;
            if logits.dims().first() != Some(&n) || values.len() % n.max(1) != 0 || values.is_empty() {
                return Err(Error::shape(format!("expected [{n}, classes], got {:?}", logits.dims())).at(place()));
            }
            width = values.len() / n;
            for (row, &truth) in values.chunks(width).zip(&batch.labels) {
                if row.iter().any(|v| v.is_nan()) {
                    return Err(Error::check("the classifier's output holds NaN").at(place()));
                }
                let own =
                    *row.get(truth).ok_or_else(|| Error::shape(format!("there is no class {truth} in {width} logits")).at(place()))?;
                // Of equal logits the lower class number is ahead.
                let ahead = row.iter().enumerate().filter(|&(c, &v)| v > own || (v == own && c < truth)).count();
                let best = row.iter().enumerate().fold(0, |b, (c, &v)| if v > row[b] { c } else { b });
                answers.push((truth, best, ahead));
            }
            Ok(())
        })?;
        let share = |f: &dyn Fn(&(usize, usize, usize)) -> bool, of: usize| {
            if of == 0 { 0.0 } else { answers.iter().filter(|a| f(a)).count() as f64 / of as f64 }
        };
        let per_class: Vec<ClassResult> = (0..width)
            .filter_map(|c| {
                let objects = answers.iter().filter(|a| a.0 == c).count();
                let named = answers.iter().filter(|a| a.1 == c).count();
                let right = |a: &(usize, usize, usize)| a.0 == c && a.1 == c;
                (objects > 0).then(|| ClassResult {
                    class: task.classes.get(c).cloned().unwrap_or_else(|| c.to_string()),
                    objects,
                    map50: None,
                    map: None,
                    precision: share(&right, named),
                    recall: share(&right, objects),
                    curve: Vec::new(),
                })
            })
            .collect();
        let labels = (0..width).map(|c| task.classes.get(c).cloned().unwrap_or_else(|| c.to_string())).collect();
        let mean = |f: &dyn Fn(&ClassResult) -> f64| {
            (!per_class.is_empty()).then(|| per_class.iter().map(f).sum::<f64>() / per_class.len() as f64)
        };
        let evaluation = Evaluation {
            precision: mean(&|c| c.precision),
            recall: mean(&|c| c.recall),
            top1: Some(share(&|a| a.2 == 0, images)),
            confusion: (images > 0).then(|| Confusion::of_answers(answers.iter().map(|a| (a.0, a.1)), labels)),
            top5: (width > 5).then(|| share(&|a| a.2 < 5, images)),
            per_class,
            ..Evaluation::empty(images)
        };
        Ok((evaluation, PerImage::Answers(answers.iter().map(|a| a.2 == 0).collect())))
    }
}
