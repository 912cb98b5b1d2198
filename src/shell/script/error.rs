//! Errors of scripts, explained, and how they are shown: message, place, causes, suggestion, call trace.

use super::binding::{bindings, find};
use super::raised::{lower_first, plain, unwrap};
use super::value::kind_of_type;
use super::words::{usage, with_article};
use crate::error::{Error, ErrorKind, nearest};
use crate::report::{Ink, Style, printable};
use rhai::{EvalAltResult, LexError, ParseErrorType, Position};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// A place in a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// File name, `<eval>`, `input 3`.
    pub source: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters; 0 when only the line is known.
    pub column: usize,
    /// The text of the line.
    pub text: String,
}

/// A script that failed: the error and where it happened.
#[derive(Debug, Clone)]
pub struct Failure {
    pub error: Arc<Error>,
    pub at: Option<Spot>,
    /// Script functions that were running, innermost first, each with the place of its call.
    pub trace: Vec<(String, Option<Spot>)>,
}

impl Failure {
    pub fn new(error: Error) -> Self {
        Self { error: Arc::new(error), at: None, trace: Vec::new() }
    }
    pub fn is_cancelled(&self) -> bool {
        self.error.is_cancelled()
    }
    /// Message, source line with a caret, causes, suggestion, call trace. Ends without a line break.
    pub fn render(&self, style: &Style) -> String {
        let e = &self.error;
        let mut headline = String::new();
        for place in e.places() {
            let _ = write!(headline, "{place}: ");
        }
        headline += e.message();
        let mut out = format!("{} {}", style.paint(Ink::BoldRed, "error:"), style.paint(Ink::Bold, &printable(&headline)));
        let bar = style.paint(Ink::Blue, "|");
        let mut indent = 1;
        if let Some(at) = &self.at {
            let number = at.line.to_string();
            indent = number.len() + 1;
            let _ = write!(out, "\n{:>indent$}{} {}", "", style.paint(Ink::Blue, "-->"), place_text(at));
            if !at.text.trim().is_empty() {
                let _ = write!(out, "\n{:indent$} {bar}", "");
                let _ = write!(out, "\n {} {bar} {}", style.paint(Ink::Blue, &number), printable(&at.text.replace('\t', " ")));
                if at.column > 0 {
                    let carets = "^".repeat(word_length(&at.text, at.column));
                    let _ = write!(out, "\n{:indent$} {bar} {:skip$}{}", "", "", style.paint(Ink::BoldRed, &carets), skip = at.column - 1);
                }
            }
        }
        let mut note = |label: &str, ink: Ink, text: &str| {
            let text = printable(text).replace('\n', &format!("\n{:w$}", "", w = indent + 3));
            let _ = write!(out, "\n{:indent$} {} {text}", "", style.paint(ink, label));
        };
        for cause in e.causes() {
            note("because:", Ink::Yellow, &cause);
        }
        if let Some(hint) = e.suggestion() {
            note("help:", Ink::Cyan, hint);
        }
        for (name, at) in &self.trace {
            let at = at.as_ref().map(|s| format!(", called at {}", place_text(s))).unwrap_or_default();
            let name = if name.starts_with("anon$") { "a closure".to_string() } else { format!("{name}()") };
            note("in", Ink::Dim, &format!("{name}{at}"));
        }
        out
    }
}

fn place_text(at: &Spot) -> String {
    if at.column > 0 { format!("{}:{}:{}", at.source, at.line, at.column) } else { format!("{}:{}", at.source, at.line) }
}

/// Characters to underline: the word or number that starts at `column`, else one.
fn word_length(line: &str, column: usize) -> usize {
    let word = |c: &char| c.is_alphanumeric() || *c == '_';
    line.chars().skip(column - 1).take_while(word).count().max(1)
}

/// What is needed to explain an error: the texts that were run, and the names in scope.
pub(super) struct Explain<'a> {
    /// Name and text of what was run.
    pub source: (&'a str, &'a str),
    /// Name and text of where a script function was defined.
    pub function_source: &'a dyn Fn(&str) -> Option<(String, String)>,
    /// The file of a module that an import names.
    pub module_file: &'a dyn Fn(&str) -> PathBuf,
    pub variables: Vec<String>,
    /// Names and numbers of parameters of script functions.
    pub functions: Vec<(String, usize)>,
    /// Steps that were allowed.
    pub most_operations: u64,
    /// Signatures of the engine's own functions, made when asked.
    pub builtins: &'a dyn Fn() -> Vec<String>,
}

/// A function or module in which an error arose.
struct Around<'e> {
    /// The function's name; `None` for a module that was being read.
    function: Option<&'e String>,
    /// The module, as the import names it, or what was run.
    source: &'e str,
    /// The place of the call or import.
    at: Position,
}

