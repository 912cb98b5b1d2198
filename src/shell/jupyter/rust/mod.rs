//! The Rust kernel's language: evcxr compiles cells, a process of its own runs them.
//!
//! Each cell is a shared object that the process loads. All of them load the library through one shared object too, the
//! prelude, so that its state (tensor ids, the session) is one for all cells. Cells depend on the crate `notebook`, which is that prelude.
//! What the process prints goes to the cell; lines marked as an [`Event`] are more than text.

mod build;
mod child;
mod desk;
mod library;
mod parse;
mod render;
mod sources;
mod value;

pub use build::{BuildOptions, build};
pub use library::{Library, Record, default_folder, rustc_version, standard_sources};

use super::{About, Cell, CellError, Completions, Event, IsComplete, Language, Match, Variable};
use crate::error::{Error, Result};
use crate::report::Media;
use crate::shell::script::{find, help_media};
use child::{CellEnd, Child};
use desk::{Desk, Drain, End};
use evcxr::{CommandContext, EvalCallbacks, EvalContext};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use value::Compiled;

/// How front ends treat Rust.
pub const ABOUT: About = About {
    name: "rust",
    version: env!("CARGO_PKG_VERSION"),
    mimetype: "text/rust",
    file_extension: ".rs",
    pygments_lexer: "rust",
    codemirror_mode: "rust",
    banner: concat!("compresso ", env!("CARGO_PKG_VERSION"), ": Rust, compiled cell by cell; help(\"\") lists the functions"),
    help_links: &[("The Rust book", "https://doc.rust-lang.org/book"), ("evcxr", "https://github.com/evcxr/evcxr")],
};

/// What every session begins with. The macros are named, since a glob does not hide those of the language.
const OPENING: &str = "use notebook::*; use notebook::{eprint, eprintln, print, println};";

/// Commands of evcxr that have no place in a notebook, and what has.
const REFUSED: &[(&str, &str)] = &[
    (":fmt", "the notebook shows values itself; format them: format!(\"{:#?}\", x)"),
    (":types", "the notebook shows values itself; :vars lists the types of variables"),
    (":quit", "shut the kernel down in the front end's menu"),
];

/// How a session of Rust cells is started.
#[derive(Debug, Clone, Default)]
pub struct RustOptions {
    /// Folder of the built library; [`default_folder`] when left out.
    pub library: Option<PathBuf>,
    /// Program that runs cells: one whose `main` begins with [`runtime_hook`]. This program when left out.
    pub runtime: Option<PathBuf>,
    /// Threads of the session; those of the machine when left out.
    pub threads: Option<usize>,
    /// Name of the session's device; the CPU when left out.
    pub device: Option<String>,
    /// Seed of the session; 0 when left out.
    pub seed: Option<u64>,
}

/// Runs cells and does not return, when this process was started for that. Call it first in `main`.
pub fn runtime_hook() {
    evcxr::runtime_hook();
}

/// A session of Rust cells.
pub struct RustCells {
    context: CommandContext,
    desk: Arc<Desk>,
    drain: Drain,
    child: Child,
    /// Number of the process that has begun the session.
    begun: u32,
    /// What begins the session in a new process.
    begin: String,
    /// What begins it where all that it had is gone.
    open: String,
}

fn failed(what: &str, e: &evcxr::Error) -> Error {
    Error::internal(what).because(Error::internal(e.to_string()))
}

