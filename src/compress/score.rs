//! One figure for how good a model is: its score by a dataset's labels, or its agreement with the model it was made from.

use compresso_base::context::Context;
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_base::operation::Operation;
use compresso_base::report::counted;
use compresso_learn::data::{DataKind, Dataset, GroundTruth, ImageForm};
use compresso_learn::eval::{
    Detection, Evaluate, ImageRunner, LIMITS, PerImage, Predict, Prediction, Truth, evaluate_images, mean_average_precision,
};
use compresso_model::{Model, Task};

/// A lower score says nothing: the model has not been trained, or not on such images.
const LEAST: f64 = 0.01;
/// Parts that are left out in turn, of which the spread of a difference is told.
const PARTS: usize = 8;

/// Which figure of detectors is taken; of classifiers it is top-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// mAP50.
    Map50,
    /// mAP50-95.
    Map,
}

/// A model's score, and what it is made of.
#[derive(Debug, Clone)]
pub struct Score {
    /// The figure, 0 to 1.
    pub value: f64,
    images: PerImage,
}

/// Scores models on the same images.
pub struct Scorer {
    by: By,
    figure: Figure,
    data: Dataset,
    /// What the figure is called.
    pub measure: String,
    /// That of the first model.
    pub first: Score,
    /// Of a classifier judged by labels, the commonest class and the score of always answering it.
    pub commonest: Option<(String, f64)>,
    /// What it is without each part of the images.
    without: Vec<f64>,
}

/// What answers are held against.
enum By {
    Labels,
    /// What the first model says.
    Boxes {
        said: Vec<Vec<Truth>>,
        classes: usize,
    },
    Classes(Vec<usize>),
}

impl Scorer {
    /// Whether answers are held against labels, and not against what the first model says.
    pub fn by_labels(&self) -> bool {
        matches!(self.by, By::Labels)
    }

    /// On up to `images` images of the part of `data` that is for evaluation: by their labels where these fit, else by what the model says
    /// of the images. In the place of one that would say nothing comes the reason.
    ///
    /// # Errors
    /// What reading the images and running the model report.
    pub fn of(model: &Model, data: &Dataset, images: usize, figure: Figure, ctx: &Context) -> Result<Result<Self, String>> {
        let data = data.for_evaluation().take(images);
        let name = match (model.task(), figure) {
            (Task::Unknown, _) => return Ok(Err("what its outputs mean is not known".into())),
            (Task::Classify(_), _) => "top-1",
            (_, Figure::Map50) => "mAP50",
            (_, Figure::Map) => "mAP50-95",
        };
        if DataKind::of_task(model.task()) == Some(data.kind) {
            match labelled(model, &data, figure, ctx) {
                Ok((first, _)) if first.value < LEAST => {
                    let on = on(&data);
                    return Ok(Err(format!("its {name} is {:.3} {on}: it has learnt nothing of them", first.value)));
                }
                Ok((first, commonest)) => return Ok(Ok(Self { commonest, ..Self::new(By::Labels, figure, data, name.into(), first) })),
                // The labels are of other classes.
                Err(e) if matches!(e.kind(), ErrorKind::Argument | ErrorKind::Unsupported) => {}
                Err(e) => return Err(e),
            }
        }
        let found = found(model, &data, ctx)?;
        let most = found.iter().flat_map(|p| &p.detections).map(|d| d.class + 1).max().unwrap_or(0);
        let classes = model.task().classes().len().max(most);
        let said: Vec<Vec<Truth>> = found.iter().map(|p| truths(&boxes(p), classes)).collect();
        let (by, of) = match model.task() {
            Task::Classify(_) => (By::Classes(found.iter().filter_map(best).collect()), ""),
            Task::Instances(_) => (By::Boxes { said, classes }, " of boxes"),
            _ => (By::Boxes { said, classes }, ""),
        };
        let silent = match &by {
            By::Labels => false,
            By::Boxes { said, .. } => said.iter().all(Vec::is_empty),
            By::Classes(said) => said.is_empty(),
        };
        if silent {
            return Ok(Err(format!("it finds nothing {}", on(&data))));
        }
        let first = by.agreement(found, figure)?;
        Ok(Ok(Self::new(by, figure, data, format!("{name}{of} with the unchanged model"), first)))
    }
    fn new(by: By, figure: Figure, data: Dataset, measure: String, first: Score) -> Self {
        let without = first.images.without_parts(figure);
        Self { by, figure, data, measure, first, commonest: None, without }
    }

