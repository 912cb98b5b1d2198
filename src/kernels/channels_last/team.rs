//! Threads that run the parts of one job at a time.
//!
//! A network has a hundred steps of some hundred microseconds, so the way into and out of each must be short: workers look
//! for the next job for a moment before they sleep, and parts are taken from a shared counter, which also evens out parts that
//! take longer on a busy core. A job ends when its parts are done: a worker that wakes too late for one finds nothing to take,
//! and is not waited for.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Looks at the word that often before a worker sleeps (some 200 µs: longer than most steps that one thread runs alone).
const SPINS: usize = 12_000;
/// Looks at the count of parts before the caller offers its core to a worker that the system has put aside.
const PATIENCE: usize = 4000;

/// A job's code: called with the part and the number of the thread.
type Work<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// A fixed number of threads; the caller of [`Team::run`] is one of them.
#[derive(Debug)]
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    jobs: u32,
}

/// # Who touches what
/// `word` says which job there is (its number), how many parts it has and which is next. Whoever adds 1 to it and finds that the
/// next part was one of the job's has taken that part, of the job that stood in the word at that moment. The caller of
/// [`Team::run`] stores `work` and `done` before the word (release; the additions go on with its release sequence), and returns
/// after `done` has reached the number of parts (acquire). So who has taken a part reads the code of that very job, which
/// outlives the part, and nobody reads `work` who has not; a job's writes happen before the next job's reads.
#[derive(Debug)]
struct Shared {
    /// A [`Word`].
    word: AtomicU64,
    /// The caller's variable that holds the running job's code.
    work: AtomicPtr<Work<'static>>,
    /// Parts that have ended.
    done: AtomicUsize,
    /// Parts that have panicked.
    broken: AtomicUsize,
    stop: AtomicBool,
    /// Workers that sleep or are about to; changed under `bed`.
    asleep: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
}

/// Number of a job (32 bits), its parts (16 bits), the next of them (16 bits).
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    /// Most parts of a job: workers that come too late may count beyond its last.
    const MOST_PARTS: usize = 1 << 15;

    fn new(job: u32, parts: usize) -> Self {
        Self(u64::from(job) << 32 | (parts as u64) << 16)
    }
    /// The next part, if there is one.
    fn next(self) -> Option<usize> {
        let (parts, next) = (self.0 >> 16 & 0xffff, self.0 & 0xffff);
        (next < parts).then_some(next as usize)
    }
}

impl Team {
    /// Most threads: so many that each may count once beyond the last part of a job.
    const MOST_THREADS: usize = 1 << 12;

    /// A team of `threads` (at least 1): starts one less.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            word: AtomicU64::new(0),
            work: AtomicPtr::new(std::ptr::null_mut()),
            done: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
        });
        let mut team = Self { shared, workers: Vec::new(), jobs: 0 };
        for thread in 1..threads.clamp(1, Self::MOST_THREADS) {
            let shared = team.shared.clone();
            team.workers.push(std::thread::Builder::new().name(format!("compresso-{thread}")).spawn(move || shared.serve(thread))?);
        }
        Ok(team)
    }
    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(part, thread)` for every part below `parts`, each once, on all threads; returns when all are done.
    ///
    /// # Panics
    /// When a call panicked, after all others have ended.
    pub fn run(&mut self, parts: usize, work: Work<'_>) {
        if parts <= 1 || self.workers.is_empty() {
            (0..parts).for_each(|part| work(part, 0));
        } else if parts <= Word::MOST_PARTS {
            self.share(parts, work);
        } else {
            for first in (0..parts).step_by(Word::MOST_PARTS) {
                self.run(Word::MOST_PARTS.min(parts - first), &|part, thread| work(first + part, thread));
            }
        }
    }

    fn share(&mut self, parts: usize, work: Work<'_>) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. The variable is read by those who have taken a part of this job alone, before they
        // count it as done; all parts are awaited below, also when one panics (`Shared::take` catches that).
        let mut held = unsafe { std::mem::transmute::<Work<'_>, Work<'static>>(work) };
        self.jobs = self.jobs.wrapping_add(1);
        shared.work.store(&raw mut held, Relaxed);
        shared.done.store(0, Relaxed);
        // In one order with `asleep`: either a worker sees this word before it sleeps, or it is seen asleep here.
        shared.word.store(Word::new(self.jobs, parts).0, SeqCst);
        if shared.asleep.load(SeqCst) > 0 {
            drop(shared.bed());
            shared.wake.notify_all();
        }
        while shared.take(0) {}
        let mut looks = 0;
        while shared.done.load(Acquire) < parts {
            looks += 1;
            if looks < PATIENCE { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        assert!(shared.broken.swap(0, Relaxed) == 0, "a part of a job panicked");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        drop(self.shared.bed());
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panic has been reported by `run`.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn bed(&self) -> MutexGuard<'_, ()> {
        self.bed.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes a part and runs it; false when there was none.
    fn take(&self, thread: usize) -> bool {
        // Looked at first, so that waiting workers do not write and none counts far beyond the last part.
        let Some(_) = Word(self.word.load(Relaxed)).next() else { return false };
        let Some(part) = Word(self.word.fetch_add(1, AcqRel)).next() else { return false };
        let work = self.work.load(Relaxed);
        // SAFETY: this thread has taken a part of the job whose caller stored the address, and has not counted it as done.
        let work = unsafe { *work };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(part, thread))).is_err() {
            self.broken.fetch_add(1, Relaxed);
        }
        self.done.fetch_add(1, Release);
        true
    }

    fn serve(&self, thread: usize) {
        let mut looks = 0;
        while !self.stop.load(Relaxed) {
            if self.take(thread) {
                looks = 0;
            } else if looks < SPINS {
                looks += 1;
                std::hint::spin_loop();
            } else {
                self.sleep();
                looks = 0;
            }
        }
    }

    /// Sleeps until there is a part to take or the end has come.
    fn sleep(&self) {
        let mut bed = self.bed();
        self.asleep.fetch_add(1, SeqCst);
        while Word(self.word.load(SeqCst)).next().is_none() && !self.stop.load(SeqCst) {
            bed = self.wake.wait(bed).unwrap_or_else(|e| e.into_inner());
        }
        self.asleep.fetch_sub(1, SeqCst);
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
    fn more_parts_than_a_job_has_are_several_jobs() {
        let parts = 2 * Word::MOST_PARTS + 7;
        let cells: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
        Team::new(3).unwrap().run(parts, &|part, _| {
            cells[part].fetch_add(1, Relaxed);
        });
        assert!(cells.iter().all(|c| c.load(Relaxed) == 1));
    }

    #[test]
    fn workers_that_come_late_are_not_waited_for_and_take_nothing() {
        // Between jobs of two parts most workers find nothing, some after the job has ended and another has begun.
        let mut team = Team::new(6).unwrap();
        let sum = AtomicUsize::new(0);
        for round in 0..3000usize {
            // What a worker that is too late would read is gone when the job ends.
            let borrowed = Box::new([round; 2]);
            team.run(2, &|part, _| {
                sum.fetch_add(borrowed[part], Relaxed);
            });
            if round % 500 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        assert_eq!(sum.load(Relaxed), 2999 * 3000);
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
