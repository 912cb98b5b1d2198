//! Where the cursor stands in an input: what may be completed there, and which call it is in.

use super::lexer::{Token, TokenKind, tokens};

/// An open bracket before the cursor.
#[derive(Debug, Clone)]
struct Frame<'a> {
    bracket: &'a str,
    /// The function, for the bracket of a call.
    call: Option<&'a str>,
    /// The call is a method: its first argument stands before the dot.
    method: bool,
    commas: usize,
    /// Keys of a map that are complete, and the one whose value is being typed.
    keys: Vec<&'a str>,
    key: Option<&'a str>,
}

/// What can be completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CursorPlace<'a> {
    /// In a comment or after a number: nothing.
    Nothing,
    /// A variable, function or keyword.
    Name,
    /// After a dot. `of` is the variable, or `None` for the result of an expression.
    Field { of: Option<&'a str> },
    /// A key of the option map of a call; `given` are there already.
    OptionKey { call: &'a str, given: Vec<&'a str> },
    /// The value of an option; `quoted`: inside a text.
    OptionValue { call: &'a str, key: &'a str, quoted: bool },
    /// Inside a text that is argument `argument` (from 0) of `call`, or of no call.
    Text { call: Option<&'a str>, argument: usize },
}

/// A cursor's place: what is completed, and the text typed of it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor<'a> {
    pub place: CursorPlace<'a>,
    /// Byte offset at which `typed` begins.
    pub start: usize,
    pub typed: &'a str,
    /// The innermost call around the cursor, and the argument (from 0) that is being typed.
    pub call: Option<(&'a str, usize)>,
    /// The option that is being typed, with its call.
    pub option: Option<(&'a str, &'a str)>,
}

/// Looks at the input before the cursor.
pub fn cursor(before: &str) -> Cursor<'_> {
    let all = tokens(before);
    let solid: Vec<Token<'_>> = all.iter().copied().filter(|t| !matches!(t.kind, TokenKind::Blank | TokenKind::Comment)).collect();
    let last = all.last().copied();
    let frames = frames(&solid, last.is_some_and(|t| t.kind == TokenKind::Text && t.open));
    let call = frames.iter().rev().find_map(|f| f.call.map(|c| (c, f.commas + usize::from(f.method))));
    // An element of a list is completed as the value of the option that takes the list.
    let lists = frames.iter().rev().take_while(|f| f.bracket == "[").count();
    let outer = &frames[..frames.len() - lists];
    let map = outer.last().filter(|f| f.bracket == "#{" && (lists == 0 || f.key.is_some()));
    let map_call = map.and_then(|_| outer.iter().rev().nth(1)).and_then(|f| f.call);
    let option = map_call.zip(map.and_then(|m| m.key));
    let at = |place, start: usize| Cursor { place, start, typed: &before[start..], call, option };
    let end = before.len();
    let Some(last) = last else { return at(CursorPlace::Name, end) };
    match last.kind {
        TokenKind::Comment if last.open || !before.ends_with('\n') => at(CursorPlace::Nothing, end),
        TokenKind::Text if last.open => {
            let start = last.start + 1;
            match (map_call, map.and_then(|m| m.key)) {
                (Some(call), Some(key)) => at(CursorPlace::OptionValue { call, key, quoted: true }, start),
                _ => {
                    let inner = frames.last().and_then(|f| f.call.map(|c| (c, f.commas + usize::from(f.method))));
                    at(CursorPlace::Text { call: inner.map(|i| i.0), argument: inner.map_or(0, |i| i.1) }, start)
                }
            }
        }
        TokenKind::Number | TokenKind::Text => at(CursorPlace::Nothing, end),
        _ => {
            let word = matches!(last.kind, TokenKind::Name | TokenKind::Keyword | TokenKind::Call);
            let start = if word { last.start } else { end };
            let previous: Vec<&Token<'_>> = solid.iter().filter(|t| t.start < start).collect();
            let dot = previous.last().is_some_and(|t| t.text == ".");
            let range = dot && previous.len() >= 2 && previous[previous.len() - 2].text == ".";
            let place = if dot && !range {
                let of = previous.len().checked_sub(2).map(|i| previous[i]);
                match of.map(|t| t.kind) {
                    Some(TokenKind::Name | TokenKind::Keyword) if !is_field(&previous) => CursorPlace::Field { of: of.map(|t| t.text) },
                    _ => CursorPlace::Field { of: None },
                }
            } else {
                match (map, map_call, map.and_then(|m| m.key)) {
                    (Some(m), Some(call), None) => CursorPlace::OptionKey { call, given: m.keys.clone() },
                    (Some(_), None, None) => CursorPlace::Nothing,
                    (Some(_), Some(call), Some(key)) => CursorPlace::OptionValue { call, key, quoted: false },
                    _ => CursorPlace::Name,
                }
            };
            at(place, start)
        }
    }
}

