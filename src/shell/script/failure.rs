//! How an error of a script is shown: message, place, causes, suggestion, call trace.

use crate::error::Error;
use crate::report::{Ink, Style, printable, wrapped};
use std::fmt::Write;
use std::sync::Arc;

/// A place in a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// File name, `<eval>`, `input 3`.
    pub source: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters; 0 when only the line is known.
    pub column: usize,
    /// The text of the line.
    pub text: String,
}

/// A script that failed: the error and where it happened.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What went wrong.
    pub error: Arc<Error>,
    /// Where; `None` where no place of the script is known.
    pub at: Option<Spot>,
    /// Script functions that were running, innermost first, each with the place of its call.
    pub trace: Vec<(String, Option<Spot>)>,
}

impl Failure {
    /// Of an error without a place.
    pub fn new(error: Error) -> Self {
        Self { error: Arc::new(error), at: None, trace: Vec::new() }
    }
    /// Whether the user stopped it.
    pub fn is_cancelled(&self) -> bool {
        self.error.is_cancelled()
    }
    /// Message, source line with a caret, causes, suggestion, call trace. Ends without a line break.
    pub fn render(&self, style: &Style) -> String {
        let e = &self.error;
        let mut headline = String::new();
        for place in e.places() {
            let _ = write!(headline, "{place}: ");
        }
        headline += e.message();
        let headline = fitted(&printable(&headline), style, "error: ".len());
        let mut out = format!("{} {}", style.paint(Ink::BoldRed, "error:"), style.paint(Ink::Bold, &headline));
        let bar = style.paint(Ink::Blue, "|");
        let mut indent = 1;
        if let Some(at) = &self.at {
            let number = at.line.to_string();
            indent = number.len() + 1;
            let _ = write!(out, "\n{:>indent$}{} {}", "", style.paint(Ink::Blue, "-->"), place_text(at));
            if !at.text.trim().is_empty() {
                let _ = write!(out, "\n{:indent$} {bar}", "");
                let _ = write!(out, "\n {} {bar} {}", style.paint(Ink::Blue, &number), printable(&at.text.replace('\t', " ")));
                if at.column > 0 {
                    let carets = "^".repeat(word_length(&at.text, at.column));
                    let _ = write!(out, "\n{:indent$} {bar} {:skip$}{}", "", "", style.paint(Ink::BoldRed, &carets), skip = at.column - 1);
                }
            }
        }
        let mut note = |label: &str, ink: Ink, text: &str| {
            let text = fitted(&printable(text), style, indent + label.len() + 2).replace('\n', &format!("\n{:w$}", "", w = indent + 3));
            let _ = write!(out, "\n{:indent$} {} {text}", "", style.paint(ink, label));
        };
        for cause in e.causes() {
            note("because:", Ink::Yellow, &cause);
        }
        if let Some(hint) = e.suggestion() {
            note("help:", Ink::Cyan, hint);
        }
        for (name, at) in &self.trace {
            let at = at.as_ref().map(|s| format!(", called at {}", place_text(s))).unwrap_or_default();
            let name = if name.starts_with("anon$") { "a closure".to_string() } else { format!("{name}()") };
            note("in", Ink::Dim, &format!("{name}{at}"));
        }
        out
    }
}

/// Text that begins at a column, wrapped at words where there is a width.
fn fitted(text: &str, style: &Style, column: usize) -> String {
    match style.width.filter(|w| *w > column + 20) {
        Some(width) => wrapped(text, width - column, 0),
        None => text.to_string(),
    }
}

fn place_text(at: &Spot) -> String {
    if at.column > 0 { format!("{}:{}:{}", at.source, at.line, at.column) } else { format!("{}:{}", at.source, at.line) }
}

/// Characters to underline: the word or number that starts at `column`, else one.
fn word_length(line: &str, column: usize) -> usize {
    let word = |c: &char| c.is_alphanumeric() || *c == '_';
    line.chars().skip(column - 1).take_while(word).count().max(1)
}
