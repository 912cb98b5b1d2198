//! Errors of this crate on their way through Rhai, and back.

use crate::error::{Error, ErrorKind};
use rhai::{Dynamic, EvalAltResult, Position};
use std::sync::Arc;

/// An error of this crate on its way through a script; `catch (e)` sees it with `e.message`, `e.kind`, `e.hint`.
#[derive(Debug, Clone)]
pub struct Raised(pub Arc<Error>);

/// What ends a script that has used up the stack.
pub(super) const DEEP: &str = "functions, imports or evaluated texts lie in each other too deeply";

/// Sends an error through Rhai. A cancellation cannot be caught by the script.
pub(super) fn raise(error: Error, position: Position) -> Box<EvalAltResult> {
    if error.is_cancelled() {
        return EvalAltResult::ErrorTerminated(Dynamic::UNIT, position).into();
    }
    EvalAltResult::ErrorRuntime(Dynamic::from(Raised(Arc::new(error))), position).into()
}

/// The error of this crate inside a Rhai error, for natives that call script functions.
pub(super) fn unwrap(error: &EvalAltResult) -> Error {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) => unwrap(inner),
        EvalAltResult::ErrorTerminated(why, _) if why.is_string() => {
            Error::new(ErrorKind::Script, why.to_string()).hint("does the recursion ever stop?")
        }
        EvalAltResult::ErrorTerminated(..) => Error::cancelled(),
        EvalAltResult::ErrorRuntime(value, _) => match value.read_lock::<Raised>() {
            Some(raised) => copy(&raised.0),
            None => Error::new(ErrorKind::Script, value.to_string()),
        },
        other => Error::new(ErrorKind::Script, plain(other)),
    }
}

/// The same error again; the causes become text.
fn copy(e: &Error) -> Error {
    let mut new = Error::new(e.kind(), e.message());
    for place in e.places().collect::<Vec<_>>().into_iter().rev() {
        new = new.at(place);
    }
    if let Some(hint) = e.suggestion() {
        new = new.hint(hint);
    }
    match std::error::Error::source(e) {
        Some(cause) => new.because(cause.to_string()),
        None => new,
    }
}

/// The engine's own text without its position, as a clause.
pub(super) fn plain(error: &EvalAltResult) -> String {
    let text = error.to_string();
    let text = text.split(" (line ").next().unwrap_or(&text);
    lower_first(text.trim_end_matches('.'))
}

/// With a small first letter.
pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // An acronym stays as it is.
        (Some(a), Some(b)) if a.is_uppercase() && !b.is_uppercase() => a.to_lowercase().chain(chars).collect(),
        _ => text.to_string(),
    }
}
