//! Tables.

use super::{bytes, count, number};
use serde::Serialize;
use serde_json::Value;

/// On which side a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub enum Align {
    /// Texts.
    #[default]
    Left,
    /// Numbers.
    Right,
}

/// A table of text cells. Cells that stand for numbers know them, for files that programs read.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// Line above the table.
    pub title: String,
    /// Names of the columns.
    pub headers: Vec<String>,
    /// One per column; missing ones are left-aligned.
    pub aligns: Vec<Align>,
    /// The cells as texts, row by row.
    pub rows: Vec<Vec<String>>,
    /// The numbers behind the cells of each row, where they have any.
    #[serde(skip)]
    exact: Vec<Vec<Option<Exact>>>,
    #[serde(skip)]
    pub(super) layout: Layout,
}

/// What people are shown of a table, and files for programs are not.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    /// Columns that are equal in all rows stand in a line below.
    folds: bool,
    /// Columns that are left out first where there is no room.
    pub minor: Vec<String>,
    /// Columns whose best cell is marked.
    best: Vec<(&'static str, Best)>,
}

/// Which number of a column is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Best {
    /// The least.
    Least,
    /// The greatest.
    Greatest,
}

/// A cell: the text that people read and, where that is rounded or has a unit, the number behind it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    text: String,
    exact: Option<Exact>,
}

/// One number, or two of which the second replaced the first, or none where it is not known.
#[derive(Debug, Clone, PartialEq)]
struct Exact {
    numbers: Vec<f64>,
    unit: &'static str,
}

impl Cell {
    /// `text` for people, `number` for programs.
    pub fn shown(text: impl Into<String>, number: f64) -> Self {
        Self { text: text.into(), exact: Some(Exact { numbers: vec![number], unit: "" }) }
    }
    /// Itself, its number in this unit, which then stands in the header of the column.
    #[must_use]
    pub fn unit(mut self, unit: &'static str) -> Self {
        if let Some(exact) = &mut self.exact {
            exact.unit = unit;
        }
        self
    }
    /// `3.16 M`
    pub fn count(n: u64) -> Self {
        Self::shown(count(n), n as f64)
    }
    /// `12.3 MB`
    pub fn bytes(n: u64) -> Self {
        Self::shown(bytes(n), n as f64).unit("bytes")
    }
    /// `0.8238`
    pub fn number(x: f64) -> Self {
        Self::shown(number(x), x)
    }
    /// `34.5 %`; the number is the share.
    pub fn share(x: f64) -> Self {
        Self::shown(super::percent(x), x).unit("share")
    }
    /// `64 → 48`: two columns for programs.
    pub fn change(before: u64, after: u64) -> Self {
        let numbers = vec![before as f64, after as f64];
        Self { text: format!("{before} → {after}"), exact: Some(Exact { numbers, unit: "" }) }
    }
    /// `unknown`: there is a number, and nothing that tells it. Files for programs leave it out.
    pub fn unknown() -> Self {
        Self { text: "unknown".into(), exact: Some(Exact { numbers: Vec::new(), unit: "" }) }
    }
    /// `–`: there is none, or none was measured.
    pub fn none() -> Self {
        NONE.into()
    }
}

/// What stands for a number that is not there; files for programs leave it out.
const NONE: &str = "–";

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, exact: None }
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}

