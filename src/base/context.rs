//! What an operation runs under: device, threads, seed, cancellation, progress.

use crate::error::{Error, Result};
use candle_core::{Device, DeviceLocation};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A flag that a signal handler (or a kernel's interrupt) sets and long loops check.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }
    /// The shared flag, for a signal handler.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
    /// Sets the flag: long work ends soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// Clears the flag, for the next work.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    /// `Err(cancelled)` once the flag is set. Long loops call this at least every 100 ms.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// Receives the progress of long work. The shell draws bars, a kernel updates a display, tests ignore it.
pub trait ProgressSink: Send + Sync {
    /// Work of `total` steps begins (0: unknown). The id is unique in this process.
    fn start(&self, id: u64, label: &str, total: u64);
    /// `done` steps are done; `message` is a short note such as `loss 1.23`.
    fn update(&self, id: u64, done: u64, message: &str);
    /// The work ended, well or not.
    fn finish(&self, id: u64);
    /// A line for the user that is not a result, such as a warning.
    fn note(&self, line: &str);
}

/// Drops all progress.
#[derive(Debug, Default)]
pub struct Silent;

impl ProgressSink for Silent {
    fn start(&self, _: u64, _: &str, _: u64) {}
    fn update(&self, _: u64, _: u64, _: &str) {}
    fn finish(&self, _: u64) {}
    fn note(&self, _: &str) {}
}

/// Keeps notes and drops all else, for programs that show them in their own way.
///
/// ```
/// use compresso_base::context::{Context, Notes};
/// use std::sync::Arc;
/// let notes = Arc::new(Notes::default());
/// Context::new().with_progress(notes.clone()).note("done");
/// assert_eq!(notes.take(), ["done"]);
/// ```
#[derive(Debug, Default)]
pub struct Notes(Mutex<Vec<String>>);

impl Notes {
    /// The lines that have come since this was last called.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ProgressSink for Notes {
    fn start(&self, _: u64, _: &str, _: u64) {}
    fn update(&self, _: u64, _: u64, _: &str) {}
    fn finish(&self, _: u64) {}
    fn note(&self, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_string());
    }
}

/// How much a context tells the user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Neither progress nor notes.
    Silent,
    /// Progress, no notes.
    Progress,
    /// Progress and notes.
    #[default]
    Notes,
}

/// A device as users call it: `cpu`, `cuda:0`.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".to_string(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// What an operation runs under. Cheap to clone; clones share the cancel flag and the progress sink.
#[derive(Clone)]
pub struct Context {
    /// Where tensors live and operations run.
    pub device: Device,
    /// Threads for kernels, loaders and runtimes.
    pub threads: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// What long work is stopped by.
    pub cancel: Cancel,
    /// What is told of it.
    pub verbosity: Verbosity,
    progress: Arc<dyn ProgressSink>,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            seed: 0,
            cancel: Cancel::new(),
            verbosity: Verbosity::default(),
            progress: Arc::new(Silent),
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("device", &self.device).field("threads", &self.threads).field("seed", &self.seed).finish()
    }
}

impl Context {
    /// CPU, all cores, seed 0, no progress.
    pub fn new() -> Self {
        Self::default()
    }
    /// The same with another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
    /// The same with progress reported to `sink`.
    #[must_use]
    pub fn with_progress(mut self, sink: Arc<dyn ProgressSink>) -> Self {
        self.progress = sink;
        self
    }
    /// `Err(cancelled)` once the user has cancelled.
    pub fn check(&self) -> Result<()> {
        self.cancel.check()
    }
    /// Begins a piece of long work of `total` steps (0: unknown). It ends when the handle is dropped.
    pub fn progress(&self, label: &str, total: u64) -> Progress {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let sink: Arc<dyn ProgressSink> = if self.verbosity == Verbosity::Silent { Arc::new(Silent) } else { self.progress.clone() };
        sink.start(id, label, total);
        Progress { sink, cancel: self.cancel.clone(), id, done: 0 }
    }
    /// The same without its notes: for steps whose findings the caller tells in its own way. Progress is shown all the same.
    #[must_use]
    pub fn without_notes(&self) -> Self {
        Self { verbosity: self.verbosity.min(Verbosity::Progress), ..self.clone() }
    }
    /// Tells the user something that is not a result (a warning, a note on what was skipped).
    pub fn note(&self, line: impl AsRef<str>) {
        if self.verbosity == Verbosity::Notes {
            self.progress.note(line.as_ref());
        }
    }
    /// As [`Context::note`], several lines.
    pub fn note_each(&self, lines: impl IntoIterator<Item = String>) {
        lines.into_iter().for_each(|line| self.note(line));
    }
}

/// A running piece of work; dropping it ends it.
pub struct Progress {
    sink: Arc<dyn ProgressSink>,
    cancel: Cancel,
    id: u64,
    done: u64,
}

impl Progress {
    /// One more step is done; fails once the user has cancelled.
    pub fn step(&mut self, message: impl AsRef<str>) -> Result<()> {
        self.done += 1;
        self.sink.update(self.id, self.done, message.as_ref());
        self.cancel.check()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.sink.finish(self.id);
    }
}
