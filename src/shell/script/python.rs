//! What people write who come from Python, and how it is said here.

use crate::error::{Error, ErrorKind};
use crate::shell::repl::lexer::{Token, TokenKind, tokens};

/// Words of Python and others that are no variables here.
const WORDS: &[(&str, &str)] = &[
    ("None", "nothing is (), as in x == ()"),
    ("null", "nothing is (), as in x == ()"),
    ("nil", "nothing is (), as in x == ()"),
    ("nan", "0.0 / 0.0 is no number; x.is_nan() asks for it"),
    ("True", "write true"),
    ("False", "write false"),
    ("and", "write && for 'and'"),
    ("or", "write || for 'or'"),
    ("not", "write ! for 'not', as in !x"),
    ("is", "write == for 'is', and != for 'is not'"),
    ("elif", "write else if"),
    ("def", "functions are fn name(x) { x + 1 }, short ones |x| x + 1"),
    ("lambda", "functions without a name are |x| x + 1"),
    ("except", "write try { … } catch (e) { … }"),
    ("raise", "write throw \"what went wrong\""),
    ("pass", "an empty block is { }"),
    ("del", "variables stay; a map's entry goes with m.remove(\"name\")"),
    ("class", "there are no classes; maps hold what belongs together: #{ name: \"a\", ratio: 0.3 }"),
    ("with", "files need no opening: read_text(path), write_text(path, text), load(path), save(x, path)"),
    ("from", "nothing needs to be imported: help() lists the functions"),
    ("self", "write this"),
];

/// Functions of Python, NumPy and others that have other names here.
const FUNCTIONS: &[(&str, &str)] = &[
    ("append", "list.push(x) adds an item, and list + [x] is a new list"),
    ("extend", "list.append(other) adds the items of another list, and a + b is a new list"),
    ("length", "x.len() counts"),
    ("size", "x.len() counts"),
    ("str", "`${x}` is x as text, and fmt(x, \".3f\") as text of a format"),
    ("repr", "`${x}` is x as text"),
    ("format", "`${x}` is x as text, and fmt(x, \".3f\") as text of a format"),
    ("upper", "text.to_upper()"),
    ("lower", "text.to_lower()"),
    ("strip", "text.trim() changes the text in its place"),
    ("startswith", "text.starts_with(\"a\")"),
    ("endswith", "text.ends_with(\"a\")"),
    ("assert", "write if !good { throw \"what is wrong\" }"),
    ("sorted", "list.order_by(|x| x) is a sorted list; list.sort() sorts it in its place"),
    ("items", "map.keys() and map.values(); map.keys().map(|k| [k, map[k]])"),
    ("open", "read_text(path), write_text(path, text), load(path), save(x, path)"),
    ("getenv", "env(\"NAME\")"),
    ("listdir", "glob(\"folder/*\")"),
    ("isinstance", "type_of(x)"),
    ("tuple", "lists stand for tuples: [1, 2]"),
    ("dict", "maps are #{ a: 1 }"),
    ("list", "lists are [1, 2, 3]"),
    ("forEach", "list.for_each(|x| print(x)), or for x in list { print(x) }"),
    ("arange", "for i in 0..10, or range(0, 10, 2)"),
    ("linspace", "range(0, 6).map(|i| 0.1 * i)"),
    ("array", "tensor([[1, 2], [3, 4]])"),
    ("ones", "zeros(shape) + 1"),
    ("rand", "random(shape)"),
    ("print", "print takes one value; a text with several is `${a} ${b}`"),
    ("to", "device(\"cuda:0\") chooses where all that follows runs"),
    ("cuda", "device(\"cuda:0\") chooses where all that follows runs"),
    ("cpu", "device(\"cpu\") chooses where all that follows runs"),
    ("eval", "evaluate(m, d) scores a model; none has to be switched to another mode"),
    ("parameters", "m.params counts them, m.weights() gives them by name"),
    ("state_dict", "m.weights() gives the tensors by name"),
    ("val", "evaluate(m, d)"),
    ("export", "save(m, \"m.onnx\"), and help(\"export\") for other runtimes"),
    ("merge", "rows.join_by(others, \"name\")"),
    ("quit", "Ctrl-D leaves the prompt, exit() a script"),
];

/// How a word of another language is written here.
pub(super) fn word(name: &str) -> Option<&'static str> {
    WORDS.iter().find(|w| w.0 == name).map(|w| w.1)
}

/// What does here what a function of this name does elsewhere.
pub(super) fn function(name: &str) -> Option<&'static str> {
    FUNCTIONS.iter().find(|f| f.0 == name).map(|f| f.1).or_else(|| word(name))
}

