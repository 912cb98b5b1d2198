//! Which classes are taken for which.

use super::Detection;
use super::coco::Truth;
use compresso_base::report::{HeatMap, Plot, Scale};
use serde::Serialize;

/// Confidence from which detections count.
pub const CONFUSION_CONFIDENCE: f32 = 0.25;
/// Overlap (intersection over union) from which a detection is of an object.
pub const CONFUSION_IOU: f32 = 0.5;
/// Name of the row of detections where there is no object, and of the column of objects that are not detected.
const BACKGROUND: &str = "background";
/// Classes up to which rows without any count are shown too.
const SHOW_ALL: usize = 30;

/// Counts of true classes (rows) by predicted ones (columns).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confusion {
    /// Class names; for a detector, the background at the end.
    pub labels: Vec<String>,
    /// `[true][predicted]`.
    pub counts: Vec<Vec<usize>>,
    /// Confidence from which detections count; `None` for a classifier.
    pub confidence: Option<f32>,
    /// Overlap (intersection over union) from which a detection is of an object; `None` for a classifier.
    pub iou: Option<f32>,
}

impl Confusion {
    /// Of a classifier, from pairs of the true class and the best one.
    pub fn of_answers(answers: impl IntoIterator<Item = (usize, usize)>, labels: Vec<String>) -> Self {
        let mut counts = vec![vec![0; labels.len()]; labels.len()];
        for (truth, best) in answers {
            if let Some(n) = counts.get_mut(truth).and_then(|r| r.get_mut(best)) {
                *n += 1;
            }
        }
        Self { labels, counts, confidence: None, iou: None }
    }

    /// Of a detector. Pairs of a detection and an object, of any classes, are joined from the largest overlap down, each at
    /// most once; of equal overlaps, the better score goes first. A box that counts for several classes is of its best.
    /// Detections inside a crowd that meet no object are left out.
    pub fn of_detections(detections: &[Vec<Detection>], truths: &[Vec<Truth>], mut labels: Vec<String>) -> Self {
        let background = labels.len();
        labels.push(BACKGROUND.into());
        let mut counts = vec![vec![0; background + 1]; background + 1];
        for (found, truth) in detections.iter().zip(truths) {
            let mut found: Vec<&Detection> = found.iter().filter(|d| d.score >= CONFUSION_CONFIDENCE && d.class < background).collect();
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            let mut single: Vec<&Detection> = Vec::with_capacity(found.len());
            for d in found {
                if single.iter().all(|s| s.bbox != d.bbox) {
                    single.push(d);
                }
            }
            let (crowds, objects): (Vec<&Truth>, Vec<&Truth>) = truth.iter().filter(|t| t.class < background).partition(|t| t.crowd);
            let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
            for (i, d) in single.iter().enumerate() {
                pairs.extend(objects.iter().enumerate().map(|(j, t)| (d.bbox.iou(&t.bbox), i, j)).filter(|p| p.0 >= CONFUSION_IOU));
            }
            pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
            let (mut free_found, mut free_objects) = (vec![true; single.len()], vec![true; objects.len()]);
            for (_, i, j) in pairs {
                if free_found[i] && free_objects[j] {
                    (free_found[i], free_objects[j]) = (false, false);
                    counts[objects[j].class][single[i].class] += 1;
                }
            }
            for (t, _) in objects.iter().zip(&free_objects).filter(|(_, free)| **free) {
                counts[t.class][background] += 1;
            }
            for (d, _) in single.iter().zip(&free_found).filter(|(_, free)| **free) {
                if !crowds.iter().any(|c| c.bbox.contains_most_of(&d.bbox)) {
                    counts[background][d.class] += 1;
                }
            }
        }
        Self { labels, counts, confidence: Some(CONFUSION_CONFIDENCE), iou: Some(CONFUSION_IOU) }
    }

    /// A heat map: the cells hold the counts; shades are shares of the true class. Of many classes, those without any count
    /// are left out.
    pub fn plot(&self, of: &str) -> Plot {
        let n = self.labels.len();
        let counted = |i: usize| (0..n).any(|j| self.counts[i][j] + self.counts[j][i] > 0);
        let shown: Vec<usize> = (0..n).filter(|&i| n <= SHOW_ALL || counted(i)).collect();
        let row = |&i: &usize| {
            let total: usize = self.counts[i].iter().sum();
            let share = |&j: &usize| if total == 0 { 0.0 } else { self.counts[i][j] as f64 / total as f64 };
            shown.iter().map(share).collect()
        };
        let text = |n: usize| if n == 0 { String::new() } else { n.to_string() };
        let labels: Vec<String> = shown.iter().map(|&i| self.labels[i].clone()).collect();
        let at = match (self.confidence, self.iou) {
            (Some(c), Some(iou)) => format!(" at confidence {c}, IoU {iou}"),
            _ => String::new(),
        };
        Plot {
            title: format!("{of}: confusion{at}"),
            x_label: "predicted".into(),
            y_label: "true".into(),
            heat: Some(HeatMap {
                rows: labels.clone(),
                columns: labels,
                shades: shown.iter().map(row).collect(),
                texts: shown.iter().map(|&i| shown.iter().map(|&j| text(self.counts[i][j])).collect()).collect(),
                scale: Scale::shares("share of the true class"),
            }),
            ..Plot::default()
        }
    }
}
