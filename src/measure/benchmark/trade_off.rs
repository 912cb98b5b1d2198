//! Accuracy against what it costs.

use compresso_base::report::{Plot, Series, SeriesKind};

/// A model in a runtime whose accuracy is known.
pub(super) struct Spot {
    pub name: String,
    pub runtime: String,
    pub accuracy: f64,
    /// In the order of [`COSTS`].
    pub costs: [Option<f64>; COSTS.len()],
}

/// Axes of costs, and whether one is the model's, whatever runs it.
pub(super) const COSTS: [(&str, bool); 5] = [
    ("median latency (ms)", false),
    ("size (MB)", true),
    ("multiply-accumulates (millions)", true),
    ("peak memory (MB)", false),
    ("energy (J/image)", false),
];

/// A panel for latency and for each other cost in which the spots differ, with the Pareto front of three and more; none without
/// spots. `accuracy` is the name of its measure; `runtimes` are those of the spots, and may be more.
pub(super) fn plot(spots: &[Spot], runtimes: &[&str], accuracy: &str) -> Option<Plot> {
    let panel = |(i, (axis, per_model)): (usize, &(&str, bool))| {
        if i > 0 && spots.iter().all(|s| s.costs[i] == spots[0].costs[i]) {
            return None;
        }
        let mut models = std::collections::HashSet::new();
        let firsts: Vec<&Spot> = spots.iter().filter(|s| !per_model || models.insert(&s.name)).collect();
        let rows = |runtime: &str| {
            let chosen = firsts.iter().filter(|s| *per_model || s.runtime == runtime);
            // Colours tell the runtimes.
            let (points, labels) = chosen.filter_map(|s| Some(((s.costs[i]?, s.accuracy), s.name.clone()))).unzip();
            let name = if *per_model { "models" } else { runtime }.to_string();
            Series { name, kind: SeriesKind::Points, points, labels }
        };
        let of = if *per_model { &[""] } else { runtimes };
        let mut series: Vec<Series> = of.iter().map(|r| rows(r)).filter(|s| !s.points.is_empty()).collect();
        let points: Vec<(f64, f64)> = series.iter().flat_map(|s| s.points.clone()).collect();
        if points.len() > 2 {
            series.push(Series::pareto_front(points));
        }
        (!series.is_empty()).then(|| Plot { series, ..Plot::default() }.titled("", *axis, accuracy))
    };
    let panels: Vec<Plot> = COSTS.iter().enumerate().filter_map(panel).collect();
    (!panels.is_empty()).then(|| Plot::multiples("Cost and accuracy", panels))
}
