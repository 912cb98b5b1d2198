//! Mean average precision of the COCO kind, equal to pycocotools'.

use super::Detection;
use crate::learn::data::{BBox, Target};

/// Number of IoU thresholds: 0.5 to 0.95.
pub const THRESHOLDS: usize = 10;
/// Number of recall levels: 0 to 1.
pub const RECALLS: usize = 101;
/// Detections per image and class that count.
const MAX_DETECTIONS: usize = 100;

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
    pub recall: f64,
}

/// Results over all classes.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanPrecision {
    /// Mean over the classes with objects, at IoU 0.5; `None` without any object.
    pub map50: Option<f64>,
    /// Mean over the classes with objects and IoU 0.5, 0.55, …, 0.95.
    pub map: Option<f64>,
    /// The confidence, of 0, 0.001, …, 0.999, at which the mean F1 score of the classes with objects is highest at
    /// IoU 0.5 (the lowest such one). Precision and recall are given at this one confidence, at which the detector
    /// would be used.
    pub confidence: f64,
    /// Means over the classes with objects.
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub classes: Vec<ClassPrecision>,
}

impl ClassPrecision {
    pub fn ap50(&self) -> Option<f64> {
        self.ap.map(|ap| ap[0])
    }
    /// Mean over the IoU thresholds.
    pub fn mean(&self) -> Option<f64> {
        self.ap.map(|ap| ap.iter().sum::<f64>() / THRESHOLDS as f64)
    }
}

/// Average precision as pycocotools computes it (bbox, all areas, 100 detections per image and class, 101 recall levels,
/// no crowds). `detections` and `truths` are per image, in the same order; classes beyond `classes` are left out.
pub fn mean_average_precision(detections: &[Vec<Detection>], truths: &[Vec<Target>], classes: usize) -> MeanPrecision {
    let ranked: Vec<Ranked> = (0..classes).map(|class| Ranked::new(detections, truths, class)).collect();
    let counted: Vec<&Ranked> = ranked.iter().filter(|r| r.objects > 0).collect();
    let mean = |f: &dyn Fn(&Ranked) -> f64| (!counted.is_empty()).then(|| counted.iter().map(|r| f(r)).sum::<f64>() / counted.len() as f64);
    let (mut confidence, mut best) = (0.0, f64::MIN);
    for step in 0..1000 {
        let at = f64::from(step) / 1000.0;
        let f1 = mean(&|r| r.precision_recall(at).2).unwrap_or(0.0);
        if f1 > best {
            (confidence, best) = (at, f1);
        }
    }
    let precision = mean(&|r| r.precision_recall(confidence).0);
    let recall = mean(&|r| r.precision_recall(confidence).1);
    let classes: Vec<ClassPrecision> = ranked
        .iter()
        .map(|r| {
            let curves: Vec<[f64; RECALLS]> = (0..THRESHOLDS).map(|t| r.curve(t)).collect();
            let ap = std::array::from_fn(|t| curves[t].iter().sum::<f64>() / RECALLS as f64);
            let (precision, recall, _) = r.precision_recall(confidence);
            ClassPrecision { objects: r.objects, ap: (r.objects > 0).then_some(ap), curve: curves[0], precision, recall }
        })
        .collect();
    let over = |f: &dyn Fn(&ClassPrecision) -> Option<f64>| {
        let values: Vec<f64> = classes.iter().filter_map(f).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let (map50, map) = (over(&ClassPrecision::ap50), over(&ClassPrecision::mean));
    MeanPrecision { map50, map, confidence, precision, recall, classes }
}

/// The detections of one class over all images, best first, and at which IoU thresholds each met an object.
struct Ranked {
    objects: usize,
    hits: Vec<(f32, [bool; THRESHOLDS])>,
}

impl Ranked {
    fn new(detections: &[Vec<Detection>], truths: &[Vec<Target>], class: usize) -> Self {
        let (mut objects, mut hits) = (0, Vec::new());
        for (found, truth) in detections.iter().zip(truths) {
            let truth: Vec<BBox> = truth.iter().filter(|t| t.class == class).map(|t| t.bbox).collect();
            let mut found: Vec<&Detection> = found.iter().filter(|d| d.class == class).collect();
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            found.truncate(MAX_DETECTIONS);
            objects += truth.len();
            match_boxes(&found, &truth, &mut hits);
        }
        hits.sort_by(|a, b| b.0.total_cmp(&a.0));
        Self { objects, hits }
    }

    /// Precision at the recall levels.
    fn curve(&self, threshold: usize) -> [f64; RECALLS] {
        let mut curve = [0.0; RECALLS];
        if self.objects == 0 {
            return curve;
        }
        let (mut recalls, mut precisions) = (Vec::with_capacity(self.hits.len()), Vec::with_capacity(self.hits.len()));
        let (mut right, mut wrong) = (0.0, 0.0);
        for (_, hit) in &self.hits {
            if hit[threshold] {
                right += 1.0;
            } else {
                wrong += 1.0;
            }
            recalls.push(right / self.objects as f64);
            precisions.push(right / (right + wrong + f64::EPSILON));
        }
        for i in (1..precisions.len()).rev() {
            precisions[i - 1] = f64::max(precisions[i - 1], precisions[i]);
        }
        for (level, out) in curve.iter_mut().enumerate() {
            let at = recalls.partition_point(|&r| r < level as f64 * 0.01);
            *out = precisions.get(at).copied().unwrap_or(0.0);
        }
        curve
    }

    /// Precision, recall and F1 at IoU 0.5 of the detections at or above a confidence.
    fn precision_recall(&self, confidence: f64) -> (f64, f64, f64) {
        let taken = self.hits.partition_point(|h| f64::from(h.0) >= confidence);
        let right = self.hits[..taken].iter().filter(|h| h.1[0]).count() as f64;
        let part = |of: usize| if of == 0 { 0.0 } else { right / of as f64 };
        let (p, r) = (part(taken), part(self.objects));
        (p, r, if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 })
    }
}

