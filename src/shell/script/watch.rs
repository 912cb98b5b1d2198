//! Keeps an eye on a running script: its time, and the memory that its own lists, maps and texts take.
//!
//! The engine's limits on sizes would count all elements of a list at each call on it. Here a thread looks at what the process has,
//! some hundred times a second, and tells apart what grows inside operations, which ask for memory themselves, from what grows in the
//! script between them. The script is stopped while there is room for the next step to copy all that it holds.

use crate::context::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::memory;
use crate::report::bytes as bytes_text;
use crate::shell::interrupt::{GRACE, leave};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often memory and time are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Less than this is not worth a look at what is free, in bytes.
const NOTABLE: u64 = 64 << 20;
/// A single step of a script may take this many times what the script holds: a list that grows is copied into twice its room.
const STEP: u64 = 2;
/// What is free is asked for this seldom while nothing grows: it takes longer than the rest, in looks.
const SELDOM: u32 = 20;

/// What a session's scripts may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Time that one input may take.
    pub time: Option<Duration>,
    /// Steps that one input may take, such as evaluations of an expression.
    pub operations: Option<u64>,
    /// The process ends when an input that is over its time does not, as one that waits for a line from the user.
    pub hard: bool,
}

/// Why a script is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The limit.
    Time(Duration),
    /// What the script's own values have taken, and what is free.
    Memory(u64, u64),
}

fn overtime(limit: Duration) -> String {
    format!("it took longer than the {} s that --timeout allows", limit.as_secs_f64())
}

/// What the script and its watcher share.
#[derive(Debug, Default)]
pub(super) struct Watch {
    stop: AtomicBool,
    reason: Mutex<Option<Reason>>,
    /// Odd while an operation runs; changes when one begins or ends.
    operation: AtomicU64,
    /// Bytes that the values of the session's scripts have taken so far.
    held: AtomicU64,
    /// Nothing was free at the last look.
    low: AtomicBool,
}

/// Ends the watching of one input when it is dropped.
pub(super) struct Watching {
    over: Option<Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            // It has no way to panic that would matter here.
            let _ = thread.join();
        }
    }
}

/// An operation runs, or a script inside one, until this is dropped.
pub(super) struct Turn<'a>(&'a Watch);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.operation.fetch_add(1, Ordering::Relaxed);
    }
}

impl Watch {
    /// An operation begins; or, inside one, a function of the script.
    pub(super) fn turn(&self) -> Turn<'_> {
        self.operation.fetch_add(1, Ordering::Relaxed);
        Turn(self)
    }
    /// Fails when nothing is free: many small results, kept, are as large as one that would have been asked for.
    ///
    /// # Errors
    /// `Memory`.
    pub(super) fn check(&self) -> Result<()> {
        if self.low.load(Ordering::Relaxed) && memory::free() == Some(0) {
            return Err(Error::new(ErrorKind::Memory, "no memory is left")
                .hint("values that are no longer needed go when their variable takes another: x = ()"));
        }
        Ok(())
    }
    /// Whether the script is to end.
    pub(super) fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
    /// Why the script was ended, if this did it; asked for once.
    pub(super) fn take_reason(&self) -> Option<Error> {
        self.stop.store(false, Ordering::Relaxed);
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(match reason {
            Reason::Time(limit) => Error::new(ErrorKind::Script, overtime(limit)),
            Reason::Memory(held, _) if held < NOTABLE => Error::new(ErrorKind::Memory, "no memory is left"),
            Reason::Memory(held, free) => {
                let text = format!(
                    "the script's own values take {} and would soon take more than there is ({} free)",
                    bytes_text(held),
                    bytes_text(free)
                );
                Error::new(ErrorKind::Memory, text).hint("does a loop or a recursion ever stop?")
            }
        })
    }
    fn end(&self, reason: Reason, cancel: &Cancel) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.stop.store(true, Ordering::Relaxed);
        // Operations know nothing else.
        if matches!(reason, Reason::Time(_)) {
            cancel.cancel();
        }
    }
    /// Watches one input until the result is dropped.
    pub(super) fn begin(self: &Arc<Self>, limits: Limits, cancel: &Cancel) -> Watching {
        let (over, ended) = channel();
        let (watch, cancel) = (self.clone(), cancel.clone());
        let look = move || {
            let start = Instant::now();
            let mut memory = Memory::default();
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if let Some(limit) = limits.time.filter(|&l| start.elapsed() >= l) {
                    watch.end(Reason::Time(limit), &cancel);
                    if limits.hard && start.elapsed() >= limit + GRACE {
                        // Standard error may be full.
                        let _ = writeln!(std::io::stderr(), "error: {}", overtime(limit));
                        leave(1);
                    }
                }
                if let Some(reason) = memory.look(&watch) {
                    watch.end(reason, &cancel);
                }
            }
        };
        // Without a thread there is no watching; scripts run all the same.
        let thread = std::thread::Builder::new().name("watch".into()).stack_size(256 << 10).spawn(look).ok();
        Watching { over: Some(over), thread }
    }
}

/// Memory as it was at the last look.
#[derive(Default)]
struct Memory {
    resident: Option<u64>,
    operation: u64,
    looks: u32,
}

impl Memory {
    /// Looks once; the reason to stop, if there is one.
    fn look(&mut self, watch: &Watch) -> Option<Reason> {
        let now = memory::resident()?;
        let operation = watch.operation.load(Ordering::Relaxed);
        let own = operation == self.operation && operation.is_multiple_of(2);
        self.operation = operation;
        let before = self.resident.replace(now)?;
        let held = watch.held.load(Ordering::Relaxed);
        let held = if own { held.saturating_add(now).saturating_sub(before) } else { held };
        watch.held.store(held, Ordering::Relaxed);
        self.looks += 1;
        if now <= before && !self.looks.is_multiple_of(SELDOM) {
            return None;
        }
        let free = memory::free()?;
        watch.low.store(free == 0, Ordering::Relaxed);
        let stop = free == 0 || (held > NOTABLE && free < held.saturating_mul(STEP));
        (own && stop).then_some(Reason::Memory(held, free))
    }
}
