//! What the line editor asks: completion, hints, colours, whether an input is complete.

use super::complete::{self, option_about};
use super::lexer::{TokenKind, tokens};
use super::place::{cursor, matching_bracket};
use crate::report::{Ink, Style};
use crate::shell::script::{Completeness, Session, find};
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hint, Hinter};
use rustyline::history::SearchDirection;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Result};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub(super) struct ShellHelper {
    pub session: Rc<RefCell<Session>>,
    pub style: Style,
    /// The last refresh of an input shows no matching brackets.
    quiet: Cell<bool>,
}

impl ShellHelper {
    pub fn new(session: Rc<RefCell<Session>>, style: Style) -> Self {
        Self { session, style, quiet: Cell::new(false) }
    }
}

impl Helper for ShellHelper {}

/// Text behind the cursor: the rest of an earlier input, or the usage of the function being typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShellHint {
    text: String,
    /// The right arrow takes it over.
    usable: bool,
}

impl Hint for ShellHint {
    fn display(&self) -> &str {
        &self.text
    }
    fn completion(&self) -> Option<&str> {
        self.usable.then_some(&self.text)
    }
}

impl Hinter for ShellHelper {
    type Hint = ShellHint;

    fn hint(&self, line: &str, pos: usize, cx: &Context<'_>) -> Option<ShellHint> {
        if pos < line.len() || line.trim().is_empty() {
            return None;
        }
        let start = cx.history_index();
        let from = if start == cx.history().len() { start.saturating_sub(1) } else { start };
        if let Ok(Some(found)) = cx.history().starts_with(line, from, SearchDirection::Reverse)
            && found.entry.len() > line.len()
            && !found.entry.contains('\n')
        {
            return Some(ShellHint { text: found.entry[line.len()..].to_string(), usable: true });
        }
        let text = usage_hint(line)?;
        let room = self.style.width.unwrap_or(100).saturating_sub(6);
        let text: String = if text.chars().count() > room { text.chars().take(room).chain(['…']).collect() } else { text };
        Some(ShellHint { text: format!("   {text}"), usable: false })
    }
}

/// The doc of the option being typed, else the usage of the call around the cursor.
pub(super) fn usage_hint(before: &str) -> Option<String> {
    let c = cursor(before);
    if let Some((call, key)) = c.option
        && let Some(field) = find(call).and_then(|b| b.signature.fields.iter().find(|f| f.name == key))
    {
        return Some(option_about(field));
    }
    let (call, _) = c.call?;
    find(call).map(|b| b.signature.usage())
}

impl Completer for ShellHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let (start, found) = complete::complete(&self.session.borrow(), &line[..pos]);
        let width = found.iter().map(|s| s.text.chars().count()).max().unwrap_or(0).min(30);
        let room = self.style.width.unwrap_or(100).saturating_sub(width + 3);
        let pair = |s: complete::Suggestion| {
            let about: String = if s.about.chars().count() > room {
                s.about.chars().take(room.saturating_sub(1)).chain(['…']).collect()
            } else {
                s.about.clone()
            };
            let shown = s.text.trim_end_matches([':', ' ']);
            let display = if about.is_empty() { shown.to_string() } else { format!("{shown:<width$}  {about}") };
            Pair { display, replacement: s.text }
        };
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

