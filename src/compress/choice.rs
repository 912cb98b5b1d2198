//! A choice from a registry, with values for the numbers of what is chosen: a word, or a map such as `#{ name: "dkd", beta: 2.0 }`.

use compresso_base::error::{Error, Result, nearest};
use compresso_base::operation::{OptionKind, OptionValue, in_range};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::fmt::Debug;

/// A number that shapes an entry of a registry.
#[derive(Debug)]
pub struct Number {
    /// The word in scripts.
    pub name: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// Its value where none is given.
    pub default: f64,
    /// The smallest and largest allowed value.
    pub bounds: (f64, f64),
}

/// An entry of a registry.
pub trait Entry: Debug + Sized + 'static {
    /// What an entry is: `loss of feature maps`.
    const WHAT: &'static str;
    /// The registry, in the order in which help lists it.
    const ALL: &'static [&'static Self];
    /// The words of [`Entry::ALL`].
    const NAMES: &'static [&'static str];
    /// The word in scripts.
    fn name(&self) -> &'static str;
    /// Its numbers, in the order in which their values are given.
    fn numbers(&self) -> &'static [Number];
}

/// An entry with values for its numbers.
///
/// ```
/// use compresso_compress::teach::{Chosen, LogitLoss};
/// let loss = Chosen::<LogitLoss>::named("dkd").unwrap().with("beta", 2.0).unwrap();
/// assert_eq!(serde_json::to_value(&loss).unwrap(), serde_json::json!({ "beta": 2.0, "name": "dkd" }));
/// assert!(Chosen::<LogitLoss>::named("dkt").unwrap_err().to_string().contains("did you mean 'dkd'?"));
/// ```
#[derive(Debug)]
pub struct Chosen<D: Entry> {
    entry: &'static D,
    values: Vec<f64>,
}

impl<D: Entry> Chosen<D> {
    /// With the entry's defaults; also of one that stands in no registry.
    pub fn of(entry: &'static D) -> Self {
        Self { entry, values: entry.numbers().iter().map(|n| n.default).collect() }
    }
    /// The registered entry of this name, with its defaults.
    ///
    /// # Errors
    /// `Argument`, with the nearest name.
    pub fn named(name: &str) -> Result<Self> {
        if let Some(entry) = D::ALL.iter().find(|d| d.name() == name) {
            return Ok(Self::of(entry));
        }
        let e = Error::argument(format!("there is no {} '{name}'", D::WHAT));
        Err(match nearest(name, D::NAMES.iter().copied()) {
            Some(near) => e.hint(format!("did you mean '{near}'?")),
            None => e.hint(format!("there are {}", D::NAMES.join(", "))),
        })
    }
    /// With another value of a number.
    ///
    /// # Errors
    /// `Argument` for a number that the entry lacks, or a value outside its bounds.
    pub fn with(mut self, name: &str, value: f64) -> Result<Self> {
        let numbers = self.entry.numbers();
        let Some(i) = numbers.iter().position(|n| n.name == name) else {
            let names: Vec<&str> = numbers.iter().map(|n| n.name).collect();
            let e = Error::argument(format!("the {} '{}' has no option '{name}'", D::WHAT, self.entry.name()));
            return Err(if names.is_empty() { e.hint("it has none") } else { e.hint(format!("it has {}", names.join(", "))) });
        };
        let (low, high) = numbers[i].bounds;
        in_range(name, value, low..=high)?;
        self.values[i] = value;
        Ok(self)
    }
    /// The entry that was chosen.
    pub fn entry(&self) -> &'static D {
        self.entry
    }
    /// One for each of the entry's numbers, in their order.
    pub fn values(&self) -> &[f64] {
        &self.values
    }
}

impl<D: Entry> Clone for Chosen<D> {
    fn clone(&self) -> Self {
        Self { entry: self.entry, values: self.values.clone() }
    }
}

impl<D: Entry> PartialEq for Chosen<D> {
    fn eq(&self, other: &Self) -> bool {
        self.entry.name() == other.entry.name() && self.values == other.values
    }
}

impl<D: Entry> OptionValue for Chosen<D> {
    const KIND: OptionKind = OptionKind::ChoiceOrMap(D::NAMES);
}

impl<D: Entry> Serialize for Chosen<D> {
    /// The name, or a map with the numbers that are not the defaults.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let given = self.entry.numbers().iter().zip(&self.values).filter(|(n, v)| n.default != **v);
        let mut map: Map<String, Value> = given.map(|(n, v)| (n.name.to_string(), json!(v))).collect();
        if map.is_empty() {
            return serializer.serialize_str(self.entry.name());
        }
        map.insert("name".into(), json!(self.entry.name()));
        map.serialize(serializer)
    }
}

impl<'de, D: Entry> Deserialize<'de> for Chosen<D> {
    fn deserialize<S: Deserializer<'de>>(deserializer: S) -> std::result::Result<Self, S::Error> {
        use serde::de::Error as _;
        read(&Value::deserialize(deserializer)?).map_err(S::Error::custom)
    }
}

fn read<D: Entry>(value: &Value) -> Result<Chosen<D>> {
    let expected = || Error::argument(format!("expected a word for the {}, or a map with it under 'name', got {value}", D::WHAT));
    match value {
        Value::String(name) => Chosen::named(name),
        Value::Object(map) => {
            let mut chosen = Chosen::named(map.get("name").and_then(Value::as_str).ok_or_else(expected)?)?;
            for (name, number) in map.iter().filter(|(n, _)| *n != "name") {
                let number = number.as_f64().ok_or_else(|| Error::argument(format!("option '{name}' expects number, got {number}")))?;
                chosen = chosen.with(name, number)?;
            }
            Ok(chosen)
        }
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::observers;
    use crate::teach::{FeatureLoss, LogitLoss};

    fn words<D: Entry>() {
        for entry in D::ALL {
            let chosen = Chosen::<D>::of(entry);
            let again: Chosen<D> = serde_json::from_value(serde_json::to_value(&chosen).unwrap()).unwrap();
            assert!(again == chosen && chosen.values().len() == entry.numbers().len(), "{}", entry.name());
            for n in entry.numbers() {
                assert!(n.bounds.0 <= n.default && n.default <= n.bounds.1, "{} {}", entry.name(), n.name);
                let e = Chosen::<D>::of(entry).with(n.name, n.bounds.1 + 1.0).unwrap_err();
                assert!(e.to_string().contains(n.name), "{e}");
            }
        }
    }

    #[test]
    fn words_and_maps_are_read_as_they_are_written() {
        words::<LogitLoss>();
        words::<FeatureLoss>();
        words::<observers::Definition>();
        let read = |v| serde_json::from_value::<Chosen<FeatureLoss>>(v).map_err(|e| e.to_string());
        assert_eq!(read(json!({ "name": "mgd", "mask": 0.5 })).unwrap().values()[0], 0.5);
        assert!(read(json!({ "name": "mgd", "masks": 0.5 })).unwrap_err().contains("it has mask"));
        assert!(read(json!(7)).unwrap_err().contains("expected a word for the loss of feature maps"));
    }
}
