//! COCO's detection metrics, equal to pycocotools' `COCOeval` for boxes: average precision and recall over IoU thresholds,
//! recall levels, area ranges and numbers of detections.

use super::Detection;
use crate::data::{BBox, GroundTruth, Region};
use serde::Serialize;

/// Number of IoU thresholds: 0.5 to 0.95.
pub const THRESHOLDS: usize = 10;
/// Number of recall levels: 0 to 1.
pub const RECALLS: usize = 101;
/// Detections per image and class that count, best first. A detector may give more boxes per image, of all classes
/// together.
pub const LIMITS: [usize; 3] = [1, 10, 100];
/// Areas in square pixels. A range includes both its ends, so that an area on an end is in both.
const RANGES: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// Which objects count, by their area in pixels of the original image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AreaRange {
    /// Objects of any size.
    All = 0,
    /// Up to 32².
    Small = 1,
    /// From 32² to 96².
    Medium = 2,
    /// From 96².
    Large = 3,
}

/// A true object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// Number of its class, as that of detections.
    pub class: usize,
    /// In the pixels of the detections that it is held against.
    pub bbox: BBox,
    /// In pixels of the original image; decides the area range.
    pub area: f64,
    /// A region of many objects: detections inside it count neither as right nor as wrong.
    pub crowd: bool,
}

impl From<GroundTruth> for Truth {
    /// An object as large as its box.
    fn from(t: GroundTruth) -> Self {
        let [_, _, w, h] = xywh(&t.bbox);
        Self { class: t.class, bbox: t.bbox, area: w * h, crowd: false }
    }
}

impl From<Region> for Truth {
    fn from(r: Region) -> Self {
        Self { class: r.class, bbox: r.bbox, area: r.area, crowd: r.crowd }
    }
}

/// The twelve numbers that `COCOeval.summarize` prints; `None` where there is no object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CocoSummary {
    /// Mean over classes and IoU 0.5 to 0.95.
    pub map: Option<f64>,
    /// At IoU 0.5.
    pub map50: Option<f64>,
    /// At IoU 0.75.
    pub map75: Option<f64>,
    /// Of objects up to 32² pixels.
    pub map_small: Option<f64>,
    /// Of objects from 32² to 96² pixels.
    pub map_medium: Option<f64>,
    /// Of objects from 96² pixels.
    pub map_large: Option<f64>,
    /// Mean recall over classes and IoU 0.5 to 0.95, with one detection per image and class.
    pub ar1: Option<f64>,
    /// As [`CocoSummary::ar1`], with 10 detections.
    pub ar10: Option<f64>,
    /// As [`CocoSummary::ar1`], with 100 detections.
    pub ar100: Option<f64>,
    /// As [`CocoSummary::ar100`], of objects up to 32² pixels.
    pub ar_small: Option<f64>,
    /// As [`CocoSummary::ar100`], of objects from 32² to 96² pixels.
    pub ar_medium: Option<f64>,
    /// As [`CocoSummary::ar100`], of objects from 96² pixels.
    pub ar_large: Option<f64>,
}

/// The matches of a set of detections, from which the metrics follow.
#[derive(Debug, Clone)]
pub struct Coco {
    classes: Vec<Matches>,
}

/// The detections of one class over all images, best first.
#[derive(Debug, Clone, Default)]
pub(super) struct Matches {
    /// Objects that count, per area range.
    objects: [usize; 4],
    hits: Vec<Hit>,
}

/// A detection: at which IoU thresholds it met an object, and at which it does not count, a bit each, per area range.
#[derive(Debug, Clone, Copy)]
struct Hit {
    score: f32,
    /// Place among the detections of its image and class.
    rank: usize,
    met: [u16; 4],
    ignored: [u16; 4],
}

