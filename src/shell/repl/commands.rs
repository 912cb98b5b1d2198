//! What is typed at the prompt and is no script: `:undo`, `%time`, `!ls`, `m?`.

use super::transcript::{Input, script};
use crate::error::{Error, Result, nearest};
use crate::report::{Ink, Style, Table, millis, table_text, wrapped};
use crate::shell::script::{Failure, Session, Snapshot, help_text};
use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What an input asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    Script(&'a str),
    Help(&'a str),
    Quit,
    /// A script whose time is told.
    Time(&'a str),
    /// A script that is run many times for its time.
    TimeOften(&'a str),
    /// A word after `%` that means nothing here.
    NoMagic(&'a str),
    /// A command of the system.
    System(&'a str),
    /// A command after `:` and what follows it.
    Command(&'a str, &'a str),
}

/// The commands after `:`.
pub(super) const COMMANDS: [(&str, &str); 9] = [
    (":help [name]", "the functions, or all of one; ?name and name? say the same, of variables too"),
    (":vars", "the variables and what they are"),
    (":history [word]", "earlier inputs, or those with a word in them"),
    (":undo", "the variables as they were before the last input that changed them"),
    (":save FILE", "writes the inputs that succeeded into a script"),
    (":load FILE", "runs a script here"),
    (":edit", "the last input in $EDITOR, and runs what comes back"),
    (":cd FOLDER", "changes the folder"),
    (":quit", "leaves"),
];

/// Inputs that `:undo` goes back.
const UNDONE: usize = 8;
/// How long `%timeit` repeats a script, and how often at most.
const REPEATED: (Duration, usize) = (Duration::from_secs(1), 1000);

/// `is_known` tells names of variables and functions, of which `!name` is the negation.
pub(super) fn asked(input: &str, is_known: impl Fn(&str) -> bool) -> Asked<'_> {
    let line = input.trim();
    if matches!(line, ":quit" | ":q" | ":exit" | "exit" | "quit" | "exit()" | "quit()") {
        return Asked::Quit;
    }
    if let Some(word) = help_wanted(line) {
        return Asked::Help(word);
    }
    for (word, often) in [("%%timeit", true), ("%timeit", true), ("%%time", false), ("%time", false)] {
        if let Some(code) = line.strip_prefix(word).filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            return if often { Asked::TimeOften(code) } else { Asked::Time(code) };
        }
    }
    if let Some(word) = line.strip_prefix('%').map(|rest| rest.trim_start_matches('%')) {
        return Asked::NoMagic(word.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default());
    }
    if let Some(command) = line.strip_prefix('!') {
        let end = command.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(command.len());
        let first = &command[..end];
        let is_path = command.starts_with(['.', '/', '~']);
        if is_path || !first.is_empty() && !is_known(first) && !matches!(first, "true" | "false") {
            return Asked::System(command);
        }
    }
    match (line, line.strip_prefix(':')) {
        ("history()", _) => Asked::Command("history", ""),
        (_, Some(rest)) => {
            let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            Asked::Command(name, rest.trim())
        }
        _ => Asked::Script(input),
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

/// Help on a function, or what is known of a variable.
///
/// # Errors
/// `Missing` for a word that is neither.
pub(super) fn help(session: &Session, word: &str, style: &Style) -> Result<String> {
    let Some((kind, value)) = session.describe(word) else { return help_text(word, style) };
    let line = format!("{} is a {kind}: {}", style.paint(Ink::Bold, word), first_line(&value, 300));
    let mut out = style.width.map_or(line.clone(), |width| wrapped(&line, width, 2));
    let fields = session.fields(word);
    if !fields.is_empty() {
        let mut table = Table::new("Fields", &["field", "meaning"]);
        for (name, about) in fields {
            table.row([name, first_line(&about, 120)]);
        }
        out += &format!("\n{}", table_text(&table, style));
    }
    Ok(out)
}

/// The error for `%foo`.
pub(super) fn no_magic(word: &str) -> Error {
    const KNOWN: [&str; 2] = ["time", "timeit"];
    let e = Error::argument(format!("there is no %{word}"));
    match nearest(word, KNOWN) {
        Some(near) => e.hint(format!("did you mean %{near}?")),
        None if COMMANDS.iter().any(|c| c.0[1..].split(' ').next() == Some(word)) => e.hint(format!("write :{word}")),
        None => e.hint("%time and %timeit tell how long an input takes; :help lists the commands that begin with a colon"),
    }
}

fn first_line(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > most { line.chars().take(most).chain(['…']).collect() } else { line.to_string() }
}

/// What the commands of a session remember.
#[derive(Default)]
pub(super) struct Memory {
    /// Inputs that succeeded.
    pub inputs: Vec<Input>,
    /// All that was typed in this session, with the numbers of scripts.
    pub typed: Vec<(Option<usize>, String)>,
    /// What was typed in earlier sessions.
    pub earlier: Vec<String>,
    /// The variables before each of the last inputs that changed them, and how many inputs had succeeded then.
    before: VecDeque<(Snapshot, usize)>,
}

/// What a command leads to.
pub(super) enum Outcome {
    Print(String),
    /// A script to be run, and the name that errors call it.
    Run(String, Option<String>),
}

impl Memory {
    /// Remembers the variables before an input.
    pub fn begin(&mut self, session: &Session) {
        if self.before.len() == UNDONE {
            self.before.pop_front();
        }
        self.before.push_back((session.snapshot(), self.inputs.len()));
    }

    /// Forgets that again where the input has changed nothing: there is nothing to undo.
    pub fn end(&mut self, session: &Session) {
        if self.before.back().is_some_and(|(snapshot, _)| session.is_as(snapshot)) {
            self.before.pop_back();
        }
    }

    /// # Errors
    /// `Argument` for unknown commands and missing words; `Io`.
    pub fn command(&mut self, session: &mut Session, name: &str, rest: &str, style: &Style) -> Result<Outcome> {
        let needed = |what: &str| {
            if rest.is_empty() { Err(Error::argument(format!(":{name} needs {what}"))) } else { Ok(Path::new(rest)) }
        };
        Ok(Outcome::Print(match name {
            "vars" | "who" => variables(session, style),
            "history" => {
                // Numbers are those of the prompt, by which Out has the values.
                let number = |n: Option<usize>| n.map_or(String::new(), |n| format!("[{n}]"));
                let earlier = self.earlier.iter().map(|input| (None, input));
                let now = self.typed[..self.typed.len().saturating_sub(1)].iter().map(|(n, input)| (*n, input));
                let found = earlier.chain(now).filter(|(_, input)| input.contains(rest));
                let lines: Vec<String> =
                    found.map(|(n, input)| format!("{:>5}  {}", number(n), input.replace('\n', "\n       "))).collect();
                lines[lines.len().saturating_sub(40)..].join("\n")
            }
            "undo" => match self.before.pop_back() {
                Some((snapshot, inputs)) => {
                    session.restore(snapshot);
                    let undone = self.inputs.get(inputs).map(|input| format!(": {}", first_line(&input.code, 60)));
                    self.inputs.truncate(inputs);
                    format!("the variables are as they were before the last input that changed them{}", undone.unwrap_or_default())
                }
                None => return Err(Error::argument("there is nothing left to undo")),
            },
            "save" => {
                let path = needed("a file, such as :save session.rhai")?;
                let (text, left_out) = script(&self.inputs);
                crate::files::write_file(path, text.as_bytes())?;
                let inputs = crate::report::counted(self.inputs.len() - left_out, "input");
                let but = if left_out == 0 { "" } else { "; those that read other values of Out are comments" };
                format!("{inputs} in {}{but}", path.display())
            }
            "load" => {
                let path = needed("a file, such as :load session.rhai")?;
                return Ok(Outcome::Run(crate::files::read_text(path)?, Some(rest.to_string())));
            }
            "edit" => {
                return edited(self.typed.iter().rev().nth(1).map_or("", |input| input.1.as_str())).map(|text| Outcome::Run(text, None));
            }
            "cd" => {
                let path = needed("a folder")?;
                std::env::set_current_dir(path).map_err(|e| Error::io(path, e))?;
                std::env::current_dir().map_err(|e| Error::io(".", e))?.display().to_string()
            }
            other => {
                let names = COMMANDS.iter().map(|c| c.0[1..].split(' ').next().unwrap_or_default());
                let e = Error::argument(format!("there is no command ':{other}'"));
                let all: Vec<String> = COMMANDS.iter().map(|(form, about)| format!("{form:<16} {about}")).collect();
                return Err(match nearest(other, names) {
                    Some(near) => e.hint(format!("did you mean ':{near}'?")),
                    None => e.hint(format!("the commands are\n{}\n%time, %timeit and !ls work too", all.join("\n"))),
                });
            }
        }))
    }
}

fn variables(session: &Session, style: &Style) -> String {
    let mut table = Table::new("", &["variable", "kind", "value"]);
    for (name, kind) in session.variables() {
        let value = session.describe(&name).map(|d| first_line(&d.1, 100)).unwrap_or_default();
        table.row([name, kind.to_string(), value]);
    }
    if table.rows.is_empty() { "there are no variables yet".to_string() } else { table_text(&table, style) }
}

/// A text after the user's editor.
fn edited(text: &str) -> Result<String> {
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let editor = editor.ok_or_else(|| Error::unavailable("no editor is known").hint("export EDITOR=nano before compresso is started"))?;
    let file = tempfile::Builder::new().suffix(".rhai").tempfile().map_err(|e| Error::io("a temporary file", e))?;
    std::fs::write(file.path(), text).map_err(|e| Error::io(file.path(), e))?;
    system(&format!("{editor} '{}'", file.path().display()))?;
    crate::files::read_text(file.path())
}

/// Runs a command of the system at this terminal.
///
/// # Errors
/// `Unavailable` where there is no shell; `Script` for a command that fails, with its exit code.
pub(super) fn system(command: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", command]).status().map_err(|e| Error::unavailable("sh cannot be run").because(e))?;
    if status.success() { Ok(()) } else { Err(Error::new(crate::error::ErrorKind::Script, format!("the command ended with {status}"))) }
}

/// Runs a script again and again, and tells the median and least time of a run.
///
/// # Errors
/// What the script raises.
pub(super) fn time_often(session: &mut Session, code: &str, name: &str) -> Result<String, Failure> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || start.elapsed() < REPEATED.0 && times.len() < REPEATED.1 {
        let began = Instant::now();
        session.run(code, name)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (median, least) = (times[times.len() / 2], times[0]);
    Ok(format!("median {} of {}, least {}", millis(median), crate::report::counted(times.len(), "run"), millis(least)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_told_apart() {
        let known = |name: &str| matches!(name, "done" | "m");
        for (input, wanted) in [
            ("1 + 1", Asked::Script("1 + 1")),
            ("!done", Asked::Script("!done")),
            ("!m.exists && done", Asked::Script("!m.exists && done")),
            ("!true", Asked::Script("!true")),
            ("!ls -l", Asked::System("ls -l")),
            ("!./run.sh", Asked::System("./run.sh")),
            ("%time prune(m)", Asked::Time(" prune(m)")),
            ("%%timeit\nlet a = 1;\na", Asked::TimeOften("\nlet a = 1;\na")),
            ("%timer x", Asked::NoMagic("timer")),
            ("%%foo", Asked::NoMagic("foo")),
            (":undo", Asked::Command("undo", "")),
            (":save a b.rhai", Asked::Command("save", "a b.rhai")),
            ("history()", Asked::Command("history", "")),
            ("?prune", Asked::Help("prune")),
            ("m?", Asked::Help("m")),
            ("help", Asked::Help("")),
            ("exit()", Asked::Quit),
        ] {
            assert_eq!(asked(input, known), wanted, "{input}");
        }
    }
}
