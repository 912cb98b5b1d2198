//! The Rhai kernel's language: the same session as the prompt's.

use super::magics::{self, Magic};
use super::progress::Progress;
use super::reads::{Names, names};
use super::stale::Cells;
use super::{About, Cell, CellError, Completions, IsComplete, Language, Match, Outputs, Variable};
use crate::context::{Cancel, Context, ProgressSink};
use crate::error::{Error, Result};
use crate::report::{Ink, Media, Show, Style, media, millis};
use crate::shell::Output;
use crate::shell::repl::complete::{Suggestion, complete};
use crate::shell::repl::lexer::{TokenKind, tokens};
use crate::shell::script::{Completeness, Failure, Session, help_media};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How front ends treat Rhai. Its syntax is close to Rust's, which they can highlight.
pub const ABOUT: About = About {
    name: "rhai",
    version: env!("CARGO_PKG_VERSION"),
    mimetype: "text/x-rustsrc",
    file_extension: ".rhai",
    pygments_lexer: "rust",
    codemirror_mode: "rust",
    banner: concat!("compresso ", env!("CARGO_PKG_VERSION"), ": help() lists the functions"),
    help_links: &[("The Rhai book", "https://rhai.rs/book")],
};

/// Columns of text outputs.
const WIDTH: usize = 100;

/// What the session prints and reports, sent to the cell that runs.
#[derive(Default)]
struct Desk {
    now: Mutex<Option<(Arc<dyn Outputs>, Progress)>>,
}

