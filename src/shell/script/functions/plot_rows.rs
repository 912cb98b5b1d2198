//! Plots of rows by the names of their columns.

use super::sorting::key_of;
use crate::error::{Error, Result};
use crate::operation::{OptionKind, OptionValue};
use crate::report::{Plot, Series, SeriesKind, Show, Table};
use crate::shell::script::value::{Report, from_json, to_f64};
use crate::shell::script::words::describe;
use rhai::{Array, Dynamic};
use serde::{Deserialize, Serialize};

crate::choice! {
    /// How numbers become marks.
    pub enum Marks { Line = "line", Points = "points", Bars = "bars", Histogram = "hist" }
}

crate::options! {
    /// Options of `plot`.
    pub struct PlotOptions {
        /// Line above the plot.
        pub title: Option<String> = None,
        /// What the horizontal axis shows; of rows (a list of maps, a table, a report with rows such as that of `benchmark`), the column that
        /// it shows. Of a list of columns, each has a plot of its own, side by side.
        pub x: Option<Columns> = None,
        /// What the vertical axis shows; of rows, the column or a list of columns.
        pub y: Option<Columns> = None,
        /// Of rows, the column whose values have a series each.
        pub by: Option<String> = None,
        /// Of rows, the column that names the points.
        pub label: Option<String> = None,
        /// Of rows, the line through those that no other one beats with less of `x` and more of `y`.
        pub front: bool = false,
        /// How lists are drawn; a map of numbers has bars. "hist" counts the numbers of a list, as of a tensor in any case.
        pub kind: Option<Marks> = None,
        /// A logarithmic horizontal axis.
        pub log_x: bool = false,
        /// A logarithmic vertical axis.
        pub log_y: bool = false,
    }
}

/// One column, or several that have a plot each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Columns {
    One(String),
    Many(Vec<String>),
}

impl OptionValue for Columns {
    const KIND: OptionKind = OptionKind::Any;
}

