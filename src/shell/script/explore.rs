//! Looking at the variables of a session, and at what lies in them.

use super::value::{self, Report, from_json};
use super::variables::{Snapshot, same};
use super::{KEPT, Session, display, properties, recipe_text};
use crate::learn::data::Dataset;
use crate::model::Value;
use crate::report::{Cell, Media, Plot, Show, Style, Table, counted, html, shortened_to};
use rhai::{Dynamic, Scope};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Entries of a list that are shown.
const SHOWN: usize = 100;
/// Characters of a value in a line.
const LINE: usize = 100;

/// A variable, or an entry of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: &'static str,
    /// The value in a line.
    pub value: String,
    pub has_entries: bool,
}

impl Session {
    /// The variables in the order of their making, or the entries of what `path` leads to: a variable, an entry of it, and so on.
    pub fn explore(&self, path: &[String]) -> Vec<Entry> {
        let found: Vec<(String, Dynamic)> = match path.split_first() {
            None => {
                let all = (&self.scope).into_iter().map(|(name, v, _)| (name.to_string(), v.flatten_clone()));
                all.filter(|(name, _)| !KEPT.contains(&name.as_str())).collect()
            }
            Some((first, rest)) => {
                let Some(mut at) = self.scope.get(first).map(Dynamic::flatten_clone) else { return Vec::new() };
                for name in rest {
                    let Some(inner) = entries(&at).into_iter().find(|e| e.0 == *name) else { return Vec::new() };
                    at = inner.1;
                }
                entries(&at)
            }
        };
        found.into_iter().map(|(name, v)| entry(name, &v)).collect()
    }

    /// All of a variable's value as one output.
    pub fn view(&self, variable: &str) -> Option<Media> {
        let value = self.scope.get(variable)?.flatten_clone();
        let text = display::value_text(&value, &Style::plain());
        let page = |report: &dyn Show| html(report).ok();
        let shown = if let Some(r) = value.read_lock::<Report>() {
            page(&*r.show)
        } else if let Some(p) = value.read_lock::<Plot>() {
            page(&*p)
        } else if let Some(d) = value.read_lock::<Dataset>() {
            page(&*d)
        } else if let Ok(table) = display::table_of(&value, &[], None) {
            page(&table)
        } else {
            display::value_media(&value).ok()?.into_iter().find_map(|m| m.get("text/html").map(str::to_string))
        };
        let media = Media::text(text);
        Some(match shown {
            Some(html) => media.with("text/html", html),
            None => media,
        })
    }

    /// Variables that are new or have another value than there was, with a text that no other value of them has, where there is one.
    pub fn changed_since(&self, before: &Snapshot) -> HashMap<String, Option<String>> {
        let old: HashMap<&str, &Dynamic> = before.variables().collect();
        let new = self.scope.iter_raw().filter(|v| !KEPT.contains(&v.0));
        let changed = new.filter(|(name, _, now)| old.get(name).is_none_or(|old| !same(&old.flatten_clone(), &now.flatten_clone())));
        changed.map(|(name, _, now)| (name.to_string(), told_by(&now.flatten_clone()))).collect()
    }
}

/// The variables as a table, in the order of their making.
pub(super) fn variables(scope: &Scope<'_>) -> Table {
    let mut table = Table::new("", &["name", "kind", "value", ">memory"]);
    let mut seen = HashSet::new();
    // The newest first; what a later one hides is not there.
    let newest: Vec<(String, Dynamic)> = scope
        .iter_raw()
        .filter(|v| !KEPT.contains(&v.0) && seen.insert(v.0.to_string()))
        .map(|v| (v.0.to_string(), v.2.flatten_clone()))
        .collect();
    for (name, v) in newest.into_iter().rev() {
        let memory = if let Some(m) = v.read_lock::<value::ModelValue>() {
            m.model.stats().ok().map(|s| s.weight_bytes)
        } else {
            v.read_lock::<Value>().map(|t| (t.tensor.elem_count() * t.tensor.dtype().size_in_bytes()) as u64)
        };
        let kind = value::kind_of(&v);
        table.row([Cell::from(name), Cell::from(kind), Cell::from(in_a_line(&v)), memory.map_or_else(Cell::default, Cell::bytes)]);
    }
    table
}

fn entry(name: String, v: &Dynamic) -> Entry {
    Entry { name, kind: value::kind_of(v), value: in_a_line(v), has_entries: has_entries(v) }
}

fn has_entries(v: &Dynamic) -> bool {
    let list = v.as_array_ref().is_ok_and(|a| !a.is_empty());
    list || v.as_map_ref().is_ok_and(|m| !m.is_empty()) || v.is::<Report>() || v.is::<value::ModelValue>() || v.is::<Dataset>()
}

fn entries(v: &Dynamic) -> Vec<(String, Dynamic)> {
    if let Ok(list) = v.as_array_ref() {
        return list.iter().take(SHOWN).enumerate().map(|(i, v)| (format!("[{i}]"), v.flatten_clone())).collect();
    }
    if let Ok(map) = v.as_map_ref() {
        return map.iter().map(|(k, v)| (k.to_string(), v.flatten_clone())).collect();
    }
    if let Some(r) = v.read_lock::<Report>() {
        return r.data().as_object().map(|o| o.iter().map(|(k, v)| (k.clone(), from_json(v))).collect()).unwrap_or_default();
    }
    properties::values_of(v)
}

