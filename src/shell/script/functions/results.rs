//! Looking at results and keeping them.

use super::signature;
use crate::deploy::{Deploy, ExportPrecision};
use crate::error::{Error, Result};
use crate::files;
use crate::learn::data::Dataset;
use crate::model::{Value, weights};
use crate::operation::{Arg, ArgKind, Operation, Options as _, Signature};
use crate::report::{self, Plot, Series, SeriesKind, Show, Table};
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::display::{show_value, table_of};
use crate::shell::script::value::{ModelValue, Report, to_f64, to_json};
use crate::shell::script::words::describe;
use crate::target;
use indexmap::IndexMap;
use rhai::Dynamic;
use std::path::Path;

crate::choice! {
    /// How numbers become marks.
    pub enum Marks { Line = "line", Points = "points", Bars = "bars" }
}

crate::options! {
    /// Options of `plot`.
    pub struct PlotOptions {
        /// Line above the plot.
        pub title: Option<String> = None,
        /// What the horizontal axis shows.
        pub x: Option<String> = None,
        /// What the vertical axis shows.
        pub y: Option<String> = None,
        /// How lists are drawn; a map of numbers has bars.
        pub kind: Option<Marks> = None,
        /// A logarithmic horizontal axis.
        pub log_x: bool = false,
        /// A logarithmic vertical axis.
        pub log_y: bool = false,
    }
}

