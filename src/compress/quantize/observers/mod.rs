//! Observers: what calibration keeps of an activation, and the range that it makes of it.
//!
//! An [`Observer`] sees the values of one activation batch by batch, keeps a state of bounded size, and at the end gives the
//! range that is mapped onto the integers. A [`Definition`] makes observers; [`OBSERVERS`] lists the definitions, and the
//! names there are the words of the option `observer`. See docs/adding-an-observer.md.

mod auto;
mod entropy;
mod histogram;
mod minmax;
mod moving_average;
mod mse;
mod percentile;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod three_sigma;

pub use crate::choice::Number;
pub use histogram::{Histogram, Moments};

use super::affine::{Grid, Range};
use crate::choice::{Chosen, Entry};
use std::any::Any;
use std::fmt::Debug;

/// The registration lines.
pub const OBSERVERS: &[&Definition] =
    &[&minmax::MINMAX, &moving_average::MOVING_AVERAGE, &percentile::PERCENTILE, &entropy::ENTROPY, &mse::MSE, &auto::AUTO];

/// Values of one activation on one batch.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// At least one, all finite, in no promised order.
    pub values: &'a [f32],
    /// The smallest and largest of them.
    pub range: Range,
}

/// What is kept of one activation. The state does not grow with the number of values.
pub trait Observer: Any + Debug + Send {
    /// Sees a batch.
    fn observe(&mut self, sample: Sample<'_>);
    /// Takes in what another observer, made by the same definition, has seen: of the same activation on other images, or of
    /// one that shares its scale. Observers of another kind are left alone.
    fn merge(&mut self, other: &dyn Observer);
    /// The range to map onto `grid`; empty before anything was seen. Zero is added to it by the caller.
    fn range(&self, grid: Grid) -> Range;
    /// Ranges to choose from by the error that each brings into the model's outputs, with their names. Empty where the observer
    /// has decided.
    fn candidates(&self, _: Grid) -> Vec<(&'static str, Range)> {
        Vec::new()
    }
    /// The distribution of the values, where it is kept.
    fn histogram(&self) -> Option<&Histogram> {
        None
    }
}

/// A kind of observer.
#[derive(Debug)]
pub struct Definition {
    /// The word in scripts.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Numbers that a user may set.
    pub numbers: &'static [Number],
    /// A new observer, from one value for each of the numbers, in their order.
    pub make: fn(&[f64]) -> Box<dyn Observer>,
}

/// A definition with values for its numbers: the option `observer`, a word or a map such as
/// `#{ name: "percentile", percentile: 99.9 }`.
///
/// ```
/// use compresso_compress::quantize::observers::Observe;
/// let observe = Observe::named("percentile").unwrap().with("percentile", 99.9).unwrap();
/// assert_eq!(serde_json::to_value(&observe).unwrap(), serde_json::json!({ "name": "percentile", "percentile": 99.9 }));
/// assert!(Observe::named("percentil").unwrap_err().to_string().contains("did you mean 'percentile'?"));
/// ```
pub type Observe = Chosen<Definition>;

impl Entry for Definition {
    const WHAT: &'static str = "observer";
    const ALL: &'static [&'static Self] = OBSERVERS;
    const NAMES: &'static [&'static str] = &NAMES;
    fn name(&self) -> &'static str {
        self.name
    }
    fn numbers(&self) -> &'static [Number] {
        self.numbers
    }
}

impl Observe {
    /// Whether ranges are chosen by measured error ([`Observer::candidates`]).
    pub fn chooses(&self) -> bool {
        self.entry().name == auto::AUTO.name
    }
    /// A new observer.
    pub fn observer(&self) -> Box<dyn Observer> {
        (self.entry().make)(self.values())
    }
}

impl Default for Observe {
    fn default() -> Self {
        Self::of(&minmax::MINMAX)
    }
}

const NAMES: [&str; OBSERVERS.len()] = {
    let mut names = [""; OBSERVERS.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = OBSERVERS[i].name;
        i += 1;
    }
    names
};
