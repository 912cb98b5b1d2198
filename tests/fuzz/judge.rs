//! What is a fault: a panic that was contained, results of two executors that differ. An error is none.

use compresso::model::Value;
use compresso::{Error, ErrorKind, Result};

/// What contained panics say.
const FAULT: &str = "ran into a fault of its own";

/// The result, unless it is an error; a fault ends the case.
pub fn checked<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(e) => {
            error(&e);
            None
        }
    }
}

pub fn error(e: &Error) {
    assert!(e.kind() != ErrorKind::Internal, "{e}");
    text(&e.to_string());
}

/// Texts tell of faults where a call went on in another way.
pub fn text(said: &str) {
    assert!(!said.contains(FAULT), "{said}");
}

/// What is different in two values of one computation. Sums in another order differ in their last bits, which a large common size hides.
pub fn different(a: &Value, b: &Value) -> Option<String> {
    if a.is_sequence() || b.is_sequence() {
        return (a.is_sequence() != b.is_sequence()).then(|| "one is a sequence".to_string());
    }
    if a.element != b.element || a.dims() != b.dims() {
        return Some(format!("{}{:?} and {}{:?}", a.element, a.dims(), b.element, b.dims()));
    }
    let (Ok(x), Ok(y)) = (a.to_f64s(), b.to_f64s()) else { return None };
    let size = x.iter().chain(&y).filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
    let tolerance = match a.element.bits() {
        _ if !a.element.is_float() => 0.0,
        16 => 2e-2,
        _ => 1e-3,
    };
    let apart = |(p, q): (&f64, &f64)| !(p == q || p.is_nan() && q.is_nan() || (p - q).abs() <= tolerance * size);
    let at = x.iter().zip(&y).position(|pair| apart(pair))?;
    Some(format!("{} and {} at {at} of {}{:?}", x[at], y[at], a.element, a.dims()))
}
