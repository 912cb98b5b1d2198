//! Plots.

use serde::Serialize;

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub enum SeriesKind {
    #[default]
    Line,
    /// Points; with `labels`, each is named beside its mark.
    Points,
    /// Many small points without names, which shine through where they lie over each other.
    Dots,
    Bars,
}

/// One set of points.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Series {
    pub name: String,
    pub kind: SeriesKind,
    pub points: Vec<(f64, f64)>,
    /// Names of the points, or empty.
    pub labels: Vec<String>,
}

/// A plot of series over two axes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plot {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub series: Vec<Series>,
    pub log_x: bool,
    pub log_y: bool,
}