impl Explain<'_> {
    pub fn failure(&self, error: &EvalAltResult) -> Failure {
        let mut around: Vec<Around> = Vec::new();
        let mut inner = error;
        loop {
            match inner {
                EvalAltResult::ErrorInFunctionCall(name, source, next, at) => {
                    around.push(Around { function: Some(name), source, at: *at });
                    inner = next;
                }
                EvalAltResult::ErrorInModule(path, next, at) => {
                    around.push(Around { function: None, source: path, at: *at });
                    inner = next;
                }
                _ => break,
            }
        }
        // What a function or module does lies in the text that defined it; its call or import in the text around it.
        let text_of = |depth: usize| match depth.checked_sub(1).and_then(|d| around.get(d)) {
            Some(a) => self.module(a).or_else(|| (self.function_source)(a.function?)).unwrap_or_else(|| self.own()),
            None => self.own(),
        };
        let at = spot(&text_of(around.len()), inner.position());
        let called = |i: usize| Some((around[i].function?.clone(), spot(&text_of(i), around[i].at)));
        let trace = (0..around.len()).rev().filter_map(called).collect();
        Failure { error: Arc::new(self.leaf(inner)), at, trace }
    }

    /// File and text of the module that holds what failed; `None` for what was run itself.
    fn module(&self, a: &Around) -> Option<(String, String)> {
        if a.function.is_some() && (a.source.is_empty() || a.source == self.source.0) {
            return None;
        }
        let file = (self.module_file)(a.source);
        match std::fs::read_to_string(&file) {
            Ok(text) => Some((file.display().to_string(), text)),
            Err(_) if a.function.is_some() => None,
            Err(_) => Some((file.display().to_string(), String::new())),
        }
    }

    fn own(&self) -> (String, String) {
        (self.source.0.to_string(), self.source.1.to_string())
    }

    /// The error without its position.
    fn leaf(&self, error: &EvalAltResult) -> Error {
        match error {
            EvalAltResult::ErrorRuntime(..) | EvalAltResult::ErrorTerminated(..) => unwrap(error),
            EvalAltResult::ErrorFunctionNotFound(call, _) => self.no_function(call),
            EvalAltResult::ErrorVariableNotFound(name, _) => self.no_variable(name),
            EvalAltResult::ErrorPropertyNotFound(name, _) => Error::missing(format!("the map has no entry '{name}'")),
            EvalAltResult::ErrorParsing(kind, _) => syntax(kind),
            EvalAltResult::ErrorTooManyOperations(_) => {
                let steps = self.most_operations;
                Error::new(ErrorKind::Script, format!("it took more than the {steps} steps that --max-operations allows"))
            }
            EvalAltResult::ErrorStackOverflow(_) => {
                Error::new(ErrorKind::Script, "functions call each other too deeply").hint("does a recursive function ever stop?")
            }
            EvalAltResult::ErrorMismatchDataType(wanted, got, _) if !wanted.is_empty() => {
                let (wanted, got) = (with_article(kind_of_type(wanted)), with_article(kind_of_type(got)));
                Error::new(ErrorKind::Script, format!("expected {wanted}, got {got}"))
            }
            EvalAltResult::ErrorDotExpr(text, _) => no_property(text),
            EvalAltResult::ErrorIndexingType(text, _) => Error::new(
                ErrorKind::Script,
                format!("{} cannot be indexed", with_article(kind_of_type(text.split(' ').next().unwrap_or(text)))),
            ),
            other => Error::new(ErrorKind::Script, plain(other)),
        }
    }

    fn no_variable(&self, name: &str) -> Error {
        let e = Error::new(ErrorKind::Script, format!("unknown variable '{name}'"));
        if let Some(b) = find(name) {
            return e.hint(format!("'{name}' is a function; call it: {}", b.signature.usage()));
        }
        if self.variables.iter().any(|v| v == name) {
            return e.hint("functions see their arguments and their own variables alone: give it as an argument");
        }
        match nearest(name, self.variables.iter().map(String::as_str)) {
            Some(near) => e.hint(format!("did you mean '{near}'?")),
            None => e,
        }
    }

    /// `call` is `name (type, type)`.
    fn no_function(&self, call: &str) -> Error {
        let (name, types) = call.split_once(" (").unwrap_or((call, ""));
        let types: Vec<&str> = types.strip_suffix(')').unwrap_or(types).split(", ").filter(|t| !t.is_empty()).map(kind_of_type).collect();
        let script = |m: String| Error::new(ErrorKind::Script, m);
        let given =
            || if types.is_empty() { "nothing".to_string() } else { types.iter().map(|t| with_article(t)).collect::<Vec<_>>().join(", ") };
        if let Some(property) = name.strip_prefix("get$") {
            return script(format!("{} has no field '{property}'", with_article(types.first().unwrap_or(&"value"))));
        }
        if let Some(property) = name.strip_prefix("set$") {
            return script(format!("the field '{property}' of {} cannot be set", with_article(types.first().unwrap_or(&"value"))))
                .hint("models, reports and tensors are values; operations return new ones");
        }
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return match types.as_slice() {
                [a, b] => script(format!("'{name}' does not work between {} and {}", with_article(a), with_article(b))),
                _ => script(format!("'{name}' does not work on {}", given())),
            };
        }
        if let Some(b) = find(name) {
            let sig = &b.signature;
            let most = sig.args.len() + usize::from(!sig.fields.is_empty());
            let missing = sig.args.get(types.len()).filter(|a| !a.optional);
            let e = match missing {
                Some(arg) => {
                    let wanted = with_article(&arg.kind.to_string());
                    format!("{name} needs {wanted} as argument {} ('{}')", types.len() + 1, arg.name)
                }
                None if types.len() > most => format!("{name} takes at most {most} arguments, got {}", types.len()),
                None => format!("{name} does not take {}", given()),
            };
            return Error::argument(e).hint(usage(sig));
        }
        if let Some((_, count)) = self.functions.iter().find(|(n, _)| n == name) {
            let s = if *count == 1 { "" } else { "s" };
            return Error::argument(format!("{name} takes {count} argument{s}, got {}", types.len()));
        }
        if self.variables.iter().any(|v| v == name) {
            return script(format!("'{name}' is a variable, not a function"));
        }
        let builtins = (self.builtins)();
        let same: Vec<&str> = builtins.iter().map(String::as_str).filter(|s| function_name(s) == name).take(6).collect();
        if !same.is_empty() {
            return Error::argument(format!("{name} does not take {}", given())).hint(format!("it is {}", same.join(" or ")));
        }
        let e = script(format!("unknown function '{name}'"));
        let own = bindings().map(|b| b.signature.name).chain(self.functions.iter().map(|f| f.0.as_str()));
        let near = nearest(name, own)
            .or_else(|| nearest(name, builtins.iter().map(|s| function_name(s)).filter(|n| n.starts_with(char::is_alphabetic))));
        if let Some(near) = near {
            return e.hint(format!("did you mean '{near}'?"));
        }
        // A word that someone would search for.
        match bindings().find(|b| b.signature.keywords.contains(&name)) {
            Some(b) => e.hint(format!("did you mean '{}'?", b.signature.name)),
            None => e.hint("help() lists the functions"),
        }
    }
}

