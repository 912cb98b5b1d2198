//! Ctrl-C: the first cancels what runs, a later one stops a program that does not answer.

use crate::context::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::time::{Duration, Instant};

/// How long after the first Ctrl-C another one stops the program at once, if the work has not ended by itself.
pub const PATIENCE: Duration = Duration::from_millis(1500);

/// Sets `cancel` on SIGINT and SIGTERM. If the flag is still set when the next signal comes, [`PATIENCE`] or more
/// after the first, the program exits with 130.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn watch_interrupts(cancel: Cancel) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("interrupts".into()).spawn(move || {
        let mut first = Instant::now();
        for _ in signals.forever() {
            if !cancel.is_cancelled() {
                cancel.cancel();
                first = Instant::now();
            } else if first.elapsed() >= PATIENCE {
                std::process::exit(130);
            }
        }
    })?;
    Ok(())
}
