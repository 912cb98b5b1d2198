//! What `evaluate` gives.

use super::map::RECALLS;
use crate::report::{Plot, Series, SeriesKind, Show, Table};
use serde::Serialize;

/// Results of one class.
#[derive(Debug, Clone, Serialize)]
pub struct ClassResult {
    pub class: String,
    /// True objects; for a classifier, images.
    pub objects: usize,
    pub map50: Option<f64>,
    pub map: Option<f64>,
    pub precision: f64,
    pub recall: f64,
    /// Precision at recalls 0, 0.01, …, 1 at IoU 0.5; empty for a classifier.
    pub curve: Vec<f64>,
}

/// What `evaluate` measured.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    pub dataset: String,
    pub images: usize,
    /// Mean average precision at IoU 0.5; `None` for a classifier, or when there are no objects.
    pub map50: Option<f64>,
    /// Mean average precision over IoU 0.5 to 0.95.
    pub map: Option<f64>,
    /// Means over the classes, for a detector at `confidence` and IoU 0.5.
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    /// The one confidence at which the classes' mean F1 score is highest.
    pub confidence: Option<f64>,
    /// Share of images whose best class is right; `None` for a detector.
    pub top1: Option<f64>,
    /// Share of images with the right class among the best five; `None` up to five classes.
    pub top5: Option<f64>,
    pub per_class: Vec<ClassResult>,
    /// Wall time, reading images included.
    pub seconds: f64,
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
            precision: None,
            recall: None,
            confidence: None,
            top1: None,
            top5: None,
            per_class: Vec::new(),
            seconds: 0.0,
            warnings: Vec::new(),
        }
    }
    /// The one figure that training maximizes: mAP50-95, or top-1.
    pub fn fitness(&self) -> f64 {
        self.map.or(self.top1).unwrap_or(0.0)
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
        let title = format!("{}: {} images", self.dataset, self.images);
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
        vec![table]
    }
    fn plots(&self) -> Vec<Plot> {
        let series: Vec<Series> = self
            .per_class
            .iter()
            .filter(|c| c.curve.len() == RECALLS)
            .take(MAX_CURVES)
            .map(|c| Series {
                name: c.class.clone(),
                kind: SeriesKind::Line,
                points: c.curve.iter().enumerate().map(|(i, &p)| (i as f64 / 100.0, p)).collect(),
                labels: Vec::new(),
            })
            .collect();
        if series.is_empty() {
            return Vec::new();
        }
        vec![Plot {
            title: format!("{}: precision and recall at IoU 0.5", self.dataset),
            x_label: "recall".into(),
            y_label: "precision".into(),
            series,
            ..Plot::default()
        }]
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!("{}; {:.1} s", self.summary(), self.seconds)];
        if let Some(c) = self.confidence {
            notes.push(format!("precision and recall at confidence {c:.3}, where the mean F1 score is highest"));
        }
        notes.extend(self.warnings.iter().cloned());
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Classes whose curve is drawn.
const MAX_CURVES: usize = 10;
