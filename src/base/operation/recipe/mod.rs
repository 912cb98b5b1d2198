//! How a value came to be, as a value: the calls that made it, each with what it was given.
//!
//! A [`Recipe`] is a list of [`Call`]s in an order in which they can run; the last one makes the value. An argument is the
//! result of an earlier call of the list, a file with a hash of its content, or a literal. Equal calls stand in the list once,
//! so that a teacher, or a dataset that several calls read, adds nothing when it is used again.
//!
//! What a call gives depends on its operation, its arguments, its options and, where it draws numbers at random, the session's
//! seed; these are in the recipe and in its [hashes](Recipe::hash). Device, number of threads and version of the program are
//! not: the first may change the last bits of a result, the second does not, and a store of results should be emptied when the
//! third changes.
//!
//! ```
//! use compresso_base::operation::{Argument, Call, Recipe};
//! use serde_json::Map;
//! let opened = Recipe::of(Call::new("model", [Argument::Value("yolov8n".into())], Map::new()).seeded(0));
//! let halved = Recipe::of(Call::new("prune", [Argument::Call(opened.clone())], Map::new()).seeded(0));
//! assert_eq!(halved.steps().iter().map(|s| s.operation.as_str()).collect::<Vec<_>>(), ["model", "prune"]);
//! assert_eq!(halved.prefix(1).unwrap().hash(), opened.hash());
//! ```

mod compare;
mod hash;
#[cfg(test)]
mod tests;

pub use compare::Parting;

