//! Warnings of one opening of a dataset, counted by kind.

use indexmap::IndexMap;
use std::path::Path;

/// Places that a warning names; more are counted.
const NAMED: usize = 5;

/// Warnings of one opening, counted by kind.
#[derive(Default)]
pub(super) struct Warnings {
    kinds: IndexMap<String, (usize, Vec<String>)>,
}

impl Warnings {
    /// Counts one case of `kind` at a place such as `a.txt:3`.
    pub fn add(&mut self, kind: impl Into<String>, place: impl Into<String>) {
        let (count, places) = self.kinds.entry(kind.into()).or_default();
        *count += 1;
        if places.len() < NAMED {
            places.push(place.into());
        }
    }
    /// The kind and the place of the first case.
    pub fn first(&self) -> Option<(&str, &str)> {
        let (kind, (_, places)) = self.kinds.first()?;
        Some((kind, places.first()?))
    }
    /// One line per kind: `2 × box without area, skipped: a.xml:12, b.xml:40`.
    pub fn lines(self) -> Vec<String> {
        let line = |(kind, (count, places)): (String, (usize, Vec<String>))| {
            let more = if count > places.len() { format!(" and {} more", count - places.len()) } else { String::new() };
            format!("{count} × {kind}: {}{more}", places.join(", "))
        };
        self.kinds.into_iter().map(line).collect()
    }
}

/// File name and line, for a warning.
pub(super) fn place(path: &Path, line: usize) -> String {
    format!("{}:{line}", file_name(path))
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// Kinds of warnings that several formats give.
pub(super) const NO_AREA: &str = "box without area, skipped";
pub(super) const NOT_FINITE: &str = "box with a coordinate that is no number, skipped";
pub(super) const OUTSIDE: &str = "box outside its image, skipped";
