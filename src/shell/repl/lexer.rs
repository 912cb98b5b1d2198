//! Splits script text into coloured pieces. Tolerant: it never fails, and marks texts and comments that are still open.

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Keyword,
    /// A name followed by `(`.
    Call,
    Name,
    Number,
    Text,
    Comment,
    /// `(`, `[`, `{` (also `#{`).
    Open,
    Close,
    Symbol,
    Blank,
}

/// A piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    /// Byte offset.
    pub start: usize,
    /// A text or comment that does not end in the input.
    pub open: bool,
}

const KEYWORDS: &[&str] = &[
    "let",
    "const",
    "if",
    "else",
    "switch",
    "while",
    "loop",
    "do",
    "until",
    "for",
    "in",
    "continue",
    "break",
    "return",
    "throw",
    "try",
    "catch",
    "fn",
    "private",
    "import",
    "export",
    "as",
    "true",
    "false",
    "this",
    "global",
    "Fn",
    "call",
    "curry",
    "is_shared",
    "type_of",
    "print",
    "debug",
    "eval",
];

/// Words that are built into the language but are written like functions.
const CALLED: &[&str] = &["print", "debug", "eval", "type_of", "call", "curry", "is_shared"];

/// Words that completion offers beside functions and variables.
pub fn keywords() -> impl Iterator<Item = &'static str> {
    KEYWORDS.iter().copied().filter(|k| !CALLED.contains(k))
}

/// All pieces of `code`, in order and without gaps.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let (length, kind, open) = next(&code[at..]);
        out.push(Token { kind, text: &code[at..at + length], start: at, open });
        at += length;
    }
    out
}

/// Length in bytes, kind and openness of the first piece. `rest` is not empty.
fn next(rest: &str) -> (usize, TokenKind, bool) {
    let first = rest.chars().next().unwrap_or(' ');
    let run = |f: fn(char) -> bool| rest.find(|c| !f(c)).unwrap_or(rest.len());
    if first.is_whitespace() {
        return (run(char::is_whitespace), TokenKind::Blank, false);
    }
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), TokenKind::Comment, false);
    }
    if rest.starts_with("/*") {
        let (length, open) = block_comment(rest);
        return (length, TokenKind::Comment, open);
    }
    match first {
        '"' | '`' | '\'' => {
            let (length, open) = quoted(rest, first);
            (length, TokenKind::Text, open)
        }
        '0'..='9' => (number(rest), TokenKind::Number, false),
        '(' | '[' | '{' => (1, TokenKind::Open, false),
        ')' | ']' | '}' => (1, TokenKind::Close, false),
        '#' if rest.starts_with("#{") => (2, TokenKind::Open, false),
        c if c.is_alphabetic() || c == '_' => {
            let length = run(|c| c.is_alphanumeric() || c == '_');
            let (word, after) = rest.split_at(length);
            let called = after.trim_start().starts_with('(');
            let kind = match KEYWORDS.contains(&word) {
                true if !(called && CALLED.contains(&word)) => TokenKind::Keyword,
                _ if called => TokenKind::Call,
                _ => TokenKind::Name,
            };
            (length, kind, false)
        }
        c => (c.len_utf8(), TokenKind::Symbol, false),
    }
}

/// Block comments nest.
fn block_comment(rest: &str) -> (usize, bool) {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return (at, false);
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    (rest.len(), true)
}

/// `"…"` ends with its line unless a backslash stands last; a back-quoted text may hold `${ code }` and line breaks.
fn quoted(rest: &str, quote: char) -> (usize, bool) {
    let mut chars = rest.char_indices().skip(1).peekable();
    let mut braces = 0usize;
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' if quote != '`' => {
                chars.next();
            }
            '$' if quote == '`' && chars.peek().is_some_and(|(_, n)| *n == '{') => {
                chars.next();
                braces += 1;
            }
            '}' if braces > 0 => braces -= 1,
            '\n' if quote != '`' => return (i, true),
            c if c == quote && braces == 0 => return (i + c.len_utf8(), false),
            _ => {}
        }
    }
    (rest.len(), true)
}

fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digits = |from: usize| from + bytes[from..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    let mut end = digits(0);
    // `1.5`, but not the range `1..5` or the method `1.abs()`.
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = digits(end + 1);
    }
    let exponent = bytes[..end].last().is_some_and(|b| b.eq_ignore_ascii_case(&b'e')) && !rest.starts_with("0x");
    if exponent && bytes.get(end).is_some_and(|b| matches!(b, b'+' | b'-')) && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = digits(end + 1);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(code: &str) -> Vec<(TokenKind, &str)> {
        tokens(code).into_iter().filter(|t| t.kind != TokenKind::Blank).map(|t| (t.kind, t.text)).collect()
    }

    #[test]
    fn pieces_have_their_kinds() {
        use TokenKind::{Call, Close, Comment, Keyword, Name, Number, Open, Symbol, Text};
        assert_eq!(
            kinds("let m = prune(x, #{ ratio: 0.4e-3 }); // \"c\""),
            [
                (Keyword, "let"),
                (Name, "m"),
                (Symbol, "="),
                (Call, "prune"),
                (Open, "("),
                (Name, "x"),
                (Symbol, ","),
                (Open, "#{"),
                (Name, "ratio"),
                (Symbol, ":"),
                (Number, "0.4e-3"),
                (Close, "}"),
                (Close, ")"),
                (Symbol, ";"),
                (Comment, "// \"c\""),
            ]
        );
        assert_eq!(kinds("\"a\\\"b\" 1..3"), [(Text, "\"a\\\"b\""), (Number, "1"), (Symbol, "."), (Symbol, "."), (Number, "3")]);
        assert_eq!(kinds("print(1)")[0], (Call, "print"));
    }

    #[test]
    fn open_texts_and_comments_are_marked() {
        let open = |code: &str| tokens(code).last().is_some_and(|t| t.open);
        for code in ["\"abc", "`a\nb", "/* a /* b */", "`${ \"x\" "] {
            assert!(open(code), "{code}");
        }
        for code in ["\"abc\"", "`a\nb`", "/* a /* b */ */", "`${ `x` }`", "'c'"] {
            assert!(!open(code), "{code}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_byte_is_lost(code in "\\PC{0,60}|[a-z0-9\"`'/*{}()#$ .\n\\\\]{0,60}") {
            let joined: String = tokens(&code).iter().map(|t| t.text).collect();
            proptest::prop_assert_eq!(joined, code);
        }
    }
}