use super::Digest;
use crate::error::{Error, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Something that a call was given. `C` says how it names the result of another call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Argument<C = usize> {
    /// The result of another call: in a recipe's list, the place of that call.
    Call(C),
    /// A file or folder that is read.
    File {
        /// As the call was given it.
        path: String,
        /// Hash of its content, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
    /// Where the call writes its result; no part of what the result is.
    Target(String),
    /// A number or a text.
    Value(Value),
    /// An expression of the script language, from a file of a version that kept these.
    Script(String),
    /// A value that was made elsewhere, in Rust; only its name is known.
    Named(String),
}

/// A call of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call<C = usize> {
    /// Its name in scripts, such as `prune`.
    pub operation: String,
    /// In the order of the operation's signature.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Argument<C>>,
    /// Options that differ from the defaults, but those on which the result does not depend.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// Hashes of the files that options name, by option.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Digest>,
    /// The session's seed, of a call that may have drawn from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The file that holds the result, of a call that writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl<C> Call<C> {
    /// A call under the session's seed, with the options that differ from the defaults.
    pub fn new(operation: &str, args: impl IntoIterator<Item = Argument<C>>, options: Map<String, Value>) -> Self {
        let args = args.into_iter().collect();
        Self { operation: operation.into(), args, options, files: BTreeMap::new(), seed: None, file: None }
    }
    /// The call, which may have drawn numbers from the session's seed.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
    /// The call, one of whose options names a file of this content.
    #[must_use]
    pub fn reading(mut self, option: &str, content: Digest) -> Self {
        self.files.insert(option.into(), content);
        self
    }
    /// The call, whose result lies in a file.
    #[must_use]
    pub fn writing(self, file: impl Into<String>) -> Self {
        Self { file: Some(file.into()), ..self }
    }
    /// The same call with other names for the results of calls.
    fn with_calls<D>(self, mut name: impl FnMut(C) -> D) -> Call<D> {
        let arg = |a| match a {
            Argument::Call(c) => Argument::Call(name(c)),
            Argument::File { path, sha256 } => Argument::File { path, sha256 },
            Argument::Target(path) => Argument::Target(path),
            Argument::Value(v) => Argument::Value(v),
            Argument::Script(text) => Argument::Script(text),
            Argument::Named(name) => Argument::Named(name),
        };
        let args = self.args.into_iter().map(arg).collect();
        Call { operation: self.operation, args, options: self.options, files: self.files, seed: self.seed, file: self.file }
    }
}

impl Call {
    /// Places of the calls whose results it was given.
    pub fn given(&self) -> impl Iterator<Item = usize> {
        self.args.iter().filter_map(|a| if let Argument::Call(at) = a { Some(*at) } else { None })
    }
    /// The call whose result it changes: its first argument.
    pub fn before(&self) -> Option<usize> {
        if let Some(Argument::Call(at)) = self.args.first() { Some(*at) } else { None }
    }
    /// True for a call that stands for a value made elsewhere.
    fn is_named(&self) -> bool {
        matches!(self.args.first(), Some(Argument::Named(_)))
    }
}

/// The calls that made a value. Cheap to clone; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe(Arc<[Call]>);

/// Longer lists are refused on reading.
const MAX_CALLS: usize = 100_000;

impl Recipe {
    /// The recipe that ends with this call.
    pub fn of(call: Call<Self>) -> Self {
        let mut list = List::default();
        let last = call.with_calls(|recipe| list.join(&recipe.0));
        list.add(last);
        Self(list.calls.into())
    }
    /// All calls; each comes after those whose results it was given.
    pub fn calls(&self) -> &[Call] {
        &self.0
    }
    /// The call that makes the value.
    pub fn last(&self) -> &Call {
        self.0.last().expect("a recipe has a call")
    }
    /// Places of the calls from which the value came step by step: from each to what it changed, oldest first.
    pub fn chain(&self) -> Vec<usize> {
        self.chain_to(self.0.len() - 1)
    }
    /// As [`Recipe::chain`], for the result of the call at a place.
    fn chain_to(&self, place: usize) -> Vec<usize> {
        let mut chain: Vec<usize> = std::iter::successors(Some(place), |&at| self.0[at].before()).collect();
        chain.reverse();
        chain
    }
    fn known_chain(&self) -> Vec<usize> {
        self.chain().into_iter().filter(|&at| !self.0[at].is_named()).collect()
    }
    /// The calls of [`Recipe::chain`], without a beginning of which only the name is known.
    pub fn steps(&self) -> Vec<&Call> {
        self.known_chain().into_iter().map(|at| &self.0[at]).collect()
    }
    /// The recipe of what was there after this many of its [steps](Recipe::steps); `None` for none of them, or more than there
    /// are.
    pub fn prefix(&self, steps: usize) -> Option<Self> {
        let at = self.known_chain().get(steps.checked_sub(1)?).copied()?;
        Some(self.at(at))
    }
    /// The recipe of the result of the call at a place of the list.
    ///
    /// # Panics
    /// Outside of the list.
    pub fn at(&self, place: usize) -> Self {
        let mut needed = vec![false; place + 1];
        needed[place] = true;
        for at in (0..=place).rev() {
            if needed[at] {
                self.0[at].given().for_each(|given| needed[given] = true);
            }
        }
        let mut places = vec![0; place + 1];
        let mut calls = Vec::new();
        for at in (0..=place).filter(|&at| needed[at]) {
            places[at] = calls.len();
            calls.push(self.0[at].clone().with_calls(|given| places[given]));
        }
        Self(calls.into())
    }
}

/// A list of calls in the making.
#[derive(Default)]
struct List {
    calls: Vec<Call>,
    /// Place of each call, by its text.
    places: HashMap<String, usize>,
}

impl List {
    /// The place of a call; it is added where there is no equal one.
    fn add(&mut self, call: Call) -> usize {
        let text = serde_json::to_string(&call).expect("a call is texts and numbers");
        *self.places.entry(text).or_insert_with(|| {
            self.calls.push(call);
            self.calls.len() - 1
        })
    }
    /// The place of the last of these calls.
    fn join(&mut self, calls: &[Call]) -> usize {
        let mut places = Vec::with_capacity(calls.len());
        for call in calls {
            let place = self.add(call.clone().with_calls(|given| places[given]));
            places.push(place);
        }
        places.last().copied().expect("a recipe has a call")
    }
}

/// The form in files.
#[derive(Serialize, Deserialize)]
struct Written<C> {
    version: u32,
    calls: C,
}

const VERSION: u32 = 1;

impl Serialize for Recipe {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        Written { version: VERSION, calls: &*self.0 }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Recipe {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let written = Written::<Value>::deserialize(from)?;
        if written.version != VERSION {
            let e = format!("the recipe is of version {}, this program reads version {VERSION}", written.version);
            return Err(D::Error::custom(e));
        }
        let calls: Vec<Call> = serde_json::from_value(written.calls).map_err(D::Error::custom)?;
        Self::checked(calls).map_err(D::Error::custom)
    }
}

impl Recipe {
    /// A recipe of calls from elsewhere.
    ///
    /// # Errors
    /// `Format` for no calls, too many, and one that was given the result of a later one.
    pub fn checked(calls: Vec<Call>) -> Result<Self> {
        if calls.is_empty() || calls.len() > MAX_CALLS {
            return Err(Error::format(format!("a recipe has 1 to {MAX_CALLS} calls, got {}", calls.len())));
        }
        for (at, call) in calls.iter().enumerate() {
            if let Some(given) = call.given().find(|&given| given >= at) {
                return Err(Error::format(format!("call {at} of the recipe ({}) was given the result of call {given}", call.operation)));
            }
        }
        Ok(Self(calls.into()))
    }
}
