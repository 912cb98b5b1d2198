//! How results look: tables, plots, HTML. One description, shown by the terminal, a notebook or a file.

mod plot;
mod table;

pub use plot::{Plot, Series, SeriesKind};
pub use table::{Align, Table};

/// A result that can be shown and read as data.
pub trait Show: Send + Sync {
    /// The tables, in order.
    fn tables(&self) -> Vec<Table>;
    /// The plots, in order.
    fn plots(&self) -> Vec<Plot> {
        Vec::new()
    }
    /// Lines under the tables: conditions of a measurement, warnings.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
    /// The same content for scripts: `report.p50_ms` reads a field of this.
    fn data(&self) -> serde_json::Value;
}
