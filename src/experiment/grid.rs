//! The points of a sweep.

use compresso_base::error::{Error, Result};
use compresso_base::operation::in_range;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

/// Points of the largest grid.
const MOST: usize = 100_000;

/// What a parameter goes through.
enum Axis {
    Values(Vec<Value>),
    Range { from: f64, to: f64, log: bool },
}

impl Axis {
    fn of(name: &str, value: &Value) -> Result<Self> {
        let wrong = |what: &str| {
            let e = Error::argument(format!("parameter '{name}' of the grid {what}"));
            e.hint("give a list of values, or with the option 'samples' a range #{ from: 1e-4, to: 1e-1, log: true }")
        };
        match value {
            Value::Array(all) if all.is_empty() => Err(wrong("has no values")),
            Value::Array(all) => Ok(Self::Values(all.clone())),
            Value::Object(range) => {
                if let Some(other) = range.keys().find(|k| !["from", "to", "log"].contains(&k.as_str())) {
                    return Err(wrong(&format!("has a range with '{other}'")));
                }
                let at = |end: &str| range.get(end).and_then(Value::as_f64).ok_or_else(|| wrong(&format!("has a range without '{end}'")));
                let (from, to) = (at("from")?, at("to")?);
                let log = range.get("log").and_then(Value::as_bool).unwrap_or(false);
                if from >= to || log && from <= 0.0 {
                    return Err(wrong("has a range that holds nothing"));
                }
                Ok(Self::Range { from, to, log })
            }
            one => Ok(Self::Values(vec![one.clone()])),
        }
    }
    /// A value at random, of a range with four digits.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Value {
        match self {
            Self::Values(all) => all[rng.random_range(0..all.len())].clone(),
            Self::Range { from, to, log } => {
                let share: f64 = rng.random();
                let x = if *log { from * (to / from).powf(share) } else { from + (to - from) * share };
                json!(format!("{x:.3e}").parse::<f64>().unwrap_or(x))
            }
        }
    }
}

/// The points of a grid, the last parameter changing fastest; or so many of them, drawn without repetition.
///
/// # Errors
/// `Argument` for parameters without values, ranges without `samples`, and too many points.
pub fn points(grid: &Map<String, Value>, samples: Option<usize>, seed: u64) -> Result<Vec<Map<String, Value>>> {
    let axes = grid.iter().map(|(name, v)| Ok((name, Axis::of(name, v)?))).collect::<Result<Vec<_>>>()?;
    if let Some(n) = samples {
        in_range("samples", n as f64, 1.0..=MOST as f64)?;
    }
    let mut size = Some(1usize);
    for (name, axis) in &axes {
        size = match axis {
            Axis::Values(all) => size.map(|s| s.saturating_mul(all.len())),
            Axis::Range { .. } if samples.is_none() => {
                let e = Error::argument(format!("parameter '{name}' has a range, of which there is no grid"));
                return Err(e.hint("say how many points with the option 'samples'"));
            }
            Axis::Range { .. } => None,
        };
    }
    let point = |mut index: usize| {
        let mut values: Vec<(String, Value)> = Vec::with_capacity(axes.len());
        for (name, axis) in axes.iter().rev() {
            if let Axis::Values(all) = axis {
                values.push(((*name).clone(), all[index % all.len()].clone()));
                index /= all.len();
            }
        }
        values.into_iter().rev().collect::<Map<_, _>>()
    };
    let wanted = samples.unwrap_or(MOST);
    let mut found: Vec<Map<String, Value>> = Vec::new();
    match size {
        Some(size) if size > MOST && samples.is_none() => {
            return Err(Error::argument(format!("the grid has {size} points")).hint("take some of them with the option 'samples'"));
        }
        Some(size) if size <= wanted => found.extend((0..size).map(point)),
        _ => {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            // Of a few values many draws repeat themselves.
            for _ in 0..wanted * 100 {
                if found.len() == wanted {
                    break;
                }
                let drawn = axes.iter().map(|(name, axis)| ((*name).clone(), axis.draw(&mut rng))).collect();
                if !found.contains(&drawn) {
                    found.push(drawn);
                }
            }
        }
    }
    // A value may stand twice in a list.
    let mut all: Vec<Map<String, Value>> = Vec::with_capacity(found.len());
    let mut seen = std::collections::HashSet::new();
    all.extend(found.into_iter().filter(|p| seen.insert(json!(p).to_string())));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(grid: &Value, samples: Option<usize>) -> Result<Vec<Value>> {
        points(grid.as_object().unwrap(), samples, 0).map(|all| all.into_iter().map(Value::Object).collect())
    }

    #[test]
    fn the_grid_is_the_product_of_its_lists() {
        let grid = json!({ "a": [1, 2, 2], "b": "x", "c": [true, false] });
        let all = of(&grid, None).unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!(all[1], json!({ "a": 1, "b": "x", "c": false }));
        assert_eq!(all[2], json!({ "a": 2, "b": "x", "c": true }));
        assert_eq!(of(&json!({}), None).unwrap(), [json!({})]);
    }

    #[test]
    fn samples_are_drawn_without_repetition_and_again_the_same() {
        let grid = json!({ "a": (0..100).collect::<Vec<_>>(), "lr": { "from": 1e-4, "to": 1e-1, "log": true } });
        let some = of(&grid, Some(50)).unwrap();
        assert_eq!(some, of(&grid, Some(50)).unwrap());
        let rates: Vec<f64> = some.iter().map(|p| p["lr"].as_f64().unwrap()).collect();
        assert!(rates.iter().all(|r| (1e-4..=1e-1).contains(r)));
        // Half of a logarithmic range lies below its geometric middle.
        let low = rates.iter().filter(|r| **r < 10f64.powf(-2.5)).count();
        assert!((12..=38).contains(&low), "{low}");
        let lists = json!({ "a": [1, 2, 3], "b": [1, 2, 3] });
        assert_eq!(of(&lists, Some(5)).unwrap().len(), 5);
        assert_eq!(of(&lists, Some(50)).unwrap().len(), 9);
    }

    #[test]
    fn grids_without_points_are_refused() {
        for (grid, text) in [
            (json!({ "a": [] }), "has no values"),
            (json!({ "a": { "from": 1, "to": 2 } }), "of which there is no grid"),
            (json!({ "a": { "from": 2, "to": 1 } }), "holds nothing"),
            (json!({ "a": { "form": 2, "to": 1 } }), "'form'"),
            (json!({ "a": (0..1000).collect::<Vec<_>>(), "b": (0..1000).collect::<Vec<_>>() }), "1000000 points"),
        ] {
            assert!(of(&grid, None).unwrap_err().to_string().contains(text), "{grid}");
        }
    }
}
