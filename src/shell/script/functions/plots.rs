//! Plots of results and of one's own numbers.

use super::lists::{HistOptions, histogram, numbers_of};
use super::signature;
use super::sorting::key_of;
use crate::error::{Error, Result};
use crate::learn::data::Dataset;
use crate::model::Value;
use crate::operation::{Arg, ArgKind, Options as _, Signature};
use crate::report::{self, Plot, Series, SeriesKind, Show, Table};
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::value::{Report, from_json, to_f64};
use crate::shell::script::words::describe;
use rhai::{Array, Dynamic};

crate::choice! {
    /// How numbers become marks.
    pub enum Marks { Line = "line", Points = "points", Bars = "bars", Histogram = "hist" }
}

crate::options! {
    /// Options of `plot`.
    pub struct PlotOptions {
        /// Line above the plot.
        pub title: Option<String> = None,
        /// What the horizontal axis shows; of rows (a list of maps or a table), the column that it shows.
        pub x: Option<String> = None,
        /// What the vertical axis shows; of rows, the column.
        pub y: Option<String> = None,
        /// Of rows, the column whose values have a series each.
        pub by: Option<String> = None,
        /// Of rows, the column that names the points.
        pub label: Option<String> = None,
        /// How lists are drawn; a map of numbers has bars. "hist" counts the numbers of a list, as of a tensor in any case.
        pub kind: Option<Marks> = None,
        /// A logarithmic horizontal axis.
        pub log_x: bool = false,
        /// A logarithmic vertical axis.
        pub log_y: bool = false,
    }
}

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: Signature {
            name: "plot",
            summary: "A plot of a report or dataset, of rows by the names of their columns, of a list of numbers, of [x, y] or of [x, y, name], or \
                      of a map of such lists; with a path (.png, .svg, .html), saved",
            group: "results",
            args: &[
                Arg::new("x", ArgKind::OneOf(&[ArgKind::List, ArgKind::Map, ArgKind::Report, ArgKind::Dataset, ArgKind::Tensor])),
                Arg::optional("path", ArgKind::Text),
            ],
            returns: "plot",
            fields: PlotOptions::FIELDS,
            examples: &[
                "plot([3.0, 2.1, 1.7])",
                "plot(#{ train: [3, 2, 1], val: [3.2, 2.5, 2.2] }, #{ title: \"Loss\", x: \"epoch\", log_y: true })",
                "plot([[2.8, 0.97, \"base\"], [1.3, 0.96, \"pruned\"]], #{ kind: \"points\", x: \"ms\", y: \"mAP50\" })",
                "plot([#{ ratio: 0.2, map50: 0.8 }, #{ ratio: 0.4, map50: 0.71 }], #{ x: \"ratio\", y: \"map50\" })",
            ],
            keywords: &["chart", "graph", "figure", "curve", "draw", "axis", "scatter", "bars"],
        },
        call: plot,
    },
    Binding {
        signature: signature(
            ("results", "plots"),
            "All plots of a report or dataset, in the order in which they are shown",
            &[Arg::new("x", ArgKind::OneOf(&[ArgKind::Report, ArgKind::Dataset]))],
            "list of plots",
            &["plots(plot([3.0, 2.1, 1.7])).len()"],
            &["charts", "figures", "curves", "confusion"],
        ),
        call: plots,
    },
];

fn plot(c: &Call<'_>) -> Result<Dynamic> {
    let options: PlotOptions = c.options()?;
    let mut plot = match rows_of(c.arg(0)) {
        Some(rows) if options.kind != Some(Marks::Histogram) => plot_rows(&rows, &options)?,
        _ if options.kind == Some(Marks::Histogram) || c.arg(0).is::<Value>() => {
            histogram(&numbers_of(c.arg(0))?, HistOptions::default().bins)?
        }
        _ => plot_of(c.arg(0))?,
    };
    let all: Vec<String> = c.arg(0).read_lock::<Report>().map_or_else(Vec::new, |r| r.show.plots().into_iter().map(|p| p.title).collect());
    if let Some((first, others)) = all.split_first().filter(|(_, others)| !others.is_empty()) {
        let others: Vec<String> = others.iter().enumerate().map(|(i, title)| format!("plots(x)[{}] \"{title}\"", i + 1)).collect();
        c.ctx.note(format!("plot: \"{first}\", the first of {}; the others: {}", all.len(), others.join(", ")));
    }
    for (text, given) in [(&mut plot.title, options.title), (&mut plot.x_label, options.x), (&mut plot.y_label, options.y)] {
        if let Some(given) = given {
            *text = given;
        }
    }
    if let Some(kind) = options.kind {
        let kind = match kind {
            Marks::Line => SeriesKind::Line,
            Marks::Points => SeriesKind::Points,
            Marks::Bars | Marks::Histogram => SeriesKind::Bars,
        };
        plot.series.iter_mut().for_each(|s| s.kind = kind);
    }
    plot.log_x |= options.log_x;
    plot.log_y |= options.log_y;
    if c.has(1) {
        report::save(&plot, c.text(1)?)?;
    }
    Ok(Dynamic::from(plot))
}

