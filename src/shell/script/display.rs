//! How values look at the prompt.

use super::literal::key;
use super::value::{ModelValue, Report, to_json};
use crate::error::Result;
use crate::learn::data::Dataset;
use crate::model::Value;
use crate::report::{Cell, Graphics, Media, Plot, Show, Style, Table, plot_text, table_text, wrapped};
use crate::shell::Output;
use rhai::{Dynamic, Map};

/// The value of an input, ready to be shown.
#[derive(Debug, Clone)]
pub struct Shown(pub(super) Dynamic);

impl Shown {
    /// True for `()`, which is not shown.
    pub fn is_nothing(&self) -> bool {
        self.0.is_unit()
    }
}

pub(super) fn show_value(output: &dyn Output, value: &Dynamic) -> Result<()> {
    if value.is_unit() {
        return Ok(());
    }
    if output.is_notebook() {
        value_media(value)?.into_iter().for_each(|m| output.display(m));
        return Ok(());
    }
    if let Some(report) = value.read_lock::<Report>() {
        return output.show(&*report.show);
    }
    if let Some(card) = card(value) {
        output.print(&table_text(&card, &output.style()));
        return Ok(());
    }
    if let Some(plot) = value.read_lock::<Plot>()
        && output.graphics() != Graphics::None
    {
        return output.show(&*plot);
    }
    let (style, text) = (output.style(), value_text(value, &output.style()));
    // Lines of one value are wrapped at words; tables and texts of the script have lines of their own.
    let is_line = value.is::<Dataset>() || value.is::<Value>();
    output.print(&style.width.filter(|_| is_line).map_or(text.clone(), |width| wrapped(&text, width, 2)));
    Ok(())
}

/// A value as outputs of a notebook; none for `()`.
pub(super) fn value_media(value: &Dynamic) -> Result<Vec<Media>> {
    if value.is_unit() {
        return Ok(Vec::new());
    }
    if let Some(report) = value.read_lock::<Report>() {
        return crate::report::media(&*report.show);
    }
    if let Some(plot) = value.read_lock::<Plot>() {
        return crate::report::media(&*plot);
    }
    if let Some(table) = value.read_lock::<Table>() {
        return crate::report::media(&*table);
    }
    if let Some(card) = card(value) {
        return crate::report::media(&card);
    }
    Ok(vec![Media::text(value_text(value, &Style::plain()))])
}

/// A model's card, where it can be said what it is made of.
fn card(value: &Dynamic) -> Option<Table> {
    value.read_lock::<ModelValue>()?.model.card().ok()
}

/// A value as text.
pub(super) fn value_text(value: &Dynamic, style: &Style) -> String {
    if let Some(m) = value.read_lock::<ModelValue>() {
        return m.line().unwrap_or_default();
    }
    if let Some(d) = value.read_lock::<Dataset>() {
        return d.line().unwrap_or_default();
    }
    if let Some(t) = value.read_lock::<Value>() {
        return t.line().unwrap_or_default();
    }
    if let Some(t) = value.read_lock::<Table>() {
        return table_text(&t, style);
    }
    if let Some(p) = value.read_lock::<Plot>() {
        return plot_text(&p, style);
    }
    if let Some(r) = value.read_lock::<Report>() {
        return crate::report::text(&*r.show, style);
    }
    if let Some(e) = value.read_lock::<super::raised::Raised>() {
        return e.0.to_string();
    }
    if value.is_map() || value.is_array() {
        return structure(value);
    }
    value.to_string()
}

/// A list as the engine writes it, on one line. What lies deeper than 32 levels is `…`.
pub(super) fn list_line(list: &[Dynamic], depth: usize) -> String {
    format!("[{}]", list.iter().map(|v| inner_line(v, depth + 1)).collect::<Vec<_>>().join(", "))
}

/// As [`list_line`], for a map.
pub(super) fn map_line(map: &Map, depth: usize) -> String {
    let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k:?}: {}", inner_line(v, depth + 1))).collect();
    format!("#{{{}}}", entries.join(", "))
}

pub(super) fn inner_line(value: &Dynamic, depth: usize) -> String {
    if depth >= DEPTH {
        "…".into()
    } else if let Ok(list) = value.as_array_ref() {
        list_line(&list, depth)
    } else if let Ok(map) = value.as_map_ref() {
        map_line(&map, depth)
    } else if value.is_string() {
        format!("{:?}", value.to_string())
    } else if value.is_unit() {
        "()".into()
    } else {
        value_text(value, &Style::plain())
    }
}

/// How deeply lists and maps are shown.
const DEPTH: usize = 32;

/// How many entries of lists and maps are shown, inner ones among them.
const ENTRIES: usize = 1000;

/// Lists and maps: on one line when short, else one entry per line.
///
/// What lies deeper than 32 levels is `…`; of more than 1000 entries in all, the rest is counted.
fn structure(value: &Dynamic) -> String {
    level(value, 0, &std::cell::Cell::new(ENTRIES))
}