crate::options! {
    /// Options of `table`.
    pub struct TableOptions {
        /// Columns to show, in this order; all when left out.
        pub columns: Vec<String> = Vec::new(),
        /// Line above the table.
        pub title: Option<String> = None,
    }
}

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: signature(
            ("results", "show"),
            "Shows a value: a model's layers, a dataset's classes, sizes and images, a report's tables and plots",
            &[Arg::new("x", ArgKind::Any)],
            "nothing",
            &[
                "show(model(\"classifier\", #{ classes: 3, image_size: 32 }))",
                "dataset(\"shapes\", #{ images: 8, size: 64 }).show()",
                "show([1, 2, 3])",
            ],
            &["display", "view"],
        ),
        call: show,
    },
    Binding {
        signature: Signature {
            name: "table",
            summary: "A table of a list of maps (a row each), a map or a report",
            group: "results",
            args: &[Arg::new("x", ArgKind::OneOf(&[ArgKind::List, ArgKind::Map, ArgKind::Report]))],
            returns: "table",
            fields: TableOptions::FIELDS,
            examples: &["table([#{ model: \"a\", map50: 0.81 }, #{ model: \"b\", map50: 0.79 }], #{ columns: [\"model\", \"map50\"] })"],
            keywords: &["rows", "columns", "grid"],
        },
        call: table,
    },
    Binding {
        signature: signature(
            ("results", "save"),
            "Writes a model (.onnx, .safetensors, .xml of OpenVINO, .tflite), tensors (.npy, .npz, .pb), a report (.html, .json, .csv; .png, .svg: its plots, x.png, x-2.png, …), \
             predictions (.jpg, folder, .coco.json), a dataset (folder or .yaml: YOLO, .json: COCO, with its images; .png: a grid of images; .html), \
             lists and maps (.json, or as a table .csv, .html, .txt) or text; missing folders are made",
            &[Arg::new("x", ArgKind::Any), Arg::new("path", ArgKind::Text)],
            "nothing",
            &[],
            &["write", "export", "store", "file"],
        ),
        call: save,
    },
    Binding {
        signature: signature(
            ("results", "round_to"),
            "A number rounded to so many digits after the point",
            &[Arg::new("x", ArgKind::Number), Arg::new("digits", ArgKind::Int)],
            "number",
            &["round_to(2.0 / 3, 2)"],
            &["round", "format", "digits"],
        ),
        call: round_to,
    },
    Binding {
        signature: Signature {
            name: "plot",
            summary: "A plot of a report or dataset, of a list of numbers, of [x, y] or of [x, y, name], or of a map of such lists; with a path \
                      (.png, .svg, .html), saved",
            group: "results",
            args: &[
                Arg::new("x", ArgKind::OneOf(&[ArgKind::List, ArgKind::Map, ArgKind::Report, ArgKind::Dataset])),
                Arg::optional("path", ArgKind::Text),
            ],
            returns: "plot",
            fields: PlotOptions::FIELDS,
            examples: &[
                "plot([3.0, 2.1, 1.7])",
                "plot(#{ train: [3, 2, 1], val: [3.2, 2.5, 2.2] }, #{ title: \"Loss\", x: \"epoch\", log_y: true })",
                "plot([[2.8, 0.97, \"base\"], [1.3, 0.96, \"pruned\"]], #{ kind: \"points\", x: \"ms\", y: \"mAP50\" })",
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

fn show(c: &Call<'_>) -> Result<Dynamic> {
    if let Some(m) = c.arg(0).read_lock::<ModelValue>() {
        c.shared.output().show(&m.model.summary()?)?;
    } else if let Some(d) = c.arg(0).read_lock::<Dataset>() {
        c.shared.output().show(&*d)?;
    } else {
        show_value(c.shared.output(), c.arg(0))?;
    }
    Ok(Dynamic::UNIT)
}

fn table(c: &Call<'_>) -> Result<Dynamic> {
    let options: TableOptions = c.options()?;
    let mut table: Table = table_of(c.arg(0), &options.columns)?;
    if let Some(title) = options.title {
        table.title = title;
    }
    Ok(Dynamic::from(table))
}

fn round_to(c: &Call<'_>) -> Result<Dynamic> {
    let digits = i32::try_from(c.int(1)?.clamp(-300, 300)).unwrap_or(0);
    Ok(report::round_to(c.number(0)?, digits).into())
}

fn save(c: &Call<'_>) -> Result<Dynamic> {
    let path = c.text(1)?;
    let path = Path::new(&path);
    let value = c.arg(0);
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    if matches!(ending.as_str(), "yaml" | "yml" | "json" | "")
        && let Some(d) = value.read_lock::<Dataset>()
    {
        // Its folder appears whole.
        let files = d.export(path, &c.ctx)?;
        if files.iter().all(|f| f != path) {
            let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
            c.ctx.note(format!("save: {}", names.join(", ")));
        }
        return Ok(Dynamic::UNIT);
    }
    // ONNX has two targets, and the model as it is.
    if let (Some(m), Some(target)) = (value.read_lock::<ModelValue>(), target::by_ending(&ending)) {
        let deploy = Deploy { target, precision: ExportPrecision::of(m.model.graph()), ..Deploy::default() };
        deploy.run((&m.model, path, None), &c.ctx)?;
        return Ok(Dynamic::UNIT);
    }
    if let Some(p) = value.read_lock::<Report>().filter(|_| path.extension().is_none()) {
        p.save(path)?;
        return Ok(Dynamic::UNIT);
    }
    files::make_parent(path)?;
    if let Some(m) = value.read_lock::<ModelValue>() {
        m.model.save(path)?;
    } else if let Some(r) = value.read_lock::<Report>() {
        r.save(path)?;
        let files = report::files_of(&*r.show, path);
        if files.len() > 1 {
            let list = files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ");
            c.ctx.note(format!("save: {} plots in {list}", files.len()));
        }
    } else if let Some(t) = value.read_lock::<Table>() {
        report::save(&*t, path)?;
    } else if let Some(p) = value.read_lock::<Plot>() {
        report::save(&*p, path)?;
    } else if let Some(d) = value.read_lock::<Dataset>() {
        report::save(&*d, path)?;
    } else if let Some(t) = value.read_lock::<Value>() {
        t.save_as(path)?;
    } else if let Some(tensors) = tensors(value) {
        weights::save_tensors(&tensors, path)?;
    } else if value.is_string() {
        files::write_file(path, value.to_string().as_bytes())?;
    } else {
        save_data(value, path)?;
    }
    Ok(Dynamic::UNIT)
}

/// Lists, maps and numbers: as JSON, or as the table that they make.
fn save_data(value: &Dynamic, path: &Path) -> Result<()> {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    match ending.as_str() {
        "json" => files::write_file(path, format!("{:#}\n", to_json(value)?).as_bytes()),
        "csv" | "html" | "htm" | "txt" | "md" => {
            report::save(&table_of(value, &[]).map_err(|e| e.file(path).hint("save other data as .json"))?, path)
        }
        _ => {
            let e = Error::argument(format!("{} cannot be saved as '.{ending}'", describe(value))).file(path);
            Err(e.hint("lists and maps are saved as .json, or as tables: .csv, .html, .txt"))
        }
    }
}

/// A map of tensors.
fn tensors(value: &Dynamic) -> Option<IndexMap<String, Value>> {
    let map = value.as_map_ref().ok()?;
    let all: Option<IndexMap<String, Value>> = map.iter().map(|(k, v)| Some((k.to_string(), v.read_lock::<Value>()?.clone()))).collect();
    all.filter(|a| !a.is_empty())
}

fn plot(c: &Call<'_>) -> Result<Dynamic> {
    let options: PlotOptions = c.options()?;
    let mut plot = plot_of(c.arg(0))?;
    let shown = c.arg(0).read_lock::<Report>().map_or(1, |r| r.show.plots().len());
    if shown > 1 {
        c.ctx.note(format!("plot: the first of {shown}; plots(x) gives all, save(x, path) writes all"));
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
            Marks::Bars => SeriesKind::Bars,
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
