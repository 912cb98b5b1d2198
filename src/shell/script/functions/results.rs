//! Looking at results and keeping them.

use super::experiments::saved;
use super::lists::sorted_rows;
use super::signature;
use super::tensors::tensor_of;
use crate::deploy::{Deploy, ExportPrecision};
use crate::error::{Error, Result};
use crate::files;
use crate::learn::data::Dataset;
use crate::model::{Value, weights};
use crate::operation::{Arg, ArgKind, Operation, Options as _, Signature};
use crate::report::{self, Plot, Show as _, Table};
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::display::{show_value, table_of};
use crate::shell::script::value::{ModelValue, Report, to_json};
use crate::shell::script::words::describe;
use crate::target;
use indexmap::IndexMap;
use rhai::Dynamic;
use std::path::Path;

crate::options! {
    /// Options of `table`.
    pub struct TableOptions {
        /// Columns to show, in this order; all when left out.
        pub columns: Vec<String> = Vec::new(),
        /// The column by whose values the rows stand; with - before its name, the greatest first.
        pub sort: Option<String> = None,
        /// Digits after the point of numbers that are not whole.
        pub digits: Option<usize> = None,
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
            summary: "A table of a list of maps (a row each; columns of text come first, each kind in the order of the alphabet), a map or a report",
            group: "results",
            args: &[Arg::new("x", ArgKind::OneOf(&[ArgKind::List, ArgKind::Map, ArgKind::Report]))],
            returns: "table",
            fields: TableOptions::FIELDS,
            examples: &[
                "table([#{ model: \"a\", map50: 0.81 }, #{ model: \"b\", map50: 0.79 }], #{ columns: [\"model\", \"map50\"] })",
                "table([#{ ratio: 0.2, map50: 0.8 }, #{ ratio: 0.4, map50: 0.71 }], #{ sort: \"-map50\", digits: 3 })",
            ],
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
    let rows: Dynamic = match (&options.sort, c.arg(0).as_array_ref()) {
        (Some(by), Ok(list)) => sorted_rows(&list, by)?.into(),
        (Some(_), Err(_)) => {
            return Err(Error::argument("option 'sort' is for a list of maps").hint("load(\"x.csv\") and report.rows are such lists"));
        }
        (None, _) => c.arg(0).clone(),
    };
    let mut table: Table = table_of(&rows, &options.columns, options.digits)?;
    if let Some(title) = options.title {
        table.title = title;
    }
    Ok(Dynamic::from(table))
}

fn save(c: &Call<'_>) -> Result<Dynamic> {
    let path = c.text(1)?;
    write(c, Path::new(&path))?;
    saved(c, Path::new(&path));
    Ok(Dynamic::UNIT)
}

fn write(c: &Call<'_>, path: &Path) -> Result<()> {
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
        return Ok(());
    }
    // ONNX has two targets, and the model as it is.
    if let (Some(m), Some(target)) = (value.read_lock::<ModelValue>(), target::by_ending(&ending)) {
        let deploy = Deploy { target, precision: ExportPrecision::of(m.model.graph()), ..Deploy::default() };
        deploy.run((&m.model, path, None), &c.ctx)?;
        return Ok(());
    }
    if let Some(p) = value.read_lock::<Report>().filter(|_| path.extension().is_none()) {
        p.save(path)?;
        return Ok(());
    }
    files::make_parent(path)?;
    if let Some(m) = value.read_lock::<ModelValue>() {
        m.model.save(path)?;
        c.shared.keep_saved(&m.model);
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
    } else if ending == "npy" && value.is_array() {
        tensor_of(value)?.save_as(path)?;
    } else if let Some(tensors) = tensors(value) {
        weights::save_tensors(&tensors, path)?;
    } else if value.is_string() {
        files::write_file(path, value.to_string().as_bytes())?;
    } else {
        save_data(value, path)?;
    }
    Ok(())
}

/// Lists, maps and numbers: as JSON, or as the table that they make.
fn save_data(value: &Dynamic, path: &Path) -> Result<()> {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    match ending.as_str() {
        "json" => files::write_file(path, format!("{:#}\n", to_json(value)?).as_bytes()),
        "csv" | "html" | "htm" | "txt" | "md" => {
            report::save(&table_of(value, &[], None).map_err(|e| e.file(path).hint("save other data as .json"))?, path)
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