/// One list or map; `left` counts down the entries that are still shown.
fn level(value: &Dynamic, depth: usize, left: &std::cell::Cell<usize>) -> String {
    const WIDTH: usize = 80;
    if depth >= DEPTH {
        return "…".into();
    }
    let inner = |v: &Dynamic| {
        if v.is_string() {
            format!("{:?}", v.to_string())
        } else if v.is_map() || v.is_array() {
            level(v, depth + 1, left)
        } else if v.is_unit() {
            "()".into()
        } else {
            value_text(v, &Style::plain())
        }
    };
    // The first entry of a list is shown in any case, so that its form is seen.
    let shown = |i: usize| {
        let room = left.get();
        left.set(room.saturating_sub(1));
        i == 0 || room > 0
    };
    let rest = |all: usize, parts: &mut Vec<String>| {
        if parts.len() < all {
            parts.push(format!("… {} more", all - parts.len()));
        }
    };
    let (open, close, parts): (&str, &str, Vec<String>) = if let Ok(list) = value.as_array_ref() {
        let mut parts: Vec<String> = list.iter().enumerate().take_while(|(i, _)| shown(*i)).map(|(_, v)| inner(v)).collect();
        rest(list.len(), &mut parts);
        ("[", "]", parts)
    } else if let Ok(map) = value.as_map_ref() {
        let entries = map.iter().enumerate().take_while(|(i, _)| shown(*i));
        let mut parts: Vec<String> = entries.map(|(_, (k, v))| format!("{}: {}", key(k), inner(v))).collect();
        rest(map.len(), &mut parts);
        ("#{ ", " }", parts)
    } else {
        return value.to_string();
    };
    let one_line = format!("{open}{}{close}", parts.join(", "));
    if parts.is_empty() {
        return one_line.replace("  ", "");
    }
    if one_line.len() + depth * 2 <= WIDTH && !one_line.contains('\n') {
        return one_line;
    }
    let pad = "  ".repeat(depth + 1);
    let body: Vec<String> = parts.iter().map(|p| format!("{pad}{p}")).collect();
    format!("{}\n{}\n{}{}", open.trim(), body.join(",\n"), "  ".repeat(depth), close.trim())
}

/// A table of a list of maps (a row each), of a map (a row per entry), or of a report's first table.
///
/// `columns` picks and orders those of a list of maps; without it, columns of text come first.
///
/// # Errors
/// `Argument` for values that are no rows.
pub(super) fn table_of(value: &Dynamic, columns: &[String], digits: Option<usize>) -> Result<Table> {
    use crate::error::Error;
    let cell = |v: &Dynamic| cell(v, digits);
    if let Some(t) = value.read_lock::<Table>() {
        return Ok(t.clone());
    }
    if let Some(r) = value.read_lock::<Report>() {
        return r.show.tables().into_iter().next().ok_or_else(|| Error::missing("this report has no table"));
    }
    if let Ok(map) = value.as_map_ref() {
        let mut t = Table::new("", &["name", "value"]);
        for (k, v) in map.iter().filter(|(k, _)| columns.is_empty() || columns.iter().any(|c| *c == k.as_str())) {
            t.row([Cell::from(k.to_string()), cell(v)]);
        }
        return Ok(t);
    }
    let list = value.as_array_ref().map_err(|_| Error::argument("a table is made of a list of maps, a map or a report"))?;
    if !list.is_empty() && list.iter().all(Dynamic::is_array) {
        return Ok(rows(&list, digits));
    }
    let mut headers: Vec<String> = Vec::new();
    for row in list.iter() {
        match row.as_map_ref() {
            Ok(map) => headers.extend(map.keys().map(ToString::to_string).filter(|k| !headers.contains(k)).collect::<Vec<_>>()),
            Err(_) if !headers.contains(&"value".to_string()) => headers.push("value".into()),
            Err(_) => {}
        }
    }
    let is_number = |h: &String| {
        list.iter().all(|r| match r.as_map_ref() {
            Ok(map) => map.get(h.as_str()).is_none_or(|v| v.is_int() || v.is_float() || v.is_unit()),
            Err(_) => r.is_int() || r.is_float(),
        })
    };
    if columns.is_empty() {
        headers.sort_by_key(|h| is_number(h));
    } else {
        headers = columns.to_vec();
    }
    let marked: Vec<String> = headers.iter().map(|h| if is_number(h) { format!(">{h}") } else { h.clone() }).collect();
    let mut t = Table::new("", &marked.iter().map(String::as_str).collect::<Vec<_>>());
    for row in list.iter() {
        t.row(headers.iter().map(|h| match row.as_map_ref() {
            Ok(map) => map.get(h.as_str()).map(&cell).unwrap_or_default(),
            Err(_) if h == "value" => cell(row),
            Err(_) => Cell::default(),
        }));
    }
    Ok(t)
}

/// A table of lists: a row each, under the first where that is all text, else under numbers from 1.
fn rows(list: &[Dynamic], digits: Option<usize>) -> Table {
    let row = |r: &Dynamic| r.as_array_ref().map(|r| r.iter().map(|v| cell(v, digits)).collect::<Vec<_>>()).unwrap_or_default();
    let width = list.iter().filter_map(|r| r.as_array_ref().ok().map(|r| r.len())).max().unwrap_or(0);
    let named = list[0].as_array_ref().is_ok_and(|r| r.len() == width && r.iter().all(Dynamic::is_string));
    let names: Vec<String> = match list[0].as_array_ref() {
        Ok(first) if named => first.iter().map(ToString::to_string).collect(),
        _ => (1..=width).map(|n| format!(">{n}")).collect(),
    };
    let mut t = Table::new("", &names.iter().map(String::as_str).collect::<Vec<_>>());
    for r in list.iter().skip(usize::from(named)) {
        t.row(row(r));
    }
    t
}

fn cell(value: &Dynamic, digits: Option<usize>) -> Cell {
    if let Ok(x) = value.as_float() {
        return digits.map_or_else(|| Cell::number(x), |n| Cell::shown(format!("{x:.*}", n.min(17)), x));
    }
    if let Ok(n) = value.as_int() {
        return Cell::shown(n.to_string(), n as f64);
    }
    if value.is_map() || value.is_array() {
        return to_json(value).map_or_else(|_| value_text(value, &Style::plain()), |j| j.to_string()).into();
    }
    if value.is_unit() { Cell::default() } else { value_text(value, &Style::plain()).into() }
}