/// What is meant at a place where the syntax is not ours. `column` is counted from 1, in characters.
pub(super) fn syntax(line: &str, column: usize) -> Option<String> {
    let at = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |c| c.0);
    let all: Vec<Token<'_>> = tokens(line).into_iter().filter(|t| !matches!(t.kind, TokenKind::Blank | TokenKind::Comment)).collect();
    let here = all.iter().position(|t| t.start + t.text.len() > at).unwrap_or(all.len());
    let token = |i: usize| all.get(i).map_or("", |t| t.text);
    let kind = |i: usize| all.get(i).map(|t| t.kind);
    let before = |n: usize| here.checked_sub(n).map_or("", token);
    let name = |i: Option<usize>| i.and_then(|i| all.get(i)).filter(|t| matches!(t.kind, TokenKind::Name | TokenKind::Call));
    if line.trim_start().starts_with('#') && !line.trim_start().starts_with("#{") {
        return Some("comments begin with //".into());
    }
    // A call that comes before this place, and its last bracket is open.
    let call = open_call(&all[..here.min(all.len())]);
    match token(here) {
        "=" | ":" if call.is_some() && matches!(before(2), "(" | ",") && name(here.checked_sub(1)).is_some() => {
            return call.map(|f| option_call(f, before(1), token(here + 1)));
        }
        "=" | ":" if before(2) == "{" || kind(here.wrapping_sub(1)) == Some(TokenKind::Text) => {
            let entry = before(1).trim_matches('"');
            return Some(format!("maps begin with #: #{{ {entry}: {} }}", token(here + 1)));
        }
        ":" if all.iter().take(here).any(|t| t.text == "[") && kind(here.wrapping_sub(1)) == Some(TokenKind::Number) => {
            return Some(format!(
                "a part of a list is list.extract({0}..{1}), of a tensor x.slice(0, {0}, {1})",
                before(1),
                token(here + 1)
            ));
        }
        ":" if matches!(token(0), "if" | "for" | "while" | "else" | "try" | "def" | "elif") => {
            return Some("blocks stand in braces: for x in list { … }, if x { … } else { … }".into());
        }
        "if" if here > 0 && all.iter().skip(here).any(|t| t.text == "else") => {
            return Some("a choice between two values is if condition { a } else { b }".into());
        }
        "for" if all.iter().take(here).any(|t| t.text == "[") => {
            return Some("a list made of another is list.map(|x| x * 2), and list.filter(|x| x > 0) chooses".into());
        }
        "++" | "--" | "+" | "-" if kind(here.wrapping_sub(1)) == Some(TokenKind::Name) && here + 2 >= all.len() => {
            let sign = &token(here)[..1];
            return Some(format!("write {} {sign}= 1", before(1)));
        }
        "(" if before(1) == "let" => return Some("values are taken out one by one: let pair = [1, 2]; let a = pair[0];".into()),
        _ => {}
    }
    if let Some(prefix) = all.get(here.wrapping_sub(1)).filter(|t| kind(here) == Some(TokenKind::Text) && t.start + t.text.len() == at) {
        match prefix.text {
            "f" => return Some("texts with values in them stand between back quotes: `mAP50 ${r.map50}`".into()),
            "r" | "b" => return Some("texts have no letter before them; in \"…\" a backslash is written \\\\".into()),
            _ => {}
        }
    }
    // The word at the place, or the one before it, which the parser took for a name.
    [here, here.wrapping_sub(1)].into_iter().find_map(|i| word(token(i))).map(str::to_string)
}

/// What reads as in Python and means something else: its place as line and column from 1, and the error. `for (a, b) in pairs` takes apart
/// no pairs: `a` is the item and `b` a counter.
pub(super) fn trap(code: &str) -> Option<(usize, usize, Error)> {
    let all: Vec<Token<'_>> = tokens(code).into_iter().filter(|t| !matches!(t.kind, TokenKind::Blank | TokenKind::Comment)).collect();
    let begins = |i: usize| {
        [(0, "for"), (1, "("), (3, ","), (5, ")"), (6, "in")].iter().all(|(k, text)| all.get(i + k).is_some_and(|t| t.text == *text))
    };
    for i in (0..all.len()).filter(|&i| begins(i)) {
        let mut depth = 0_usize;
        let mut last = None;
        for t in &all[i + 7..] {
            match t.kind {
                TokenKind::Open if depth == 0 && t.text == "{" => break,
                TokenKind::Open => depth += 1,
                TokenKind::Close => depth = depth.saturating_sub(1),
                TokenKind::Call if depth == 0 => last = Some(t.text),
                _ => {}
            }
        }
        let (first, second, at) = (all[i + 2].text, all[i + 4].text, all[i].start);
        let hint = match last {
            Some("enumerate") => {
                format!("for ({second}, {first}) in list {{ … }}: the item first, then its place; enumerate is not needed")
            }
            Some("zip") => format!("for pair in a.zip(b) {{ let {first} = pair[0]; let {second} = pair[1]; … }}"),
            _ => continue,
        };
        let e = Error::new(ErrorKind::Script, format!("'for ({first}, {second})' takes no pairs apart: '{second}' would be a counter"));
        let line_start = code[..at].rfind('\n').map_or(0, |n| n + 1);
        return Some((code[..at].matches('\n').count() + 1, code[line_start..at].chars().count() + 1, e.hint(hint)));
    }
    None
}