impl Validator for ShellHelper {
    fn validate(&self, cx: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        let input = cx.input();
        // A text after `%%timeit` goes on in the next line as any script does.
        let script = ["%%timeit", "%timeit", "%%time", "%time"].iter().find_map(|w| input.trim_start().strip_prefix(w)).unwrap_or(input);
        let script = script.trim_start();
        let command = script.starts_with([':', '?']) || script.starts_with('!') && !script.starts_with("!(");
        let complete = command || self.session.borrow().completeness(script) != Completeness::Incomplete;
        Ok(if complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Highlighter for ShellHelper {
    fn highlight<'l>(&self, line: &'l str, pos: usize) -> Cow<'l, str> {
        if !self.style.color {
            return Cow::Borrowed(line);
        }
        let pair = if self.quiet.get() { None } else { bracket_pair(line, pos) };
        Cow::Owned(colored(line, &self.style, pair))
    }
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Owned(self.style.paint(Ink::BoldCyan, prompt))
    }
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(self.style.paint(Ink::Dim, hint))
    }
    fn highlight_candidate<'c>(&self, candidate: &'c str, _: rustyline::CompletionType) -> Cow<'c, str> {
        match candidate.split_once("  ") {
            Some((name, about)) if self.style.color => {
                Cow::Owned(format!("{}  {}", self.style.paint(Ink::Blue, name), self.style.paint(Ink::Dim, about)))
            }
            _ => Cow::Borrowed(candidate),
        }
    }
    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.quiet.set(kind == CmdKind::ForcedRefresh);
        self.style.color
    }
}

/// The bracket at or before the cursor and its partner.
fn bracket_pair(line: &str, pos: usize) -> Option<(usize, usize)> {
    let candidates = [Some(pos), pos.checked_sub(1)];
    candidates.into_iter().flatten().find_map(|at| Some((at, matching_bracket(line, at)?)))
}

/// The input in colours; `pair` are two brackets to stand out. The visible text is unchanged.
pub(super) fn colored(line: &str, style: &Style, pair: Option<(usize, usize)>) -> String {
    let mut out = String::with_capacity(line.len() * 2);
    for t in tokens(line) {
        let bracket = t.start + t.text.len() - 1;
        let stands_out = pair.is_some_and(|(a, b)| bracket == a || bracket == b);
        let ink = match t.kind {
            TokenKind::Keyword => Some(Ink::Magenta),
            TokenKind::Call if find(t.text).is_some() => Some(Ink::Blue),
            TokenKind::Number => Some(Ink::Yellow),
            TokenKind::Text => Some(Ink::Green),
            TokenKind::Comment => Some(Ink::Dim),
            TokenKind::Open | TokenKind::Close if stands_out => Some(Ink::BoldCyan),
            _ => None,
        };
        match ink {
            // A line break inside colours would colour the editor's own indentation.
            Some(ink) => {
                out += &t
                    .text
                    .split('\n')
                    .map(|part| if part.is_empty() { String::new() } else { style.paint(ink, part) })
                    .collect::<Vec<_>>()
                    .join("\n");
            }
            None => out += t.text,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text without ANSI codes.
    fn visible(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("\x1b[") {
            out += before;
            rest = after.split_once('m').map_or("", |(_, r)| r);
        }
        out + rest
    }

    #[test]
    fn colours_leave_the_text_as_it_is() {
        let style = Style { color: true, ..Style::columns(80) };
        let code = "let m = prune(x, #{ a: \"é\n\" }); // 1";
        let text = colored(code, &style, Some((13, 30)));
        assert_eq!(visible(&text), code);
        assert!(text.starts_with("\x1b[35mlet\x1b[0m m = \x1b[34mprune\x1b[0m"), "{text:?}");
        assert!(text.contains("\x1b[32m\"é\x1b[0m\n"), "{text:?}");
    }

    #[test]
    fn the_bracket_before_the_cursor_counts_too() {
        assert_eq!(bracket_pair("(a)", 3), Some((2, 0)));
        assert_eq!(bracket_pair("(a)", 0), Some((0, 2)));
        assert_eq!(bracket_pair("abc", 1), None);
    }

    #[test]
    fn hints_show_usage_and_option() {
        assert_eq!(usage_hint("prune(").as_deref(), Some("prune(m: model[, d: dataset][, #{…}]) -> model"));
        assert!(usage_hint("prune(m, #{ ratio: ").unwrap().starts_with("number, 0.5: Share to remove"));
        assert_eq!(usage_hint("let x = 1"), None);
    }
}
