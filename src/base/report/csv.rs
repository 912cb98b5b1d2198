//! Tables as comma-separated values (RFC 4180), and back.

use super::Table;
use crate::error::{Error, Result};
use serde_json::Value;

/// The tables, an empty line between two. Numbers are plain numbers.
pub(super) fn csv(tables: &[Table]) -> String {
    let quoted = |c: &str, always: bool| {
        if always || c.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", c.replace('"', "\"\"")) } else { c.to_string() }
    };
    // Digits that are text stay text.
    let misread = |c: &str| match value(c.into(), false, ',') {
        CsvValue::Whole(_) => true,
        CsvValue::Number(x) => x.is_finite(),
        _ => false,
    };
    let cell = |v: &Value| match v {
        Value::Null => String::new(),
        Value::String(text) => quoted(text, misread(text)),
        other => other.to_string(),
    };
    let table = |t: &Table| {
        let (headers, rows) = t.plain_with(|x| x.to_string().to_lowercase().into());
        let headers = headers.iter().map(|h| quoted(h, false)).collect::<Vec<_>>().join(",");
        let rows = rows.iter().map(|r| r.iter().map(cell).collect::<Vec<_>>().join(",") + "\n");
        format!("{headers}\n{}", rows.collect::<String>())
    };
    tables.iter().map(table).collect::<Vec<_>>().join("\n")
}

/// A cell of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum CsvValue {
    /// Nothing stands there.
    Empty,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Whole(i64),
    /// Another number.
    Number(f64),
    /// Everything else.
    Text(String),
}

/// The rows of a table as pairs of column and cell. Commas, semicolons or tabs stand between cells, by what the first line has; behind
/// semicolons numbers may have a decimal comma. An empty line ends the table.
///
/// What was quoted is text, and so is a number with zeros before it, such as `007`; `nan` and `inf` are numbers.
///
/// # Errors
/// `Format`, with the line: an open quotation mark, another number of cells than there are names, or a name that stands twice.
pub fn read_csv(text: &str) -> Result<Vec<Vec<(String, CsvValue)>>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let separator = separator(text);
    let mut lines = records(text, separator)?.into_iter();
    let Some((_, names)) = lines.next() else { return Ok(Vec::new()) };
    let names: Vec<String> = names.into_iter().map(|c| c.0).collect();
    for (i, name) in names.iter().enumerate() {
        if let Some(first) = names[..i].iter().position(|n| n == name) {
            let e = Error::format(format!("columns {} and {} are both called '{name}'", first + 1, i + 1));
            return Err(e.hint("rename one in the first line"));
        }
    }
    let is_empty = |cells: &[(String, bool)]| matches!(cells, [(only, false)] if only.is_empty()) && names.len() > 1;
    let mut rows = Vec::new();
    for (line, cells) in lines.take_while(|(_, cells)| !is_empty(cells)) {
        if cells.len() != names.len() {
            let e = Error::format(format!("line {line} has {} cells, and there are {} names", cells.len(), names.len()));
            return Err(e.hint("the first line names the columns; commas, semicolons or tabs stand between cells"));
        }
        rows.push(names.iter().cloned().zip(cells.into_iter().map(|(cell, quoted)| value(cell, quoted, separator))).collect());
    }
    Ok(rows)
}

/// What stands between the cells of the first line.
fn separator(text: &str) -> char {
    let mut open = false;
    let first = text.chars().take_while(|&c| {
        open ^= c == '"';
        open || c != '\n'
    });
    let mut quoted = false;
    let outside: Vec<char> = first
        .filter(|&c| {
            quoted ^= c == '"';
            !quoted
        })
        .collect();
    [',', ';', '\t'].into_iter().find(|c| outside.contains(c)).unwrap_or(',')
}