impl Table {
    /// A table with these column headers. A header that starts with `>` is right-aligned (the mark is dropped).
    pub fn new(title: impl Into<String>, headers: &[&str]) -> Self {
        let aligns = headers.iter().map(|h| if h.starts_with('>') { Align::Right } else { Align::Left }).collect();
        let headers = headers.iter().map(|h| h.trim_start_matches('>').to_string()).collect();
        Self { title: title.into(), headers, aligns, ..Self::default() }
    }
    /// Says once, below the table, what is equal in all its rows.
    #[must_use]
    pub fn folding(mut self) -> Self {
        self.layout.folds = true;
        self
    }
    /// Columns that are left out first, in this order, where there is no room.
    #[must_use]
    pub fn minor(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.layout.minor = columns.into_iter().map(Into::into).collect();
        self
    }
    /// Columns in which the best of several rows is marked.
    #[must_use]
    pub fn best(mut self, columns: &[(&'static str, Best)]) -> Self {
        self.layout.best = columns.to_vec();
        self
    }
    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) -> &mut Self {
        let (texts, exact) = cells.into_iter().map(Into::into).map(|c: Cell| (c.text, c.exact)).unzip();
        // Rows that were put in by hand have no numbers.
        self.exact.resize(self.rows.len(), Vec::new());
        self.rows.push(texts);
        self.exact.push(exact);
        self
    }

    /// The number of columns, of the longest row too.
    pub(super) fn width(&self) -> usize {
        self.rows.iter().map(Vec::len).chain([self.headers.len()]).max().unwrap_or(0)
    }

    /// The table with these of its columns alone.
    pub(super) fn columns(&self, kept: &[usize]) -> Self {
        fn pick<T: Clone + Default>(kept: &[usize], of: &[T]) -> Vec<T> {
            kept.iter().map(|&c| of.get(c).cloned().unwrap_or_default()).collect()
        }
        Self {
            title: self.title.clone(),
            headers: pick(kept, &self.headers),
            aligns: pick(kept, &self.aligns),
            rows: self.rows.iter().map(|r| pick(kept, r)).collect(),
            exact: self.exact.iter().map(|r| pick(kept, r)).collect(),
            layout: self.layout.clone(),
        }
    }

    /// The table without columns that are equal in all rows, and what those say: `runtime native, params 3.01 M`.
    pub(super) fn folded(&self) -> (Self, Option<String>) {
        if !self.layout.folds || self.rows.len() < 2 {
            return (self.clone(), None);
        }
        let same = |c: usize| c > 0 && self.rows.iter().all(|r| r.get(c) == self.rows[0].get(c));
        let (equal, kept): (Vec<usize>, Vec<usize>) = (0..self.width()).partition(|&c| same(c));
        let said = |c: &usize| Some(format!("{} {}", self.headers.get(*c)?, self.rows[0].get(*c)?));
        let line = equal.iter().filter_map(said).collect::<Vec<_>>().join(", ");
        (self.columns(&kept), (!line.is_empty()).then(|| format!("in all rows: {line}")))
    }

    /// Rows and columns of the cells that are the best of theirs; none where all are equal.
    pub(super) fn best_cells(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (header, best) in &self.layout.best {
            let Some(c) = self.headers.iter().position(|h| h == header) else { continue };
            let number = |r: usize| self.number(r, c);
            let numbers: Vec<(usize, f64)> = (0..self.rows.len()).filter_map(|r| Some((r, number(r)?))).collect();
            let least = numbers.iter().map(|n| n.1).fold(f64::INFINITY, f64::min);
            let greatest = numbers.iter().map(|n| n.1).fold(f64::NEG_INFINITY, f64::max);
            let wanted = if *best == Best::Least { least } else { greatest };
            if least < greatest {
                found.extend(numbers.iter().filter(|n| n.1 == wanted).map(|n| (n.0, c)));
            }
        }
        found
    }

    /// The number behind a cell, the first where there are two.
    pub(super) fn number(&self, row: usize, column: usize) -> Option<f64> {
        self.exact(row, column).and_then(|e| e.numbers.first()).copied().filter(|x| x.is_finite())
    }

    fn exact(&self, row: usize, column: usize) -> Option<&Exact> {
        self.exact.get(row)?.get(column)?.as_ref()
    }

    /// The numbers of a cell as a program reads them, none where they are not known; its text where it stands for none. Where the text
    /// is all that is known and the column holds numbers, the number that it says.
    fn values(&self, row: usize, column: usize, not_finite: fn(f64) -> Value) -> Vec<Value> {
        let plain = |x: &f64| {
            let whole = x.fract() == 0.0 && x.abs() < 9e15;
            match () {
                () if !x.is_finite() => not_finite(*x),
                () if whole => Value::from(*x as i64),
                () => Value::from(*x),
            }
        };
        let text = self.rows[row].get(column).map_or("", String::as_str);
        match self.exact(row, column) {
            Some(exact) => exact.numbers.iter().map(plain).collect(),
            None if text == NONE => Vec::new(),
            None if self.aligns.get(column) == Some(&Align::Right) && text.is_empty() => Vec::new(),
            None if self.aligns.get(column) == Some(&Align::Right) => {
                vec![text.parse().ok().filter(|x: &f64| x.is_finite()).map_or_else(|| text.into(), |x| plain(&x))]
            }
            None => vec![text.into()],
        }
    }

    /// The table for programs: headers with units, and numbers instead of texts that round them. A column of changes
    /// becomes two.
    pub fn plain(&self) -> (Vec<String>, Vec<Vec<Value>>) {
        self.plain_with(|_| Value::Null)
    }
    /// As [`Table::plain`]; `not_finite` stands for numbers that JSON does not have.
    pub(super) fn plain_with(&self, not_finite: fn(f64) -> Value) -> (Vec<String>, Vec<Vec<Value>>) {
        let (mut headers, mut columns) = (Vec::new(), Vec::new());
        for (c, header) in self.headers.iter().enumerate() {
            let cells: Vec<&Exact> = (0..self.rows.len()).filter_map(|r| self.exact(r, c)).collect();
            let mut units = cells.iter().filter(|e| !e.numbers.is_empty()).map(|e| e.unit);
            let unit = units.next().filter(|first| !first.is_empty() && units.all(|u| u == *first));
            let name = unit.map_or_else(|| header.clone(), |u| format!("{header} ({u})"));
            if cells.iter().any(|e| e.numbers.len() > 1) {
                headers.extend([format!("{name} before"), format!("{name} after")]);
                columns.push((c, 2));
            } else {
                headers.push(name);
                columns.push((c, 1));
            }
        }
        let row = |r: usize| {
            let cells = columns.iter().flat_map(|&(c, width)| {
                let mut values = self.values(r, c, not_finite);
                values.resize(width, Value::Null);
                values
            });
            cells.collect()
        };
        (headers, (0..self.rows.len()).map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn programs_get_the_numbers_that_people_see_rounded() {
        let mut t = Table::new("T", &["name", ">params", ">size", "channels", ">mAP", ">note"]);
        t.row([
            Cell::from("7"),
            Cell::count(3_157_200),
            Cell::bytes(12_345_678),
            Cell::change(64, 48),
            Cell::number(0.823_761),
            "1.50".into(),
        ]);
        t.row([Cell::from("b"), Cell::none(), Cell::bytes(1), "–".into(), Cell::share(0.5), "none".into()]);
        t.row([Cell::from("c"), Cell::unknown(), Cell::unknown(), Cell::unknown(), "0.5".into(), Cell::unknown()]);
        assert_eq!(t.rows[2], ["c", "unknown", "unknown", "unknown", "0.5", "unknown"]);
        assert_eq!(t.rows[0], ["7", "3.16 M", "12.3 MB", "64 → 48", "0.8238", "1.50"]);
        let (headers, rows) = t.plain();
        assert_eq!(headers, ["name", "params", "size (bytes)", "channels before", "channels after", "mAP", "note"]);
        assert_eq!(json!(rows[0]), json!(["7", 3_157_200, 12_345_678, 64, 48, 0.823_761, 1.5]));
        assert_eq!(json!(rows[1]), json!(["b", null, 1, null, null, 0.5, "none"]));
        assert_eq!(json!(rows[2]), json!(["c", null, null, null, null, 0.5, null]));
        t.rows.push(vec!["d".into()]);
        t.row(["e"]);
        assert_eq!(json!(t.plain().1[3]), json!(["d", null, null, "", null, null, null]));
        assert_eq!(t.plain().1[4][0], "e");
    }
}
