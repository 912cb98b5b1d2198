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
    /// Shaded cells instead of series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heat: Option<HeatMap>,
}

impl Plot {
    /// The plot under a title, with names for what its axes show.
    #[must_use]
    pub fn titled(self, title: impl Into<String>, x_label: impl Into<String>, y_label: impl Into<String>) -> Self {
        Self { title: title.into(), x_label: x_label.into(), y_label: y_label.into(), ..self }
    }
    /// The plot with all its series drawn in one way.
    #[must_use]
    pub fn drawn_as(mut self, kind: SeriesKind) -> Self {
        self.series.iter_mut().for_each(|s| s.kind = kind);
        self
    }
}

impl Series {
    /// The line through those of `points` that no other one beats, with less of the first and more of the second number.
    pub fn pareto_front(points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut points: Vec<(f64, f64)> = points.into_iter().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut front: Vec<(f64, f64)> = Vec::new();
        for p in points {
            if front.last().is_none_or(|best| p.1 > best.1) {
                front.push(p);
            }
        }
        Self { name: "Pareto front".into(), kind: SeriesKind::Line, points: front, labels: Vec::new() }
    }
}

/// A grid of cells, each with a shade and a text.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HeatMap {
    /// Names of the rows, from the top.
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// `[row][column]`, 0 to 1.
    pub shades: Vec<Vec<f64>>,
    /// `[row][column]`; drawn where the cells are large enough.
    pub texts: Vec<Vec<String>>,
    pub scale: Scale,
}

/// What shades stand for.
#[derive(Debug, Clone, Serialize)]
pub struct Scale {
    pub name: String,
    /// The value of a shade of 1. Shades are in proportion to values.
    pub most: f64,
    /// The power of a shade that its colour follows; below 1, small values are told apart better than large ones.
    pub bend: f64,
}

impl Default for Scale {
    fn default() -> Self {
        Self { name: String::new(), most: 1.0, bend: 1.0 }
    }
}

impl Scale {
    /// Of shares, up to 1.
    pub fn shares(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
    /// How deep the colour of a shade is, 0 to 1.
    pub fn depth(&self, shade: f64) -> f64 {
        shade.clamp(0.0, 1.0).powf(self.bend)
    }
}

impl HeatMap {
    /// Shade and text of a cell; 0 and nothing where there is none.
    pub fn cell(&self, row: usize, column: usize) -> (f64, &str) {
        let shade = self.shades.get(row).and_then(|r| r.get(column)).copied().filter(|v| v.is_finite()).unwrap_or(0.0);
        let text = self.texts.get(row).and_then(|r| r.get(column)).map_or("", String::as_str);
        (shade.clamp(0.0, 1.0), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_holds_what_nothing_beats() {
        let points = [(3.0, 0.8), (1.0, 0.5), (2.0, 0.4), (2.0, 0.7), (4.0, 0.8), (f64::NAN, 1.0)];
        assert_eq!(Series::pareto_front(points).points, [(1.0, 0.5), (2.0, 0.7), (3.0, 0.8)]);
        assert!(Series::pareto_front([]).points.is_empty());
    }
}
