//! What `evaluate` gives.

use super::coco::{CocoSummary, RECALLS};
use super::confusion::Confusion;
use super::map::ConfidenceCurve;
use compresso_base::report::{Plot, Series, SeriesKind, Show, Table, counted};
use serde::Serialize;

/// Results of one class.
#[derive(Debug, Clone, Serialize)]
pub struct ClassResult {
    /// Name of the class; its number where the model names none.
    pub class: String,
    /// True objects; for a classifier, images.
    pub objects: usize,
    /// Average precision at IoU 0.5; `None` for a classifier.
    pub map50: Option<f64>,
    /// Average precision, the mean over IoU 0.5 to 0.95; `None` for a classifier.
    pub map: Option<f64>,
    /// Share of the detections (for a classifier, the answers) of this class that are right, 0 to 1; 0 where there are none. For a
    /// detector at [`Evaluation::confidence`] and IoU 0.5.
    pub precision: f64,
    /// Share of the objects (images) of this class that are found, under the same conditions.
    pub recall: f64,
    /// Precision at recalls 0, 0.01, …, 1 at IoU 0.5; empty for a classifier.
    pub curve: Vec<f64>,
}

/// How a model was run and its boxes were chosen.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Conditions {
    /// Height and width of the input in pixels.
    pub image_size: [usize; 2],
    /// Images per run of the model.
    pub batch: usize,
    /// Boxes of lower confidence were dropped.
    pub confidence: f64,
    /// Overlap (intersection over union) above which a worse box was dropped.
    pub iou: f64,
    /// Most boxes per image.
    pub max_detections: usize,
    /// A box could count for several classes.
    pub multi_label: bool,
    /// Boxes of different classes suppressed each other.
    pub agnostic: bool,
    /// Overlapping boxes were suppressed here, not by the model.
    pub suppressed: bool,
    /// Where the model ran, as [`device_name`](compresso_base::context::device_name) has it.
    pub device: String,
    /// Threads that it ran with.
    pub threads: usize,
}

/// What `evaluate` measured.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// Name and split of the dataset.
    pub dataset: String,
    /// Images that were judged; those that cannot be read are left out.
    pub images: usize,
    /// Mean average precision at IoU 0.5; `None` for a classifier, or when there are no objects.
    pub map50: Option<f64>,
    /// Mean average precision over IoU 0.5 to 0.95.
    pub map: Option<f64>,
    /// All of COCO's figures of a detector, among them those two.
    #[serde(flatten)]
    pub coco: Option<CocoSummary>,
    /// Means over the classes, for a detector at `confidence` and IoU 0.5.
    pub precision: Option<f64>,
    /// As [`Evaluation::precision`].
    pub recall: Option<f64>,
    /// The one confidence at which the classes' mean F1 score is highest.
    pub confidence: Option<f64>,
    /// Share of images whose best class is right; `None` for a detector.
    pub top1: Option<f64>,
    /// Share of images with the right class among the best five; `None` up to five classes.
    pub top5: Option<f64>,
    /// Results of each class that has objects (images), in the order of their numbers.
    pub per_class: Vec<ClassResult>,
    /// How a detector's precision, recall and F1 score depend on the confidence; else empty.
    pub by_confidence: ConfidenceCurve,
    /// `None` where there was nothing to count.
    pub confusion: Option<Confusion>,
    /// How the model was run.
    pub conditions: Conditions,
    /// Wall time, reading images included.
    pub seconds: f64,
    /// What a user must know, a line each: how classes were matched, images that could not be read.
    pub warnings: Vec<String>,
}

impl Evaluation {
    /// An evaluation without figures.
    pub(super) fn empty(images: usize) -> Self {
        Self {
            dataset: String::new(),
            images,
            map50: None,
            map: None,
            coco: None,
            precision: None,
            recall: None,
            confidence: None,
            top1: None,
            top5: None,
            per_class: Vec::new(),
            by_confidence: ConfidenceCurve::default(),
            confusion: None,
            conditions: Conditions::default(),
            seconds: 0.0,
            warnings: Vec::new(),
        }
    }
    /// The one figure that training maximizes: mAP50-95, or top-1.
    pub fn fitness(&self) -> f64 {
        self.map.or(self.top1).unwrap_or(0.0)
    }
    /// The commonest class of the images, of a classifier, and the score of always answering it.
    pub fn commonest(&self) -> Option<(&str, f64)> {
        self.top1?;
        let most = self.per_class.iter().max_by_key(|c| c.objects).filter(|c| c.objects > 0)?;
        Some((&most.class, most.objects as f64 / self.images as f64))
    }
    /// The main figures in a line.
    pub fn summary(&self) -> String {
        let parts = [("mAP50", self.map50), ("mAP50-95", self.map), ("top-1", self.top1), ("top-5", self.top5)];
        let parts: Vec<String> = parts.iter().filter_map(|(n, v)| v.map(|v| format!("{n} {v:.4}"))).collect();
        if parts.is_empty() { "nothing to measure".to_string() } else { parts.join(", ") }
    }
}

