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
    /// What stands there in the first recipe.
    pub left: String,
    /// What stands there in the second.
    pub right: String,
}

impl fmt::Display for Parting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the same for {} steps, then {}: {} and {}", self.common, self.place, self.left, self.right)
    }
}

/// For something that is not there.
const NOTHING: &str = "nothing";

/// What differs between two calls that are not the same.
enum Difference {
    /// A place, and what stands there in each.
    Here(String, String, String),
    /// A place at which both have results of calls, and which those are.
    Inside(String, usize, usize),
}

impl Recipe {
    /// Where two recipes part; `None` for recipes of the same value.
    pub fn compare(&self, other: &Self) -> Option<Parting> {
        let (ours, theirs) = (self.identities(), other.identities());
        let (mut a, mut b) = (self.0.len() - 1, other.0.len() - 1);
        let mut outermost = None;
        let mut within = String::new();
        loop {
            let (own, foreign) = (self.chain_to(a), other.chain_to(b));
            let same = own.iter().zip(&foreign).take_while(|&(&a, &b)| ours[a] == theirs[b]).count();
            let common = *outermost.get_or_insert(same);
            let found = match (own.get(same), foreign.get(same)) {
                (None, None) => return None,
                (Some(&x), Some(&y)) => difference(&self.0[x], &other.0[y], |p, q| ours[p] == theirs[q]),
                (x, y) => {
                    let name = |recipe: &Self, at: Option<&usize>| at.map_or(NOTHING.into(), |&at| recipe.0[at].operation.clone());
                    Difference::Here("step".into(), name(self, x), name(other, y))
                }
            };
            match found {
                Difference::Here(place, left, right) => return Some(Parting { common, place: within + &place, left, right }),
                Difference::Inside(place, x, y) => {
                    within += &format!("{place}: ");
                    (a, b) = (x, y);
                }
            }
        }
    }
}

/// The first difference of two calls. `same` says whether calls of the two recipes have the same result.
fn difference(x: &Call, y: &Call, same: impl Fn(usize, usize) -> bool) -> Difference {
    if x.operation != y.operation {
        return Difference::Here("operation".into(), x.operation.clone(), y.operation.clone());
    }
    let name = &x.operation;
    let option = |call: &Call, key: &str| call.options.get(key).map_or("default".into(), Value::to_string);
    let keys: BTreeSet<&String> = x.options.keys().chain(y.options.keys()).collect();
    if let Some(key) = keys.into_iter().find(|k| x.options.get(*k) != y.options.get(*k)) {
        return Difference::Here(format!("{name}: option '{key}'"), option(x, key), option(y, key));
    }
    if x.seed != y.seed {
        let seed = |s: Option<u64>| s.map_or("not known".into(), |s| s.to_string());
        return Difference::Here(format!("{name}: the seed"), seed(x.seed), seed(y.seed));
    }
    if let Some((key, digest)) = x.files.iter().find(|(k, v)| y.files.get(*k) != Some(v)) {
        let other = y.files.get(key).map_or(NOTHING.into(), ToString::to_string);
        return Difference::Here(format!("{name}: content of the file of option '{key}'"), digest.to_string(), other);
    }
    for i in 0..x.args.len().max(y.args.len()) {
        let (p, q) = (x.args.get(i), y.args.get(i));
        let place = format!("{name}: argument {}", i + 1);
        match (p, q) {
            (Some(Argument::Call(p)), Some(Argument::Call(q))) if same(*p, *q) => {}
            (Some(Argument::Call(p)), Some(Argument::Call(q))) => return Difference::Inside(place, *p, *q),
            (p, q) if p == q || matches!((p, q), (Some(Argument::Target(_)), Some(Argument::Target(_)))) => {}
            (p, q) => return Difference::Here(place, text(p), text(q)),
        }
    }
    Difference::Here(format!("{name}: files"), format!("{:?}", x.files), format!("{:?}", y.files))
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
