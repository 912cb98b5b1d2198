//! Signals, and how the process ends before its work does.
//!
//! The first SIGINT or SIGTERM cancels what runs. A command ends then, at the latest after `GRACE`; a prompt goes on after SIGINT.

use crate::context::Cancel;
use crate::files::discard_partial;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// How long work may take to end by itself, where the process ends with it.
pub const GRACE: Duration = Duration::from_millis(800);
/// At a prompt: how long after the first Ctrl-C another one ends the process, if the work has not ended by itself.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// How long a command that was cancelled may take to write what it had reached.
pub const WRITING: Duration = Duration::from_secs(30);

/// What runs in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// One command, which a signal ends.
    Command,
    /// A prompt, whose variables outlast a cancelled call.
    Prompt,
}

/// The signal that ends this process; 0: none.
static ENDING: AtomicI32 = AtomicI32::new(0);
/// What had been reached is being written.
static WRITES: AtomicBool = AtomicBool::new(false);

/// Sets `cancel` on SIGINT and SIGTERM. The process ends, after it has removed what it was writing, with 130 or 143:
/// `GRACE` after a signal that does not only cancel, and on a second one at once (at a prompt, `PATIENCE` after the first,
/// while the flag is still set).
///
/// # Errors
/// When the handlers cannot be installed.
pub fn watch_interrupts(cancel: Cancel, front: Front) -> std::io::Result<()> {
    // A file that may not grow further is an error of the write, not the end of the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("interrupts".into()).spawn(move || {
        let mut first = Instant::now();
        for signal in signals.forever() {
            let again = cancel.is_cancelled();
            if again && (front == Front::Command || first.elapsed() >= PATIENCE) {
                end(signal, front);
            }
            if !again {
                cancel.cancel();
                first = Instant::now();
            }
            if front == Front::Command || signal == SIGTERM {
                ENDING.store(signal, Ordering::Relaxed);
                std::thread::spawn(move || {
                    std::thread::sleep(GRACE);
                    while WRITES.load(Ordering::Relaxed) && first.elapsed() < WRITING {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    end(signal, front)
                });
            }
        }
    })?;
    Ok(())
}

/// From here on the command writes what it had reached when it was cancelled, and ends: a first signal waits for it.
pub fn write_and_end() {
    WRITES.store(true, Ordering::Relaxed);
}

/// Cancels, and ends the process `GRACE` later, when standard input ends: when the process at its other end does.
///
/// # Errors
/// When no thread can be started.
pub fn tether(cancel: Cancel) -> std::io::Result<()> {
    std::thread::Builder::new().name("tether".into()).spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        cancel.cancel();
        std::thread::sleep(GRACE);
        end(SIGTERM, Front::Command)
    })?;
    Ok(())
}

/// The exit code of what a signal has cancelled.
pub fn cancelled_code() -> u8 {
    if ENDING.load(Ordering::Relaxed) == SIGTERM { 143 } else { 130 }
}

/// Ends the process at once. What it had begun to write is removed.
pub fn leave(code: i32) -> ! {
    discard_partial();
    std::process::exit(code)
}

fn end(signal: i32, front: Front) -> ! {
    if front == Front::Prompt {
        // The line editor may have the terminal in a mode of its own.
        let _ = Command::new("stty").arg("sane").stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
    let (done, told) = std::sync::mpsc::channel();
    // Standard error may be blocked.
    std::thread::spawn(move || {
        let _ = writeln!(std::io::stderr(), "cancelled");
        let _ = done.send(());
    });
    let _ = told.recv_timeout(Duration::from_millis(50));
    leave(128 + signal)
}
