//! The prompt: reads inputs with editing, history and completion, runs them, shows their values.
//!
//! Ctrl-C while an input is typed drops it; while one runs, cancels it; see [`watch_interrupts`](super::watch_interrupts).

pub(super) mod complete;
mod helper;
pub(super) mod lexer;
pub(super) mod place;

use super::Console;
use super::script::{Failure, Session, help_text};
use crate::error::{Error, Result};
use crate::report::{Ink, Style};
use crate::shell::Output;
use helper::ShellHelper;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

const PROMPT: &str = "compresso> ";
const KEPT_INPUTS: usize = 10_000;

/// Reads inputs and shows their values until Ctrl-D or `:quit`.
///
/// # Errors
/// When the terminal cannot be read.
pub fn run(session: Session, console: &Console) -> Result<()> {
    let style = console.style();
    let cancel = session.shared().context().cancel;
    let session = Rc::new(RefCell::new(session));
    let mut editor = editor(&session, style).map_err(terminal)?;
    let history = history_file();
    if let Some(path) = &history {
        // The first session has none yet.
        let _ = editor.load_history(path);
    }
    let version = concat!("compresso ", env!("CARGO_PKG_VERSION"));
    console.print(&format!(
        "{} {}",
        style.paint(Ink::Bold, version),
        style.paint(Ink::Dim, "help() lists the functions, Tab completes, Ctrl-D leaves")
    ));
    let mut number = 0;
    loop {
        let input = match editor.readline(PROMPT) {
            Ok(input) => input,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
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
        let line = input.trim();
        if let Some(word) = help_wanted(line) {
            match help_text(word, &style) {
                Ok(text) => console.print(&text),
                Err(e) => console.eprint(&Failure::new(e).render(&console.error_style())),
            }
            continue;
        }
        match line {
            ":quit" | ":q" | ":exit" | "exit" | "quit" => return Ok(()),
            command if command.starts_with(':') => {
                let e = Error::argument(format!("there is no command '{command}'")).hint("the commands are :help and :quit");
                console.eprint(&Failure::new(e).render(&console.error_style()));
            }
            _ => {
                number += 1;
                cancel.reset();
                let result = evaluate(&mut session.borrow_mut(), &input, number);
                cancel.reset();
                if let Err(failure) = result {
                    let text =
                        if failure.is_cancelled() { style.paint(Ink::Yellow, "cancelled") } else { failure.render(&console.error_style()) };
                    console.eprint(&text);
                }
            }
        }
    }
}

/// The word that help is asked for, empty for the overview: `help`, `:help prune`, `?prune`, `prune?`.
fn help_wanted(line: &str) -> Option<&str> {
    let word = match line.strip_prefix('?').or_else(|| line.strip_suffix('?')) {
        Some(word) => word,
        None => {
            let rest = [":help", ":h", "help"].iter().find_map(|command| line.strip_prefix(command))?;
            Some(rest).filter(|rest| rest.is_empty() || rest.starts_with(' '))?
        }
    };
    let word = word.trim();
    word.chars().all(|c| c.is_alphanumeric() || c == '_').then_some(word)
}

fn evaluate(session: &mut Session, input: &str, number: usize) -> Result<(), Failure> {
    let value = session.run(input, &format!("input {number}"))?;
    Ok(session.show(&value)?)
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
