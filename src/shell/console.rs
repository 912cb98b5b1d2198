//! The terminal: standard output for results, standard error for progress and notes.

use super::interrupt::leave;
use super::output::Output;
use crate::context::ProgressSink;
use crate::error::{Error, Result};
use crate::report::{Graphics, Ink, Style, millis, wrapped};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustyline::error::ReadlineError;
use std::collections::HashMap;
use std::io::{IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Work that took less than this leaves no line in a log.
const WORTH_A_LINE: Duration = Duration::from_secs(2);

/// Results on standard output; bars, or plain lines where standard error is no terminal, on standard error.
pub struct Console {
    style: Style,
    /// Style of standard error.
    notes: Style,
    bars: OnceLock<MultiProgress>,
    running: Mutex<HashMap<u64, Work>>,
    terminal: bool,
    graphics: OnceLock<Graphics>,
    /// Texts that exceed the screen go through a pager.
    paged: AtomicBool,
}

struct Work {
    label: String,
    bar: Option<ProgressBar>,
    done: u64,
    message: String,
    start: Instant,
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// In the style that the terminal and the environment (`NO_COLOR`, `TERM`) ask for.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let style = Style::stdout();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb");
        let width = style.width.filter(|_| terminal);
        let notes = Style { color: terminal && !no_color && !dumb, width, ..Style::plain() };
        Self {
            style,
            notes,
            bars: OnceLock::new(),
            running: Mutex::default(),
            terminal: terminal && !dumb,
            graphics: OnceLock::new(),
            paged: AtomicBool::new(false),
        }
    }
    /// The style of error messages.
    pub fn error_style(&self) -> Style {
        self.notes
    }
    /// Prints a line to standard error, above any bars.
    pub fn eprint(&self, text: &str) {
        // There is nowhere to say that standard error cannot be written.
        self.apart(|| drop(writeln!(std::io::stderr(), "{text}")));
    }
    /// Runs `f` with the bars out of the way.
    fn apart(&self, f: impl FnOnce()) {
        match self.bars.get() {
            Some(bars) => bars.suspend(f),
            None => f(),
        }
    }
    /// Ends the process whose results cannot be written: well where a reader wants no more (`| head`), else with an error.
    pub fn unwritten(&self, e: std::io::Error) -> ! {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            leave(0);
        }
        self.eprint(&format!("error: {}", Error::io("<stdout>", e)));
        leave(1)
    }
    /// Whether texts that exceed the screen go through the user's pager; at a prompt only.
    pub fn page_long_texts(&self, on: bool) {
        self.paged.store(on && self.terminal, Ordering::Relaxed);
    }
    /// Shows a text in the pager, if it exceeds the screen and there is one.
    fn page(&self, text: &str) -> bool {
        if !self.paged.load(Ordering::Relaxed) || self.style.width.is_none() {
            return false;
        }
        let Some(rows) = screen_rows().filter(|rows| text.lines().count() >= *rows) else { return false };
        let pager = std::env::var("PAGER").unwrap_or_else(|_| "less".into());
        let words: Vec<&str> = pager.split_whitespace().collect();
        let Some((program, args)) = words.split_first().filter(|(program, _)| **program != "cat" && rows > 1) else { return false };
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            // Colours; what was read stays on the screen.
            command.env("LESS", "-RX");
        }
        let Ok(mut child) = command.spawn() else { return false };
        // A reader who has seen enough closes it.
        let _ = child.stdin.take().map(|mut input| writeln!(input, "{text}"));
        child.wait().is_ok()
    }
    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Work>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output for Console {
    fn style(&self) -> Style {
        self.style
    }
    fn graphics(&self) -> Graphics {
        let known = self.style.graphics;
        // The answer is read from where the user types: what is typed ahead would be taken for it.
        let askable = known == Graphics::None && self.style.unicode && self.style.width.is_some();
        if askable && self.graphics.get().is_none() && typed_ahead() {
            return known;
        }
        *self.graphics.get_or_init(|| if askable && Graphics::is_open() { ask_terminal() } else { known })
    }
    fn print(&self, text: &str) {
        let mut written = Ok(());
        self.apart(|| {
            if self.page(text) {
                return;
            }
            let mut out = std::io::stdout().lock();
            written = writeln!(out, "{text}").and_then(|()| out.flush());
        });
        if let Err(e) = written {
            self.unwritten(e);
        }
    }
    fn eprint(&self, text: &str) {
        Self::eprint(self, text);
    }
    fn input(&self, prompt: &str) -> Result<String> {
        let mut answer = Ok(String::new());
        self.apart(|| answer = ask_user(prompt));
        answer
    }
    fn clear(&self, _: bool) {
        if self.style.width.is_some() {
            self.apart(|| {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(b"\x1b[2J\x1b[H").and_then(|()| out.flush());
            });
        }
    }
}

