//! How results look: tables, plots, HTML. One description, shown by the terminal, a notebook or a file.

mod axis;
mod canvas;
mod chart;
mod csv;
mod fit;
mod flame;
mod format;
mod glyphs;
mod heat;
mod heat_text;
mod hover;
mod html;
mod labels;
mod marks;
mod media;
mod multiples;
mod picture;
mod plot;
mod plot_data;
mod plot_text;
mod save;
mod strokes;
mod style;
mod table;
mod tensor;
mod terminal;
mod text;
mod wrap;

pub use canvas::{PLOT_SIZE, shortened_to};
pub use chart::{plot_png, plot_size, plot_svg};
pub use csv::{CsvValue, read_csv};
pub use flame::Flame;
pub use format::{bytes, count, counted, millis, number, percent, round_to};
pub use html::{escape, html, html_fragment, html_page, table_html};
pub use marks::{Mark, Pen, class_color, draw_captions, draw_frame, draw_label, draw_marks, fill, label_width, write_text};
pub use media::{Media, media};
pub use picture::Picture;
pub use plot::{HeatMap, Plot, Scale, Series, SeriesKind};
pub use plot_data::plot_tables;
pub use plot_text::plot_text;
pub use save::{FORMATS, files_of, save};
pub use strokes::{draw_dot, draw_line, tint};
pub use style::{Ink, Style};
pub use table::{Align, Best, Cell, Table};
pub use tensor::tensor_line;
pub use terminal::Graphics;
pub use text::{note_text, printable, table_text, text};
pub use wrap::wrapped;

use indexmap::IndexMap;

/// A result that can be shown and read as data.
pub trait Show: Send + Sync {
    /// The tables, in order.
    fn tables(&self) -> Vec<Table>;
    /// The plots, in order.
    fn plots(&self) -> Vec<Plot> {
        Vec::new()
    }
    /// Images, shown where that is possible and saved as .png and .jpg.
    fn pictures(&self) -> Vec<Picture> {
        Vec::new()
    }
    /// Lines under the tables: conditions of a measurement, warnings.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
    /// The same content for scripts: `report.p50_ms` reads a field of this.
    fn data(&self) -> serde_json::Value;
    /// One line that stands for it where a value is shown in passing, as the result of an input; nothing: all of it is shown.
    fn line(&self) -> Option<String> {
        None
    }
    /// Writes it in the format that the path's ending names, as [`save`] does unless the type has formats of its own.
    ///
    /// # Errors
    /// Those of [`save`].
    fn save_as(&self, path: &std::path::Path) -> crate::error::Result<()>
    where
        Self: Sized,
    {
        save(self, path)
    }
    /// What one of these is called, in lower case.
    fn noun() -> &'static str
    where
        Self: Sized,
    {
        "value"
    }
    /// Writes several of these by name to one file, where the type has a format for that.
    ///
    /// # Errors
    /// `Unsupported` for types without one.
    fn save_named(_all: &IndexMap<String, Self>, path: &std::path::Path) -> crate::error::Result<()>
    where
        Self: Sized,
    {
        let e = crate::error::Error::unsupported(format!("several {}s cannot be saved to one file", Self::noun()));
        Err(e.hint("save them one by one").file(path))
    }
}

/// Values by name, such as a model's outputs.
impl<T: Show> Show for IndexMap<String, T> {
    fn tables(&self) -> Vec<Table> {
        let noun = T::noun();
        let mut chars = noun.chars();
        let title: String = chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default();
        let mut table = Table::new(format!("{title}s"), &["name", noun]);
        for (name, value) in self {
            table.row([name.clone(), value.line().unwrap_or_default()]);
        }
        vec![table]
    }
    fn data(&self) -> serde_json::Value {
        self.iter().map(|(name, value)| (name.clone(), value.data())).collect::<serde_json::Map<_, _>>().into()
    }
    fn save_as(&self, path: &std::path::Path) -> crate::error::Result<()> {
        T::save_named(self, path)
    }
}

impl Show for Table {
    fn tables(&self) -> Vec<Table> {
        vec![self.clone()]
    }
    /// The rows as a list of maps from header to number or text.
    fn data(&self) -> serde_json::Value {
        let (headers, rows) = self.plain();
        let row = |r: Vec<serde_json::Value>| headers.iter().cloned().zip(r).collect::<serde_json::Map<_, _>>();
        serde_json::json!({ "title": self.title, "rows": rows.into_iter().map(row).collect::<Vec<_>>() })
    }
}

impl Show for Plot {
    fn tables(&self) -> Vec<Table> {
        Vec::new()
    }
    fn plots(&self) -> Vec<Plot> {
        vec![self.clone()]
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
