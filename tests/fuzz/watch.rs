//! A case may take so long; then it is cancelled, and must end.

use compresso::Context;
use compresso::context::Cancel;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// After this long a case is cancelled.
const PATIENCE: Duration = Duration::from_secs(3);

struct Case {
    began: Option<Instant>,
    cancel: Cancel,
}

fn current() -> &'static Mutex<Case> {
    static CASE: OnceLock<Mutex<Case>> = OnceLock::new();
    CASE.get_or_init(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(100));
                let case = current().lock().unwrap_or_else(PoisonError::into_inner);
                if case.began.is_some_and(|began| began.elapsed() > PATIENCE) {
                    case.cancel.cancel();
                }
            }
        });
        Mutex::new(Case { began: None, cancel: Cancel::new() })
    })
}

/// Begins a case.
pub fn begin() {
    *current().lock().unwrap_or_else(PoisonError::into_inner) = Case { began: Some(Instant::now()), cancel: Cancel::new() };
}

/// The context of the current case: two threads, cancelled in time.
pub fn context() -> Context {
    let cancel = current().lock().unwrap_or_else(PoisonError::into_inner).cancel.clone();
    let mut context = Context::new();
    (context.threads, context.cancel) = (2, cancel);
    context
}