/// True for `a.b.`: the name before the last dot is itself a field.
fn is_field(previous: &[&Token<'_>]) -> bool {
    previous.len().checked_sub(3).is_some_and(|i| previous[i].text == ".")
}

fn frames<'a>(solid: &[Token<'a>], in_text: bool) -> Vec<Frame<'a>> {
    let mut frames: Vec<Frame<'a>> = Vec::new();
    let count = if in_text { solid.len() - 1 } else { solid.len() };
    for i in 0..count {
        let t = solid[i];
        match t.kind {
            TokenKind::Open => {
                let call = (t.text == "(").then(|| i.checked_sub(1).map(|p| solid[p])).flatten();
                let call = call.filter(|c| c.kind == TokenKind::Call).map(|c| c.text);
                let method = call.is_some() && i >= 2 && solid[i - 2].text == ".";
                frames.push(Frame { bracket: t.text, call, method, commas: 0, keys: Vec::new(), key: None });
            }
            TokenKind::Close => {
                frames.pop();
            }
            TokenKind::Symbol => {
                let Some(frame) = frames.last_mut() else { continue };
                match t.text {
                    "," => {
                        frame.commas += 1;
                        frame.key = None;
                    }
                    ":" if frame.bracket == "#{" && i > 0 => {
                        let key = solid[i - 1].text.trim_matches('"');
                        frame.keys.push(key);
                        frame.key = Some(key);
                    }
                    ";" if frame.bracket == "{" => frame.commas = 0,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    frames
}

/// Place of the bracket that belongs to the one at byte `at`, both as byte offsets of one-byte brackets.
pub fn matching_bracket(code: &str, at: usize) -> Option<usize> {
    let brackets: Vec<(usize, bool)> = tokens(code)
        .iter()
        .filter(|t| matches!(t.kind, TokenKind::Open | TokenKind::Close))
        // The bracket of `#{` is its second byte.
        .map(|t| (t.start + t.text.len() - 1, t.kind == TokenKind::Open))
        .collect();
    let index = brackets.iter().position(|b| b.0 == at)?;
    let mut depth = 0;
    let mut step = |&(place, opens): &(usize, bool)| {
        depth += if opens { 1 } else { -1 };
        (depth == 0).then_some(place)
    };
    if brackets[index].1 { brackets[index..].iter().find_map(&mut step) } else { brackets[..=index].iter().rev().find_map(&mut step) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        use CursorPlace::{Field, Name, Nothing, OptionKey, OptionValue, Text};
        let given = |g: &[&'static str]| g.to_vec();
        for (before, place, typed) in [
            ("pru", Name, "pru"),
            ("let x = pru", Name, "pru"),
            ("m.", Field { of: Some("m") }, ""),
            ("x + m.par", Field { of: Some("m") }, "par"),
            ("m.prune().", Field { of: None }, ""),
            ("r.per_class.", Field { of: None }, ""),
            ("0..n", Name, "n"),
            ("prune(m, #{ ", OptionKey { call: "prune", given: vec![] }, ""),
            ("prune(m, #{ ratio: 0.4, sc", OptionKey { call: "prune", given: given(&["ratio"]) }, "sc"),
            ("m.prune(#{ scope: ", OptionValue { call: "prune", key: "scope", quoted: false }, ""),
            ("m.prune(#{ scope: \"gl", OptionValue { call: "prune", key: "scope", quoted: true }, "gl"),
            ("model(\"best.o", Text { call: Some("model"), argument: 0 }, "best.o"),
            ("m.save(\"out/", Text { call: Some("save"), argument: 1 }, "out/"),
            ("let s = \"out/", Text { call: None, argument: 0 }, "out/"),
            ("let o = #{ a", Nothing, "a"),
            ("// pru", Nothing, ""),
            ("/* pru", Nothing, ""),
            ("12", Nothing, ""),
            ("f(a)\nprune(m, #{ \n  ra", OptionKey { call: "prune", given: vec![] }, "ra"),
        ] {
            let c = cursor(before);
            assert_eq!((&c.place, c.typed), (&place, typed), "{before}");
            assert_eq!(c.start + c.typed.len(), before.len(), "{before}");
        }
    }

    #[test]
    fn the_call_and_its_argument() {
        for (before, call) in [
            ("prune(m, ", Some(("prune", 1))),
            ("m.prune(", Some(("prune", 1))),
            ("f(g(1), [2, 3], ", Some(("f", 2))),
            ("f(g(1", Some(("g", 0))),
            ("f(1)", None),
            ("if (a", None),
        ] {
            assert_eq!(cursor(before).call, call, "{before}");
        }
        assert_eq!(cursor("prune(m, #{ ratio: 0").option, Some(("prune", "ratio")));
    }

    #[test]
    fn brackets_match_outside_texts() {
        let code = "f(#{ a: \")\" }, [1])";
        for (a, b) in [(1, 18), (3, 12), (15, 17)] {
            assert_eq!(matching_bracket(code, a), Some(b));
            assert_eq!(matching_bracket(code, b), Some(a));
        }
        assert_eq!(matching_bracket(code, 9), None);
        assert_eq!(matching_bracket("(", 0), None);
    }

    proptest::proptest! {
        #[test]
        fn no_input_fails(code in "[a-z\"`#{}()\\[\\].,:;/* \n0-9é]{0,40}") {
            let c = cursor(&code);
            proptest::prop_assert!(code.is_char_boundary(c.start));
            for at in 0..code.len() {
                matching_bracket(&code, at);
            }
        }
    }
}
