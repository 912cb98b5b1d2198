//! The session of a notebook: device, threads, seed, cancellation, progress.

use crate::cell::{remember, send};
use compresso::context::ProgressSink;
use compresso::learn::train::History;
use compresso::model::Made;
use compresso::shell::jupyter::Event;
use compresso::shell::script::{check_threads, parse_device};
use compresso::{Context, Error, Result};
use signal_hook::consts::{SIGINT, SIGUSR1};
use signal_hook::iterator::Signals;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

fn shared() -> &'static RwLock<Context> {
    static SESSION: OnceLock<RwLock<Context>> = OnceLock::new();
    SESSION.get_or_init(|| RwLock::new(Context::new().with_progress(Arc::new(Told::default()))))
}

/// What operations run under, as the session is now; for operations that are called directly:
/// `Prune { ratio: 0.4, ..default() }.apply(&m, None, &ctx())?`.
pub fn ctx() -> Context {
    shared().read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn change(f: impl FnOnce(&mut Context)) {
    f(&mut shared().write().unwrap_or_else(PoisonError::into_inner));
}

pub(crate) fn set(threads: Option<usize>, device: Option<&str>, seed: Option<u64>) -> Result<()> {
    if let Some(n) = threads {
        set_threads(n)?;
    }
    if let Some(name) = device {
        set_device(name)?;
    }
    if let Some(n) = seed {
        set_seed(n);
    }
    Ok(())
}

/// The device that operations run on.
pub fn device() -> candle_core::Device {
    ctx().device
}

/// Changes the device that operations run on: `"cpu"`, `"cuda"`, `"cuda:1"`.
///
/// # Errors
/// `Argument` for an unknown name; `Unavailable` for a GPU that this build or machine lacks.
pub fn set_device(name: &str) -> Result<()> {
    let device = parse_device(name)?;
    change(|ctx| ctx.device = device);
    Ok(())
}

/// Number of threads that operations use.
pub fn threads() -> usize {
    ctx().threads
}

/// Changes the number of threads that operations use.
///
/// # Errors
/// `Argument` outside 1 to 1024.
pub fn set_threads(n: usize) -> Result<()> {
    let n = check_threads(i64::try_from(n).unwrap_or(i64::MAX))?;
    change(|ctx| ctx.threads = n);
    Ok(())
}

/// Seed of everything random.
pub fn seed() -> u64 {
    ctx().seed
}

/// Changes the seed of everything random.
pub fn set_seed(n: u64) {
    change(|ctx| ctx.seed = n);
}

/// Seconds on the session's clock, for timing: subtract two of them.
pub fn now() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Seconds that a function takes.
pub fn time_s<T>(f: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    let _ = f();
    start.elapsed().as_secs_f64()
}

/// Drops what the cell has shown so far; with `wait` only once there is something new.
pub fn clear(wait: bool) {
    send(&Event::Clear { wait });
}

/// Asks for a line of text.
///
/// # Errors
/// `Unsupported` for a front end that takes no input; `Cancelled`.
pub fn input(prompt: &str) -> Result<String> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    send(&Event::Ask { prompt: prompt.into() });
    let answer = match Event::split(&evcxr_input::get_string("")).1 {
        Some(Event::Answer { text }) => Ok(text),
        Some(Event::Refused { text, cancelled: false }) => Err(Error::unsupported(text)),
        _ => Err(Error::cancelled()),
    };
    answer.inspect_err(remember)
}

/// SIGINT, which the kernel sends on an interrupt, cancels the operation that runs; SIGUSR1 lets the next ones run.
pub(crate) fn watch_signals() {
    let cancel = ctx().cancel;
    let Ok(mut signals) = Signals::new([SIGINT, SIGUSR1]) else {
        ctx().note("signals cannot be watched, so that interrupts end the process");
        return;
    };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGINT { cancel.cancel() } else { cancel.reset() }
        }
    });
}

static PARTIAL: Mutex<Option<Made<History>>> = Mutex::new(None);

pub(crate) fn keep_partial(made: &Made<History>) {
    *PARTIAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(made.clone());
    ctx().note("the model so far is what partial() gives");
}

/// The model that an interrupted training had reached.
///
/// # Errors
/// `Missing` when none was interrupted.
pub fn partial() -> Result<Made<History>> {
    let partial = PARTIAL.lock().unwrap_or_else(PoisonError::into_inner).clone();
    partial.ok_or_else(|| Error::missing("no training has been interrupted"))
}

/// Tells the kernel how work goes on, each piece at most ten times a second.
#[derive(Default)]
struct Told {
    running: Mutex<HashMap<u64, Work>>,
}

struct Work {
    /// When the kernel was last told.
    told: Instant,
    /// What it has not been told.
    pending: Option<(u64, String)>,
}

const PAUSE: Duration = Duration::from_millis(100);

impl Told {
    fn running(&self) -> MutexGuard<'_, HashMap<u64, Work>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProgressSink for Told {
    fn start(&self, id: u64, label: &str, total: u64) {
        self.running().insert(id, Work { told: Instant::now(), pending: None });
        send(&Event::Start { id, label: label.into(), total });
    }
    fn update(&self, id: u64, done: u64, message: &str) {
        if let Some(work) = self.running().get_mut(&id) {
            if work.told.elapsed() < PAUSE {
                work.pending = Some((done, message.into()));
                return;
            }
            *work = Work { told: Instant::now(), pending: None };
        }
        send(&Event::Step { id, done, message: message.into() });
    }
    fn finish(&self, id: u64) {
        let work = self.running().remove(&id);
        if let Some((done, message)) = work.and_then(|w| w.pending) {
            send(&Event::Step { id, done, message });
        }
        send(&Event::Finish { id });
    }
    fn note(&self, line: &str) {
        // Front ends paint standard error as a failure.
        send(&Event::Out { text: format!("{line}\n") });
    }
}
