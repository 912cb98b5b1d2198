//! Mean average precision, and precision and recall at a confidence.

use super::Detection;
use super::coco::{AreaRange, Coco, CocoSummary, LIMITS, Matches, RECALLS, THRESHOLDS, Truth};
use serde::Serialize;

/// Results of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassPrecision {
    /// True objects. Without any, the class has no average precision and does not count.
    pub objects: usize,
    /// Average precision per IoU threshold.
    pub ap: Option<[f64; THRESHOLDS]>,
    /// Precision at recalls 0, 0.01, …, 1 at IoU 0.5, made to fall.
    pub curve: [f64; RECALLS],
    /// At IoU 0.5 and [`MeanPrecision::confidence`]; precision is 0 when nothing is detected.
    pub precision: f64,
    /// Share of the objects that are found, under the same conditions.
    pub recall: f64,
}

/// Results over all classes.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanPrecision {
    /// Mean over the classes with objects, at IoU 0.5; `None` without any object.
    pub map50: Option<f64>,
    /// Mean over the classes with objects and IoU 0.5, 0.55, …, 0.95.
    pub map: Option<f64>,
    /// All twelve figures of COCO.
    pub coco: CocoSummary,
    /// The confidence, of 0, 0.001, …, 0.999, at which the mean F1 score of the classes with objects is highest at
    /// IoU 0.5 (the lowest such one). Precision and recall are given at this one confidence, at which the detector
    /// would be used.
    pub confidence: f64,
    /// Means over the classes with objects.
    pub precision: Option<f64>,
    /// As [`MeanPrecision::precision`].
    pub recall: Option<f64>,
    /// How they depend on the confidence.
    pub by_confidence: ConfidenceCurve,
    /// Results of each class, by its number.
    pub classes: Vec<ClassPrecision>,
}

/// Means over the classes with objects at IoU 0.5 and confidences 0, 0.01, …, 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ConfidenceCurve {
    /// The confidences, rising; empty without any object.
    pub confidence: Vec<f64>,
    /// Over the classes that are detected at all; `None` where none is.
    pub precision: Vec<Option<f64>>,
    /// Over all classes with objects.
    pub recall: Vec<f64>,
    /// Harmonic means of precision and recall of each class, over all classes with objects.
    pub f1: Vec<f64>,
}

impl ClassPrecision {
    /// Average precision at IoU 0.5; `None` without an object.
    pub fn ap50(&self) -> Option<f64> {
        self.ap.map(|ap| ap[0])
    }
    /// Mean over the IoU thresholds.
    pub fn mean(&self) -> Option<f64> {
        self.ap.map(|ap| ap.iter().sum::<f64>() / THRESHOLDS as f64)
    }
}

/// Average precision as pycocotools computes it (boxes, 100 detections per image and class, 101 recall levels).
/// `detections` and `truths` are per image, in the same order; classes beyond `classes` are left out.
pub fn mean_average_precision(detections: &[Vec<Detection>], truths: &[Vec<Truth>], classes: usize) -> MeanPrecision {
    let coco = Coco::new(detections, truths, classes);
    let ranked: Vec<Ranked> = coco.matches().iter().map(Ranked::new).collect();
    let counted: Vec<&Ranked> = ranked.iter().filter(|r| r.objects > 0).collect();
    let mean = |f: &dyn Fn(&Ranked) -> f64| (!counted.is_empty()).then(|| counted.iter().map(|r| f(r)).sum::<f64>() / counted.len() as f64);
    let (mut confidence, mut best) = (0.0, f64::MIN);
    for step in 0..1000 {
        let at = f64::from(step) / 1000.0;
        let f1 = mean(&|r| r.at(at).f1()).unwrap_or(0.0);
        if f1 > best {
            (confidence, best) = (at, f1);
        }
    }
    let summary = coco.summary();
    let class = |(c, r): (usize, &Ranked)| {
        let curves: Option<Vec<[f64; RECALLS]>> = (0..THRESHOLDS).map(|t| coco.precision(c, AreaRange::All, t, LIMITS[2])).collect();
        let ap = curves.as_ref().map(|all| std::array::from_fn(|t| all[t].iter().sum::<f64>() / RECALLS as f64));
        let curve = curves.map_or([0.0; RECALLS], |all| all[0]);
        let point = r.at(confidence);
        ClassPrecision { objects: r.objects, ap, curve, precision: point.precision.unwrap_or(0.0), recall: point.recall }
    };
    MeanPrecision {
        map50: summary.map50,
        map: summary.map,
        coco: summary,
        confidence,
        precision: mean(&|r| r.at(confidence).precision.unwrap_or(0.0)),
        recall: mean(&|r| r.at(confidence).recall),
        by_confidence: by_confidence(&counted),
        classes: ranked.iter().enumerate().map(class).collect(),
    }
}

fn by_confidence(counted: &[&Ranked]) -> ConfidenceCurve {
    let mut curve = ConfidenceCurve::default();
    for step in 0..=if counted.is_empty() { -1 } else { 100 } {
        let confidence = f64::from(step) / 100.0;
        let points: Vec<Point> = counted.iter().map(|r| r.at(confidence)).collect();
        let mean = |f: &dyn Fn(&Point) -> f64| points.iter().map(f).sum::<f64>() / points.len() as f64;
        let precisions: Vec<f64> = points.iter().filter_map(|p| p.precision).collect();
        curve.confidence.push(confidence);
        curve.precision.push((!precisions.is_empty()).then(|| precisions.iter().sum::<f64>() / precisions.len() as f64));
        curve.recall.push(mean(&|p| p.recall));
        curve.f1.push(mean(&Point::f1));
    }
    curve
}

/// The detections of one class at IoU 0.5.
struct Ranked {
    objects: usize,
    /// Falling.
    scores: Vec<f32>,
    /// How many of the detections up to each met an object.
    right: Vec<usize>,
}

/// Precision and recall of one class; no precision where nothing is detected.
struct Point {
    precision: Option<f64>,
    recall: f64,
}

impl Point {
    fn f1(&self) -> f64 {
        let (p, r) = (self.precision.unwrap_or(0.0), self.recall);
        if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 }
    }
}

impl Ranked {
    fn new(matches: &Matches) -> Self {
        let (scores, right) = matches.at_half();
        Self { objects: matches.objects(), scores, right }
    }

    /// Of the detections at or above a confidence.
    fn at(&self, confidence: f64) -> Point {
        let taken = self.scores.partition_point(|&s| f64::from(s) >= confidence);
        let right = taken.checked_sub(1).map_or(0, |last| self.right[last]) as f64;
        let part = |of: usize| (of > 0).then(|| right / of as f64);
        Point { precision: part(taken), recall: part(self.objects).unwrap_or(0.0) }
    }
}
