//! What was run, for `history_request`.

use crate::model::names::glob;
use serde_json::{Value as Json, json};
use std::collections::VecDeque;

/// Inputs that are kept.
const KEPT: usize = 10_000;

/// The inputs of this kernel and what they gave.
#[derive(Debug, Default)]
pub struct History(VecDeque<Entry>);

#[derive(Debug)]
struct Entry {
    number: usize,
    input: String,
    output: Option<String>,
}

/// The number of a kernel's only session.
const SESSION: i64 = 1;

impl History {
    pub fn push(&mut self, number: usize, input: &str, output: Option<String>) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Entry { number, input: input.to_string(), output });
    }

    /// The content of the answer to a request's content.
    pub fn answer(&self, request: &Json) -> Json {
        let number = |field: &str, default: i64| request[field].as_i64().unwrap_or(default);
        let most = usize::try_from(number("n", i64::MAX)).unwrap_or(0);
        let found: Vec<&Entry> = match request["hist_access_type"].as_str() {
            Some("range") => {
                let (start, stop) = (number("start", 1).max(0), number("stop", i64::MAX));
                // Session 0 is this one, and so is the only one before its end.
                let here = matches!(number("session", 0), 0 | SESSION);
                self.0.iter().filter(|e| here && (start..stop).contains(&(e.number as i64))).collect()
            }
            Some("search") => {
                let pattern = request["pattern"].as_str().unwrap_or("*");
                let mut found: Vec<&Entry> = self.0.iter().filter(|e| glob(pattern, &e.input)).collect();
                if request["unique"].as_bool().unwrap_or(false) {
                    // The newest of equal inputs stays.
                    let mut seen = std::collections::HashSet::new();
                    found = found.into_iter().rev().filter(|e| seen.insert(e.input.as_str())).collect();
                    found.reverse();
                }
                last(found, most)
            }
            _ => last(self.0.iter().collect(), most),
        };
        let with_output = request["output"].as_bool().unwrap_or(false);
        let entry = |e: &Entry| match with_output {
            true => json!([SESSION, e.number, [e.input, e.output]]),
            false => json!([SESSION, e.number, e.input]),
        };
        json!({ "status": "ok", "history": found.into_iter().map(entry).collect::<Vec<_>>() })
    }
}

fn last(mut entries: Vec<&Entry>, most: usize) -> Vec<&Entry> {
    entries.drain(..entries.len().saturating_sub(most));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_range_and_search() {
        let mut h = History::default();
        for (i, input) in ["let a = 1;", "a", "let b = 2;", "a"].into_iter().enumerate() {
            h.push(i + 1, input, (input == "a").then(|| "1".into()));
        }
        let numbers = |request: Json| -> Vec<i64> {
            h.answer(&request)["history"].as_array().unwrap().iter().map(|e| e[1].as_i64().unwrap()).collect()
        };
        assert_eq!(numbers(json!({ "hist_access_type": "tail", "n": 2 })), [3, 4]);
        assert_eq!(numbers(json!({ "hist_access_type": "range", "session": 0, "start": 2, "stop": 4 })), [2, 3]);
        assert_eq!(numbers(json!({ "hist_access_type": "range", "session": 7, "start": 1, "stop": 4 })), [0i64; 0]);
        assert_eq!(numbers(json!({ "hist_access_type": "search", "pattern": "let*", "n": 1 })), [3]);
        assert_eq!(numbers(json!({ "hist_access_type": "search", "pattern": "a", "unique": true })), [4]);
        let with_output = h.answer(&json!({ "hist_access_type": "tail", "n": 1, "output": true }));
        assert_eq!(with_output["history"], json!([[1, 4, ["a", "1"]]]));
    }
}
