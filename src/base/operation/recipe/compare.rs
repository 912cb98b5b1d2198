//! Where two recipes part.

use super::{Argument, Call, Recipe};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;

/// The first difference between two recipes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// Steps that are the same in both.
    pub common: usize,
    /// What differs: `prune: option 'ratio'`.
    pub place: String,
    pub left: String,
    pub right: String,
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the same for {} steps, then {}: {} and {}", self.common, self.place, self.left, self.right)
    }
}

/// For something that is not there.
const NOTHING: &str = "nothing";

impl Recipe {
    /// Where two recipes part; `None` for recipes of the same value.
    pub fn compare(&self, other: &Self) -> Option<Parting> {
        let (ours, theirs) = (self.identities(), other.identities());
        let (own, foreign) = (self.chain(), other.chain());
        let common = own.iter().zip(&foreign).take_while(|&(&a, &b)| ours[a] == theirs[b]).count();
        let (a, b) = (own.get(common), foreign.get(common));
        let (place, left, right) = match (a, b) {
            (None, None) => return None,
            (Some(&a), Some(&b)) => difference((self, a), (other, b)),
            (a, b) => {
                let name = |recipe: &Self, at: Option<&usize>| at.map_or(NOTHING.into(), |&at| recipe.0[at].operation.clone());
                ("step".into(), name(self, a), name(other, b))
            }
        };
        Some(Parting { common, place, left, right })
    }
}

/// What differs between two calls, and how it is in each.
fn difference((a, at): (&Recipe, usize), (b, bt): (&Recipe, usize)) -> (String, String, String) {
    let (x, y) = (&a.0[at], &b.0[bt]);
    if x.operation != y.operation {
        return ("operation".into(), x.operation.clone(), y.operation.clone());
    }
    let name = &x.operation;
    let option = |call: &Call, key: &str| call.options.get(key).map_or("default".into(), Value::to_string);
    let keys: BTreeSet<&String> = x.options.keys().chain(y.options.keys()).collect();
    if let Some(key) = keys.into_iter().find(|k| x.options.get(*k) != y.options.get(*k)) {
        return (format!("{name}: option '{key}'"), option(x, key), option(y, key));
    }
    if x.seed != y.seed {
        let seed = |s: Option<u64>| s.map_or("not known".into(), |s| s.to_string());
        return (format!("{name}: the seed"), seed(x.seed), seed(y.seed));
    }
    if let Some((key, digest)) = x.files.iter().find(|(k, v)| y.files.get(*k) != Some(v)) {
        let other = y.files.get(key).map_or(NOTHING.into(), ToString::to_string);
        return (format!("{name}: content of the file of option '{key}'"), digest.to_string(), other);
    }
    for i in 0..x.args.len().max(y.args.len()) {
        let (p, q) = (x.args.get(i), y.args.get(i));
        let place = format!("{name}: argument {}", i + 1);
        match (p, q) {
            (Some(Argument::Call(p)), Some(Argument::Call(q))) => {
                if let Some(inner) = a.at(*p).compare(&b.at(*q)) {
                    return (format!("{place}: {}", inner.place), inner.left, inner.right);
                }
            }
            (p, q) if p == q || matches!((p, q), (Some(Argument::Target(_)), Some(Argument::Target(_)))) => {}
            (p, q) => return (place, text(p), text(q)),
        }
    }
    (format!("{name}: files"), format!("{:?}", x.files), format!("{:?}", y.files))
}

fn text(argument: Option<&Argument>) -> String {
    match argument {
        None => NOTHING.into(),
        Some(Argument::Call(_)) => "the result of a call".into(),
        Some(Argument::File { path, sha256: Some(d) }) => format!("{path} ({:.8})", d.to_string()),
        Some(Argument::File { path, sha256: None } | Argument::Target(path)) => path.clone(),
        Some(Argument::Value(v)) => v.to_string(),
        Some(Argument::Script(text)) => text.clone(),
        Some(Argument::Named(name)) => format!("'{name}', made elsewhere"),
    }
}
