//! What the process that runs cells tells the kernel.

use crate::session;
use compresso::shell::jupyter::Event;
use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};

/// Writes an event's line, whole.
pub fn send(event: &Event) {
    let mut out = std::io::stdout().lock();
    // Without a reader there is no notebook to tell.
    let _ = out.write_all(event.line().as_bytes()).and_then(|()| out.flush());
}

/// Prints text that need not end with a line break.
pub fn print(text: &str) {
    match text.strip_suffix('\n') {
        Some(lines) => println!("{lines}"),
        None => send(&Event::Out { text: text.into() }),
    }
}

/// Prints to standard error, in order with what is printed.
pub fn complain(text: &str) {
    send(&Event::Err { text: text.into() });
}

/// Kind and text of the last error that an operation gave.
static LAST: Mutex<Option<(String, String)>> = Mutex::new(None);

/// Remembers an operation's error, so that the kernel can say its kind if it ends the cell.
pub(crate) fn remember(e: &compresso::Error) {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some((format!("{:?}", e.kind()), e.to_string()));
}

/// The text of an error that perhaps ends the cell.
pub fn hold(error: &dyn Display) {
    let text = error.to_string();
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
    let kind = last.filter(|(_, known)| *known == text).map(|(kind, _)| kind);
    send(&Event::Held { text, kind });
}

/// A `?` has ended the cell.
pub fn failed() {
    send(&Event::Failed);
}

/// A panic has ended the cell.
pub fn panicked() {
    send(&Event::Panicked);
}

/// Begins the session in this process: signals cancel operations, panics are told, and the settings given are made.
///
/// # Errors
/// `Argument` or `Unavailable` when a setting is wrong.
pub fn begin(threads: Option<usize>, device: Option<&str>, seed: Option<u64>) -> compresso::Result<()> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let message = panic.payload_as_str().unwrap_or("a value that is no text").to_string();
            let (file, line) = panic.location().map_or_else(Default::default, |l| (l.file().to_string(), l.line()));
            send(&Event::Panic { message, file, line });
        }));
        session::watch_signals();
    });
    session::set(threads, device, seed).inspect_err(remember)
}