    /// The score of another model.
    ///
    /// # Errors
    /// As [`Scorer::of`].
    pub fn score(&self, model: &Model, ctx: &Context) -> Result<Score> {
        match &self.by {
            By::Labels => labelled(model, &self.data, self.figure, ctx).map(|(score, _)| score),
            by => by.agreement(found(model, &self.data, ctx)?, self.figure),
        }
    }

    /// The standard error of a score's distance from the first, by what it is without each part of the images in turn (jackknife: Quenouille
    /// 1956, Tukey 1958). `None` for a single image.
    pub fn deviation(&self, score: &Score) -> Option<f64> {
        let parts = self.without.len();
        if parts < 2 || score.images.len() != self.first.images.len() {
            return None;
        }
        let all: Vec<f64> = score.images.without_parts(self.figure).iter().zip(&self.without).map(|(now, first)| now - first).collect();
        let mean = all.iter().sum::<f64>() / parts as f64;
        let squares = all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        Some((squares * (parts - 1) as f64 / parts as f64).sqrt())
    }

    /// What one image is worth, of a classifier.
    pub fn grain(&self) -> Option<f64> {
        matches!(self.first.images, PerImage::Answers(_)).then(|| 1.0 / self.images().max(1) as f64)
    }
    /// Images that models are judged on.
    pub fn images(&self) -> usize {
        self.first.images.len()
    }
    /// Name and split of the dataset.
    pub fn dataset(&self) -> String {
        self.data.label()
    }

    /// Why these images cannot tell a drop of so much from none, `now` being a model that differs; `None` where they can.
    pub fn too_coarse(&self, drop: f64, now: &Score) -> Option<String> {
        let images = counted(self.images(), "image");
        if let Some((class, share)) = self.commonest.as_ref().filter(|c| c.1 >= self.first.value - drop) {
            let kept = self.first.value - drop;
            return Some(format!("always answering '{class}' scores {share:.4}, which counts as kept here (at least {kept:.4})"));
        }
        match (self.grain(), self.deviation(now)) {
            (Some(grain), _) if grain > drop => {
                Some(format!("one of {images} is {grain:.4} of {}, more than {drop}; more images would tell", self.measure))
            }
            (_, None) => Some(format!("one image tells nothing of a drop of {drop}")),
            (_, Some(e)) if e > drop => {
                let measure = &self.measure;
                Some(format!("on {images} a difference of {measure} is uncertain by ±{e:.4}, more than {drop}; more images would tell"))
            }
            _ => None,
        }
    }

    /// Why a score that seems kept may say nothing: it is no better than always answering the commonest class.
    pub fn is_idle(&self, score: f64) -> Option<String> {
        let (class, share) = self.commonest.as_ref().filter(|c| score <= c.1)?;
        Some(format!("always answering '{class}' scores {share:.3}: {} {score:.3} is no better", self.measure))
    }
}

/// Figures of the images that are left.
trait Partial {
    fn len(&self) -> usize;
    /// Without part `out` of `parts`.
    fn value(&self, figure: Figure, parts: usize, out: usize) -> f64;
    /// Without each part in turn.
    fn without_parts(&self, figure: Figure) -> Vec<f64> {
        let parts = self.len().min(PARTS);
        (0..parts).map(|out| self.value(figure, parts, out)).collect()
    }
}

impl Partial for PerImage {
    fn len(&self) -> usize {
        match self {
            Self::Boxes { found, .. } => found.len(),
            Self::Answers(right) => right.len(),
        }
    }
    fn value(&self, figure: Figure, parts: usize, out: usize) -> f64 {
        let stays = |i: &usize| i % parts != out;
        match self {
            Self::Boxes { found, truths, classes } => {
                let kept: Vec<usize> = (0..found.len()).filter(stays).collect();
                let found: Vec<Vec<Detection>> = kept.iter().map(|&i| found[i].clone()).collect();
                let truths: Vec<Vec<Truth>> = kept.iter().map(|&i| truths[i].clone()).collect();
                figure.of(&found, &truths, *classes)
            }
            Self::Answers(right) => {
                let kept = (0..right.len()).filter(stays).count();
                (0..right.len()).filter(stays).filter(|&i| right[i]).count() as f64 / kept.max(1) as f64
            }
        }
    }
}