impl RustCells {
    /// Starts a process for cells.
    ///
    /// # Errors
    /// Those of [`Library::open`]; `Unavailable` without the standard library's sources; `Internal` when evcxr does not start.
    pub fn new(options: &RustOptions) -> Result<Self> {
        let folder = options.library.clone().map_or_else(default_folder, Ok)?;
        let library = Library::open(&folder)?;
        if !standard_sources()? {
            let e = Error::unavailable("the sources of Rust's standard library are missing");
            return Err(e.hint("install them: rustup component add rust-src"));
        }
        let program = match &options.runtime {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(|e| Error::internal("the path of this program is unknown").because(e))?,
        };
        let mut command = Command::new(program);
        // A group of its own, so that what cells start ends with them.
        command.process_group(0);
        if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
            // As for the command line: candle's own threads get in the way of the library's.
            command.env("CANDLE_NUM_THREADS", "1");
        }
        let started = EvalContext::with_subprocess_command(command);
        let (mut context, streams) = started.map_err(|e| failed("the process for cells does not start", &e))?;
        let (desk, drain) = Desk::new(streams.stdout, streams.stderr);
        let mut state = context.state();
        state.set_build_env("RUSTFLAGS", &library.flags(state.linker()));
        let dependency = format!("{{ path = {:?} }}", library.notebook().display().to_string());
        state.add_dep("notebook", &dependency).map_err(|e| failed("cells cannot depend on the library", &e))?;
        let begin = begin(options);
        let open = format!(":dep notebook = {dependency}\n{OPENING}\n{begin}");
        desk.begin(None);
        let opened = context.eval_with_state(&format!("{OPENING}\n{begin}"), state);
        opened.map_err(|e| failed("the library cannot be loaded into cells", &e))?;
        if let (_, Some(End::Error { message, .. } | End::Panic { message, .. })) = drain.finish() {
            return Err(Error::argument(message));
        }
        let mut context = CommandContext::with_eval_context(context);
        let child = Child::new(context.process_handle(), crate_folder(&mut context));
        Ok(Self { context, desk, drain, begun: child.id(), child, begin, open })
    }

    /// Runs code for a cell, or for nobody.
    fn run(&mut self, code: &str, cell: Option<&Cell>) -> Result<Vec<Media>, CellError> {
        let compiled = Compiled::of(code);
        let outputs = cell.map(|c| c.outputs.clone());
        self.desk.begin(outputs.clone());
        let drain = &self.drain;
        let mut callbacks = EvalCallbacks {
            input_reader: &|request| {
                let question = drain.question();
                let ask = |prompt: &str| match &outputs {
                    Some(outputs) => outputs.input(prompt, request.is_password),
                    None => Err(Error::unsupported("there is nobody to ask")),
                };
                match question {
                    Some(prompt) => answer(ask(&prompt)),
                    // A crate asks in evcxr's own way; it waits for a line whatever happens.
                    None => ask(&request.prompt).unwrap_or_default().replace(['\n', '\r'], " "),
                }
            },
        };
        let result = self.context.execute_with_callbacks(&compiled.code, &mut callbacks);
        let (value, end) = self.drain.finish();
        let name = cell.map_or_else(|| "expression".to_string(), |c| format!("cell {}", c.number));
        match result {
            Ok(outputs) => match end {
                // The first is of commands, and of what has an `evcxr_display`.
                None => Ok(forms(outputs.content_by_mime_type).into_iter().chain(value).collect()),
                Some(End::Error { message, kind }) => {
                    let cancelled = kind.as_deref() == Some("Cancelled");
                    Err(if cancelled { Error::cancelled().into() } else { render::plain(kind.as_deref().unwrap_or("Error"), &message) })
                }
                Some(End::Panic { message, file, line }) => Err(self.panic(&message, &file, line, &name, code)),
            },
            Err(evcxr::Error::CompilationErrors(errors)) => Err(render::compilation(&errors, &name, code, &compiled)),
            Err(evcxr::Error::SubprocessTerminated(status)) => Err(killed(&status)),
            Err(other) if other.to_string().contains("valid UTF-8") => {
                // What follows the bytes would be taken for the next cell's.
                self.child.stop();
                let _ = self.context.execute("()");
                Err(killed("it printed bytes that are no UTF-8 text"))
            }
            Err(other) => Err(render::plain("Error", &other.to_string())),
        }
    }

    /// A panic, with its line of the cell where it happened there.
    fn panic(&self, message: &str, file: &str, line: usize, name: &str, code: &str) -> CellError {
        let message = format!("the code panicked: {message}\n  help: variables from earlier cells are kept");
        // The compiler saw the cell inside of other lines. A line that is there twice is found by its turn.
        let seen = if file == "src/lib.rs" { self.context.last_source().unwrap_or_default() } else { String::new() };
        let seen: Vec<String> = seen.lines().take(line).map(|l| Compiled::line(l).trim().to_string()).collect();
        let text = seen.last().filter(|t| !t.is_empty() && seen.len() == line);
        let turn = seen.iter().filter(|t| Some(*t) == text).count();
        let equal = code.lines().enumerate().filter(|(_, l)| Some(l.trim()) == text.map(String::as_str)).map(|(at, _)| at + 1);
        match equal.take(turn).last() {
            Some(at) => render::at_line("Panic", &message, name, code, at),
            None => render::plain("Panic", &message),
        }
    }

    /// A new process knows nothing of the session yet.
    fn begin(&mut self) -> Result<(), CellError> {
        // `:clear` takes away what the session began with, too.
        let cleared = !self.context.defined_item_names().any(|name| name == "println");
        if self.begun != self.child.id() || cleared {
            let code = if cleared { self.open.clone() } else { self.begin.clone() };
            self.child.replaced();
            self.run(&code, None)?;
            self.begun = self.child.id();
        }
        Ok(())
    }

    /// Runs code that an interrupt ends.
    fn run_until_interrupted(&mut self, code: &str, cell: Option<&Cell>) -> Result<Vec<Media>, CellError> {
        self.begin()?;
        self.child.cell_begins();
        let result = self.run(code, cell);
        // The last call may have ended early and well.
        let ended = result.as_ref().map_or_else(|e| e.message == "cancelled", |_| true);
        match self.child.cell_ends() {
            CellEnd::Interrupted if ended => Err(Error::cancelled().into()),
            CellEnd::Uncompiled => Err(Error::cancelled().into()),
            _ => result,
        }
    }

    /// Types of the variables, by name.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> = self.context.variables_and_types().map(|(n, t)| (n.to_string(), t.to_string())).collect();
        all.sort();
        all
    }
}

