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

pub use histogram::{Histogram, Moments};

use super::affine::{Grid, Range};
use compresso_base::error::{Error, Result, nearest};
use compresso_base::operation::{OptionKind, OptionValue, in_range};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
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

/// A number that shapes an observer.
#[derive(Debug)]
pub struct Number {
    pub name: &'static str,
    pub doc: &'static str,
    pub default: f64,
    /// The smallest and largest allowed value.
    pub bounds: (f64, f64),
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
#[derive(Debug, Clone)]
pub struct Observe {
    definition: &'static Definition,
    numbers: Vec<f64>,
}

impl Observe {
    /// With the definition's defaults.
    pub fn of(definition: &'static Definition) -> Self {
        Self { definition, numbers: definition.numbers.iter().map(|n| n.default).collect() }
    }
    /// The registered definition of this name, with its defaults.
    ///
    /// # Errors
    /// `Argument`, with the nearest name.
    pub fn named(name: &str) -> Result<Self> {
        if let Some(definition) = OBSERVERS.iter().find(|d| d.name == name) {
            return Ok(Self::of(definition));
        }
        let e = Error::argument(format!("there is no observer '{name}'"));
        Err(match nearest(name, NAMES.iter().copied()) {
            Some(near) => e.hint(format!("did you mean '{near}'?")),
            None => e.hint(format!("the observers are {}", NAMES.join(", "))),
        })
    }
    /// With another value of a number.
    ///
    /// # Errors
    /// `Argument` for a number that the definition lacks, or a value outside its bounds.
    pub fn with(mut self, name: &str, value: f64) -> Result<Self> {
        let Some(i) = self.definition.numbers.iter().position(|n| n.name == name) else {
            let names: Vec<&str> = self.definition.numbers.iter().map(|n| n.name).collect();
            let e = Error::argument(format!("the observer '{}' has no option '{name}'", self.definition.name));
            return Err(if names.is_empty() { e.hint("it has none") } else { e.hint(format!("it has {}", names.join(", "))) });
        };
        let (low, high) = self.definition.numbers[i].bounds;
        in_range(name, value, low..=high)?;
        self.numbers[i] = value;
        Ok(self)
    }
    pub fn definition(&self) -> &'static Definition {
        self.definition
    }
    /// Whether ranges are chosen by measured error ([`Observer::candidates`]).
    pub fn chooses(&self) -> bool {
        self.definition.name == auto::AUTO.name
    }
    /// A new observer.
    pub fn observer(&self) -> Box<dyn Observer> {
        (self.definition.make)(&self.numbers)
    }
}

impl Default for Observe {
    fn default() -> Self {
        Self::of(&minmax::MINMAX)
    }
}

impl PartialEq for Observe {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name == other.definition.name && self.numbers == other.numbers
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

impl OptionValue for Observe {
    const KIND: OptionKind = OptionKind::ChoiceOrMap(&NAMES);
}

impl Serialize for Observe {
    /// The name, or a map with the numbers that are not the defaults.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let given = self.definition.numbers.iter().zip(&self.numbers).filter(|(n, v)| n.default != **v);
        let mut map: Map<String, Value> = given.map(|(n, v)| (n.name.to_string(), json!(v))).collect();
        if map.is_empty() {
            return serializer.serialize_str(self.definition.name);
        }
        map.insert("name".into(), json!(self.definition.name));
        map.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Observe {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error as _;
        read(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn read(value: &Value) -> Result<Observe> {
    let expected = || Error::argument(format!("expected an observer's name or a map with it under 'name', got {value}"));
    match value {
        Value::String(name) => Observe::named(name),
        Value::Object(map) => {
            let mut observe = Observe::named(map.get("name").and_then(Value::as_str).ok_or_else(expected)?)?;
            for (name, number) in map.iter().filter(|(n, _)| *n != "name") {
                let number = number.as_f64().ok_or_else(|| Error::argument(format!("option '{name}' expects number, got {number}")))?;
                observe = observe.with(name, number)?;
            }
            Ok(observe)
        }
        _ => Err(expected()),
    }
}