impl Figure {
    fn of(self, found: &[Vec<Detection>], truths: &[Vec<Truth>], classes: usize) -> f64 {
        let all = mean_average_precision(found, truths, classes);
        match self {
            Self::Map50 => all.map50,
            Self::Map => all.map,
        }
        .unwrap_or(0.0)
    }
}

impl By {
    /// How far what was found is what was said. That of the model that said it is 1: what it said is the best of what it finds.
    fn agreement(&self, found: Vec<Prediction>, figure: Figure) -> Result<Score> {
        let other = || Error::internal("both models look at the same images");
        match self {
            Self::Labels => Err(Error::internal("labels are evaluated")),
            Self::Boxes { said, classes } => {
                let found: Vec<Vec<Detection>> = found.iter().map(boxes).collect();
                if found.len() != said.len() {
                    return Err(other());
                }
                let value = figure.of(&found, said, *classes);
                Ok(Score { value, images: PerImage::Boxes { found, truths: said.clone(), classes: *classes } })
            }
            Self::Classes(said) => {
                let answers: Vec<usize> = found.iter().filter_map(best).collect();
                if answers.len() != said.len() {
                    return Err(other());
                }
                let right: Vec<bool> = answers.iter().zip(said).map(|(a, b)| a == b).collect();
                let value = right.iter().filter(|r| **r).count() as f64 / right.len().max(1) as f64;
                Ok(Score { value, images: PerImage::Answers(right) })
            }
        }
    }
}

/// By the labels of the dataset; with the commonest class of a classifier's, and the score of always answering it.
fn labelled(model: &Model, data: &Dataset, figure: Figure, ctx: &Context) -> Result<(Score, Option<(String, f64)>)> {
    let mut runner = ImageRunner::new(model, ctx);
    let form = ImageForm::of(model.graph(), model.task());
    let run = &mut |images: &candle_core::Tensor| runner.run(images);
    let (all, images) = evaluate_images(&form, run, model.task(), data, &Evaluate::default(), ctx)?;
    let value = match figure {
        Figure::Map50 => all.map50,
        Figure::Map => all.map,
    };
    let commonest = all.commonest().map(|(class, share)| (class.to_string(), share));
    Ok((Score { value: value.or(all.top1).unwrap_or(0.0), images }, commonest))
}

/// What a model finds, of low confidence too.
fn found(model: &Model, data: &Dataset, ctx: &Context) -> Result<Vec<Prediction>> {
    let options = Predict { top: 1, confidence: Evaluate::default().confidence, ..Predict::default() };
    let found = options.run((model, data), ctx)?;
    if found.cancelled { Err(Error::cancelled()) } else { Ok(found.images) }
}

/// The objects of an image that have an area; others overlap nothing, not even themselves.
fn boxes(image: &Prediction) -> Vec<Detection> {
    let all = image.detections.iter().map(|d| Detection { class: d.class, score: d.score, bbox: d.bbox });
    all.filter(|d| d.bbox.x2 > d.bbox.x1 && d.bbox.y2 > d.bbox.y1).collect()
}

/// Of what was found, what counts as said: what `predict` shows, and of each class no more than is judged.
fn truths(found: &[Detection], classes: usize) -> Vec<Truth> {
    let (least, most) = (Predict::default().confidence, LIMITS[LIMITS.len() - 1]);
    let mut best: Vec<&Detection> = found.iter().filter(|d| f64::from(d.score) >= least).collect();
    best.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut seen = vec![0; classes];
    best.retain(|d| {
        let count = seen.get_mut(d.class);
        count.is_some_and(|n| {
            *n += 1;
            *n <= most
        })
    });
    best.into_iter().map(|d| Truth::from(GroundTruth { class: d.class, bbox: d.bbox })).collect()
}

fn best(image: &Prediction) -> Option<usize> {
    image.classes.first().map(|c| c.class)
}

fn on(data: &Dataset) -> String {
    format!("on {} of {}", counted(data.len(), "image"), data.label())
}
