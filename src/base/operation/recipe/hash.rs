//! Hashes of recipes: equal for equal calls, in every process and on every machine.

use super::{Argument, Call, Recipe};
use crate::operation::Digest;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Changes when what is hashed does.
const DOMAIN: &str = "compresso recipe 1";

impl Recipe {
    /// The hash of the operations, options, seeds, and names and contents of files that made the value; folders are no part of it.
    /// `None` where something is known by its name only: a value made in Rust, a file without a hash, a script.
    pub fn hash(&self) -> Option<Digest> {
        self.digests(content).pop().flatten()
    }
    /// Hashes of all calls by which recipes are compared: what is known by its name only counts by its name.
    pub(super) fn identities(&self) -> Vec<Digest> {
        self.digests(|a| Some(content(a).unwrap_or_else(|| json!(a)))).into_iter().flatten().collect()
    }
    fn digests(&self, of: impl Fn(&Argument) -> Option<Value>) -> Vec<Option<Digest>> {
        let mut all: Vec<Option<Digest>> = Vec::with_capacity(self.calls().len());
        for call in self.calls() {
            let arg = |a: &Argument| match a {
                Argument::Call(at) => all[*at].map(|d| json!({ "call": d })),
                other => of(other),
            };
            let args: Option<Vec<Value>> = call.args.iter().map(arg).collect();
            all.push(args.map(|args| digest(call, args)));
        }
        all
    }
}

/// What an argument is, where it is known by its content.
fn content(argument: &Argument) -> Option<Value> {
    match argument {
        // An architecture's size is in the name of its file.
        Argument::File { path, sha256 } => sha256.map(|d| json!({ "file": [Path::new(path).file_name().map(|n| n.to_string_lossy()), d] })),
        Argument::Target(_) => Some(json!("target")),
        Argument::Value(v) => Some(json!({ "value": v })),
        Argument::Call(_) | Argument::Script(_) | Argument::Named(_) => None,
    }
}

fn digest(call: &Call, args: Vec<Value>) -> Digest {
    // The path of a file that an option names does not count, its content does.
    let options: Map<String, Value> =
        call.options.iter().filter(|(name, _)| !call.files.contains_key(*name)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let text = json!([DOMAIN, call.operation, args, options, call.files, call.seed]);
    Digest::of(canonical(&text))
}

/// JSON whose maps are in the order of their keys.
fn canonical(json: &Value) -> String {
    match json {
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|e| e.0);
            let entry = |(k, v): (&String, &Value)| format!("{}:{}", Value::from(k.as_str()), canonical(v));
            format!("{{{}}}", entries.into_iter().map(entry).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}
