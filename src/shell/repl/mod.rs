//! The prompt: reads inputs with editing, history and completion, runs them, shows their values.
//!
//! Ctrl-C while an input is typed drops it; while one runs, cancels it; see [`watch_interrupts`](super::watch_interrupts).

mod commands;
pub(super) mod complete;
mod helper;
pub(super) mod lexer;
pub(super) mod place;
mod transcript;

use super::Console;
use super::script::{Failure, Session};
use crate::error::{Error, Result};
use crate::report::{Ink, Style, millis, wrapped};
use crate::shell::Output;
use commands::{Asked, Memory, Outcome, asked};
use helper::ShellHelper;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;
use transcript::{Input, with_last};

const KEPT_INPUTS: usize = 10_000;

/// Reads inputs and shows their values until Ctrl-D or `:quit`.
///
/// # Errors
/// When the terminal cannot be read.
pub fn run(session: Session, console: &Console) -> Result<()> {
    let style = console.style();
    let session = Rc::new(RefCell::new(session));
    let mut editor = editor(&session, style).map_err(terminal)?;
    let history = history_file();
    if let Some(path) = &history {
        // The first session has none yet.
        let _ = editor.load_history(path);
    }
    let version = concat!("compresso ", env!("CARGO_PKG_VERSION"));
    let about = format!("{version} help() lists the functions, Tab completes, Ctrl-D leaves");
    let about = style.width.map_or(about.clone(), |width| wrapped(&about, width, 2));
    console.print(&match about.strip_prefix(version) {
        Some(rest) => format!("{}{}", style.paint(Ink::Bold, version), style.paint(Ink::Dim, rest)),
        None => about,
    });
    let mut memory = Memory::default();
    memory.earlier.extend(editor.history().iter().cloned());
    let mut prompt = Prompt { session, console, memory, number: 0, last: None };
    console.page_long_texts(true);
    loop {
        let input = match editor.readline(&format!("compresso[{}]> ", prompt.number + 1)) {
            Ok(input) => input,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) if prompt.may_leave(&mut editor)? => return Ok(()),
            Err(ReadlineError::Eof) => continue,
            Err(e) => return Err(terminal(e)),
        };
        if input.trim().is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(input.as_str());
        if let Some(path) = &history {
            // A history that cannot be written is no reason to stop.
            let _ = editor.append_history(path);
        }
        let is_known = |name: &str| prompt.session.borrow().knows(name);
        let asked = asked(&input, is_known);
        let is_script = matches!(asked, Asked::Script(_) | Asked::Time(_) | Asked::TimeOften(_));
        prompt.memory.typed.push((is_script.then_some(prompt.number + 1), input.clone()));
        match asked {
            Asked::Quit if prompt.may_leave(&mut editor)? => return Ok(()),
            Asked::Quit => {}
            Asked::Help(word) => {
                let text = commands::help(&prompt.session.borrow(), word, &style);
                prompt.tell(text.map_err(Failure::new));
            }
            Asked::NoMagic(word) => prompt.tell(Err(commands::no_magic(word).into())),
            Asked::System(command) => prompt.tell(commands::system(command).map(|()| String::new()).map_err(Failure::new)),
            Asked::Command(name, rest) => {
                let done = prompt.memory.command(&mut prompt.session.borrow_mut(), name, rest, &style).map_err(Failure::new);
                match done {
                    Ok(Outcome::Run(script, file)) => prompt.run(&script, file),
                    Ok(Outcome::Print(text)) => prompt.tell(Ok(text)),
                    Err(e) => prompt.tell(Err(e)),
                }
            }
            Asked::Time(code) => {
                let start = Instant::now();
                prompt.run(code, None);
                prompt.tell(Ok(format!("took {}", millis(start.elapsed().as_secs_f64() * 1e3))));
            }
            Asked::TimeOften(code) => prompt.time_often(code),
            Asked::Script(code) => prompt.run(code, None),
        }
    }
}

/// A session at the terminal.
struct Prompt<'a> {
    session: Rc<RefCell<Session>>,
    console: &'a Console,
    memory: Memory,
    /// Of the last script.
    number: usize,
    /// Of the script whose value is `_`.
    last: Option<usize>,
}

impl Prompt<'_> {
    /// Prints a text, or what went wrong.
    fn tell(&self, result: Result<String, Failure>) {
        match result {
            Ok(text) if text.is_empty() => {}
            Ok(text) => self.console.print(&text),
            Err(failure) if failure.is_cancelled() => self.console.eprint(&self.console.style().paint(Ink::Yellow, "cancelled")),
            Err(failure) => self.console.eprint(&failure.render(&self.console.error_style())),
        }
    }

    /// Runs a script, a file's where that has a name, shows its value and keeps it.
    fn run(&mut self, code: &str, file: Option<String>) {
        self.number += 1;
        let session = &mut *self.session.borrow_mut();
        let cancel = session.shared().context().cancel;
        self.memory.begin(session);
        cancel.reset();
        let name = file.unwrap_or_else(|| format!("input {}", self.number));
        let last = self.last;
        let result = session.run(&with_last(code), &name).and_then(|value| {
            session.show(&value)?;
            session.keep(self.number, &value);
            if !value.is_nothing() {
                self.last = Some(self.number);
            }
            Ok(String::new())
        });
        cancel.reset();
        self.memory.end(session);
        if result.is_ok() {
            self.memory.inputs.push(Input { number: self.number, code: code.to_string(), last });
        }
        self.tell(result);
    }

    fn time_often(&mut self, code: &str) {
        self.number += 1;
        let session = &mut *self.session.borrow_mut();
        let cancel = session.shared().context().cancel;
        self.memory.begin(session);
        cancel.reset();
        let told = commands::time_often(session, &with_last(code), &format!("input {}", self.number));
        cancel.reset();
        self.memory.end(session);
        self.tell(told);
    }

    /// Whether the user wants to leave. Asked where what took long would be lost; a second Ctrl-D is a yes.
    fn may_leave(&self, editor: &mut Editor<ShellHelper, FileHistory>) -> Result<bool> {
        let lost = self.session.borrow().unsaved();
        if lost.is_empty() {
            return Ok(true);
        }
        let question = format!("not saved: {}. Leave? [y/N] ", lost.join(", "));
        match editor.readline(&question) {
            Ok(answer) => Ok(matches!(answer.trim(), "y" | "Y" | "yes")),
            Err(ReadlineError::Eof) => Ok(true),
            Err(ReadlineError::Interrupted) => Ok(false),
            Err(e) => Err(terminal(e)),
        }
    }
}

fn editor(session: &Rc<RefCell<Session>>, style: Style) -> rustyline::Result<Editor<ShellHelper, FileHistory>> {
    let config = Config::builder()
        .max_history_size(KEPT_INPUTS)?
        .history_ignore_dups(true)?
        .completion_type(CompletionType::List)
        .completion_show_all_if_ambiguous(true)
        .auto_add_history(false)
        .bracketed_paste(true)
        .indent_size(2)
        .tab_stop(4)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(ShellHelper::new(session.clone(), style)));
    Ok(editor)
}

fn terminal(e: ReadlineError) -> Error {
    Error::internal("the terminal cannot be read").because(e)
}

/// `COMPRESSO_HISTORY`, else `compresso/history` in the user's data folder, which is made.
fn history_file() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("COMPRESSO_HISTORY") {
        return (!path.is_empty()).then(|| path.into());
    }
    let folder = super::data_folder()?;
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}