impl Coco {
    /// Matches detections with objects. Both are per image, in the same order; classes beyond `classes` are left out.
    pub fn new(detections: &[Vec<Detection>], truths: &[Vec<Truth>], classes: usize) -> Self {
        let mut all = vec![Matches::default(); classes];
        for (found, truth) in detections.iter().zip(truths) {
            // Sorted by class, then by falling score; equal scores keep their order.
            let mut found: Vec<&Detection> = found.iter().filter(|d| d.class < classes).collect();
            found.sort_by(|a, b| a.class.cmp(&b.class).then(b.score.total_cmp(&a.score)));
            let mut truth: Vec<&Truth> = truth.iter().filter(|t| t.class < classes).collect();
            truth.sort_by_key(|t| t.class);
            let (mut found, mut truth) = (found.as_slice(), truth.as_slice());
            while let Some(class) = found.first().map(|d| d.class).into_iter().chain(truth.first().map(|t| t.class)).min() {
                let (f, rest) = found.split_at(found.partition_point(|d| d.class == class));
                let (t, others) = truth.split_at(truth.partition_point(|t| t.class == class));
                (found, truth) = (rest, others);
                all[class].add(&f[..f.len().min(LIMITS[2])], t);
            }
        }
        for m in &mut all {
            m.hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        }
        Self { classes: all }
    }

    pub(super) fn matches(&self) -> &[Matches] {
        &self.classes
    }

    /// Precision of a class at recalls 0, 0.01, …, 1, made to fall, with at most `limit` detections per image; `None`
    /// without an object. `threshold` counts from IoU 0.5 in steps of 0.05.
    pub fn precision(&self, class: usize, area: AreaRange, threshold: usize, limit: usize) -> Option<[f64; RECALLS]> {
        self.classes.get(class)?.curve(area, threshold, limit).map(|c| c.0)
    }
    /// Largest recall of a class; as [`Coco::precision`].
    pub fn recall(&self, class: usize, area: AreaRange, threshold: usize, limit: usize) -> Option<f64> {
        self.classes.get(class)?.curve(area, threshold, limit).map(|c| c.1)
    }

    /// The twelve numbers.
    pub fn summary(&self) -> CocoSummary {
        let thresholds = 0..THRESHOLDS;
        let mean = |area: AreaRange, limit: usize, thresholds: std::ops::Range<usize>, value: &dyn Fn(&([f64; RECALLS], f64)) -> f64| {
            let curves = thresholds.flat_map(|t| self.classes.iter().filter_map(move |m| m.curve(area, t, limit)));
            let values: Vec<f64> = curves.map(|c| value(&c)).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let ap = |area, t| mean(area, LIMITS[2], t, &|c| c.0.iter().sum::<f64>() / RECALLS as f64);
        let ar = |area, limit| mean(area, limit, thresholds.clone(), &|c| c.1);
        CocoSummary {
            map: ap(AreaRange::All, thresholds.clone()),
            map50: ap(AreaRange::All, 0..1),
            map75: ap(AreaRange::All, 5..6),
            map_small: ap(AreaRange::Small, thresholds.clone()),
            map_medium: ap(AreaRange::Medium, thresholds.clone()),
            map_large: ap(AreaRange::Large, thresholds.clone()),
            ar1: ar(AreaRange::All, LIMITS[0]),
            ar10: ar(AreaRange::All, LIMITS[1]),
            ar100: ar(AreaRange::All, LIMITS[2]),
            ar_small: ar(AreaRange::Small, LIMITS[2]),
            ar_medium: ar(AreaRange::Medium, LIMITS[2]),
            ar_large: ar(AreaRange::Large, LIMITS[2]),
        }
    }
}

impl Matches {
    /// Objects that count, of any size.
    pub fn objects(&self) -> usize {
        self.objects[0]
    }

