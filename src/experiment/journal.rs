//! What a script is given, and what it has read and recorded so far.

use compresso_base::error::{Error, Result, nearest};
use compresso_base::operation::Digest;
use compresso_learn::events::EventFile;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file that a script has saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Where it is.
    pub path: PathBuf,
    /// Hash of its content.
    pub sha256: Digest,
    /// Its size.
    pub bytes: u64,
}

/// Parameters, metrics and saved files of one run.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    given: Map<String, Value>,
    read: Map<String, Value>,
    metrics: Map<String, Value>,
    /// Each number that was recorded: its name, its step, the moment in seconds since 1970.
    course: Vec<(String, u64, f64, f64)>,
    saved: Vec<PathBuf>,
}

impl Journal {
    /// Of a run that is given values for these parameters.
    pub fn new(given: Map<String, Value>) -> Self {
        Self { given, ..Self::default() }
    }

    /// The value of a parameter: the one given, which must be of the default's kind, else the default.
    ///
    /// ```
    /// use compresso_experiment::Journal;
    /// use serde_json::json;
    /// let mut journal = Journal::new(json!({ "ratio": 1 }).as_object().cloned().unwrap_or_default());
    /// assert_eq!(journal.param("ratio", &json!(0.3)).unwrap(), json!(1.0));
    /// assert_eq!(journal.param("epochs", &json!(10)).unwrap(), json!(10));
    /// ```
    ///
    /// # Errors
    /// `Argument`, naming the parameter, for a value of another kind.
    pub fn param(&mut self, name: &str, default: &Value) -> Result<Value> {
        let value = match self.given.get(name) {
            Some(given) => converted(given, default).ok_or_else(|| {
                Error::argument(format!("parameter '{name}' is {} in this script ({default}), and was given as {given}", kind(default)))
            })?,
            None => default.clone(),
        };
        self.read.insert(name.into(), value.clone());
        Ok(value)
    }

    /// Keeps a number, a text or a truth value under a name; of a map, such as a report's data, its numbers as `name.field`. What is recorded
    /// under the same name again is the metric's next step; a history, which has a list of maps `epochs`, is a step for each.
    ///
    /// # Errors
    /// `Argument` for what is no metric.
    pub fn record(&mut self, name: &str, value: &Value) -> Result<()> {
        match value {
            Value::Object(map) => {
                let mut numbers: Vec<(String, Value)> = Vec::new();
                map.get("epochs").and_then(Value::as_array).into_iter().flatten().for_each(|e| flat(name, e, &mut numbers));
                numbers.extend(map.iter().filter(|(_, v)| v.is_number()).map(|(field, v)| (format!("{name}.{field}"), v.clone())));
                if numbers.is_empty() {
                    return Err(Error::argument(format!("there is no number in '{name}'")));
                }
                numbers.iter().for_each(|(name, v)| self.metric(name, v));
            }
            Value::Array(_) => {
                let e = Error::argument(format!("metric '{name}' is a list"));
                return Err(e.hint("a metric is one number, text or truth value"));
            }
            one => self.metric(name, one),
        }
        Ok(())
    }

    fn metric(&mut self, name: &str, value: &Value) {
        if let Some(number) = value.as_f64() {
            let step = self.course.iter().filter(|c| c.0 == name).count() as u64;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
            self.course.push((name.into(), step, number, now));
        }
        self.metrics.insert(name.into(), value.clone());
    }

    /// Writes the course of all numbers as an event file of TensorBoard in a folder; nothing where none was recorded.
    ///
    /// # Errors
    /// `Io`.
    pub fn events(&self, folder: &Path) -> Result<()> {
        if self.course.is_empty() {
            return Ok(());
        }
        let mut file = EventFile::create(folder)?;
        self.course.iter().try_for_each(|(name, step, value, at)| file.scalars_at(*at, *step, [(name.as_str(), *value)]))
    }

    /// Notes that the script has written a file.
    pub fn save(&mut self, path: &Path) {
        if !self.saved.iter().any(|p| p == path) {
            self.saved.push(path.to_path_buf());
        }
    }

    /// Parameters that were read, each with the value that it had, after those that were given and not read.
    pub fn parameters(&self) -> Map<String, Value> {
        let mut all = self.given.clone();
        all.extend(self.read.clone());
        all
    }
    /// What was recorded.
    pub fn metrics(&self) -> &Map<String, Value> {
        &self.metrics
    }
    /// The saved files as they are now; folders and those that are gone are left out.
    pub fn saved(&self) -> Vec<Saved> {
        let of = |path: &PathBuf| {
            let bytes = std::fs::metadata(path).ok()?.len();
            Some(Saved { path: path.clone(), sha256: Digest::of_file(path).ok()?, bytes })
        };
        self.saved.iter().filter_map(of).collect()
    }
    /// A line for each value that was given and that the script did not read. `seed` is the session's, whoever reads it.
    pub fn unread(&self) -> Vec<String> {
        let line = |name: &String| match nearest(name, self.read.keys().map(String::as_str)) {
            Some(near) => format!("the script has no parameter '{name}': did you mean '{near}'?"),
            None => format!("the script has no parameter '{name}': it reads {}", listed(&self.read)),
        };
        self.given.keys().filter(|name| *name != "seed" && !self.read.contains_key(*name)).map(line).collect()
    }
}