/// From Rhai's "Unknown property 'b' - a getter is not registered for type 'i64'".
fn no_property(text: &str) -> Error {
    let quoted: Vec<&str> = text.split('\'').skip(1).step_by(2).collect();
    let (Some(name), Some(of)) = (quoted.first(), quoted.get(1)) else { return Error::new(ErrorKind::Script, lower_first(text)) };
    let of = with_article(kind_of_type(of));
    if text.contains("setter") {
        return Error::new(ErrorKind::Script, format!("the field '{name}' of {of} cannot be set"));
    }
    Error::new(ErrorKind::Script, format!("{of} has no field '{name}'"))
}

fn function_name(signature: &str) -> &str {
    signature.split('(').next().unwrap_or_default().trim()
}

fn spot((source, text): &(String, String), position: Position) -> Option<Spot> {
    let line = position.line()?;
    let text = text.lines().nth(line - 1).unwrap_or_default().to_string();
    let column = position.position().unwrap_or(0);
    // Rhai points at the dot before a field; the field's name says more.
    let at_dot = column > 0 && text.chars().nth(column - 1) == Some('.');
    Some(Spot { source: source.clone(), line, column: column + usize::from(at_dot), text })
}

fn syntax(kind: &ParseErrorType) -> Error {
    let e = Error::new(ErrorKind::Script, format!("syntax error: {}", lower_first(&kind.to_string())));
    match kind {
        ParseErrorType::Reserved(word) if word == "export" => e.hint("use save(m, path), or onnx_export(m, path)"),
        ParseErrorType::BadInput(LexError::MalformedChar(_)) => e.hint("texts stand in double quotes: \"text\""),
        ParseErrorType::Reserved(word) if word == "print" || word == "debug" => e.hint(format!("calls have parentheses: {word}(x)")),
        ParseErrorType::MissingToken(_, what) if what.contains("arguments to function call") => {
            e.hint("arguments stand apart by commas; options stand in a map: train(m, d, #{ epochs: 3 })")
        }
        ParseErrorType::ExprTooDeep => e.hint("split the expression with let"),
        _ => e,
    }
}
