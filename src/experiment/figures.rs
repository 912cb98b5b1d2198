//! Tables and plots of runs over their parameters.

use compresso_base::report::{Cell, Plot, Series, SeriesKind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Parameters and metrics of one run.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// What it was run with.
    pub parameters: &'a Map<String, Value>,
    /// What it recorded.
    pub metrics: &'a Map<String, Value>,
}

/// Names in the order in which they first occur.
fn names<'a>(maps: impl Iterator<Item = &'a Map<String, Value>>) -> Vec<&'a str> {
    let mut all: Vec<&str> = Vec::new();
    for name in maps.flat_map(Map::keys) {
        if !all.contains(&name.as_str()) {
            all.push(name);
        }
    }
    all
}

/// Parameters that are not equal in all runs.
pub fn varying<'a>(points: &[Point<'a>]) -> Vec<&'a str> {
    let differs = |name: &&str| points.iter().any(|p| p.parameters.get(*name) != points[0].parameters.get(*name));
    names(points.iter().map(|p| p.parameters)).into_iter().filter(differs).collect()
}

/// Metrics that any of the runs recorded.
pub fn metrics<'a>(points: &[Point<'a>]) -> Vec<&'a str> {
    names(points.iter().map(|p| p.metrics))
}

/// A value as a cell: `0.8238`, `true`, `–` for none.
pub fn cell(value: Option<&Value>) -> Cell {
    match value {
        None | Some(Value::Null) => Cell::none(),
        Some(Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
            (Some(whole), _) => Cell::shown(whole.to_string(), whole as f64),
            (None, x) => Cell::number(x.unwrap_or(f64::NAN)),
        },
        Some(Value::String(text)) => text.into(),
        Some(other) => other.to_string().into(),
    }
}

/// `ratio=0.1 seed=0`
pub fn named(parameters: &Map<String, Value>, names: &[&str]) -> String {
    let of = |name: &&str| parameters.get(*name).map(|v| format!("{name}={}", text(v)));
    names.iter().filter_map(of).collect::<Vec<_>>().join(" ")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// Plots drawn of a sweep at most.
const PLOTS: usize = 6;

/// Each metric over the parameter that has most numbers, a line for each value of the parameter with most values of the others; means
/// over the rest, such as seeds.
pub fn plots(points: &[Point<'_>]) -> Vec<Plot> {
    let varying = varying(points);
    let values = |name: &str| {
        let mut all: Vec<String> = points.iter().filter_map(|p| p.parameters.get(name)).map(text).collect();
        all.sort();
        all.dedup();
        all.len()
    };
    let numeric = |name: &&&str| points.iter().all(|p| p.parameters.get(**name).is_none_or(Value::is_number));
    // A seed is no scale; it is averaged over unless nothing else differs.
    let rank = |name: &&&str| (**name != "seed", values(name));
    let Some(&over) = varying.iter().filter(numeric).max_by_key(rank) else { return Vec::new() };
    let by = varying.iter().filter(|n| **n != over && **n != "seed").max_by_key(|n| values(n)).copied();
    let plot = |metric: &str| {
        let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for p in points {
            let at = |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_f64);
            if let (Some(x), Some(y)) = (at(p.parameters, over), at(p.metrics, metric)) {
                let line = by.map_or_else(|| metric.to_string(), |by| named(p.parameters, &[by]));
                lines.entry(line).or_default().push((x, y));
            }
        }
        let series: Vec<Series> = lines.into_iter().map(|(name, points)| mean_line(name, points)).collect();
        let title = format!("{metric} over {over}");
        (!series.is_empty()).then(|| Plot { series, ..Plot::default() }.titled(title, over, metric))
    };
    metrics(points).into_iter().filter_map(plot).take(PLOTS).collect()
}

/// The means of the points at each place, in order.
fn mean_line(name: String, mut points: Vec<(f64, f64)>) -> Series {
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let at_one_place = points.chunk_by(|a, b| a.0 == b.0);
    let means = at_one_place.map(|all| (all[0].0, all.iter().map(|p| p.1).sum::<f64>() / all.len() as f64)).collect();
    Series { name, kind: SeriesKind::Line, points: means, labels: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metrics_are_drawn_over_numbers_and_averaged_over_seeds() {
        let map = |v: Value| v.as_object().cloned().unwrap();
        let runs: Vec<(Map<String, Value>, Map<String, Value>)> = [0.1, 0.2]
            .iter()
            .flat_map(|&ratio| {
                [0, 1].map(|seed| {
                    let parameters = json!({ "ratio": ratio, "seed": seed, "by": "l2", "model": "a" });
                    (map(parameters), map(json!({ "map50": ratio + f64::from(seed), "name": "x" })))
                })
            })
            .collect();
        let points: Vec<Point<'_>> = runs.iter().map(|(parameters, metrics)| Point { parameters, metrics }).collect();
        assert_eq!((varying(&points), metrics(&points)), (vec!["ratio", "seed"], vec!["map50", "name"]));
        let plots = plots(&points);
        assert_eq!((plots.len(), plots[0].title.as_str()), (1, "map50 over ratio"));
        let rounded: Vec<(f64, f64)> = plots[0].series[0].points.iter().map(|p| (p.0, (p.1 * 1e6).round() / 1e6)).collect();
        assert_eq!(rounded, [(0.1, 0.6), (0.2, 0.7)]);
        assert_eq!(named(&runs[1].0, &["ratio", "by", "none"]), "ratio=0.1 by=l2");
    }
}
