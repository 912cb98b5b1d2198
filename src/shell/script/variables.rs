//! The variables of a session.

use super::display::{Shown, value_text};
use super::{KEPT, Session, find, properties, recipe_text, value};
use crate::learn::data::Dataset;
use crate::model::{Model, Value};
use crate::report::{Plot, Show, Style, Table};
use rhai::{Array, Dynamic, Map, Scope};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

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
        let kept: Vec<(&str, Dynamic)> = KEPT.iter().filter_map(|name| Some((*name, self.scope.get_value::<Dynamic>(name)?))).collect();
        self.scope = snapshot.0;
        for (name, value) in kept {
            self.scope.set_or_push(name, value);
        }
    }

    /// Whether the variables are those of a snapshot, with the same values.
    pub fn is_as(&self, snapshot: &Snapshot) -> bool {
        let of = |scope: &Scope<'static>| -> Vec<(String, Dynamic)> {
            let all = scope.iter_raw().filter(|(name, ..)| !KEPT.contains(name));
            all.map(|(name, _, value)| (name.to_string(), value.flatten_clone())).collect()
        };
        let (now, before) = (of(&self.scope), of(&snapshot.0));
        now.len() == before.len() && now.iter().zip(&before).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
    }

    /// Names of variables with models that this session trained or searched for and did not save, in lists and maps too; of a value
    /// without a variable, what the prompt calls it: `_`, `Out[3]`.
    pub fn unsaved(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let mut lost = |value: &Dynamic| {
            let mut models = Vec::new();
            models_in(&value.flatten_clone(), &mut models);
            models.retain(|m| self.shared.is_unsaved(m));
            // A model of several names is lost once.
            models.iter().filter(|m| seen.insert(recipe_text(m))).count() > 0
        };
        let own = self.scope.iter_raw().filter(|(name, ..)| !KEPT.contains(name));
        let mut names: Vec<String> = own.filter(|v| lost(v.2)).map(|v| v.0.to_string()).collect();
        // The scope gives the newest first.
        names.reverse();
        let last = self.scope.get(KEPT[1]).filter(|v| lost(v)).map(|_| "_".to_string());
        let outs = self.scope.get_value::<Array>(KEPT[0]).unwrap_or_default();
        let others = outs.iter().enumerate().filter(|(_, v)| lost(v)).map(|(n, _)| format!("{}[{n}]", KEPT[0]));
        names.into_iter().chain(last).chain(others).collect()
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

/// The models in a value.
fn models_in(value: &Dynamic, found: &mut Vec<Model>) {
    if let Some(m) = value.read_lock::<value::ModelValue>() {
        found.push(m.model.clone());
    } else if let Ok(list) = value.as_array_ref() {
        list.iter().for_each(|v| models_in(v, found));
    } else if let Ok(map) = value.as_map_ref() {
        map.values().for_each(|v| models_in(v, found));
    }
}

impl Snapshot {
    /// Names and values, without what the prompt keeps.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &Dynamic)> {
        self.0.iter_raw().filter(|v| !KEPT.contains(&v.0)).map(|(name, _, value)| (name, value))
    }
}

/// Whether two values are equal: of models, tensors and datasets, whether they are the same one.
pub(super) fn same(a: &Dynamic, b: &Dynamic) -> bool {
    if a.type_id() != b.type_id() {
        return false;
    }
    if let (Ok(a), Ok(b)) = (a.as_array_ref(), b.as_array_ref()) {
        return a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b));
    }
    if let (Ok(a), Ok(b)) = (a.as_map_ref(), b.as_map_ref()) {
        return a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.0 == b.0 && same(a.1, b.1));
    }
    if let (Some(a), Some(b)) = (a.read_lock::<value::ModelValue>(), b.read_lock::<value::ModelValue>()) {
        return std::ptr::eq(a.model.graph(), b.model.graph());
    }
    if let (Some(a), Some(b)) = (a.read_lock::<value::Report>(), b.read_lock::<value::Report>()) {
        return Arc::ptr_eq(&a.show, &b.show);
    }
    if let (Some(a), Some(b)) = (a.read_lock::<Dataset>(), b.read_lock::<Dataset>()) {
        return a.recipe() == b.recipe() && a.split == b.split && a.len() == b.len();
    }
    if let (Some(a), Some(b)) = (a.read_lock::<Value>(), b.read_lock::<Value>()) {
        return a.tensor.id() == b.tensor.id();
    }
    if let (Some(a), Some(b)) = (a.read_lock::<Table>(), b.read_lock::<Table>()) {
        return a.data() == b.data();
    }
    if let (Some(a), Some(b)) = (a.read_lock::<Plot>(), b.read_lock::<Plot>()) {
        return a.data() == b.data();
    }
    if let (Ok(a), Ok(b)) = (a.as_float(), b.as_float()) {
        return a.to_bits() == b.to_bits();
    }
    let plain = a.is_int() || a.is_bool() || a.is_string() || a.is_char() || a.is_unit() || a.is_fnptr();
    // Others do not tell: an input that may have changed them counts.
    plain && a.to_string() == b.to_string()
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
