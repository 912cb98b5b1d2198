//! Which names a cell reads and which functions it defines, from its text.

use crate::shell::repl::lexer::{Token, TokenKind, tokens};
use std::collections::BTreeSet;

/// Names in a cell.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Those that it may read from outside of it: variables that it has not made before, functions that it calls.
    pub read: BTreeSet<String>,
    /// Functions that it defines.
    pub functions: BTreeSet<String>,
}

/// The names in a cell. Parameters of closures count as read if they have the name of a variable outside.
pub fn names(code: &str) -> Names {
    let mut found = Names::default();
    let all: Vec<Token<'_>> = tokens(code).into_iter().filter(|t| !matches!(t.kind, TokenKind::Blank | TokenKind::Comment)).collect();
    let text = |i: usize| all.get(i).map_or("", |t| t.text);
    let mut made: BTreeSet<&str> = BTreeSet::new();
    // What a `let` makes is there after its statement.
    let mut making = Vec::new();
    let mut depth = 0usize;
    // Functions do not see variables outside: of their bodies, calls count. The depth that ends one.
    let mut function: Option<usize> = None;
    for (i, token) in all.iter().enumerate() {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => {
                depth = depth.saturating_sub(1);
                if token.text == "}" && function == Some(depth) {
                    function = None;
                }
            }
            TokenKind::Symbol if token.text == ";" && depth == 0 => made.extend(making.drain(..)),
            TokenKind::Keyword if token.text == "fn" => {
                function = Some(depth);
                found.functions.insert(text(i + 1).to_string());
            }
            TokenKind::Call if i > 0 && matches!(text(i - 1), "fn" | ".") => {}
            TokenKind::Call => {
                found.read.insert(token.text.to_string());
            }
            TokenKind::Name if function.is_none() => {
                let member = i > 0 && text(i - 1) == "." && (i < 2 || text(i - 2) != ".");
                let key = text(i + 1) == ":" && text(i + 2) != ":";
                let assigned = text(i + 1) == "=" && text(i + 2) != "=";
                if i > 0 && matches!(text(i - 1), "let" | "const") {
                    making.extend((depth == 0).then_some(token.text));
                } else if !(member || key || assigned || made.contains(token.text)) {
                    found.read.insert(token.text.to_string());
                }
            }
            // `text ${ code } text`
            TokenKind::Text if function.is_none() && token.text.starts_with('`') => {
                for inner in token.text.split("${").skip(1) {
                    let code = inner.rsplit_once('}').map_or(inner, |(code, _)| code);
                    found.read.extend(names(code).read.into_iter().filter(|n| !made.contains(n.as_str())));
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: &str) -> String {
        names(code).read.into_iter().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_are_read_before_they_are_made() {
        assert_eq!(read("let m = train(m, d, #{ epochs: n }); m.macs"), "d m n train");
        assert_eq!(read("let k = 3; k + j; x = 5; y += k; z == 1"), "j y z");
        assert_eq!(read("print(`${fmt(m.macs / 1e6)} of ${a[b]}`); // c"), "a b fmt m print");
        assert_eq!(read("rows.map(|r| r.score); 0..top"), "r rows top");
        assert_eq!(read("if a { let inner = 1; } inner"), "a inner");
    }

    #[test]
    fn functions_see_functions_only() {
        let found = names("fn f(a) { let b = g(a); b + c } f(x)");
        assert_eq!(found.functions.into_iter().collect::<Vec<_>>(), ["f"]);
        assert_eq!(found.read.into_iter().collect::<Vec<_>>(), ["f", "g", "x"]);
    }
}
