//! Text that is compiled besides what the user wrote: a call behind the brace of each `catch`, to which `caught` answers.

use crate::shell::repl::lexer::{Token, TokenKind, tokens};
use rhai::Position;

/// The function that is called with what was caught.
pub(super) const CALLED: &str = "__caught";

/// What was put into a text: line, column (both from 1) and number of characters, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inserted(Vec<(usize, usize, usize)>);

impl Inserted {
    /// The text to be compiled, and what it has more than `code`.
    pub fn into(code: &str) -> (String, Self) {
        let all: Vec<Token<'_>> = tokens(code).into_iter().filter(|t| !matches!(t.kind, TokenKind::Blank | TokenKind::Comment)).collect();
        let (mut out, mut done, mut places) = (String::with_capacity(code.len()), 0, Vec::new());
        for t in all.windows(5).filter(|t| t[0].text == "catch" && t[1].text == "(" && t[3].text == ")" && t[4].text == "{") {
            let (name, end) = (t[2].text, t[4].start + 1);
            let call = format!(" {name} = {CALLED}({name});");
            let line_start = code[..end].rfind('\n').map_or(0, |at| at + 1);
            places.push((code[..end].matches('\n').count() + 1, code[line_start..end].chars().count() + 1, call.chars().count()));
            out += &code[done..end];
            out += &call;
            done = end;
        }
        out += &code[done..];
        (out, Self(places))
    }

    /// A place of the compiled text in the user's.
    pub fn back(&self, at: Position) -> Position {
        let (Some(line), Some(column)) = (at.line(), at.position()) else { return at };
        let before: usize = self
            .0
            .iter()
            .filter(|i| i.0 == line)
            .scan(0, |sum, i| {
                // In the compiled text it stands behind those that were put in before it.
                let here = i.1 + *sum;
                *sum += i.2;
                Some((column >= here).then_some(i.2.min(column - here.min(column))))
            })
            .flatten()
            .sum();
        Position::new(u16::try_from(line).unwrap_or(u16::MAX), u16::try_from(column - before).unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_users_text() {
        let code = "let a = 1;\ntry { b } catch (e) { c } try { d } catch(f){ g }";
        let (compiled, inserted) = Inserted::into(code);
        assert!(compiled.contains("catch (e) { e = __caught(e); c }") && compiled.contains("catch(f){ f = __caught(f); g }"));
        let (was, line) = (code.lines().nth(1).unwrap(), compiled.lines().nth(1).unwrap());
        for name in ["b }", "c }", "d }", "g }"] {
            let at = |text: &str| u16::try_from(text.find(name).unwrap() + 1).unwrap();
            assert_eq!(inserted.back(Position::new(2, at(line))), Position::new(2, at(was)), "{name}");
        }
        assert_eq!(inserted.back(Position::new(1, 5)), Position::new(1, 5));
        assert_eq!(Inserted::into("catch // no block"), ("catch // no block".to_string(), Inserted::default()));
    }
}