/// Lines of the screen.
#[cfg(unix)]
fn screen_rows() -> Option<usize> {
    rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_row))
}

/// Whether the terminal has a line that nobody has read.
#[cfg(unix)]
fn typed_ahead() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let input = std::io::stdin();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&at_once)).is_ok_and(|ready| ready > 0)
}

#[cfg(not(unix))]
fn screen_rows() -> Option<usize> {
    None
}

#[cfg(not(unix))]
fn typed_ahead() -> bool {
    false
}

/// A line from the terminal, with editing; or from a pipe.
fn ask_user(prompt: &str) -> Result<String> {
    let failed = |e: &dyn std::fmt::Display| Error::unavailable(format!("the answer to input() cannot be read: {e}"));
    let mut editor = rustyline::DefaultEditor::new().map_err(|e| failed(&e))?;
    match editor.readline(prompt) {
        Ok(line) => Ok(line),
        Err(ReadlineError::Interrupted) => Err(Error::cancelled()),
        Err(ReadlineError::Eof) => Err(Error::missing("input() found no more lines")),
        Err(e) => Err(failed(&e)),
    }
}

impl ProgressSink for Console {
    fn start(&self, id: u64, label: &str, total: u64) {
        let bar = self.terminal.then(|| {
            let bars = self.bars.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12)));
            let bar = bars.add(if total > 0 { ProgressBar::new(total) } else { ProgressBar::no_length() });
            let template = if total > 0 {
                "{prefix} {bar:28.cyan/dim} {pos}/{len}  {per_sec}  {elapsed} < {eta}  {msg:.dim}"
            } else {
                "{prefix} {spinner} {pos}  {elapsed}  {msg:.dim}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─").with_key(
                    "per_sec",
                    |s: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
                        let _ = write!(w, "{}/s", crate::report::number(s.per_sec()));
                    },
                ));
            }
            bar.set_prefix(label.to_string());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let work = Work { label: label.to_string(), bar, done: 0, message: String::new(), start: Instant::now() };
        self.running().insert(id, work);
    }
    fn update(&self, id: u64, done: u64, message: &str) {
        if let Some(work) = self.running().get_mut(&id) {
            work.done = done;
            if work.message != message {
                message.clone_into(&mut work.message);
            }
            if let Some(bar) = &work.bar {
                bar.set_position(done);
                bar.set_message(message.to_string());
            }
        }
    }
    fn finish(&self, id: u64) {
        let Some(work) = self.running().remove(&id) else { return };
        match work.bar {
            Some(bar) => bar.finish_and_clear(),
            None if work.start.elapsed() >= WORTH_A_LINE => {
                let took = millis(work.start.elapsed().as_secs_f64() * 1000.0);
                let message = if work.message.is_empty() { String::new() } else { format!(", {}", work.message) };
                self.eprint(&format!("{}: {} steps in {took}{message}", work.label, work.done));
            }
            None => {}
        }
    }
    fn note(&self, line: &str) {
        let line = self.notes.width.map_or_else(|| line.to_string(), |width| wrapped(line, width, 2));
        self.eprint(&self.notes.paint(Ink::Dim, &line));
    }
}

/// Asks the terminal for its attributes (`ESC [ c`), of which 4 is sixel graphics. A terminal that does not answer in a
/// fifth of a second shows no images.
fn ask_terminal() -> Graphics {
    let answer = || -> Option<String> {
        let tty = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        let stty = |args: &[&str]| {
            let input = tty.try_clone().ok()?;
            let out = Command::new("stty").args(args).stdin(input).stderr(Stdio::null()).output().ok()?;
            out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
        };
        let before = stty(&["-g"])?;
        // Reads return what is there, or nothing after 2 tenths of a second.
        stty(&["-icanon", "-echo", "min", "0", "time", "2"])?;
        let mut answer = Vec::new();
        let mut byte = [0u8; 1];
        if (&tty).write_all(b"\x1b[c").is_ok() {
            while answer.len() < 64 && matches!((&tty).read(&mut byte), Ok(1)) {
                answer.push(byte[0]);
                if byte[0] == b'c' {
                    break;
                }
            }
        }
        stty(&[&before])?;
        String::from_utf8(answer).ok()
    };
    if answer().is_some_and(|a| Graphics::answer_has_sixel(&a)) { Graphics::Sixel } else { Graphics::None }
}
