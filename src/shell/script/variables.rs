//! The variables of a session.

use super::display::{Shown, value_text};
use super::{KEPT, Session, find, properties, recipe_text, value};
use crate::report::Style;
use rhai::{Array, Dynamic, Map, Scope};
use std::collections::HashMap;
use std::sync::PoisonError;

/// The variables of a session at some time.
#[derive(Clone)]
pub struct Snapshot(Scope<'static>);

impl Session {
    /// Keeps the value of an input of this number, as `Out[number]` and `Last`; nothing is not kept.
    pub fn keep(&mut self, number: usize, value: &Shown) {
        if value.is_nothing() {
            return;
        }
        let mut all = self.scope.get_value::<Array>(KEPT[0]).unwrap_or_default();
        all.resize(number + 1, Dynamic::UNIT);
        all[number] = value.0.clone();
        self.scope.set_or_push(KEPT[0], all);
        self.scope.set_or_push(KEPT[1], value.0.clone());
    }

    /// The variables as they are, for [`Session::restore`].
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.scope.clone())
    }

    /// Puts back the variables that there were; functions stay.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.scope = snapshot.0;
    }

    /// Names of variables with models that this session trained and did not save.
    pub fn unsaved(&self) -> Vec<String> {
        let unsaved = self.shared.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unsaved = |value: &Dynamic| {
            let value = value.flatten_clone();
            let model = value.read_lock::<value::ModelValue>();
            model.and_then(|m| recipe_text(&m.model)).is_some_and(|recipe| unsaved.contains(&recipe))
        };
        let all = self.scope.iter_raw().filter(|(name, _, value)| !KEPT.contains(name) && is_unsaved(value));
        let mut names: Vec<String> = all.map(|v| v.0.to_string()).collect();
        // The scope gives the newest first.
        names.reverse();
        names
    }

    /// Names and kinds of the variables, in the order of their making.
    pub fn variables(&self) -> Vec<(String, &'static str)> {
        // Between inputs each name is there once.
        let all = (&self.scope).into_iter().map(|(name, value, _)| (name.to_string(), value::kind_of(&value.flatten_clone())));
        all.filter(|(name, _)| !KEPT.contains(&name.as_str())).collect()
    }

    /// Names of the entries of maps that variables hold, by the variable; of a list of maps, those of its first.
    pub(super) fn entries(&self) -> Vec<(String, Vec<String>)> {
        let keys = |map: &Map| map.keys().map(ToString::to_string).collect::<Vec<_>>();
        let of = |(name, _, value): (&str, bool, &Dynamic)| {
            let value = value.flatten_clone();
            let found = match value.as_map_ref() {
                Ok(map) => keys(&map),
                Err(_) => keys(&*value.as_array_ref().ok()?.first()?.as_map_ref().ok()?),
            };
            Some((name.to_string(), found))
        };
        self.scope.iter_raw().filter_map(of).collect()
    }

    /// Names of the functions that the session's inputs defined.
    pub fn functions(&self) -> Vec<String> {
        self.functions.iter_functions().filter(|f| !f.name.starts_with("anon$")).map(|f| f.name.to_string()).collect()
    }

    /// Whether this is the name of a variable or a function.
    pub fn knows(&self, name: &str) -> bool {
        self.scope.contains(name) || self.functions.iter_functions().any(|f| f.name == name) || find(name).is_some()
    }

    /// Fields that a variable has, with a word on each.
    pub fn fields(&self, variable: &str) -> Vec<(String, String)> {
        self.scope.get(variable).map(|v| properties::fields_of(&v.flatten_clone())).unwrap_or_default()
    }

    /// A variable's kind and its value in short.
    pub fn describe(&self, variable: &str) -> Option<(&'static str, String)> {
        let value = self.scope.get(variable)?.flatten_clone();
        Some((value::kind_of(&value), value_text(&value, &Style::plain())))
    }
}

/// Drops variables that a later `let` of the same name hides: a cell that is run again makes its models anew.
pub(super) fn forget_shadowed(scope: &mut Scope<'static>) {
    let mut newest: HashMap<String, usize> = HashMap::new();
    for (i, (name, _, _)) in (&*scope).into_iter().enumerate() {
        newest.insert(name.to_string(), i);
    }
    if newest.len() == scope.len() {
        return;
    }
    // What closures share stays shared, and constants stay constant: the values themselves move.
    for (i, (name, value, aliases)) in std::mem::take(scope).into_iter().enumerate() {
        if newest.get(&name) == Some(&i) {
            scope.push_dynamic(name.as_str(), value);
            for alias in aliases {
                scope.set_alias(name.as_str(), alias);
            }
        }
    }
}
