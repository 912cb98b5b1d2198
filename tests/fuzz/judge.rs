//! What is a fault: a panic that was contained, results of two executors that differ. An error is none.

use compresso::model::{Graph, Value};
use compresso::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Cases that came through: what was read was something, and more was done with it.
pub static THROUGH: AtomicU64 = AtomicU64::new(0);

/// Operators of the graphs that came through.
static REACHED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Counts this case among those that came through.
pub fn through() {
    THROUGH.fetch_add(1, Ordering::Relaxed);
}

/// Counts the operators of a graph that came through.
pub fn reached(graph: &Graph) {
    let mut all = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
    for node in graph.nodes() {
        if !all.contains(&node.op) {
            all.insert(node.op.clone());
        }
        node.inner().for_each(|inner| all.extend(inner.nodes().iter().map(|n| n.op.clone())));
    }
}

/// Operators of the graphs that came through so far.
pub fn operators() -> BTreeSet<String> {
    REACHED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

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

/// What lies between the inputs and two values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Way {
    /// Values are rounded to integers, where a last bit decides a tie and becomes a step.
    pub rounds: bool,
    /// Numbers come near the ends of their types, where the order of operations decides what becomes infinite.
    pub wild: bool,
    /// The largest finite number; where it cancels, its last bits are left.
    pub largest: f64,
}

/// Values of more elements are not looked at: they would take the memory that the case has.
const MOST: usize = 1 << 24;
/// Numbers beyond this are wild.
const WILD: f64 = 1e12;

impl Way {
    /// Takes in what a value of floats says of the way.
    pub fn pass(&mut self, value: &Value) {
        if !value.element.is_float() || value.is_sequence() || value.tensor.elem_count() > MOST {
            return;
        }
        for v in value.to_f64s().unwrap_or_default() {
            self.wild |= is_wild(v);
            if v.is_finite() {
                self.largest = self.largest.max(v.abs());
            }
        }
    }
}

fn is_wild(v: f64) -> bool {
    v.is_nan() || v.abs() > WILD
}

/// What is different in two values of one computation. Sums in another order differ in their last bits, which a large common size hides.
pub fn different(a: &Value, b: &Value, way: Way) -> Option<String> {
    if a.is_sequence() || b.is_sequence() {
        return (a.is_sequence() != b.is_sequence()).then(|| "one is a sequence".to_string());
    }
    if a.element != b.element || a.dims() != b.dims() {
        return Some(format!("{}{:?} and {}{:?}", a.element, a.dims(), b.element, b.dims()));
    }
    if a.tensor.elem_count() > MOST {
        return None;
    }
    let (Ok(x), Ok(y)) = (a.to_f64s(), b.to_f64s()) else { return None };
    let size = x.iter().chain(&y).filter(|v| !is_wild(**v)).fold(1.0f64, |m, v| m.max(v.abs()));
    let tolerance = match a.element.bits() {
        _ if way.rounds => 0.3,
        _ if !a.element.is_float() => 0.0,
        16 => 2e-2,
        _ => 1e-3,
    };
    // Sums in another order, and Winograd's transforms, keep some 20 bits of the largest number that they add.
    let cancelled = if way.wild && a.element.is_float() { way.largest / f64::from(1 << 20) } else { 0.0 };
    let apart = |(p, q): (&f64, &f64)| {
        !(p == q || p.is_nan() && q.is_nan() || way.wild && (is_wild(*p) || is_wild(*q)) || (p - q).abs() <= tolerance * size + cancelled)
    };
    let at = x.iter().zip(&y).position(apart)?;
    Some(format!("{} and {} at {at} of {}{:?}", x[at], y[at], a.element, a.dims()))
}