    /// Takes up the detections (best first) and objects of one image. Each detection gets the free object it overlaps
    /// most, at each threshold on its own; of equal overlaps the later object. Objects that count go before those that
    /// do not; a crowd may be met by many.
    fn add(&mut self, found: &[&Detection], truth: &[&Truth]) {
        let overlaps: Vec<Vec<f64>> = found.iter().map(|d| truth.iter().map(|t| overlap(&d.bbox, t)).collect()).collect();
        let first = self.hits.len();
        self.hits.extend(found.iter().enumerate().map(|(rank, d)| Hit { score: d.score, rank, met: [0; 4], ignored: [0; 4] }));
        for (range, [low, high]) in RANGES.into_iter().enumerate() {
            let outside = |area: f64| area < low || area > high;
            let ignored = |t: &Truth| t.crowd || outside(t.area);
            let mut order: Vec<usize> = (0..truth.len()).collect();
            order.sort_by_key(|&j| ignored(truth[j]));
            let counted = order.iter().filter(|&&j| !ignored(truth[j])).count();
            self.objects[range] += counted;
            for t in 0..THRESHOLDS {
                let mut taken = vec![false; truth.len()];
                for (i, d) in found.iter().enumerate() {
                    let (mut best, mut chosen) = (threshold(t).min(1.0 - 1e-10), None);
                    for (place, &j) in order.iter().enumerate() {
                        if taken[j] && !truth[j].crowd {
                            continue;
                        }
                        // An object that counts is not given up for one that does not.
                        if place >= counted && chosen.is_some_and(|(p, _)| p < counted) {
                            break;
                        }
                        if overlaps[i][j] >= best {
                            (best, chosen) = (overlaps[i][j], Some((place, j)));
                        }
                    }
                    let hit = &mut self.hits[first + i];
                    match chosen {
                        Some((place, j)) => {
                            taken[j] = true;
                            hit.met[range] |= 1 << t;
                            hit.ignored[range] |= u16::from(place >= counted) << t;
                        }
                        None => {
                            let [_, _, w, h] = xywh(&d.bbox);
                            hit.ignored[range] |= u16::from(outside(w * h)) << t;
                        }
                    }
                }
            }
        }
    }

    /// Precision at the recall levels, and the largest recall.
    fn curve(&self, area: AreaRange, threshold: usize, limit: usize) -> Option<([f64; RECALLS], f64)> {
        let range = area as usize;
        let objects = self.objects[range];
        if objects == 0 {
            return None;
        }
        let (mut recalls, mut precisions) = (Vec::with_capacity(self.hits.len()), Vec::with_capacity(self.hits.len()));
        let (mut right, mut wrong) = (0.0, 0.0);
        for hit in self.hits.iter().filter(|h| h.rank < limit && h.ignored[range] >> threshold & 1 == 0) {
            if hit.met[range] >> threshold & 1 == 1 {
                right += 1.0;
            } else {
                wrong += 1.0;
            }
            recalls.push(right / objects as f64);
            precisions.push(right / (right + wrong + f64::EPSILON));
        }
        for i in (1..precisions.len()).rev() {
            precisions[i - 1] = f64::max(precisions[i - 1], precisions[i]);
        }
        let mut curve = [0.0; RECALLS];
        for (level, out) in curve.iter_mut().enumerate() {
            let at = recalls.partition_point(|&r| r < level as f64 * 0.01);
            *out = precisions.get(at).copied().unwrap_or(0.0);
        }
        Some((curve, recalls.last().copied().unwrap_or(0.0)))
    }

    /// Scores of the detections that count at IoU 0.5, falling, and how many up to each met an object.
    pub fn at_half(&self) -> (Vec<f32>, Vec<usize>) {
        let mut right = 0;
        let counted = self.hits.iter().filter(|h| h.ignored[0] & 1 == 0);
        counted
            .map(|h| {
                right += usize::from(h.met[0] & 1);
                (h.score, right)
            })
            .unzip()
    }
}

/// IoU of a number from 0 to 9.
fn threshold(t: usize) -> f64 {
    let step = (0.95 - 0.5) / (THRESHOLDS - 1) as f64;
    if t + 1 == THRESHOLDS { 0.95 } else { 0.5 + t as f64 * step }
}

fn xywh(b: &BBox) -> [f64; 4] {
    let (x, y) = (f64::from(b.x1), f64::from(b.y1));
    [x, y, f64::from(b.x2) - x, f64::from(b.y2) - y]
}

/// Intersection over union in double precision, in the order of operations of pycocotools; with a crowd, the part of the
/// detection that is inside.
fn overlap(a: &BBox, truth: &Truth) -> f64 {
    let ([ax, ay, aw, ah], [bx, by, bw, bh]) = (xywh(a), xywh(&truth.bbox));
    let w = (aw + ax).min(bw + bx) - ax.max(bx);
    let h = (ah + ay).min(bh + by) - ay.max(by);
    if w <= 0.0 || h <= 0.0 {
        return 0.0;
    }
    let both = w * h;
    both / if truth.crowd { aw * ah } else { aw * ah + bw * bh - both }
}
