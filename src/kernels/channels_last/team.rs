//! Threads that run the parts of one job at a time.
//!
//! A network has a hundred steps of some hundred microseconds, so the way into and out of each must be short: workers look
//! for the next job for a moment before they sleep, and take parts from a shared counter, which also evens out parts that
//! take longer on a busy core.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Looks at the ticket that often before a worker sleeps (about 50 µs).
const SPINS: usize = 4000;

/// A job's code: called with the part and the number of the thread.
type Work<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// A fixed number of threads; the caller of [`Team::run`] is one of them.
#[derive(Debug)]
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// # Who touches what
/// `work` and `parts` are written by the caller only while no worker is `busy` and before it raises `ticket` (release);
/// workers read them after they have seen the new ticket (acquire) and before they lower `busy` (release), which the
/// caller waits for (acquire) before [`Team::run`] returns. So the borrowed work outlives every use of it, and each job's
/// writes happen before the next job's reads.
#[derive(Debug)]
struct Shared {
    /// Number of the newest job; [`STOP`] ends the workers.
    ticket: AtomicU64,
    work: Mutex<Option<Borrowed>>,
    next: AtomicUsize,
    parts: AtomicUsize,
    busy: AtomicUsize,
    broken: AtomicUsize,
    asleep: Mutex<usize>,
    wake: Condvar,
}

const STOP: u64 = u64::MAX;

/// The work of a running [`Team::run`], with its lifetime taken off.
#[derive(Clone, Copy)]
struct Borrowed(*const (dyn Fn(usize, usize) + Sync));

impl std::fmt::Debug for Borrowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Borrowed")
    }
}

// SAFETY: the pointee is `Sync`, so it may be called from any thread; see `Shared` for its lifetime.
unsafe impl Send for Borrowed {}

impl Team {
    /// A team of `threads` (at least 1): starts one less.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            work: Mutex::new(None),
            next: AtomicUsize::new(0),
            parts: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
            asleep: Mutex::new(0),
            wake: Condvar::new(),
        });
        let mut team = Self { shared, workers: Vec::new() };
        for thread in 1..threads.max(1) {
            let shared = team.shared.clone();
            team.workers.push(std::thread::Builder::new().name(format!("compresso-{thread}")).spawn(move || shared.serve(thread))?);
        }
        Ok(team)
    }
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(part, thread)` for every part below `parts`, each once, on all threads; returns when all are done.
    ///
    /// # Panics
    /// When a call panicked, after all others have ended.
    pub fn run(&mut self, parts: usize, work: Work<'_>) {
        let shared = &*self.shared;
        if parts <= 1 || self.workers.is_empty() {
            (0..parts).for_each(|part| work(part, 0));
            return;
        }
        // SAFETY: only the lifetime changes. No worker holds the work once `busy` is 0, which is awaited below, also when a
        // part panics (`take_parts` catches that).
        let borrowed = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
        *shared.work.lock().unwrap_or_else(|e| e.into_inner()) = Some(Borrowed(borrowed));
        shared.parts.store(parts, Relaxed);
        shared.next.store(0, Relaxed);
        shared.busy.store(self.workers.len(), Relaxed);
        shared.ticket.fetch_add(1, Release);
        if *shared.asleep.lock().unwrap_or_else(|e| e.into_inner()) > 0 {
            shared.wake.notify_all();
        }
        shared.take_parts(work, 0);
        let mut looks = 0;
        while shared.busy.load(Acquire) > 0 {
            looks += 1;
            // A worker that the system has put aside needs the core more.
            if looks < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        *shared.work.lock().unwrap_or_else(|e| e.into_inner()) = None;
        assert!(shared.broken.swap(0, Relaxed) == 0, "a part of a job panicked");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ticket.store(STOP, Release);
        drop(self.shared.asleep.lock());
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panic has been reported by `run`.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn take_parts(&self, work: Work<'_>, thread: usize) {
        let parts = self.parts.load(Relaxed);
        let all = std::panic::AssertUnwindSafe(|| {
            loop {
                let part = self.next.fetch_add(1, Relaxed);
                if part >= parts {
                    break;
                }
                work(part, thread);
            }
        });
        if std::panic::catch_unwind(all).is_err() {
            self.broken.fetch_add(1, Relaxed);
        }
    }

    fn serve(&self, thread: usize) {
        let mut seen = 0;
        loop {
            seen = self.await_ticket(seen);
            if seen == STOP {
                return;
            }
            let work = *self.work.lock().unwrap_or_else(|e| e.into_inner());
            if let Some(work) = work {
                // SAFETY: this ticket's `run` waits for `busy`, which this thread has not lowered yet.
                self.take_parts(unsafe { &*work.0 }, thread);
            }
            self.busy.fetch_sub(1, Release);
        }
    }

    /// The next ticket after `seen`.
    fn await_ticket(&self, seen: u64) -> u64 {
        for _ in 0..SPINS {
            let ticket = self.ticket.load(Acquire);
            if ticket != seen {
                return ticket;
            }
            std::hint::spin_loop();
        }
        let mut asleep = self.asleep.lock().unwrap_or_else(|e| e.into_inner());
        *asleep += 1;
        loop {
            let ticket = self.ticket.load(Acquire);
            if ticket != seen {
                *asleep -= 1;
                return ticket;
            }
            asleep = self.wake.wait(asleep).unwrap_or_else(|e| e.into_inner());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_and_is_seen_by_the_next_job() {
        for threads in [1, 2, 3, 5] {
            let mut team = Team::new(threads).unwrap();
            let cells: Vec<AtomicUsize> = (0..97).map(|_| AtomicUsize::new(0)).collect();
            for round in 0..200 {
                let parts = 1 + round % cells.len();
                team.run(parts, &|part, thread| {
                    assert!(thread < threads);
                    cells[part].fetch_add(1, Relaxed);
                });
            }
            let expected = |part: usize| (0..200).filter(|round| part < 1 + round % cells.len()).count();
            cells.iter().enumerate().for_each(|(part, c)| assert_eq!(c.load(Relaxed), expected(part)));
        }
    }

    #[test]
    fn sleeping_workers_wake_and_a_panic_is_reported_once() {
        let mut team = Team::new(3).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let count = AtomicUsize::new(0);
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            team.run(64, &|part, _| {
                assert!(part != 5, "on purpose");
                count.fetch_add(1, Relaxed);
            });
        }));
        assert!(broken.is_err());
        count.store(0, Relaxed);
        team.run(64, &|_, _| {
            count.fetch_add(1, Relaxed);
        });
        assert_eq!(count.load(Relaxed), 64);
    }
}
