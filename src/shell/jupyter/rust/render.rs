//! Errors of Rust cells as text with places and carets.

use super::super::CellError;
use super::value::Compiled;
use crate::report::{Ink, Style};
use evcxr::CompilationError;
use std::collections::HashSet;
use std::fmt::Write;

/// Errors that are shown; more are counted.
const SHOWN: usize = 10;

fn style() -> Style {
    Style { color: true, ..Style::columns(100) }
}

/// An error without a place.
pub fn plain(name: &str, message: &str) -> CellError {
    let first = message.lines().next().unwrap_or_default().to_string();
    let mut traceback: Vec<String> = message.lines().map(str::to_string).collect();
    if let Some(line) = traceback.first_mut() {
        *line = format!("{} {}", style().paint(Ink::BoldRed, "error:"), style().paint(Ink::Bold, line));
    }
    for line in traceback.iter_mut().skip(1) {
        for (label, ink) in [("because:", Ink::Yellow), ("help:", Ink::Cyan)] {
            if let Some(rest) = line.trim_start().strip_prefix(label) {
                *line = format!("  {}{rest}", style().paint(ink, label));
                break;
            }
        }
    }
    CellError { name: name.into(), message: first, traceback }
}

/// An error at a line of the cell.
pub fn at_line(name: &str, message: &str, source: &str, code: &str, line: usize) -> CellError {
    let mut e = plain(name, message);
    if let Some(text) = code.lines().nth(line.saturating_sub(1)) {
        let at = e.traceback.len().min(1);
        let width = line.to_string().len();
        let bar = style().paint(Ink::Blue, "|");
        let number = style().paint(Ink::Blue, &line.to_string());
        let place = [
            format!("{:width$}{} {source}:{line}", "", style().paint(Ink::Blue, "-->")),
            format!("{:width$} {bar}", ""),
            format!("{number} {bar} {text}"),
        ];
        e.traceback.splice(at..at, place);
    }
    e
}

/// What the compiler says about a cell.
pub fn compilation(errors: &[CompilationError], source: &str, code: &str, compiled: &Compiled) -> CellError {
    let worst: Vec<&CompilationError> = errors.iter().filter(|e| e.level() != "warning").collect();
    let shown = if worst.is_empty() { errors.iter().collect() } else { worst };
    let mut all: Vec<String> = shown.iter().map(|error| one(error, source, code, compiled)).collect();
    // A place of the cell that evcxr uses several times is wrong several times.
    let mut known = HashSet::new();
    all.retain(|error| known.insert(error.clone()));
    let mut text = all[..all.len().min(SHOWN)].join("\n\n");
    if all.len() > SHOWN {
        let _ = write!(text, "\n\nand {} more", all.len() - SHOWN);
    }
    let message = shown.first().map(|e| e.message()).unwrap_or_default();
    let first = message.lines().next().unwrap_or_default().to_string();
    CellError { name: "CompileError".into(), message: first, traceback: text.lines().map(str::to_string).collect() }
}

/// A label under a piece of a line: columns from 1, the end exclusive.
struct Label {
    line: usize,
    columns: std::ops::Range<usize>,
    text: String,
    primary: bool,
}

fn labels(error: &CompilationError, code: &str, compiled: &Compiled) -> Vec<Label> {
    let mut all = Vec::new();
    for message in error.spanned_messages() {
        let Some(span) = message.span else { continue };
        let length = code.lines().nth(span.start_line.saturating_sub(1)).map_or(0, |l| l.chars().count());
        let column = |of: usize| compiled.column(span.start_line, of);
        let start = column(span.start_column).max(1);
        let end = if span.end_line == span.start_line { column(span.end_column) } else { length + 1 };
        let columns = start..end.max(start + 1);
        all.push(Label { line: span.start_line, columns, text: message.label.clone(), primary: message.is_primary });
    }
    all.sort_by_key(|l| (l.line, l.columns.start));
    all.dedup_by(|a, b| a.line == b.line && a.columns == b.columns && (a.text == b.text || a.text.is_empty()));
    all
}

fn one(error: &CompilationError, source: &str, code: &str, compiled: &Compiled) -> String {
    let style = style();
    let code_name = error.code().map(|c| format!("[{c}]")).unwrap_or_default();
    let message = error.message();
    let mut out = format!("{} {}", style.paint(Ink::BoldRed, &format!("error{code_name}:")), style.paint(Ink::Bold, &message));
    let labels = labels(error, code, compiled);
    let width = labels.iter().map(|l| l.line.to_string().len()).max().unwrap_or(1);
    let bar = style.paint(Ink::Blue, "|");
    let first = labels.iter().find(|l| l.primary).or(labels.first());
    if let Some(first) = first {
        let _ = write!(out, "\n{:width$}{} {source}:{}:{}", "", style.paint(Ink::Blue, "-->"), first.line, first.columns.start);
        let _ = write!(out, "\n{:width$} {bar}", "");
    }
    let mut line = 0;
    for label in &labels {
        let text = code.lines().nth(label.line.saturating_sub(1)).unwrap_or_default().replace('\t', " ");
        if label.line != line {
            if line > 0 && label.line > line + 1 {
                let _ = write!(out, "\n{}", style.paint(Ink::Blue, "..."));
            }
            line = label.line;
            let number = style.paint(Ink::Blue, &format!("{line:>width$}"));
            let _ = write!(out, "\n{number} {bar} {text}");
        }
        let (mark, ink) = if label.primary { ("^", Ink::BoldRed) } else { ("-", Ink::Blue) };
        let marks = mark.repeat(label.columns.len().min(200));
        let said = if label.text.contains(&message) { "" } else { label.text.lines().next().unwrap_or_default() };
        let marks = style.paint(ink, format!("{marks} {said}").trim_end());
        let _ = write!(out, "\n{:width$} {bar} {:skip$}{marks}", "", "", skip = label.columns.start - 1);
    }
    for help in error.help().iter().chain(error.evcxr_extra_hint().map(str::to_string).iter()) {
        let mut lines = help.lines().filter(|l| !l.trim().is_empty());
        let _ = write!(out, "\n{:width$} {} {}", "", style.paint(Ink::Cyan, "help:"), lines.next().unwrap_or_default());
        lines.for_each(|l| out += &format!("\n{:width$}       {l}", ""));
    }
    out
}
