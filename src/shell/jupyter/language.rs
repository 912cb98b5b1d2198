//! What a kernel needs of a language.

use crate::report::Media;
use std::sync::Arc;

/// Where a running cell's outputs go. Clones are the same cell; calls from any thread keep their order.
pub trait Outputs: Send + Sync {
    /// Text on standard output.
    fn stdout(&self, text: &str);
    /// Text on standard error, which front ends paint as a failure.
    fn stderr(&self, text: &str);
    /// Shows one more output.
    fn display(&self, media: Media);
    /// Shows an output that [`update`](Outputs::update) changes later.
    fn display_as(&self, id: &str, media: Media);
    /// Changes an output shown by [`display_as`](Outputs::display_as).
    fn update(&self, id: &str, media: Media);
    /// Drops what the cell has shown; with `wait` only once there is something new.
    fn clear(&self, wait: bool);
    /// Puts text into the cell after this one has run, in place of its own.
    fn set_next_input(&self, text: &str);
    /// Shows an output beside the notebook, or below the cell where there is no such place.
    fn page(&self, media: Media);
    /// Asks the user for a line of text.
    ///
    /// # Errors
    /// `Unsupported` when the front end takes no input; `Cancelled` after an interrupt.
    fn input(&self, prompt: &str, password: bool) -> crate::Result<String>;
}

/// A cell on its way through a language.
#[derive(Clone)]
pub struct Cell {
    /// Counts from 1; stands in error messages as `cell 3`.
    pub number: usize,
    /// What the front end calls it, the same whenever it runs; not all say.
    pub id: Option<String>,
    /// Cells that are no more.
    pub removed: Vec<String>,
    /// Where what it prints and shows goes.
    pub outputs: Arc<dyn Outputs>,
}

/// A variable, or an entry of one, as explorers list it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variable {
    /// Its name; of an entry, the key or index.
    pub name: String,
    /// Its type, in the language's words.
    pub kind: String,
    /// The value in a line.
    pub value: String,
    /// It has entries of its own.
    pub has_entries: bool,
}

/// Why a cell failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellError {
    /// Kind of the error in one word, such as `Argument`, `Cancelled`, `CompileError`, `Panic`.
    pub name: String,
    /// The message in one line.
    pub message: String,
    /// What is shown: message, place with a caret, hints; may have ANSI colours.
    pub traceback: Vec<String>,
}

/// Suggestions that replace the bytes `start..end` of the code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completions {
    /// First byte that is replaced.
    pub start: usize,
    /// End of the bytes that are replaced.
    pub end: usize,
    /// The best first.
    pub matches: Vec<Match>,
}

/// A suggestion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// What replaces the typed text.
    pub text: String,
    /// `function`, `option`, `instance`, `keyword`, `path`, `magic`, …: front ends show it as an icon.
    pub kind: String,
    /// A word on it; may be empty.
    pub about: String,
}

/// Whether a cell can be run as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IsComplete {
    /// It can be run.
    Complete,
    /// More lines are needed; the next begins with `indent`.
    Incomplete {
        /// White space.
        indent: String,
    },
    /// It has an error that more text does not mend.
    Invalid,
    /// It cannot be told.
    Unknown,
}

/// How front ends treat the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// `rhai`, `rust`.
    pub name: &'static str,
    /// That of this program.
    pub version: &'static str,
    /// MIME type of its source text.
    pub mimetype: &'static str,
    /// `.rhai`, `.rs`.
    pub file_extension: &'static str,
    /// How Pygments is to colour it.
    pub pygments_lexer: &'static str,
    /// How CodeMirror is to colour it.
    pub codemirror_mode: &'static str,
    /// First lines of a console.
    pub banner: &'static str,
    /// Titles and addresses of the front end's help menu.
    pub help_links: &'static [(&'static str, &'static str)],
}

/// A language that a kernel runs. All calls come from one thread, one after the other, but for the interrupter.
pub trait Language {
    /// What front ends are told of it.
    fn about(&self) -> About;
    /// Runs a cell and gives the value of its last expression, if it has one.
    ///
    /// # Errors
    /// What the cell raises. What it changed before stays.
    fn execute(&mut self, code: &str, cell: &Cell) -> Result<Option<Media>, CellError>;
    /// `cursor` is a byte offset.
    fn complete(&mut self, code: &str, cursor: usize) -> Completions;
    /// Help on what stands at the cursor; the signature alone for detail level 0.
    fn inspect(&mut self, code: &str, cursor: usize, detail: u8) -> Option<Media>;
    /// Whether a cell can be run as it is, for consoles.
    fn is_complete(&mut self, code: &str) -> IsComplete;
    /// Does in advance what the first cells would wait for; called when nobody waits.
    fn warm_up(&mut self) {}
    /// Stops the running cell; called from another thread, also when nothing runs.
    fn interrupter(&self) -> Arc<dyn Fn() + Send + Sync>;
    /// Ends at once what would outlive this process; called from another thread when the kernel shuts down.
    fn stopper(&self) -> Arc<dyn Fn() + Send + Sync> {
        Arc::new(|| {})
    }
    /// The variables, or the entries of what a path of names leads to.
    fn explore(&mut self, path: &[String]) -> Vec<Variable>;
    /// All of a variable's value in one output.
    fn view(&mut self, variable: &str) -> Option<Media> {
        let found = self.explore(&[]).into_iter().find(|v| v.name == variable)?;
        Some(Media::text(format!("{}: {}", found.name, found.kind)))
    }
    /// The value of an expression for `user_expressions`, silently.
    ///
    /// # Errors
    /// What it raises.
    fn evaluate(&mut self, expression: &str) -> Result<Media, CellError>;
}