/// A value in a line: of long lists the first entries.
fn in_a_line(v: &Dynamic) -> String {
    let line = if let Ok(list) = v.as_array_ref() {
        let first: Vec<String> = list.iter().take(6).map(in_a_line).collect();
        let more = if list.len() > first.len() { format!(", … ({})", list.len()) } else { String::new() };
        format!("[{}{more}]", first.join(", "))
    } else if let Ok(map) = v.as_map_ref() {
        let first: Vec<String> = map.iter().take(6).map(|(k, v)| format!("{k}: {}", in_a_line(v))).collect();
        format!("#{{ {}{} }}", first.join(", "), if map.len() > first.len() { ", …" } else { "" })
    } else if let Some(t) = v.read_lock::<Table>() {
        format!("{}{}", titled(&t.title), counted(t.rows.len(), "row"))
    } else if let Some(p) = v.read_lock::<Plot>() {
        p.in_words()
    } else if let Some(r) = v.read_lock::<Report>() {
        let first = || r.show.tables().first().map(|t| t.title.clone()).unwrap_or_default();
        r.show.line().unwrap_or_else(first)
    } else {
        display::inner_line(v, 0)
    };
    shortened_to(line.lines().next().unwrap_or_default(), LINE)
}

fn titled(title: &str) -> String {
    if title.is_empty() { String::new() } else { format!("{title}, ") }
}

/// A text by which a value is told from others of its kind; `None` where nothing does.
fn told_by(v: &Dynamic) -> Option<String> {
    if let Ok(list) = v.as_array_ref() {
        let all: Option<Vec<String>> = list.iter().map(told_by).collect();
        return Some(format!("[{}]", all?.join(",")));
    }
    if let Ok(map) = v.as_map_ref() {
        let all: Option<Vec<String>> = map.iter().map(|(k, v)| Some(format!("{k:?}:{}", told_by(v)?))).collect();
        return Some(format!("#{{{}}}", all?.join(",")));
    }
    if let Some(m) = v.read_lock::<value::ModelValue>() {
        return recipe_text(&m.model);
    }
    if let Some(d) = v.read_lock::<Dataset>() {
        return Some(format!("{} {} {}", serde_json::to_string(&d.recipe()).ok()?, d.split, d.len()));
    }
    if let Some(t) = v.read_lock::<Value>() {
        return Some(format!("{:?}", t.tensor.id()));
    }
    if let Some(t) = v.read_lock::<Table>() {
        return Some(hashed(&t.data()));
    }
    if let Some(p) = v.read_lock::<Plot>() {
        return Some(hashed(&p.data()));
    }
    if let Some(r) = v.read_lock::<Report>() {
        return Some(hashed(r.data()));
    }
    let plain = v.is_int() || v.is_float() || v.is_bool() || v.is_string() || v.is_char() || v.is_unit();
    plain.then(|| format!("{} {}", value::kind_of(v), display::inner_line(v, 0)))
}

fn hashed(data: &serde_json::Value) -> String {
    let mut hasher = DefaultHasher::new();
    data.to_string().hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::shell::Buffer;

    fn session(code: &str) -> Session {
        let mut session = Session::new(Context::new(), std::sync::Arc::new(Buffer::new(Style::plain())));
        session.run(code, "test").unwrap();
        session
    }

    #[test]
    fn models_datasets_and_reports_have_entries() {
        let s = session(
            "let d = dataset(\"shapes\", #{ images: 4, size: 32 }); let m = model(\"yolov8n\", #{ classes: 2, width: 0.125, image_size: 32 });",
        );
        let all = s.explore(&[]);
        let [d, m] = all.as_slice() else { panic!("{all:?}") };
        assert!(d.has_entries && d.value.contains("4 images") && m.kind == "model", "{all:?}");
        let of = |path: &[&str]| s.explore(&path.iter().map(ToString::to_string).collect::<Vec<_>>());
        let classes = of(&["m", "classes"]);
        assert_eq!(classes.len(), 2);
        assert!(of(&["m"]).iter().any(|e| e.name == "macs" && e.kind == "whole number"));
        assert_eq!((of(&["m", "no"]), of(&["no"])), (Vec::new(), Vec::new()));
        assert!(s.view("m").unwrap().get("text/html").unwrap().contains("MACs") && s.view("no").is_none());
    }

    #[test]
    fn vars_tell_kinds_values_and_memory() {
        let mut s = session("let a = 1; let t = zeros([4, 2]); let a = [1, 2]; let text = \"hi\";");
        let shown = s.run("vars()", "test").unwrap();
        insta::assert_snapshot!(display::value_text(&shown.0, &Style::plain()));
    }

    #[test]
    fn long_values_take_a_line() {
        let s = session("let xs = []; for i in 0..1000 { xs.push(i) } let t = \"a\\nb\";");
        let all = s.explore(&[]);
        assert_eq!(all[0].value, "[0, 1, 2, 3, 4, 5, … (1000)]");
        assert_eq!(all[1].value, "\"a\\nb\"");
        assert_eq!(s.explore(&["xs".into()]).len(), SHOWN);
    }

    #[test]
    fn what_changed_is_told_by_its_text() {
        let mut s = session("let a = 1; let b = [1, #{ c: 2.5 }]; let t = table([#{ x: 1 }]);");
        let before = s.snapshot();
        assert!(s.changed_since(&before).is_empty(), "{:?}", s.changed_since(&before));
        s.run("a = 2; b[1].c = 3.5; let f = |x| x + 1; let n = table([#{ x: 1 }]);", "test").unwrap();
        let changed = s.changed_since(&before);
        assert_eq!(changed["a"].as_deref(), Some("whole number 2"));
        assert_eq!(changed["b"].as_deref(), Some("[whole number 1,#{\"c\":number 3.5}]"));
        assert!(changed["f"].is_none() && changed["n"].is_some() && !changed.contains_key("t"), "{changed:?}");
    }
}
