//! Looking at results and keeping them.

use crate::cell::{remember, send};
use compresso::files::make_parent;
pub use compresso::report::round_to;
use compresso::report::{Media, Plot, Series, SeriesKind, Show, Style, Table, media};
use compresso::shell::jupyter::Event;
use compresso::shell::script::{help_text, overview};
use compresso::{Error, Result};
use std::path::Path;

/// All outputs of a value; what cannot be drawn says why.
pub(crate) fn all(value: &impl Show) -> Vec<Media> {
    media(value).unwrap_or_else(|e| vec![Media::text(e.to_string())])
}

/// Shows a value: a model's layers, a dataset's classes, sizes and images, a report's tables and plots.
pub fn show(value: &impl Show) {
    let has_more = !value.tables().is_empty() || !value.plots().is_empty() || !value.pictures().is_empty();
    let outputs = match value.line() {
        Some(line) if !has_more => vec![Media::text(line)],
        _ => all(value),
    };
    outputs.into_iter().for_each(|m| send(&Event::Display { media: m.0 }));
}

/// Shows HTML.
pub fn show_html(html: &str) {
    send(&Event::Display { media: Media::text(html).with("text/html", html).0 });
}

/// Writes a value in the format that the path's ending names: a model (.onnx, .safetensors), tensors (.npy, .npz, .pb), a
/// report (.html, .json, .csv, .png, .svg), predictions (.jpg, folder, .coco.json), a dataset (.yaml: YOLO, .json: COCO).
/// Missing folders are made.
///
/// # Errors
/// `Argument` for an unknown ending; `Io`.
pub fn save(value: &impl Show, path: &str) -> Result<()> {
    let path = Path::new(path);
    make_parent(path).and_then(|()| value.save_as(path)).inspect_err(remember)
}

/// A table of rows under their headers; a header that begins with `>` is of numbers, which stand at the right.
///
/// `table("Models", &[">ratio", ">map50"], results.iter().map(|r| [r.0, r.1]))`
pub fn table<R, C>(title: &str, headers: &[&str], rows: impl IntoIterator<Item = R>) -> Table
where
    R: IntoIterator<Item = C>,
    C: std::fmt::Display,
{
    let mut table = Table::new(title, headers);
    for row in rows {
        table.row(row.into_iter().map(|c| c.to_string()));
    }
    table
}

/// What a plot can be made of: a report or dataset, by reference; points; named series of points.
pub trait Plotted {
    /// # Errors
    /// `Missing` for a report without a plot.
    fn plot(self) -> Result<Plot>;
}

impl<T: Show> Plotted for &T {
    fn plot(self) -> Result<Plot> {
        self.plots().into_iter().next().ok_or_else(|| Error::missing("this has no plot")).inspect_err(remember)
    }
}

/// Numbers over their places.
fn numbered(ys: Vec<f64>) -> Vec<(f64, f64)> {
    ys.into_iter().enumerate().map(|(i, y)| (i as f64, y)).collect()
}

impl<const N: usize> Plotted for [f64; N] {
    fn plot(self) -> Result<Plot> {
        self.to_vec().plot()
    }
}

impl Plotted for Vec<f64> {
    fn plot(self) -> Result<Plot> {
        numbered(self).plot()
    }
}

impl Plotted for Vec<(f64, f64)> {
    fn plot(self) -> Result<Plot> {
        [("", self)].plot()
    }
}

impl<const N: usize> Plotted for [(&str, Vec<(f64, f64)>); N] {
    fn plot(self) -> Result<Plot> {
        let line = |(name, points): (&str, _)| Series { name: name.into(), kind: SeriesKind::Line, points, labels: Vec::new() };
        Ok(Plot { series: self.into_iter().map(line).collect(), ..Plot::default() })
    }
}

impl<const N: usize> Plotted for [(&str, Vec<f64>); N] {
    fn plot(self) -> Result<Plot> {
        self.map(|(name, ys)| (name, numbered(ys))).plot()
    }
}

/// A plot of a report or dataset, of numbers, of points (x, y), or of several such lists with names:
/// `plot([("train", losses), ("val", others)])?`
///
/// # Errors
/// `Missing` for a report without a plot.
pub fn plot(x: impl Plotted) -> Result<Plot> {
    x.plot()
}

/// All plots of a report or dataset, in the order in which they are shown.
pub fn plots(x: &impl Show) -> Vec<Plot> {
    x.plots()
}

/// Prints what there is; with a name, that operation's options, defaults and examples in scripts.
///
/// # Errors
/// `Missing` for an unknown name, with the nearest.
pub fn help(name: &str) -> Result<()> {
    let style = Style::columns(100);
    let text = if name.is_empty() { overview(&style) } else { help_text(name, &style).inspect_err(remember)? };
    println!("{text}");
    Ok(())
}
