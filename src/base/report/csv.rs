//! Tables as comma-separated values (RFC 4180), and back.

use super::Table;
use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// The tables, an empty line between two. Numbers are plain numbers.
pub(super) fn csv(tables: &[Table]) -> String {
    let quoted = |c: &str| if c.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", c.replace('"', "\"\"")) } else { c.to_string() };
    let cell = |v: &Value| match v {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    };
    let table = |t: &Table| {
        let (headers, rows) = t.plain();
        let headers = headers.iter().map(|h| quoted(h)).collect::<Vec<_>>().join(",");
        let rows = rows.iter().map(|r| r.iter().map(cell).collect::<Vec<_>>().join(",") + "\n");
        format!("{headers}\n{}", rows.collect::<String>())
    };
    tables.iter().map(table).collect::<Vec<_>>().join("\n")
}

/// The rows of a table as maps from the names in the first line: numbers, texts, and null where a cell is empty. An empty line ends it.
///
/// # Errors
/// `Format`, with the line: an open quotation mark, or another number of cells than there are names.
pub fn read_csv(text: &str) -> Result<Vec<Map<String, Value>>> {
    let mut lines = records(text.strip_prefix('\u{feff}').unwrap_or(text))?.into_iter();
    let Some((_, names)) = lines.next() else { return Ok(Vec::new()) };
    let names: Vec<String> = names.into_iter().map(|c| c.0).collect();
    let is_empty = |cells: &[(String, bool)]| matches!(cells, [(only, false)] if only.is_empty()) && names.len() > 1;
    let mut rows = Vec::new();
    for (line, cells) in lines.take_while(|(_, cells)| !is_empty(cells)) {
        if cells.len() != names.len() {
            let e = Error::format(format!("line {line} has {} cells, and there are {} names", cells.len(), names.len()));
            return Err(e.hint("the first line names the columns, and commas stand between cells"));
        }
        rows.push(names.iter().cloned().zip(cells.into_iter().map(value)).collect());
    }
    Ok(rows)
}

/// What was quoted is text; what reads as a number is one.
fn value((cell, quoted): (String, bool)) -> Value {
    if quoted {
        return cell.into();
    }
    if cell.is_empty() {
        return Value::Null;
    }
    let whole = cell.parse::<i64>().ok().map(Value::from);
    let number = || cell.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number);
    whole.or_else(number).unwrap_or_else(|| cell.into())
}

/// The cells of each record, each with whether it was quoted, and the line in which the record begins.
fn records(text: &str) -> Result<Vec<(usize, Vec<(String, bool)>)>> {
    let mut all = Vec::new();
    let (mut cells, mut cell, mut quoted, mut open) = (Vec::new(), String::new(), false, false);
    let (mut line, mut first) = (1, 1);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if open && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if open => open = false,
            '"' if cell.is_empty() && !quoted => (open, quoted) = (true, true),
            ',' if !open => cells.push((std::mem::take(&mut cell), std::mem::take(&mut quoted))),
            '\r' if !open && chars.peek() == Some(&'\n') => {}
            '\n' if !open => {
                cells.push((std::mem::take(&mut cell), std::mem::take(&mut quoted)));
                all.push((first, std::mem::take(&mut cells)));
                first = line;
            }
            c => cell.push(c),
        }
    }
    if open {
        return Err(Error::format(format!("the quotation mark in line {first} is never closed")));
    }
    if !cell.is_empty() || quoted || !cells.is_empty() {
        cells.push((cell, quoted));
        all.push((first, cells));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Cell;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_again() {
        let mut t = Table::new("", &["name", ">n", "note"]);
        t.row([Cell::from("a, \"b\"\nc"), Cell::shown("3.16 M", 3_157_200.0), Cell::from("")]);
        t.row([Cell::from("d"), Cell::shown("0.5", 0.123_456_789), Cell::from("e")]);
        let rows = read_csv(&csv(&[t])).unwrap();
        assert_eq!(json!(rows[0]), json!({ "name": "a, \"b\"\nc", "n": 3_157_200, "note": null }));
        assert_eq!(json!(rows[1]), json!({ "name": "d", "n": 0.123_456_789, "note": "e" }));
    }

    #[test]
    fn other_programs_files_are_read_and_broken_ones_refused() {
        let rows = read_csv("\u{feff}id,loss\r\n\"07\",1e-3\r\n8,nan\r\n\r\nnext,table\r\n").unwrap();
        assert_eq!(json!(rows), json!([{ "id": "07", "loss": 0.001 }, { "id": 8, "loss": "nan" }]));
        assert!(read_csv("").unwrap().is_empty());
        assert!(read_csv("a,b\n1\n").unwrap_err().to_string().starts_with("line 2 has 1 cells, and there are 2 names"));
        assert!(read_csv("a\n\"1\n").unwrap_err().to_string().contains("line 2 is never closed"));
    }
}