/// The rows of a list of maps or of a table.
fn rows_of(value: &Dynamic) -> Option<Array> {
    if let Some(t) = value.read_lock::<Table>() {
        let rows = Show::data(&*t)["rows"].as_array()?.iter().map(from_json).collect();
        return Some(rows);
    }
    let list = value.as_array_ref().ok()?;
    (!list.is_empty() && list.iter().all(Dynamic::is_map)).then(|| list.to_vec())
}

/// A series of two columns, or one for each value of the column `by`.
fn plot_rows(rows: &Array, options: &PlotOptions) -> Result<Plot> {
    let (Some(x), Some(y)) = (&options.x, &options.y) else {
        let columns: Vec<String> = rows[0].as_map_ref().map(|m| m.keys().map(ToString::to_string).collect()).unwrap_or_default();
        let e = Error::argument("a plot of rows needs the names of two columns");
        return Err(e.hint(format!(
            "such as #{{ x: \"{}\", y: \"{}\" }}",
            columns.first().map_or("", String::as_str),
            columns.last().map_or("", String::as_str)
        )));
    };
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
        let name = options.by.as_ref().map_or(Ok(String::new()), |by| key_of(row, by).map(|v| v.to_string()))?;
        let number = to_f64(&along);
        let label = match (&options.label, number) {
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
        series.kind = match (number, &options.label) {
            (None, _) => SeriesKind::Bars,
            (Some(_), Some(_)) => SeriesKind::Points,
            (Some(_), None) => SeriesKind::Line,
        };
        series.points.push((number.unwrap_or(i as f64), up));
        series.labels.push(label);
    }
    for s in &mut all {
        if s.labels.iter().all(String::is_empty) {
            s.labels.clear();
        }
    }
    Ok(Plot { series: all, ..Plot::default() }.titled("", x, y))
}

fn plots(c: &Call<'_>) -> Result<Dynamic> {
    let all = if let Some(r) = c.arg(0).read_lock::<Report>() {
        r.show.plots()
    } else if let Some(d) = c.arg(0).read_lock::<Dataset>() {
        d.plots()
    } else {
        vec![plot_of(c.arg(0))?]
    };
    Ok(all.into_iter().map(Dynamic::from).collect::<Vec<_>>().into())
}

fn plot_of(value: &Dynamic) -> Result<Plot> {
    if let Some(p) = value.read_lock::<Plot>() {
        return Ok(p.clone());
    }
    if let Some(r) = value.read_lock::<Report>() {
        let first = r.show.plots().into_iter().next();
        return first.ok_or_else(|| Error::missing("this report has no plot").hint("table(x) gives its table"));
    }
    if let Some(d) = value.read_lock::<Dataset>() {
        return d.plots().into_iter().next().ok_or_else(|| Error::missing("this dataset has no labels to plot"));
    }
    if let Ok(map) = value.as_map_ref() {
        if map.values().all(|v| to_f64(v).is_some()) {
            let points = map.values().enumerate().map(|(i, v)| (i as f64, to_f64(v).unwrap_or(f64::NAN))).collect();
            let labels = map.keys().map(ToString::to_string).collect();
            let bars = Series { name: String::new(), kind: SeriesKind::Bars, points, labels };
            return Ok(Plot { series: vec![bars], ..Plot::default() });
        }
        let all = map.iter().map(|(k, v)| series(k, v)).collect::<Result<_>>()?;
        return Ok(Plot { series: all, ..Plot::default() });
    }
    Ok(Plot { series: vec![series("", value)?], ..Plot::default() })
}

/// `[y, …]`, `[[x, y], …]` or `[[x, y, name], …]`.
fn series(name: &str, list: &Dynamic) -> Result<Series> {
    let wrong = |v: &Dynamic| Error::argument(format!("a plot needs numbers, pairs [x, y] or [x, y, name], got {}", describe(v)));
    let list = list.as_array_ref().map_err(|_| wrong(list))?;
    let (mut points, mut labels) = (Vec::with_capacity(list.len()), Vec::new());
    for (i, v) in list.iter().enumerate() {
        if let Some(y) = to_f64(v) {
            points.push((i as f64, y));
            continue;
        }
        let mark = v.as_array_ref().map_err(|_| wrong(v))?;
        match (mark.first().and_then(to_f64), mark.get(1).and_then(to_f64), mark.get(2), mark.len()) {
            (Some(x), Some(y), None, 2) => points.push((x, y)),
            (Some(x), Some(y), Some(label), 3) if label.is_string() => {
                labels.resize(points.len(), String::new());
                labels.push(label.to_string());
                points.push((x, y));
            }
            _ => return Err(wrong(v)),
        }
    }
    if !labels.is_empty() {
        labels.resize(points.len(), String::new());
    }
    Ok(Series { name: name.into(), kind: SeriesKind::Line, points, labels })
}