fn value(cell: String, quoted: bool, separator: char) -> CsvValue {
    if quoted {
        return CsvValue::Text(cell);
    }
    match cell.as_str() {
        "" => return CsvValue::Empty,
        "true" | "True" | "TRUE" => return CsvValue::Bool(true),
        "false" | "False" | "FALSE" => return CsvValue::Bool(false),
        _ => {}
    }
    let digits = cell.trim_start_matches(['+', '-']);
    let padded = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    if padded {
        return CsvValue::Text(cell);
    }
    if let Ok(n) = cell.parse() {
        return CsvValue::Whole(n);
    }
    let decimal = |text: &str| text.parse().ok().map(CsvValue::Number);
    let with_comma = || (separator == ';' && !cell.contains('.')).then(|| decimal(&cell.replacen(',', ".", 1))).flatten();
    decimal(&cell).or_else(with_comma).unwrap_or(CsvValue::Text(cell))
}

/// The cells of each record, each with whether it was quoted, and the line in which the record begins.
fn records(text: &str, separator: char) -> Result<Vec<(usize, Vec<(String, bool)>)>> {
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
            c if c == separator && !open => cells.push((std::mem::take(&mut cell), std::mem::take(&mut quoted))),
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
    use CsvValue::{Bool, Empty, Number, Text, Whole};

    fn cells(text: &str) -> Vec<Vec<CsvValue>> {
        read_csv(text).unwrap().into_iter().map(|row| row.into_iter().map(|c| c.1).collect()).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut t = Table::new("", &["name", ">n", "note"]);
        t.row([Cell::from("a, \"b\"\nc"), Cell::shown("3.16 M", 3_157_200.0), Cell::from("")]);
        t.row([Cell::from("d"), Cell::shown("0.5", 0.123_456_789), Cell::from("e")]);
        let text = csv(&[t]);
        let mut odd = Table::new("", &["id", ">loss"]);
        odd.row([Cell::from("42"), Cell::shown("–", f64::NAN)]);
        odd.row([Cell::from("007"), Cell::shown("∞", f64::INFINITY)]);
        let odd = cells(&csv(&[odd]));
        assert_eq!((&odd[0][0], &odd[1]), (&Text("42".into()), &vec![Text("007".into()), Number(f64::INFINITY)]));
        assert!(matches!(odd[0][1], Number(x) if x.is_nan()));
        assert_eq!(read_csv(&text).unwrap()[0].iter().map(|c| c.0.as_str()).collect::<Vec<_>>(), ["name", "n", "note"]);
        let rows =
            [vec![Text("a, \"b\"\nc".into()), Whole(3_157_200), Empty], vec![Text("d".into()), Number(0.123_456_789), Text("e".into())]];
        assert_eq!(cells(&text), rows);
    }

    #[test]
    fn other_programs_files_are_read_and_broken_ones_refused() {
        let rows = cells("\u{feff}id,loss\r\n\"07\",1e-3\r\n8,nan\r\n\r\nnext,table\r\n");
        assert_eq!(rows[0], [Text("07".into()), Number(0.001)]);
        assert!(rows.len() == 2 && matches!(rows[1][1], Number(x) if x.is_nan()));
        assert!(read_csv("").unwrap().is_empty());
        let refused = |text: &str| read_csv(text).unwrap_err().to_string();
        assert!(refused("a,b\n1\n").starts_with("line 2 has 1 cells, and there are 2 names"));
        assert!(refused("a\n\"1\n").contains("line 2 is never closed"));
        assert!(refused("a,b,a\n1,2,3\n").starts_with("columns 1 and 3 are both called 'a'"));
    }

    #[test]
    fn cells_are_what_they_look_like() {
        assert_eq!(
            cells("x\ntrue\nFalse\n007\n-0\n0\n0.5\n1e400\n-3\n"),
            [
                [Bool(true)],
                [Bool(false)],
                [Text("007".into())],
                [Whole(0)],
                [Whole(0)],
                [Number(0.5)],
                [Number(f64::INFINITY)],
                [Whole(-3)],
            ]
        );
        let row = [Text("Ä".into()), Number(0.5), Text("1,5,2".into())];
        assert_eq!(cells("name;\"a,b\";c\nÄ;0,5;1,5,2\n"), [row]);
        assert_eq!(cells("a\tb\n1,5\t2\n"), [[Text("1,5".into()), Whole(2)]]);
    }
}
