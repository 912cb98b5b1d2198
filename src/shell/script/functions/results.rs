//! Looking at results and keeping them.

use super::signature;
use crate::error::{Error, Result};
use crate::operation::Arg;
use crate::report::{self, Plot, Series, SeriesKind, Show, Table};
use crate::shell::script::binding::{Binding, Call, describe};
use crate::shell::script::display::{show_value, table_of};
use crate::shell::script::value::{ModelValue, Report, to_f64};
use rhai::Dynamic;
use std::sync::Arc;

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: signature(
            ("results", "show"),
            "Shows a value: a model's layers, a report's tables and plots",
            &[Arg::new("x", "any value")],
            "nothing",
            &["show(model(\"classifier\", #{ classes: 3, image_size: 32 }))", "show([1, 2, 3])"],
            &["display", "view"],
        ),
        call: show,
    },
    Binding {
        signature: signature(
            ("results", "table"),
            "A table of a list of maps (a row each), a map or a report",
            &[Arg::new("x", "list or map or report"), Arg::optional("title", "text")],
            "table",
            &["table([#{ model: \"a\", map50: 0.81 }, #{ model: \"b\", map50: 0.79 }])"],
            &["rows", "columns", "grid"],
        ),
        call: table,
    },
    Binding {
        signature: signature(
            ("results", "plot"),
            "A plot of a report, a list of numbers, of [x, y], or a map of such lists; with a path (.png, .svg, .html), saved",
            &[Arg::new("x", "list or map or report"), Arg::optional("path", "text")],
            "plot",
            &["plot([3.0, 2.1, 1.7])", "plot(#{ train: [3, 2, 1], val: [3.2, 2.5, 2.2] })"],
            &["chart", "graph", "figure", "curve", "draw"],
        ),
        call: plot,
    },
];

fn show(c: &Call<'_>) -> Result<Dynamic> {
    if let Some(m) = c.arg(0).read_lock::<ModelValue>() {
        crate::shell::show(c.shared.output(), &m.model.summary()?)?;
    } else {
        show_value(c.shared.output(), c.arg(0))?;
    }
    Ok(Dynamic::UNIT)
}

fn table(c: &Call<'_>) -> Result<Dynamic> {
    let mut table: Table = table_of(c.arg(0))?;
    if c.has(1) {
        table.title = c.text(1)?;
    }
    Ok(Dynamic::from(table))
}

fn plot(c: &Call<'_>) -> Result<Dynamic> {
    let plot = plot_of(c.arg(0))?;
    if c.has(1) {
        report::save(&plot, c.text(1)?)?;
    }
    Ok(Dynamic::from(plot))
}

fn plot_of(value: &Dynamic) -> Result<Plot> {
    if let Some(p) = value.read_lock::<Plot>() {
        return Ok(p.clone());
    }
    if let Some(r) = value.read_lock::<Report>() {
        let first = r.show.plots().into_iter().next();
        return first.ok_or_else(|| Error::missing("this report has no plot").hint("table(x) gives its table"));
    }
    let series = |name: &str, list: &Dynamic| -> Result<Series> {
        Ok(Series { name: name.into(), kind: SeriesKind::Line, points: points(list)?, labels: Vec::new() })
    };
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

/// `[y, …]` or `[[x, y], …]`.
fn points(list: &Dynamic) -> Result<Vec<(f64, f64)>> {
    let wrong = |v: &Dynamic| Error::argument(format!("a plot needs numbers or pairs [x, y], got {}", describe(v)));
    let list = list.as_array_ref().map_err(|_| wrong(list))?;
    let point = |(i, v): (usize, &Dynamic)| {
        if let Some(y) = to_f64(v) {
            return Ok((i as f64, y));
        }
        let pair = v.as_array_ref().map_err(|_| wrong(v))?;
        match (pair.first().and_then(to_f64), pair.get(1).and_then(to_f64), pair.len()) {
            (Some(x), Some(y), 2) => Ok((x, y)),
            _ => Err(wrong(v)),
        }
    };
    list.iter().enumerate().map(point).collect()
}

/// A value that can be saved as a report.
pub(super) fn as_report(value: &Dynamic) -> Option<Arc<dyn Show>> {
    if let Some(r) = value.read_lock::<Report>() {
        return Some(r.show.clone());
    }
    if let Some(t) = value.read_lock::<Table>() {
        return Some(Arc::new(t.clone()));
    }
    value.read_lock::<Plot>().map(|p| Arc::new(p.clone()) as _)
}