/// The call that begins a session in a process. Its `?` has evcxr expect one in every cell; else each cell that has one is
/// compiled twice.
fn begin(options: &RustOptions) -> String {
    let device = options.device.as_ref().map(|d| format!("{d:?}"));
    let or_none = |v: Option<String>| v.map_or_else(|| "None".to_string(), |v| format!("Some({v})"));
    let numbers = [options.threads.map(|n| n.to_string()), options.seed.map(|n| n.to_string())];
    let [threads, seed] = numbers.map(or_none);
    format!("notebook::cell::begin({threads}, {}, {seed})?;", or_none(device))
}

/// The line that answers a question.
fn answer(text: Result<String>) -> String {
    let event = match text {
        Ok(text) => Event::Answer { text },
        Err(e) => Event::Refused { cancelled: e.is_cancelled(), text: e.to_string() },
    };
    event.line().trim_end().to_string()
}

/// Where evcxr writes and compiles cells.
fn crate_folder(context: &mut CommandContext) -> Option<PathBuf> {
    let outputs = context.execute(":last_compile_dir").ok()?;
    Some(PathBuf::from(outputs.get("text/plain")?.trim()))
}

/// What evcxr itself shows of a value. `()` is nothing.
fn forms(by_mime: std::collections::HashMap<String, String>) -> Option<Media> {
    let mut forms: Vec<(String, String)> = by_mime.into_iter().filter(|(_, data)| !data.is_empty()).collect();
    forms.sort();
    for (mime, data) in &mut forms {
        if mime == "text/plain" {
            data.truncate(data.trim_end().len());
        }
    }
    let nothing = forms.is_empty() || matches!(forms.as_slice(), [(_, data)] if data == "()");
    (!nothing).then_some(Media(forms))
}

