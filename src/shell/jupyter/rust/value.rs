//! The value of a Rust cell: its last expression, handed to the prelude, which shows it.

use super::parse::{HEAD, parse_statements, without_commands};
use ra_ap_syntax::{AstNode, ast};

/// What stands before the expression; a line break and a bracket stand behind it.
const OPEN: &str = "notebook::value!(";
const CLOSE: &str = "\n);";

/// A cell as the compiler gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    pub code: String,
    /// Line and column of the expression in the cell, from 1, if there is one.
    start: Option<(usize, usize)>,
}

impl Compiled {
    /// Wraps the last expression of a cell. evcxr's own way with values needs a second compilation of each that has no
    /// `evcxr_display`, and takes a value for such a one when anything else of the cell wants a second compilation.
    pub fn of(cell: &str) -> Self {
        let Some(range) = last_expression(cell) else { return Self { code: cell.to_string(), start: None } };
        let (before, value) = (&cell[..range.start], &cell[range.clone()]);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let start = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        let after = &cell[range.end..];
        Self { code: format!("{before}{OPEN}{value}{CLOSE}{after}"), start: Some(start) }
    }

    /// The column of the cell that is this one of the code.
    pub fn column(&self, line: usize, column: usize) -> usize {
        match self.start {
            Some((l, c)) if l == line && column >= c + OPEN.len() => column - OPEN.len(),
            Some((l, c)) if l == line && column > c => c,
            _ => column,
        }
    }

    /// A line of the code as it is in the cell.
    pub fn line(line: &str) -> String {
        line.replacen(OPEN, "", 1)
    }
}

/// Where the last expression is, when the cell is free of errors and ends with one.
fn last_expression(cell: &str) -> Option<std::ops::Range<usize>> {
    let file = parse_statements(&without_commands(cell));
    if !file.errors().is_empty() {
        return None;
    }
    let function = file.syntax_node().children().find_map(ast::Fn::cast)?;
    let list = function.body()?.stmt_list()?;
    let value = list.tail_expr()?;
    if ast::HasAttrs::attrs(&value).next().is_some() {
        return None;
    }
    let range = value.syntax().text_range();
    let at = |offset| usize::from(offset).checked_sub(HEAD.len());
    Some(at(range.start())?..at(range.end())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(cell: &str) -> Option<&str> {
        last_expression(cell).map(|range| &cell[range])
    }

    #[test]
    fn the_last_expression_is_the_value() {
        for (cell, wanted) in [
            ("1 + 1", "1 + 1"),
            ("let x = 2;\nx * 3 // so much\n", "x * 3"),
            (":dep rand = \"0.10\"\nuse rand::random;\nrandom::<u8>()", "random::<u8>()"),
            ("fn f() {}\nmodel(\"a\",\n  default())?", "model(\"a\",\n  default())?"),
            ("for i in 0..3 { }", "for i in 0..3 { }"),
            ("println!(\"a\")", "println!(\"a\")"),
            ("S { a: 1 }", "S { a: 1 }"),
            ("if a { 1 } else { 2 }", "if a { 1 } else { 2 }"),
        ] {
            assert_eq!(value(cell), Some(wanted), "{cell}");
        }
        for cell in ["", "x;", "let x = 1;", "fn f() {}", "use a::b;", "// a comment", "let = 1; x", ":vars", "!ls", "x }"] {
            assert_eq!(value(cell), None, "{cell}");
        }
    }

    #[test]
    fn places_are_those_of_the_cell() {
        let compiled = Compiled::of("let é = 1;\n  é + x // sum\n");
        assert_eq!(compiled.code, "let é = 1;\n  notebook::value!(é + x\n); // sum\n");
        let line = compiled.code.lines().nth(1).unwrap();
        let column = line.chars().position(|c| c == 'x').unwrap() + 1;
        assert_eq!((compiled.column(2, column), compiled.column(2, 3), compiled.column(1, column)), (7, 3, column));
        assert_eq!(compiled.column(2, 9), 3, "inside of what was added");
        assert_eq!(Compiled::line(line), "  é + x");
        assert_eq!(Compiled::of("let x = 1;").code, "let x = 1;");
    }
}
