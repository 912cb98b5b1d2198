//! Panics of libraries as errors.

use crate::error::{Error, Result};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// How many calls of [`contain`] are running on this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where the last contained panic of this thread arose.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic inside becomes an error, with the message and the place in the source. What `f` changes must be thrown away then.
///
/// # Errors
/// `Internal` for a panic; those of `f`.
pub fn contain<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    static QUIET: Once = Once::new();
    // A contained panic is told by its error, not by the hook.
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                return before(info);
            }
            let place = info.location().map(ToString::to_string);
            PLACE.with_borrow_mut(|p| *p = place);
        }));
    });
    /// Counts down when the call ends, well or not.
    struct Inside;
    impl Drop for Inside {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let inside = Inside;
    let done = catch_unwind(AssertUnwindSafe(f));
    drop(inside);
    done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
        let place = PLACE.with_borrow_mut(Option::take).map_or_else(String::new, |p| format!(" ({p})"));
        let e = Error::internal(format!("the program ran into a fault of its own: {}{place}", text.as_deref().unwrap_or("a panic")));
        Err(e.hint("the session goes on; please report this with the model or script that led here"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn panics_are_errors_with_their_place() {
        assert_eq!(contain(|| Ok(3)).unwrap(), 3);
        assert_eq!(contain::<()>(|| Err(Error::shape("no"))).unwrap_err().kind(), ErrorKind::Shape);
        let e = contain::<()>(|| contain(|| panic!("index {} of {}", 3, 2))).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Internal);
        assert!(e.message().contains("index 3 of 2 (") && e.message().contains("contain.rs:"), "{e}");
        assert_eq!(DEPTH.get(), 0);
    }
}