impl Show for Evaluation {
    fn tables(&self) -> Vec<Table> {
        let detector = self.top1.is_none();
        let cell = |v: Option<f64>| v.map_or_else(|| "–".to_string(), |v| format!("{v:.4}"));
        let title = format!("{}: {}", self.dataset, counted(self.images, "image"));
        let headers: &[&str] = if detector {
            &["class", ">objects", ">mAP50", ">mAP50-95", ">precision", ">recall"]
        } else {
            &["class", ">images", ">precision", ">recall"]
        };
        let mut table = Table::new(title, headers);
        let mut row = |name: &str, count: usize, map50, map, precision, recall| {
            let mut cells = vec![name.to_string(), count.to_string()];
            if detector {
                cells.extend([cell(map50), cell(map)]);
            }
            cells.extend([cell(precision), cell(recall)]);
            table.row(cells);
        };
        let objects = self.per_class.iter().map(|c| c.objects).sum();
        row("all", objects, self.map50, self.map, self.precision, self.recall);
        for c in &self.per_class {
            row(&c.class, c.objects, c.map50, c.map, Some(c.precision), Some(c.recall));
        }
        let mut tables = vec![table];
        if let Some(c) = self.coco.as_ref().filter(|c| c.map.is_some()) {
            let mut table = Table::new("COCO", &["measure", ">all", ">small", ">medium", ">large"]);
            let mut row = |name: &str, values: &[Option<f64>]| {
                let blank = std::iter::repeat_n(String::new(), 4 - values.len());
                table.row(std::iter::once(name.to_string()).chain(values.iter().map(|v| cell(*v))).chain(blank));
            };
            row("AP, IoU 0.50:0.95", &[c.map, c.map_small, c.map_medium, c.map_large]);
            row("AP, IoU 0.50", &[c.map50]);
            row("AP, IoU 0.75", &[c.map75]);
            row("AR, 1 detection", &[c.ar1]);
            row("AR, 10 detections", &[c.ar10]);
            row("AR, 100 detections", &[c.ar100, c.ar_small, c.ar_medium, c.ar_large]);
            tables.push(table);
        }
        tables
    }
    fn plots(&self) -> Vec<Plot> {
        let mut plots: Vec<Plot> = self.precision_recall().into_iter().chain(self.over_confidence()).collect();
        plots.extend(self.confusion.as_ref().map(|c| c.plot(self.short_name())));
        plots
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!("{}; {:.1} s", self.summary(), self.seconds)];
        if let Some(c) = self.confidence {
            notes.push(format!("precision and recall at confidence {c:.3}, where the mean F1 score is highest"));
        }
        if let Some(((class, share), top1)) = self.commonest().zip(self.top1) {
            let warning = if top1 <= share { "warning: the model does no better: " } else { "" };
            notes.push(format!("{warning}always answering '{class}', the commonest class, scores {share:.4}"));
        }
        notes.push(self.conditions.line(self.top1.is_none()));
        notes.extend(self.warnings.iter().cloned());
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Evaluation {
    /// The dataset without the folders that it lies in, for titles.
    fn short_name(&self) -> &str {
        self.dataset.rsplit(['/', '\\']).next().unwrap_or(&self.dataset)
    }

    /// Precision over recall of each class and of their mean.
    fn precision_recall(&self) -> Option<Plot> {
        let mut drawn: Vec<&ClassResult> = self.per_class.iter().filter(|c| c.curve.len() == RECALLS).collect();
        let all = drawn.len();
        let line = |name: String, curve: &[f64]| Series {
            name,
            kind: SeriesKind::Line,
            points: curve.iter().enumerate().map(|(i, &p)| (i as f64 / 100.0, p)).collect(),
            labels: Vec::new(),
        };
        let mut series = Vec::new();
        if all > 1 {
            let mean: Vec<f64> = (0..RECALLS).map(|i| drawn.iter().map(|c| c.curve[i]).sum::<f64>() / all as f64).collect();
            series.push(line("mean".into(), &mean));
        }
        // Of many classes, those with the most objects.
        drawn.sort_by_key(|c| std::cmp::Reverse(c.objects));
        series.extend(drawn.iter().take(MAX_CURVES).map(|c| line(c.class.clone(), &c.curve)));
        let shown = if all > MAX_CURVES { format!(", {MAX_CURVES} of {all} classes") } else { String::new() };
        (all > 0).then(|| Plot {
            title: format!("{}: precision and recall at IoU 0.5{shown}", self.short_name()),
            x_label: "recall".into(),
            y_label: "precision".into(),
            series,
            ..Plot::default()
        })
    }

    /// Mean precision, recall and F1 score over confidence.
    fn over_confidence(&self) -> Option<Plot> {
        let c = &self.by_confidence;
        let line = |name: &str, values: Vec<Option<f64>>| Series {
            name: name.into(),
            kind: SeriesKind::Line,
            points: c.confidence.iter().zip(values).filter_map(|(x, y)| Some((*x, y?))).collect(),
            labels: Vec::new(),
        };
        let some = |values: &[f64]| values.iter().copied().map(Some).collect();
        (!c.confidence.is_empty()).then(|| Plot {
            title: format!("{}: means over the classes by confidence", self.short_name()),
            x_label: "confidence".into(),
            series: vec![line("precision", c.precision.clone()), line("recall", some(&c.recall)), line("F1", some(&c.f1))],
            ..Plot::default()
        })
    }
}

impl Conditions {
    /// In a line, for notes.
    fn line(&self, detector: bool) -> String {
        let [height, width] = self.image_size;
        let run = format!("{width}×{height} pixels, batch {}, {}, {}", self.batch, self.device, counted(self.threads, "thread"));
        if !detector {
            return run;
        }
        let boxes = match (self.suppressed, self.agnostic) {
            (true, true) => format!("IoU {} across classes", self.iou),
            (true, false) => format!("IoU {}", self.iou),
            (false, _) => "suppressed by the model".to_string(),
        };
        let labels = if self.multi_label { "" } else { ", one class per box" };
        format!("boxes above confidence {}, {boxes}, at most {} per image{labels}; {run}", self.confidence, self.max_detections)
    }
}

/// Classes whose curve is drawn, as many as there are colours beside the mean's.
const MAX_CURVES: usize = 7;
