//! Plots of results and of one's own numbers.

use super::lists::{HistOptions, histogram, numbers_of};
use super::plot_rows::{Columns, Marks, PlotOptions, plot_rows, rows_of};
use super::signature;
use crate::error::{Error, Result};
use crate::learn::data::Dataset;
use crate::model::Value;
use crate::operation::{Arg, ArgKind, Options as _, Signature};
use crate::report::{self, Plot, Series, SeriesKind, Show};
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::value::{Report, to_f64};
use crate::shell::script::words::describe;
use rhai::Dynamic;

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
                "plot([#{ ms: 9, mb: 12, map50: 0.8 }, #{ ms: 4, mb: 3, map50: 0.78 }], #{ x: [\"ms\", \"mb\"], y: \"map50\", front: true })",
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
    let rows = rows_of(c.arg(0), &options);
    let of_rows = rows.is_some();
    let mut plot = match rows {
        Some(rows) if options.kind != Some(Marks::Histogram) => plot_rows(&rows, &options)?,
        _ if options.kind == Some(Marks::Histogram) || c.arg(0).is::<Value>() => {
            histogram(&numbers_of(c.arg(0))?, HistOptions::default().bins)?
        }
        _ => plot_of(c.arg(0))?,
    };
    let report = c.arg(0).read_lock::<Report>().filter(|_| !of_rows);
    let all: Vec<String> = report.map_or_else(Vec::new, |r| r.show.plots().into_iter().map(|p| p.title).collect());
    if let Some((first, others)) = all.split_first().filter(|(_, others)| !others.is_empty()) {
        let others: Vec<String> = others.iter().enumerate().map(|(i, title)| format!("plots(x)[{}] \"{title}\"", i + 1)).collect();
        c.ctx.note(format!("plot: \"{first}\", the first of {}; the others: {}", all.len(), others.join(", ")));
    }
    if let Some(title) = options.title {
        plot.title = title;
    }
    if !of_rows {
        for (text, given) in [(&mut plot.x_label, options.x), (&mut plot.y_label, options.y)] {
            match given {
                Some(Columns::One(name)) => *text = name,
                Some(Columns::Many(_)) => {
                    return Err(Error::argument("several columns need rows: a list of maps, a table, or a report that has some"));
                }
                None => {}
            }
        }
    }
    if let Some(kind) = options.kind {
        let kind = match kind {
            Marks::Line => SeriesKind::Line,
            Marks::Points => SeriesKind::Points,
            Marks::Bars | Marks::Histogram => SeriesKind::Bars,
        };
        plot = plot.drawn_as(kind);
    }
    plot.log_x |= options.log_x;
    plot.log_y |= options.log_y;
    for panel in &mut plot.panels {
        panel.log_x |= options.log_x;
        panel.log_y |= options.log_y;
    }
    if c.has(1) {
        report::save(&plot, c.text(1)?)?;
    }
    Ok(Dynamic::from(plot))
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