/// The numbers of an epoch by their names: `history.loss`, `history.scores.map50`.
fn flat(name: &str, value: &Value, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(field, v)| flat(&format!("{name}.{field}"), v, into)),
        one => into.extend(one.is_number().then(|| (name.to_string(), one.clone()))),
    }
}

fn listed(read: &Map<String, Value>) -> String {
    if read.is_empty() { "none; param(\"name\", default) does".into() } else { read.keys().cloned().collect::<Vec<_>>().join(", ") }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "anything",
        Value::Bool(_) => "true or false",
        Value::Number(n) if n.is_f64() => "a number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// A value as one of the default's kind.
fn converted(given: &Value, default: &Value) -> Option<Value> {
    Some(match (default, given) {
        (Value::Number(d), Value::Number(n)) if d.is_f64() => n.as_f64()?.into(),
        (Value::Number(_), Value::Number(n)) => n.as_i64()?.into(),
        // What the command line gives as `7` may be meant as a text.
        (Value::String(_), Value::Number(_) | Value::Bool(_)) => given.to_string().into(),
        (Value::Null, _)
        | (Value::Bool(_), Value::Bool(_))
        | (Value::String(_), Value::String(_))
        | (Value::Array(_), Value::Array(_))
        | (Value::Object(_), Value::Object(_)) => given.clone(),
        _ => return None,
    })
}

/// `ratio=0.4` as name and value: numbers, truth values, lists and maps as JSON has them, all else as text.
///
/// # Errors
/// `Argument` for a text without `=`, or without a name before it.
pub fn parse_setting(text: &str) -> Result<(String, Value)> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.trim().is_empty())
        .ok_or_else(|| Error::argument(format!("expected a parameter as NAME=VALUE, got '{text}'")))?;
    let value = value.trim();
    Ok((name.trim().into(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn journal(given: &[&str]) -> Journal {
        Journal::new(given.iter().map(|text| parse_setting(text).unwrap()).collect())
    }

    #[test]
    fn given_values_take_the_kind_of_the_default() {
        let mut j = journal(&["a=1", "b=2.5", "c=7", "d=true", "e=[1, 2]", "f=some text", "g=0.5"]);
        for (name, default, expected) in [
            ("a", json!(0.5), json!(1.0)),
            ("b", json!(0.5), json!(2.5)),
            ("c", json!(""), json!("7")),
            ("d", json!(false), json!(true)),
            ("e", json!([]), json!([1, 2])),
            ("f", json!("x"), json!("some text")),
            ("h", json!(3), json!(3)),
        ] {
            assert_eq!(j.param(name, &default).unwrap(), expected, "{name}");
        }
        let e = j.param("g", &json!(10)).unwrap_err().to_string();
        assert_eq!(e, "parameter 'g' is a whole number in this script (10), and was given as 0.5");
        assert!(journal(&["a=x"]).param("a", &json!(true)).is_err());
    }

    #[test]
    fn what_is_not_read_is_told() {
        let mut j = journal(&["ratoi=0.5", "seed=3"]);
        j.param("ratio", &json!(0.1)).unwrap();
        assert_eq!(j.unread(), ["the script has no parameter 'ratoi': did you mean 'ratio'?"]);
        assert_eq!(json!(j.parameters()), json!({ "ratoi": 0.5, "seed": 3, "ratio": 0.1 }));
        assert!(parse_setting("ratio").is_err() && parse_setting("=3").is_err());
    }

    #[test]
    fn metrics_are_single_values_and_the_numbers_of_maps() {
        let mut j = Journal::default();
        j.record("map50", &json!(0.5)).unwrap();
        j.record("eval", &json!({ "map": 0.25, "per_class": [1], "dataset": "x" })).unwrap();
        assert_eq!(json!(j.metrics()), json!({ "map50": 0.5, "eval.map": 0.25 }));
        assert!(j.record("x", &json!([1])).is_err() && j.record("x", &json!({})).is_err());
        // Again is the next step, and so is each epoch of a history.
        j.record("map50", &json!(0.75)).unwrap();
        j.record("train", &json!({ "epochs": [{ "loss": 2.0, "scores": { "map": 0.1 } }, { "loss": 1.0 }], "best_epoch": 2 })).unwrap();
        let course: Vec<_> = j.course.iter().map(|(name, step, value, _)| (name.as_str(), *step, *value)).collect();
        let expected = [
            ("map50", 0, 0.5),
            ("eval.map", 0, 0.25),
            ("map50", 1, 0.75),
            ("train.loss", 0, 2.0),
            ("train.scores.map", 0, 0.1),
            ("train.loss", 1, 1.0),
            ("train.best_epoch", 0, 2.0),
        ];
        assert_eq!(course, expected);
        assert_eq!(j.metrics()["train.loss"], json!(1.0));
    }
}