/// Gives each detection, best first, the free object it overlaps most, at each threshold on its own. Of equal overlaps
/// the later object is taken.
fn match_boxes(found: &[&Detection], truth: &[BBox], hits: &mut Vec<(f32, [bool; THRESHOLDS])>) {
    let overlaps: Vec<Vec<f64>> = found.iter().map(|d| truth.iter().map(|t| overlap(&d.bbox, t)).collect()).collect();
    let first = hits.len();
    hits.extend(found.iter().map(|d| (d.score, [false; THRESHOLDS])));
    let step = (0.95 - 0.5) / (THRESHOLDS - 1) as f64;
    for t in 0..THRESHOLDS {
        let threshold = if t + 1 == THRESHOLDS { 0.95 } else { 0.5 + t as f64 * step };
        let mut taken = vec![false; truth.len()];
        for (i, row) in overlaps.iter().enumerate() {
            let (mut best, mut chosen) = (threshold.min(1.0 - 1e-10), None);
            for (j, &o) in row.iter().enumerate() {
                if !taken[j] && o >= best {
                    (best, chosen) = (o, Some(j));
                }
            }
            if let Some(j) = chosen {
                taken[j] = true;
                hits[first + i].1[t] = true;
            }
        }
    }
}

/// Intersection over union in double precision, in the order of operations of pycocotools.
fn overlap(a: &BBox, b: &BBox) -> f64 {
    let xywh = |b: &BBox| {
        let (x, y) = (f64::from(b.x1), f64::from(b.y1));
        (x, y, f64::from(b.x2) - x, f64::from(b.y2) - y)
    };
    let ((ax, ay, aw, ah), (bx, by, bw, bh)) = (xywh(a), xywh(b));
    let w = (aw + ax).min(bw + bx) - ax.max(bx);
    let h = (ah + ay).min(bh + by) - ay.max(by);
    if w <= 0.0 || h <= 0.0 {
        return 0.0;
    }
    let both = w * h;
    both / (aw * ah + bw * bh - both)
}
