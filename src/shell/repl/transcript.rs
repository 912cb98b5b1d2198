//! The inputs of a session that succeeded, and the script that they make.

use super::lexer::{Token, TokenKind, tokens};
use rhai::Engine;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The variable by which a script reads what the prompt calls `_`.
const LAST: &str = "Last";

/// An input that succeeded.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// As the prompt counts them.
    pub number: usize,
    /// As it was typed.
    pub code: String,
    /// The input whose value was `_` then.
    pub last: Option<usize>,
}

/// A place in an input that reads the value of an earlier one.
struct Reading {
    /// Bytes of the text.
    from: usize,
    to: usize,
    /// The input that is read; `None` where that is not known before it runs.
    of: Option<usize>,
}

/// The input with `_`, the last value, in the name that a script can read. `_` of a switch stays.
pub(super) fn with_last(code: &str) -> Cow<'_, str> {
    let all = tokens(code);
    if !(0..all.len()).any(|i| is_last(code, &all[i])) {
        return Cow::Borrowed(code);
    }
    all.iter().map(|t| if is_last(code, t) { LAST } else { t.text }).collect::<String>().into()
}

fn is_last(code: &str, t: &Token<'_>) -> bool {
    t.text == "_" && !code[t.start + 1..].trim_start().starts_with("=>")
}

fn solid(code: &str) -> Vec<Token<'_>> {
    tokens(code).into_iter().filter(|t| !matches!(t.kind, TokenKind::Blank | TokenKind::Comment)).collect()
}

fn readings(input: &Input) -> Vec<Reading> {
    let code = &input.code;
    let all = solid(code);
    let mut found = Vec::new();
    for (i, t) in all.iter().enumerate() {
        let end = |t: &Token<'_>| t.start + t.text.len();
        if is_last(code, t) || t.text == LAST && t.kind == TokenKind::Name {
            found.push(Reading { from: t.start, to: end(t), of: input.last });
        } else if t.text == "Out" && t.kind == TokenKind::Name {
            let number = all.get(i + 2).filter(|n| n.kind == TokenKind::Number && all[i + 1].text == "[").and_then(|n| n.text.parse().ok());
            let close = all.get(i + 3).filter(|c| c.text == "]");
            let of = number.filter(|_| close.is_some());
            found.push(Reading { from: t.start, to: of.and(close).map_or(end(t), end), of });
        }
    }
    found
}

/// The script that does again what the inputs did, and how many of them it has only as comments: those that read values of others in a way
/// that is not known before they run. A value that a later input reads gets a variable, `out_3`.
pub(super) fn script(inputs: &[Input]) -> (String, usize) {
    let read: BTreeSet<usize> = inputs.iter().flat_map(readings).filter_map(|r| r.of).collect();
    let (mut out, mut left_out) = (String::new(), 0);
    for input in inputs {
        let line = rewritten(input).map(|code| if read.contains(&input.number) { kept(&code, input.number) } else { statement(&code) });
        match line.filter(|code| Engine::new().compile(code).is_ok()) {
            Some(code) => out += &code,
            None => {
                left_out += 1;
                out += &input.code.trim().lines().map(|l| format!("// {l}")).collect::<Vec<_>>().join("\n");
            }
        }
        out.push('\n');
    }
    (out, left_out)
}

/// The input with variables in the place of earlier values.
fn rewritten(input: &Input) -> Option<String> {
    let mut code = input.code.clone();
    for r in readings(input).iter().rev() {
        code.replace_range(r.from..r.to, &format!("out_{}", r.of?));
    }
    Some(code)
}

/// The statements with their last value in a variable.
fn kept(code: &str, number: usize) -> String {
    let mut depth = 0_usize;
    let mut start = 0;
    for t in solid(code) {
        match t.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.saturating_sub(1),
            _ if depth == 0 && t.text == ";" => start = t.start + 1,
            _ => {}
        }
    }
    let (before, value) = code.split_at(start);
    let gap = if before.trim().is_empty() { "" } else { " " };
    statement(&format!("{}{gap}let out_{number} = {}", before.trim_end(), value.trim()))
}

/// An input as a statement of a script, which a semicolon ends.
fn statement(input: &str) -> String {
    let input = input.trim();
    if solid(input).last().is_none_or(|t| t.text == ";") {
        return input.to_string();
    }
    // A semicolon in a comment ends nothing.
    let in_comment = tokens(input).last().is_some_and(|t| t.kind == TokenKind::Comment);
    format!("{input}{};", if in_comment { "\n" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_inputs_are_statements() {
        for (input, saved) in [
            ("a + 1", "a + 1;"),
            (" let a = 1; ", "let a = 1;"),
            ("a // note", "a // note\n;"),
            ("let a = 1; // note", "let a = 1; // note"),
            ("fn f() { 1 }", "fn f() { 1 };"),
        ] {
            assert_eq!(statement(input), saved);
        }
    }

    #[test]
    fn earlier_values_become_variables() {
        let input = |number: usize, code: &str, last: Option<usize>| Input { number, code: code.into(), last };
        let inputs = [
            input(1, "let a = 20;", None),
            input(2, "a + 1", None),
            input(4, "let b = 2; _ * b", Some(2)),
            input(5, "Out[2] + Out[4] // both", Some(4)),
            input(6, "switch a { 20 => 1, _ => 2 }", Some(5)),
            input(7, "Out[a - 18]", Some(6)),
            input(8, "_ + 1", Some(6)),
        ];
        let (text, left_out) = script(&inputs);
        let expected = "let a = 20;\nlet out_2 = a + 1;\nlet b = 2; let out_4 = out_2 * b;\nout_2 + out_4 // both\n;\n\
                        let out_6 = switch a { 20 => 1, _ => 2 };\n// Out[a - 18]\nout_6 + 1;\n";
        assert_eq!((text.as_str(), left_out), (expected, 1));
        // It runs, and comes to the same.
        assert_eq!(
            Engine::new()
                .eval::<i64>(&text.replace("out_2 + out_4 // both\n;", "let sum = out_2 + out_4;").replace("out_6 + 1;", "sum"))
                .unwrap(),
            63
        );
    }
}