fn killed(status: &str) -> CellError {
    let status = status.trim();
    let how = status.strip_prefix("Subprocess terminated with status: ").unwrap_or(status);
    let message = "the process was killed: variables are lost".to_string();
    render::plain(
        "ProcessKilled",
        &format!("{message}\n  because: {how}\n  help: the next cell runs in a new process; functions and types are kept"),
    )
}

impl Language for RustCells {
    fn about(&self) -> About {
        ABOUT
    }

    fn execute(&mut self, code: &str, cell: &Cell) -> Result<Option<Media>, CellError> {
        let refused = parse::commands(code).find_map(|c| REFUSED.iter().find(|(name, _)| *name == c));
        if let Some((command, why)) = refused {
            return Err(render::plain("Unsupported", &format!("{command} does nothing here\n  help: {why}")));
        }
        let mut outputs = self.run_until_interrupted(code, Some(cell))?;
        let value = outputs.pop();
        outputs.into_iter().for_each(|m| cell.outputs.display(m));
        Ok(value)
    }

    fn complete(&mut self, code: &str, cursor: usize) -> Completions {
        let Ok(found) = self.context.completions(code, cursor) else {
            return Completions { start: cursor, end: cursor, matches: Vec::new() };
        };
        let mut matches = Vec::with_capacity(found.completions.len());
        for c in found.completions {
            let name = c.code.split(['(', ':', ' ']).next().unwrap_or_default();
            let about = find(name).filter(|_| c.kind == "function").map(|b| b.signature.summary.to_string());
            let about = about.unwrap_or_else(|| if c.label == c.code { String::new() } else { c.label.clone() });
            matches.push(Match { text: c.code, kind: c.kind.into(), about });
        }
        Completions { start: found.start_offset, end: found.end_offset, matches }
    }

    fn inspect(&mut self, code: &str, cursor: usize, detail: u8) -> Option<Media> {
        let end = cursor + code.get(cursor..)?.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len() - cursor);
        let before = code.get(..end)?;
        let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_' && c != ':' && c != '.').map_or(0, |at| at + 1);
        let word = before.get(start..).unwrap_or_default().trim_matches(['.', ':']);
        let help = || help_media(word, detail > 0);
        if word.is_empty() {
            return None;
        }
        if let Some((_, of)) = self.variables().into_iter().find(|(name, _)| name == word) {
            return Some(Media::text(format!("{word}: {of}")));
        }
        match self.context.hover_at(word, word.len()) {
            Ok((text, html)) if !text.contains("No documentation found") => Some(Media::text(text).with("text/html", html)),
            _ => help(),
        }
    }

    /// Names and types; values would have to be compiled.
    fn explore(&mut self, path: &[String]) -> Vec<Variable> {
        let all = if path.is_empty() { self.variables() } else { Vec::new() };
        all.into_iter().map(|(name, kind)| Variable { name, kind, ..Variable::default() }).collect()
    }

    fn is_complete(&mut self, code: &str) -> IsComplete {
        parse::is_complete(code)
    }

    fn warm_up(&mut self) {
        // rust-analyzer reads the crates when it is first asked.
        let code = "let values = vec![1]; values.";
        let _ = self.context.completions(code, code.len());
    }

    fn interrupter(&self) -> Arc<dyn Fn() + Send + Sync> {
        let child = self.child.clone();
        Arc::new(move || child.interrupt())
    }

    fn stopper(&self) -> Arc<dyn Fn() + Send + Sync> {
        let child = self.child.clone();
        Arc::new(move || child.end())
    }

    fn evaluate(&mut self, expression: &str) -> Result<Media, CellError> {
        Ok(self.run_until_interrupted(expression, None)?.into_iter().next().unwrap_or_default())
    }
}
