//! Plots.

use super::Flame;
use serde::Serialize;

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub enum SeriesKind {
    /// A line through the points, in their order.
    #[default]
    Line,
    /// Points; with `labels`, each is named beside its mark.
    Points,
    /// Many small points without names, which shine through where they lie over each other.
    Dots,
    /// A bar for each point, as tall as its second number.
    Bars,
}

/// One set of points.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// How it is drawn.
    pub kind: SeriesKind,
    /// Pairs of x and y.
    pub points: Vec<(f64, f64)>,
    /// Names of the points, or empty.
    pub labels: Vec<String>,
}

/// A plot of series over two axes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plot {
    /// Line above the plot.
    pub title: String,
    /// What the horizontal axis shows.
    pub x_label: String,
    /// What the vertical axis shows.
    pub y_label: String,
    /// What is drawn, in the order of the legend.
    pub series: Vec<Series>,
    /// A logarithmic horizontal axis.
    pub log_x: bool,
    /// A logarithmic vertical axis.
    pub log_y: bool,
    /// Small multiples: plots side by side instead of series, each with axes of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub panels: Vec<Plot>,
    /// Shaded cells instead of series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heat: Option<HeatMap>,
    /// A whole and its parts instead of series; `y_label` is the unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flame: Option<Flame>,
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
        self.series.iter_mut().chain(self.panels.iter_mut().flat_map(|p| &mut p.series)).for_each(|s| s.kind = kind);
        self
    }

    /// Plots side by side under a title; one alone is itself, with the title where it has none.
    #[must_use]
    pub fn multiples(title: impl Into<String>, mut panels: Vec<Self>) -> Self {
        if panels.len() != 1 {
            return Self { title: title.into(), panels, ..Self::default() };
        }
        let mut only = panels.remove(0);
        if only.title.is_empty() {
            only.title = title.into();
        }
        only
    }

    /// What it shows in a sentence, for who does not see it: `Loss: loss over epoch (train, val)`.
    pub fn in_words(&self) -> String {
        let axes = match (self.y_label.as_str(), self.x_label.as_str()) {
            ("", "") => String::new(),
            (y, "") => y.to_string(),
            ("", x) => format!("over {x}"),
            (y, x) => format!("{y} over {x}"),
        };
        let inner: Vec<String> = self.panels.iter().map(Self::in_words).collect();
        let mut parts: Vec<String> = [self.title.clone(), axes, inner.join("; ")].into_iter().filter(|p| !p.is_empty()).collect();
        if parts.is_empty() {
            parts.push("Plot".into());
        }
        let names: Vec<&str> = self.series.iter().map(|s| s.name.as_str()).filter(|n| !n.is_empty()).collect();
        let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        format!("{}{names}", parts.join(": "))
    }

    /// A point of a series: `run, small: ms 3, mAP50 0.9`. The place of a named bar says nothing.
    pub(super) fn point_in_words(&self, series: &Series, index: usize) -> String {
        let (x, y) = series.points[index];
        let label = series.labels.get(index).map_or("", String::as_str);
        let who = [series.name.as_str(), label].into_iter().filter(|n| !n.is_empty()).collect::<Vec<_>>().join(", ");
        let axis = |name: &str, other: &str, value: f64| format!("{} {}", if name.is_empty() { other } else { name }, super::number(value));
        let y = axis(&self.y_label, "y", y);
        let numbers =
            if series.kind == SeriesKind::Bars && !label.is_empty() { y } else { format!("{}, {y}", axis(&self.x_label, "x", x)) };
        if who.is_empty() { numbers } else { format!("{who}: {numbers}") }
    }

    /// The names of the series, where all panels have the same: they are said once.
    pub(super) fn shared_names(&self) -> Option<Vec<&str>> {
        fn names(plot: &Plot) -> Vec<&str> {
            plot.series.iter().map(|s| s.name.as_str()).collect()
        }
        let first = names(self.panels.first()?);
        self.panels.iter().all(|p| p.heat.is_none() && p.flame.is_none() && names(p) == first).then_some(first)
    }

    /// The panels as they are written: without names that are said once for all.
    pub(super) fn written_panels(&self) -> Vec<Self> {
        let mut panels = self.panels.clone();
        if self.shared_names().is_some() {
            panels.iter_mut().flat_map(|p| &mut p.series).for_each(|s| s.name.clear());
        }
        panels
    }
}

/// What the line through the best points is called.
const FRONT: &str = "Pareto front";

impl Series {
    /// Whether it is the line that [`Series::pareto_front`] makes.
    pub(super) fn is_front(&self) -> bool {
        self.kind == SeriesKind::Line && self.name == FRONT
    }
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
        Self { name: FRONT.into(), kind: SeriesKind::Line, points: front, labels: Vec::new() }
    }
}

/// A grid of cells, each with a shade and a text.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HeatMap {
    /// Names of the rows, from the top.
    pub rows: Vec<String>,
    /// Names of the columns, from the left.
    pub columns: Vec<String>,
    /// `[row][column]`, 0 to 1.
    pub shades: Vec<Vec<f64>>,
    /// `[row][column]`; drawn where the cells are large enough.
    pub texts: Vec<Vec<String>>,
    /// What the shades stand for.
    pub scale: Scale,
}

/// What shades stand for.
#[derive(Debug, Clone, Serialize)]
pub struct Scale {
    /// What is shaded.
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

    #[test]
    fn a_plot_says_what_it_shows() {
        let series = ["train", "val"].map(|name| Series { name: name.into(), ..Series::default() }).to_vec();
        let loss = Plot { series, ..Plot::default() }.titled("Loss", "epoch", "loss");
        assert_eq!(loss.in_words(), "Loss: loss over epoch (train, val)");
        let both = Plot::multiples("Runs", vec![loss, Plot::default().titled("", "ms", "mAP50")]);
        assert_eq!(both.in_words(), "Runs: Loss: loss over epoch (train, val); mAP50 over ms");
        assert_eq!(Plot::default().in_words(), "Plot");
    }
}