impl Columns {
    fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// The rows of a list of maps or of a table; of a report, where both axes name columns of its rows.
pub(super) fn rows_of(value: &Dynamic, options: &PlotOptions) -> Option<Array> {
    let from = |rows: &serde_json::Value| -> Option<Array> { Some(rows.as_array()?.iter().map(from_json).collect()) };
    if let Some(t) = value.read_lock::<Table>() {
        return from(&Show::data(&*t)["rows"]);
    }
    if let Some(r) = value.read_lock::<Report>() {
        let rows = &r.data()["rows"];
        let mut wanted = [options.x.as_ref()?, options.y.as_ref()?].into_iter().flat_map(Columns::names);
        return wanted.all(|name| rows[0].get(name).is_some()).then(|| from(rows)).flatten();
    }
    let list = value.as_array_ref().ok()?;
    (!list.is_empty() && list.iter().all(Dynamic::is_map)).then(|| list.to_vec())
}

/// A plot of each pair of columns.
pub(super) fn plot_rows(rows: &Array, options: &PlotOptions) -> Result<Plot> {
    let (Some(x), Some(y)) = (&options.x, &options.y) else {
        let columns: Vec<String> = rows[0].as_map_ref().map(|m| m.keys().map(ToString::to_string).collect()).unwrap_or_default();
        let e = Error::argument("a plot of rows needs the names of two columns");
        return Err(e.hint(format!(
            "such as #{{ x: \"{}\", y: \"{}\" }}",
            columns.first().map_or("", String::as_str),
            columns.last().map_or("", String::as_str)
        )));
    };
    let pairs = y.names().iter().flat_map(|y| x.names().iter().map(move |x| (x, y)));
    let panels = pairs.map(|(x, y)| plot_columns(rows, x, y, options)).collect::<Result<Vec<_>>>()?;
    if panels.is_empty() {
        return Err(Error::argument("a plot of rows needs a column for each axis, not an empty list"));
    }
    Ok(Plot::multiples("", panels))
}

/// A series of two columns, or one for each value of the column `by`.
fn plot_columns(rows: &Array, x: &str, y: &str, options: &PlotOptions) -> Result<Plot> {
    // Rows of a report are of models, which have names.
    let own = rows[0].as_map_ref().is_ok_and(|m| m.contains_key("name") && m.contains_key("p50_ms")).then(|| "name".to_string());
    let label = options.label.clone().or(own);
    let mut all: Vec<Series> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let (along, up) = (key_of(row, x)?, key_of(row, y)?);
        let Some(up) = to_f64(&up) else {
            // A row without a figure has no point.
            if up.is_unit() {
                continue;
            }
            return Err(Error::argument(format!("column '{y}' holds {}, which is no number", describe(&up))));
        };
        if along.is_unit() {
            continue;
        }
        let name = options.by.as_ref().map_or(Ok(String::new()), |by| key_of(row, by).map(|v| v.to_string()))?;
        let number = to_f64(&along);
        let text = match (&label, number) {
            (Some(label), _) => key_of(row, label)?.to_string(),
            (None, None) => along.to_string(),
            (None, Some(_)) => String::new(),
        };
        let at = all.iter().position(|s| s.name == name).unwrap_or_else(|| {
            all.push(Series { name, ..Series::default() });
            all.len() - 1
        });
        let series = &mut all[at];
        // Names have bars, numbers lines, named points marks.
        series.kind = match (number, &label) {
            (None, _) => SeriesKind::Bars,
            (Some(_), Some(_)) => SeriesKind::Points,
            (Some(_), None) if options.front => SeriesKind::Points,
            (Some(_), None) => SeriesKind::Line,
        };
        series.points.push((number.unwrap_or(i as f64), up));
        series.labels.push(text);
    }
    for s in &mut all {
        if s.labels.iter().all(String::is_empty) {
            s.labels.clear();
        }
    }
    if options.front {
        all.push(Series::pareto_front(all.iter().flat_map(|s| s.points.clone()).collect::<Vec<_>>()));
    }
    Ok(Plot { series: all, ..Plot::default() }.titled("", x, y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::report::Style;
    use crate::shell::Buffer;
    use crate::shell::script::{Failure, Session};

    /// The plot that code gives, as JSON.
    fn plotted(code: &str) -> Result<serde_json::Value, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        let mut session = Session::new(Context::new(), std::sync::Arc::new(Buffer::new(Style::plain())));
        session.run(&format!("let rows = [#{{ ms: 9, mb: 12, f: 0.8, on: \"a\" }}, #{{ ms: 5, mb: 13, f: 0.7, on: \"b\" }}, #{{ ms: 4, mb: 3, f: 0.75, on: \"a\" }}];\nsave({code}, {path:?})"), "<test>")?;
        Ok(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    }

    #[test]
    fn lists_of_columns_are_small_multiples() {
        let plot = plotted("plot(rows, #{ x: [\"ms\", \"mb\"], y: \"f\", label: \"on\", front: true, title: \"Costs\" })").unwrap();
        let panels = plot["panels"].as_array().unwrap();
        assert_eq!((plot["title"].as_str(), panels.len()), (Some("Costs"), 2));
        assert_eq!((panels[1]["x_label"].as_str(), panels[1]["y_label"].as_str()), (Some("mb"), Some("f")));
        let front: Vec<_> = panels.iter().map(|p| p["series"][1]["points"].to_string()).collect();
        assert_eq!(front, ["[[4.0,0.75],[9.0,0.8]]", "[[3.0,0.75],[12.0,0.8]]"]);
        assert_eq!(panels[0]["series"][0]["labels"].to_string(), "[\"a\",\"b\",\"a\"]");
        let four = plotted("plot(rows, #{ x: [\"ms\", \"mb\"], y: [\"f\", \"ms\"], log_x: true })").unwrap();
        assert!(four["panels"].as_array().unwrap().iter().all(|p| p["log_x"] == true) && four["panels"].as_array().unwrap().len() == 4);
        assert!(plotted("plot(rows, #{ x: \"ms\", y: \"f\" })").unwrap()["panels"].is_null(), "one is a plot");
        let error = |code: &str| plotted(code).unwrap_err().render(&Style::plain());
        assert!(error("plot([1, 2], #{ x: [\"a\", \"b\"] })").contains("several columns need rows"));
        assert!(error("plot(rows, #{ x: [], y: \"f\" })").contains("needs a column"));
    }

    #[test]
    fn reports_with_rows_are_plotted_by_their_columns() {
        let code = "let m = model(\"classifier\", #{ classes: 2, image_size: 32 }); \
                    let r = benchmark([[\"a\", m], [\"b\", prune(m, #{ ratio: 0.5 })]], #{ runs: 2, warmup: 1, runtimes: [\"native\"] });";
        let plot = plotted(&format!("{{ {code} plot(r, #{{ x: [\"params\", \"size_bytes\"], y: \"p50_ms\" }}) }}")).unwrap();
        assert_eq!(plot["panels"][1]["series"][0]["labels"].to_string(), "[\"a\",\"b\"]");
        // Names that are no columns are those of the axes, as before.
        let plot = plotted(&format!("{{ {code} plot(r, #{{ x: \"which\" }}) }}")).unwrap();
        assert_eq!((plot["x_label"].as_str(), plot["title"].as_str()), (Some("which"), Some("Latency")));
    }
}
