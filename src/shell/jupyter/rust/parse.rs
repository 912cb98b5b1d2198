//! Whether a Rust cell is whole.

use super::super::IsComplete;
use ra_ap_syntax::{Edition, Parse, SourceFile, SyntaxKind, T};

/// Puts blanks where the kernel's own commands (`:dep …`, `!ls`) stand, so that a parser sees Rust alone.
pub(super) fn without_commands(code: &str) -> String {
    let mut at_top = true;
    let mut blank = |line: &str| {
        // evcxr runs programs where no code has come yet; behind code, `!` is an operator.
        let command = is_command(line) || at_top && line.starts_with('!');
        at_top &= command || line.starts_with("//") || line.trim().is_empty();
        if command { " ".repeat(line.len()) } else { line.to_string() }
    };
    code.split('\n').map(&mut blank).collect::<Vec<_>>().join("\n")
}

/// A line such as `:dep rand = "0.10"`, and not a piece of code that begins with a path.
fn is_command(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(':') && line[1..].starts_with(|c: char| c.is_ascii_alphabetic())
}

/// The commands of a cell, without their arguments.
pub fn commands(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter(|l| is_command(l)).filter_map(|l| l.split_whitespace().next())
}

/// Brackets that are open at the end of the code, and whether a text or comment is.
fn open_at_end(code: &str) -> (i32, bool) {
    let file = SourceFile::parse(code, Edition::Edition2024);
    let mut depth = 0;
    let mut open = false;
    for token in file.syntax_node().descendants_with_tokens().filter_map(|e| e.into_token()) {
        let text = token.text();
        match token.kind() {
            T!['('] | T!['['] | T!['{'] => depth += 1,
            T![')'] | T![']'] | T!['}'] => depth -= 1,
            SyntaxKind::STRING | SyntaxKind::BYTE_STRING | SyntaxKind::C_STRING => open = !closed(text),
            SyntaxKind::COMMENT if text.starts_with("/*") => open = text.matches("/*").count() > text.matches("*/").count(),
            _ => {}
        }
    }
    (depth, open)
}

/// Whether a text literal ends with the quote that began it, with as many `#`.
fn closed(text: &str) -> bool {
    let Some(start) = text.find('"') else { return false };
    let marks = text[..start].matches('#').count();
    let raw = text[..start].contains('r');
    let body = &text[start + 1..];
    let Some(inner) = body.strip_suffix(&"#".repeat(marks)).and_then(|b| b.strip_suffix('"')) else { return false };
    raw || inner.chars().rev().take_while(|c| *c == '\\').count() % 2 == 0
}

/// What stands before a cell's statements where a parser wants a whole file.
pub(super) const HEAD: &str = "fn cell() {\n";

/// A cell, without commands, as the body of a function.
pub(super) fn parse_statements(code: &str) -> Parse<SourceFile> {
    SourceFile::parse(&format!("{HEAD}{code}\n}}"), Edition::Edition2024)
}

/// Whether a cell can be run.
pub fn is_complete(code: &str) -> IsComplete {
    let code = without_commands(code);
    let (depth, open) = open_at_end(&code);
    if depth > 0 || open {
        return IsComplete::Incomplete { indent: "    ".repeat(usize::try_from(depth).unwrap_or(0)) };
    }
    let text = code.trim_end();
    let end = HEAD.len() + text.len();
    // A statement that wants an expression, or a semicolon, after its last word is not whole yet.
    let mut errors = parse_statements(text).errors().into_iter().map(|e| usize::from(e.range().start())).peekable();
    if errors.peek().is_none() {
        return IsComplete::Complete;
    }
    if depth == 0 && errors.all(|at| at >= end) { IsComplete::Incomplete { indent: String::new() } } else { IsComplete::Invalid }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn more(indent: &str) -> IsComplete {
        IsComplete::Incomplete { indent: indent.into() }
    }

    #[test]
    fn whole_cells_run() {
        for code in [
            "",
            "1 + 1",
            "let x = 2;\nx * 3",
            "fn f<'a>(x: &'a str) -> &'a str { x }\nf(\"{ ( \\\"\")",
            "let s = r#\"a \" { b\"#;",
            "let c = '{'; // }",
            ":dep rand = \"0.10\"\nuse rand::random;",
            "/* a /* b */ c */ 1",
            "model(\"classifier\", ModelOptions { classes: Some(3.into()), ..default() })?",
        ] {
            assert_eq!(is_complete(code), IsComplete::Complete, "{code}");
        }
    }

    #[test]
    fn open_cells_go_on() {
        assert_eq!(is_complete("fn f() {"), more("    "));
        assert_eq!(is_complete("let x = [1,\n  (2,"), more("        "));
        assert_eq!(is_complete("let s = \"abc"), more(""));
        assert_eq!(is_complete("let s = r##\"abc\"#"), more(""));
        assert_eq!(is_complete("/* abc"), more(""));
        assert_eq!(is_complete("let x ="), more(""));
        assert_eq!(is_complete("1 +"), more(""));
    }

    #[test]
    fn wrong_cells_are_invalid() {
        for code in ["let x = 1; }", ")", "let let = 3;", "fn 3() {}"] {
            assert_eq!(is_complete(code), IsComplete::Invalid, "{code}");
        }
    }
}
