//! Tables.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub enum Align {
    #[default]
    Left,
    Right,
}

/// A table of text cells.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    pub title: String,
    pub headers: Vec<String>,
    /// One per column; missing ones are left-aligned.
    pub aligns: Vec<Align>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column headers. A header that starts with `>` is right-aligned (the mark is dropped).
    pub fn new(title: impl Into<String>, headers: &[&str]) -> Self {
        let aligns = headers.iter().map(|h| if h.starts_with('>') { Align::Right } else { Align::Left }).collect();
        let headers = headers.iter().map(|h| h.trim_start_matches('>').to_string()).collect();
        Self { title: title.into(), headers, aligns, rows: Vec::new() }
    }
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }
}