/// A comment that may have been meant as a division that rounds down: `7 // 2`.
pub(super) fn division(code: &str) -> Option<String> {
    let all = tokens(code);
    all.iter().enumerate().find_map(|(i, t)| {
        let said = t.text.strip_prefix("//").filter(|_| t.kind == TokenKind::Comment)?;
        let before = all[..i].iter().rev().find(|t| t.kind != TokenKind::Blank || t.text.contains('\n'))?;
        let after = said.trim().trim_end_matches([';', ')']);
        let number = !after.is_empty() && after.bytes().all(|b| b.is_ascii_digit());
        let name = after.len() < said.trim().len() && tokens(after).len() == 1 && after.starts_with(char::is_alphabetic);
        let divided = matches!(before.kind, TokenKind::Number | TokenKind::Name | TokenKind::Close) && before.text != "}";
        let dividend = if before.kind == TokenKind::Close { "…" } else { before.text };
        (divided && (number || name)).then(|| format!("// begins a comment; the quotient rounded down is div({dividend}, {after})"))
    })
}

/// The name of the call whose bracket is open at the end of these tokens.
fn open_call<'a>(tokens: &[Token<'a>]) -> Option<&'a str> {
    let mut depth = 0;
    for (i, t) in tokens.iter().enumerate().rev() {
        match t.kind {
            TokenKind::Close => depth += 1,
            TokenKind::Open if depth > 0 => depth -= 1,
            TokenKind::Open => return tokens.get(i.checked_sub(1)?).filter(|t| t.kind == TokenKind::Call).map(|t| t.text),
            _ => {}
        }
    }
    None
}

/// `options stand in a map: prune(m, #{ ratio: 0.3 })`
fn option_call(function: &str, option: &str, value: &str) -> String {
    let value = if value.is_empty() { "…" } else { value };
    let arguments: Vec<&str> =
        super::find(function).map(|b| b.signature.args.iter().filter(|a| !a.optional).map(|a| a.name).collect()).unwrap_or_default();
    let comma = if arguments.is_empty() { "" } else { ", " };
    format!("options stand in a map: {function}({}{comma}#{{ {option}: {value} }})", arguments.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_before_the_place_counts_too() {
        assert_eq!(syntax("if not a { 1 }", 8).as_deref(), Some("write ! for 'not', as in !x"));
        assert_eq!(syntax("if a and b { 1 }", 6).as_deref(), Some("write && for 'and'"));
        assert_eq!(syntax("let x = [1, 2", 14), None);
        assert_eq!(syntax("", 1), None);
    }

    #[test]
    fn what_reads_as_in_python_and_is_not_is_told() {
        let hint = |code: &str| trap(code).map(|t| (t.0, t.1, t.2.suggestion().unwrap_or_default().to_string()));
        let (line, column, text) = hint("let a = 1;\n  for (i, x) in enumerate(xs) { }").unwrap();
        assert!((line, column) == (2, 3) && text.starts_with("for (x, i) in list"), "{text}");
        assert!(hint("for (i, x) in m.layers.enumerate() { }").is_some());
        assert!(hint("for (a, b) in xs.zip(ys) { }").unwrap().2.contains("let a = pair[0]"));
        for fine in [
            "for (x, i) in xs { xs.enumerate() }",
            "for pair in enumerate(xs) { }",
            "for (x, i) in f(xs.zip(ys)) { }",
            "\"for (i, x) in enumerate(xs) {\"",
        ] {
            assert!(trap(fine).is_none(), "{fine}");
        }
    }

    #[test]
    fn comments_that_may_be_divisions_are_told() {
        assert_eq!(division("let n = 7 // 2;").as_deref(), Some("// begins a comment; the quotient rounded down is div(7, 2)"));
        assert_eq!(division("f(n // batch)").as_deref(), Some("// begins a comment; the quotient rounded down is div(n, batch)"));
        for fine in ["let n = 7; // 2", "let n = 7 // pixels", "// 2", "let n = 7\n// 2", "if a { } // 3", "1 // the first 2"] {
            assert_eq!(division(fine), None, "{fine}");
        }
    }

    #[test]
    fn options_are_shown_where_they_belong() {
        assert_eq!(syntax("prune(ratio=0.3)", 12).as_deref(), Some("options stand in a map: prune(m, #{ ratio: 0.3 })"));
        assert_eq!(
            syntax("let a = train(m, d, epochs: 3);", 27).as_deref(),
            Some("options stand in a map: train(model, data, #{ epochs: 3 })")
        );
        assert_eq!(syntax("prune(m, { ratio: 0.3 })", 17).as_deref(), Some("maps begin with #: #{ ratio: 0.3 }"));
        assert_eq!(syntax("let d = {\"a\": 1};", 13).as_deref(), Some("maps begin with #: #{ a: 1 }"));
    }
}
