//! Accuracy against what it costs.

use super::report::{BenchmarkReport, Row};
use compresso_base::report::{Plot, Series, SeriesKind};

/// A cost: its axis, the figure, and whether it is the model's, whatever runs it.
type Cost = (&'static str, fn(&Row) -> Option<f64>, bool);

const COSTS: [Cost; 5] = [
    ("median latency (ms)", |r| Some(r.latency.p50_ms), false),
    ("size (MB)", |r| Some(r.size_bytes as f64 / 1e6), true),
    ("multiply-accumulates (millions)", |r| r.macs.map(|n| n as f64 / 1e6), true),
    ("peak memory (MB)", |r| Some(r.peak_memory_bytes? as f64 / 1e6), false),
    ("energy (J/image)", |r| r.energy_j, false),
];

/// A panel for latency and for each other cost in which models that were judged differ, with the Pareto front of three and more;
/// none without accuracy.
pub(super) fn plot(report: &BenchmarkReport, label: &dyn Fn(&Row) -> String) -> Option<Plot> {
    let judged: Vec<&Row> = report.rows.iter().filter(|r| r.accuracy().is_some()).collect();
    let accuracy = if report.has(|r| r.map50.is_some()) { "mAP50" } else { "top-1" };
    let panel = |(i, &(axis, cost, per_model)): (usize, &Cost)| {
        let differs = judged.iter().any(|r| cost(r) != cost(judged[0]));
        if judged.is_empty() || i > 0 && !differs {
            return None;
        }
        let first_of = |r: &Row| judged.iter().position(|o| o.name == r.name).is_some_and(|at| std::ptr::eq(judged[at], r));
        let rows = |runtime: &str| -> Series {
            let chosen = judged.iter().filter(|r| if per_model { first_of(r) } else { r.runtime == runtime });
            let all: Vec<(f64, f64, String)> =
                chosen.filter_map(|r| Some((cost(r)?, r.accuracy()?, if per_model { r.name.clone() } else { label(r) }))).collect();
            let name = if per_model { "models".into() } else { runtime.to_string() };
            let points = all.iter().map(|p| (p.0, p.1)).collect();
            Series { name, kind: SeriesKind::Points, points, labels: all.into_iter().map(|p| p.2).collect() }
        };
        let runtimes = if per_model { vec![""] } else { report.runtimes() };
        let mut series: Vec<Series> = runtimes.into_iter().map(rows).filter(|s| !s.points.is_empty()).collect();
        let points: Vec<(f64, f64)> = series.iter().flat_map(|s| s.points.clone()).collect();
        if points.len() > 2 {
            series.push(Series::pareto_front(points));
        }
        (!series.is_empty()).then(|| Plot { series, ..Plot::default() }.titled("", axis, accuracy))
    };
    let panels: Vec<Plot> = COSTS.iter().enumerate().filter_map(panel).collect();
    (!panels.is_empty()).then(|| Plot::multiples("Cost and accuracy", panels))
}