impl Desk {
    fn with<T>(&self, f: impl FnOnce(&Arc<dyn Outputs>, &mut Progress) -> T) -> Option<T> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.as_mut().map(|(outputs, progress)| f(outputs, progress))
    }
    fn outputs(&self) -> Option<Arc<dyn Outputs>> {
        self.with(|outputs, _| outputs.clone())
    }
    fn begin(&self, cell: &Cell) {
        let now = Some((cell.outputs.clone(), Progress::new(cell.outputs.clone())));
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
    fn end(&self) {
        self.with(|_, progress| progress.end());
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Output for Desk {
    fn style(&self) -> Style {
        Style::columns(WIDTH)
    }
    fn print(&self, text: &str) {
        if let Some(outputs) = self.outputs() {
            outputs.stdout(&format!("{text}\n"));
        }
    }
    fn eprint(&self, text: &str) {
        if let Some(outputs) = self.outputs() {
            outputs.stderr(&format!("{text}\n"));
        }
    }
    fn show(&self, report: &dyn Show) -> Result<()> {
        media(report)?.into_iter().for_each(|m| self.display(m));
        Ok(())
    }
    fn is_notebook(&self) -> bool {
        true
    }
    fn display(&self, media: Media) {
        if let Some(outputs) = self.outputs() {
            outputs.display(media);
        }
    }
    fn input(&self, prompt: &str) -> Result<String> {
        match self.outputs() {
            Some(outputs) => outputs.input(prompt, false),
            None => Err(Error::unsupported("there is nobody to ask here")),
        }
    }
    fn clear(&self, wait: bool) {
        if let Some(outputs) = self.outputs() {
            outputs.clear(wait);
        }
    }
}

impl ProgressSink for Desk {
    fn start(&self, id: u64, label: &str, total: u64) {
        self.with(|_, p| p.start(id, label, total));
    }
    fn update(&self, id: u64, done: u64, message: &str) {
        self.with(|_, p| p.update(id, done, message));
    }
    fn finish(&self, id: u64) {
        self.with(|_, p| p.finish(id));
    }
    fn note(&self, line: &str) {
        // Front ends paint standard error as a failure.
        self.print(line);
    }
}

/// A session behind a kernel.
pub struct RhaiCells {
    session: Session,
    desk: Arc<Desk>,
    cancel: Cancel,
    /// Code that ran well, for `%save`.
    ran: Vec<String>,
    cells: Cells,
    #[cfg(feature = "evcxr")]
    rust: super::rust_magic::RustMagic,
}

impl RhaiCells {
    /// A session that runs under `context`, whose progress and notes go to the cell that runs.
    pub fn new(context: Context) -> Self {
        let desk = Arc::new(Desk::default());
        let cancel = context.cancel.clone();
        let session = Session::new(context.with_progress(desk.clone()), desk.clone());
        Self {
            session,
            desk,
            cancel,
            ran: Vec::new(),
            cells: Cells::default(),
            #[cfg(feature = "evcxr")]
            rust: super::rust_magic::RustMagic::default(),
        }
    }

    /// How `%%rust` cells are started.
    #[cfg(feature = "evcxr")]
    #[must_use]
    pub fn with_rust(mut self, options: super::rust::RustOptions) -> Self {
        self.rust = super::rust_magic::RustMagic::new(options);
        self
    }

    /// Runs one piece of a cell; the value's outputs.
    fn run(&mut self, code: &str, name: &str) -> Result<Vec<Media>, Failure> {
        let value = self.session.run(code, name)?;
        Ok(self.session.media(&value)?)
    }

    fn cell(&mut self, code: &str, cell: &Cell) -> Result<Vec<Media>, CellError> {
        let name = format!("cell {}", cell.number);
        let parts = magics::parse(code)?;
        let mut last = Vec::new();
        for part in parts {
            // Only the last value is shown.
            last.clear();
            match part {
                Magic::Code(code) => {
                    last = self.run(&code, &name)?;
                    self.ran.push(code.trim().to_string());
                }
                Magic::Time(code) => {
                    let start = Instant::now();
                    let result = self.run(&code, &name);
                    cell.outputs.stdout(&format!("took {}\n", millis(start.elapsed().as_secs_f64() * 1000.0)));
                    last = result?;
                    self.ran.push(code.trim().to_string());
                }
                Magic::Load(path) => cell.outputs.set_next_input(&magics::load(&path)?),
                Magic::Save(path) => {
                    magics::save(&path, &self.ran)?;
                    cell.outputs.stdout(&format!("{} inputs are in {path}\n", self.ran.len()));
                }
                Magic::About(name) => match self.about_name(&name, 1) {
                    Some(media) => cell.outputs.page(media),
                    None => return Err(Error::missing(format!("nothing is known of '{name}'")).into()),
                },
                Magic::Stale => cell.outputs.stdout(&magics::stale(&self.cells.stale())),
                Magic::Help => cell.outputs.stdout(magics::HELP),
                Magic::Rust(code) => last.extend(self.rust(&code, cell)?),
            }
        }
        Ok(last)
    }

    /// Runs a cell and finds out which others are stale now.
    fn watched(&mut self, code: &str, cell: &Cell) -> Result<Vec<Media>, CellError> {
        if cell.id.is_none() {
            return self.cell(code, cell);
        }
        // Cells of Rust have variables of their own.
        let names = if code.trim_start().starts_with("%%rust") { Names::default() } else { names(code) };
        let before = self.session.snapshot();
        let result = self.cell(code, cell);
        let mut made = self.session.changed_since(&before);
        // A function is its text.
        made.extend(names.functions.into_iter().map(|name| (name, Some(code.to_string()))));
        self.cells.ran(cell, names.read, made);
        result
    }

    /// What a variable is, or the help of a function.
    fn about_name(&self, name: &str, detail: u8) -> Option<Media> {
        let Some((kind, value)) = self.session.describe(name) else { return help_media(name, detail > 0) };
        let mut text = format!("{name}: {kind}\n{value}");
        let fields = self.session.fields(name);
        if !fields.is_empty() {
            let width = fields.iter().map(|f| f.0.len()).max().unwrap_or(0);
            text += "\n\nFields";
            fields.iter().for_each(|(name, about)| text += &format!("\n  {name:width$}  {about}"));
        }
        Some(Media::text(text))
    }

    #[cfg(feature = "evcxr")]
    fn rust(&mut self, code: &str, cell: &Cell) -> Result<Option<Media>, CellError> {
        self.rust.execute(code, cell)
    }
    #[cfg(not(feature = "evcxr"))]
    fn rust(&mut self, _: &str, _: &Cell) -> Result<Option<Media>, CellError> {
        Err(super::no_rust().into())
    }
}

impl From<Failure> for CellError {
    fn from(failure: Failure) -> Self {
        let cancelled = failure.is_cancelled();
        let message = if cancelled { "cancelled".to_string() } else { failure.error.message().to_string() };
        let style = Style { color: true, ..Style::columns(WIDTH) };
        let text = if cancelled { style.paint(Ink::Yellow, "cancelled") } else { failure.render(&style) };
        Self { name: format!("{:?}", failure.error.kind()), message, traceback: text.lines().map(str::to_string).collect() }
    }
}

impl From<Error> for CellError {
    fn from(error: Error) -> Self {
        Failure::new(error).into()
    }
}

impl Language for RhaiCells {
    fn about(&self) -> About {
        ABOUT
    }

    fn execute(&mut self, code: &str, cell: &Cell) -> Result<Option<Media>, CellError> {
        self.cancel.reset();
        self.desk.begin(cell);
        let result = self.watched(code, cell);
        self.desk.end();
        // The last call may have ended early and well.
        let result = match self.cancel.check() {
            Err(e) if result.is_ok() => Err(CellError::from(e)),
            _ => result,
        };
        self.cancel.reset();
        let mut outputs = result?;
        let value = outputs.pop();
        outputs.into_iter().for_each(|m| cell.outputs.display(m));
        Ok(value)
    }

    fn complete(&mut self, code: &str, cursor: usize) -> Completions {
        let before = code.get(..cursor).unwrap_or(code);
        let after = &code[before.len()..];
        if let Some(found) = magics::complete(before) {
            return found;
        }
        let (start, found) = complete(&self.session, before);
        // Front ends close quotes and brackets themselves.
        let closes = |c: char| after.starts_with(c) && found.iter().any(|s| s.text.ends_with(c));
        let end = before.len() + usize::from(closes('"') || closes('('));
        Completions { start, end, matches: found.into_iter().map(matched).collect() }
    }

    fn inspect(&mut self, code: &str, cursor: usize, detail: u8) -> Option<Media> {
        let before = code.get(..cursor).unwrap_or(code);
        let call = crate::shell::repl::place::cursor(before).call.map(|c| c.0);
        std::iter::once(word_at(code, cursor)).chain(call).find_map(|name| self.about_name(name, detail))
    }

    fn is_complete(&mut self, code: &str) -> IsComplete {
        if code.trim_start().starts_with('%') {
            return IsComplete::Complete;
        }
        match self.session.completeness(code) {
            Completeness::Complete => IsComplete::Complete,
            Completeness::Invalid => IsComplete::Invalid,
            Completeness::Incomplete => IsComplete::Incomplete { indent: "    ".repeat(open_brackets(code)) },
        }
    }

    fn interrupter(&self) -> Arc<dyn Fn() + Send + Sync> {
        let cancel = self.cancel.clone();
        #[cfg(feature = "evcxr")]
        let rust = self.rust.interrupter();
        Arc::new(move || {
            cancel.cancel();
            #[cfg(feature = "evcxr")]
            rust();
        })
    }

    #[cfg(feature = "evcxr")]
    fn stopper(&self) -> Arc<dyn Fn() + Send + Sync> {
        self.rust.stopper()
    }

    fn explore(&mut self, path: &[String]) -> Vec<Variable> {
        let found = self.session.explore(path);
        found.into_iter().map(|e| Variable { name: e.name, kind: e.kind.into(), value: e.value, has_entries: e.has_entries }).collect()
    }

    fn view(&mut self, variable: &str) -> Option<Media> {
        self.session.view(variable)
    }

    fn evaluate(&mut self, expression: &str) -> Result<Media, CellError> {
        self.cancel.reset();
        Ok(self.run(expression, "expression")?.into_iter().next().unwrap_or_default())
    }
}

fn matched(s: Suggestion) -> Match {
    let kind = match s.text.chars().last() {
        Some('(') => "function",
        Some(' ') => "property",
        Some('/') => "path",
        Some('"') => "text",
        _ if crate::shell::repl::lexer::keywords().any(|k| k == s.text) => "keyword",
        _ if s.text.contains(['/', '.']) => "path",
        _ => "instance",
    };
    Match { text: s.text, kind: kind.into(), about: s.about }
}

/// The name around a position, or the one that ends just before an opening bracket there.
fn word_at(code: &str, cursor: usize) -> &str {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let before = code.get(..cursor).unwrap_or(code);
    let before = before.strip_suffix('(').unwrap_or(before);
    let start = before.rfind(|c| !part(c)).map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let end = before.len() + code[before.len()..].find(|c| !part(c)).unwrap_or(code.len() - before.len());
    &code[start..end]
}

/// Brackets that are open at the end of the code.
fn open_brackets(code: &str) -> usize {
    let mut open = 0usize;
    for t in tokens(code).iter().filter(|t| !matches!(t.kind, TokenKind::Text | TokenKind::Comment)) {
        match t.text {
            "(" | "[" | "{" | "#{" => open += 1,
            ")" | "]" | "}" => open = open.saturating_sub(1),
            _ => {}
        }
    }
    open
}

#[cfg(test)]
#[path = "rhai_tests.rs"]
mod tests;
